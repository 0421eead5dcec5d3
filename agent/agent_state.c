// SPDX-License-Identifier: Apache-2.0
// One mutex and one condition for everything: an agent exchanges a handful of messages a second.
#include "agent/agent_state.h"

#include "agent/outbox.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_MODULE "agent"
// How long an answer that is under way is waited for after the order to stop.
#define ANSWER_AFTER_STOP_MS 2000

// Of what waits for the server's word: a commit, a restore that is done.
typedef enum Answer { ANSWER_NONE, ANSWER_ACCEPTED, ANSWER_REFUSED } Answer;

struct AgentState {
    pthread_mutex_t mutex;
    pthread_cond_t changed; // by the monotonic clock
    Cancel cancel;          // read without the mutex
    Deadman deadman;
    StopCause stop_cause;
    char stop_why[256];
    int64_t stopped_ms;
    Outbox outbox;
    uint8_t *assignment; // a packed ServerMessage; wiped when the job has taken it
    size_t assignment_size;
    char attempt_id[64]; // or the restore's id; "" before there is one
    Holdfast__V1__Phase phase;
    int64_t done_bytes, total_bytes, received_bytes;
    char position[1024];
    CheckpointOrder order;
    bool is_order_taken;
    Answer commit_answer;
    char commit_message[256];
    Answer restore_answer;
    char restore_message[256];
    Limits *limits;
    Holdfast__V1__ResourceLimits said_limits; // as the server said last
};

AgentState *agent_state_new(int64_t now_ms, int64_t deadman_ms, int64_t lifetime_ms)
{
    AgentState *state = mem_alloc(sizeof(*state));
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&state->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&state->mutex, NULL);
    atomic_init(&state->cancel.is_requested, false);
    state->deadman = (Deadman){.started_ms = now_ms,
                               .heard_ms = now_ms,
                               .silence_ms_max = deadman_ms,
                               .lifetime_ms_max = lifetime_ms};
    state->total_bytes = -1;
    state->limits = limits_new();
    state->said_limits = (Holdfast__V1__ResourceLimits)HOLDFAST__V1__RESOURCE_LIMITS__INIT;
    return state;
}

static void agent_state_forget_assignment(AgentState *state)
{
    if (state->assignment != NULL) {
        explicit_bzero(state->assignment, state->assignment_size); // it holds keys and a password
        mem_free(state->assignment);
    }
    state->assignment = NULL;
    state->assignment_size = 0;
}

void agent_state_free(AgentState *state)
{
    if (state == NULL) {
        return;
    }
    outbox_done(&state->outbox);
    agent_state_forget_assignment(state);
    limits_free(state->limits);
    (void)pthread_cond_destroy(&state->changed);
    (void)pthread_mutex_destroy(&state->mutex);
    mem_free(state);
}

static void lock(AgentState *state)
{
    (void)pthread_mutex_lock(&state->mutex);
}

static void unlock(AgentState *state)
{
    (void)pthread_mutex_unlock(&state->mutex);
}

// Waits for a change until `deadline_ms`; false when it has passed. The mutex is held.
static bool wait_change(AgentState *state, int64_t deadline_ms)
{
    if (clock_monotonic_ms() >= deadline_ms) {
        return false;
    }
    struct timespec until = {.tv_sec = deadline_ms / 1000,
                             .tv_nsec = (long)(deadline_ms % 1000) * 1000000L};
    (void)pthread_cond_timedwait(&state->changed, &state->mutex, &until);
    return true;
}

// --- ending -------------------------------------------------------------------------------------

static void stop_locked(AgentState *state, StopCause cause, const char *why)
{
    assert(cause != STOP_NONE);
    if (state->stop_cause != STOP_NONE) {
        return;
    }
    state->stop_cause = cause;
    state->stopped_ms = clock_monotonic_ms();
    (void)snprintf(state->stop_why, sizeof(state->stop_why), "%s", why);
    // What is left to do after an accepted commit is short, and cutting it would leave the source
    // holding logs. The watchdog bounds it.
    if (state->commit_answer != ANSWER_ACCEPTED) {
        atomic_store(&state->cancel.is_requested, true);
    }
    (void)pthread_cond_broadcast(&state->changed);
}

void agent_state_stop(AgentState *state, StopCause cause, const char *why)
{
    lock(state);
    stop_locked(state, cause, why);
    unlock(state);
}

StopCause agent_state_stop_cause(AgentState *state)
{
    lock(state);
    StopCause cause = state->stop_cause;
    unlock(state);
    return cause;
}

void agent_state_stop_why(AgentState *state, char *ret_why, size_t why_size)
{
    lock(state);
    (void)snprintf(ret_why, why_size, "%s", state->stop_why);
    unlock(state);
}

const Cancel *agent_state_cancel(const AgentState *state)
{
    return &state->cancel;
}

StopCause agent_state_check_limits(AgentState *state, int64_t now_ms)
{
    lock(state);
    StopCause cause = deadman_check(&state->deadman, now_ms);
    if (cause == STOP_DEADMAN) {
        stop_locked(state, cause, "no server was heard of for too long");
    } else if (cause == STOP_LIFETIME) {
        stop_locked(state, cause, "the instance's lifetime is over");
    }
    cause = state->stop_cause;
    unlock(state);
    return cause;
}

int64_t agent_state_stopped_ms(AgentState *state)
{
    lock(state);
    int64_t stopped_ms = state->stopped_ms;
    unlock(state);
    return stopped_ms;
}

bool agent_state_wait_stop(AgentState *state, int64_t timeout_ms)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    lock(state);
    while (state->stop_cause == STOP_NONE && wait_change(state, deadline_ms)) {
    }
    bool is_stopped = state->stop_cause != STOP_NONE;
    unlock(state);
    return is_stopped;
}

int64_t agent_memory_bytes(void)
{
    // The second number of statm is the resident size in pages (proc(5)).
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    Error error = {0};
    long long total = 0;
    long long resident = 0;
    if (file_read("/proc/self/statm", 4096, &text, &size, &error) != STATUS_OK ||
        sscanf(text, "%lld %lld", &total, &resident) != 2) {
        return 0;
    }
    return (int64_t)resident * (int64_t)sysconf(_SC_PAGESIZE);
}

// --- the control thread -------------------------------------------------------------------------

void agent_state_fill_join(AgentState *state, Arena *arena, Holdfast__V1__Join *join)
{
    lock(state);
    join->attempt_id = arena_string(arena, state->attempt_id);
    unlock(state);
    join->memory_bytes = agent_memory_bytes();
}

void agent_state_connected(AgentState *state)
{
    lock(state);
    outbox_rewind(&state->outbox);
    unlock(state);
}

// The first assignment stands: an instance has one in its life, and the server may say it again.
static void receive_assignment(AgentState *state, const Holdfast__V1__ServerMessage *message,
                               const char *subject_id)
{
    if (state->attempt_id[0] != '\0') {
        if (strcmp(state->attempt_id, subject_id) != 0) {
            log_warning("another assignment than ours came, ignoring it", "ours", state->attempt_id,
                        "other", subject_id, NULL);
        }
        return;
    }
    size_t size = holdfast__v1__server_message__get_packed_size(message);
    state->assignment = mem_alloc(size + 1);
    state->assignment_size = size;
    (void)holdfast__v1__server_message__pack(message, state->assignment);
    (void)snprintf(state->attempt_id, sizeof(state->attempt_id), "%s", subject_id);
}

static void receive_checkpoint_order(AgentState *state, CheckpointOrderKind kind, const char *name,
                                     const char *position, const char *server_identity)
{
    if (state->is_order_taken) {
        outbox_repeat(&state->outbox, OUTBOX_CHECKPOINT);
        return;
    }
    CheckpointOrder order = {.kind = kind};
    (void)snprintf(order.checkpoint.name, sizeof(order.checkpoint.name), "%s", name);
    (void)snprintf(order.checkpoint.position, sizeof(order.checkpoint.position), "%s", position);
    (void)snprintf(order.checkpoint.server_identity, sizeof(order.checkpoint.server_identity), "%s",
                   server_identity);
    state->order = order;
}

static void receive_commit_reply(AgentState *state, const Holdfast__V1__CommitReply *reply)
{
    if (state->commit_answer != ANSWER_NONE) {
        return;
    }
    state->commit_answer = reply->is_accepted ? ANSWER_ACCEPTED : ANSWER_REFUSED;
    (void)snprintf(state->commit_message, sizeof(state->commit_message), "%s", reply->message);
    outbox_answered(&state->outbox, OUTBOX_PHASE);
    outbox_answered(&state->outbox, OUTBOX_CHECKPOINT);
    outbox_answered(&state->outbox, OUTBOX_COMMIT);
}

static void receive_restore_reply(AgentState *state, const Holdfast__V1__RestoreReply *reply)
{
    if (state->restore_answer != ANSWER_NONE) {
        return;
    }
    state->restore_answer = reply->is_accepted ? ANSWER_ACCEPTED : ANSWER_REFUSED;
    (void)snprintf(state->restore_message, sizeof(state->restore_message), "%s", reply->message);
    outbox_answered(&state->outbox, OUTBOX_PHASE);
    outbox_answered(&state->outbox, OUTBOX_RESTORE_DONE);
}

// Said again on every stream. A number that makes no sense counts as none.
static void receive_limits(AgentState *state, const Holdfast__V1__ResourceLimits *limits)
{
    const Holdfast__V1__ResourceLimits *before = &state->said_limits;
    if (limits->upload_bytes_per_second != before->upload_bytes_per_second ||
        limits->download_bytes_per_second != before->download_bytes_per_second) {
        char upload[24], download[24];
        (void)snprintf(upload, sizeof(upload), "%lld", (long long)limits->upload_bytes_per_second);
        (void)snprintf(download, sizeof(download), "%lld",
                       (long long)limits->download_bytes_per_second);
        log_info("the bandwidth is limited anew", "upload_bytes_per_second", upload,
                 "download_bytes_per_second", download, NULL);
        limits_set_bandwidth(state->limits, limits->upload_bytes_per_second,
                             limits->download_bytes_per_second);
    }
    limits_set_cpus(state->limits, limits->cpu_count);
    state->said_limits.upload_bytes_per_second = limits->upload_bytes_per_second;
    state->said_limits.download_bytes_per_second = limits->download_bytes_per_second;
    state->said_limits.cpu_count = limits->cpu_count;
    state->said_limits.memory_bytes = MAX(limits->memory_bytes, 0);
}

void agent_state_receive(AgentState *state, const Holdfast__V1__ServerMessage *message,
                         int64_t now_ms)
{
    lock(state);
    state->deadman.heard_ms = now_ms;
    switch (message->message_case) {
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_JOINED:
        if (message->joined->deadman_ms > 0) {
            state->deadman.silence_ms_max = message->joined->deadman_ms;
        }
        break;
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_BACKUP:
        receive_assignment(state, message, message->backup->attempt_id);
        break;
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_RESTORE:
        receive_assignment(state, message, message->restore->restore_id);
        break;
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_TAKE_CHECKPOINT:
        receive_checkpoint_order(state, CHECKPOINT_ORDER_TAKE, message->take_checkpoint->name, "",
                                 "");
        break;
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_REPLAY_TO_CHECKPOINT:
        receive_checkpoint_order(state, CHECKPOINT_ORDER_REPLAY,
                                 message->replay_to_checkpoint->name,
                                 message->replay_to_checkpoint->position,
                                 message->replay_to_checkpoint->server_identity);
        break;
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_COMMIT_REPLY:
        receive_commit_reply(state, message->commit_reply);
        break;
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_RESTORE_REPLY:
        receive_restore_reply(state, message->restore_reply);
        break;
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_LIMITS:
        receive_limits(state, message->limits);
        break;
    case HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_STOP:
        stop_locked(state, STOP_ORDERED, message->stop->why);
        break;
    default: // Idle: a heartbeat. Anything else is of a newer server.
        break;
    }
    (void)pthread_cond_broadcast(&state->changed);
    unlock(state);
}

Holdfast__V1__AgentMessage *agent_state_next_message(AgentState *state, Arena *arena,
                                                     int *ret_token)
{
    ProtobufCMessage *message = NULL;
    lock(state);
    int index = outbox_next(&state->outbox);
    if (index >= 0) {
        const OutboxItem *item = &state->outbox.items[index];
        Error error = {0};
        Status status = message_unpack(arena, &holdfast__v1__agent_message__descriptor,
                                       item->packed, item->size, &message, &error);
        assert(status == STATUS_OK); // we packed it ourselves
        (void)status;
        *ret_token = index;
    }
    unlock(state);
    return (Holdfast__V1__AgentMessage *)message;
}

void agent_state_sent(AgentState *state, int token)
{
    lock(state);
    outbox_sent(&state->outbox, token);
    unlock(state);
}

Holdfast__V1__AgentMessage *agent_state_progress_message(AgentState *state, Arena *arena)
{
    Holdfast__V1__Progress *progress =
        (Holdfast__V1__Progress *)message_new(arena, &holdfast__v1__progress__descriptor);
    Holdfast__V1__AgentMessage *message =
        (Holdfast__V1__AgentMessage *)message_new(arena, &holdfast__v1__agent_message__descriptor);
    message->message_case = HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PROGRESS;
    message->progress = progress;
    progress->memory_bytes = agent_memory_bytes();
    lock(state);
    progress->phase = state->phase;
    progress->done_bytes = state->done_bytes;
    progress->total_bytes = state->total_bytes;
    progress->received_bytes = state->received_bytes;
    progress->position = arena_string(arena, state->position);
    unlock(state);
    return message;
}

// --- the job ------------------------------------------------------------------------------------

Holdfast__V1__ServerMessage *agent_state_wait_assignment(AgentState *state, int64_t timeout_ms,
                                                         Arena *arena)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    ProtobufCMessage *message = NULL;
    lock(state);
    while (state->stop_cause == STOP_NONE && state->assignment == NULL &&
           wait_change(state, deadline_ms)) {
    }
    if (state->stop_cause == STOP_NONE && state->assignment != NULL) {
        Error error = {0};
        if (message_unpack(arena, &holdfast__v1__server_message__descriptor, state->assignment,
                           state->assignment_size, &message, &error) != STATUS_OK) {
            stop_locked(state, STOP_REFUSED, "the assignment cannot be read");
        }
        agent_state_forget_assignment(state);
    }
    unlock(state);
    return (Holdfast__V1__ServerMessage *)message;
}

Limits *agent_state_limits(const AgentState *state)
{
    return state->limits;
}

int64_t agent_state_memory_bytes(AgentState *state)
{
    lock(state);
    int64_t memory_bytes = state->said_limits.memory_bytes;
    unlock(state);
    return memory_bytes;
}

// Queues a message for the server; the caller holds the mutex.
static void say(AgentState *state, OutboxKind kind, const Holdfast__V1__AgentMessage *message)
{
    outbox_add(&state->outbox, kind, message);
    (void)pthread_cond_broadcast(&state->changed);
}

static void tell(AgentState *state, OutboxKind kind, const Holdfast__V1__AgentMessage *message)
{
    lock(state);
    say(state, kind, message);
    unlock(state);
}

void agent_state_phase(AgentState *state, Holdfast__V1__Phase phase, const char *position)
{
    int64_t now_us = clock_now_us();
    Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    at.seconds = now_us / 1000000;
    at.nanos = (int32_t)(now_us % 1000000) * 1000;
    Holdfast__V1__PhaseStarted started = HOLDFAST__V1__PHASE_STARTED__INIT;
    started.phase = phase;
    started.at = &at;
    Holdfast__V1__AgentMessage message = HOLDFAST__V1__AGENT_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PHASE_STARTED;
    message.phase_started = &started;

    lock(state);
    if (position != NULL) {
        (void)snprintf(state->position, sizeof(state->position), "%s", position);
    }
    started.position = state->position;
    state->phase = phase;
    state->done_bytes = 0;
    state->total_bytes = -1;
    say(state, OUTBOX_PHASE, &message);
    unlock(state);
}

void agent_state_progress(AgentState *state, int64_t done_bytes, int64_t total_bytes)
{
    lock(state);
    state->done_bytes = done_bytes;
    state->total_bytes = total_bytes;
    unlock(state);
}

void agent_state_received(AgentState *state, int64_t received_bytes, const char *position)
{
    lock(state);
    if (received_bytes >= 0) {
        state->received_bytes = received_bytes;
    }
    if (!text_is_empty(position)) {
        (void)snprintf(state->position, sizeof(state->position), "%s", position);
    }
    unlock(state);
}

CheckpointOrder agent_state_wait_checkpoint(AgentState *state, int64_t timeout_ms)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    CheckpointOrder order = {.kind = CHECKPOINT_ORDER_NONE};
    lock(state);
    while (state->stop_cause == STOP_NONE && state->order.kind == CHECKPOINT_ORDER_NONE &&
           wait_change(state, deadline_ms)) {
    }
    if (state->stop_cause == STOP_NONE && state->order.kind != CHECKPOINT_ORDER_NONE) {
        order = state->order;
        state->is_order_taken = true;
    }
    unlock(state);
    return order;
}

void agent_state_checkpoint_taken(AgentState *state, const Checkpoint *checkpoint)
{
    Checkpoint copy = *checkpoint; // the message wants texts that are not const
    Holdfast__V1__CheckpointTaken taken = HOLDFAST__V1__CHECKPOINT_TAKEN__INIT;
    taken.position = copy.position;
    taken.name = copy.name;
    taken.server_identity = copy.server_identity;
    Holdfast__V1__AgentMessage message = HOLDFAST__V1__AGENT_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_CHECKPOINT_TAKEN;
    message.checkpoint_taken = &taken;
    tell(state, OUTBOX_CHECKPOINT, &message);
}

void agent_state_commit(AgentState *state, const Holdfast__V1__CommitRequest *request)
{
    Holdfast__V1__CommitRequest copy = *request;
    Holdfast__V1__AgentMessage message = HOLDFAST__V1__AGENT_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_COMMIT_REQUEST;
    message.commit_request = &copy;
    tell(state, OUTBOX_COMMIT, &message);
}

Status agent_state_wait_commit(AgentState *state, Error *error)
{
    Status status = STATUS_OK;
    lock(state);
    // The deadman bounds this: it stops the agent when no server answers.
    while (state->stop_cause == STOP_NONE && state->commit_answer == ANSWER_NONE) {
        (void)wait_change(state, clock_monotonic_ms() + 1000);
    }
    if (state->commit_answer == ANSWER_REFUSED) {
        status = error_set(error, REASON_LEASE_LOST, "the server refused the commit: %s",
                           state->commit_message);
    } else if (state->commit_answer == ANSWER_NONE) {
        status = error_set(error, REASON_CANCELED, "stopped before the commit was answered: %s",
                           state->stop_why);
    }
    unlock(state);
    return status;
}

void agent_state_restore_done(AgentState *state, const Holdfast__V1__RestoreDone *done)
{
    Holdfast__V1__RestoreDone copy = *done;
    Holdfast__V1__AgentMessage message = HOLDFAST__V1__AGENT_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_RESTORE_DONE;
    message.restore_done = &copy;
    tell(state, OUTBOX_RESTORE_DONE, &message);
}

Status agent_state_wait_restore(AgentState *state, Error *error)
{
    Status status = STATUS_OK;
    lock(state);
    // An order to stop may overtake the answer that it follows from.
    while (state->restore_answer == ANSWER_NONE &&
           (state->stop_cause == STOP_NONE ||
            (state->stop_cause == STOP_ORDERED &&
             clock_monotonic_ms() - state->stopped_ms < ANSWER_AFTER_STOP_MS))) {
        (void)wait_change(state, clock_monotonic_ms() + 500);
    }
    if (state->restore_answer == ANSWER_REFUSED) {
        status = error_set(error, REASON_LEASE_LOST, "the server does not take the restore: %s",
                           state->restore_message);
    } else if (state->restore_answer == ANSWER_NONE) {
        status = error_set(error, REASON_CANCELED, "stopped before the restore was answered: %s",
                           state->stop_why);
    }
    unlock(state);
    return status;
}

// A message may end in a program's own words, cut anywhere; the protocol carries UTF-8 only.
static void make_utf8(char *text)
{
    size_t size = strlen(text);
    size_t at = 0;
    while (at < size) {
        size_t character_size = utf8_character_size(text + at, size - at);
        if (character_size == 0) {
            text[at] = '?';
            character_size = 1;
        }
        at += character_size;
    }
}

void agent_state_fail(AgentState *state, const Error *error)
{
    Error copy = *error;
    make_utf8(copy.message);
    make_utf8(copy.hint);
    CLEANUP_FREE char *reason = string_copy(reason_slug(error->reason));
    Holdfast__V1__Failed failed = HOLDFAST__V1__FAILED__INIT;
    failed.reason = reason;
    failed.message = copy.message;
    failed.hint = copy.hint;
    Holdfast__V1__AgentMessage message = HOLDFAST__V1__AGENT_MESSAGE__INIT;
    message.message_case = HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_FAILED;
    message.failed = &failed;
    lock(state);
    failed.phase = state->phase;
    say(state, OUTBOX_FAILED, &message);
    unlock(state);
}
