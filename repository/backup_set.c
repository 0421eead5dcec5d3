// SPDX-License-Identifier: Apache-2.0
// Sets: which manifests make a backup. They are what an offline restore starts from.
#include "common/job_ring.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/repository_document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SET_COUNT_MAX 1000000
#define SET_PAGE_COUNT 1000
#define READ_COUNT 16 // at once
#define WAIT_MS 1000

static void set_object_key(const char *database_id, const char *backup_id,
                           char ret_key[OBJECT_KEY_SIZE])
{
    snprintf(ret_key, OBJECT_KEY_SIZE, "sets/%s/%s", database_id, backup_id);
}

static Json *set_to_json(const BackupSet *set)
{
    Json *json = json_new_object();
    json_set_text(json, "database_name", set->database_name == NULL ? "" : set->database_name);
    json_set_text(json, "engine", set->engine == NULL ? "" : set->engine);
    json_set_integer(json, "created_us", set->created_us);
    json_set_boolean(json, "is_complete", set->is_complete);
    Json *shards = json_new_array();
    for (size_t i = 0; i < set->shard_count; i++) {
        const SetShard *shard = &set->shards[i];
        Json *item = json_new_object();
        json_set_text(item, "shard_id", shard->shard_id);
        json_set_text(item, "shard_name", shard->shard_name == NULL ? "" : shard->shard_name);
        json_set_text(item, "manifest_id", shard->manifest_id);
        json_set_text(item, "manifest_digest", shard->manifest_digest);
        json_set_text(item, "checkpoint", shard->checkpoint == NULL ? "" : shard->checkpoint);
        json_add(shards, item);
    }
    json_set(json, "shards", shards);
    return json;
}

static bool shard_from_json(const Json *json, Arena *arena, SetShard *shard)
{
    PackName name;
    uint8_t digest[SHA256_SIZE];
    const char *shard_id = json_get_text(json, "shard_id", "");
    const char *manifest_id = json_get_text(json, "manifest_id", "");
    const char *manifest_digest = json_get_text(json, "manifest_digest", "");
    if (!uuid_is_valid(shard_id) || !pack_name_decode(manifest_id, &name) ||
        !hex_decode(manifest_digest, digest, sizeof(digest))) {
        return false;
    }
    snprintf(shard->shard_id, sizeof(shard->shard_id), "%s", shard_id);
    snprintf(shard->manifest_id, sizeof(shard->manifest_id), "%s", manifest_id);
    snprintf(shard->manifest_digest, sizeof(shard->manifest_digest), "%s", manifest_digest);
    shard->shard_name = arena_string(arena, json_get_text(json, "shard_name", ""));
    shard->checkpoint = arena_string(arena, json_get_text(json, "checkpoint", ""));
    return true;
}

static Status set_from_json(const char *object, const Json *json, Arena *arena, BackupSet *set,
                            Error *error)
{
    const Json *shards = json_get(json, "shards");
    set->shard_count = json_count(shards);
    if (shards == NULL || json_type(shards) != JSON_ARRAY || set->shard_count > LIMIT_SHARD_COUNT) {
        return document_is_damaged(object, "has no valid list of shards", error);
    }
    set->database_name = arena_string(arena, json_get_text(json, "database_name", ""));
    set->engine = arena_string(arena, json_get_text(json, "engine", ""));
    set->created_us = json_get_integer(json, "created_us", 0);
    set->is_complete = json_get_boolean(json, "is_complete", false);
    set->shards = arena_alloc_array(arena, set->shard_count + 1, sizeof(*set->shards));
    size_t count = 0;
    for (const Json *item = json_first(shards); item != NULL; item = json_next(item)) {
        if (!shard_from_json(item, arena, &set->shards[count++])) {
            return document_is_damaged(object, "lists an impossible shard", error);
        }
    }
    return STATUS_OK;
}

static Status check_set(const BackupSet *set, Error *error)
{
    RETURN_IF_ERROR(id_check(set->database_id, "database", error));
    RETURN_IF_ERROR(id_check(set->backup_id, "backup", error));
    if (set->shard_count > LIMIT_SHARD_COUNT) {
        return error_set(error, REASON_EXHAUSTED, "a backup has at most %d shards",
                         LIMIT_SHARD_COUNT);
    }
    for (size_t i = 0; i < set->shard_count; i++) {
        PackName name;
        uint8_t digest[SHA256_SIZE];
        RETURN_IF_ERROR(id_check(set->shards[i].shard_id, "shard", error));
        if (!pack_name_decode(set->shards[i].manifest_id, &name) ||
            !hex_decode(set->shards[i].manifest_digest, digest, sizeof(digest))) {
            return error_set(error, REASON_INVALID, "shard '%s' has no valid manifest",
                             set->shards[i].shard_id);
        }
    }
    return STATUS_OK;
}

// Reads a set's JSON. With key NULL the wrapping key opens the data key that the header names.
static Status set_open(Repository *repository, const DataKey *key, const char *database_id,
                       const char *backup_id, Arena *arena, char ret_key_id[UUID_TEXT_SIZE],
                       Json **ret_json, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    uint8_t *data = NULL;
    size_t size = 0;
    set_object_key(database_id, backup_id, object);
    RETURN_IF_ERROR(
        storage_get(repository->storage, object, SET_SIZE_MAX, arena, &data, &size, error));
    DocumentHeader header;
    RETURN_IF_ERROR(document_header_decode(object, DOCUMENT_SET, data, size, &header, error));
    if (strcmp(header.id, backup_id) != 0 || strcmp(header.database_id, database_id) != 0 ||
        strcmp(header.repository_id, repository->id) != 0 || header.shard_id[0] != '\0' ||
        header.epoch != 0) {
        return document_is_damaged(object, "belongs to another place", error);
    }
    CLEANUP(data_key_done) DataKey own = {0};
    if (key == NULL) {
        RETURN_IF_ERROR(
            repository_data_key_by_id(repository, database_id, header.key_id, &own, error));
    } else {
        own = data_key_copy(key);
    }
    snprintf(ret_key_id, UUID_TEXT_SIZE, "%s", header.key_id);
    return document_open(object, &header, &own.bytes, data, size, SET_SIZE_MAX, ret_json, error);
}

// Is what is stored under the set's id the same set?
static Status compare_stored(Repository *repository, const DataKey *key, const BackupSet *set,
                             const Json *json, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) Json *stored = NULL;
    CLEANUP(buffer_done) Buffer ours = {0};
    CLEANUP(buffer_done) Buffer theirs = {0};
    char key_id[UUID_TEXT_SIZE];
    error_clear(error);
    RETURN_IF_ERROR(
        set_open(repository, key, set->database_id, set->backup_id, arena, key_id, &stored, error));
    buffer_init(&ours, SET_SIZE_MAX);
    buffer_init(&theirs, SET_SIZE_MAX);
    if (!json_write(json, false, &ours) || !json_write(stored, false, &theirs) ||
        strcmp(buffer_text(&ours), buffer_text(&theirs)) != 0) {
        return error_set(error, REASON_EXISTS,
                         "backup '%s' is in the repository with other content", set->backup_id);
    }
    return STATUS_OK;
}

Status backup_set_write(Repository *repository, const DataKey *key, const BackupSet *set,
                        Error *error)
{
    RETURN_IF_ERROR(check_set(set, error));
    RETURN_IF_ERROR(id_check(key->id, "data key", error));
    DocumentHeader header = {.magic = DOCUMENT_SET};
    snprintf(header.id, sizeof(header.id), "%s", set->backup_id);
    snprintf(header.repository_id, sizeof(header.repository_id), "%s", repository->id);
    snprintf(header.database_id, sizeof(header.database_id), "%s", set->database_id);
    snprintf(header.key_id, sizeof(header.key_id), "%s", key->id);
    CLEANUP(json_freep) Json *json = set_to_json(set);
    CLEANUP(buffer_done) Buffer data = {0};
    buffer_init(&data, SET_SIZE_MAX);
    RETURN_IF_ERROR(document_seal(&header, &key->bytes, json, SET_SIZE_MAX, &data, error));
    char object[OBJECT_KEY_SIZE];
    set_object_key(set->database_id, set->backup_id, object);
    const StorageWriteOptions options = {.is_create_only = true};
    Status status = storage_put(repository->storage, object, data.data, data.size, &options, error);
    if (status == STATUS_ALREADY_EXISTS) {
        return compare_stored(repository, key, set, json, error);
    }
    return status;
}

Status backup_set_read(Repository *repository, const char *database_id, const char *backup_id,
                       Arena *arena, BackupSet **ret_set, Error *error)
{
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    RETURN_IF_ERROR(id_check(backup_id, "backup", error));
    BackupSet *set = arena_alloc(arena, sizeof(*set));
    CLEANUP(json_freep) Json *json = NULL;
    char object[OBJECT_KEY_SIZE];
    set_object_key(database_id, backup_id, object);
    RETURN_IF_ERROR(
        set_open(repository, NULL, database_id, backup_id, arena, set->key_id, &json, error));
    snprintf(set->backup_id, sizeof(set->backup_id), "%s", backup_id);
    snprintf(set->database_id, sizeof(set->database_id), "%s", database_id);
    RETURN_IF_ERROR(set_from_json(object, json, arena, set, error));
    *ret_set = set;
    return STATUS_OK;
}

bool backup_set_id_parse(const char *object_key, char ret_database_id[UUID_TEXT_SIZE],
                         char ret_backup_id[UUID_TEXT_SIZE])
{
    const size_t prefix_size = strlen("sets/");
    if (!text_has_prefix(object_key, "sets/") ||
        strlen(object_key) != prefix_size + 2 * (UUID_TEXT_SIZE - 1) + 1 ||
        object_key[prefix_size + UUID_TEXT_SIZE - 1] != '/') {
        return false;
    }
    snprintf(ret_database_id, UUID_TEXT_SIZE, "%.36s", object_key + prefix_size);
    snprintf(ret_backup_id, UUID_TEXT_SIZE, "%.36s", object_key + prefix_size + UUID_TEXT_SIZE);
    return uuid_is_valid(ret_database_id) && uuid_is_valid(ret_backup_id);
}

static int compare_age(const void *a, const void *b)
{
    const BackupSet *left = *(BackupSet *const *)a;
    const BackupSet *right = *(BackupSet *const *)b;
    if (left->created_us != right->created_us) {
        return left->created_us < right->created_us ? -1 : 1;
    }
    return strcmp(left->backup_id, right->backup_id);
}

Status backup_set_list(Repository *repository, Arena *arena, BackupSet ***ret_sets,
                       size_t *ret_count, Error *error)
{
    return backup_set_scan(repository, arena, NULL, NULL, ret_sets, ret_count, error);
}

// Of the object itself, and not of the way to it.
static bool is_unreadable(const Error *error)
{
    return error->status == STATUS_DATA_LOSS || error->reason == REASON_KEY_MISSING ||
           error->reason == REASON_KEY_WRONG || error->reason == REASON_REPOSITORY_FORMAT ||
           error->reason == REASON_EXHAUSTED;
}

// --- many of them -----------------------------------------------------------------------------

// A set that is read beside others, into an arena of its own.
typedef struct SetRead {
    char database_id[UUID_TEXT_SIZE], backup_id[UUID_TEXT_SIZE];
    Arena *arena;
    BackupSet *set;
    Error error;
} SetRead;

typedef struct SetScan {
    Repository *repository;
    Arena *arena;
    void (*on_unreadable)(void *context, const char *database_id, const char *backup_id,
                          const Error *error);
    void *context;
    JobRing *reads;
    bool has_begun;
    BackupSet **sets;
    size_t count, capacity;
} SetScan;

static void run_read(void *context, void *thread, void *place)
{
    const SetScan *scan = context;
    (void)thread;
    SetRead *read = place;
    (void)backup_set_read(scan->repository, read->database_id, read->backup_id, read->arena,
                          &read->set, &read->error); // told in error.status
}

static void read_done(void *place)
{
    arena_free(((SetRead *)place)->arena);
}

static BackupSet *copy_set(Arena *arena, const BackupSet *set)
{
    BackupSet *copy = arena_copy(arena, set, sizeof(*set));
    copy->database_name = arena_string(arena, set->database_name);
    copy->engine = arena_string(arena, set->engine);
    copy->shards = arena_alloc_array(arena, set->shard_count + 1, sizeof(*copy->shards));
    for (size_t i = 0; i < set->shard_count; i++) {
        copy->shards[i] = set->shards[i];
        copy->shards[i].shard_name = arena_string(arena, set->shards[i].shard_name);
        copy->shards[i].checkpoint = arena_string(arena, set->shards[i].checkpoint);
    }
    return copy;
}

static Status take_read(SetScan *scan, Error *error)
{
    const SetRead *read = NULL;
    while (read == NULL) {
        read = job_ring_take(scan->reads, WAIT_MS);
    }
    if (read->error.status == STATUS_OK) {
        if (scan->count == SET_COUNT_MAX) {
            return error_set(error, REASON_EXHAUSTED, "the repository has more than %d backups",
                             SET_COUNT_MAX);
        }
        if (scan->count == scan->capacity) {
            scan->capacity = scan->capacity == 0 ? 256 : 2 * scan->capacity;
            scan->sets = mem_realloc_array(scan->sets, scan->capacity, sizeof(*scan->sets));
        }
        scan->sets[scan->count++] = copy_set(scan->arena, read->set);
    } else if (scan->on_unreadable != NULL && is_unreadable(&read->error)) {
        scan->on_unreadable(scan->context, read->database_id, read->backup_id, &read->error);
    } else if (read->error.status != STATUS_NOT_FOUND) { // removed since it was listed
        *error = read->error;
        return error->status;
    }
    return STATUS_OK;
}

static Status take_until(SetScan *scan, bool (*is_reached)(const JobRing *ring), bool wanted,
                         Error *error)
{
    while (is_reached(scan->reads) != wanted) {
        RETURN_IF_ERROR(take_read(scan, error));
    }
    return STATUS_OK;
}

static Status scan_page(SetScan *scan, const StoragePage *page, Error *error)
{
    for (size_t i = 0; i < page->count; i++) {
        RETURN_IF_ERROR(take_until(scan, job_ring_is_full, false, error));
        SetRead *read = job_ring_next(scan->reads);
        const char *key = page->objects[i].key;
        if (!backup_set_id_parse(key, read->database_id, read->backup_id)) {
            return document_is_damaged(key, "does not have a set's name", error);
        }
        if (read->arena == NULL) {
            read->arena = arena_new();
        }
        arena_reset(read->arena);
        read->error = (Error){0};
        job_ring_ask(scan->reads);
        if (!scan->has_begun) {
            // The first one alone: it opens the data key, which mostly is that of the others.
            scan->has_begun = true;
            RETURN_IF_ERROR(take_until(scan, job_ring_is_empty, true, error));
        }
    }
    return STATUS_OK;
}

static Status scan_all(SetScan *scan, Error *error)
{
    const char *token = NULL;
    do {
        StoragePage page;
        RETURN_IF_ERROR(storage_list(scan->repository->storage, "sets/", token, SET_PAGE_COUNT,
                                     scan->arena, &page, error));
        RETURN_IF_ERROR(scan_page(scan, &page, error));
        token = page.next_page_token;
    } while (token != NULL);
    return take_until(scan, job_ring_is_empty, true, error);
}

Status backup_set_scan(Repository *repository, Arena *arena,
                       void (*on_unreadable)(void *context, const char *database_id,
                                             const char *backup_id, const Error *error),
                       void *context, BackupSet ***ret_sets, size_t *ret_count, Error *error)
{
    SetScan scan = {.repository = repository,
                    .arena = arena,
                    .on_unreadable = on_unreadable,
                    .context = context};
    const JobRingOptions reads = {.job_size = sizeof(SetRead),
                                  .place_count = 2 * READ_COUNT,
                                  .thread_count = READ_COUNT,
                                  .run = run_read,
                                  .job_done = read_done,
                                  .context = &scan};
    RETURN_IF_ERROR(job_ring_new(&reads, &scan.reads, error));
    Status status = scan_all(&scan, error);
    job_ring_free(scan.reads);
    if (status == STATUS_OK) {
        if (scan.count > 0) {
            qsort(scan.sets, scan.count, sizeof(*scan.sets), compare_age);
        }
        *ret_sets = arena_alloc_array(arena, scan.count + 1, sizeof(**ret_sets));
        for (size_t i = 0; i < scan.count; i++) {
            (*ret_sets)[i] = scan.sets[i];
        }
        *ret_count = scan.count;
    }
    mem_free(scan.sets);
    return status;
}

Status backup_set_remove(Repository *repository, const char *database_id, const char *backup_id,
                         Error *error)
{
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    RETURN_IF_ERROR(id_check(backup_id, "backup", error));
    char object[OBJECT_KEY_SIZE];
    set_object_key(database_id, backup_id, object);
    return storage_remove(repository->storage, object, error);
}

Status backup_set_remove_many(Repository *repository, const char *database_id,
                              const char *const *backup_ids, size_t count, bool *ret_are_locked,
                              Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    for (size_t done = 0; done < count;) {
        arena_reset(arena);
        size_t batch = MIN(count - done, STORAGE_REMOVE_COUNT_MAX);
        StorageRemoval *removals = arena_alloc_array(arena, batch, sizeof(*removals));
        for (size_t i = 0; i < batch; i++) {
            char *object = arena_alloc(arena, OBJECT_KEY_SIZE);
            RETURN_IF_ERROR(id_check(backup_ids[done + i], "backup", error));
            set_object_key(database_id, backup_ids[done + i], object);
            removals[i].key = object;
        }
        RETURN_IF_ERROR(storage_remove_many(repository->storage, removals, batch, error));
        for (size_t i = 0; i < batch; i++) {
            ret_are_locked[done + i] = removals[i].is_locked;
        }
        done += batch;
    }
    return STATUS_OK;
}
