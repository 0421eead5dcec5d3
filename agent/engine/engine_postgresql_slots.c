// SPDX-License-Identifier: Apache-2.0
// Replication slots on the source: `holdfast_<shard>_<instance>` of a run,
// `holdfast_keep_<shard>_<lineage>` between runs. Names hold hashes, because a slot's name has 63
// characters of [a-z0-9_].
#include "agent/engine/engine_postgresql.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/text.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define TAG_BYTES 8
#define TAG_SIZE (2 * TAG_BYTES + 1)
#define CLOSE_CONNECT_MS 5000
#define SLOT_COUNT_MAX 1000

static void tag_of(const char *text, char ret_tag[TAG_SIZE])
{
    uint8_t digest[SHA256_SIZE];
    const char *hashed = text == NULL ? "" : text;
    crypto_sha256(hashed, strlen(hashed), digest);
    hex_encode(digest, TAG_BYTES, ret_tag);
}

static void run_name(const char *shard_id, const char *instance_id,
                     char ret_name[POSTGRESQL_NAME_SIZE])
{
    char shard[TAG_SIZE];
    char instance[TAG_SIZE];
    tag_of(shard_id, shard);
    tag_of(instance_id, instance);
    (void)snprintf(ret_name, POSTGRESQL_NAME_SIZE, "holdfast_%s_%s", shard, instance);
}

static void keep_name(const PostgresqlEngine *engine, char ret_name[POSTGRESQL_NAME_SIZE])
{
    char shard[TAG_SIZE];
    char lineage[TAG_SIZE];
    tag_of(engine->base.options.shard_id, shard);
    tag_of(engine->base.options.lineage_id, lineage);
    (void)snprintf(ret_name, POSTGRESQL_NAME_SIZE, "holdfast_keep_%s_%s", shard, lineage);
}

static void own_run_name(const PostgresqlEngine *engine, char ret_name[POSTGRESQL_NAME_SIZE])
{
    run_name(engine->base.options.shard_id, engine->base.options.instance_id, ret_name);
}

typedef enum SlotState { SLOT_ABSENT, SLOT_LOST, SLOT_GOOD } SlotState;

static Status look(PostgresqlClient *client, const char *name, SlotState *ret_state, Error *error)
{
    char text[16];
    RETURN_IF_ERROR(postgresql_query_text(
        client, REASON_SOURCE_CONFIGURATION,
        "SELECT restart_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost'"
        " FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
        name, text, sizeof(text), error));
    *ret_state = text[0] == '\0' ? SLOT_ABSENT : text[0] == 't' ? SLOT_GOOD : SLOT_LOST;
    return STATUS_OK;
}

static Status explain(const PostgresqlClient *client, Error *error)
{
    if (text_equal(client->sqlstate, "53400")) { // all replication slots are in use
        (void)error_hint(error, "ALTER SYSTEM SET max_replication_slots = <more>; and restart the "
                                "source, or drop slots that nobody uses");
    } else if (error->reason == REASON_SOURCE_PRIVILEGES) {
        (void)error_hint(error, "ALTER ROLE <user> REPLICATION;");
    }
    return error->status;
}

static Status create(PostgresqlClient *client, const char *name, Error *error)
{
    // true: keep WAL from now on, not from the first connection on.
    if (postgresql_execute(client, REASON_SOURCE_CONFIGURATION,
                           "SELECT pg_catalog.pg_create_physical_replication_slot($1, true)", &name,
                           1, error) != STATUS_OK) {
        return explain(client, error);
    }
    return STATUS_OK;
}

static Status drop(PostgresqlClient *client, const char *name, Error *error)
{
    if (postgresql_execute(client, REASON_SOURCE_CONFIGURATION,
                           "SELECT pg_catalog.pg_drop_replication_slot($1)", &name, 1,
                           error) != STATUS_OK) {
        if (!text_equal(client->sqlstate, "42704")) { // there is none: fine
            return error->status;
        }
        error_clear(error);
    }
    return STATUS_OK;
}

Status postgresql_slots_prepare(PostgresqlEngine *engine, Error *error)
{
    char keep[POSTGRESQL_NAME_SIZE];
    char run[POSTGRESQL_NAME_SIZE];
    keep_name(engine, keep);
    own_run_name(engine, run);
    PostgresqlClient *client;
    SlotState state;
    RETURN_IF_ERROR(postgresql_source_session(engine, &client, error));
    RETURN_IF_ERROR(look(client, keep, &state, error));
    if (state == SLOT_GOOD || engine->has_run_slot) {
        return STATUS_OK;
    }
    if (state == SLOT_LOST) { // it keeps nothing any more, and takes a place
        RETURN_IF_ERROR(drop(client, keep, error));
    }
    RETURN_IF_ERROR(drop(client, run, error));
    RETURN_IF_ERROR(create(client, run, error));
    engine->has_run_slot = true;
    return STATUS_OK;
}

static Status advance(PostgresqlClient *client, const char *name, uint64_t lsn, Error *error)
{
    char text[POSTGRESQL_LSN_TEXT_SIZE];
    postgresql_lsn_format(lsn, text);
    const char *parameters[] = {name, text};
    // Never backwards: the function refuses that, and there is nothing to do then.
    return postgresql_execute(
        client, REASON_SOURCE_CONFIGURATION,
        "SELECT pg_catalog.pg_replication_slot_advance(slot_name, $2::pg_lsn)"
        " FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND restart_lsn < $2::pg_lsn",
        parameters, 2, error);
}

void postgresql_slots_advance_run(PostgresqlEngine *engine, uint64_t lsn)
{
    char run[POSTGRESQL_NAME_SIZE];
    PostgresqlClient *client;
    Error ignored = {0}; // the source only keeps more than needed, within its bound
    if (!engine->has_run_slot ||
        postgresql_source_session(engine, &client, &ignored) != STATUS_OK) {
        return;
    }
    own_run_name(engine, run);
    if (advance(client, run, lsn, &ignored) != STATUS_OK && postgresql_is_lost(client)) {
        postgresql_source_drop(engine);
    }
}

// Moves the run's slot under the lineage's name, or begins anew where there is none.
static Status make_keep(PostgresqlEngine *engine, PostgresqlClient *client, const char *keep,
                        Error *error)
{
    char run[POSTGRESQL_NAME_SIZE];
    SlotState state;
    own_run_name(engine, run);
    RETURN_IF_ERROR(drop(client, keep, error));
    RETURN_IF_ERROR(look(client, run, &state, error));
    if (state != SLOT_GOOD) {
        return create(client, keep, error);
    }
    const char *parameters[] = {run, keep};
    if (postgresql_execute(client, REASON_SOURCE_CONFIGURATION,
                           "SELECT pg_catalog.pg_copy_physical_replication_slot($1, $2)",
                           parameters, 2, error) != STATUS_OK) {
        return explain(client, error);
    }
    return STATUS_OK;
}

Status postgresql_slots_commit(PostgresqlEngine *engine, Error *error)
{
    assert(engine->is_checkpoint_reached);
    char keep[POSTGRESQL_NAME_SIZE];
    keep_name(engine, keep);
    PostgresqlClient *client;
    SlotState state;
    RETURN_IF_ERROR(postgresql_source_session(engine, &client, error));
    RETURN_IF_ERROR(look(client, keep, &state, error));
    if (state != SLOT_GOOD) {
        RETURN_IF_ERROR(make_keep(engine, client, keep, error));
    }
    return advance(client, keep, engine->state.checkpoint_lsn, error);
}

void postgresql_slots_release(PostgresqlEngine *engine)
{
    if (!engine->has_run_slot) {
        return;
    }
    // A connection of its own: this must also work after a cancel, and after the session broke.
    CLEANUP(postgresql_closep) PostgresqlClient *client = NULL;
    char run[POSTGRESQL_NAME_SIZE];
    Error ignored = {0}; // what stays is removed by postgresql_clean_source
    own_run_name(engine, run);
    if (postgresql_connect_sql(&engine->base.source, CLOSE_CONNECT_MS, NULL, &client, &ignored) ==
        STATUS_OK) {
        (void)drop(client, run, &ignored);
    }
    engine->has_run_slot = false;
}

static bool is_alive(const char *shard_id, const char *name, const char *const *alive)
{
    for (size_t i = 0; alive[i] != NULL; i++) {
        char expected[POSTGRESQL_NAME_SIZE];
        run_name(shard_id, alive[i], expected);
        if (text_equal(name, expected)) {
            return true;
        }
    }
    return false;
}

// Connects, and lists the slots of the shard whose names go on like that behind "holdfast_".
static Status list(const EngineSource *source, const char *shard_id, const char *prefix,
                   PostgresqlClient **ret_client, PGresult **ret_result, Error *error)
{
    char shard[TAG_SIZE];
    char text[POSTGRESQL_NAME_SIZE];
    const char *pattern = text;
    tag_of(shard_id, shard);
    (void)snprintf(text, sizeof(text), "^holdfast_%s%s_[0-9a-f]{16}$", prefix, shard);
    RETURN_IF_ERROR(postgresql_connect_sql(source, POSTGRESQL_CONNECT_MS, NULL, ret_client, error));
    return postgresql_query(*ret_client, REASON_SOURCE_CONFIGURATION,
                            "SELECT slot_name FROM pg_catalog.pg_replication_slots"
                            " WHERE slot_type = 'physical' AND slot_name ~ $1 ORDER BY slot_name"
                            " LIMIT 1000",
                            &pattern, 1, ret_result, error);
}

Status postgresql_clean_source(const EngineSource *source, const char *shard_id,
                               const char *const *alive, int *ret_removed, Error *error)
{
    CLEANUP(postgresql_closep) PostgresqlClient *client = NULL;
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    RETURN_IF_ERROR(list(source, shard_id, "", &client, &result, error));
    int removed = 0;
    for (int row = 0; row < PQntuples(result); row++) {
        const char *name = PQgetvalue(result, row, 0);
        if (!is_alive(shard_id, name, alive)) {
            RETURN_IF_ERROR(drop(client, name, error));
            removed++;
        }
    }
    *ret_removed = removed;
    return STATUS_OK;
}

Status postgresql_forget_source(const EngineSource *source, const char *shard_id, Error *error)
{
    CLEANUP(postgresql_closep) PostgresqlClient *client = NULL;
    CLEANUP(postgresql_result_clearp) PGresult *result = NULL;
    RETURN_IF_ERROR(list(source, shard_id, "(keep_)?", &client, &result, error));
    for (int row = 0; row < PQntuples(result); row++) {
        RETURN_IF_ERROR(drop(client, PQgetvalue(result, row, 0), error));
    }
    return STATUS_OK;
}
