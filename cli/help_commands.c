// SPDX-License-Identifier: Apache-2.0
// Everything said here comes from the command table and common/status.def.
#include "cli/help_commands.h"

#include "cli/cli_output.h"
#include "cli/command_parse.h"
#include "common/text.h"

#include <string.h>

typedef struct ExitCode {
    int code;
    const char *text;
} ExitCode;

// Several statuses share a code; the first one names it.
static const ExitCode EXIT_CODES[] = {
#define STATUS(name, grpc, http, retryable, exit_code, text) {exit_code, text},
#include "common/status.def"
#undef STATUS
};

// --- for people ---------------------------------------------------------------------------------

static void print_options(FILE *file, const CommandOption *options)
{
    for (const CommandOption *option = options; option != NULL && option->name != NULL; option++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        char *left = option->placeholder == NULL
                         ? arena_format(arena, "--%s", option->name)
                         : arena_format(arena, "--%s %s", option->name, option->placeholder);
        (void)fprintf(file, "  %-28s %s%s\n", left, option->help,
                      option->is_required ? " (needed)" : "");
    }
}

void help_print_command(FILE *file, const Command *command)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    (void)fprintf(file, "usage: holdfast %s\n\n%s.\n", command_usage(arena, command),
                  command->summary);
    if (command->details != NULL) {
        (void)fprintf(file, "%s\n", command->details);
    }
    if (command->arguments[0].name != NULL) {
        (void)fprintf(file, "\narguments:\n");
        for (size_t i = 0; command->arguments[i].name != NULL; i++) {
            (void)fprintf(file, "  %-28s %s\n", command->arguments[i].name,
                          command->arguments[i].help);
        }
    }
    if (command->options != NULL) {
        (void)fprintf(file, "\noptions:\n");
        print_options(file, command->options);
    }
    (void)fprintf(file, "\nglobal options:\n");
    print_options(file, GLOBAL_OPTIONS);
}

static void print_command_line(FILE *file, const Command *command)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *name = arena_format(arena, "%s%s%s", command->group, command->verb == NULL ? "" : " ",
                              command->verb == NULL ? "" : command->verb);
    (void)fprintf(file, "  %-24s %s\n", name, command->summary);
}

void help_print_group(FILE *file, const char *group)
{
    const Command *command = command_find(group, NULL);
    if (command != NULL) {
        help_print_command(file, command);
        return;
    }
    (void)fprintf(file, "usage: holdfast %s COMMAND ...\n\ncommands:\n", group);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (text_equal(COMMANDS[i].group, group)) {
            print_command_line(file, &COMMANDS[i]);
        }
    }
    (void)fprintf(file, "\nholdfast help %s COMMAND says how one is used.\n", group);
}

void help_print_all(FILE *file)
{
    (void)fprintf(file,
                  "holdfast %s: every backup proves the one before it.\n\n"
                  "usage: holdfast COMMAND ...\n\ncommands:\n",
                  HOLDFAST_VERSION);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (command_begins_group(i) && i > 0) {
            (void)fputc('\n', file);
        }
        print_command_line(file, &COMMANDS[i]);
    }
    (void)fprintf(file, "\nglobal options:\n");
    print_options(file, GLOBAL_OPTIONS);
    (void)fprintf(file, "\nholdfast help COMMAND says how one is used; docs/cli.md is the whole "
                        "reference.\n");
}

// --- docs/cli.md --------------------------------------------------------------------------------

// '|' ends a cell of a table and '<' begins HTML.
static void print_cell(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|' || *text == '<') {
            (void)fputc('\\', stdout);
        }
        (void)fputc(*text, stdout);
    }
}

static void print_markdown_options(const CommandOption *options)
{
    (void)printf("\n| Option | Meaning |\n|---|---|\n");
    for (const CommandOption *option = options; option->name != NULL; option++) {
        (void)printf("| `--%s%s%s` | ", option->name, option->placeholder == NULL ? "" : " ",
                     option->placeholder == NULL ? "" : option->placeholder);
        print_cell(option->help);
        (void)printf("%s%s |\n", option->is_required ? "; needed" : "",
                     option->kind == VALUE_LIST ? "; repeatable" : "");
    }
}

static void print_markdown_command(const Command *command)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    (void)printf("\n### holdfast %s%s%s\n\n", command->group, command->verb == NULL ? "" : " ",
                 command->verb == NULL ? "" : command->verb);
    (void)printf("%s.%s%s\n\n```\nholdfast %s\n```\n", command->summary,
                 command->details == NULL ? "" : " ",
                 command->details == NULL ? "" : command->details, command_usage(arena, command));
    if (command->arguments[0].name != NULL) {
        (void)printf("\n| Argument | Meaning |\n|---|---|\n");
        for (size_t i = 0; command->arguments[i].name != NULL; i++) {
            (void)printf("| `%s` | ", command->arguments[i].name);
            print_cell(command->arguments[i].help);
            (void)printf(" |\n");
        }
    }
    if (command->options != NULL) {
        print_markdown_options(command->options);
    }
}

static void print_exit_codes(void)
{
    (void)printf("\n## Exit codes\n\n`--wait` and `watch` end with the code of the outcome.\n\n"
                 "| Code | Meaning |\n|---|---|\n");
    int code_max = 0;
    for (size_t i = 0; i < ARRAY_COUNT(EXIT_CODES); i++) {
        code_max = MAX(code_max, EXIT_CODES[i].code);
    }
    for (int code = 0; code <= code_max; code++) {
        const char *separator = "";
        (void)printf("| %d | ", code);
        for (size_t i = 0; i < ARRAY_COUNT(EXIT_CODES); i++) {
            if (EXIT_CODES[i].code == code) {
                (void)printf("%s%s", separator, EXIT_CODES[i].text);
                separator = ", ";
            }
        }
        (void)printf(" |\n");
    }
}

static void print_markdown(void)
{
    (void)printf("# holdfast, the command line client\n\n"
                 "Generated by `holdfast help --markdown`; do not edit.\n\n"
                 "Commands talk to a server's REST interface, except those marked *offline*, which "
                 "need only the "
                 "repository and its key file. With `--output json` a command prints what the "
                 "server answered, and lists "
                 "are complete up to `--limit`; without it, tables for people. Messages and "
                 "progress that are not the "
                 "answer go to standard error.\n");
    (void)printf("\n## Global options\n");
    print_markdown_options(GLOBAL_OPTIONS);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (command_begins_group(i)) {
            (void)printf("\n## %s\n", COMMANDS[i].group);
        }
        print_markdown_command(&COMMANDS[i]);
    }
    print_exit_codes();
}

Status help_run(Cli *cli, const Invocation *invocation, Error *error)
{
    (void)cli;
    const char *group = invocation_argument(invocation, 0);
    const char *verb = invocation_argument(invocation, 1);
    if (invocation_has(invocation, "markdown")) {
        print_markdown();
    } else if (group == NULL) {
        help_print_all(stdout);
    } else if (verb == NULL && command_group_exists(group)) {
        help_print_group(stdout, group);
    } else if (verb != NULL && command_find(group, verb) != NULL) {
        help_print_command(stdout, command_find(group, verb));
    } else {
        (void)error_set(error, REASON_INVALID, "there is no command '%s%s%s'", group,
                        verb == NULL ? "" : " ", verb == NULL ? "" : verb);
        return error_hint(error, "holdfast help lists the commands");
    }
    return STATUS_OK;
}

Status version_run(Cli *cli, const Invocation *invocation, Error *error)
{
    (void)invocation;
    CLEANUP(json_freep) Json *server = NULL;
    Error unreachable = {0};
    bool is_reached = cli_get(cli, "/v1/server", NULL, &server, &unreachable) == STATUS_OK;
    (void)error;
    if (cli->is_json) {
        Json *versions = json_new_object();
        json_set_text(versions, "client", HOLDFAST_VERSION);
        json_set_text(versions, "server",
                      is_reached ? json_get_text(server, "version", NULL) : NULL);
        output_json(versions);
        json_free(versions);
        return STATUS_OK;
    }
    (void)printf("holdfast %s\n", HOLDFAST_VERSION);
    if (is_reached) {
        (void)printf("holdfastd %s at %s\n",
                     output_safe(cli->arena, json_get_text(server, "version", "")), cli->server);
    }
    return STATUS_OK;
}
