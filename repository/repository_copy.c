// SPDX-License-Identifier: Apache-2.0
// Copying a backup to another repository. Another repository has other keys, and names are hashes
// under keys: so each shard is restored to a scratch directory, where every byte is authenticated,
// and published from there against what the target has of the shard. Only what the target lacks is
// written to it; the set comes last, so a copy that ended early is none and is done again.
#include "common/file.h"
#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/repository_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPY_COMPRESSION_LEVEL 3

typedef struct CopyShard {
    Repository *source, *target;
    const BackupSet *set;
    const SetShard *shard;
    const SetShard *parent; // in the target; NULL: none
    const char *directory;
    const CopyOptions *options;
    Arena *arena;
    // What the manifest lists.
    SourceFile *files;
    size_t file_count, file_capacity;
    const char **directories;
    size_t directory_count, directory_capacity;
} CopyShard;

static Status list_entries(CopyShard *copy, const DataKey *key, const Manifest *manifest,
                           Error *error)
{
    CLEANUP(scope_done) ShardScope scope = {0};
    ManifestRoot root;
    const ListEntry *entry = NULL;
    RETURN_IF_ERROR(
        scope_init(&scope, copy->source, key, manifest->database_id, manifest->shard_id, error));
    RETURN_IF_ERROR(manifest_root(manifest, &root, error));
    CLEANUP(blob_opener_freep) BlobOpener *opener = blob_opener_new(&scope);
    blob_opener_read_ahead(opener);
    CLEANUP(list_reader_freep)
    ListReader *list = list_reader_new(opener, &root, NULL, NULL);
    for (;;) {
        RETURN_IF_ERROR(list_reader_next(list, &entry, error));
        if (entry == NULL) {
            return STATUS_OK;
        }
        const char *path = arena_string(copy->arena, entry->path);
        if (entry->kind == ENTRY_DIRECTORY) {
            if (copy->directory_count == copy->directory_capacity) {
                copy->directory_capacity = MAX(64, 2 * copy->directory_capacity);
                copy->directories = mem_realloc_array(copy->directories, copy->directory_capacity,
                                                      sizeof(*copy->directories));
            }
            copy->directories[copy->directory_count++] = path;
            continue;
        }
        if (copy->file_count == copy->file_capacity) {
            copy->file_capacity = MAX(64, 2 * copy->file_capacity);
            copy->files = mem_realloc_array(copy->files, copy->file_capacity, sizeof(*copy->files));
        }
        copy->files[copy->file_count++] =
            (SourceFile){.path = path, .size_bytes = entry->size_bytes, .mode = entry->mode};
    }
}

// The target's manifest that the new one may refer to, with the key that both are sealed with.
static Status open_parent(CopyShard *copy, DataKey *ret_key, Manifest **ret_parent, Error *error)
{
    *ret_parent = NULL;
    if (copy->parent == NULL) {
        return repository_data_key(copy->target, copy->set->database_id, true, ret_key, error);
    }
    return manifest_open(copy->target, copy->set->database_id, copy->parent->shard_id,
                         copy->parent->manifest_id, copy->arena, ret_key, ret_parent, error);
}

static Status publish(CopyShard *copy, const Manifest *manifest, Manifest **ret_copy, Error *error)
{
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *parent = NULL;
    PackName name; // a manifest's id has the form of a pack's name
    RETURN_IF_ERROR(open_parent(copy, &key, &parent, error));
    if (!pack_name_decode(manifest->id, &name)) {
        return error_set(error, REASON_INVALID, "'%s' is not the id of a manifest", manifest->id);
    }
    PublishOptions options = {.directory = copy->directory,
                              .files = copy->files,
                              .file_count = copy->file_count,
                              .directories = copy->directories,
                              .directory_count = copy->directory_count,
                              .epoch = name.epoch,
                              .parent = parent,
                              .manifest = *manifest,
                              .compression_level = COPY_COMPRESSION_LEVEL,
                              .limits = copy->options->limits,
                              .memory_bytes = copy->options->memory_bytes,
                              .progress = copy->options->progress};
    Manifest *published = NULL;
    RETURN_IF_ERROR(
        repository_publish(copy->target, &key, &options, copy->arena, &published, error));
    if (published->file_count != manifest->file_count ||
        published->size_bytes != manifest->size_bytes ||
        published->data_bytes != manifest->data_bytes) {
        return error_set(error, REASON_INTERNAL, "the copy of manifest '%s' has other files",
                         manifest->id);
    }
    *ret_copy = published;
    return STATUS_OK;
}

static Status copy_shard(CopyShard *copy, SetShard *ret_shard, CopyResult *result, Error *error)
{
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *manifest = NULL;
    Manifest *published = NULL;
    MaterializeResult materialized = {0};
    RETURN_IF_ERROR(manifest_open(copy->source, copy->set->database_id, copy->shard->shard_id,
                                  copy->shard->manifest_id, copy->arena, &key, &manifest, error));
    if (strcmp(manifest->digest, copy->shard->manifest_digest) != 0) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that the backup was made of", manifest->id);
    }
    RETURN_IF_ERROR(list_entries(copy, &key, manifest, error));
    RETURN_IF_ERROR(dir_remove_all(copy->directory, error)); // of a copy that ended early
    const MaterializeOptions options = {.limits = copy->options->limits,
                                        .memory_bytes = copy->options->memory_bytes,
                                        .is_scratch = true,
                                        .progress = copy->options->progress};
    RETURN_IF_ERROR(repository_materialize(copy->source, &key, manifest, copy->directory, &options,
                                           &materialized, error));
    RETURN_IF_ERROR(publish(copy, manifest, &published, error));
    result->read_bytes += materialized.read_bytes;
    result->stored_bytes += published->stored_bytes;
    *ret_shard = *copy->shard;
    memcpy(ret_shard->manifest_id, published->id, MANIFEST_ID_SIZE);
    memcpy(ret_shard->manifest_digest, published->digest, sizeof(ret_shard->manifest_digest));
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

static Status copy_shards(Repository *source, Repository *target, const CopyOptions *options,
                          BackupSet *copied, CopyResult *result, Error *error)
{
    const BackupSet *set = options->set;
    for (size_t i = 0; i < set->shard_count; i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        CopyShard copy = {.source = source,
                          .target = target,
                          .set = set,
                          .shard = &set->shards[i],
                          .parent = find_shard(options->parent, set->shards[i].shard_id),
                          .directory = options->scratch_directory,
                          .options = options,
                          .arena = arena};
        Status status = copy_shard(&copy, &copied->shards[i], result, error);
        mem_free(copy.files);
        mem_free(copy.directories);
        if (status != STATUS_OK) {
            return error_wrap(error, "shard '%s'", set->shards[i].shard_name);
        }
    }
    return STATUS_OK;
}

Status repository_copy_backup(Repository *source, Repository *target, const CopyOptions *options,
                              Arena *arena, BackupSet **ret_set, CopyResult *ret_result,
                              Error *error)
{
    CopyResult result = {0};
    const BackupSet *set = options->set;
    CLEANUP(data_key_done) DataKey key = {0};
    BackupSet *copied = NULL;
    Status status =
        backup_set_read(target, set->database_id, set->backup_id, arena, &copied, error);
    if (status == STATUS_OK) {
        result.is_there_already = true;
    } else if (status != STATUS_NOT_FOUND) {
        return status;
    } else {
        error_clear(error);
        copied = arena_copy(arena, set, sizeof(*set));
        copied->shards = arena_alloc_array(arena, set->shard_count + 1, sizeof(*copied->shards));
        RETURN_IF_ERROR(copy_shards(source, target, options, copied, &result, error));
        RETURN_IF_ERROR(dir_remove_all(options->scratch_directory, error));
        RETURN_IF_ERROR(repository_data_key(target, set->database_id, true, &key, error));
        memcpy(copied->key_id, key.id, UUID_TEXT_SIZE);
        RETURN_IF_ERROR(backup_set_write(target, &key, copied, error));
    }
    *ret_set = copied;
    *ret_result = result;
    return STATUS_OK;
}
