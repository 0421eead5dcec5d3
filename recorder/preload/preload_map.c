// SPDX-License-Identifier: Apache-2.0
// Writing without a write: shared memory maps, asynchronous and raw system calls.
#include "recorder/preload/preload.h"

#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define READABLE_COUNT_MAX 64

// Maps that can only be read yet, of files that are open for writing: the kernel would let them be
// made writable. They are never taken out: an entry too many marks too much.
typedef struct ReadableMap {
    _Atomic uintptr_t end; // 0: not filled yet
    uintptr_t start;
    const RecorderSlot *slot;
} ReadableMap;
static ReadableMap readable[READABLE_COUNT_MAX];
static _Atomic uint32_t readable_count;

// What may be written through the map, or become so; NULL: nothing.
static const RecorderSlot *writable_slot(int flags, int fd)
{
    bool is_shared = (flags & MAP_TYPE) == MAP_SHARED || (flags & MAP_TYPE) == MAP_SHARED_VALIDATE;
    if (!is_shared || (flags & MAP_ANONYMOUS) != 0) {
        return NULL;
    }
    const RecorderSlot *slot = preload_find(fd);
    if (slot != NULL) {
        int number = errno;
        int mode = fcntl(fd, F_GETFL);
        slot = mode >= 0 && (mode & O_ACCMODE) == O_RDONLY ? NULL : slot;
        errno = number;
    }
    return slot;
}

// Before the program knows where the map is. It may be made longer, so what it can reach is all up
// to the end.
static void map_end(const RecorderSlot *slot, void *address, size_t size, int protection,
                    int64_t offset)
{
    if (slot == NULL || address == MAP_FAILED) {
        return;
    }
    uint32_t index = 0;
    if ((protection & PROT_WRITE) != 0) {
        preload_mark_slot(slot, offset, -1);
    } else if ((index = atomic_fetch_add(&readable_count, 1)) < READABLE_COUNT_MAX) {
        readable[index].start = (uintptr_t)address;
        readable[index].slot = slot;
        atomic_store(&readable[index].end, (uintptr_t)address + size);
    } else {
        atomic_store(&readable_count, READABLE_COUNT_MAX);
        preload_mark_slot(slot, 0, -1);
    }
}

// Part of memory becomes writable, or goes to another place where it is not known any more.
static void note_change(const void *address, size_t size)
{
    uintptr_t start = (uintptr_t)address;
    uint32_t count = atomic_load(&readable_count);
    for (uint32_t i = 0; i < count && i < READABLE_COUNT_MAX; i++) {
        uintptr_t end = atomic_load(&readable[i].end);
        if (start < end && start + size > readable[i].start) {
            preload_mark_slot(readable[i].slot, 0, -1);
        }
    }
}

INTERPOSED(void *, mmap,
           (void *address, size_t size, int protection, int flags, int fd, off_t offset))
{
    const RecorderSlot *slot = writable_slot(flags, fd);
    void *memory = next_mmap()(address, size, protection, flags, fd, offset);
    map_end(slot, memory, size, protection, offset);
    return memory;
}

INTERPOSED(void *, mmap64,
           (void *address, size_t size, int protection, int flags, int fd, off64_t offset))
{
    const RecorderSlot *slot = writable_slot(flags, fd);
    void *memory = next_mmap64()(address, size, protection, flags, fd, offset);
    map_end(slot, memory, size, protection, offset);
    return memory;
}

INTERPOSED(int, mprotect, (void *address, size_t size, int protection))
{
    if ((protection & PROT_WRITE) != 0) {
        note_change(address, size);
    }
    return next_mprotect()(address, size, protection);
}

INTERPOSED(int, pkey_mprotect, (void *address, size_t size, int protection, int key))
{
    if ((protection & PROT_WRITE) != 0) {
        note_change(address, size);
    }
    return next_pkey_mprotect()(address, size, protection, key);
}

INTERPOSED(void *, mremap, (void *address, size_t old_size, size_t size, int flags, ...))
{
    void *target = NULL;
    if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0) {
        va_list arguments;
        va_start(arguments, flags);
        target = va_arg(arguments, void *);
        va_end(arguments);
    }
    note_change(address, old_size == 0 ? 1 : old_size); // 0: a second map of the same
    return next_mremap()(address, old_size, size, flags, target);
}

// --- POSIX aio: written by a thread of the C library
// ----------------------------------------------

INTERPOSED(int, aio_write, (struct aiocb * block))
{
    preload_mark(block->aio_fildes, block->aio_offset, (int64_t)block->aio_nbytes);
    return next_aio_write()(block);
}

INTERPOSED(int, aio_write64, (struct aiocb64 * block))
{
    preload_mark(block->aio_fildes, block->aio_offset, (int64_t)block->aio_nbytes);
    return next_aio_write64()(block);
}

INTERPOSED(int, lio_listio,
           (int mode, struct aiocb *const blocks[restrict], int count,
            struct sigevent *restrict event))
{
    for (int i = 0; i < count; i++) {
        if (blocks[i] != NULL && blocks[i]->aio_lio_opcode == LIO_WRITE) {
            preload_mark(blocks[i]->aio_fildes, blocks[i]->aio_offset,
                         (int64_t)blocks[i]->aio_nbytes);
        }
    }
    return next_lio_listio()(mode, blocks, count, event);
}

INTERPOSED(int, lio_listio64,
           (int mode, struct aiocb64 *const blocks[restrict], int count,
            struct sigevent *restrict event))
{
    for (int i = 0; i < count; i++) {
        if (blocks[i] != NULL && blocks[i]->aio_lio_opcode == LIO_WRITE) {
            preload_mark(blocks[i]->aio_fildes, blocks[i]->aio_offset,
                         (int64_t)blocks[i]->aio_nbytes);
        }
    }
    return next_lio_listio64()(mode, blocks, count, event);
}

// --- the kernel's aio
// -----------------------------------------------------------------------------

static const void *pointer_of(uint64_t address)
{
    return (const void *)(uintptr_t)address;
}

static void note_submit(long count, struct iocb *const *blocks)
{
    for (long i = 0; preload_is_recording() && i < count; i++) {
        const struct iocb *block = blocks[i];
        int64_t size = -1;
        if (block->aio_lio_opcode == IOCB_CMD_PWRITE) {
            size = (int64_t)block->aio_nbytes;
        } else if (block->aio_lio_opcode == IOCB_CMD_PWRITEV) {
            size = preload_vector_size(pointer_of(block->aio_buf), (int)block->aio_nbytes);
        } else {
            continue;
        }
        preload_mark((int)block->aio_fildes, block->aio_offset, size);
    }
}

// libaio's; it has no header here, and its context is opaque.
int io_submit(void *context, long count, struct iocb **blocks);
INTERPOSED(int, io_submit, (void *context, long count, struct iocb **blocks))
{
    note_submit(count, blocks);
    return next_io_submit()(context, count, blocks);
}

// liburing's. What goes through a ring is not followed; the engines are told not to use one.
int io_uring_queue_init(unsigned int entries, void *ring, unsigned int flags);
int io_uring_queue_init_params(unsigned int entries, void *ring, void *parameters);
int io_uring_queue_init_mem(unsigned int entries, void *ring, void *parameters, void *memory,
                            size_t size);
int io_uring_setup(unsigned int entries, void *parameters);
INTERPOSED(int, io_uring_queue_init, (unsigned int entries, void *ring, unsigned int flags))
{
    preload_doubt(RECORDER_DOUBT_IO_URING);
    return next_io_uring_queue_init()(entries, ring, flags);
}

INTERPOSED(int, io_uring_queue_init_params, (unsigned int entries, void *ring, void *parameters))
{
    preload_doubt(RECORDER_DOUBT_IO_URING);
    return next_io_uring_queue_init_params()(entries, ring, parameters);
}

INTERPOSED(int, io_uring_queue_init_mem,
           (unsigned int entries, void *ring, void *parameters, void *memory, size_t size))
{
    preload_doubt(RECORDER_DOUBT_IO_URING);
    return next_io_uring_queue_init_mem()(entries, ring, parameters, memory, size);
}

INTERPOSED(int, io_uring_setup, (unsigned int entries, void *parameters))
{
    preload_doubt(RECORDER_DOUBT_IO_URING);
    return next_io_uring_setup()(entries, parameters);
}

// --- syscall()
// ------------------------------------------------------------------------------------

typedef struct RawCall {
    long number, arguments[6];
    int64_t before; // of the file's position, when the call moves it
    int position_fd;
    int open_flags;
} RawCall;

static const void *raw_pointer(const RawCall *call, int index)
{
    return pointer_of((uint64_t)call->arguments[index]);
}

static void raw_position(RawCall *call, int64_t size)
{
    call->position_fd = (int)call->arguments[0];
    call->before = preload_position_begin(call->position_fd, size);
}

static void raw_open(RawCall *call, int directory_fd, int path_index, int flags)
{
    call->open_flags = flags;
    preload_open_begin(directory_fd, raw_pointer(call, path_index), flags);
}

// Copies into a file at an offset of the caller's, or at its position.
static void raw_copy(RawCall *call)
{
    const int64_t *offset = raw_pointer(call, 3);
    if (offset != NULL) {
        preload_mark((int)call->arguments[2], *offset, call->arguments[4]);
        return;
    }
    call->position_fd = (int)call->arguments[2];
    call->before = preload_position_begin(call->position_fd, call->arguments[4]);
}

static void raw_vector(RawCall *call)
{
    int fd = (int)call->arguments[0];
    int64_t size = preload_vector_size(raw_pointer(call, 1), (int)call->arguments[2]);
    int64_t offset = call->arguments[3];
    if (call->number == SYS_writev || (call->number == SYS_pwritev2 && offset == -1)) {
        raw_position(call, size);
    } else {
        preload_mark(fd, offset, size);
    }
}

static void raw_resize(const RawCall *call)
{
    int fd = (int)call->arguments[0];
    if (call->number == SYS_truncate) {
        preload_mark_path(AT_FDCWD, raw_pointer(call, 0));
    } else if (call->number == SYS_ftruncate) {
        preload_mark_resize(fd, call->arguments[1]);
    } else if ((call->arguments[1] & ~FALLOC_FL_KEEP_SIZE) != 0) { // fallocate
        preload_mark(fd, call->arguments[2], -1);
    }
}

// Nobody does this, so it need not be precise: as if it could be written at once.
static void raw_map(const RawCall *call)
{
    const RecorderSlot *slot = writable_slot((int)call->arguments[3], (int)call->arguments[4]);
    map_end(slot, NULL, 0, PROT_WRITE, call->arguments[5]);
}

static bool note_raw_open(RawCall *call)
{
    switch (call->number) {
#ifdef SYS_open
    case SYS_open:
        raw_open(call, AT_FDCWD, 0, (int)call->arguments[1]);
        return true;
    case SYS_creat:
        raw_open(call, AT_FDCWD, 0, O_TRUNC);
        return true;
#endif
    case SYS_openat:
        raw_open(call, (int)call->arguments[0], 1, (int)call->arguments[2]);
        return true;
    case SYS_openat2:
        raw_open(call, (int)call->arguments[0], 1,
                 (int)((const struct open_how *)raw_pointer(call, 2))->flags);
        return true;
    default:
        return false;
    }
}

static void note_raw(RawCall *call)
{
    int fd = (int)call->arguments[0];
    switch (call->number) {
    case SYS_write:
        raw_position(call, call->arguments[2]);
        break;
    case SYS_sendfile:
        raw_position(call, call->arguments[3]);
        break;
    case SYS_pwrite64:
        preload_mark(fd, call->arguments[3], call->arguments[2]);
        break;
    case SYS_writev:
    case SYS_pwritev:
    case SYS_pwritev2:
        raw_vector(call);
        break;
    case SYS_copy_file_range:
    case SYS_splice:
        raw_copy(call);
        break;
    case SYS_truncate:
    case SYS_ftruncate:
    case SYS_fallocate:
        raw_resize(call);
        break;
    case SYS_mmap:
        raw_map(call);
        break;
    case SYS_mprotect:
    case SYS_pkey_mprotect:
    case SYS_mremap:
        note_change(raw_pointer(call, 0), (size_t)call->arguments[1]);
        break;
    case SYS_io_submit:
        note_submit(call->arguments[1], raw_pointer(call, 2));
        break;
    case SYS_io_uring_setup:
        preload_doubt(RECORDER_DOUBT_IO_URING);
        break;
    case SYS_execve:
    case SYS_execveat:
        preload_doubt(RECORDER_DOUBT_EXEC); // nobody does: its environment is not looked at
        break;
    default:
        (void)note_raw_open(call);
        break;
    }
}

INTERPOSED(long, syscall, (long number, ...))
{
    RawCall call = {.number = number, .before = -1};
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) { // as the C library does: more than most calls have
        call.arguments[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    if (preload_is_recording()) {
        note_raw(&call);
    }
    const long *values = call.arguments;
    long result =
        next_syscall()(number, values[0], values[1], values[2], values[3], values[4], values[5]);
    preload_position_end(call.position_fd, call.before, result);
    if (call.open_flags != 0) {
        preload_open_end((int)result, call.open_flags);
    }
    return result;
}
