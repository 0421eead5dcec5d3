// SPDX-License-Identifier: Apache-2.0
// Stands in for holdfast-agent: starts an "engine" that leaves its session, and ends when asked -
// or not.
//
// The file "mode" beside the instance directories says how: "normal", "stubborn" (ignores SIGTERM),
// "ends" (at once), "orphans" (ends when asked, but leaves its engine), "serves" (the same, and the
// engine works in a directory elsewhere).
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pid_t start_engine(const char *directory, bool is_serving)
{
    CLEANUP_FREE char *log = string_format("%s/data/server.log", directory);
    // The engine moves to its data directory and out of our process group, as PostgreSQL does.
    const char *arguments[] = {"sleep", "600", NULL};
    ProcessOptions options = {.arguments = arguments,
                              .directory = is_serving ? "/" : "data",
                              .output_path = log,
                              .new_session = true};
    pid_t pid = 0;
    Error error = {0};
    (void)mkdir("data", 0700);
    return process_spawn(&options, &pid, &error) == STATUS_OK ? pid : 0;
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 3 || !text_equal(arguments[1], "--instance-directory")) {
        return 2;
    }
    CLEANUP_FREE char *path = string_format("%s/../mode", arguments[2]);
    CLEANUP_FREE char *mode = NULL;
    size_t size = 0;
    Error error = {0};
    if (file_read(path, 64, &mode, &size, &error) != STATUS_OK) {
        mode = string_copy("normal");
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    (void)fprintf(stderr, "hello from %s\n", mode);
    if (text_has_prefix(mode, "ends")) {
        return 1;
    }
    bool is_serving = text_has_prefix(mode, "serves");
    pid_t engine = start_engine(arguments[2], is_serving);
    (void)file_write_atomic("started", "1", 1, 0600, &error);
    int signal_number = 0;
    do {
        (void)sigwait(&signals, &signal_number);
    } while (text_has_prefix(mode, "stubborn"));
    if (!text_has_prefix(mode, "orphans") && !is_serving && engine > 0) {
        process_stop(engine, SIGTERM, 1000);
    }
    (void)fprintf(stderr, "goodbye\n");
    return 0;
}
