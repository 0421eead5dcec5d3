// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: a bounded, ordered queue of extents that worker threads hash and
// compress.
#pragma once

#include "repository/repository_builder.h"

#define PIPELINE_SLOT_COUNT 64

typedef struct ExtentTask {
    // Filled by the producer.
    const ListEntry
        *end_of; // not an extent but the end of this entry; the queue does not look at it
    int64_t file_size_bytes;
    size_t size;
    uint8_t *plain;    // EXTENT_SIZE, part of the slot
    Ref parent;        // what the parent has at this place, or BLOB_ZERO
    bool is_unwritten; // the parent's is ours
    bool is_read;      // else `plain` holds nothing
    ParentNodes parent_nodes;
    // Filled by a worker.
    Ref ref; // with is_new: hash, kind, encoding and plain_size only
    bool is_new;
    const uint8_t *content; // what to seal
    size_t content_size;
    uint8_t *packed; // part of the slot
    bool is_done;
} ExtentTask;

// The producer's side is one thread: it gets a slot, fills it, submits it, and takes finished ones
// in order.
typedef struct Pipeline Pipeline;
Status pipeline_new(const ShardScope *scope, int compression_level, int worker_count,
                    Pipeline **ret_pipeline, Error *error);
void pipeline_free(Pipeline *pipeline);
void pipeline_freep(Pipeline **pipeline);
ExtentTask *pipeline_slot(Pipeline *pipeline); // NULL: take one first
void pipeline_submit(Pipeline *pipeline);
// The oldest task when it is finished; with may_wait, waits for it. NULL: none is under way, or not
// finished yet.
ExtentTask *pipeline_take(Pipeline *pipeline, bool may_wait);
void pipeline_release(Pipeline *pipeline); // the task taken last
