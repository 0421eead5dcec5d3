// SPDX-License-Identifier: Apache-2.0
// Streaming WAL from the source into pg_wal, in a thread of its own. Everything the owner sees is
// behind the mutex.
#include "agent/engine/engine_postgresql_receiver.h"

#include "agent/engine/engine_postgresql_client.h"
#include "agent/engine/engine_postgresql_server.h"
#include "agent/engine/engine_postgresql_stream.h"
#include "agent/engine/engine_postgresql_wal.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_MS 10000
#define RETRY_MS 300
#define AWAY_MS_MAX (2 * 60 * 1000) // how long the source may be gone: a restart or a failover
#define FEEDBACK_MS 10000           // below any sensible wal_sender_timeout
#define SILENCE_MS_MAX (90 * 1000)  // we ask for an answer with each feedback
#define HELD_POLL_MS 10
#define READ_SLICE_MS 100
#define HISTORY_BYTES_MAX (1024 * 1024)
#define HISTORY_COUNT_MAX 1000

struct PostgresqlReceiver {
    PostgresqlReceiverOptions options;
    pthread_t thread;
    Cancel stop;

    pthread_mutex_t mutex; // guards the rest but the thread's own
    PostgresqlReceiverState state;
    uint64_t limit_lsn;
    bool is_held;
    Error failure; // status OK while there is none

    // The thread's own
    PostgresqlClient *client;
    PostgresqlStream stream;
    int64_t last_heard_ms, last_feedback_ms;
    bool is_source_behind;
};

static bool is_stopping(const PostgresqlReceiver *receiver)
{
    return atomic_load(&receiver->stop.is_requested);
}

typedef enum Verdict { VERDICT_GO_ON, VERDICT_LIMIT, VERDICT_STREAM_ENDED } Verdict;

// Writes what the limit allows, waiting while held.
static Status accept_wal(PostgresqlReceiver *receiver, const PostgresqlMessage *message,
                         Verdict *ret_verdict, Error *error)
{
    (void)pthread_mutex_lock(&receiver->mutex);
    while (receiver->is_held && !is_stopping(receiver)) {
        (void)pthread_mutex_unlock(&receiver->mutex);
        clock_sleep_ms(HELD_POLL_MS);
        (void)pthread_mutex_lock(&receiver->mutex);
    }
    PostgresqlStream *stream = &receiver->stream;
    Status status = receiver->is_held
                        ? STATUS_OK
                        : postgresql_stream_take(stream, message, receiver->limit_lsn, error);
    receiver->state.received_bytes += (int64_t)message->wal_size;
    if (status == STATUS_OK) {
        receiver->state.written_lsn = MAX(receiver->state.written_lsn, stream->lsn);
        receiver->state.timeline = stream->timeline;
        *ret_verdict = stream->lsn >= receiver->limit_lsn ? VERDICT_LIMIT : VERDICT_GO_ON;
    }
    (void)pthread_mutex_unlock(&receiver->mutex);
    return status;
}

// The walsender's protocol
// --------------------------------------------------------------------------------------------

static Status send_feedback(PostgresqlReceiver *receiver, bool wants_reply, Error *error)
{
    uint8_t message[POSTGRESQL_FEEDBACK_SIZE];
    postgresql_feedback_write(receiver->stream.lsn, clock_now_us(), wants_reply, message);
    PGconn *connection = receiver->client->connection;
    if (PQputCopyData(connection, (const char *)message, (int)sizeof(message)) != 1 ||
        PQflush(connection) < 0) {
        return postgresql_fail(receiver->client, NULL, REASON_SOURCE_UNREACHABLE,
                               "the WAL stream broke", error);
    }
    receiver->last_feedback_ms = clock_monotonic_ms();
    return STATUS_OK;
}

static Status handle_message(PostgresqlReceiver *receiver, const uint8_t *data, size_t size,
                             Verdict *ret_verdict, Error *error)
{
    const PostgresqlMessage message = postgresql_message_read(data, size);
    *ret_verdict = VERDICT_GO_ON;
    if (message.kind == POSTGRESQL_MESSAGE_WAL) {
        return accept_wal(receiver, &message, ret_verdict, error);
    }
    return message.wants_reply ? send_feedback(receiver, false, error) : STATUS_OK;
}

static Status check_time(PostgresqlReceiver *receiver, Error *error)
{
    int64_t now_ms = clock_monotonic_ms();
    if (now_ms - receiver->last_heard_ms > SILENCE_MS_MAX) {
        return error_set(error, REASON_SOURCE_UNREACHABLE, "the source has fallen silent");
    }
    if (now_ms - receiver->last_feedback_ms > FEEDBACK_MS) {
        return send_feedback(receiver, true, error);
    }
    return STATUS_OK;
}

static bool is_at_limit(PostgresqlReceiver *receiver)
{
    (void)pthread_mutex_lock(&receiver->mutex);
    bool is_reached = !receiver->is_held && receiver->stream.lsn >= receiver->limit_lsn;
    (void)pthread_mutex_unlock(&receiver->mutex);
    return is_reached;
}

// Until the limit, the end of the timeline, or a failure.
static Status pump(PostgresqlReceiver *receiver, Verdict *ret_verdict, Error *error)
{
    PGconn *connection = receiver->client->connection;
    receiver->last_heard_ms = receiver->last_feedback_ms = clock_monotonic_ms();
    for (;;) {
        if (is_stopping(receiver)) {
            return error_set(error, REASON_CANCELED, "stopped");
        }
        if (is_at_limit(receiver)) {
            *ret_verdict = VERDICT_LIMIT;
            return STATUS_OK;
        }
        char *data = NULL;
        int size = PQgetCopyData(connection, &data, 1);
        if (size > 0) {
            receiver->last_heard_ms = clock_monotonic_ms();
            Status status =
                handle_message(receiver, (const uint8_t *)data, (size_t)size, ret_verdict, error);
            PQfreemem(data);
            if (status != STATUS_OK || *ret_verdict != VERDICT_GO_ON) {
                return status;
            }
            continue;
        }
        if (size == -1) {
            *ret_verdict = VERDICT_STREAM_ENDED;
            return STATUS_OK;
        }
        if (size == -2) {
            return postgresql_fail(receiver->client, NULL, REASON_SOURCE_UNREACHABLE,
                                   "the WAL stream broke", error);
        }
        bool is_ready = false;
        RETURN_IF_ERROR(postgresql_wait(receiver->client, READ_SLICE_MS, &is_ready, error));
        if (is_ready && PQconsumeInput(connection) != 1) {
            return postgresql_fail(receiver->client, NULL, REASON_SOURCE_UNREACHABLE,
                                   "the WAL stream broke", error);
        }
        RETURN_IF_ERROR(check_time(receiver, error));
    }
}

// The answer at a timeline's end: the next one and where it begins.
static Status begin_timeline(PostgresqlReceiver *receiver, const PGresult *result, Error *error)
{
    bool is_told = PQntuples(result) == 1 && PQnfields(result) >= 2;
    const char *timeline = is_told ? PQgetvalue(result, 0, 0) : "?";
    const char *lsn = is_told ? PQgetvalue(result, 0, 1) : "an unknown place";
    return postgresql_stream_switch(&receiver->stream, timeline, lsn, error);
}

// "requested WAL segment ... has already been removed"
static Status explain_refusal(PostgresqlReceiver *receiver, Error *error)
{
    if (text_equal(receiver->client->sqlstate, "58P01")) {
        char lsn[POSTGRESQL_LSN_TEXT_SIZE];
        postgresql_lsn_format(receiver->stream.lsn, lsn);
        (void)error_set(error, REASON_LOGS_GONE,
                        "the source no longer has the WAL since the parent, which needs it from %s",
                        lsn);
        (void)error_hint(error,
                         "raise max_slot_wal_keep_size on the source, or back up more often");
    }
    return error->status;
}

// What the source says when the stream ends: an error, the next timeline, or (when it shuts down)
// nothing.
static Status stream_ended(PostgresqlReceiver *receiver, Error *error)
{
    PGconn *connection = receiver->client->connection;
    (void)PQputCopyEnd(connection, NULL); // the stream is over either way
    (void)PQflush(connection);
    CLEANUP(postgresql_result_clearp) PGresult *result = PQgetResult(connection);
    if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK) {
        return begin_timeline(receiver, result, error);
    }
    if (result == NULL || PQresultStatus(result) == PGRES_COMMAND_OK) {
        return error_set(error, REASON_SOURCE_UNREACHABLE, "the source ended the WAL stream");
    }
    (void)postgresql_fail(receiver->client, result, REASON_SOURCE_UNREACHABLE,
                          "the source ended the WAL stream", error);
    return explain_refusal(receiver, error);
}

// Histories
// -----------------------------------------------------------------------------------------------------------

static Status fetch_history(PostgresqlReceiver *receiver, uint32_t timeline, char **ret_content,
                            Error *error)
{
    char command[64];
    (void)snprintf(command, sizeof(command), "TIMELINE_HISTORY %" PRIu32, timeline);
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    RETURN_IF_ERROR(postgresql_query(receiver->client, REASON_SOURCE_DIVERGED, command, NULL, 0,
                                     &result, error));
    if (PQntuples(result) != 1 || PQnfields(result) != 2 ||
        PQgetlength(result, 0, 1) > HISTORY_BYTES_MAX) {
        return error_set(error, REASON_SOURCE_DIVERGED,
                         "the source has no history of its timeline %" PRIu32, timeline);
    }
    *ret_content = string_copy_n(PQgetvalue(result, 0, 1), (size_t)PQgetlength(result, 0, 1));
    return STATUS_OK;
}

static Status save_history(const PostgresqlReceiver *receiver, uint32_t timeline,
                           const char *content, Error *error)
{
    char name[32];
    char path[POSTGRESQL_PATH_SIZE];
    (void)snprintf(name, sizeof(name), "pg_wal/%08" PRIX32 ".history", timeline);
    postgresql_path(receiver->options.data_directory, name, path);
    return file_write_atomic(path, content, strlen(content), 0600, error);
}

// The source went on along a newer timeline (it failed over, or was promoted). That is our history
// as well only when it left our timeline behind what we have.
static Status check_histories(PostgresqlReceiver *receiver, uint32_t source_timeline, Error *error)
{
    uint64_t have_lsn = receiver->state.written_lsn; // written by this thread only
    if (source_timeline - receiver->stream.timeline > HISTORY_COUNT_MAX) {
        return error_set(error, REASON_SOURCE_DIVERGED,
                         "the source is on timeline %" PRIu32 ", more than %d after the parent's",
                         source_timeline, HISTORY_COUNT_MAX);
    }
    for (uint32_t timeline = receiver->stream.timeline + 1; timeline <= source_timeline;
         timeline++) {
        CLEANUP_FREE char *content = NULL;
        RETURN_IF_ERROR(fetch_history(receiver, timeline, &content, error));
        uint64_t switch_lsn;
        bool is_ours = postgresql_history_switch(content, receiver->stream.timeline, &switch_lsn);
        if (timeline == source_timeline && (!is_ours || switch_lsn < have_lsn)) {
            (void)error_set(error, REASON_SOURCE_DIVERGED,
                            "the source is on timeline %" PRIu32
                            ", which left the parent's timeline %" PRIu32 " before its end",
                            source_timeline, receiver->stream.timeline);
            return error_hint(error, "take a new seed from this source");
        }
        RETURN_IF_ERROR(save_history(receiver, timeline, content, error));
    }
    return STATUS_OK;
}

static Status identify(PostgresqlReceiver *receiver, Error *error)
{
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    RETURN_IF_ERROR(postgresql_query(receiver->client, REASON_SOURCE_UNREACHABLE, "IDENTIFY_SYSTEM",
                                     NULL, 0, &result, error));
    if (PQntuples(result) != 1 || PQnfields(result) < 3) {
        return error_set(error, REASON_REPLICATION_BROKEN, "the source does not identify itself");
    }
    char expected[32];
    (void)snprintf(expected, sizeof(expected), "%" PRIu64, receiver->options.system_identifier);
    if (!text_equal(PQgetvalue(result, 0, 0), expected)) {
        (void)error_set(error, REASON_SOURCE_DIVERGED,
                        "the source is another cluster (system identifier %s, the parent's is %s)",
                        PQgetvalue(result, 0, 0), expected);
        return error_hint(error, "correct the source's address, or take a new seed from it");
    }
    uint32_t timeline = 0; // behind every other, when it cannot be read
    uint64_t source_lsn;
    (void)postgresql_timeline_parse(PQgetvalue(result, 0, 1), &timeline);
    receiver->is_source_behind =
        timeline < receiver->stream.timeline ||
        !postgresql_lsn_parse(PQgetvalue(result, 0, 2), &source_lsn) ||
        (timeline == receiver->stream.timeline && source_lsn < receiver->state.written_lsn);
    if (receiver->is_source_behind) {
        (void)error_set(error, REASON_SOURCE_DIVERGED,
                        "the source (timeline %" PRIu32
                        ", at %s) is behind the parent: it was put back to an "
                        "older state",
                        timeline, PQgetvalue(result, 0, 2));
        return error_hint(error, "take a new seed from this source");
    }
    return timeline > receiver->stream.timeline ? check_histories(receiver, timeline, error)
                                                : STATUS_OK;
}

// The thread
// ----------------------------------------------------------------------------------------------------------

static void set_streaming(PostgresqlReceiver *receiver, bool is_streaming)
{
    (void)pthread_mutex_lock(&receiver->mutex);
    receiver->state.is_streaming = is_streaming;
    receiver->state.has_streamed = receiver->state.has_streamed || is_streaming;
    (void)pthread_mutex_unlock(&receiver->mutex);
}

static Status stream_timeline(PostgresqlReceiver *receiver, Verdict *ret_verdict, Error *error)
{
    char command[96];
    (void)snprintf(command, sizeof(command),
                   "START_REPLICATION PHYSICAL %" PRIX32 "/%" PRIX32 " TIMELINE %" PRIu32,
                   (uint32_t)(receiver->stream.lsn >> 32), (uint32_t)receiver->stream.lsn,
                   receiver->stream.timeline);
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    if (postgresql_query(receiver->client, REASON_SOURCE_DIVERGED, command, NULL, 0, &result,
                         error) != STATUS_OK) {
        return explain_refusal(receiver, error);
    }
    *ret_verdict = VERDICT_STREAM_ENDED;
    if (PQresultStatus(result) != PGRES_COPY_BOTH) { // nothing is left on this timeline
        return begin_timeline(receiver, result, error);
    }
    set_streaming(receiver, true);
    RETURN_IF_ERROR(pump(receiver, ret_verdict, error));
    return *ret_verdict == VERDICT_STREAM_ENDED ? stream_ended(receiver, error) : STATUS_OK;
}

// One connection: from identifying the source to the limit or a failure.
static Status session(PostgresqlReceiver *receiver, int64_t *last_good_ms, Error *error)
{
    RETURN_IF_ERROR(postgresql_connect(receiver->options.source, POSTGRESQL_REPLICATION, CONNECT_MS,
                                       &receiver->stop, &receiver->client, error));
    RETURN_IF_ERROR(identify(receiver, error));
    Verdict verdict = VERDICT_STREAM_ENDED;
    while (verdict == VERDICT_STREAM_ENDED) {
        Status status = stream_timeline(receiver, &verdict, error);
        if (receiver->state.is_streaming) {
            *last_good_ms = clock_monotonic_ms();
        }
        RETURN_IF_ERROR(status);
    }
    return STATUS_OK;
}

static void fail(PostgresqlReceiver *receiver, const Error *error)
{
    (void)pthread_mutex_lock(&receiver->mutex);
    receiver->failure = *error;
    (void)pthread_mutex_unlock(&receiver->mutex);
}

// During a failover the source's address may lead to a standby that is not as far as we are, for a
// moment.
static bool may_pass(const PostgresqlReceiver *receiver, const Error *error)
{
    return error->reason == REASON_SOURCE_UNREACHABLE ||
           (receiver->is_source_behind && receiver->state.has_streamed);
}

static void *receiver_main(void *argument)
{
    PostgresqlReceiver *receiver = argument;
    int64_t last_good_ms = clock_monotonic_ms();
    while (!is_stopping(receiver)) {
        if (is_at_limit(receiver)) {
            last_good_ms = clock_monotonic_ms();
            clock_sleep_ms(HELD_POLL_MS);
            continue;
        }
        Error error = {0};
        Status status = session(receiver, &last_good_ms, &error);
        set_streaming(receiver, false);
        postgresql_closep(&receiver->client);
        if (status == STATUS_OK || is_stopping(receiver)) {
            continue;
        }
        if (!may_pass(receiver, &error)) {
            fail(receiver, &error);
            break;
        }
        if (clock_monotonic_ms() - last_good_ms > AWAY_MS_MAX) {
            (void)error_wrap(&error, "the source was away for %d seconds", AWAY_MS_MAX / 1000);
            fail(receiver, &error);
            break;
        }
        clock_sleep_ms(RETRY_MS);
    }
    return NULL;
}

Status postgresql_receiver_start(const PostgresqlReceiverOptions *options,
                                 PostgresqlReceiver **ret_receiver, Error *error)
{
    assert(options->segment_bytes > 0);
    assert(options->timeline > 0);
    PostgresqlReceiver *receiver = mem_alloc(sizeof(*receiver));
    receiver->options = *options;
    receiver->limit_lsn = UINT64_MAX;
    receiver->stream = (PostgresqlStream){.data_directory = options->data_directory,
                                          .recorder = options->recorder,
                                          .segment_bytes = options->segment_bytes,
                                          .timeline = options->timeline,
                                          .lsn = options->start_lsn,
                                          .segment_fd = INVALID_FD};
    receiver->state.written_lsn = options->start_lsn;
    receiver->state.timeline = options->timeline;
    (void)pthread_mutex_init(&receiver->mutex, NULL);
    int number = pthread_create(&receiver->thread, NULL, receiver_main, receiver);
    if (number != 0) {
        (void)pthread_mutex_destroy(&receiver->mutex);
        mem_free(receiver);
        return error_set_errno(error, REASON_INTERNAL, number, "starting a thread");
    }
    *ret_receiver = receiver;
    return STATUS_OK;
}

Status postgresql_receiver_look(PostgresqlReceiver *receiver, PostgresqlReceiverState *ret_state,
                                Error *error)
{
    (void)pthread_mutex_lock(&receiver->mutex);
    Status status = receiver->failure.status;
    if (status == STATUS_OK) {
        *ret_state = receiver->state;
    } else {
        *error = receiver->failure;
    }
    (void)pthread_mutex_unlock(&receiver->mutex);
    return status;
}

void postgresql_receiver_hold(PostgresqlReceiver *receiver)
{
    (void)pthread_mutex_lock(&receiver->mutex);
    receiver->is_held = true;
    (void)pthread_mutex_unlock(&receiver->mutex);
}

void postgresql_receiver_limit(PostgresqlReceiver *receiver, uint64_t limit_lsn)
{
    (void)pthread_mutex_lock(&receiver->mutex);
    receiver->limit_lsn = limit_lsn;
    receiver->is_held = false;
    (void)pthread_mutex_unlock(&receiver->mutex);
}

void postgresql_receiver_stop(PostgresqlReceiver *receiver)
{
    if (receiver == NULL) {
        return;
    }
    atomic_store(&receiver->stop.is_requested, true);
    (void)pthread_join(receiver->thread, NULL);
    postgresql_stream_close(&receiver->stream);
    (void)pthread_mutex_destroy(&receiver->mutex);
    mem_free(receiver);
}
