// SPDX-License-Identifier: Apache-2.0
// Restoring: one thread walks the file list and makes directories and files, workers fetch and
// write the extents. Zeros become holes. A restore that fails leaves the target as empty as it was.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/repository_fetcher.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORKER_COUNT 2
#define PROGRESS_STEP_BYTES (INT64_C(4) * 1024 * 1024)
#define WAIT_STEP_MS 200
#define DIRECTORY_MODE 0700
// What a file takes beside its bytes, for the guess whether the disk is large enough.
#define FILE_OVERHEAD_BYTES 4096

typedef struct Restorer {
    const Manifest *manifest;
    Progress progress;
    ShardScope scope;
    BlobOpener *opener;
    ListReader *list;
    MapReader map;
    Fetcher *fetcher;
    int directory_fd;
    int64_t zero_bytes, file_count, size_bytes;
    int64_t next_report_bytes;
} Restorer;

static Status report_progress(Restorer *restorer, bool is_forced, Error *error)
{
    // What is fetched is known by the workers; zeros are done when they are met.
    if (!is_forced && restorer->size_bytes < restorer->next_report_bytes) {
        return STATUS_OK;
    }
    restorer->next_report_bytes = restorer->size_bytes + PROGRESS_STEP_BYTES;
    int64_t done = fetcher_written_bytes(restorer->fetcher) + restorer->zero_bytes;
    if (restorer->progress.on_progress != NULL &&
        !restorer->progress.on_progress(restorer->progress.context, done,
                                        restorer->manifest->size_bytes)) {
        return error_set(error, REASON_CANCELED, "the restore was canceled");
    }
    return STATUS_OK;
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
    return STATUS_OK;
}

static Status restore_file(Restorer *restorer, const ListEntry *entry, Error *error)
{
    RETURN_IF_ERROR(make_file(restorer, entry, error));
    map_reader_open(&restorer->map, entry);
    for (int64_t position = 0; position < restorer->map.extent_count; position++) {
        Ref ref;
        size_t size = extent_size_at(entry->size_bytes, position);
        if (map_reader_get(&restorer->map, 0, position, &ref, error) != STATUS_OK) {
            return error_wrap(error, "file '%s'", entry->path);
        }
        if (ref.kind == BLOB_ZERO) {
            restorer->zero_bytes += (int64_t)size;
        } else {
            RETURN_IF_ERROR(fetcher_add(restorer->fetcher, &ref, entry->path,
                                        position * (int64_t)EXTENT_SIZE, error));
        }
        restorer->size_bytes += (int64_t)size;
        RETURN_IF_ERROR(report_progress(restorer, false, error));
    }
    restorer->file_count++;
    return STATUS_OK;
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
    RETURN_IF_ERROR(fetcher_flush(restorer->fetcher, error));
    for (bool is_done = false; !is_done;) {
        RETURN_IF_ERROR(fetcher_wait(restorer->fetcher, WAIT_STEP_MS, &is_done, error));
        RETURN_IF_ERROR(report_progress(restorer, true, error));
    }
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
    if (syncfs(restorer->directory_fd) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "syncing '%s'", directory);
    }
    return STATUS_OK;
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
    restorer->list = list_reader_new(restorer->opener, &root.ref, root.level, NULL, NULL);
    map_reader_init(&restorer->map, restorer->opener);
    RETURN_IF_ERROR(fetcher_new(&restorer->scope, restorer->directory_fd, WORKER_COUNT,
                                &restorer->fetcher, error));
    RETURN_IF_ERROR(report_progress(restorer, true, error));
    RETURN_IF_ERROR(restore_entries(restorer, error));
    return make_durable(restorer, directory, error);
}

Status repository_materialize(Repository *repository, const DataKey *key, const Manifest *manifest,
                              const char *directory, Progress progress,
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
    Restorer restorer = {.manifest = manifest, .progress = progress, .directory_fd = INVALID_FD};
    Status status = scope_init(&restorer.scope, repository, key, manifest->database_id,
                               manifest->shard_id, error);
    if (status == STATUS_OK) {
        status = dir_create_all(directory, DIRECTORY_MODE, error);
    }
    if (status == STATUS_OK) {
        status = restore(&restorer, directory, error);
    }
    MaterializeResult result = {.size_bytes = restorer.size_bytes};
    if (restorer.fetcher != NULL) {
        result.read_bytes = fetcher_read_bytes(restorer.fetcher);
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
