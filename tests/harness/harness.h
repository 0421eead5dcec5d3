// SPDX-License-Identifier: Apache-2.0
// What C tests share: cmocka in its order of includes, temporary directories, assertions on errors.
#pragma once

#include "common/error.h"

// cmocka.h needs these before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

// A fresh directory; removed with everything in it by temp_dir_remove. The text is malloc'd.
char *temp_dir_new(void);
void temp_dir_removep(char **path); // for CLEANUP
// A small disk of the calling process and its children alone, gone with them: an empty tmpfs, to be
// made before root is given up and before any thread. Without root it takes a user namespace; where
// that is forbidden, the program ends with a message. Returns the path; a second call finds the
// first one's disk, also in a program that has started itself anew.
const char *small_disk_new(int size_mib);
char *path_join(const char *directory, const char *name); // malloc'd
void write_file(const char *path, const char *text);

// Fails with the error's message when the status is not OK.
#define assert_ok(status, error) assert_ok_at((status), (error), __FILE__, __LINE__)
void assert_ok_at(Status status, const Error *error, const char *file, int line);
// The error has this reason, the status fits to it, and the message is exactly this.
#define assert_error(status, error, reason, message)                                               \
    assert_error_at((status), (error), (reason), (message), __FILE__, __LINE__)
void assert_error_at(Status status, const Error *error, Reason reason, const char *message,
                     const char *file, int line);
#define assert_contains(text, part) assert_contains_at((text), (part), __FILE__, __LINE__)
void assert_contains_at(const char *text, const char *part, const char *file, int line);
