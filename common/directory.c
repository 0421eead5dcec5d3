// SPDX-License-Identifier: Apache-2.0
// Directory trees: create, remove, measure and walk in order. Never follows links below the root.
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fts.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// FTS_NOCHDIR: the working directory belongs to all threads.
#define TREE_OPTIONS (FTS_PHYSICAL | FTS_NOCHDIR | FTS_COMFOLLOW)

static void tree_closep(FTS **tree)
{
    if (*tree != NULL) {
        (void)fts_close(*tree); // only read from; nothing can be lost
    }
}

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        (void)closedir(*directory);
    }
}

static FTS *tree_open(char *path, int options, int (*compare)(const FTSENT **, const FTSENT **))
{
    char *paths[] = {path, NULL};
    return fts_open(paths, options, compare);
}

static Status create_one(const char *path, mode_t mode, Error *error)
{
    if (mkdir(path, mode) == 0) {
        return STATUS_OK;
    }
    int number = errno;
    struct stat facts;
    if (stat(path, &facts) == 0) {
        if (S_ISDIR(facts.st_mode)) {
            return STATUS_OK;
        }
        return error_set(error, REASON_PRECONDITION, "'%s' exists and is not a directory", path);
    }
    return error_set_errno(error, REASON_INTERNAL, number, "creating directory '%s'", path);
}

Status dir_create_all(const char *path, mode_t mode, Error *error)
{
    assert(path != NULL);
    CLEANUP_FREE char *partial = string_copy(path);
    size_t size = strlen(partial);
    while (size > 1 && partial[size - 1] == '/') {
        partial[--size] = '\0';
    }
    if (size == 0) {
        return error_set(error, REASON_INVALID, "the path of a directory is empty");
    }
    for (size_t i = 1; i < size; i++) {
        if (partial[i] == '/' && partial[i - 1] != '/') {
            partial[i] = '\0';
            RETURN_IF_ERROR(create_one(partial, mode, error));
            partial[i] = '/';
        }
    }
    return create_one(partial, mode, error);
}

static Status remove_entry(const FTSENT *entry, Error *error)
{
    int failed = 0;
    switch (entry->fts_info) {
    case FTS_D:
        return STATUS_OK; // comes again, as FTS_DP, when it is empty
    case FTS_DP:
        failed = rmdir(entry->fts_path);
        break;
    case FTS_DNR:
    case FTS_ERR:
        if (entry->fts_errno == ENOENT) {
            return STATUS_OK;
        }
        return error_set_errno(error, REASON_INTERNAL, entry->fts_errno, "reading '%s'",
                               entry->fts_path);
    default:
        failed = unlink(entry->fts_path);
        break;
    }
    if (failed != 0 && errno != ENOENT) {
        return error_set_errno(error, REASON_INTERNAL, errno, "removing '%s'", entry->fts_path);
    }
    return STATUS_OK;
}

Status dir_remove_all(const char *path, Error *error)
{
    assert(path != NULL);
    assert(path[0] != '\0');
    assert(strcmp(path, "/") != 0);
    struct stat facts;
    if (lstat(path, &facts) != 0) {
        if (errno == ENOENT) {
            return STATUS_OK;
        }
        return error_set_errno(error, REASON_INTERNAL, errno, "removing '%s'", path);
    }
    CLEANUP_FREE char *root = string_copy(path);
    // A link given as the root is removed itself, not what it points to.
    CLEANUP(tree_closep) FTS *tree = tree_open(root, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (tree == NULL) {
        return error_set_errno(error, REASON_INTERNAL, errno, "removing '%s'", path);
    }
    for (;;) {
        errno = 0;
        FTSENT *entry = fts_read(tree);
        if (entry == NULL) {
            break;
        }
        RETURN_IF_ERROR(remove_entry(entry, error));
    }
    if (errno != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "removing '%s'", path);
    }
    return STATUS_OK;
}

Status dir_is_empty(const char *path, bool *ret_is_empty, Error *error)
{
    return dir_is_empty_but(path, ".", ret_is_empty, error);
}

Status dir_is_empty_but(const char *path, const char *name, bool *ret_is_empty, Error *error)
{
    assert(path != NULL);
    CLEANUP(directory_closep) DIR *directory = opendir(path);
    if (directory == NULL) {
        if (errno == ENOENT) {
            *ret_is_empty = true;
            return STATUS_OK;
        }
        return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'", path);
    }
    bool is_empty = true;
    errno = 0;
    struct dirent *entry = NULL;
    while (is_empty && (entry = readdir(directory)) != NULL) {
        is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                   strcmp(entry->d_name, name) == 0;
    }
    if (is_empty && errno != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "reading '%s'", path);
    }
    *ret_is_empty = is_empty;
    return STATUS_OK;
}

// Next entry of a tree that may change under us (a running engine removes files); NULL at the end.
static Status tree_next(FTS *tree, const char *root, FTSENT **ret_entry, Error *error)
{
    for (;;) {
        errno = 0;
        FTSENT *entry = fts_read(tree);
        if (entry == NULL && errno != 0) {
            return error_set_errno(error, REASON_INTERNAL, errno, "reading '%s'", root);
        }
        if (entry != NULL && (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR ||
                              entry->fts_info == FTS_NS)) {
            if (entry->fts_errno == ENOENT && entry->fts_level > FTS_ROOTLEVEL) {
                continue;
            }
            return error_set_errno(error, REASON_INTERNAL, entry->fts_errno, "reading '%s'",
                                   entry->fts_path);
        }
        *ret_entry = entry;
        return STATUS_OK;
    }
}

Status dir_size(const char *path, int64_t *ret_size_bytes, int64_t *ret_disk_bytes, Error *error)
{
    assert(path != NULL);
    CLEANUP_FREE char *root = string_copy(path);
    CLEANUP(tree_closep) FTS *tree = tree_open(root, TREE_OPTIONS, NULL);
    if (tree == NULL) {
        return error_set_errno(error, REASON_INTERNAL, errno, "reading '%s'", path);
    }
    int64_t size_bytes = 0;
    int64_t disk_bytes = 0;
    for (;;) {
        FTSENT *entry = NULL;
        RETURN_IF_ERROR(tree_next(tree, path, &entry, error));
        if (entry == NULL) {
            break;
        }
        if (entry->fts_info == FTS_F) {
            size_bytes += (int64_t)entry->fts_statp->st_size;
            disk_bytes += (int64_t)entry->fts_statp->st_blocks * 512; // the unit of st_blocks
        }
    }
    if (ret_size_bytes != NULL) {
        *ret_size_bytes = size_bytes;
    }
    if (ret_disk_bytes != NULL) {
        *ret_disk_bytes = disk_bytes;
    }
    return STATUS_OK;
}

// A directory sorts as its name with a slash, which makes the walk's order that of the whole paths.
static int compare_entries(const FTSENT **a, const FTSENT **b)
{
    const FTSENT *left = *a;
    const FTSENT *right = *b;
    size_t common = MIN(left->fts_namelen, right->fts_namelen);
    int order = memcmp(left->fts_name, right->fts_name, common);
    if (order != 0) {
        return order;
    }
    unsigned char left_next = (unsigned char)left->fts_name[common];
    unsigned char right_next = (unsigned char)right->fts_name[common];
    if (left_next == '\0' && left->fts_info == FTS_D) {
        left_next = '/';
    }
    if (right_next == '\0' && right->fts_info == FTS_D) {
        right_next = '/';
    }
    return (int)left_next - (int)right_next;
}

Status dir_walk(const char *root, FileVisitor on_file, void *context, Error *error)
{
    assert(root != NULL);
    assert(on_file != NULL);
    CLEANUP_FREE char *path = string_copy(root);
    size_t root_size = strlen(path);
    while (root_size > 1 && path[root_size - 1] == '/') {
        path[--root_size] = '\0';
    }
    CLEANUP(tree_closep) FTS *tree = tree_open(path, TREE_OPTIONS, compare_entries);
    if (tree == NULL) {
        return error_set_errno(error, REASON_INTERNAL, errno, "reading '%s'", root);
    }
    for (;;) {
        FTSENT *entry = NULL;
        RETURN_IF_ERROR(tree_next(tree, root, &entry, error));
        if (entry == NULL) {
            return STATUS_OK;
        }
        const char *relative = entry->fts_path + MIN(root_size, (size_t)entry->fts_pathlen);
        relative += strspn(relative, "/");
        if (entry->fts_level == FTS_ROOTLEVEL && entry->fts_info != FTS_D &&
            entry->fts_info != FTS_DP) {
            return error_set(error, REASON_PRECONDITION, "'%s' is not a directory", root);
        }
        if (entry->fts_info == FTS_SL || entry->fts_info == FTS_SLNONE) {
            error_set(error, REASON_PRECONDITION, "'%s' is a symbolic link", entry->fts_path);
            return error_hint(error, "replace the link by what it points to");
        }
        if (entry->fts_info == FTS_F) {
            int64_t size_bytes = (int64_t)entry->fts_statp->st_size;
            RETURN_IF_ERROR(on_file(context, relative, size_bytes, error));
        }
    }
}
