// SPDX-License-Identifier: Apache-2.0
// holdfast: the command line client.
#include "cli/cli_output.h"
#include "cli/command_parse.h"
#include "cli/command_run.h"
#include "cli/help_commands.h"
#include "cli/offline.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVER_DEFAULT "http://127.0.0.1:8080"

static const char *option_or_environment(const char *value, const char *variable)
{
    if (value != NULL) {
        return value;
    }
    value = getenv(variable);
    return text_is_empty(value) ? NULL : value;
}

static Status read_token(Cli *cli, const GlobalOptions *globals, Error *error)
{
    const char *path = globals->token_file;
    const char *token = getenv("HOLDFAST_TOKEN");
    if (path == NULL && !text_is_empty(token)) {
        cli->token = secret_from_text(token);
        return STATUS_OK;
    }
    path = option_or_environment(path, "HOLDFAST_TOKEN_FILE");
    if (path == NULL) {
        return STATUS_OK;
    }
    char *text = NULL;
    size_t size = 0;
    if (file_read(path, LIMIT_TEXT_BYTES, &text, &size, error) != STATUS_OK) {
        return error_wrap(error, "reading the token");
    }
    text[strcspn(text, " \t\r\n")] = '\0';
    cli->token = secret_from_text(text);
    secret_wipe_text(text);
    mem_free(text);
    return STATUS_OK;
}

static Status configure(Cli *cli, const GlobalOptions *globals, Error *error)
{
    const char *server = option_or_environment(globals->server, "HOLDFAST_SERVER");
    char *address = arena_string(cli->arena, server == NULL ? SERVER_DEFAULT : server);
    size_t size = strlen(address);
    while (size > 0 && address[size - 1] == '/') {
        address[--size] = '\0';
    }
    if (!text_has_prefix(address, "http://") && !text_has_prefix(address, "https://")) {
        (void)error_set(error, REASON_INVALID, "the server '%s' is not an http or https address",
                        address);
        return error_hint(error, "for example %s", SERVER_DEFAULT);
    }
    cli->server = address;
    cli->ca_path = option_or_environment(globals->ca_file, "HOLDFAST_CA_FILE");
    if (globals->output != NULL && !text_equal(globals->output, "table") &&
        !text_equal(globals->output, "json")) {
        return error_set(error, REASON_INVALID, "--output is table or json, not '%s'",
                         globals->output);
    }
    cli->is_json = text_equal(globals->output, "json");
    cli->is_terminal = isatty(STDOUT_FILENO) == 1 && !text_equal(getenv("TERM"), "dumb");
    cli->has_color = cli->is_terminal && !globals->is_plain && text_is_empty(getenv("NO_COLOR"));
    return read_token(cli, globals, error);
}

static Status run(Cli *cli, int argument_count, char **arguments, Error *error)
{
    GlobalOptions globals;
    Invocation *invocation = arena_alloc(cli->arena, sizeof(*invocation));
    const char *group = NULL;
    RETURN_IF_ERROR(command_parse(argument_count, arguments, &globals, invocation, &group, error));
    if (globals.is_version) {
        (void)printf("holdfast %s\n", HOLDFAST_VERSION); // main looks whether it was written
        return STATUS_OK;
    }
    if (invocation->command == NULL || globals.is_help) {
        // Asked for, help is the answer; else it is what one gets for not saying enough.
        FILE *file = globals.is_help ? stdout : stderr;
        if (invocation->command != NULL) {
            help_print_command(file, invocation->command);
        } else if (group != NULL) {
            help_print_group(file, group);
        } else {
            help_print_all(file);
        }
        return globals.is_help ? STATUS_OK : STATUS_INVALID_ARGUMENT;
    }
    RETURN_IF_ERROR(command_check(invocation, error));
    RETURN_IF_ERROR(configure(cli, &globals, error));
    return command_run(cli, invocation, error);
}

int main(int argument_count, char **arguments)
{
    (void)setlocale(LC_CTYPE, "");
    (void)signal(SIGPIPE, SIG_IGN);
    log_configure(LOG_WARNING, LOG_FORMAT_TEXT, "holdfast");
    if (offline_is_meant(argument_count, arguments)) {
        return offline_run(argument_count, arguments);
    }
    Cli cli = {.arena = arena_new(), .http = http_client_new()};
    Error error = {0};
    Status status = run(&cli, argument_count, arguments, &error);
    if (fflush(stdout) != 0 && status == STATUS_OK) {
        status = error_set(&error, REASON_INTERNAL, "standard output could not be written");
    }
    if (status != STATUS_OK && error.message[0] != '\0') {
        output_error(&cli, &error);
    }
    http_client_free(cli.http);
    secret_done(&cli.token);
    arena_free(cli.arena);
    return status_exit_code(status);
}
