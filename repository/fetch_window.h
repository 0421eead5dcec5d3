// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: some of the extents of a restore, in the order in which they are stored.
//
// After scattered changes a file is long stretches of an older pack with short ones of newer packs
// between them. The short ones are patches: they are opened first and kept, and then written
// together with what lies before them in their file, so that a disk sees few long writes. After
// many generations there are no long stretches: such a window is scattered. It is written through
// the page cache, and the page cache is written out in the files' order once all of it is there.
#pragma once

#include "repository/repository_format.h"

#define WINDOW_ITEM_COUNT_MAX ((size_t)32 * 1024) // 1 GiB of extents
// Of a scattered window, which is 256 MiB in the page cache.
#define WINDOW_SCATTERED_COUNT_MAX ((size_t)8 * 1024)
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

// A step of a window starts when the one before it has ended, but different windows are at
// different steps; what comes first here goes first.
typedef enum SpanKind {
    SPAN_FLUSH,        // the last step of a scattered window
    SPAN_PATCHES,      // are opened and kept
    SPAN_RUNS,         // are opened and written, with the patches that follow
    SPAN_LEFT_PATCHES, // that followed nothing: all of them in one span
    SPAN_KIND_COUNT
} SpanKind;

typedef struct Span {
    SpanKind kind;
    size_t first, count; // of the window's items; SPAN_FLUSH: in the files' order
} Span;

typedef struct Window {
    FetchItem *items; // in the files' order until window_sort: then by pack, and patches first
    size_t item_count;
    FetchFile *files;
    size_t file_count;
    uint32_t *positions; // of the items, by their sequence
    size_t joint_count;  // neighbours in a file that are of different packs
    bool is_scattered;
    uint8_t *patches; // the first items' content, EXTENT_SIZE each; NULL: there are none
    size_t patch_count;
    size_t next_item;      // that is opened
    size_t opened_count;   // and kept or written
    bool has_left_patches; // perhaps; nobody has taken them
    size_t next_flushed;
    int busy_count;
    struct Window *next;
} Window;

Window *window_new(void);
void window_free(Window *window); // NULL is fine
void window_add_file(Window *window, const char *path, int64_t size_bytes);
// Of the last file, in ascending order.
void window_add(Window *window, const Ref *ref, int64_t offset);
bool window_is_full(const Window *window); // nothing more is to be added
// Ends adding. At most so many extents are patches, each of which takes EXTENT_SIZE of memory.
void window_sort(Window *window, size_t patch_count_max);

// --- with the caller's lock held ---
bool window_take(Window *window, SpanKind kind, Span *ret_span);
void window_end(Window *window, const Span *span); // work on it has ended well
bool window_is_written(const Window *window);      // but perhaps not flushed
bool window_is_done(const Window *window);

// --- without a lock, by who works on a span ---
uint8_t *window_patch(const Window *window, const FetchItem *patch);
const FetchItem *window_item(const Window *window, size_t sequence);
// What follows in the file if it is a patch and not written yet, or NULL.
FetchItem *window_patch_after(const Window *window, const FetchItem *item);
bool item_follows(const FetchItem *item, const FetchItem *before);
