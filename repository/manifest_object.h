// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: manifests as objects.
#pragma once

#include "repository/repository_blob.h"

// The root of a manifest that was read or published; REASON_INVALID for one that a caller made up.
Status manifest_root(const Manifest *manifest, ManifestRoot *ret_root, Error *error);
void manifest_object_key(const char *shard_id, const char *manifest_id,
                         char ret_key[OBJECT_KEY_SIZE]);
// Create-only. The result lives in the arena and has its digest.
Status manifest_write(const ShardScope *scope, const Manifest *manifest, const ManifestRoot *root,
                      Arena *arena, Manifest **ret_manifest, Error *error);
