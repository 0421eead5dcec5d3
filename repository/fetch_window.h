// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: some of the extents of a restore, in the order in which they are stored.
//
// After scattered changes a file is long stretches of an older pack with short ones of newer packs
// between them. The short ones are patches: they are opened first and kept, and then written
// together with what lies before them in their file, so that a disk sees few long writes.
#pragma once

#include "repository/repository_format.h"

#define WINDOW_ITEM_COUNT_MAX ((size_t)32 * 1024) // 1 GiB of extents
#define WINDOW_FILE_COUNT_MAX ((size_t)4096)
#define SPAN_SIZE_MAX ((size_t)2 * 1024 * 1024) // in the pack
#define SPAN_ITEM_COUNT_MAX 2048                // so that well compressed extents fill a span, too

typedef struct FetchFile {
    char *path;
    int64_t size_bytes;
} FetchFile;

typedef struct FetchItem {
    Ref ref;
    uint32_t file;
    uint32_t sequence; // in the files' order
    uint32_t pack;     // numbered, once sorted
    int64_t offset;    // in the file
    bool is_patch, is_written;
} FetchItem;

// In the order in which a window is worked on. A step starts when the one before it has ended, but
// different windows are at different steps.
typedef enum SpanKind {
    SPAN_PATCHES,      // are opened and kept
    SPAN_RUNS,         // are opened and written, with the patches that follow
    SPAN_LEFT_PATCHES, // that followed nothing: all of them in one span
    SPAN_KIND_COUNT
} SpanKind;

typedef struct Span {
    SpanKind kind;
    size_t first, count; // of the window's items
} Span;

typedef struct Window {
    FetchItem *items; // in the files' order until window_sort: then by pack, and patches first
    size_t item_count;
    FetchFile *files;
    size_t file_count;
    uint32_t *positions; // of the items, by their sequence
    uint8_t *patches;    // the first items' content, EXTENT_SIZE each; NULL: there are none
    size_t patch_count;
    // What is taken and what has ended, of each step.
    size_t next_item, opened_count;
    int busy_count;
    bool has_left_patches; // perhaps; nobody has taken them
    struct Window *next;
} Window;

Window *window_new(void);
void window_free(Window *window); // NULL is fine
void window_add_file(Window *window, const char *path, int64_t size_bytes);
// Of the last file, in ascending order.
void window_add(Window *window, const Ref *ref, int64_t offset);
// Ends adding. At most so many extents are patches, each of which takes EXTENT_SIZE of memory.
void window_sort(Window *window, size_t patch_count_max);

// --- with the caller's lock held ---
bool window_take(Window *window, SpanKind kind, Span *ret_span);
void window_end(Window *window, const Span *span); // work on it has ended well
bool window_is_done(const Window *window);

// --- without a lock, by who works on a span ---
uint8_t *window_patch(const Window *window, const FetchItem *patch);
// What follows in the file if it is a patch and not written yet, or NULL.
FetchItem *window_patch_after(const Window *window, const FetchItem *item);
bool item_follows(const FetchItem *item, const FetchItem *before);
