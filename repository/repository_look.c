// SPDX-License-Identifier: Apache-2.0
// What is in a repository, without reading data.
#include "repository/manifest_object.h"
#include "repository/repository_reader.h"
#include "repository/repository_replacement.h"

#include <stdio.h>
#include <string.h>

#define LOOK_PAGE_COUNT 1000

Status repository_list_files(Repository *repository, const DataKey *key, const Manifest *manifest,
                             void (*on_file)(void *context, const char *path, int64_t size_bytes,
                                             uint32_t mode),
                             void *context, Error *error)
{
    CLEANUP(scope_done) ShardScope scope = {0};
    ManifestRoot root;
    const ListEntry *entry = NULL;
    RETURN_IF_ERROR(
        scope_init(&scope, repository, key, manifest->database_id, manifest->shard_id, error));
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
        if (entry->kind == ENTRY_FILE) {
            on_file(context, entry->path, entry->size_bytes, entry->mode);
        }
    }
}

static Status highest_epoch(Repository *repository, const char *prefix, uint32_t *epoch,
                            Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char token[STORAGE_KEY_SIZE_MAX + 1] = "";
    do {
        StoragePage page;
        arena_reset(arena);
        RETURN_IF_ERROR(storage_list(repository->storage, prefix, token[0] == '\0' ? NULL : token,
                                     LOOK_PAGE_COUNT, arena, &page, error));
        for (size_t i = 0; i < page.count; i++) {
            PackName name; // manifests are named as packs are
            uint32_t number = 0;
            if (pack_object_decode(page.objects[i].key + strlen(prefix), &name, &number) &&
                name.epoch > *epoch) {
                *epoch = name.epoch;
            }
        }
        const char *next = page.next_page_token;
        snprintf(token, sizeof(token), "%s", next == NULL ? "" : next);
    } while (token[0] != '\0');
    return STATUS_OK;
}

Status repository_shard_epoch(Repository *repository, const char *shard_id, uint32_t *ret_epoch,
                              Error *error)
{
    static const char *const folders[] = {"packs", "manifests"};
    uint32_t epoch = 0;
    RETURN_IF_ERROR(id_check(shard_id, "shard", error));
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char prefix[OBJECT_KEY_SIZE];
        snprintf(prefix, sizeof(prefix), "shards/%s/%s/", shard_id, folders[i]);
        RETURN_IF_ERROR(highest_epoch(repository, prefix, &epoch, error));
    }
    *ret_epoch = epoch;
    return STATUS_OK;
}
