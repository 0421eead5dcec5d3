// SPDX-License-Identifier: Apache-2.0
// Large files that are read whole are read directly: no copy, and the page cache keeps what others
// need. What the engine has just written is read through the cache, where it is.
#include "repository/repository_source.h"

#include "common/file.h"
#include "common/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECT_SIZE_MIN (INT64_C(1024) * 1024)
#define BLOCK_SIZE 512 // of st_blocks

typedef struct DirectoryReader {
    int directory_fd;
    int fd;
    const SourceFile *file; // that fd is open on
    bool is_direct;
    bool may_have_holes;
    // From hole_start there is a hole up to data_start, and data up to data_end.
    int64_t hole_start, data_start, data_end;
} DirectoryReader;

static void *reader_new(void *context, const atomic_bool *is_stopping)
{
    const int *directory_fd = context;
    DirectoryReader *reader = mem_alloc(sizeof(*reader));
    (void)is_stopping; // a disk does not keep one waiting
    reader->directory_fd = *directory_fd;
    reader->fd = INVALID_FD;
    return reader;
}

static void close_file(DirectoryReader *reader)
{
    if (reader->fd >= 0 && !reader->is_direct) {
        // Nobody reads it again. Advice only; what is dirty stays.
        (void)posix_fadvise(reader->fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    fd_closep(&reader->fd);
    reader->file = NULL;
}

static void reader_free(void *reader)
{
    close_file(reader);
    mem_free(reader);
}

static Status file_changed(const SourceFile *file, Error *error)
{
    error_set(error, REASON_CONFLICT, "file '%s' changed while it was read", file->path);
    return error_hint(error, "the engine must be stopped while its directory is published");
}

static Status open_file(DirectoryReader *reader, const SourceFile *file, bool may_be_direct,
                        Error *error)
{
    close_file(reader);
    const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW;
    reader->is_direct = may_be_direct;
    if (reader->is_direct) {
        reader->fd = openat(reader->directory_fd, file->path, flags | O_DIRECT);
        reader->is_direct = reader->fd >= 0 || errno != EINVAL;
    }
    if (!reader->is_direct) {
        reader->fd = openat(reader->directory_fd, file->path, flags);
    }
    struct stat facts;
    if (reader->fd < 0 || fstat(reader->fd, &facts) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening file '%s'", file->path);
    }
    if (!S_ISREG(facts.st_mode) || (int64_t)facts.st_size != file->size_bytes) {
        return file_changed(file, error);
    }
    reader->file = file;
    reader->may_have_holes = (int64_t)facts.st_blocks * BLOCK_SIZE < file->size_bytes;
    reader->hole_start = reader->data_start = reader->data_end = 0;
    return STATUS_OK;
}

static Status need_file(DirectoryReader *reader, const SourceFile *file, Error *error)
{
    if (reader->file == file) {
        return STATUS_OK;
    }
    bool may_be_direct = file->size_bytes >= DIRECT_SIZE_MIN && file->is_written == NULL;
    return open_file(reader, file, may_be_direct, error);
}

// Reads until `size` bytes are there; direct reads ask for whole blocks, also at the end.
static Status read_all(DirectoryReader *reader, int64_t offset, uint8_t *data, size_t size,
                       size_t *ret_size, Error *error)
{
    size_t done = 0;
    while (done < size) {
        size_t want = size - done;
        if (reader->is_direct) {
            want = (want + DIRECT_ALIGNMENT - 1) / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT;
        }
        ssize_t got = pread(reader->fd, data + done, want, (off_t)(offset + (int64_t)done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return error_set_errno(error, REASON_INTERNAL, errno, "reading file '%s'",
                                   reader->file->path);
        }
        done += (size_t)got;
        if (got == 0 || (reader->is_direct && done % DIRECT_ALIGNMENT != 0)) {
            break; // the end of the file
        }
    }
    *ret_size = MIN(done, size);
    return STATUS_OK;
}

static Status read_directory(void *context, const SourceFile *file, int64_t offset, uint8_t *data,
                             size_t size, Error *error)
{
    DirectoryReader *reader = context;
    RETURN_IF_ERROR(need_file(reader, file, error));
    size_t got = 0;
    Status status = read_all(reader, offset, data, size, &got, error);
    if (status != STATUS_OK && reader->is_direct) {
        // A file system may open files directly and not read them so.
        error_clear(error);
        RETURN_IF_ERROR(open_file(reader, file, false, error));
        status = read_all(reader, offset, data, size, &got, error);
    }
    RETURN_IF_ERROR(status);
    return got == size ? STATUS_OK : file_changed(file, error);
}

static Status is_hole(void *context, const SourceFile *file, int64_t offset, size_t size,
                      bool *ret_is_hole, Error *error)
{
    DirectoryReader *reader = context;
    *ret_is_hole = false;
    RETURN_IF_ERROR(need_file(reader, file, error));
    if (!reader->may_have_holes) {
        return STATUS_OK;
    }
    if (offset < reader->hole_start || offset >= reader->data_end) {
        off_t data_start = lseek(reader->fd, (off_t)offset, SEEK_DATA);
        if (data_start < 0 && errno != ENXIO) {
            reader->may_have_holes = false; // the file system cannot tell
            return STATUS_OK;
        }
        off_t data_end = data_start < 0 ? -1 : lseek(reader->fd, data_start, SEEK_HOLE);
        reader->hole_start = offset;
        reader->data_start = data_start < 0 ? file->size_bytes : (int64_t)data_start;
        reader->data_end = data_end < 0 ? file->size_bytes : (int64_t)data_end;
    }
    *ret_is_hole = offset + (int64_t)size <= reader->data_start;
    return STATUS_OK;
}

PublishSource directory_source(int *directory_fd)
{
    return (PublishSource){.reader_new = reader_new,
                           .reader_free = reader_free,
                           .read = read_directory,
                           .is_hole = is_hole,
                           .context = directory_fd};
}
