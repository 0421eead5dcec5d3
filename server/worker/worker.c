// SPDX-License-Identifier: Apache-2.0
// The work loop: threads that claim and do, and a clock that renews leases, fires policies and
// shows that this server lives.
#define LOG_MODULE "worker"
#include "server/worker/worker.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/sealed_secret.h"
#include "server/worker/worker_internal.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define LEASE_MS_DEFAULT 60000
#define POLL_MS 1000
#define SEEN_MS 5000
#define BACKOFF_MS_MIN 1000
#define BACKOFF_MS_MAX 60000
#define BACKOFF_RETRYABLE_MS_MAX 4000 // what passes by itself passes soon

// A claimed item: waits in the queue, then is being worked on. Its lease is renewed all the time.
typedef struct HeldItem {
    WorkItem item; // texts owned
    bool is_running;
    struct HeldItem *next;
} HeldItem;

struct Worker {
    WorkerOptions options;
    pthread_mutex_t mutex; // guards everything below
    pthread_cond_t wake;
    HeldItem *held;
    bool is_wanted, is_stopping, is_claiming;
    int64_t claimed_ms; // when it was last looked for work
    int64_t due_ms;     // when something that we put off becomes due
    pthread_t *threads;
    int thread_count;
    pthread_t clock_thread;
    bool has_clock;
    SweepMemory *sweep_memory;
    TimeZones *time_zones;
};

static const struct {
    const char *kind; // with ':' at the end: what comes before the server's id
    WorkFunction function;
} FUNCTIONS[] = {
    {WORK_BACKUP, work_backup},
    {WORK_RESTORE, work_restore},
    {WORK_INSTANCE, work_instance_place},
    {WORK_INSTANCE_AT, work_instance},
    {WORK_SWEEP_AT, work_sweep},
    {WORK_RETENTION, work_retention},
    {WORK_FORGET_SOURCE, work_forget_source},
    {WORK_HOUSEKEEPING, work_housekeeping},
};

Secret worker_join_secret(const WorkerOptions *options, const char *instance_id)
{
    CLEANUP_FREE char *label = string_format("join:%s", instance_id);
    return secret_derive(options->secret_key, label);
}

void worker_join_secret_hash(const WorkerOptions *options, const char *instance_id,
                             uint8_t *ret_hash)
{
    CLEANUP(secret_done) Secret secret = worker_join_secret(options, instance_id);
    crypto_sha256(secret.data, secret.size, ret_hash);
}

SweepMemory *worker_sweep_memory(Worker *worker)
{
    return worker->sweep_memory;
}

void worker_log_failure(const WorkItem *item, const Error *error)
{
    // What passes by itself is no alarm; what keeps failing is.
    LogLevel level =
        item->tries >= 3 || !status_is_retryable(error->status) ? LOG_ERROR : LOG_WARNING;
    log_error_record(level, LOG_MODULE, error, "a step failed and will be tried again", "kind",
                     item->kind, "subject", item->subject_id, NULL);
}

static WorkFunction function_of(const char *kind)
{
    for (size_t i = 0; i < ARRAY_COUNT(FUNCTIONS); i++) {
        bool is_bound = text_has_suffix(FUNCTIONS[i].kind, ":");
        if (is_bound ? text_has_prefix(kind, FUNCTIONS[i].kind)
                     : text_equal(kind, FUNCTIONS[i].kind)) {
            return FUNCTIONS[i].function;
        }
    }
    return NULL;
}

// --- claiming ---

static void hold(Worker *worker, const WorkItem *item)
{
    HeldItem *held = mem_alloc(sizeof(*held));
    held->item = (WorkItem){.kind = string_copy(item->kind),
                            .subject_id = string_copy(item->subject_id),
                            .due_at = string_copy(item->due_at),
                            .tries = item->tries};
    HeldItem **end = &worker->held;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = held;
}

static void drop(Worker *worker, HeldItem *held)
{
    HeldItem **place = &worker->held;
    while (*place != held) {
        place = &(*place)->next;
    }
    *place = held->next;
    mem_free((void *)(uintptr_t)held->item.kind);
    mem_free((void *)(uintptr_t)held->item.subject_id);
    mem_free((void *)(uintptr_t)held->item.due_at);
    mem_free(held);
}

// One batch for all threads. Called with the mutex held, which it gives up for the query.
static void claim(Worker *worker)
{
    const WorkerOptions *options = &worker->options;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    WorkItem *items = NULL;
    size_t count = 0;
    Error error = {0};
    worker->is_wanted = false;
    worker->claimed_ms = clock_monotonic_ms();
    worker->due_ms = INT64_MAX;
    (void)pthread_mutex_unlock(&worker->mutex);
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        Status status = store_begin(options->store, &transaction, &error);
        status =
            status != STATUS_OK
                ? status
                : store_work_claim(transaction, arena, options->server_id, options->work_lease_ms,
                                   options->thread_count, &items, &count, &error);
        status = status != STATUS_OK ? status : store_commit(&transaction, &error);
        if (status != STATUS_OK) {
            count = 0;
            log_error_record(LOG_WARNING, LOG_MODULE, &error, "work cannot be claimed just now",
                             NULL);
        }
    }
    (void)pthread_mutex_lock(&worker->mutex);
    for (size_t i = 0; i < count; i++) {
        hold(worker, &items[i]);
    }
    // A full batch: there may be more.
    worker->is_wanted = worker->is_wanted || count == (size_t)options->thread_count;
    if (count > 1) {
        (void)pthread_cond_broadcast(&worker->wake);
    }
}

static HeldItem *next_queued(const Worker *worker)
{
    HeldItem *held = worker->held;
    while (held != NULL && held->is_running) {
        held = held->next;
    }
    return held;
}

static void wait_for_work(Worker *worker)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t look_ms = MIN(worker->claimed_ms + POLL_MS, worker->due_ms);
    int64_t wait_ms = MAX(look_ms - clock_monotonic_ms(), 10);
    until.tv_nsec += (wait_ms % 1000) * 1000000;
    until.tv_sec += wait_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&worker->wake, &worker->mutex, &until);
}

// --- doing ---

static int64_t backoff_ms(int tries, Status status)
{
    int64_t delay_ms = BACKOFF_MS_MIN;
    for (int i = 0; i < tries && delay_ms < BACKOFF_MS_MAX; i++) {
        delay_ms *= 2;
    }
    return MIN(delay_ms, status_is_retryable(status) ? BACKOFF_RETRYABLE_MS_MAX : BACKOFF_MS_MAX);
}

// True: it is due again at once.
static bool finish(const WorkerOptions *options, const WorkItem *item, int64_t next_ms,
                   bool is_failure)
{
    // When this fails the lease ends by itself and the step is done once more, which is harmless.
    Error error = {0};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    bool is_due = false;
    if (store_begin(options->store, &transaction, &error) != STATUS_OK ||
        store_work_finish(transaction, options->server_id, item, next_ms, is_failure, &is_due,
                          &error) != STATUS_OK ||
        store_commit(&transaction, &error) != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error,
                         "a step was done but could not be marked so; it will be done again",
                         "kind", item->kind, "subject", item->subject_id, NULL);
    }
    return is_due;
}

static void finish_and_wake(Worker *worker, const WorkItem *item, int64_t next_ms, bool is_failure)
{
    bool is_due = finish(&worker->options, item, next_ms, is_failure);
    (void)pthread_mutex_lock(&worker->mutex);
    worker->is_wanted |= is_due;
    if (next_ms >= 0) {
        worker->due_ms = MIN(worker->due_ms, clock_monotonic_ms() + next_ms);
    }
    (void)pthread_mutex_unlock(&worker->mutex);
}

static void work_on(Worker *worker, const WorkItem *item)
{
    const WorkerOptions *options = &worker->options;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    WorkStep step = {.worker = worker, .options = options, .item = item, .arena = arena};
    WorkFunction function = function_of(item->kind);
    int64_t next_ms = WORK_DONE;
    Error error = {0};
    if (function == NULL) {
        // Of a newer version that was here: left for it.
        log_warning("unknown kind of work", "kind", item->kind, "subject", item->subject_id, NULL);
        finish_and_wake(worker, item, BACKOFF_MS_MAX, true);
        return;
    }
    if (function(&step, &next_ms, &error) != STATUS_OK) {
        worker_log_failure(item, &error);
        finish_and_wake(worker, item, backoff_ms(item->tries, error.status), true);
        return;
    }
    finish_and_wake(worker, item, next_ms, false);
}

static void *work_main(void *context)
{
    Worker *worker = context;
    (void)pthread_mutex_lock(&worker->mutex);
    while (!worker->is_stopping) {
        HeldItem *held = next_queued(worker);
        if (held != NULL) {
            held->is_running = true;
            (void)pthread_mutex_unlock(&worker->mutex);
            work_on(worker, &held->item);
            (void)pthread_mutex_lock(&worker->mutex);
            drop(worker, held);
            continue;
        }
        int64_t now_ms = clock_monotonic_ms();
        bool is_time =
            worker->is_wanted || now_ms - worker->claimed_ms >= POLL_MS || now_ms >= worker->due_ms;
        if (is_time && !worker->is_claiming) {
            worker->is_claiming = true;
            claim(worker);
            worker->is_claiming = false;
        } else {
            wait_for_work(worker);
        }
    }
    (void)pthread_mutex_unlock(&worker->mutex);
    return NULL;
}

static void on_notify(void *context, const char *channel)
{
    Worker *worker = context;
    if (text_equal(channel, "work")) {
        (void)pthread_mutex_lock(&worker->mutex);
        worker->is_wanted = true;
        (void)pthread_cond_broadcast(&worker->wake); // the clock waits here too: one might be it
        (void)pthread_mutex_unlock(&worker->mutex);
    }
}

// --- the clock ---

// Copies, so that no query runs under the mutex.
static size_t copy_held(Worker *worker, Arena *arena, WorkItem **ret_items)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&worker->mutex);
    for (const HeldItem *held = worker->held; held != NULL; held = held->next) {
        count++;
    }
    WorkItem *items = arena_alloc_array(arena, count + 1, sizeof(*items));
    count = 0;
    for (const HeldItem *held = worker->held; held != NULL; held = held->next) {
        items[count++] = (WorkItem){.kind = arena_string(arena, held->item.kind),
                                    .subject_id = arena_string(arena, held->item.subject_id)};
    }
    (void)pthread_mutex_unlock(&worker->mutex);
    *ret_items = items;
    return count;
}

static Status show_life(Worker *worker, bool is_start, Error *error)
{
    const WorkerOptions *options = &worker->options;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    WorkItem *items = NULL;
    size_t count = copy_held(worker, arena, &items);
    RETURN_IF_ERROR(store_begin(options->store, &transaction, error));
    RETURN_IF_ERROR(store_server_seen(transaction, options->server_id, HOLDFAST_VERSION,
                                      options->agent_address, is_start, error));
    for (size_t i = 0; i < count; i++) {
        RETURN_IF_ERROR(store_work_renew(transaction, options->server_id, options->work_lease_ms,
                                         &items[i], error));
    }
    if (is_start) {
        RETURN_IF_ERROR(store_work_release(transaction, options->server_id, error));
        const char *sweep = arena_format(arena, WORK_SWEEP_AT "%s", options->server_id);
        RETURN_IF_ERROR(store_work_add(transaction, sweep, options->server_id, 0, error));
        RETURN_IF_ERROR(store_work_add(transaction, WORK_HOUSEKEEPING, WORK_SUBJECT_ALL, 0, error));
    }
    return store_commit(&transaction, error);
}

static void *clock_main(void *context)
{
    Worker *worker = context;
    int64_t seen_ms = clock_monotonic_ms();
    (void)pthread_mutex_lock(&worker->mutex);
    while (!worker->is_stopping) {
        (void)pthread_mutex_unlock(&worker->mutex);
        Error error = {0};
        int64_t interval_ms = MIN(SEEN_MS, worker->options.work_lease_ms / 4);
        if (clock_monotonic_ms() - seen_ms >= interval_ms) {
            if (show_life(worker, false, &error) != STATUS_OK) {
                log_error_record(LOG_WARNING, LOG_MODULE, &error, "leases could not be renewed",
                                 NULL);
            }
            seen_ms = clock_monotonic_ms();
        }
        int count = 0;
        error_clear(&error);
        if (work_policy(&worker->options, worker->time_zones, &count, &error) != STATUS_OK) {
            log_error_record(LOG_WARNING, LOG_MODULE, &error,
                             "due policies could not be fired; they stay due", NULL);
        }
        (void)pthread_mutex_lock(&worker->mutex);
        if (!worker->is_stopping && count == 0) {
            struct timespec until;
            (void)clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_nsec += 500 * 1000000;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            (void)pthread_cond_timedwait(&worker->wake, &worker->mutex, &until);
        }
    }
    (void)pthread_mutex_unlock(&worker->mutex);
    return NULL;
}

// --- life ---

static Status start_threads(Worker *worker, Error *error)
{
    int wanted = worker->options.thread_count;
    worker->threads = mem_alloc_array((size_t)wanted, sizeof(pthread_t));
    for (; worker->thread_count < wanted; worker->thread_count++) {
        if (pthread_create(&worker->threads[worker->thread_count], NULL, work_main, worker) != 0) {
            return error_set(error, REASON_EXHAUSTED, "no more threads can be started");
        }
    }
    if (pthread_create(&worker->clock_thread, NULL, clock_main, worker) != 0) {
        return error_set(error, REASON_EXHAUSTED, "no more threads can be started");
    }
    worker->has_clock = true;
    return store_listen(worker->options.store, on_notify, worker, error);
}

Status worker_start(const WorkerOptions *options, Worker **ret_worker, Error *error)
{
    assert(options->store != NULL && options->provisioner != NULL && options->thread_count > 0);
    Worker *worker = mem_alloc(sizeof(*worker));
    worker->options = *options;
    worker->due_ms = INT64_MAX;
    if (worker->options.work_lease_ms <= 0) {
        worker->options.work_lease_ms = LEASE_MS_DEFAULT;
    }
    worker->sweep_memory = sweep_memory_new();
    worker->time_zones = time_zones_new();
    (void)pthread_mutex_init(&worker->mutex, NULL); // cannot fail with default attributes
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&worker->wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    Status status = show_life(worker, true, error);
    status = status != STATUS_OK ? status : start_threads(worker, error);
    if (status != STATUS_OK) {
        worker_stop(worker);
        return status;
    }
    *ret_worker = worker;
    return STATUS_OK;
}

// What was claimed and not begun becomes due at once for others.
static void give_back(Worker *worker)
{
    while (worker->held != NULL) {
        assert(!worker->held->is_running);
        (void)finish(&worker->options, &worker->held->item, 0,
                     false); // else its lease ends by itself
        drop(worker, worker->held);
    }
}

void worker_stop(Worker *worker)
{
    if (worker == NULL) {
        return;
    }
    store_unlisten(worker->options.store, worker);
    (void)pthread_mutex_lock(&worker->mutex);
    worker->is_stopping = true;
    (void)pthread_cond_broadcast(&worker->wake);
    (void)pthread_mutex_unlock(&worker->mutex);
    for (int i = 0; i < worker->thread_count; i++) {
        (void)pthread_join(worker->threads[i], NULL);
    }
    if (worker->has_clock) {
        (void)pthread_join(worker->clock_thread, NULL);
    }
    give_back(worker);
    sweep_memory_free(worker->sweep_memory);
    time_zones_free(worker->time_zones);
    (void)pthread_cond_destroy(&worker->wake);
    (void)pthread_mutex_destroy(&worker->mutex);
    mem_free(worker->threads);
    mem_free(worker);
}
