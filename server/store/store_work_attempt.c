// SPDX-License-Identifier: Apache-2.0
// Attempts: beginning one fences the older ones off, ending one decides what comes next; each in
// one transaction.
#include "server/store/store_event.h"
#include "server/store/store_instance.h"
#include "server/store/store_work.h"
#include "server/store/store_work_backup.h"

#include <assert.h>
#include <string.h>

Status store_attempt_start(StoreTransaction *transaction, const BackupRun *run,
                           const ShardRun *shard, const AttemptStart *start, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "UPDATE shards SET epoch = epoch + 1 WHERE id = $1 RETURNING epoch",
                                STORE_PARAMETERS(shard->shard_id), &rows, error));
    if (rows.count == 0) {
        return error_set(error, REASON_NOT_FOUND, "shard %s does not exist any more",
                         shard->shard_name);
    }
    const char *epoch = store_value(&rows, 0, "epoch");
    InstanceIntent intent = {.id = start->instance_id,
                             .provider = shard->provider,
                             .purpose = "backup",
                             .database_id = run->database_id,
                             .shard_id = shard->shard_id,
                             .backup_id = run->id,
                             .subject_id = shard->shard_backup_id,
                             .join_secret_hash = start->join_secret_hash};
    RETURN_IF_ERROR(store_instance_add(transaction, &intent, error));
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "INSERT INTO attempts (id, shard_backup_id, shard_id, epoch, instance_id, state, is_seed,"
        " parent_id) VALUES ($1, $2, $3, $4, $5, 'running', $6::uuid IS NULL, $6::uuid)",
        STORE_PARAMETERS(start->attempt_id, shard->shard_backup_id, shard->shard_id, epoch,
                         start->instance_id, shard->parent_id),
        error));
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "INSERT INTO attempt_phases (attempt_id, phase, started_at) VALUES ($1, 'launch', now())",
        STORE_PARAMETERS(start->attempt_id), error));
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = "shard_backup.phase",
                                                     .database = run->database_name,
                                                     .backup_id = run->id,
                                                     .shard = shard->shard_name,
                                                     .subject_id = shard->shard_backup_id,
                                                     .message = "launch"});
    return store_execute(transaction, arena,
                         "UPDATE shard_backups SET state = 'running',"
                         " attempt_count = attempt_count + 1 WHERE id = $1",
                         STORE_PARAMETERS(shard->shard_backup_id), error);
}

// What an ended attempt was about.
typedef struct Ended {
    const char *shard_backup_id, *shard_id, *shard_name, *database_name, *backup_id, *repository_id;
    const char *instance_id, *parent_id;
} Ended;

static void add_event(StoreTransaction *transaction, const Ended *ended, const char *severity,
                      const char *kind, const char *message)
{
    store_event_add(transaction, &(StoreEventFields){.severity = severity,
                                                     .kind = kind,
                                                     .database = ended->database_name,
                                                     .backup_id = ended->backup_id,
                                                     .shard = ended->shard_name,
                                                     .subject_id = ended->shard_backup_id,
                                                     .message = message});
}

static Status close_attempt(StoreTransaction *transaction, Arena *arena, const AttemptEnd *end,
                            Ended *ret_ended, bool *ret_is_ended, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "UPDATE attempts a SET state = $2, finished_at = now(), reason = $3, message = $4,"
        " phase = 'destroy' FROM shard_backups sb, shards s, backups b, databases d"
        " WHERE a.id = $1 AND a.state = 'running' AND sb.id = a.shard_backup_id"
        " AND s.id = a.shard_id AND b.id = sb.backup_id AND d.id = b.database_id"
        " RETURNING a.shard_backup_id, a.shard_id, s.name AS shard_name, d.name AS database_name,"
        " b.id AS backup_id, b.repository_id, a.instance_id, a.parent_id",
        STORE_PARAMETERS(end->attempt_id, end->state, end->reason, end->message), &rows, error));
    *ret_is_ended = rows.count == 1;
    if (rows.count == 0) {
        return STATUS_OK;
    }
    *ret_ended = (Ended){.shard_backup_id = store_value(&rows, 0, "shard_backup_id"),
                         .shard_id = store_value(&rows, 0, "shard_id"),
                         .shard_name = store_value(&rows, 0, "shard_name"),
                         .database_name = store_value(&rows, 0, "database_name"),
                         .backup_id = store_value(&rows, 0, "backup_id"),
                         .repository_id = store_value(&rows, 0, "repository_id"),
                         .instance_id = store_value(&rows, 0, "instance_id"),
                         .parent_id = store_value(&rows, 0, "parent_id")};
    RETURN_IF_ERROR(store_execute(
        transaction, arena,
        "UPDATE attempt_phases SET ended_at = now() WHERE attempt_id = $1 AND ended_at IS NULL",
        STORE_PARAMETERS(end->attempt_id), error));
    return store_execute(transaction, arena,
                         "INSERT INTO attempt_phases (attempt_id, phase, started_at)"
                         " VALUES ($1, 'destroy', now()) ON CONFLICT DO NOTHING",
                         STORE_PARAMETERS(end->attempt_id), error);
}

static Status set_pending(StoreTransaction *transaction, Arena *arena, const Ended *ended,
                          const AttemptEnd *end, Error *error)
{
    return store_execute(transaction, arena,
                         "UPDATE shard_backups SET state = 'pending', reason = $2, message = $3"
                         " WHERE id = $1",
                         STORE_PARAMETERS(ended->shard_backup_id, end->reason, end->message),
                         error);
}

static Status reseed(StoreTransaction *transaction, Arena *arena, const Ended *ended,
                     const AttemptEnd *end, Error *error)
{
    const char *why = arena_format(arena, "%s: %s", end->reason, end->message);
    RETURN_IF_ERROR(set_pending(transaction, arena, ended, end, error));
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE shard_backups SET parent_id = NULL, generation = 0,"
                                  " seed_reason = $2 WHERE id = $1",
                                  STORE_PARAMETERS(ended->shard_backup_id, why), error));
    add_event(transaction, ended, "warning", "shard_backup.reseeded",
              arena_format(arena, "shard %s of %s is copied anew from its source: %s",
                           ended->shard_name, ended->database_name, end->message));
    return STATUS_OK;
}

static Status use_older_parent(StoreTransaction *transaction, Arena *arena, const Ended *ended,
                               const AttemptEnd *end, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "UPDATE shard_backups SET is_unrestorable = true WHERE id = $1",
                                  STORE_PARAMETERS(ended->parent_id), error));
    add_event(transaction, ended, "error", "shard_backup.parent_unrestorable",
              arena_format(arena, "backup %s of shard %s of %s cannot be restored: %s",
                           ended->parent_id, ended->shard_name, ended->database_name,
                           end->message));
    RETURN_IF_ERROR(store_query(
        transaction, arena,
        "SELECT sb.id, sb.generation FROM shard_backups sb JOIN backups b ON b.id = sb.backup_id"
        " WHERE sb.shard_id = $1 AND sb.state = 'committed' AND NOT sb.is_unrestorable"
        " AND b.repository_id = $2 AND b.state NOT IN ('deleting', 'deleted') AND sb.id <> $3"
        " ORDER BY sb.created_at DESC LIMIT 1",
        STORE_PARAMETERS(ended->shard_id, ended->repository_id, ended->shard_backup_id), &rows,
        error));
    if (rows.count == 0) {
        return reseed(transaction, arena, ended, end, error);
    }
    RETURN_IF_ERROR(set_pending(transaction, arena, ended, end, error));
    const char *parent = store_value(&rows, 0, "id");
    add_event(transaction, ended, "warning", "shard_backup.older_parent",
              arena_format(arena, "shard %s of %s goes on from the older backup %s",
                           ended->shard_name, ended->database_name, parent));
    return store_execute(
        transaction, arena,
        "UPDATE shard_backups SET parent_id = $2, generation = $3::int + 1 WHERE id = $1",
        STORE_PARAMETERS(ended->shard_backup_id, parent, store_value(&rows, 0, "generation")),
        error);
}

static Status give_up(StoreTransaction *transaction, Arena *arena, const Ended *ended,
                      const AttemptEnd *end, Error *error)
{
    add_event(transaction, ended, "error", "shard_backup.failed",
              arena_format(arena, "the backup of shard %s of %s failed: %s", ended->shard_name,
                           ended->database_name, end->message));
    return store_shard_backup_end(transaction, ended->shard_backup_id, "failed", end->reason,
                                  end->message, error);
}

static Status apply_sequel(StoreTransaction *transaction, Arena *arena, const Ended *ended,
                           const AttemptEnd *end, Error *error)
{
    if (end->sequel == ATTEMPT_CANCEL) {
        return store_shard_backup_end(transaction, ended->shard_backup_id, "canceled", end->reason,
                                      end->message, error);
    }
    add_event(transaction, ended, "warning",
              strcmp(end->state, "lost") == 0 ? "shard_backup.attempt_lost"
                                              : "shard_backup.attempt_failed",
              arena_format(arena, "an attempt at shard %s of %s ended: %s", ended->shard_name,
                           ended->database_name, end->message));
    switch (end->sequel) {
    case ATTEMPT_RESEED:
        return reseed(transaction, arena, ended, end, error);
    case ATTEMPT_OLDER_PARENT:
        return use_older_parent(transaction, arena, ended, end, error);
    case ATTEMPT_GIVE_UP:
        return give_up(transaction, arena, ended, end, error);
    case ATTEMPT_RETRY:
    case ATTEMPT_CANCEL:
    default:
        return set_pending(transaction, arena, ended, end, error);
    }
}

Status store_attempt_end(StoreTransaction *transaction, const AttemptEnd *end, bool *ret_is_ended,
                         Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Ended ended = {0};
    bool is_ended = false;
    RETURN_IF_ERROR(close_attempt(transaction, arena, end, &ended, &is_ended, error));
    if (is_ended) {
        RETURN_IF_ERROR(apply_sequel(transaction, arena, &ended, end, error));
        RETURN_IF_ERROR(
            store_instance_request_destroy(transaction, ended.instance_id, end->message, error));
        RETURN_IF_ERROR(store_work_add(transaction, WORK_BACKUP, ended.backup_id, 0, error));
    }
    *ret_is_ended = is_ended;
    return STATUS_OK;
}

Status store_shard_backup_end(StoreTransaction *transaction, const char *shard_backup_id,
                              const char *state, const char *reason, const char *message,
                              Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return store_execute(
        transaction, arena,
        "UPDATE shard_backups SET state = $2, reason = $3, message = $4, finished_at = now()"
        " WHERE id = $1 AND state IN ('pending', 'running')",
        STORE_PARAMETERS(shard_backup_id, state, reason, message), error);
}
