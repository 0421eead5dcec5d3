// SPDX-License-Identifier: Apache-2.0
// Operations: length, holes, memory maps, and children.
#include "tests/unit/recorder/writer/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void close_it(int fd)
{
    writer_check(close(fd) == 0, "close");
}

static void run_shrink(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    writer_check(ftruncate(fd, writer_offset(writer)) == 0, "ftruncate");
    close_it(fd);
}

static void run_grow(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    writer_check(ftruncate(fd, writer_file_size(writer) + 16 * BLOCK_SIZE) == 0, "ftruncate");
    close_it(fd);
}

// What was cut comes back as zeros.
static void run_cut(Writer *writer)
{
    off_t size = writer_file_size(writer);
    writer_check(truncate(writer->path, size / 2) == 0, "truncate");
    writer_check(truncate(writer->path, size) == 0, "truncate");
}

static void run_cut64(Writer *writer)
{
    off_t size = writer_file_size(writer);
    writer_check(truncate64(writer->path, size / 2) == 0, "truncate64");
    writer_check(truncate64(writer->path, size) == 0, "truncate64");
}

static void run_cut_open(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    off_t size = writer_file_size(writer);
    writer_check(ftruncate(fd, size / 2) == 0 && ftruncate(fd, size) == 0, "ftruncate");
    close_it(fd);
}

static void run_cut_open64(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    off_t size = writer_file_size(writer);
    writer_check(ftruncate64(fd, size / 2) == 0 && ftruncate64(fd, size) == 0, "ftruncate64");
    close_it(fd);
}

static void run_cut_raw(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    off_t size = writer_file_size(writer);
    writer_check(syscall(SYS_ftruncate, fd, size / 2) == 0 && syscall(SYS_ftruncate, fd, size) == 0,
                 "raw ftruncate");
    close_it(fd);
}

static void run_punch64(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    writer_check(fallocate64(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BLOCK_SIZE) == 0 ||
                     errno == EOPNOTSUPP,
                 "fallocate64");
    close_it(fd);
}

static void allocate(Writer *writer, int mode)
{
    int fd = writer_open(writer, O_RDWR);
    off_t blocks = writer_file_size(writer) / BLOCK_SIZE;
    off_t offset = (off_t)writer_random(writer, (uint64_t)blocks) * BLOCK_SIZE;
    if (mode == FALLOC_FL_COLLAPSE_RANGE && offset + BLOCK_SIZE >= blocks * BLOCK_SIZE) {
        offset = 0;
    }
    // Not every file system can do everything.
    writer_check(fallocate(fd, mode, offset, BLOCK_SIZE) == 0 || errno == EOPNOTSUPP, "fallocate");
    close_it(fd);
}

static void run_punch(Writer *writer)
{
    allocate(writer, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static void run_zero(Writer *writer)
{
    allocate(writer, FALLOC_FL_ZERO_RANGE);
}

static void run_collapse(Writer *writer)
{
    allocate(writer, FALLOC_FL_COLLAPSE_RANGE);
}

static void run_insert(Writer *writer)
{
    allocate(writer, FALLOC_FL_INSERT_RANGE);
}

static void run_preallocate(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    off_t size = writer_file_size(writer);
    writer_check(posix_fallocate(fd, size / 2, size) == 0, "posix_fallocate");
    close_it(fd);
}

static void map(Writer *writer, int protection)
{
    int fd = writer_open(writer, O_RDWR);
    size_t size = (size_t)writer_file_size(writer);
    uint8_t *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    writer_check(memory != MAP_FAILED, "mmap");
    close_it(fd);
    writer_check(mprotect(memory, size, PROT_READ | PROT_WRITE) == 0, "mprotect");
    memory[writer_random(writer, size)] ^= 0x55;
    writer_check(munmap(memory, size) == 0, "munmap");
}

static void run_map(Writer *writer)
{
    map(writer, PROT_READ | PROT_WRITE);
}

static void run_map_later(Writer *writer)
{
    map(writer, PROT_READ);
}

// Read only, then elsewhere and longer, then writable.
static void run_map_moved(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    size_t size = (size_t)writer_file_size(writer);
    uint8_t *memory = mmap(NULL, BLOCK_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    writer_check(memory != MAP_FAILED, "mmap");
    close_it(fd);
    memory = mremap(memory, BLOCK_SIZE, size, MREMAP_MAYMOVE);
    writer_check(memory != MAP_FAILED, "mremap");
    writer_check(mprotect(memory, size, PROT_READ | PROT_WRITE) == 0, "mprotect");
    memory[writer_random(writer, size)] ^= 0x55;
    writer_check(munmap(memory, size) == 0, "munmap");
}

// Many of them, more than are kept in mind.
static void run_map_read(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    for (int i = 0; i < 70; i++) {
        void *memory = mmap(NULL, BLOCK_SIZE, PROT_READ, MAP_SHARED, fd, 0);
        writer_check(memory != MAP_FAILED && munmap(memory, BLOCK_SIZE) == 0, "mmap");
    }
    uint8_t *last = mmap64(NULL, BLOCK_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    writer_check(last != MAP_FAILED, "mmap64");
    writer_check(mprotect(last, BLOCK_SIZE, PROT_READ | PROT_WRITE) == 0, "mprotect");
    last[0] ^= 0x55;
    writer_check(munmap(last, BLOCK_SIZE) == 0, "munmap");
    close_it(fd);
}

static void run_map_only_read(Writer *writer)
{
    int fd = writer_open(writer, O_RDWR);
    void *memory = mmap(NULL, BLOCK_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    writer_check(memory != MAP_FAILED && munmap(memory, BLOCK_SIZE) == 0, "mmap");
    writer_check(pwrite(fd, writer_bytes(writer), 1, writer_offset(writer)) == 1, "pwrite");
    close_it(fd);
}

static void await(pid_t pid)
{
    int status = 1;
    writer_check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "a child");
}

static void run_child(Writer *writer)
{
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        (void)writer_run(writer, "pwrite");
        _exit(0);
    }
    await(pid);
}

// Another program, with our environment.
static void run_program(Writer *writer)
{
    char seed[32];
    char *texts[6];
    const char *const arguments[] = {writer->program, writer->path, writer->other, seed,
                                     "pwritev",       NULL};
    (void)snprintf(seed, sizeof(seed), "%llu", (unsigned long long)writer_random(writer, 1000000));
    memcpy(texts, arguments, sizeof(texts));
    pid_t pid = 0;
    writer_check(posix_spawn(&pid, writer->program, NULL, NULL, texts, environ) == 0, "spawn");
    await(pid);
}

// --- what the recorder cannot follow
// ---------------------------------------------------------------

static void run_bare_program(Writer *writer)
{
    char *arguments[] = {(char *)(uintptr_t)writer->program, (char *)(uintptr_t) "list", NULL};
    char *environment[] = {NULL};
    pid_t pid = 0;
    writer_check(posix_spawn(&pid, writer->program, NULL, NULL, arguments, environment) == 0 &&
                     waitpid(pid, NULL, 0) == pid,
                 "spawn");
}

static void run_ring(Writer *writer)
{
    (void)writer;
    uint8_t parameters[256] = {0};
    (void)syscall(SYS_io_uring_setup, 1, parameters); // the kernel may refuse; trying is enough
}

const Operation writer_blind_operations[] = {
    {"bare_program", run_bare_program},
    {"ring", run_ring},
    {NULL, NULL},
};

const Operation writer_other_operations[] = {
    {"shrink", run_shrink},
    {"grow", run_grow},
    {"cut", run_cut},
    {"cut64", run_cut64},
    {"cut_open", run_cut_open},
    {"cut_open64", run_cut_open64},
    {"cut_raw", run_cut_raw},
    {"punch64", run_punch64},
    {"punch", run_punch},
    {"zero", run_zero},
    {"collapse", run_collapse},
    {"insert", run_insert},
    {"map", run_map},
    {"map_later", run_map_later},
    {"map_moved", run_map_moved},
    {"map_read", run_map_read},
    {"map_only_read", run_map_only_read},
    {"preallocate", run_preallocate},
    {"child", run_child},
    {"program", run_program},
    {NULL, NULL},
};
