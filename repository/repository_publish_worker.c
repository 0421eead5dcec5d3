// SPDX-License-Identifier: Apache-2.0
// A worker makes the nodes of a part of a file's map: reads, checks and compares its extents,
// compresses and seals what is new. Workers share nothing but the pack that is being filled.
#include "repository/repository_publish_worker.h"

#include "common/memory.h"
#include "repository/repository_compressor.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define ITEM_COUNT 128
#define WORKER_COUNT_MAX 64
#define CHUNK_EXTENT_COUNT SOURCE_READ_EXTENT_COUNT // what is read, and put into a pack, at once
#define CHUNK_SIZE (CHUNK_EXTENT_COUNT * EXTENT_SIZE)
#define WAIT_NS (INT64_C(100) * 1000 * 1000)

struct PublishWorkers {
    PublishRun *run;
    pthread_t threads[WORKER_COUNT_MAX];
    int thread_count;
    pthread_mutex_t mutex; // guards what follows and the items' is_done
    pthread_cond_t submitted, progressed;
    PublishItem items[ITEM_COUNT];
    uint64_t submit_count, claim_count, release_count;
    bool is_ending;
    Error failure; // the first
};

typedef struct Worker {
    PublishWorkers *workers;
    PublishRun *run;
    BlobOpener *opener;
    NodeStore *nodes;
    PackSealer *sealer;
    Compressor *compressor;
    GcmKey *hasher;
    void *reader;        // of the run's source
    uint8_t *plain;      // CHUNK_SIZE, aligned for direct reads
    uint8_t *packed;     // CHUNK_SIZE, after plain
    uint8_t *nodes_data; // MAP_NODES_SIZE of a part
    // The part that is being worked on.
    Ref parents[MAP_PART_EXTENT_COUNT];
    int64_t parent_count;
    Ref refs[MAP_PART_EXTENT_COUNT];
} Worker;

// An extent of the chunk that is being worked on.
typedef enum ExtentState { EXTENT_PARENT, EXTENT_HOLE, EXTENT_READ } ExtentState;
typedef struct Chunk {
    int64_t first; // extent of the file
    size_t count;
    bool are_unwritten[CHUNK_EXTENT_COUNT];
    ExtentState states[CHUNK_EXTENT_COUNT];
    PackBlob blobs[CHUNK_EXTENT_COUNT]; // what is new
    size_t blob_count, packed_size;
} Chunk;

// --- the parent -------------------------------------------------------------------------------

static Status load_parent(Worker *worker, const PublishItem *item, Error *error)
{
    worker->parent_count = 0;
    memset(worker->parents, 0, sizeof(worker->parents));
    if (item->parent.size_bytes == 0) {
        return STATUS_OK;
    }
    worker->parent_count = item->parent.extent_count;
    if (item->parent_level == 0) {
        worker->parents[0] = item->parent.nodes[0];
        return STATUS_OK;
    }
    MapPart part = item->parent;
    for (size_t i = 0; i < part.node_count; i++) {
        if (item->nodes.are_left_out[i]) {
            part.nodes[i] = (Ref){0};
        }
    }
    return map_part_read(worker->opener, worker->run->map_fan_out, &part, worker->nodes_data,
                         worker->parents, error);
}

static int64_t parent_data_bytes(const Worker *worker, const PublishItem *item)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < worker->parent_count; i++) {
        if (worker->parents[i].kind != BLOB_ZERO) {
            bytes += (int64_t)extent_size_at(item->parent.size_bytes, item->first + i);
        }
    }
    return bytes;
}

// --- a chunk ----------------------------------------------------------------------------------

// Whether the parent's extent at this place is ours, as far as the record of writes knows.
static bool is_unwritten(const Worker *worker, const PublishItem *item, int64_t position)
{
    const SourceFile *file = item->file;
    size_t size = extent_size_at(file->size_bytes, position);
    return file->is_written != NULL && position - item->first < worker->parent_count &&
           extent_size_at(item->parent.size_bytes, position) == size &&
           !file->is_written(file->written_context, position * (int64_t)EXTENT_SIZE, (int64_t)size);
}

static Status plan_chunk(Worker *worker, const PublishItem *item, Chunk *chunk, Error *error)
{
    for (size_t i = 0; i < chunk->count; i++) {
        int64_t position = chunk->first + (int64_t)i;
        chunk->are_unwritten[i] = is_unwritten(worker, item, position);
        if (chunk->are_unwritten[i] && !worker->run->options->reads_everything) {
            chunk->states[i] = EXTENT_PARENT;
            continue;
        }
        bool is_hole = false;
        RETURN_IF_ERROR(worker->run->source->is_hole(
            worker->reader, item->file, position * (int64_t)EXTENT_SIZE,
            extent_size_at(item->file->size_bytes, position), &is_hole, error));
        chunk->states[i] = is_hole ? EXTENT_HOLE : EXTENT_READ;
    }
    return STATUS_OK;
}

// Reads what is to be read, neighbours with one call.
static Status read_chunk(Worker *worker, const PublishItem *item, const Chunk *chunk, Error *error)
{
    for (size_t i = 0; i < chunk->count;) {
        size_t end = i;
        size_t size = 0;
        while (end < chunk->count && chunk->states[end] == EXTENT_READ) {
            size += extent_size_at(item->file->size_bytes, chunk->first + (int64_t)end);
            end++;
        }
        if (size > 0) {
            RETURN_IF_ERROR(worker->run->source->read(
                worker->reader, item->file, (chunk->first + (int64_t)i) * (int64_t)EXTENT_SIZE,
                worker->plain + i * EXTENT_SIZE, size, error));
            atomic_fetch_add(&worker->run->read_bytes, (long long)size);
        }
        i = MAX(end, i + 1);
    }
    return STATUS_OK;
}

// Finds out what an extent is: zeros, the parent's, a dead attempt's, or new.
static void compare_extent(Worker *worker, const PublishItem *item, Chunk *chunk, size_t index)
{
    bool is_hole = chunk->states[index] == EXTENT_HOLE;
    int64_t position = chunk->first + (int64_t)index;
    size_t size = extent_size_at(item->file->size_bytes, position);
    const uint8_t *plain = worker->plain + index * EXTENT_SIZE;
    Ref *ref = &worker->refs[position - item->first];
    const Ref *parent = &worker->parents[position - item->first];
    *ref = (Ref){0};
    if (!is_hole && !memory_is_zero(plain, size)) {
        ref->kind = BLOB_EXTENT;
        ref->plain_size = (uint32_t)size;
        extent_hash(worker->hasher, plain, size, ref->hash);
    }
    bool is_parents = ref->kind == BLOB_ZERO
                          ? parent->kind == BLOB_ZERO
                          : ref_has_hash(parent, ref) && parent->plain_size == ref->plain_size;
    if (chunk->are_unwritten[index] && !is_parents) {
        atomic_fetch_add(&worker->run->unrecorded_bytes, (long long)size);
    }
    if (is_parents) {
        *ref = *parent;
        return;
    }
    if (ref->kind == BLOB_ZERO) {
        return;
    }
    if (resume_find(worker->run->resume, ref)) {
        atomic_fetch_add(&worker->run->resumed_bytes, (long long)size);
        return;
    }
    uint8_t *packed = worker->packed + chunk->packed_size;
    PackBlob *blob = &chunk->blobs[chunk->blob_count++];
    *blob = (PackBlob){.ref = ref, .content = packed};
    blob->size = compressor_pack(worker->compressor, plain, size, packed);
    ref->encoding = blob->size > 0 ? ENCODING_ZSTD : ENCODING_RAW;
    chunk->packed_size += blob->size;
    if (blob->size == 0) {
        blob->content = plain;
        blob->size = size;
    }
    atomic_fetch_add(&worker->run->new_bytes, (long long)size);
}

static Status check_extent(const Worker *worker, const PublishItem *item, const Chunk *chunk,
                           size_t index, Error *error)
{
    const SourceFile *file = item->file;
    int64_t position = chunk->first + (int64_t)index;
    int64_t bad_page = 0;
    if (file->check != NULL && !file->check(file->context, worker->plain + index * EXTENT_SIZE,
                                            extent_size_at(file->size_bytes, position),
                                            position * (int64_t)EXTENT_SIZE, &bad_page)) {
        error_set(error, REASON_PAGE_CORRUPT, "page %lld of file '%s' fails its checksum",
                  (long long)bad_page, file->path);
        return error_hint(error, "check the source's disk and table; this backup was not taken and "
                                 "the earlier ones are untouched");
    }
    return STATUS_OK;
}

static Status compare_chunk(Worker *worker, const PublishItem *item, Chunk *chunk, Error *error)
{
    for (size_t i = 0; i < chunk->count; i++) {
        Ref *ref = &worker->refs[chunk->first + (int64_t)i - item->first];
        if (chunk->states[i] == EXTENT_PARENT) {
            *ref = worker->parents[chunk->first + (int64_t)i - item->first];
            continue;
        }
        if (chunk->states[i] == EXTENT_READ) {
            RETURN_IF_ERROR(check_extent(worker, item, chunk, i, error));
        }
        compare_extent(worker, item, chunk, i);
    }
    return STATUS_OK;
}

static Status do_chunk(Worker *worker, const PublishItem *item, Chunk *chunk, Error *error)
{
    RETURN_IF_ERROR(plan_chunk(worker, item, chunk, error));
    RETURN_IF_ERROR(read_chunk(worker, item, chunk, error));
    limits_enter(worker->run->limits);
    Status status = compare_chunk(worker, item, chunk, error);
    limits_leave(worker->run->limits);
    RETURN_IF_ERROR(status);
    if (chunk->blob_count > 0) {
        RETURN_IF_ERROR(pack_writer_add(worker->run->packs, worker->sealer, chunk->blobs,
                                        chunk->blob_count, error));
    }
    return STATUS_OK;
}

// --- a part -----------------------------------------------------------------------------------

// The producer may have something to report.
static void count_done(Worker *worker, int64_t bytes)
{
    atomic_fetch_add(&worker->run->done_bytes, (long long)bytes);
    pthread_mutex_lock(&worker->workers->mutex);
    pthread_cond_signal(&worker->workers->progressed);
    pthread_mutex_unlock(&worker->workers->mutex);
}

// One chunk of the part, and what it adds up to.
static Status do_chunk_of(Worker *worker, PublishItem *item, int64_t first, Error *error)
{
    int64_t left = item->first + item->count - first;
    Chunk chunk = {.first = first, .count = (size_t)MIN(left, CHUNK_EXTENT_COUNT)};
    int64_t done_bytes = 0;
    RETURN_IF_ERROR(do_chunk(worker, item, &chunk, error));
    for (size_t i = 0; i < chunk.count; i++) {
        int64_t position = first + (int64_t)i;
        int64_t size = (int64_t)extent_size_at(item->file->size_bytes, position);
        done_bytes += size;
        item->data_bytes += worker->refs[position - item->first].kind == BLOB_ZERO ? 0 : size;
    }
    count_done(worker, done_bytes);
    return STATUS_OK;
}

static Status do_part(Worker *worker, PublishItem *item, Error *error)
{
    const int fan_out = worker->run->map_fan_out;
    RETURN_IF_ERROR(load_parent(worker, item, error));
    item->parent_data_bytes = parent_data_bytes(worker, item);
    for (int64_t done = 0; done < item->count; done += CHUNK_EXTENT_COUNT) {
        if (atomic_load(&worker->run->is_stopping)) {
            return error_set(error, REASON_CANCELED, "publishing was stopped");
        }
        if (!item->nodes.are_left_out[done / fan_out]) {
            RETURN_IF_ERROR(do_chunk_of(worker, item, item->first + done, error));
        }
    }
    if (item->level == 0) {
        item->nodes.refs[0] = worker->refs[0];
        return STATUS_OK;
    }
    static const Ref none[MAP_PART_NODE_COUNT_MAX] = {0};
    return node_store_put_part(worker->nodes, fan_out, worker->refs, (size_t)item->count,
                               item->parent_level == 1 ? item->parent.nodes : none,
                               worker->nodes_data, &item->nodes, error);
}

static void worker_init(Worker *worker, PublishWorkers *workers)
{
    PublishRun *run = workers->run;
    *worker = (Worker){.workers = workers, .run = run};
    worker->opener = blob_opener_new(run->scope);
    worker->nodes = node_store_new(run->scope, run->packs);
    worker->sealer = pack_sealer_new(run->scope);
    worker->compressor = compressor_new(run->options->compression_level);
    worker->hasher = extent_hasher_new(run->scope);
    worker->reader = run->source->reader_new(run->source->context, &run->is_stopping);
    worker->plain = mem_alloc_aligned(DIRECT_ALIGNMENT, 2 * CHUNK_SIZE); // a huge page
    worker->packed = worker->plain + CHUNK_SIZE;
    worker->nodes_data = mem_alloc(MAP_NODES_SIZE(MAP_PART_EXTENT_COUNT));
}

static void worker_done(Worker *worker)
{
    blob_opener_free(worker->opener);
    node_store_free(worker->nodes);
    pack_sealer_free(worker->sealer);
    compressor_free(worker->compressor);
    gcm_key_free(worker->hasher);
    worker->run->source->reader_free(worker->reader);
    mem_free(worker->plain);
    mem_free(worker->nodes_data);
}

// With the mutex held. Items that need no worker are finished from the start.
static PublishItem *claim(PublishWorkers *workers)
{
    while (workers->claim_count != workers->submit_count) {
        PublishItem *item = &workers->items[workers->claim_count++ % ITEM_COUNT];
        if (item->kind == ITEM_PART) {
            return item;
        }
    }
    return NULL;
}

static void *run_worker(void *argument)
{
    PublishWorkers *workers = argument;
    Worker *worker = mem_alloc(sizeof(*worker));
    worker_init(worker, workers);
    pthread_mutex_lock(&workers->mutex);
    while (!workers->is_ending && workers->failure.status == STATUS_OK) {
        PublishItem *item = claim(workers);
        if (item == NULL) {
            pthread_cond_wait(&workers->submitted, &workers->mutex);
            continue;
        }
        pthread_mutex_unlock(&workers->mutex);
        Error error = {0};
        Status status = do_part(worker, item, &error);
        if (status != STATUS_OK && error.reason != REASON_PAGE_CORRUPT) {
            error_wrap(&error, "file '%s'", item->file->path);
        }
        pthread_mutex_lock(&workers->mutex);
        if (status != STATUS_OK && workers->failure.status == STATUS_OK) {
            workers->failure = error;
            atomic_store(&workers->run->is_stopping, true);
            pthread_cond_broadcast(&workers->submitted);
        }
        item->is_done = true;
        pthread_cond_signal(&workers->progressed);
    }
    pthread_mutex_unlock(&workers->mutex);
    worker_done(worker);
    mem_free(worker);
    return NULL;
}

// --- the queue --------------------------------------------------------------------------------

Status publish_workers_new(PublishRun *run, int worker_count, PublishWorkers **ret_workers,
                           Error *error)
{
    assert(worker_count > 0 && worker_count <= WORKER_COUNT_MAX);
    PublishWorkers *workers = mem_alloc(sizeof(*workers));
    workers->run = run;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&workers->mutex, NULL);
    pthread_cond_init(&workers->submitted, NULL);
    pthread_cond_init(&workers->progressed, &attributes);
    pthread_condattr_destroy(&attributes);
    for (int i = 0; i < worker_count; i++) {
        if (pthread_create(&workers->threads[i], NULL, run_worker, workers) != 0) {
            publish_workers_free(workers);
            return error_set(error, REASON_EXHAUSTED, "no thread could be started");
        }
        workers->thread_count++;
    }
    *ret_workers = workers;
    return STATUS_OK;
}

void publish_workers_free(PublishWorkers *workers)
{
    if (workers == NULL) {
        return;
    }
    atomic_store(&workers->run->is_stopping, true);
    pthread_mutex_lock(&workers->mutex);
    workers->is_ending = true;
    pthread_cond_broadcast(&workers->submitted);
    pthread_mutex_unlock(&workers->mutex);
    for (int i = 0; i < workers->thread_count; i++) {
        pthread_join(workers->threads[i], NULL);
    }
    pthread_mutex_destroy(&workers->mutex);
    pthread_cond_destroy(&workers->submitted);
    pthread_cond_destroy(&workers->progressed);
    mem_free(workers);
}

PublishItem *publish_workers_slot(PublishWorkers *workers)
{
    pthread_mutex_lock(&workers->mutex);
    bool is_full = workers->submit_count - workers->release_count == ITEM_COUNT;
    PublishItem *item = is_full ? NULL : &workers->items[workers->submit_count % ITEM_COUNT];
    pthread_mutex_unlock(&workers->mutex);
    if (item != NULL) {
        *item = (PublishItem){0};
    }
    return item;
}

void publish_workers_submit(PublishWorkers *workers)
{
    pthread_mutex_lock(&workers->mutex);
    PublishItem *item = &workers->items[workers->submit_count++ % ITEM_COUNT];
    item->is_done = item->kind != ITEM_PART;
    if (!item->is_done) {
        pthread_cond_signal(&workers->submitted);
    }
    pthread_mutex_unlock(&workers->mutex);
}

Status publish_workers_take(PublishWorkers *workers, PublishItem **ret_item, bool *ret_is_empty,
                            Error *error)
{
    *ret_item = NULL;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&workers->mutex);
    *ret_is_empty = workers->release_count == workers->submit_count;
    PublishItem *oldest = &workers->items[workers->release_count % ITEM_COUNT];
    if (!*ret_is_empty && !oldest->is_done && workers->failure.status == STATUS_OK) {
        (void)pthread_cond_timedwait(&workers->progressed, &workers->mutex, &until);
    }
    if (!*ret_is_empty && oldest->is_done) {
        *ret_item = oldest;
    }
    Status status = workers->failure.status;
    if (status != STATUS_OK) {
        *error = workers->failure;
    }
    pthread_mutex_unlock(&workers->mutex);
    return status;
}

void publish_workers_release(PublishWorkers *workers)
{
    pthread_mutex_lock(&workers->mutex);
    assert(workers->release_count < workers->submit_count);
    workers->release_count++;
    // Items without work may be taken before a worker has passed them; their places are used again.
    workers->claim_count = MAX(workers->claim_count, workers->release_count);
    pthread_mutex_unlock(&workers->mutex);
}
