// SPDX-License-Identifier: Apache-2.0
#include "agent/restore_target.h"

#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/repository.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MARK_SIZE_MAX 1024

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        (void)closedir(*directory); // reading only: nothing can be lost
    }
}

static char *mark_path(const char *directory)
{
    return string_format("%s/%s", directory, REPOSITORY_TARGET_MARK);
}

static bool is_marked_by(const char *directory, const char *owner)
{
    CLEANUP_FREE char *path = mark_path(directory);
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    Error ignored = {0}; // a mark that cannot be read is not ours
    if (file_read(path, MARK_SIZE_MAX, &text, &size, &ignored) != STATUS_OK) {
        return false;
    }
    return text_has_prefix(text, owner) && text_equal(text + strlen(owner), "\n");
}

static Status remove_all_but_mark(const char *path, Error *error)
{
    CLEANUP(directory_closep) DIR *directory = opendir(path);
    if (directory == NULL) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'", path);
    }
    struct dirent *entry = NULL;
    while ((errno = 0, entry = readdir(directory)) != NULL) {
        const char *name = entry->d_name;
        if (text_equal(name, ".") || text_equal(name, "..") ||
            text_equal(name, REPOSITORY_TARGET_MARK)) {
            continue;
        }
        CLEANUP_FREE char *child = string_format("%s/%s", path, name);
        RETURN_IF_ERROR(dir_remove_all(child, error));
    }
    return errno == 0 ? STATUS_OK
                      : error_set_errno(error, REASON_INTERNAL, errno, "reading '%s'", path);
}

Status restore_target_empty(const char *directory, Error *error)
{
    RETURN_IF_ERROR(remove_all_but_mark(directory, error));
    return restore_target_unmark(directory, error);
}

Status restore_target_prepare(const char *directory, const char *owner, Error *error)
{
    if (directory[0] != '/') {
        return error_set(error, REASON_INVALID, "the target '%s' is not an absolute path",
                         directory);
    }
    bool is_empty = false;
    RETURN_IF_ERROR(dir_is_empty(directory, &is_empty, error));
    if (is_empty) {
        return STATUS_OK;
    }
    if (is_marked_by(directory, owner)) {
        return restore_target_empty(directory, error);
    }
    (void)error_set(error, REASON_TARGET_NOT_EMPTY, "the target '%s' is not empty", directory);
    return error_hint(error, "name a directory that is empty or does not exist");
}

Status restore_target_mark(const char *directory, const char *owner, Error *error)
{
    CLEANUP_FREE char *path = mark_path(directory);
    CLEANUP_FREE char *text = string_format("%s\n", owner);
    RETURN_IF_ERROR(dir_create_all(directory, 0700, error));
    CLEANUP(fd_closep)
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_set_errno(error, errno == EEXIST ? REASON_TARGET_NOT_EMPTY : REASON_INTERNAL,
                               errno, "marking the target '%s'", directory);
    }
    RETURN_IF_ERROR(file_write_all(fd, text, strlen(text), error));
    if (fsync(fd) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "writing out '%s'", path);
    }
    return dir_sync(directory, error);
}

Status restore_target_unmark(const char *directory, Error *error)
{
    CLEANUP_FREE char *path = mark_path(directory);
    if (unlink(path) != 0 && errno != ENOENT) {
        return error_set_errno(error, REASON_INTERNAL, errno, "removing '%s'", path);
    }
    return STATUS_OK;
}
