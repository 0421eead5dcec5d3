// SPDX-License-Identifier: Apache-2.0
// Files: whole reads, durable replacement, exact positional reads and writes.
#include "common/file.h"

#include "common/limits.h"
#include "common/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define READ_PIECE_BYTES 65536

void fd_closep(int *fd)
{
    assert(fd != NULL);
    if (*fd >= 0) {
        // The data's fate was decided by fsync before; a close error has nothing to add.
        (void)close(*fd);
    }
    *fd = INVALID_FD;
}

static int open_file(const char *path, int flags)
{
    int fd = INVALID_FD;
    do {
        fd = open(path, flags | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

Status file_read(const char *path, size_t size_max, char **ret_data, size_t *ret_size, Error *error)
{
    assert(path != NULL);
    assert(ret_data != NULL);
    CLEANUP(fd_closep) int fd = open_file(path, O_RDONLY);
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'", path);
    }
    CLEANUP(buffer_done) Buffer buffer = {0};
    // One byte more than allowed is enough to know that there is too much.
    buffer_init(&buffer, size_max + 1);
    for (;;) {
        size_t piece = MIN((size_t)READ_PIECE_BYTES, buffer.size_max - buffer.size);
        bool has_room = buffer_reserve(&buffer, piece);
        assert(has_room);
        ssize_t got = piece == 0 ? 0 : read(fd, buffer.data + buffer.size, piece);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return error_set_errno(error, REASON_INTERNAL, errno, "reading '%s'", path);
        }
        if (got == 0) {
            break;
        }
        buffer.size += (size_t)got;
        buffer.data[buffer.size] = '\0';
    }
    if (buffer.size > size_max) {
        return error_set(error, REASON_EXHAUSTED, "'%s' is larger than %zu bytes", path, size_max);
    }
    if (ret_size != NULL) {
        *ret_size = buffer.size;
    }
    *ret_data = buffer_take_text(&buffer);
    return STATUS_OK;
}

Status file_write_all(int fd, const void *data, size_t size, Error *error)
{
    const uint8_t *bytes = data;
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return error_set_errno(error, REASON_INTERNAL, errno, "writing %zu bytes", size);
        }
        bytes += written;
        size -= (size_t)written;
    }
    return STATUS_OK;
}

Status file_write_all_at(int fd, const void *data, size_t size, int64_t offset, Error *error)
{
    assert(offset >= 0);
    const uint8_t *bytes = data;
    while (size > 0) {
        ssize_t written = pwrite(fd, bytes, size, offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return error_set_errno(error, REASON_INTERNAL, errno,
                                   "writing %zu bytes at offset %lld", size, (long long)offset);
        }
        bytes += written;
        size -= (size_t)written;
        offset += written;
    }
    return STATUS_OK;
}

Status file_read_at(int fd, void *data, size_t size, int64_t offset, size_t *ret_size, Error *error)
{
    assert(offset >= 0);
    uint8_t *bytes = data;
    size_t have = 0;
    while (have < size) {
        ssize_t got = pread(fd, bytes + have, size - have, offset + (int64_t)have);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return error_set_errno(error, REASON_INTERNAL, errno,
                                   "reading %zu bytes at offset %lld", size - have,
                                   (long long)offset + (long long)have);
        }
        if (got == 0) {
            break;
        }
        have += (size_t)got;
    }
    *ret_size = have;
    return STATUS_OK;
}

// The directory part of a path: "." for a bare name, "/" for a name in the root.
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return string_copy(".");
    }
    return slash == path ? string_copy("/") : string_copy_n(path, (size_t)(slash - path));
}

static Status write_temporary(int fd, const char *path, const void *data, size_t size, mode_t mode,
                              Error *error)
{
    if (fchmod(fd, mode) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "setting the mode of '%s'", path);
    }
    if (file_write_all(fd, data, size, error) != STATUS_OK) {
        return error_wrap(error, "writing '%s'", path);
    }
    if (fsync(fd) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "syncing '%s'", path);
    }
    return STATUS_OK;
}

Status file_write_atomic(const char *path, const void *data, size_t size, mode_t mode, Error *error)
{
    assert(path != NULL);
    CLEANUP_FREE char *directory = parent_of(path);
    CLEANUP_FREE char *temporary = string_format("%s.tmp-XXXXXX", path);
    CLEANUP(fd_closep) int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "creating a file beside '%s'", path);
    }
    Status status = write_temporary(fd, path, data, size, mode, error);
    if (status == STATUS_OK && rename(temporary, path) != 0) {
        status = error_set_errno(error, REASON_INTERNAL, errno, "replacing '%s'", path);
    }
    if (status != STATUS_OK) {
        (void)unlink(temporary); // the failure that matters is told already
        return status;
    }
    return dir_sync(directory, error);
}

Status dir_sync(const char *path, Error *error)
{
    CLEANUP(fd_closep) int fd = open_file(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'", path);
    }
    // Some network file systems cannot sync a directory and say so with EINVAL; then there is
    // nothing to wait for.
    if (fsync(fd) != 0 && errno != EINVAL) {
        return error_set_errno(error, REASON_INTERNAL, errno, "syncing directory '%s'", path);
    }
    return STATUS_OK;
}

Status disk_free_bytes(const char *path, int64_t *ret_free_bytes, Error *error)
{
    struct statvfs facts;
    if (statvfs(path, &facts) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "asking the free space of '%s'",
                               path);
    }
    *ret_free_bytes = (int64_t)facts.f_bavail * (int64_t)facts.f_frsize;
    return STATUS_OK;
}
