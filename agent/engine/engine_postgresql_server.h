// SPDX-License-Identifier: Apache-2.0
// PostgreSQL's programs on this machine and the private server the engine runs on its data
// directory: finding them, the configuration of our own, starting, stopping, and the control file.
// For the PostgreSQL engine's files only.
#pragma once

#include "agent/engine/engine.h"
#include "agent/engine/engine_postgresql_client.h"

#include <sys/types.h>

#define POSTGRESQL_PRIVATE_PORT 5432 // of the socket's name only
#define POSTGRESQL_PATH_SIZE 4096
#define POSTGRESQL_LOG_NAME "postgresql.log" // in the work directory

// What pg_controldata says.
typedef struct PostgresqlControl {
    uint64_t system_identifier;
    char state[48]; // "shut down in recovery"
    uint64_t redo_lsn;
    uint32_t timeline; // of the latest checkpoint
    uint64_t min_recovery_lsn;
    uint32_t min_recovery_timeline; // 0: none
    int64_t wal_segment_bytes;
    int page_bytes, segment_pages;
    int checksum_version; // 0: no page checksums
    int max_connections, max_worker_processes, max_wal_senders, max_prepared_transactions,
        max_locks_per_transaction;
} PostgresqlControl;

// The private server.
typedef struct PostgresqlServer {
    const EngineOptions *options; // borrowed
    int major;                    // 0: programs not looked for yet
    char program_directory[POSTGRESQL_PATH_SIZE];
    pid_t pid; // 0: not running
    int port;  // of its socket's name
} PostgresqlServer;

// How it is to run.
typedef struct PostgresqlRun {
    const PostgresqlControl *control; // its limits are at least the source's, as a standby needs
    int port;        // > 0: also listens on 127.0.0.1:port, with the accounts of the data directory
    bool is_standby; // replays what appears in pg_wal; otherwise up to the target, then opens
                     // read-write
    bool ends_at_target;     // a standby that shuts down at the target instead of serving anybody
    bool is_durable;         // fsync: off for a directory that dies with this machine anyway
    const char *target_name; // restore point to stop at, or NULL
} PostgresqlRun;

// Finds the directory with the programs of that major version: ENGINE_MISSING names the package to
// install.
Status postgresql_find_programs(PostgresqlServer *server, int major, Error *error);
// The major version of a data directory, from PG_VERSION.
Status postgresql_read_major(const char *data_directory, int *ret_major, Error *error);
Status postgresql_read_control(const PostgresqlServer *server, PostgresqlControl *ret_control,
                               Error *error);
bool postgresql_control_parse(const char *text, PostgresqlControl *ret_control);

// Starts it and returns when it answers (or, as a standby, when it has reached a consistent state).
// `otherwise` is the reason when it does not come up; the log's last lines are in the message.
Status postgresql_server_start(PostgresqlServer *server, const PostgresqlRun *run, Reason otherwise,
                               Error *error);
// With ends_at_target: runs it until it has shut down, at most stall_ms.
Status postgresql_server_run(PostgresqlServer *server, const PostgresqlRun *run, int64_t stall_ms,
                             Error *error);
// ENGINE_FAILED when it ended by itself; REPLICATION_BROKEN when because of the WAL.
Status postgresql_server_check(PostgresqlServer *server, Error *error);
bool postgresql_server_log_has(const PostgresqlServer *server, const char *text);
// Fast shutdown; waits for its end, which writes out what is in memory.
Status postgresql_server_stop(PostgresqlServer *server, Error *error);
void postgresql_server_kill(PostgresqlServer *server); // at once; fine when it does not run
// The last lines of its log, for messages.
void postgresql_server_log_tail(const PostgresqlServer *server, char *ret_text, size_t text_size);

// "<directory>/<name>" in a buffer of POSTGRESQL_PATH_SIZE.
void postgresql_path(const char *directory, const char *name, char *ret_path);
// Removes a file; one that is not there is fine.
Status postgresql_remove_file(const char *directory, const char *name, Error *error);
// The source's postgresql.auto.conf is put out of the way while a server of ours runs, and put back
// afterwards.
#define POSTGRESQL_AUTO_CONF "postgresql.auto.conf"
#define POSTGRESQL_AUTO_CONF_ASIDE "postgresql.auto.conf.source"
Status postgresql_auto_conf_put_back(const char *data_directory, Error *error);
