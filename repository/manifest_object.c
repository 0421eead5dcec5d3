// SPDX-License-Identifier: Apache-2.0
// Manifests: written once, by conditional create, under a name that starts with the attempt's
// epoch.
#include "repository/manifest_object.h"

#include "common/memory.h"
#include "repository/repository_document.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define COUNT_MAX (INT64_C(1) << 53) // what JSON numbers carry exactly

void manifest_object_key(const char *shard_id, const char *manifest_id,
                         char ret_key[OBJECT_KEY_SIZE])
{
    snprintf(ret_key, OBJECT_KEY_SIZE, "shards/%s/manifests/%s", shard_id, manifest_id);
}

Status manifest_root(const Manifest *manifest, ManifestRoot *ret_root, Error *error)
{
    ManifestRoot root = {.level = manifest->list_level, .map_fan_out = manifest->map_fan_out};
    if (manifest->digest[0] == '\0' || !ref_decode(manifest->list_root, &root.ref) ||
        root.ref.kind != BLOB_NODE || root.level < 0 || root.level > LIST_LEVEL_MAX ||
        !map_fan_out_is_known(root.map_fan_out)) {
        return error_set(error, REASON_INVALID, "manifest '%s' was not read from a repository",
                         manifest->id);
    }
    *ret_root = root;
    return STATUS_OK;
}

static void digest_text(const uint8_t *data, size_t size, char ret_text[65])
{
    uint8_t digest[SHA256_SIZE];
    crypto_sha256(data, size, digest);
    hex_encode(digest, sizeof(digest), ret_text);
}

static Json *manifest_to_json(const Manifest *manifest)
{
    char root[2 * REF_SIZE + 1];
    hex_encode(manifest->list_root, REF_SIZE, root);
    Json *json = json_new_object();
    json_set_text(json, "database_name", manifest->database_name);
    json_set_text(json, "shard_name", manifest->shard_name);
    json_set_text(json, "engine", manifest->engine);
    json_set_text(json, "engine_version", manifest->engine_version);
    json_set_text(json, "checkpoint", manifest->checkpoint);
    json_set_text(json, "engine_state", manifest->engine_state);
    json_set_text(json, "parent_id", manifest->parent_id);
    json_set_text(json, "parent_digest", manifest->parent_digest);
    if (manifest->origin_digest[0] != '\0') {
        json_set_text(json, "origin_digest", manifest->origin_digest);
    }
    json_set_integer(json, "generation", manifest->generation);
    json_set_integer(json, "created_us", manifest->created_us);
    json_set_integer(json, "file_count", manifest->file_count);
    json_set_integer(json, "directory_count", manifest->directory_count);
    json_set_integer(json, "size_bytes", manifest->size_bytes);
    json_set_integer(json, "data_bytes", manifest->data_bytes);
    json_set_integer(json, "new_bytes", manifest->new_bytes);
    json_set_integer(json, "stored_bytes", manifest->stored_bytes);
    json_set_integer(json, "resumed_bytes", manifest->resumed_bytes);
    json_set_integer(json, "read_bytes", manifest->read_bytes);
    json_set_integer(json, "unrecorded_bytes", manifest->unrecorded_bytes);
    json_set_integer(json, "extent_size", (int64_t)EXTENT_SIZE);
    json_set_integer(json, "map_fan_out", manifest->map_fan_out);
    json_set_integer(json, "list_level", manifest->list_level);
    json_set_text(json, "list_root", root);
    return json;
}

static const char *text_of(const Json *json, const char *key, Arena *arena)
{
    return arena_string(arena, json_get_text(json, key, ""));
}

static bool count_of(const Json *json, const char *key, int64_t *ret_count)
{
    *ret_count = json_get_integer(json, key, -1);
    return *ret_count >= 0 && *ret_count <= COUNT_MAX;
}

// A manifest that does not say it is older than the member.
static Status map_fan_out_of(const char *object, const Json *json, int32_t *ret_fan_out,
                             Error *error)
{
    const Json *member = json_get(json, "map_fan_out");
    int64_t fan_out = member == NULL ? MAP_FAN_OUT_MAX : json_integer(member, 0);
    if (!map_fan_out_is_known(fan_out)) {
        error_set(
            error, REASON_REPOSITORY_FORMAT,
            "object '%s' has maps of %lld references a node, which this version does not read",
            object, (long long)fan_out);
        return error_hint(error, "use the version of the program that wrote it, or a later one");
    }
    *ret_fan_out = (int32_t)fan_out;
    return STATUS_OK;
}

static Status manifest_from_json(const char *object, const Json *json, Arena *arena,
                                 Manifest *manifest, Error *error)
{
    int64_t generation = 0;
    int64_t level = 0;
    int64_t extent_size = json_get_integer(json, "extent_size", 0);
    if (extent_size != (int64_t)EXTENT_SIZE) {
        return error_set(error, REASON_REPOSITORY_FORMAT,
                         "object '%s' has extents of %lld bytes, which this version does not read",
                         object, (long long)extent_size);
    }
    RETURN_IF_ERROR(map_fan_out_of(object, json, &manifest->map_fan_out, error));
    if (!count_of(json, "generation", &generation) || generation > INT32_MAX ||
        !count_of(json, "created_us", &manifest->created_us) ||
        !count_of(json, "file_count", &manifest->file_count) ||
        !count_of(json, "directory_count", &manifest->directory_count) ||
        !count_of(json, "size_bytes", &manifest->size_bytes) ||
        !count_of(json, "data_bytes", &manifest->data_bytes) ||
        !count_of(json, "new_bytes", &manifest->new_bytes) ||
        !count_of(json, "stored_bytes", &manifest->stored_bytes) ||
        !count_of(json, "read_bytes", &manifest->read_bytes) ||
        !count_of(json, "unrecorded_bytes", &manifest->unrecorded_bytes) ||
        !count_of(json, "list_level", &level) || level > LIST_LEVEL_MAX ||
        !hex_decode(json_get_text(json, "list_root", ""), manifest->list_root, REF_SIZE)) {
        return document_is_damaged(object, "lacks a field or has an impossible one", error);
    }
    manifest->resumed_bytes = MAX(json_get_integer(json, "resumed_bytes", 0), 0);
    manifest->generation = (int32_t)generation;
    manifest->list_level = (int32_t)level;
    manifest->database_name = text_of(json, "database_name", arena);
    manifest->shard_name = text_of(json, "shard_name", arena);
    manifest->engine = text_of(json, "engine", arena);
    manifest->engine_version = text_of(json, "engine_version", arena);
    manifest->checkpoint = text_of(json, "checkpoint", arena);
    manifest->engine_state = text_of(json, "engine_state", arena);
    manifest->parent_id = text_of(json, "parent_id", arena);
    manifest->parent_digest = text_of(json, "parent_digest", arena);
    manifest->origin_digest = text_of(json, "origin_digest", arena);
    ManifestRoot root;
    return manifest_root(manifest, &root, error) == STATUS_OK
               ? STATUS_OK
               : document_is_damaged(object, "has no valid root", error);
}

static const char *copy_or_empty(Arena *arena, const char *text)
{
    return arena_string(arena, text == NULL ? "" : text);
}

// The manifest with every text in the arena, so that it does not depend on the publisher's options.
static Manifest *manifest_copy(const Manifest *manifest, Arena *arena)
{
    Manifest *copy = arena_copy(arena, manifest, sizeof(*manifest));
    copy->database_name = copy_or_empty(arena, manifest->database_name);
    copy->shard_name = copy_or_empty(arena, manifest->shard_name);
    copy->engine = copy_or_empty(arena, manifest->engine);
    copy->engine_version = copy_or_empty(arena, manifest->engine_version);
    copy->checkpoint = copy_or_empty(arena, manifest->checkpoint);
    copy->engine_state = copy_or_empty(arena, manifest->engine_state);
    copy->parent_id = copy_or_empty(arena, manifest->parent_id);
    copy->parent_digest = copy_or_empty(arena, manifest->parent_digest);
    copy->origin_digest = copy_or_empty(arena, manifest->origin_digest);
    return copy;
}

Status manifest_write(const ShardScope *scope, const Manifest *manifest, const ManifestRoot *root,
                      Arena *arena, Manifest **ret_manifest, Error *error)
{
    Manifest *result = manifest_copy(manifest, arena);
    result->list_level = root->level;
    result->map_fan_out = root->map_fan_out;
    ref_encode(&root->ref, result->list_root);
    PackName name; // a manifest's id has the form of a pack's name
    bool is_id = pack_name_decode(manifest->id, &name);
    assert(is_id);
    DocumentHeader header = {.magic = DOCUMENT_MANIFEST, .epoch = name.epoch};
    id_encode(name.id, header.id);
    memcpy(header.repository_id, scope->repository_id, UUID_TEXT_SIZE);
    memcpy(header.database_id, scope->database_id, UUID_TEXT_SIZE);
    memcpy(header.shard_id, scope->shard_id, UUID_TEXT_SIZE);
    memcpy(header.key_id, scope->key_id, UUID_TEXT_SIZE);
    CLEANUP(json_freep) Json *json = manifest_to_json(result);
    CLEANUP(buffer_done) Buffer object = {0};
    buffer_init(&object, MANIFEST_SIZE_MAX);
    RETURN_IF_ERROR(
        document_seal(&header, &scope->data_key, json, MANIFEST_SIZE_MAX, &object, error));
    digest_text(object.data, object.size, result->digest);
    char key[OBJECT_KEY_SIZE];
    manifest_object_key(scope->shard_id, manifest->id, key);
    const StorageWriteOptions options = {.is_create_only = true};
    RETURN_IF_ERROR(storage_put(scope->storage, key, object.data, object.size, &options, error));
    *ret_manifest = result;
    return STATUS_OK;
}

// What the header says must be what we asked for: an object that was moved or renamed is not it.
static Status check_header(const char *object, const DocumentHeader *header,
                           const Repository *repository, const DataKey *key, const char *shard_id,
                           const char *manifest_id, Error *error)
{
    char id[MANIFEST_ID_SIZE];
    snprintf(id, sizeof(id), "%08x-%s", header->epoch, header->id);
    if (strcmp(id, manifest_id) != 0 || strcmp(header->shard_id, shard_id) != 0 ||
        strcmp(header->repository_id, repository->id) != 0) {
        return document_is_damaged(object, "belongs to another place", error);
    }
    if (strcmp(header->key_id, key->id) != 0) {
        error_set(error, REASON_KEY_WRONG, "object '%s' is sealed with data key '%s', not '%s'",
                  object, header->key_id, key->id);
        return error_hint(error, "open it with the data key that it names");
    }
    return STATUS_OK;
}

// Fetches the object and its header, which is not authenticated yet.
static Status fetch_manifest(Repository *repository, const char *shard_id, const char *manifest_id,
                             Arena *arena, uint8_t **ret_data, size_t *ret_size,
                             DocumentHeader *ret_header, Error *error)
{
    PackName name;
    char object[OBJECT_KEY_SIZE];
    RETURN_IF_ERROR(id_check(shard_id, "shard", error));
    if (!pack_name_decode(manifest_id, &name)) {
        return error_set(error, REASON_INVALID, "'%.64s' is not the id of a manifest", manifest_id);
    }
    manifest_object_key(shard_id, manifest_id, object);
    Status status = storage_get(repository->storage, object, MANIFEST_SIZE_MAX, arena, ret_data,
                                ret_size, error);
    if (status == STATUS_RESOURCE_EXHAUSTED && error->reason == REASON_EXHAUSTED) {
        return document_is_damaged(object, "is too large", error);
    }
    RETURN_IF_ERROR(missing_becomes_damage(status, error));
    return document_header_decode(object, DOCUMENT_MANIFEST, *ret_data, *ret_size, ret_header,
                                  error);
}

static Status decode_manifest(Repository *repository, const DataKey *key, const char *shard_id,
                              const char *manifest_id, const uint8_t *data, size_t size,
                              const DocumentHeader *header, Arena *arena, Manifest **ret_manifest,
                              Error *error)
{
    char object[OBJECT_KEY_SIZE];
    manifest_object_key(shard_id, manifest_id, object);
    RETURN_IF_ERROR(check_header(object, header, repository, key, shard_id, manifest_id, error));
    CLEANUP(json_freep) Json *json = NULL;
    RETURN_IF_ERROR(
        document_open(object, header, &key->bytes, data, size, MANIFEST_SIZE_MAX, &json, error));
    Manifest *manifest = arena_alloc(arena, sizeof(*manifest));
    snprintf(manifest->id, sizeof(manifest->id), "%s", manifest_id);
    memcpy(manifest->repository_id, header->repository_id, UUID_TEXT_SIZE);
    memcpy(manifest->database_id, header->database_id, UUID_TEXT_SIZE);
    memcpy(manifest->shard_id, header->shard_id, UUID_TEXT_SIZE);
    memcpy(manifest->key_id, header->key_id, UUID_TEXT_SIZE);
    digest_text(data, size, manifest->digest);
    RETURN_IF_ERROR(manifest_from_json(object, json, arena, manifest, error));
    *ret_manifest = manifest;
    return STATUS_OK;
}

Status manifest_read(Repository *repository, const DataKey *key, const char *shard_id,
                     const char *manifest_id, Arena *arena, Manifest **ret_manifest, Error *error)
{
    uint8_t *data = NULL;
    size_t size = 0;
    DocumentHeader header;
    RETURN_IF_ERROR(
        fetch_manifest(repository, shard_id, manifest_id, arena, &data, &size, &header, error));
    return decode_manifest(repository, key, shard_id, manifest_id, data, size, &header, arena,
                           ret_manifest, error);
}

Status manifest_data_key(Repository *repository, const char *database_id, const char *shard_id,
                         const char *manifest_id, DataKey *ret_key, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    uint8_t *data = NULL;
    size_t size = 0;
    DocumentHeader header;
    RETURN_IF_ERROR(
        fetch_manifest(repository, shard_id, manifest_id, arena, &data, &size, &header, error));
    return repository_data_key_by_id(repository,
                                     database_id == NULL ? header.database_id : database_id,
                                     header.key_id, ret_key, error);
}

Status manifest_open(Repository *repository, const char *database_id, const char *shard_id,
                     const char *manifest_id, Arena *arena, DataKey *ret_key,
                     Manifest **ret_manifest, Error *error)
{
    uint8_t *data = NULL;
    size_t size = 0;
    DocumentHeader header;
    RETURN_IF_ERROR(
        fetch_manifest(repository, shard_id, manifest_id, arena, &data, &size, &header, error));
    if (strcmp(header.database_id, database_id) != 0) {
        char object[OBJECT_KEY_SIZE];
        manifest_object_key(shard_id, manifest_id, object);
        return document_is_damaged(object, "belongs to another database", error);
    }
    DataKey key = {0};
    RETURN_IF_ERROR(repository_data_key_by_id(repository, database_id, header.key_id, &key, error));
    Status status = decode_manifest(repository, &key, shard_id, manifest_id, data, size, &header,
                                    arena, ret_manifest, error);
    if (status != STATUS_OK) {
        data_key_done(&key);
        return status;
    }
    *ret_key = key;
    return STATUS_OK;
}
