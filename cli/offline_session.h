// SPDX-License-Identifier: Apache-2.0
// What the commands that work on a repository itself share: their options and the opened
// repository.
#pragma once

#include "cli/cli_output.h"
#include "cli/offline_progress.h"
#include "repository/repository.h"

#define OFFLINE_SHARD_COUNT_MAX 64
#define OFFLINE_WORD_COUNT_MAX 2

// How to reach an object store. Secrets are in files only.
typedef struct OfflineStore {
    const char *endpoint, *region, *ca_certificate_file, *profile, *credential_file;
    bool is_path_style;
} OfflineStore;

typedef struct OfflineOptions {
    const char *repository; // location
    const char *key_file;   // or another location of a wrapping key
    OfflineStore store;
    const char *database; // name or id
    const char *backup;   // id, the start of one, or "latest"
    const char *target;
    const char *new_key_file;
    const char *confirm;
    const char *to, *to_key_file; // another repository
    OfflineStore to_store;
    const char *sample, *state_file;
    const char *jobs;
    const char *bandwidth, *cpus, *memory;
    const char *words[OFFLINE_WORD_COUNT_MAX]; // what is no option
    size_t word_count;
    const char *shards[OFFLINE_SHARD_COUNT_MAX]; // names or ids; none: all
    size_t shard_count;
    bool is_json, is_help;
    bool has_sizes, has_files;
    bool ignores_holds;
} OfflineOptions;

// Reads "--name value" and "--name=value" from arguments[first] on. Texts are borrowed.
// HOLDFAST_REPOSITORY, HOLDFAST_KEY_FILE, and for both stores HOLDFAST_STORE_... and
// HOLDFAST_TO_STORE_... (ENDPOINT, REGION, CA_FILE, PROFILE, CREDENTIAL_FILE, PATH_STYLE=true)
// stand in for options that are not given.
Status offline_parse(int argument_count, char **arguments, int first, OfflineOptions *ret_options,
                     Error *error);
// The store at a location. Without a file or a profile credentials come from where the cloud's own
// tools have theirs. Transfers are cut when the command is canceled, and go at the pace of the
// limits, which must outlive the store; NULL: as fast as they can.
Status offline_open_storage(const OfflineStore *store, const char *location, Limits *limits,
                            Storage **ret_storage, Error *error);
Status offline_need(const char *value, const char *option, Error *error);
// Needs the location and the key file. The limits as above.
Status offline_open(const OfflineOptions *options, Limits *limits, Repository **ret_repository,
                    Error *error);

// What --bandwidth and --cpus say, and --memory: 0 when it was not given. ret_limits is the
// caller's.
Status offline_limits(const OfflineOptions *options, Limits **ret_limits, int64_t *ret_memory_bytes,
                      Error *error);

// Prints a failure and gives the exit code.
int offline_result(const Cli *cli, Status status, const Error *error);
