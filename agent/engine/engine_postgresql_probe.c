// SPDX-License-Identifier: Apache-2.0
// What a PostgreSQL source is, and everything it lacks for being backed up, each with its cure.
#include "agent/engine/engine_postgresql.h"
#include "common/clock.h"
#include "common/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION_MIN 130000

// One row; the order is the columns' below. Everything in it is readable by every role.
static const char FACTS_SQL[] =
    "SELECT pg_catalog.current_setting('server_version'),"
    " (SELECT system_identifier FROM pg_catalog.pg_control_system()),"
    " pg_catalog.pg_is_in_recovery(),"
    " CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
    "      ELSE pg_catalog.pg_current_wal_lsn() END,"
    " pg_catalog.current_setting('wal_level'),"
    " pg_catalog.current_setting('max_wal_senders')::int"
    "   - (SELECT count(*) FROM pg_catalog.pg_stat_replication),"
    " pg_catalog.current_setting('max_replication_slots')::int"
    "   - (SELECT count(*) FROM pg_catalog.pg_replication_slots"
    "      WHERE slot_name !~ '^holdfast_'),"
    " pg_catalog.current_setting('max_slot_wal_keep_size', true),"
    " pg_catalog.current_setting('data_checksums'),"
    " (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),"
    " pg_catalog.has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'EXECUTE'),"
    " (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(spcname), ', ')"
    "    FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')),"
    " pg_catalog.current_database(),"
    " pg_catalog.quote_ident(current_user),"
    " coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), '127.0.0.1'),"
    " pg_catalog.current_setting('block_size')::int,"
    " pg_catalog.current_setting('max_wal_senders'),"
    " pg_catalog.current_setting('max_replication_slots')";

enum {
    COLUMN_VERSION,
    COLUMN_IDENTITY,
    COLUMN_IN_RECOVERY,
    COLUMN_LSN,
    COLUMN_WAL_LEVEL,
    COLUMN_FREE_SENDERS,
    COLUMN_FREE_SLOTS,
    COLUMN_SLOT_KEEP,
    COLUMN_CHECKSUMS,
    COLUMN_REPLICATION,
    COLUMN_RESTORE_POINT,
    COLUMN_TABLESPACES,
    COLUMN_DATABASE,
    COLUMN_USER,
    COLUMN_ADDRESS,
    COLUMN_BLOCK_SIZE,
    COLUMN_SENDERS,
    COLUMN_SLOTS,
    COLUMN_COUNT,
};

// Databases that we may not ask for are left out: the size is an estimate.
static const char SIZE_SQL[] =
    "SELECT coalesce(sum(CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT')"
    "   OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')"
    "   THEN pg_catalog.pg_database_size(oid) END), 0)::bigint FROM pg_catalog.pg_database";

// What `format` gives is "message|cure".
static void add_problem(EngineInfo *info, Reason reason, const char *format, ...) PRINTF_LIKE(3, 4);

static void add_problem(EngineInfo *info, Reason reason, const char *format, ...)
{
    if (info->problem_count == ENGINE_PROBLEM_COUNT_MAX) {
        return;
    }
    char text[sizeof(((EngineProblem *)0)->message) * 2];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    EngineProblem *problem = &info->problems[info->problem_count++];
    problem->reason = reason;
    size_t length = strcspn(text, "|");
    (void)snprintf(problem->message, sizeof(problem->message), "%.*s",
                   (int)MIN(length, sizeof(problem->message) - 1), text);
    (void)snprintf(problem->cure, sizeof(problem->cure), "%.*s", (int)(sizeof(problem->cure) - 1),
                   text[length] == '|' ? text + length + 1 : "");
}

static void check_settings(const char *const *facts, EngineInfo *info)
{
    if (!text_equal(facts[COLUMN_WAL_LEVEL], "replica") &&
        !text_equal(facts[COLUMN_WAL_LEVEL], "logical")) {
        add_problem(info, REASON_SOURCE_CONFIGURATION,
                    "wal_level is '%s': the WAL is not enough to follow the source|"
                    "ALTER SYSTEM SET wal_level = 'replica'; and restart the source",
                    facts[COLUMN_WAL_LEVEL]);
    }
    if (strtol(facts[COLUMN_FREE_SENDERS], NULL, 10) < 2) {
        add_problem(
            info, REASON_SOURCE_CONFIGURATION,
            "max_wal_senders is %s, of which fewer than the 2 that a first copy needs are free|"
            "ALTER SYSTEM SET max_wal_senders = 10; and restart the source",
            facts[COLUMN_SENDERS]);
    }
    if (strtol(facts[COLUMN_FREE_SLOTS], NULL, 10) < 2) {
        add_problem(
            info, REASON_SOURCE_CONFIGURATION,
            "max_replication_slots is %s, of which fewer than the 2 that are needed are free|"
            "ALTER SYSTEM SET max_replication_slots = 10; and restart the source",
            facts[COLUMN_SLOTS]);
    }
    if (text_equal(facts[COLUMN_SLOT_KEEP], "-1")) {
        add_problem(info, REASON_SOURCE_CONFIGURATION,
                    "max_slot_wal_keep_size is unlimited: WAL kept for backups that no longer run "
                    "could fill "
                    "the source's disk|"
                    "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();");
    }
    if (!text_is_empty(facts[COLUMN_TABLESPACES])) {
        add_problem(info, REASON_SOURCE_CONFIGURATION,
                    "the source has tablespaces, which are not supported: %s|"
                    "move what is in them: ALTER TABLE ALL IN TABLESPACE <name> SET TABLESPACE "
                    "pg_default; then "
                    "DROP TABLESPACE <name>;",
                    facts[COLUMN_TABLESPACES]);
    }
}

static void check_privileges(const char *const *facts, EngineInfo *info)
{
    if (!text_equal(facts[COLUMN_REPLICATION], "t")) {
        add_problem(info, REASON_SOURCE_PRIVILEGES,
                    "the user lacks REPLICATION|ALTER ROLE %s REPLICATION;", facts[COLUMN_USER]);
    }
    if (!text_equal(facts[COLUMN_RESTORE_POINT], "t")) {
        add_problem(info, REASON_SOURCE_PRIVILEGES,
                    "the user may not execute pg_create_restore_point in database '%s'|"
                    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO %s; (in "
                    "database '%s')",
                    facts[COLUMN_DATABASE], facts[COLUMN_USER], facts[COLUMN_DATABASE]);
    }
}

// A replication connection is let in by pg_hba.conf lines of its own: only trying shows.
static Status check_replication(const EngineSource *source, int64_t timeout_ms,
                                const char *const *facts, EngineInfo *info, Error *error)
{
    CLEANUP(postgresql_closep) PostgresqlClient *client = NULL;
    Error refused = {0};
    if (postgresql_connect(source, POSTGRESQL_REPLICATION, timeout_ms, NULL, &client, &refused) ==
        STATUS_OK) {
        return STATUS_OK;
    }
    if (refused.reason != REASON_SOURCE_AUTHENTICATION &&
        refused.reason != REASON_SOURCE_PRIVILEGES) {
        *error = refused;
        return error->status;
    }
    add_problem(info, REASON_SOURCE_CONFIGURATION,
                "the source refuses replication connections: %.200s|"
                "add to pg_hba.conf of the source, then SELECT pg_reload_conf();: host replication "
                "%s %s/%s "
                "scram-sha-256",
                refused.message, facts[COLUMN_USER], facts[COLUMN_ADDRESS],
                strchr(facts[COLUMN_ADDRESS], ':') != NULL ? "128" : "32");
    return STATUS_OK;
}

static void check_version(EngineInfo *info)
{
    if (info->version_number < VERSION_MIN) {
        add_problem(
            info, REASON_ENGINE_VERSION,
            "PostgreSQL %s is older than 13, the oldest that can be backed up|upgrade the source",
            info->version);
    }
}

static void fill_size(PostgresqlClient *client, EngineInfo *info)
{
    char text[32];
    Error ignored = {0}; // the size stays unknown
    int64_t size_bytes;
    if (postgresql_query_text(client, REASON_SOURCE_CONFIGURATION, SIZE_SQL, NULL, text,
                              sizeof(text), &ignored) == STATUS_OK &&
        text_to_int64(text, &size_bytes)) {
        info->size_bytes = size_bytes;
    }
}

Status postgresql_probe(const EngineSource *source, int64_t timeout_ms, EngineInfo *ret_info,
                        Error *error)
{
    CLEANUP(postgresql_closep) PostgresqlClient *client = NULL;
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    RETURN_IF_ERROR(postgresql_connect_sql(source, timeout_ms, NULL, &client, error));
    RETURN_IF_ERROR(
        postgresql_query(client, REASON_SOURCE_CONFIGURATION, FACTS_SQL, NULL, 0, &result, error));
    assert(PQnfields(result) == COLUMN_COUNT);
    if (PQntuples(result) != 1) {
        return error_set(error, REASON_SOURCE_CONFIGURATION, "the source does not describe itself");
    }
    const char *facts[COLUMN_COUNT];
    for (int i = 0; i < COLUMN_COUNT; i++) {
        facts[i] = PQgetvalue(result, 0, i);
    }
    EngineInfo info = {.version_number = PQserverVersion(client->connection)};
    (void)snprintf(info.version, sizeof(info.version), "%.*s",
                   (int)strcspn(facts[COLUMN_VERSION], " "), facts[COLUMN_VERSION]);
    (void)snprintf(info.server_identity, sizeof(info.server_identity), "%s",
                   facts[COLUMN_IDENTITY]);
    (void)snprintf(info.position, sizeof(info.position), "%s", facts[COLUMN_LSN]);
    info.has_page_checksums =
        text_equal(facts[COLUMN_CHECKSUMS], "on") && text_equal(facts[COLUMN_BLOCK_SIZE], "8192");
    check_version(&info);
    if (text_equal(facts[COLUMN_IN_RECOVERY], "t")) {
        add_problem(&info, REASON_SOURCE_CONFIGURATION,
                    "the source is a standby, which cannot make restore points|"
                    "give the address of the primary");
    }
    check_settings(facts, &info);
    check_privileges(facts, &info);
    if (text_equal(facts[COLUMN_REPLICATION], "t") &&
        strtol(facts[COLUMN_FREE_SENDERS], NULL, 10) > 0) {
        RETURN_IF_ERROR(check_replication(source, timeout_ms, facts, &info, error));
    }
    fill_size(client, &info);
    *ret_info = info;
    return STATUS_OK;
}
