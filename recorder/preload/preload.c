// SPDX-License-Identifier: Apache-2.0
// Attaching to the table, and what the wrappers share.
#include "recorder/preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

// Set once, before the program's main; children have it by inheritance.
static RecorderTable table;
static atomic_bool is_attached;

static void *map_table(const char *path, uint64_t *ret_size)
{
    struct stat facts;
    void *memory = MAP_FAILED;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &facts) == 0 && facts.st_size > 0) {
        *ret_size = (uint64_t)facts.st_size;
        memory = mmap(NULL, (size_t)facts.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return memory;
}

__attribute__((constructor)) static void attach(void)
{
    int number = errno;
    const char *path = getenv(RECORDER_TABLE_VARIABLE);
    uint64_t size = 0;
    void *memory = path == NULL ? MAP_FAILED : map_table(path, &size);
    if (memory != MAP_FAILED && !recorder_table_open(memory, size, &table)) {
        (void)munmap(memory,
                     (size_t)size); // of another version: we are not attached, which is seen
        memory = MAP_FAILED;
    }
    if (memory != MAP_FAILED) {
        atomic_store(&is_attached, true);
        uint32_t index = atomic_fetch_add(&table.header->attached_count, 1);
        if (index < RECORDER_ATTACHED_MAX) {
            atomic_store(&table.header->attached[index], (int32_t)getpid());
        }
    }
    errno = number;
}

void *preload_next(_Atomic(void *) *found, const char *name)
{
    void *next = atomic_load_explicit(found, memory_order_acquire);
    if (next == NULL) {
        next = dlsym(RTLD_NEXT, name);
        atomic_store_explicit(found, next, memory_order_release);
    }
    return next;
}

bool preload_is_recording(void)
{
    return atomic_load_explicit(&is_attached, memory_order_acquire);
}

static const RecorderSlot *find(int fd, struct stat *facts)
{
    if (!preload_is_recording()) {
        return NULL;
    }
    int number = errno;
    const RecorderSlot *slot = fstat(fd, facts) == 0 ? recorder_table_find(&table, facts) : NULL;
    errno = number;
    return slot;
}

const RecorderSlot *preload_find(int fd)
{
    struct stat facts;
    return find(fd, &facts);
}

void preload_mark_slot(const RecorderSlot *slot, int64_t offset, int64_t size)
{
    recorder_table_mark(&table, slot, offset, size);
}

void preload_mark(int fd, int64_t offset, int64_t size)
{
    const RecorderSlot *slot = preload_find(fd);
    if (slot != NULL) {
        recorder_table_mark(&table, slot, offset, size);
    }
}

void preload_mark_path(int directory_fd, const char *path)
{
    if (!preload_is_recording() || path == NULL) {
        return;
    }
    int number = errno;
    struct stat facts;
    if (fstatat(directory_fd, path, &facts, 0) == 0) {
        const RecorderSlot *slot = recorder_table_find(&table, &facts);
        if (slot != NULL) {
            recorder_table_mark(&table, slot, 0, -1);
        }
    }
    errno = number;
}

void preload_mark_if_empty(int fd)
{
    struct stat facts;
    const RecorderSlot *slot = fd < 0 ? NULL : find(fd, &facts);
    if (slot != NULL && facts.st_size == 0) {
        recorder_table_mark(&table, slot, 0, -1);
    }
}

void preload_mark_resize(int fd, int64_t size)
{
    struct stat facts;
    const RecorderSlot *slot = find(fd, &facts);
    if (slot != NULL && size != facts.st_size) {
        recorder_table_mark(&table, slot, size < facts.st_size ? size : facts.st_size, -1);
    }
}

void preload_doubt(RecorderDoubt doubt)
{
    if (preload_is_recording()) {
        atomic_fetch_or(&table.header->doubts, (uint32_t)doubt);
    }
}

int64_t preload_position_begin(int fd, int64_t size)
{
    int number = errno;
    const RecorderSlot *slot = preload_find(fd);
    int64_t before = slot == NULL ? -1 : lseek(fd, 0, SEEK_CUR);
    if (before >= 0) {
        // With O_APPEND the bytes go behind the end: what is there was cut before, or is new.
        recorder_table_mark(&table, slot, before, size);
    }
    errno = number;
    return before;
}

void preload_position_end(int fd, int64_t before, ssize_t written)
{
    if (before < 0 || written <= 0) {
        return;
    }
    int number = errno;
    int64_t after = lseek(fd, 0, SEEK_CUR);
    if (after != before + written) { // another thread wrote as well: ours is between the two
        preload_mark(fd, after > before ? before : 0, after > before ? after - before : -1);
    }
    errno = number;
}

int64_t preload_vector_size(const struct iovec *parts, int count)
{
    int64_t size = 0;
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > (size_t)(INT64_MAX - size)) {
            return -1; // the call will fail
        }
        size += (int64_t)parts[i].iov_len;
    }
    return size;
}

void preload_open_begin(int directory_fd, const char *path, int flags)
{
    if ((flags & O_TRUNC) != 0) {
        preload_mark_path(directory_fd, path);
    }
}

void preload_open_end(int fd, int flags)
{
    if ((flags & (O_TRUNC | O_CREAT)) != 0) {
        preload_mark_if_empty(fd);
    }
}
