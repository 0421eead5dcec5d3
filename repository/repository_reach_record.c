// SPDX-License-Identifier: Apache-2.0
// reach/<shard id>/<number>: a header of 112 bytes and the sealed steps.
#include "repository/repository_reach_record.h"

#include "common/buffer.h"
#include "common/memory.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define MAGIC "HFREACH1"
#define HEADER_SIZE 112
#define NONCE_AT 96
#define SIZE_AT 108
#define STEP_SIZE 72
#define BITS_SIZE_AT (28 + REF_SIZE)
#define MARK_SIZE (BITS_SIZE_AT + 2) // without the bits
#define NUMBER_SIZE 8
// What is doubled counts a pack's bytes for each step; so many of them can still be added up.
#define DOUBLED_BYTES_MAX (INT64_C(1) << 42)
#define STALE_BYTES_MAX (INT64_C(1) << 53)
#define LIST_COUNT 1000

static const PackName NO_BASE = {0};

struct ReachRecord {
    Buffer data; // the steps as they are stored
    ReachStep *steps;
    size_t count, capacity;
    size_t *offsets; // of the steps' marks, since the buffer moves while it grows
};

ReachRecord *reach_record_new(void)
{
    ReachRecord *record = mem_alloc(sizeof(*record));
    buffer_init(&record->data, REACH_RECORD_SIZE_MAX);
    return record;
}

void reach_record_free(ReachRecord *record)
{
    if (record != NULL) {
        buffer_done(&record->data);
        mem_free(record->steps);
        mem_free(record->offsets);
        mem_free(record);
    }
}

void reach_record_freep(ReachRecord **record)
{
    reach_record_free(*record);
    *record = NULL;
}

size_t reach_record_count(const ReachRecord *record)
{
    return record->count;
}

// --- names ------------------------------------------------------------------------------------

static void name_put(const PackName *name, uint8_t *target)
{
    put_u32(target, name->epoch);
    memcpy(target + 4, name->id, ID_SIZE);
}

static PackName name_get(const uint8_t *source)
{
    PackName name = {.epoch = get_u32(source)};
    memcpy(name.id, source + 4, ID_SIZE);
    return name;
}

static int name_compare(const PackName *left, const PackName *right)
{
    if (left->epoch != right->epoch) {
        return left->epoch < right->epoch ? -1 : 1;
    }
    return memcmp(left->id, right->id, ID_SIZE);
}

// --- steps ------------------------------------------------------------------------------------

// The marks of the last step are at the end of the buffer.
static void index_step(ReachRecord *record, ReachStep step)
{
    assert(record->count == 0 ||
           name_compare(&record->steps[record->count - 1].manifest, &step.manifest) < 0);
    if (record->count == record->capacity) {
        record->capacity = record->capacity == 0 ? 16 : 2 * record->capacity;
        record->steps = mem_realloc_array(record->steps, record->capacity, sizeof(ReachStep));
        record->offsets = mem_realloc_array(record->offsets, record->capacity, sizeof(size_t));
    }
    record->offsets[record->count] = record->data.size - step.marks_size;
    record->steps[record->count++] = step;
    // Its memory may have moved.
    for (size_t i = step.marks == NULL ? 0 : record->count; i < record->count; i++) {
        record->steps[i].marks = NULL;
    }
}

static const ReachStep *step_at(const ReachRecord *record, size_t index)
{
    ReachStep *step = &record->steps[index];
    step->marks = record->data.data + record->offsets[index];
    return step;
}

const ReachStep *reach_record_find(const ReachRecord *record, const PackName *manifest,
                                   const PackName *base)
{
    size_t low = 0;
    size_t high = record->count;
    base = base != NULL ? base : &NO_BASE;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = name_compare(&record->steps[middle].manifest, manifest);
        if (order == 0) {
            return pack_name_equal(&record->steps[middle].base, base) ? step_at(record, middle)
                                                                      : NULL;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const ReachStep *reach_record_head(const ReachRecord *record)
{
    return record->count > 0 && pack_name_equal(&record->steps[0].base, &NO_BASE)
               ? step_at(record, 0)
               : NULL;
}

static void step_encode(const ReachStep *step, uint8_t ret_data[STEP_SIZE])
{
    name_put(&step->manifest, ret_data);
    name_put(&step->base, ret_data + 20);
    memcpy(ret_data + 40, step->key_id, ID_SIZE);
    put_u64(ret_data + 56, (uint64_t)step->stale_bytes);
    put_u32(ret_data + 64, (uint32_t)step->pack_count);
    put_u32(ret_data + 68, (uint32_t)step->marks_size);
}

static size_t bits_size_used(const ReachedPack *pack)
{
    size_t size = pack->bits_size;
    while (size > 0 && pack->bits[size - 1] == 0) {
        size--;
    }
    return size;
}

bool reach_record_add(ReachRecord *record, const ReachStep *step, const Reach *reach)
{
    ReachStep added = *step;
    added.pack_count = 0;
    added.marks_size = 0;
    added.marks = NULL;
    for (const ReachedPack *pack; (pack = reach_at(reach, added.pack_count)) != NULL;
         added.pack_count++) {
        added.marks_size += MARK_SIZE + bits_size_used(pack);
    }
    if (STEP_SIZE + added.marks_size > REACH_RECORD_SIZE_MAX - record->data.size) {
        return false;
    }
    uint8_t head[STEP_SIZE];
    step_encode(&added, head);
    (void)buffer_append(&record->data, head, sizeof(head)); // there is room
    for (size_t i = 0; i < added.pack_count; i++) {
        const ReachedPack *pack = reach_at(reach, i);
        uint8_t mark[MARK_SIZE];
        size_t bits_size = bits_size_used(pack);
        name_put(&pack->name, mark);
        // A pack has at most 16 MiB; the top bit is free for what is doubled.
        put_u64(mark + 20, (uint64_t)pack->live_bytes | (pack->is_doubled ? UINT64_C(1) << 63 : 0));
        memcpy(mark + 28, pack->fold, REF_SIZE);
        mark[BITS_SIZE_AT] = (uint8_t)bits_size;
        mark[BITS_SIZE_AT + 1] = (uint8_t)(bits_size >> 8);
        (void)buffer_append(&record->data, mark, sizeof(mark));
        (void)buffer_append(&record->data, pack->bits, bits_size);
    }
    index_step(record, added);
    return true;
}

bool reach_record_copy(ReachRecord *record, const ReachStep *step)
{
    uint8_t head[STEP_SIZE];
    if (STEP_SIZE + step->marks_size > REACH_RECORD_SIZE_MAX - record->data.size) {
        return false;
    }
    step_encode(step, head);
    (void)buffer_append(&record->data, head, sizeof(head));
    (void)buffer_append(&record->data, step->marks, step->marks_size);
    index_step(record, *step);
    return true;
}

// Takes one mark; false: it is none. ret_pack->bits is borrowed from the record.
static bool mark_decode(const uint8_t *data, size_t size, size_t *offset, ReachedPack *ret_pack)
{
    if (size - *offset < MARK_SIZE) {
        return false;
    }
    const uint8_t *mark = data + *offset;
    uint64_t bytes = get_u64(mark + 20);
    size_t bits_size = (size_t)(mark[BITS_SIZE_AT] | mark[BITS_SIZE_AT + 1] << 8);
    if (bits_size > PACK_BLOB_COUNT_MAX / 8 || size - *offset - MARK_SIZE < bits_size) {
        return false;
    }
    *ret_pack = (ReachedPack){.name = name_get(mark),
                              .bits = (uint8_t *)(uintptr_t)(mark + MARK_SIZE),
                              .bits_size = bits_size,
                              .live_bytes = (int64_t)(bytes & INT64_MAX),
                              .is_doubled = (bytes >> 63) != 0};
    memcpy(ret_pack->fold, mark + 28, REF_SIZE);
    *offset += MARK_SIZE + bits_size;
    return ret_pack->live_bytes <=
           (ret_pack->is_doubled ? DOUBLED_BYTES_MAX : (int64_t)PACK_SIZE_MAX);
}

void reach_record_merge(const ReachStep *step, Reach *reach)
{
    size_t offset = 0;
    ReachedPack pack;
    for (size_t i = 0; i < step->pack_count; i++) {
        bool is_mark = mark_decode(step->marks, step->marks_size, &offset, &pack);
        assert(is_mark); // it was checked when it was read
        reach_merge(reach, &pack);
    }
}

// --- the object -------------------------------------------------------------------------------

static void record_key(const char *shard_id, uint32_t number, char ret_key[OBJECT_KEY_SIZE])
{
    snprintf(ret_key, OBJECT_KEY_SIZE, "reach/%s/%08x", shard_id, number);
}

static void seal_key(const ShardScope *scope, uint32_t number, uint8_t ret_key[AES256_KEY_SIZE])
{
    char text[NUMBER_SIZE + 1];
    snprintf(text, sizeof(text), "%08x", number);
    const char *parts[] = {scope->repository_id, scope->shard_id, text, NULL};
    key_derive(&scope->data_key, "reach", parts, ret_key);
}

static void header_encode(const ShardScope *scope, uint32_t number, size_t size,
                          uint8_t ret_data[HEADER_SIZE])
{
    memset(ret_data, 0, HEADER_SIZE);
    memcpy(ret_data, MAGIC, 8);
    put_u32(ret_data + 8, REPOSITORY_FORMAT_VERSION);
    put_u32(ret_data + 12, number);
    id_decode(scope->repository_id, ret_data + 32);
    id_decode(scope->database_id, ret_data + 48);
    id_decode(scope->shard_id, ret_data + 64);
    id_decode(scope->key_id, ret_data + 80);
    put_u32(ret_data + SIZE_AT, (uint32_t)size);
}

Status reach_record_save(const ReachRecord *record, const ShardScope *scope, uint32_t number,
                         Error *error)
{
    size_t size = HEADER_SIZE + record->data.size + GCM_TAG_SIZE;
    CLEANUP_FREE uint8_t *object = mem_alloc(size);
    uint8_t key[AES256_KEY_SIZE];
    char name[OBJECT_KEY_SIZE];
    header_encode(scope, number, record->data.size, object);
    crypto_random(object + NONCE_AT, GCM_NONCE_SIZE);
    seal_key(scope, number, key);
    crypto_seal(key, object + NONCE_AT, object, HEADER_SIZE, record->data.data, record->data.size,
                object + HEADER_SIZE);
    explicit_bzero(key, sizeof(key));
    record_key(scope->shard_id, number, name);
    const StorageWriteOptions options = {.is_create_only = true};
    Status status = storage_put(scope->storage, name, object, size, &options, error);
    if (status == STATUS_ALREADY_EXISTS) {
        error_clear(error); // of a sweep beside this one: its facts are as good
        return STATUS_OK;
    }
    return status;
}

// Finds the steps in what was opened; false: it is not a record.
static bool index_steps(ReachRecord *record, const uint8_t *data, size_t size)
{
    for (size_t offset = 0; offset < size;) {
        if (size - offset < STEP_SIZE) {
            return false;
        }
        const uint8_t *head = data + offset;
        ReachStep step = {.manifest = name_get(head),
                          .base = name_get(head + 20),
                          .stale_bytes = (int64_t)get_u64(head + 56),
                          .pack_count = get_u32(head + 64),
                          .marks = head + STEP_SIZE,
                          .marks_size = get_u32(head + 68)};
        memcpy(step.key_id, head + 40, ID_SIZE);
        offset += STEP_SIZE;
        if (step.marks_size > size - offset || step.stale_bytes < 0 ||
            step.stale_bytes > STALE_BYTES_MAX ||
            (record->count > 0 &&
             name_compare(&record->steps[record->count - 1].manifest, &step.manifest) >= 0)) {
            return false;
        }
        size_t at = 0;
        ReachedPack pack;
        for (size_t i = 0; i < step.pack_count; i++) {
            if (!mark_decode(step.marks, step.marks_size, &at, &pack)) {
                return false;
            }
        }
        if (at != step.marks_size || !reach_record_copy(record, &step)) {
            return false;
        }
        offset += step.marks_size;
    }
    return true;
}

// False: it is damaged, or sealed with another key. Then it is worth nothing.
static bool open_record(const Repository *repository, const DataKey *data_key, const char *shard_id,
                        uint32_t number, const uint8_t *data, size_t size, ReachRecord *record,
                        char ret_database_id[UUID_TEXT_SIZE])
{
    if (size < HEADER_SIZE + GCM_TAG_SIZE) {
        return false;
    }
    ShardScope scope = {.data_key = data_key->bytes}; // only for its names and its key
    char database_id[UUID_TEXT_SIZE];
    uint8_t header[HEADER_SIZE];
    uint8_t key[AES256_KEY_SIZE];
    size_t plain_size = size - HEADER_SIZE - GCM_TAG_SIZE;
    id_encode(data + 48, database_id);
    memcpy(scope.repository_id, repository->id, UUID_TEXT_SIZE);
    memcpy(scope.database_id, database_id, UUID_TEXT_SIZE);
    memcpy(scope.shard_id, shard_id, UUID_TEXT_SIZE);
    memcpy(scope.key_id, data_key->id, UUID_TEXT_SIZE);
    header_encode(&scope, number, plain_size, header);
    memcpy(header + NONCE_AT, data + NONCE_AT, GCM_NONCE_SIZE);
    if (memcmp(header, data, HEADER_SIZE) != 0) {
        return false;
    }
    CLEANUP_FREE uint8_t *plain = mem_alloc(plain_size + 1);
    seal_key(&scope, number, key);
    bool is_open = crypto_open(key, data + NONCE_AT, data, HEADER_SIZE, data + HEADER_SIZE,
                               plain_size + GCM_TAG_SIZE, plain);
    explicit_bzero(key, sizeof(key));
    if (!is_open || !index_steps(record, plain, plain_size)) {
        return false;
    }
    memcpy(ret_database_id, database_id, UUID_TEXT_SIZE);
    return true;
}

// The numbers that there are, ascending; all but a few are left over.
static Status list_numbers(Repository *repository, const char *shard_id, Arena *arena,
                           StoragePage *ret_page, Error *error)
{
    char prefix[OBJECT_KEY_SIZE];
    snprintf(prefix, sizeof(prefix), "reach/%s/", shard_id);
    return storage_list(repository->storage, prefix, NULL, LIST_COUNT, arena, ret_page, error);
}

static uint32_t number_of(const StorageObject *object)
{
    uint8_t number[4];
    size_t size = strlen(object->key);
    if (size < NUMBER_SIZE || !hex_decode(object->key + size - NUMBER_SIZE, number, 4)) {
        return 0;
    }
    return (uint32_t)number[0] << 24 | (uint32_t)number[1] << 16 | (uint32_t)number[2] << 8 |
           number[3];
}

Status reach_record_load(Repository *repository, const DataKey *key, const char *shard_id,
                         ReachRecord **ret_record, uint32_t *ret_number,
                         char ret_database_id[UUID_TEXT_SIZE], Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(reach_record_freep) ReachRecord *record = reach_record_new();
    StoragePage page;
    uint8_t *data = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(list_numbers(repository, shard_id, arena, &page, error));
    *ret_number = 0;
    ret_database_id[0] = '\0';
    if (page.count > 0) {
        const StorageObject *newest = &page.objects[page.count - 1];
        *ret_number = number_of(newest);
        Status status = storage_get(repository->storage, newest->key,
                                    HEADER_SIZE + REACH_RECORD_SIZE_MAX + GCM_TAG_SIZE, arena,
                                    &data, &size, error);
        // Gone: a sweep beside this one has a newer one.
        if (status != STATUS_OK && error->reason != REASON_NOT_FOUND &&
            error->reason != REASON_EXHAUSTED) {
            return status;
        }
        error_clear(error);
        if (data != NULL && !open_record(repository, key, shard_id, *ret_number, data, size, record,
                                         ret_database_id)) {
            reach_record_free(record);
            record = reach_record_new();
        }
    }
    *ret_record = TAKE_PTR(record);
    return STATUS_OK;
}

Status reach_record_remove(Repository *repository, const char *shard_id, uint32_t number,
                           Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoragePage page;
    RETURN_IF_ERROR(list_numbers(repository, shard_id, arena, &page, error));
    StorageRemoval *removals = arena_alloc_array(arena, page.count + 1, sizeof(*removals));
    size_t count = 0;
    for (size_t i = 0; i < page.count; i++) {
        if (number_of(&page.objects[i]) < number) {
            removals[count++].key = page.objects[i].key;
        }
    }
    return storage_remove_many(repository->storage, removals, count, error);
}
