// SPDX-License-Identifier: Apache-2.0
// Publishes a stopped data directory and restores it, as the agent does, and says how it went as
// one line of JSON.
//   bench_repository publish REPOSITORY KEY-FILE DATA-DIRECTORY EPOCH [PARENT-MANIFEST] [OPTION...]
//   bench_repository restore REPOSITORY KEY-FILE TARGET-DIRECTORY MANIFEST [OPTION...]
// REPOSITORY is a directory or any other location of an object store; what is missing is made.
//   --level=N         of compression; 1
//   --cpus=N          how many threads compute at once; all
//   --memory-mib=N    for buffers; 256
//   --written=FILE    only these ranges were written since the parent: lines "PATH OFFSET SIZE"
//   --restored=DIR    restores the parent there before anything is measured, as an agent does
//   --full            reads everything even so, and counts what FILE does not name
//   --endpoint=URL    of the object store; its credentials come from the environment
//   --ca=FILE         certificates to trust there
//   --path-style      the bucket is in the path
//   --latency-ms=N    that each call of the store takes longer
//   --resume=EPOCH    takes up what attempts from this epoch on have left
// The pages of InnoDB tablespaces and of PostgreSQL relations (of a cluster with checksums) are
// checked.
#include "agent/engine/engine_innodb.h"
#include "agent/engine/engine_postgres_page.h"
#include "common/attributes.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "repository/repository.h"
#include "storage/storage_drivers.h"
#include "tests/harness/distant_storage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define DATABASE_ID "0198c1d2-0000-7000-8000-00000000000d"
#define SHARD_ID "0198c1d2-0000-7000-8000-000000000005"
#define COMPRESSION_LEVEL 1 // what the server asks agents for
#define CERTIFICATES_SIZE_MAX ((size_t)1024 * 1024)
#define WRITTEN_LINES_SIZE_MAX ((size_t)256 * 1024 * 1024)

typedef struct WrittenRange {
    const char *path;
    int64_t offset, size;
} WrittenRange;

typedef struct Bench {
    Arena *arena;
    Repository *repository;
    DataKey key;
    const char *directory;
    SourceFile *files;
    size_t file_count, file_capacity;
    const char **directories;
    size_t directory_count, directory_capacity;
    bool has_postgres_checksums;
    StorageOptions store;
    int latency_ms;
    int64_t start_us;
    double start_processor_seconds;
    Limits *limits;
    int level;
    int64_t memory_bytes;
    const char *restored_path; // NULL: the parent is not restored
    NodeCache *node_cache;     // of its restore, or NULL
    const char *written_path;  // NULL: nothing is known
    WrittenRange *written;     // in order of path and offset
    size_t written_count;
    bool reads_everything;
    uint32_t resume_epoch_min;
} Bench;

typedef struct WrittenFile {
    const WrittenRange *ranges;
    size_t count;
} WrittenFile;

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

// What was written of one file: a binary search, as a recorder would do.
static bool is_written(void *context, int64_t offset, int64_t size)
{
    const WrittenFile *file = context;
    size_t low = 0;
    size_t high = file->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (file->ranges[middle].offset + file->ranges[middle].size <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < file->count && file->ranges[low].offset < offset + size;
}

static void find_written(Bench *bench, SourceFile *source)
{
    WrittenFile *file = arena_alloc(bench->arena, sizeof(*file));
    for (size_t i = 0; i < bench->written_count; i++) {
        if (text_equal(bench->written[i].path, source->path)) {
            file->ranges = file->ranges == NULL ? &bench->written[i] : file->ranges;
            file->count++;
        }
    }
    source->is_written = is_written;
    source->written_context = file;
}

static int compare_ranges(const void *a, const void *b)
{
    const WrittenRange *left = a;
    const WrittenRange *right = b;
    int order = strcmp(left->path, right->path);
    return order != 0 ? order : (left->offset > right->offset) - (left->offset < right->offset);
}

static Status read_written(Bench *bench, Error *error)
{
    char *text = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(file_read(bench->written_path, WRITTEN_LINES_SIZE_MAX, &text, &size, error));
    size_t capacity = 0;
    char *rest = text;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char path[1025];
        long long offset = 0;
        long long length = 0;
        if (sscanf(line, "%1024s %lld %lld", path, &offset, &length) != 3) {
            mem_free(text);
            return error_set(error, REASON_INVALID, "'%s' is no line of a written range", line);
        }
        if (bench->written_count == capacity) {
            capacity = capacity == 0 ? 1024 : 2 * capacity;
            bench->written = mem_realloc_array(bench->written, capacity, sizeof(*bench->written));
        }
        bench->written[bench->written_count++] = (WrittenRange){
            .path = arena_string(bench->arena, path), .offset = offset, .size = length};
    }
    mem_free(text);
    qsort(bench->written, bench->written_count, sizeof(*bench->written), compare_ranges);
    return STATUS_OK;
}

static void add_check(Bench *bench, SourceFile *source)
{
    uint32_t segment = 0;
    if (text_has_suffix(source->path, ".ibd") || text_equal(source->path, "ibdata1")) {
        InnodbFile *file = tablespace(bench, source->path);
        source->check = file == NULL ? NULL : check_pages;
        source->context = file;
    } else if (bench->has_postgres_checksums && postgres_page_file(source->path, &segment)) {
        PostgresPageFile *context = arena_alloc(bench->arena, sizeof(*context));
        context->segment = segment;
        source->check = postgres_page_check;
        source->context = context;
    }
}

static Status add_file(void *context, const char *path, int64_t size_bytes, Error *error)
{
    (void)error;
    Bench *bench = context;
    if (bench->file_count == bench->file_capacity) {
        bench->file_capacity = bench->file_capacity == 0 ? 256 : 2 * bench->file_capacity;
        bench->files = mem_realloc_array(bench->files, bench->file_capacity, sizeof(*bench->files));
    }
    SourceFile *source = &bench->files[bench->file_count++];
    *source = (SourceFile){
        .path = arena_string(bench->arena, path), .size_bytes = size_bytes, .mode = 0640};
    add_check(bench, source);
    if (bench->written_path != NULL) {
        find_written(bench, source);
    }
    add_directory(bench, path);
    return STATUS_OK;
}

static Status open_storage(const Bench *bench, const StorageOptions *place, Storage **ret_storage,
                           Error *error)
{
    RETURN_IF_ERROR(storage_open(place, ret_storage, error));
    if (bench->latency_ms > 0) {
        *ret_storage = distant_storage_new(*ret_storage, bench->latency_ms);
    }
    return STATUS_OK;
}

static Status open_repository(Bench *bench, const char *location, const char *key_file,
                              Error *error)
{
    CLEANUP(secret_done) Secret wrapping_key = {0};
    Status status = key_file_read(key_file, &wrapping_key, error);
    if (status != STATUS_OK && error->reason == REASON_KEY_MISSING) {
        RETURN_IF_ERROR(key_file_create(key_file, error));
        status = key_file_read(key_file, &wrapping_key, error);
    }
    RETURN_IF_ERROR(status);
    StorageOptions place = bench->store;
    place.location = location;
    Storage *storage = NULL;
    RETURN_IF_ERROR(open_storage(bench, &place, &storage, error));
    status =
        repository_create(storage, key_wrapper_from_key(&wrapping_key), &bench->repository, error);
    if (status != STATUS_OK && error->reason == REASON_EXISTS) {
        RETURN_IF_ERROR(open_storage(bench, &place, &storage, error));
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

static double processor_seconds(const struct rusage *usage)
{
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
           (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
}

static void start_measuring(Bench *bench)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    bench->start_processor_seconds = processor_seconds(&usage);
    bench->start_us = clock_now_us();
}

// The end of every line of results.
static void print_usage(const Bench *bench, int64_t size_bytes)
{
    struct rusage usage;
    double seconds = seconds_since(bench->start_us);
    (void)getrusage(RUSAGE_SELF, &usage);
    printf("\"size_bytes\": %lld, \"seconds\": %.6f, \"processor_seconds\": %.6f, "
           "\"mb_per_second\": %.1f, \"peak_kib\": %ld}\n",
           (long long)size_bytes, seconds,
           processor_seconds(&usage) - bench->start_processor_seconds,
           (double)size_bytes / seconds / 1e6, usage.ru_maxrss);
}

static Status materialize(Bench *bench, const Manifest *manifest, const char *directory,
                          MaterializeResult *ret_result, Error *error)
{
    const MaterializeOptions options = {.limits = bench->limits,
                                        .memory_bytes = bench->memory_bytes,
                                        .is_scratch = bench->node_cache != NULL,
                                        .node_cache = bench->node_cache};
    return repository_materialize(bench->repository, &bench->key, manifest, directory, &options,
                                  ret_result, error);
}

static Status publish(Bench *bench, uint32_t epoch, const char *parent_id, Error *error)
{
    Manifest *parent = NULL;
    if (parent_id != NULL) {
        RETURN_IF_ERROR(manifest_read(bench->repository, &bench->key, SHARD_ID, parent_id,
                                      bench->arena, &parent, error));
    }
    if (parent != NULL && bench->restored_path != NULL) {
        MaterializeResult result;
        RETURN_IF_ERROR(node_cache_new("/tmp", &bench->node_cache, error));
        RETURN_IF_ERROR(materialize(bench, parent, bench->restored_path, &result, error));
    }
    start_measuring(bench);
    const char *control = arena_format(bench->arena, "%s/global/pg_control", bench->directory);
    bench->has_postgres_checksums = access(control, F_OK) == 0;
    RETURN_IF_ERROR(dir_walk(bench->directory, add_file, bench, error));
    PublishOptions options = {.directory = bench->directory,
                              .files = bench->files,
                              .file_count = bench->file_count,
                              .directories = bench->directories,
                              .directory_count = bench->directory_count,
                              .epoch = epoch,
                              .parent = parent,
                              .compression_level = bench->level,
                              .reads_everything = bench->reads_everything,
                              .resume_epoch_min = bench->resume_epoch_min,
                              .resume_epoch_max = epoch - 1,
                              .limits = bench->limits,
                              .memory_bytes = bench->memory_bytes,
                              .node_cache = bench->node_cache,
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
    printf(
        "{\"manifest\": \"%s\", \"new_bytes\": %lld, \"stored_bytes\": %lld, \"read_bytes\": %lld, "
        "\"resumed_bytes\": %lld, \"unrecorded_bytes\": %lld, ",
        manifest->id, (long long)manifest->new_bytes, (long long)manifest->stored_bytes,
        (long long)manifest->read_bytes, (long long)manifest->resumed_bytes,
        (long long)manifest->unrecorded_bytes);
    print_usage(bench, manifest->size_bytes);
    return STATUS_OK;
}

static Status restore(Bench *bench, const char *manifest_id, Error *error)
{
    start_measuring(bench);
    Manifest *manifest = NULL;
    MaterializeResult result;
    RETURN_IF_ERROR(manifest_read(bench->repository, &bench->key, SHARD_ID, manifest_id,
                                  bench->arena, &manifest, error));
    RETURN_IF_ERROR(materialize(bench, manifest, bench->directory, &result, error));
    printf("{\"read_bytes\": %lld, ", (long long)result.read_bytes);
    print_usage(bench, result.size_bytes);
    return STATUS_OK;
}

// For the program's life; NULL: there is no such file.
static const char *read_certificates(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    Error error = {0};
    return file_read(path, CERTIFICATES_SIZE_MAX, &text, &size, &error) == STATUS_OK ? text : NULL;
}

// Takes the options out of the arguments; false: one is unknown.
static bool take_options(Bench *bench, int *count, char **arguments)
{
    int kept = 0;
    for (int i = 0; i < *count; i++) {
        const char *text = arguments[i];
        const char *value = strchr(text, '=');
        if (!text_has_prefix(text, "--")) {
            arguments[kept++] = arguments[i];
        } else if (text_equal(text, "--full")) {
            bench->reads_everything = true;
        } else if (text_equal(text, "--path-style")) {
            bench->store.is_path_style = true;
        } else if (value == NULL) {
            return false;
        } else if (text_has_prefix(text, "--endpoint=")) {
            bench->store.endpoint = value + 1;
        } else if (text_has_prefix(text, "--ca=")) {
            bench->store.ca_pem = read_certificates(value + 1);
        } else if (text_has_prefix(text, "--level=")) {
            bench->level = (int)strtol(value + 1, NULL, 10);
        } else if (text_has_prefix(text, "--cpus=")) {
            limits_set_cpus(bench->limits, (int)strtol(value + 1, NULL, 10));
        } else if (text_has_prefix(text, "--latency-ms=")) {
            bench->latency_ms = (int)strtol(value + 1, NULL, 10);
        } else if (text_has_prefix(text, "--memory-mib=")) {
            bench->memory_bytes = strtoll(value + 1, NULL, 10) * 1024 * 1024;
        } else if (text_has_prefix(text, "--written=")) {
            bench->written_path = value + 1;
        } else if (text_has_prefix(text, "--restored=")) {
            bench->restored_path = value + 1;
        } else if (text_has_prefix(text, "--resume=")) {
            bench->resume_epoch_min = (uint32_t)strtoul(value + 1, NULL, 10);
        } else {
            return false;
        }
    }
    *count = kept;
    return true;
}

static Status run(Bench *bench, int count, char **arguments, Error *error)
{
    bool is_publish = text_equal(arguments[1], "publish");
    RETURN_IF_ERROR(open_repository(bench, arguments[2], arguments[3], error));
    if (!is_publish) {
        return restore(bench, arguments[5], error);
    }
    if (bench->written_path != NULL) {
        RETURN_IF_ERROR(read_written(bench, error));
    }
    return publish(bench, (uint32_t)strtoul(arguments[5], NULL, 10),
                   count > 6 ? arguments[6] : NULL, error);
}

int main(int count, char **arguments)
{
    Bench bench = {.arena = arena_new(), .limits = limits_new(), .level = COMPRESSION_LEVEL};
    bool is_understood = take_options(&bench, &count, arguments) && count >= 6 &&
                         (text_equal(arguments[1], "publish") ||
                          (text_equal(arguments[1], "restore") && count == 6));
    Error error = {0};
    int code = 2;
    if (!is_understood) {
        fprintf(stderr, "usage: bench_repository publish|restore REPOSITORY KEY DIRECTORY ...\n");
    } else {
        bench.directory = arguments[4];
        code = run(&bench, count, arguments, &error) == STATUS_OK ? 0 : 1;
    }
    if (code == 1) {
        fprintf(stderr, "bench_repository: %s\n", error.message);
    }
    mem_free(bench.files);
    mem_free(bench.directories);
    mem_free(bench.written);
    limits_free(bench.limits);
    data_key_done(&bench.key);
    repository_free(bench.repository);
    arena_free(bench.arena);
    return code;
}
