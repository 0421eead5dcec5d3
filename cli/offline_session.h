// SPDX-License-Identifier: Apache-2.0
// What the commands that work on a repository itself share: their options, the opened repository, a
// progress bar.
#pragma once

#include "cli/cli_output.h"
#include "repository/repository.h"

#define OFFLINE_SHARD_COUNT_MAX 64
#define OFFLINE_WORD_COUNT_MAX 2

typedef struct OfflineOptions {
    const char *repository;                              // location
    const char *key_file;                                // or another location of a wrapping key
    const char *endpoint, *region, *ca_certificate_file; // of an object store
    bool is_path_style;
    const char *database; // name or id
    const char *backup;   // id, the start of one, or "latest"
    const char *target;
    const char *new_key_file;
    const char *confirm;
    const char *to, *to_key_file; // another repository
    const char *scratch;
    const char *sample, *state_file;
    const char *words[OFFLINE_WORD_COUNT_MAX]; // what is no option
    size_t word_count;
    const char *shards[OFFLINE_SHARD_COUNT_MAX]; // names or ids; none: all
    size_t shard_count;
    bool is_json, is_help;
    bool has_sizes, has_files;
} OfflineOptions;

// Reads "--name value" and "--name=value" from arguments[first] on. Texts are borrowed.
// HOLDFAST_REPOSITORY, HOLDFAST_KEY_FILE, HOLDFAST_STORE_ENDPOINT, HOLDFAST_STORE_REGION,
// HOLDFAST_STORE_CA_FILE and HOLDFAST_STORE_PATH_STYLE=true stand in for options that are not
// given.
Status offline_parse(int argument_count, char **arguments, int first, OfflineOptions *ret_options,
                     Error *error);
// The store at a location; the options of object stores go for all locations. Credentials come from
// where AWS's tools have theirs.
Status offline_open_storage(const OfflineOptions *options, const char *location,
                            Storage **ret_storage, Error *error);
Status offline_need(const char *value, const char *option, Error *error);
// Needs the location and the key file.
Status offline_open(const OfflineOptions *options, Repository **ret_repository, Error *error);

// A line on standard error that is drawn again in place, on a terminal. SIGINT and SIGTERM cancel.
typedef struct OfflineProgress {
    const char *label;
    bool is_shown;
    int64_t started_ms, drawn_ms;
} OfflineProgress;
void offline_progress_begin(OfflineProgress *progress, const Cli *cli, const char *label);
Progress offline_progress_callback(OfflineProgress *progress);
void offline_progress_end(OfflineProgress *progress);
void offline_watch_signals(void);

// Prints a failure and gives the exit code.
int offline_result(const Cli *cli, Status status, const Error *error);
