// SPDX-License-Identifier: Apache-2.0
#include "cli/offline.h"

#include "cli/repository_commands.h"
#include "common/memory.h"
#include "common/text.h"

#include <stddef.h>

static bool has_word(int argument_count, char **arguments, const char *word)
{
    for (int i = 1; i < argument_count; i++) {
        if (text_equal(arguments[i], word)) {
            return true;
        }
    }
    return false;
}

static bool has_repository_option(int argument_count, char **arguments)
{
    for (int i = 1; i < argument_count; i++) {
        if (text_equal(arguments[i], "--repository") ||
            text_has_prefix(arguments[i], "--repository=")) {
            return true;
        }
    }
    return false;
}

bool offline_is_meant(int argument_count, char **arguments)
{
    const char *group = argument_count > 1 ? arguments[1] : "";
    const char *verb = argument_count > 2 ? arguments[2] : "";
    if (text_equal(group, "restore")) {
        return has_word(argument_count, arguments, "--offline");
    }
    if (!text_equal(group, "repository")) {
        return false;
    }
    static const char *const always[] = {"check", "copy", "create-key", "destroy-key",
                                         "diff",  "init", "keys"};
    static const char *const either[] = {"list", "rotate-key", "show"};
    for (size_t i = 0; i < ARRAY_COUNT(always); i++) {
        if (text_equal(verb, always[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(either); i++) {
        if (text_equal(verb, either[i])) {
            return has_repository_option(argument_count, arguments);
        }
    }
    return false;
}

int offline_run(int argument_count, char **arguments)
{
    return text_equal(arguments[1], "restore") ? restore_offline_command(argument_count, arguments)
                                               : repository_command(argument_count, arguments);
}
