// SPDX-License-Identifier: Apache-2.0
#include "recorder/recorder.h"

#include "common/arena.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LAUNCH_COUNT_MAX RECORDER_ATTACHED_MAX
#define BLOCK_SHIFT 14
#define TABLE_SIZE_MAX (UINT64_C(1) << 32)
// The time of modification of a file that nobody wrote: long ago, and no clock shows it again.
#define UNTOUCHED_SECONDS 1000000000
#define XFS_MAGIC 0x58465342
#define ZFS_MAGIC 0x2fc12fc1

_Static_assert(RECORDER_BLOCK_SIZE == 1 << BLOCK_SHIFT, "a mark is found by shifting");

// A file when recording began.
typedef struct RecordedFile {
    const char *path;
    uint64_t inode;
    struct statx_timestamp born, changed;
    int64_t size_bytes;
    const RecorderSlot *slot;
} RecordedFile;

struct Recorder {
    char *library_path; // NULL: it is not there
    const char *table_path;
    Arena *arena;        // the files' paths
    RecordedFile *files; // byte order of path
    size_t file_count, file_capacity;
    uint64_t device;
    int directory_fd; // INVALID_FD: recording has not begun
    bool maps_show;   // a write through a memory map changes the file's times here
    void *memory;     // the table's; NULL: there is none
    uint64_t memory_size;
    RecorderTable table;
    pid_t launches[LAUNCH_COUNT_MAX];
    size_t launch_count; // may be more than fit
};

const char *recorder_state_name(RecorderState state)
{
    static const char *const names[] = {"off", "trusted", "absent", "doubted"};
    return names[state];
}

// Beside the agent. The dynamic linker divides LD_PRELOAD at blanks and colons.
static char *find_library(const char *agent_program)
{
    const char *slash = agent_program == NULL ? NULL : strrchr(agent_program, '/');
    if (slash == NULL) {
        return NULL;
    }
    char *path =
        string_format("%.*s/" RECORDER_LIBRARY_NAME, (int)(slash - agent_program), agent_program);
    if (access(path, R_OK) != 0 || strpbrk(path, " :") != NULL) {
        mem_free(path);
        return NULL;
    }
    return path;
}

Recorder *recorder_new(const char *agent_program, const char *table_path)
{
    Recorder *recorder = mem_alloc(sizeof(*recorder));
    recorder->library_path = find_library(agent_program);
    recorder->table_path = table_path;
    recorder->arena = arena_new();
    recorder->directory_fd = INVALID_FD;
    return recorder;
}

static void unmap(Recorder *recorder)
{
    if (recorder->memory != NULL) {
        (void)munmap(recorder->memory, (size_t)recorder->memory_size);
        (void)unlink(recorder->table_path); // of no use to anybody, and removed with the instance
        recorder->memory = NULL;
    }
}

void recorder_free(Recorder *recorder)
{
    if (recorder == NULL) {
        return;
    }
    unmap(recorder);
    fd_closep(&recorder->directory_fd);
    mem_free(recorder->library_path);
    mem_free(recorder->files);
    arena_free(recorder->arena);
    mem_free(recorder);
}

void recorder_freep(Recorder **recorder)
{
    recorder_free(*recorder);
    *recorder = NULL;
}

// --- begin
// ----------------------------------------------------------------------------------------

static Status look(int directory_fd, const char *path, struct statx *ret_facts, Error *error)
{
    const unsigned int wanted = STATX_BASIC_STATS | STATX_BTIME;
    if (statx(directory_fd, path, AT_SYMLINK_NOFOLLOW, wanted, ret_facts) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "looking at '%s'", path);
    }
    return STATUS_OK;
}

static uint64_t device_of(const struct statx *facts)
{
    return makedev(facts->stx_dev_major, facts->stx_dev_minor);
}

static Status note_file(void *context, const char *path, int64_t size_bytes, Error *error)
{
    Recorder *recorder = context;
    (void)size_bytes; // statx says it again, with the rest
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = UNTOUCHED_SECONDS}};
    if (utimensat(recorder->directory_fd, path, times, AT_SYMLINK_NOFOLLOW) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "setting the time of '%s'", path);
    }
    struct statx facts;
    RETURN_IF_ERROR(look(recorder->directory_fd, path, &facts, error));
    if (recorder->file_count == recorder->file_capacity) {
        recorder->file_capacity = MAX(1024, recorder->file_capacity * 2);
        recorder->files =
            mem_realloc_array(recorder->files, recorder->file_capacity, sizeof(RecordedFile));
    }
    if (device_of(&facts) != recorder->device) {
        return error_set(error, REASON_PRECONDITION, "'%s' is on another file system", path);
    }
    recorder->files[recorder->file_count++] = (RecordedFile){
        .path = arena_string(recorder->arena, path),
        .inode = facts.stx_ino,
        .born = facts.stx_btime,
        .changed = facts.stx_ctime,
        .size_bytes = (int64_t)facts.stx_size,
    };
    return STATUS_OK;
}

static uint64_t blocks_of(const RecordedFile *file)
{
    return ((uint64_t)file->size_bytes + RECORDER_BLOCK_SIZE - 1) >> BLOCK_SHIFT;
}

static Status map_table(Recorder *recorder, uint64_t size, Error *error)
{
    if (size > TABLE_SIZE_MAX) {
        return error_set(error, REASON_EXHAUSTED, "the recorder's table would take %llu MiB",
                         (unsigned long long)(size >> 20));
    }
    CLEANUP(fd_closep)
    int fd = open(recorder->table_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "creating '%s'",
                               recorder->table_path);
    }
    // Allocated, so that a full disk is met here and not by a signal in the engine.
    int failed = posix_fallocate(fd, 0, (off_t)size);
    if (failed != 0) {
        (void)unlink(recorder->table_path);
        return error_set_errno(error, REASON_DISK_FULL, failed, "creating '%s'",
                               recorder->table_path);
    }
    void *memory = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        (void)unlink(recorder->table_path);
        return error_set_errno(error, REASON_EXHAUSTED, errno, "mapping '%s'",
                               recorder->table_path);
    }
    recorder->memory = memory;
    recorder->memory_size = size;
    return STATUS_OK;
}

static Status make_table(Recorder *recorder, Error *error)
{
    uint64_t slot_count = recorder_table_slot_count(recorder->file_count);
    uint64_t word_count = 0;
    for (size_t i = 0; i < recorder->file_count; i++) {
        word_count += recorder_table_words(blocks_of(&recorder->files[i]));
    }
    RETURN_IF_ERROR(map_table(recorder, recorder_table_size(slot_count, word_count), error));
    recorder_table_format(recorder->memory, BLOCK_SHIFT, recorder->device, slot_count, word_count);
    bool is_open = recorder_table_open(recorder->memory, recorder->memory_size, &recorder->table);
    assert(is_open);
    uint64_t first_word = 0;
    for (size_t i = 0; i < recorder->file_count; i++) {
        RecordedFile *file = &recorder->files[i];
        uint64_t block_count = blocks_of(file);
        file->slot = recorder_table_add(&recorder->table, file->inode, block_count, first_word);
        first_word += recorder_table_words(block_count);
    }
    return STATUS_OK;
}

// tmpfs above all does not.
static bool shows_maps(int directory_fd)
{
    struct statfs facts;
    if (fstatfs(directory_fd, &facts) != 0) {
        return false;
    }
    uint64_t type = (uint64_t)facts.f_type & UINT32_MAX;
    return type == EXT4_SUPER_MAGIC || type == XFS_MAGIC || type == BTRFS_SUPER_MAGIC ||
           type == F2FS_SUPER_MAGIC || type == ZFS_MAGIC;
}

static Status begin(Recorder *recorder, const char *directory, Error *error)
{
    recorder->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct statx facts;
    if (recorder->directory_fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'", directory);
    }
    RETURN_IF_ERROR(look(recorder->directory_fd, ".", &facts, error));
    recorder->device = device_of(&facts);
    recorder->maps_show = shows_maps(recorder->directory_fd);
    RETURN_IF_ERROR(dir_walk(directory, note_file, recorder, error));
    return make_table(recorder, error);
}

Status recorder_begin(Recorder *recorder, const char *directory, Error *error)
{
    assert(recorder->directory_fd == INVALID_FD);
    Status status = begin(recorder, directory, error);
    if (status != STATUS_OK) {
        fd_closep(&recorder->directory_fd);
        recorder->directory_fd = INVALID_FD;
        recorder->file_count = 0;
    }
    return status;
}

// --- while the engine runs
// ------------------------------------------------------------------------

static bool has_begun(const Recorder *recorder)
{
    return recorder != NULL && recorder->directory_fd != INVALID_FD;
}

const char *recorder_library_path(const Recorder *recorder)
{
    return has_begun(recorder) ? recorder->library_path : NULL;
}

const char *recorder_table_path(const Recorder *recorder)
{
    return has_begun(recorder) ? recorder->table_path : NULL;
}

void recorder_note_launch(Recorder *recorder, pid_t pid)
{
    if (!has_begun(recorder)) {
        return;
    }
    if (recorder->launch_count < LAUNCH_COUNT_MAX) {
        recorder->launches[recorder->launch_count] = pid;
    }
    recorder->launch_count++;
}

void recorder_note_write(const Recorder *recorder, int fd, int64_t offset, int64_t size)
{
    struct stat facts;
    if (has_begun(recorder) && fstat(fd, &facts) == 0) {
        const RecorderSlot *slot = recorder_table_find(&recorder->table, &facts);
        if (slot != NULL) {
            recorder_table_mark(&recorder->table, slot, offset, size);
        }
    }
}

// --- what is known
// --------------------------------------------------------------------------------

// A pid that was given out twice must have recorded twice.
static bool has_recorded(const Recorder *recorder, size_t launch)
{
    const RecorderHeader *header = recorder->table.header;
    uint32_t attached = MIN(atomic_load(&header->attached_count), RECORDER_ATTACHED_MAX);
    size_t needed = 0;
    size_t found = 0;
    for (size_t i = 0; i <= launch; i++) {
        needed += recorder->launches[i] == recorder->launches[launch];
    }
    for (uint32_t i = 0; i < attached; i++) {
        found += atomic_load(&header->attached[i]) == recorder->launches[launch];
    }
    return found >= needed;
}

RecorderState recorder_state(const Recorder *recorder)
{
    if (!has_begun(recorder)) {
        return RECORDER_OFF;
    }
    if (recorder->launch_count > LAUNCH_COUNT_MAX) {
        return RECORDER_ABSENT;
    }
    for (size_t i = 0; i < recorder->launch_count; i++) {
        if (!has_recorded(recorder, i)) {
            return RECORDER_ABSENT;
        }
    }
    return atomic_load(&recorder->table.header->doubts) != 0 ? RECORDER_DOUBTED : RECORDER_TRUSTED;
}

static int compare_path(const void *path, const void *file)
{
    return strcmp(path, ((const RecordedFile *)file)->path);
}

static bool same_time(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void recorder_view(const Recorder *recorder, const char *path, RecorderView *ret_view)
{
    *ret_view = (RecorderView){.recorder = recorder};
    if (!has_begun(recorder) || recorder->file_count == 0) {
        return;
    }
    const RecordedFile *file =
        bsearch(path, recorder->files, recorder->file_count, sizeof(RecordedFile), compare_path);
    struct statx facts;
    Error ignored = {0}; // who cannot look at a file does not know it
    if (file == NULL || look(recorder->directory_fd, path, &facts, &ignored) != STATUS_OK ||
        !S_ISREG(facts.stx_mode) || facts.stx_ino != file->inode ||
        device_of(&facts) != recorder->device || !same_time(&facts.stx_btime, &file->born)) {
        return; // another file has that path now
    }
    const struct statx_timestamp untouched = {.tv_sec = UNTOUCHED_SECONDS};
    int64_t size_bytes = (int64_t)facts.stx_size;
    bool has_old_times = size_bytes == file->size_bytes &&
                         same_time(&facts.stx_mtime, &untouched) &&
                         same_time(&facts.stx_ctime, &file->changed);
    bool has_marks = recorder_table_has_marks(&recorder->table, file->slot);
    bool is_trusted = recorder_state(recorder) == RECORDER_TRUSTED;
    if (has_old_times && !has_marks && (is_trusted || recorder->maps_show)) {
        ret_view->is_untouched = true;
    } else if (!is_trusted || !has_marks) {
        return; // changed by somebody who was not seen
    }
    ret_view->slot = file->slot;
    ret_view->same_bytes =
        size_bytes == file->size_bytes ? INT64_MAX : MIN(size_bytes, file->size_bytes);
}

bool recorder_view_is_written(const RecorderView *view, int64_t offset, int64_t size)
{
    if (view->slot == NULL || offset > view->same_bytes - size) {
        return true;
    }
    return !view->is_untouched &&
           recorder_table_is_marked(&view->recorder->table, view->slot, offset, size);
}
