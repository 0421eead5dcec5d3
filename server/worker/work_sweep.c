// SPDX-License-Identifier: Apache-2.0
// The sweep compares what should be with what is, both ways. Instances of the store that are not
// there are lost; things that are there but not in the store are destroyed - with care, because the
// store may have been restored from an old copy: only what was seen twice, at least ten seconds
// apart, a few at a time, and nothing at all when most of what runs is unknown. Without the store
// there is no sweep.
#define LOG_MODULE "worker"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/store/store_event.h"
#include "server/store/store_instance.h"
#include "server/worker/worker_internal.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define STRAY_AGE_MS 10000
#define STRAY_LOOK_MS 3000
#define STRAY_BATCH 8
#define STRAY_FREEZE_COUNT 10 // this many strays, and more of them than of known instances: freeze

typedef struct Stray {
    char instance_id[37];
    int64_t seen_ms; // first, by the monotonic clock
    bool is_seen;    // in this sweep
    struct Stray *next;
} Stray;

struct SweepMemory {
    pthread_mutex_t mutex;
    Stray *strays;
};

SweepMemory *sweep_memory_new(void)
{
    SweepMemory *memory = mem_alloc(sizeof(*memory));
    (void)pthread_mutex_init(&memory->mutex, NULL); // cannot fail with default attributes
    return memory;
}

void sweep_memory_free(SweepMemory *memory)
{
    while (memory->strays != NULL) {
        Stray *next = memory->strays->next;
        mem_free(memory->strays);
        memory->strays = next;
    }
    (void)pthread_mutex_destroy(&memory->mutex);
    mem_free(memory);
}

// How long it has been known as a stray, in milliseconds.
static int64_t remember(SweepMemory *memory, const char *instance_id)
{
    int64_t now_ms = clock_monotonic_ms();
    Stray *stray = memory->strays;
    while (stray != NULL && !text_equal(stray->instance_id, instance_id)) {
        stray = stray->next;
    }
    if (stray == NULL) {
        stray = mem_alloc(sizeof(*stray));
        (void)snprintf(stray->instance_id, sizeof(stray->instance_id), "%s", instance_id);
        stray->seen_ms = now_ms;
        stray->next = memory->strays;
        memory->strays = stray;
    }
    stray->is_seen = true;
    return now_ms - stray->seen_ms;
}

static void forget_unseen(SweepMemory *memory)
{
    for (Stray **place = &memory->strays; *place != NULL;) {
        Stray *stray = *place;
        if (stray->is_seen) {
            stray->is_seen = false;
            place = &stray->next;
        } else {
            *place = stray->next;
            mem_free(stray);
        }
    }
}

static const ComputeInstance *find_listed(const ComputeInstance *listed, size_t count,
                                          const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(listed[i].instance_id, id)) {
            return &listed[i];
        }
    }
    return NULL;
}

static bool is_known(const InstanceRow *rows, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(rows[i].id, id)) {
            return true;
        }
    }
    return false;
}

// What the last line that it wrote says, for the person who wonders; a log line's message and error
// when it is one.
static const char *words_of(Arena *arena, const char *line)
{
    CLEANUP(json_freep) Json *json = NULL;
    Error ignored = {0};
    if (json_parse(line, strlen(line), &json, &ignored) != STATUS_OK) {
        return line;
    }
    const char *message = json_get_text(json, "message", "");
    const char *error = json_get_text(json, "error", "");
    return error[0] == '\0' ? arena_string(arena, message)
                            : arena_format(arena, "%s: %s", message, error);
}

static const char *last_words(const WorkStep *step, const char *provider, const char *instance_id)
{
    Buffer log;
    Error ignored = {0};
    buffer_init(&log, 8192);
    const char *words = "";
    if (provisioner_fetch_log(step->options->provisioner, provider, instance_id, &log, &ignored) ==
            STATUS_OK &&
        log.size > 0) {
        char *text = arena_string(step->arena, buffer_text(&log));
        size_t size = strlen(text);
        while (size > 0 && text[size - 1] == '\n') {
            text[--size] = '\0';
        }
        const char *line = strrchr(text, '\n');
        words = words_of(step->arena, line != NULL ? line + 1 : text);
    }
    buffer_done(&log);
    return words;
}

Status worker_lose_instance(const WorkStep *step, const InstanceRow *row, Error *error)
{
    const char *words = last_words(step, row->provider, row->id);
    const char *message =
        words[0] == '\0'
            ? "the instance disappeared"
            : arena_format(step->arena, "the instance disappeared; its last words: %.600s", words);
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_instance_request_destroy(transaction, row->id, message, error));
    RETURN_IF_ERROR(store_work_add(transaction, row->backup_id != NULL ? WORK_BACKUP : WORK_RESTORE,
                                   row->backup_id != NULL ? row->backup_id : row->subject_id, 0,
                                   error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    log_warning("an instance is lost", "instance", row->id, "last_words", words, NULL);
    return STATUS_OK;
}

// Store to machines: what should run and does not is lost. The list is older than the rows, so one
// launched in between is not judged.
static Status find_lost(const WorkStep *step, const char *provider, const InstanceRow *rows,
                        size_t row_count, const ComputeInstance *listed, size_t listed_count,
                        Error *error)
{
    for (size_t i = 0; i < row_count; i++) {
        const InstanceRow *row = &rows[i];
        const ComputeInstance *instance = find_listed(listed, listed_count, row->id);
        bool should_run = text_equal(row->state, "launched") || text_equal(row->state, "joined");
        if (!text_equal(row->provider, provider) || !should_run || row->is_destroy_requested ||
            (instance != NULL && instance->is_running)) {
            continue;
        }
        RETURN_IF_ERROR(worker_lose_instance(step, row, error));
    }
    return STATUS_OK;
}

// Asked again just before: it may have been placed here since the rows were read.
static Status destroy_stray(const WorkStep *step, const char *provider, const char *instance_id,
                            Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    bool is_stray = false;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_instance_is_stray(transaction, instance_id, step->options->server_id,
                                            &is_stray, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    if (!is_stray) {
        return STATUS_OK;
    }
    log_warning("something runs that the store does not know; it is destroyed", "instance",
                instance_id, NULL);
    return provisioner_terminate(step->options->provisioner, provider, instance_id, error);
}

static Status find_strays(const WorkStep *step, const char *provider, const InstanceRow *rows,
                          size_t row_count, const ComputeInstance *listed, size_t listed_count,
                          size_t *ret_stray_count, Error *error)
{
    SweepMemory *memory = worker_sweep_memory(step->worker);
    const char *ripe[STRAY_BATCH];
    size_t ripe_count = 0;
    size_t stray_count = 0;
    (void)pthread_mutex_lock(&memory->mutex);
    for (size_t i = 0; i < listed_count; i++) {
        if (is_known(rows, row_count, listed[i].instance_id)) {
            continue;
        }
        stray_count++;
        if (remember(memory, listed[i].instance_id) >= STRAY_AGE_MS && ripe_count < STRAY_BATCH) {
            ripe[ripe_count++] = listed[i].instance_id;
        }
    }
    forget_unseen(memory);
    (void)pthread_mutex_unlock(&memory->mutex);
    *ret_stray_count = stray_count;
    if (stray_count >= STRAY_FREEZE_COUNT && stray_count > listed_count - stray_count) {
        log_error("most of what runs here is unknown to the store; nothing is destroyed - was the "
                  "database "
                  "restored from an old copy?",
                  "provider", provider, NULL);
        return STATUS_OK;
    }
    for (size_t i = 0; i < ripe_count; i++) {
        RETURN_IF_ERROR(destroy_stray(step, provider, ripe[i], error));
    }
    return STATUS_OK;
}

static Status sweep_provider(const WorkStep *step, const char *provider, size_t *ret_stray_count,
                             Error *error)
{
    ComputeInstance *listed = NULL;
    size_t listed_count = 0;
    InstanceRow *before = NULL;
    InstanceRow *rows = NULL;
    size_t before_count = 0;
    size_t row_count = 0;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    // Lost is only what was there by the rows before the list was made; a stray only what the rows
    // after it do not know.
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_instance_list_at(transaction, step->arena, step->options->server_id,
                                           &before, &before_count, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    RETURN_IF_ERROR(provisioner_list(step->options->provisioner, provider, step->arena, &listed,
                                     &listed_count, error));
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_instance_list_at(transaction, step->arena, step->options->server_id,
                                           &rows, &row_count, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    RETURN_IF_ERROR(find_lost(step, provider, before, before_count, listed, listed_count, error));
    return find_strays(step, provider, rows, row_count, listed, listed_count, ret_stray_count,
                       error);
}

Status work_sweep(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    const char *const *names = NULL;
    size_t count = provisioner_providers(step->options->provisioner, &names);
    size_t stray_count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t strays = 0;
        RETURN_IF_ERROR(sweep_provider(step, names[i], &strays, error));
        stray_count += strays;
    }
    *ret_next_ms = stray_count > 0 ? MIN(STRAY_LOOK_MS, step->options->sweep_interval_ms)
                                   : step->options->sweep_interval_ms;
    return STATUS_OK;
}
