// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_backup.h"
#include "server/store/store_progress.h"

// Attempts with their phases, oldest first, as one JSON array.
#define ATTEMPTS                                                                                   \
    "(SELECT coalesce(json_agg(json_build_object('id', t.id, 'shard_backup_id', "                  \
    "t.shard_backup_id, 'epoch', t.epoch, 'instance_id', t.instance_id, 'state', t.state, "        \
    "'is_seed', t.is_seed, 'started_at', t.started_at, 'finished_at', t.finished_at, "             \
    "'reason', t.reason, 'message', t.message, 'phases', (SELECT coalesce(json_agg("               \
    "json_build_object('phase', ph.phase, 'started_at', ph.started_at, 'ended_at', ph.ended_at, "  \
    "'done_bytes', ph.done_bytes, 'total_bytes', ph.total_bytes) ORDER BY ph.started_at), "        \
    "'[]'::json) FROM attempt_phases ph WHERE ph.attempt_id = t.id)) ORDER BY t.epoch), "          \
    "'[]'::json) FROM attempts t WHERE t.shard_backup_id = sb.id) AS attempts "

#define PROGRESS STORE_SHARD_PROGRESS("sb", "a")
#define CURRENT_ATTEMPT STORE_CURRENT_ATTEMPT("sb", "a")
#define VIEW                                                                                       \
    "SELECT sb.id, sb.backup_id, sh.name AS shard, d.name AS database, sb.state, "                 \
    "coalesce(sb.parent_id::text, '') AS parent_id, sb.generation, sb.seed_reason, "               \
    "sb.attempt_count, sb.checkpoint, sb.checkpoint_at, sb.manifest_id, sb.engine_version, "       \
    "sb.size_bytes, sb.new_bytes, sb.stored_bytes, CASE WHEN sb.state = 'committed' THEN "         \
    "sb.received_bytes ELSE coalesce(a.received_bytes, 0) END AS received_bytes, "                 \
    "sb.parent_restore_time, sb.parent_start_time, sb.replay_time, sb.pages_checked, "             \
    "sb.read_bytes, sb.unrecorded_bytes, sb.reads_everything, "                                    \
    "sb.created_at, sb.finished_at, sb.reason, sb.message, a.phase, "                              \
    "coalesce(a.done_bytes, 0) AS done_bytes, coalesce(a.total_bytes, -1) AS total_bytes, "        \
    "CASE WHEN sb.state = 'running' THEN coalesce(a.rate_bytes_per_second, 0) ELSE 0 END "         \
    "AS rate_bytes_per_second, "                                                                   \
    "CASE WHEN sb.state = 'running' AND a.rate_bytes_per_second > 0 AND "                          \
    "a.total_bytes > a.done_bytes THEN make_interval(secs => "                                     \
    "((a.total_bytes - a.done_bytes) / a.rate_bytes_per_second)::double precision) END AS "        \
    "eta, " PROGRESS " AS progress, sh.name AS page_key_1, " ATTEMPTS                              \
    "FROM shard_backups sb JOIN shards sh ON sh.id = sb.shard_id "                                 \
    "JOIN databases d ON d.id = sh.database_id " CURRENT_ATTEMPT

Status store_shard_backup_list(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                               const StorePage *page, StoreRows *ret_rows, Error *error)
{
    return store_query(
        transaction, arena,
        VIEW "WHERE sb.backup_id = $1 AND sh.name > coalesce($2, '') "
             "ORDER BY sh.name LIMIT $3::int",
        STORE_PARAMETERS(backup_id, page->after[0], store_integer_parameter(arena, page->limit)),
        ret_rows, error);
}

Status store_shard_backup_get(StoreTransaction *transaction, Arena *arena, const char *backup_id,
                              const char *shard, StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(store_query(transaction, arena, VIEW "WHERE sb.backup_id = $1 AND sh.name = $2",
                                STORE_PARAMETERS(backup_id, shard), ret_rows, error));
    if (ret_rows->count == 0) {
        return error_set(error, REASON_NOT_FOUND, "backup '%s' has no shard '%s'", backup_id,
                         shard);
    }
    return STATUS_OK;
}
