// SPDX-License-Identifier: Apache-2.0
// Filling the catalogue from a repository: what a new server does whose PostgreSQL is gone.
#include "common/clock.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "repository/repository.h"
#include "server/service/service_repository.h"
#include "server/store/store_catalogue.h"
#include "server/store/store_event.h"
#include "server/store/store_repository.h"

#include <stdio.h>

#define IMPORT_BACKUP_COUNT_MAX 200 // of one call
#define IMPORT_TIME_MS_MAX 20000
#define SKIPPED_SHOWN_MAX 100

typedef struct Import {
    Service *service;
    ServiceCall *call;
    Repository *repository;
    const char *repository_row_id;
    CatalogueCounts counts;
    int64_t skipped_count;
    char *skipped[SKIPPED_SHOWN_MAX];
    const char *fenced_shard_id; // the last one
    bool is_complete;
} Import;

static void skip(Import *import, const char *backup_id, const Error *error)
{
    if (import->skipped_count < SKIPPED_SHOWN_MAX) {
        import->skipped[import->skipped_count] =
            arena_format(import->call->arena, "backup %s: %s", backup_id, error->message);
    }
    import->skipped_count++;
}

static void on_unreadable(void *context, const char *database_id, const char *backup_id,
                          const Error *error)
{
    (void)database_id;
    skip(context, backup_id, error);
}

static Status read_shard(Import *import, const BackupSet *set, const SetShard *shard, Arena *arena,
                         CatalogueShard *ret_shard, Error *error)
{
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *manifest = NULL;
    RETURN_IF_ERROR(manifest_open(import->repository, set->database_id, shard->shard_id,
                                  shard->manifest_id, arena, &key, &manifest, error));
    if (!text_equal(manifest->digest, shard->manifest_digest)) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that the backup was made of", manifest->id);
    }
    *ret_shard = (CatalogueShard){.id = shard->shard_id,
                                  .name = shard->shard_name,
                                  .manifest_id = shard->manifest_id,
                                  .manifest_digest = shard->manifest_digest,
                                  .parent_manifest_id = manifest->parent_id,
                                  .checkpoint = manifest->checkpoint,
                                  .engine_version = manifest->engine_version,
                                  .generation = manifest->generation,
                                  .created_us = manifest->created_us,
                                  .size_bytes = manifest->size_bytes,
                                  .new_bytes = manifest->new_bytes,
                                  .stored_bytes = manifest->stored_bytes};
    return STATUS_OK;
}

static Status has_backup(Import *import, const BackupSet *set, Arena *arena, bool *ret_has,
                         Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(import->service->store, &transaction, error));
    return store_catalogue_has(transaction, arena, set->backup_id, ret_has, error);
}

// New attempts must have higher epochs than whatever is in the repository.
static Status write_backup(Import *import, const CatalogueBackup *backup, Arena *arena,
                           Error *error)
{
    CatalogueCounts counts = import->counts;
    int64_t *epochs = arena_alloc_array(arena, backup->shard_count + 1, sizeof(*epochs));
    for (size_t i = 0; i < backup->shard_count; i++) {
        uint32_t epoch = 0;
        RETURN_IF_ERROR(
            repository_shard_epoch(import->repository, backup->shards[i].id, &epoch, error));
        epochs[i] = epoch;
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(import->service->store, &transaction, error));
    RETURN_IF_ERROR(store_catalogue_add(transaction, arena, backup, &counts, error));
    for (size_t i = 0; i < backup->shard_count; i++) {
        RETURN_IF_ERROR(
            store_catalogue_fence(transaction, arena, backup->shards[i].id, epochs[i], error));
    }
    RETURN_IF_ERROR(store_commit(&transaction, error));
    import->counts = counts;
    return STATUS_OK;
}

static Status import_set(Import *import, const BackupSet *set, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool has = false;
    RETURN_IF_ERROR(has_backup(import, set, arena, &has, error));
    if (has) {
        return STATUS_OK;
    }
    CatalogueShard *shards = arena_alloc_array(arena, set->shard_count + 1, sizeof(*shards));
    for (size_t i = 0; i < set->shard_count; i++) {
        RETURN_IF_ERROR(read_shard(import, set, &set->shards[i], arena, &shards[i], error));
    }
    const CatalogueBackup backup = {.id = set->backup_id,
                                    .database_id = set->database_id,
                                    .database_name = set->database_name,
                                    .engine = set->engine,
                                    .repository_id = import->repository_row_id,
                                    .created_us = set->created_us,
                                    .is_complete = set->is_complete,
                                    .shards = shards,
                                    .shard_count = set->shard_count};
    return write_backup(import, &backup, arena, error);
}

// What is wrong with one backup must not keep the others out.
static bool is_of_this_backup(const Error *error)
{
    return error->status == STATUS_DATA_LOSS || error->reason == REASON_KEY_MISSING ||
           error->reason == REASON_KEY_WRONG || error->reason == REASON_PRECONDITION ||
           error->reason == REASON_EXISTS || error->reason == REASON_INVALID ||
           error->reason == REASON_REPOSITORY_FORMAT;
}

static Status import_sets(Import *import, Error *error)
{
    BackupSet **sets = NULL;
    size_t count = 0;
    int64_t started_ms = clock_monotonic_ms();
    RETURN_IF_ERROR(backup_set_scan(import->repository, import->call->arena, on_unreadable, import,
                                    &sets, &count, error));
    size_t index = 0;
    for (; index < count && import->counts.backup_count < IMPORT_BACKUP_COUNT_MAX &&
           clock_monotonic_ms() - started_ms < IMPORT_TIME_MS_MAX;
         index++) {
        if (import_set(import, sets[index], error) != STATUS_OK) {
            if (!is_of_this_backup(error)) {
                return error->status;
            }
            skip(import, sets[index]->backup_id, error);
            error_clear(error);
        }
    }
    import->is_complete = index == count;
    return STATUS_OK;
}

static Status open_repository(Import *import, const char *name, Error *error)
{
    StoreRows rows;
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    Storage *storage = NULL;
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(import->service->store, &transaction, error));
        RETURN_IF_ERROR(
            store_repository_get(transaction, import->call->arena, name, false, &rows, error));
    }
    import->repository_row_id = store_value(&rows, 0, "id");
    RETURN_IF_ERROR(key_wrapper_open(store_value(&rows, 0, "key_file"), &wrapper, error));
    RETURN_IF_ERROR(
        repository_storage_open(import->service, import->repository_row_id, &storage, error));
    return repository_open(storage, TAKE_PTR(wrapper), &import->repository, error);
}

static ProtobufCMessage *answer(const Import *import)
{
    Holdfast__V1__ImportCatalogueResponse *response = (void *)message_new(
        import->call->arena, &holdfast__v1__import_catalogue_response__descriptor);
    size_t shown = (size_t)MIN(import->skipped_count, SKIPPED_SHOWN_MAX);
    response->database_count = import->counts.database_count;
    response->shard_count = import->counts.shard_count;
    response->backup_count = import->counts.backup_count;
    response->skipped_count = (int32_t)import->skipped_count;
    response->is_complete = import->is_complete;
    response->n_skipped = shown;
    response->skipped = arena_alloc_array(import->call->arena, shown + 1, sizeof(char *));
    for (size_t i = 0; i < shown; i++) {
        response->skipped[i] = import->skipped[i];
    }
    return &response->base;
}

Status service_import_catalogue(Service *service, ServiceCall *call,
                                const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                Error *error)
{
    const Holdfast__V1__ImportCatalogueRequest *request = (const void *)message;
    Import import = {.service = service, .call = call};
    RETURN_IF_ERROR(check_name("repository", request->repository, error));
    Status status = open_repository(&import, request->repository, error);
    if (status == STATUS_OK) {
        status = import_sets(&import, error);
    }
    repository_free(import.repository);
    RETURN_IF_ERROR(status);
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    if (import.counts.backup_count > 0) {
        char text[160];
        (void)snprintf(text, sizeof(text),
                       "%d backups of %d new databases were imported from the repository",
                       import.counts.backup_count, import.counts.database_count);
        store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                         .kind = "repository.imported",
                                                         .subject_id = import.repository_row_id,
                                                         .message = text});
    }
    return service_finish(service, call, &transaction, answer(&import), ret_response, error);
}
