// SPDX-License-Identifier: Apache-2.0
// Fetching for a restore. A window is sorted by pack and offset and cut into spans; a worker
// fetches a span with one read, opens its extents, and writes those that are neighbours in their
// file with one direct write.
#include "repository/repository_fetcher.h"

#include "common/file.h"
#include "common/memory.h"
#include "repository/repository_source.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORKER_COUNT_MAX 32
#define WINDOW_ITEM_COUNT ((size_t)32 * 1024) // 1 GiB of extents, 3 MiB of memory
#define WINDOW_FILE_COUNT ((size_t)4096)
#define SPAN_SIZE_MAX ((size_t)2 * 1024 * 1024)
#define SPAN_ITEM_COUNT_MAX 2048          // so that well compressed extents fill a span, too
#define SPAN_GAP_MAX ((size_t)128 * 1024) // reading over so much is cheaper than a second read
#define RUN_SIZE_MAX ((size_t)2 * 1024 * 1024)
#define DIRECT_SIZE_MIN (INT64_C(256) * 1024) // of a file
#define WAIT_NS (INT64_C(100) * 1000 * 1000)

typedef struct FetchFile {
    char *path;
    int64_t size_bytes;
} FetchFile;

typedef struct FetchItem {
    Ref ref;
    uint32_t file;
    int64_t offset; // in the file
} FetchItem;

typedef struct Window {
    FetchItem *items; // sorted once it is handed out
    size_t item_count, next_item;
    FetchFile *files;
    size_t file_count;
    int busy_count; // spans that are worked on
    struct Window *next;
} Window;

struct Fetcher {
    const ShardScope *scope;
    int directory_fd;
    Limits *limits;
    Window *gathering; // the producer's
    pthread_t workers[WORKER_COUNT_MAX];
    int worker_count;
    atomic_bool is_stopping;
    atomic_llong written_bytes, read_bytes;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed, progressed;
    Window *queue; // handed out, oldest first
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

// --- windows ----------------------------------------------------------------------------------

static Window *window_new(void)
{
    Window *window = mem_alloc(sizeof(*window));
    window->items = mem_alloc_array(WINDOW_ITEM_COUNT, sizeof(*window->items));
    window->files = mem_alloc_array(WINDOW_FILE_COUNT, sizeof(*window->files));
    return window;
}

static void window_free(Window *window)
{
    if (window != NULL) {
        for (size_t i = 0; i < window->file_count; i++) {
            mem_free(window->files[i].path);
        }
        mem_free(window->files);
        mem_free(window->items);
        mem_free(window);
    }
}

static int compare_items(const void *a, const void *b)
{
    const FetchItem *left = a;
    const FetchItem *right = b;
    int order = memcmp(left->ref.pack.id, right->ref.pack.id, ID_SIZE);
    if (order == 0 && left->ref.pack.epoch != right->ref.pack.epoch) {
        order = left->ref.pack.epoch < right->ref.pack.epoch ? -1 : 1;
    }
    if (order == 0) {
        order = left->ref.index < right->ref.index ? -1 : left->ref.index > right->ref.index;
    }
    return order;
}

// How many items from `first` one read fetches.
static size_t span_length(const Window *window, size_t first)
{
    const Ref *start = &window->items[first].ref;
    size_t end = (size_t)start->offset + start->stored_size;
    size_t count = 1;
    while (first + count < window->item_count && count < SPAN_ITEM_COUNT_MAX) {
        const Ref *ref = &window->items[first + count].ref;
        size_t ref_end = (size_t)ref->offset + ref->stored_size;
        if (!pack_name_equal(&start->pack, &ref->pack) || ref->offset < end ||
            ref->offset - end > SPAN_GAP_MAX || ref_end - start->offset > SPAN_SIZE_MAX) {
            break;
        }
        end = ref_end;
        count++;
    }
    return count;
}

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

static Status open_run(FetchWorker *worker, const FetchItem *items, size_t count, size_t first,
                       size_t *ret_end, size_t *ret_size, Error *error)
{
    size_t size = 0;
    size_t index = first;
    for (; index < count; index++) {
        const FetchItem *item = &items[index];
        if (item->file != items[first].file ||
            item->offset != items[first].offset + (int64_t)size ||
            size + item->ref.plain_size > RUN_SIZE_MAX) {
            break;
        }
        RETURN_IF_ERROR(blob_open(worker->opener, &item->ref,
                                  worker->sealed + worker->places[index].offset, false,
                                  worker->plain + size, error));
        size += item->ref.plain_size;
    }
    *ret_end = index;
    *ret_size = size;
    return STATUS_OK;
}

// Opens the items from `first` that are neighbours in their file, and writes them.
static Status write_run(FetchWorker *worker, const Window *window, const FetchItem *items,
                        size_t count, size_t *first, Error *error)
{
    const FetchItem *start = &items[*first];
    const FetchFile *file = &window->files[start->file];
    size_t size = 0;
    limits_enter(worker->fetcher->limits);
    Status status = open_run(worker, items, count, *first, first, &size, error);
    limits_leave(worker->fetcher->limits);
    if (status != STATUS_OK) {
        return error_wrap(error, "file '%s'", file->path);
    }
    if (worker->file != file) {
        RETURN_IF_ERROR(open_target(worker, file, true, error));
    }
    return write_plain(worker, size, start->offset, error);
}

static Status fetch_span(FetchWorker *worker, const Window *window, const FetchItem *items,
                         size_t count, Error *error)
{
    size_t size = 0;
    Fetcher *fetcher = worker->fetcher;
    for (size_t i = 0; i < count; i++) {
        const Ref *ref = &items[i].ref;
        size = (size_t)ref->offset + ref->stored_size - items[0].ref.offset;
        worker->places[i] = (BlobPlace){
            .index = ref->index, .offset = ref->offset, .stored_size = ref->stored_size};
    }
    limits_wait_download(fetcher->limits, size, &fetcher->is_stopping);
    if (blob_fetch(worker->opener, &items[0].ref.pack, worker->places, count, worker->sealed,
                   SPAN_SIZE_MAX, &size, error) != STATUS_OK) {
        return error_wrap(error, "file '%s'", window->files[items[0].file].path);
    }
    atomic_fetch_add(&fetcher->read_bytes, (long long)size);
    for (size_t index = 0; index < count;) {
        if (atomic_load(&fetcher->is_stopping)) {
            return error_set(error, REASON_CANCELED, "the restore was stopped");
        }
        RETURN_IF_ERROR(write_run(worker, window, items, count, &index, error));
    }
    return STATUS_OK;
}

// With the mutex held: does one span with the mutex released.
static void work(FetchWorker *worker, Window *window)
{
    Fetcher *fetcher = worker->fetcher;
    const FetchItem *items = &window->items[window->next_item];
    size_t count = span_length(window, window->next_item);
    window->next_item += count;
    window->busy_count++;
    pthread_mutex_unlock(&fetcher->mutex);
    Error error = {0};
    Status status = fetch_span(worker, window, items, count, &error);
    pthread_mutex_lock(&fetcher->mutex);
    if (status != STATUS_OK && fetcher->failure.status == STATUS_OK) {
        fetcher->failure = error;
        atomic_store(&fetcher->is_stopping, true);
        pthread_cond_broadcast(&fetcher->changed);
    }
    window->busy_count--;
    pthread_cond_signal(&fetcher->progressed);
}

// With the mutex held: drops windows that are done; the oldest with work left, or NULL.
static Window *find_work(FetchWorker *worker)
{
    Fetcher *fetcher = worker->fetcher;
    Window *found = NULL;
    for (Window **place = &fetcher->queue; *place != NULL && found == NULL;) {
        Window *window = *place;
        if (window->next_item < window->item_count) {
            found = window;
        } else if (window->busy_count == 0) {
            *place = window->next;
            window_free(window);
            pthread_cond_signal(&fetcher->progressed);
        } else {
            place = &window->next;
        }
    }
    return found;
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
        Window *window = find_work(worker);
        if (window == NULL) {
            pthread_cond_wait(&fetcher->changed, &fetcher->mutex);
        } else {
            work(worker, window);
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

Status fetcher_new(const ShardScope *scope, int directory_fd, int worker_count, Limits *limits,
                   Fetcher **ret_fetcher, Error *error)
{
    assert(worker_count > 0 && worker_count <= WORKER_COUNT_MAX);
    Fetcher *fetcher = mem_alloc(sizeof(*fetcher));
    fetcher->scope = scope;
    fetcher->directory_fd = directory_fd;
    fetcher->limits = limits;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&fetcher->mutex, NULL);
    pthread_cond_init(&fetcher->changed, NULL);
    pthread_cond_init(&fetcher->progressed, &attributes);
    pthread_condattr_destroy(&attributes);
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

static void add_file(Window *window, const char *path, int64_t size_bytes)
{
    assert(window->file_count < WINDOW_FILE_COUNT);
    window->files[window->file_count++] =
        (FetchFile){.path = string_copy(path), .size_bytes = size_bytes};
}

void fetcher_begin_file(Fetcher *fetcher, const char *path, int64_t size_bytes)
{
    if (fetcher->gathering != NULL && fetcher->gathering->file_count == WINDOW_FILE_COUNT) {
        fetcher_flush(fetcher);
    }
    if (fetcher->gathering == NULL) {
        fetcher->gathering = window_new();
    }
    add_file(fetcher->gathering, path, size_bytes);
}

void fetcher_flush(Fetcher *fetcher)
{
    Window *window = TAKE_PTR(fetcher->gathering);
    if (window == NULL) {
        return;
    }
    qsort(window->items, window->item_count, sizeof(*window->items), compare_items);
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
    assert(window != NULL && window->file_count > 0);
    window->items[window->item_count++] =
        (FetchItem){.ref = *ref, .file = (uint32_t)(window->file_count - 1), .offset = offset};
    *ret_must_wait = window->item_count == WINDOW_ITEM_COUNT;
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
    if (!until_idle) {
        // One window is worked on while the next is gathered.
        return fetcher->queue == NULL || fetcher->queue->next == NULL;
    }
    for (const Window *window = fetcher->queue; window != NULL; window = window->next) {
        if (window->busy_count > 0 || window->next_item < window->item_count) {
            return false;
        }
    }
    return true;
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
