// SPDX-License-Identifier: Apache-2.0
// What a MySQL or MariaDB source is, and everything that keeps it from being backed up, with the
// cure. Changes nothing.
#include "agent/engine/engine_mysql_family.h"
#include "common/memory.h"
#include "common/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARIADB_VERSION_MIN 100600
#define MYSQL_VERSION_MIN 80022
#define LOCKED_COPY_BYTES_MAX                                                                      \
    ((int64_t)256 * 1024 * 1024) // of tables that are copied under a lock, see seeding

typedef struct Probe {
    MysqlClient *client;
    bool is_mysql;
    int64_t timeout_ms;
    Arena *arena;
    EngineInfo *info;
    const char *account; // 'holdfast'@'%'
} Probe;

static EngineProblem *add_problem(Probe *probe, Reason reason, const char *format, ...)
    PRINTF_LIKE(3, 4);

static EngineProblem *add_problem(Probe *probe, Reason reason, const char *format, ...)
{
    EngineInfo *info = probe->info;
    size_t index = MIN(info->problem_count, (size_t)ENGINE_PROBLEM_COUNT_MAX - 1);
    info->problem_count = index + 1;
    EngineProblem *problem = &info->problems[index];
    *problem = (EngineProblem){.reason = reason};
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(problem->message, sizeof(problem->message), format, arguments);
    va_end(arguments);
    return problem;
}

static void add_cure(EngineProblem *problem, const char *format, ...) PRINTF_LIKE(2, 3);

static void add_cure(EngineProblem *problem, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(problem->cure, sizeof(problem->cure), format, arguments);
    va_end(arguments);
}

// A variable's value, "" when this server does not have it.
static Status read_variable(Probe *probe, const char *name, char ret_value[256], Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(probe->client, probe->timeout_ms, &result, error,
                                       "SHOW GLOBAL VARIABLES LIKE '%s'", name));
    MYSQL_ROW row = mysql_fetch_row(result);
    (void)snprintf(ret_value, 256, "%s", row == NULL || row[1] == NULL ? "" : row[1]);
    return STATUS_OK;
}

static Status read_identity(Probe *probe, Error *error)
{
    EngineInfo *info = probe->info;
    char account[512];
    RETURN_IF_ERROR(mysql_client_value(probe->client, probe->timeout_ms, info->version,
                                       sizeof(info->version), error, "SELECT LEFT(@@version, 63)"));
    info->version_number = mysql_version_number(info->version);
    bool is_mariadb = strstr(info->version, "MariaDB") != NULL;
    if (is_mariadb == probe->is_mysql) {
        EngineProblem *problem =
            add_problem(probe, REASON_ENGINE_VERSION, "the server is %s, version %s",
                        is_mariadb ? "MariaDB" : "MySQL", info->version);
        add_cure(problem, "set the database's engine to %s", is_mariadb ? "mariadb" : "mysql");
        probe->is_mysql = !is_mariadb; // the rest is asked in its own words
    } else if (info->version_number < (is_mariadb ? MARIADB_VERSION_MIN : MYSQL_VERSION_MIN)) {
        EngineProblem *problem =
            add_problem(probe, REASON_ENGINE_VERSION, "version %s is too old", info->version);
        add_cure(problem, "upgrade to %s or newer", is_mariadb ? "MariaDB 10.6" : "MySQL 8.0.22");
    }
    RETURN_IF_ERROR(
        mysql_source_identity(probe->client, probe->is_mysql, info->server_identity, error));
    RETURN_IF_ERROR(mysql_source_position(probe->client, probe->is_mysql, info->position, error));
    RETURN_IF_ERROR(mysql_client_value(probe->client, probe->timeout_ms, account, sizeof(account),
                                       error, "SELECT CURRENT_USER()"));
    char *host = strrchr(account, '@');
    if (host != NULL) {
        *host++ = '\0';
        probe->account =
            arena_format(probe->arena, "%s@%s", mysql_quote_text(probe->arena, account),
                         mysql_quote_text(probe->arena, host));
    }
    return STATUS_OK;
}

typedef struct Wanted {
    const char *variable;
    const char *bad; // this value is the problem
    const char *message;
    const char *cure;
} Wanted;

static Status check_variables(Probe *probe, const Wanted *wanted, size_t count, Error *error)
{
    for (size_t i = 0; i < count; i++) {
        char value[256];
        RETURN_IF_ERROR(read_variable(probe, wanted[i].variable, value, error));
        bool is_bad = wanted[i].bad[0] == '!'
                          ? value[0] != '\0' && strcasecmp(value, wanted[i].bad + 1) != 0
                          : strcasecmp(value, wanted[i].bad) == 0;
        if (is_bad) {
            add_cure(add_problem(probe, REASON_SOURCE_CONFIGURATION, "%s", wanted[i].message), "%s",
                     wanted[i].cure);
        }
    }
    return STATUS_OK;
}

static Status check_settings(Probe *probe, Error *error)
{
    static const Wanted both[] = {
        {"log_bin", "OFF", "the binary log is off",
         "set log_bin = binlog under [mysqld] and restart the server"},
        {"binlog_format", "STATEMENT",
         "binlog_format is STATEMENT: replaying it may not give the same rows",
         "SET GLOBAL binlog_format = 'ROW'; and binlog_format = ROW under [mysqld]"},
        {"server_id", "0", "server_id is 0: the server cannot be replicated from",
         "set server_id = 1 (unique among its replicas) under [mysqld] and restart the server"},
        {"innodb_checksum_algorithm", "none", "InnoDB page checksums are off",
         "SET GLOBAL innodb_checksum_algorithm = 'crc32'; and rebuild the tables"},
    };
    static const Wanted mysql_only[] = {
        {"enforce_gtid_consistency", "!ON", "enforce_gtid_consistency is not ON",
         "SET PERSIST enforce_gtid_consistency = ON;"},
        {"gtid_mode", "!ON", "gtid_mode is not ON",
         "SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; SET "
         "PERSIST gtid_mode = ON;"},
    };
    RETURN_IF_ERROR(check_variables(probe, both, ARRAY_COUNT(both), error));
    if (probe->is_mysql) {
        RETURN_IF_ERROR(check_variables(probe, mysql_only, ARRAY_COUNT(mysql_only), error));
    } else {
        char updates[256], replicated[256];
        RETURN_IF_ERROR(read_variable(probe, "log_slave_updates", updates, error));
        RETURN_IF_ERROR(read_variable(probe, "gtid_slave_pos", replicated, error));
        if (text_equal(updates, "OFF") && replicated[0] != '\0') {
            add_cure(add_problem(probe, REASON_SOURCE_CONFIGURATION,
                                 "the server is a replica that does not log what it replicates"),
                     "set log_slave_updates = ON under [mysqld] and restart the server");
        }
    }
    char checksums[256];
    RETURN_IF_ERROR(read_variable(probe, "innodb_checksum_algorithm", checksums, error));
    probe->info->has_page_checksums = strstr(checksums, "none") == NULL;
    return STATUS_OK;
}

// Does a line of SHOW GRANTS give `privilege` on everything?
static bool line_grants(const char *line, const char *privilege)
{
    const char *end = strstr(line, " ON *.* TO ");
    if (!text_has_prefix(line, "GRANT ") || end == NULL) {
        return false;
    }
    size_t wanted_size = strlen(privilege);
    for (const char *at = line + 6; at < end;) {
        size_t size = strcspn(at, ",");
        size = MIN(size, (size_t)(end - at));
        if (size == wanted_size && strncasecmp(at, privilege, size) == 0) {
            return true;
        }
        at += size;
        at += strspn(at, ", ");
    }
    return false;
}

// ALL PRIVILEGES does not cover those that MySQL adds at run time, written with underscores.
static bool result_grants(MYSQL_RES *result, const char *privilege)
{
    bool has = false;
    mysql_data_seek(result, 0);
    for (MYSQL_ROW row = mysql_fetch_row(result); row != NULL && !has;
         row = mysql_fetch_row(result)) {
        has = line_grants(row[0], privilege) ||
              (strchr(privilege, '_') == NULL && line_grants(row[0], "ALL PRIVILEGES"));
    }
    return has;
}

Status mysql_source_has_privilege(MysqlClient *source, const char *privilege, bool *ret_has,
                                  Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(source, MYSQL_STATEMENT_MS, &result, error, "SHOW GRANTS"));
    *ret_has = result_grants(result, privilege);
    return STATUS_OK;
}

static Status check_privileges(Probe *probe, Error *error)
{
    static const char *const mariadb_wanted[] = {"REPLICATION SLAVE", "SELECT",  "RELOAD",
                                                 "SHOW VIEW",         "TRIGGER", NULL};
    static const char *const mysql_wanted[] = {"REPLICATION SLAVE", "BACKUP_ADMIN", "PROCESS",
                                               NULL};
    static const char *const reasons[][2] = {{"REPLICATION SLAVE", "to replay changes"},
                                             {"SELECT", "to read the first copy"},
                                             {"RELOAD", "to begin the first copy at one moment"},
                                             {"SHOW VIEW", "to copy views"},
                                             {"TRIGGER", "to copy triggers"},
                                             {"BACKUP_ADMIN", "to clone the first copy"},
                                             {"PROCESS", "to know the size of the data"}};
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(
        mysql_client_query(probe->client, probe->timeout_ms, &result, error, "SHOW GRANTS"));
    for (const char *const *wanted = probe->is_mysql ? mysql_wanted : mariadb_wanted;
         *wanted != NULL; wanted++) {
        if (result_grants(result, *wanted)) {
            continue;
        }
        const char *why = "";
        for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
            why = text_equal(reasons[i][0], *wanted) ? reasons[i][1] : why;
        }
        add_cure(add_problem(probe, REASON_SOURCE_PRIVILEGES, "the user lacks %s, needed %s",
                             *wanted, why),
                 "GRANT %s ON *.* TO %s;", *wanted,
                 probe->account == NULL ? "the user" : probe->account);
    }
    return STATUS_OK;
}

static Status check_clone_plugin(Probe *probe, Error *error)
{
    char status[64];
    RETURN_IF_ERROR(mysql_client_value(probe->client, probe->timeout_ms, status, sizeof(status),
                                       error,
                                       "SELECT PLUGIN_STATUS FROM information_schema.PLUGINS"
                                       " WHERE PLUGIN_NAME = 'clone'"));
    if (!text_equal(status, "ACTIVE")) {
        add_cure(add_problem(probe, REASON_SOURCE_CONFIGURATION,
                             "the clone plugin is not installed, needed for the first copy"),
                 "INSTALL PLUGIN clone SONAME 'mysql_clone.so';");
    }
    return STATUS_OK;
}

// Tables without transactions are copied while writes to them wait; that must stay short.
static Status check_plain_tables(Probe *probe, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        probe->client, probe->timeout_ms, &result, error,
        "SELECT SUM(DATA_LENGTH), MIN(CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)), COUNT(*), MIN(ENGINE)"
        " FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE %s AND "
        "TABLE_SCHEMA NOT IN"
        " ('mysql', 'information_schema', 'performance_schema', 'sys')",
        probe->is_mysql ? "NOT IN ('InnoDB', 'PERFORMANCE_SCHEMA')"
                        : "IN ('MyISAM', 'Aria', 'CSV', 'ARCHIVE')"));
    MYSQL_ROW row = mysql_fetch_row(result);
    if (row == NULL || row[0] == NULL || row[2] == NULL) {
        return STATUS_OK;
    }
    int64_t size = strtoll(row[0], NULL, 10);
    if (!probe->is_mysql && size <= LOCKED_COPY_BYTES_MAX) {
        return STATUS_OK;
    }
    EngineProblem *problem =
        add_problem(probe, REASON_SOURCE_CONFIGURATION,
                    "%s tables do not use InnoDB (%s among them, %s): %s", row[2], row[1], row[3],
                    probe->is_mysql ? "they are not part of a clone"
                                    : "copying them would keep writers waiting too long");
    add_cure(problem, "ALTER TABLE %s ENGINE = InnoDB;", row[1]);
    return STATUS_OK;
}

static Status read_size(Probe *probe, Error *error)
{
    char size[64];
    Status status =
        probe->is_mysql
            ? mysql_client_value(probe->client, probe->timeout_ms, size, sizeof(size), error,
                                 "SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_TABLESPACES")
            : mysql_client_value(
                  probe->client, probe->timeout_ms, size, sizeof(size), error,
                  "SELECT SUM(DATA_LENGTH + INDEX_LENGTH) FROM information_schema.TABLES"
                  " WHERE TABLE_TYPE = 'BASE TABLE'");
    if (status != STATUS_OK && error->reason == REASON_SOURCE_PRIVILEGES) {
        error_clear(error); // named among the privileges
        return STATUS_OK;
    }
    RETURN_IF_ERROR(status);
    probe->info->size_bytes = strtoll(size, NULL, 10);
    return STATUS_OK;
}

Status mysql_family_probe(bool is_mysql, const EngineSource *source, int64_t timeout_ms,
                          EngineInfo *ret_info, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(mysql_client_freep) MysqlClient *client = NULL;
    RETURN_IF_ERROR(mysql_client_open_source(source, NULL, timeout_ms, &client, error));
    Probe probe = {.client = client,
                   .is_mysql = is_mysql,
                   .timeout_ms = timeout_ms,
                   .arena = arena,
                   .info = ret_info};
    RETURN_IF_ERROR(read_identity(&probe, error));
    if (probe.is_mysql != is_mysql) {
        return STATUS_OK; // another engine: nothing else matters yet
    }
    RETURN_IF_ERROR(check_settings(&probe, error));
    RETURN_IF_ERROR(check_privileges(&probe, error));
    if (probe.is_mysql) {
        RETURN_IF_ERROR(check_clone_plugin(&probe, error));
    }
    RETURN_IF_ERROR(check_plain_tables(&probe, error));
    return read_size(&probe, error);
}
