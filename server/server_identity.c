// SPDX-License-Identifier: Apache-2.0
// Loading or making the secret key and the certificate.
#include "server/server_identity.h"

#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/sealed_secret.h"
#include "server/store/store_work.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define KEY_PREFIX "holdfast-secret-1:"
#define CERTIFICATE_DAYS 3650
#define LABEL_CERTIFICATE "certificate"
#define LABEL_CHECK "key-check"

static Status parse_key(const char *path, char *text, Secret *ret_key, Error *error)
{
    uint8_t key[AES256_KEY_SIZE];
    text[strcspn(text, "\r\n")] = '\0';
    if (!text_has_prefix(text, KEY_PREFIX) ||
        strlen(text) != strlen(KEY_PREFIX) + 2 * sizeof(key) ||
        !hex_decode(text + strlen(KEY_PREFIX), key, sizeof(key))) {
        error_set(error, REASON_KEY_WRONG, "'%s' is not a secret key file", path);
        return error_hint(error, "it must be one line, '" KEY_PREFIX "' and 64 hex digits");
    }
    *ret_key = secret_from_bytes(key, sizeof(key));
    explicit_bzero(key, sizeof(key));
    return STATUS_OK;
}

static Status make_key(const char *path, Secret *ret_key, Error *error)
{
    uint8_t key[AES256_KEY_SIZE];
    char text[sizeof(KEY_PREFIX) + 2 * sizeof(key) + 1];
    crypto_random(key, sizeof(key));
    memcpy(text, KEY_PREFIX, sizeof(KEY_PREFIX) - 1);
    hex_encode(key, sizeof(key), text + sizeof(KEY_PREFIX) - 1);
    text[sizeof(text) - 2] = '\n';
    text[sizeof(text) - 1] = '\0';
    Status status = file_write_atomic(path, text, sizeof(text) - 1, 0600, error);
    if (status == STATUS_OK) {
        *ret_key = secret_from_bytes(key, sizeof(key));
    }
    explicit_bzero(key, sizeof(key));
    explicit_bzero(text, sizeof(text));
    return status;
}

Status server_secret_key_load(const char *path, Secret *ret_key, Error *error)
{
    struct stat facts;
    if (stat(path, &facts) != 0) {
        if (errno != ENOENT) {
            return error_set_errno(error, REASON_KEY_MISSING, errno, "the secret key file '%s'",
                                   path);
        }
        return make_key(path, ret_key, error);
    }
    if ((facts.st_mode & 077) != 0) {
        error_set(error, REASON_PRECONDITION, "others may read the secret key file '%s'", path);
        return error_hint(error, "chmod 600 '%s'", path);
    }
    char *text = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(file_read(path, 4096, &text, &size, error));
    Status status = parse_key(path, text, ret_key, error);
    secret_wipe_text(text);
    mem_free(text);
    return status;
}

static Status make_identity(StoreTransaction *transaction, Arena *arena, const Secret *secret_key,
                            Error *error)
{
    static const uint8_t zeros[16] = {0};
    char *certificate = NULL;
    char *key = NULL;
    RETURN_IF_ERROR(crypto_self_signed_certificate(SERVER_CERTIFICATE_NAME, CERTIFICATE_DAYS,
                                                   &certificate, &key, error));
    ServerIdentityRow row = {.certificate_pem = certificate};
    secret_seal(arena, secret_key, LABEL_CERTIFICATE, key, strlen(key), &row.key_sealed,
                &row.key_sealed_size);
    secret_seal(arena, secret_key, LABEL_CHECK, zeros, sizeof(zeros), &row.key_check,
                &row.key_check_size);
    Status status = store_server_identity_add(transaction, arena, &row, error);
    secret_wipe_text(key);
    mem_free(key);
    mem_free(certificate);
    return status;
}

static Status read_or_make(Store *store, Arena *arena, const Secret *secret_key,
                           ServerIdentityRow **ret_row, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(store, &transaction, error));
    RETURN_IF_ERROR(store_server_identity_get(transaction, arena, ret_row, error));
    if (*ret_row == NULL) {
        // Two first servers at once: both make one, one is kept, both read that.
        RETURN_IF_ERROR(make_identity(transaction, arena, secret_key, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
        RETURN_IF_ERROR(store_begin(store, &transaction, error));
        RETURN_IF_ERROR(store_server_identity_get(transaction, arena, ret_row, error));
        if (*ret_row == NULL) {
            return error_set(error, REASON_CONFLICT,
                             "the server identity was removed while it was made");
        }
    }
    return store_commit(&transaction, error);
}

Status server_identity_load(Store *store, const char *secret_key_file, ServerIdentity *ret_identity,
                            Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(server_identity_done) ServerIdentity identity = {0};
    ServerIdentityRow *row = NULL;
    RETURN_IF_ERROR(server_secret_key_load(secret_key_file, &identity.secret_key, error));
    RETURN_IF_ERROR(read_or_make(store, arena, &identity.secret_key, &row, error));
    CLEANUP(secret_done) Secret check = {0};
    if (secret_unseal(&identity.secret_key, LABEL_CHECK, row->key_check, row->key_check_size,
                      &check, error) != STATUS_OK) {
        error_set(error, REASON_KEY_WRONG,
                  "the secret key file '%s' is not the one of this database", secret_key_file);
        return error_hint(error,
                          "set secret-key-file to the file that this database was first used "
                          "with; without it its credentials cannot be read");
    }
    RETURN_IF_ERROR(secret_unseal(&identity.secret_key, LABEL_CERTIFICATE, row->key_sealed,
                                  row->key_sealed_size, &identity.key_pem, error));
    identity.certificate_pem = string_copy(row->certificate_pem);
    *ret_identity = identity;
    identity = (ServerIdentity){0};
    return STATUS_OK;
}

void server_identity_done(ServerIdentity *identity)
{
    secret_done(&identity->secret_key);
    secret_done(&identity->key_pem);
    mem_free(identity->certificate_pem);
    identity->certificate_pem = NULL;
}
