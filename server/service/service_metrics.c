// SPDX-License-Identifier: Apache-2.0
// What Prometheus reads: text format 0.0.4.
#include "common/clock.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/service/service_database.h"
#include "server/store/store_fleet.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void family(Buffer *buffer, const char *name, const char *type, const char *help)
{
    buffer_append_format(buffer, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

// Backslash, quote and newline are escaped: names have none of them, but what is in the table may
// outlive today's rules.
static void label(Buffer *buffer, const char *name, const char *value)
{
    buffer_append_format(buffer, "%s=\"", name);
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
    buffer_append_text(buffer, "\"");
}

static void sample(Buffer *buffer, const char *name, const char *label_name,
                   const char *label_value, double value)
{
    buffer_append_text(buffer, name);
    if (label_name != NULL) {
        buffer_append_text(buffer, "{");
        label(buffer, label_name, label_value);
        buffer_append_text(buffer, "}");
    }
    buffer_append_format(buffer, " %.17g\n", value);
}

static double seconds_of(const Google__Protobuf__Timestamp *timestamp)
{
    return (double)timestamp->seconds + timestamp->nanos / 1e9;
}

static void write_process(const Service *service, Buffer *buffer)
{
    family(buffer, "holdfast_build_info", "gauge", "The version, as a label.");
    sample(buffer, "holdfast_build_info", "version", HOLDFAST_VERSION, 1);
    Error ignored = {0}; // without /proc there is no such number
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    long long total = 0;
    long long resident = 0;
    if (file_read("/proc/self/statm", LIMIT_FILE_BYTES, &text, &size, &ignored) == STATUS_OK &&
        sscanf(text, "%lld %lld", &total, &resident) == 2) {
        family(buffer, "process_resident_memory_bytes", "gauge", "Resident memory of the server.");
        sample(buffer, "process_resident_memory_bytes", NULL, NULL,
               (double)resident * (double)sysconf(_SC_PAGESIZE));
    }
    family(buffer, "process_start_time_seconds", "gauge", "When the server started.");
    sample(buffer, "process_start_time_seconds", NULL, NULL, (double)service->started_us / 1e6);
}

typedef struct DatabaseList {
    Holdfast__V1__Database **items;
    size_t count;
    int64_t now_us;
} DatabaseList;

static Status read_databases(StoreTransaction *transaction, Arena *arena, DatabaseList *list,
                             Error *error)
{
    StorePage page = {.limit = LIMIT_PAGE_SIZE};
    for (;;) {
        StoreRows rows;
        ProtobufCMessage **messages = NULL;
        RETURN_IF_ERROR(store_database_list(transaction, arena, &page, &rows, error));
        RETURN_IF_ERROR(database_messages(&rows, arena, &messages, error));
        size_t count = (size_t)rows.count;
        list->items = mem_realloc_array(list->items, list->count + count + 1, sizeof(*list->items));
        for (size_t i = 0; i < count; i++) {
            list->items[list->count++] = (Holdfast__V1__Database *)messages[i];
        }
        if (rows.count < page.limit) {
            return STATUS_OK;
        }
        page.after[0] = store_value(&rows, rows.count - 1, "page_key_1");
    }
}

static void write_databases(const DatabaseList *list, Buffer *buffer)
{
    static const char *const WORDS[] = {"", "protected", "at_risk", "unprotected"};
    size_t counts[ARRAY_COUNT(WORDS)] = {0};
    for (size_t i = 0; i < list->count; i++) {
        counts[list->items[i]->protection]++;
    }
    family(buffer, "holdfast_databases", "gauge", "Databases by protection.");
    for (size_t i = 1; i < ARRAY_COUNT(WORDS); i++) {
        sample(buffer, "holdfast_databases", "protection", WORDS[i], (double)counts[i]);
    }
    family(buffer, "holdfast_backup_last_success_timestamp_seconds", "gauge",
           "The moment the newest restorable backup of a database is consistent at.");
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i]->last_restorable_at != NULL) {
            sample(buffer, "holdfast_backup_last_success_timestamp_seconds", "database",
                   list->items[i]->name, seconds_of(list->items[i]->last_restorable_at));
        }
    }
    family(buffer, "holdfast_database_rpo_seconds", "gauge",
           "The age of a database's last restorable point; absent without one.");
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i]->last_restorable_at != NULL) {
            sample(buffer, "holdfast_database_rpo_seconds", "database", list->items[i]->name,
                   (double)list->now_us / 1e6 - seconds_of(list->items[i]->last_restorable_at));
        }
    }
    family(buffer, "holdfast_database_rpo_target_seconds", "gauge",
           "The recovery point objective of a database.");
    for (size_t i = 0; i < list->count; i++) {
        sample(buffer, "holdfast_database_rpo_target_seconds", "database", list->items[i]->name,
               (double)list->items[i]->recovery_point_objective->seconds);
    }
    family(
        buffer, "holdfast_database_reads_everything", "gauge",
        "1: every backup of the database reads all of its data, by order or because the recorder "
        "of writes was found wrong.");
    for (size_t i = 0; i < list->count; i++) {
        sample(buffer, "holdfast_database_reads_everything", "database", list->items[i]->name,
               list->items[i]->reads_everything ? 1 : 0);
    }
    family(buffer, "holdfast_database_size_bytes", "gauge",
           "The size of a database in its newest restorable backup.");
    for (size_t i = 0; i < list->count; i++) {
        sample(buffer, "holdfast_database_size_bytes", "database", list->items[i]->name,
               (double)list->items[i]->size_bytes);
    }
}

static void write_counts(const StoreRows *rows, const char *metric, const char *name,
                         const char *label_name, const char *help, Buffer *buffer)
{
    family(buffer, name, "gauge", help);
    for (int row = 0; row < rows->count; row++) {
        if (text_equal(store_value(rows, row, "metric"), metric)) {
            sample(buffer, name, label_name, store_value(rows, row, "label"),
                   (double)store_integer(rows, row, "value", 0));
        }
    }
}

static void write_proofs(const StoreRows *rows, Buffer *buffer)
{
    family(buffer, "holdfast_shard_proven_recovery_seconds", "gauge",
           "How long a shard's last proven restore took until it answered queries.");
    for (int row = 0; row < rows->count; row++) {
        buffer_append_text(buffer, "holdfast_shard_proven_recovery_seconds{");
        label(buffer, "database", store_value(rows, row, "database"));
        buffer_append_text(buffer, ",");
        label(buffer, "shard", store_value(rows, row, "shard"));
        buffer_append_format(buffer, "} %s\n", store_value(rows, row, "seconds"));
    }
}

static Status write_state(Service *service, Arena *arena, Buffer *buffer, DatabaseList *databases,
                          Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreRows counts;
    StoreRows proofs;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    databases->now_us = clock_now_us();
    RETURN_IF_ERROR(read_databases(transaction, arena, databases, error));
    RETURN_IF_ERROR(store_fleet_counts(transaction, arena, &counts, error));
    RETURN_IF_ERROR(store_fleet_proofs(transaction, arena, &proofs, error));
    write_databases(databases, buffer);
    write_counts(&counts, "backups", "holdfast_backups", "state", "Backups by state.", buffer);
    write_counts(&counts, "instances", "holdfast_instances", "state",
                 "Instances that are not destroyed, by state.", buffer);
    write_counts(&counts, "work_due", "holdfast_work_items_due", NULL, "Work items that are due.",
                 buffer);
    write_counts(&counts, "policies_late", "holdfast_policies_late", NULL,
                 "Policies whose slot passed more than a minute ago.", buffer);
    write_proofs(&proofs, buffer);
    return STATUS_OK;
}

Status service_metrics(Service *service, Buffer *buffer, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    DatabaseList databases = {0};
    write_process(service, buffer);
    Status status = write_state(service, arena, buffer, &databases, error);
    mem_free(databases.items);
    // A scrape must not fail with the database: that is when numbers are wanted.
    family(buffer, "holdfast_store_up", "gauge", "Whether PostgreSQL answered.");
    sample(buffer, "holdfast_store_up", NULL, NULL, status == STATUS_OK ? 1 : 0);
    if (status != STATUS_OK && buffer->is_overflowed) {
        return status;
    }
    error_clear(error);
    return STATUS_OK;
}
