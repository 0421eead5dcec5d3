// SPDX-License-Identifier: Apache-2.0
// Manifests behind their seal. Input: the JSON.
#include "common/json.h"
#include "repository/manifest_object.h"
#include "repository/repository_document.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_repository.h"

#include <assert.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const FuzzRepository *fuzz = fuzz_repository();
    Error error = {0};
    CLEANUP(json_freep) Json *json = NULL;
    if (json_parse((const char *)data, size, &json, &error) != STATUS_OK) {
        return 0;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buffer_done) Buffer object = {0};
    DocumentHeader header = {.magic = DOCUMENT_MANIFEST,
                             .epoch = 1,
                             .id = FUZZ_OBJECT_ID,
                             .database_id = FUZZ_DATABASE_ID,
                             .shard_id = FUZZ_SHARD_ID};
    (void)snprintf(header.repository_id, UUID_TEXT_SIZE, "%s", repository_id(fuzz->repository));
    (void)snprintf(header.key_id, UUID_TEXT_SIZE, "%s", fuzz->key.id);
    buffer_init(&object, MANIFEST_SIZE_MAX);
    if (document_seal(&header, &fuzz->key.bytes, json, MANIFEST_SIZE_MAX, &object, &error) !=
        STATUS_OK) {
        return 0;
    }
    char key[OBJECT_KEY_SIZE];
    manifest_object_key(FUZZ_SHARD_ID, FUZZ_MANIFEST_ID, key);
    fuzz_object_put(fuzz, key, object.data, object.size);
    Manifest *manifest = NULL;
    ManifestRoot root;
    if (manifest_read(fuzz->repository, &fuzz->key, FUZZ_SHARD_ID, FUZZ_MANIFEST_ID, arena,
                      &manifest, &error) == STATUS_OK) {
        Status status = manifest_root(manifest, &root, &error);
        assert(status == STATUS_OK);
        assert(manifest->size_bytes >= 0 && manifest->generation >= 0);
    } else {
        assert(error.reason == REASON_OBJECT_CORRUPT || error.reason == REASON_REPOSITORY_FORMAT);
    }
    return 0;
}
