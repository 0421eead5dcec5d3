// SPDX-License-Identifier: Apache-2.0
// What differs between two backups of a shard, from their lists and maps: nodes of one hash are not
// entered, and no extent is read.
#include "repository/repository_diff.h"

#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/repository_reader.h"

#include <string.h>

// One of the two backups.
typedef struct DiffSide {
    BlobOpener *opener;
    ListReader *list;
    MapReader map;
    const ListEntry *entry; // the next file or directory; NULL: the end
} DiffSide;

typedef struct Diff {
    DiffSide sides[2];
    Progress progress;
    const DiffObserver *observer;
    DiffResult result;
    int64_t done_bytes, total_bytes;
} Diff;

static void side_done(DiffSide *side)
{
    map_reader_done(&side->map);
    list_reader_free(side->list);
    blob_opener_free(side->opener);
}

static Status side_init(DiffSide *side, const ShardScope *scope, const Manifest *manifest,
                        Error *error)
{
    ManifestRoot root;
    RETURN_IF_ERROR(manifest_root(manifest, &root, error));
    side->opener = blob_opener_new(scope);
    blob_opener_read_ahead(side->opener);
    side->list = list_reader_new(side->opener, &root, NULL, NULL);
    map_reader_init(&side->map, side->opener, root.map_fan_out);
    return STATUS_OK;
}

static Status side_next(DiffSide *side, Error *error)
{
    return list_reader_next(side->list, &side->entry, error);
}

static bool is_same(const Ref *a, const Ref *b)
{
    return (a->kind == BLOB_ZERO && b->kind == BLOB_ZERO) ||
           (a->kind == b->kind && ref_has_hash(a, b));
}

static int64_t bytes_at(int64_t size_bytes, int64_t position)
{
    return (int64_t)extent_size_at(size_bytes, position);
}

static void tell_extent(const Diff *diff, int64_t position)
{
    if (diff->observer->on_extent != NULL) {
        diff->observer->on_extent(diff->observer->context, diff->sides[1].map.size_bytes, position);
    }
}

// The extents that node `position` of a level stands for, of both files where both have them.
static Status compare_node(Diff *diff, int level, int64_t position, int64_t *changed_bytes,
                           Error *error)
{
    MapReader *old_map = &diff->sides[0].map;
    MapReader *new_map = &diff->sides[1].map;
    Ref old_ref;
    Ref new_ref;
    RETURN_IF_ERROR(map_reader_get(old_map, level, position, &old_ref, error));
    RETURN_IF_ERROR(map_reader_get(new_map, level, position, &new_ref, error));
    if (is_same(&old_ref, &new_ref)) {
        return STATUS_OK;
    }
    if (level == 0) {
        *changed_bytes += bytes_at(new_map->size_bytes, position);
        tell_extent(diff, position);
        return STATUS_OK;
    }
    int64_t common = MIN(old_map->extent_count, new_map->extent_count);
    const int fan_out = new_map->fan_out; // of both, where there is a level
    int64_t end = MIN(map_width(fan_out, common, level - 1), (position + 1) * fan_out);
    for (int64_t child = position * fan_out; child < end; child++) {
        RETURN_IF_ERROR(compare_node(diff, level - 1, child, changed_bytes, error));
    }
    return STATUS_OK;
}

// Bytes of the new file that are not at the same place of the old one. Files of different depths
// are compared from the highest level that both have; maps of different fan-outs have none in
// common but the extents.
static Status compare_files(Diff *diff, int64_t *ret_changed_bytes, Error *error)
{
    const ListEntry *old_entry = diff->sides[0].entry;
    const ListEntry *new_entry = diff->sides[1].entry;
    *ret_changed_bytes = 0;
    if (old_entry->size_bytes == new_entry->size_bytes &&
        is_same(&old_entry->root, &new_entry->root)) {
        return STATUS_OK;
    }
    map_reader_open(&diff->sides[0].map, old_entry);
    map_reader_open(&diff->sides[1].map, new_entry);
    const int fan_out = diff->sides[1].map.fan_out;
    int level = diff->sides[0].map.fan_out == fan_out ? MIN(old_entry->depth, new_entry->depth) : 0;
    int64_t common =
        MIN(extent_count_of(old_entry->size_bytes), extent_count_of(new_entry->size_bytes));
    int64_t changed_bytes = MAX(0, new_entry->size_bytes - common * (int64_t)EXTENT_SIZE);
    for (int64_t node = 0; common > 0 && node < map_width(fan_out, common, level); node++) {
        RETURN_IF_ERROR(compare_node(diff, level, node, &changed_bytes, error));
    }
    for (int64_t position = common; position < diff->sides[1].map.extent_count; position++) {
        tell_extent(diff, position);
    }
    *ret_changed_bytes = changed_bytes;
    return STATUS_OK;
}

static void tell(Diff *diff, FileChange change, const ListEntry *entry, int64_t changed_bytes,
                 int64_t old_size_bytes)
{
    diff->result.file_counts[change]++;
    diff->result.changed_bytes += changed_bytes;
    if (diff->observer->on_file != NULL && change != FILE_SAME) {
        const FileDifference difference = {.path = entry->path,
                                           .change = change,
                                           .old_size_bytes = old_size_bytes,
                                           .new_size_bytes =
                                               change == FILE_REMOVED ? 0 : entry->size_bytes,
                                           .changed_bytes = changed_bytes};
        diff->observer->on_file(diff->observer->context, &difference);
    }
}

static Status step(Diff *diff, int64_t bytes, Error *error)
{
    diff->done_bytes += bytes;
    if (diff->progress.on_progress != NULL &&
        !diff->progress.on_progress(diff->progress.context, diff->done_bytes, diff->total_bytes)) {
        return error_set(error, REASON_CANCELED, "the comparison was canceled");
    }
    return STATUS_OK;
}

static Status compare_pair(Diff *diff, Error *error)
{
    const ListEntry *old_entry = diff->sides[0].entry;
    const ListEntry *new_entry = diff->sides[1].entry;
    int64_t changed_bytes = 0;
    if (old_entry->kind != new_entry->kind) {
        tell(diff, FILE_CHANGED, new_entry, new_entry->size_bytes, old_entry->size_bytes);
        return STATUS_OK;
    }
    if (new_entry->kind == ENTRY_FILE) {
        RETURN_IF_ERROR(compare_files(diff, &changed_bytes, error));
        bool is_changed = changed_bytes > 0 || old_entry->size_bytes != new_entry->size_bytes ||
                          old_entry->mode != new_entry->mode;
        tell(diff, is_changed ? FILE_CHANGED : FILE_SAME, new_entry, changed_bytes,
             old_entry->size_bytes);
    }
    return step(diff, new_entry->size_bytes, error);
}

static Status walk(Diff *diff, Error *error)
{
    DiffSide *before = &diff->sides[0];
    DiffSide *after = &diff->sides[1];
    RETURN_IF_ERROR(side_next(before, error));
    RETURN_IF_ERROR(side_next(after, error));
    while (before->entry != NULL || after->entry != NULL) {
        int order = before->entry == NULL  ? 1
                    : after->entry == NULL ? -1
                                           : strcmp(before->entry->path, after->entry->path);
        if (order == 0) {
            RETURN_IF_ERROR(compare_pair(diff, error));
        } else if (order < 0 && before->entry->kind == ENTRY_FILE) {
            tell(diff, FILE_REMOVED, before->entry, 0, before->entry->size_bytes);
        } else if (order > 0 && after->entry->kind == ENTRY_FILE) {
            tell(diff, FILE_ADDED, after->entry, after->entry->size_bytes, 0);
            RETURN_IF_ERROR(step(diff, after->entry->size_bytes, error));
        }
        if (order <= 0) {
            RETURN_IF_ERROR(side_next(before, error));
        }
        if (order >= 0) {
            RETURN_IF_ERROR(side_next(after, error));
        }
    }
    return STATUS_OK;
}

static Status check_pair(const Manifest *before, const Manifest *after, Error *error)
{
    if (strcmp(before->shard_id, after->shard_id) != 0) {
        return error_set(error, REASON_INVALID, "manifests '%s' and '%s' are of different shards",
                         before->id, after->id);
    }
    if (strcmp(before->key_id, after->key_id) != 0) {
        error_set(error, REASON_PRECONDITION,
                  "manifests '%s' and '%s' are sealed with different data keys, so their maps "
                  "cannot be compared",
                  before->id, after->id);
        return error_hint(error, "restore both and compare the files");
    }
    return STATUS_OK;
}

Status diff_manifests(const ShardScope *scope, const Manifest *before, const Manifest *after,
                      Progress progress, const DiffObserver *observer, DiffResult *ret_result,
                      Error *error)
{
    Diff diff = {.progress = progress, .observer = observer, .total_bytes = after->size_bytes};
    Status status = side_init(&diff.sides[0], scope, before, error);
    if (status == STATUS_OK) {
        status = side_init(&diff.sides[1], scope, after, error);
    }
    if (status == STATUS_OK) {
        status = walk(&diff, error);
    }
    side_done(&diff.sides[0]);
    side_done(&diff.sides[1]);
    if (status == STATUS_OK) {
        *ret_result = diff.result;
    }
    return status;
}

Status repository_diff(Repository *repository, const DataKey *key, const Manifest *before,
                       const Manifest *after, Progress progress,
                       void (*on_file)(void *context, const FileDifference *difference),
                       void *context, DiffResult *ret_result, Error *error)
{
    CLEANUP(scope_done) ShardScope scope = {0};
    const DiffObserver observer = {.on_file = on_file, .context = context};
    RETURN_IF_ERROR(check_pair(before, after, error));
    RETURN_IF_ERROR(
        scope_init(&scope, repository, key, after->database_id, after->shard_id, error));
    return diff_manifests(&scope, before, after, progress, &observer, ret_result, error);
}
