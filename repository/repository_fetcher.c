// SPDX-License-Identifier: Apache-2.0
// Fetching for a restore. A worker fetches a span of a window with one read, opens its extents, and
// writes those that are neighbours in their file with one direct write.
#include "repository/repository_fetcher.h"

#include "common/file.h"
#include "common/memory.h"
#include "repository/fetch_window.h"
#include "repository/repository_source.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORKER_COUNT_MAX 16
#define WORKER_SIZE (INT64_C(6) * 1024 * 1024) // in memory
#define RUN_SIZE_MAX ((size_t)2 * 1024 * 1024)
#define DIRECT_SIZE_MIN (INT64_C(256) * 1024) // of a file
#define WAIT_NS (INT64_C(100) * 1000 * 1000)
#define WINDOW_COUNT_MAX 3 // under way, of which one is fetched and the others are flushed

struct Fetcher {
    const ShardScope *scope;
    int directory_fd;
    size_t patch_count_max; // of a window
    Limits *limits;
    Window *gathering; // the producer's
    pthread_t workers[WORKER_COUNT_MAX];
    int worker_count;
    atomic_bool is_stopping;
    atomic_llong written_bytes, read_bytes;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed, progressed;
    Window *queue; // handed out, oldest first
    int flusher_count;
    bool is_ending;
    Error failure; // the first
};

typedef struct FetchWorker {
    Fetcher *fetcher;
    BlobOpener *opener;
    uint8_t *sealed;                       // SPAN_SIZE_MAX
    BlobPlace places[SPAN_ITEM_COUNT_MAX]; // of the span's items in sealed
    uint8_t *plain;                        // RUN_SIZE_MAX, aligned
    int fd;
    const FetchFile *file; // that fd is open on
    bool is_direct;
} FetchWorker;

// --- working ----------------------------------------------------------------------------------

static Status open_target(FetchWorker *worker, const FetchFile *file, bool may_be_direct,
                          Error *error)
{
    fd_closep(&worker->fd);
    const int flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW;
    worker->file = NULL;
    worker->is_direct = may_be_direct && file->size_bytes >= DIRECT_SIZE_MIN;
    if (worker->is_direct) {
        worker->fd = openat(worker->fetcher->directory_fd, file->path, flags | O_DIRECT);
        worker->is_direct = worker->fd >= 0 || errno != EINVAL;
    }
    if (!worker->is_direct) {
        worker->fd = openat(worker->fetcher->directory_fd, file->path, flags);
    }
    if (worker->fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening file '%s'", file->path);
    }
    worker->file = file;
    return STATUS_OK;
}

// Writes the run in `plain`. A direct write has whole blocks; what it writes beyond the end of the
// file is cut off again, and nobody else writes there.
static Status write_plain(FetchWorker *worker, size_t size, int64_t offset, Error *error)
{
    const FetchFile *file = worker->file;
    size_t padded = size;
    if (worker->is_direct && size % DIRECT_ALIGNMENT != 0) {
        padded = (size + DIRECT_ALIGNMENT - 1) / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT;
        memset(worker->plain + size, 0, padded - size);
    }
    Status status = file_write_all_at(worker->fd, worker->plain, padded, offset, error);
    if (status != STATUS_OK && worker->is_direct) {
        // A file system may open files directly and not write them so.
        error_clear(error);
        padded = size;
        RETURN_IF_ERROR(open_target(worker, file, false, error));
        status = file_write_all_at(worker->fd, worker->plain, size, offset, error);
    }
    if (status != STATUS_OK) {
        return error_wrap(error, "file '%s'", file->path);
    }
    if (padded != size && ftruncate(worker->fd, file->size_bytes) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "cutting file '%s'", file->path);
    }
    atomic_fetch_add(&worker->fetcher->written_bytes, (long long)size);
    return STATUS_OK;
}

// Copies what is kept and follows in the file.
static const FetchItem *add_patches(FetchWorker *worker, const Window *window,
                                    const FetchItem *last, size_t *size)
{
    for (FetchItem *patch = window_patch_after(window, last);
         patch != NULL && *size + patch->ref.plain_size <= RUN_SIZE_MAX;
         patch = window_patch_after(window, last)) {
        memcpy(worker->plain + *size, window_patch(window, patch), patch->ref.plain_size);
        *size += patch->ref.plain_size;
        patch->is_written = true;
        last = patch;
    }
    return last;
}

// Opens items of a span from *next that are neighbours in their file, and what is kept between
// and behind them.
static Status open_run(FetchWorker *worker, const Window *window, const Span *span, size_t *next,
                       size_t *ret_size, Error *error)
{
    size_t size = 0;
    const FetchItem *items = &window->items[span->first];
    const FetchItem *last = NULL;
    for (; *next < span->count; (*next)++) {
        const FetchItem *item = &items[*next];
        if (last != NULL &&
            (!item_follows(item, last) || size + item->ref.plain_size > RUN_SIZE_MAX)) {
            break;
        }
        RETURN_IF_ERROR(blob_open(worker->opener, &item->ref,
                                  worker->sealed + worker->places[*next].offset, false,
                                  worker->plain + size, error));
        size += item->ref.plain_size;
        last = add_patches(worker, window, item, &size);
    }
    *ret_size = size;
    return STATUS_OK;
}

static Status write_run(FetchWorker *worker, const Window *window, const FetchItem *start,
                        size_t size, Error *error)
{
    const FetchFile *file = &window->files[start->file];
    if (worker->file != file) {
        RETURN_IF_ERROR(open_target(worker, file, !window->is_scattered, error));
    }
    return write_plain(worker, size, start->offset, error);
}

static Status check_stopping(const FetchWorker *worker, Error *error)
{
    return atomic_load(&worker->fetcher->is_stopping)
               ? error_set(error, REASON_CANCELED, "the restore was stopped")
               : STATUS_OK;
}

static Status write_runs(FetchWorker *worker, const Window *window, const Span *span, Error *error)
{
    for (size_t next = 0; next < span->count;) {
        size_t size = 0;
        const FetchItem *start = &window->items[span->first + next];
        RETURN_IF_ERROR(check_stopping(worker, error));
        limits_enter(worker->fetcher->limits);
        Status status = open_run(worker, window, span, &next, &size, error);
        limits_leave(worker->fetcher->limits);
        if (status != STATUS_OK) {
            return error_wrap(error, "file '%s'", window->files[start->file].path);
        }
        RETURN_IF_ERROR(write_run(worker, window, start, size, error));
    }
    return STATUS_OK;
}

static Status open_patches(FetchWorker *worker, const Window *window, const Span *span,
                           Error *error)
{
    Status status = check_stopping(worker, error);
    limits_enter(worker->fetcher->limits);
    for (size_t i = 0; i < span->count && status == STATUS_OK; i++) {
        const FetchItem *patch = &window->items[span->first + i];
        if (blob_open(worker->opener, &patch->ref, worker->sealed + worker->places[i].offset, false,
                      window_patch(window, patch), error) != STATUS_OK) {
            status = error_wrap(error, "file '%s'", window->files[patch->file].path);
        }
    }
    limits_leave(worker->fetcher->limits);
    return status;
}

static Status fetch_span(FetchWorker *worker, const Window *window, const Span *span, Error *error)
{
    size_t size = 0;
    Fetcher *fetcher = worker->fetcher;
    const FetchItem *items = &window->items[span->first];
    for (size_t i = 0; i < span->count; i++) {
        const Ref *ref = &items[i].ref;
        size = (size_t)ref->offset + ref->stored_size - items[0].ref.offset;
        worker->places[i] = blob_place(ref);
    }
    limits_wait_download(fetcher->limits, size, &fetcher->is_stopping);
    if (blob_fetch(worker->opener, &items[0].ref.pack, worker->places, span->count, worker->sealed,
                   SPAN_SIZE_MAX, &size, error) != STATUS_OK) {
        return error_wrap(error, "file '%s'", window->files[items[0].file].path);
    }
    atomic_fetch_add(&fetcher->read_bytes, (long long)size);
    return span->kind == SPAN_PATCHES ? open_patches(worker, window, span, error)
                                      : write_runs(worker, window, span, error);
}

// Writes the patches that no run has taken along.
static Status write_left_patches(FetchWorker *worker, const Window *window, Error *error)
{
    for (size_t sequence = 0; sequence < window->item_count; sequence++) {
        FetchItem *patch = &window->items[window->positions[sequence]];
        if (!patch->is_patch || patch->is_written) {
            continue;
        }
        RETURN_IF_ERROR(check_stopping(worker, error));
        size_t size = patch->ref.plain_size;
        memcpy(worker->plain, window_patch(window, patch), size);
        patch->is_written = true;
        (void)add_patches(worker, window, patch, &size);
        RETURN_IF_ERROR(write_run(worker, window, patch, size, error));
    }
    return STATUS_OK;
}

// Has the disk begin with what is in the page cache: in long writes, and by more than one thread.
static Status flush(FetchWorker *worker, const Window *window, const Span *span, Error *error)
{
    const FetchItem *first = window_item(window, span->first);
    const FetchItem *last = window_item(window, span->first + span->count - 1);
    int64_t size = last->offset + last->ref.plain_size - first->offset;
    RETURN_IF_ERROR(check_stopping(worker, error));
    RETURN_IF_ERROR(open_target(worker, &window->files[first->file], false, error));
    // A wish; what fails is seen when all is made durable.
    (void)sync_file_range(worker->fd, first->offset, size, SYNC_FILE_RANGE_WRITE);
    return STATUS_OK;
}

static Status do_span(FetchWorker *worker, const Window *window, const Span *span, Error *error)
{
    return span->kind == SPAN_FLUSH          ? flush(worker, window, span, error)
           : span->kind == SPAN_LEFT_PATCHES ? write_left_patches(worker, window, error)
                                             : fetch_span(worker, window, span, error);
}

// With the mutex held: does one span with the mutex released.
static void work(FetchWorker *worker, Window *window, const Span *span)
{
    Fetcher *fetcher = worker->fetcher;
    const int flusher = span->kind == SPAN_FLUSH ? 1 : 0;
    fetcher->flusher_count += flusher;
    pthread_mutex_unlock(&fetcher->mutex);
    Error error = {0};
    Status status = do_span(worker, window, span, &error);
    pthread_mutex_lock(&fetcher->mutex);
    fetcher->flusher_count -= flusher;
    if (status != STATUS_OK && fetcher->failure.status == STATUS_OK) {
        fetcher->failure = error;
        atomic_store(&fetcher->is_stopping, true);
    }
    window_end(window, span);
    pthread_cond_broadcast(&fetcher->changed);
    pthread_cond_signal(&fetcher->progressed);
}

// With the mutex held.
static void drop_done_windows(Fetcher *fetcher)
{
    for (Window **place = &fetcher->queue; *place != NULL;) {
        Window *window = *place;
        if (window_is_done(window)) {
            *place = window->next;
            window_free(window);
            pthread_cond_signal(&fetcher->progressed);
        } else {
            place = &window->next;
        }
    }
}

// With the mutex held: a window with a span to work on, or NULL. Few flush, who wait for the disk,
// and the others fetch. Patches go first, so that no worker waits for those of the next window.
static Window *find_work(const Fetcher *fetcher, Span *ret_span)
{
    bool may_flush = fetcher->flusher_count < MAX(fetcher->worker_count / 4, 1);
    for (SpanKind kind = may_flush ? SPAN_FLUSH : SPAN_FLUSH + 1; kind < SPAN_KIND_COUNT; kind++) {
        for (Window *window = fetcher->queue; window != NULL; window = window->next) {
            if (window_take(window, kind, ret_span)) {
                return window;
            }
        }
    }
    return NULL;
}

static void *run_worker(void *argument)
{
    Fetcher *fetcher = argument;
    FetchWorker *worker = mem_alloc(sizeof(*worker));
    worker->fetcher = fetcher;
    worker->fd = INVALID_FD;
    worker->opener = blob_opener_new(fetcher->scope);
    worker->sealed = mem_alloc_aligned(DIRECT_ALIGNMENT, SPAN_SIZE_MAX);
    worker->plain = mem_alloc_aligned(DIRECT_ALIGNMENT, RUN_SIZE_MAX);
    pthread_mutex_lock(&fetcher->mutex);
    while (!fetcher->is_ending && fetcher->failure.status == STATUS_OK) {
        Span span;
        drop_done_windows(fetcher);
        Window *window = find_work(fetcher, &span);
        if (window == NULL) {
            pthread_cond_wait(&fetcher->changed, &fetcher->mutex);
        } else {
            work(worker, window, &span);
            worker->file = NULL; // the window may go
        }
    }
    pthread_mutex_unlock(&fetcher->mutex);
    fd_closep(&worker->fd);
    blob_opener_free(worker->opener);
    mem_free(worker->sealed);
    mem_free(worker->plain);
    mem_free(worker);
    return NULL;
}

Status fetcher_new(const ShardScope *scope, int directory_fd, int64_t memory_bytes, Limits *limits,
                   Fetcher **ret_fetcher, Error *error)
{
    // Half for the workers, and a third for the patches of two windows; the rest is for items.
    int64_t worker_count = MIN(memory_bytes / 2 / WORKER_SIZE, WORKER_COUNT_MAX);
    assert(worker_count > 0);
    Fetcher *fetcher = mem_alloc(sizeof(*fetcher));
    fetcher->scope = scope;
    fetcher->directory_fd = directory_fd;
    fetcher->limits = limits;
    fetcher->patch_count_max = (size_t)memory_bytes / 6 / EXTENT_SIZE;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&fetcher->mutex, NULL);
    pthread_cond_init(&fetcher->changed, NULL);
    pthread_cond_init(&fetcher->progressed, &attributes);
    pthread_condattr_destroy(&attributes);
    for (int64_t i = 0; i < worker_count; i++) {
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
    atomic_store(&fetcher->is_stopping, true);
    pthread_mutex_lock(&fetcher->mutex);
    fetcher->is_ending = true;
    pthread_cond_broadcast(&fetcher->changed);
    pthread_mutex_unlock(&fetcher->mutex);
    for (int i = 0; i < fetcher->worker_count; i++) {
        pthread_join(fetcher->workers[i], NULL);
    }
    window_free(fetcher->gathering);
    while (fetcher->queue != NULL) {
        Window *window = fetcher->queue;
        fetcher->queue = window->next;
        window_free(window);
    }
    pthread_mutex_destroy(&fetcher->mutex);
    pthread_cond_destroy(&fetcher->changed);
    pthread_cond_destroy(&fetcher->progressed);
    mem_free(fetcher);
}

// --- the producer -----------------------------------------------------------------------------

void fetcher_begin_file(Fetcher *fetcher, const char *path, int64_t size_bytes)
{
    if (fetcher->gathering != NULL && fetcher->gathering->file_count == WINDOW_FILE_COUNT_MAX) {
        fetcher_flush(fetcher);
    }
    if (fetcher->gathering == NULL) {
        fetcher->gathering = window_new();
    }
    window_add_file(fetcher->gathering, path, size_bytes);
}

void fetcher_flush(Fetcher *fetcher)
{
    Window *window = TAKE_PTR(fetcher->gathering);
    if (window == NULL) {
        return;
    }
    window_sort(window, fetcher->patch_count_max);
    pthread_mutex_lock(&fetcher->mutex);
    Window **last = &fetcher->queue;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = window;
    pthread_cond_broadcast(&fetcher->changed);
    pthread_mutex_unlock(&fetcher->mutex);
}

void fetcher_add(Fetcher *fetcher, const Ref *ref, int64_t offset, bool *ret_must_wait)
{
    Window *window = fetcher->gathering;
    assert(window != NULL);
    window_add(window, ref, offset);
    *ret_must_wait = window_is_full(window);
    if (*ret_must_wait) {
        FetchFile file = window->files[window->file_count - 1];
        char *path = string_copy(file.path);
        fetcher_flush(fetcher);
        fetcher_begin_file(fetcher, path, file.size_bytes);
        mem_free(path);
    }
}

// With the mutex held.
static bool is_reached(const Fetcher *fetcher, bool until_idle)
{
    int unwritten_count = 0;
    int undone_count = 0;
    for (const Window *window = fetcher->queue; window != NULL; window = window->next) {
        unwritten_count += window_is_written(window) ? 0 : 1;
        undone_count += window_is_done(window) ? 0 : 1;
    }
    // One window is fetched while the next is gathered.
    return until_idle ? undone_count == 0 : unwritten_count <= 1 && undone_count < WINDOW_COUNT_MAX;
}

Status fetcher_wait(Fetcher *fetcher, bool until_idle, bool *ret_is_reached, Error *error)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&fetcher->mutex);
    if (!is_reached(fetcher, until_idle) && fetcher->failure.status == STATUS_OK) {
        (void)pthread_cond_timedwait(&fetcher->progressed, &fetcher->mutex, &until);
    }
    *ret_is_reached = is_reached(fetcher, until_idle);
    Status status = fetcher->failure.status;
    if (status != STATUS_OK) {
        *error = fetcher->failure;
    }
    pthread_mutex_unlock(&fetcher->mutex);
    return status;
}

FetchProgress fetcher_progress(Fetcher *fetcher)
{
    return (FetchProgress){.written_bytes = atomic_load(&fetcher->written_bytes),
                           .read_bytes = atomic_load(&fetcher->read_bytes)};
}
