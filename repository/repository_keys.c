// SPDX-License-Identifier: Apache-2.0
// The key file, and the data keys that it wraps.
#include "common/clock.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/repository_blob.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_FILE_PREFIX "holdfast-key-1:"
#define KEY_FILE_SIZE_MAX 256
#define KEY_OBJECT_MAGIC "HFKEY001"
#define KEY_OBJECT_NONCE_OFFSET 72
#define KEY_OBJECT_HEADER_SIZE 84
#define KEY_OBJECT_SIZE (KEY_OBJECT_HEADER_SIZE + AES256_KEY_SIZE + GCM_TAG_SIZE)
#define KEY_PAGE_COUNT 1000

Status key_file_create(const char *path, Error *error)
{
    uint8_t key[AES256_KEY_SIZE];
    char digits[2 * AES256_KEY_SIZE + 1];
    char line[sizeof(KEY_FILE_PREFIX) + sizeof(digits) + 1];
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) {
        error_set(error, REASON_EXISTS, "'%s' exists already", path);
        return error_hint(error, "a key is never overwritten: choose another path, or move the old "
                                 "key to a safe place first");
    }
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "creating key file '%s'", path);
    }
    crypto_random(key, sizeof(key));
    hex_encode(key, sizeof(key), digits);
    int size = snprintf(line, sizeof(line), "%s%s\n", KEY_FILE_PREFIX, digits);
    assert(size > 0 && (size_t)size < sizeof(line));
    Status status = file_write_all(fd, line, (size_t)size, error);
    explicit_bzero(key, sizeof(key));
    explicit_bzero(digits, sizeof(digits));
    explicit_bzero(line, sizeof(line));
    if (status == STATUS_OK && fsync(fd) != 0) {
        status = error_set_errno(error, REASON_INTERNAL, errno, "writing key file '%s'", path);
    }
    if (status != STATUS_OK) {
        (void)unlink(path); // half a key opens nothing
        return status;
    }
    CLEANUP_FREE char *directory = string_copy(path);
    char *slash = strrchr(directory, '/');
    if (slash == NULL) {
        return dir_sync(".", error);
    }
    slash[slash == directory ? 1 : 0] = '\0';
    return dir_sync(directory, error);
}

static Status key_file_parse(const char *path, char *text, Secret *ret_key, Error *error)
{
    uint8_t key[AES256_KEY_SIZE];
    size_t size = strlen(text);
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r')) {
        text[--size] = '\0';
    }
    if (!text_has_prefix(text, KEY_FILE_PREFIX) ||
        !hex_decode(text + strlen(KEY_FILE_PREFIX), key, sizeof(key))) {
        error_set(error, REASON_KEY_WRONG, "'%s' is not a key file", path);
        return error_hint(error,
                          "a key file is one line, '%s' and 64 hexadecimal digits, made by: "
                          "holdfast repository create-key",
                          KEY_FILE_PREFIX);
    }
    *ret_key = secret_from_bytes(key, sizeof(key));
    explicit_bzero(key, sizeof(key));
    return STATUS_OK;
}

Status key_file_read(const char *path, Secret *ret_key, Error *error)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        error_set(error, REASON_KEY_MISSING, "there is no key file '%s'", path);
        return error_hint(error, "bring it back from where it is kept; without it nobody can read "
                                 "the repository. A new repository's is made by: holdfast "
                                 "repository create-key");
    }
    if (fd < 0 || fstat(fd, &facts) != 0) {
        return error_set_errno(error, REASON_KEY_MISSING, errno, "opening key file '%s'", path);
    }
    if (!S_ISREG(facts.st_mode)) {
        return error_set(error, REASON_KEY_WRONG, "'%s' is not a file", path);
    }
    if ((facts.st_mode & 077) != 0) {
        error_set(error, REASON_PRECONDITION, "others may read the key file '%s' (mode %04o)", path,
                  (unsigned)(facts.st_mode & 07777));
        return error_hint(error, "chmod 600 '%s'", path);
    }
    char text[KEY_FILE_SIZE_MAX + 1];
    size_t size = 0;
    RETURN_IF_ERROR(file_read_at(fd, text, KEY_FILE_SIZE_MAX, 0, &size, error));
    text[size] = '\0';
    Status status = key_file_parse(path, text, ret_key, error);
    explicit_bzero(text, sizeof(text));
    return status;
}

void key_fingerprint(const Secret *key, char ret_text[17])
{
    static const char *const parts[] = {NULL};
    uint8_t derived[AES256_KEY_SIZE];
    key_derive(key, "fingerprint", parts, derived);
    hex_encode(derived, 8, ret_text);
}

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
    if (repository->wrapping_key.size == 0) {
        error_set(error, REASON_KEY_MISSING, "the repository was opened without its key file");
        return error_hint(error, "name the key file");
    }
    return STATUS_OK;
}

static void key_object_key(const char *database_id, const char *key_id,
                           char ret_key[OBJECT_KEY_SIZE])
{
    snprintf(ret_key, OBJECT_KEY_SIZE, "keys/%s/%s", database_id, key_id);
}

static void wrap_key_derive(const Repository *repository, const char *database_id,
                            const char *key_id, uint8_t ret_key[AES256_KEY_SIZE])
{
    const char *parts[] = {repository->id, database_id, key_id, NULL};
    key_derive(&repository->wrapping_key, "wrap", parts, ret_key);
}

static void key_header_encode(const Repository *repository, const char *database_id,
                              const char *key_id, int64_t created_us,
                              uint8_t ret_data[KEY_OBJECT_NONCE_OFFSET])
{
    memset(ret_data, 0, KEY_OBJECT_NONCE_OFFSET);
    memcpy(ret_data, KEY_OBJECT_MAGIC, 8);
    put_u32(ret_data + 8, REPOSITORY_FORMAT_VERSION);
    id_decode(repository->id, ret_data + 16);
    id_decode(database_id, ret_data + 32);
    id_decode(key_id, ret_data + 48);
    put_u64(ret_data + 64, (uint64_t)created_us);
}

// Opens one wrapped key. `ret_key` may be NULL.
static Status key_object_read(Repository *repository, const char *database_id, const char *key_id,
                              DataKey *ret_key, int64_t *ret_created_us, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    uint8_t data[KEY_OBJECT_SIZE];
    uint8_t expected[KEY_OBJECT_NONCE_OFFSET];
    key_object_key(database_id, key_id, object);
    Status status = storage_get_range(repository->storage, object, 0, sizeof(data), data, error);
    if (status == STATUS_NOT_FOUND) {
        error_set(error, REASON_KEY_MISSING,
                  "data key '%s' of database '%s' is not in the repository", key_id, database_id);
        return error_hint(error,
                          "bring object '%s' back from a copy of the repository; backups "
                          "sealed with it cannot be read without it",
                          object);
    }
    RETURN_IF_ERROR(status);
    int64_t created_us = (int64_t)get_u64(data + 64);
    key_header_encode(repository, database_id, key_id, created_us, expected);
    uint8_t wrap_key[AES256_KEY_SIZE];
    uint8_t plain[AES256_KEY_SIZE + GCM_TAG_SIZE];
    wrap_key_derive(repository, database_id, key_id, wrap_key);
    bool is_open =
        memcmp(data, expected, sizeof(expected)) == 0 &&
        crypto_open(wrap_key, data + KEY_OBJECT_NONCE_OFFSET, data, KEY_OBJECT_HEADER_SIZE,
                    data + KEY_OBJECT_HEADER_SIZE, KEY_OBJECT_SIZE - KEY_OBJECT_HEADER_SIZE, plain);
    explicit_bzero(wrap_key, sizeof(wrap_key));
    if (!is_open) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "object '%s' is damaged, from another place, or wrapped by another key",
                         object);
    }
    if (ret_key != NULL) {
        snprintf(ret_key->id, sizeof(ret_key->id), "%s", key_id);
        ret_key->bytes = secret_from_bytes(plain, AES256_KEY_SIZE);
    }
    explicit_bzero(plain, sizeof(plain));
    *ret_created_us = created_us;
    return STATUS_OK;
}

// A database's first key has an id that follows from its name, so that of several makers at once
// one wins.
static void first_key_id(const Repository *repository, const char *database_id,
                         char ret_id[UUID_TEXT_SIZE])
{
    char text[128];
    uint8_t digest[SHA256_SIZE];
    int size =
        snprintf(text, sizeof(text), "holdfast/1/first-key\n%s\n%s", repository->id, database_id);
    crypto_sha256(text, (size_t)size, digest);
    digest[6] = (uint8_t)((digest[6] & 0x0f) | 0x80);
    digest[8] = (uint8_t)((digest[8] & 0x3f) | 0x80);
    id_encode(digest, ret_id);
}

static Status create_first_key(Repository *repository, const char *database_id, Error *error)
{
    char key_id[UUID_TEXT_SIZE];
    char object[OBJECT_KEY_SIZE];
    uint8_t data[KEY_OBJECT_SIZE];
    uint8_t key[AES256_KEY_SIZE];
    uint8_t wrap_key[AES256_KEY_SIZE];
    first_key_id(repository, database_id, key_id);
    key_object_key(database_id, key_id, object);
    crypto_random(key, sizeof(key));
    key_header_encode(repository, database_id, key_id, clock_now_us(), data);
    crypto_random(data + KEY_OBJECT_NONCE_OFFSET, GCM_NONCE_SIZE);
    wrap_key_derive(repository, database_id, key_id, wrap_key);
    crypto_seal(wrap_key, data + KEY_OBJECT_NONCE_OFFSET, data, KEY_OBJECT_HEADER_SIZE, key,
                sizeof(key), data + KEY_OBJECT_HEADER_SIZE);
    explicit_bzero(key, sizeof(key));
    explicit_bzero(wrap_key, sizeof(wrap_key));
    const StorageWriteOptions options = {.is_create_only = true};
    Status status = storage_put(repository->storage, object, data, sizeof(data), &options, error);
    if (status == STATUS_ALREADY_EXISTS) {
        error_clear(error); // somebody else was quicker: theirs is the key
        return STATUS_OK;
    }
    return status;
}

static Status find_newest(Repository *repository, const char *database_id,
                          char ret_id[UUID_TEXT_SIZE], Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *prefix = arena_format(arena, "keys/%s/", database_id);
    StoragePage page;
    RETURN_IF_ERROR(
        storage_list(repository->storage, prefix, NULL, KEY_PAGE_COUNT, arena, &page, error));
    int64_t newest_us = INT64_MIN;
    ret_id[0] = '\0';
    for (size_t i = 0; i < page.count; i++) {
        const char *key_id = page.objects[i].key + strlen(prefix);
        int64_t created_us = 0;
        if (!uuid_is_valid(key_id)) {
            continue;
        }
        RETURN_IF_ERROR(key_object_read(repository, database_id, key_id, NULL, &created_us, error));
        if (created_us > newest_us) {
            newest_us = created_us;
            snprintf(ret_id, UUID_TEXT_SIZE, "%s", key_id);
        }
    }
    return STATUS_OK;
}

Status repository_data_key(Repository *repository, const char *database_id, bool may_create,
                           DataKey *ret_key, Error *error)
{
    char key_id[UUID_TEXT_SIZE];
    RETURN_IF_ERROR(need_wrapping_key(repository, error));
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    RETURN_IF_ERROR(find_newest(repository, database_id, key_id, error));
    if (key_id[0] == '\0' && may_create) {
        RETURN_IF_ERROR(create_first_key(repository, database_id, error));
        RETURN_IF_ERROR(find_newest(repository, database_id, key_id, error));
    }
    if (key_id[0] == '\0') {
        return error_set(error, REASON_KEY_MISSING,
                         "database '%s' has no data key in the repository", database_id);
    }
    return repository_data_key_by_id(repository, database_id, key_id, ret_key, error);
}

Status repository_data_key_by_id(Repository *repository, const char *database_id,
                                 const char *key_id, DataKey *ret_key, Error *error)
{
    RETURN_IF_ERROR(need_wrapping_key(repository, error));
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    RETURN_IF_ERROR(id_check(key_id, "data key", error));
    int64_t created_us = 0;
    return key_object_read(repository, database_id, key_id, ret_key, &created_us, error);
}
