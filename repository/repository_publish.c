// SPDX-License-Identifier: Apache-2.0
// Publishing: a stopped engine's directory becomes a backup that shares everything unchanged with
// its parent. One thread reads the files and walks the parent's maps in step; workers hash and
// compress; what comes back in order is sealed, mapped and listed. Memory does not depend on the
// size of the shard.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/repository_publish_pipeline.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORKER_COUNT 2
#define PROGRESS_STEP_BYTES (INT64_C(4) * 1024 * 1024)

// The parent's list and the map of its file of the path that is being read.
typedef struct ParentWalk {
    BlobOpener *opener;
    ListReader *list;
    const ListEntry *entry; // the first whose path is not less than the path sought; NULL: the end
    bool has_map;
    MapReader map;
} ParentWalk;

typedef struct Publisher {
    const PublishOptions *options;
    ShardScope scope;
    PackWriter *packs;
    NodeStore *nodes;
    MapBuilder map;
    bool is_map_begun;
    int64_t file_data_bytes;
    ListBuilder *list;
    Pipeline *pipeline;
    ParentWalk parent;
    int directory_fd;
    Manifest manifest; // the statistics, as they grow
    int64_t done_bytes, total_bytes, reported_bytes;
} Publisher;

// --- parent -----------------------------------------------------------------------------------

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
    publisher->parent.list = list_reader_new(publisher->parent.opener, &root.ref, root.level,
                                             list_builder_offer, publisher->list);
    map_reader_init(&publisher->parent.map, publisher->parent.opener);
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

// What the parent has where our extent `position` of `extent_count` is, and the nodes that end
// there.
static Status parent_refs(ParentWalk *parent, int64_t position, int64_t extent_count,
                          ExtentTask *task, Error *error)
{
    task->parent = (Ref){0};
    memset(&task->parent_nodes, 0, sizeof(task->parent_nodes));
    if (!parent->has_map) {
        return STATUS_OK;
    }
    if (position < parent->map.extent_count) {
        RETURN_IF_ERROR(map_reader_get(&parent->map, 0, position, &task->parent, error));
    }
    bool is_last = position + 1 == extent_count;
    int64_t node = position;
    int64_t end = position + 1;
    for (int level = 1; level <= parent->map.depth; level++) {
        node /= NODE_REF_COUNT_MAX;
        bool is_end = is_last || end % NODE_REF_COUNT_MAX == 0;
        if (!is_end) {
            break;
        }
        end /= NODE_REF_COUNT_MAX;
        if (node < map_width(parent->map.extent_count, level)) {
            RETURN_IF_ERROR(map_reader_get(&parent->map, level, node,
                                           &task->parent_nodes.levels[level], error));
        }
    }
    return STATUS_OK;
}

// --- taking results ---------------------------------------------------------------------------

static Status report_progress(Publisher *publisher, Error *error)
{
    const Progress *progress = &publisher->options->progress;
    publisher->reported_bytes = publisher->done_bytes;
    if (progress->on_progress != NULL &&
        !progress->on_progress(progress->context, publisher->done_bytes, publisher->total_bytes)) {
        return error_set(error, REASON_CANCELED, "publishing was canceled");
    }
    return STATUS_OK;
}

static Status end_entry(Publisher *publisher, const ListEntry *ended, Error *error)
{
    ListEntry *entry = (ListEntry *)(uintptr_t)ended; // the slot's copy is ours
    if (entry->kind == ENTRY_FILE) {
        if (!publisher->is_map_begun) {
            map_builder_begin(&publisher->map, entry->size_bytes); // an empty file
        }
        map_builder_end(&publisher->map, &entry->depth, &entry->root);
        publisher->is_map_begun = false;
        publisher->manifest.file_count++;
        publisher->manifest.size_bytes += entry->size_bytes;
        entry->data_bytes = publisher->file_data_bytes;
        publisher->manifest.data_bytes += entry->data_bytes;
        publisher->file_data_bytes = 0;
    } else {
        publisher->manifest.directory_count++;
    }
    return list_builder_add(publisher->list, entry, error);
}

static Status take_extent(Publisher *publisher, ExtentTask *task, Error *error)
{
    if (!publisher->is_map_begun) {
        map_builder_begin(&publisher->map, task->file_size_bytes);
        publisher->is_map_begun = true;
    }
    if (task->is_new) {
        RETURN_IF_ERROR(pack_writer_add(publisher->packs, &task->ref, task->content,
                                        task->content_size, error));
        publisher->manifest.new_bytes += (int64_t)task->size;
    }
    if (task->ref.kind != BLOB_ZERO) {
        publisher->file_data_bytes += (int64_t)task->size;
    }
    RETURN_IF_ERROR(map_builder_add(&publisher->map, &task->ref, &task->parent_nodes, error));
    if (task->is_read) {
        publisher->manifest.read_bytes += (int64_t)task->size;
        bool is_same = task->ref.kind == BLOB_ZERO ? task->parent.kind == BLOB_ZERO : !task->is_new;
        publisher->manifest.unrecorded_bytes +=
            task->is_unwritten && !is_same ? (int64_t)task->size : 0;
    }
    publisher->done_bytes += (int64_t)task->size;
    if (publisher->done_bytes - publisher->reported_bytes >= PROGRESS_STEP_BYTES) {
        return report_progress(publisher, error);
    }
    return STATUS_OK;
}

// Takes what is finished; with must_take, at least one.
static Status drain(Publisher *publisher, bool must_take, bool *ret_took, Error *error)
{
    *ret_took = false;
    for (;;) {
        ExtentTask *task = pipeline_take(publisher->pipeline, must_take && !*ret_took);
        if (task == NULL) {
            return STATUS_OK;
        }
        if (task->end_of != NULL) {
            RETURN_IF_ERROR(end_entry(publisher, task->end_of, error));
        } else {
            RETURN_IF_ERROR(take_extent(publisher, task, error));
        }
        pipeline_release(publisher->pipeline);
        *ret_took = true;
    }
}

static Status next_slot(Publisher *publisher, ExtentTask **ret_task, Error *error)
{
    ExtentTask *task = pipeline_slot(publisher->pipeline);
    bool took = false;
    RETURN_IF_ERROR(drain(publisher, task == NULL, &took, error));
    *ret_task = task != NULL ? task : pipeline_slot(publisher->pipeline);
    assert(*ret_task != NULL);
    return STATUS_OK;
}

// --- reading ----------------------------------------------------------------------------------

static Status submit_end(Publisher *publisher, const char *path, EntryKind kind, uint32_t mode,
                         int64_t size_bytes, Error *error)
{
    ExtentTask *task = NULL;
    RETURN_IF_ERROR(next_slot(publisher, &task, error));
    // The extent's room in the slot holds the entry.
    assert(sizeof(ListEntry) <= EXTENT_SIZE);
    ListEntry entry = {.kind = kind, .mode = mode & 0777, .size_bytes = size_bytes};
    memcpy(entry.path, path, strlen(path) + 1);
    memcpy(task->plain, &entry, sizeof(entry));
    task->end_of = (const ListEntry *)(const void *)task->plain;
    pipeline_submit(publisher->pipeline);
    return STATUS_OK;
}

static Status file_changed(const SourceFile *file, Error *error)
{
    error_set(error, REASON_CONFLICT, "file '%s' changed while it was read", file->path);
    return error_hint(error, "the engine must be stopped while its directory is published");
}

// Whether the parent's extent at this place is ours, as far as the record of writes knows.
static bool is_unwritten(const ParentWalk *parent, const SourceFile *file, int64_t position)
{
    size_t size = extent_size_at(file->size_bytes, position);
    return file->is_written != NULL && parent->has_map && position < parent->map.extent_count &&
           extent_size_at(parent->map.size_bytes, position) == size &&
           !file->is_written(file->written_context, position * (int64_t)EXTENT_SIZE, (int64_t)size);
}

static Status read_plain(const SourceFile *file, int fd, int64_t offset, uint8_t *plain,
                         size_t size, Error *error)
{
    size_t got = 0;
    if (file_read_at(fd, plain, size, offset, &got, error) != STATUS_OK) {
        return error_wrap(error, "file '%s'", file->path);
    }
    if (got != size) {
        return file_changed(file, error);
    }
    int64_t bad_page = 0;
    if (file->check != NULL && !file->check(file->context, plain, size, offset, &bad_page)) {
        error_set(error, REASON_PAGE_CORRUPT, "page %lld of file '%s' fails its checksum",
                  (long long)bad_page, file->path);
        return error_hint(error, "check the source's disk and table; this backup was not taken and "
                                 "the earlier ones are untouched");
    }
    return STATUS_OK;
}

static Status read_extent(Publisher *publisher, const SourceFile *file, int fd, int64_t position,
                          Error *error)
{
    ExtentTask *task = NULL;
    RETURN_IF_ERROR(next_slot(publisher, &task, error));
    size_t size = extent_size_at(file->size_bytes, position);
    task->is_unwritten = is_unwritten(&publisher->parent, file, position);
    task->is_read = !task->is_unwritten || publisher->options->reads_everything;
    if (task->is_read) {
        RETURN_IF_ERROR(
            read_plain(file, fd, position * (int64_t)EXTENT_SIZE, task->plain, size, error));
    }
    task->end_of = NULL;
    task->file_size_bytes = file->size_bytes;
    task->size = size;
    RETURN_IF_ERROR(
        parent_refs(&publisher->parent, position, extent_count_of(file->size_bytes), task, error));
    pipeline_submit(publisher->pipeline);
    return STATUS_OK;
}

static Status read_file(Publisher *publisher, const SourceFile *file, Error *error)
{
    RETURN_IF_ERROR(parent_seek(&publisher->parent, file->path, ENTRY_FILE, error));
    CLEANUP(fd_closep)
    int fd = openat(publisher->directory_fd, file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening file '%s'", file->path);
    }
    if (!S_ISREG(facts.st_mode) || (int64_t)facts.st_size != file->size_bytes) {
        return file_changed(file, error);
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); // advice only
    int64_t extent_count = extent_count_of(file->size_bytes);
    for (int64_t position = 0; position < extent_count; position++) {
        RETURN_IF_ERROR(read_extent(publisher, file, fd, position, error));
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return submit_end(publisher, file->path, ENTRY_FILE, file->mode, file->size_bytes, error);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// All entries in byte order of path: the files as given, the directories sorted, merged.
static Status read_entries(Publisher *publisher, Error *error)
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
        if (is_directory) {
            directory_index++;
            RETURN_IF_ERROR(parent_seek(&publisher->parent, path, ENTRY_DIRECTORY, error));
            RETURN_IF_ERROR(submit_end(publisher, path, ENTRY_DIRECTORY, 0700, 0, error));
        } else {
            file_index++;
            RETURN_IF_ERROR(read_file(publisher, file, error));
        }
    }
    bool took = true;
    while (took) {
        RETURN_IF_ERROR(drain(publisher, true, &took, error));
    }
    return STATUS_OK;
}

// --- the whole --------------------------------------------------------------------------------

static void publisher_done(Publisher *publisher)
{
    pipeline_free(publisher->pipeline);
    list_reader_free(publisher->parent.list);
    if (publisher->parent.opener != NULL) {
        map_reader_done(&publisher->parent.map);
    }
    blob_opener_free(publisher->parent.opener);
    list_builder_free(publisher->list);
    map_builder_done(&publisher->map);
    node_store_free(publisher->nodes);
    pack_writer_free(publisher->packs);
    fd_closep(&publisher->directory_fd);
    scope_done(&publisher->scope);
}

static void publisher_freep(Publisher **publisher)
{
    publisher_done(*publisher);
    mem_free(*publisher);
}

static Status publisher_begin(Publisher *publisher, Error *error)
{
    const PublishOptions *options = publisher->options;
    publisher->directory_fd = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (publisher->directory_fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening directory '%s'",
                               options->directory);
    }
    for (size_t i = 0; i < options->file_count; i++) {
        if (options->files[i].size_bytes < 0 || options->files[i].size_bytes > FILE_SIZE_MAX) {
            return error_set(error, REASON_INVALID, "file '%s' has an impossible size",
                             options->files[i].path);
        }
        publisher->total_bytes += options->files[i].size_bytes;
    }
    publisher->packs = pack_writer_new(&publisher->scope, options->epoch);
    publisher->nodes = node_store_new(&publisher->scope, publisher->packs);
    map_builder_init(&publisher->map, publisher->nodes);
    publisher->list = list_builder_new(publisher->nodes);
    RETURN_IF_ERROR(pipeline_new(&publisher->scope, options->compression_level, WORKER_COUNT,
                                 &publisher->pipeline, error));
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
    manifest->new_bytes = statistics->new_bytes;
    manifest->read_bytes = statistics->read_bytes;
    manifest->unrecorded_bytes = statistics->unrecorded_bytes;
}

Status repository_publish(Repository *repository, const DataKey *key, const PublishOptions *options,
                          Arena *arena, Manifest **ret_manifest, Error *error)
{
    CLEANUP(publisher_freep) Publisher *publisher = mem_alloc(sizeof(*publisher));
    publisher->options = options;
    publisher->directory_fd = INVALID_FD;
    RETURN_IF_ERROR(scope_init(&publisher->scope, repository, key, options->manifest.database_id,
                               options->manifest.shard_id, error));
    RETURN_IF_ERROR(publisher_begin(publisher, error));
    RETURN_IF_ERROR(report_progress(publisher, error));
    RETURN_IF_ERROR(read_entries(publisher, error));
    ManifestRoot root;
    RETURN_IF_ERROR(list_builder_finish(publisher->list, &root.level, &root.ref, error));
    Manifest manifest = options->manifest;
    fill_manifest(publisher, &manifest);
    // Everything that the manifest names is durable before the manifest is.
    RETURN_IF_ERROR(pack_writer_finish(publisher->packs, &manifest.stored_bytes, error));
    RETURN_IF_ERROR(report_progress(publisher, error));
    return manifest_write(&publisher->scope, &manifest, &root, arena, ret_manifest, error);
}
