// SPDX-License-Identifier: Apache-2.0
// Key files, and wrapping with them.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/key_wrapper_providers.h"
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
#define FILE_WRAPPED_SIZE (GCM_NONCE_SIZE + AES256_KEY_SIZE + GCM_TAG_SIZE)

typedef struct FileKeyWrapper {
    KeyWrapper base;
    Secret key;
} FileKeyWrapper;

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

// --- wrapping ---------------------------------------------------------------------------------

static void file_free(KeyWrapper *wrapper)
{
    FileKeyWrapper *file = (FileKeyWrapper *)wrapper;
    secret_done(&file->key);
    mem_free(file);
}

// A key of its own for each data key, so that a wrapped key opens for nothing else.
static void derive(const FileKeyWrapper *file, const WrapContext *context,
                   uint8_t ret_key[AES256_KEY_SIZE])
{
    const char *parts[] = {context->repository_id, context->database_id, context->key_id, NULL};
    key_derive(&file->key, "wrap", parts, ret_key);
}

static Status file_wrap(KeyWrapper *wrapper, const WrapContext *context, const Secret *key,
                        Arena *arena, uint8_t **ret_wrapped, size_t *ret_size, Error *error)
{
    (void)error;
    uint8_t wrap_key[AES256_KEY_SIZE];
    uint8_t *wrapped = arena_alloc(arena, FILE_WRAPPED_SIZE);
    derive((const FileKeyWrapper *)wrapper, context, wrap_key);
    crypto_random(wrapped, GCM_NONCE_SIZE);
    crypto_seal(wrap_key, wrapped, NULL, 0, key->data, key->size, wrapped + GCM_NONCE_SIZE);
    explicit_bzero(wrap_key, sizeof(wrap_key));
    *ret_wrapped = wrapped;
    *ret_size = FILE_WRAPPED_SIZE;
    return STATUS_OK;
}

static Status file_unwrap(KeyWrapper *wrapper, const WrapContext *context, const uint8_t *wrapped,
                          size_t size, Secret *ret_key, Error *error)
{
    uint8_t wrap_key[AES256_KEY_SIZE];
    uint8_t plain[AES256_KEY_SIZE + GCM_TAG_SIZE];
    derive((const FileKeyWrapper *)wrapper, context, wrap_key);
    bool is_open = size == FILE_WRAPPED_SIZE &&
                   crypto_open(wrap_key, wrapped, NULL, 0, wrapped + GCM_NONCE_SIZE,
                               size - GCM_NONCE_SIZE, plain);
    explicit_bzero(wrap_key, sizeof(wrap_key));
    if (!is_open) {
        return error_set(error, REASON_KEY_WRONG,
                         "it is damaged, from another place, or wrapped by another key");
    }
    *ret_key = secret_from_bytes(plain, AES256_KEY_SIZE);
    explicit_bzero(plain, sizeof(plain));
    return STATUS_OK;
}

static const KeyWrapperOperations FILE_OPERATIONS = {
    .kind = "file", .free = file_free, .wrap = file_wrap, .unwrap = file_unwrap};

KeyWrapper *key_wrapper_from_key(const Secret *key)
{
    assert(key->size == AES256_KEY_SIZE);
    FileKeyWrapper *file = mem_alloc(sizeof(*file));
    file->base.operations = &FILE_OPERATIONS;
    file->key = secret_copy(key);
    key_fingerprint(key, file->base.id);
    (void)snprintf(file->base.name, sizeof(file->base.name), "key file %s", file->base.id);
    return &file->base;
}

Status key_wrapper_file_check(const char *location, Error *error)
{
    const char *path = key_location_path(location);
    if (text_has_prefix(location, KEY_SCHEME_FILE) && path[0] != '/') {
        error_set(error, REASON_INVALID, "'%.200s' is not the location of a key file", location);
        return error_hint(error, "write file:///absolute/path, or just the path");
    }
    return STATUS_OK;
}

Status key_wrapper_file_open(const char *location, KeyWrapper **ret_wrapper, Error *error)
{
    CLEANUP(secret_done) Secret key = {0};
    RETURN_IF_ERROR(key_file_read(key_location_path(location), &key, error));
    *ret_wrapper = key_wrapper_from_key(&key);
    return STATUS_OK;
}
