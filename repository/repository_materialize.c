// SPDX-License-Identifier: Apache-2.0
// Restoring: the calling thread walks the file list and makes directories and files; maps are read
// ahead of it, and workers fetch and write the extents. Zeros become holes. A restore that fails
// leaves the target as empty as it was.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/repository_fetcher.h"
#include "repository/repository_prefetch.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFETCH_COUNT 8
#define PROGRESS_STEP_BYTES (INT64_C(4) * 1024 * 1024)
#define PROGRESS_STEP_MS 500
// Files with fewer holes than this are given their place on the disk at once.
#define PREALLOCATE_PART(size_bytes) ((size_bytes) / 8 * 7)
#define PREALLOCATE_SIZE_MIN (INT64_C(1024) * 1024)
#define FILE_COUNT 64 // whose maps are read ahead
#define DIRECTORY_MODE 0700
// What a file takes beside its bytes, for the guess whether the disk is large enough.
#define FILE_OVERHEAD_BYTES 4096

typedef struct PendingFile {
    char *path;
    int64_t size_bytes, data_bytes;
    Ref only_extent;       // of a file without a map
    int64_t part_count;    // of its map that are to be taken still; 0: there is no map
    int64_t counted_bytes; // of data, so far
    bool is_begun;
} PendingFile;

typedef struct Restorer {
    const Manifest *manifest;
    const MaterializeOptions *options;
    Progress progress;
    ShardScope scope;
    BlobOpener *opener;
    ListReader *list;
    MapReader map;
    Limits *limits, *own_limits;
    Prefetch *prefetch;
    Fetcher *fetcher;
    int directory_fd;
    // Files whose maps are being read ahead, in order.
    PendingFile files[FILE_COUNT];
    size_t first_file, pending_count;
    int64_t zero_bytes, file_count, size_bytes;
    int64_t reported_bytes, reported_ms;
} Restorer;

static Status report_progress(Restorer *restorer, Error *error)
{
    int64_t done = fetcher_progress(restorer->fetcher).written_bytes + restorer->zero_bytes;
    restorer->reported_bytes = done;
    restorer->reported_ms = clock_monotonic_ms();
    if (restorer->progress.on_progress != NULL &&
        !restorer->progress.on_progress(restorer->progress.context, done,
                                        restorer->manifest->size_bytes)) {
        return error_set(error, REASON_CANCELED, "the restore was canceled");
    }
    return STATUS_OK;
}

static Status report_when_due(Restorer *restorer, Error *error)
{
    int64_t done = fetcher_progress(restorer->fetcher).written_bytes + restorer->zero_bytes;
    bool is_due = done - restorer->reported_bytes >= PROGRESS_STEP_BYTES ||
                  clock_monotonic_ms() - restorer->reported_ms >= PROGRESS_STEP_MS;
    return is_due ? report_progress(restorer, error) : STATUS_OK;
}

static Status make_failed(int number, const char *path, Error *error)
{
    error_set_errno(error, REASON_INTERNAL, number, "creating '%s'", path);
    return number == EEXIST ? error_set(error, REASON_TARGET_NOT_EMPTY,
                                        "'%s' appeared in the target during the restore", path)
                            : error->status;
}

// The directories above a path, for lists that do not name them.
static Status make_parents(const Restorer *restorer, const char *path, Error *error)
{
    char partial[LIST_PATH_SIZE_MAX + 1];
    snprintf(partial, sizeof(partial), "%s", path);
    for (char *slash = strchr(partial, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(restorer->directory_fd, partial, DIRECTORY_MODE) != 0 && errno != EEXIST) {
            return make_failed(errno, partial, error);
        }
        *slash = '/';
    }
    return STATUS_OK;
}

static Status make_directory(const Restorer *restorer, const ListEntry *entry, Error *error)
{
    if (mkdirat(restorer->directory_fd, entry->path, DIRECTORY_MODE) == 0) {
        return STATUS_OK;
    }
    if (errno == ENOENT) {
        RETURN_IF_ERROR(make_parents(restorer, entry->path, error));
        if (mkdirat(restorer->directory_fd, entry->path, DIRECTORY_MODE) == 0) {
            return STATUS_OK;
        }
    }
    return make_failed(errno, entry->path, error);
}

static int create_file(const Restorer *restorer, const char *path)
{
    return openat(restorer->directory_fd, path,
                  O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static Status make_file(const Restorer *restorer, const ListEntry *entry, Error *error)
{
    CLEANUP(fd_closep) int fd = create_file(restorer, entry->path);
    if (fd < 0 && errno == ENOENT) {
        RETURN_IF_ERROR(make_parents(restorer, entry->path, error));
        fd = create_file(restorer, entry->path);
    }
    if (fd < 0) {
        return make_failed(errno, entry->path, error);
    }
    // The owner may always read and write: the workers open the file again, and so will the engine.
    if (fchmod(fd, (entry->mode & 0777) | S_IRUSR | S_IWUSR) != 0 ||
        (entry->size_bytes > 0 && ftruncate(fd, entry->size_bytes) != 0)) {
        return error_set_errno(error, REASON_INTERNAL, errno, "creating '%s'", entry->path);
    }
    // For one piece on the disk, and direct writes that need no allocation. A file system that
    // cannot do it does without.
    if (entry->data_bytes > PREALLOCATE_SIZE_MIN &&
        entry->data_bytes >= PREALLOCATE_PART(entry->size_bytes) &&
        fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, entry->size_bytes) != 0 && errno == ENOSPC) {
        error_set(error, REASON_DISK_FULL, "there is no room for file '%s'", entry->path);
        return error_hint(error, "free space there, or restore to a larger disk");
    }
    return STATUS_OK;
}

// --- extents ----------------------------------------------------------------------------------

static Status wait_for_fetcher(Restorer *restorer, bool until_idle, Error *error)
{
    for (bool is_reached = false; !is_reached;) {
        RETURN_IF_ERROR(fetcher_wait(restorer->fetcher, until_idle, &is_reached, error));
        RETURN_IF_ERROR(report_when_due(restorer, error));
    }
    return STATUS_OK;
}

static Status add_extent(Restorer *restorer, PendingFile *file, const Ref *ref, int64_t position,
                         Error *error)
{
    int64_t size = (int64_t)extent_size_at(file->size_bytes, position);
    restorer->size_bytes += size;
    if (ref->kind == BLOB_ZERO) {
        restorer->zero_bytes += size;
        return STATUS_OK;
    }
    file->counted_bytes += size;
    if (!file->is_begun) {
        fetcher_begin_file(restorer->fetcher, file->path, file->size_bytes);
        file->is_begun = true;
    }
    bool must_wait = false;
    fetcher_add(restorer->fetcher, ref, position * (int64_t)EXTENT_SIZE, &must_wait);
    return must_wait ? wait_for_fetcher(restorer, false, error) : STATUS_OK;
}

static Status end_file(Restorer *restorer, PendingFile *file, Error *error)
{
    if (file->counted_bytes != file->data_bytes) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "file '%s' has other data than its list says", file->path);
    }
    restorer->file_count++;
    mem_free(file->path);
    *file = (PendingFile){0};
    restorer->first_file = (restorer->first_file + 1) % FILE_COUNT;
    restorer->pending_count--;
    return report_when_due(restorer, error);
}

static Status take_part(Restorer *restorer, PendingFile *file, Error *error)
{
    const PrefetchedPart *taken = NULL;
    RETURN_IF_ERROR(prefetch_take(restorer->prefetch, &taken, error));
    for (int64_t i = 0; i < taken->part.extent_count; i++) {
        RETURN_IF_ERROR(add_extent(restorer, file, &taken->refs[i], taken->part.first + i, error));
    }
    file->part_count--;
    return STATUS_OK;
}

// Moves the oldest file on: by a part of its map that was asked for, or to its end.
static Status advance(Restorer *restorer, Error *error)
{
    PendingFile *file = &restorer->files[restorer->first_file];
    Status status = STATUS_OK;
    if (file->part_count > 0) {
        status = take_part(restorer, file, error);
    } else if (file->size_bytes > 0 && file->size_bytes <= (int64_t)EXTENT_SIZE) {
        status = add_extent(restorer, file, &file->only_extent, 0, error);
    }
    if (status != STATUS_OK) {
        return error_wrap(error, "file '%s'", file->path);
    }
    return file->part_count == 0 ? end_file(restorer, file, error) : STATUS_OK;
}

static Status ask_for_parts(Restorer *restorer, const ListEntry *entry, PendingFile *file,
                            Error *error)
{
    map_reader_open(&restorer->map, entry);
    int64_t part_count = (restorer->map.extent_count - 1) / MAP_READ_EXTENT_COUNT + 1;
    file->part_count = part_count; // so that it does not end before all are asked for
    for (int64_t index = 0; index < part_count; index++) {
        MapPart part;
        int64_t first = index * MAP_READ_EXTENT_COUNT;
        if (map_part_find(&restorer->map, first, MAP_READ_EXTENT_COUNT, &part, error) !=
            STATUS_OK) {
            return error_wrap(error, "file '%s'", entry->path);
        }
        map_reader_ask(&restorer->map, 2, first / map_span(restorer->map.fan_out, 2), NULL, NULL);
        while (prefetch_is_full(restorer->prefetch)) {
            RETURN_IF_ERROR(advance(restorer, error));
        }
        prefetch_ask(restorer->prefetch, &part);
    }
    return STATUS_OK;
}

static Status restore_file(Restorer *restorer, const ListEntry *entry, Error *error)
{
    RETURN_IF_ERROR(make_file(restorer, entry, error));
    while (restorer->pending_count == FILE_COUNT) {
        RETURN_IF_ERROR(advance(restorer, error));
    }
    PendingFile *file =
        &restorer->files[(restorer->first_file + restorer->pending_count++) % FILE_COUNT];
    *file = (PendingFile){.path = string_copy(entry->path),
                          .size_bytes = entry->size_bytes,
                          .data_bytes = entry->data_bytes};
    if (entry->depth == 0) {
        file->only_extent = entry->root;
        return STATUS_OK;
    }
    return ask_for_parts(restorer, entry, file, error);
}

static Status restore_entries(Restorer *restorer, Error *error)
{
    const ListEntry *entry = NULL;
    for (;;) {
        RETURN_IF_ERROR(list_reader_next(restorer->list, &entry, error));
        if (entry == NULL) {
            break;
        }
        if (entry->kind == ENTRY_DIRECTORY) {
            RETURN_IF_ERROR(make_directory(restorer, entry, error));
        } else {
            RETURN_IF_ERROR(restore_file(restorer, entry, error));
        }
    }
    while (restorer->pending_count > 0) {
        RETURN_IF_ERROR(advance(restorer, error));
    }
    fetcher_flush(restorer->fetcher);
    RETURN_IF_ERROR(wait_for_fetcher(restorer, true, error));
    if (restorer->file_count != restorer->manifest->file_count ||
        restorer->size_bytes != restorer->manifest->size_bytes) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' counts other files than its list has",
                         restorer->manifest->id);
    }
    return STATUS_OK;
}

static void restorer_done(Restorer *restorer)
{
    fetcher_free(restorer->fetcher);
    prefetch_free(restorer->prefetch);
    for (size_t i = 0; i < FILE_COUNT; i++) {
        mem_free(restorer->files[i].path);
    }
    limits_free(restorer->own_limits);
    list_reader_free(restorer->list);
    if (restorer->opener != NULL) {
        map_reader_done(&restorer->map);
    }
    blob_opener_free(restorer->opener);
    fd_closep(&restorer->directory_fd);
    scope_done(&restorer->scope);
}

// --- the target -------------------------------------------------------------------------------

static Status check_room(const Manifest *manifest, const char *directory, Error *error)
{
    int64_t free_bytes = 0;
    int64_t need_bytes = manifest->data_bytes +
                         (manifest->file_count + manifest->directory_count) * FILE_OVERHEAD_BYTES;
    RETURN_IF_ERROR(disk_free_bytes(directory, &free_bytes, error));
    if (free_bytes < need_bytes) {
        error_set(error, REASON_DISK_FULL, "the restore needs %lld MiB and '%s' has %lld MiB free",
                  (long long)(need_bytes >> 20), directory, (long long)(free_bytes >> 20));
        return error_hint(error, "free space there, or restore to a larger disk");
    }
    return STATUS_OK;
}

// Removes what a failed restore made in a directory that was empty.
static void empty_directory(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, REPOSITORY_TARGET_MARK) != 0) {
            Error error = {0};
            CLEANUP_FREE char *child = string_format("%s/%s", path, entry->d_name);
            (void)dir_remove_all(child, &error); // the restore's own failure is what is told
        }
    }
    closedir(directory);
}

static Status make_durable(const Restorer *restorer, const char *directory, Error *error)
{
    if (!restorer->options->is_scratch && syncfs(restorer->directory_fd) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "syncing '%s'", directory);
    }
    return STATUS_OK;
}

static Status start_threads(Restorer *restorer, int map_fan_out, Error *error)
{
    const MaterializeOptions *options = restorer->options;
    restorer->limits = options->limits;
    if (restorer->limits == NULL) {
        restorer->limits = restorer->own_limits = limits_new();
    }
    int64_t memory_bytes =
        options->memory_bytes > 0 ? options->memory_bytes : REPOSITORY_MEMORY_BYTES;
    memory_bytes = MAX(memory_bytes, REPOSITORY_MEMORY_BYTES_MIN);
    RETURN_IF_ERROR(
        prefetch_new(&restorer->scope, map_fan_out, PREFETCH_COUNT, &restorer->prefetch, error));
    return fetcher_new(&restorer->scope, restorer->directory_fd, memory_bytes, restorer->limits,
                       &restorer->fetcher, error);
}

static Status restore(Restorer *restorer, const char *directory, Error *error)
{
    ManifestRoot root;
    RETURN_IF_ERROR(manifest_root(restorer->manifest, &root, error));
    RETURN_IF_ERROR(check_room(restorer->manifest, directory, error));
    restorer->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (restorer->directory_fd < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'", directory);
    }
    restorer->opener = blob_opener_new(&restorer->scope);
    blob_opener_read_ahead(restorer->opener);
    restorer->list = list_reader_new(restorer->opener, &root, NULL, NULL);
    list_reader_ask_roots(restorer->list, 2, NULL, NULL); // below, it is prefetch that reads
    map_reader_init(&restorer->map, restorer->opener, root.map_fan_out);
    RETURN_IF_ERROR(start_threads(restorer, root.map_fan_out, error));
    RETURN_IF_ERROR(report_progress(restorer, error));
    RETURN_IF_ERROR(restore_entries(restorer, error));
    RETURN_IF_ERROR(make_durable(restorer, directory, error));
    return report_progress(restorer, error);
}

Status repository_materialize(Repository *repository, const DataKey *key, const Manifest *manifest,
                              const char *directory, const MaterializeOptions *options,
                              MaterializeResult *ret_result, Error *error)
{
    bool is_empty = false;
    RETURN_IF_ERROR(dir_is_empty_but(directory, REPOSITORY_TARGET_MARK, &is_empty, error));
    if (!is_empty) {
        error_set(error, REASON_TARGET_NOT_EMPTY, "'%s' is not empty", directory);
        return error_hint(error, "restore to a directory that does not exist or is empty");
    }
    if (strcmp(manifest->key_id, key->id) != 0) {
        return error_set(error, REASON_KEY_WRONG, "manifest '%s' is sealed with data key '%s'",
                         manifest->id, manifest->key_id);
    }
    bool existed = access(directory, F_OK) == 0;
    Restorer restorer = {.manifest = manifest,
                         .options = options,
                         .progress = options->progress,
                         .directory_fd = INVALID_FD};
    Status status = scope_init(&restorer.scope, repository, key, manifest->database_id,
                               manifest->shard_id, error);
    restorer.scope.node_cache = options->node_cache;
    if (status == STATUS_OK) {
        status = dir_create_all(directory, DIRECTORY_MODE, error);
    }
    if (status == STATUS_OK) {
        status = restore(&restorer, directory, error);
    }
    MaterializeResult result = {.size_bytes = restorer.size_bytes};
    if (restorer.fetcher != NULL) {
        result.read_bytes = fetcher_progress(restorer.fetcher).read_bytes;
    }
    restorer_done(&restorer);
    if (status != STATUS_OK) {
        empty_directory(directory);
        if (!existed) {
            (void)rmdir(directory);
        }
        return status;
    }
    *ret_result = result;
    return STATUS_OK;
}
