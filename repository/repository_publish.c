// SPDX-License-Identifier: Apache-2.0
// Publishing: a stopped engine's directory becomes a backup that shares everything unchanged with
// its parent. The calling thread walks the files and the parent's list in step and cuts the files
// into parts; workers turn parts into nodes; what comes back in order is mapped and listed. Memory
// does not depend on the size of the shard.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/repository_publish_worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_STEP_BYTES (INT64_C(4) * 1024 * 1024)
#define PROGRESS_STEP_MS 500
// Workers wait for the disk and the store as well, so there are more than processors; how many
// compute at once is a matter of Limits.
#define WORKER_COUNT_MAX 32
#define UPLOADER_COUNT 6
#define PACK_COUNT_MIN 2
#define PACK_COUNT_MAX (UPLOADER_COUNT + 2)

// The parent's list and the map of its file of the path that is being read.
typedef struct ParentWalk {
    BlobOpener *opener;
    ListReader *list;
    const ListEntry *entry; // the first whose path is not less than the path sought; NULL: the end
    bool has_map;
    MapReader map;
    size_t ahead_file; // of ours, that a root of the parent was last asked for
} ParentWalk;

typedef struct Publisher {
    const PublishOptions *options;
    ShardScope scope;
    Limits *own_limits; // when the caller gave none
    int directory_fd;
    PublishSource directory; // the source, but for a copy
    PublishRun run;
    PackWriter *packs;
    ResumeTable *resume;
    NodeStore *nodes;
    MapBuilder map;
    bool is_map_begun;
    int64_t file_data_bytes, file_parent_data_bytes; // of the items taken
    ListBuilder *list;
    PublishWorkers *workers;
    ParentWalk parent;
    Manifest manifest; // the statistics, as they grow
    int64_t total_bytes, reported_bytes, reported_ms;
} Publisher;

// --- parent -----------------------------------------------------------------------------------

// Whether the map of a file of the parent will be looked into. It is asked in order of path.
static bool needs_root(void *context, const ListEntry *entry)
{
    Publisher *publisher = context;
    const PublishOptions *options = publisher->options;
    size_t *next = &publisher->parent.ahead_file;
    while (*next < options->file_count && strcmp(options->files[*next].path, entry->path) < 0) {
        (*next)++;
    }
    if (*next == options->file_count) {
        return false;
    }
    const SourceFile *file = &options->files[*next];
    return strcmp(file->path, entry->path) == 0 &&
           (file->is_written == NULL || options->reads_everything ||
            file->size_bytes != entry->size_bytes ||
            file->is_written(file->written_context, 0, file->size_bytes));
}

static Status parent_open(Publisher *publisher, Error *error)
{
    const Manifest *parent = publisher->options->parent;
    if (parent == NULL) {
        return STATUS_OK;
    }
    ManifestRoot root;
    RETURN_IF_ERROR(manifest_root(parent, &root, error));
    if (strcmp(parent->key_id, publisher->scope.key_id) != 0) {
        error_set(error, REASON_KEY_WRONG, "the parent is sealed with data key '%s', not '%s'",
                  parent->key_id, publisher->scope.key_id);
        return error_hint(error, "publish with the parent's data key, or a new seed");
    }
    if (strcmp(parent->shard_id, publisher->scope.shard_id) != 0 ||
        strcmp(parent->repository_id, publisher->scope.repository_id) != 0) {
        return error_set(error, REASON_INVALID, "manifest '%s' is not of this shard and repository",
                         parent->id);
    }
    publisher->parent.opener = blob_opener_new(&publisher->scope);
    blob_opener_read_ahead(publisher->parent.opener);
    publisher->parent.list =
        list_reader_new(publisher->parent.opener, &root, list_builder_offer, publisher->list);
    list_reader_ask_roots(publisher->parent.list, 2, needs_root, publisher);
    map_reader_init(&publisher->parent.map, publisher->parent.opener, root.map_fan_out);
    return list_reader_next(publisher->parent.list, &publisher->parent.entry, error);
}

static Status parent_seek(ParentWalk *parent, const char *path, EntryKind kind, Error *error)
{
    parent->has_map = false;
    while (parent->entry != NULL && strcmp(parent->entry->path, path) < 0) {
        RETURN_IF_ERROR(list_reader_next(parent->list, &parent->entry, error));
    }
    if (parent->entry != NULL && kind == ENTRY_FILE && parent->entry->kind == ENTRY_FILE &&
        strcmp(parent->entry->path, path) == 0) {
        map_reader_open(&parent->map, parent->entry);
        parent->has_map = true;
    }
    return STATUS_OK;
}

// --- taking results ---------------------------------------------------------------------------

static Status report_progress(Publisher *publisher, Error *error)
{
    const Progress *progress = &publisher->options->progress;
    publisher->reported_bytes = atomic_load(&publisher->run.done_bytes);
    publisher->reported_ms = clock_monotonic_ms();
    if (progress->on_progress != NULL &&
        !progress->on_progress(progress->context, publisher->reported_bytes,
                               publisher->total_bytes)) {
        return error_set(error, REASON_CANCELED, "publishing was canceled");
    }
    return STATUS_OK;
}

static Status report_when_due(Publisher *publisher, Error *error)
{
    int64_t new_bytes = atomic_load(&publisher->run.done_bytes) - publisher->reported_bytes;
    bool is_due = new_bytes >= PROGRESS_STEP_BYTES ||
                  clock_monotonic_ms() - publisher->reported_ms >= PROGRESS_STEP_MS;
    return is_due ? report_progress(publisher, error) : STATUS_OK;
}

static Status end_entry(Publisher *publisher, const PublishItem *item, Error *error)
{
    const SourceFile *file = item->file;
    ListEntry entry = {.kind = file == NULL ? ENTRY_DIRECTORY : ENTRY_FILE,
                       .mode = file == NULL ? 0700 : file->mode & 0777,
                       .size_bytes = file == NULL ? 0 : file->size_bytes};
    const char *path = file == NULL ? item->directory_path : file->path;
    memcpy(entry.path, path, strlen(path) + 1);
    if (file == NULL) {
        publisher->manifest.directory_count++;
        return list_builder_add(publisher->list, &entry, error);
    }
    if (!publisher->is_map_begun) {
        map_builder_begin(&publisher->map, entry.size_bytes); // an empty file
    }
    map_builder_end(&publisher->map, &entry.depth, &entry.root);
    entry.data_bytes = item->base_data_bytes + publisher->file_data_bytes -
                       (item->is_delta ? publisher->file_parent_data_bytes : 0);
    publisher->is_map_begun = false;
    publisher->file_data_bytes = publisher->file_parent_data_bytes = 0;
    publisher->manifest.file_count++;
    publisher->manifest.size_bytes += entry.size_bytes;
    publisher->manifest.data_bytes += entry.data_bytes;
    return list_builder_add(publisher->list, &entry, error);
}

static Status take_nodes(Publisher *publisher, const PublishItem *item, Error *error)
{
    if (!publisher->is_map_begun) {
        map_builder_begin(&publisher->map, item->file->size_bytes);
        publisher->is_map_begun = true;
    }
    publisher->file_data_bytes += item->data_bytes;
    publisher->file_parent_data_bytes += item->parent_data_bytes;
    for (size_t i = 0; i < item->nodes.count; i++) {
        RETURN_IF_ERROR(map_builder_add(&publisher->map, item->level, &item->nodes.refs[i],
                                        &item->ancestors, error));
    }
    return STATUS_OK;
}

// Takes the oldest item if it is finished, or waits a while.
static Status take_one(Publisher *publisher, bool *ret_is_empty, Error *error)
{
    PublishItem *item = NULL;
    RETURN_IF_ERROR(publish_workers_take(publisher->workers, &item, ret_is_empty, error));
    if (item != NULL) {
        RETURN_IF_ERROR(item->kind == ITEM_END ? end_entry(publisher, item, error)
                                               : take_nodes(publisher, item, error));
        publish_workers_release(publisher->workers);
    }
    return report_when_due(publisher, error);
}

static Status next_item(Publisher *publisher, PublishItem **ret_item, Error *error)
{
    bool is_empty = false;
    while ((*ret_item = publish_workers_slot(publisher->workers)) == NULL) {
        RETURN_IF_ERROR(take_one(publisher, &is_empty, error));
    }
    return STATUS_OK;
}

// --- cutting ----------------------------------------------------------------------------------

// The parent's nodes above `level` that end where our extents up to `end` do.
static Status parent_ancestors(ParentWalk *parent, int64_t extent_count, int level, int64_t end,
                               ParentNodes *nodes, Error *error)
{
    if (!parent->has_map) {
        return STATUS_OK;
    }
    for (level++; level <= parent->map.depth; level++) {
        int64_t span = map_span(parent->map.fan_out, level);
        int64_t position = (end - 1) / span;
        if (end != extent_count && end % span != 0) {
            break;
        }
        if (position < map_width(parent->map.fan_out, parent->map.extent_count, level)) {
            RETURN_IF_ERROR(
                map_reader_get(&parent->map, level, position, &nodes->levels[level], error));
        }
    }
    return STATUS_OK;
}

// Whether the parent has a node of a level from extent `first` on that is ours as it is.
static bool is_unwritten(const Publisher *publisher, const SourceFile *file, int level,
                         int64_t first)
{
    const ParentWalk *parent = &publisher->parent;
    // Of a file that was cut, every part is looked at, so that its data can be counted.
    if (file->is_written == NULL || publisher->options->reads_everything || !parent->has_map ||
        parent->map.size_bytes > file->size_bytes || level > parent->map.depth) {
        return false;
    }
    int64_t span = map_span(publisher->run.map_fan_out, level);
    int64_t start = first * (int64_t)EXTENT_SIZE;
    int64_t end = MIN(file->size_bytes, start + span * (int64_t)EXTENT_SIZE);
    int64_t parent_end = MIN(parent->map.size_bytes, start + span * (int64_t)EXTENT_SIZE);
    return first % span == 0 && end == parent_end && start < end &&
           !file->is_written(file->written_context, start, end - start);
}

// The highest level at which the parent's node from extent `first` on is ours as it is; 0: none
// above those of a part.
static int unwritten_level(const Publisher *publisher, const SourceFile *file, int64_t first)
{
    int level = map_depth(publisher->run.map_fan_out, extent_count_of(file->size_bytes));
    while (level > 1 && !is_unwritten(publisher, file, level, first)) {
        level--;
    }
    return level > 1 ? level : 0;
}

static void count_done(Publisher *publisher, const SourceFile *file, int64_t first, int64_t end)
{
    int64_t end_bytes = MIN(file->size_bytes, end * (int64_t)EXTENT_SIZE);
    atomic_fetch_add(&publisher->run.done_bytes, end_bytes - first * (int64_t)EXTENT_SIZE);
}

static Status submit_node(Publisher *publisher, const SourceFile *file, int level, int64_t first,
                          int64_t *ret_end, Error *error)
{
    PublishItem *item = NULL;
    MapReader *map = &publisher->parent.map;
    int64_t span = map_span(map->fan_out, level);
    int64_t extent_count = extent_count_of(file->size_bytes);
    int64_t end = MIN(first + span, extent_count);
    RETURN_IF_ERROR(next_item(publisher, &item, error));
    *item = (PublishItem){.kind = ITEM_NODE,
                          .file = file,
                          .level = level,
                          .first = first,
                          .count = end - first,
                          .nodes = {.count = 1}};
    RETURN_IF_ERROR(map_reader_get(map, level, first / span, &item->nodes.refs[0], error));
    RETURN_IF_ERROR(
        parent_ancestors(&publisher->parent, extent_count, level, end, &item->ancestors, error));
    count_done(publisher, file, first, end);
    publish_workers_submit(publisher->workers);
    *ret_end = end;
    return STATUS_OK;
}

// What the parent has of the part.
static Status find_parent_part(ParentWalk *parent, PublishItem *item, Error *error)
{
    if (!parent->has_map || item->first >= parent->map.extent_count) {
        return STATUS_OK;
    }
    item->parent_level = MIN(parent->map.depth, 1);
    if (item->parent_level == 1) {
        return map_part_find(&parent->map, item->first, MAP_PART_EXTENT_COUNT, &item->parent,
                             error);
    }
    item->parent = (MapPart){.extent_count = 1,
                             .size_bytes = parent->map.size_bytes,
                             .node_count = 1,
                             .nodes = {parent->map.root}};
    return STATUS_OK;
}

// Leaves out the nodes that are the parent's; false: that is all of them.
static bool leave_out_unwritten(Publisher *publisher, PublishItem *item)
{
    size_t left_count = 0;
    const int fan_out = publisher->run.map_fan_out;
    for (size_t i = 0; i < item->nodes.count && item->level == 1; i++) {
        int64_t first = item->first + (int64_t)i * fan_out;
        if (is_unwritten(publisher, item->file, 1, first)) {
            item->nodes.are_left_out[i] = true;
            item->nodes.refs[i] = item->parent.nodes[i];
            count_done(publisher, item->file, first,
                       MIN(first + fan_out, item->first + item->count));
            left_count++;
        }
    }
    return left_count < item->nodes.count;
}

static Status submit_part(Publisher *publisher, const SourceFile *file, int64_t first,
                          int64_t *ret_end, Error *error)
{
    PublishItem *item = NULL;
    int64_t extent_count = extent_count_of(file->size_bytes);
    int64_t end = MIN(first + MAP_PART_EXTENT_COUNT, extent_count);
    RETURN_IF_ERROR(next_item(publisher, &item, error));
    *item = (PublishItem){.kind = ITEM_PART,
                          .file = file,
                          .level = extent_count == 1 ? 0 : 1,
                          .first = first,
                          .count = end - first};
    item->nodes.count = (size_t)map_width(publisher->run.map_fan_out, item->count, 1);
    RETURN_IF_ERROR(find_parent_part(&publisher->parent, item, error));
    if (!leave_out_unwritten(publisher, item)) {
        item->kind = ITEM_NODE;
    }
    RETURN_IF_ERROR(parent_ancestors(&publisher->parent, extent_count, item->level, end,
                                     &item->ancestors, error));
    publish_workers_submit(publisher->workers);
    *ret_end = end;
    return STATUS_OK;
}

// The parent's node of level 2 will be looked into.
typedef struct NodeWish {
    const Publisher *publisher;
    const SourceFile *file;
} NodeWish;

static bool needs_node(void *context, int level, int64_t position, const Ref *ref)
{
    const NodeWish *wish = context;
    int64_t first = position * map_span(wish->publisher->run.map_fan_out, level);
    (void)ref;
    return first < extent_count_of(wish->file->size_bytes) &&
           !is_unwritten(wish->publisher, wish->file, level, first);
}

static Status cut_file(Publisher *publisher, const SourceFile *file, Error *error)
{
    ParentWalk *parent = &publisher->parent;
    RETURN_IF_ERROR(parent_seek(parent, file->path, ENTRY_FILE, error));
    int64_t extent_count = extent_count_of(file->size_bytes);
    for (int64_t first = 0; first < extent_count;) {
        const int64_t start = first;
        int level = unwritten_level(publisher, file, first);
        RETURN_IF_ERROR(level > 0 ? submit_node(publisher, file, level, first, &first, error)
                                  : submit_part(publisher, file, first, &first, error));
        if (parent->has_map) {
            NodeWish wish = {.publisher = publisher, .file = file};
            map_reader_ask(&parent->map, 2, start / map_span(parent->map.fan_out, 2), needs_node,
                           &wish);
        }
    }
    PublishItem *item = NULL;
    RETURN_IF_ERROR(next_item(publisher, &item, error));
    *item = (PublishItem){.kind = ITEM_END, .file = file};
    if (parent->has_map && parent->map.size_bytes <= file->size_bytes) {
        item->base_data_bytes = parent->entry->data_bytes;
        item->is_delta = true;
    }
    publish_workers_submit(publisher->workers);
    return STATUS_OK;
}

static Status cut_directory(Publisher *publisher, const char *path, Error *error)
{
    PublishItem *item = NULL;
    RETURN_IF_ERROR(parent_seek(&publisher->parent, path, ENTRY_DIRECTORY, error));
    RETURN_IF_ERROR(next_item(publisher, &item, error));
    *item = (PublishItem){.kind = ITEM_END, .directory_path = path};
    publish_workers_submit(publisher->workers);
    return STATUS_OK;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// All entries in byte order of path: the files as given, the directories sorted, merged.
static Status cut_entries(Publisher *publisher, Error *error)
{
    const PublishOptions *options = publisher->options;
    size_t directory_count = options->directory_count;
    CLEANUP_FREE const char **directories =
        mem_alloc_array(directory_count + 1, sizeof(*directories));
    for (size_t i = 0; i < directory_count; i++) {
        directories[i] = options->directories[i];
    }
    qsort(directories, directory_count, sizeof(*directories), compare_texts);
    const char *previous = "";
    size_t file_index = 0;
    size_t directory_index = 0;
    while (file_index < options->file_count || directory_index < directory_count) {
        const SourceFile *file =
            file_index < options->file_count ? &options->files[file_index] : NULL;
        bool is_directory = directory_index < directory_count &&
                            (file == NULL || strcmp(directories[directory_index], file->path) < 0);
        const char *path = is_directory ? directories[directory_index] : file->path;
        if (!list_path_is_valid(path) || strcmp(previous, path) >= 0) {
            return error_set(error, REASON_INVALID, "path '%s' is not valid or not in order", path);
        }
        previous = path;
        directory_index += is_directory ? 1 : 0;
        file_index += is_directory ? 0 : 1;
        RETURN_IF_ERROR(is_directory ? cut_directory(publisher, path, error)
                                     : cut_file(publisher, file, error));
    }
    for (bool is_empty = false; !is_empty;) {
        RETURN_IF_ERROR(take_one(publisher, &is_empty, error));
    }
    return STATUS_OK;
}

// --- the whole --------------------------------------------------------------------------------

static void publisher_done(Publisher *publisher)
{
    // What waits for the packs to be stored waits no more, so that the workers end.
    if (publisher->packs != NULL) {
        pack_writer_stop(publisher->packs);
    }
    publish_workers_free(publisher->workers);
    list_reader_free(publisher->parent.list);
    if (publisher->parent.opener != NULL) {
        map_reader_done(&publisher->parent.map);
    }
    blob_opener_free(publisher->parent.opener);
    list_builder_free(publisher->list);
    map_builder_done(&publisher->map);
    node_store_free(publisher->nodes);
    pack_writer_free(publisher->packs);
    resume_table_free(publisher->resume);
    limits_free(publisher->own_limits);
    fd_closep(&publisher->directory_fd);
    scope_done(&publisher->scope);
}

static void publisher_freep(Publisher **publisher)
{
    publisher_done(*publisher);
    mem_free(*publisher);
}

// Shares the memory out between workers and packs.
static Status start_threads(Publisher *publisher, Error *error)
{
    const PublishOptions *options = publisher->options;
    int64_t memory_bytes =
        options->memory_bytes > 0 ? options->memory_bytes : REPOSITORY_MEMORY_BYTES;
    memory_bytes = MAX(memory_bytes, REPOSITORY_MEMORY_BYTES_MIN);
    if (publisher->resume != NULL) {
        memory_bytes -= (int64_t)RESUME_TABLE_SIZE_MAX;
    }
    const PublishSource *source = publisher->run.source;
    int64_t worker_size = (int64_t)(PUBLISH_WORKER_SIZE + source->reader_size);
    int64_t worker_count = memory_bytes / (source->is_distant ? 2 : 4) / worker_size;
    if (!source->is_distant) {
        worker_count = MIN(worker_count, 2 * sysconf(_SC_NPROCESSORS_ONLN) + 2);
    }
    worker_count = MIN(MAX(worker_count, 1), WORKER_COUNT_MAX);
    int64_t pack_count = (memory_bytes - worker_count * worker_size) / (int64_t)PACK_SIZE_MAX - 1;
    PackWriterOptions packs = {.epoch = options->epoch,
                               .pack_count =
                                   (int)MIN(MAX(pack_count, PACK_COUNT_MIN), PACK_COUNT_MAX),
                               .limits = publisher->run.limits};
    packs.uploader_count = MIN(packs.pack_count, UPLOADER_COUNT);
    RETURN_IF_ERROR(pack_writer_new(&publisher->scope, &packs, &publisher->packs, error));
    publisher->run.packs = publisher->packs;
    publisher->run.resume = publisher->resume;
    publisher->nodes = node_store_new(&publisher->scope, publisher->packs);
    map_builder_init(&publisher->map, publisher->nodes, publisher->run.map_fan_out);
    publisher->list = list_builder_new(publisher->nodes);
    return publish_workers_new(&publisher->run, (int)worker_count, &publisher->workers, error);
}

static Status open_source(Publisher *publisher, Error *error)
{
    const PublishOptions *options = publisher->options;
    publisher->run.source = options->source;
    if (options->source != NULL) {
        return STATUS_OK;
    }
    publisher->directory_fd = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (publisher->directory_fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening directory '%s'",
                               options->directory);
    }
    publisher->directory = directory_source(&publisher->directory_fd);
    publisher->run.source = &publisher->directory;
    return STATUS_OK;
}

static Status publisher_begin(Publisher *publisher, Error *error)
{
    const PublishOptions *options = publisher->options;
    PublishRun *run = &publisher->run;
    run->scope = &publisher->scope;
    run->options = options;
    run->limits = options->limits;
    if (run->limits == NULL) {
        run->limits = publisher->own_limits = limits_new();
    }
    RETURN_IF_ERROR(open_source(publisher, error));
    for (size_t i = 0; i < options->file_count; i++) {
        if (options->files[i].size_bytes < 0 || options->files[i].size_bytes > FILE_SIZE_MAX) {
            return error_set(error, REASON_INVALID, "file '%s' has an impossible size",
                             options->files[i].path);
        }
        publisher->total_bytes += options->files[i].size_bytes;
    }
    if (options->resume_epoch_min > 0) {
        RETURN_IF_ERROR(resume_table_load(&publisher->scope, options->resume_epoch_min,
                                          options->resume_epoch_max, &publisher->resume, error));
    }
    // A child's maps refer to its parent's nodes, so they have as many refs a node.
    run->map_fan_out = options->parent == NULL ? MAP_FAN_OUT : options->parent->map_fan_out;
    RETURN_IF_ERROR(start_threads(publisher, error));
    return parent_open(publisher, error);
}

// The manifest's fields that are ours to say.
static void fill_manifest(const Publisher *publisher, Manifest *manifest)
{
    const PublishOptions *options = publisher->options;
    const Manifest *statistics = &publisher->manifest;
    char uuid[UUID_TEXT_SIZE];
    crypto_uuid(uuid);
    snprintf(manifest->id, sizeof(manifest->id), "%08x-%s", options->epoch, uuid);
    snprintf(manifest->repository_id, UUID_TEXT_SIZE, "%s", publisher->scope.repository_id);
    snprintf(manifest->key_id, UUID_TEXT_SIZE, "%s", publisher->scope.key_id);
    manifest->parent_id = options->parent == NULL ? "" : options->parent->id;
    manifest->parent_digest = options->parent == NULL ? "" : options->parent->digest;
    manifest->created_us = clock_now_us();
    manifest->file_count = statistics->file_count;
    manifest->directory_count = statistics->directory_count;
    manifest->size_bytes = statistics->size_bytes;
    manifest->data_bytes = statistics->data_bytes;
    manifest->resumed_bytes = atomic_load(&publisher->run.resumed_bytes);
    manifest->new_bytes = atomic_load(&publisher->run.new_bytes) + manifest->resumed_bytes;
    manifest->read_bytes = atomic_load(&publisher->run.read_bytes);
    manifest->unrecorded_bytes = atomic_load(&publisher->run.unrecorded_bytes);
}

Status repository_publish(Repository *repository, const DataKey *key, const PublishOptions *options,
                          Arena *arena, Manifest **ret_manifest, Error *error)
{
    CLEANUP(publisher_freep) Publisher *publisher = mem_alloc(sizeof(*publisher));
    publisher->options = options;
    publisher->directory_fd = INVALID_FD;
    RETURN_IF_ERROR(scope_init(&publisher->scope, repository, key, options->manifest.database_id,
                               options->manifest.shard_id, error));
    publisher->scope.node_cache = options->node_cache;
    RETURN_IF_ERROR(publisher_begin(publisher, error));
    RETURN_IF_ERROR(report_progress(publisher, error));
    RETURN_IF_ERROR(cut_entries(publisher, error));
    ManifestRoot root = {.map_fan_out = publisher->run.map_fan_out};
    RETURN_IF_ERROR(list_builder_finish(publisher->list, &root.level, &root.ref, error));
    Manifest manifest = options->manifest;
    fill_manifest(publisher, &manifest);
    // Everything that the manifest names is durable before the manifest is.
    RETURN_IF_ERROR(pack_writer_finish(publisher->packs, &manifest.stored_bytes, error));
    RETURN_IF_ERROR(resume_table_check(publisher->resume, error));
    RETURN_IF_ERROR(report_progress(publisher, error));
    return manifest_write(&publisher->scope, &manifest, &root, arena, ret_manifest, error);
}
