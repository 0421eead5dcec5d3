// SPDX-License-Identifier: Apache-2.0
// Copying a backup to another repository. Another repository has other keys, and names are hashes
// under keys: so each shard is published anew, from its extents in the source and against what the
// target has of the shard. Only what the target lacks is written to it. The set comes last, so a
// copy that ended early is none; the next one finds the shards and the packs that it has stored.
#include "common/memory.h"
#include "repository/copy_origin.h"
#include "repository/manifest_object.h"

#include <stdio.h>
#include <string.h>

#define COPY_COMPRESSION_LEVEL 3
#define PAGE_COUNT 1000

typedef struct Copy {
    Repository *source, *target;
    const CopyOptions *options;
    Limits *limits;                 // the options', or our own
    const BackupSet *origin_parent; // the source's set of options->parent; NULL: it has none
    CopyResult *result;
} Copy;

typedef struct CopyShard {
    const Copy *copy;
    const SetShard *shard;
    const SetShard *parent, *origin_parent; // in the target and in the source; NULL: none
    Arena *arena;
    DataKey source_key, target_key;
    const Manifest *manifest; // the source's
} CopyShard;

static void copy_shard_done(CopyShard *shard)
{
    data_key_done(&shard->source_key);
    data_key_done(&shard->target_key);
}

// --- what is there ----------------------------------------------------------------------------

// What a copy that was stopped has left may be damaged; it is not needed.
static bool is_left_aside(Status status)
{
    return status == STATUS_NOT_FOUND || status == STATUS_DATA_LOSS;
}

static bool is_copy_of(const Manifest *copy, const Manifest *manifest)
{
    return strcmp(copy->origin_digest, manifest->digest) == 0 &&
           copy->file_count == manifest->file_count &&
           copy->directory_count == manifest->directory_count &&
           copy->size_bytes == manifest->size_bytes && copy->data_bytes == manifest->data_bytes;
}

// What a copy that was stopped has finished; NULL: nothing.
static Status find_finished(const CopyShard *shard, uint32_t epoch, const Manifest **ret_manifest,
                            Error *error)
{
    const Repository *target = shard->copy->target;
    const char *database_id = shard->copy->options->set->database_id;
    char prefix[OBJECT_KEY_SIZE];
    char token[STORAGE_KEY_SIZE_MAX + 1] = "";
    int folder_size =
        snprintf(prefix, sizeof(prefix), "shards/%s/manifests/", shard->shard->shard_id);
    snprintf(prefix + folder_size, sizeof(prefix) - (size_t)folder_size, "%08x-", epoch);
    *ret_manifest = NULL;
    do {
        StoragePage page;
        RETURN_IF_ERROR(storage_list(target->storage, prefix, token[0] == '\0' ? NULL : token,
                                     PAGE_COUNT, shard->arena, &page, error));
        for (size_t i = 0; i < page.count && *ret_manifest == NULL; i++) {
            CLEANUP(data_key_done) DataKey key = {0};
            Manifest *found = NULL;
            Status status =
                manifest_open(shard->copy->target, database_id, shard->shard->shard_id,
                              page.objects[i].key + folder_size, shard->arena, &key, &found, error);
            if (status == STATUS_OK && is_copy_of(found, shard->manifest)) {
                *ret_manifest = found;
            } else if (status != STATUS_OK && !is_left_aside(status)) {
                return status;
            }
            error_clear(error);
        }
        snprintf(token, sizeof(token), "%s",
                 page.next_page_token == NULL ? "" : page.next_page_token);
    } while (token[0] != '\0' && *ret_manifest == NULL);
    return STATUS_OK;
}

// The target's manifest that the new one may refer to, with the key that both are sealed with.
static Status open_parent(CopyShard *shard, Manifest **ret_parent, Error *error)
{
    const Copy *copy = shard->copy;
    const char *database_id = copy->options->set->database_id;
    *ret_parent = NULL;
    if (shard->parent == NULL) {
        return repository_data_key(copy->target, database_id, true, &shard->target_key, error);
    }
    return manifest_open(copy->target, database_id, shard->parent->shard_id,
                         shard->parent->manifest_id, shard->arena, &shard->target_key, ret_parent,
                         error);
}

// The manifest that `parent`, of the target, is a copy of, so that only what differs from it needs
// to be read. NULL: the source does not have it any more, or its maps cannot be compared.
static Status open_origin_parent(const CopyShard *shard, const Manifest *parent,
                                 Manifest **ret_manifest, Error *error)
{
    *ret_manifest = NULL;
    if (parent == NULL || shard->origin_parent == NULL ||
        strcmp(parent->origin_digest, shard->origin_parent->manifest_digest) != 0) {
        return STATUS_OK;
    }
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *found = NULL;
    Status status = manifest_open(shard->copy->source, shard->copy->options->set->database_id,
                                  shard->origin_parent->shard_id, shard->origin_parent->manifest_id,
                                  shard->arena, &key, &found, error);
    if (is_left_aside(status)) {
        error_clear(error);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(status);
    if (is_copy_of(parent, found) && strcmp(found->key_id, shard->manifest->key_id) == 0) {
        *ret_manifest = found;
    }
    return STATUS_OK;
}

// --- a shard ----------------------------------------------------------------------------------

static Status publish(CopyShard *shard, uint32_t epoch, const Manifest **ret_manifest, Error *error)
{
    const CopyOptions *options = shard->copy->options;
    const Manifest *manifest = shard->manifest;
    Manifest *parent = NULL;
    Manifest *origin_parent = NULL;
    Manifest *published = NULL;
    CLEANUP(copy_origin_freep) CopyOrigin *origin = NULL;
    RETURN_IF_ERROR(open_parent(shard, &parent, error));
    RETURN_IF_ERROR(open_origin_parent(shard, parent, &origin_parent, error));
    const CopyOriginOptions source = {.manifest = manifest,
                                      .parent = origin_parent,
                                      .limits = shard->copy->limits,
                                      .progress = options->progress};
    RETURN_IF_ERROR(
        copy_origin_new(shard->copy->source, &shard->source_key, &source, &origin, error));
    PublishOptions publishing = {.epoch = epoch,
                                 .parent = parent,
                                 .manifest = *manifest,
                                 .compression_level = COPY_COMPRESSION_LEVEL,
                                 .resume_epoch_min = epoch,
                                 .resume_epoch_max = epoch,
                                 .limits = shard->copy->limits,
                                 .memory_bytes = options->memory_bytes,
                                 .progress = options->progress};
    publishing.manifest.origin_digest = manifest->digest;
    copy_origin_describe(origin, &publishing);
    Status status = repository_publish(shard->copy->target, &shard->target_key, &publishing,
                                       shard->arena, &published, error);
    shard->copy->result->read_bytes += copy_origin_read_bytes(origin);
    RETURN_IF_ERROR(status);
    if (!is_copy_of(published, manifest)) {
        return error_set(error, REASON_INTERNAL, "the copy of manifest '%s' has other files",
                         manifest->id);
    }
    shard->copy->result->stored_bytes += published->stored_bytes;
    *ret_manifest = published;
    return STATUS_OK;
}

static Status copy_shard(CopyShard *shard, SetShard *ret_shard, Error *error)
{
    const Copy *copy = shard->copy;
    Manifest *manifest = NULL;
    const Manifest *copied = NULL;
    PackName name; // a manifest's id has the form of a pack's name
    RETURN_IF_ERROR(manifest_open(copy->source, copy->options->set->database_id,
                                  shard->shard->shard_id, shard->shard->manifest_id, shard->arena,
                                  &shard->source_key, &manifest, error));
    if (strcmp(manifest->digest, shard->shard->manifest_digest) != 0) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that the backup was made of", manifest->id);
    }
    if (!pack_name_decode(manifest->id, &name)) {
        return error_set(error, REASON_INVALID, "'%s' is not the id of a manifest", manifest->id);
    }
    shard->manifest = manifest;
    RETURN_IF_ERROR(find_finished(shard, name.epoch, &copied, error));
    if (copied == NULL) {
        RETURN_IF_ERROR(publish(shard, name.epoch, &copied, error));
    }
    *ret_shard = *shard->shard;
    memcpy(ret_shard->manifest_id, copied->id, MANIFEST_ID_SIZE);
    memcpy(ret_shard->manifest_digest, copied->digest, sizeof(ret_shard->manifest_digest));
    return STATUS_OK;
}

static const SetShard *find_shard(const BackupSet *set, const char *shard_id)
{
    for (size_t i = 0; set != NULL && i < set->shard_count; i++) {
        if (strcmp(set->shards[i].shard_id, shard_id) == 0) {
            return &set->shards[i];
        }
    }
    return NULL;
}

// --- a backup ---------------------------------------------------------------------------------

static Status copy_shards(const Copy *copy, BackupSet *copied, Error *error)
{
    const BackupSet *set = copy->options->set;
    for (size_t i = 0; i < set->shard_count; i++) {
        const char *shard_id = set->shards[i].shard_id;
        CLEANUP(arena_freep) Arena *arena = arena_new();
        CLEANUP(copy_shard_done)
        CopyShard shard = {.copy = copy,
                           .shard = &set->shards[i],
                           .parent = find_shard(copy->options->parent, shard_id),
                           .origin_parent = find_shard(copy->origin_parent, shard_id),
                           .arena = arena};
        if (copy_shard(&shard, &copied->shards[i], error) != STATUS_OK) {
            return error_wrap(error, "shard '%s'", set->shards[i].shard_name);
        }
    }
    return STATUS_OK;
}

// A sweep of the target may have taken what nothing named yet.
static Status check_manifests(const Copy *copy, const BackupSet *copied, Error *error)
{
    for (size_t i = 0; i < copied->shard_count; i++) {
        char key[OBJECT_KEY_SIZE];
        StorageObject object;
        manifest_object_key(copied->shards[i].shard_id, copied->shards[i].manifest_id, key);
        Status status = storage_stat(copy->target->storage, key, &object, error);
        if (status == STATUS_NOT_FOUND) {
            error_set(error, REASON_CONFLICT, "object '%s' was removed while its backup was copied",
                      key);
            return error_hint(error, "keep sweeps from the repository while backups are copied "
                                     "there, and copy again");
        }
        RETURN_IF_ERROR(status);
    }
    return STATUS_OK;
}

static Status find_origin_parent(Copy *copy, Arena *arena, Error *error)
{
    const BackupSet *parent = copy->options->parent;
    BackupSet *found = NULL;
    if (parent == NULL) {
        return STATUS_OK;
    }
    Status status =
        backup_set_read(copy->source, parent->database_id, parent->backup_id, arena, &found, error);
    if (status != STATUS_OK && !is_left_aside(status)) {
        return status;
    }
    error_clear(error);
    copy->origin_parent = found;
    return STATUS_OK;
}

static Status copy_backup(Copy *copy, Arena *arena, BackupSet **ret_copied, Error *error)
{
    const BackupSet *set = copy->options->set;
    CLEANUP(data_key_done) DataKey key = {0};
    BackupSet *copied = arena_copy(arena, set, sizeof(*set));
    copied->shards = arena_alloc_array(arena, set->shard_count + 1, sizeof(*copied->shards));
    RETURN_IF_ERROR(find_origin_parent(copy, arena, error));
    RETURN_IF_ERROR(copy_shards(copy, copied, error));
    RETURN_IF_ERROR(check_manifests(copy, copied, error));
    RETURN_IF_ERROR(repository_data_key(copy->target, set->database_id, true, &key, error));
    memcpy(copied->key_id, key.id, UUID_TEXT_SIZE);
    RETURN_IF_ERROR(backup_set_write(copy->target, &key, copied, error));
    *ret_copied = copied;
    return STATUS_OK;
}

Status repository_copy_backup(Repository *source, Repository *target, const CopyOptions *options,
                              Arena *arena, BackupSet **ret_set, CopyResult *ret_result,
                              Error *error)
{
    CopyResult result = {0};
    CLEANUP(limits_freep) Limits *own_limits = options->limits == NULL ? limits_new() : NULL;
    Copy copy = {.source = source,
                 .target = target,
                 .options = options,
                 .limits = options->limits == NULL ? own_limits : options->limits,
                 .result = &result};
    BackupSet *copied = NULL;
    Status status = backup_set_read(target, options->set->database_id, options->set->backup_id,
                                    arena, &copied, error);
    if (status == STATUS_OK) {
        result.is_there_already = true;
    } else if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        status = copy_backup(&copy, arena, &copied, error);
    }
    RETURN_IF_ERROR(status);
    *ret_set = copied;
    *ret_result = result;
    return STATUS_OK;
}
