// SPDX-License-Identifier: Apache-2.0
// The configuration file of holdfastd, with the options that it really has. Input: the file; behind
// a NUL, if there is one, flags, one after each further NUL.
#include "common/file.h"
#include "common/memory.h"
#include "common/options.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FLAG_COUNT_MAX 8

static const OptionSpec SPECS[] = {
#define OPTION(key, type, fallback, minimum, maximum, is_secret, help)                             \
    {key, OPTION_##type, fallback, minimum, maximum, is_secret, help},
#include "server/options.def"
#undef OPTION
};

// What was accepted is within the limits that the table gives.
static void check_values(const OptionSet *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const OptionSpec *spec = &set->specs[i];
        const OptionValue *value = &set->values[i];
        if (value->text != NULL && (spec->minimum != 0 || spec->maximum != 0)) {
            assert(value->number >= spec->minimum && value->number <= spec->maximum);
        }
    }
}

static void load(const char *path, char **flags, int flag_count)
{
    char program[] = "holdfastd";
    char config[] = "--config";
    CLEANUP_FREE char *file = string_copy(path);
    char *arguments[3 + FLAG_COUNT_MAX + 1] = {program, config, file};
    for (int i = 0; i < flag_count; i++) {
        arguments[3 + i] = flags[i];
    }
    OptionSet set = {.program = "holdfastd",
                     .environment = "HOLDFAST_FUZZ",
                     .summary = "fuzz",
                     .specs = SPECS,
                     .count = ARRAY_COUNT(SPECS)};
    Error error = {0};
    CLEANUP_FREE char *text = NULL;
    if (options_load(&set, 3 + flag_count, arguments, &text, &error) == STATUS_OK) {
        check_values(&set);
    } else {
        assert(error.message[0] != '\0');
    }
    options_done(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *flags[FLAG_COUNT_MAX];
    int flag_count = 0;
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\0', size);
    size_t file_size = end == NULL ? size : (size_t)(end - data);
    for (size_t at = file_size + 1; at < size && flag_count < FLAG_COUNT_MAX;) {
        flags[flag_count] = string_copy_n((const char *)data + at, size - at);
        at += strlen(flags[flag_count++]) + 1;
    }
    int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    assert(descriptor >= 0);
    ssize_t written = write(descriptor, data, file_size);
    assert(written == (ssize_t)file_size);
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
    load(path, flags, flag_count);
    (void)close(descriptor);
    for (int i = 0; i < flag_count; i++) {
        mem_free(flags[i]);
    }
    return 0;
}
