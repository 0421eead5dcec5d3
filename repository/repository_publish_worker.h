// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: the threads of publishing, and the bounded, ordered queue that feeds
// them.
#pragma once

#include "repository/repository_builder.h"
#include "repository/repository_resume.h"
#include "repository/repository_source.h"

typedef enum PublishItemKind {
    ITEM_PART, // of a file's map, or a file's only extent: for a worker
    ITEM_NODE, // nodes of the parent that are ours
    ITEM_END,  // the end of an entry
} PublishItemKind;

typedef struct PublishItem {
    PublishItemKind kind;
    const SourceFile *file; // but of a directory
    // ITEM_PART, ITEM_NODE
    int level;             // of the nodes
    int64_t first, count;  // extents
    PartNodes nodes;       // ITEM_PART: what comes out; left out is what is the parent's
    ParentNodes ancestors; // the parent's nodes above `level` that end where this ends
    // ITEM_PART: what the parent has there, its nodes of level 1 or its file's only extent.
    int parent_level;
    MapPart parent;                        // size_bytes 0: it has none
    int64_t data_bytes, parent_data_bytes; // come out: not zeros, ours and the parent's
    // ITEM_END
    const char *directory_path; // NULL: a file
    int64_t base_data_bytes;    // what the file's items' data_bytes are to be added to
    bool is_delta;              // and the parent's be subtracted
    bool is_done;
} PublishItem;

// What all threads of one publish share.
typedef struct PublishRun {
    const ShardScope *scope;
    const PublishOptions *options;
    Limits *limits;
    PackWriter *packs;
    const ResumeTable *resume;
    const PublishSource *source;
    int map_fan_out;
    atomic_bool is_stopping; // something failed
    atomic_llong done_bytes, new_bytes, read_bytes, unrecorded_bytes, resumed_bytes;
} PublishRun;

// The producer's side is one thread: it gets an item, fills it, submits it, and takes finished ones
// in order.
typedef struct PublishWorkers PublishWorkers;
Status publish_workers_new(PublishRun *run, int worker_count, PublishWorkers **ret_workers,
                           Error *error);
// Waits for the workers, which end soon; NULL is fine.
void publish_workers_free(PublishWorkers *workers);
PublishItem *publish_workers_slot(PublishWorkers *workers); // NULL: take one first
void publish_workers_submit(PublishWorkers *workers);
// The oldest item when it is finished; NULL when it is not yet, after waiting a while for it or for
// other progress. `ret_is_empty`: nothing is under way. Fails with the workers' first failure.
Status publish_workers_take(PublishWorkers *workers, PublishItem **ret_item, bool *ret_is_empty,
                            Error *error);
void publish_workers_release(PublishWorkers *workers); // the item taken last
// Memory of one worker.
#define PUBLISH_WORKER_SIZE ((size_t)4 * 1024 * 1024)
