// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: what sweeps have found out about a shard's manifests, kept as an object
// so that the next sweep need not find it out again (docs/repository-format.md, §11). It holds
// facts about objects that never change, so an old record is as good as a new one, and a lost one
// costs only time.
#pragma once

#include "repository/repository_reach.h"

#define REACH_RECORD_SIZE_MAX ((size_t)64 * 1024 * 1024) // plain

// What `manifest` reaches and `base` does not; without a base: everything that it reaches.
typedef struct ReachStep {
    PackName manifest, base; // a base of zeros: none
    uint8_t key_id[ID_SIZE]; // the manifest's data key
    int64_t stale_bytes;     // of what is listed, about so much is not reached any more
    size_t pack_count;
    const uint8_t *marks; // in the record's memory
    size_t marks_size;
} ReachStep;

typedef struct ReachRecord ReachRecord;
ReachRecord *reach_record_new(void);
void reach_record_free(ReachRecord *record); // NULL is fine
void reach_record_freep(ReachRecord **record);
size_t reach_record_count(const ReachRecord *record);
// NULL: there is none. Steps are found by manifest and base.
const ReachStep *reach_record_find(const ReachRecord *record, const PackName *manifest,
                                   const PackName *base);
// The step without a base; NULL: there is none.
const ReachStep *reach_record_head(const ReachRecord *record);
// Appends in ascending order of manifest. False: the record would become too large, and nothing was
// added.
bool reach_record_add(ReachRecord *record, const ReachStep *step, const Reach *reach);
bool reach_record_copy(ReachRecord *record, const ReachStep *step);
// Adds the step to a reach; reach_begin was called.
void reach_record_merge(const ReachStep *step, Reach *reach);

// The newest record of a shard; an empty one when there is none that can be read. ret_number: of
// the newest object, 0 for none. ret_database_id: "" when it is empty.
Status reach_record_load(Repository *repository, const DataKey *key, const char *shard_id,
                         ReachRecord **ret_record, uint32_t *ret_number,
                         char ret_database_id[UUID_TEXT_SIZE], Error *error);
// Writes it as `number`, which somebody else may have done too.
Status reach_record_save(const ReachRecord *record, const ShardScope *scope, uint32_t number,
                         Error *error);
// Removes the shard's records below `number`.
Status reach_record_remove(Repository *repository, const char *shard_id, uint32_t number,
                           Error *error);
