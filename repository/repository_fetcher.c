// SPDX-License-Identifier: Apache-2.0
// Fetching for a restore: refs that lie next to each other in a pack become one read, whatever file
// they are of; a few packs are gathered at once, because after some generations a file's extents
// alternate between packs.
#include "repository/repository_fetcher.h"

#include "common/file.h"
#include "common/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORKER_COUNT_MAX 8
#define BATCH_COUNT 24
#define OPEN_BATCH_COUNT 8
#define BATCH_ITEM_COUNT 256
#define BATCH_SPAN_MAX ((size_t)2 * 1024 * 1024)
#define BATCH_GAP_MAX ((size_t)64 * 1024) // reading over so much is cheaper than a second read
#define BATCH_PATHS_SIZE_MAX ((size_t)32 * 1024)
#define RUN_SIZE_MAX ((size_t)1024 * 1024)

typedef struct FetchItem {
    Ref ref;
    size_t path_offset; // in the batch's paths
    int64_t offset;     // in the file
} FetchItem;

typedef struct FetchBatch {
    FetchItem items[BATCH_ITEM_COUNT];
    size_t count;
    Buffer paths; // NUL-ended, one after the other
    size_t last_path_offset;
    uint64_t age;
} FetchBatch;

struct Fetcher {
    const ShardScope *scope;
    int directory_fd;
    FetchBatch batches[BATCH_COUNT];
    FetchBatch *open[OPEN_BATCH_COUNT]; // the producer's
    uint64_t age;
    pthread_t workers[WORKER_COUNT_MAX];
    int worker_count;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    FetchBatch *free[BATCH_COUNT];
    size_t free_count;
    FetchBatch *queue[BATCH_COUNT];
    size_t queue_count;
    int busy_count;
    bool is_stopping;
    int64_t written_bytes, read_bytes;
    Error failure; // the first
};

typedef struct FetchWorker {
    Fetcher *fetcher;
    BlobOpener *opener;
    uint8_t *sealed;                    // BATCH_SPAN_MAX
    BlobPlace places[BATCH_ITEM_COUNT]; // of the batch's items in sealed
    uint8_t *plain;                     // RUN_SIZE_MAX
    int fd;
    char path[LIST_PATH_SIZE_MAX + 1]; // that fd is open on
    int64_t written_bytes;
} FetchWorker;

static const char *item_path(const FetchBatch *batch, const FetchItem *item)
{
    return (const char *)batch->paths.data + item->path_offset;
}

static Status open_target(FetchWorker *worker, const char *path, Error *error)
{
    if (worker->fd >= 0 && strcmp(worker->path, path) == 0) {
        return STATUS_OK;
    }
    fd_closep(&worker->fd);
    worker->fd = openat(worker->fetcher->directory_fd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (worker->fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening file '%s'", path);
    }
    snprintf(worker->path, sizeof(worker->path), "%s", path);
    return STATUS_OK;
}

// Opens the items from `first` that are neighbours in their file into one run, and writes it.
static Status write_run(FetchWorker *worker, const FetchBatch *batch, size_t *first, Error *error)
{
    const FetchItem *start = &batch->items[*first];
    const char *path = item_path(batch, start);
    size_t size = 0;
    size_t index = *first;
    for (; index < batch->count; index++) {
        const FetchItem *item = &batch->items[index];
        if (item->path_offset != start->path_offset ||
            item->offset != start->offset + (int64_t)size ||
            size + item->ref.plain_size > RUN_SIZE_MAX) {
            break;
        }
        if (blob_open(worker->opener, &item->ref, worker->sealed + worker->places[index].offset,
                      false, worker->plain + size, error) != STATUS_OK) {
            return error_wrap(error, "file '%s'", path);
        }
        size += item->ref.plain_size;
    }
    *first = index;
    RETURN_IF_ERROR(open_target(worker, path, error));
    if (file_write_all_at(worker->fd, worker->plain, size, start->offset, error) != STATUS_OK) {
        return error_wrap(error, "file '%s'", path);
    }
    worker->written_bytes += (int64_t)size;
    return STATUS_OK;
}

static Status fetch_batch(FetchWorker *worker, const FetchBatch *batch, size_t *ret_read_size,
                          Error *error)
{
    for (size_t i = 0; i < batch->count; i++) {
        const Ref *ref = &batch->items[i].ref;
        worker->places[i] = (BlobPlace){
            .index = ref->index, .offset = ref->offset, .stored_size = ref->stored_size};
    }
    if (blob_fetch(worker->opener, &batch->items[0].ref.pack, worker->places, batch->count,
                   worker->sealed, BATCH_SPAN_MAX, ret_read_size, error) != STATUS_OK) {
        return error_wrap(error, "file '%s'", item_path(batch, &batch->items[0]));
    }
    for (size_t index = 0; index < batch->count;) {
        RETURN_IF_ERROR(write_run(worker, batch, &index, error));
    }
    return STATUS_OK;
}

static void batch_reset(FetchBatch *batch)
{
    batch->count = 0;
    buffer_clear(&batch->paths);
}

// With the mutex held: does one batch with the mutex released.
static void work(Fetcher *fetcher, FetchWorker *worker)
{
    FetchBatch *batch = fetcher->queue[0];
    fetcher->queue_count--;
    memmove(fetcher->queue, fetcher->queue + 1, fetcher->queue_count * sizeof(batch));
    fetcher->busy_count++;
    bool is_wanted = fetcher->failure.status == STATUS_OK;
    pthread_mutex_unlock(&fetcher->mutex);
    Error error = {0};
    size_t read_size = 0;
    worker->written_bytes = 0;
    Status status = is_wanted ? fetch_batch(worker, batch, &read_size, &error) : STATUS_OK;
    batch_reset(batch);
    pthread_mutex_lock(&fetcher->mutex);
    fetcher->busy_count--;
    fetcher->read_bytes += (int64_t)read_size;
    fetcher->written_bytes += worker->written_bytes;
    fetcher->free[fetcher->free_count++] = batch;
    if (status != STATUS_OK && fetcher->failure.status == STATUS_OK) {
        fetcher->failure = error;
    }
    pthread_cond_broadcast(&fetcher->changed);
}

static void *run_worker(void *argument)
{
    Fetcher *fetcher = argument;
    FetchWorker worker = {.fetcher = fetcher, .fd = INVALID_FD};
    worker.opener = blob_opener_new(fetcher->scope);
    worker.sealed = mem_alloc(BATCH_SPAN_MAX);
    worker.plain = mem_alloc(RUN_SIZE_MAX);
    pthread_mutex_lock(&fetcher->mutex);
    while (!fetcher->is_stopping) {
        if (fetcher->queue_count == 0) {
            pthread_cond_wait(&fetcher->changed, &fetcher->mutex);
        } else {
            work(fetcher, &worker);
        }
    }
    pthread_mutex_unlock(&fetcher->mutex);
    fd_closep(&worker.fd);
    blob_opener_free(worker.opener);
    mem_free(worker.sealed);
    mem_free(worker.plain);
    return NULL;
}

Status fetcher_new(const ShardScope *scope, int directory_fd, int worker_count,
                   Fetcher **ret_fetcher, Error *error)
{
    assert(worker_count > 0 && worker_count <= WORKER_COUNT_MAX);
    Fetcher *fetcher = mem_alloc(sizeof(*fetcher));
    fetcher->scope = scope;
    fetcher->directory_fd = directory_fd;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&fetcher->mutex, NULL);
    pthread_cond_init(&fetcher->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    for (size_t i = 0; i < BATCH_COUNT; i++) {
        buffer_init(&fetcher->batches[i].paths, BATCH_PATHS_SIZE_MAX);
        fetcher->free[fetcher->free_count++] = &fetcher->batches[i];
    }
    for (int i = 0; i < worker_count; i++) {
        if (pthread_create(&fetcher->workers[i], NULL, run_worker, fetcher) != 0) {
            fetcher_free(fetcher);
            return error_set(error, REASON_EXHAUSTED, "no thread could be started");
        }
        fetcher->worker_count++;
    }
    *ret_fetcher = fetcher;
    return STATUS_OK;
}

void fetcher_free(Fetcher *fetcher)
{
    if (fetcher == NULL) {
        return;
    }
    pthread_mutex_lock(&fetcher->mutex);
    fetcher->is_stopping = true;
    pthread_cond_broadcast(&fetcher->changed);
    pthread_mutex_unlock(&fetcher->mutex);
    for (int i = 0; i < fetcher->worker_count; i++) {
        pthread_join(fetcher->workers[i], NULL);
    }
    for (size_t i = 0; i < BATCH_COUNT; i++) {
        buffer_done(&fetcher->batches[i].paths);
    }
    pthread_mutex_destroy(&fetcher->mutex);
    pthread_cond_destroy(&fetcher->changed);
    mem_free(fetcher);
}

void fetcher_freep(Fetcher **fetcher)
{
    fetcher_free(*fetcher);
    *fetcher = NULL;
}

static Status submit(Fetcher *fetcher, size_t open_index, Error *error)
{
    FetchBatch *batch = fetcher->open[open_index];
    fetcher->open[open_index] = NULL;
    pthread_mutex_lock(&fetcher->mutex);
    fetcher->queue[fetcher->queue_count++] = batch;
    Status status = fetcher->failure.status;
    if (status != STATUS_OK) {
        *error = fetcher->failure;
    }
    pthread_cond_broadcast(&fetcher->changed);
    pthread_mutex_unlock(&fetcher->mutex);
    return status;
}

static bool batch_fits(const FetchBatch *batch, const Ref *ref, const char *path)
{
    const Ref *first = &batch->items[0].ref;
    const Ref *last = &batch->items[batch->count - 1].ref;
    size_t end = (size_t)last->offset + last->stored_size;
    return pack_name_equal(&first->pack, &ref->pack) && batch->count < BATCH_ITEM_COUNT &&
           ref->offset >= end && ref->offset - end <= BATCH_GAP_MAX &&
           (size_t)ref->offset + ref->stored_size - first->offset <= BATCH_SPAN_MAX &&
           batch->paths.size + strlen(path) + 1 <= BATCH_PATHS_SIZE_MAX;
}

static void batch_add(FetchBatch *batch, const Ref *ref, const char *path, int64_t offset)
{
    if (batch->count == 0 ||
        strcmp((const char *)batch->paths.data + batch->last_path_offset, path) != 0) {
        batch->last_path_offset = batch->paths.size;
        bool is_added = buffer_append(&batch->paths, path, strlen(path) + 1);
        assert(is_added);
    }
    batch->items[batch->count++] =
        (FetchItem){.ref = *ref, .path_offset = batch->last_path_offset, .offset = offset};
}

Status fetcher_add(Fetcher *fetcher, const Ref *ref, const char *path, int64_t offset, Error *error)
{
    size_t place = 0; // a free place, or the oldest
    for (size_t i = 0; i < OPEN_BATCH_COUNT; i++) {
        FetchBatch *batch = fetcher->open[i];
        if (batch == NULL) {
            place = i;
        } else if (batch_fits(batch, ref, path)) {
            batch->age = fetcher->age++;
            batch_add(batch, ref, path, offset);
            return STATUS_OK;
        } else if (fetcher->open[place] != NULL && batch->age < fetcher->open[place]->age) {
            place = i;
        }
    }
    if (fetcher->open[place] != NULL) {
        RETURN_IF_ERROR(submit(fetcher, place, error));
    }
    pthread_mutex_lock(&fetcher->mutex);
    while (fetcher->free_count == 0) {
        pthread_cond_wait(&fetcher->changed, &fetcher->mutex);
    }
    FetchBatch *batch = fetcher->free[--fetcher->free_count];
    pthread_mutex_unlock(&fetcher->mutex);
    fetcher->open[place] = batch;
    batch->age = fetcher->age++;
    batch_add(batch, ref, path, offset);
    return STATUS_OK;
}

Status fetcher_flush(Fetcher *fetcher, Error *error)
{
    for (size_t i = 0; i < OPEN_BATCH_COUNT; i++) {
        if (fetcher->open[i] != NULL) {
            RETURN_IF_ERROR(submit(fetcher, i, error));
        }
    }
    return STATUS_OK;
}

Status fetcher_wait(Fetcher *fetcher, int64_t timeout_ms, bool *ret_is_done, Error *error)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&fetcher->mutex);
    int result = 0;
    while (fetcher->queue_count + (size_t)fetcher->busy_count > 0 && result == 0) {
        result = pthread_cond_timedwait(&fetcher->changed, &fetcher->mutex, &until);
    }
    *ret_is_done = fetcher->queue_count + (size_t)fetcher->busy_count == 0;
    Status status = fetcher->failure.status;
    if (status != STATUS_OK) {
        *error = fetcher->failure;
    }
    pthread_mutex_unlock(&fetcher->mutex);
    return status;
}

int64_t fetcher_written_bytes(Fetcher *fetcher)
{
    pthread_mutex_lock(&fetcher->mutex);
    int64_t bytes = fetcher->written_bytes;
    pthread_mutex_unlock(&fetcher->mutex);
    return bytes;
}

int64_t fetcher_read_bytes(Fetcher *fetcher)
{
    pthread_mutex_lock(&fetcher->mutex);
    int64_t bytes = fetcher->read_bytes;
    pthread_mutex_unlock(&fetcher->mutex);
    return bytes;
}
