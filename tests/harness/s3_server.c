// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/s3_server.h"

#include "common/json.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static pid_t spawn(const char *kind, const char *directory, int input, int output)
{
    const char *script = getenv("HOLDFAST_S3_SERVER");
    const char *python = getenv("HOLDFAST_PYTHON");
    assert_non_null(script);
    assert_non_null(python);
    char *arguments[] = {string_copy(python), string_copy(script), string_copy(kind),
                         string_copy(directory), NULL};
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO), 0);
    pid_t pid = 0;
    assert_int_equal(posix_spawn(&pid, python, &actions, NULL, arguments, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    for (char **argument = arguments; *argument != NULL; argument++) {
        mem_free(*argument);
    }
    return pid;
}

void s3_server_start(S3Server *server, const char *kind)
{
    int input[2];
    int output[2];
    *server = (S3Server){.directory = temp_dir_new()};
    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    server->pid = spawn(kind, server->directory, input[0], output[1]);
    server->stop_fd = input[1];
    (void)close(input[0]);
    (void)close(output[1]);
    char line[4096];
    FILE *answer = fdopen(output[0], "r");
    assert_non_null(answer);
    if (fgets(line, sizeof(line), answer) == NULL) {
        fail_msg("the S3 server '%s' does not start: run ./dev setup", kind);
    }
    (void)fclose(answer);
    Error error = {0};
    CLEANUP(json_freep) Json *json = NULL;
    assert_ok(json_parse(line, strlen(line), &json, &error), &error);
    server->endpoint = string_copy(json_get_text(json, "endpoint", NULL));
    server->bucket = string_copy(json_get_text(json, "bucket", NULL));
    server->region = string_copy(json_get_text(json, "region", NULL));
    server->access_key_id = string_copy(json_get_text(json, "access_key_id", NULL));
    server->secret_key = secret_from_text(json_get_text(json, "secret_key", NULL));
}

void s3_server_stop(S3Server *server)
{
    if (server->pid == 0) {
        return;
    }
    (void)close(server->stop_fd);
    int status = 0;
    assert_int_equal(waitpid(server->pid, &status, 0), server->pid);
    temp_dir_removep(&server->directory);
    mem_free(server->endpoint);
    mem_free(server->bucket);
    mem_free(server->region);
    mem_free(server->access_key_id);
    secret_done(&server->secret_key);
    *server = (S3Server){0};
}

StorageOptions s3_server_options(const S3Server *server, const char *location)
{
    return (StorageOptions){.location = location,
                            .endpoint = server->endpoint,
                            .region = server->region,
                            .is_path_style = true,
                            .access_key_id = server->access_key_id,
                            .secret_key = &server->secret_key};
}
