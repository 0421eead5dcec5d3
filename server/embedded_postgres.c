// SPDX-License-Identifier: Apache-2.0
// Starting, watching and stopping the private PostgreSQL.
#define LOG_MODULE "server"
#include "server/embedded_postgres.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "server/embedded_postgres_internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TIMEOUT_MS 300000
#define STOP_TIMEOUT_MS 60000
#define POLL_MS 20
#define BACKOFF_MS_MIN 500
#define BACKOFF_MS_MAX 30000
#define STABLE_MS 60000 // up for this long: the next crash is a new story
#define LOG_BYTES_MAX (16 * 1024 * 1024)

struct EmbeddedPostgres {
    char *cluster_directory;
    char *log_path;
    char *url;
    char socket_directory[256];
    char program_directory[1024];
    int connection_count;
    int64_t start_timeout_ms;
    pthread_mutex_t mutex; // guards identity and is_child
    ProcessIdentity identity;
    bool is_child; // else it was started by an earlier holdfastd
    pthread_t watch_thread;
    bool is_watching;
    int stop_fd; // eventfd
};

static void log_rotate(const EmbeddedPostgres *postgres)
{
    int64_t size_bytes = 0;
    FILE *file = fopen(postgres->log_path, "re");
    if (file != NULL) {
        size_bytes = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : 0;
        (void)fclose(file); // read only
    }
    if (size_bytes > LOG_BYTES_MAX) {
        CLEANUP_FREE char *old = string_format("%s.1", postgres->log_path);
        (void)rename(postgres->log_path, old); // else it goes on growing until the next start
    }
}

static Status spawn(EmbeddedPostgres *postgres, Error *error)
{
    CLEANUP_FREE char *program = string_format("%s/postgres", postgres->program_directory);
    CLEANUP_FREE char *sockets =
        string_format("unix_socket_directories=%s", postgres->socket_directory);
    CLEANUP_FREE char *connections =
        string_format("max_connections=%d", postgres->connection_count + 20);
    const char *arguments[] = {program,
                               "-D",
                               postgres->cluster_directory,
                               "-c",
                               "listen_addresses=",
                               "-c",
                               sockets,
                               "-c",
                               "unix_socket_permissions=0700",
                               "-c",
                               connections,
                               "-c",
                               "shared_buffers=32MB",
                               "-c",
                               "work_mem=4MB",
                               "-c",
                               "maintenance_work_mem=32MB",
                               "-c",
                               "huge_pages=off",
                               "-c",
                               "jit=off",
                               "-c",
                               "max_wal_size=256MB",
                               "-c",
                               "min_wal_size=64MB",
                               "-c",
                               "wal_level=minimal",
                               "-c",
                               "max_wal_senders=0",
                               "-c",
                               "max_parallel_workers=0",
                               "-c",
                               "log_checkpoints=off",
                               "-c",
                               "log_min_messages=warning",
                               "-c",
                               "logging_collector=off",
                               NULL};
    // A session of its own: a Ctrl-C at the terminal must not end it before we are done with it.
    ProcessOptions options = {.arguments = arguments,
                              .directory = postgres->cluster_directory,
                              .output_path = postgres->log_path,
                              .new_session = true};
    pid_t pid = 0;
    log_rotate(postgres);
    RETURN_IF_ERROR(process_spawn(&options, &pid, error));
    (void)pthread_mutex_lock(&postgres->mutex);
    postgres->is_child = process_identify(pid, &postgres->identity);
    (void)pthread_mutex_unlock(&postgres->mutex);
    assert(postgres->is_child); // an unreaped child always has an entry
    return STATUS_OK;
}

// The last line of the log that says why, for the error.
static void add_log_tail(const EmbeddedPostgres *postgres, Error *error)
{
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    Error ignored = {0};
    if (file_read(postgres->log_path, LOG_BYTES_MAX * 2, &text, &size, &ignored) != STATUS_OK) {
        return;
    }
    char *line = strstr(text, "FATAL:");
    for (char *next = line; next != NULL; next = strstr(next + 1, "FATAL:")) {
        line = next;
    }
    if (line != NULL) {
        line[strcspn(line, "\n")] = '\0';
        error_hint(error, "its log '%s' ends with: %.200s", postgres->log_path, line);
    } else {
        error_hint(error, "see its log '%s'", postgres->log_path);
    }
}

static Status wait_ready(EmbeddedPostgres *postgres, Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + postgres->start_timeout_ms;
    while (clock_monotonic_ms() < deadline_ms) {
        ProcessIdentity seen = {0};
        if (embedded_postgres_look(postgres->cluster_directory, &seen) == POSTMASTER_READY &&
            seen.pid == postgres->identity.pid) {
            return STATUS_OK;
        }
        if (!process_is_alive(&postgres->identity)) {
            error_set(error, REASON_DATABASE_UNREACHABLE, "the private PostgreSQL did not start");
            add_log_tail(postgres, error);
            return error->status;
        }
        clock_sleep_ms(POLL_MS);
    }
    error_set(error, REASON_DATABASE_UNREACHABLE, "the private PostgreSQL was not ready in time");
    return error_hint(error,
                      "see its log '%s'; after a crash of the machine, recovery may need longer",
                      postgres->log_path);
}

static void reap(EmbeddedPostgres *postgres)
{
    if (postgres->is_child) {
        int wait_status = 0;
        (void)waitpid(postgres->identity.pid, &wait_status,
                      WNOHANG); // else there is nothing to reap
    }
}

// True: it ended. False: we are asked to stop.
static bool wait_for_end(EmbeddedPostgres *postgres)
{
    CLEANUP(fd_closep) int pidfd = (int)syscall(SYS_pidfd_open, postgres->identity.pid, 0);
    while (process_is_alive(&postgres->identity)) {
        struct pollfd wanted[] = {{.fd = postgres->stop_fd, .events = POLLIN},
                                  {.fd = pidfd, .events = POLLIN}};
        (void)poll(wanted, pidfd >= 0 ? 2 : 1, 1000); // whatever woke us, the loop looks again
        if ((wanted[0].revents & POLLIN) != 0) {
            return false;
        }
    }
    return true;
}

static bool wait_stop(EmbeddedPostgres *postgres, int64_t timeout_ms)
{
    struct pollfd wanted = {.fd = postgres->stop_fd, .events = POLLIN};
    return poll(&wanted, 1, (int)timeout_ms) > 0;
}

static void *watch_main(void *context)
{
    EmbeddedPostgres *postgres = context;
    int64_t backoff_ms = BACKOFF_MS_MIN;
    for (;;) {
        int64_t since_ms = clock_monotonic_ms();
        if (!wait_for_end(postgres)) {
            return NULL;
        }
        reap(postgres);
        backoff_ms = clock_monotonic_ms() - since_ms > STABLE_MS ? BACKOFF_MS_MIN : backoff_ms;
        log_error("the private PostgreSQL ended unexpectedly; it is started again", "log",
                  postgres->log_path, NULL);
        Error error = {0};
        if (wait_stop(postgres, backoff_ms)) {
            return NULL;
        }
        backoff_ms = MIN(backoff_ms * 2, BACKOFF_MS_MAX);
        if (spawn(postgres, &error) != STATUS_OK || wait_ready(postgres, &error) != STATUS_OK) {
            log_error_record(LOG_ERROR, LOG_MODULE, &error, "the private PostgreSQL does not start",
                             NULL);
        }
    }
}

// Takes over one that an earlier holdfastd left running, or starts it.
static Status bring_up(EmbeddedPostgres *postgres, Error *error)
{
    ProcessIdentity identity = {0};
    if (embedded_postgres_look(postgres->cluster_directory, &identity) != POSTMASTER_NONE) {
        log_info("took over the private PostgreSQL of an earlier run", NULL);
        postgres->identity = identity;
        return wait_ready(postgres, error);
    }
    // Backends of a postmaster that was killed need a moment to notice; until then a new one
    // refuses to start.
    int64_t deadline_ms = clock_monotonic_ms() + 15000;
    for (;;) {
        RETURN_IF_ERROR(spawn(postgres, error));
        Status status = wait_ready(postgres, error);
        if (status == STATUS_OK) {
            return STATUS_OK;
        }
        reap(postgres);
        if (strstr(error->hint, "pre-existing shared memory") == NULL ||
            clock_monotonic_ms() > deadline_ms) {
            return status;
        }
        error_clear(error);
        clock_sleep_ms(500);
    }
}

static void postgres_free(EmbeddedPostgres *postgres)
{
    (void)pthread_mutex_destroy(&postgres->mutex);
    fd_closep(&postgres->stop_fd);
    mem_free(postgres->cluster_directory);
    mem_free(postgres->log_path);
    mem_free(postgres->url);
    mem_free(postgres);
}

static Status prepare(EmbeddedPostgres *postgres, const EmbeddedPostgresOptions *options,
                      Error *error)
{
    RETURN_IF_ERROR(embedded_postgres_find_programs(postgres->cluster_directory,
                                                    postgres->program_directory, error));
    RETURN_IF_ERROR(embedded_postgres_create_cluster(
        options->data_directory, postgres->cluster_directory, postgres->program_directory, error));
    RETURN_IF_ERROR(embedded_postgres_socket_directory(options->data_directory,
                                                       postgres->socket_directory, error));
    postgres->url =
        string_format("host='%s' port=5432 user=holdfast dbname=postgres sslmode=disable",
                      postgres->socket_directory);
    return bring_up(postgres, error);
}

Status embedded_postgres_start(const EmbeddedPostgresOptions *options,
                               EmbeddedPostgres **ret_postgres, Error *error)
{
    EmbeddedPostgres *postgres = mem_alloc(sizeof(*postgres));
    postgres->cluster_directory = string_format("%s/postgres", options->data_directory);
    postgres->log_path = string_format("%s/postgres.log", options->data_directory);
    postgres->connection_count = options->connection_count;
    postgres->start_timeout_ms =
        options->start_timeout_ms > 0 ? options->start_timeout_ms : START_TIMEOUT_MS;
    (void)pthread_mutex_init(&postgres->mutex, NULL); // cannot fail with default attributes
    postgres->stop_fd = eventfd(0, EFD_CLOEXEC);
    assert(postgres->stop_fd >= 0);
    Status status = prepare(postgres, options, error);
    if (status == STATUS_OK &&
        pthread_create(&postgres->watch_thread, NULL, watch_main, postgres) != 0) {
        status = error_set(error, REASON_EXHAUSTED, "no more threads can be started");
    }
    postgres->is_watching = status == STATUS_OK;
    if (status != STATUS_OK) {
        embedded_postgres_stop(postgres);
        return status;
    }
    *ret_postgres = postgres;
    return STATUS_OK;
}

const char *embedded_postgres_url(const EmbeddedPostgres *postgres)
{
    return postgres->url;
}

int embedded_postgres_pid(EmbeddedPostgres *postgres)
{
    (void)pthread_mutex_lock(&postgres->mutex);
    int pid = process_is_alive(&postgres->identity) ? (int)postgres->identity.pid : 0;
    (void)pthread_mutex_unlock(&postgres->mutex);
    return pid;
}

// Signals it only if it is still the same process.
static void signal_postmaster(EmbeddedPostgres *postgres, int signal_number)
{
    CLEANUP(fd_closep) int pidfd = (int)syscall(SYS_pidfd_open, postgres->identity.pid, 0);
    if (pidfd >= 0 && process_is_alive(&postgres->identity)) {
        (void)syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL,
                      0); // it may have just ended
    }
}

void embedded_postgres_stop(EmbeddedPostgres *postgres)
{
    if (postgres == NULL) {
        return;
    }
    uint64_t one = 1;
    ssize_t written = write(postgres->stop_fd, &one, sizeof(one));
    assert(written == (ssize_t)sizeof(one));
    (void)written;
    if (postgres->is_watching) {
        (void)pthread_join(postgres->watch_thread, NULL);
    }
    // SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one: safe too, but it recovers at
    // the next start.
    const int signals[] = {SIGINT, SIGQUIT, SIGKILL};
    for (size_t i = 0; i < ARRAY_COUNT(signals) && postgres->identity.pid > 0; i++) {
        signal_postmaster(postgres, signals[i]);
        int64_t deadline_ms = clock_monotonic_ms() + STOP_TIMEOUT_MS;
        while (process_is_alive(&postgres->identity) && clock_monotonic_ms() < deadline_ms) {
            clock_sleep_ms(POLL_MS);
        }
    }
    reap(postgres);
    postgres_free(postgres);
}
