// SPDX-License-Identifier: Apache-2.0
// Gives every file of a corpus to a fuzz target, so that seeds and earlier finds are tested with
// any compiler. When it is red, the last name printed is the input that breaks the parser.
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool replay_file(const char *path)
{
    Error error = {0};
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    (void)printf("%s\n", path);
    (void)fflush(stdout); // before the input ends the program
    if (file_read(path, LIMIT_FILE_BYTES, &text, &size, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        return false;
    }
    // Exactly the bytes: file_read's NUL behind them would hide an overrun.
    CLEANUP_FREE uint8_t *data = mem_alloc(size);
    if (size > 0) {
        memcpy(data, text, size);
    }
    return LLVMFuzzerTestOneInput(data, size) == 0;
}

static bool replay_directory(const char *directory)
{
    struct dirent **entries = NULL;
    int count = scandir(directory, &entries, is_shown, alphasort);
    bool is_good = count > 0;
    if (count <= 0) {
        (void)fprintf(stderr, "%s: no inputs\n", directory);
    }
    for (int i = 0; i < count; i++) {
        CLEANUP_FREE char *path = string_format("%s/%s", directory, entries[i]->d_name);
        is_good = replay_file(path) && is_good;
        mem_free(entries[i]);
    }
    mem_free(entries);
    return is_good;
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 2) {
        (void)fprintf(stderr, "usage: %s DIRECTORY\n", arguments[0]);
        return 2;
    }
    return replay_directory(arguments[1]) ? EXIT_SUCCESS : EXIT_FAILURE;
}
