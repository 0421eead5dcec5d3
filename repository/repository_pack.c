// SPDX-License-Identifier: Apache-2.0
// Packs: a header, sealed blobs back to back, a sealed index and a trailer. Each pack has a key of
// its own and each blob's nonce is its index, so a nonce cannot repeat under a key.
// A blob's index and place are given out under the mutex; it is sealed into its place outside of
// it, so threads fill one pack together.
// Nodes get packs of their own as soon as there is more than a pack of other blobs: whoever reads
// the maps of a large shard then finds many nodes side by side, and fetches them with one request.
// What fits in one pack stays in one.
#include "repository/repository_pack.h"

#include "common/file.h"
#include "common/memory.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#define UPLOADER_COUNT_MAX 32

typedef enum PackStream { STREAM_ALL, STREAM_NODES, STREAM_COUNT } PackStream;

static const char PACK_MAGIC[] = "HFPACK01";
static const char PACK_END_MAGIC[] = "HFPACKE1";

typedef struct Pack {
    PackName name;
    uint8_t key[AES256_KEY_SIZE];
    uint8_t *data;  // PACK_SIZE_MAX
    uint8_t *index; // plain; room for PACK_BLOB_COUNT_MAX entries
    size_t offset;
    uint32_t count;
    int sealing_count; // threads that seal into it
    bool is_full;
    struct Pack *next;
} Pack;

struct PackWriter {
    const ShardScope *scope;
    PackWriterOptions options;
    Pack *packs; // all of them
    pthread_t uploaders[UPLOADER_COUNT_MAX];
    int uploader_count;
    atomic_bool is_stopping;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    Pack *free;
    Pack *current[STREAM_COUNT]; // that are filled; NULL: none
    bool has_filled_one;
    Pack *ready; // full, to be stored
    int used_count;
    bool is_finished;
    int64_t stored_bytes;
    Error failure; // the first one
};

struct PackSealer {
    const ShardScope *scope;
    GcmKey *key;
    bool has_key;
    PackName pack; // whose key it is
};

PackSealer *pack_sealer_new(const ShardScope *scope)
{
    PackSealer *sealer = mem_alloc(sizeof(*sealer));
    sealer->scope = scope;
    sealer->key = gcm_key_new();
    return sealer;
}

void pack_sealer_free(PackSealer *sealer)
{
    if (sealer != NULL) {
        gcm_key_free(sealer->key);
        mem_free(sealer);
    }
}

// --- storing ----------------------------------------------------------------------------------

// The index has no ref of its own; this is what its seal is bound to.
static Ref index_ref(const PackName *name, size_t count)
{
    return (Ref){.pack = *name,
                 .kind = BLOB_INDEX,
                 .encoding = ENCODING_RAW,
                 .index = PACK_INDEX_NONCE,
                 .plain_size = (uint32_t)(count * PACK_INDEX_ENTRY_SIZE)};
}

// Seals the index and writes the trailer after the blobs.
static void end_pack(const ShardScope *scope, Pack *pack)
{
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t associated[ASSOCIATED_SIZE_MAX];
    Ref ref = index_ref(&pack->name, pack->count);
    size_t sealed_size = ref.plain_size + GCM_TAG_SIZE;
    blob_nonce(PACK_INDEX_NONCE, nonce);
    size_t associated_size = blob_associated(scope, &ref, associated);
    crypto_seal(pack->key, nonce, associated, associated_size, pack->index, ref.plain_size,
                pack->data + pack->offset);
    pack->offset += sealed_size;
    put_u32(pack->data + pack->offset, (uint32_t)sealed_size);
    put_u32(pack->data + pack->offset + 4, pack->count);
    memcpy(pack->data + pack->offset + 8, PACK_END_MAGIC, 8);
    pack->offset += PACK_TRAILER_SIZE;
    assert(pack->offset <= PACK_SIZE_MAX);
}

static Status store_pack(PackWriter *writer, Pack *pack, Error *error)
{
    char key[OBJECT_KEY_SIZE];
    const StorageWriteOptions options = {.is_create_only = true};
    end_pack(writer->scope, pack);
    pack_object_key(writer->scope->shard_id, &pack->name, key);
    limits_wait_upload(writer->options.limits, pack->offset, &writer->is_stopping);
    if (atomic_load(&writer->is_stopping)) {
        return error_set(error, REASON_CANCELED, "storing was stopped");
    }
    return storage_put(writer->scope->storage, key, pack->data, pack->offset, &options, error);
}

// With the mutex held.
static void set_failure(PackWriter *writer, const Error *error)
{
    if (writer->failure.status == STATUS_OK) {
        writer->failure = *error;
    }
    atomic_store(&writer->is_stopping, true);
    pthread_cond_broadcast(&writer->changed);
}

static void *run_uploader(void *argument)
{
    PackWriter *writer = argument;
    pthread_mutex_lock(&writer->mutex);
    for (;;) {
        while (writer->ready == NULL && !writer->is_finished &&
               !atomic_load(&writer->is_stopping)) {
            pthread_cond_wait(&writer->changed, &writer->mutex);
        }
        if (writer->ready == NULL || atomic_load(&writer->is_stopping)) {
            break;
        }
        Pack *pack = writer->ready;
        writer->ready = pack->next;
        pthread_mutex_unlock(&writer->mutex);
        Error error = {0};
        Status status = store_pack(writer, pack, &error);
        pthread_mutex_lock(&writer->mutex);
        if (status != STATUS_OK) {
            set_failure(writer, &error);
        } else {
            writer->stored_bytes += (int64_t)pack->offset;
        }
        pack->next = writer->free;
        writer->free = pack;
        writer->used_count--;
        pthread_cond_broadcast(&writer->changed);
    }
    pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

Status pack_writer_new(const ShardScope *scope, const PackWriterOptions *options,
                       PackWriter **ret_writer, Error *error)
{
    assert(options->pack_count >= 2);
    assert(options->uploader_count > 0 && options->uploader_count <= UPLOADER_COUNT_MAX);
    PackWriter *writer = mem_alloc(sizeof(*writer));
    writer->scope = scope;
    writer->options = *options;
    pthread_mutex_init(&writer->mutex, NULL);
    pthread_cond_init(&writer->changed, NULL);
    writer->packs = mem_alloc_array((size_t)options->pack_count, sizeof(*writer->packs));
    for (int i = 0; i < options->pack_count; i++) {
        writer->packs[i].next = writer->free;
        writer->free = &writer->packs[i];
    }
    for (int i = 0; i < options->uploader_count; i++) {
        if (pthread_create(&writer->uploaders[i], NULL, run_uploader, writer) != 0) {
            pack_writer_free(writer);
            return error_set(error, REASON_EXHAUSTED, "no thread could be started");
        }
        writer->uploader_count++;
    }
    *ret_writer = writer;
    return STATUS_OK;
}

static void join_uploaders(PackWriter *writer)
{
    for (int i = 0; i < writer->uploader_count; i++) {
        pthread_join(writer->uploaders[i], NULL);
    }
    writer->uploader_count = 0;
}

void pack_writer_stop(PackWriter *writer)
{
    Error error = {0};
    error_set(&error, REASON_CANCELED, "storing was stopped");
    pthread_mutex_lock(&writer->mutex);
    set_failure(writer, &error);
    pthread_mutex_unlock(&writer->mutex);
}

void pack_writer_free(PackWriter *writer)
{
    if (writer == NULL) {
        return;
    }
    pack_writer_stop(writer);
    join_uploaders(writer);
    for (int i = 0; i < writer->options.pack_count; i++) {
        explicit_bzero(writer->packs[i].key, AES256_KEY_SIZE);
        mem_free(writer->packs[i].data);
        mem_free(writer->packs[i].index);
    }
    mem_free(writer->packs);
    pthread_mutex_destroy(&writer->mutex);
    pthread_cond_destroy(&writer->changed);
    mem_free(writer);
}

void pack_writer_freep(PackWriter **writer)
{
    pack_writer_free(*writer);
    *writer = NULL;
}

// --- filling ----------------------------------------------------------------------------------

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

static void begin_pack(PackWriter *writer, PackStream stream)
{
    Pack *pack = writer->free;
    writer->free = pack->next;
    writer->current[stream] = pack;
    writer->used_count++;
    if (pack->data == NULL) {
        pack->data = mem_alloc_aligned(DIRECT_ALIGNMENT, PACK_SIZE_MAX);
        pack->index = mem_alloc((size_t)PACK_BLOB_COUNT_MAX * PACK_INDEX_ENTRY_SIZE);
    }
    pack->name.epoch = writer->options.epoch;
    id_random(pack->name.id);
    pack_key_derive(writer->scope, &pack->name, pack->key);
    pack_header_encode(writer->scope, &pack->name, pack->data);
    pack->offset = PACK_HEADER_SIZE;
    pack->count = 0;
    pack->is_full = false;
    pack->next = NULL;
}

static bool has_room(const Pack *pack, size_t sealed_size)
{
    size_t after = pack->offset + sealed_size + ((size_t)pack->count + 1) * PACK_INDEX_ENTRY_SIZE +
                   GCM_TAG_SIZE + PACK_TRAILER_SIZE;
    return after <= PACK_SIZE_MAX && pack->count < PACK_BLOB_COUNT_MAX;
}

// Gives the blob its place in the pack.
static void place_blob(Pack *pack, const PackBlob *blob)
{
    Ref *ref = blob->ref;
    assert(blob->size > 0 && blob->size <= BLOB_SIZE_MAX);
    assert(ref->encoding == ENCODING_ZSTD || blob->size == ref->plain_size);
    ref->pack = pack->name;
    ref->index = pack->count;
    ref->offset = (uint32_t)pack->offset;
    ref->stored_size = (uint32_t)(blob->size + GCM_TAG_SIZE);
    uint8_t *entry = pack->index + (size_t)pack->count * PACK_INDEX_ENTRY_SIZE;
    memset(entry, 0, PACK_INDEX_ENTRY_SIZE);
    entry[0] = (uint8_t)ref->kind;
    entry[1] = (uint8_t)ref->encoding;
    put_u32(entry + 4, ref->plain_size);
    put_u32(entry + 8, ref->stored_size);
    memcpy(entry + 12, ref->hash, HASH_SIZE);
    pack->offset += ref->stored_size;
    pack->count++;
}

static void seal_blobs(PackSealer *sealer, const Pack *pack, const PackBlob *blobs, size_t count)
{
    if (!sealer->has_key || !pack_name_equal(&sealer->pack, &pack->name)) {
        gcm_key_set(sealer->key, pack->key);
        sealer->pack = pack->name;
        sealer->has_key = true;
    }
    for (size_t i = 0; i < count; i++) {
        const Ref *ref = blobs[i].ref;
        uint8_t nonce[GCM_NONCE_SIZE];
        uint8_t associated[ASSOCIATED_SIZE_MAX];
        blob_nonce(ref->index, nonce);
        size_t associated_size = blob_associated(sealer->scope, ref, associated);
        gcm_seal(sealer->key, nonce, associated, associated_size, blobs[i].content, blobs[i].size,
                 pack->data + ref->offset);
    }
}

// With the mutex held: a pack that is full and that nobody seals into any more is to be stored.
static void release_pack(PackWriter *writer, Pack *pack)
{
    if (pack->is_full && pack->sealing_count == 0) {
        Pack **last = &writer->ready;
        while (*last != NULL) {
            last = &(*last)->next;
        }
        *last = pack;
        pthread_cond_broadcast(&writer->changed);
    }
}

static void close_current(PackWriter *writer, PackStream stream)
{
    Pack *pack = writer->current[stream];
    writer->current[stream] = NULL;
    writer->has_filled_one = true;
    pack->is_full = true;
    release_pack(writer, pack);
}

// With the mutex held: takes places for as many blobs as fit in one pack.
static Status reserve(PackWriter *writer, const PackBlob *blobs, size_t count, Pack **ret_pack,
                      size_t *ret_count, Error *error)
{
    PackStream stream =
        writer->has_filled_one && blobs[0].ref->kind == BLOB_NODE ? STREAM_NODES : STREAM_ALL;
    Pack **current = &writer->current[stream];
    if (*current != NULL && !has_room(*current, blobs[0].size + GCM_TAG_SIZE)) {
        close_current(writer, stream);
    }
    while (*current == NULL && writer->failure.status == STATUS_OK) {
        if (writer->free != NULL) {
            begin_pack(writer, stream);
        } else {
            pthread_cond_wait(&writer->changed, &writer->mutex);
        }
    }
    if (writer->failure.status != STATUS_OK) {
        *error = writer->failure;
        return error->status;
    }
    Pack *pack = *current;
    size_t placed = 0;
    while (placed < count && has_room(pack, blobs[placed].size + GCM_TAG_SIZE)) {
        place_blob(pack, &blobs[placed++]);
    }
    *ret_pack = pack;
    *ret_count = placed;
    return STATUS_OK;
}

Status pack_writer_add(PackWriter *writer, PackSealer *sealer, const PackBlob *blobs, size_t count,
                       Error *error)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&writer->mutex);
    for (size_t done = 0; done < count && status == STATUS_OK;) {
        Pack *pack = NULL;
        size_t placed = 0;
        status = reserve(writer, blobs + done, count - done, &pack, &placed, error);
        // Another thread may have filled the pack that was waited for.
        if (status != STATUS_OK || placed == 0) {
            continue;
        }
        pack->sealing_count++;
        pthread_mutex_unlock(&writer->mutex);
        seal_blobs(sealer, pack, blobs + done, placed);
        pthread_mutex_lock(&writer->mutex);
        pack->sealing_count--;
        release_pack(writer, pack);
        done += placed;
    }
    pthread_mutex_unlock(&writer->mutex);
    return status;
}

Status pack_writer_finish(PackWriter *writer, int64_t *ret_stored_bytes, Error *error)
{
    pthread_mutex_lock(&writer->mutex);
    for (PackStream stream = 0; stream < STREAM_COUNT; stream++) {
        if (writer->current[stream] != NULL) {
            close_current(writer, stream);
        }
    }
    writer->is_finished = true;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    join_uploaders(writer);
    if (writer->failure.status != STATUS_OK) {
        *error = writer->failure;
        return error->status;
    }
    assert(writer->used_count == 0);
    *ret_stored_bytes = writer->stored_bytes;
    return STATUS_OK;
}

// --- reading the index ------------------------------------------------------------------------

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

size_t pack_tail_size(const uint8_t trailer[PACK_TRAILER_SIZE])
{
    size_t sealed_size = get_u32(trailer);
    size_t count = get_u32(trailer + 4);
    bool is_trailer = memcmp(trailer + 8, PACK_END_MAGIC, 8) == 0 && count > 0 &&
                      count <= PACK_BLOB_COUNT_MAX &&
                      sealed_size == count * PACK_INDEX_ENTRY_SIZE + GCM_TAG_SIZE;
    return is_trailer ? sealed_size + PACK_TRAILER_SIZE : 0;
}

Status pack_tail_open(const ShardScope *scope, const PackName *name, size_t object_size,
                      const uint8_t *tail, size_t tail_size, Ref *ret_refs, size_t *ret_count,
                      Error *error)
{
    if (object_size < PACK_HEADER_SIZE + PACK_TRAILER_SIZE || object_size > PACK_SIZE_MAX ||
        tail_size < PACK_TRAILER_SIZE || memcmp(tail + tail_size - 8, PACK_END_MAGIC, 8) != 0) {
        return pack_is_damaged(scope, name, "is cut off or not a pack", error);
    }
    const uint8_t *trailer = tail + tail_size - PACK_TRAILER_SIZE;
    size_t need = pack_tail_size(trailer);
    if (need == 0 || need > tail_size || need + PACK_HEADER_SIZE > object_size) {
        return pack_is_damaged(scope, name, "has no valid trailer", error);
    }
    uint8_t key[AES256_KEY_SIZE];
    uint8_t nonce[GCM_NONCE_SIZE];
    uint8_t associated[ASSOCIATED_SIZE_MAX];
    size_t count = get_u32(trailer + 4);
    size_t sealed_size = get_u32(trailer);
    Ref ref = index_ref(name, count);
    CLEANUP_FREE uint8_t *index = mem_alloc(sealed_size);
    pack_key_derive(scope, name, key);
    blob_nonce(PACK_INDEX_NONCE, nonce);
    size_t associated_size = blob_associated(scope, &ref, associated);
    bool is_open = crypto_open(key, nonce, associated, associated_size, trailer - sealed_size,
                               sealed_size, index);
    explicit_bzero(key, sizeof(key));
    if (!is_open) {
        return pack_is_damaged(scope, name, "has an index that is not what was written", error);
    }
    if (!decode_index(name, index, count, object_size - need, ret_refs)) {
        return pack_is_damaged(scope, name, "has an index that does not fit its blobs", error);
    }
    *ret_count = count;
    return STATUS_OK;
}

Status pack_index_open(const ShardScope *scope, const PackName *name, const uint8_t *data,
                       size_t size, Ref *ret_refs, size_t *ret_count, Error *error)
{
    uint8_t header[PACK_HEADER_SIZE];
    pack_header_encode(scope, name, header);
    if (size >= PACK_HEADER_SIZE && memcmp(data, header, PACK_HEADER_SIZE) != 0 &&
        memcmp(data + size - 8, PACK_END_MAGIC, 8) == 0) {
        return pack_is_damaged(scope, name, "belongs to another place", error);
    }
    return pack_tail_open(scope, name, size, data, size, ret_refs, ret_count, error);
}
