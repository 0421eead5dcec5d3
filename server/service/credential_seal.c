// SPDX-License-Identifier: Apache-2.0
#include "server/service/credential_seal.h"

#include "server/service/sealed_secret.h"

#include <string.h>

static const char *label_of(Arena *arena, const char *credential_id)
{
    return arena_format(arena, "credential:%s", credential_id);
}

const uint8_t *credential_seal(const Secret *secret_key, const char *credential_id,
                               const char *password, Arena *arena, size_t *ret_size)
{
    const uint8_t *sealed = NULL;
    secret_seal(arena, secret_key, label_of(arena, credential_id), password, strlen(password),
                &sealed, ret_size);
    return sealed;
}

Status credential_unseal(const Secret *secret_key, const char *credential_id, const uint8_t *sealed,
                         size_t size, Secret *ret_password, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *label = label_of(arena, credential_id);
    if (secret_unseal(secret_key, label, sealed, size, ret_password, error) == STATUS_OK) {
        return STATUS_OK;
    }
    error_set(error, REASON_KEY_WRONG,
              "a credential cannot be opened with this server's secret key");
    return error_hint(error, "start the server with the secret key file it was first started "
                             "with, or set the credential's password anew");
}
