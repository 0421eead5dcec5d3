// SPDX-License-Identifier: Apache-2.0
// Storage in a directory. An object is written under a temporary name in ROOT/.tmp, made durable,
// and then linked (create-only) or renamed to its key; so a key names a whole object or nothing,
// whatever is killed when. A living writer holds a lock on its temporary file, which is how the
// clean-up tells a dead writer's from it.
#include "storage/storage_filesystem.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY_MODE 0750
#define OBJECT_MODE 0640
#define PLACE_TRY_COUNT_MAX 16
// Where the filesystem has no locks, only files this old are taken for a dead writer's.
#define STALE_WITHOUT_LOCKS_US (INT64_C(24) * 3600 * 1000000)
#define DIRECT_SIZE_MIN ((size_t)1024 * 1024)

typedef struct FilesystemWriter {
    StorageWriter base;
    int fd;
    int64_t offset; // of what comes next
    bool is_create_only;
    char *key;
    char temporary_path[LIMIT_PATH_BYTES];
} FilesystemWriter;

typedef struct FilesystemReader {
    StorageReader base;
    int fd;
    int64_t offset;
    int64_t left; // -1: to the end
    char *key;
} FilesystemReader;

int64_t filesystem_time_us(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000 + time->tv_nsec / 1000;
}

Status filesystem_path(const FilesystemStorage *storage, const char *key, char *ret_path,
                       size_t size, Error *error)
{
    int length = snprintf(ret_path, size, "%s/%s", storage->root, key);
    if (length < 0 || (size_t)length >= size) {
        return error_set(error, REASON_INVALID, "the path of object '%s' is too long", key);
    }
    return STATUS_OK;
}

// A failure to write, in the repository's own words and with its cure.
static Status write_failed(const FilesystemStorage *storage, int number, const char *what,
                           const char *key, Error *error)
{
    if (number == EACCES || number == EPERM || number == EROFS || number == ENOTDIR) {
        error_set(error, REASON_REPOSITORY_UNWRITABLE, "%s '%s' in '%s': %s", what, key,
                  storage->location, strerrordesc_np(number));
        if (number == EROFS) {
            return error_hint(error,
                              "mount the filesystem of '%s' writable, or choose another place",
                              storage->root);
        }
        return error_hint(error, "let user id %ld write to '%s', or choose another place",
                          (long)geteuid(), storage->root);
    }
    error_set_errno(error, REASON_UNAVAILABLE, number, "%s '%s' in '%s'", what, key,
                    storage->location);
    if (error->reason == REASON_DISK_FULL) {
        error_hint(error, "free space on the filesystem of '%s', or delete old backups",
                   storage->root);
    }
    return error->status;
}

static Status read_failed(const FilesystemStorage *storage, int number, const char *key,
                          Error *error)
{
    if (number == ENOENT || number == ENOTDIR || number == EISDIR) {
        return error_set(error, REASON_NOT_FOUND, "there is no object '%s' in '%s'", key,
                         storage->location);
    }
    if (number == EIO) {
        return error_set(error, REASON_OBJECT_CORRUPT, "object '%s' in '%s' cannot be read: %s",
                         key, storage->location, strerrordesc_np(number));
    }
    error_set_errno(error, REASON_UNAVAILABLE, number, "reading object '%s' in '%s'", key,
                    storage->location);
    if (error->reason == REASON_FORBIDDEN) {
        error_hint(error, "let user id %ld read '%s'", (long)geteuid(), storage->root);
    }
    return error->status;
}

static void filesystem_free(Storage *storage)
{
    FilesystemStorage *filesystem = (FilesystemStorage *)storage;
    storage_base_done(storage);
    mem_free(filesystem->root);
    mem_free(filesystem->location);
    mem_free(filesystem);
}

static const char *filesystem_describe(const Storage *storage)
{
    return ((const FilesystemStorage *)storage)->location;
}

static int sync_directory(const char *path)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    // Some network filesystems cannot sync a directory and say EINVAL: there is nothing to wait for
    // then.
    return fsync(fd) != 0 && errno != EINVAL ? errno : 0;
}

// Creates the directories above `path` (an object's place), durably. Returns errno or 0.
static int create_parents(const char *path)
{
    char partial[LIMIT_PATH_BYTES];
    snprintf(partial, sizeof(partial), "%s", path);
    char *last = strrchr(partial, '/');
    assert(last != NULL);
    *last = '\0';
    struct stat facts;
    if (stat(partial, &facts) == 0) {
        return S_ISDIR(facts.st_mode) ? 0 : ENOTDIR;
    }
    for (char *slash = strchr(partial + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        if (mkdir(partial, DIRECTORY_MODE) == 0) {
            char parent[LIMIT_PATH_BYTES];
            snprintf(parent, sizeof(parent), "%s", partial);
            char *end = strrchr(parent, '/');
            end[end == parent ? 1 : 0] = '\0';
            int number = sync_directory(parent);
            if (number != 0) {
                return number;
            }
        } else if (errno != EEXIST) {
            // On a read-only filesystem, say, a directory that is there is not told by EEXIST.
            int number = errno;
            if (stat(partial, &facts) != 0) {
                return number;
            }
        }
        if (slash == NULL) {
            return 0;
        }
        *slash = '/';
    }
}

// Opens a new temporary file and locks it. Returns errno or 0; EAGAIN: the clean-up was quicker,
// try again.
static int open_temporary(FilesystemWriter *writer)
{
    int number = create_parents(writer->temporary_path);
    if (number != 0) {
        return number;
    }
    writer->fd = open(writer->temporary_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                      OBJECT_MODE);
    if (writer->fd < 0) {
        return errno == EEXIST || errno == ENOENT ? EAGAIN : errno;
    }
    struct stat facts;
    bool is_ours = flock(writer->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (is_ours && fstat(writer->fd, &facts) == 0 && facts.st_nlink == 1) {
        return 0;
    }
    fd_closep(&writer->fd);
    return EAGAIN;
}

static void writer_free(FilesystemWriter *writer)
{
    fd_closep(&writer->fd);
    mem_free(writer->key);
    mem_free(writer);
}

static Status filesystem_open_writer(Storage *storage, const char *key,
                                     const StorageWriteOptions *options, StorageWriter **ret_writer,
                                     Error *error)
{
    FilesystemStorage *filesystem = (FilesystemStorage *)storage;
    FilesystemWriter *writer = mem_alloc(sizeof(*writer));
    writer->fd = INVALID_FD;
    writer->key = string_copy(key);
    writer->is_create_only = options->is_create_only;
    int number = EAGAIN;
    for (int try_count = 0; number == EAGAIN && try_count < PLACE_TRY_COUNT_MAX; try_count++) {
        char name[UUID_TEXT_SIZE];
        char temporary[UUID_TEXT_SIZE + 8];
        crypto_uuid(name);
        snprintf(temporary, sizeof(temporary), ".tmp/%s", name);
        Status status = filesystem_path(filesystem, temporary, writer->temporary_path,
                                        sizeof(writer->temporary_path), error);
        if (status != STATUS_OK) {
            writer_free(writer);
            return status;
        }
        number = open_temporary(writer);
    }
    if (number != 0) {
        writer_free(writer);
        return write_failed(filesystem, number, "creating object", key, error);
    }
    *ret_writer = &writer->base;
    return STATUS_OK;
}

static int write_all(FilesystemWriter *writer, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(writer->fd, data, size);
        if (written < 0 && errno != EINTR) {
            return errno;
        }
        if (written > 0) {
            data += written;
            size -= (size_t)written;
            writer->offset += written;
        }
    }
    return 0;
}

// Writes the whole blocks of much data past the page cache, where the filesystem can: nothing is
// copied, and the sync that follows finds little to do. Returns how much it wrote; the rest, and
// whatever failed, is for a usual write.
static size_t write_direct(FilesystemWriter *writer, const uint8_t *data, size_t size)
{
    int flags = size < DIRECT_SIZE_MIN || (uintptr_t)data % DIRECT_ALIGNMENT != 0 ||
                        writer->offset % DIRECT_ALIGNMENT != 0
                    ? -1
                    : fcntl(writer->fd, F_GETFL);
    if (flags < 0 || fcntl(writer->fd, F_SETFL, flags | O_DIRECT) != 0) {
        return 0;
    }
    int64_t start = writer->offset;
    (void)write_all(writer, data, size / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT);
    (void)fcntl(writer->fd, F_SETFL, flags);
    return (size_t)(writer->offset - start);
}

static Status filesystem_writer_write(StorageWriter *storage_writer, const void *data, size_t size,
                                      Error *error)
{
    FilesystemWriter *writer = (FilesystemWriter *)storage_writer;
    size_t done = write_direct(writer, data, size);
    int number = write_all(writer, (const uint8_t *)data + done, size - done);
    return number == 0 ? STATUS_OK
                       : write_failed((FilesystemStorage *)storage_writer->storage, number,
                                      "writing object", writer->key, error);
}

static void filesystem_writer_abort(StorageWriter *storage_writer)
{
    FilesystemWriter *writer = (FilesystemWriter *)storage_writer;
    (void)unlink(writer->temporary_path); // what stays is the clean-up's
    writer_free(writer);
}

// Gives the temporary file its key. The directories may be removed under us by storage_remove: try
// again then.
static int place_object(const FilesystemWriter *writer, const char *path)
{
    for (int try_count = 0; try_count < PLACE_TRY_COUNT_MAX; try_count++) {
        int number = create_parents(path);
        if (number != 0 && number != ENOENT) {
            return number;
        }
        int result = writer->is_create_only ? link(writer->temporary_path, path)
                                            : rename(writer->temporary_path, path);
        if (result == 0) {
            return 0;
        }
        if (errno != ENOENT) {
            return errno;
        }
    }
    return ENOENT;
}

static Status commit_failed(FilesystemWriter *writer, int number, Error *error)
{
    const FilesystemStorage *filesystem = (const FilesystemStorage *)writer->base.storage;
    if (number == EEXIST) {
        return error_set(error, REASON_EXISTS, "object '%s' is in '%s' already", writer->key,
                         filesystem->location);
    }
    return write_failed(filesystem, number, "writing object", writer->key, error);
}

static Status filesystem_writer_commit(StorageWriter *storage_writer, Error *error)
{
    FilesystemWriter *writer = (FilesystemWriter *)storage_writer;
    const FilesystemStorage *filesystem = (const FilesystemStorage *)storage_writer->storage;
    char path[LIMIT_PATH_BYTES];
    Status status = filesystem_path(filesystem, writer->key, path, sizeof(path), error);
    int number = 0;
    if (status == STATUS_OK && fsync(writer->fd) != 0) {
        status = commit_failed(writer, errno, error);
    }
    if (status == STATUS_OK && (number = place_object(writer, path)) != 0) {
        status = commit_failed(writer, number, error);
    }
    if (status == STATUS_OK) {
        char *slash = strrchr(path, '/');
        *slash = '\0';
        number = sync_directory(path);
        *slash = '/';
        if (number != 0) {
            (void)unlink(path); // not durable: it must not be seen either
            status = commit_failed(writer, number, error);
        }
    }
    (void)unlink(writer->temporary_path);
    writer_free(writer);
    return status;
}

static Status filesystem_open_reader(Storage *storage, const char *key, int64_t offset,
                                     int64_t length, StorageReader **ret_reader, Error *error)
{
    FilesystemStorage *filesystem = (FilesystemStorage *)storage;
    char path[LIMIT_PATH_BYTES];
    RETURN_IF_ERROR(filesystem_path(filesystem, key, path, sizeof(path), error));
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0) {
        return read_failed(filesystem, errno, key, error);
    }
    if (!S_ISREG(facts.st_mode)) {
        return read_failed(filesystem, ENOENT, key, error);
    }
    FilesystemReader *reader = mem_alloc(sizeof(*reader));
    reader->fd = fd;
    fd = INVALID_FD;
    reader->offset = offset;
    reader->left = length;
    reader->key = string_copy(key);
    *ret_reader = &reader->base;
    return STATUS_OK;
}

static Status filesystem_reader_read(StorageReader *storage_reader, void *data, size_t size,
                                     size_t *ret_size, Error *error)
{
    FilesystemReader *reader = (FilesystemReader *)storage_reader;
    if (reader->left >= 0 && size > (uint64_t)reader->left) {
        size = (size_t)reader->left;
    }
    ssize_t got = 0;
    do {
        got = size == 0 ? 0 : pread(reader->fd, data, size, reader->offset);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return read_failed((FilesystemStorage *)storage_reader->storage, errno, reader->key, error);
    }
    reader->offset += got;
    if (reader->left >= 0) {
        reader->left -= got;
    }
    *ret_size = (size_t)got;
    return STATUS_OK;
}

static void filesystem_reader_close(StorageReader *storage_reader)
{
    FilesystemReader *reader = (FilesystemReader *)storage_reader;
    fd_closep(&reader->fd);
    mem_free(reader->key);
    mem_free(reader);
}

static Status filesystem_stat(Storage *storage, const char *key, StorageObject *ret_object,
                              Error *error)
{
    FilesystemStorage *filesystem = (FilesystemStorage *)storage;
    char path[LIMIT_PATH_BYTES];
    RETURN_IF_ERROR(filesystem_path(filesystem, key, path, sizeof(path), error));
    struct stat facts;
    if (lstat(path, &facts) != 0) {
        return read_failed(filesystem, errno, key, error);
    }
    if (!S_ISREG(facts.st_mode)) {
        return read_failed(filesystem, ENOENT, key, error);
    }
    ret_object->size_bytes = (int64_t)facts.st_size;
    ret_object->modified_us = filesystem_time_us(&facts.st_mtim);
    return STATUS_OK;
}

static Status filesystem_remove(Storage *storage, const char *key, Error *error)
{
    FilesystemStorage *filesystem = (FilesystemStorage *)storage;
    char path[LIMIT_PATH_BYTES];
    RETURN_IF_ERROR(filesystem_path(filesystem, key, path, sizeof(path), error));
    if (unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR) {
        return write_failed(filesystem, errno, "removing object", key, error);
    }
    // Directories do not exist for callers: empty ones go with their last object.
    size_t root_size = strlen(filesystem->root);
    for (char *slash = strrchr(path, '/'); slash > path + root_size; slash = strrchr(path, '/')) {
        *slash = '\0';
        if (rmdir(path) != 0) {
            break;
        }
    }
    return STATUS_OK;
}

// Removes one temporary file unless its writer lives.
static bool remove_temporary(const char *path)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        return false;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        bool is_old = clock_now_us() - filesystem_time_us(&facts.st_mtim) > STALE_WITHOUT_LOCKS_US;
        if (errno == EWOULDBLOCK || !is_old) {
            return false;
        }
    }
    return unlink(path) == 0;
}

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        closedir(*directory);
    }
}

static Status filesystem_remove_stale(Storage *storage, int64_t *ret_removed_count, Error *error)
{
    FilesystemStorage *filesystem = (FilesystemStorage *)storage;
    char path[LIMIT_PATH_BYTES];
    *ret_removed_count = 0;
    RETURN_IF_ERROR(filesystem_path(filesystem, ".tmp", path, sizeof(path), error));
    CLEANUP(directory_closep) DIR *directory = opendir(path);
    if (directory == NULL) {
        return errno == ENOENT ? STATUS_OK : read_failed(filesystem, errno, ".tmp", error);
    }
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char key[sizeof(entry->d_name) + 8];
        snprintf(key, sizeof(key), ".tmp/%s", entry->d_name);
        if (entry->d_name[0] == '.' ||
            filesystem_path(filesystem, key, path, sizeof(path), error) != STATUS_OK) {
            continue;
        }
        *ret_removed_count += remove_temporary(path) ? 1 : 0;
    }
    return STATUS_OK;
}

static const StorageOperations FILESYSTEM_OPERATIONS = {
    .name = "filesystem",
    .free = filesystem_free,
    .describe = filesystem_describe,
    .open_writer = filesystem_open_writer,
    .writer_write = filesystem_writer_write,
    .writer_commit = filesystem_writer_commit,
    .writer_abort = filesystem_writer_abort,
    .open_reader = filesystem_open_reader,
    .reader_read = filesystem_reader_read,
    .reader_close = filesystem_reader_close,
    .stat = filesystem_stat,
    .list = filesystem_list,
    .remove = filesystem_remove,
    .remove_stale = filesystem_remove_stale,
};

Status storage_filesystem_new(const char *directory, Storage **ret_storage, Error *error)
{
    size_t size = strlen(directory);
    if (directory[0] != '/' || size + STORAGE_KEY_SIZE_MAX + 2 > LIMIT_PATH_BYTES) {
        error_set(error, REASON_INVALID, "'%.200s' is not an absolute path", directory);
        return error_hint(error, "give the whole path of the repository's directory, such as "
                                 "/var/lib/holdfast/repository");
    }
    while (size > 1 && directory[size - 1] == '/') {
        size--;
    }
    if (size == 1) {
        return error_set(error, REASON_INVALID, "the root directory cannot be a repository");
    }
    FilesystemStorage *filesystem = mem_alloc(sizeof(*filesystem));
    storage_base_init(&filesystem->base, &FILESYSTEM_OPERATIONS);
    filesystem->root = string_copy_n(directory, size);
    filesystem->location = string_format("file://%s", filesystem->root);
    *ret_storage = (Storage *)filesystem;
    return STATUS_OK;
}
