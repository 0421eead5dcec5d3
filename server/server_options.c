// SPDX-License-Identifier: Apache-2.0
// Reading and checking the options; defaults that depend on other options.
#include "server/server_options.h"

#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const OptionSpec SPECS[] = {
#define OPTION(key, type, fallback, minimum, maximum, is_secret, help)                             \
    {key, OPTION_##type, fallback, minimum, maximum, is_secret, help},
#include "server/options.def"
#undef OPTION
};

static Status invalid(Error *error, const char *key, const char *message, const char *hint)
{
    error_set(error, REASON_OPTION_INVALID, "%s: %s", key, message);
    error_field(error, "%s", key);
    return error_hint(error, "%s", hint);
}

// "host:port" with a port of 0 to 65535; an IPv6 host in brackets.
static bool address_split(const char *address, char ret_host[256], int64_t *ret_port)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || (size_t)(colon - address) >= 256) {
        return false;
    }
    memcpy(ret_host, address, (size_t)(colon - address));
    ret_host[colon - address] = '\0';
    if (ret_host[0] != '[' && strchr(ret_host, ':') != NULL) {
        return false;
    }
    return text_to_int64(colon + 1, ret_port) && *ret_port >= 0 && *ret_port <= 65535;
}

static bool is_loopback(const char *host)
{
    return text_has_prefix(host, "127.") || text_equal(host, "localhost") ||
           text_equal(host, "[::1]");
}

static Status check_address(const OptionSet *set, const char *key, Error *error)
{
    char host[256];
    int64_t port = 0;
    if (!address_split(options_text(set, key), host, &port)) {
        return invalid(error, key, "this is not an address",
                       "write host:port, for example 127.0.0.1:8080");
    }
    return STATUS_OK;
}

// Tokens must not cross a network in the clear.
static Status check_listener(const OptionSet *set, const char *key, const char *certificate_key,
                             const char *key_key, Error *error)
{
    char host[256];
    int64_t port = 0;
    RETURN_IF_ERROR(check_address(set, key, error));
    (void)address_split(options_text(set, key), host, &port); // was checked
    bool has_certificate = options_text(set, certificate_key) != NULL;
    bool has_key = options_text(set, key_key) != NULL;
    if (has_certificate != has_key) {
        return invalid(error, has_key ? certificate_key : key_key, "it is missing",
                       "a TLS certificate and its key come together");
    }
    if (!has_certificate && !is_loopback(host) && !options_boolean(set, "insecure-listen")) {
        return invalid(
            error, key,
            "it can be reached from other machines, but has no TLS certificate, and tokens "
            "would cross the network in the clear",
            "give a certificate and key, listen on 127.0.0.1, or say insecure-listen=true "
            "when something in front of it does TLS");
    }
    return STATUS_OK;
}

static Status check_log(const OptionSet *set, Error *error)
{
    LogLevel level = LOG_INFO;
    if (!log_level_parse(options_text(set, "log-level"), &level)) {
        return invalid(error, "log-level", "there is no such level",
                       "choose debug, info, warning or error");
    }
    const char *format = options_text(set, "log-format");
    if (!text_equal(format, "json") && !text_equal(format, "text")) {
        return invalid(error, "log-format", "there is no such format", "choose json or text");
    }
    return STATUS_OK;
}

static Status check(const OptionSet *set, Error *error)
{
    RETURN_IF_ERROR(check_log(set, error));
    RETURN_IF_ERROR(check_address(set, "agent-address", error));
    RETURN_IF_ERROR(
        check_listener(set, "http-address", "http-tls-certificate", "http-tls-key", error));
    RETURN_IF_ERROR(
        check_listener(set, "grpc-address", "grpc-tls-certificate", "grpc-tls-key", error));
    if (text_is_empty(options_text(set, "data-dir"))) {
        return invalid(error, "data-dir", "it is empty", "name a directory");
    }
    return STATUS_OK;
}

static char *absolute(const char *path)
{
    char here[PATH_MAX];
    if (path[0] == '/' || getcwd(here, sizeof(here)) == NULL) {
        return string_copy(path);
    }
    return string_format("%s/%s", here, path);
}

// The given path, or `name` in the data directory.
static char *path_or(const ServerOptions *options, const char *key, const char *name)
{
    const char *given = options_text(&options->set, key);
    return given != NULL ? absolute(given) : string_format("%s/%s", options->data_directory, name);
}

// A file beside this program: where `name` is in an installation, or in the build's tree.
static char *beside_program(const char *name, const char *name_in_build)
{
    char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (size <= 0) {
        return string_copy(name);
    }
    path[size] = '\0';
    *strrchr(path, '/') = '\0';
    char *installed = string_format("%s/%s", path, name);
    if (access(installed, F_OK) == 0) {
        return installed;
    }
    char *built = string_format("%s/%s", path, name_in_build);
    if (access(built, F_OK) == 0) {
        mem_free(installed);
        return built;
    }
    mem_free(built);
    return installed;
}

static void fill_paths(ServerOptions *options)
{
    options->data_directory = absolute(options_text(&options->set, "data-dir"));
    size_t size = strlen(options->data_directory);
    while (size > 1 && options->data_directory[size - 1] == '/') {
        options->data_directory[--size] = '\0';
    }
    options->secret_key_file = path_or(options, "secret-key-file", "secret.key");
    options->admin_token_file = path_or(options, "admin-token-file", "admin-token");
    options->instance_directory = path_or(options, "instance-dir", "instances");
    const char *agent = options_text(&options->set, "agent-program");
    options->agent_program = agent != NULL
                                 ? absolute(agent)
                                 : beside_program("holdfast-agent", "../agent/holdfast-agent");
}

Status server_options_load(int argument_count, char **arguments, ServerOptions *ret_options,
                           char **ret_text, Error *error)
{
    ServerOptions options = {
        .set = {.program = "holdfastd",
                .environment = "HOLDFAST",
                .summary = "Control plane that backs up fleets of sharded databases",
                .specs = SPECS,
                .count = ARRAY_COUNT(SPECS)}};
    *ret_text = NULL;
    Status status = options_load(&options.set, argument_count, arguments, ret_text, error);
    if (status == STATUS_OK && *ret_text == NULL) {
        status = check(&options.set, error);
    }
    if (status != STATUS_OK || *ret_text != NULL) {
        server_options_done(&options);
        return status;
    }
    fill_paths(&options);
    // Children inherit the environment: agents and engines must not see what is ours alone.
    (void)unsetenv("HOLDFAST_DATABASE_URL");
    *ret_options = options;
    return STATUS_OK;
}

void server_options_done(ServerOptions *options)
{
    options_done(&options->set);
    mem_free(options->data_directory);
    mem_free(options->secret_key_file);
    mem_free(options->admin_token_file);
    mem_free(options->instance_directory);
    mem_free(options->agent_program);
    *options = (ServerOptions){0};
}
