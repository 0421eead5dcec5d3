// SPDX-License-Identifier: Apache-2.0
// The shared helpers of C tests.
#include "tests/harness/harness.h"

#include "common/file.h"
#include "common/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *temp_dir_new(void)
{
    const char *base = getenv("TMPDIR");
    char *path = string_format("%s/holdfast-test-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(path) == NULL) {
        fail_msg("making a temporary directory '%s' failed", path);
    }
    return path;
}

void temp_dir_removep(char **path)
{
    if (*path != NULL) {
        Error error = {0};
        (void)dir_remove_all(*path, &error); // the test's result is known already
        mem_free(*path);
    }
}

char *path_join(const char *directory, const char *name)
{
    return string_format("%s/%s", directory, name);
}

void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        fail_msg("writing '%s' failed", path);
    }
}

void assert_ok_at(Status status, const Error *error, const char *file, int line)
{
    if (status != STATUS_OK) {
        print_error("unexpected %s: %s (%s)\n", status_name(status), error->message, error->hint);
        _fail(file, line);
    }
}

void assert_error_at(Status status, const Error *error, Reason reason, const char *message,
                     const char *file, int line)
{
    if (status != reason_status(reason) || error->reason != reason ||
        strcmp(error->message, message) != 0) {
        print_error("expected %s: %s\n     got %s: %s\n", reason_slug(reason), message,
                    status == STATUS_OK ? "ok" : reason_slug(error->reason), error->message);
        _fail(file, line);
    }
}

void assert_contains_at(const char *text, const char *part, const char *file, int line)
{
    if (text == NULL || strstr(text, part) == NULL) {
        print_error("'%s' does not contain '%s'\n", text == NULL ? "(null)" : text, part);
        _fail(file, line);
    }
}
