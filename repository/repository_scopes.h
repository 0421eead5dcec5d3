// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: the scopes of one shard's manifests, one for each data key.
#pragma once

#include "repository/repository_blob.h"

typedef struct ScopeLink ScopeLink;

typedef struct Scopes {
    ScopeLink *first; // NULL: none yet
} Scopes;

// Borrowed until scopes_done.
Status scopes_get(Scopes *scopes, const Repository *repository, const DataKey *key,
                  const Manifest *manifest, const ShardScope **ret_scope, Error *error);
// Whether there is one with this data key already.
bool scopes_have(const Scopes *scopes, const char *key_id, const ShardScope **ret_scope);
void scopes_done(Scopes *scopes);
