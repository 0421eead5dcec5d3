// SPDX-License-Identifier: Apache-2.0
// Publishes a stopped InnoDB data directory and restores it, as the agent does, and says how long
// it took as one line of JSON.
//   bench_repository publish REPOSITORY KEY-FILE DATA-DIRECTORY EPOCH [PARENT-MANIFEST]
//   bench_repository restore REPOSITORY KEY-FILE TARGET-DIRECTORY MANIFEST
#include "agent/engine/engine_innodb.h"
#include "common/attributes.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/repository.h"
#include "storage/storage_drivers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define DATABASE_ID "0198c1d2-0000-7000-8000-00000000000d"
#define SHARD_ID "0198c1d2-0000-7000-8000-000000000005"
#define COMPRESSION_LEVEL 1 // what the server asks agents for

typedef struct Bench {
    Arena *arena;
    Repository *repository;
    DataKey key;
    const char *directory;
    SourceFile *files;
    size_t file_count, file_capacity;
    const char **directories;
    size_t directory_count, directory_capacity;
} Bench;

static bool check_pages(void *context, const uint8_t *data, size_t size, int64_t offset,
                        int64_t *bad_page)
{
    return innodb_pages_check(context, data, size, offset, bad_page);
}

// NULL: not a tablespace.
static InnodbFile *tablespace(Bench *bench, const char *path)
{
    static uint8_t header[6 * INNODB_PAGE_SIZE_MAX];
    const char *full = arena_format(bench->arena, "%s/%s", bench->directory, path);
    CLEANUP(fd_closep) int fd = open(full, O_RDONLY | O_CLOEXEC);
    InnodbFile *file = arena_alloc(bench->arena, sizeof(*file));
    size_t size = 0;
    Error error = {0};
    if (fd < 0 || file_read_at(fd, header, sizeof(header), 0, &size, &error) != STATUS_OK ||
        !innodb_file_init(file, header, MIN(size, (size_t)INNODB_HEADER_BYTES))) {
        return NULL;
    }
    if (text_equal(path, "ibdata1") && size >= 6 * (size_t)file->page_size) {
        innodb_file_set_doublewrite(file, header + 5 * (size_t)file->page_size);
    }
    return file;
}

static void add_directory(Bench *bench, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return;
    }
    const char *directory = arena_format(bench->arena, "%.*s", (int)(slash - path), path);
    size_t count = bench->directory_count;
    if (count > 0 && text_equal(bench->directories[count - 1], directory)) {
        return;
    }
    if (count == bench->directory_capacity) {
        bench->directory_capacity = count == 0 ? 16 : 2 * count;
        bench->directories = mem_realloc_array(bench->directories, bench->directory_capacity,
                                               sizeof(*bench->directories));
    }
    bench->directories[bench->directory_count++] = directory;
}

static Status add_file(void *context, const char *path, int64_t size_bytes, Error *error)
{
    (void)error;
    Bench *bench = context;
    bool may_be_tablespace = text_has_suffix(path, ".ibd") || text_equal(path, "ibdata1");
    InnodbFile *file = may_be_tablespace ? tablespace(bench, path) : NULL;
    if (bench->file_count == bench->file_capacity) {
        bench->file_capacity = bench->file_capacity == 0 ? 256 : 2 * bench->file_capacity;
        bench->files = mem_realloc_array(bench->files, bench->file_capacity, sizeof(*bench->files));
    }
    bench->files[bench->file_count++] = (SourceFile){.path = arena_string(bench->arena, path),
                                                     .size_bytes = size_bytes,
                                                     .mode = 0640,
                                                     .check = file == NULL ? NULL : check_pages,
                                                     .context = file};
    add_directory(bench, path);
    return STATUS_OK;
}

static Status open_repository(Bench *bench, const char *directory, const char *key_file,
                              Error *error)
{
    CLEANUP(secret_done) Secret wrapping_key = {0};
    Status status = key_file_read(key_file, &wrapping_key, error);
    if (status != STATUS_OK && error->reason == REASON_KEY_MISSING) {
        RETURN_IF_ERROR(key_file_create(key_file, error));
        status = key_file_read(key_file, &wrapping_key, error);
    }
    RETURN_IF_ERROR(status);
    Storage *storage = NULL;
    RETURN_IF_ERROR(storage_filesystem_new(directory, &storage, error));
    status =
        repository_create(storage, key_wrapper_from_key(&wrapping_key), &bench->repository, error);
    if (status != STATUS_OK && error->reason == REASON_EXISTS) {
        RETURN_IF_ERROR(storage_filesystem_new(directory, &storage, error));
        status = repository_open(storage, key_wrapper_from_key(&wrapping_key), &bench->repository,
                                 error);
    }
    RETURN_IF_ERROR(status);
    return repository_data_key(bench->repository, DATABASE_ID, true, &bench->key, error);
}

static double seconds_since(int64_t start_us)
{
    return (double)(clock_now_us() - start_us) / 1e6;
}

static long peak_kib(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static Status publish(Bench *bench, uint32_t epoch, const char *parent_id, Error *error)
{
    Manifest *parent = NULL;
    if (parent_id != NULL) {
        RETURN_IF_ERROR(manifest_read(bench->repository, &bench->key, SHARD_ID, parent_id,
                                      bench->arena, &parent, error));
    }
    int64_t start_us = clock_now_us();
    RETURN_IF_ERROR(dir_walk(bench->directory, add_file, bench, error));
    PublishOptions options = {.directory = bench->directory,
                              .files = bench->files,
                              .file_count = bench->file_count,
                              .directories = bench->directories,
                              .directory_count = bench->directory_count,
                              .epoch = epoch,
                              .parent = parent,
                              .compression_level = COMPRESSION_LEVEL,
                              .manifest = {.database_id = DATABASE_ID,
                                           .shard_id = SHARD_ID,
                                           .database_name = "bench",
                                           .shard_name = "0",
                                           .engine = "mariadb",
                                           .engine_version = "",
                                           .checkpoint = "0-1-1",
                                           .engine_state = "{}",
                                           .generation = parent == NULL ? 0 : 1}};
    Manifest *manifest = NULL;
    RETURN_IF_ERROR(repository_publish(bench->repository, &bench->key, &options, bench->arena,
                                       &manifest, error));
    printf("{\"seconds\": %.6f, \"manifest\": \"%s\", \"size_bytes\": %lld, \"new_bytes\": %lld, "
           "\"stored_bytes\": %lld, \"peak_kib\": %ld}\n",
           seconds_since(start_us), manifest->id, (long long)manifest->size_bytes,
           (long long)manifest->new_bytes, (long long)manifest->stored_bytes, peak_kib());
    return STATUS_OK;
}

static Status restore(Bench *bench, const char *manifest_id, Error *error)
{
    int64_t start_us = clock_now_us();
    Manifest *manifest = NULL;
    MaterializeResult result;
    RETURN_IF_ERROR(manifest_read(bench->repository, &bench->key, SHARD_ID, manifest_id,
                                  bench->arena, &manifest, error));
    RETURN_IF_ERROR(repository_materialize(bench->repository, &bench->key, manifest,
                                           bench->directory, (Progress){0}, &result, error));
    printf("{\"seconds\": %.6f, \"size_bytes\": %lld, \"peak_kib\": %ld}\n",
           seconds_since(start_us), (long long)result.size_bytes, peak_kib());
    return STATUS_OK;
}

int main(int count, char **arguments)
{
    bool is_publish = count >= 6 && text_equal(arguments[1], "publish");
    if (!is_publish && (count != 6 || !text_equal(arguments[1], "restore"))) {
        fprintf(stderr, "usage: bench_repository publish|restore REPOSITORY KEY DIRECTORY ...\n");
        return 2;
    }
    Error error = {0};
    Bench bench = {.arena = arena_new(), .directory = arguments[4]};
    Status status = open_repository(&bench, arguments[2], arguments[3], &error);
    if (status == STATUS_OK) {
        uint32_t epoch = is_publish ? (uint32_t)strtoul(arguments[5], NULL, 10) : 0;
        status = is_publish ? publish(&bench, epoch, count > 6 ? arguments[6] : NULL, &error)
                            : restore(&bench, arguments[5], &error);
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_repository: %s\n", error.message);
    }
    mem_free(bench.files);
    mem_free(bench.directories);
    data_key_done(&bench.key);
    repository_free(bench.repository);
    arena_free(bench.arena);
    return status == STATUS_OK ? 0 : 1;
}
