// SPDX-License-Identifier: Apache-2.0
#include "cli/command_run.h"

#include "cli/cli_output.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096
#define COPY_BYTES_MAX (1024 * 1024)
#define LIST_COUNT_MAX 1000000

// --- the request --------------------------------------------------------------------------------

char *command_path(Cli *cli, const Invocation *invocation)
{
    const Command *command = invocation->command;
    CLEANUP(buffer_done) Buffer path;
    buffer_init(&path, PATH_BYTES_MAX);
    const char *at = command->path;
    while (*at != '\0') {
        const char *open = strchr(at, '{');
        if (open == NULL) {
            (void)buffer_append_text(&path, at);
            break;
        }
        (void)buffer_append(&path, at, (size_t)(open - at));
        const char *close = strchr(open, '}');
        for (size_t i = 0; command->arguments[i].name != NULL; i++) {
            size_t size = (size_t)(close - open - 1);
            if (strlen(command->arguments[i].name) == size &&
                memcmp(command->arguments[i].name, open + 1, size) == 0) {
                // "-" stands for all, where an argument may be left out.
                const char *value = invocation->arguments[i];
                (void)buffer_append_text(&path,
                                         cli_escape(cli->arena, value == NULL ? "-" : value));
            }
        }
        at = close + 1;
    }
    return arena_string(cli->arena, buffer_text(&path));
}

static Status read_secret_file(const char *path, char **ret_text, Error *error)
{
    size_t size = 0;
    if (!text_equal(path, "-")) {
        RETURN_IF_ERROR(file_read(path, LIMIT_FILE_BYTES, ret_text, &size, error));
    } else {
        RETURN_IF_ERROR(file_read("/dev/stdin", LIMIT_FILE_BYTES, ret_text, &size, error));
    }
    // An editor's last line end is not part of a password.
    while (size > 0 && ((*ret_text)[size - 1] == '\n' || (*ret_text)[size - 1] == '\r')) {
        (*ret_text)[--size] = '\0';
    }
    if (size == 0) {
        secret_wipe_text(*ret_text);
        mem_free(*ret_text);
        return error_set(error, REASON_INVALID, "'%s' is empty", path);
    }
    return STATUS_OK;
}

Json *command_copy_json(const Json *json)
{
    CLEANUP(buffer_done) Buffer text;
    buffer_init(&text, COPY_BYTES_MAX);
    Json *copy = NULL;
    Error error = {0};
    if (!json_write(json, false, &text) ||
        json_parse(buffer_text(&text), text.size, &copy, &error) != STATUS_OK) {
        return json_new_object();
    }
    return copy;
}

// The object that a dotted field is in, made when it is missing; `*field` becomes its last part.
static Json *open_parent(Json *body, const char **field)
{
    // Json objects that we made ourselves may be changed: the getters' const protects borrowed
    // ones.
    Json *object = body;
    const char *dot = NULL;
    while ((dot = strchr(*field, '.')) != NULL) {
        CLEANUP_FREE char *key = string_copy_n(*field, (size_t)(dot - *field));
        const Json *inner = json_get(object, key);
        Json *next = inner == NULL ? json_new_object() : command_copy_json(inner);
        json_set(object, key, next);
        object = next;
        *field = dot + 1;
    }
    return object;
}

static Status set_field(Json *body, const CommandOption *option, const char *value, Error *error)
{
    const char *field = option->field;
    Json *object = open_parent(body, &field);
    int64_t number = 0;
    char *text = NULL;
    switch (option->kind) {
    case VALUE_INTEGER:
        (void)text_to_int64(value, &number); // checked by command_check
        json_set_integer(object, field, number);
        return STATUS_OK;
    case VALUE_BYTES:
        (void)text_to_bytes(value, &number); // checked by command_check
        json_set_integer(object, field, number);
        return STATUS_OK;
    case VALUE_DURATION:
        (void)text_to_duration_ms(value, &number); // checked by command_check
        text = number % 1000 == 0 ? string_format("%llds", (long long)(number / 1000))
                                  : string_format("%lld.%03llds", (long long)(number / 1000),
                                                  (long long)(number % 1000));
        json_set_text(object, field, text);
        mem_free(text);
        return STATUS_OK;
    case VALUE_FLAG:
        json_set_boolean(object, field, true);
        return STATUS_OK;
    case VALUE_BOOLEAN:
        json_set_boolean(object, field, text_equal(value, "true"));
        return STATUS_OK;
    case VALUE_LIST: {
        const Json *inner = json_get(object, field);
        Json *list = inner == NULL ? json_new_array() : command_copy_json(inner);
        json_add(list, json_new_text(value));
        json_set(object, field, list);
        return STATUS_OK;
    }
    case VALUE_SECRET:
        RETURN_IF_ERROR(read_secret_file(value, &text, error));
        json_set_text(object, field, text);
        secret_wipe_text(text);
        mem_free(text);
        return STATUS_OK;
    default:
        json_set_text(object, field, value);
        return STATUS_OK;
    }
}

// Puts the arguments and options into a body that may hold something already.
static Status fill_body(const Invocation *invocation, Json *body, Error *error)
{
    const Command *command = invocation->command;
    for (size_t i = 0; command->arguments[i].name != NULL; i++) {
        const char *field = command->arguments[i].field;
        if (field != NULL && invocation->arguments[i] != NULL) {
            Json *object = open_parent(body, &field);
            json_set_text(object, field, invocation->arguments[i]);
        }
    }
    for (size_t i = 0; i < invocation->option_count; i++) {
        const CommandOption *option = invocation->options[i].option;
        if (option->field != NULL && option->kind != VALUE_HEADER) {
            RETURN_IF_ERROR(set_field(body, option, invocation->options[i].value, error));
        }
    }
    return STATUS_OK;
}

Status command_body(const Invocation *invocation, Json **ret_body, Error *error)
{
    Json *body = json_new_object();
    Status status = fill_body(invocation, body, error);
    if (status != STATUS_OK) {
        json_free(body);
        return status;
    }
    *ret_body = body;
    return STATUS_OK;
}

const char *command_query(Cli *cli, const Invocation *invocation)
{
    const char *query = NULL;
    for (size_t i = 0; i < invocation->option_count; i++) {
        const CommandOption *option = invocation->options[i].option;
        if (option->field != NULL && option->kind != VALUE_HEADER) {
            const char *value = option->kind == VALUE_FLAG ? "true" : invocation->options[i].value;
            query = cli_query_add(cli->arena, query, option->field, value);
        }
    }
    return query;
}

static const char *command_header(Cli *cli, const Invocation *invocation)
{
    for (size_t i = 0; i < invocation->option_count; i++) {
        const CommandOption *option = invocation->options[i].option;
        if (option->kind == VALUE_HEADER) {
            return arena_format(cli->arena, "%s: %s", option->field, invocation->options[i].value);
        }
    }
    return NULL;
}

// --- lists --------------------------------------------------------------------------------------

static size_t move_items(Json *list, const Json *items, size_t room)
{
    size_t count = 0;
    for (const Json *item = json_first(items); item != NULL && count < room;
         item = json_next(item)) {
        json_add(list, command_copy_json(item));
        count++;
    }
    return count;
}

Status command_list(Cli *cli, const char *path, const char *query, const char *list_key, int limit,
                    Json **ret_list, bool *ret_has_more, Error *error)
{
    CLEANUP(json_freep) Json *list = json_new_array();
    CLEANUP_FREE char *token = string_copy("");
    size_t room = (size_t)limit;
    *ret_has_more = false;
    while (room > 0) {
        const char *page_query =
            cli_query_add(cli->arena, query, "page_size",
                          arena_format(cli->arena, "%zu", MIN(room, (size_t)LIMIT_PAGE_SIZE)));
        if (*token != '\0') {
            page_query = cli_query_add(cli->arena, page_query, "page_token", token);
        }
        CLEANUP(json_freep) Json *page = NULL;
        RETURN_IF_ERROR(cli_get(cli, path, page_query, &page, error));
        size_t count = move_items(list, json_get(page, list_key), room);
        room -= count;
        mem_free(token);
        token = string_copy(json_get_text(page, "next_page_token", ""));
        *ret_has_more = *token != '\0';
        if (!*ret_has_more || count == 0) {
            break;
        }
    }
    *ret_list = json_new_object();
    json_set(*ret_list, list_key, TAKE_PTR(list));
    return STATUS_OK;
}

Status command_limit(const Invocation *invocation, int *ret_limit, Error *error)
{
    const char *text = invocation_option(invocation, "limit");
    int64_t limit = invocation->command->limit;
    if (text != NULL && (!text_to_int64(text, &limit) || limit < 1)) {
        return error_set(error, REASON_INVALID, "--limit wants a number above 0");
    }
    *ret_limit = (int)MIN(limit, LIST_COUNT_MAX);
    return STATUS_OK;
}

static Status run_list(Cli *cli, const Invocation *invocation, Error *error)
{
    const Command *command = invocation->command;
    const char *path = command_path(cli, invocation);
    const char *query = command_query(cli, invocation);
    int limit = 0;
    RETURN_IF_ERROR(command_limit(invocation, &limit, error));
    CLEANUP(json_freep) Json *list = NULL;
    bool has_more = false;
    if (limit == 0) { // it has no pages
        RETURN_IF_ERROR(cli_get(cli, path, query, &list, error));
    } else {
        RETURN_IF_ERROR(
            command_list(cli, path, query, command->list_key, limit, &list, &has_more, error));
    }
    if (cli->is_json) {
        output_json(list);
    } else {
        output_table(cli, json_get(list, command->list_key), command->columns);
    }
    if (has_more) {
        (void)fprintf(stderr, "(there are more; see --limit)\n");
    }
    return STATUS_OK;
}

// --- one call -----------------------------------------------------------------------------------

static void say_done(const Invocation *invocation)
{
    const Command *command = invocation->command;
    (void)printf("%s", command->group);
    for (size_t i = 0; command->arguments[i].name != NULL; i++) {
        if (invocation->arguments[i] != NULL) {
            (void)printf("%s%s", i == 0 ? " " : "/", invocation->arguments[i]);
        }
    }
    (void)printf(" %s\n", command->done);
}

static Status run_call(Cli *cli, const Invocation *invocation, Error *error)
{
    const Command *command = invocation->command;
    CliRequest request = {.method = command->method,
                          .path = command_path(cli, invocation),
                          .header = command_header(cli, invocation)};
    CLEANUP(json_freep) Json *body = json_new_object();
    bool has_body = text_equal(command->method, "POST") || text_equal(command->method, "PATCH");
    if (has_body) {
        if (text_equal(command->method, "PATCH") && invocation->option_count == 0) {
            (void)error_set(error, REASON_INVALID, "there is nothing to change");
            return error_hint(error, "--help lists what can be changed");
        }
        RETURN_IF_ERROR(fill_body(invocation, body, error));
        request.body = json_count(body) > 0 ? body : NULL;
    } else {
        request.query = command_query(cli, invocation);
    }
    CLEANUP(json_freep) Json *answer = NULL;
    RETURN_IF_ERROR(cli_call(cli, &request, &answer, error));
    if (cli->is_json) {
        CLEANUP(json_freep) Json *nothing = json_new_object();
        output_json(answer == NULL ? nothing : answer);
    } else if (command->done != NULL) {
        say_done(invocation);
    } else if (answer != NULL) {
        output_details(cli, answer);
    }
    return STATUS_OK;
}

Status command_run(Cli *cli, const Invocation *invocation, Error *error)
{
    const Command *command = invocation->command;
    if (command->is_offline) { // cli/offline.c has not recognised it
        (void)error_set(error, REASON_INVALID, "options go after the command here");
        return error_hint(error, "holdfast %s %s ...", command->group, command->verb);
    }
    if (command->run != NULL) {
        return command->run(cli, invocation, error);
    }
    return command->list_key != NULL ? run_list(cli, invocation, error)
                                     : run_call(cli, invocation, error);
}
