// SPDX-License-Identifier: Apache-2.0
// holdfast-agent: what runs on an instance. People never start it; the provisioner and the server
// do.
#include "agent/agent_run.h"
#include "agent/engine/child.h"
#include "agent/source_command.h"
#include "common/log.h"
#include "common/text.h"

#include <stdio.h>
#include <stdlib.h>

static int usage(FILE *file)
{
    (void)fputs(
        "holdfast-agent " HOLDFAST_VERSION ": works on one instance; started by holdfastd.\n"
        "  holdfast-agent --instance-directory DIR   join as DIR/join.json says, and work\n"
        "  holdfast-agent --probe                    look at the source given as JSON on stdin\n"
        "  holdfast-agent --clean-source             remove what dead instances left on it\n"
        "  holdfast-agent --forget-source            remove everything of ours on it\n"
        "  holdfast-agent --version\n",
        file);
    return file == stdout ? 0 : status_exit_code(STATUS_INVALID_ARGUMENT);
}

int main(int argument_count, char **arguments)
{
    const char *command = argument_count > 1 ? arguments[1] : "";
    if (text_equal(command, "--child")) {
        return child_main(argument_count, arguments);
    }
    LogLevel level = LOG_INFO;
    const char *level_name = getenv("HOLDFAST_LOG_LEVEL");
    if (level_name != NULL) {
        (void)log_level_parse(level_name, &level); // a level that is not one changes nothing
    }
    log_configure(level, LOG_FORMAT_JSON, "holdfast-agent");
    if (text_equal(command, "--instance-directory") && argument_count == 3) {
        return agent_run(arguments[2]);
    }
    if (argument_count == 2 &&
        (text_equal(command, "--probe") || text_equal(command, "--clean-source") ||
         text_equal(command, "--forget-source"))) {
        return source_command_run(command);
    }
    if (argument_count == 2 && text_equal(command, "--version")) {
        return printf("holdfast-agent %s\n", HOLDFAST_VERSION) < 0 ? 1 : 0;
    }
    return usage(text_equal(command, "--help") ? stdout : stderr);
}
