// SPDX-License-Identifier: Apache-2.0
// The sweep: a shard's manifests that nobody keeps, then the packs that no kept manifest reaches;
// packs that are reached for less than a half are replaced by smaller ones.
// What is reached is found out, and kept for the next sweep, before anything is deleted, so a kept
// manifest that cannot be read stops the sweep with nothing lost.
#include "common/memory.h"
#include "repository/repository_compact.h"
#include "repository/repository_reach_kept.h"
#include "repository/repository_replacement.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_PAGE_COUNT 1000
#define SMALL_BYTES ((int64_t)256 * 1024 * 1024)
#define LOCK_LOOK_COUNT 16 // locked objects that are asked until when

// The objects of one pack: itself and its replacements, which follow it in a listing.
typedef struct PackGroup {
    PackName name;
    size_t count;
    int64_t modified_us; // of the newest
    uint32_t numbers[REPLACEMENT_NUMBER_MAX + 1];
    int64_t sizes[REPLACEMENT_NUMBER_MAX + 1];
} PackGroup;

// An object that goes with the next call, and what the result says about it already.
typedef struct Removal {
    char key[OBJECT_KEY_SIZE];
    int64_t size_bytes;
    int64_t counted_count, counted_bytes;
} Removal;

typedef struct Sweep {
    Repository *repository;
    const SweepOptions *options;
    const char **keep; // sorted
    size_t keep_count;
    const Reach *reach;
    Compactor *compactor;
    Removal *removals; // STORAGE_REMOVE_COUNT_MAX
    size_t removal_count;
    int look_count;
    PackGroup group;
    SweepResult *result;
} Sweep;

// UINT32_MAX says that no attempt runs, whatever an epoch is.
static bool is_protected(const Sweep *sweep, uint32_t epoch)
{
    return sweep->options->protect_epoch_min != UINT32_MAX &&
           epoch >= sweep->options->protect_epoch_min;
}

static int compare_epochs(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    return a < b ? -1 : a > b ? 1 : 0;
}

// Left by an attempt not long ago: another attempt may be told of it, and a clock may be wrong.
static bool is_waiting(const Sweep *sweep, uint32_t epoch, int64_t modified_us)
{
    const SweepOptions *options = sweep->options;
    return options->abandoned_count > 0 && options->now_us - modified_us < options->grace_us &&
           bsearch(&epoch, options->abandoned, options->abandoned_count, sizeof(epoch),
                   compare_epochs) != NULL;
}

static void count_kept(Sweep *sweep, int64_t bytes)
{
    sweep->result->kept_count++;
    sweep->result->kept_bytes += bytes;
}

// --- removing ---------------------------------------------------------------------------------

static void count_locked(Sweep *sweep, const Removal *removal)
{
    SweepResult *result = sweep->result;
    StorageObject object;
    Error ignored = {0}; // the date is only for people
    result->removed_count -= removal->counted_count;
    result->removed_bytes -= removal->counted_bytes;
    result->locked_count++;
    result->locked_bytes += removal->size_bytes;
    if (sweep->look_count++ < LOCK_LOOK_COUNT &&
        storage_stat(sweep->repository->storage, removal->key, &object, &ignored) == STATUS_OK &&
        object.locked_until_us > 0) {
        result->locked_until_us = result->locked_until_us == 0
                                      ? object.locked_until_us
                                      : MIN(result->locked_until_us, object.locked_until_us);
    }
}

static Status flush_removals(Sweep *sweep, Error *error)
{
    StorageRemoval removals[STORAGE_REMOVE_COUNT_MAX];
    size_t count = sweep->removal_count;
    sweep->removal_count = 0;
    if (count == 0) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < count; i++) {
        removals[i].key = sweep->removals[i].key;
    }
    Status status = storage_remove_many(sweep->repository->storage, removals, count, error);
    for (size_t i = 0; i < count; i++) {
        if (status != STATUS_OK) { // some may be gone; they are not counted
            sweep->result->removed_count -= sweep->removals[i].counted_count;
            sweep->result->removed_bytes -= sweep->removals[i].counted_bytes;
        } else if (removals[i].is_locked) {
            count_locked(sweep, &sweep->removals[i]);
        }
    }
    return status;
}

// Counts it as removed with these numbers, and removes it by and by.
static Status remove_object(Sweep *sweep, const char *key, int64_t size_bytes,
                            int64_t counted_count, int64_t counted_bytes, Error *error)
{
    sweep->result->removed_count += counted_count;
    sweep->result->removed_bytes += counted_bytes;
    if (sweep->options->is_dry_run) {
        return STATUS_OK;
    }
    Removal *removal = &sweep->removals[sweep->removal_count++];
    *removal = (Removal){
        .size_bytes = size_bytes, .counted_count = counted_count, .counted_bytes = counted_bytes};
    snprintf(removal->key, sizeof(removal->key), "%s", key);
    return sweep->removal_count == STORAGE_REMOVE_COUNT_MAX ? flush_removals(sweep, error)
                                                            : STATUS_OK;
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

static int compare_ids(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static bool is_kept_manifest(const Sweep *sweep, const char *manifest_id)
{
    return sweep->keep_count > 0 && bsearch(&manifest_id, sweep->keep, sweep->keep_count,
                                            sizeof(*sweep->keep), compare_ids) != NULL;
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
    if (is_waiting(sweep, decoded.epoch, object->modified_us)) {
        count_kept(sweep, object->size_bytes);
        sweep->result->waiting_count++;
        sweep->result->waiting_bytes += object->size_bytes;
        return STATUS_OK;
    }
    return remove_object(sweep, object->key, object->size_bytes, 1, object->size_bytes, error);
}

// --- packs ------------------------------------------------------------------------------------

// Removes the first `count` objects of the group; the first one is counted with these numbers. A
// reader looks for the newest, so the order of the others says nothing to it.
static Status remove_group(Sweep *sweep, size_t count, int64_t counted_count, int64_t counted_bytes,
                           Error *error)
{
    const PackGroup *group = &sweep->group;
    for (size_t i = 0; i < count; i++) {
        char key[OBJECT_KEY_SIZE];
        replacement_object_key(sweep->options->shard_id, &group->name, group->numbers[i], key);
        RETURN_IF_ERROR(remove_object(sweep, key, group->sizes[i], i == 0 ? counted_count : 0,
                                      i == 0 ? counted_bytes : 0, error));
    }
    return STATUS_OK;
}

static void keep_group(Sweep *sweep)
{
    for (size_t i = 0; i < sweep->group.count; i++) {
        count_kept(sweep, sweep->group.sizes[i]);
    }
}

// What one object takes in the end that took another number of bytes first. A replacement that a
// sweep wrote before it ended early was never counted as written, so its own removal is not counted
// either.
static Status replace_group(Sweep *sweep, size_t count, int64_t bytes, Error *error)
{
    count_kept(sweep, bytes);
    sweep->result->compacted_count++;
    return remove_group(sweep, count, 0, sweep->group.sizes[0] - bytes, error);
}

static Status sweep_reached(Sweep *sweep, const ReachedPack *pack, Error *error)
{
    const PackGroup *group = &sweep->group;
    uint32_t newest = group->numbers[group->count - 1];
    int64_t newest_bytes = group->sizes[group->count - 1];
    int64_t bytes = 0;
    bool is_complete = false;
    if (compacted_size(pack, newest_bytes) > 0) {
        RETURN_IF_ERROR(compact_pack(sweep->compactor, pack, newest, newest_bytes,
                                     sweep->options->is_dry_run, &bytes, error));
        if (bytes > 0) {
            return replace_group(sweep, group->count, bytes, error);
        }
    } else if (group->count > 1) {
        // A sweep ended before it had removed the older ones.
        RETURN_IF_ERROR(replacement_is_complete(sweep->compactor, pack, newest, newest_bytes,
                                                &is_complete, error));
        if (is_complete) {
            return replace_group(sweep, group->count - 1, newest_bytes, error);
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
    } else if (is_waiting(sweep, group->name.epoch, group->modified_us)) {
        keep_group(sweep);
        sweep->result->waiting_count++;
        sweep->result->waiting_bytes += group->sizes[0];
    } else {
        RETURN_IF_ERROR(remove_group(sweep, group->count, 1, group->sizes[0], error));
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
    group->modified_us =
        group->count == 0 ? object->modified_us : MAX(group->modified_us, object->modified_us);
    group->numbers[group->count] = number;
    group->sizes[group->count++] = object->size_bytes;
    return STATUS_OK;
}

// --- the whole --------------------------------------------------------------------------------

static void sort_keep(Sweep *sweep)
{
    const SweepOptions *options = sweep->options;
    sweep->keep = mem_alloc_array(options->keep_count + 1, sizeof(*sweep->keep));
    for (size_t i = 0; i < options->keep_count; i++) {
        sweep->keep[i] = options->keep[i];
    }
    qsort(sweep->keep, options->keep_count, sizeof(*sweep->keep), compare_ids);
    for (size_t i = 0; i < options->keep_count; i++) {
        if (i == 0 || strcmp(sweep->keep[i], sweep->keep[sweep->keep_count - 1]) != 0) {
            sweep->keep[sweep->keep_count++] = sweep->keep[i];
        }
    }
}

static Status run_sweep(Sweep *sweep, KeptReach *kept, Error *error)
{
    sweep->reach = kept_reach_all(kept);
    sweep->result->walked_count = (int64_t)kept_reach_walked_count(kept);
    if (!sweep->options->is_dry_run && kept_reach_save(kept, error) != STATUS_OK) {
        return error_wrap(error, "nothing was deleted");
    }
    RETURN_IF_ERROR(each_object(sweep, "manifests", sweep_manifest, error));
    RETURN_IF_ERROR(flush_removals(sweep, error)); // manifests before what they need
    RETURN_IF_ERROR(each_object(sweep, "packs", sweep_pack, error));
    RETURN_IF_ERROR(sweep_group(sweep, error));
    return flush_removals(sweep, error);
}

Status repository_sweep_shard(Repository *repository, const DataKey *key,
                              const SweepOptions *options, SweepResult *ret_result, Error *error)
{
    *ret_result = (SweepResult){0};
    RETURN_IF_ERROR(id_check(options->shard_id, "shard", error));
    Sweep sweep = {.repository = repository,
                   .options = options,
                   .compactor = compactor_new(repository->storage),
                   .removals = mem_alloc_array(STORAGE_REMOVE_COUNT_MAX, sizeof(Removal)),
                   .result = ret_result};
    sort_keep(&sweep);
    const KeptOptions kept_options = {.shard_id = options->shard_id,
                                      .keep = sweep.keep,
                                      .keep_count = sweep.keep_count,
                                      .small_bytes = options->small_bytes > 0 ? options->small_bytes
                                                                              : SMALL_BYTES,
                                      .is_thorough = options->is_thorough};
    CLEANUP(kept_reach_freep) KeptReach *kept = NULL;
    Status status = kept_reach_find(repository, key, &kept_options, &kept, error);
    if (status != STATUS_OK) {
        (void)error_wrap(error, "nothing was deleted");
    } else {
        status = run_sweep(&sweep, kept, error);
    }
    compactor_free(sweep.compactor);
    mem_free(sweep.removals);
    mem_free((void *)(uintptr_t)sweep.keep);
    return status;
}
