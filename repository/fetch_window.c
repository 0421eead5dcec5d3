// SPDX-License-Identifier: Apache-2.0
#include "repository/fetch_window.h"

#include "common/file.h"
#include "common/memory.h"
#include "repository/repository_blob.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// Longer stretches are worth a write of their own. So are all of a pack that has longer ones on
// average: it is what the patches lie between.
#define PATCH_LENGTH_MAX 8
// So few neighbours of one pack, on average, are not worth a write of their own.
#define SCATTERED_LENGTH 3
#define FLUSH_COUNT_MAX 512 // 16 MiB

Window *window_new(void)
{
    Window *window = mem_alloc(sizeof(*window));
    window->items = mem_alloc_array(WINDOW_ITEM_COUNT_MAX, sizeof(*window->items));
    window->files = mem_alloc_array(WINDOW_FILE_COUNT_MAX, sizeof(*window->files));
    return window;
}

void window_free(Window *window)
{
    if (window != NULL) {
        for (size_t i = 0; i < window->file_count; i++) {
            mem_free(window->files[i].path);
        }
        mem_free(window->files);
        mem_free(window->items);
        mem_free(window->positions);
        mem_free(window->patches);
        mem_free(window);
    }
}

void window_add_file(Window *window, const char *path, int64_t size_bytes)
{
    assert(window->file_count < WINDOW_FILE_COUNT_MAX);
    window->files[window->file_count++] =
        (FetchFile){.path = string_copy(path), .size_bytes = size_bytes};
}

void window_add(Window *window, const Ref *ref, int64_t offset)
{
    assert(window->file_count > 0 && window->item_count < WINDOW_ITEM_COUNT_MAX);
    window->items[window->item_count] = (FetchItem){.ref = *ref,
                                                    .file = (uint32_t)(window->file_count - 1),
                                                    .sequence = (uint32_t)window->item_count,
                                                    .offset = offset};
    if (window->item_count > 0) {
        const FetchItem *item = &window->items[window->item_count];
        bool is_joint =
            item_follows(item, item - 1) && !pack_name_equal(&ref->pack, &item[-1].ref.pack);
        window->joint_count += is_joint ? 1 : 0;
    }
    window->item_count++;
}

static bool is_scattered(const Window *window)
{
    return window->joint_count * SCATTERED_LENGTH > window->item_count;
}

bool window_is_full(const Window *window)
{
    return window->item_count == WINDOW_ITEM_COUNT_MAX ||
           (window->item_count % WINDOW_SCATTERED_COUNT_MAX == 0 && is_scattered(window));
}

bool item_follows(const FetchItem *item, const FetchItem *before)
{
    return item->file == before->file && item->offset == before->offset + before->ref.plain_size;
}

// --- order ------------------------------------------------------------------------------------

static int compare_items(const void *a, const void *b)
{
    const FetchItem *left = a;
    const FetchItem *right = b;
    int order = memcmp(left->ref.pack.id, right->ref.pack.id, ID_SIZE);
    if (order == 0 && left->ref.pack.epoch != right->ref.pack.epoch) {
        order = left->ref.pack.epoch < right->ref.pack.epoch ? -1 : 1;
    }
    if (order == 0) {
        order = left->ref.index < right->ref.index ? -1 : left->ref.index > right->ref.index;
    }
    return order;
}

static size_t number_packs(Window *window)
{
    size_t count = 0;
    FetchItem *items = window->items;
    for (size_t i = 0; i < window->item_count; i++) {
        if (i == 0 || !pack_name_equal(&items[i].ref.pack, &items[i - 1].ref.pack)) {
            count++;
        }
        items[i].pack = (uint32_t)count - 1;
    }
    return count;
}

static void note_positions(Window *window)
{
    for (size_t i = 0; i < window->item_count; i++) {
        window->positions[window->items[i].sequence] = (uint32_t)i;
    }
}

static FetchItem *item_at(const Window *window, size_t sequence)
{
    return &window->items[window->positions[sequence]];
}

// How many items from `sequence` are neighbours in their file and of one pack.
static size_t stretch_length(const Window *window, size_t sequence)
{
    size_t end = sequence + 1;
    const FetchItem *last = item_at(window, sequence);
    for (; end < window->item_count; end++) {
        const FetchItem *item = item_at(window, end);
        if (!item_follows(item, last) || item->pack != last->pack) {
            break;
        }
        last = item;
    }
    return end - sequence;
}

typedef struct PackShare {
    size_t item_count, stretch_count; // of a pack in a window
} PackShare;

static void mark_patches(Window *window, size_t pack_count, size_t count_max)
{
    PackShare *shares = mem_alloc_array(pack_count, sizeof(*shares));
    size_t length = 0;
    for (size_t sequence = 0; sequence < window->item_count; sequence += length) {
        length = stretch_length(window, sequence);
        PackShare *share = &shares[item_at(window, sequence)->pack];
        share->item_count += length;
        share->stretch_count++;
    }
    for (size_t sequence = 0; sequence < window->item_count; sequence += length) {
        length = stretch_length(window, sequence);
        const FetchItem *first = item_at(window, sequence);
        const PackShare *share = &shares[first->pack];
        if (length > PATCH_LENGTH_MAX || window->patch_count + length > count_max ||
            share->item_count > PATCH_LENGTH_MAX * share->stretch_count || sequence == 0 ||
            !item_follows(first, item_at(window, sequence - 1))) {
            continue;
        }
        for (size_t i = 0; i < length; i++) {
            item_at(window, sequence + i)->is_patch = true;
        }
        window->patch_count += length;
    }
    mem_free(shares);
}

static void move_patches_first(Window *window)
{
    FetchItem *patches = mem_alloc_array(window->patch_count, sizeof(*patches));
    size_t patch = window->patch_count;
    size_t other = window->item_count;
    for (size_t i = window->item_count; i-- > 0;) {
        FetchItem *place = window->items[i].is_patch ? &patches[--patch] : &window->items[--other];
        *place = window->items[i];
    }
    memcpy(window->items, patches, window->patch_count * sizeof(*patches));
    mem_free(patches);
}

void window_sort(Window *window, size_t patch_count_max)
{
    qsort(window->items, window->item_count, sizeof(*window->items), compare_items);
    size_t pack_count = number_packs(window);
    window->positions = mem_alloc_array(window->item_count, sizeof(*window->positions));
    note_positions(window);
    window->is_scattered = is_scattered(window);
    window->next_flushed = window->is_scattered ? 0 : window->item_count;
    if (!window->is_scattered) {
        mark_patches(window, pack_count, patch_count_max);
    }
    if (window->patch_count > 0) {
        move_patches_first(window);
        note_positions(window);
        window->patches = mem_alloc_aligned(DIRECT_ALIGNMENT, window->patch_count * EXTENT_SIZE);
        window->has_left_patches = true;
    }
}

// --- spans ------------------------------------------------------------------------------------

// How many items from `first` one read fetches.
static size_t span_length(const Window *window, size_t first, size_t last)
{
    const FetchItem *start = &window->items[first];
    size_t count = 1;
    while (first + count < last && count < SPAN_ITEM_COUNT_MAX &&
           blob_is_close(&start->ref, &start[count - 1].ref, &start[count].ref, SPAN_SIZE_MAX)) {
        count++;
    }
    return count;
}

// How many items from `sequence` one flush takes.
static size_t flush_length(const Window *window, size_t sequence)
{
    size_t count = 1;
    while (count < FLUSH_COUNT_MAX && sequence + count < window->item_count &&
           item_follows(item_at(window, sequence + count), item_at(window, sequence + count - 1))) {
        count++;
    }
    return count;
}

static bool may_take(const Window *window, SpanKind kind)
{
    switch (kind) {
    case SPAN_PATCHES:
        return window->next_item < window->patch_count;
    case SPAN_RUNS:
        return window->next_item < window->item_count &&
               window->opened_count >= window->patch_count;
    case SPAN_LEFT_PATCHES:
        return window->opened_count == window->item_count && window->has_left_patches;
    case SPAN_FLUSH:
        return window_is_written(window) && window->next_flushed < window->item_count;
    case SPAN_KIND_COUNT:
        break;
    }
    return false;
}

bool window_take(Window *window, SpanKind kind, Span *ret_span)
{
    if (!may_take(window, kind)) {
        return false;
    }
    *ret_span = (Span){.kind = kind};
    if (kind == SPAN_LEFT_PATCHES) {
        ret_span->count = window->patch_count;
        window->has_left_patches = false;
    } else if (kind == SPAN_FLUSH) {
        ret_span->first = window->next_flushed;
        ret_span->count = flush_length(window, window->next_flushed);
        window->next_flushed += ret_span->count;
    } else {
        size_t last = kind == SPAN_PATCHES ? window->patch_count : window->item_count;
        ret_span->first = window->next_item;
        ret_span->count = span_length(window, window->next_item, last);
        window->next_item += ret_span->count;
    }
    window->busy_count++;
    return true;
}

void window_end(Window *window, const Span *span)
{
    window->busy_count--;
    if (span->kind == SPAN_PATCHES || span->kind == SPAN_RUNS) {
        window->opened_count += span->count;
    }
}

bool window_is_written(const Window *window)
{
    return window->opened_count == window->item_count && !window->has_left_patches;
}

bool window_is_done(const Window *window)
{
    return window_is_written(window) && window->next_flushed == window->item_count &&
           window->busy_count == 0;
}

// --- patches ----------------------------------------------------------------------------------

uint8_t *window_patch(const Window *window, const FetchItem *patch)
{
    return window->patches + (size_t)(patch - window->items) * EXTENT_SIZE;
}

const FetchItem *window_item(const Window *window, size_t sequence)
{
    return item_at(window, sequence);
}

FetchItem *window_patch_after(const Window *window, const FetchItem *item)
{
    if (window->patch_count == 0 || item->sequence + 1 == window->item_count) {
        return NULL;
    }
    FetchItem *next = item_at(window, item->sequence + 1);
    return next->is_patch && !next->is_written && item_follows(next, item) ? next : NULL;
}
