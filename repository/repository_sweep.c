// SPDX-License-Identifier: Apache-2.0
// The sweep: a shard's manifests that nobody keeps, then the packs that no kept manifest reaches.
// What is reached is found out before anything is deleted, so a kept manifest that cannot be read
// stops the sweep with nothing lost.
#include "common/memory.h"
#include "repository/repository_reach.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SWEEP_PAGE_COUNT 1000

typedef struct Sweep {
    Repository *repository;
    const SweepOptions *options;
    Reach *reach;
    SweepResult result;
} Sweep;

static bool is_kept_manifest(const Sweep *sweep, const char *manifest_id)
{
    for (size_t i = 0; i < sweep->options->keep_count; i++) {
        if (strcmp(sweep->options->keep[i], manifest_id) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_kept_pack(const Sweep *sweep, const char *name_text)
{
    PackName name;
    return pack_name_decode(name_text, &name) && reach_find(sweep->reach, &name) != NULL;
}

// Objects whose names are not ours are left alone too.
static bool is_protected(const Sweep *sweep, const char *name_text)
{
    PackName name;
    if (!pack_name_decode(name_text, &name)) {
        return true;
    }
    // UINT32_MAX says that no attempt runs, whatever an epoch is.
    return sweep->options->protect_epoch_min != UINT32_MAX &&
           name.epoch >= sweep->options->protect_epoch_min;
}

static Status sweep_folder(Sweep *sweep, const char *folder,
                           bool (*is_kept)(const Sweep *sweep, const char *name), Error *error)
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
            const char *name = object->key + strlen(prefix);
            if (is_protected(sweep, name) || is_kept(sweep, name)) {
                sweep->result.kept_count++;
                sweep->result.kept_bytes += object->size_bytes;
                continue;
            }
            if (!sweep->options->is_dry_run) {
                RETURN_IF_ERROR(storage_remove(sweep->repository->storage, object->key, error));
            }
            sweep->result.removed_count++;
            sweep->result.removed_bytes += object->size_bytes;
        }
        const char *next = page.next_page_token;
        snprintf(token, sizeof(token), "%s", next == NULL ? "" : next);
    } while (token[0] != '\0');
    return STATUS_OK;
}

static Status reach_kept(Sweep *sweep, const DataKey *key, ShardScope *scope, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t i = 0; i < sweep->options->keep_count; i++) {
        arena_reset(arena);
        Manifest *manifest = NULL;
        RETURN_IF_ERROR(manifest_read(sweep->repository, key, sweep->options->shard_id,
                                      sweep->options->keep[i], arena, &manifest, error));
        if (scope->storage == NULL) {
            RETURN_IF_ERROR(scope_init(scope, sweep->repository, key, manifest->database_id,
                                       sweep->options->shard_id, error));
        }
        if (strcmp(scope->database_id, manifest->database_id) != 0) {
            return error_set(error, REASON_OBJECT_CORRUPT, "manifest '%s' is of another database",
                             manifest->id);
        }
        RETURN_IF_ERROR(reach_add(sweep->reach, scope, manifest, error));
    }
    return STATUS_OK;
}

Status repository_sweep_shard(Repository *repository, const DataKey *key,
                              const SweepOptions *options, SweepResult *ret_result, Error *error)
{
    RETURN_IF_ERROR(id_check(options->shard_id, "shard", error));
    CLEANUP(scope_done) ShardScope scope = {0};
    CLEANUP(reach_freep) Reach *reach = reach_new(NULL, NULL);
    Sweep sweep = {.repository = repository, .options = options, .reach = reach};
    if (reach_kept(&sweep, key, &scope, error) != STATUS_OK) {
        return error_wrap(error, "nothing was deleted");
    }
    RETURN_IF_ERROR(sweep_folder(&sweep, "manifests", is_kept_manifest, error));
    RETURN_IF_ERROR(sweep_folder(&sweep, "packs", is_kept_pack, error));
    if (!options->is_dry_run) {
        int64_t stale_count = 0;
        RETURN_IF_ERROR(storage_remove_stale(repository->storage, &stale_count, error));
    }
    *ret_result = sweep.result;
    return STATUS_OK;
}
