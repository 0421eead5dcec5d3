// SPDX-License-Identifier: Apache-2.0
// A pack is whole or not there, and its sealed index says what it has: so what a dead attempt
// stored can be named as if it were ours. A sweep must not remove it meanwhile; see
// PublishOptions.resume_epoch_min.
#include "repository/repository_resume.h"

#include "common/memory.h"
#include "repository/repository_pack.h"
#include "repository/repository_replacement.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define ENTRY_COUNT_MAX ((size_t)1024 * 1024) // 32 GiB of extents
#define PAGE_COUNT 1000
#define READER_COUNT 8
#define TAIL_SIZE ((size_t)64 * 1024) // most indexes are smaller

typedef struct ResumePack {
    PackName name;
    size_t size;
    atomic_bool is_named;
} ResumePack;

typedef struct ResumeEntry {
    uint8_t hash[HASH_SIZE];
    uint32_t pack, offset, stored_size, plain_size;
    uint16_t index;
    uint8_t encoding;
} ResumeEntry;

struct ResumeTable {
    const ShardScope *scope;
    ResumePack **packs;
    size_t pack_count, pack_capacity;
    ResumeEntry *entries;
    size_t entry_count, entry_capacity;
    uint32_t *slots; // open addressing; entry + 1
    size_t slot_count;
    // While it is loaded.
    pthread_mutex_t mutex; // guards the entries, and what follows
    size_t next_pack;
    Error failure;
};

// --- entries ----------------------------------------------------------------------------------

static size_t find_slot(const ResumeTable *table, const uint8_t hash[HASH_SIZE])
{
    size_t slot = get_u64(hash) & (table->slot_count - 1);
    while (table->slots[slot] != 0 &&
           memcmp(table->entries[table->slots[slot] - 1].hash, hash, HASH_SIZE) != 0) {
        slot = (slot + 1) & (table->slot_count - 1);
    }
    return slot;
}

static void grow(ResumeTable *table)
{
    if (table->entry_count == table->entry_capacity) {
        table->entry_capacity = table->entry_capacity == 0 ? 4096 : 2 * table->entry_capacity;
        table->entries =
            mem_realloc_array(table->entries, table->entry_capacity, sizeof(*table->entries));
        mem_free(table->slots);
        table->slot_count = 2 * table->entry_capacity;
        table->slots = mem_alloc_array(table->slot_count, sizeof(*table->slots));
        for (size_t i = 0; i < table->entry_count; i++) {
            table->slots[find_slot(table, table->entries[i].hash)] = (uint32_t)(i + 1);
        }
    }
}

static void add_extents(ResumeTable *table, size_t pack, const Ref *refs, size_t count)
{
    for (size_t i = 0; i < count && table->entry_count < ENTRY_COUNT_MAX; i++) {
        const Ref *ref = &refs[i];
        if (ref->kind != BLOB_EXTENT) {
            continue;
        }
        grow(table);
        size_t slot = find_slot(table, ref->hash);
        if (table->slots[slot] != 0) {
            continue;
        }
        ResumeEntry *entry = &table->entries[table->entry_count++];
        *entry = (ResumeEntry){.pack = (uint32_t)pack,
                               .offset = ref->offset,
                               .stored_size = ref->stored_size,
                               .plain_size = ref->plain_size,
                               .index = (uint16_t)ref->index,
                               .encoding = (uint8_t)ref->encoding};
        memcpy(entry->hash, ref->hash, HASH_SIZE);
        table->slots[slot] = (uint32_t)table->entry_count;
    }
}

bool resume_find(const ResumeTable *table, Ref *ref)
{
    if (table == NULL || table->entry_count == 0) {
        return false;
    }
    uint32_t found = table->slots[find_slot(table, ref->hash)];
    if (found == 0 || table->entries[found - 1].plain_size != ref->plain_size) {
        return false;
    }
    const ResumeEntry *entry = &table->entries[found - 1];
    ResumePack *pack = table->packs[entry->pack];
    ref->pack = pack->name;
    ref->index = entry->index;
    ref->offset = entry->offset;
    ref->stored_size = entry->stored_size;
    ref->encoding = (Encoding)entry->encoding;
    atomic_store(&pack->is_named, true);
    return true;
}

// --- loading ----------------------------------------------------------------------------------

static Status read_tail(const ShardScope *scope, const ResumePack *pack, uint8_t *tail,
                        size_t *ret_size, Error *error)
{
    char key[OBJECT_KEY_SIZE];
    pack_object_key(scope->shard_id, &pack->name, key);
    size_t size = MIN(pack->size, TAIL_SIZE);
    RETURN_IF_ERROR(
        storage_get_range(scope->storage, key, (int64_t)(pack->size - size), size, tail, error));
    size_t need = pack_tail_size(tail + size - PACK_TRAILER_SIZE);
    if (need > size && need <= pack->size) {
        size = need;
        RETURN_IF_ERROR(storage_get_range(scope->storage, key, (int64_t)(pack->size - size), size,
                                          tail, error));
    }
    *ret_size = size;
    return STATUS_OK;
}

// With the mutex held: reads packs until there are no more, or the table is full.
static void load_packs(ResumeTable *table, uint8_t *tail, Ref *refs)
{
    while (table->next_pack < table->pack_count && table->failure.status == STATUS_OK &&
           table->entry_count < ENTRY_COUNT_MAX) {
        size_t index = table->next_pack++;
        const ResumePack *pack = table->packs[index];
        pthread_mutex_unlock(&table->mutex);
        Error error = {0};
        size_t size = 0;
        size_t count = 0;
        Status status = read_tail(table->scope, pack, tail, &size, &error);
        if (status == STATUS_OK) {
            status = pack_tail_open(table->scope, &pack->name, pack->size, tail, size, refs, &count,
                                    &error);
        }
        pthread_mutex_lock(&table->mutex);
        if (status == STATUS_OK) {
            add_extents(table, index, refs, count);
        } else if (status != STATUS_DATA_LOSS && status != STATUS_NOT_FOUND) {
            table->failure = error;
        }
    }
}

static void *run_reader(void *argument)
{
    ResumeTable *table = argument;
    uint8_t *tail = mem_alloc((size_t)PACK_BLOB_COUNT_MAX * PACK_INDEX_ENTRY_SIZE + TAIL_SIZE);
    Ref *refs = mem_alloc_array(PACK_BLOB_COUNT_MAX, sizeof(*refs));
    pthread_mutex_lock(&table->mutex);
    load_packs(table, tail, refs);
    pthread_mutex_unlock(&table->mutex);
    mem_free(tail);
    mem_free(refs);
    return NULL;
}

static void add_pack(ResumeTable *table, const PackName *name, int64_t size_bytes)
{
    if (size_bytes < PACK_HEADER_SIZE + PACK_TRAILER_SIZE || size_bytes > (int64_t)PACK_SIZE_MAX) {
        return;
    }
    if (table->pack_count == table->pack_capacity) {
        table->pack_capacity = table->pack_capacity == 0 ? 64 : 2 * table->pack_capacity;
        table->packs = mem_realloc_array(table->packs, table->pack_capacity, sizeof(ResumePack *));
    }
    ResumePack *pack = mem_alloc(sizeof(*pack));
    pack->name = *name;
    pack->size = (size_t)size_bytes;
    table->packs[table->pack_count++] = pack;
}

// Should it be the last.
static void drop_pack(ResumeTable *table, const PackName *name)
{
    if (table->pack_count > 0 &&
        pack_name_equal(&table->packs[table->pack_count - 1]->name, name)) {
        mem_free(table->packs[--table->pack_count]);
    }
}

static Status list_packs(ResumeTable *table, uint32_t epoch_min, uint32_t epoch_max, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char prefix[OBJECT_KEY_SIZE];
    char token[STORAGE_KEY_SIZE_MAX + 1] = "";
    int folder_size = snprintf(prefix, sizeof(prefix), "shards/%s/packs/", table->scope->shard_id);
    if (epoch_min == epoch_max) {
        snprintf(prefix + folder_size, sizeof(prefix) - (size_t)folder_size, "%08x-", epoch_min);
    }
    do {
        StoragePage page;
        arena_reset(arena);
        RETURN_IF_ERROR(storage_list(table->scope->storage, prefix, token[0] == '\0' ? NULL : token,
                                     PAGE_COUNT, arena, &page, error));
        for (size_t i = 0; i < page.count; i++) {
            PackName name;
            uint32_t number = 0;
            if (!pack_object_decode(page.objects[i].key + folder_size, &name, &number) ||
                name.epoch < epoch_min || name.epoch > epoch_max) {
                continue;
            }
            if (number == 0) {
                add_pack(table, &name, page.objects[i].size_bytes);
            } else {
                // A sweep has replaced it: a manifest reaches it, and it is no leftover.
                drop_pack(table, &name);
            }
        }
        const char *next = page.next_page_token;
        snprintf(token, sizeof(token), "%s", next == NULL ? "" : next);
    } while (token[0] != '\0');
    return STATUS_OK;
}

Status resume_table_load(const ShardScope *scope, uint32_t epoch_min, uint32_t epoch_max,
                         ResumeTable **ret_table, Error *error)
{
    ResumeTable *table = mem_alloc(sizeof(*table));
    table->scope = scope;
    pthread_mutex_init(&table->mutex, NULL);
    Status status = list_packs(table, epoch_min, epoch_max, error);
    pthread_t readers[READER_COUNT];
    size_t reader_count = 0;
    while (status == STATUS_OK && reader_count < MIN(table->pack_count, READER_COUNT)) {
        if (pthread_create(&readers[reader_count], NULL, run_reader, table) != 0) {
            status = error_set(error, REASON_EXHAUSTED, "no thread could be started");
            break;
        }
        reader_count++;
    }
    for (size_t i = 0; i < reader_count; i++) {
        pthread_join(readers[i], NULL);
    }
    if (status == STATUS_OK && table->failure.status != STATUS_OK) {
        *error = table->failure;
        status = error->status;
    }
    if (status != STATUS_OK || table->pack_count == 0) {
        resume_table_free(table);
        table = NULL;
    }
    *ret_table = table;
    return status;
}

void resume_table_free(ResumeTable *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->pack_count; i++) {
        mem_free(table->packs[i]);
    }
    mem_free(table->packs);
    mem_free(table->entries);
    mem_free(table->slots);
    pthread_mutex_destroy(&table->mutex);
    mem_free(table);
}

Status resume_table_check(const ResumeTable *table, Error *error)
{
    for (size_t i = 0; table != NULL && i < table->pack_count; i++) {
        if (!atomic_load(&table->packs[i]->is_named)) {
            continue;
        }
        char key[OBJECT_KEY_SIZE];
        StorageObject object;
        pack_object_key(table->scope->shard_id, &table->packs[i]->name, key);
        Status status = storage_stat(table->scope->storage, key, &object, error);
        if (status == STATUS_NOT_FOUND) {
            error_set(error, REASON_CONFLICT,
                      "object '%s' of an earlier attempt was removed while it was taken up", key);
            return error_hint(error, "the next attempt stores it again");
        }
        RETURN_IF_ERROR(status);
    }
    return STATUS_OK;
}
