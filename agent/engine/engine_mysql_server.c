// SPDX-License-Identifier: Apache-2.0
// The engine's server process: options, start, clean stop. See engine_mysql_family.h for how it is
// controlled.
#include "agent/engine/engine_launch.h"
#include "agent/engine/engine_mysql_family.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGUMENT_COUNT_MAX 128
#define START_MS (15 * 60 * 1000) // crash recovery never happens on a clean parent; upgrades may
#define START_POLL_MS 10
#define PROGRAM_LOG_NAME "install.log"
#define LOG_END_BYTES 8192
#define STOP_STALL_MS (3 * 60 * 1000) // a server that neither computes nor writes for so long hangs
#define STOP_CEILING_MS (4 * 60 * 60 * 1000)
#define POOL_BYTES_MIN (16 * 1024 * 1024)
#define POOL_BYTES_DEFAULT (128 * 1024 * 1024)
// The redo log is part of every backup and is written in a circle: small, and always the same size.
#define REDO_LOG_OPTION_MARIADB "--innodb-log-file-size=32M"
#define REDO_LOG_OPTION_MYSQL "--loose-innodb-redo-log-capacity=32M"

typedef struct Arguments {
    Arena *arena;
    const char *items[ARGUMENT_COUNT_MAX + 1];
    size_t count;
} Arguments;

static void add(Arguments *arguments, const char *format, ...) PRINTF_LIKE(2, 3);

static void add(Arguments *arguments, const char *format, ...)
{
    assert(arguments->count < ARGUMENT_COUNT_MAX);
    va_list values;
    va_start(values, format);
    arguments->items[arguments->count++] = arena_format_list(arguments->arena, format, values);
    va_end(values);
}

static void add_list(Arguments *arguments, const char *const *list)
{
    for (; *list != NULL; list++) {
        add(arguments, "%s", *list);
    }
}

char *mysql_work_path(Arena *arena, const MysqlEngine *engine, const char *name)
{
    return arena_format(arena, "%s/%s", engine->base.options.work_directory, name);
}

// In every mode: nothing is loaded or written that would make two stops of an idle server differ
// more than they must.
static void add_common(Arguments *arguments, const MysqlEngine *engine, const char *data_directory)
{
    static const char *const common[] = {
        "--innodb-buffer-pool-dump-at-shutdown=OFF", "--innodb-buffer-pool-load-at-startup=OFF",
        "--innodb-undo-log-truncate=OFF", "--loose-innodb-change-buffering=none",
        "--innodb-adaptive-hash-index=OFF",
        "--innodb-use-native-aio=OFF", // many servers share the kernel's limit
        "--innodb-fast-shutdown=1", "--innodb-strict-mode=OFF", "--innodb-io-capacity=2000",
        "--event-scheduler=OFF", "--max-connections=64", "--max-allowed-packet=1G",
        "--wait-timeout=31536000", // our connections must not be closed: they cannot be opened
                                   // again
        "--interactive-timeout=31536000", "--performance-schema=OFF", NULL};
    static const char *const mysql_only[] = {REDO_LOG_OPTION_MYSQL,
                                             "--loose-innodb-redo-log-encrypt=OFF",
                                             "--mysqlx=OFF",
                                             "--secure-file-priv=NULL",
                                             "--gtid-mode=ON",
                                             "--enforce-gtid-consistency=ON",
                                             "--persisted-globals-load=OFF",
                                             "--skip-replica-start",
                                             NULL};
    static const char *const mariadb_only[] = {REDO_LOG_OPTION_MARIADB,
                                               "--slave-max-allowed-packet=1G",
                                               "--aria-log-file-size=8M",
                                               "--aria-log-purge-type=immediate",
                                               "--aria-pagecache-buffer-size=16M",
                                               "--key-buffer-size=8M",
                                               "--query-cache-size=0",
                                               "--query-cache-type=0",
                                               "--strict-password-validation=OFF",
                                               "--skip-slave-start",
                                               NULL};
    const MysqlSettings *settings = &engine->settings;
    int64_t memory = engine->base.options.memory_bytes;
    int64_t pool = memory <= 0 ? POOL_BYTES_DEFAULT : MAX(memory, POOL_BYTES_MIN);
    Arena *arena = arguments->arena;
    add(arguments, "--datadir=%s", data_directory);
    add(arguments, "--socket=%s", engine->socket_path);
    add(arguments, "--pid-file=%s", mysql_work_path(arena, engine, "server.pid"));
    add(arguments, "--tmpdir=%s", mysql_work_path(arena, engine, "tmp"));
    add(arguments, "--innodb-buffer-pool-size=%lld", (long long)pool);
    add(arguments, "--innodb-page-size=%d", settings->page_size);
    add(arguments, "--lower-case-table-names=%d", settings->lower_case_table_names);
    add(arguments, "--skip-log-bin");
    add_list(arguments, common);
    add_list(arguments, engine->is_mysql ? mysql_only : mariadb_only);
    if (settings->data_file_path[0] != '\0') {
        add(arguments, "--innodb-data-file-path=%s", settings->data_file_path);
    }
    for (size_t i = 0; i < settings->plugin_count; i++) {
        add(arguments, "--plugin-load-add=%s", settings->plugins[i]);
    }
}

static void add_replica(Arguments *arguments, const MysqlEngine *engine)
{
    const MysqlSettings *settings = &engine->settings;
    Arena *arena = arguments->arena;
    uint32_t server_id = 0;
    crypto_random(&server_id, sizeof(server_id));
    // High numbers: people give their servers low ones, and two replicas of one number end each
    // other's streams.
    add(arguments, "--server-id=%u", server_id | 0x80000000u);
    add(arguments, "--relay-log=%s", mysql_work_path(arena, engine, "relay/relay"));
    add(arguments, "--relay-log-index=%s", mysql_work_path(arena, engine, "relay/relay.index"));
    add(arguments, "--loose-slave-load-tmpdir=%s", mysql_work_path(arena, engine, "tmp"));
    add(arguments, "--loose-slave-net-timeout=10");
    add(arguments, "--max-relay-log-size=64M");
    add(arguments, "--explicit-defaults-for-timestamp=%s",
        settings->explicit_defaults_for_timestamp ? "ON" : "OFF");
    if (settings->default_storage_engine[0] != '\0') {
        add(arguments, "--default-storage-engine=%s", settings->default_storage_engine);
    }
    if (settings->collation[0] != '\0') {
        add(arguments, "--character-set-server=%s", settings->character_set);
        add(arguments, "--collation-server=%s", settings->collation);
    }
    // A file outside the data directory would not be in the backup.
    add(arguments, "--sql-mode=NO_DIR_IN_CREATE,NO_ENGINE_SUBSTITUTION");
    if (engine->is_mysql) {
        add(arguments, "--super-read-only=ON");
        add(arguments, "--loose-replica-load-tmpdir=%s", mysql_work_path(arena, engine, "tmp"));
        add(arguments, "--loose-replica-net-timeout=10");
        add(arguments, "--loose-replica-parallel-workers=4");
        add(arguments, "--loose-replica-preserve-commit-order=ON");
    } else {
        add(arguments, "--read-only=ON");
        add(arguments, "--slave-parallel-threads=4");
        add(arguments, "--master-info-file=%s",
            mysql_work_path(arena, engine, "relay/master.info"));
        add(arguments, "--relay-log-info-file=%s",
            mysql_work_path(arena, engine, "relay/relay-log.info"));
    }
}

// The machine is thrown away when it fails; what counts is the state after a clean stop.
static void add_fast(Arguments *arguments)
{
    add(arguments, "--innodb-flush-log-at-trx-commit=0");
    add(arguments, "--innodb-doublewrite=OFF");
    add(arguments, "--sync-binlog=0");
}

// The account that lives in the server's memory only; one statement a line, as --init-file wants
// it.
static Status write_init_file(const char *path, const char *username, const char *password,
                              Error *error)
{
    CLEANUP_FREE char *text =
        string_format("CREATE USER '%s'@'localhost' IDENTIFIED BY '%s';\n"
                      "GRANT ALL PRIVILEGES ON *.* TO '%s'@'localhost' WITH GRANT OPTION;\n"
                      "DELETE FROM mysql.global_priv WHERE User = '%s' AND Host = 'localhost';\n",
                      username, password, username, username);
    Status status = file_write_atomic(path, text, strlen(text), 0600, error);
    secret_wipe_text(text);
    return status;
}

typedef struct LocalAccount {
    char username[32];
    char password[80];
} LocalAccount;

static void make_account(MysqlEngine *engine, LocalAccount *account)
{
    uint8_t random[32];
    crypto_random(random, sizeof(random));
    if (engine->is_mysql) {
        (void)snprintf(account->username, sizeof(account->username), "holdfast");
        account->password[0] = '\0';
        return;
    }
    char name[17], secret[65];
    hex_encode(random, 8, name);
    crypto_random(random, sizeof(random));
    hex_encode(random, sizeof(random), secret);
    (void)snprintf(account->username, sizeof(account->username), "holdfast-%s", name);
    (void)snprintf(account->password, sizeof(account->password), "Hf-1.%s", secret);
    explicit_bzero(secret, sizeof(secret));
    explicit_bzero(random, sizeof(random));
}

static void add_mode(Arguments *arguments, MysqlEngine *engine, MysqlServerMode mode, int port)
{
    if (mode == MYSQL_SERVER_PUBLIC) {
        add(arguments, "--port=%d", port);
        add(arguments, "--bind-address=127.0.0.1");
        add(arguments, "--skip-name-resolve");
        add(arguments, "--server-id=1");
        return;
    }
    add(arguments, "--skip-networking");
    if (engine->is_mysql) {
        add(arguments, "--skip-grant-tables");
        add(arguments, "--auto-generate-certs=OFF"); // only a public server needs keys
        add(arguments, "--caching-sha2-password-auto-generate-rsa-keys=OFF");
        add(arguments, "--loose-sha256-password-auto-generate-rsa-keys=OFF");
    }
    if (mode == MYSQL_SERVER_PROVE) {
        add(arguments, "--server-id=1");
        add(arguments, engine->is_mysql ? "--super-read-only=ON" : "--read-only=ON");
        return;
    }
    add_fast(arguments);
    if (engine->is_mysql) {
        add(arguments, "--innodb-rollback-segments=1"); // each in use is one more page that differs
                                                        // after every run
    }
    if (mode == MYSQL_SERVER_REPLICA) {
        add_replica(arguments, engine);
    } else {
        add(arguments, "--server-id=1");
        add(arguments, "--sql-mode=NO_AUTO_VALUE_ON_ZERO,NO_DIR_IN_CREATE,NO_ENGINE_SUBSTITUTION");
    }
}

// The end of a log in the work directory; "" when there is none. 8 KiB at most.
static char *read_log_end(const MysqlEngine *engine, Arena *arena, const char *name)
{
    char *data = arena_alloc(arena, LOG_END_BYTES + 1);
    CLEANUP(fd_closep) int fd = open(mysql_work_path(arena, engine, name), O_RDONLY | O_CLOEXEC);
    struct stat info;
    size_t got = 0;
    Error ignored = {0}; // a log that cannot be read only makes messages shorter
    if (fd >= 0 && fstat(fd, &info) == 0) {
        int64_t offset = MAX(0, (int64_t)info.st_size - LOG_END_BYTES);
        (void)file_read_at(fd, data, LOG_END_BYTES, offset, &got, &ignored);
    }
    return data;
}

// The last lines in one, of errors only or of all. Nothing that we give to a program is a secret;
// lines that speak of a password are left out all the same, since a server may make one up.
static void last_lines(const MysqlEngine *engine, const char *name, bool only_errors,
                       char *ret_text, size_t size)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *tail[3] = {0};
    size_t count = 0;
    size_t line_count = 0;
    char **lines = text_split(arena, read_log_end(engine, arena, name), '\n', &line_count);
    for (size_t i = 0; i < line_count; i++) {
        const char *at = strstr(lines[i], "[ERROR] ");
        const char *line = at != NULL ? at + strlen("[ERROR] ") : lines[i];
        bool is_wanted = only_errors ? at != NULL : lines[i][strspn(lines[i], " \t\r")] != '\0';
        if (is_wanted && strcasestr(line, "password") == NULL) {
            tail[count++ % ARRAY_COUNT(tail)] = line;
        }
    }
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, size - 1);
    for (size_t i = count > ARRAY_COUNT(tail) ? count - ARRAY_COUNT(tail) : 0; i < count; i++) {
        const char *line = tail[i % ARRAY_COUNT(tail)];
        (void)buffer_append_format(&text, "%s%.160s", text.size > 0 ? "; " : "", line);
    }
    (void)snprintf(ret_text, size, "%s", buffer_text(&text));
}

void mysql_server_log_tail(const MysqlEngine *engine, char *ret_text, size_t size)
{
    last_lines(engine, "server.log", true, ret_text, size);
}

bool mysql_server_is_running(MysqlEngine *engine)
{
    if (engine->pid == 0) {
        return false;
    }
    bool is_done = false;
    int code = 0;
    Error ignored = {0};
    if (process_wait(engine->pid, 0, &is_done, &code, &ignored) != STATUS_OK || is_done) {
        engine->pid = 0;
        return false;
    }
    return true;
}

static void close_local(MysqlEngine *engine, size_t from)
{
    for (size_t i = from; i < MYSQL_CONNECTION_COUNT; i++) {
        mysql_client_freep(&engine->local[i]);
    }
}

void mysql_server_kill(MysqlEngine *engine)
{
    if (engine->pid != 0) {
        process_stop(engine->pid, SIGKILL, 0);
        engine->pid = 0;
    }
    close_local(engine, 0);
}

static Reason full_or(const char *said, Reason otherwise)
{
    bool is_full = strstr(said, "No space left") != NULL || strstr(said, "Disk is full") != NULL ||
                   strstr(said, "errno: 28") != NULL;
    return is_full ? REASON_DISK_FULL : otherwise;
}

bool mysql_server_log_says_full(const MysqlEngine *engine)
{
    char tail[400];
    mysql_server_log_tail(engine, tail, sizeof(tail));
    return full_or(tail, REASON_NONE) == REASON_DISK_FULL;
}

static Status start_failed(MysqlEngine *engine, Reason otherwise, const char *what, Error *error)
{
    char tail[400];
    mysql_server_log_tail(engine, tail, sizeof(tail));
    RETURN_IF_ERROR(mysql_check_disk(engine, error));
    return error_set(error, full_or(tail, otherwise), "the %s server %s%s%s",
                     engine->is_mysql ? "MySQL" : "MariaDB", what, tail[0] != '\0' ? ": " : "",
                     tail);
}

// Until the server answers. Refusing our account is an answer too when `is_refusal_fine`.
static Status wait_for_start(MysqlEngine *engine, const LocalAccount *account, bool is_refusal_fine,
                             Reason otherwise, Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + START_MS;
    for (;;) {
        RETURN_IF_ERROR(mysql_check_canceled(engine, error));
        MysqlClient *client = NULL;
        Status status =
            mysql_client_open_local(engine->socket_path, account->username, account->password,
                                    engine->base.options.cancel, MYSQL_CONNECT_MS, &client, error);
        if (status == STATUS_OK) {
            engine->local[0] = client;
            return STATUS_OK;
        }
        if (error->reason == REASON_CANCELED) {
            return status;
        }
        if (error->reason == REASON_SOURCE_AUTHENTICATION && is_refusal_fine) {
            error_clear(error);
            return STATUS_OK;
        }
        error_clear(error);
        if (!mysql_server_is_running(engine)) {
            return start_failed(engine, otherwise, "does not start", error);
        }
        if (clock_monotonic_ms() >= deadline_ms) {
            return start_failed(engine, otherwise, "does not answer", error);
        }
        clock_sleep_ms(START_POLL_MS);
    }
}

static Status open_connections(MysqlEngine *engine, const LocalAccount *account,
                               MysqlServerMode mode, Error *error)
{
    for (size_t i = 1; i < MYSQL_CONNECTION_COUNT; i++) {
        RETURN_IF_ERROR(mysql_client_open_local(engine->socket_path, account->username,
                                                account->password, engine->base.options.cancel,
                                                MYSQL_CONNECT_MS, &engine->local[i], error));
    }
    if (mode == MYSQL_SERVER_LOAD) {
        return STATUS_OK;
    }
    // Now the accounts are the backup's, and ours is known to our open connections only.
    return mysql_client_run(engine->local[0], MYSQL_STATEMENT_MS, error, "FLUSH PRIVILEGES");
}

static Status spawn(MysqlEngine *engine, const Arguments *arguments, const char *data_directory,
                    Error *error)
{
    ProcessOptions options = {
        .arguments = arguments->items,
        .directory = data_directory, // whoever looks for left-over engines finds them by it
        .output_path = mysql_work_path(arguments->arena, engine, "server.log"),
        .new_session = true,
    };
    return engine_launch(&engine->base.options, &options, &engine->pid, error);
}

Status mysql_server_start(MysqlEngine *engine, MysqlServerMode mode, const char *data_directory,
                          int port, Reason otherwise, Error *error)
{
    assert(engine->pid == 0);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Arguments arguments = {.arena = arena};
    LocalAccount account = {0};
    make_account(engine, &account);
    RETURN_IF_ERROR(dir_create_all(mysql_work_path(arena, engine, "tmp"), 0700, error));
    RETURN_IF_ERROR(dir_create_all(mysql_work_path(arena, engine, "relay"), 0700, error));
    add(&arguments, "%s", engine->programs.server);
    add(&arguments, "--no-defaults");
    add_common(&arguments, engine, data_directory);
    add_mode(&arguments, engine, mode, port);
    const char *init_path = mysql_work_path(arena, engine, "init.sql");
    if (!engine->is_mysql) {
        RETURN_IF_ERROR(write_init_file(init_path, account.username, account.password, error));
        add(&arguments, "--init-file=%s", init_path);
    }
    engine->is_clean = false;
    bool is_refusal_fine = mode == MYSQL_SERVER_PUBLIC && engine->is_mysql;
    Status status = spawn(engine, &arguments, data_directory, error);
    if (status == STATUS_OK) {
        status = wait_for_start(engine, &account, is_refusal_fine, otherwise, error);
    }
    (void)unlink(init_path);
    if (status == STATUS_OK && !is_refusal_fine) {
        status = open_connections(engine, &account, mode, error);
    }
    if (status == STATUS_OK && mode == MYSQL_SERVER_LOAD) {
        engine->load_username = string_copy(account.username);
        engine->load_password = secret_from_text(account.password);
    }
    explicit_bzero(&account, sizeof(account));
    if (status != STATUS_OK) {
        mysql_server_kill(engine);
    }
    return status;
}

Status mysql_server_open_client(MysqlEngine *engine, MysqlClient **ret_client, Error *error)
{
    assert(engine->load_username != NULL);
    return mysql_client_open_local(engine->socket_path, engine->load_username,
                                   secret_text(&engine->load_password), engine->base.options.cancel,
                                   MYSQL_CONNECT_MS, ret_client, error);
}

// Grows while the process computes or writes; 0 when it is gone.
static uint64_t read_activity(pid_t pid)
{
    char path[64];
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    Error ignored = {0};
    unsigned long long user = 0, kernel = 0, written = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (file_read(path, 4096, &text, &size, &ignored) != STATUS_OK) {
        return 0;
    }
    const char *fields = strrchr(text, ')');
    if (fields != NULL) {
        (void)sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                     &kernel);
    }
    CLEANUP_FREE char *counters = NULL;
    (void)snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
    if (file_read(path, 4096, &counters, &size, &ignored) == STATUS_OK) {
        const char *line = strstr(counters, "wchar:");
        (void)(line != NULL && sscanf(line, "wchar: %llu", &written));
    }
    return 1 + user + kernel + written;
}

static Status wait_for_stop(MysqlEngine *engine, int *ret_code, Error *error)
{
    int64_t started_ms = clock_monotonic_ms();
    int64_t moved_ms = started_ms;
    uint64_t activity = 0;
    for (;;) {
        bool is_done = false;
        RETURN_IF_ERROR(process_wait(engine->pid, 100, &is_done, ret_code, error));
        int64_t now_ms = clock_monotonic_ms();
        if (is_done) {
            engine->pid = 0;
            return STATUS_OK;
        }
        RETURN_IF_ERROR(mysql_check_canceled(engine, error));
        uint64_t activity_now = read_activity(engine->pid);
        if (activity_now != activity) {
            activity = activity_now;
            moved_ms = now_ms;
        }
        if (now_ms - moved_ms >= STOP_STALL_MS || now_ms - started_ms >= STOP_CEILING_MS) {
            return error_set(error, REASON_ENGINE_FAILED, "the engine did not stop within %lld s",
                             (long long)((now_ms - started_ms) / 1000));
        }
    }
}

// The server's last words; without them the shutdown was not clean.
static bool log_says_complete(const MysqlEngine *engine, int64_t from)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(fd_closep)
    int fd = open(mysql_work_path(arena, engine, "server.log"), O_RDONLY | O_CLOEXEC);
    char *data = arena_alloc(arena, 65536);
    size_t got = 0;
    Error ignored = {0};
    return fd >= 0 && file_read_at(fd, data, 65535, from, &got, &ignored) == STATUS_OK &&
           strstr(data, "Shutdown complete") != NULL;
}

static int64_t log_size(const MysqlEngine *engine)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    struct stat info;
    return stat(mysql_work_path(arena, engine, "server.log"), &info) == 0 ? (int64_t)info.st_size
                                                                          : 0;
}

Status mysql_server_stop(MysqlEngine *engine, Error *error)
{
    assert(engine->pid != 0);
    int64_t from = log_size(engine);
    close_local(engine, 1); // the server waits for idle connections before it stops
    Status status = STATUS_OK;
    if (engine->local[0] != NULL) {
        status = mysql_client_run(engine->local[0], MYSQL_STATEMENT_MS, error, "SHUTDOWN");
        if (status != STATUS_OK && error->reason == REASON_ENGINE_FAILED &&
            !mysql_server_is_running(engine)) {
            return start_failed(engine, REASON_ENGINE_FAILED, "ended unexpectedly", error);
        }
        close_local(engine, 0);
    }
    int code = 0;
    if (status == STATUS_OK) {
        status = wait_for_stop(engine, &code, error);
    }
    if (status != STATUS_OK) {
        mysql_server_kill(engine);
        return status;
    }
    if (code != 0 || !log_says_complete(engine, from)) {
        return start_failed(engine, REASON_ENGINE_FAILED, "did not shut down cleanly", error);
    }
    return STATUS_OK;
}

static Status program_failed(const MysqlEngine *engine, const char *program, int code, Error *error)
{
    char tail[400];
    last_lines(engine, PROGRAM_LOG_NAME, true, tail, sizeof(tail));
    if (tail[0] == '\0') {
        last_lines(engine, PROGRAM_LOG_NAME, false, tail, sizeof(tail));
    }
    RETURN_IF_ERROR(mysql_check_disk(engine, error));
    return error_set(error, full_or(tail, REASON_ENGINE_FAILED), "'%s' ended with exit code %d%s%s",
                     program, code, tail[0] != '\0' ? ": " : "", tail);
}

Status mysql_program_run(const MysqlEngine *engine, const char *const *arguments,
                         const char *directory, int64_t timeout_ms, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ProcessOptions options = {
        .arguments = arguments,
        .directory = directory,
        .output_path = mysql_work_path(arena, engine, PROGRAM_LOG_NAME),
        .new_session = true,
    };
    pid_t pid = 0;
    RETURN_IF_ERROR(engine_launch(&engine->base.options, &options, &pid, error));
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    for (;;) {
        bool is_done = false;
        int code = 0;
        Status status = process_wait(pid, 100, &is_done, &code, error);
        if (status == STATUS_OK && is_done) {
            return code == 0 ? STATUS_OK : program_failed(engine, arguments[0], code, error);
        }
        if (status == STATUS_OK) {
            status = mysql_check_canceled(engine, error);
        }
        if (status == STATUS_OK && clock_monotonic_ms() >= deadline_ms) {
            status = error_set(error, REASON_ENGINE_FAILED, "'%s' did not end", arguments[0]);
        }
        if (status != STATUS_OK) {
            process_stop(pid, SIGKILL, 0);
            return status;
        }
    }
}
