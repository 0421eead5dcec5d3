// SPDX-License-Identifier: Apache-2.0
// A program that changes files in every way there is; the recorder's test runs it with the library
// preloaded. Its own failures end it with a message.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BLOCK_SIZE 4096
#define PIECE_SIZE_MAX 9000

typedef struct Writer {
    const char *program; // itself
    const char *path;    // of the file to change
    const char *other;   // a file that nobody compares, on the same file system
    uint64_t random;     // state
} Writer;

uint64_t writer_random(Writer *writer, uint64_t limit); // in [0, limit)
// Bytes that are no zeros; the memory is the writer's own.
const uint8_t *writer_bytes(Writer *writer);
size_t writer_size(Writer *writer);  // of a piece
off_t writer_offset(Writer *writer); // inside the file
off_t writer_file_size(Writer *writer);
int writer_open(Writer *writer, int flags);
void writer_check(bool is_fine, const char *what);
bool writer_run(Writer *writer, const char *name); // an operation by its name

// Name, function.
typedef struct Operation {
    const char *name;
    void (*run)(Writer *writer);
} Operation;
extern const Operation writer_write_operations[]; // these end with an empty name
extern const Operation writer_open_operations[];
extern const Operation writer_other_operations[];
extern const Operation writer_blind_operations[]; // neither listed nor in a mixture
