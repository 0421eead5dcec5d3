// SPDX-License-Identifier: Apache-2.0
// The check: from every set to every blob. Maps are walked first; then each reached pack is read
// once, whatever the number of backups that share it, and compared with what the maps say of it.
// Sets, manifests and packs are read several at once; what comes of them is looked at in order.
#include "common/job_ring.h"
#include "common/memory.h"
#include "repository/check_pack.h"
#include "repository/repository_document.h"
#include "repository/repository_replacement.h"
#include "repository/repository_scopes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_PAGE_COUNT 1000
#define THREAD_COUNT_MAX 8
#define PLACE_COUNT 32
#define WAIT_MS 100 // how late a cancel is noticed

// A shard backup that a set names.
typedef struct CheckEntry {
    char shard_id[UUID_TEXT_SIZE], database_id[UUID_TEXT_SIZE];
    char manifest_id[MANIFEST_ID_SIZE];
    char manifest_digest[65];
} CheckEntry;

typedef enum JobKind { JOB_SET, JOB_MANIFEST, JOB_PACK } JobKind;

// What is read, and what came of it.
typedef struct CheckJob {
    JobKind kind;
    Error error;
    Arena *arena; // NULL: not needed yet
    // A set.
    char set_key[OBJECT_KEY_SIZE], database_id[UUID_TEXT_SIZE], backup_id[UUID_TEXT_SIZE];
    BackupSet *set;
    // A manifest.
    const CheckEntry *entry;
    DataKey key;
    Manifest *manifest;
    // A pack that maps reach.
    PackCheck check;
    ReachedPack *pack;
    bool is_read; // it is in the sample
    int64_t extent_count;
} CheckJob;

typedef struct Check {
    Repository *repository;
    const CheckOptions *options;
    CheckReport report;
    CheckEntry *entries;
    size_t entry_count, entry_capacity;
    int64_t done_bytes, total_bytes;
    JobRing *jobs;
    atomic_bool is_stopping;
    // Of the shard under way.
    Scopes scopes;
    Reach *reach;
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

// --- jobs -------------------------------------------------------------------------------------

// What came of a job is in `error` at first.
static Status settle_set(Check *check, CheckJob *job, Error *error);
static Status settle_manifest(Check *check, CheckJob *job, Error *error);
static Status settle_pack(Check *check, CheckJob *job, Error *error);

static void *thread_new(void *context)
{
    (void)context;
    return pack_checker_new();
}

static void thread_free(void *thread)
{
    pack_checker_free(thread);
}

// On a thread; what comes of it is told in job->error.
static void run_job(void *context, void *thread, void *place)
{
    Check *check = context;
    CheckJob *job = place;
    switch (job->kind) {
    case JOB_SET:
        (void)backup_set_read(check->repository, job->database_id, job->backup_id, job->arena,
                              &job->set, &job->error);
        break;
    case JOB_MANIFEST:
        (void)manifest_open(check->repository, job->entry->database_id, job->entry->shard_id,
                            job->entry->manifest_id, job->arena, &job->key, &job->manifest,
                            &job->error);
        break;
    case JOB_PACK:
        if (job->is_read) {
            (void)pack_check(thread, check->repository->storage, &job->check,
                             check->options->limits, &check->is_stopping, &job->extent_count,
                             &job->error);
        }
        break;
    }
}

static void job_done(void *place)
{
    CheckJob *job = place;
    data_key_done(&job->key);
    arena_free(job->arena);
}

static Status settle(Check *check, CheckJob *job, Error *error)
{
    switch (job->kind) {
    case JOB_SET:
        return settle_set(check, job, error);
    case JOB_MANIFEST:
        return settle_manifest(check, job, error);
    case JOB_PACK:
        break;
    }
    return settle_pack(check, job, error);
}

static Status settle_one(Check *check, Error *error)
{
    CheckJob *job = job_ring_take(check->jobs, WAIT_MS);
    if (job == NULL) {
        return step(check, 0, error);
    }
    Error failure = job->error;
    Status status = settle(check, job, &failure);
    if (status != STATUS_OK) {
        *error = failure;
    }
    return status;
}

static Status settle_all(Check *check, Error *error)
{
    while (!job_ring_is_empty(check->jobs)) {
        RETURN_IF_ERROR(settle_one(check, error));
    }
    return STATUS_OK;
}

// A place to fill in and to ask for.
static Status next_job(Check *check, JobKind kind, CheckJob **ret_job, Error *error)
{
    while (job_ring_is_full(check->jobs)) {
        RETURN_IF_ERROR(settle_one(check, error));
    }
    CheckJob *job = job_ring_next(check->jobs);
    job->kind = kind;
    job->error = (Error){0};
    if (job->arena == NULL) {
        job->arena = arena_new();
    }
    arena_reset(job->arena);
    *ret_job = job;
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

static Status ask_set(Check *check, const StorageObject *object, Error *error)
{
    CheckJob *job = NULL;
    RETURN_IF_ERROR(next_job(check, JOB_SET, &job, error));
    check->report.object_count++;
    check->report.read_bytes += object->size_bytes;
    if (!backup_set_id_parse(object->key, job->database_id, job->backup_id)) {
        Status status = document_is_damaged(object->key, "does not have a set's name", error);
        return tolerate(check, status, object->key, error);
    }
    snprintf(job->set_key, sizeof(job->set_key), "%s", object->key);
    job_ring_ask(check->jobs);
    // The first one alone: it opens the data key, which mostly is that of the others.
    return check->report.object_count == 1 ? settle_all(check, error) : STATUS_OK;
}

static Status settle_set(Check *check, CheckJob *job, Error *error)
{
    if (error->status == STATUS_OK) {
        check->report.set_count++;
        add_entries(check, job->set);
    }
    return tolerate(check, error->status, job->set_key, error);
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

static Status check_manifest(Check *check, const CheckJob *job, Error *error)
{
    const Manifest *manifest = job->manifest;
    check->report.manifest_count++;
    if (strcmp(manifest->digest, job->entry->manifest_digest) != 0) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "manifest '%s' is not the one that its backup names", manifest->id);
    }
    RETURN_IF_ERROR(check_lineage(check, manifest, error));
    const ShardScope *scope = NULL;
    RETURN_IF_ERROR(
        scopes_get(&check->scopes, check->repository, &job->key, manifest, &scope, error));
    return reach_add(check->reach, scope, manifest, error);
}

static Status settle_manifest(Check *check, CheckJob *job, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    manifest_object_key(job->entry->shard_id, job->entry->manifest_id, object);
    Status status = error->status == STATUS_OK ? check_manifest(check, job, error) : error->status;
    data_key_done(&job->key);
    check->report.object_count++;
    RETURN_IF_ERROR(tolerate(check, status, object, error));
    return step(check, 0, error);
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

static Status ask_pack(Check *check, const StorageObject *object, ReachedPack *pack,
                       uint32_t number, Error *error)
{
    CheckJob *job = NULL;
    RETURN_IF_ERROR(next_job(check, JOB_PACK, &job, error));
    job->pack = pack;
    job->is_read = is_sampled(check);
    job->check = (PackCheck){.size_bytes = object->size_bytes, .pack = pack, .number = number};
    snprintf(job->check.key, sizeof(job->check.key), "%s", object->key);
    job_ring_ask(check->jobs);
    return STATUS_OK;
}

// A pack is followed by its replacements. An older one beside a newer one that is whole is left
// over: a sweep ended early. It is checked all the same, because a restore reads the pack first.
static Status settle_pack(Check *check, CheckJob *job, Error *error)
{
    ReachedPack *pack = job->pack;
    int64_t size_bytes = job->check.size_bytes;
    if (error->status == STATUS_NOT_FOUND) {
        // A sweep replaced it since it was listed; find_unseen looks for what is there instead.
        error_clear(error);
        return step(check, size_bytes, error);
    }
    check->report.object_count++;
    if (!job->is_read) {
        check->report.unread_count++;
    } else {
        check->report.read_bytes += size_bytes;
        // An older object beside it has the same extents.
        check->report.extent_count += pack->is_seen ? 0 : job->extent_count;
        if (error->status == STATUS_OK && pack->is_seen) {
            check->report.orphan_count++;
            check->report.orphan_bytes += pack->seen_bytes;
            check->report.object_count--;
        }
    }
    pack->is_seen = true;
    pack->seen_bytes = size_bytes;
    RETURN_IF_ERROR(tolerate(check, error->status, job->check.key, error));
    return step(check, size_bytes, error);
}

static Status visit_pack(Check *check, const StorageObject *object, Error *error)
{
    PackName name;
    uint32_t number = 0;
    const char *text = strrchr(object->key, '/') + 1;
    ReachedPack *pack =
        pack_object_decode(text, &name, &number) ? reach_find(check->reach, &name) : NULL;
    if (pack != NULL) {
        return ask_pack(check, object, pack, number, error);
    }
    check->report.orphan_count++;
    check->report.orphan_bytes += object->size_bytes;
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
            RETURN_IF_ERROR(ask_pack(check, &object, pack, number, error));
            RETURN_IF_ERROR(settle_all(check, error));
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
        CheckJob *job = NULL;
        RETURN_IF_ERROR(next_job(check, JOB_MANIFEST, &job, error));
        job->entry = entry;
        job_ring_ask(check->jobs);
    }
    RETURN_IF_ERROR(settle_all(check, error));
    *first = index;
    char prefix[OBJECT_KEY_SIZE];
    snprintf(prefix, sizeof(prefix), "shards/%s/packs/", shard_id);
    RETURN_IF_ERROR(each_object(check, prefix, visit_pack, error));
    RETURN_IF_ERROR(settle_all(check, error));
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
    RETURN_IF_ERROR(each_object(check, "sets/", ask_set, error));
    RETURN_IF_ERROR(settle_all(check, error));
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
    Check check = {.repository = repository, .options = options};
    int64_t memory_bytes =
        options->memory_bytes > 0 ? options->memory_bytes : REPOSITORY_MEMORY_BYTES;
    // A third is left for what maps reach.
    int64_t thread_count = memory_bytes * 2 / 3 / (int64_t)PACK_CHECKER_SIZE;
    const JobRingOptions jobs = {.job_size = sizeof(CheckJob),
                                 .place_count = PLACE_COUNT,
                                 .thread_count = (int)MIN(MAX(thread_count, 1), THREAD_COUNT_MAX),
                                 .thread_new = thread_new,
                                 .thread_free = thread_free,
                                 .run = run_job,
                                 .job_done = job_done,
                                 .context = &check};
    RETURN_IF_ERROR(job_ring_new(&jobs, &check.jobs, error));
    Status status = run_check(&check, error);
    atomic_store(&check.is_stopping, true);
    job_ring_free(check.jobs);
    shard_done(&check);
    mem_free(check.entries);
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
