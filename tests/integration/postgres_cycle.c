// SPDX-License-Identifier: Apache-2.0
// One backup of a scratch PostgreSQL server, step by step.
#include "tests/integration/postgres_cycle.h"

#include "agent/engine/child.h"
#include "agent/engine/engine_postgres_page.h"
#include "agent/engine/engine_postgresql_client.h"
#include "common/arena.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "tests/harness/free_port.h"
#include "tests/harness/harness.h"
#include "tests/integration/recorder_check.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READY_MS 60000
#define STALL_MS 30000
#define PIECE_BYTES 65536
#define SMALL_DISK_MIB 150

static char program_path[4096];

EngineSource cycle_source(const ScratchPostgres *server)
{
    return (EngineSource){.host = "127.0.0.1",
                          .port = server->port,
                          .username = "holdfast",
                          .password = secret_from_text(SCRATCH_POSTGRES_PASSWORD),
                          .tls_mode = "prefer"};
}

bool cycle_try_sql(const ScratchPostgres *server, const char *sql)
{
    char port[16];
    (void)snprintf(port, sizeof(port), "%d", server->port);
    const char *keys[] = {"host", "port", "user", "dbname", NULL};
    const char *values[] = {server->socket_directory, port, "admin", "postgres", NULL};
    PGconn *connection = PQconnectdbParams(keys, values, 0);
    PGresult *result = PQstatus(connection) == CONNECTION_OK ? PQexec(connection, sql) : NULL;
    bool is_done = result != NULL && (PQresultStatus(result) == PGRES_COMMAND_OK ||
                                      PQresultStatus(result) == PGRES_TUPLES_OK);
    PQclear(result);
    PQfinish(connection);
    return is_done;
}

void cycle_copy_tree(const char *from, const char *to)
{
    CLEANUP_FREE char *source = string_format("%s/.", from);
    assert_int_equal(mkdir(to, 0700), 0);
    const char *arguments[] = {"cp", "-a", source, to, NULL};
    ProcessOptions process = {.arguments = arguments};
    Error error = {0};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 4096);
    assert_ok(process_run(&process, 60000, REASON_INTERNAL, &output, &error), &error);
}

static Cycle *new_cycle(const char *directory, int number, const ScratchPostgres *source,
                        const char *authority_pem)
{
    Cycle *cycle = mem_alloc(sizeof(*cycle));
    CLEANUP_FREE char *base = string_format("%s/%d", directory, number);
    assert_int_equal(mkdir(base, 0700), 0);
    cycle->data = path_join(base, "data");
    cycle->work = path_join(base, "work");
    cycle->published = path_join(base, "published");
    assert_int_equal(mkdir(cycle->work, 0700), 0);
    cycle->instance_id = string_format("instance-%d", number);
    cycle->source = cycle_source(source);
    if (authority_pem != NULL) {
        cycle->source.host = "localhost";
        cycle->source.tls_mode = "verify-full";
        cycle->source.tls_ca_pem = authority_pem;
    }
    cycle->table_path = path_join(base, "recorder");
    cycle->recorder = recorder_new(TEST_AGENT, cycle->table_path);
    EngineInfo info;
    Error error = {0};
    assert_ok(engine_probe("postgresql", &cycle->source, 5000, &info, &error), &error);
    cycle->version = string_copy(info.version);
    EngineOptions options = {.engine = "postgresql",
                             .data_directory = cycle->data,
                             .work_directory = cycle->work,
                             .instance_id = cycle->instance_id,
                             .shard_id = CYCLE_SHARD,
                             .memory_bytes = 64 * 1024 * 1024,
                             .agent_program = program_path,
                             .cancel = &cycle->cancel,
                             .lineage_id = "repository-1",
                             .recorder = cycle->recorder};
    assert_ok(engine_open(&options, &cycle->source, &cycle->engine, &error), &error);
    return cycle;
}

Cycle *cycle_new_in(const char *directory, int number, const ScratchPostgres *source)
{
    return new_cycle(directory, number, source, NULL);
}

Cycle *cycle_new_from(CycleSite *site, const ScratchPostgres *source)
{
    return new_cycle(site->directory, site->cycle_count++, source, NULL);
}

Cycle *cycle_new(CycleSite *site)
{
    return cycle_new_from(site, site->primary);
}

Cycle *cycle_new_verified(CycleSite *site, const char *authority_pem)
{
    return new_cycle(site->directory, site->cycle_count++, site->primary, authority_pem);
}

Engine *cycle_open_restore(const Cycle *cycle, const char *data, const char *work)
{
    Error error = {0};
    assert_ok(dir_create_all(work, 0700, &error), &error);
    EngineOptions options = {.engine = "postgresql",
                             .data_directory = data,
                             .work_directory = work,
                             .instance_id = "restore",
                             .shard_id = CYCLE_SHARD,
                             .memory_bytes = 64 * 1024 * 1024,
                             .agent_program = program_path,
                             .cancel = &cycle->cancel};
    Engine *engine = NULL;
    assert_ok(engine_open(&options, NULL, &engine, &error), &error);
    return engine;
}

void cycle_free(Cycle *cycle)
{
    if (cycle == NULL) {
        return;
    }
    engine_close(cycle->engine);
    recorder_free(cycle->recorder);
    secret_done(&cycle->source.password);
    mem_free(cycle->table_path);
    mem_free(cycle->data);
    mem_free(cycle->work);
    mem_free(cycle->published);
    mem_free(cycle->instance_id);
    mem_free(cycle->state);
    mem_free(cycle->version);
    mem_free(cycle);
}

static void note_seed(void *context, const EngineProgress *progress)
{
    Cycle *cycle = context;
    cycle->received_bytes = progress->received_bytes;
}

static Status begin(Cycle *cycle, const Cycle *parent, Error *error)
{
    if (parent == NULL) {
        RETURN_IF_ERROR(engine_seed(cycle->engine, note_seed, cycle, error));
        assert_true(cycle->received_bytes > 1000000);
    } else {
        cycle_copy_tree(parent->published, cycle->data);
        cycle->parent_directory = parent->published;
        RETURN_IF_ERROR(recorder_begin(cycle->recorder, cycle->data, error));
        RETURN_IF_ERROR(engine_adopt(cycle->engine, parent->version, parent->state, error));
    }
    RETURN_IF_ERROR(engine_start(cycle->engine, error));
    return engine_follow(cycle->engine, error);
}

static Status wait_ready(Cycle *cycle, Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + READY_MS;
    for (;;) {
        EngineProgress progress;
        bool is_caught_up = false;
        RETURN_IF_ERROR(engine_position(cycle->engine, &progress, &is_caught_up, error));
        if (is_caught_up) {
            return STATUS_OK;
        }
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(20);
    }
}

void cycle_begin(Cycle *cycle, const Cycle *parent)
{
    Error error = {0};
    assert_ok(begin(cycle, parent, &error), &error);
}

void cycle_wait_ready(Cycle *cycle)
{
    Error error = {0};
    assert_ok(wait_ready(cycle, &error), &error);
}

void cycle_wait_replayed(Cycle *cycle, const ScratchPostgres *server)
{
    // Not the insert position: that may be behind a page header, where no record ends.
    CLEANUP_FREE char *text = scratch_postgres_text(server, "SELECT pg_current_wal_flush_lsn()");
    uint64_t wanted = 0;
    assert_true(postgresql_lsn_parse(text, &wanted));
    int64_t deadline_ms = clock_monotonic_ms() + READY_MS;
    for (;;) {
        EngineProgress progress;
        bool is_caught_up = false;
        uint64_t reached = 0;
        Error error = {0};
        assert_ok(engine_position(cycle->engine, &progress, &is_caught_up, &error), &error);
        if (postgresql_lsn_parse(progress.position, &reached) && reached >= wanted) {
            return;
        }
        if (clock_monotonic_ms() >= deadline_ms) {
            fail_msg("the copy is at '%s', the source at '%s'", progress.position, text);
        }
        clock_sleep_ms(20);
    }
}

Status cycle_try_ready(Cycle *cycle, const Cycle *parent, Error *error)
{
    RETURN_IF_ERROR(begin(cycle, parent, error));
    return wait_ready(cycle, error);
}

void cycle_take(Cycle *cycle)
{
    Error error = {0};
    CLEANUP_FREE char *name = string_format("holdfast-%s", cycle->instance_id);
    assert_ok(engine_checkpoint_take(cycle->engine, name, &cycle->checkpoint, &error), &error);
    assert_true(cycle->checkpoint.taken_us > 0);
}

static void copy_file(const char *from, const char *to, mode_t mode)
{
    CLEANUP(fd_closep) int source = open(from, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_closep) int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    assert_true(source >= 0 && target >= 0);
    for (;;) {
        ssize_t size = copy_file_range(source, NULL, target, NULL, 1 << 30, 0);
        assert_true(size >= 0);
        if (size == 0) {
            return;
        }
    }
}

static bool check_file(const char *path, const EngineFile *file, int64_t *ret_page)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP_FREE uint8_t *data = mem_alloc(PIECE_BYTES);
    for (int64_t offset = 0; offset < file->size_bytes; offset += PIECE_BYTES) {
        size_t size;
        Error error = {0};
        assert_ok(file_read_at(fd, data, PIECE_BYTES, offset, &size, &error), &error);
        if (!file->check(file->context, data, size, offset, ret_page)) {
            return false;
        }
    }
    return true;
}

// Only the layout's files: whatever else a restore needs would be missing here.
static void publish(Cycle *cycle)
{
    Arena *arena = arena_new();
    EngineLayout layout;
    Error error = {0};
    assert_ok(engine_layout(cycle->engine, arena, &layout, &error), &error);
    RecorderCheck check = {0};
    assert_int_equal(mkdir(cycle->published, 0700), 0);
    for (size_t i = 0; i < layout.directory_count; i++) {
        CLEANUP_FREE char *path = path_join(cycle->published, layout.directories[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    for (size_t i = 0; i < layout.file_count; i++) {
        const EngineFile *file = &layout.files[i];
        CLEANUP_FREE char *from = path_join(cycle->data, file->path);
        CLEANUP_FREE char *to = path_join(cycle->published, file->path);
        assert_true(i == 0 || strcmp(layout.files[i - 1].path, file->path) < 0);
        copy_file(from, to, file->mode);
        int64_t bad_page = -1;
        if (file->check != NULL) {
            cycle->checked_file_count++;
            if (!check_file(to, file, &bad_page)) {
                fail_msg("page %lld of '%s' is bad", (long long)bad_page, file->path);
            }
        }
        if (cycle->parent_directory != NULL) {
            recorder_check_file(cycle->recorder, cycle->data, cycle->parent_directory, file->path,
                                &check);
        }
    }
    if (cycle->parent_directory != NULL) {
        recorder_check_end(cycle->recorder, &check, "recorder");
    }
    arena_free(arena);
}

Status cycle_try_replay(Cycle *cycle, Error *error)
{
    return engine_replay_to(cycle->engine, &cycle->checkpoint, STALL_MS, note_seed, cycle, error);
}

void cycle_finish(Cycle *cycle)
{
    Arena *arena = arena_new();
    const char *state = NULL;
    Error error = {0};
    assert_ok(cycle_try_replay(cycle, &error), &error);
    assert_ok(engine_stop(cycle->engine, arena, &state, &error), &error);
    cycle->state = string_copy(state);
    publish(cycle);
    assert_ok(engine_committed(cycle->engine, &error), &error);
    engine_close(cycle->engine);
    cycle->engine = NULL;
    arena_free(arena);
}

void cycle_run(Cycle *cycle, const Cycle *parent)
{
    cycle_begin(cycle, parent);
    cycle_wait_ready(cycle);
    cycle_take(cycle);
    cycle_finish(cycle);
}

int cycle_timeline(const Cycle *cycle)
{
    Error error = {0};
    CLEANUP(json_freep) Json *json = NULL;
    assert_ok(json_parse(cycle->state, strlen(cycle->state), &json, &error), &error);
    return (int)json_get_integer(json, "timeline", 0);
}

typedef struct PageWalk {
    const char *root;
    char *file;
    int64_t *page;
} PageWalk;

static Status check_pages_of(void *context, const char *path, int64_t size_bytes, Error *error)
{
    PageWalk *walk = context;
    PostgresPageFile page_file = {0};
    if (!postgres_page_file(path, &page_file.segment)) {
        return STATUS_OK;
    }
    EngineFile file = {.path = path,
                       .size_bytes = size_bytes,
                       .check = postgres_page_check,
                       .context = &page_file};
    CLEANUP_FREE char *full = path_join(walk->root, path);
    if (!check_file(full, &file, walk->page)) {
        (void)snprintf(walk->file, 256, "%s", path);
        return error_set(error, REASON_PAGE_CORRUPT, "bad page");
    }
    return STATUS_OK;
}

bool cycle_check_pages(const Cycle *cycle, char ret_file[256], int64_t *ret_page)
{
    PageWalk walk = {.root = cycle->published, .file = ret_file, .page = ret_page};
    Error error = {0};
    return dir_walk(cycle->published, check_pages_of, &walk, &error) == STATUS_OK;
}

typedef struct ChangeWalk {
    const char *old_root, *new_root;
    int64_t changed_bytes;
} ChangeWalk;

static Status count_changes_of(void *context, const char *path, int64_t size_bytes, Error *error)
{
    ChangeWalk *walk = context;
    CLEANUP_FREE char *old_path = path_join(walk->old_root, path);
    CLEANUP_FREE char *new_path = path_join(walk->new_root, path);
    CLEANUP(fd_closep) int old_fd = open(old_path, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_closep) int new_fd = open(new_path, O_RDONLY | O_CLOEXEC);
    CLEANUP_FREE uint8_t *old_data = mem_alloc(PIECE_BYTES);
    CLEANUP_FREE uint8_t *new_data = mem_alloc(PIECE_BYTES);
    CLEANUP_FREE uint8_t *zeros = mem_alloc(PIECE_BYTES);
    int64_t changed_before = walk->changed_bytes;
    for (int64_t offset = 0; offset < size_bytes; offset += PIECE_BYTES) {
        size_t old_size = 0;
        size_t new_size = 0;
        RETURN_IF_ERROR(file_read_at(new_fd, new_data, PIECE_BYTES, offset, &new_size, error));
        if (old_fd >= 0) {
            RETURN_IF_ERROR(file_read_at(old_fd, old_data, PIECE_BYTES, offset, &old_size, error));
        }
        bool is_same = old_size == new_size && memcmp(old_data, new_data, new_size) == 0;
        if (!is_same && memcmp(new_data, zeros, new_size) != 0) { // holes cost nothing
            walk->changed_bytes += (int64_t)new_size;
        }
    }
    if (walk->changed_bytes - changed_before > 0) {
        print_message("  changed %s: %lld\n", path,
                      (long long)(walk->changed_bytes - changed_before));
    }
    return STATUS_OK;
}

int64_t cycle_changed_bytes(const Cycle *parent, const Cycle *cycle)
{
    ChangeWalk walk = {.old_root = parent->published, .new_root = cycle->published};
    Error error = {0};
    assert_ok(dir_walk(cycle->published, count_changes_of, &walk, &error), &error);
    return walk.changed_bytes;
}

static ScratchPostgres *new_server(const char *directory, const char *name, const char *settings)
{
    ScratchPostgres *server = scratch_postgres_new(directory, name, settings);
    scratch_postgres_run(
        server, "CREATE TABLE mark(text text); CREATE TABLE load(id bigserial, v text);"
                "INSERT INTO load(v) SELECT repeat('y', 200) FROM generate_series(1, 20000);"
                "CREATE ROLE reader LOGIN PASSWORD $$readers' password$$;"
                "GRANT SELECT ON mark, load TO reader");
    return server;
}

CycleSite cycle_site_new(const char *settings)
{
    CycleSite site = {.directory = temp_dir_new()};
    site.primary = new_server(site.directory, "primary", settings);
    return site;
}

void cycle_site_done(CycleSite *site)
{
    scratch_postgres_freep(&site->primary);
    temp_dir_removep(&site->directory);
}

ScratchPostgres *cycle_site_server(const CycleSite *site, const char *name)
{
    return new_server(site->directory, name, "");
}

// Rows of a served backup, as the user of the source sees them.
void cycle_assert_marks(const Cycle *cycle, const char *expected)
{
    Arena *arena = arena_new();
    CLEANUP_FREE char *data = string_format("%s-restored", cycle->published);
    CLEANUP_FREE char *work = string_format("%s-work", cycle->published);
    cycle_copy_tree(cycle->published, data);
    int port = free_port();
    int64_t started_ms = -1;
    Error error = {0};
    Engine *engine = cycle_open_restore(cycle, data, work);
    assert_ok(engine_serve(engine, cycle->version, cycle->state, port, &started_ms, &error),
              &error);
    assert_in_range(started_ms, 1, 30000);
    CLEANUP_FREE char *marks =
        scratch_postgres_text_at("127.0.0.1", port, "reader", "readers' password",
                                 "SELECT string_agg(text, ' ' ORDER BY text) FROM mark");
    assert_string_equal(marks, expected);
    assert_ok(engine_check_alive(engine, &error), &error);
    engine_close(engine);
    Error removal = {0};
    assert_ok(dir_remove_all(data, &removal), &removal);
    arena_free(arena);
}

const char *cycle_program(void)
{
    return program_path;
}

const char *cycle_small_disk(void)
{
    return small_disk_new(SMALL_DISK_MIB);
}

bool cycle_prepare(int argc, char **argv, int *ret_exit_code)
{
    if (argc > 2 && text_equal(argv[1], "--child")) {
        *ret_exit_code = child_main(argc, argv);
        return true;
    }
    if (!scratch_postgres_is_installed()) {
        (void)fprintf(stderr, "PostgreSQL is not installed: skipped\n");
        *ret_exit_code = 77;
        return true;
    }
    ssize_t size = readlink("/proc/self/exe", program_path, sizeof(program_path) - 1);
    assert_true(size > 0);
    (void)cycle_small_disk();
    scratch_postgres_drop_root();
    return false;
}
