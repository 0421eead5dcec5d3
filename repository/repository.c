// SPDX-License-Identifier: Apache-2.0
// The repository object: what a location is, and whether our key belongs to it.
#include "repository/repository.h"

#include "common/clock.h"
#include "common/memory.h"
#include "repository/repository_blob.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define REPOSITORY_KEY "repository"
#define REPOSITORY_FORMAT_NAME "holdfast-repository"
#define REPOSITORY_OBJECT_SIZE_MAX 65536

static Repository *repository_new(Storage *storage, const Secret *wrapping_key)
{
    Repository *repository = mem_alloc(sizeof(*repository));
    repository->storage = storage;
    if (wrapping_key != NULL) {
        repository->wrapping_key = secret_copy(wrapping_key);
    }
    return repository;
}

void repository_free(Repository *repository)
{
    if (repository != NULL) {
        storage_free(repository->storage);
        secret_done(&repository->wrapping_key);
        mem_free(repository);
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

static Status write_description(const Repository *repository, Error *error)
{
    char created[TIME_TEXT_SIZE];
    char fingerprint[17];
    time_format(clock_now_us(), created);
    key_fingerprint(&repository->wrapping_key, fingerprint);
    CLEANUP(json_freep) Json *json = json_new_object();
    json_set_text(json, "format", REPOSITORY_FORMAT_NAME);
    json_set_integer(json, "version", REPOSITORY_FORMAT_VERSION);
    json_set_text(json, "repository_id", repository->id);
    json_set_text(json, "created", created);
    json_set_text(json, "key_fingerprint", fingerprint);
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, REPOSITORY_OBJECT_SIZE_MAX);
    bool is_written = json_write(json, true, &text) && buffer_append_text(&text, "\n");
    assert(is_written);
    const StorageWriteOptions options = {.is_create_only = true};
    return storage_put(repository->storage, REPOSITORY_KEY, text.data, text.size, &options, error);
}

Status repository_create(Storage *storage, const Secret *wrapping_key, Repository **ret_repository,
                         Error *error)
{
    CLEANUP(repository_freep) Repository *repository = repository_new(storage, wrapping_key);
    if (repository->wrapping_key.size != AES256_KEY_SIZE) {
        error_set(error, REASON_KEY_MISSING, "a repository is created with a key of %d bytes",
                  AES256_KEY_SIZE);
        return error_hint(error, "make one with: holdfast repository create-key --key-file FILE");
    }
    crypto_uuid(repository->id);
    Status status = write_description(repository, error);
    if (status == STATUS_ALREADY_EXISTS) {
        return error_set(error, REASON_EXISTS, "there is a repository at '%s' already",
                         storage_describe(storage));
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
    const char *fingerprint = json_get_text(json, "key_fingerprint", "");
    if (!uuid_is_valid(id)) {
        return format_unknown(repository, "has no valid id", error);
    }
    snprintf(repository->id, sizeof(repository->id), "%s", id);
    if (repository->wrapping_key.size == 0) {
        return STATUS_OK;
    }
    char ours[17];
    key_fingerprint(&repository->wrapping_key, ours);
    if (strcmp(ours, fingerprint) != 0) {
        error_set(error, REASON_KEY_WRONG, "the key %s does not open the repository at '%s'", ours,
                  storage_describe(repository->storage));
        return error_hint(error, "use the key file whose fingerprint is %.16s", fingerprint);
    }
    return STATUS_OK;
}

Status repository_open(Storage *storage, const Secret *wrapping_key, Repository **ret_repository,
                       Error *error)
{
    CLEANUP(repository_freep) Repository *repository = repository_new(storage, wrapping_key);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    uint8_t *data = NULL;
    size_t size = 0;
    Status status = storage_get(storage, REPOSITORY_KEY, REPOSITORY_OBJECT_SIZE_MAX, arena, &data,
                                &size, error);
    if (status == STATUS_NOT_FOUND) {
        error_set(error, REASON_REPOSITORY_MISSING, "there is no repository at '%s'",
                  storage_describe(storage));
        return error_hint(error,
                          "check the location, or create one with: holdfast repository init");
    }
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(read_description(repository, data, size, error));
    *ret_repository = TAKE_PTR(repository);
    return STATUS_OK;
}
