// SPDX-License-Identifier: Apache-2.0
// Calls that write into an open file, cut it, or fill it from another one.
#include "recorder/preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "the 64 bit names of calls are the same calls");

// Other names of the same calls, which no header has.
ssize_t __write(int fd, const void *data, size_t size);
ssize_t __pwrite64(int fd, const void *data, size_t size, off64_t offset);

// --- at the file's position
// -----------------------------------------------------------------------

INTERPOSED(ssize_t, write, (int fd, const void *data, size_t size))
{
    int64_t before = preload_position_begin(fd, (int64_t)size);
    ssize_t written = next_write()(fd, data, size);
    preload_position_end(fd, before, written);
    return written;
}

INTERPOSED(ssize_t, __write, (int fd, const void *data, size_t size))
{
    int64_t before = preload_position_begin(fd, (int64_t)size);
    ssize_t written = next___write()(fd, data, size);
    preload_position_end(fd, before, written);
    return written;
}

INTERPOSED(ssize_t, writev, (int fd, const struct iovec *parts, int count))
{
    int64_t before = preload_position_begin(fd, preload_vector_size(parts, count));
    ssize_t written = next_writev()(fd, parts, count);
    preload_position_end(fd, before, written);
    return written;
}

INTERPOSED(ssize_t, sendfile, (int to, int from, off_t *offset, size_t size))
{
    int64_t before = preload_position_begin(to, (int64_t)size);
    ssize_t written = next_sendfile()(to, from, offset, size);
    preload_position_end(to, before, written);
    return written;
}

INTERPOSED(ssize_t, sendfile64, (int to, int from, off64_t *offset, size_t size))
{
    int64_t before = preload_position_begin(to, (int64_t)size);
    ssize_t written = next_sendfile64()(to, from, offset, size);
    preload_position_end(to, before, written);
    return written;
}

// --- at an offset
// ---------------------------------------------------------------------------------

INTERPOSED(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t offset))
{
    preload_mark(fd, offset, (int64_t)size);
    return next_pwrite()(fd, data, size, offset);
}

INTERPOSED(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t offset))
{
    preload_mark(fd, offset, (int64_t)size);
    return next_pwrite64()(fd, data, size, offset);
}

INTERPOSED(ssize_t, __pwrite64, (int fd, const void *data, size_t size, off64_t offset))
{
    preload_mark(fd, offset, (int64_t)size);
    return next___pwrite64()(fd, data, size, offset);
}

INTERPOSED(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t offset))
{
    preload_mark(fd, offset, preload_vector_size(parts, count));
    return next_pwritev()(fd, parts, count, offset);
}

INTERPOSED(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t offset))
{
    preload_mark(fd, offset, preload_vector_size(parts, count));
    return next_pwritev64()(fd, parts, count, offset);
}

// An offset of -1 means the file's position.
static int64_t vector_begin(int fd, const struct iovec *parts, int count, int64_t offset)
{
    int64_t size = preload_vector_size(parts, count);
    if (offset == -1) {
        return preload_position_begin(fd, size);
    }
    preload_mark(fd, offset, size);
    return -1;
}

INTERPOSED(ssize_t, pwritev2,
           (int fd, const struct iovec *parts, int count, off_t offset, int flags))
{
    int64_t before = vector_begin(fd, parts, count, offset);
    ssize_t written = next_pwritev2()(fd, parts, count, offset, flags);
    preload_position_end(fd, before, written);
    return written;
}

INTERPOSED(ssize_t, pwritev64v2,
           (int fd, const struct iovec *parts, int count, off64_t offset, int flags))
{
    int64_t before = vector_begin(fd, parts, count, offset);
    ssize_t written = next_pwritev64v2()(fd, parts, count, offset, flags);
    preload_position_end(fd, before, written);
    return written;
}

// --- from another file
// ----------------------------------------------------------------------------

// The target's offset is the call's, or the file's position.
static int64_t target_begin(int to, const off64_t *offset, size_t size)
{
    if (offset == NULL) {
        return preload_position_begin(to, (int64_t)size);
    }
    preload_mark(to, *offset, (int64_t)size);
    return -1;
}

INTERPOSED(ssize_t, copy_file_range,
           (int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
            unsigned int flags))
{
    int64_t before = target_begin(to, to_offset, size);
    ssize_t written = next_copy_file_range()(from, from_offset, to, to_offset, size, flags);
    preload_position_end(to, before, written);
    return written;
}

INTERPOSED(ssize_t, splice,
           (int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
            unsigned int flags))
{
    int64_t before = target_begin(to, to_offset, size);
    ssize_t written = next_splice()(from, from_offset, to, to_offset, size, flags);
    preload_position_end(to, before, written);
    return written;
}

// Sharing blocks with another file changes this one's content.
static void note_ioctl(int fd, unsigned long request, void *argument)
{
    if (request == FICLONE) {
        preload_mark(fd, 0, -1);
    } else if (request == FICLONERANGE) {
        const struct file_clone_range *range = argument;
        preload_mark(fd, (int64_t)range->dest_offset,
                     range->src_length == 0 ? -1 : (int64_t)range->src_length);
    }
}

INTERPOSED(int, ioctl, (int fd, unsigned long request, ...))
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    note_ioctl(fd, request, argument);
    return next_ioctl()(fd, request, argument);
}

// --- length and holes
// -----------------------------------------------------------------------------

INTERPOSED(int, ftruncate, (int fd, off_t size))
{
    preload_mark_resize(fd, size);
    return next_ftruncate()(fd, size);
}

INTERPOSED(int, ftruncate64, (int fd, off64_t size))
{
    preload_mark_resize(fd, size);
    return next_ftruncate64()(fd, size);
}

INTERPOSED(int, truncate, (const char *path, off_t size))
{
    preload_mark_path(AT_FDCWD, path);
    return next_truncate()(path, size);
}

INTERPOSED(int, truncate64, (const char *path, off64_t size))
{
    preload_mark_path(AT_FDCWD, path);
    return next_truncate64()(path, size);
}

// Allocating changes no byte; what it appends is behind the end.
static void note_fallocate(int fd, int mode, int64_t offset, int64_t size)
{
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_UNSHARE_RANGE)) == 0) {
        return;
    }
    bool is_local = (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) ==
                    0; // the others move what is behind the range
    preload_mark(fd, offset, is_local ? size : -1);
}

INTERPOSED(int, fallocate, (int fd, int mode, off_t offset, off_t size))
{
    note_fallocate(fd, mode, offset, size);
    return next_fallocate()(fd, mode, offset, size);
}

INTERPOSED(int, fallocate64, (int fd, int mode, off64_t offset, off64_t size))
{
    note_fallocate(fd, mode, offset, size);
    return next_fallocate64()(fd, mode, offset, size);
}
