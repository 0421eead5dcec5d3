// SPDX-License-Identifier: Apache-2.0
// Opening: with O_TRUNC the content goes, with O_CREAT an inode may be used again, and what is
// opened through stdio is written inside the C library, where nobody sees the offsets.
#include "recorder/preload/preload.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// The mode of a new file, when there is one.
#define TAKE_MODE(mode, flags)                                                                     \
    mode_t mode = 0;                                                                               \
    if (((flags) & (O_CREAT | __O_TMPFILE)) != 0) {                                                \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode = va_arg(arguments, mode_t);                                                          \
        va_end(arguments);                                                                         \
    }

INTERPOSED(int, open, (const char *path, int flags, ...))
{
    TAKE_MODE(mode, flags)
    preload_open_begin(AT_FDCWD, path, flags);
    int fd = next_open()(path, flags, mode);
    preload_open_end(fd, flags);
    return fd;
}

INTERPOSED(int, open64, (const char *path, int flags, ...))
{
    TAKE_MODE(mode, flags)
    preload_open_begin(AT_FDCWD, path, flags);
    int fd = next_open64()(path, flags, mode);
    preload_open_end(fd, flags);
    return fd;
}

INTERPOSED(int, openat, (int directory_fd, const char *path, int flags, ...))
{
    TAKE_MODE(mode, flags)
    preload_open_begin(directory_fd, path, flags);
    int fd = next_openat()(directory_fd, path, flags, mode);
    preload_open_end(fd, flags);
    return fd;
}

INTERPOSED(int, openat64, (int directory_fd, const char *path, int flags, ...))
{
    TAKE_MODE(mode, flags)
    preload_open_begin(directory_fd, path, flags);
    int fd = next_openat64()(directory_fd, path, flags, mode);
    preload_open_end(fd, flags);
    return fd;
}

// What the compiler's fortification makes of an open without a mode.
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int directory_fd, const char *path, int flags);
int __openat64_2(int directory_fd, const char *path, int flags);

INTERPOSED(int, __open_2, (const char *path, int flags))
{
    preload_open_begin(AT_FDCWD, path, flags);
    return next___open_2()(path, flags);
}

INTERPOSED(int, __open64_2, (const char *path, int flags))
{
    preload_open_begin(AT_FDCWD, path, flags);
    return next___open64_2()(path, flags);
}

INTERPOSED(int, __openat_2, (int directory_fd, const char *path, int flags))
{
    preload_open_begin(directory_fd, path, flags);
    return next___openat_2()(directory_fd, path, flags);
}

INTERPOSED(int, __openat64_2, (int directory_fd, const char *path, int flags))
{
    preload_open_begin(directory_fd, path, flags);
    return next___openat64_2()(directory_fd, path, flags);
}

INTERPOSED(int, creat, (const char *path, mode_t mode))
{
    preload_open_begin(AT_FDCWD, path, O_TRUNC);
    int fd = next_creat()(path, mode);
    preload_open_end(fd, O_TRUNC);
    return fd;
}

INTERPOSED(int, creat64, (const char *path, mode_t mode))
{
    preload_open_begin(AT_FDCWD, path, O_TRUNC);
    int fd = next_creat64()(path, mode);
    preload_open_end(fd, O_TRUNC);
    return fd;
}

// --- stdio
// ----------------------------------------------------------------------------------------

static bool is_writing(const char *mode)
{
    return mode != NULL && strpbrk(mode, "wa+") != NULL;
}

static FILE *stream_opened(FILE *stream, const char *mode)
{
    if (stream != NULL && is_writing(mode)) {
        preload_mark(fileno(stream), 0, -1);
    }
    return stream;
}

static void stream_opening(const char *path, const char *mode)
{
    if (is_writing(mode)) {
        preload_mark_path(AT_FDCWD, path);
    }
}

INTERPOSED(FILE *, fopen, (const char *restrict path, const char *restrict mode))
{
    stream_opening(path, mode);
    return stream_opened(next_fopen()(path, mode), mode);
}

INTERPOSED(FILE *, fopen64, (const char *restrict path, const char *restrict mode))
{
    stream_opening(path, mode);
    return stream_opened(next_fopen64()(path, mode), mode);
}

INTERPOSED(FILE *, freopen,
           (const char *restrict path, const char *restrict mode, FILE *restrict stream))
{
    stream_opening(path, mode);
    return stream_opened(next_freopen()(path, mode, stream), mode);
}

INTERPOSED(FILE *, freopen64,
           (const char *restrict path, const char *restrict mode, FILE *restrict stream))
{
    stream_opening(path, mode);
    return stream_opened(next_freopen64()(path, mode, stream), mode);
}

INTERPOSED(FILE *, fdopen, (int fd, const char *mode))
{
    return stream_opened(next_fdopen()(fd, mode), mode);
}

INTERPOSED(int, vdprintf, (int fd, const char *restrict format, va_list arguments))
{
    preload_mark(fd, 0, -1);
    return next_vdprintf()(fd, format, arguments);
}

INTERPOSED(int, dprintf, (int fd, const char *restrict format, ...))
{
    va_list arguments;
    va_start(arguments, format);
    preload_mark(fd, 0, -1);
    int size = next_vdprintf()(fd, format, arguments);
    va_end(arguments);
    return size;
}
