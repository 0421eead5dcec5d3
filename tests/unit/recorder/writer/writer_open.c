// SPDX-License-Identifier: Apache-2.0
// Operations: what opening does, and what is written through stdio.
#include "tests/unit/recorder/writer/writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAR_OFFSET (20 * 16384)

// A byte far behind makes the file as long as it was, with zeros in between.
static void fill(Writer *writer, int fd)
{
    writer_check(fd >= 0, "open");
    writer_check(pwrite(fd, "x", 1, FAR_OFFSET) == 1, "pwrite");
    writer_check(write(fd, writer_bytes(writer), writer_size(writer)) > 0, "write");
    writer_check(close(fd) == 0, "close");
}

static void run_open_truncate(Writer *writer)
{
    fill(writer, writer_open(writer, O_WRONLY | O_TRUNC));
}

static void run_creat(Writer *writer)
{
    fill(writer, creat(writer->path, 0600));
}

static void run_open64_truncate(Writer *writer)
{
    fill(writer, open64(writer->path, O_WRONLY | O_TRUNC | O_CLOEXEC));
}

static void run_openat64_truncate(Writer *writer)
{
    fill(writer, openat64(AT_FDCWD, writer->path, O_WRONLY | O_TRUNC | O_CLOEXEC));
}

static void run_creat64(Writer *writer)
{
    fill(writer, creat64(writer->path, 0600));
}

static void run_openat_truncate(Writer *writer)
{
    fill(writer, openat(AT_FDCWD, writer->path, O_RDWR | O_TRUNC | O_CLOEXEC));
}

static void run_raw_truncate(Writer *writer)
{
    fill(writer, (int)syscall(SYS_openat, AT_FDCWD, writer->path, O_RDWR | O_TRUNC, 0));
}

// The new file may well get the old one's inode.
static void run_recreate(Writer *writer)
{
    writer_check(unlink(writer->path) == 0, "unlink");
    int fd = open(writer->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    writer_check(fd >= 0 && ftruncate(fd, 12 * BLOCK_SIZE) == 0, "making the file again");
    fill(writer, fd);
}

static void run_replace(Writer *writer)
{
    int fd = open(writer->other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    writer_check(fd >= 0 && ftruncate(fd, 12 * BLOCK_SIZE) == 0, "making the other file");
    fill(writer, fd);
    writer_check(rename(writer->other, writer->path) == 0, "rename");
}

static void run_link(Writer *writer)
{
    (void)unlink(writer->other); // there may be none
    writer_check(link(writer->path, writer->other) == 0, "link");
    int fd = open(writer->other, O_WRONLY | O_CLOEXEC);
    off_t offset = writer_offset(writer);
    writer_check(fd >= 0 && pwrite(fd, writer_bytes(writer), 10, offset) == 10, "pwrite");
    writer_check(close(fd) == 0, "close");
    writer_check(unlink(writer->other) == 0, "unlink");
}

static void put(Writer *writer, FILE *stream)
{
    writer_check(stream != NULL, "opening a stream");
    off_t offset = writer_offset(writer);
    writer_check(fseeko(stream, offset, SEEK_SET) == 0, "fseeko");
    writer_check(fwrite(writer_bytes(writer), 1, 5000, stream) == 5000, "fwrite");
    writer_check(fclose(stream) == 0, "fclose");
}

static void run_fopen_change(Writer *writer)
{
    put(writer, fopen(writer->path, "r+"));
}

static void run_fopen_new(Writer *writer)
{
    put(writer, fopen(writer->path, "w"));
}

static void run_fopen_append(Writer *writer)
{
    put(writer, fopen(writer->path, "a"));
}

static void run_fdopen(Writer *writer)
{
    put(writer, fdopen(writer_open(writer, O_RDWR), "r+"));
}

static void run_freopen(Writer *writer)
{
    put(writer, freopen(writer->path, "r+", fopen("/dev/null", "r")));
}

static void run_dprintf(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    writer_check(lseek(fd, writer_offset(writer), SEEK_SET) >= 0, "lseek");
    writer_check(dprintf(fd, "%d bottles", 99) > 0, "dprintf");
    writer_check(close(fd) == 0, "close");
}

const Operation writer_open_operations[] = {
    {"open_truncate", run_open_truncate},
    {"open64_truncate", run_open64_truncate},
    {"openat64_truncate", run_openat64_truncate},
    {"creat64", run_creat64},
    {"openat_truncate", run_openat_truncate},
    {"raw_truncate", run_raw_truncate},
    {"creat", run_creat},
    {"recreate", run_recreate},
    {"replace", run_replace},
    {"link", run_link},
    {"fopen_change", run_fopen_change},
    {"fopen_new", run_fopen_new},
    {"fopen_append", run_fopen_append},
    {"fdopen", run_fdopen},
    {"freopen", run_freopen},
    {"dprintf", run_dprintf},
    {NULL, NULL},
};
