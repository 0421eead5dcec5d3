// SPDX-License-Identifier: Apache-2.0
// In ascending order, what a manifest reaches that the one before does not; all of that together is
// what all of them reach, whatever descends from what. Such a step says something about two objects
// that never change, so it holds for ever; a sweep that removes manifests between two others walks
// those two, and one that adds a manifest at the end walks that.
//
// The first step, of the oldest manifest, has everything that it reaches, and walking a whole
// manifest costs what the database is large. So when the oldest goes, the next one's step is made
// of its step and of what the next one has more; what the next one has less stays listed, counted
// as stale, until it is a sixteenth. Then the next one is walked. Nothing that is reached is ever
// left out.
#include "repository/repository_reach_kept.h"

#include "common/memory.h"
#include "repository/repository_reach_record.h"
#include "repository/repository_scopes.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define STALE_SHARE 16
#define SMALL_STEP_COUNT 8 // so few are walked in a moment

typedef struct Opened {
    Manifest *manifest; // NULL: none
    const ShardScope *scope;
} Opened;

struct KeptReach {
    Repository *repository;
    const DataKey *key;
    const KeptOptions *options;
    char database_id[UUID_TEXT_SIZE]; // "": not known yet
    Scopes scopes;
    Reach *all;
    ReachRecord *old, *fresh;
    uint32_t old_number;
    bool is_changed; // fresh differs from old
    size_t walked_count;
    // The manifest that was read last: the base of the next step.
    Arena *arena, *other_arena;
    Opened last;
};

const Reach *kept_reach_all(const KeptReach *kept)
{
    return kept->all;
}

size_t kept_reach_walked_count(const KeptReach *kept)
{
    return kept->walked_count;
}

void kept_reach_free(KeptReach *kept)
{
    if (kept != NULL) {
        reach_free(kept->all);
        reach_record_free(kept->old);
        reach_record_free(kept->fresh);
        scopes_done(&kept->scopes);
        arena_free(kept->arena);
        arena_free(kept->other_arena);
        mem_free(kept);
    }
}

void kept_reach_freep(KeptReach **kept)
{
    kept_reach_free(*kept);
    *kept = NULL;
}

static PackName manifest_name(const char *manifest_id)
{
    PackName name = {0};
    (void)pack_name_decode(manifest_id, &name); // manifest_read refuses what is none
    return name;
}

// With the data key that it is sealed with: the caller's, or another of the database's.
static Status open_manifest(KeptReach *kept, const char *manifest_id, Arena *arena,
                            Opened *ret_opened, Error *error)
{
    const char *shard_id = kept->options->shard_id;
    CLEANUP(data_key_done) DataKey own = data_key_copy(kept->key);
    Manifest *manifest = NULL;
    Status status =
        manifest_read(kept->repository, &own, shard_id, manifest_id, arena, &manifest, error);
    if (status != STATUS_OK && error->reason == REASON_KEY_WRONG) {
        error_clear(error);
        data_key_done(&own);
        RETURN_IF_ERROR(
            manifest_data_key(kept->repository, NULL, shard_id, manifest_id, &own, error));
        status =
            manifest_read(kept->repository, &own, shard_id, manifest_id, arena, &manifest, error);
    }
    RETURN_IF_ERROR(status);
    if (kept->database_id[0] != '\0' && strcmp(kept->database_id, manifest->database_id) != 0) {
        return error_set(error, REASON_OBJECT_CORRUPT, "manifest '%s' is of another database",
                         manifest->id);
    }
    memcpy(kept->database_id, manifest->database_id, UUID_TEXT_SIZE);
    RETURN_IF_ERROR(
        scopes_get(&kept->scopes, kept->repository, &own, manifest, &ret_opened->scope, error));
    ret_opened->manifest = manifest;
    return STATUS_OK;
}

// In the arena that the one before last was in.
static Status read_manifest(KeptReach *kept, const char *manifest_id, Opened *ret_opened,
                            Error *error)
{
    if (kept->last.manifest != NULL && strcmp(kept->last.manifest->id, manifest_id) == 0) {
        *ret_opened = kept->last;
        return STATUS_OK;
    }
    Arena *arena = kept->other_arena;
    arena_reset(arena);
    RETURN_IF_ERROR(open_manifest(kept, manifest_id, arena, ret_opened, error));
    kept->other_arena = kept->arena;
    kept->arena = arena;
    kept->last = *ret_opened;
    return STATUS_OK;
}

// The scope with a data key, without a manifest that is sealed with it.
static Status scope_of_key(KeptReach *kept, const char *key_id, const ShardScope **ret_scope,
                           Error *error)
{
    if (scopes_have(&kept->scopes, key_id, ret_scope)) {
        return STATUS_OK;
    }
    Manifest place = {0}; // only for its names
    CLEANUP(data_key_done) DataKey own = {0};
    memcpy(place.database_id, kept->database_id, UUID_TEXT_SIZE);
    snprintf(place.shard_id, sizeof(place.shard_id), "%s", kept->options->shard_id);
    if (strcmp(kept->key->id, key_id) == 0) {
        own = data_key_copy(kept->key);
    } else {
        RETURN_IF_ERROR(
            repository_data_key_by_id(kept->repository, kept->database_id, key_id, &own, error));
    }
    return scopes_get(&kept->scopes, kept->repository, &own, &place, ret_scope, error);
}

// --- steps ------------------------------------------------------------------------------------

static Status step_scope(KeptReach *kept, const ReachStep *step, const ShardScope **ret_scope,
                         Error *error)
{
    char key_id[UUID_TEXT_SIZE];
    id_encode(step->key_id, key_id);
    return scope_of_key(kept, key_id, ret_scope, error);
}

static Status take_step(KeptReach *kept, const ReachStep *step, Error *error)
{
    const ShardScope *scope = NULL;
    RETURN_IF_ERROR(step_scope(kept, step, &scope, error));
    reach_begin(kept->all, scope, "");
    reach_record_merge(step, kept->all);
    (void)reach_record_copy(kept->fresh, step); // without room for it, it is walked anew next time
    return STATUS_OK;
}

static void add_step(KeptReach *kept, const Opened *opened, const Opened *base, int64_t stale_bytes,
                     const Reach *reach)
{
    ReachStep step = {.manifest = manifest_name(opened->manifest->id), .stale_bytes = stale_bytes};
    if (base != NULL) {
        step.base = manifest_name(base->manifest->id);
    }
    id_decode(opened->scope->key_id, step.key_id);
    reach_begin(kept->all, opened->scope, opened->manifest->id);
    for (size_t i = 0; reach_at(reach, i) != NULL; i++) {
        reach_merge(kept->all, reach_at(reach, i));
    }
    // Without room for it, it is walked anew next time.
    kept->is_changed = reach_record_add(kept->fresh, &step, reach) || kept->is_changed;
    kept->walked_count++;
}

static Status add_difference(Reach *reach, const Opened *opened, const Opened *base, Error *error)
{
    return reach_add_difference(reach, opened->scope, opened->manifest, base->scope, base->manifest,
                                error);
}

static Status walk_whole(KeptReach *kept, const char *manifest_id, Error *error)
{
    Opened opened;
    RETURN_IF_ERROR(read_manifest(kept, manifest_id, &opened, error));
    CLEANUP(reach_freep) Reach *reach = reach_new(NULL, NULL);
    RETURN_IF_ERROR(reach_add(reach, opened.scope, opened.manifest, error));
    add_step(kept, &opened, NULL, 0, reach);
    return STATUS_OK;
}

// What the oldest manifest of the last time and the oldest one now need together, with what is
// stale of it; false: walking the new one is better.
static Status combine_heads(KeptReach *kept, const ReachStep *head, const char *manifest_id,
                            Reach *reach, bool *ret_is_done, Error *error)
{
    char base_id[MANIFEST_ID_SIZE];
    Opened base;
    Opened opened;
    pack_name_encode(&head->manifest, base_id);
    Status status = read_manifest(kept, base_id, &base, error);
    if (status == STATUS_DATA_LOSS) { // it is gone
        error_clear(error);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(read_manifest(kept, manifest_id, &opened, error));
    if (base.scope != opened.scope) { // another data key: another seed
        return STATUS_OK;
    }
    CLEANUP(reach_freep) Reach *stale = reach_new(NULL, NULL);
    RETURN_IF_ERROR(add_difference(stale, &base, &opened, error));
    int64_t stale_bytes = head->stale_bytes + reach_live_bytes(stale);
    if (stale_bytes > reach_live_bytes(reach) / STALE_SHARE) {
        return STATUS_OK;
    }
    CLEANUP(reach_freep) Reach *more = reach_new(NULL, NULL);
    RETURN_IF_ERROR(add_difference(more, &opened, &base, error));
    reach_begin(reach, opened.scope, manifest_id);
    for (size_t i = 0; reach_at(more, i) != NULL; i++) {
        reach_merge(reach, reach_at(more, i));
    }
    add_step(kept, &opened, NULL, stale_bytes, reach);
    *ret_is_done = true;
    return STATUS_OK;
}

static Status step_first(KeptReach *kept, const char *manifest_id, Error *error)
{
    const ReachStep *head = reach_record_head(kept->old);
    PackName name = manifest_name(manifest_id);
    bool is_done = false;
    if (head != NULL && !kept->options->is_thorough) {
        if (pack_name_equal(&head->manifest, &name)) {
            return take_step(kept, head, error);
        }
        const ShardScope *scope = NULL;
        CLEANUP(reach_freep) Reach *reach = reach_new(NULL, NULL);
        RETURN_IF_ERROR(step_scope(kept, head, &scope, error));
        reach_begin(reach, scope, "");
        reach_record_merge(head, reach);
        if (reach_live_bytes(reach) >= kept->options->small_bytes) {
            RETURN_IF_ERROR(combine_heads(kept, head, manifest_id, reach, &is_done, error));
        }
    }
    return is_done ? STATUS_OK : walk_whole(kept, manifest_id, error);
}

static Status step_next(KeptReach *kept, const char *manifest_id, const char *base_id, Error *error)
{
    PackName name = manifest_name(manifest_id);
    PackName base_name = manifest_name(base_id);
    const ReachStep *step = reach_record_find(kept->old, &name, &base_name);
    if (step != NULL) {
        return take_step(kept, step, error);
    }
    Opened base;
    Opened opened;
    RETURN_IF_ERROR(read_manifest(kept, base_id, &base, error));
    RETURN_IF_ERROR(read_manifest(kept, manifest_id, &opened, error));
    CLEANUP(reach_freep) Reach *reach = reach_new(NULL, NULL);
    RETURN_IF_ERROR(add_difference(reach, &opened, &base, error));
    add_step(kept, &opened, &base, 0, reach);
    return STATUS_OK;
}

// --- the whole --------------------------------------------------------------------------------

Status kept_reach_find(Repository *repository, const DataKey *key, const KeptOptions *options,
                       KeptReach **ret_kept, Error *error)
{
    CLEANUP(kept_reach_freep) KeptReach *kept = mem_alloc(sizeof(*kept));
    kept->repository = repository;
    kept->key = key;
    kept->options = options;
    kept->all = reach_new(NULL, NULL);
    kept->fresh = reach_record_new();
    kept->arena = arena_new();
    kept->other_arena = arena_new();
    RETURN_IF_ERROR(reach_record_load(repository, key, options->shard_id, &kept->old,
                                      &kept->old_number, kept->database_id, error));
    for (size_t i = 0; i < options->keep_count; i++) {
        assert(i == 0 || strcmp(options->keep[i - 1], options->keep[i]) < 0);
        RETURN_IF_ERROR(i == 0 ? step_first(kept, options->keep[0], error)
                               : step_next(kept, options->keep[i], options->keep[i - 1], error));
    }
    kept->is_changed =
        kept->is_changed || reach_record_count(kept->fresh) != reach_record_count(kept->old);
    *ret_kept = TAKE_PTR(kept);
    return STATUS_OK;
}

Status kept_reach_save(KeptReach *kept, Error *error)
{
    const KeptOptions *options = kept->options;
    bool is_worth_it =
        options->keep_count >= SMALL_STEP_COUNT ||
        (options->keep_count > 0 && reach_live_bytes(kept->all) >= options->small_bytes);
    if (!is_worth_it) {
        return kept->old_number == 0
                   ? STATUS_OK
                   : reach_record_remove(kept->repository, options->shard_id, UINT32_MAX, error);
    }
    uint32_t newest = kept->old_number + (kept->is_changed ? 1 : 0);
    if (kept->is_changed) {
        const ShardScope *scope = NULL;
        RETURN_IF_ERROR(scope_of_key(kept, kept->key->id, &scope, error));
        RETURN_IF_ERROR(reach_record_save(kept->fresh, scope, newest, error));
    }
    return reach_record_remove(kept->repository, options->shard_id, newest, error);
}
