// SPDX-License-Identifier: Apache-2.0
// Following a source by GTID, up to an exact checkpoint.
#include "agent/engine/engine_mysql_family.h"
#include "agent/engine/engine_mysql_gtid.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define POLL_MS 50
#define FOLLOW_WAIT_MS 15000   // for the receiver's first connection; position goes on waiting
#define RECEIVER_RETRY_MS 1000 // between two starts of a receiver that ended
#define DIVERGED_AGAIN_MS 1000 // a source shows a transaction as its own a moment after sending it
#define CHECKPOINT_MS 10000
#define APPLIER_RETRY_COUNT_MAX 10
#define CHANNEL_WORD_VERSION 80023 // CHANGE REPLICATION SOURCE TO; CHANGE MASTER TO before

int64_t mysql_received_bytes(MysqlEngine *engine)
{
    mysql_traffic_look(&engine->traffic, engine->pid, engine->base.source.port);
    return engine->closed_bytes + mysql_client_received_bytes(engine->source) +
           mysql_traffic_bytes(&engine->traffic);
}

void mysql_source_close(MysqlEngine *engine)
{
    engine->closed_bytes += mysql_client_received_bytes(engine->source);
    mysql_client_freep(&engine->source);
}

Status mysql_source_identity(MysqlClient *source, bool is_mysql, char ret_identity[64],
                             Error *error)
{
    if (is_mysql) {
        return mysql_client_value(source, MYSQL_STATEMENT_MS, ret_identity, 64, error,
                                  "SELECT @@server_uuid");
    }
    // MariaDB has no identity of its own; this changes when it is another server.
    return mysql_client_value(source, MYSQL_STATEMENT_MS, ret_identity, 64, error,
                              "SELECT LEFT(CONCAT(@@server_id, '@', @@hostname, ':', @@port), 63)");
}

// Positions come from outside and go into statements.
static bool is_position(const char *text)
{
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:-, ") ==
           strlen(text);
}

Status mysql_source_position(MysqlClient *source, bool is_mysql, char ret_position[1024],
                             Error *error)
{
    Status status =
        mysql_client_value(source, MYSQL_STATEMENT_MS, ret_position, 1024, error, "%s",
                           is_mysql ? "SELECT REPLACE(@@global.gtid_executed, '\\n', '')"
                                    : "SELECT @@global.gtid_binlog_pos");
    if (status != STATUS_OK && error->reason == REASON_EXHAUSTED) {
        error_set(error, REASON_SOURCE_CONFIGURATION,
                  "the source's GTID position is longer than 1023 bytes");
        return error_hint(
            error, "it has grown by many servers' writes; set it anew when replication allows it");
    }
    if (status == STATUS_OK && !is_position(ret_position)) {
        return error_set(error, REASON_SOURCE_CONFIGURATION,
                         "the source's GTID position '%.200s' cannot be read", ret_position);
    }
    return status;
}

static Status connect_source(MysqlEngine *engine, bool *ret_is_other, Error *error)
{
    *ret_is_other = false;
    if (engine->source != NULL) {
        return STATUS_OK;
    }
    MysqlClient *client = NULL;
    RETURN_IF_ERROR(mysql_client_open_source(&engine->base.source, engine->base.options.cancel,
                                             MYSQL_CONNECT_MS, &client, error));
    char identity[64];
    Status status = mysql_source_identity(client, engine->is_mysql, identity, error);
    if (status != STATUS_OK) {
        mysql_client_free(client);
        return status;
    }
    *ret_is_other =
        engine->source_identity[0] != '\0' && !text_equal(identity, engine->source_identity);
    memcpy(engine->source_identity, identity, sizeof(identity));
    engine->source = client;
    return STATUS_OK;
}

Status mysql_source_connect(MysqlEngine *engine, Error *error)
{
    bool is_other = false;
    return connect_source(engine, &is_other, error);
}

static Status diverged(Error *error, const char *what)
{
    error_set(error, REASON_SOURCE_DIVERGED, "%s", what);
    return error_hint(error, "the source was restored or failed over without these transactions; "
                             "take a new seed of this shard");
}

static Status check_history_mysql(MysqlEngine *engine, const char *ours, Error *error)
{
    char answer[1024];
    RETURN_IF_ERROR(mysql_client_value(engine->source, MYSQL_STATEMENT_MS, answer, sizeof(answer),
                                       error, "SELECT GTID_SUBTRACT('%s', @@global.gtid_executed)",
                                       ours));
    if (answer[0] != '\0') {
        char what[384];
        (void)snprintf(what, sizeof(what), "the source does not have transactions %.200s", answer);
        return diverged(error, what);
    }
    RETURN_IF_ERROR(mysql_client_value(engine->source, MYSQL_STATEMENT_MS, answer, sizeof(answer),
                                       error, "SELECT GTID_SUBTRACT(@@global.gtid_purged, '%s')",
                                       ours));
    if (answer[0] != '\0') {
        error_set(error, REASON_LOGS_GONE,
                  "the source has purged the binary logs with transactions %.200s", answer);
        return error_hint(error, "keep binary logs longer than the time between two backups: "
                                 "SET PERSIST binlog_expire_logs_seconds = 604800");
    }
    return STATUS_OK;
}

static Status read_positions_mariadb(MysqlEngine *engine, MariadbPosition *state,
                                     MariadbPosition *replicated, Error *error)
{
    char *text = mem_alloc(65536);
    Status status = mysql_client_value(engine->source, MYSQL_STATEMENT_MS, text, 65536, error,
                                       "SELECT @@global.gtid_binlog_state");
    bool is_readable = status == STATUS_OK && mariadb_position_parse(state, text);
    if (status == STATUS_OK) {
        status = mysql_client_value(engine->source, MYSQL_STATEMENT_MS, text, 65536, error,
                                    "SELECT @@global.gtid_slave_pos");
        is_readable =
            is_readable && status == STATUS_OK && mariadb_position_parse(replicated, text);
    }
    mem_free(text);
    RETURN_IF_ERROR(status);
    return is_readable ? STATUS_OK
                       : error_set(error, REASON_SOURCE_CONFIGURATION,
                                   "the source's GTID state cannot be read");
}

static Status check_history_mariadb(MysqlEngine *engine, const char *ours, Error *error)
{
    MariadbPosition position, state, replicated;
    RETURN_IF_ERROR(read_positions_mariadb(engine, &state, &replicated, error));
    MariadbGtid missing = {0};
    if (!mariadb_position_parse(&position, ours)) {
        return error_set(error, REASON_ENGINE_FAILED, "the GTID position '%.200s' cannot be read",
                         ours);
    }
    if (!mariadb_position_is_known(&position, &state, &replicated, &missing)) {
        char what[128];
        (void)snprintf(what, sizeof(what), "the source does not have transaction %u-%u-%llu",
                       missing.domain, missing.server, (unsigned long long)missing.sequence);
        return diverged(error, what);
    }
    return STATUS_OK;
}

// Is everything we have also the source's? Asked twice before it is denied.
static Status check_history(MysqlEngine *engine, const char *ours, Error *error)
{
    for (int round = 0;; round++) {
        Status status = engine->is_mysql ? check_history_mysql(engine, ours, error)
                                         : check_history_mariadb(engine, ours, error);
        if (status == STATUS_OK || error->reason != REASON_SOURCE_DIVERGED || round == 1) {
            return status;
        }
        RETURN_IF_ERROR(mysql_check_canceled(engine, error));
        clock_sleep_ms(DIVERGED_AGAIN_MS);
    }
}

static Status write_ca(MysqlEngine *engine, Arena *arena, const char **ret_path, Error *error)
{
    const char *pem = engine->base.source.tls_ca_pem;
    *ret_path = NULL;
    if (text_is_empty(pem)) {
        return STATUS_OK;
    }
    *ret_path = mysql_work_path(arena, engine, "source-ca.pem");
    return file_write_atomic(*ret_path, pem, strlen(pem), 0600, error);
}

static Status run_secret(MysqlClient *client, char *sql, Error *error)
{
    Status status = mysql_client_run_sized(client, MYSQL_STATEMENT_MS, sql, strlen(sql), error);
    secret_wipe_text(sql);
    return status;
}

static Status configure_mysql(MysqlEngine *engine, Arena *arena, const char *ca_path, Error *error)
{
    const EngineSource *source = &engine->base.source;
    bool is_new = engine->programs.version_number >= CHANNEL_WORD_VERSION;
    const char *word = is_new ? "SOURCE" : "MASTER";
    bool with_tls = mysql_client_has_tls(engine->source);
    const char *tls =
        with_tls ? arena_format(arena, ", %s_SSL_VERIFY_SERVER_CERT = %d%s%s", word,
                                text_equal(source->tls_mode, "verify-full"),
                                ca_path == NULL ? "" : arena_format(arena, ", %s_SSL_CA = ", word),
                                ca_path == NULL ? "" : mysql_quote_text(arena, ca_path))
                 : ", GET_MASTER_PUBLIC_KEY = 1";
    if (!with_tls && is_new) {
        tls = ", GET_SOURCE_PUBLIC_KEY = 1";
    }
    return mysql_client_run(
        engine->local[0], MYSQL_STATEMENT_MS, error,
        "CHANGE %s TO %s_HOST = %s, %s_PORT = %d, %s_AUTO_POSITION = 1,"
        " %s_CONNECT_RETRY = 1, %s_RETRY_COUNT = 100000, %s_HEARTBEAT_PERIOD = 2,"
        " %s_SSL = %d%s",
        is_new ? "REPLICATION SOURCE" : "MASTER", word, mysql_quote_text(arena, source->host), word,
        source->port, word, word, word, word, word, with_tls, tls);
}

static Status configure_mariadb(MysqlEngine *engine, Arena *arena, const char *ca_path,
                                Error *error)
{
    const EngineSource *source = &engine->base.source;
    bool with_tls = mysql_client_has_tls(engine->source);
    // The password rests in master.info in the work directory only, which is no part of a backup.
    return run_secret(
        engine->local[0],
        arena_format(
            arena,
            "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %d, MASTER_USER = %s,"
            " MASTER_PASSWORD = %s, MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1,"
            " MASTER_HEARTBEAT_PERIOD = 2, MASTER_SSL = %d, MASTER_SSL_VERIFY_SERVER_CERT = %d%s%s",
            mysql_quote_text(arena, source->host), source->port,
            mysql_quote_text(arena, source->username),
            mysql_quote_text(arena, secret_text(&source->password)), with_tls,
            text_equal(source->tls_mode, "verify-full"),
            ca_path == NULL ? "" : ", MASTER_SSL_CA = ",
            ca_path == NULL ? "" : mysql_quote_text(arena, ca_path)),
        error);
}

// `until` NULL: for ever. MySQL gets the password here, so that it is stored nowhere.
static Status start_receiver(MysqlEngine *engine, Error *error)
{
    if (!engine->is_mysql) {
        return mysql_client_run(engine->local[0], MYSQL_STATEMENT_MS, error,
                                "START SLAVE IO_THREAD");
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const EngineSource *source = &engine->base.source;
    return run_secret(engine->local[0],
                      arena_format(arena, "START REPLICA IO_THREAD USER = %s PASSWORD = %s",
                                   mysql_quote_text(arena, source->username),
                                   mysql_quote_text(arena, secret_text(&source->password))),
                      error);
}

static Status start_applier(MysqlEngine *engine, const char *until, Error *error)
{
    MysqlClient *local = engine->local[0];
    if (until == NULL) {
        return mysql_client_run(local, MYSQL_STATEMENT_MS, error, "START %s SQL_THREAD",
                                engine->is_mysql ? "REPLICA" : "SLAVE");
    }
    if (engine->is_mysql) {
        return mysql_client_run(local, MYSQL_STATEMENT_MS, error,
                                "START REPLICA SQL_THREAD UNTIL SQL_AFTER_GTIDS = '%s'", until);
    }
    // MariaDB wants both threads to start together, and fetches again what was not applied yet.
    RETURN_IF_ERROR(mysql_client_run(local, MYSQL_STATEMENT_MS, error, "STOP SLAVE"));
    return mysql_client_run(local, MYSQL_STATEMENT_MS, error,
                            "START SLAVE UNTIL master_gtid_pos = '%s'", until);
}

static Status stop_all(MysqlEngine *engine, Error *error)
{
    return mysql_client_run(engine->local[0], MYSQL_STATEMENT_MS, error, "%s",
                            engine->is_mysql ? "STOP REPLICA" : "STOP SLAVE");
}

// What cannot be applied may come from a server that took over without transactions that we have:
// that has a name and a cure of its own, and it may be told before we have asked that server.
static Status applier_failed(MysqlEngine *engine, Reason reason, const MysqlReplicaStatus *status,
                             Error *error)
{
    char ours[1024];
    Error cause = {0};
    if (reason == REASON_REPLICATION_BROKEN) {
        mysql_source_close(engine);
        if (mysql_source_connect(engine, &cause) == STATUS_OK &&
            mysql_local_position(engine, ours, &cause) == STATUS_OK) {
            (void)check_history(engine, ours, &cause);
        }
        if (cause.reason == REASON_SOURCE_DIVERGED) {
            *error = cause;
            return error->status;
        }
    }
    char tail[160] = "";
    mysql_server_log_tail(engine, tail, sizeof(tail));
    return error_set(error, reason, "replaying stopped: %.300s (%d)%s%s", status->applier_message,
                     status->applier_error, tail[0] != '\0' ? "; " : "", tail);
}

// Starts the applier again a bounded number of times when that can help.
static Status care_for_applier(MysqlEngine *engine, const MysqlReplicaStatus *status,
                               const char *until, Error *error)
{
    if (status->is_applier_running) {
        return STATUS_OK;
    }
    if (status->applier_error != 0) {
        Reason reason = mysql_applier_reason(status->applier_error, status->applier_message);
        if (reason == REASON_NONE && engine->applier_retry_count++ >= APPLIER_RETRY_COUNT_MAX) {
            reason = REASON_REPLICATION_BROKEN;
        }
        if (reason != REASON_NONE) {
            return applier_failed(engine, reason, status, error);
        }
        RETURN_IF_ERROR(stop_all(engine, error)); // relay logs are fetched anew
        RETURN_IF_ERROR(start_receiver(engine, error));
    }
    return start_applier(engine, until, error);
}

static Status receiver_failed(MysqlEngine *engine, Reason reason, const MysqlReplicaStatus *status,
                              Error *error)
{
    error_set(error, reason, "replication from %s:%d: %.300s (%d)", engine->base.source.host,
              engine->base.source.port, status->receiver_message, status->receiver_error);
    switch (reason) {
    case REASON_LOGS_GONE:
        return error_hint(error, "keep binary logs longer than the time between two backups: %s",
                          engine->is_mysql ? "SET PERSIST binlog_expire_logs_seconds = 604800"
                                           : "SET GLOBAL expire_logs_days = 7");
    case REASON_SOURCE_DIVERGED:
        return error_hint(error,
                          "the source's history is another one; take a new seed of this shard");
    case REASON_SOURCE_PRIVILEGES:
        return error_hint(error, "GRANT REPLICATION SLAVE ON *.* TO the user '%s'",
                          engine->base.source.username);
    case REASON_SOURCE_AUTHENTICATION:
        return error_hint(
            error, "check user name and password, and that the account may connect from this host");
    default:
        return error->status;
    }
}

// A receiver that lost its source is started again for a bounded time; what trying again cannot
// cure is named at once.
static Status care_for_receiver(MysqlEngine *engine, const MysqlReplicaStatus *status, Error *error)
{
    int64_t now_ms = clock_monotonic_ms();
    if (status->is_receiver_running) {
        engine->follow_broken_ms = 0;
        return STATUS_OK;
    }
    if (status->receiver_error != 0) {
        Reason reason = mysql_receiver_reason(status->receiver_error, status->receiver_message);
        if (reason != REASON_NONE) {
            return receiver_failed(engine, reason, status, error);
        }
    }
    if (engine->follow_broken_ms == 0) {
        engine->follow_broken_ms = now_ms;
    }
    if (now_ms - engine->follow_broken_ms >= MYSQL_SOURCE_RETRY_MS) {
        return receiver_failed(engine, REASON_SOURCE_UNREACHABLE, status, error);
    }
    if (status->is_receiver_stopped && now_ms - engine->follow_retry_ms >= RECEIVER_RETRY_MS) {
        engine->follow_retry_ms = now_ms;
        return start_receiver(engine, error);
    }
    return STATUS_OK;
}

// Waits until the receiver reads, or names why it cannot.
static Status wait_for_receiver(MysqlEngine *engine, Error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + FOLLOW_WAIT_MS;
    int steady_count = 0; // a refusal by the source comes just after the connection
    while (clock_monotonic_ms() < deadline_ms && steady_count < 4) {
        MysqlReplicaStatus status;
        RETURN_IF_ERROR(mysql_check_canceled(engine, error));
        RETURN_IF_ERROR(mysql_replica_status(engine, &status, error));
        RETURN_IF_ERROR(care_for_receiver(engine, &status, error));
        RETURN_IF_ERROR(care_for_applier(engine, &status, NULL, error));
        steady_count = status.is_receiver_running ? steady_count + 1 : 0;
        clock_sleep_ms(POLL_MS);
    }
    return STATUS_OK;
}

// These may have changed on the source since the parent.
static Status refresh_settings(MysqlEngine *engine, Error *error)
{
    MysqlSettings settings;
    RETURN_IF_ERROR(mysql_settings_read(engine->source, engine->is_mysql, &settings, error));
    if (settings.lower_case_table_names != engine->settings.lower_case_table_names ||
        settings.page_size != engine->settings.page_size) {
        error_set(
            error, REASON_SOURCE_CHANGED,
            "lower_case_table_names or innodb_page_size of the source are not those of the parent");
        return error_hint(error, "take a new seed of this shard");
    }
    engine->settings = settings;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    return mysql_client_run(
        engine->local[0], MYSQL_STATEMENT_MS, error,
        "SET GLOBAL default_storage_engine = %s, GLOBAL explicit_defaults_for_timestamp = %d",
        mysql_quote_text(arena, settings.default_storage_engine),
        settings.explicit_defaults_for_timestamp);
}

static Status check_source(MysqlEngine *engine, Error *error)
{
    char version[128], position[1024], log_bin[8];
    RETURN_IF_ERROR(mysql_client_value(engine->source, MYSQL_STATEMENT_MS, version, sizeof(version),
                                       error, "SELECT @@version"));
    RETURN_IF_ERROR(
        mysql_source_version_check(&engine->programs, engine->is_mysql, version, error));
    RETURN_IF_ERROR(mysql_client_value(engine->source, MYSQL_STATEMENT_MS, log_bin, sizeof(log_bin),
                                       error, "SELECT @@global.log_bin"));
    if (!text_equal(log_bin, "1")) {
        error_set(error, REASON_SOURCE_CONFIGURATION, "the source writes no binary log");
        return error_hint(error, "set log_bin in its configuration and restart it");
    }
    bool has_privilege = false;
    RETURN_IF_ERROR(
        mysql_source_has_privilege(engine->source, "REPLICATION SLAVE", &has_privilege, error));
    if (!has_privilege) { // a source refuses such a receiver with a general error, again and again
        error_set(error, REASON_SOURCE_PRIVILEGES, "the source's user lacks REPLICATION SLAVE");
        return error_hint(error, "GRANT REPLICATION SLAVE ON *.* TO the user '%s'",
                          engine->base.source.username);
    }
    RETURN_IF_ERROR(mysql_local_position(engine, position, error));
    RETURN_IF_ERROR(check_history(engine, position, error));
    return refresh_settings(engine, error);
}

static Status follow(Engine *base, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    assert(engine->pid != 0);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *ca_path = NULL;
    mysql_source_close(engine); // what it was connected to may be gone
    RETURN_IF_ERROR(mysql_source_connect(engine, error));
    RETURN_IF_ERROR(check_source(engine, error));
    RETURN_IF_ERROR(write_ca(engine, arena, &ca_path, error));
    RETURN_IF_ERROR(stop_all(engine, error));
    RETURN_IF_ERROR(engine->is_mysql ? configure_mysql(engine, arena, ca_path, error)
                                     : configure_mariadb(engine, arena, ca_path, error));
    engine->follow_broken_ms = engine->follow_retry_ms = 0;
    engine->applier_retry_count = 0;
    RETURN_IF_ERROR(start_receiver(engine, error));
    RETURN_IF_ERROR(start_applier(engine, NULL, error));
    engine->is_following = true;
    return wait_for_receiver(engine, error);
}

static Status has_reached(MysqlEngine *engine, const char *position, const char *wanted,
                          bool *ret_has_reached, Error *error)
{
    if (engine->is_mysql) {
        char answer[8];
        RETURN_IF_ERROR(mysql_client_value(engine->local[0], MYSQL_STATEMENT_MS, answer,
                                           sizeof(answer), error, "SELECT GTID_SUBSET('%s', '%s')",
                                           wanted, position));
        *ret_has_reached = text_equal(answer, "1");
        return STATUS_OK;
    }
    MariadbPosition ours, theirs;
    if (!mariadb_position_parse(&ours, position) || !mariadb_position_parse(&theirs, wanted)) {
        return error_set(error, REASON_ENGINE_FAILED,
                         "a GTID position cannot be read: '%.100s', '%.100s'", position, wanted);
    }
    *ret_has_reached = mariadb_position_reached(&ours, &theirs);
    return STATUS_OK;
}

// The source's position. A source that does not answer is asked again for a bounded time: then
// *ret_is_there is false.
static Status ask_source(MysqlEngine *engine, const char *ours, char ret_position[1024],
                         bool *ret_is_there, Error *error)
{
    bool is_other = false;
    Status status = connect_source(engine, &is_other, error);
    if (status == STATUS_OK && is_other) {
        status = check_history(engine, ours,
                               error); // another server took over: does it continue our history?
    }
    if (status == STATUS_OK) {
        status = mysql_source_position(engine->source, engine->is_mysql, ret_position, error);
    }
    *ret_is_there = status == STATUS_OK;
    if (status == STATUS_OK) {
        engine->source_lost_ms = 0;
        return STATUS_OK;
    }
    if (error->reason != REASON_SOURCE_UNREACHABLE) {
        return status;
    }
    mysql_source_close(engine);
    int64_t now_ms = clock_monotonic_ms();
    engine->source_lost_ms = engine->source_lost_ms == 0 ? now_ms : engine->source_lost_ms;
    if (now_ms - engine->source_lost_ms >= MYSQL_SOURCE_RETRY_MS) {
        return status;
    }
    error_clear(error);
    return STATUS_OK;
}

static void fill_progress(MysqlEngine *engine, const char *position, EngineProgress *progress)
{
    *progress = (EngineProgress){.total_bytes = -1, .received_bytes = mysql_received_bytes(engine)};
    progress->done_bytes = mysql_traffic_bytes(&engine->traffic);
    (void)snprintf(progress->position, sizeof(progress->position), "%s", position);
}

static Status check_running(MysqlEngine *engine, Error *error)
{
    if (mysql_server_is_running(engine)) {
        return mysql_check_disk(engine, error);
    }
    char tail[300];
    mysql_server_log_tail(engine, tail, sizeof(tail));
    return error_set(error, REASON_ENGINE_FAILED, "the engine ended unexpectedly%s%s",
                     tail[0] != '\0' ? ": " : "", tail);
}

static Status look(Engine *base, EngineProgress *ret_progress, bool *ret_is_caught_up, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    RETURN_IF_ERROR(check_running(engine, error));
    RETURN_IF_ERROR(mysql_check_canceled(engine, error));
    bool is_connected = true;
    if (engine->is_following) {
        MysqlReplicaStatus status;
        RETURN_IF_ERROR(mysql_replica_status(engine, &status, error));
        is_connected = status.is_receiver_running; // else it may just not know what is new
        RETURN_IF_ERROR(care_for_receiver(engine, &status, error));
        RETURN_IF_ERROR(care_for_applier(engine, &status, NULL, error));
    }
    char ours[1024], theirs[1024];
    bool is_there = false;
    bool is_reached = false;
    RETURN_IF_ERROR(mysql_local_position(engine, ours, error));
    RETURN_IF_ERROR(ask_source(engine, ours, theirs, &is_there, error));
    if (is_there) {
        RETURN_IF_ERROR(has_reached(engine, ours, theirs, &is_reached, error));
    }
    fill_progress(engine, ours, ret_progress);
    *ret_is_caught_up = is_reached && is_connected;
    return STATUS_OK;
}

// Replay stops first, so that it cannot be beyond the checkpoint when that is known. MySQL's
// receiver goes on; MariaDB's would only fetch what is fetched again.
static Status take_checkpoint(Engine *base, const char *name, Checkpoint *ret_checkpoint,
                              Error *error)
{
    (void)name; // the position says it all
    MysqlEngine *engine = mysql_engine(base);
    RETURN_IF_ERROR(check_running(engine, error));
    RETURN_IF_ERROR(mysql_client_run(engine->local[0], MYSQL_STATEMENT_MS, error, "%s",
                                     engine->is_mysql ? "STOP REPLICA SQL_THREAD" : "STOP SLAVE"));
    engine->is_following = false;
    Checkpoint checkpoint = {0};
    char ours[1024];
    RETURN_IF_ERROR(mysql_local_position(engine, ours, error));
    int64_t deadline_ms = clock_monotonic_ms() + CHECKPOINT_MS;
    for (;;) {
        bool is_there = false;
        bool is_ahead = false;
        RETURN_IF_ERROR(mysql_check_canceled(engine, error));
        RETURN_IF_ERROR(ask_source(engine, ours, checkpoint.position, &is_there, error));
        checkpoint.taken_us = clock_now_us();
        if (is_there) {
            RETURN_IF_ERROR(has_reached(engine, checkpoint.position, ours, &is_ahead, error));
        }
        if (is_ahead) {
            memcpy(checkpoint.server_identity, engine->source_identity,
                   sizeof(checkpoint.server_identity));
            *ret_checkpoint = checkpoint;
            return STATUS_OK;
        }
        if (is_there && clock_monotonic_ms() >= deadline_ms) {
            return diverged(error, "the source does not have all transactions that it has sent");
        }
        clock_sleep_ms(POLL_MS);
    }
}

typedef struct Replay {
    const char *wanted;
    int64_t stall_ms;
    int64_t moved_ms;
    char progress[512];
    int64_t received_bytes;
} Replay;

static Status check_stall(MysqlEngine *engine, Replay *replay, const MysqlReplicaStatus *status,
                          Error *error)
{
    int64_t now_ms = clock_monotonic_ms();
    int64_t received_bytes = mysql_traffic_bytes(&engine->traffic);
    if (!text_equal(status->progress, replay->progress) ||
        received_bytes > replay->received_bytes + 65536) {
        memcpy(replay->progress, status->progress, sizeof(replay->progress));
        replay->received_bytes = received_bytes;
        replay->moved_ms = now_ms;
    }
    if (now_ms - replay->moved_ms >= replay->stall_ms) {
        return error_set(error, REASON_REPLAY_STALLED, "replay made no progress for %lld s%s%.200s",
                         (long long)((now_ms - replay->moved_ms) / 1000),
                         status->receiver_message[0] != '\0' ? ": " : "", status->receiver_message);
    }
    return STATUS_OK;
}

static Status check_not_beyond(MysqlEngine *engine, const char *ours, const char *wanted,
                               Error *error)
{
    bool is_within = false;
    RETURN_IF_ERROR(has_reached(engine, wanted, ours, &is_within, error));
    if (!is_within) {
        return error_set(error, REASON_REPLICATION_BROKEN,
                         "replay is at '%.200s', beyond the checkpoint '%.200s'", ours, wanted);
    }
    return STATUS_OK;
}

// One look: true in ret_is_done when exactly the checkpoint is reached.
static Status replay_step(MysqlEngine *engine, Replay *replay, EngineProgress *progress,
                          bool *ret_is_done, Error *error)
{
    MysqlReplicaStatus status;
    char ours[1024];
    RETURN_IF_ERROR(check_running(engine, error));
    RETURN_IF_ERROR(mysql_check_canceled(engine, error));
    RETURN_IF_ERROR(mysql_replica_status(engine, &status, error));
    RETURN_IF_ERROR(mysql_local_position(engine, ours, error));
    RETURN_IF_ERROR(has_reached(engine, ours, replay->wanted, ret_is_done, error));
    fill_progress(engine, ours, progress);
    if (*ret_is_done) {
        return check_not_beyond(engine, ours, replay->wanted, error);
    }
    RETURN_IF_ERROR(care_for_receiver(engine, &status, error));
    RETURN_IF_ERROR(care_for_applier(engine, &status, replay->wanted, error));
    return check_stall(engine, replay, &status, error);
}

static Status replay(Engine *base, const Checkpoint *checkpoint, int64_t stall_ms,
                     EngineProgressFunction on_progress, void *context, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    Replay replay = {
        .wanted = checkpoint->position, .stall_ms = stall_ms, .moved_ms = clock_monotonic_ms()};
    EngineProgress progress = {0};
    if (!is_position(checkpoint->position)) {
        return error_set(error, REASON_INVALID, "the checkpoint '%.200s' is no GTID position",
                         checkpoint->position);
    }
    RETURN_IF_ERROR(stop_all(engine, error));
    engine->is_following = false;
    engine->follow_broken_ms = engine->follow_retry_ms = 0;
    engine->applier_retry_count = 0;
    char ours[1024];
    bool is_done = false;
    RETURN_IF_ERROR(mysql_local_position(engine, ours, error));
    RETURN_IF_ERROR(check_not_beyond(engine, ours, replay.wanted, error));
    RETURN_IF_ERROR(has_reached(engine, ours, replay.wanted, &is_done, error));
    if (!is_done) {
        if (engine->is_mysql) {
            RETURN_IF_ERROR(start_receiver(engine, error));
        }
        RETURN_IF_ERROR(start_applier(engine, replay.wanted, error));
    }
    for (;;) {
        Status status = replay_step(engine, &replay, &progress, &is_done, error);
        if (status != STATUS_OK) {
            Error ignored = {0};
            (void)stop_all(engine, &ignored);
            return status;
        }
        if (on_progress != NULL) {
            on_progress(context, &progress);
        }
        if (is_done) {
            return stop_all(engine, error);
        }
        clock_sleep_ms(POLL_MS);
    }
}

// A server without space waits, stops replaying or ends, whichever call that meets.
Status mysql_replica_follow(Engine *base, Error *error)
{
    return mysql_name_failure(mysql_engine(base), follow(base, error), error);
}

Status mysql_replica_position(Engine *base, EngineProgress *ret_progress, bool *ret_is_caught_up,
                              Error *error)
{
    return mysql_name_failure(mysql_engine(base), look(base, ret_progress, ret_is_caught_up, error),
                              error);
}

Status mysql_replica_checkpoint_take(Engine *base, const char *name, Checkpoint *ret_checkpoint,
                                     Error *error)
{
    return mysql_name_failure(mysql_engine(base),
                              take_checkpoint(base, name, ret_checkpoint, error), error);
}

Status mysql_replica_replay_to(Engine *base, const Checkpoint *checkpoint, int64_t stall_ms,
                               EngineProgressFunction on_progress, void *context, Error *error)
{
    return mysql_name_failure(
        mysql_engine(base), replay(base, checkpoint, stall_ms, on_progress, context, error), error);
}

Status mysql_replica_reset(MysqlEngine *engine, Error *error)
{
    RETURN_IF_ERROR(stop_all(engine, error));
    engine->is_following = false;
    (void)mysql_received_bytes(engine);
    mysql_source_close(engine);
    return mysql_client_run(engine->local[0], MYSQL_STATEMENT_MS, error, "%s",
                            engine->is_mysql ? "RESET REPLICA ALL" : "RESET SLAVE ALL");
}
