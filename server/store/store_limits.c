// SPDX-License-Identifier: Apache-2.0
#include "server/store/store_limits.h"

// Who is at work, on whose behalf and where to; and who moves bytes, or is about to: an attempt
// downloads its parent, and uploads from its checkpoint on. A run's own limits replace its
// policy's.
#define TRANSFERS                                                                                  \
    "SELECT a.instance_id, b.id AS run_id, b.repository_id,"                                       \
    " a.phase IN ('checkpoint', 'stop', 'publish') AS is_uploading,"                               \
    " a.phase IN ('launch', 'restore') AS is_downloading,"                                         \
    " coalesce(p.limits, '{}') || coalesce(b.limits, '{}') AS limits"                              \
    " FROM attempts a JOIN shard_backups sb ON sb.id = a.shard_backup_id"                          \
    " JOIN backups b ON b.id = sb.backup_id LEFT JOIN policies p ON p.id = b.policy_id"            \
    " WHERE a.state = 'running'"                                                                   \
    " UNION ALL SELECT rs.instance_id, t.id, b.repository_id, false, true,"                        \
    " coalesce(t.limits, '{}') FROM restores t JOIN restore_shards rs ON rs.restore_id = t.id"     \
    " JOIN backups b ON b.id = t.backup_id WHERE t.state IN ('pending', 'running')"                \
    " AND rs.state IN ('pending', 'running') AND rs.instance_id IS NOT NULL"
// Whoever does not move bytes now counts for itself: when it begins it has its part already.
#define COUNTED                                                                                    \
    "SELECT instance_id, repository_id, limits,"                                                   \
    " count(*) FILTER (WHERE is_uploading) OVER run"                                               \
    "  + (NOT is_uploading)::int AS run_uploads,"                                                  \
    " count(*) FILTER (WHERE is_downloading) OVER run"                                             \
    "  + (NOT is_downloading)::int AS run_downloads,"                                              \
    " count(*) FILTER (WHERE is_uploading) OVER repository"                                        \
    "  + (NOT is_uploading)::int AS repository_uploads,"                                           \
    " count(*) FILTER (WHERE is_downloading) OVER repository"                                      \
    "  + (NOT is_downloading)::int AS repository_downloads,"                                       \
    " count(*) FILTER (WHERE is_uploading) OVER () + (NOT is_uploading)::int AS fleet_uploads,"    \
    " count(*) FILTER (WHERE is_downloading) OVER ()"                                              \
    "  + (NOT is_downloading)::int AS fleet_downloads"                                             \
    " FROM transfers"                                                                              \
    " WINDOW run AS (PARTITION BY run_id), repository AS (PARTITION BY repository_id)"

static BandwidthCap cap(const StoreRows *rows, int row, const char *rate, const char *users)
{
    return (BandwidthCap){.bytes_per_second = store_integer(rows, row, rate, 0),
                          .user_count = store_integer(rows, row, users, 0)};
}

static void fill_caps(const StoreRows *rows, int row, InstanceLimits *limits)
{
    BandwidthCap *upload = limits->upload;
    BandwidthCap *download = limits->download;
    upload[LIMIT_OF_RUN] = cap(rows, row, "run_upload", "run_uploads");
    upload[LIMIT_OF_REPOSITORY] = cap(rows, row, "repository_upload", "repository_uploads");
    upload[LIMIT_OF_FLEET] = cap(rows, row, "fleet_upload", "fleet_uploads");
    download[LIMIT_OF_RUN] = cap(rows, row, "run_download", "run_downloads");
    download[LIMIT_OF_REPOSITORY] = cap(rows, row, "repository_download", "repository_downloads");
    download[LIMIT_OF_FLEET] = cap(rows, row, "fleet_download", "fleet_downloads");
}

Status store_instance_limits(StoreTransaction *transaction, Arena *arena, const char *instance_ids,
                             InstanceLimits **ret_limits, size_t *ret_count, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(
        store_query(transaction, arena,
                    "WITH transfers AS (" TRANSFERS "), counted AS (" COUNTED ") SELECT c.*,"
                    " (c.limits ->> 'upload_bytes_per_second')::bigint AS run_upload,"
                    " (c.limits ->> 'download_bytes_per_second')::bigint AS run_download,"
                    " (c.limits ->> 'cpu_count')::bigint AS cpu_count,"
                    " (c.limits ->> 'memory_bytes')::bigint AS memory_bytes,"
                    " (r.limits ->> 'upload_bytes_per_second')::bigint AS repository_upload,"
                    " (r.limits ->> 'download_bytes_per_second')::bigint AS repository_download,"
                    " f.upload_bytes_per_second AS fleet_upload,"
                    " f.download_bytes_per_second AS fleet_download"
                    " FROM counted c JOIN repositories r ON r.id = c.repository_id"
                    " CROSS JOIN fleet_limits f"
                    " WHERE c.instance_id = ANY($1::uuid[])",
                    STORE_PARAMETERS(instance_ids), &rows, error));
    InstanceLimits *list = arena_alloc_array(arena, (size_t)rows.count + 1, sizeof(*list));
    for (int i = 0; i < rows.count; i++) {
        list[i] = (InstanceLimits){.instance_id = store_value(&rows, i, "instance_id"),
                                   .cpu_count = (int)store_integer(&rows, i, "cpu_count", 0),
                                   .memory_bytes = store_integer(&rows, i, "memory_bytes", 0)};
        fill_caps(&rows, i, &list[i]);
    }
    *ret_limits = list;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

// Whoever speaks with agents tells them soon.
static Status limit(StoreTransaction *transaction, Arena *arena, const char *sql, const char *id,
                    const char *limits, Error *error)
{
    RETURN_IF_ERROR(store_execute(transaction, arena, sql, STORE_PARAMETERS(id, limits), error));
    return store_notify(transaction, "sessions", error);
}

#define FLEET_LIMITS                                                                               \
    "SELECT upload_bytes_per_second, download_bytes_per_second, etag FROM fleet_limits"

Status store_fleet_limits(StoreTransaction *transaction, Arena *arena, bool is_locked,
                          StoreRows *ret_rows, Error *error)
{
    return store_query(transaction, arena, is_locked ? FLEET_LIMITS " FOR UPDATE" : FLEET_LIMITS, 0,
                       NULL, ret_rows, error);
}

Status store_limit_fleet(StoreTransaction *transaction, Arena *arena, int64_t upload,
                         int64_t download, const char *etag, Error *error)
{
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE fleet_limits SET upload_bytes_per_second = $1,"
                                  " download_bytes_per_second = $2, etag = $3",
                                  STORE_PARAMETERS(store_integer_parameter(arena, upload),
                                                   store_integer_parameter(arena, download), etag),
                                  error));
    return store_notify(transaction, "sessions", error);
}

Status store_limit_repository(StoreTransaction *transaction, Arena *arena, const char *id,
                              const char *limits, const char *etag, Error *error)
{
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE repositories SET limits = $2, etag = $3 WHERE id = $1",
                                  STORE_PARAMETERS(id, limits, etag), error));
    return store_notify(transaction, "sessions", error);
}

Status store_limit_backup(StoreTransaction *transaction, Arena *arena, const char *id,
                          const char *limits, Error *error)
{
    return limit(transaction, arena, "UPDATE backups SET limits = $2 WHERE id = $1", id, limits,
                 error);
}

Status store_limit_restore(StoreTransaction *transaction, Arena *arena, const char *id,
                           const char *limits, Error *error)
{
    return limit(transaction, arena, "UPDATE restores SET limits = $2 WHERE id = $1", id, limits,
                 error);
}
