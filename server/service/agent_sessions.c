// SPDX-License-Identifier: Apache-2.0
// The open sessions, and the thread that tells agents what to do. What to tell is read from the
// store every time: nothing here has to survive, and a message told twice does no harm.
#define LOG_MODULE "service"
#include "server/service/agent_sessions.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/agent_sessions_internal.h"
#include "server/service/resource_limits.h"
#include "server/store/store_instance.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 1000
#define IDLE_MS 5000

void sessions_wake(AgentSessions *sessions)
{
    (void)pthread_mutex_lock(&sessions->mutex);
    sessions->is_wanted = true;
    (void)pthread_cond_signal(&sessions->wake);
    (void)pthread_mutex_unlock(&sessions->mutex);
}

static void on_notify(void *context, const char *channel)
{
    if (text_equal(channel, "sessions")) {
        sessions_wake(context);
    }
}

void session_send_to(AgentSession *session, Holdfast__V1__ServerMessage__MessageCase kind,
                     ProtobufCMessage *message)
{
    Holdfast__V1__ServerMessage server_message = HOLDFAST__V1__SERVER_MESSAGE__INIT;
    server_message.message_case = kind;
    server_message.idle = (void *)message; // the members of the oneof are all pointers to messages
    (void)session->send(session->context, &server_message); // a stream that is over is closed soon
}

// --- one round of telling ---

static AgentSession *find_session(AgentSessions *sessions, const AgentSession *wanted)
{
    AgentSession *session = sessions->sessions;
    while (session != NULL && session != wanted) {
        session = session->next;
    }
    return session;
}

// What a round knows of a session without holding the lock.
typedef struct Told {
    AgentSession *session; // only to be compared, until it is found in the list again
    char instance_id[37], attempt_id[37], restore_shard_id[37];
    bool needs_assignment, needs_checkpoint, is_working;
    const AgentDirective *directive;
    const InstanceLimits *limits; // NULL: it does not work, or not any more
} Told;

static size_t collect(AgentSessions *sessions, Arena *arena, Told **ret_told)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&sessions->mutex);
    for (AgentSession *session = sessions->sessions; session != NULL; session = session->next) {
        count++;
    }
    Told *told = arena_alloc_array(arena, count + 1, sizeof(*told));
    count = 0;
    for (AgentSession *session = sessions->sessions; session != NULL; session = session->next) {
        if (session->is_joined) {
            Told *entry = &told[count++];
            entry->session = session;
            memcpy(entry->instance_id, session->instance_id, sizeof(entry->instance_id));
            memcpy(entry->attempt_id, session->attempt_id, sizeof(entry->attempt_id));
            memcpy(entry->restore_shard_id, session->restore_shard_id,
                   sizeof(entry->restore_shard_id));
            entry->is_working = session->is_working;
            entry->needs_assignment = !session->is_assigned && !session->is_working;
            entry->needs_checkpoint = !session->is_checkpoint_told;
        }
    }
    (void)pthread_mutex_unlock(&sessions->mutex);
    *ret_told = told;
    return count;
}

static const char *id_array(Arena *arena, const Told *told, size_t count)
{
    char *text = arena_alloc(arena, count * 37 + 3);
    size_t used = 0;
    text[used++] = '{';
    for (size_t i = 0; i < count; i++) {
        memcpy(text + used, told[i].instance_id, 36);
        used += 36;
        text[used++] = ',';
    }
    text[count > 0 ? used - 1 : used] = '}';
    return text;
}

static Status read_limits(StoreTransaction *transaction, Arena *arena, Told *told, size_t count,
                          Error *error)
{
    InstanceLimits *limits = NULL;
    size_t limit_count = 0;
    RETURN_IF_ERROR(store_instance_limits(transaction, arena, id_array(arena, told, count), &limits,
                                          &limit_count, error));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < limit_count && told[i].limits == NULL; j++) {
            told[i].limits =
                text_equal(limits[j].instance_id, told[i].instance_id) ? &limits[j] : NULL;
        }
    }
    return STATUS_OK;
}

// Reads what the store wants of every agent; and notes, before anybody is told, that checkpoints
// are asked for from now on.
static Status read_directives(AgentSessions *sessions, Arena *arena, Told *told, size_t count,
                              Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    AgentDirective *directives = NULL;
    size_t directive_count = 0;
    RETURN_IF_ERROR(store_begin(sessions->options.store, &transaction, error));
    RETURN_IF_ERROR(store_agent_directives(transaction, arena, id_array(arena, told, count),
                                           &directives, &directive_count, error));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < directive_count && told[i].directive == NULL; j++) {
            told[i].directive =
                text_equal(directives[j].instance_id, told[i].instance_id) ? &directives[j] : NULL;
        }
        if (told[i].directive != NULL && told[i].directive->is_checkpoint_wanted &&
            told[i].needs_checkpoint && !told[i].directive->is_stop) {
            RETURN_IF_ERROR(store_agent_checkpoint_sent(transaction, told[i].attempt_id, error));
        }
    }
    RETURN_IF_ERROR(read_limits(transaction, arena, told, count, error));
    return store_commit(&transaction, error);
}

static void tell_stop(AgentSession *session, const char *why)
{
    Holdfast__V1__Stop stop = HOLDFAST__V1__STOP__INIT;
    stop.why = (char *)(uintptr_t)why;
    session_send_to(session, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_STOP, &stop.base);
    session->is_stop_told = true;
}

static void tell_checkpoint(AgentSession *session, const AgentDirective *directive)
{
    if (directive->is_checkpoint_wanted) {
        // One name for one attempt, so that asking twice cannot mean two points. The engine limits
        // it to 63 bytes.
        char name[64] = "holdfast_";
        size_t used = strlen(name);
        for (const char *id = session->attempt_id; *id != '\0'; id++) {
            if (*id != '-') {
                name[used++] = *id;
            }
        }
        name[used] = '\0';
        Holdfast__V1__TakeCheckpoint take = HOLDFAST__V1__TAKE_CHECKPOINT__INIT;
        take.name = name;
        session_send_to(session, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_TAKE_CHECKPOINT, &take.base);
        session->is_checkpoint_told = true;
        return;
    }
    bool is_before =
        text_equal(directive->phase, "ready") || text_equal(directive->phase, "replay");
    if (session->is_working && directive->checkpoint_position[0] != '\0' && is_before) {
        Holdfast__V1__ReplayToCheckpoint replay = HOLDFAST__V1__REPLAY_TO_CHECKPOINT__INIT;
        replay.position = (char *)(uintptr_t)directive->checkpoint_position;
        replay.name = (char *)(uintptr_t)directive->checkpoint_name;
        replay.server_identity = (char *)(uintptr_t)directive->checkpoint_server_identity;
        session_send_to(session, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_REPLAY_TO_CHECKPOINT,
                        &replay.base);
        session->is_checkpoint_told = true;
    }
}

static bool are_same(const Holdfast__V1__ResourceLimits *a, const Holdfast__V1__ResourceLimits *b)
{
    return a->upload_bytes_per_second == b->upload_bytes_per_second &&
           a->download_bytes_per_second == b->download_bytes_per_second &&
           a->cpu_count == b->cpu_count && a->memory_bytes == b->memory_bytes;
}

static void tell_limits(AgentSession *session, const InstanceLimits *limits)
{
    Holdfast__V1__ResourceLimits share = HOLDFAST__V1__RESOURCE_LIMITS__INIT;
    share.upload_bytes_per_second = bandwidth_share(limits->upload, LIMIT_LEVEL_COUNT);
    share.download_bytes_per_second = bandwidth_share(limits->download, LIMIT_LEVEL_COUNT);
    share.cpu_count = limits->cpu_count;
    share.memory_bytes = limits->memory_bytes;
    if (!session->is_limits_told || !are_same(&share, &session->limits)) {
        session_send_to(session, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_LIMITS, &share.base);
        session->limits = share;
        session->is_limits_told = true;
    }
}

static void tell_idle(AgentSession *session)
{
    int64_t now_ms = clock_monotonic_ms();
    if (now_ms - session->idle_told_ms >= IDLE_MS) {
        Holdfast__V1__Idle idle = HOLDFAST__V1__IDLE__INIT;
        session_send_to(session, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_IDLE, &idle.base);
        session->idle_told_ms = now_ms;
    }
}

// Quick: only puts messages into queues.
static void tell_orders(AgentSessions *sessions, Told *told, size_t count)
{
    (void)pthread_mutex_lock(&sessions->mutex);
    for (size_t i = 0; i < count; i++) {
        AgentSession *session = find_session(sessions, told[i].session);
        if (session == NULL || !text_equal(session->instance_id, told[i].instance_id)) {
            continue;
        }
        const AgentDirective *directive = told[i].directive;
        if (told[i].limits != NULL) {
            tell_limits(session, told[i].limits); // before the assignment
        }
        if (directive == NULL || directive->is_stop) {
            if (!session->is_stop_told) {
                tell_stop(session,
                          directive != NULL ? directive->stop_reason : "the instance is not known");
            }
            told[i].needs_assignment = false;
        } else if (!session->is_checkpoint_told) {
            tell_checkpoint(session, directive);
        }
        tell_idle(session);
    }
    (void)pthread_mutex_unlock(&sessions->mutex);
}

static void tell_assignment(AgentSessions *sessions, const Told *told)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Holdfast__V1__ServerMessage *message = NULL;
    Error error = {0};
    Status status = session_make_assignment(sessions, told->attempt_id, told->restore_shard_id,
                                            arena, &message, &error);
    if (status != STATUS_OK && status_is_retryable(status)) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error, "an assignment has to wait", "instance",
                         told->instance_id, NULL);
        return;
    }
    if (status != STATUS_OK) {
        char text[2100];
        Error failure = {0};
        (void)snprintf(text, sizeof(text), "%s%s%s%s", error.message,
                       error.hint[0] != '\0' ? " (" : "", error.hint,
                       error.hint[0] != '\0' ? ")" : "");
        if (session_fail(sessions, told->attempt_id, told->restore_shard_id, told->instance_id,
                         reason_slug(error.reason), text, &failure) != STATUS_OK) {
            log_error_record(LOG_WARNING, LOG_MODULE, &failure,
                             "a failure could not be recorded yet", "instance", told->instance_id,
                             NULL);
        }
        return;
    }
    (void)pthread_mutex_lock(&sessions->mutex);
    AgentSession *session = find_session(sessions, told->session);
    if (session != NULL && message != NULL && text_equal(session->instance_id, told->instance_id)) {
        (void)session->send(session->context, message); // a stream that is over is closed soon
        session->is_assigned = true;
    }
    (void)pthread_mutex_unlock(&sessions->mutex);
}

void agent_sessions_dispatch(AgentSessions *sessions)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Told *told = NULL;
    Error error = {0};
    size_t count = collect(sessions, arena, &told);
    if (count == 0) {
        return;
    }
    if (read_directives(sessions, arena, told, count, &error) != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error, "agents cannot be told anything just now",
                         NULL);
        return;
    }
    tell_orders(sessions, told, count);
    for (size_t i = 0; i < count; i++) {
        if (told[i].needs_assignment) {
            tell_assignment(sessions, &told[i]);
        }
    }
}

static void *tell_main(void *context)
{
    AgentSessions *sessions = context;
    (void)pthread_mutex_lock(&sessions->mutex);
    while (!sessions->is_stopping) {
        if (!sessions->is_wanted) {
            struct timespec until;
            (void)clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += LOOK_MS / 1000;
            (void)pthread_cond_timedwait(&sessions->wake, &sessions->mutex, &until);
        }
        sessions->is_wanted = false;
        (void)pthread_mutex_unlock(&sessions->mutex);
        agent_sessions_dispatch(sessions);
        (void)pthread_mutex_lock(&sessions->mutex);
    }
    (void)pthread_mutex_unlock(&sessions->mutex);
    return NULL;
}

// --- life ---

Status agent_sessions_new(const AgentSessionsOptions *options, AgentSessions **ret_sessions,
                          Error *error)
{
    assert(options->store != NULL && options->secret_key != NULL && options->repositories != NULL);
    AgentSessions *sessions = mem_alloc(sizeof(*sessions));
    sessions->options = *options;
    sessions->server_id = string_copy(options->server_id);
    (void)pthread_mutex_init(&sessions->mutex, NULL); // cannot fail with default attributes
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&sessions->wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    Status status = STATUS_OK;
    if (pthread_create(&sessions->thread, NULL, tell_main, sessions) != 0) {
        status = error_set(error, REASON_EXHAUSTED, "no more threads can be started");
        sessions->is_stopping = true;
    } else {
        status = store_listen(options->store, on_notify, sessions, error);
    }
    if (status != STATUS_OK) {
        agent_sessions_free(sessions);
        return status;
    }
    *ret_sessions = sessions;
    return STATUS_OK;
}

void agent_sessions_free(AgentSessions *sessions)
{
    if (sessions == NULL) {
        return;
    }
    assert(sessions->sessions == NULL);
    store_unlisten(sessions->options.store, sessions);
    (void)pthread_mutex_lock(&sessions->mutex);
    bool has_thread = !sessions->is_stopping;
    sessions->is_stopping = true;
    (void)pthread_cond_signal(&sessions->wake);
    (void)pthread_mutex_unlock(&sessions->mutex);
    if (has_thread) {
        (void)pthread_join(sessions->thread, NULL);
    }
    (void)pthread_cond_destroy(&sessions->wake);
    (void)pthread_mutex_destroy(&sessions->mutex);
    mem_free(sessions->server_id);
    mem_free(sessions);
}

Status agent_session_open(AgentSessions *sessions,
                          bool (*send)(void *context, const Holdfast__V1__ServerMessage *message),
                          void (*finish)(void *context, Status status, const char *message),
                          void *context, AgentSession **ret_session, Error *error)
{
    (void)error;
    AgentSession *session = mem_alloc(sizeof(*session));
    session->owner = sessions;
    session->send = send;
    session->finish = finish;
    session->context = context;
    (void)pthread_mutex_lock(&sessions->mutex);
    session->next = sessions->sessions;
    sessions->sessions = session;
    (void)pthread_mutex_unlock(&sessions->mutex);
    *ret_session = session;
    return STATUS_OK;
}

// An agent whose stream ends comes back, or has died: somebody looks soon, instead of waiting for
// its lease to end.
static void ask_for_look(const AgentSession *session)
{
    Error error = {0};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    if (store_begin(session->owner->options.store, &transaction, &error) != STATUS_OK ||
        store_instance_look(transaction, session->instance_id, &error) != STATUS_OK ||
        store_commit(&transaction, &error) != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error,
                         "nobody could be told, the sweep will see it", "instance",
                         session->instance_id, NULL);
    }
}

void agent_session_close(AgentSession *session)
{
    AgentSessions *sessions = session->owner;
    (void)pthread_mutex_lock(&sessions->mutex);
    AgentSession **place = &sessions->sessions;
    while (*place != session) {
        place = &(*place)->next;
    }
    *place = session->next;
    (void)pthread_mutex_unlock(&sessions->mutex);
    if (session->is_joined) {
        log_info("an agent's stream has ended", "instance", session->instance_id, NULL);
        ask_for_look(session);
    }
    mem_free(session);
}
