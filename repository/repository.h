// SPDX-License-Identifier: Apache-2.0
// A repository: encrypted backups in object storage, format version 1 (docs/repository-format.md).
//
// Everything needed to restore is here and in the key file: no server, no PostgreSQL. Objects are
// immutable.
//   repository                                    what this is: format and id
//   wrapping-keys/<wrapping id>                   a key that opens it: a key file's or a service's
//   keys/<database id>/<key id>                   says that there is this data key
//   keys/<database id>/<key id>.<wrapping id>     the data key, wrapped by such a key
//   shards/<shard id>/packs/<epoch>-<pack id>     extents and map nodes, sealed
//   shards/<shard id>/packs/<pack's name>.<nn>    what is left of a pack that was made smaller
//   shards/<shard id>/manifests/<manifest id>     the root of one shard backup; the id starts with
//   the epoch sets/<database id>/<backup id>                which manifests make a backup
//   reach/<shard id>/<number>                     what sweeps have found out; no backup needs it
// Ids are UUID texts; epochs are 8 hex digits. A Repository is thread-safe; sessions are one thread
// at a time.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"
#include "common/secret.h"
#include "repository/key_wrapper.h"
#include "storage/storage.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct Repository Repository;

#define REPOSITORY_FORMAT_VERSION 1
#define REPOSITORY_EXTENT_SIZE (32 * 1024)
#define MANIFEST_ID_SIZE 46 // "eeeeeeee-uuid" and the NUL

// --- opening ---
// Takes ownership of storage and wrapper, also on failure. Without a wrapper the repository gives
// no data keys: that is for an agent, which is handed them.
Status repository_create(Storage *storage, KeyWrapper *wrapper, Repository **ret_repository,
                         Error *error); // REASON_EXISTS
// REASON_REPOSITORY_MISSING, _FORMAT, REASON_KEY_WRONG when the wrapping key is not one of the
// repository's.
Status repository_open(Storage *storage, KeyWrapper *wrapper, Repository **ret_repository,
                       Error *error);
void repository_free(Repository *repository);
void repository_freep(Repository **repository);
const char *repository_id(const Repository *repository);
Storage *repository_storage(Repository *repository);          // borrowed
const KeyWrapper *repository_wrapper(Repository *repository); // borrowed; NULL: none

// --- data keys ---
// The newest data key of a database that the wrapping key opens; with may_create one is made (and
// durably stored) when there is none. Needs the wrapping key.
typedef struct DataKey {
    char id[37];
    Secret bytes; // AES256_KEY_SIZE
} DataKey;
Status repository_data_key(Repository *repository, const char *database_id, bool may_create,
                           DataKey *ret_key, Error *error);
// REASON_KEY_MISSING says why: never there, destroyed and when, wrapped by another key.
Status repository_data_key_by_id(Repository *repository, const char *database_id,
                                 const char *key_id, DataKey *ret_key, Error *error);
// Makes another data key, for the seeds from now on; what is there keeps its key.
Status repository_data_key_renew(Repository *repository, const char *database_id, DataKey *ret_key,
                                 Error *error);
// Every data key that there ever was, by database and id; in the arena. can_open: the wrapping key
// is one of those that it is wrapped by.
typedef struct DataKeyFacts {
    char database_id[37], key_id[37];
    int64_t created_us; // 0: its record is missing
    bool is_destroyed, can_open;
    const char *wrapped_by; // wrapping ids, joined by ", "
} DataKeyFacts;
Status repository_data_key_list(Repository *repository, Arena *arena, DataKeyFacts **ret_facts,
                                size_t *ret_count, Error *error);
void data_key_done(DataKey *key);
DataKey data_key_copy(const DataKey *key);

// --- another wrapping key ---
// Both steps may be killed and repeated at any point, and neither touches data: at every moment one
// of the two keys opens everything. `storage` and the wrappers are borrowed.
typedef struct RotateResult {
    int64_t key_count;       // data keys that are not destroyed
    int64_t rewrapped_count; // by this call
    int64_t removed_count;   // wrappings by the old key
    int64_t lost_count;      // data keys that neither key opens
} RotateResult;
// Wraps every data key by `to` as well and makes it a key of the repository.
Status repository_add_wrapping_key(Storage *storage, KeyWrapper *from, KeyWrapper *to,
                                   RotateResult *ret_result, Error *error);
// Makes `from` a key that opens nothing. REASON_PRECONDITION when `to` is not a key of the
// repository. Who has the repository open with `from` must open it with `to`.
Status repository_remove_wrapping_key(Storage *storage, KeyWrapper *from, KeyWrapper *to,
                                      RotateResult *ret_result, Error *error);

// Destroys a database's data keys (or one of them): nothing that was sealed with them can be read
// by anybody any more. That it happened, and when, stays written. Needs no wrapping key. A place
// that keeps old versions of objects keeps wrapped keys too.
typedef struct DestroyResult {
    int64_t key_count, wrapping_count; // destroyed by this call
} DestroyResult;
Status repository_destroy_data_keys(Repository *repository, const char *database_id,
                                    const char *key_id, DestroyResult *ret_result, Error *error);

// --- manifests ---
typedef struct Manifest {
    char id[MANIFEST_ID_SIZE];
    char repository_id[37], database_id[37], shard_id[37], key_id[37];
    const char *database_name, *shard_name;
    const char *engine;         // "mariadb"
    const char *engine_version; // "10.11.19"
    const char *checkpoint;     // engine's own text: GTID set, LSN
    const char *engine_state;   // JSON text private to the engine driver (e.g. restore point name,
                                // timeline, system id)
    const char *parent_id;      // "" for a seed
    const char *parent_digest;  // hex SHA-256 of the parent manifest object, or ""
    const char *origin_digest;  // digest of the manifest that this is a copy of, or ""
    int32_t generation;
    int64_t created_us;
    int64_t file_count, size_bytes; // what a restore writes
    int64_t new_bytes;              // plain bytes of extents that were not in the parent
    int64_t stored_bytes;           // what this backup's packs added to the repository
    int64_t resumed_bytes;          // of new_bytes, what dead attempts had stored already
    int64_t read_bytes;             // read from the data directory to publish it
    int64_t unrecorded_bytes;       // see PublishOptions.reads_everything
    char digest[65]; // hex SHA-256 of this manifest object; set on read and by publish
    int64_t directory_count;
    int64_t data_bytes; // of size_bytes, what is not all zeros: what a restore takes on disk
    int32_t list_level; // private: where the file list is, and how its maps are made
    uint8_t list_root[56];
    int32_t map_fan_out;
} Manifest;
Status manifest_read(Repository *repository, const DataKey *key, const char *shard_id,
                     const char *manifest_id, Arena *arena, Manifest **ret_manifest, Error *error);
// The data key that a manifest says it is sealed with, which its children are sealed with too.
// Needs the wrapping key. database_id NULL: the one that the manifest says.
Status manifest_data_key(Repository *repository, const char *database_id, const char *shard_id,
                         const char *manifest_id, DataKey *ret_key, Error *error);
// As manifest_read, with the data key that the manifest names (needs the wrapping key). ret_key is
// the caller's to end.
Status manifest_open(Repository *repository, const char *database_id, const char *shard_id,
                     const char *manifest_id, Arena *arena, DataKey *ret_key,
                     Manifest **ret_manifest, Error *error);

// --- progress ---
// Called from the calling thread now and then, several times a second; false cancels: the operation
// ends with REASON_CANCELED.
typedef struct Progress {
    bool (*on_progress)(void *context, int64_t done_bytes, int64_t total_bytes);
    void *context;
} Progress;

// --- limits ---
// What operations may use. One may be shared by any number of them, also of several threads, and
// changed while they run. Thread-safe; must outlive what uses it.
typedef struct Limits Limits;
Limits *limits_new(void); // every processor, no limit of bandwidth
void limits_free(Limits *limits);
void limits_freep(Limits **limits);
// How many threads hash, compress and decompress at once; 0: as many as there are processors.
void limits_set_cpus(Limits *limits, int cpu_count);
// Bytes a second to and from the repository; 0: no limit. They hold on average over some seconds: a
// pack (16 MiB) goes out at once. Reading a parent's map is not counted.
void limits_set_bandwidth(Limits *limits, int64_t upload_bytes_per_second,
                          int64_t download_bytes_per_second);
// As StorageLimits.pace of the repository's Storage, with the Limits as context: then a pack goes
// out, or comes in, at that rate too (or at a MiB a second, when that is more), and everything
// that is read is counted.
void limits_pace(void *context, bool is_upload, size_t size);
#define REPOSITORY_BANDWIDTH_MIN (INT64_C(64) * 1024) // less cannot be meant: a pack in minutes
#define REPOSITORY_MEMORY_BYTES (INT64_C(256) * 1024 * 1024) // the default for one operation
#define REPOSITORY_MEMORY_BYTES_MIN (INT64_C(64) * 1024 * 1024)

// --- node cache ---
// What a materialize has read of a backup's maps and lists, for the publish that follows it on the
// same machine: otherwise every node that changes is fetched once more. In a file without a name
// in `directory`, of at most 2 GiB; a full disk only makes it keep less. Thread-safe.
typedef struct NodeCache NodeCache;
Status node_cache_new(const char *directory, NodeCache **ret_cache, Error *error);
void node_cache_free(NodeCache *cache); // NULL is fine

// --- publish ---
// One file of the data directory, in byte order of path. The callbacks are called from several
// threads at once.
typedef struct SourceFile {
    const char *path; // relative, '/'-separated, no "." or ".." segments
    int64_t size_bytes;
    uint32_t mode;
    // Verifies one extent's pages as it is read: NULL, or returns false and fills `bad_page` with
    // the page number within the file.
    bool (*check)(void *context, const uint8_t *data, size_t size, int64_t offset,
                  int64_t *bad_page);
    void *context;
    // What was written since the parent was restored here. NULL: anything may have been, and the
    // whole file is read. Else false promises: each of the `size` bytes from `offset`, as far as it
    // lies both in this file and in the parent's file of this path, is what the parent's file has
    // there. They are then neither read nor checked, and the parent's blobs are named. "Maybe" is
    // true. It is asked for ranges within the file, also for large ones, and may be asked for a
    // range again; it should be quick. What lies beyond the parent's size is read without asking.
    // So growth needs no mark; but where a file was cut and grew again, all from the cut is
    // written. A file that came to its path by a rename is compared with what the parent had at
    // that path: unless it is the same file, all of it is written.
    bool (*is_written)(void *written_context, int64_t offset, int64_t size);
    void *written_context;
} SourceFile;

typedef struct PublishSource PublishSource; // private
typedef struct PublishOptions {
    const char *directory;       // the stopped engine's data directory
    const PublishSource *source; // private: where the files are instead; NULL: in the directory
    const SourceFile *files;
    size_t file_count;
    const char *const *directories; // every directory to recreate, relative, also empty ones
    size_t directory_count;
    uint32_t epoch;
    const Manifest *parent; // NULL for a seed
    Manifest
        manifest; // names, engine, checkpoint, generation ...; ids and statistics are filled in
    int compression_level; // zstd
    // Reads everything, whatever is_written says, and counts in the manifest's unrecorded_bytes
    // what differs from the parent without being said to be written. The backup is right either
    // way; more than 0 says that is_written must not be believed on this machine.
    bool reads_everything;
    // Extents in packs of this shard with these epochs, up to `epoch`, are named instead of stored
    // again: what attempts that died have uploaded. The caller promises that no sweep removes or
    // compacts packs of these epochs until the manifest is kept or this attempt has ended (its
    // protect_epoch_min is at most resume_epoch_min). 0: there were none.
    uint32_t resume_epoch_min, resume_epoch_max;
    Limits *limits;        // NULL: those of limits_new
    int64_t memory_bytes;  // for buffers, whatever the size of the shard; 0: the default
    NodeCache *node_cache; // borrowed; NULL: none
    Progress progress;
} PublishOptions;
// Writes packs with what is new against the parent, then the manifest by conditional create. A page
// that fails its check is REASON_PAGE_CORRUPT with file and page. On failure nothing counts as a
// backup; the packs written are orphans for the sweep.
Status repository_publish(Repository *repository, const DataKey *key, const PublishOptions *options,
                          Arena *arena, Manifest **ret_manifest, Error *error);

// --- materialize ---
// A file of this name in a directory says on whose behalf it is being filled; it counts as empty.
#define REPOSITORY_TARGET_MARK ".holdfast-restore"
// Writes a shard backup's files into an empty (or missing) directory; every byte is authenticated;
// durable on OK, unless is_scratch. Damage: REASON_OBJECT_MISSING or REASON_OBJECT_CORRUPT naming
// object and file. REASON_TARGET_NOT_EMPTY, REASON_DISK_FULL (checked before the first byte too).
typedef struct MaterializeOptions {
    Limits *limits;        // NULL: those of limits_new
    int64_t memory_bytes;  // for buffers, whatever the size of the shard; 0: the default
    bool is_scratch;       // what a crash of the machine may take: waits for no disk
    NodeCache *node_cache; // borrowed; NULL: none
    Progress progress;
} MaterializeOptions;
typedef struct MaterializeResult {
    int64_t size_bytes, read_bytes; // written to disk; fetched from storage
} MaterializeResult;
Status repository_materialize(Repository *repository, const DataKey *key, const Manifest *manifest,
                              const char *directory, const MaterializeOptions *options,
                              MaterializeResult *ret_result, Error *error);

// --- sets: what a backup is ---
typedef struct SetShard {
    char shard_id[37];
    const char *shard_name;
    char manifest_id[MANIFEST_ID_SIZE];
    char manifest_digest[65];
    const char *checkpoint;
} SetShard;
typedef struct BackupSet {
    char backup_id[37], database_id[37], key_id[37];
    const char *database_name, *engine;
    int64_t created_us;
    bool is_complete; // every shard of the database is in it
    SetShard *shards;
    size_t shard_count;
} BackupSet;
// Idempotent: the same set again succeeds; another one under that id is REASON_EXISTS.
Status backup_set_write(Repository *repository, const DataKey *key, const BackupSet *set,
                        Error *error);
Status backup_set_read(Repository *repository, const char *database_id, const char *backup_id,
                       Arena *arena, BackupSet **ret_set, Error *error); // needs the wrapping key
// Every set of every database, oldest first. Needs the wrapping key. Unreadable ones are
// REASON_OBJECT_CORRUPT.
Status backup_set_list(Repository *repository, Arena *arena, BackupSet ***ret_sets,
                       size_t *ret_count, Error *error);
// The same without those that cannot be opened: on_unreadable hears why of each.
Status backup_set_scan(Repository *repository, Arena *arena,
                       void (*on_unreadable)(void *context, const char *database_id,
                                             const char *backup_id, const Error *error),
                       void *context, BackupSet ***ret_sets, size_t *ret_count, Error *error);
Status backup_set_remove(Repository *repository, const char *database_id, const char *backup_id,
                         Error *error);
// With a call for a thousand. ret_are_locked: those that the store keeps for now.
Status backup_set_remove_many(Repository *repository, const char *database_id,
                              const char *const *backup_ids, size_t count, bool *ret_are_locked,
                              Error *error);

// --- looking ---
// The files of a shard backup, in byte order of path.
Status repository_list_files(Repository *repository, const DataKey *key, const Manifest *manifest,
                             void (*on_file)(void *context, const char *path, int64_t size_bytes,
                                             uint32_t mode),
                             void *context, Error *error);

typedef enum FileChange { FILE_SAME, FILE_CHANGED, FILE_ADDED, FILE_REMOVED } FileChange;
typedef struct FileDifference {
    const char *path; // borrowed for the call
    FileChange change;
    int64_t old_size_bytes, new_size_bytes;
    int64_t changed_bytes; // of the new file: extents that the old one does not have at their place
} FileDifference;
typedef struct DiffResult {
    int64_t file_counts[4]; // by FileChange
    int64_t changed_bytes;
} DiffResult;
// What differs between two backups of one shard, from lists and maps: no extent is read. on_file
// hears of every file that is not the same. REASON_PRECONDITION for backups of different data keys:
// their maps say nothing of each other.
Status repository_diff(Repository *repository, const DataKey *key, const Manifest *before,
                       const Manifest *after, Progress progress,
                       void (*on_file)(void *context, const FileDifference *difference),
                       void *context, DiffResult *ret_result, Error *error);

// The highest epoch of any pack or manifest of a shard; 0 when there is none. Lists them all.
Status repository_shard_epoch(Repository *repository, const char *shard_id, uint32_t *ret_epoch,
                              Error *error);

// --- copy ---
typedef struct CopyOptions {
    const BackupSet *set; // of the source
    // Of the target: what it has of the shards is not stored again, and not read where the source
    // has its original; or NULL.
    const BackupSet *parent;
    Limits *limits;       // of both repositories; NULL: those of limits_new
    int64_t memory_bytes; // as of PublishOptions
    Progress progress;    // of each shard in turn
} CopyOptions;
typedef struct CopyResult {
    bool is_there_already;
    int64_t read_bytes, stored_bytes; // extents from the source, packs to the target
} CopyResult;
// Copies a backup to another repository, sealed anew under the target's keys. The copy has the same
// ids of backup, database and shards; ret_set is the target's, in the arena. A backup that the
// target has is not copied again, nor are shards and extents that a copy has stored which was
// stopped. The target must not be swept meanwhile.
Status repository_copy_backup(Repository *source, Repository *target, const CopyOptions *options,
                              Arena *arena, BackupSet **ret_set, CopyResult *ret_result,
                              Error *error);

// --- check and sweep ---
typedef struct CheckReport {
    int64_t set_count, manifest_count, object_count, extent_count, read_bytes, orphan_count,
        orphan_bytes;
    int64_t unread_count; // packs that are there and that a sample left out
    int64_t problem_count;
} CheckReport;
typedef struct CheckOptions {
    Limits *limits;       // of bandwidth and processors, for packs; NULL: none
    int64_t memory_bytes; // 0: REPOSITORY_MEMORY_BYTES; what maps reach may need more
    Progress progress;
    void (*on_problem)(void *context, const char *object, const Error *problem); // or NULL
    // Called after each shard, with the report up to it: where a check that is stopped may go on.
    void (*on_shard)(void *context, const char *shard_id, const CheckReport *report); // or NULL
    void *context;
    const char *after_shard_id; // leaves out the shards up to this one; NULL: none
    int sample_percent; // reads about so many of every 100 packs, chosen at random; 0: all. Maps
                        // are walked, and every pack must be there, in any case
} CheckOptions;
// Reads and authenticates everything reachable from every set, and compares each manifest with what
// its children say of it. `on_problem` hears each problem, in the calling thread and in an order
// that does not depend on time; the status is OK when the check itself could run to the end.
Status repository_check(Repository *repository, Progress progress,
                        void (*on_problem)(void *context, const char *object, const Error *problem),
                        void *context, CheckReport *ret_report, Error *error);
Status repository_check_with(Repository *repository, const CheckOptions *options,
                             CheckReport *ret_report, Error *error);

// Deletes a shard's manifests that are not in `keep`, then its packs that no kept manifest reaches,
// and makes packs smaller of which kept manifests need less than half: what is needed is written to
// a replacement, then the older object is deleted. Restores that run at that time go on.
// Objects whose epoch is in [protect_epoch_min, ...] are never touched (a running attempt may own
// them; UINT32_MAX: none runs). Manifests that running attempts or readers use must be in `keep`.
// What an attempt that ended without a commit has left waits until it is grace_us old. What the
// store keeps locked stays, and the next sweep tries it again.
// Safe to repeat and to be killed anywhere. With is_dry_run it only counts.
// Cost: what the manifests that came or went since the last sweep differ from their neighbours, one
// listing, and a delete call for a thousand objects. Memory: 64 MiB and some 500 bytes for a pack.
typedef struct SweepOptions {
    const char *shard_id;
    const char *const *keep; // manifest ids
    size_t keep_count;
    uint32_t protect_epoch_min;
    const uint32_t *abandoned; // epochs of attempts that ended without a commit, ascending
    size_t abandoned_count;
    int64_t now_us, grace_us;
    // Frees also the last part (at most a sixteenth of the oldest kept manifest) of what others
    // leave listed for its cost.
    bool is_thorough;
    int64_t small_bytes; // for tests: 0 is 256 MiB; manifests that reach less are simply walked
    bool is_dry_run;
} SweepOptions;
typedef struct SweepResult {
    int64_t removed_count, kept_count; // a pack counts once, whatever it was replaced by
    int64_t compacted_count;           // of the kept ones
    int64_t removed_bytes;             // freed: of a compacted pack, what it takes less than before
    int64_t kept_bytes;
    int64_t waiting_count, waiting_bytes; // of the kept ones: left by attempts, not old enough
    int64_t locked_count, locked_bytes;   // not removed because the store keeps them
    int64_t locked_until_us;              // when the first of them can go; 0: not known
    int64_t walked_count;                 // manifests that no earlier sweep had walked
} SweepResult;
// ret_result says also after a failure what was done until then.
Status repository_sweep_shard(Repository *repository, const DataKey *key,
                              const SweepOptions *options, SweepResult *ret_result, Error *error);
