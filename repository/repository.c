// SPDX-License-Identifier: Apache-2.0
// The repository object: what a location is; and the wrapping keys that open it.
#include "repository/repository.h"

#include "common/clock.h"
#include "common/memory.h"
#include "repository/repository_keys.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define REPOSITORY_KEY "repository"
#define REPOSITORY_FORMAT_NAME "holdfast-repository"
#define REPOSITORY_OBJECT_SIZE_MAX 65536

#define WRAPPING_KEY_FORMAT_NAME "holdfast-wrapping-key"
#define WRAPPING_KEY_PAGE_COUNT 16

static Repository *repository_new(Storage *storage, KeyWrapper *wrapper)
{
    Repository *repository = mem_alloc(sizeof(*repository));
    repository->storage = storage;
    repository->wrapper = wrapper;
    repository->keys = key_cache_new();
    return repository;
}

void repository_return(Repository *repository)
{
    if (repository != NULL) {
        key_cache_free(repository->keys);
        mem_free(repository);
    }
}

void repository_free(Repository *repository)
{
    if (repository != NULL) {
        storage_free(repository->storage);
        key_wrapper_free(repository->wrapper);
        repository_return(repository);
    }
}

void repository_freep(Repository **repository)
{
    repository_free(*repository);
    *repository = NULL;
}

const char *repository_id(const Repository *repository)
{
    return repository->id;
}

Storage *repository_storage(Repository *repository)
{
    return repository->storage;
}

const KeyWrapper *repository_wrapper(Repository *repository)
{
    return repository->wrapper;
}

// --- wrapping keys ----------------------------------------------------------------------------

void wrapping_key_object_key(const char *wrapping_id, char ret_key[OBJECT_KEY_SIZE])
{
    (void)snprintf(ret_key, OBJECT_KEY_SIZE, "wrapping-keys/%s", wrapping_id);
}

static Status put_json(Storage *storage, const char *object, const Json *json, Error *error)
{
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, REPOSITORY_OBJECT_SIZE_MAX);
    bool is_written = json_write(json, true, &text) && buffer_append_text(&text, "\n");
    assert(is_written);
    const StorageWriteOptions options = {.is_create_only = true};
    return storage_put(storage, object, text.data, text.size, &options, error);
}

Status wrapping_key_write(Repository *repository, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    char created[TIME_TEXT_SIZE];
    time_format(clock_now_us(), created);
    CLEANUP(json_freep) Json *json = json_new_object();
    json_set_text(json, "format", WRAPPING_KEY_FORMAT_NAME);
    json_set_integer(json, "version", REPOSITORY_FORMAT_VERSION);
    json_set_text(json, "kind", key_wrapper_kind(repository->wrapper));
    json_set_text(json, "name", key_wrapper_name(repository->wrapper));
    json_set_text(json, "created", created);
    wrapping_key_object_key(key_wrapper_id(repository->wrapper), object);
    Status status = put_json(repository->storage, object, json, error);
    if (status == STATUS_ALREADY_EXISTS) {
        error_clear(error);
        return STATUS_OK;
    }
    return status;
}

Status wrapping_key_is_known(Repository *repository, bool *ret_is_known, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    StorageObject facts;
    wrapping_key_object_key(key_wrapper_id(repository->wrapper), object);
    Status status = storage_stat(repository->storage, object, &facts, error);
    *ret_is_known = status == STATUS_OK;
    if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        return STATUS_OK;
    }
    return status;
}

// What people call a wrapping key of the repository; its id where that cannot be read.
static const char *wrapping_key_shown(Repository *repository, const char *object, Arena *arena)
{
    Error error = {0};
    uint8_t *data = NULL;
    size_t size = 0;
    CLEANUP(json_freep) Json *json = NULL;
    const char *id = strrchr(object, '/') + 1;
    if (storage_get(repository->storage, object, REPOSITORY_OBJECT_SIZE_MAX, arena, &data, &size,
                    &error) != STATUS_OK ||
        json_parse((const char *)data, size, &json, &error) != STATUS_OK) {
        return id;
    }
    return arena_string(arena, json_get_text(json, "name", id));
}

Status wrapping_key_wrong(Repository *repository, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buffer_done) Buffer names = {0};
    StoragePage page;
    buffer_init(&names, 400);
    RETURN_IF_ERROR(storage_list(repository->storage, "wrapping-keys/", NULL,
                                 WRAPPING_KEY_PAGE_COUNT, arena, &page, error));
    for (size_t i = 0; i < page.count; i++) {
        buffer_append_format(&names, "%s%.200s", i == 0 ? "" : " or ",
                             wrapping_key_shown(repository, page.objects[i].key, arena));
    }
    error_set(error, REASON_KEY_WRONG, "%s does not open the repository at '%s'",
              key_wrapper_name(repository->wrapper), storage_describe(repository->storage));
    if (page.count == 0) {
        return error_hint(error, "no key opens it: bring the objects below 'wrapping-keys/' back "
                                 "from a copy of the repository");
    }
    return error_hint(error, "use %s", buffer_text(&names));
}

// --- the repository's own object --------------------------------------------------------------

static Status write_description(const Repository *repository, Error *error)
{
    char created[TIME_TEXT_SIZE];
    time_format(clock_now_us(), created);
    CLEANUP(json_freep) Json *json = json_new_object();
    json_set_text(json, "format", REPOSITORY_FORMAT_NAME);
    json_set_integer(json, "version", REPOSITORY_FORMAT_VERSION);
    json_set_text(json, "repository_id", repository->id);
    json_set_text(json, "created", created);
    return put_json(repository->storage, REPOSITORY_KEY, json, error);
}

static Status repository_is_there(const Repository *repository, Error *error)
{
    return error_set(error, REASON_EXISTS, "there is a repository at '%s' already",
                     storage_describe(repository->storage));
}

Status repository_create(Storage *storage, KeyWrapper *wrapper, Repository **ret_repository,
                         Error *error)
{
    CLEANUP(repository_freep) Repository *repository = repository_new(storage, wrapper);
    if (wrapper == NULL) {
        error_set(error, REASON_KEY_MISSING, "a repository is created with a wrapping key");
        return error_hint(error, "make one with: holdfast repository create-key --key-file FILE");
    }
    crypto_uuid(repository->id);
    // The key is written down first: a repository that is there has a key that opens it. But not
    // into somebody else's.
    StorageObject facts;
    Status status = storage_stat(storage, REPOSITORY_KEY, &facts, error);
    if (status == STATUS_OK) {
        return repository_is_there(repository, error);
    }
    if (status != STATUS_NOT_FOUND) {
        return status;
    }
    error_clear(error);
    RETURN_IF_ERROR(wrapping_key_write(repository, error));
    status = write_description(repository, error);
    if (status == STATUS_ALREADY_EXISTS) {
        return repository_is_there(repository, error);
    }
    RETURN_IF_ERROR(status);
    *ret_repository = TAKE_PTR(repository);
    return STATUS_OK;
}

static Status format_unknown(const Repository *repository, const char *what, Error *error)
{
    error_set(error, REASON_REPOSITORY_FORMAT, "the repository at '%s' %s",
              storage_describe(repository->storage), what);
    return error_hint(error, "open it with the version of Holdfast that wrote it, or a newer one");
}

static Status read_description(Repository *repository, const uint8_t *data, size_t size,
                               Error *error)
{
    CLEANUP(json_freep) Json *json = NULL;
    if (json_parse((const char *)data, size, &json, error) != STATUS_OK ||
        strcmp(json_get_text(json, "format", ""), REPOSITORY_FORMAT_NAME) != 0) {
        return format_unknown(repository, "does not describe itself as one of Holdfast", error);
    }
    if (json_get_integer(json, "version", 0) != REPOSITORY_FORMAT_VERSION) {
        return format_unknown(repository, "has a format version that is not 1", error);
    }
    const char *id = json_get_text(json, "repository_id", "");
    if (!uuid_is_valid(id)) {
        return format_unknown(repository, "has no valid id", error);
    }
    (void)snprintf(repository->id, sizeof(repository->id), "%s", id);
    return STATUS_OK;
}

static Status load_description(Repository *repository, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    uint8_t *data = NULL;
    size_t size = 0;
    Status status = storage_get(repository->storage, REPOSITORY_KEY, REPOSITORY_OBJECT_SIZE_MAX,
                                arena, &data, &size, error);
    if (status == STATUS_NOT_FOUND) {
        error_set(error, REASON_REPOSITORY_MISSING, "there is no repository at '%s'",
                  storage_describe(repository->storage));
        return error_hint(error,
                          "check the location, or create one with: holdfast repository init");
    }
    RETURN_IF_ERROR(status);
    return read_description(repository, data, size, error);
}

Status repository_open(Storage *storage, KeyWrapper *wrapper, Repository **ret_repository,
                       Error *error)
{
    CLEANUP(repository_freep) Repository *repository = repository_new(storage, wrapper);
    RETURN_IF_ERROR(load_description(repository, error));
    if (wrapper != NULL) {
        bool is_known = false;
        RETURN_IF_ERROR(wrapping_key_is_known(repository, &is_known, error));
        if (!is_known) {
            return wrapping_key_wrong(repository, error);
        }
    }
    *ret_repository = TAKE_PTR(repository);
    return STATUS_OK;
}

Status repository_borrow(Storage *storage, KeyWrapper *wrapper, Repository **ret_repository,
                         Error *error)
{
    Repository *repository = repository_new(storage, wrapper);
    Status status = load_description(repository, error);
    if (status != STATUS_OK) {
        repository_return(repository);
        return status;
    }
    *ret_repository = repository;
    return STATUS_OK;
}
