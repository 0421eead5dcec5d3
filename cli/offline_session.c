// SPDX-License-Identifier: Apache-2.0
#include "cli/offline_session.h"

#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"

#include <stdlib.h>
#include <string.h>

#define CPU_COUNT_MAX 1024

#define STORE_OF_ENVIRONMENT(prefix)                                                               \
    {                                                                                              \
        .endpoint = getenv(prefix "ENDPOINT"), .region = getenv(prefix "REGION"),                  \
        .ca_certificate_file = getenv(prefix "CA_FILE"), .profile = getenv(prefix "PROFILE"),      \
        .credential_file = getenv(prefix "CREDENTIAL_FILE"),                                       \
        .is_path_style = text_equal(getenv(prefix "PATH_STYLE"), "true"),                          \
    }

typedef struct OptionPlace {
    const char *name;
    const char **value;
} OptionPlace;

// "--name=value" or "--name value"; moves *index over what it takes.
static Status take_value(int argument_count, char **arguments, int *index, size_t name_size,
                         const char **ret_value, Error *error)
{
    const char *argument = arguments[*index];
    if (argument[name_size] == '=') {
        *ret_value = argument + name_size + 1;
        return STATUS_OK;
    }
    if (*index + 1 >= argument_count) {
        return error_set(error, REASON_INVALID, "%s needs a value", argument);
    }
    *ret_value = arguments[++*index];
    return STATUS_OK;
}

static Status parse_one(int argument_count, char **arguments, int *index, OfflineOptions *options,
                        Error *error)
{
    const char *output = NULL;
    const char *shard = NULL;
    const OptionPlace places[] = {
        {"--repository", &options->repository},
        {"--key-file", &options->key_file},
        {"--database", &options->database},
        {"--backup", &options->backup},
        {"--target", &options->target},
        {"--new-key-file", &options->new_key_file},
        {"--confirm", &options->confirm},
        {"--to", &options->to},
        {"--to-key-file", &options->to_key_file},
        {"--sample", &options->sample},
        {"--jobs", &options->jobs},
        {"--bandwidth", &options->bandwidth},
        {"--cpus", &options->cpus},
        {"--memory", &options->memory},
        {"--state", &options->state_file},
        {"--endpoint", &options->store.endpoint},
        {"--region", &options->store.region},
        {"--ca-certificate-file", &options->store.ca_certificate_file},
        {"--profile", &options->store.profile},
        {"--credential-file", &options->store.credential_file},
        {"--to-endpoint", &options->to_store.endpoint},
        {"--to-region", &options->to_store.region},
        {"--to-ca-certificate-file", &options->to_store.ca_certificate_file},
        {"--to-profile", &options->to_store.profile},
        {"--to-credential-file", &options->to_store.credential_file},
        {"--output", &output},
        {"--shard", &shard},
    };
    const char *argument = arguments[*index];
    size_t name_size = strcspn(argument, "=");
    size_t place = 0;
    while (place < ARRAY_COUNT(places) && (strlen(places[place].name) != name_size ||
                                           strncmp(places[place].name, argument, name_size) != 0)) {
        place++;
    }
    if (place == ARRAY_COUNT(places)) {
        error_set(error, REASON_INVALID, "'%s' is not an option of this command", argument);
        return error_hint(error, "--help lists them");
    }
    RETURN_IF_ERROR(
        take_value(argument_count, arguments, index, name_size, places[place].value, error));
    if (output != NULL && !text_equal(output, "json") && !text_equal(output, "table")) {
        return error_set(error, REASON_INVALID, "--output is table or json, not '%s'", output);
    }
    options->is_json = output != NULL ? text_equal(output, "json") : options->is_json;
    if (shard != NULL) {
        if (options->shard_count == OFFLINE_SHARD_COUNT_MAX) {
            return error_set(error, REASON_EXHAUSTED, "at most %d shards can be named",
                             OFFLINE_SHARD_COUNT_MAX);
        }
        options->shards[options->shard_count++] = shard;
    }
    return STATUS_OK;
}

static Status take_word(OfflineOptions *options, const char *word, Error *error)
{
    if (options->word_count == OFFLINE_WORD_COUNT_MAX) {
        return error_set(error, REASON_INVALID, "'%s' is one word too many", word);
    }
    options->words[options->word_count++] = word;
    return STATUS_OK;
}

Status offline_parse(int argument_count, char **arguments, int first, OfflineOptions *ret_options,
                     Error *error)
{
    OfflineOptions options = {
        .repository = getenv("HOLDFAST_REPOSITORY"),
        .key_file = getenv("HOLDFAST_KEY_FILE"),
        .store = STORE_OF_ENVIRONMENT("HOLDFAST_STORE_"),
        .to_store = STORE_OF_ENVIRONMENT("HOLDFAST_TO_STORE_"),
    };
    for (int index = first; index < argument_count; index++) {
        if (text_equal(arguments[index], "--help") || text_equal(arguments[index], "-h")) {
            options.is_help = true;
        } else if (text_equal(arguments[index], "--sizes")) {
            options.has_sizes = true;
        } else if (text_equal(arguments[index], "--files")) {
            options.has_files = true;
        } else if (text_equal(arguments[index], "--ignore-holds")) {
            options.ignores_holds = true;
        } else if (arguments[index][0] != '-') {
            RETURN_IF_ERROR(take_word(&options, arguments[index], error));
        } else if (text_equal(arguments[index], "--path-style")) {
            options.store.is_path_style = true;
        } else if (text_equal(arguments[index], "--to-path-style")) {
            options.to_store.is_path_style = true;
        } else if (!text_equal(arguments[index], "--offline") &&
                   !text_equal(arguments[index], "--plain")) {
            RETURN_IF_ERROR(parse_one(argument_count, arguments, &index, &options, error));
        }
    }
    *ret_options = options;
    return STATUS_OK;
}

Status offline_need(const char *value, const char *option, Error *error)
{
    if (text_is_empty(value)) {
        error_set(error, REASON_INVALID, "%s is needed", option);
        return error_hint(error, "--help says what for");
    }
    return STATUS_OK;
}

Status offline_open_storage(const OfflineStore *store, const char *location, Limits *limits,
                            Storage **ret_storage, Error *error)
{
    CLEANUP_FREE char *ca_pem = NULL;
    size_t size = 0;
    if (!text_is_empty(store->ca_certificate_file)) {
        RETURN_IF_ERROR(
            file_read(store->ca_certificate_file, LIMIT_FILE_BYTES, &ca_pem, &size, error));
    }
    return storage_open(&(StorageOptions){.location = location,
                                          .endpoint = store->endpoint,
                                          .region = store->region,
                                          .is_path_style = store->is_path_style,
                                          .profile = store->profile,
                                          .credential_file = store->credential_file,
                                          .limits = {.is_canceled = offline_cancel(),
                                                     .pace = limits != NULL ? limits_pace : NULL,
                                                     .pace_context = limits},
                                          .ca_pem = ca_pem},
                        ret_storage, error);
}

Status offline_open(const OfflineOptions *options, Limits *limits, Repository **ret_repository,
                    Error *error)
{
    RETURN_IF_ERROR(offline_need(options->repository, "--repository", error));
    RETURN_IF_ERROR(offline_need(options->key_file, "--key-file", error));
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    Storage *storage = NULL;
    RETURN_IF_ERROR(key_wrapper_open(options->key_file, &wrapper, error));
    RETURN_IF_ERROR(
        offline_open_storage(&options->store, options->repository, limits, &storage, error));
    return repository_open(storage, TAKE_PTR(wrapper), ret_repository, error);
}

// A number of bytes from `minimum` on; 0 when nothing is given.
static Status take_bytes(const char *option, const char *text, int64_t minimum, int64_t *ret_bytes,
                         Error *error)
{
    *ret_bytes = 0;
    if (text == NULL || (text_to_bytes(text, ret_bytes) && *ret_bytes >= minimum)) {
        return STATUS_OK;
    }
    error_set(error, REASON_INVALID, "%s is at least %lldKiB, not '%s'", option,
              (long long)(minimum / 1024), text);
    return error_hint(error, "for example 20MiB for --bandwidth (a second), 256MiB for --memory");
}

Status offline_limits(const OfflineOptions *options, Limits **ret_limits, int64_t *ret_memory_bytes,
                      Error *error)
{
    int64_t bytes_per_second = 0;
    int64_t cpu_count = 0;
    RETURN_IF_ERROR(take_bytes("--bandwidth", options->bandwidth, REPOSITORY_BANDWIDTH_MIN,
                               &bytes_per_second, error));
    RETURN_IF_ERROR(take_bytes("--memory", options->memory, REPOSITORY_MEMORY_BYTES_MIN,
                               ret_memory_bytes, error));
    if (options->cpus != NULL &&
        (!text_to_int64(options->cpus, &cpu_count) || cpu_count < 1 || cpu_count > CPU_COUNT_MAX)) {
        return error_set(error, REASON_INVALID, "--cpus is 1 to %d, not '%s'", CPU_COUNT_MAX,
                         options->cpus);
    }
    Limits *limits = limits_new();
    limits_set_cpus(limits, (int)cpu_count);
    limits_set_bandwidth(limits, bytes_per_second, bytes_per_second);
    *ret_limits = limits;
    return STATUS_OK;
}

int offline_result(const Cli *cli, Status status, const Error *error)
{
    if (status != STATUS_OK && error->message[0] != '\0') {
        (void)fflush(stdout);
        output_error(cli, error);
    }
    return status_exit_code(status);
}
