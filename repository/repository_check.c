// SPDX-License-Identifier: Apache-2.0
// The check: from every set to every blob. Maps are walked first; then each reached pack is read
// once, whatever the number of backups that share it, and compared with what the maps say of it.
#include "common/memory.h"
#include "repository/repository_document.h"
#include "repository/repository_limits.h"
#include "repository/repository_pack.h"
#include "repository/repository_reach.h"
#include "repository/repository_replacement.h"
#include "repository/repository_scopes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_PAGE_COUNT 1000

// A shard backup that a set names.
typedef struct CheckEntry {
    char shard_id[UUID_TEXT_SIZE], database_id[UUID_TEXT_SIZE];
    char manifest_id[MANIFEST_ID_SIZE];
    char manifest_digest[65];
} CheckEntry;

typedef struct Check {
    Repository *repository;
    const CheckOptions *options;
    CheckReport report;
    CheckEntry *entries;
    size_t entry_count, entry_capacity;
    int64_t done_bytes, total_bytes;
    // Of the shard under way.
    Scopes scopes;
    Reach *reach;
    uint8_t *pack; // PACK_SIZE_MAX
    uint8_t *plain;
    Ref *refs;
} Check;

static void report_problem(void *context, const char *object, const Error *problem)
{
    Check *check = context;
    check->report.problem_count++;
    if (check->options->on_problem != NULL) {
        check->options->on_problem(check->options->context, object, problem);
    }
}

// Damage is a finding; anything else (no network, canceled) ends the check.
static Status tolerate(Check *check, Status status, const char *object, Error *error)
{
    bool is_finding = status == STATUS_DATA_LOSS || error->reason == REASON_KEY_MISSING ||
                      error->reason == REASON_KEY_WRONG || error->reason == REASON_NOT_FOUND ||
                      error->reason == REASON_EXHAUSTED ||
                      error->reason == REASON_REPOSITORY_FORMAT;
    if (status == STATUS_OK || !is_finding) {
        return status;
    }
    report_problem(check, object, error);
    error_clear(error);
    return STATUS_OK;
}

static Status step(Check *check, int64_t bytes, Error *error)
{
    check->done_bytes += bytes;
    const Progress *progress = &check->options->progress;
    if (progress->on_progress != NULL &&
        !progress->on_progress(progress->context, check->done_bytes, check->total_bytes)) {
        return error_set(error, REASON_CANCELED, "the check was canceled");
    }
    return STATUS_OK;
}

// Calls on_object for everything under a prefix.
static Status each_object(Check *check, const char *prefix,
                          Status (*on_object)(Check *check, const StorageObject *object,
                                              Error *error),
                          Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char token[STORAGE_KEY_SIZE_MAX + 1] = "";
    do {
        StoragePage page;
        arena_reset(arena);
        RETURN_IF_ERROR(storage_list(check->repository->storage, prefix,
                                     token[0] == '\0' ? NULL : token, CHECK_PAGE_COUNT, arena,
                                     &page, error));
        for (size_t i = 0; i < page.count; i++) {
            RETURN_IF_ERROR(on_object(check, &page.objects[i], error));
        }
        const char *next = page.next_page_token;
        snprintf(token, sizeof(token), "%s", next == NULL ? "" : next);
    } while (token[0] != '\0');
    return STATUS_OK;
}

// --- sets -------------------------------------------------------------------------------------

static void add_entries(Check *check, const BackupSet *set)
{
    for (size_t i = 0; i < set->shard_count; i++) {
        if (check->entry_count == check->entry_capacity) {
            check->entry_capacity = check->entry_capacity == 0 ? 256 : 2 * check->entry_capacity;
            check->entries =
                mem_realloc_array(check->entries, check->entry_capacity, sizeof(*check->entries));
        }
        CheckEntry *entry = &check->entries[check->entry_count++];
        memcpy(entry->database_id, set->database_id, UUID_TEXT_SIZE);
        memcpy(entry->shard_id, set->shards[i].shard_id, UUID_TEXT_SIZE);
        memcpy(entry->manifest_id, set->shards[i].manifest_id, MANIFEST_ID_SIZE);
        memcpy(entry->manifest_digest, set->shards[i].manifest_digest, 65);
    }
}

static Status check_set(Check *check, const StorageObject *object, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char database_id[UUID_TEXT_SIZE];
    char backup_id[UUID_TEXT_SIZE];
    check->report.object_count++;
    check->report.read_bytes += object->size_bytes;
    if (!backup_set_id_parse(object->key, database_id, backup_id)) {
        Status status = document_is_damaged(object->key, "does not have a set's name", error);
        return tolerate(check, status, object->key, error);
    }
    BackupSet *set = NULL;
    Status status = backup_set_read(check->repository, database_id, backup_id, arena, &set, error);
    if (status == STATUS_OK) {
        check->report.set_count++;
        add_entries(check, set);
    }
    return tolerate(check, status, object->key, error);
}

static int compare_entries(const void *a, const void *b)
{
    const CheckEntry *left = a;
    const CheckEntry *right = b;
    int order = strcmp(left->shard_id, right->shard_id);
    return order != 0 ? order : strcmp(left->manifest_id, right->manifest_id);
}

// --- one shard --------------------------------------------------------------------------------

// A manifest that a set names must be the one that its children say they were made from.
static Status check_lineage(const Check *check, const Manifest *manifest, Error *error)
{
    CheckEntry key = {0};
    if (manifest->parent_id[0] == '\0' || strlen(manifest->parent_id) >= MANIFEST_ID_SIZE) {
        return STATUS_OK;
    }
    memcpy(key.shard_id, manifest->shard_id, UUID_TEXT_SIZE);
    memcpy(key.manifest_id, manifest->parent_id, strlen(manifest->parent_id) + 1);
    const CheckEntry *parent =
        bsearch(&key, check->entries, check->entry_count, sizeof(*check->entries), compare_entries);
    if (parent == NULL || strcmp(parent->manifest_digest, manifest->parent_digest) == 0) {
        return STATUS_OK; // retention may have removed it: a backup does not need its parent
    }
    return error_set(error, REASON_OBJECT_CORRUPT,
                     "manifest '%s' was made from another manifest '%s' than the one that is there",
                     manifest->id, manifest->parent_id);
}

static Status check_manifest(Check *check, const CheckEntry *entry, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(data_key_done) DataKey key = {0};
    Manifest *manifest = NULL;
    RETURN_IF_ERROR(manifest_open(check->repository, entry->database_id, entry->shard_id,
                                  entry->manifest_id, arena, &key, &manifest, error));
    check->report.manifest_count++;
    if (strcmp(manifest->digest, entry->manifest_digest) != 0) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that its backup names", manifest->id);
    }
    RETURN_IF_ERROR(check_lineage(check, manifest, error));
    const ShardScope *scope = NULL;
    RETURN_IF_ERROR(scopes_get(&check->scopes, check->repository, &key, manifest, &scope, error));
    return reach_add(check->reach, scope, manifest, error);
}

// The blobs of an object in memory: of a pack (number 0) or of a replacement.
static Status open_index(const ReachedPack *pack, uint32_t number, const uint8_t *data, size_t size,
                         Check *check, uint32_t **ret_positions, size_t *ret_count, Error *error)
{
    if (number == 0) {
        return pack_index_open(pack->scope, &pack->name, data, size, check->refs, ret_count, error);
    }
    CLEANUP_FREE ReplacedBlob *blobs = NULL;
    size_t whole_size = 0;
    RETURN_IF_ERROR(replacement_front_open(pack->scope, &pack->name, number, data, size, &blobs,
                                           ret_count, &whole_size, error));
    if (whole_size != size) {
        return error_set(error, REASON_OBJECT_CORRUPT, "the replacement does not fit its index");
    }
    *ret_positions = mem_alloc_array(*ret_count, sizeof(**ret_positions));
    for (size_t i = 0; i < *ret_count; i++) {
        check->refs[i] = blobs[i].ref;
        (*ret_positions)[i] = blobs[i].position;
    }
    return STATUS_OK;
}

static Status check_blobs(Check *check, const ReachedPack *pack, uint32_t number,
                          const uint8_t *data, size_t size, Error *error)
{
    size_t count = 0;
    CLEANUP_FREE uint32_t *positions = NULL;
    RETURN_IF_ERROR(open_index(pack, number, data, size, check, &positions, &count, error));
    CLEANUP(blob_opener_freep) BlobOpener *opener = blob_opener_new(pack->scope);
    uint8_t fold[REF_SIZE] = {0};
    size_t reached_count = 0;
    for (size_t i = 0; i < count; i++) {
        const Ref *ref = &check->refs[i];
        if (!reached_blob(pack, ref->index)) {
            continue;
        }
        uint32_t position = positions == NULL ? ref->offset : positions[i];
        RETURN_IF_ERROR(blob_open(opener, ref, data + position, true, check->plain, error));
        uint8_t encoded[REF_SIZE];
        ref_encode(ref, encoded);
        for (size_t byte = 0; byte < REF_SIZE; byte++) {
            fold[byte] ^= encoded[byte];
        }
        reached_count++;
        // An older object beside it has the same ones.
        check->report.extent_count += ref->kind == BLOB_EXTENT && !pack->is_seen ? 1 : 0;
    }
    if (reached_count != reached_blob_count(pack) || memcmp(fold, pack->fold, REF_SIZE) != 0) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "the maps name blobs that the pack does not have");
    }
    return STATUS_OK;
}

static Status check_pack(Check *check, const StorageObject *object, const ReachedPack *pack,
                         uint32_t number, Error *error)
{
    size_t size = (size_t)object->size_bytes;
    if (object->size_bytes < 0 || size > PACK_SIZE_MAX) {
        return document_is_damaged(object->key, "has an impossible size", error);
    }
    while (check->options->limits != NULL && !limits_try_download(check->options->limits, size)) {
        RETURN_IF_ERROR(step(check, 0, error));
    }
    Status status =
        storage_get_range(check->repository->storage, object->key, 0, size, check->pack, error);
    RETURN_IF_ERROR(status);
    check->report.read_bytes += object->size_bytes;
    if (check_blobs(check, pack, number, check->pack, size, error) != STATUS_OK) {
        return error_wrap(error, "needed by manifest '%s'", pack->manifest_id);
    }
    return STATUS_OK;
}

static bool is_sampled(const Check *check)
{
    uint32_t chance = 0;
    if (check->options->sample_percent == 0) {
        return true;
    }
    crypto_random(&chance, sizeof(chance));
    return (int)(chance % 100) < check->options->sample_percent;
}

// A pack is followed by its replacements. An older one beside a newer one that is whole is left
// over: a sweep ended early. It is checked all the same, because a restore reads the pack first.
static Status visit_reached(Check *check, const StorageObject *object, ReachedPack *pack,
                            uint32_t number, Error *error)
{
    if (!is_sampled(check)) {
        check->report.unread_count++;
        check->report.object_count++;
        pack->is_seen = true;
        pack->seen_bytes = object->size_bytes;
        return STATUS_OK;
    }
    Status status = check_pack(check, object, pack, number, error);
    if (status == STATUS_NOT_FOUND) {
        // A sweep replaced it since it was listed; find_unseen looks for what is there instead.
        error_clear(error);
        return STATUS_OK;
    }
    if (status == STATUS_OK && pack->is_seen) {
        check->report.orphan_count++;
        check->report.orphan_bytes += pack->seen_bytes;
        check->report.object_count--;
    }
    pack->is_seen = true;
    pack->seen_bytes = object->size_bytes;
    check->report.object_count++;
    return tolerate(check, status, object->key, error);
}

static Status visit_pack(Check *check, const StorageObject *object, Error *error)
{
    PackName name;
    uint32_t number = 0;
    const char *text = strrchr(object->key, '/') + 1;
    ReachedPack *pack =
        pack_object_decode(text, &name, &number) ? reach_find(check->reach, &name) : NULL;
    if (pack == NULL) {
        check->report.orphan_count++;
        check->report.orphan_bytes += object->size_bytes;
    } else {
        RETURN_IF_ERROR(visit_reached(check, object, pack, number, error));
    }
    return step(check, object->size_bytes, error);
}

// A pack that was not there when it was its turn: it was replaced meanwhile, or it is missing.
static Status find_unseen(Check *check, ReachedPack *pack, Error *error)
{
    char key[OBJECT_KEY_SIZE];
    uint32_t known = 0;
    for (;;) {
        uint32_t number = 0;
        RETURN_IF_ERROR(replacement_find(pack->scope, &pack->name, &number, error));
        if (number <= known) {
            break;
        }
        known = number;
        StorageObject object = {0};
        replacement_object_key(pack->scope->shard_id, &pack->name, number, key);
        Status status = storage_stat(check->repository->storage, key, &object, error);
        if (status == STATUS_OK) {
            object.key = key;
            RETURN_IF_ERROR(visit_reached(check, &object, pack, number, error));
        } else if (status != STATUS_NOT_FOUND) {
            return status;
        }
        if (pack->is_seen) {
            return STATUS_OK;
        }
        error_clear(error);
    }
    Error missing = {0};
    pack_object_key(pack->scope->shard_id, &pack->name, key);
    error_set(&missing, REASON_OBJECT_MISSING, "object '%s' is missing; manifest '%s' needs it",
              key, pack->manifest_id);
    report_problem(check, key, &missing);
    return STATUS_OK;
}

static Status check_unseen_packs(Check *check, Error *error)
{
    for (size_t i = 0; reach_at(check->reach, i) != NULL; i++) {
        ReachedPack *pack = reach_at(check->reach, i);
        if (!pack->is_seen && !pack->is_reported) {
            RETURN_IF_ERROR(find_unseen(check, pack, error));
        }
    }
    return STATUS_OK;
}

static void shard_done(Check *check)
{
    reach_free(check->reach);
    check->reach = NULL;
    scopes_done(&check->scopes);
}

// The entries from `first` on are sorted; checks all of one shard and moves on.
static Status check_shard(Check *check, size_t *first, Error *error)
{
    const char *shard_id = check->entries[*first].shard_id;
    const char *previous = "";
    check->reach = reach_new(report_problem, check);
    size_t index = *first;
    for (; index < check->entry_count && strcmp(check->entries[index].shard_id, shard_id) == 0;
         index++) {
        const CheckEntry *entry = &check->entries[index];
        if (strcmp(entry->manifest_id, previous) == 0) {
            continue;
        }
        previous = entry->manifest_id;
        char object[OBJECT_KEY_SIZE];
        manifest_object_key(shard_id, entry->manifest_id, object);
        check->report.object_count++;
        RETURN_IF_ERROR(tolerate(check, check_manifest(check, entry, error), object, error));
        RETURN_IF_ERROR(step(check, 0, error));
    }
    *first = index;
    char prefix[OBJECT_KEY_SIZE];
    snprintf(prefix, sizeof(prefix), "shards/%s/packs/", shard_id);
    RETURN_IF_ERROR(each_object(check, prefix, visit_pack, error));
    RETURN_IF_ERROR(check_unseen_packs(check, error));
    shard_done(check);
    return STATUS_OK;
}

// --- what nothing reaches ---------------------------------------------------------------------

static Status measure_object(Check *check, const StorageObject *object, Error *error)
{
    (void)error;
    if (strstr(object->key, "/packs/") != NULL) {
        check->total_bytes += object->size_bytes;
    }
    return STATUS_OK;
}

// Packs of a checked shard were counted with it; everything else that no set names is an orphan.
static Status find_orphan(Check *check, const StorageObject *object, Error *error)
{
    CheckEntry key = {0};
    const size_t start = strlen("shards/");
    snprintf(key.shard_id, sizeof(key.shard_id), "%.36s", object->key + start);
    const char *rest = object->key + MIN(strlen(object->key), start + UUID_TEXT_SIZE - 1);
    size_t low = 0;
    size_t high = check->entry_count;
    bool is_manifest = strncmp(rest, "/manifests/", 11) == 0;
    if (is_manifest) {
        snprintf(key.manifest_id, sizeof(key.manifest_id), "%.45s", rest + 11);
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_entries(&check->entries[middle], &key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_shard =
        low < check->entry_count && strcmp(check->entries[low].shard_id, key.shard_id) == 0;
    bool is_known =
        is_shard && (is_manifest ? strcmp(check->entries[low].manifest_id, key.manifest_id) == 0
                                 : strncmp(rest, "/packs/", 7) == 0);
    if (!is_known) {
        check->report.orphan_count++;
        check->report.orphan_bytes += object->size_bytes;
        if (strncmp(rest, "/packs/", 7) == 0) {
            return step(check, object->size_bytes, error);
        }
    }
    return STATUS_OK;
}

static Status run_check(Check *check, Error *error)
{
    RETURN_IF_ERROR(each_object(check, "shards/", measure_object, error));
    RETURN_IF_ERROR(each_object(check, "sets/", check_set, error));
    if (check->entry_count > 0) {
        qsort(check->entries, check->entry_count, sizeof(*check->entries), compare_entries);
    }
    const CheckOptions *options = check->options;
    for (size_t first = 0; first < check->entry_count;) {
        char shard_id[UUID_TEXT_SIZE];
        memcpy(shard_id, check->entries[first].shard_id, UUID_TEXT_SIZE);
        if (options->after_shard_id != NULL && strcmp(shard_id, options->after_shard_id) <= 0) {
            first++;
            continue;
        }
        RETURN_IF_ERROR(check_shard(check, &first, error));
        if (options->on_shard != NULL) {
            options->on_shard(options->context, shard_id, &check->report);
        }
    }
    return each_object(check, "shards/", find_orphan, error);
}

Status repository_check_with(Repository *repository, const CheckOptions *options,
                             CheckReport *ret_report, Error *error)
{
    if (repository->wrapper == NULL) {
        error_set(error, REASON_KEY_MISSING, "the check needs the repository's key file");
        return error_hint(error, "name the key file");
    }
    Check check = {
        .repository = repository,
        .options = options,
        .pack = mem_alloc(PACK_SIZE_MAX),
        .plain = mem_alloc(BLOB_SIZE_MAX),
        .refs = mem_alloc_array(PACK_BLOB_COUNT_MAX, sizeof(Ref)),
    };
    Status status = run_check(&check, error);
    shard_done(&check);
    mem_free(check.entries);
    mem_free(check.pack);
    mem_free(check.plain);
    mem_free(check.refs);
    if (status == STATUS_OK) {
        *ret_report = check.report;
    }
    return status;
}

Status repository_check(Repository *repository, Progress progress,
                        void (*on_problem)(void *context, const char *object, const Error *problem),
                        void *context, CheckReport *ret_report, Error *error)
{
    const CheckOptions options = {
        .progress = progress, .on_problem = on_problem, .context = context};
    return repository_check_with(repository, &options, ret_report, error);
}
