// SPDX-License-Identifier: Apache-2.0
// Listing a directory tree as flat keys in byte order, with memory for one batch of names per level
// only.
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_filesystem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH_COUNT 256
// Keys are at most 512 bytes, so no tree of ours is deeper.
#define DEPTH_MAX (STORAGE_KEY_SIZE_MAX / 2)

typedef struct ListState {
    const FilesystemStorage *storage;
    const char *prefix;
    const char *after;
    size_t limit;
    Arena *arena;
    StorageObject *objects;
    size_t count;
    bool has_more;
} ListState;

// The smallest entries of one directory that are greater than a bound. A directory's name ends in
// '/', which makes the order of names the order of whole keys.
typedef struct NameBatch {
    char *names[2 * BATCH_COUNT];
    size_t count;
    bool is_cut; // there are greater ones
} NameBatch;

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void batch_done(NameBatch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        mem_free(batch->names[i]);
    }
    batch->count = 0;
}

static void batch_freep(NameBatch **batch)
{
    batch_done(*batch);
    mem_free(*batch);
}

static void batch_cut(NameBatch *batch)
{
    qsort(batch->names, batch->count, sizeof(batch->names[0]), compare_names);
    while (batch->count > BATCH_COUNT) {
        mem_free(batch->names[--batch->count]);
        batch->is_cut = true;
    }
}

static void batch_add(NameBatch *batch, const char *name)
{
    if (batch->count == ARRAY_COUNT(batch->names)) {
        batch_cut(batch);
    }
    batch->names[batch->count++] = string_copy(name);
}

// Can a key that starts with `key` (a directory, ending in '/') be wanted?
static bool is_directory_wanted(const ListState *state, const char *key)
{
    size_t size = strlen(key);
    size_t prefix_size = strlen(state->prefix);
    if (strncmp(key, state->prefix, MIN(size, prefix_size)) != 0) {
        return false;
    }
    return strcmp(key, state->after) > 0 || strncmp(state->after, key, size) == 0;
}

static bool is_object_wanted(const ListState *state, const char *key)
{
    return text_has_prefix(key, state->prefix) && strcmp(key, state->after) > 0;
}

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        closedir(*directory);
    }
}

static bool is_directory_entry(DIR *directory, const struct dirent *entry, bool *ret_is_known)
{
    unsigned char type = entry->d_type;
    if (type == DT_UNKNOWN) {
        struct stat facts;
        bool is_there = fstatat(dirfd(directory), entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) == 0;
        type = !is_there                ? DT_UNKNOWN
               : S_ISDIR(facts.st_mode) ? DT_DIR
               : S_ISREG(facts.st_mode) ? DT_REG
                                        : DT_LNK;
    }
    *ret_is_known = type == DT_DIR || type == DT_REG;
    return type == DT_DIR;
}

// Collects the wanted names of directory `base` ("" or ending in '/') that are greater than
// `bound`.
static Status read_batch(const ListState *state, const char *base, const char *bound,
                         NameBatch *batch, Error *error)
{
    char path[LIMIT_PATH_BYTES];
    RETURN_IF_ERROR(filesystem_path(state->storage, base, path, sizeof(path), error));
    CLEANUP(directory_closep) DIR *directory = opendir(path);
    if (directory == NULL && (errno == ENOENT || errno == ENOTDIR)) {
        return STATUS_OK; // nothing yet, or removed meanwhile
    }
    if (directory == NULL) {
        error_set_errno(error, REASON_UNAVAILABLE, errno, "listing '%s'", path);
        return error_hint(error, "let the user that Holdfast runs as read '%s'",
                          state->storage->root);
    }
    errno = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        bool is_known = false;
        bool is_directory = is_directory_entry(directory, entry, &is_known);
        char key[STORAGE_KEY_SIZE_MAX + 2];
        int size = snprintf(key, sizeof(key), "%s%s", base, entry->d_name);
        if (!is_known || size > STORAGE_KEY_SIZE_MAX || !storage_key_is_valid(key)) {
            continue; // not ours: "lost+found", ".", ".tmp"
        }
        if (is_directory) {
            memcpy(key + size, "/", 2);
        }
        const char *name = key + strlen(base);
        if (strcmp(name, bound) > 0 &&
            (is_directory ? is_directory_wanted(state, key) : is_object_wanted(state, key))) {
            batch_add(batch, name);
        }
    }
    if (errno != 0) {
        return error_set_errno(error, REASON_UNAVAILABLE, errno, "listing '%s'", path);
    }
    batch_cut(batch);
    return STATUS_OK;
}

static Status add_object(ListState *state, const char *key, Error *error)
{
    StorageObject object = {0};
    Status status = state->storage->base.operations->stat((Storage *)(uintptr_t)state->storage, key,
                                                          &object, error);
    if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        return STATUS_OK; // removed between readdir and here
    }
    RETURN_IF_ERROR(status);
    if (state->count == state->limit) {
        state->has_more = true;
        return STATUS_OK;
    }
    object.key = arena_string(state->arena, key);
    state->objects[state->count++] = object;
    return STATUS_OK;
}

static Status list_directory(ListState *state, const char *base, int depth, Error *error)
{
    if (depth > DEPTH_MAX) {
        return STATUS_OK;
    }
    CLEANUP(batch_freep) NameBatch *batch = mem_alloc(sizeof(*batch));
    char bound[STORAGE_KEY_SIZE_MAX + 2] = "";
    do {
        batch->is_cut = false;
        RETURN_IF_ERROR(read_batch(state, base, bound, batch, error));
        for (size_t i = 0; i < batch->count && !state->has_more; i++) {
            const char *name = batch->names[i];
            char key[STORAGE_KEY_SIZE_MAX + 2];
            snprintf(key, sizeof(key), "%s%s", base, name);
            if (text_has_suffix(name, "/")) {
                RETURN_IF_ERROR(list_directory(state, key, depth + 1, error));
            } else {
                RETURN_IF_ERROR(add_object(state, key, error));
            }
        }
        if (batch->is_cut) {
            snprintf(bound, sizeof(bound), "%s", batch->names[batch->count - 1]);
        }
        batch_done(batch);
    } while (batch->is_cut && !state->has_more);
    return STATUS_OK;
}

Status filesystem_list(Storage *storage, const char *prefix, const char *after, size_t limit,
                       Arena *arena, StoragePage *ret_page, bool *ret_has_more, Error *error)
{
    ListState state = {
        .storage = (const FilesystemStorage *)storage,
        .prefix = prefix,
        .after = after,
        .limit = limit,
        .arena = arena,
        .objects = arena_alloc_array(arena, limit, sizeof(StorageObject)),
    };
    // Start in the deepest directory that has all the keys.
    char base[STORAGE_KEY_SIZE_MAX + 2];
    snprintf(base, sizeof(base), "%s", prefix);
    char *slash = strrchr(base, '/');
    base[slash == NULL ? 0 : slash - base + 1] = '\0';
    RETURN_IF_ERROR(list_directory(&state, base, 0, error));
    ret_page->objects = state.objects;
    ret_page->count = state.count;
    *ret_has_more = state.has_more;
    return STATUS_OK;
}
