// SPDX-License-Identifier: Apache-2.0
// Data keys: which there are, opening one, making one.
#include "repository/repository_keys.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define RECORD_MAGIC "HFKEY001"
#define RECORD_MAC_OFFSET 80
#define RECORD_SIZE (RECORD_MAC_OFFSET + SHA256_SIZE)
#define WRAPPING_MAGIC "HFWRAP01"
#define WRAPPING_HEADER_SIZE 80
#define KEY_PAGE_COUNT 1000
#define DESTROYED_SUFFIX "destroyed"

void data_key_done(DataKey *key)
{
    secret_done(&key->bytes);
    key->id[0] = '\0';
}

DataKey data_key_copy(const DataKey *key)
{
    DataKey copy = *key;
    copy.bytes = secret_copy(&key->bytes);
    return copy;
}

static Status need_wrapping_key(const Repository *repository, Error *error)
{
    if (repository->wrapper == NULL) {
        error_set(error, REASON_KEY_MISSING, "the repository was opened without its key file");
        return error_hint(error, "name the key file");
    }
    return STATUS_OK;
}

// --- names ------------------------------------------------------------------------------------

void key_record_object_key(const char *database_id, const char *key_id,
                           char ret_key[OBJECT_KEY_SIZE])
{
    snprintf(ret_key, OBJECT_KEY_SIZE, "keys/%s/%s", database_id, key_id);
}

void key_wrapping_object_key(const char *database_id, const char *key_id, const char *wrapping_id,
                             char ret_key[OBJECT_KEY_SIZE])
{
    snprintf(ret_key, OBJECT_KEY_SIZE, "keys/%s/%s.%s", database_id, key_id, wrapping_id);
}

void key_destroyed_object_key(const char *database_id, const char *key_id,
                              char ret_key[OBJECT_KEY_SIZE])
{
    key_wrapping_object_key(database_id, key_id, DESTROYED_SUFFIX, ret_key);
}

// "keys/<database id>/<key id>", with "." and a suffix or without ("").
static bool parse_object_key(const char *object, char ret_database_id[UUID_TEXT_SIZE],
                             char ret_key_id[UUID_TEXT_SIZE], const char **ret_suffix)
{
    const size_t id_size = UUID_TEXT_SIZE - 1;
    const size_t database = strlen("keys/");
    const size_t key = database + id_size + 1;
    const size_t end = key + id_size;
    size_t size = strlen(object);
    if (size < end || object[key - 1] != '/' || (size > end && object[end] != '.')) {
        return false;
    }
    snprintf(ret_database_id, UUID_TEXT_SIZE, "%.36s", object + database);
    snprintf(ret_key_id, UUID_TEXT_SIZE, "%.36s", object + key);
    *ret_suffix = size > end ? object + end + 1 : "";
    return uuid_is_valid(ret_database_id) && uuid_is_valid(ret_key_id);
}

static bool is_wrapping_id(const char *text)
{
    uint8_t bytes[(WRAPPING_ID_SIZE - 1) / 2];
    return hex_decode(text, bytes, sizeof(bytes));
}

// --- which there are --------------------------------------------------------------------------

typedef struct KeyWalk {
    KeyState state; // of the key under way; "" when there is none
    Status (*on_key)(void *context, const KeyState *state, Error *error);
    void *context;
} KeyWalk;

static Status walk_flush(KeyWalk *walk, Error *error)
{
    KeyState state = walk->state;
    walk->state = (KeyState){0};
    return state.key_id[0] == '\0' ? STATUS_OK : walk->on_key(walk->context, &state, error);
}

static Status walk_object(KeyWalk *walk, const char *object, Error *error)
{
    char database_id[UUID_TEXT_SIZE];
    char key_id[UUID_TEXT_SIZE];
    const char *suffix = NULL;
    KeyState *state = &walk->state;
    if (!parse_object_key(object, database_id, key_id, &suffix)) {
        return STATUS_OK; // not ours
    }
    if (strcmp(state->key_id, key_id) != 0 || strcmp(state->database_id, database_id) != 0) {
        RETURN_IF_ERROR(walk_flush(walk, error));
        memcpy(state->database_id, database_id, UUID_TEXT_SIZE);
        memcpy(state->key_id, key_id, UUID_TEXT_SIZE);
    }
    if (suffix[0] == '\0') {
        state->has_record = true;
    } else if (strcmp(suffix, DESTROYED_SUFFIX) == 0) {
        state->is_destroyed = true;
    } else if (is_wrapping_id(suffix)) {
        if (state->wrapping_count == WRAPPING_COUNT_MAX) {
            error_set(error, REASON_EXHAUSTED, "data key '%s' is wrapped by more than %d keys",
                      key_id, WRAPPING_COUNT_MAX);
            return error_hint(error, "remove the wrappings below 'keys/' that nobody made");
        }
        snprintf(state->wrappings[state->wrapping_count++], WRAPPING_ID_SIZE, "%s", suffix);
    }
    return STATUS_OK;
}

Status each_data_key(Repository *repository, const char *database_id,
                     Status (*on_key)(void *context, const KeyState *state, Error *error),
                     void *context, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char prefix[OBJECT_KEY_SIZE] = "keys/";
    char token[STORAGE_KEY_SIZE_MAX + 1] = "";
    KeyWalk walk = {.on_key = on_key, .context = context};
    if (database_id != NULL) {
        snprintf(prefix, sizeof(prefix), "keys/%s/", database_id);
    }
    do {
        StoragePage page;
        arena_reset(arena);
        RETURN_IF_ERROR(storage_list(repository->storage, prefix, token[0] == '\0' ? NULL : token,
                                     KEY_PAGE_COUNT, arena, &page, error));
        for (size_t i = 0; i < page.count; i++) {
            RETURN_IF_ERROR(walk_object(&walk, page.objects[i].key, error));
        }
        const char *next = page.next_page_token;
        snprintf(token, sizeof(token), "%s", next == NULL ? "" : next);
    } while (token[0] != '\0');
    return walk_flush(&walk, error);
}

bool key_state_has(const KeyState *state, const char *wrapping_id)
{
    for (size_t i = 0; i < state->wrapping_count; i++) {
        if (strcmp(state->wrappings[i], wrapping_id) == 0) {
            return true;
        }
    }
    return false;
}

// --- records ----------------------------------------------------------------------------------

static void record_encode(const Repository *repository, const char *database_id, const char *key_id,
                          int64_t created_us, const Secret *key, uint8_t ret_data[RECORD_SIZE])
{
    uint8_t mac_key[AES256_KEY_SIZE];
    const char *parts[] = {repository->id, database_id, key_id, NULL};
    memset(ret_data, 0, RECORD_SIZE);
    memcpy(ret_data, RECORD_MAGIC, 8);
    put_u32(ret_data + 8, REPOSITORY_FORMAT_VERSION);
    id_decode(repository->id, ret_data + 16);
    id_decode(database_id, ret_data + 32);
    id_decode(key_id, ret_data + 48);
    put_u64(ret_data + 64, (uint64_t)created_us);
    key_derive(key, "key-record", parts, mac_key);
    crypto_hmac_sha256(mac_key, sizeof(mac_key), ret_data, RECORD_MAC_OFFSET,
                       ret_data + RECORD_MAC_OFFSET);
    explicit_bzero(mac_key, sizeof(mac_key));
}

// With `key` NULL the time is only what the record says.
static Status record_read(Repository *repository, const char *database_id, const char *key_id,
                          const Secret *key, int64_t *ret_created_us, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    uint8_t data[RECORD_SIZE];
    uint8_t expected[RECORD_SIZE];
    key_record_object_key(database_id, key_id, object);
    RETURN_IF_ERROR(storage_get_range(repository->storage, object, 0, sizeof(data), data, error));
    if (memcmp(data, RECORD_MAGIC, 8) == 0 && get_u32(data + 8) != REPOSITORY_FORMAT_VERSION) {
        return error_set(error, REASON_REPOSITORY_FORMAT, "object '%s' has format version %u",
                         object, get_u32(data + 8));
    }
    int64_t created_us = (int64_t)get_u64(data + 64);
    if (key != NULL) {
        record_encode(repository, database_id, key_id, created_us, key, expected);
        if (!crypto_equal(data, expected, sizeof(data))) {
            error_set(error, REASON_OBJECT_CORRUPT,
                      "object '%s' is damaged, from another place, or of another key", object);
            return error_hint(error, "bring the object back from a copy of the repository");
        }
    }
    *ret_created_us = created_us;
    return STATUS_OK;
}

// --- wrappings --------------------------------------------------------------------------------

static void wrapping_header_encode(const Repository *repository, const char *database_id,
                                   const char *key_id, size_t size,
                                   uint8_t ret_data[WRAPPING_HEADER_SIZE])
{
    memset(ret_data, 0, WRAPPING_HEADER_SIZE);
    memcpy(ret_data, WRAPPING_MAGIC, 8);
    put_u32(ret_data + 8, REPOSITORY_FORMAT_VERSION);
    put_u32(ret_data + 12, (uint32_t)size);
    id_decode(repository->id, ret_data + 16);
    id_decode(database_id, ret_data + 32);
    id_decode(key_id, ret_data + 48);
    bool is_id = hex_decode(key_wrapper_id(repository->wrapper), ret_data + 64, 8);
    assert(is_id);
}

static Status wrapping_is_damaged(const char *object, const char *what, Error *error)
{
    error_set(error, REASON_OBJECT_CORRUPT, "object '%s' %s", object, what);
    return error_hint(error, "bring the object back from a copy of the repository");
}

static Status unwrap(Repository *repository, const char *object, const char *database_id,
                     const char *key_id, const uint8_t *data, size_t size, Secret *ret_key,
                     Error *error)
{
    uint8_t expected[WRAPPING_HEADER_SIZE];
    if (size < WRAPPING_HEADER_SIZE || memcmp(data, WRAPPING_MAGIC, 8) != 0) {
        return wrapping_is_damaged(object, "is cut off or not what its name says", error);
    }
    if (get_u32(data + 8) != REPOSITORY_FORMAT_VERSION) {
        return error_set(error, REASON_REPOSITORY_FORMAT, "object '%s' has format version %u",
                         object, get_u32(data + 8));
    }
    wrapping_header_encode(repository, database_id, key_id, size - WRAPPING_HEADER_SIZE, expected);
    if (memcmp(data, expected, sizeof(expected)) != 0) {
        return wrapping_is_damaged(object, "is cut off or belongs to another place", error);
    }
    const WrapContext context = {
        .repository_id = repository->id, .database_id = database_id, .key_id = key_id};
    Status status = key_wrapper_unwrap(repository->wrapper, &context, data + WRAPPING_HEADER_SIZE,
                                       size - WRAPPING_HEADER_SIZE, ret_key, error);
    if (status != STATUS_OK && error->reason == REASON_KEY_WRONG) {
        return wrapping_is_damaged(
            object, "is damaged, from another place, or wrapped by another key", error);
    }
    return status == STATUS_OK ? STATUS_OK : error_wrap(error, "opening data key '%s'", key_id);
}

Status wrapping_read(Repository *repository, const char *database_id, const char *key_id,
                     Secret *ret_key, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secret_done) Secret key = {0};
    char object[OBJECT_KEY_SIZE];
    uint8_t digest[SHA256_SIZE];
    uint8_t *data = NULL;
    size_t size = 0;
    key_wrapping_object_key(database_id, key_id, key_wrapper_id(repository->wrapper), object);
    Status status =
        storage_get(repository->storage, object, WRAPPING_HEADER_SIZE + WRAPPED_SIZE_MAX, arena,
                    &data, &size, error);
    if (status == STATUS_RESOURCE_EXHAUSTED && error->reason == REASON_EXHAUSTED) {
        return wrapping_is_damaged(object, "is too large", error);
    }
    RETURN_IF_ERROR(status);
    crypto_sha256(data, size, digest);
    if (key_cache_get(repository->keys, digest, ret_key)) {
        return STATUS_OK; // its header and record were compared then, and names are in the header
    }
    RETURN_IF_ERROR(unwrap(repository, object, database_id, key_id, data, size, &key, error));
    int64_t created_us = 0;
    status = record_read(repository, database_id, key_id, &key, &created_us, error);
    if (status == STATUS_NOT_FOUND) {
        error_clear(error); // what the key opens will tell whether it is the right one
    } else {
        RETURN_IF_ERROR(status);
        key_cache_put(repository->keys, digest, &key);
    }
    *ret_key = key;
    key = (Secret){0};
    return STATUS_OK;
}

Status wrapping_write(Repository *repository, const char *database_id, const char *key_id,
                      const Secret *key, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char object[OBJECT_KEY_SIZE];
    uint8_t *wrapped = NULL;
    size_t size = 0;
    const WrapContext context = {
        .repository_id = repository->id, .database_id = database_id, .key_id = key_id};
    RETURN_IF_ERROR(
        key_wrapper_wrap(repository->wrapper, &context, key, arena, &wrapped, &size, error));
    uint8_t *data = arena_alloc(arena, WRAPPING_HEADER_SIZE + size);
    wrapping_header_encode(repository, database_id, key_id, size, data);
    memcpy(data + WRAPPING_HEADER_SIZE, wrapped, size);
    key_wrapping_object_key(database_id, key_id, key_wrapper_id(repository->wrapper), object);
    const StorageWriteOptions options = {.is_create_only = true};
    return storage_put(repository->storage, object, data, WRAPPING_HEADER_SIZE + size, &options,
                       error);
}

// --- opening one ------------------------------------------------------------------------------

static Status key_is_destroyed(Repository *repository, const char *database_id, const char *key_id,
                               bool *ret_is_destroyed, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char object[OBJECT_KEY_SIZE];
    uint8_t *data = NULL;
    size_t size = 0;
    *ret_is_destroyed = false;
    key_destroyed_object_key(database_id, key_id, object);
    Status status =
        storage_get(repository->storage, object, DESTROYED_SIZE_MAX, arena, &data, &size, error);
    if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(status);
    CLEANUP(json_freep) Json *json = NULL;
    const char *moment = "an unknown day";
    if (json_parse((const char *)data, size, &json, error) == STATUS_OK) {
        moment = json_get_text(json, "destroyed", moment);
    }
    *ret_is_destroyed = true;
    error_set(error, REASON_KEY_MISSING, "the key '%s' of database '%s' was destroyed on %.40s",
              key_id, database_id, moment);
    return error_hint(error, "what was sealed with it cannot be read by anybody any more; newer "
                             "backups have another key");
}

typedef struct OtherWrappings {
    const char *key_id;
    char text[256];
    size_t size;
} OtherWrappings;

static Status note_wrappings(void *context, const KeyState *state, Error *error)
{
    (void)error;
    OtherWrappings *others = context;
    for (size_t i = 0; strcmp(state->key_id, others->key_id) == 0 && i < state->wrapping_count;
         i++) {
        int size = snprintf(others->text + others->size, sizeof(others->text) - others->size,
                            "%s%s", others->size == 0 ? "" : ", ", state->wrappings[i]);
        others->size = MIN(sizeof(others->text) - 1, others->size + (size_t)MAX(size, 0));
    }
    return STATUS_OK;
}

// Why a wrapping is not there, in words that say what to do.
static Status explain_missing(Repository *repository, const char *database_id, const char *key_id,
                              Error *error)
{
    bool is_destroyed = false;
    OtherWrappings others = {.key_id = key_id};
    Status status = key_is_destroyed(repository, database_id, key_id, &is_destroyed, error);
    if (status != STATUS_OK || is_destroyed) {
        return error->status;
    }
    RETURN_IF_ERROR(each_data_key(repository, database_id, note_wrappings, &others, error));
    if (others.size > 0) {
        error_set(error, REASON_KEY_MISSING,
                  "data key '%s' of database '%s' is not wrapped by %s but by %s", key_id,
                  database_id, key_wrapper_name(repository->wrapper), others.text);
        return error_hint(error, "open it with that key, or finish what 'holdfast repository "
                                 "rotate-key' began: run it again");
    }
    error_set(error, REASON_KEY_MISSING, "data key '%s' of database '%s' is not in the repository",
              key_id, database_id);
    return error_hint(error,
                      "bring object 'keys/%s/%s.%s' back from a copy of the repository; backups "
                      "sealed with it cannot be read without it",
                      database_id, key_id, key_wrapper_id(repository->wrapper));
}

Status repository_data_key_by_id(Repository *repository, const char *database_id,
                                 const char *key_id, DataKey *ret_key, Error *error)
{
    RETURN_IF_ERROR(need_wrapping_key(repository, error));
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    RETURN_IF_ERROR(id_check(key_id, "data key", error));
    DataKey key = {0};
    Status status = wrapping_read(repository, database_id, key_id, &key.bytes, error);
    if (status == STATUS_NOT_FOUND) {
        return explain_missing(repository, database_id, key_id, error);
    }
    RETURN_IF_ERROR(status);
    snprintf(key.id, sizeof(key.id), "%s", key_id);
    *ret_key = key;
    return STATUS_OK;
}

// --- the newest, and a new one ----------------------------------------------------------------

typedef struct NewestKey {
    Repository *repository;
    char id[UUID_TEXT_SIZE]; // "": none that we can open
    int64_t created_us;
    size_t record_count; // of all keys there ever were
} NewestKey;

static Status consider_key(void *context, const KeyState *state, Error *error)
{
    NewestKey *newest = context;
    int64_t created_us = 0;
    newest->record_count += state->has_record ? 1 : 0;
    if (!state->has_record || state->is_destroyed ||
        !key_state_has(state, key_wrapper_id(newest->repository->wrapper))) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(record_read(newest->repository, state->database_id, state->key_id, NULL,
                                &created_us, error));
    if (newest->id[0] == '\0' || created_us > newest->created_us ||
        (created_us == newest->created_us && strcmp(state->key_id, newest->id) > 0)) {
        newest->created_us = created_us;
        memcpy(newest->id, state->key_id, UUID_TEXT_SIZE);
    }
    return STATUS_OK;
}

static Status find_newest(Repository *repository, const char *database_id, NewestKey *ret_newest,
                          Error *error)
{
    NewestKey newest = {.repository = repository};
    RETURN_IF_ERROR(each_data_key(repository, database_id, consider_key, &newest, error));
    *ret_newest = newest;
    return STATUS_OK;
}

// The id of a database's n-th key follows from its name, so that of several makers at once one
// wins.
static void numbered_key_id(const Repository *repository, const char *database_id, size_t number,
                            char ret_id[UUID_TEXT_SIZE])
{
    char text[160];
    uint8_t digest[SHA256_SIZE];
    int size = number == 0 ? snprintf(text, sizeof(text), "holdfast/1/first-key\n%s\n%s",
                                      repository->id, database_id)
                           : snprintf(text, sizeof(text), "holdfast/1/next-key\n%s\n%s\n%zu",
                                      repository->id, database_id, number);
    crypto_sha256(text, (size_t)size, digest);
    digest[6] = (uint8_t)((digest[6] & 0x0f) | 0x80);
    digest[8] = (uint8_t)((digest[8] & 0x3f) | 0x80);
    id_encode(digest, ret_id);
}

// The record makes it a key. Two makers with different wrapping keys may each have written a
// wrapping: the one that the record does not agree with never becomes one.
static Status write_record(Repository *repository, const char *database_id, const char *key_id,
                           const Secret *key, int64_t created_us, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    uint8_t data[RECORD_SIZE];
    const StorageWriteOptions options = {.is_create_only = true};
    record_encode(repository, database_id, key_id, created_us, key, data);
    key_record_object_key(database_id, key_id, object);
    Status status = storage_put(repository->storage, object, data, sizeof(data), &options, error);
    if (status != STATUS_ALREADY_EXISTS) {
        return status;
    }
    error_clear(error); // somebody else was quicker
    status = record_read(repository, database_id, key_id, key, &created_us, error);
    if (status != STATUS_OK && error->reason == REASON_OBJECT_CORRUPT) {
        // Ours is no key: nothing was sealed with it.
        key_wrapping_object_key(database_id, key_id, key_wrapper_id(repository->wrapper), object);
        error_clear(error);
        RETURN_IF_ERROR(storage_remove(repository->storage, object, error));
        error_set(error, REASON_CONFLICT,
                  "another process with another wrapping key made data key '%s'", key_id);
        return error_hint(error, "the wrapping key is being rotated: try again with the new one");
    }
    return status;
}

static Status make_key(Repository *repository, const char *database_id, const NewestKey *newest,
                       Error *error)
{
    char key_id[UUID_TEXT_SIZE];
    uint8_t bytes[AES256_KEY_SIZE];
    numbered_key_id(repository, database_id, newest->record_count, key_id);
    crypto_random(bytes, sizeof(bytes));
    CLEANUP(secret_done) Secret key = secret_from_bytes(bytes, sizeof(bytes));
    explicit_bzero(bytes, sizeof(bytes));
    Status status = wrapping_write(repository, database_id, key_id, &key, error);
    if (status == STATUS_ALREADY_EXISTS) {
        error_clear(error); // theirs is the key
        secret_done(&key);
        status = wrapping_read(repository, database_id, key_id, &key, error);
    }
    RETURN_IF_ERROR(status);
    // Its time orders it after every other, whatever the clocks of the makers say.
    int64_t created_us = clock_now_us();
    if (newest->id[0] != '\0' && created_us <= newest->created_us) {
        created_us = newest->created_us + 1;
    }
    RETURN_IF_ERROR(write_record(repository, database_id, key_id, &key, created_us, error));
    // A rotation that ended meanwhile has not seen this key; then nobody may seal with it.
    bool is_known = false;
    RETURN_IF_ERROR(wrapping_key_is_known(repository, &is_known, error));
    if (!is_known) {
        error_set(error, REASON_KEY_WRONG, "%s was replaced by another key while it was used",
                  key_wrapper_name(repository->wrapper));
        return error_hint(error, "use the repository's new key");
    }
    return STATUS_OK;
}

Status repository_data_key(Repository *repository, const char *database_id, bool may_create,
                           DataKey *ret_key, Error *error)
{
    NewestKey newest;
    RETURN_IF_ERROR(need_wrapping_key(repository, error));
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    RETURN_IF_ERROR(find_newest(repository, database_id, &newest, error));
    if (newest.id[0] == '\0' && may_create) {
        RETURN_IF_ERROR(make_key(repository, database_id, &newest, error));
        RETURN_IF_ERROR(find_newest(repository, database_id, &newest, error));
    }
    if (newest.id[0] == '\0') {
        return error_set(error, REASON_KEY_MISSING,
                         newest.record_count == 0
                             ? "database '%s' has no data key in the repository"
                             : "no data key of database '%s' is left that this key opens",
                         database_id);
    }
    return repository_data_key_by_id(repository, database_id, newest.id, ret_key, error);
}

Status repository_data_key_renew(Repository *repository, const char *database_id, DataKey *ret_key,
                                 Error *error)
{
    NewestKey newest;
    RETURN_IF_ERROR(need_wrapping_key(repository, error));
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    RETURN_IF_ERROR(find_newest(repository, database_id, &newest, error));
    RETURN_IF_ERROR(make_key(repository, database_id, &newest, error));
    return repository_data_key(repository, database_id, false, ret_key, error);
}

// --- all of them ------------------------------------------------------------------------------

typedef struct KeyList {
    Repository *repository;
    Arena *arena;
    DataKeyFacts *facts;
    size_t count, capacity;
} KeyList;

static Status list_key(void *context, const KeyState *state, Error *error)
{
    KeyList *list = context;
    DataKeyFacts facts = {.is_destroyed = state->is_destroyed, .wrapped_by = ""};
    memcpy(facts.database_id, state->database_id, UUID_TEXT_SIZE);
    memcpy(facts.key_id, state->key_id, UUID_TEXT_SIZE);
    if (state->has_record) {
        RETURN_IF_ERROR(record_read(list->repository, state->database_id, state->key_id, NULL,
                                    &facts.created_us, error));
    }
    for (size_t i = 0; i < state->wrapping_count; i++) {
        facts.wrapped_by = arena_format(list->arena, "%s%s%s", facts.wrapped_by, i == 0 ? "" : ", ",
                                        state->wrappings[i]);
    }
    const KeyWrapper *wrapper = list->repository->wrapper;
    facts.can_open = wrapper != NULL && key_state_has(state, key_wrapper_id(wrapper));
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        list->facts = mem_realloc_array(list->facts, list->capacity, sizeof(facts));
    }
    list->facts[list->count++] = facts;
    return STATUS_OK;
}

Status repository_data_key_list(Repository *repository, Arena *arena, DataKeyFacts **ret_facts,
                                size_t *ret_count, Error *error)
{
    KeyList list = {.repository = repository, .arena = arena};
    Status status = each_data_key(repository, NULL, list_key, &list, error);
    if (status == STATUS_OK) {
        *ret_facts = arena_alloc_array(arena, list.count + 1, sizeof(**ret_facts));
        if (list.count > 0) {
            memcpy(*ret_facts, list.facts, list.count * sizeof(**ret_facts));
        }
        *ret_count = list.count;
    }
    mem_free(list.facts);
    return status;
}
