// SPDX-License-Identifier: Apache-2.0
// Repositories as resources.
#pragma once

#include "server/store/store.h"

typedef struct StoreRepository {
    const char *id, *name, *location, *key_file, *key_fingerprint, *repository_id, *etag;
    const char *object_store;  // JSON, or NULL
    const char *credential_id; // or NULL
    const char *limits;        // JSON, or NULL
} StoreRepository;

// Where a repository is and what opens the store: of the columns below, in a query whose
// repositories are `r`.
typedef struct RepositoryAddress {
    const char *location;
    const char *object_store;  // JSON, or NULL
    const char *credential_id; // NULL: none, and then the rest is, too
    const char *access_key_id;
    const uint8_t *secret_sealed;
    size_t secret_sealed_size;
} RepositoryAddress;
#define REPOSITORY_ADDRESS_COLUMNS                                                                 \
    " r.location, r.object_store, r.credential_id AS store_credential_id,"                         \
    " (SELECT username FROM credentials WHERE id = r.credential_id) AS store_access_key_id,"       \
    " (SELECT password_sealed FROM credentials WHERE id = r.credential_id) AS store_secret "
RepositoryAddress store_repository_address(const StoreRows *rows, int row, Arena *arena);
// Of the row with this id, also of a deleted repository. REASON_NOT_FOUND.
Status store_repository_find_address(StoreTransaction *transaction, Arena *arena, const char *id,
                                     RepositoryAddress *ret_address, Error *error);

// REASON_EXISTS (field) for a name or a location that is taken.
Status store_repository_add(StoreTransaction *transaction, Arena *arena,
                            const StoreRepository *repository, Error *error);
// The resource; locked when is_locked. REASON_NOT_FOUND.
Status store_repository_get(StoreTransaction *transaction, Arena *arena, const char *name,
                            bool is_locked, StoreRows *ret_rows, Error *error);
// Its id, for something that will refer to it: it cannot be deleted until the transaction ends.
// REASON_INVALID with the field.
Status store_repository_use(StoreTransaction *transaction, Arena *arena, const char *field,
                            const char *name, const char **ret_id, Error *error);
Status store_repository_list(StoreTransaction *transaction, Arena *arena, const StorePage *page,
                             StoreRows *ret_rows, Error *error);
// What the repository with this id holds of each database, by name.
Status store_repository_databases(StoreTransaction *transaction, Arena *arena, const char *id,
                                  const StorePage *page, StoreRows *ret_rows, Error *error);
// REASON_IN_USE while a policy writes to it or a backup is in it.
Status store_repository_delete(StoreTransaction *transaction, Arena *arena, const char *id,
                               const char *name, Error *error);
// Sums what a backup has, in its row and the repository's: stored_bytes grows by it. Once for each:
// in the transaction that ends or imports it, after its shard backups are there.
Status store_repository_add_stored(StoreTransaction *transaction, Arena *arena, const char *id,
                                   const char *backup_id, Error *error);
// What a sweep has freed; stored_bytes shrinks by it. `id` is the row's.
Status store_repository_add_removed(StoreTransaction *transaction, Arena *arena, const char *id,
                                    int64_t removed_bytes, Error *error);
// Gives the row another wrapping key and remembers the old one until store_repository_rekeyed.
// REASON_CONFLICT when the old one is not the row's any more.
Status store_repository_rekey(StoreTransaction *transaction, Arena *arena, const char *id,
                              const char *old_key_file, const char *new_key_file,
                              const char *fingerprint, const char *etag, Error *error);
Status store_repository_rekeyed(StoreTransaction *transaction, Arena *arena, const char *id,
                                Error *error);
// Of the database: running_backup_id, active_restore_id and kept_backup_id (pinned, or held:
// is_held), NULL where there is none; the backup_count of it in the repository.
Status store_repository_uses(StoreTransaction *transaction, Arena *arena, const char *id,
                             const char *database_id, StoreRows *ret_rows, Error *error);
// Its backups there are never restored again, nor parents; what is left of them is deleted.
Status store_repository_shredded(StoreTransaction *transaction, Arena *arena, const char *id,
                                 const char *database_id, Error *error);
