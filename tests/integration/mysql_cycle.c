// SPDX-License-Identifier: Apache-2.0
// The cycle of a backup for tests; see mysql_cycle.h. Copying files stands in for the repository.
#include "tests/integration/mysql_cycle.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "tests/harness/free_port.h"
#include "tests/harness/harness.h"
#include "tests/integration/recorder_check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXTENT_BYTES 32768
#define CATCH_UP_MS 120000
#define STALL_MS 20000
#define MEMORY_BYTES (64 * 1024 * 1024)

static void copy_file(const char *from, const char *to, mode_t mode)
{
    Error error = {0};
    CLEANUP(fd_closep) int source = open(from, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_closep) int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    assert_true(source >= 0 && target >= 0);
    CLEANUP_FREE uint8_t *data = mem_alloc(1024 * 1024);
    for (ssize_t got = read(source, data, 1024 * 1024); got > 0;
         got = read(source, data, 1024 * 1024)) {
        assert_ok(file_write_all(target, data, (size_t)got, &error), &error);
    }
}

static Status copy_visited(void *context, const char *path, int64_t size, Error *error)
{
    (void)size;
    const char *const *directories = context;
    CLEANUP_FREE char *from = path_join(directories[0], path);
    CLEANUP_FREE char *to = path_join(directories[1], path);
    CLEANUP_FREE char *parent = string_copy(to);
    *strrchr(parent, '/') = '\0';
    RETURN_IF_ERROR(dir_create_all(parent, 0700, error));
    copy_file(from, to, 0600);
    return STATUS_OK;
}

void cycle_copy_tree(const char *from, const char *to)
{
    Error error = {0};
    const char *directories[2] = {from, to};
    assert_ok(dir_create_all(to, 0700, &error), &error);
    assert_ok(dir_walk(from, copy_visited, directories, &error), &error);
}

static EngineSource cycle_source(const Cycle *cycle)
{
    EngineSource source = scratch_mysql_source(cycle->source);
    source.tls_mode = cycle->tls_mode == NULL ? source.tls_mode : cycle->tls_mode;
    source.tls_ca_pem = cycle->tls_ca_pem;
    return source;
}

static Status open_run(Cycle *cycle, bool with_source, CycleRun *run, Error *error)
{
    *run = (CycleRun){.cycle = cycle};
    int number = ++cycle->count;
    (void)snprintf(run->data_directory, sizeof(run->data_directory), "%s/data%d", cycle->root,
                   number);
    (void)snprintf(run->work_directory, sizeof(run->work_directory), "%s/work%d", cycle->root,
                   number);
    (void)snprintf(run->table_path, sizeof(run->table_path), "%s/recorder%d", cycle->root, number);
    run->recorder = recorder_new(TEST_AGENT, run->table_path);
    EngineSource source = cycle_source(cycle);
    const char *program_directory = cycle->source->is_mysql ? scratch_mysql_directory() : NULL;
    if (cycle->program_directory != NULL) {
        program_directory = cycle->program_directory;
    }
    EngineOptions options = {.engine = cycle->source->is_mysql ? "mysql" : "mariadb",
                             .data_directory = run->data_directory,
                             .work_directory = run->work_directory,
                             .instance_id = "0000",
                             .shard_id = "0001",
                             .program_directory = program_directory,
                             .memory_bytes = MEMORY_BYTES,
                             .divide_bytes = cycle->divide_bytes,
                             .agent_program = cycle->launcher,
                             .cancel = &cycle->cancel,
                             .recorder = run->recorder};
    Status status = engine_open(&options, with_source ? &source : NULL, &run->engine, error);
    secret_done(&source.password);
    return status;
}

static void note_progress(void *context, const EngineProgress *progress)
{
    CycleRun *run = context;
    run->received_bytes = MAX(run->received_bytes, progress->received_bytes);
}

Status cycle_begin(Cycle *cycle, const CycleBackup *parent, CycleRun *ret_run, Error *error)
{
    RETURN_IF_ERROR(open_run(cycle, true, ret_run, error));
    ret_run->parent = parent;
    if (parent == NULL) {
        RETURN_IF_ERROR(engine_seed(ret_run->engine, note_progress, ret_run, error));
    } else {
        cycle_copy_tree(parent->directory, ret_run->data_directory);
        RETURN_IF_ERROR(recorder_begin(ret_run->recorder, ret_run->data_directory, error));
        RETURN_IF_ERROR(
            engine_adopt(ret_run->engine, parent->version, parent->engine_state, error));
    }
    return engine_start(ret_run->engine, error);
}

Status cycle_catch_up(CycleRun *run, Error *error)
{
    RETURN_IF_ERROR(engine_follow(run->engine, error));
    int64_t deadline_ms = clock_monotonic_ms() + CATCH_UP_MS;
    for (;;) {
        EngineProgress progress = {0};
        bool is_caught_up = false;
        RETURN_IF_ERROR(engine_position(run->engine, &progress, &is_caught_up, error));
        note_progress(run, &progress);
        if (is_caught_up) {
            return STATUS_OK;
        }
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("not caught up: %s", progress.position);
        }
        clock_sleep_ms(20);
    }
}

static int64_t count_changed(const char *path, const char *parent_path)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_closep) int parent_fd = open(parent_path, O_RDONLY | O_CLOEXEC);
    CLEANUP_FREE uint8_t *now = mem_alloc(EXTENT_BYTES);
    CLEANUP_FREE uint8_t *before = mem_alloc(EXTENT_BYTES);
    assert_true(fd >= 0);
    int64_t changed = 0;
    for (int64_t offset = 0;; offset += EXTENT_BYTES) {
        size_t size = 0, old_size = 0;
        Error error = {0};
        assert_ok(file_read_at(fd, now, EXTENT_BYTES, offset, &size, &error), &error);
        if (size == 0) {
            return changed;
        }
        if (parent_fd >= 0) {
            assert_ok(file_read_at(parent_fd, before, EXTENT_BYTES, offset, &old_size, &error),
                      &error);
        }
        if (size != old_size || memcmp(now, before, size) != 0) {
            changed += (int64_t)size;
        }
    }
}

// What reading for publishing does: every page, extent by extent.
static Status check_file(const EngineFile *file, const char *path, Error *error)
{
    if (file->check == NULL) {
        return STATUS_OK;
    }
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP_FREE uint8_t *data = mem_alloc(EXTENT_BYTES);
    for (int64_t offset = 0;; offset += EXTENT_BYTES) {
        size_t size = 0;
        int64_t bad_page = 0;
        RETURN_IF_ERROR(file_read_at(fd, data, EXTENT_BYTES, offset, &size, error));
        if (size == 0) {
            return STATUS_OK;
        }
        if (!file->check(file->context, data, size, offset, &bad_page)) {
            return error_set(error, REASON_PAGE_CORRUPT, "page %lld of '%s' fails its checksum",
                             (long long)bad_page, file->path);
        }
    }
}

static Status publish(CycleRun *run, CycleBackup *backup, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    EngineLayout layout = {0};
    RecorderCheck check = {0};
    RETURN_IF_ERROR(engine_layout(run->engine, arena, &layout, error));
    RETURN_IF_ERROR(dir_create_all(backup->directory, 0700, error));
    for (size_t i = 0; i < layout.directory_count; i++) {
        CLEANUP_FREE char *path = path_join(backup->directory, layout.directories[i]);
        RETURN_IF_ERROR(dir_create_all(path, 0700, error));
    }
    for (size_t i = 0; i < layout.file_count; i++) {
        const EngineFile *file = &layout.files[i];
        CLEANUP_FREE char *from = path_join(run->data_directory, file->path);
        CLEANUP_FREE char *to = path_join(backup->directory, file->path);
        CLEANUP_FREE char *old =
            path_join(run->parent == NULL ? "/nowhere" : run->parent->directory, file->path);
        RETURN_IF_ERROR(check_file(file, from, error));
        copy_file(from, to, file->mode);
        int64_t changed = count_changed(from, old);
        if (getenv("CYCLE_VERBOSE") != NULL && changed > 0 && run->parent != NULL) {
            print_message("  changed %9lld of %9lld %s\n", (long long)changed,
                          (long long)file->size_bytes, file->path);
        }
        backup->changed_bytes += changed;
        backup->size_bytes += file->size_bytes;
        backup->checked_pages_files += file->check != NULL;
        if (run->parent != NULL) {
            recorder_check_file(run->recorder, run->data_directory, run->parent->directory,
                                file->path, &check);
        }
    }
    if (run->parent != NULL) {
        recorder_check_end(run->recorder, &check, "recorder");
    }
    return STATUS_OK;
}

Status cycle_finish(CycleRun *run, const Checkpoint *checkpoint, CycleBackup *ret_backup,
                    Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *state = NULL;
    *ret_backup = (CycleBackup){.checkpoint = *checkpoint};
    RETURN_IF_ERROR(engine_replay_to(run->engine, checkpoint, STALL_MS, note_progress, run, error));
    RETURN_IF_ERROR(engine_stop(run->engine, arena, &state, error));
    assert_true(strlen(state) < sizeof(ret_backup->engine_state));
    memcpy(ret_backup->engine_state, state, strlen(state) + 1);
    EngineInfo info = {0};
    EngineSource source = cycle_source(run->cycle);
    Status status = engine_probe(run->cycle->source->is_mysql ? "mysql" : "mariadb", &source, 10000,
                                 &info, error);
    secret_done(&source.password);
    RETURN_IF_ERROR(status);
    memcpy(ret_backup->version, info.version, sizeof(info.version));
    (void)snprintf(ret_backup->directory, sizeof(ret_backup->directory), "%s/backup%d",
                   run->cycle->root, ++run->cycle->count);
    ret_backup->received_bytes = run->received_bytes;
    return publish(run, ret_backup, error);
}

void cycle_end(CycleRun *run)
{
    Error ignored = {0};
    engine_close(run->engine);
    recorder_free(run->recorder);
    run->engine = NULL;
    run->recorder = NULL;
    if (getenv("CYCLE_KEEP") == NULL) {
        (void)dir_remove_all(run->data_directory, &ignored);
        (void)dir_remove_all(run->work_directory, &ignored);
    }
}

void cycle_backup(Cycle *cycle, const CycleBackup *parent, CycleBackup *ret_backup)
{
    Error error = {0};
    CycleRun run = {0};
    Checkpoint checkpoint = {0};
    int64_t times_ms[5] = {clock_monotonic_ms()};
    assert_ok(cycle_begin(cycle, parent, &run, &error), &error);
    times_ms[1] = clock_monotonic_ms();
    assert_ok(cycle_catch_up(&run, &error), &error);
    assert_ok(engine_checkpoint_take(run.engine, "", &checkpoint, &error), &error);
    times_ms[2] = clock_monotonic_ms();
    assert_ok(cycle_finish(&run, &checkpoint, ret_backup, &error), &error);
    times_ms[3] = clock_monotonic_ms();
    cycle_end(&run);
    times_ms[4] = clock_monotonic_ms();
    if (getenv("CYCLE_VERBOSE") != NULL) {
        print_message(
            "  ms: begin %lld, catch up %lld, finish %lld, end %lld\n",
            (long long)(times_ms[1] - times_ms[0]), (long long)(times_ms[2] - times_ms[1]),
            (long long)(times_ms[3] - times_ms[2]), (long long)(times_ms[4] - times_ms[3]));
    }
}

Status cycle_serve(Cycle *cycle, const CycleBackup *backup, int *ret_port, CycleRun *ret_run,
                   Error *error)
{
    int64_t started_ms = 0;
    int port = free_port();
    RETURN_IF_ERROR(open_run(cycle, false, ret_run, error));
    cycle_copy_tree(backup->directory, ret_run->data_directory);
    RETURN_IF_ERROR(engine_serve(ret_run->engine, backup->version, backup->engine_state, port,
                                 &started_ms, error));
    *ret_port = port;
    return engine_check_alive(ret_run->engine, error);
}
