// SPDX-License-Identifier: Apache-2.0
// What agents say, written down. Each message is one transaction: an error ends the stream, the
// agent comes back and says it again.
#define LOG_MODULE "service"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/agent_sessions_internal.h"
#include "server/service/attempt_sequel.h"
#include "server/service/sealed_secret.h"
#include "server/store/store_instance.h"
#include "server/store/store_work.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PROGRESS_WRITE_MS 3000
#define MESSAGE_SIZE 2100

static void copy_id(char target[37], const char *id)
{
    (void)snprintf(target, 37, "%s", id != NULL ? id : "");
}

// --- join ---

static void send_joined(AgentSession *session, Arena *arena, const Secret *token,
                        const char *addresses)
{
    const AgentSessionsOptions *options = &session->owner->options;
    Holdfast__V1__Joined joined = HOLDFAST__V1__JOINED__INIT;
    size_t count = 0;
    joined.session_token = (char *)(uintptr_t)secret_text(token);
    joined.deadman_ms = options->deadman_ms;
    joined.server_addresses = text_split(arena, addresses, ',', &count);
    joined.n_server_addresses = addresses[0] == '\0' ? 0 : count;
    session_send_to(session, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_JOINED, &joined.base);
}

// A newer stream of the same agent: what hangs on the old one is over.
static void finish_older(AgentSession *session)
{
    AgentSessions *sessions = session->owner;
    for (AgentSession *other = sessions->sessions; other != NULL; other = other->next) {
        if (other != session && other->is_joined &&
            text_equal(other->instance_id, session->instance_id)) {
            other->is_joined = false;
            other->finish(other->context, STATUS_ABORTED, "the agent has joined again");
        }
    }
}

static void keep_join(AgentSession *session, const AgentJoinRow *row,
                      const Holdfast__V1__Join *join)
{
    (void)pthread_mutex_lock(&session->owner->mutex);
    copy_id(session->instance_id, row->instance_id);
    copy_id(session->attempt_id, row->attempt_id);
    copy_id(session->restore_shard_id, row->restore_shard_id);
    copy_id(session->backup_id, row->backup_id);
    session->is_first_join = !row->is_session;
    session->is_working = join->attempt_id[0] != '\0';
    session->is_joined = true;
    session->idle_told_ms = clock_monotonic_ms();
    finish_older(session);
    (void)pthread_mutex_unlock(&session->owner->mutex);
}

static Status handle_join(AgentSession *session, const Holdfast__V1__Join *join, Error *error)
{
    AgentSessions *sessions = session->owner;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    if (session->is_joined || !uuid_is_valid(join->instance_id)) {
        return error_set(error, REASON_UNAUTHENTICATED, "the join is not valid");
    }
    // The same for every server, so that a reply that got lost can be given again.
    CLEANUP(secret_done)
    Secret token = secret_derive(sessions->options.secret_key,
                                 arena_format(arena, "session:%s", join->instance_id));
    uint8_t secret_hash[SHA256_SIZE];
    uint8_t token_hash[SHA256_SIZE];
    crypto_sha256(join->secret, strlen(join->secret), secret_hash);
    crypto_sha256(token.data, token.size, token_hash);
    AgentJoinRow *row = NULL;
    const char *addresses = "";
    RETURN_IF_ERROR(store_begin(sessions->options.store, &transaction, error));
    RETURN_IF_ERROR(store_agent_join(transaction, arena, join->instance_id, secret_hash, token_hash,
                                     sessions->server_id, join->memory_bytes, &row, error));
    if (row == NULL) {
        return error_set(error, REASON_UNAUTHENTICATED,
                         "the instance is not known, or its secret was used up");
    }
    RETURN_IF_ERROR(
        store_server_addresses(transaction, arena, sessions->server_id, &addresses, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    keep_join(session, row, join);
    send_joined(session, arena, &token, addresses);
    log_info("an agent has joined", "instance", session->instance_id, "shard", row->shard_name,
             "database", row->database_name, "attempt", session->attempt_id, NULL);
    sessions_wake(sessions);
    return STATUS_OK;
}

// --- progress and phases ---

static void measure_rate(SessionProgress *progress, int64_t done_bytes, int64_t now_ms)
{
    int64_t span_ms = now_ms - progress->measured_ms;
    if (progress->measured_ms == 0 || done_bytes < progress->measured_bytes) {
        progress->rate_bytes_per_second = 0;
    } else if (span_ms < 1000) {
        return;
    } else {
        int64_t rate = (done_bytes - progress->measured_bytes) * 1000 / span_ms;
        // Smoothed, so that the estimate of the rest does not jump.
        progress->rate_bytes_per_second = progress->rate_bytes_per_second == 0
                                              ? rate
                                              : (progress->rate_bytes_per_second * 2 + rate) / 3;
    }
    progress->measured_ms = now_ms;
    progress->measured_bytes = done_bytes;
}

static Status write_progress(AgentSession *session, StoreTransaction *transaction, Error *error)
{
    const SessionProgress *progress = &session->progress;
    if (session->attempt_id[0] != '\0') {
        AttemptProgress row = {.done_bytes = progress->done_bytes,
                               .total_bytes = progress->total_bytes,
                               .received_bytes = progress->received_bytes,
                               .rate_bytes_per_second = progress->rate_bytes_per_second,
                               .position =
                                   progress->position[0] != '\0' ? progress->position : NULL};
        RETURN_IF_ERROR(store_agent_progress(transaction, session->attempt_id, &row, error));
    } else if (session->restore_shard_id[0] != '\0' && progress->total_bytes > 0) {
        RETURN_IF_ERROR(store_agent_restore_progress(transaction, session->restore_shard_id,
                                                     session->instance_id, progress->done_bytes,
                                                     progress->total_bytes, error));
    }
    // Last: an instance's row is locked after what it works on.
    return store_agent_seen(transaction, session->instance_id, session->owner->server_id,
                            progress->memory_bytes, error);
}

static Status handle_progress(AgentSession *session, const Holdfast__V1__Progress *said,
                              Error *error)
{
    SessionProgress *progress = &session->progress;
    int64_t now_ms = clock_monotonic_ms();
    progress->phase = said->phase;
    progress->done_bytes = said->done_bytes;
    progress->total_bytes = said->total_bytes;
    progress->received_bytes = said->received_bytes;
    progress->memory_bytes = said->memory_bytes;
    (void)snprintf(progress->position, sizeof(progress->position), "%s", said->position);
    measure_rate(progress, said->done_bytes, now_ms);
    if (progress->written_ms != 0 && now_ms - progress->written_ms < PROGRESS_WRITE_MS) {
        return STATUS_OK;
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(session->owner->options.store, &transaction, error));
    RETURN_IF_ERROR(write_progress(session, transaction, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    progress->written_ms = now_ms;
    return STATUS_OK;
}

static Status handle_phase(AgentSession *session, const Holdfast__V1__PhaseStarted *said,
                           Error *error)
{
    char word[32];
    const char *phase =
        enum_word(&holdfast__v1__phase__descriptor, (int)said->phase, word, sizeof(word));
    if (phase == NULL || said->phase == HOLDFAST__V1__PHASE__PHASE_UNSPECIFIED) {
        return error_set(error, REASON_INVALID, "the phase is not known");
    }
    if (session->attempt_id[0] == '\0') {
        return STATUS_OK; // restores show bytes, not phases
    }
    int64_t at_us = said->at != NULL ? said->at->seconds * 1000000 + said->at->nanos / 1000 : 0;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(session->owner->options.store, &transaction, error));
    RETURN_IF_ERROR(
        write_progress(session, transaction, error)); // the last word on the phase before
    RETURN_IF_ERROR(
        store_agent_phase(transaction, session->attempt_id, phase, at_us, said->position, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    session->progress.done_bytes = 0;
    session->progress.total_bytes = -1;
    session->progress.measured_ms = 0;
    session->progress.rate_bytes_per_second = 0;
    sessions_wake(session->owner);
    return STATUS_OK;
}

// --- checkpoint, commit, failure ---

static Status handle_checkpoint(AgentSession *session, const Holdfast__V1__CheckpointTaken *said,
                                Error *error)
{
    if (session->attempt_id[0] == '\0' || said->position[0] == '\0') {
        return error_set(error, REASON_INVALID, "a checkpoint needs an attempt and a position");
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(session->owner->options.store, &transaction, error));
    RETURN_IF_ERROR(store_agent_checkpoint_taken(transaction, session->attempt_id, said->position,
                                                 said->name, said->server_identity, error));
    return store_commit(&transaction, error);
}

static Status handle_commit(AgentSession *session, const Holdfast__V1__CommitRequest *said,
                            Error *error)
{
    if (session->attempt_id[0] == '\0' || said->manifest_id[0] == '\0') {
        return error_set(error, REASON_INVALID, "a commit needs an attempt and a manifest");
    }
    AgentCommit commit = {.manifest_id = said->manifest_id,
                          .manifest_digest = said->manifest_digest,
                          .checkpoint = said->checkpoint,
                          .engine_version = said->engine_version,
                          .size_bytes = said->size_bytes,
                          .new_bytes = said->new_bytes,
                          .stored_bytes = said->stored_bytes,
                          .received_bytes = said->received_bytes,
                          .pages_checked = said->pages_checked,
                          .read_bytes = said->read_bytes,
                          .unrecorded_bytes = said->unrecorded_bytes,
                          .reads_everything = said->reads_everything,
                          .parent_restore_ms = said->parent_restore_ms,
                          .parent_start_ms = said->parent_start_ms,
                          .replay_ms = said->replay_ms};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    Holdfast__V1__CommitReply reply = HOLDFAST__V1__COMMIT_REPLY__INIT;
    bool is_accepted = false;
    const char *why = "";
    RETURN_IF_ERROR(store_begin(session->owner->options.store, &transaction, error));
    RETURN_IF_ERROR(store_agent_commit(transaction, arena, session->attempt_id, &commit,
                                       &is_accepted, &why, error));
    // The answer is given after the commit point, never before.
    RETURN_IF_ERROR(store_commit(&transaction, error));
    reply.is_accepted = is_accepted;
    reply.message = (char *)(uintptr_t)why;
    session_send_to(session, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_COMMIT_REPLY, &reply.base);
    log_info(is_accepted ? "a shard backup is committed" : "a commit was refused", "attempt",
             session->attempt_id, "backup", session->backup_id, "why", why, NULL);
    return STATUS_OK;
}

static Status end_attempt(StoreTransaction *transaction, Arena *arena, const char *attempt_id,
                          const char *reason, const char *message, Error *error)
{
    const char *backup_id = NULL;
    BackupRun *run = NULL;
    RETURN_IF_ERROR(store_agent_backup_of(transaction, arena, attempt_id, &backup_id, error));
    if (backup_id == NULL) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(store_backup_run_lock(transaction, arena, backup_id, &run, error));
    for (size_t i = 0; run != NULL && i < run->shard_count; i++) {
        const ShardRun *shard = &run->shards[i];
        if (!text_equal(shard->attempt_id, attempt_id)) {
            continue;
        }
        AttemptEnd end = {.attempt_id = attempt_id,
                          .state = run->is_cancel_requested ? "canceled" : "failed",
                          .reason = reason,
                          .message = message,
                          .sequel =
                              run->is_cancel_requested
                                  ? ATTEMPT_CANCEL
                                  : attempt_sequel(reason, shard->is_seed, shard->attempt_count,
                                                   shard->plain_failure_count + 1)};
        bool is_ended = false;
        return store_attempt_end(transaction, &end, &is_ended, error);
    }
    return STATUS_OK; // a newer attempt is there: this one was ended when that began
}

Status session_fail(AgentSessions *sessions, const char *attempt_id, const char *restore_shard_id,
                    const char *instance_id, const char *reason, const char *message, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(sessions->options.store, &transaction, error));
    if (attempt_id[0] != '\0') {
        RETURN_IF_ERROR(end_attempt(transaction, arena, attempt_id, reason, message, error));
    } else if (restore_shard_id[0] != '\0') {
        RETURN_IF_ERROR(store_agent_restore_failed(transaction, restore_shard_id, instance_id,
                                                   reason, message, error));
    }
    RETURN_IF_ERROR(store_commit(&transaction, error));
    log_warning("an agent's work has failed", "instance", instance_id, "attempt", attempt_id,
                "reason", reason, "why", message, NULL);
    return STATUS_OK;
}

static Status handle_failed(AgentSession *session, const Holdfast__V1__Failed *said, Error *error)
{
    char message[MESSAGE_SIZE];
    (void)snprintf(message, sizeof(message), "%s%s%s%s", said->message,
                   said->hint[0] != '\0' ? " (" : "", said->hint, said->hint[0] != '\0' ? ")" : "");
    const char *reason = said->reason[0] != '\0' ? said->reason : reason_slug(REASON_INTERNAL);
    return session_fail(session->owner, session->attempt_id, session->restore_shard_id,
                        session->instance_id, reason, message, error);
}

static Status handle_restore_done(AgentSession *session, const Holdfast__V1__RestoreDone *said,
                                  Error *error)
{
    if (session->restore_shard_id[0] == '\0') {
        return error_set(error, REASON_INVALID, "this agent has no restore");
    }
    RestoreDoneRow done = {.size_bytes = said->size_bytes,
                           .restore_ms = said->restore_ms,
                           .start_ms = said->start_ms,
                           .port = said->port};
    bool is_accepted = false;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(session->owner->options.store, &transaction, error));
    RETURN_IF_ERROR(store_agent_restore_done(transaction, session->restore_shard_id,
                                             session->instance_id, &done, &is_accepted, error));
    RETURN_IF_ERROR(store_commit(&transaction, error)); // as with a commit: answered after it
    Holdfast__V1__RestoreReply reply = HOLDFAST__V1__RESTORE_REPLY__INIT;
    reply.is_accepted = is_accepted;
    reply.message =
        (char *)(uintptr_t)(is_accepted ? ""
                                        : "the restore has ended, or runs on another instance");
    session_send_to(session, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_RESTORE_REPLY, &reply.base);
    return STATUS_OK;
}

// The agent acts on its session, so it has the token: the join secret has done its work.
static Status use_up_secret(AgentSession *session, Error *error)
{
    if (!session->is_first_join) {
        return STATUS_OK;
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(session->owner->options.store, &transaction, error));
    RETURN_IF_ERROR(store_agent_joined(transaction, session->instance_id, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    session->is_first_join = false;
    return STATUS_OK;
}

Status agent_session_message(AgentSession *session, const Holdfast__V1__AgentMessage *message,
                             Error *error)
{
    if (message->message_case == HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_JOIN) {
        return handle_join(session, message->join, error);
    }
    (void)pthread_mutex_lock(&session->owner->mutex);
    bool is_joined = session->is_joined;
    (void)pthread_mutex_unlock(&session->owner->mutex);
    if (!is_joined) {
        return error_set(error, REASON_UNAUTHENTICATED, "the first message must be a join");
    }
    RETURN_IF_ERROR(use_up_secret(session, error));
    switch (message->message_case) {
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PROGRESS:
        return handle_progress(session, message->progress, error);
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PHASE_STARTED:
        return handle_phase(session, message->phase_started, error);
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_CHECKPOINT_TAKEN:
        return handle_checkpoint(session, message->checkpoint_taken, error);
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_COMMIT_REQUEST:
        return handle_commit(session, message->commit_request, error);
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_FAILED:
        return handle_failed(session, message->failed, error);
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_RESTORE_DONE:
        return handle_restore_done(session, message->restore_done, error);
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_JOIN:
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PROBE_DONE:
    case HOLDFAST__V1__AGENT_MESSAGE__MESSAGE__NOT_SET:
    default:
        return STATUS_OK; // of a newer agent
    }
}
