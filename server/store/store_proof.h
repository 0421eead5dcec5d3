// SPDX-License-Identifier: Apache-2.0
// The newest proof that a shard can be restored, as a piece of SQL: restoring a parent for the next
// shard backup, or a restore. A row source with the columns duration (until it answered queries)
// and at, of at most one row. Only server/store includes it.
#pragma once

#define STORE_PROOF(shard_id)                                                                                 \
    "(SELECT both_kinds.duration, both_kinds.at FROM ("                                                       \
    "(SELECT sb.parent_restore_time + coalesce(sb.parent_start_time, '0') AS duration, sb.finished_at AS at " \
    "FROM shard_backups sb WHERE sb.shard_id = " shard_id                                                     \
    " AND sb.state = 'committed' AND sb.parent_id IS NOT NULL "                                               \
    "AND sb.parent_restore_time IS NOT NULL ORDER BY sb.created_at DESC LIMIT 1) UNION ALL "                  \
    "(SELECT rs.restore_time + coalesce(rs.start_time, '0'), r.created_at FROM restore_shards rs "            \
    "JOIN restores r ON r.id = rs.restore_id WHERE rs.shard_id = " shard_id                                   \
    " AND rs.restore_time IS NOT NULL "                                                                       \
    "AND rs.state IN ('serving', 'succeeded') ORDER BY r.created_at DESC LIMIT 1)"                            \
    ") both_kinds ORDER BY both_kinds.at DESC NULLS LAST LIMIT 1)"
