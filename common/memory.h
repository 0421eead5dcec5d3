// SPDX-License-Identifier: Apache-2.0
// Heap memory. Allocation never fails: running out ends the program with a log line, because all
// our work can be picked up again and untestable branches cannot. Raw malloc, realloc, strdup and
// free live in memory.c only.
#pragma once

#include "common/attributes.h"

#include <stddef.h>

NORETURN void mem_exhausted(void);     // for allocations by foreign libraries
MUST_USE void *mem_alloc(size_t size); // zeroed
MUST_USE void *mem_alloc_array(size_t count, size_t item_size); // zeroed, overflow checked
// Zeroed. From 2 MiB on in huge pages, where the system has them.
MUST_USE void *mem_alloc_aligned(size_t alignment, size_t size);
MUST_USE void *mem_realloc_array(void *memory, size_t count,
                                 size_t item_size); // new part not zeroed
void mem_free(void *memory);                        // NULL is fine
void mem_freep(void *pointer); // for CLEANUP(mem_freep) on any `T *`: takes the variable's address
MUST_USE char *string_copy(const char *text); // NULL gives NULL
MUST_USE char *string_copy_n(const char *text, size_t size);
MUST_USE char *string_format(const char *format, ...) PRINTF_LIKE(1, 2);

#define CLEANUP_FREE CLEANUP(mem_freep)
// Moves a pointer out of a variable: `return TAKE_PTR(result);`
static inline void *take_pointer(void *variable)
{
    void **pointer = variable;
    void *value = *pointer;
    *pointer = NULL;
    return value;
}
#define TAKE_PTR(variable) take_pointer(&(variable))
