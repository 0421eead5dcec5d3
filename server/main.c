// SPDX-License-Identifier: Apache-2.0
// holdfastd: reads its options, becomes who it should be, runs the server until it is told to stop.
#define LOG_MODULE "server"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/server_directory.h"
#include "server/server_options.h"
#include "server/server_run.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// One sentence for the person who started us; the log may be going elsewhere.
static int fail(const Error *error)
{
    (void)fprintf(stderr, "holdfastd: %s\n", error->message);
    if (error->hint[0] != '\0') {
        (void)fprintf(stderr, "hint: %s\n", error->hint);
    }
    return status_exit_code(error->status);
}

static void configure_log(const OptionSet *set)
{
    LogLevel level = LOG_INFO;
    (void)log_level_parse(options_text(set, "log-level"), &level); // was checked
    bool is_text = text_equal(options_text(set, "log-format"), "text");
    log_configure(level, is_text ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON, "holdfastd");
}

// Blocked before the first thread starts, so that all threads inherit it and only our wait takes
// them.
static void block_signals(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    sigaddset(ret_signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, ret_signals, NULL); // cannot fail with these arguments
    (void)signal(SIGPIPE, SIG_IGN);
}

static int run(const ServerOptions *options)
{
    Error error = {0};
    ServerDirectory directory = {.lock_fd = -1};
    Server *server = NULL;
    sigset_t signals;
    (void)umask(0077); // everything we make is ours alone
    if (server_become_user(options_text(&options->set, "user"), options->data_directory,
                           options->secret_key_file, &error) != STATUS_OK ||
        server_directory_open(options->data_directory, &directory, &error) != STATUS_OK) {
        return fail(&error);
    }
    block_signals(&signals);
    if (server_start(options, directory.server_id, &server, &error) != STATUS_OK) {
        server_directory_close(&directory);
        return fail(&error);
    }
    int signal_number = 0;
    do {
        (void)sigwait(&signals, &signal_number);
    } while (signal_number == SIGHUP); // the terminal that started us is gone: that is fine
    log_info("stopping", "signal", strsignal(signal_number), NULL);
    server_stop(server);
    server_directory_close(&directory);
    return 0;
}

int main(int argument_count, char **arguments)
{
    Error error = {0};
    ServerOptions options = {0};
    char *text = NULL;
    if (server_options_load(argument_count, arguments, &options, &text, &error) != STATUS_OK) {
        return fail(&error);
    }
    if (text != NULL) {
        (void)fputs(text, stdout);
        mem_free(text);
        return 0;
    }
    configure_log(&options.set);
    int code = run(&options);
    server_options_done(&options);
    return code;
}
