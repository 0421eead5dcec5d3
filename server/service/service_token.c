// SPDX-License-Identifier: Apache-2.0
// The admin token that a server makes for its owner, as a file.
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/service_internal.h"
#include "server/store/store_token.h"

#include <string.h>

#define TOKEN_PREFIX "hf_" // lets secret scanners find one that got lost
#define TOKEN_RANDOM_SIZE 32
#define TOKEN_SIZE_MIN 20

static void wipe_textp(char **text)
{
    secret_wipe_text(*text);
    mem_free(*text);
    *text = NULL;
}

static Status read_token(const char *path, char **ret_token, Error *error)
{
    CLEANUP(wipe_textp) char *text = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(file_read(path, LIMIT_FILE_BYTES, &text, &size, error));
    text[strcspn(text, " \t\r\n")] = '\0';
    if (strlen(text) < TOKEN_SIZE_MIN) {
        error_set(error, REASON_PRECONDITION, "'%s' does not hold a token", path);
        return error_hint(error, "remove the file to have a new token made");
    }
    *ret_token = TAKE_PTR(text);
    return STATUS_OK;
}

static Status make_token(const char *path, char **ret_token, Error *error)
{
    uint8_t random[TOKEN_RANDOM_SIZE];
    crypto_random(random, sizeof(random));
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(wipe_textp)
    char *token = string_format(TOKEN_PREFIX "%s", base64url_encode(arena, random, sizeof(random)));
    CLEANUP(wipe_textp) char *line = string_format("%s\n", token);
    explicit_bzero(random, sizeof(random));
    // The file first: a token that is registered but written nowhere is lost.
    RETURN_IF_ERROR(file_write_atomic(path, line, strlen(line), 0600, error));
    *ret_token = TAKE_PTR(token);
    return STATUS_OK;
}

Status service_ensure_admin_token(Service *service, const char *path, bool *ret_is_new,
                                  Error *error)
{
    CLEANUP(wipe_textp) char *token = NULL;
    bool is_new = false;
    Status status = read_token(path, &token, error);
    if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        is_new = true;
        status = make_token(path, &token, error);
    }
    if (status != STATUS_OK) {
        return error_wrap(error, "the admin token's file '%s'", path);
    }
    uint8_t hash[SHA256_SIZE];
    crypto_sha256(token, strlen(token), hash);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_token_add(transaction, arena, "admin", hash, "admin", error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    *ret_is_new = is_new;
    return STATUS_OK;
}
