// SPDX-License-Identifier: Apache-2.0
// The sweep: a shard's manifests that nobody keeps, then the packs that no kept manifest reaches;
// packs that are reached for less than a half are replaced by smaller ones.
// What is reached is found out before anything is deleted, so a kept manifest that cannot be read
// stops the sweep with nothing lost.
#include "common/memory.h"
#include "repository/repository_compact.h"
#include "repository/repository_replacement.h"
#include "repository/repository_scopes.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SWEEP_PAGE_COUNT 1000

// The objects of one pack: itself and its replacements, which follow it in a listing.
typedef struct PackGroup {
    PackName name;
    size_t count;
    uint32_t numbers[REPLACEMENT_NUMBER_MAX + 1];
    int64_t sizes[REPLACEMENT_NUMBER_MAX + 1];
} PackGroup;

typedef struct Sweep {
    Repository *repository;
    const SweepOptions *options;
    Reach *reach;
    Compactor *compactor;
    PackGroup group;
    SweepResult result;
} Sweep;

// UINT32_MAX says that no attempt runs, whatever an epoch is.
static bool is_protected(const Sweep *sweep, uint32_t epoch)
{
    return sweep->options->protect_epoch_min != UINT32_MAX &&
           epoch >= sweep->options->protect_epoch_min;
}

static void count_kept(Sweep *sweep, int64_t bytes)
{
    sweep->result.kept_count++;
    sweep->result.kept_bytes += bytes;
}

static Status remove_object(Sweep *sweep, const char *key, Error *error)
{
    return sweep->options->is_dry_run ? STATUS_OK
                                      : storage_remove(sweep->repository->storage, key, error);
}

static Status each_object(Sweep *sweep, const char *folder,
                          Status (*on_object)(Sweep *sweep, const StorageObject *object,
                                              const char *name, Error *error),
                          Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char prefix[OBJECT_KEY_SIZE];
    char token[STORAGE_KEY_SIZE_MAX + 1] = "";
    snprintf(prefix, sizeof(prefix), "shards/%s/%s/", sweep->options->shard_id, folder);
    do {
        StoragePage page;
        arena_reset(arena);
        RETURN_IF_ERROR(storage_list(sweep->repository->storage, prefix,
                                     token[0] == '\0' ? NULL : token, SWEEP_PAGE_COUNT, arena,
                                     &page, error));
        for (size_t i = 0; i < page.count; i++) {
            const StorageObject *object = &page.objects[i];
            RETURN_IF_ERROR(on_object(sweep, object, object->key + strlen(prefix), error));
        }
        const char *next = page.next_page_token;
        snprintf(token, sizeof(token), "%s", next == NULL ? "" : next);
    } while (token[0] != '\0');
    return STATUS_OK;
}

// --- manifests --------------------------------------------------------------------------------

static bool is_kept_manifest(const Sweep *sweep, const char *manifest_id)
{
    for (size_t i = 0; i < sweep->options->keep_count; i++) {
        if (strcmp(sweep->options->keep[i], manifest_id) == 0) {
            return true;
        }
    }
    return false;
}

static Status sweep_manifest(Sweep *sweep, const StorageObject *object, const char *name,
                             Error *error)
{
    PackName decoded; // manifests are named as packs are
    // Objects whose names are not ours are left alone too.
    if (!pack_name_decode(name, &decoded) || is_protected(sweep, decoded.epoch) ||
        is_kept_manifest(sweep, name)) {
        count_kept(sweep, object->size_bytes);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(remove_object(sweep, object->key, error));
    sweep->result.removed_count++;
    sweep->result.removed_bytes += object->size_bytes;
    return STATUS_OK;
}

// --- packs ------------------------------------------------------------------------------------

// Removes the first `count` objects of the group, oldest first: a reader looks for the newest.
static Status remove_objects(Sweep *sweep, size_t count, Error *error)
{
    const PackGroup *group = &sweep->group;
    for (size_t i = 0; i < count; i++) {
        char key[OBJECT_KEY_SIZE];
        replacement_object_key(sweep->options->shard_id, &group->name, group->numbers[i], key);
        RETURN_IF_ERROR(remove_object(sweep, key, error));
    }
    return STATUS_OK;
}

static void keep_group(Sweep *sweep)
{
    for (size_t i = 0; i < sweep->group.count; i++) {
        count_kept(sweep, sweep->group.sizes[i]);
    }
}

// What one object takes in the end that took first_bytes. A replacement that a sweep wrote before
// it ended early was never counted as written, so its own removal is not counted either.
static void count_compacted(Sweep *sweep, int64_t first_bytes, int64_t bytes)
{
    count_kept(sweep, bytes);
    sweep->result.compacted_count++;
    sweep->result.removed_bytes += first_bytes - bytes;
}

static Status sweep_reached(Sweep *sweep, const ReachedPack *pack, Error *error)
{
    const PackGroup *group = &sweep->group;
    uint32_t newest = group->numbers[group->count - 1];
    int64_t newest_bytes = group->sizes[group->count - 1];
    int64_t bytes = compacted_size(pack, newest_bytes);
    bool is_done = false;
    if (bytes > 0) {
        RETURN_IF_ERROR(compact_pack(sweep->compactor, pack, newest, newest_bytes,
                                     sweep->options->is_dry_run, &is_done, error));
        if (is_done) {
            RETURN_IF_ERROR(remove_objects(sweep, group->count, error));
            count_compacted(sweep, group->sizes[0], bytes);
            return STATUS_OK;
        }
    } else if (group->count > 1) {
        // A sweep ended before it had removed the older ones.
        RETURN_IF_ERROR(
            replacement_is_complete(sweep->compactor, pack, newest, newest_bytes, &is_done, error));
        if (is_done) {
            RETURN_IF_ERROR(remove_objects(sweep, group->count - 1, error));
            count_compacted(sweep, group->sizes[0], newest_bytes);
            return STATUS_OK;
        }
    }
    keep_group(sweep);
    return STATUS_OK;
}

// All objects of a pack are known: does what is due and empties the group.
static Status sweep_group(Sweep *sweep, Error *error)
{
    PackGroup *group = &sweep->group;
    if (group->count == 0) {
        return STATUS_OK;
    }
    const ReachedPack *pack = reach_find(sweep->reach, &group->name);
    if (is_protected(sweep, group->name.epoch)) {
        keep_group(sweep);
    } else if (pack != NULL) {
        RETURN_IF_ERROR(sweep_reached(sweep, pack, error));
    } else {
        RETURN_IF_ERROR(remove_objects(sweep, group->count, error));
        sweep->result.removed_count++;
        sweep->result.removed_bytes += group->sizes[0];
    }
    group->count = 0;
    return STATUS_OK;
}

static Status sweep_pack(Sweep *sweep, const StorageObject *object, const char *name, Error *error)
{
    PackGroup *group = &sweep->group;
    PackName decoded;
    uint32_t number = 0;
    if (!pack_object_decode(name, &decoded, &number)) {
        count_kept(sweep, object->size_bytes);
        return STATUS_OK;
    }
    if (group->count > 0 && !pack_name_equal(&group->name, &decoded)) {
        RETURN_IF_ERROR(sweep_group(sweep, error));
    }
    assert(group->count <= REPLACEMENT_NUMBER_MAX); // keys are listed once
    group->name = decoded;
    group->numbers[group->count] = number;
    group->sizes[group->count++] = object->size_bytes;
    return STATUS_OK;
}

// --- the whole --------------------------------------------------------------------------------

// A kept manifest, with the data key that it is sealed with: the caller's, or another of the
// database's.
static Status open_kept(Sweep *sweep, const DataKey *key, const char *manifest_id, Arena *arena,
                        DataKey *ret_key, Manifest **ret_manifest, Error *error)
{
    Status status = manifest_read(sweep->repository, key, sweep->options->shard_id, manifest_id,
                                  arena, ret_manifest, error);
    if (status == STATUS_OK) {
        *ret_key = data_key_copy(key);
        return STATUS_OK;
    }
    if (error->reason != REASON_KEY_WRONG) {
        return status;
    }
    error_clear(error);
    DataKey own = {0};
    RETURN_IF_ERROR(manifest_data_key(sweep->repository, NULL, sweep->options->shard_id,
                                      manifest_id, &own, error));
    status = manifest_read(sweep->repository, &own, sweep->options->shard_id, manifest_id, arena,
                           ret_manifest, error);
    *ret_key = own;
    return status;
}

static Status reach_kept(Sweep *sweep, const DataKey *key, Scopes *scopes, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char database_id[UUID_TEXT_SIZE] = "";
    for (size_t i = 0; i < sweep->options->keep_count; i++) {
        arena_reset(arena);
        CLEANUP(data_key_done) DataKey own = {0};
        Manifest *manifest = NULL;
        const ShardScope *scope = NULL;
        RETURN_IF_ERROR(
            open_kept(sweep, key, sweep->options->keep[i], arena, &own, &manifest, error));
        if (database_id[0] != '\0' && strcmp(database_id, manifest->database_id) != 0) {
            return error_set(error, REASON_OBJECT_CORRUPT, "manifest '%s' is of another database",
                             manifest->id);
        }
        memcpy(database_id, manifest->database_id, UUID_TEXT_SIZE);
        RETURN_IF_ERROR(scopes_get(scopes, sweep->repository, &own, manifest, &scope, error));
        RETURN_IF_ERROR(reach_add(sweep->reach, scope, manifest, error));
    }
    return STATUS_OK;
}

Status repository_sweep_shard(Repository *repository, const DataKey *key,
                              const SweepOptions *options, SweepResult *ret_result, Error *error)
{
    RETURN_IF_ERROR(id_check(options->shard_id, "shard", error));
    CLEANUP(scopes_done) Scopes scopes = {0};
    CLEANUP(reach_freep) Reach *reach = reach_new(NULL, NULL);
    CLEANUP(compactor_freep) Compactor *compactor = compactor_new(repository->storage);
    Sweep sweep = {
        .repository = repository, .options = options, .reach = reach, .compactor = compactor};
    if (reach_kept(&sweep, key, &scopes, error) != STATUS_OK) {
        return error_wrap(error, "nothing was deleted");
    }
    RETURN_IF_ERROR(each_object(&sweep, "manifests", sweep_manifest, error));
    RETURN_IF_ERROR(each_object(&sweep, "packs", sweep_pack, error));
    RETURN_IF_ERROR(sweep_group(&sweep, error));
    if (!options->is_dry_run) {
        int64_t stale_count = 0;
        RETURN_IF_ERROR(storage_remove_stale(repository->storage, &stale_count, error));
    }
    *ret_result = sweep.result;
    return STATUS_OK;
}
