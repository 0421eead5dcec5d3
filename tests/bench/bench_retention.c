// SPDX-License-Identifier: Apache-2.0
// Sweeps of a shard with many backups, in memory, so that storage calls are counted and cost
// nothing: says as lines of JSON what a sweep costs that walks everything, one after a backup came
// and two went, and the one that keeps sixty of them.
//   bench_retention DIRECTORY COUNT...       (ascending numbers of backups)
#include "common/attributes.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "repository/key_wrapper.h"
#include "repository/repository.h"
#include "storage/storage_drivers.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATABASE_ID "0198c1d2-0000-7000-8000-00000000000d"
#define SHARD_ID "0198c1d2-0000-7000-8000-000000000005"
#define RECORDS "reach/" SHARD_ID "/"
#define FILE_SIZE (4 * 1024 * 1024)
#define FILE_COUNT 24
#define PAGE_SIZE 16384
#define KEEP_COUNT 60

typedef struct Bench {
    const char *directory;
    Storage *storage;
    Repository *repository;
    DataKey key;
    SourceFile files[FILE_COUNT];
    char paths[FILE_COUNT][16];
    Arena *arena, *other_arena;
    Manifest *last;
    char (*ids)[MANIFEST_ID_SIZE];
    const char **keep;
    size_t count, keep_count;
} Bench;

static void must(Status status, const Error *error)
{
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "bench_retention: %s\n", error->message);
        exit(1);
    }
}

static void write_page(const Bench *bench, size_t file, off_t offset)
{
    uint8_t page[PAGE_SIZE];
    CLEANUP_FREE char *path = string_format("%s/%s", bench->directory, bench->paths[file]);
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    crypto_random(page, sizeof(page));
    if (fd < 0 || pwrite(fd, page, sizeof(page), offset) != (ssize_t)sizeof(page)) {
        perror(path);
        exit(1);
    }
}

static void open_bench(Bench *bench, const char *directory, size_t count_max)
{
    Error error = {0};
    uint8_t bytes[AES256_KEY_SIZE];
    crypto_random(bytes, sizeof(bytes));
    CLEANUP(secret_done) Secret wrapping_key = secret_from_bytes(bytes, sizeof(bytes));
    bench->directory = directory;
    bench->storage = storage_memory_new();
    must(repository_create(bench->storage, key_wrapper_from_key(&wrapping_key), &bench->repository,
                           &error),
         &error);
    must(repository_data_key(bench->repository, DATABASE_ID, true, &bench->key, &error), &error);
    bench->arena = arena_new();
    bench->other_arena = arena_new();
    bench->ids = mem_alloc_array(count_max + 1, sizeof(*bench->ids));
    bench->keep = mem_alloc_array(count_max + 1, sizeof(*bench->keep));
    for (size_t i = 0; i < FILE_COUNT; i++) {
        snprintf(bench->paths[i], sizeof(bench->paths[i]), "file%02zu", i);
        bench->files[i] = (SourceFile){
            .path = bench->paths[i], .size_bytes = i == 0 ? FILE_SIZE : PAGE_SIZE, .mode = 0600};
        write_page(bench, i, i == 0 ? FILE_SIZE - PAGE_SIZE : 0);
    }
}

// One page of the large file and one small file differ from the backup before.
static void publish(Bench *bench)
{
    Error error = {0};
    Manifest *manifest = NULL;
    write_page(bench, 0, (off_t)(bench->count * 7 % (FILE_SIZE / PAGE_SIZE)) * PAGE_SIZE);
    write_page(bench, 1 + bench->count % (FILE_COUNT - 1), 0);
    PublishOptions options = {.directory = bench->directory,
                              .files = bench->files,
                              .file_count = FILE_COUNT,
                              .epoch = (uint32_t)bench->count + 1,
                              .parent = bench->last,
                              .compression_level = 1};
    options.manifest = (Manifest){.database_name = "bench",
                                  .shard_name = "0",
                                  .engine = "mariadb",
                                  .engine_version = "10.11",
                                  .checkpoint = "0-1-1",
                                  .engine_state = "{}",
                                  .generation = (int32_t)bench->count};
    snprintf(options.manifest.database_id, sizeof(options.manifest.database_id), DATABASE_ID);
    snprintf(options.manifest.shard_id, sizeof(options.manifest.shard_id), SHARD_ID);
    arena_reset(bench->other_arena);
    must(repository_publish(bench->repository, &bench->key, &options, bench->other_arena, &manifest,
                            &error),
         &error);
    Arena *arena = bench->arena;
    bench->arena = bench->other_arena;
    bench->other_arena = arena;
    bench->last = manifest;
    memcpy(bench->ids[bench->count], manifest->id, MANIFEST_ID_SIZE);
    bench->keep[bench->keep_count++] = bench->ids[bench->count++];
}

static void drop(Bench *bench, size_t index)
{
    memmove(bench->keep + index, bench->keep + index + 1,
            (--bench->keep_count - index) * sizeof(*bench->keep));
}

// In KiB. The peak is set back to what is used now.
static long memory_kib(const char *name, bool is_reset)
{
    char line[256];
    long value = 0;
    if (is_reset) {
        (void)malloc_trim(0); // what earlier sweeps used is given back first
        FILE *reset = fopen("/proc/self/clear_refs", "we");
        if (reset != NULL) {
            (void)fputs("5", reset);
            (void)fclose(reset);
        }
    }
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            value = strtol(line + strlen(name), NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return value;
}

static void sweep(Bench *bench, const char *name)
{
    Error error = {0};
    SweepResult result;
    SweepOptions options = {.shard_id = SHARD_ID,
                            .keep = bench->keep,
                            .keep_count = bench->keep_count,
                            .protect_epoch_min = UINT32_MAX};
    long before_kib = memory_kib("VmRSS:", true);
    storage_memory_fail_at(bench->storage, 0, false);
    int64_t start_us = clock_now_us();
    must(repository_sweep_shard(bench->repository, &bench->key, &options, &result, &error), &error);
    double seconds = (double)(clock_now_us() - start_us) / 1e6;
    long peak_kib = memory_kib("VmHWM:", false);
    printf("{\"name\": \"%s\", \"backups\": %zu, \"kept\": %zu, \"seconds\": %.3f, \"calls\": %d, "
           "\"walked\": %lld, \"removed\": %lld, \"memory_kib\": %ld}\n",
           name, bench->count, bench->keep_count, seconds,
           storage_memory_call_count(bench->storage), (long long)result.walked_count,
           (long long)result.removed_count, peak_kib - before_kib);
    (void)fflush(stdout);
}

static void forget_records(const Bench *bench)
{
    Error error = {0};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoragePage page;
    must(storage_list(bench->storage, RECORDS, NULL, 1000, arena, &page, &error), &error);
    for (size_t i = 0; i < page.count; i++) {
        must(storage_remove(bench->storage, page.objects[i].key, &error), &error);
    }
}

int main(int argument_count, char **arguments)
{
    Bench bench = {0};
    if (argument_count < 3) {
        (void)fprintf(stderr, "usage: bench_retention DIRECTORY COUNT...\n");
        return 2;
    }
    open_bench(&bench, arguments[1],
               (size_t)strtoul(arguments[argument_count - 1], NULL, 10) + KEEP_COUNT);
    for (int i = 2; i < argument_count; i++) {
        size_t count = (size_t)strtoul(arguments[i], NULL, 10);
        while (bench.count < count) {
            publish(&bench);
        }
        forget_records(&bench);
        sweep(&bench, "everything");
        publish(&bench);
        drop(&bench, bench.keep_count / 2);
        drop(&bench, 0);
        sweep(&bench, "one came, two went");
    }
    for (size_t i = 0; i < KEEP_COUNT; i++) {
        bench.keep[i] = bench.keep[bench.keep_count * (i + 1) / KEEP_COUNT - 1];
    }
    bench.keep_count = KEEP_COUNT;
    sweep(&bench, "sixty stay");
    data_key_done(&bench.key);
    repository_free(bench.repository);
    return 0;
}
