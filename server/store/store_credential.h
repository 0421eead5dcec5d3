// SPDX-License-Identifier: Apache-2.0
// Credentials: user names, and passwords that the caller has sealed.
#pragma once

#include "server/store/store.h"

typedef struct StoreCredential {
    const char *id, *name, *username, *etag;
    const uint8_t *password_sealed; // NULL in an update: stays
    size_t password_sealed_size;
} StoreCredential;

Status store_credential_add(StoreTransaction *transaction, Arena *arena,
                            const StoreCredential *credential, Error *error);
// One row, locked for an update when is_locked; REASON_NOT_FOUND.
Status store_credential_get(StoreTransaction *transaction, Arena *arena, const char *name,
                            bool is_locked, StoreRows *ret_rows, Error *error);
Status store_credential_list(StoreTransaction *transaction, Arena *arena, const StorePage *page,
                             StoreRows *ret_rows, Error *error);
Status store_credential_update(StoreTransaction *transaction, Arena *arena,
                               const StoreCredential *credential, Error *error);
// REASON_IN_USE while a repository, a shard, or cleaning up after a deleted one, needs it.
Status store_credential_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                               const char *name, Error *error);
// Columns username, password_sealed. REASON_NOT_FOUND.
Status store_credential_sealed(StoreTransaction *transaction, Arena *arena, const char *id,
                               StoreRows *ret_rows, Error *error);
