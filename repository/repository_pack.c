// SPDX-License-Identifier: Apache-2.0
// Packs: a header, sealed blobs back to back, a sealed index and a trailer. Each pack has a key of
// its own and each blob's nonce is its index, so a nonce cannot repeat under a key.
#include "repository/repository_pack.h"

#include "common/memory.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define COMMIT_QUEUE_COUNT 2

static const char PACK_MAGIC[] = "HFPACK01";
static const char PACK_END_MAGIC[] = "HFPACKE1";

struct PackWriter {
    const ShardScope *scope;
    uint32_t epoch;
    // The pack that is being written; NULL: none.
    StorageWriter *current;
    PackName name;
    uint8_t key[AES256_KEY_SIZE];
    uint32_t offset;
    uint32_t count;
    Buffer index;
    uint8_t *sealed;
    int64_t stored_bytes;
    // The committing thread.
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    StorageWriter *queue[COMMIT_QUEUE_COUNT];
    size_t queue_count;
    bool is_committing;
    bool is_stopping;
    Error failure; // the first one
};

static void *commit_packs(void *argument)
{
    PackWriter *writer = argument;
    pthread_mutex_lock(&writer->mutex);
    for (;;) {
        while (writer->queue_count == 0 && !writer->is_stopping) {
            pthread_cond_wait(&writer->changed, &writer->mutex);
        }
        if (writer->queue_count == 0) {
            break;
        }
        StorageWriter *next = writer->queue[0];
        writer->queue_count--;
        memmove(writer->queue, writer->queue + 1, writer->queue_count * sizeof(next));
        bool is_wanted = writer->failure.status == STATUS_OK;
        writer->is_committing = true;
        pthread_cond_broadcast(&writer->changed);
        pthread_mutex_unlock(&writer->mutex);
        Error error = {0};
        Status status = STATUS_OK;
        if (is_wanted) {
            status = storage_writer_commit(next, &error);
        } else {
            storage_writer_abort(next);
        }
        pthread_mutex_lock(&writer->mutex);
        writer->is_committing = false;
        if (status != STATUS_OK) {
            writer->failure = error;
        }
        pthread_cond_broadcast(&writer->changed);
    }
    pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

PackWriter *pack_writer_new(const ShardScope *scope, uint32_t epoch)
{
    PackWriter *writer = mem_alloc(sizeof(*writer));
    writer->scope = scope;
    writer->epoch = epoch;
    writer->sealed = mem_alloc(BLOB_SIZE_MAX + GCM_TAG_SIZE);
    buffer_init(&writer->index, (size_t)PACK_BLOB_COUNT_MAX * PACK_INDEX_ENTRY_SIZE);
    pthread_mutex_init(&writer->mutex, NULL);
    pthread_cond_init(&writer->changed, NULL);
    return writer;
}

static void stop_thread(PackWriter *writer)
{
    if (!writer->has_thread) {
        return;
    }
    pthread_mutex_lock(&writer->mutex);
    writer->is_stopping = true;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    pthread_join(writer->thread, NULL);
    writer->has_thread = false;
}

void pack_writer_free(PackWriter *writer)
{
    if (writer == NULL) {
        return;
    }
    pthread_mutex_lock(&writer->mutex);
    if (writer->failure.status == STATUS_OK) {
        // What waits is not wanted any more.
        writer->failure.status = STATUS_CANCELED;
    }
    pthread_mutex_unlock(&writer->mutex);
    stop_thread(writer);
    storage_writer_abort(writer->current);
    explicit_bzero(writer->key, sizeof(writer->key));
    buffer_done(&writer->index);
    mem_free(writer->sealed);
    pthread_mutex_destroy(&writer->mutex);
    pthread_cond_destroy(&writer->changed);
    mem_free(writer);
}

void pack_writer_freep(PackWriter **writer)
{
    pack_writer_free(*writer);
    *writer = NULL;
}

// Hands a finished pack to the committing thread, waiting while its queue is full.
static Status enqueue_commit(PackWriter *writer, Error *error)
{
    if (!writer->has_thread) {
        if (pthread_create(&writer->thread, NULL, commit_packs, writer) != 0) {
            return error_set(error, REASON_EXHAUSTED, "no thread could be started");
        }
        writer->has_thread = true;
    }
    pthread_mutex_lock(&writer->mutex);
    while (writer->queue_count == COMMIT_QUEUE_COUNT && writer->failure.status == STATUS_OK) {
        pthread_cond_wait(&writer->changed, &writer->mutex);
    }
    Status status = writer->failure.status;
    if (status == STATUS_OK) {
        writer->queue[writer->queue_count++] = TAKE_PTR(writer->current);
        pthread_cond_broadcast(&writer->changed);
    } else {
        *error = writer->failure;
    }
    pthread_mutex_unlock(&writer->mutex);
    return status;
}

void pack_header_encode(const ShardScope *scope, const PackName *name,
                        uint8_t ret_data[PACK_HEADER_SIZE])
{
    memcpy(ret_data, PACK_MAGIC, 8);
    put_u32(ret_data + 8, REPOSITORY_FORMAT_VERSION);
    put_u32(ret_data + 12, name->epoch);
    memcpy(ret_data + 16, name->id, ID_SIZE);
    id_decode(scope->repository_id, ret_data + 32);
    id_decode(scope->database_id, ret_data + 48);
    id_decode(scope->shard_id, ret_data + 64);
    id_decode(scope->key_id, ret_data + 80);
}

static Status begin_pack(PackWriter *writer, Error *error)
{
    char key[OBJECT_KEY_SIZE];
    uint8_t header[PACK_HEADER_SIZE];
    writer->name.epoch = writer->epoch;
    id_random(writer->name.id);
    pack_object_key(writer->scope->shard_id, &writer->name, key);
    const StorageWriteOptions options = {.is_create_only = true};
    RETURN_IF_ERROR(
        storage_writer_open(writer->scope->storage, key, &options, &writer->current, error));
    pack_key_derive(writer->scope, &writer->name, writer->key);
    pack_header_encode(writer->scope, &writer->name, header);
    RETURN_IF_ERROR(storage_writer_write(writer->current, header, sizeof(header), error));
    writer->offset = PACK_HEADER_SIZE;
    writer->count = 0;
    buffer_clear(&writer->index);
    return STATUS_OK;
}

// The index has no ref of its own; this is what its seal is bound to.
static Ref index_ref(const PackName *name, size_t count)
{
    return (Ref){.pack = *name,
                 .kind = BLOB_INDEX,
                 .encoding = ENCODING_RAW,
                 .index = PACK_INDEX_NONCE,
                 .plain_size = (uint32_t)(count * PACK_INDEX_ENTRY_SIZE)};
}

static Status end_pack(PackWriter *writer, Error *error)
{
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t associated[ASSOCIATED_SIZE_MAX];
    uint8_t trailer[PACK_TRAILER_SIZE];
    Ref ref = index_ref(&writer->name, writer->count);
    assert(writer->index.size == ref.plain_size);
    size_t sealed_size = writer->index.size + GCM_TAG_SIZE;
    CLEANUP_FREE uint8_t *sealed = mem_alloc(sealed_size);
    blob_nonce(PACK_INDEX_NONCE, nonce);
    size_t associated_size = blob_associated(writer->scope, &ref, associated);
    crypto_seal(writer->key, nonce, associated, associated_size, writer->index.data,
                writer->index.size, sealed);
    put_u32(trailer, (uint32_t)sealed_size);
    put_u32(trailer + 4, writer->count);
    memcpy(trailer + 8, PACK_END_MAGIC, 8);
    RETURN_IF_ERROR(storage_writer_write(writer->current, sealed, sealed_size, error));
    RETURN_IF_ERROR(storage_writer_write(writer->current, trailer, sizeof(trailer), error));
    writer->stored_bytes += (int64_t)(writer->offset + sealed_size + sizeof(trailer));
    return enqueue_commit(writer, error);
}

static bool has_room(const PackWriter *writer, size_t sealed_size)
{
    size_t after = (size_t)writer->offset + sealed_size +
                   ((size_t)writer->count + 1) * PACK_INDEX_ENTRY_SIZE + GCM_TAG_SIZE +
                   PACK_TRAILER_SIZE;
    return after <= PACK_SIZE_MAX && writer->count < PACK_BLOB_COUNT_MAX;
}

Status pack_writer_add(PackWriter *writer, Ref *ref, const uint8_t *content, size_t size,
                       Error *error)
{
    assert(size > 0 && size <= BLOB_SIZE_MAX);
    assert(ref->encoding == ENCODING_ZSTD || size == ref->plain_size);
    size_t sealed_size = size + GCM_TAG_SIZE;
    if (writer->current != NULL && !has_room(writer, sealed_size)) {
        RETURN_IF_ERROR(end_pack(writer, error));
    }
    if (writer->current == NULL) {
        RETURN_IF_ERROR(begin_pack(writer, error));
    }
    ref->pack = writer->name;
    ref->index = writer->count;
    ref->offset = writer->offset;
    ref->stored_size = (uint32_t)sealed_size;
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t associated[ASSOCIATED_SIZE_MAX];
    blob_nonce(ref->index, nonce);
    size_t associated_size = blob_associated(writer->scope, ref, associated);
    crypto_seal(writer->key, nonce, associated, associated_size, content, size, writer->sealed);
    RETURN_IF_ERROR(storage_writer_write(writer->current, writer->sealed, sealed_size, error));
    uint8_t entry[PACK_INDEX_ENTRY_SIZE] = {(uint8_t)ref->kind, (uint8_t)ref->encoding};
    put_u32(entry + 4, ref->plain_size);
    put_u32(entry + 8, ref->stored_size);
    memcpy(entry + 12, ref->hash, HASH_SIZE);
    bool is_added = buffer_append(&writer->index, entry, sizeof(entry));
    assert(is_added);
    writer->offset += (uint32_t)sealed_size;
    writer->count++;
    return STATUS_OK;
}

Status pack_writer_finish(PackWriter *writer, int64_t *ret_stored_bytes, Error *error)
{
    if (writer->current != NULL) {
        RETURN_IF_ERROR(end_pack(writer, error));
    }
    stop_thread(writer);
    if (writer->failure.status != STATUS_OK) {
        *error = writer->failure;
        return error->status;
    }
    *ret_stored_bytes = writer->stored_bytes;
    return STATUS_OK;
}

static Status pack_is_damaged(const ShardScope *scope, const PackName *name, const char *what,
                              Error *error)
{
    char key[OBJECT_KEY_SIZE];
    pack_object_key(scope->shard_id, name, key);
    error_set(error, REASON_OBJECT_CORRUPT, "object '%s' %s", key, what);
    return error_hint(error, "bring the object back from a copy of the repository");
}

// Turns the opened index into refs; false when it cannot be this pack's.
static bool decode_index(const PackName *name, const uint8_t *index, size_t count, size_t blobs_end,
                         Ref *ret_refs)
{
    size_t offset = PACK_HEADER_SIZE;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *entry = index + i * PACK_INDEX_ENTRY_SIZE;
        uint8_t data[REF_SIZE];
        Ref ref = {.pack = *name, .index = (uint32_t)i, .offset = (uint32_t)offset};
        ref.kind = (BlobKind)entry[0];
        ref.encoding = (Encoding)entry[1];
        ref.plain_size = get_u32(entry + 4);
        ref.stored_size = get_u32(entry + 8);
        memcpy(ref.hash, entry + 12, HASH_SIZE);
        ref_encode(&ref, data);
        if (!ref_decode(data, &ret_refs[i])) {
            return false;
        }
        offset += ref.stored_size;
        if (offset > blobs_end) {
            return false;
        }
    }
    return offset == blobs_end;
}

Status pack_index_open(const ShardScope *scope, const PackName *name, const uint8_t *data,
                       size_t size, Ref *ret_refs, size_t *ret_count, Error *error)
{
    uint8_t header[PACK_HEADER_SIZE];
    pack_header_encode(scope, name, header);
    if (size < PACK_HEADER_SIZE + PACK_TRAILER_SIZE || size > PACK_SIZE_MAX ||
        memcmp(data + size - 8, PACK_END_MAGIC, 8) != 0) {
        return pack_is_damaged(scope, name, "is cut off or not a pack", error);
    }
    if (memcmp(data, header, PACK_HEADER_SIZE) != 0) {
        return pack_is_damaged(scope, name, "belongs to another place", error);
    }
    const uint8_t *trailer = data + size - PACK_TRAILER_SIZE;
    size_t sealed_size = get_u32(trailer);
    size_t count = get_u32(trailer + 4);
    if (count == 0 || count > PACK_BLOB_COUNT_MAX ||
        sealed_size != count * PACK_INDEX_ENTRY_SIZE + GCM_TAG_SIZE ||
        sealed_size + PACK_HEADER_SIZE + PACK_TRAILER_SIZE > size) {
        return pack_is_damaged(scope, name, "has no valid trailer", error);
    }
    uint8_t key[AES256_KEY_SIZE];
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t associated[ASSOCIATED_SIZE_MAX];
    Ref ref = index_ref(name, count);
    size_t blobs_end = size - PACK_TRAILER_SIZE - sealed_size;
    CLEANUP_FREE uint8_t *index = mem_alloc(sealed_size);
    pack_key_derive(scope, name, key);
    blob_nonce(PACK_INDEX_NONCE, nonce);
    size_t associated_size = blob_associated(scope, &ref, associated);
    bool is_open =
        crypto_open(key, nonce, associated, associated_size, data + blobs_end, sealed_size, index);
    explicit_bzero(key, sizeof(key));
    if (!is_open) {
        return pack_is_damaged(scope, name, "has an index that is not what was written", error);
    }
    if (!decode_index(name, index, count, blobs_end, ret_refs)) {
        return pack_is_damaged(scope, name, "has an index that does not fit its blobs", error);
    }
    *ret_count = count;
    return STATUS_OK;
}
