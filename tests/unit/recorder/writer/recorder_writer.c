// SPDX-License-Identifier: Apache-2.0
// recorder_writer FILE OTHER SEED OPERATION [COUNT]: see writer.h. "mixture" does COUNT operations
// of all kinds; "list" prints their names.
#include "tests/unit/recorder/writer/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const Operation *const tables[] = {writer_write_operations, writer_open_operations,
                                          writer_other_operations};
#define TABLE_COUNT (sizeof(tables) / sizeof(tables[0]))

void writer_check(bool is_fine, const char *what)
{
    if (!is_fine) {
        (void)fprintf(stderr, "recorder_writer: %s: %s\n", what, strerror(errno));
        _exit(1);
    }
}

uint64_t writer_random(Writer *writer, uint64_t limit)
{
    writer->random = writer->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return limit == 0 ? 0 : (writer->random >> 20) % limit;
}

const uint8_t *writer_bytes(Writer *writer)
{
    static uint8_t bytes[PIECE_SIZE_MAX];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(1 + writer_random(writer, 255));
    }
    return bytes;
}

size_t writer_size(Writer *writer)
{
    return 1 + (size_t)writer_random(writer, PIECE_SIZE_MAX);
}

off_t writer_file_size(Writer *writer)
{
    struct stat facts;
    writer_check(stat(writer->path, &facts) == 0, "stat");
    return facts.st_size;
}

off_t writer_offset(Writer *writer)
{
    return (off_t)writer_random(writer, (uint64_t)writer_file_size(writer) + 1);
}

int writer_open(Writer *writer, int flags)
{
    int fd = open(writer->path, flags | O_CLOEXEC, 0600);
    writer_check(fd >= 0, "open");
    return fd;
}

static const Operation *operation_at(size_t index)
{
    for (size_t table = 0; table < TABLE_COUNT; table++) {
        for (size_t i = 0; tables[table][i].name != NULL; i++) {
            if (index-- == 0) {
                return &tables[table][i];
            }
        }
    }
    return NULL;
}

bool writer_run(Writer *writer, const char *name)
{
    const Operation *operation = NULL;
    for (size_t i = 0; (operation = operation_at(i)) != NULL; i++) {
        if (strcmp(operation->name, name) == 0) {
            operation->run(writer);
            return true;
        }
    }
    for (operation = writer_blind_operations; operation->name != NULL; operation++) {
        if (strcmp(operation->name, name) == 0) {
            operation->run(writer);
            return true;
        }
    }
    return false;
}

// The file is not allowed to vanish altogether: then nothing would be left to change.
static void run_mixture(Writer *writer, long count)
{
    size_t operation_count = 0;
    while (operation_at(operation_count) != NULL) {
        operation_count++;
    }
    for (long i = 0; i < count; i++) {
        operation_at((size_t)writer_random(writer, operation_count))->run(writer);
        if (writer_file_size(writer) < 4 * BLOCK_SIZE) {
            (void)writer_run(writer, "grow");
        }
    }
}

int main(int argument_count, char **arguments)
{
    if (argument_count == 2 && strcmp(arguments[1], "list") == 0) {
        for (size_t i = 0; operation_at(i) != NULL; i++) {
            (void)puts(operation_at(i)->name);
        }
        return 0;
    }
    if (argument_count < 5) {
        return 2;
    }
    Writer writer = {.program = arguments[0],
                     .path = arguments[1],
                     .other = arguments[2],
                     .random = strtoull(arguments[3], NULL, 10)};
    if (strcmp(arguments[4], "mixture") == 0 && argument_count == 6) {
        run_mixture(&writer, strtol(arguments[5], NULL, 10));
        return 0;
    }
    return writer_run(&writer, arguments[4]) ? 0 : 2;
}
