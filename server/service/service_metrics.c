// SPDX-License-Identifier: Apache-2.0
// What Prometheus reads: text format 0.0.4. The server's own numbers are taken at each scrape;
// those of the fleet, which cost more the more there is, are kept for a while and shared by all
// scrapes.
#include "server/service/service_metrics.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/service_database.h"
#include "server/store/store_fleet.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// The fleet's numbers are this old at most, or ten times as old as taking them takes: a store that
// is slow is not made slower by those who ask how it is.
#define STATE_KEEP_MS 15000
#define STATE_KEEP_FACTOR 10
#define STATE_BYTES_MAX (4 * 1024 * 1024)

typedef enum MetricId {
#define METRIC(identifier, name, type, label, help) METRIC_##identifier,
#include "server/service/metrics.def"
#undef METRIC
} MetricId;

typedef struct Metric {
    const char *name, *type, *label, *help;
} Metric;

static const Metric METRICS[] = {
#define METRIC(identifier, name, type, label, help) {name, type, label, help},
#include "server/service/metrics.def"
#undef METRIC
};

static const char *const PROTECTIONS[] = {"", "protected", "at_risk", "unprotected"};
#define PROTECTION_COUNT 4

// --- writing ---

static void family(Buffer *buffer, MetricId id)
{
    const Metric *metric = &METRICS[id];
    buffer_append_format(buffer, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help,
                         metric->name, metric->type);
}

// Backslash, quote and newline are escaped: names have none of them, but what is in the table may
// outlive today's rules.
static void append_label(Buffer *buffer, const char *name, const char *value)
{
    buffer_append_format(buffer, "{%s=\"", name);
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"') {
            buffer_append(buffer, "\\", 1);
        }
        if (*value == '\n') {
            buffer_append_text(buffer, "\\n");
        } else {
            buffer_append(buffer, value, 1);
        }
    }
    buffer_append_text(buffer, "\"}");
}

// `label` is the value of the metric's label, if it has one.
static void sample(Buffer *buffer, MetricId id, const char *label, double value)
{
    const Metric *metric = &METRICS[id];
    buffer_append_text(buffer, metric->name);
    if (metric->label[0] != '\0') {
        append_label(buffer, metric->label, label);
    }
    buffer_append_format(buffer, " %.17g\n", value);
}

static void single(Buffer *buffer, MetricId id, double value)
{
    family(buffer, id);
    sample(buffer, id, NULL, value);
}

static void write_process(const Service *service, Buffer *buffer)
{
    family(buffer, METRIC_BUILD_INFO);
    sample(buffer, METRIC_BUILD_INFO, HOLDFAST_VERSION, 1);
    Error ignored = {0}; // without /proc there is no such number
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    long long total = 0;
    long long resident = 0;
    if (file_read("/proc/self/statm", LIMIT_FILE_BYTES, &text, &size, &ignored) == STATUS_OK &&
        sscanf(text, "%lld %lld", &total, &resident) == 2) {
        single(buffer, METRIC_MEMORY, (double)resident * (double)sysconf(_SC_PAGESIZE));
    }
    single(buffer, METRIC_START_TIME, (double)service->started_us / 1e6);
}

// --- databases ---

typedef struct DatabaseLine {
    char name[LIMIT_NAME_BYTES + 1];
    double last_success, rpo_target, size, proven; // negative: none
    bool reads_everything;
} DatabaseLine;

// Up to the limit of each protection, since it is not known which ones there will be.
typedef struct DatabaseLines {
    DatabaseLine *lines[PROTECTION_COUNT];
    size_t kept[PROTECTION_COUNT], counts[PROTECTION_COUNT];
} DatabaseLines;

static void lines_done(DatabaseLines *lines)
{
    for (size_t i = 0; i < PROTECTION_COUNT; i++) {
        mem_free(lines->lines[i]);
    }
}

static double seconds_of(int64_t seconds, int32_t nanos)
{
    return (double)seconds + nanos / 1e9;
}

static void add_line(DatabaseLines *lines, const Holdfast__V1__Database *database)
{
    size_t at = (size_t)database->protection < PROTECTION_COUNT ? (size_t)database->protection : 0;
    lines->counts[at]++;
    if (lines->kept[at] == LIMIT_METRICS_DATABASES) {
        return;
    }
    if (lines->kept[at] % 64 == 0) {
        lines->lines[at] =
            mem_realloc_array(lines->lines[at], lines->kept[at] + 64, sizeof(DatabaseLine));
    }
    DatabaseLine *line = &lines->lines[at][lines->kept[at]++];
    const Google__Protobuf__Timestamp *last = database->last_restorable_at;
    const Google__Protobuf__Duration *proven = database->proven_recovery_time;
    *line =
        (DatabaseLine){.last_success = last != NULL ? seconds_of(last->seconds, last->nanos) : -1,
                       .rpo_target = (double)database->recovery_point_objective->seconds,
                       .size = (double)database->size_bytes,
                       .reads_everything = database->reads_everything,
                       .proven = proven != NULL ? seconds_of(proven->seconds, proven->nanos) : -1};
    (void)snprintf(line->name, sizeof(line->name), "%s", database->name);
}

static Status read_databases(StoreTransaction *transaction, DatabaseLines *lines, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char after[LIMIT_NAME_BYTES + 1];
    StorePage page = {.limit = LIMIT_PAGE_SIZE};
    for (;;) {
        StoreRows rows;
        ProtobufCMessage **messages = NULL;
        arena_reset(arena);
        RETURN_IF_ERROR(store_database_list(transaction, arena, &page, &rows, error));
        RETURN_IF_ERROR(database_messages(&rows, arena, &messages, error));
        for (int i = 0; i < rows.count; i++) {
            add_line(lines, (const Holdfast__V1__Database *)messages[i]);
        }
        if (rows.count < page.limit) {
            return STATUS_OK;
        }
        (void)snprintf(after, sizeof(after), "%s",
                       store_value(&rows, rows.count - 1, "page_key_1"));
        page.after[0] = after;
    }
}

typedef double (*LineValue)(const DatabaseLine *line); // negative: none

static double last_success_of(const DatabaseLine *line)
{
    return line->last_success;
}

static double rpo_of(const DatabaseLine *line)
{
    return line->last_success < 0 ? -1 : MAX((double)clock_now_us() / 1e6 - line->last_success, 0);
}

static double rpo_target_of(const DatabaseLine *line)
{
    return line->rpo_target;
}

static double reads_everything_of(const DatabaseLine *line)
{
    return line->reads_everything ? 1 : 0;
}

static double size_of(const DatabaseLine *line)
{
    return line->size;
}

static double proven_of(const DatabaseLine *line)
{
    return line->proven;
}

// The worst protected first, up to the limit of all together; how many were left out.
static size_t write_lines(const DatabaseLines *lines, MetricId id, LineValue value, Buffer *buffer)
{
    size_t room = LIMIT_METRICS_DATABASES;
    size_t total = 0;
    family(buffer, id);
    for (size_t at = PROTECTION_COUNT; at-- > 0;) {
        total += lines->counts[at];
        for (size_t i = 0; i < lines->kept[at] && room > 0; i++, room--) {
            double number = value(&lines->lines[at][i]);
            if (number >= 0) {
                sample(buffer, id, lines->lines[at][i].name, number);
            }
        }
    }
    return total - (LIMIT_METRICS_DATABASES - room);
}

static void write_databases(const DatabaseLines *lines, Buffer *buffer)
{
    family(buffer, METRIC_DATABASES);
    for (size_t i = 1; i < PROTECTION_COUNT; i++) {
        sample(buffer, METRIC_DATABASES, PROTECTIONS[i], (double)lines->counts[i]);
    }
    size_t omitted = write_lines(lines, METRIC_LAST_SUCCESS, last_success_of, buffer);
    (void)write_lines(lines, METRIC_RPO, rpo_of, buffer);
    (void)write_lines(lines, METRIC_RPO_TARGET, rpo_target_of, buffer);
    (void)write_lines(lines, METRIC_READS_EVERYTHING, reads_everything_of, buffer);
    (void)write_lines(lines, METRIC_SIZE, size_of, buffer);
    (void)write_lines(lines, METRIC_PROVEN_RECOVERY, proven_of, buffer);
    single(buffer, METRIC_DATABASES_OMITTED, (double)omitted);
}

// --- the fleet ---

static void write_counts(const StoreRows *rows, const char *metric, MetricId id, Buffer *buffer)
{
    family(buffer, id);
    for (int row = 0; row < rows->count; row++) {
        if (text_equal(store_value(rows, row, "metric"), metric)) {
            sample(buffer, id, store_value(rows, row, "label"),
                   (double)store_integer(rows, row, "value", 0));
        }
    }
}

static Status write_state(Service *service, Buffer *buffer, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(lines_done) DatabaseLines lines = {0};
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreRows counts;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(read_databases(transaction, &lines, error));
    RETURN_IF_ERROR(store_fleet_counts(transaction, arena, &counts, error));
    write_databases(&lines, buffer);
    write_counts(&counts, "backups", METRIC_BACKUPS, buffer);
    write_counts(&counts, "instances", METRIC_INSTANCES, buffer);
    write_counts(&counts, "work_due", METRIC_WORK_DUE, buffer);
    write_counts(&counts, "policies_late", METRIC_POLICIES_LATE, buffer);
    return STATUS_OK;
}

// --- what is kept of it ---

struct MetricsCache {
    pthread_mutex_t mutex; // guards everything
    pthread_cond_t made;
    char *text; // NULL: none yet
    size_t size;
    int64_t made_ms, fresh_until_ms;
    bool is_being_made; // by one, for all who ask meanwhile
};

MetricsCache *metrics_cache_new(void)
{
    MetricsCache *cache = mem_alloc(sizeof(*cache));
    (void)pthread_mutex_init(&cache->mutex, NULL); // cannot fail with default attributes
    (void)pthread_cond_init(&cache->made, NULL);
    return cache;
}

void metrics_cache_free(MetricsCache *cache)
{
    if (cache == NULL) {
        return;
    }
    (void)pthread_cond_destroy(&cache->made);
    (void)pthread_mutex_destroy(&cache->mutex);
    mem_free(cache->text);
    mem_free(cache);
}

// Called with the mutex held, which it gives up for the queries.
static Status make_state(Service *service, Error *error)
{
    MetricsCache *cache = service->metrics_cache;
    CLEANUP(buffer_done) Buffer text;
    buffer_init(&text, STATE_BYTES_MAX);
    cache->is_being_made = true;
    (void)pthread_mutex_unlock(&cache->mutex);
    int64_t started_ms = clock_monotonic_ms();
    Status status = write_state(service, &text, error);
    int64_t made_ms = clock_monotonic_ms();
    (void)pthread_mutex_lock(&cache->mutex);
    cache->is_being_made = false;
    (void)pthread_cond_broadcast(&cache->made);
    if (status == STATUS_OK && text.is_overflowed) {
        status = error_set(error, REASON_EXHAUSTED, "the metrics are larger than %d bytes",
                           STATE_BYTES_MAX);
    }
    if (status == STATUS_OK) {
        mem_free(cache->text);
        cache->text = mem_alloc(text.size + 1);
        memcpy(cache->text, text.data, text.size);
        cache->size = text.size;
        cache->made_ms = started_ms;
        cache->fresh_until_ms =
            made_ms + MAX(STATE_KEEP_MS, STATE_KEEP_FACTOR * (made_ms - started_ms));
    }
    return status;
}

static Status append_state(Service *service, Buffer *buffer, Error *error)
{
    MetricsCache *cache = service->metrics_cache;
    Status status = STATUS_OK;
    (void)pthread_mutex_lock(&cache->mutex);
    while (cache->text == NULL && cache->is_being_made) {
        (void)pthread_cond_wait(&cache->made, &cache->mutex); // a query has a timeout
    }
    // Whoever comes while it is made anew gets what there is.
    bool is_stale = cache->text == NULL || clock_monotonic_ms() >= cache->fresh_until_ms;
    if (is_stale && !cache->is_being_made) {
        status = make_state(service, error);
    }
    if (status == STATUS_OK) {
        single(buffer, METRIC_STATE_AGE, (double)(clock_monotonic_ms() - cache->made_ms) / 1000);
        buffer_append(buffer, cache->text, cache->size);
    }
    (void)pthread_mutex_unlock(&cache->mutex);
    return status;
}

Status service_metrics(Service *service, Buffer *buffer, Error *error)
{
    write_process(service, buffer);
    // A scrape must not fail with the database: that is when numbers are wanted. But old ones would
    // look as if all were well.
    Status status = store_ping(service->store, error);
    status = status != STATUS_OK ? status : append_state(service, buffer, error);
    single(buffer, METRIC_STORE_UP, status == STATUS_OK ? 1 : 0);
    if (status != STATUS_OK && buffer->is_overflowed) {
        return status;
    }
    error_clear(error);
    return STATUS_OK;
}
