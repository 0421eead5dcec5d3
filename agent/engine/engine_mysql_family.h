// SPDX-License-Identifier: Apache-2.0
// What the MariaDB and MySQL engines share: one object, the server process, replication, layout.
// Only the files engine_mysql*.c and engine_mariadb*.c include this.
//
// How the private server is controlled without touching the accounts of the backup: both servers
// keep a connection's privileges after FLUSH PRIVILEGES. MySQL is started with --skip-grant-tables,
// our connections are opened, then FLUSH PRIVILEGES puts the backup's accounts into force (so that
// replicated account statements work). MariaDB cannot replicate event statements after
// --skip-grant-tables, so its --init-file makes an account, deletes its row again at once (the
// server keeps it in memory) and FLUSH PRIVILEGES forgets it as soon as our connections are open.
#pragma once

#include "agent/engine/engine_driver.h"
#include "agent/engine/engine_mysql_client.h"
#include "agent/engine/engine_mysql_traffic.h"
#include "common/arena.h"
#include "common/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MYSQL_STATEMENT_MS MYSQL_STATEMENT_DEFAULT_MS
#define MYSQL_LOAD_MS (60 * 60 * 1000) // statements that move data
#define MYSQL_CONNECT_MS (10 * 1000)
#define MYSQL_SOURCE_RETRY_MS (90 * 1000) // how long a source that is away is tried again
#define MYSQL_CONNECTION_COUNT 2          // kept to our server: one for control, one to look on
#define MYSQL_PLUGIN_COUNT_MAX 32

// What must be the same on the source and on our server; travels in the backup as part of
// engine_state.
typedef struct MysqlSettings {
    int page_size;
    int lower_case_table_names;
    bool explicit_defaults_for_timestamp;
    char default_storage_engine[64];
    char character_set[64];
    char collation[64];
    char data_file_path[256];                 // innodb_data_file_path
    char plugins[MYSQL_PLUGIN_COUNT_MAX][96]; // libraries loaded on the source: "auth_ed25519.so"
    size_t plugin_count;
} MysqlSettings;

typedef struct MysqlPrograms {
    char server[4096];  // mariadbd or mysqld
    char install[4096]; // mariadb-install-db; "" for MySQL
    char version[64];
    int version_number;
} MysqlPrograms;

typedef struct MysqlEngine {
    Engine base; // first
    bool is_mysql;
    bool is_adopted; // the data directory comes from a backup
    bool is_clean;   // stopped cleanly: layout may read it
    bool is_following;
    MysqlPrograms programs;
    MysqlSettings settings;
    char adopted_position[1024]; // "" for a seed
    char final_position[1024];   // when stopped
    MysqlClient *local[MYSQL_CONNECTION_COUNT];
    MysqlClient *source; // or NULL: connected when needed
    char source_identity[64];
    int64_t source_lost_ms;   // monotonic; 0: it answers
    int64_t follow_broken_ms; // monotonic; 0: the receiver is connected
    int64_t follow_retry_ms;  // when the receiver was last started again
    int applier_retry_count;
    int64_t closed_bytes; // received by connections that are closed
    MysqlTraffic traffic; // of the server process
    pid_t pid;            // 0: not running
    int port;             // served; 0: private
    char socket_path[108];
    char *load_username; // of further connections in mode LOAD; owned
    Secret load_password;
} MysqlEngine;

typedef enum MysqlServerMode {
    MYSQL_SERVER_REPLICA, // read-only, private, replicates
    MYSQL_SERVER_LOAD,    // private, writable: seeding
    MYSQL_SERVER_PROVE,   // private, nothing else than looking
    MYSQL_SERVER_PUBLIC,  // on 127.0.0.1:port, durable, the backup's accounts
} MysqlServerMode;

// engine_mysql_family.c
MysqlEngine *mysql_engine(Engine *engine);
Status mysql_family_open(const EngineDriver *driver, bool is_mysql, const EngineOptions *options,
                         const EngineSource *source, Engine **ret_engine, Error *error);
void mysql_family_close(Engine *engine);
Status mysql_family_adopt(Engine *engine, const char *parent_version, const char *engine_state,
                          Error *error);
Status mysql_family_start(Engine *engine, Error *error);
Status mysql_family_stop(Engine *engine, Arena *arena, const char **ret_engine_state, Error *error);
Status mysql_family_serve(Engine *engine, const char *version, const char *engine_state, int port,
                          int64_t *ret_started_ms, Error *error);
Status mysql_family_check_alive(Engine *engine, Error *error);
Status mysql_family_clean_source(const EngineSource *source, const char *shard_id,
                                 const char *const *alive, int *ret_removed, Error *error);
// DISK_FULL when hardly anything is free where the data is: the servers wait for space instead of
// failing.
Status mysql_check_disk(const MysqlEngine *engine, Error *error);
// The status of a call that failed: DISK_FULL when that is why the server did not do what it was
// told.
Status mysql_name_failure(const MysqlEngine *engine, Status status, Error *error);
Status mysql_check_canceled(const MysqlEngine *engine, Error *error);
// engine_mysql_settings.c
Status mysql_settings_read(MysqlClient *source, bool is_mysql, MysqlSettings *ret_settings,
                           Error *error);
Json *mysql_settings_to_json(const MysqlSettings *settings);
void mysql_settings_from_json(MysqlSettings *settings, const Json *json);
Status mysql_programs_find(MysqlPrograms *programs, bool is_mysql, const char *program_directory,
                           Error *error);
// Does a data directory of this version fit the programs here?
Status mysql_version_check(const MysqlPrograms *programs, bool is_mysql, const char *version,
                           Error *error);
// May a server with these programs replicate from a source of this version?
Status mysql_source_version_check(const MysqlPrograms *programs, bool is_mysql, const char *version,
                                  Error *error);

// engine_mysql_server.c: the process
Status mysql_server_start(MysqlEngine *engine, MysqlServerMode mode, const char *data_directory,
                          int port, Reason otherwise, Error *error);
// Shuts down and waits as long as it makes progress. Verifies that the shutdown was clean.
Status mysql_server_stop(MysqlEngine *engine, Error *error);
void mysql_server_kill(MysqlEngine *engine);
bool mysql_server_is_running(MysqlEngine *engine);
Status mysql_server_open_client(MysqlEngine *engine, MysqlClient **ret_client,
                                Error *error); // only in mode LOAD
// The log's last errors in one line, for messages.
void mysql_server_log_tail(const MysqlEngine *engine, char *ret_text, size_t size);
bool mysql_server_log_says_full(const MysqlEngine *engine); // among its last errors
char *mysql_work_path(Arena *arena, const MysqlEngine *engine, const char *name);
// Runs a program of the engine's to its end through the child launcher. Its arguments hold no
// secret. A failure says what the program said last.
Status mysql_program_run(const MysqlEngine *engine, const char *const *arguments,
                         const char *directory, int64_t timeout_ms, Error *error);

// engine_mysql_replica.c
Status mysql_replica_follow(Engine *engine, Error *error);
Status mysql_replica_position(Engine *engine, EngineProgress *ret_progress, bool *ret_is_caught_up,
                              Error *error);
Status mysql_replica_checkpoint_take(Engine *engine, const char *name, Checkpoint *ret_checkpoint,
                                     Error *error);
Status mysql_replica_replay_to(Engine *engine, const Checkpoint *checkpoint, int64_t stall_ms,
                               EngineProgressFunction on_progress, void *context, Error *error);
// Stops replication and forgets the source: nothing of it stays in the data directory.
Status mysql_replica_reset(MysqlEngine *engine, Error *error);
Status mysql_local_position(MysqlEngine *engine, char ret_position[1024], Error *error);
int64_t mysql_received_bytes(MysqlEngine *engine);
Status mysql_source_connect(MysqlEngine *engine, Error *error); // into engine->source
void mysql_source_close(MysqlEngine *engine);
Status mysql_source_identity(MysqlClient *source, bool is_mysql, char ret_identity[64],
                             Error *error);
Status mysql_source_position(MysqlClient *source, bool is_mysql, char ret_position[1024],
                             Error *error);

// engine_mysql_status.c: what a broken replication means
typedef struct MysqlReplicaStatus {
    bool is_receiver_running; // connected and reading
    bool is_receiver_stopped; // its thread is not there
    bool is_applier_running;
    int receiver_error;
    char receiver_message[512];
    int applier_error;
    char applier_message[512];
    char progress[512]; // changes whenever anything moves
} MysqlReplicaStatus;
Status mysql_replica_status(MysqlEngine *engine, MysqlReplicaStatus *ret_status, Error *error);
// REASON_NONE: worth trying again.
Reason mysql_receiver_reason(int number, const char *message);
Reason mysql_applier_reason(int number, const char *message);

// engine_mysql_probe.c
Status mysql_family_probe(bool is_mysql, const EngineSource *source, int64_t timeout_ms,
                          EngineInfo *ret_info, Error *error);

// Has the connected user this privilege on everything?
Status mysql_source_has_privilege(MysqlClient *source, const char *privilege, bool *ret_has,
                                  Error *error);

// engine_mysql_layout.c
Status mysql_family_layout(Engine *engine, Arena *arena, EngineLayout *ret_layout, Error *error);

// engine_mariadb_seed.c, engine_mariadb_copy.c, engine_mysql_seed.c
Status mariadb_seed(Engine *engine, EngineProgressFunction on_progress, void *context,
                    Error *error);
Status mysql_seed(Engine *engine, EngineProgressFunction on_progress, void *context, Error *error);
