// SPDX-License-Identifier: Apache-2.0
// Progress of a shard backup as pieces of SQL. Only server/store includes it.
#pragma once

// How far an attempt is: what the phases before it are worth, and its own share by bytes. The
// shares are typical ones; they need not be exact, only monotone.
#define STORE_PHASE_SHARE(attempt)                                                                       \
    "(CASE " attempt                                                                                     \
    ".phase WHEN 'launch' THEN 0.00 WHEN 'seed' THEN 0.02 WHEN 'restore' THEN 0.02 "                     \
    "WHEN 'start' THEN 0.52 WHEN 'replay' THEN 0.56 WHEN 'ready' THEN 0.68 WHEN 'checkpoint' THEN 0.70 " \
    "WHEN 'stop' THEN 0.73 WHEN 'publish' THEN 0.76 WHEN 'commit' THEN 0.98 ELSE 0.99 END + "            \
    "CASE WHEN " attempt ".total_bytes > 0 THEN least(1.0, greatest(0.0, " attempt                       \
    ".done_bytes::numeric / " attempt ".total_bytes)) * CASE " attempt                                   \
    ".phase WHEN 'seed' THEN 0.50 WHEN 'restore' THEN 0.50 WHEN 'replay' THEN 0.12 "                     \
    "WHEN 'publish' THEN 0.22 ELSE 0 END ELSE 0 END)"
#define STORE_SHARD_PROGRESS(shard_backup, attempt)                                                \
    "(CASE " shard_backup                                                                          \
    ".state WHEN 'committed' THEN 1 WHEN 'running' THEN coalesce(" STORE_PHASE_SHARE(              \
        attempt) ", 0) ELSE 0 END)::double precision"
// The newest attempt of a shard backup; NULLs when there is none.
#define STORE_CURRENT_ATTEMPT(shard_backup, attempt)                                               \
    "LEFT JOIN LATERAL (SELECT x.* FROM attempts x WHERE x.shard_backup_id = " shard_backup        \
    ".id ORDER BY x.epoch DESC LIMIT 1) " attempt " ON true "
