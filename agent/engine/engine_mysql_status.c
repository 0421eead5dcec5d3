// SPDX-License-Identifier: Apache-2.0
// What a replica's status says, and which named outcome an error of its threads has.
#include "agent/engine/engine_mysql_family.h"
#include "common/text.h"

#include <errmsg.h>
#include <stdio.h>
#include <string.h>

#define FATAL_READING_BINLOG 1236 // MariaDB, older MySQL; the text tells what it is
#define FATAL_READING_BINLOG_MYSQL 13114
#define FATAL_REPLICA_CONFIGURATION 1593 // same server id, GTID mode off, ...
#define FATAL_REPLICA_CONFIGURATION_MYSQL 13117
#define RELAY_LOG_READ_FAILURE 1594
#define RELAY_LOG_READ_FAILURE_MYSQL 13121

static void copy_text(char *target, size_t size, const char *text)
{
    (void)snprintf(target, size, "%s", text == NULL ? "" : text);
}

static int to_number(const char *text)
{
    int64_t number = 0;
    return text != NULL && text_to_int64(text, &number) ? (int)number : 0;
}

Status mysql_replica_status(MysqlEngine *engine, MysqlReplicaStatus *ret_status, Error *error)
{
    MysqlReplicaStatus status = {0};
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(
        mysql_client_query(engine->local[0], MYSQL_STATEMENT_MS, &result, error, "%s",
                           engine->is_mysql ? "SHOW REPLICA STATUS" : "SHOW SLAVE STATUS"));
    MYSQL_ROW row = mysql_fetch_row(result);
    if (row == NULL) {
        status.is_receiver_stopped = true;
        *ret_status = status;
        return STATUS_OK;
    }
    const char *receiver = mysql_row_text(result, row, "Replica_IO_Running|Slave_IO_Running");
    status.is_receiver_running = text_equal(receiver, "Yes");
    status.is_receiver_stopped = text_equal(receiver, "No");
    status.is_applier_running =
        text_equal(mysql_row_text(result, row, "Replica_SQL_Running|Slave_SQL_Running"), "Yes");
    status.receiver_error = to_number(mysql_row_text(result, row, "Last_IO_Errno"));
    status.applier_error = to_number(mysql_row_text(result, row, "Last_SQL_Errno"));
    copy_text(status.receiver_message, sizeof(status.receiver_message),
              mysql_row_text(result, row, "Last_IO_Error"));
    copy_text(status.applier_message, sizeof(status.applier_message),
              mysql_row_text(result, row, "Last_SQL_Error"));
    static const char *const moving[] = {"Read_Source_Log_Pos|Read_Master_Log_Pos",
                                         "Source_Log_File|Master_Log_File",
                                         "Exec_Source_Log_Pos|Exec_Master_Log_Pos",
                                         "Relay_Source_Log_File|Relay_Master_Log_File",
                                         "Relay_Log_Pos",
                                         "Relay_Log_File"};
    size_t used = 0;
    for (size_t i = 0; i < ARRAY_COUNT(moving) && used < sizeof(status.progress); i++) {
        const char *text = mysql_row_text(result, row, moving[i]);
        int size = snprintf(status.progress + used, sizeof(status.progress) - used, "%s ",
                            text == NULL ? "" : text);
        used += size > 0 ? (size_t)size : 0;
    }
    *ret_status = status;
    return STATUS_OK;
}

static bool has_any(const char *message, const char *const *phrases)
{
    for (; *phrases != NULL; phrases++) {
        if (strcasestr(message, *phrases) != NULL) {
            return true;
        }
    }
    return false;
}

static Reason binlog_reason(const char *message)
{
    static const char *const diverged[] = {"not in the master's binlog",
                                           "probably means that the slave has diverged",
                                           "slave has more GTIDs",
                                           "replica has more GTIDs",
                                           "errant",
                                           "ahead of the",
                                           NULL};
    static const char *const gone[] = {"purged",
                                       "could not find gtid state requested",
                                       "too old",
                                       "could not find first log file",
                                       "missing transactions",
                                       NULL};
    static const char *const configuration[] = {"binary log is not open", "log_bin", "gtid_mode",
                                                NULL};
    static const char *const identity[] = {"same server_uuid", "same server_id", "same server-id",
                                           NULL};
    static const char *const privileges[] = {"access denied", NULL};
    if (has_any(message, privileges)) {
        return REASON_SOURCE_PRIVILEGES;
    }
    if (has_any(message, identity)) {
        return REASON_NONE; // somebody else has our number for a moment
    }
    if (has_any(message, diverged)) {
        return REASON_SOURCE_DIVERGED;
    }
    if (has_any(message, gone)) {
        return REASON_LOGS_GONE;
    }
    return has_any(message, configuration) ? REASON_SOURCE_CONFIGURATION
                                           : REASON_REPLICATION_BROKEN;
}

Reason mysql_receiver_reason(int number, const char *message)
{
    static const char *const full[] = {"No space left", "disk is full", NULL};
    static const char *const denied[] = {"COM_REGISTER_SLAVE failed: Access denied",
                                         "COM_REGISTER_REPLICA failed: Access denied", NULL};
    if (has_any(message, full)) {
        return REASON_DISK_FULL;
    }
    switch (number) {
    case FATAL_READING_BINLOG:
    case FATAL_READING_BINLOG_MYSQL:
        return binlog_reason(message);
    case FATAL_REPLICA_CONFIGURATION:
    case FATAL_REPLICA_CONFIGURATION_MYSQL:
    case 1794:
    case 3083: // ER_..._GTID_MODE on one side only
        return REASON_SOURCE_CONFIGURATION;
    case 1045:
    case 1698:
    case 1130:
    case 1820:
    case 1862:
    case 3118:
    case 4151:
    case CR_AUTH_PLUGIN_CANNOT_LOAD:
    case 2061:
        return REASON_SOURCE_AUTHENTICATION;
    case 1142:
    case 1227:
        return REASON_SOURCE_PRIVILEGES;
    case 3159:
        return REASON_SOURCE_TLS;
    default:
        // Registering as a replica is refused with a general error. All others: the source is away,
        // overloaded, restarting (also when a TLS handshake breaks off: our own connection has
        // shown that TLS works).
        return has_any(message, denied) ? REASON_SOURCE_PRIVILEGES : REASON_NONE;
    }
}

Reason mysql_applier_reason(int number, const char *message)
{
    static const char *const full[] = {"No space left", "is full", "Disk full", NULL};
    switch (number) {
    case 1205: // lock wait timeout
    case 1213: // deadlock
    case 1020: // record has changed since the last read
    case 1317: // interrupted
    case RELAY_LOG_READ_FAILURE:
    case RELAY_LOG_READ_FAILURE_MYSQL:
        return REASON_NONE; // fetched or applied again, it works
    case 1021:
    case 1114: // table is full: the disk is
    case 3:
        return has_any(message, full) ? REASON_DISK_FULL : REASON_REPLICATION_BROKEN;
    default:
        return has_any(message, full + 2) || strstr(message, "No space left") != NULL
                   ? REASON_DISK_FULL
                   : REASON_REPLICATION_BROKEN;
    }
}
