// SPDX-License-Identifier: Apache-2.0
// Operations: calls that write into an open file.
#include "tests/unit/recorder/writer/writer.h"

#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct iovec parts[2];

static const struct iovec *two_parts(Writer *writer)
{
    const uint8_t *bytes = writer_bytes(writer);
    size_t size = 2 + writer_size(writer) / 2;
    for (int i = 0; i < 2; i++) {
        parts[i] = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = size / 2};
    }
    return parts;
}

static int open_at(Writer *writer, off_t offset)
{
    int fd = writer_open(writer, O_RDWR);
    writer_check(lseek(fd, offset, SEEK_SET) == offset, "lseek");
    return fd;
}

static void done(int fd, bool is_fine, const char *what)
{
    writer_check(is_fine, what);
    writer_check(close(fd) == 0, "close");
}

static void run_write(Writer *writer)
{
    int fd = open_at(writer, writer_offset(writer));
    done(fd, write(fd, writer_bytes(writer), writer_size(writer)) > 0, "write");
}

static void run_append(Writer *writer)
{
    int fd = writer_open(writer, O_WRONLY | O_APPEND);
    done(fd, write(fd, writer_bytes(writer), writer_size(writer)) > 0, "append");
}

static void run_writev(Writer *writer)
{
    int fd = open_at(writer, writer_offset(writer));
    done(fd, writev(fd, two_parts(writer), 2) > 0, "writev");
}

static void run_pwrite(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    done(fd, pwrite(fd, writer_bytes(writer), writer_size(writer), writer_offset(writer)) > 0,
         "pwrite");
}

static void run_pwrite64(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    done(fd, pwrite64(fd, writer_bytes(writer), writer_size(writer), writer_offset(writer)) > 0,
         "pwrite64");
}

static void run_direct(Writer *writer)
{
    static _Alignas(BLOCK_SIZE) uint8_t block[BLOCK_SIZE];
    memcpy(block, writer_bytes(writer), sizeof(block));
    off_t offset = writer_offset(writer) / BLOCK_SIZE * BLOCK_SIZE;
    int fd = open(writer->path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) {
        run_pwrite(writer); // a file system without direct writes
        return;
    }
    done(fd, pwrite(fd, block, sizeof(block), offset) > 0, "direct write");
}

static void run_pwritev(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    off_t offset = writer_offset(writer);
    done(fd, pwritev(fd, two_parts(writer), 2, offset) > 0, "pwritev");
}

static void run_pwritev2(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    off_t offset = writer_offset(writer);
    done(fd, pwritev2(fd, two_parts(writer), 2, offset, 0) > 0, "pwritev2");
}

static void run_pwritev64(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    off_t offset = writer_offset(writer);
    done(fd, pwritev64(fd, two_parts(writer), 2, offset) > 0, "pwritev64");
}

static void run_pwritev64v2(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    off_t offset = writer_offset(writer);
    done(fd, pwritev64v2(fd, two_parts(writer), 2, offset, 0) > 0, "pwritev64v2");
}

static void run_pwritev2_position(Writer *writer)
{
    int fd = open_at(writer, writer_offset(writer));
    done(fd, pwritev2(fd, two_parts(writer), 2, -1, 0) > 0, "pwritev2 at the position");
}

static int open_other(Writer *writer)
{
    int fd = open(writer->other, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    writer_check(fd >= 0 && write(fd, writer_bytes(writer), PIECE_SIZE_MAX) == PIECE_SIZE_MAX,
                 "the other file");
    return fd;
}

static void run_sendfile(Writer *writer)
{
    int from = open_other(writer);
    int fd = open_at(writer, writer_offset(writer));
    off_t start = 0;
    done(fd, sendfile(fd, from, &start, writer_size(writer)) > 0, "sendfile");
    done(from, true, "close");
}

static void run_sendfile64(Writer *writer)
{
    int from = open_other(writer);
    int fd = open_at(writer, writer_offset(writer));
    off64_t start = 0;
    done(fd, sendfile64(fd, from, &start, writer_size(writer)) > 0, "sendfile64");
    done(from, true, "close");
}

static void run_copy_file_range(Writer *writer)
{
    int from = open_other(writer);
    int fd = writer_open(writer, O_RDWR);
    off64_t start = 0;
    off64_t offset = writer_offset(writer);
    done(fd, copy_file_range(from, &start, fd, &offset, writer_size(writer), 0) > 0,
         "copy_file_range");
    done(from, true, "close");
}

static void run_splice(Writer *writer)
{
    int pipes[2];
    writer_check(pipe(pipes) == 0, "pipe");
    ssize_t size = write(pipes[1], writer_bytes(writer), writer_size(writer));
    int fd = writer_open(writer, O_RDWR);
    off64_t offset = writer_offset(writer);
    done(fd, splice(pipes[0], NULL, fd, &offset, (size_t)size, 0) > 0, "splice");
    done(pipes[0], true, "close");
    done(pipes[1], true, "close");
}

static void run_aio_write(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    struct aiocb block = {.aio_fildes = fd,
                          .aio_buf = (void *)(uintptr_t)writer_bytes(writer),
                          .aio_nbytes = writer_size(writer),
                          .aio_offset = writer_offset(writer)};
    writer_check(aio_write(&block) == 0, "aio_write");
    const struct aiocb *const blocks[] = {&block};
    while (aio_error(&block) == EINPROGRESS) {
        (void)aio_suspend(blocks, 1, NULL);
    }
    done(fd, aio_return(&block) > 0, "aio_write's result");
}

static void run_lio_listio(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    struct aiocb block = {.aio_fildes = fd,
                          .aio_lio_opcode = LIO_WRITE,
                          .aio_buf = (void *)(uintptr_t)writer_bytes(writer),
                          .aio_nbytes = writer_size(writer),
                          .aio_offset = writer_offset(writer)};
    struct aiocb *const blocks[] = {&block};
    done(fd, lio_listio(LIO_WAIT, blocks, 1, NULL) == 0, "lio_listio");
}

static void run_kernel_aio(Writer *writer)
{
    aio_context_t context = 0;
    if (syscall(SYS_io_setup, 4, &context) != 0) {
        run_pwrite(writer); // the machine's limit may be used up
        return;
    }
    int fd = writer_open(writer, O_RDWR);
    struct iocb block = {.aio_lio_opcode = IOCB_CMD_PWRITE,
                         .aio_fildes = (uint32_t)fd,
                         .aio_buf = (uint64_t)(uintptr_t)writer_bytes(writer),
                         .aio_nbytes = writer_size(writer),
                         .aio_offset = writer_offset(writer)};
    struct iocb *blocks[] = {&block};
    struct io_event event;
    writer_check(syscall(SYS_io_submit, context, 1L, blocks) == 1, "io_submit");
    writer_check(syscall(SYS_io_getevents, context, 1L, 1L, &event, NULL) == 1, "io_getevents");
    done(fd, syscall(SYS_io_destroy, context) == 0, "io_destroy");
}

static void run_raw(Writer *writer)
{
    int fd = open_at(writer, writer_offset(writer));
    const uint8_t *bytes = writer_bytes(writer);
    size_t size = writer_size(writer);
    off_t offset = writer_offset(writer);
    writer_check(syscall(SYS_write, fd, bytes, size) > 0, "raw write");
    done(fd, syscall(SYS_pwrite64, fd, bytes, size, offset) > 0, "raw pwrite");
}

// Two threads write at the position that they share.
static void *write_often(void *argument)
{
    Writer writer = {.random = 7};
    const uint8_t *bytes = writer_bytes(&writer);
    for (int i = 0; i < 20; i++) {
        writer_check(write(*(const int *)argument, bytes, 700) == 700, "write of a thread");
    }
    return NULL;
}

static void run_threads(Writer *writer)
{
    int fd = open_at(writer, writer_offset(writer));
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        writer_check(pthread_create(&threads[i], NULL, write_often, &fd) == 0, "pthread_create");
    }
    for (int i = 0; i < 2; i++) {
        writer_check(pthread_join(threads[i], NULL) == 0, "pthread_join");
    }
    done(fd, true, "close");
}

const Operation writer_write_operations[] = {
    {"write", run_write},
    {"append", run_append},
    {"writev", run_writev},
    {"pwrite", run_pwrite},
    {"pwrite64", run_pwrite64},
    {"direct", run_direct},
    {"pwritev", run_pwritev},
    {"pwritev2", run_pwritev2},
    {"pwritev2_position", run_pwritev2_position},
    {"pwritev64", run_pwritev64},
    {"pwritev64v2", run_pwritev64v2},
    {"sendfile64", run_sendfile64},
    {"sendfile", run_sendfile},
    {"copy_file_range", run_copy_file_range},
    {"splice", run_splice},
    {"aio_write", run_aio_write},
    {"lio_listio", run_lio_listio},
    {"kernel_aio", run_kernel_aio},
    {"raw", run_raw},
    {"threads", run_threads},
    {NULL, NULL},
};
