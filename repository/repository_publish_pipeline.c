// SPDX-License-Identifier: Apache-2.0
// The workers of publishing: zero test, hash, comparison with the parent, compression. A ring of
// slots bounds memory.
#include "repository/repository_publish_pipeline.h"

#include "common/memory.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <zstd.h>

#define WORKER_COUNT_MAX 8

struct Pipeline {
    const ShardScope *scope;
    int compression_level;
    size_t packed_capacity;
    uint8_t *memory; // of all slots
    ExtentTask slots[PIPELINE_SLOT_COUNT];
    pthread_t workers[WORKER_COUNT_MAX];
    int worker_count;
    pthread_mutex_t mutex; // guards what follows and is_done
    pthread_cond_t submitted, finished;
    uint64_t submit_count, claim_count, release_count;
    bool is_stopping;
};

static void process(const Pipeline *pipeline, ZSTD_CCtx *context, GcmKey *hasher, ExtentTask *task)
{
    task->is_new = false;
    task->ref = (Ref){0};
    if (task->end_of == NULL && !task->is_read) {
        task->ref = task->parent;
        return;
    }
    if (task->end_of != NULL || memory_is_zero(task->plain, task->size)) {
        return;
    }
    Ref ref = {.kind = BLOB_EXTENT, .plain_size = (uint32_t)task->size};
    extent_hash(hasher, task->plain, task->size, ref.hash);
    if (ref_has_hash(&task->parent, &ref) && task->parent.plain_size == ref.plain_size) {
        task->ref = task->parent;
        return;
    }
    size_t packed_size = ZSTD_compressCCtx(context, task->packed, pipeline->packed_capacity,
                                           task->plain, task->size, pipeline->compression_level);
    bool is_smaller = !ZSTD_isError(packed_size) && packed_size < task->size;
    ref.encoding = is_smaller ? ENCODING_ZSTD : ENCODING_RAW;
    task->content = is_smaller ? task->packed : task->plain;
    task->content_size = is_smaller ? packed_size : task->size;
    task->ref = ref;
    task->is_new = true;
}

static void *run_worker(void *argument)
{
    Pipeline *pipeline = argument;
    ZSTD_CCtx *context = ZSTD_createCCtx();
    assert(context != NULL);
    GcmKey *hasher = extent_hasher_new(pipeline->scope);
    pthread_mutex_lock(&pipeline->mutex);
    for (;;) {
        while (pipeline->claim_count == pipeline->submit_count && !pipeline->is_stopping) {
            pthread_cond_wait(&pipeline->submitted, &pipeline->mutex);
        }
        if (pipeline->is_stopping) {
            break;
        }
        ExtentTask *task = &pipeline->slots[pipeline->claim_count++ % PIPELINE_SLOT_COUNT];
        pthread_mutex_unlock(&pipeline->mutex);
        process(pipeline, context, hasher, task);
        pthread_mutex_lock(&pipeline->mutex);
        task->is_done = true;
        pthread_cond_signal(&pipeline->finished);
    }
    pthread_mutex_unlock(&pipeline->mutex);
    gcm_key_free(hasher);
    ZSTD_freeCCtx(context);
    return NULL;
}

Status pipeline_new(const ShardScope *scope, int compression_level, int worker_count,
                    Pipeline **ret_pipeline, Error *error)
{
    assert(worker_count > 0 && worker_count <= WORKER_COUNT_MAX);
    Pipeline *pipeline = mem_alloc(sizeof(*pipeline));
    pipeline->scope = scope;
    pipeline->compression_level = compression_level;
    pipeline->packed_capacity = ZSTD_compressBound(EXTENT_SIZE);
    // A multiple of 64, because an entry is put where an extent would be.
    size_t slot_size = (EXTENT_SIZE + pipeline->packed_capacity + 63) / 64 * 64;
    pipeline->memory = mem_alloc_array(PIPELINE_SLOT_COUNT, slot_size);
    for (size_t i = 0; i < PIPELINE_SLOT_COUNT; i++) {
        pipeline->slots[i].plain = pipeline->memory + i * slot_size;
        pipeline->slots[i].packed = pipeline->slots[i].plain + EXTENT_SIZE;
    }
    pthread_mutex_init(&pipeline->mutex, NULL);
    pthread_cond_init(&pipeline->submitted, NULL);
    pthread_cond_init(&pipeline->finished, NULL);
    for (int i = 0; i < worker_count; i++) {
        if (pthread_create(&pipeline->workers[i], NULL, run_worker, pipeline) != 0) {
            pipeline_free(pipeline);
            return error_set(error, REASON_EXHAUSTED, "no thread could be started");
        }
        pipeline->worker_count++;
    }
    *ret_pipeline = pipeline;
    return STATUS_OK;
}

void pipeline_free(Pipeline *pipeline)
{
    if (pipeline == NULL) {
        return;
    }
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->is_stopping = true;
    pthread_cond_broadcast(&pipeline->submitted);
    pthread_mutex_unlock(&pipeline->mutex);
    for (int i = 0; i < pipeline->worker_count; i++) {
        pthread_join(pipeline->workers[i], NULL);
    }
    pthread_mutex_destroy(&pipeline->mutex);
    pthread_cond_destroy(&pipeline->submitted);
    pthread_cond_destroy(&pipeline->finished);
    mem_free(pipeline->memory);
    mem_free(pipeline);
}

void pipeline_freep(Pipeline **pipeline)
{
    pipeline_free(*pipeline);
    *pipeline = NULL;
}

ExtentTask *pipeline_slot(Pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    bool is_full = pipeline->submit_count - pipeline->release_count == PIPELINE_SLOT_COUNT;
    ExtentTask *task =
        is_full ? NULL : &pipeline->slots[pipeline->submit_count % PIPELINE_SLOT_COUNT];
    pthread_mutex_unlock(&pipeline->mutex);
    return task;
}

void pipeline_submit(Pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->slots[pipeline->submit_count % PIPELINE_SLOT_COUNT].is_done = false;
    pipeline->submit_count++;
    pthread_cond_signal(&pipeline->submitted);
    pthread_mutex_unlock(&pipeline->mutex);
}

ExtentTask *pipeline_take(Pipeline *pipeline, bool may_wait)
{
    ExtentTask *task = NULL;
    pthread_mutex_lock(&pipeline->mutex);
    if (pipeline->release_count != pipeline->submit_count) {
        task = &pipeline->slots[pipeline->release_count % PIPELINE_SLOT_COUNT];
        while (may_wait && !task->is_done) {
            pthread_cond_wait(&pipeline->finished, &pipeline->mutex);
        }
        if (!task->is_done) {
            task = NULL;
        }
    }
    pthread_mutex_unlock(&pipeline->mutex);
    return task;
}

void pipeline_release(Pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    assert(pipeline->release_count < pipeline->submit_count);
    pipeline->release_count++;
    pthread_mutex_unlock(&pipeline->mutex);
}
