// SPDX-License-Identifier: Apache-2.0
// Database engines as the agent uses them. An Engine works on one data directory that belongs to
// the agent alone, with a private socket only; it is driven by one thread. Long calls take a Cancel
// and end early with REASON_CANCELED; every wait is bounded. Nothing secret is ever put into
// arguments, logs or errors.
//
// The life of a backup:   probe → (seed | the repository materializes the parent) → start → follow
// → position ... →
//                         [checkpoint_take on the source] → replay_to → stop → layout (read and
//                         publish) → cleanup
// The life of a restore:  materialize → open (a standalone server, exactly at the checkpoint) or
// finish_directory
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/secret.h"
#include "recorder/recorder.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Engine Engine;

typedef struct EngineSource {
    const char *host;
    int port;
    const char *username;
    Secret password;
    const char *tls_mode;   // "disable", "prefer", "require", "verify-full"
    const char *tls_ca_pem; // or NULL
} EngineSource;

// Set by another thread; every engine loop looks at it at least every 200 ms.
typedef struct Cancel {
    atomic_bool is_requested;
} Cancel;

// Where the engine may put things and what it may use. Strings are borrowed for the engine's life.
typedef struct EngineOptions {
    const char *engine;         // "mariadb", "mysql", "postgresql"
    const char *data_directory; // the files that make a backup; created by seed or materialize
    const char *work_directory; // sockets, logs, relay files; short path (socket paths are limited
                                // to 107 bytes)
    const char *instance_id;    // used in names on the source (slots); [0-9a-f-]
    const char *shard_id;
    const char *program_directory; // where to look for the engine's programs first, or NULL:
                                   // well-known places and PATH
    int64_t memory_bytes;          // what the engine may use for buffers, about
    const char *agent_program; // our own executable: children are started through `<agent> --child
                               // PROGRAM ...`, which makes the kernel kill them when we die
    const Cancel *cancel;
    int64_t divide_bytes; // MariaDB's seed: a table this large, and a good part of the whole, is
                          // copied by several connections; 0: the default, 64 MiB
    const char
        *lineage_id;    // whose backups follow one another (the repository's id): logs since its
                        // newest backup are kept on the source; NULL: the shard's only lineage
    Recorder *recorder; // told of every process and of what the engine itself writes into the data
                        // directory, once it has begun; NULL: there is none
} EngineOptions;

typedef struct EngineProblem {
    Reason reason;
    char message[384]; // "the user lacks REPLICATION SLAVE"
    char cure[384];    // the statement or setting that fixes it: "GRANT REPLICATION SLAVE ON *.* TO
                       // 'holdfast'@'%';"
} EngineProblem;

#define ENGINE_PROBLEM_COUNT_MAX 16

typedef struct EngineInfo {
    char version[64];         // "10.11.19-MariaDB", "15.18"
    int version_number;       // 101119, 90704, 150018
    char server_identity[64]; // server_uuid, system identifier, or what is nearest: changes when it
                              // is another server
    char position[1024];      // current position: GTID set or LSN
    int64_t size_bytes;       // of the data, about
    bool has_page_checksums;
    EngineProblem problems[ENGINE_PROBLEM_COUNT_MAX];
    size_t problem_count; // 0: ready to be backed up
} EngineInfo;

// What is reported while seeding and replaying; any may be -1: unknown.
typedef struct EngineProgress {
    int64_t done_bytes,
        total_bytes;        // seed: received of the estimate; replay: bytes of log received so far
    int64_t received_bytes; // from the source over the network since the engine was opened, all
                            // purposes
    char position[1024];    // replayed up to here
} EngineProgress;
typedef void (*EngineProgressFunction)(void *context, const EngineProgress *progress);

// A moment in the source's history that replay can stop at exactly.
typedef struct Checkpoint {
    char position[1024]; // GTID set, or LSN
    char name[64];       // PostgreSQL: the restore point's name; others ""
    char server_identity[64];
    int64_t taken_us; // our clock, when the source answered
} Checkpoint;

// A file that makes a backup.
typedef struct EngineFile {
    const char *path; // relative to the data directory
    int64_t size_bytes;
    uint32_t mode;
    // Verifies the pages in `data` (`size` bytes at `offset`, page-aligned except at the end);
    // false sets *bad_page. NULL: no page checksums.
    bool (*check)(void *context, const uint8_t *data, size_t size, int64_t offset,
                  int64_t *bad_page);
    void *context;            // lives as long as the layout's arena
    uint32_t page_size_bytes; // of what check verifies, for counting; 0: the engine's usual one
} EngineFile;
typedef struct EngineLayout {
    EngineFile *files; // byte order of path
    size_t file_count;
    const char **directories; // relative, all of them, parents first
    size_t directory_count;
} EngineLayout;

// Connects to the source and says what it is and everything that is missing, by name and cure.
// Unreachable or refused is an error (SOURCE_UNREACHABLE, SOURCE_AUTHENTICATION, SOURCE_TLS); a
// missing privilege or setting is a problem. Changes nothing. Needs no Engine.
Status engine_probe(const char *engine, const EngineSource *source, int64_t timeout_ms,
                    EngineInfo *ret_info, Error *error);
// Removes what dead instances left on the source (replication slots of ours named for an instance
// that is not in `alive`). NULL-ended.
Status engine_clean_source(const char *engine, const EngineSource *source, const char *shard_id,
                           const char *const *alive, int *ret_removed, Error *error);
// Removes everything of ours on the source for this shard, also what is kept between backups. Call
// it when the shard is deleted.
Status engine_forget_source(const char *engine, const EngineSource *source, const char *shard_id,
                            Error *error);

Status engine_open(const EngineOptions *options, const EngineSource *source, Engine **ret_engine,
                   Error *error);
// Stops the engine at once if it runs, removes what it put on the source and its work files. Always
// succeeds; NULL is fine.
void engine_close(Engine *engine);

// First full copy, over the network, without stopping the source. Afterwards the data directory
// holds a state that start and follow go on from.
Status engine_seed(Engine *engine, EngineProgressFunction on_progress, void *context, Error *error);
// Before start, for a materialized parent: `engine_state` is the parent manifest's. Does the
// parent's version fit (ENGINE_VERSION)?
Status engine_adopt(Engine *engine, const char *parent_version, const char *engine_state,
                    Error *error);
// Starts on the data directory: private socket, no network listener. A parent that does not come up
// is PARENT_UNRESTORABLE (its log's last lines in the message).
Status engine_start(Engine *engine, Error *error);
// Begins replaying from the source. LOGS_GONE, SOURCE_DIVERGED (errant GTIDs, other timeline or
// system), ENGINE_VERSION, SOURCE_* are found here or by position.
Status engine_follow(Engine *engine, Error *error);
// Where replay is, and whether it has caught up with what the source had when asked (within
// seconds). Finds a broken follow: LOGS_GONE, SOURCE_CHANGED, REPLICATION_BROKEN... A source that
// restarts or fails over to a server that continues the same history is followed again for a
// bounded time, not an error.
Status engine_position(Engine *engine, EngineProgress *ret_progress, bool *ret_is_caught_up,
                       Error *error);
// Asks the source for a point to stop at: cheap, at once.
Status engine_checkpoint_take(Engine *engine, const char *name, Checkpoint *ret_checkpoint,
                              Error *error);
// Replays exactly to the checkpoint, not beyond. Bounded: no progress for `stall_ms` is
// REPLAY_STALLED.
Status engine_replay_to(Engine *engine, const Checkpoint *checkpoint, int64_t stall_ms,
                        EngineProgressFunction on_progress, void *context, Error *error);
// Stops cleanly; the directory is then a complete, consistent backup. `ret_engine_state`: JSON in
// the arena for the manifest (what adopt and open need).
Status engine_stop(Engine *engine, Arena *arena, const char **ret_engine_state, Error *error);
Status engine_layout(Engine *engine, Arena *arena, EngineLayout *ret_layout,
                     Error *error); // only when stopped
// The backup made from this engine is committed: logs that only older backups needed may go on the
// source (PostgreSQL advances the slot that keeps them). Call it after the commit and before
// engine_close; a failure only means that the source keeps more for longer.
Status engine_committed(Engine *engine, Error *error);

// Restore: brings a materialized directory to a state a person can use. `port` 0: only prepare the
// directory so that starting the engine by hand opens it read-write exactly at the checkpoint, and
// prove it by starting once privately and stopping. Otherwise: a running server on 127.0.0.1:port
// with the accounts of the backup, until engine_close. ret_started_ms: time from start to answering
// a query.
Status engine_serve(Engine *engine, const char *version, const char *engine_state, int port,
                    int64_t *ret_started_ms, Error *error);
// Is the served engine still there? ENGINE_FAILED otherwise.
Status engine_check_alive(Engine *engine, Error *error);
