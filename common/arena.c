// SPDX-License-Identifier: Apache-2.0
// A bump allocator in chunks; in the emulated mode a list of separate allocations.
#include "common/arena.h"

#include "common/memory.h"

#include <assert.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_SIZE_FIRST ((size_t)4 * 1024)
#define CHUNK_SIZE_MAX ((size_t)256 * 1024)

typedef struct Chunk {
    struct Chunk *next; // older
    size_t capacity;
    size_t used;
    alignas(max_align_t) uint8_t data[];
} Chunk;

struct Arena {
    Chunk *chunks; // the newest first
};

Arena *arena_new(void)
{
    return mem_alloc(sizeof(Arena));
}

static void free_chunks(Chunk *chunk)
{
    while (chunk != NULL) {
        Chunk *next = chunk->next;
        mem_free(chunk);
        chunk = next;
    }
}

void arena_free(Arena *arena)
{
    if (arena == NULL) {
        return;
    }
    free_chunks(arena->chunks);
    mem_free(arena);
}

void arena_freep(Arena **arena)
{
    arena_free(*arena);
    *arena = NULL;
}

void arena_reset(Arena *arena)
{
    assert(arena != NULL);
#ifdef ARENA_EMULATE
    free_chunks(arena->chunks);
    arena->chunks = NULL;
#else
    // The newest chunk is the largest regular one: keeping it makes a steady state without malloc.
    Chunk *kept = arena->chunks;
    if (kept == NULL) {
        return;
    }
    free_chunks(kept->next);
    kept->next = NULL;
    kept->used = 0;
    if (kept->capacity > CHUNK_SIZE_MAX) {
        mem_free(kept);
        arena->chunks = NULL;
    }
#endif
}

static Chunk *chunk_new(size_t capacity)
{
    if (capacity > SIZE_MAX - sizeof(Chunk)) {
        mem_exhausted();
    }
    Chunk *chunk = mem_alloc(sizeof(Chunk) + capacity);
    chunk->capacity = capacity;
    return chunk;
}

#ifdef ARENA_EMULATE
void *arena_alloc(Arena *arena, size_t size)
{
    assert(arena != NULL);
    Chunk *chunk = chunk_new(size);
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk->data;
}
#else
void *arena_alloc(Arena *arena, size_t size)
{
    assert(arena != NULL);
    if (size > SIZE_MAX / 2) {
        mem_exhausted();
    }
    size_t rounded = (MAX(size, 1) + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    Chunk *chunk = arena->chunks;
    if (chunk == NULL || chunk->capacity - chunk->used < rounded) {
        size_t capacity = CHUNK_SIZE_FIRST;
        if (chunk != NULL) {
            capacity = MIN(MAX(chunk->capacity * 2, CHUNK_SIZE_FIRST), CHUNK_SIZE_MAX);
        }
        Chunk *fresh = chunk_new(MAX(capacity, rounded));
        if (rounded > capacity && chunk != NULL) {
            // An oversized one is full at once; what is left of the current chunk stays in use.
            fresh->used = rounded;
            fresh->next = chunk->next;
            chunk->next = fresh;
            return fresh->data;
        }
        fresh->next = chunk;
        arena->chunks = fresh;
        chunk = fresh;
    }
    uint8_t *memory = chunk->data + chunk->used;
    chunk->used += rounded;
    memset(memory, 0, rounded); // a kept chunk holds the last round's bytes
    return memory;
}
#endif

void *arena_alloc_array(Arena *arena, size_t count, size_t item_size)
{
    if (item_size > 0 && count > SIZE_MAX / item_size) {
        mem_exhausted();
    }
    return arena_alloc(arena, count * item_size);
}

char *arena_string(Arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_string_n(arena, text, strlen(text));
}

char *arena_string_n(Arena *arena, const char *text, size_t size)
{
    assert(text != NULL || size == 0);
    assert(size < SIZE_MAX);
    char *copy = arena_alloc(arena, size + 1);
    if (size > 0) {
        memcpy(copy, text, size);
    }
    return copy;
}

void *arena_copy(Arena *arena, const void *data, size_t size)
{
    assert(data != NULL || size == 0);
    void *copy = arena_alloc(arena, size);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

char *arena_format(Arena *arena, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = arena_format_list(arena, format, arguments);
    va_end(arguments);
    return text;
}

char *arena_format_list(Arena *arena, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, again);
    va_end(again);
    assert(size >= 0);
    char *text = arena_alloc(arena, (size_t)size + 1);
    int written = vsnprintf(text, (size_t)size + 1, format, arguments);
    assert(written == size);
    return text;
}
