// SPDX-License-Identifier: Apache-2.0
// The only place that calls malloc and free.
#include "common/memory.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE_SIZE ((size_t)2 * 1024 * 1024)

void mem_exhausted(void)
{
    // No formatting and no allocation here. The process supervisor starts us again.
    static const char line[] =
        "{\"level\":\"error\",\"module\":\"common\",\"message\":\"out of memory\"}\n";
    ssize_t written = write(STDERR_FILENO, line, sizeof(line) - 1);
    (void)written; // there is nobody left to tell
    abort();
}

void *mem_alloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (memory == NULL) {
        mem_exhausted();
    }
    return memory;
}

void *mem_alloc_array(size_t count, size_t item_size)
{
    if (item_size > 0 && count > SIZE_MAX / item_size) {
        mem_exhausted();
    }
    return mem_alloc(count * item_size);
}

void *mem_alloc_aligned(size_t alignment, size_t size)
{
    void *memory = NULL;
    alignment = size >= HUGE_PAGE_SIZE ? MAX(alignment, HUGE_PAGE_SIZE) : alignment;
    if (posix_memalign(&memory, alignment, size > 0 ? size : 1) != 0) {
        mem_exhausted();
    }
    if (size >= HUGE_PAGE_SIZE) {
        // Fewer faults, and direct reads and writes pin one page instead of 512. Advice only.
        (void)madvise(memory, size / HUGE_PAGE_SIZE * HUGE_PAGE_SIZE, MADV_HUGEPAGE);
    }
    memset(memory, 0, size);
    return memory;
}

void *mem_realloc_array(void *memory, size_t count, size_t item_size)
{
    if (item_size > 0 && count > SIZE_MAX / item_size) {
        mem_exhausted();
    }
    size_t size = count * item_size;
    void *result = realloc(memory, size > 0 ? size : 1);
    if (result == NULL) {
        mem_exhausted();
    }
    return result;
}

void mem_free(void *memory)
{
    free(memory);
}

void mem_freep(void *pointer)
{
    assert(pointer != NULL);
    void *memory = NULL;
    memcpy(&memory, pointer, sizeof(memory));
    free(memory);
    memset(pointer, 0, sizeof(memory));
}

char *string_copy(const char *text)
{
    return text == NULL ? NULL : string_copy_n(text, strlen(text));
}

char *string_copy_n(const char *text, size_t size)
{
    assert(text != NULL || size == 0);
    char *copy = mem_alloc(size + 1);
    if (size > 0) {
        memcpy(copy, text, size);
    }
    return copy;
}

char *string_format(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert(size >= 0);
    char *text = mem_alloc((size_t)size + 1);
    va_start(arguments, format);
    int written = vsnprintf(text, (size_t)size + 1, format, arguments);
    va_end(arguments);
    assert(written == size);
    return text;
}
