// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: what all kept manifests of a shard reach, at the cost of what has
// changed since it was last asked for.
#pragma once

#include "repository/repository_reach.h"

typedef struct KeptReach KeptReach;

typedef struct KeptOptions {
    const char *shard_id;
    const char *const *keep; // manifest ids, ascending, each once
    size_t keep_count;
    int64_t small_bytes; // a manifest that reaches less is walked in a moment
    // The oldest manifest is walked anew: nothing is listed that it does not reach.
    bool is_thorough;
} KeptOptions;

// Walks what no record has. Every manifest that had to be read could be.
Status kept_reach_find(Repository *repository, const DataKey *key, const KeptOptions *options,
                       KeptReach **ret_kept, Error *error);
void kept_reach_free(KeptReach *kept); // NULL is fine
void kept_reach_freep(KeptReach **kept);
const Reach *kept_reach_all(const KeptReach *kept);    // borrowed
size_t kept_reach_walked_count(const KeptReach *kept); // manifests that were walked
// Keeps what was found out for the next time, if that is worth an object. Before anything is
// removed: then a later one need not ask for manifests that are gone.
Status kept_reach_save(KeptReach *kept, Error *error);
