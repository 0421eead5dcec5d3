// SPDX-License-Identifier: Apache-2.0
// Compiler attributes, in one place: the only extension of C17 this project uses.
#pragma once

// Runs `function(&variable)` when the variable leaves its scope.
#define CLEANUP(function) __attribute__((cleanup(function)))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_index)                                                     \
    __attribute__((format(printf, format_index, first_index)))
#define NORETURN __attribute__((noreturn))
#define VECTOR_SIZE(bytes) __attribute__((vector_size(bytes)))
#define ALWAYS_INLINE static inline __attribute__((always_inline))
// Compiled for processors that have the feature; the caller asks __builtin_cpu_supports first.
#define NEEDS_PROCESSOR(feature) __attribute__((target(feature)))

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
