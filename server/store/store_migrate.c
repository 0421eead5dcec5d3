// SPDX-License-Identifier: Apache-2.0
// Migrations: forward only, each in one transaction, all of them under one lock so that servers may
// start together.
#include "common/crypto.h"
#include "common/text.h"
#include "server/store/store_internal.h"
#include "server/store/store_migrations.h"

#include <assert.h>
#include <string.h>

#define MIGRATION_LOCK "7305804402566922340"

static void checksum_of(const StoreMigration *migration, char ret_text[2 * SHA256_SIZE + 1])
{
    uint8_t digest[SHA256_SIZE];
    crypto_sha256(migration->sql, migration->sql_size, digest);
    hex_encode(digest, sizeof(digest), ret_text);
}

// What the database has must be what this program would have applied.
static Status check_applied(StoreTransaction *transaction, Arena *arena, size_t *ret_applied_count,
                            Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_query(transaction, arena,
                                "SELECT version, name, checksum FROM schema_migrations "
                                "ORDER BY version",
                                0, NULL, &rows, error));
    for (int row = 0; row < rows.count; row++) {
        int64_t version = store_integer(&rows, row, "version", 0);
        if (version > (int64_t)STORE_MIGRATION_COUNT) {
            error_set(error, REASON_SCHEMA_NEWER,
                      "the database's schema has version %s, this program knows up to %zu",
                      store_value(&rows, rows.count - 1, "version"), STORE_MIGRATION_COUNT);
            return error_hint(error, "use the version of holdfastd that this database was used "
                                     "with, or a newer one");
        }
        char checksum[2 * SHA256_SIZE + 1];
        checksum_of(&STORE_MIGRATIONS[row], checksum);
        if (version != row + 1 || !text_equal(store_value(&rows, row, "checksum"), checksum)) {
            error_set(error, REASON_PRECONDITION,
                      "migration %s (%s) was applied to the database with other content",
                      store_value(&rows, row, "version"), store_value(&rows, row, "name"));
            return error_hint(error, "this program was built from changed migrations; use a "
                                     "released build, or an empty database");
        }
    }
    *ret_applied_count = (size_t)rows.count;
    return STATUS_OK;
}

static Status apply(StoreTransaction *transaction, Arena *arena, const StoreMigration *migration,
                    Error *error)
{
    // A migration has many statements, which only the simple protocol takes at once.
    CLEANUP(store_result_clearp)
    PGresult *result = PQexec(transaction->connection->handle, migration->sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK) {
        transaction->is_failed = true;
        store_result_error(transaction->connection->handle, result, error);
        return error_wrap(error, "migration %d (%s)", migration->version, migration->name);
    }
    char checksum[2 * SHA256_SIZE + 1];
    checksum_of(migration, checksum);
    return store_execute(
        transaction, arena,
        "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1::int, $2, $3)",
        STORE_PARAMETERS(store_integer_parameter(arena, migration->version), migration->name,
                         checksum),
        error);
}

// One transaction applies at most one migration. The lock is the transaction's, so that it goes
// away with a lost connection.
static Status migrate_step(Store *store, bool *ret_is_done, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(store, &transaction, error));
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "SELECT set_config('statement_timeout', '0', true), "
                                  "set_config('lock_timeout', '60s', true)",
                                  0, NULL, error));
    RETURN_IF_ERROR(store_execute(
        transaction, arena, "SELECT pg_advisory_xact_lock(" MIGRATION_LOCK ")", 0, NULL, error));
    RETURN_IF_ERROR(store_execute(transaction, arena,
                                  "CREATE TABLE IF NOT EXISTS schema_migrations ("
                                  "version int PRIMARY KEY, name text NOT NULL, "
                                  "checksum text NOT NULL, "
                                  "applied_at timestamptz NOT NULL DEFAULT now())",
                                  0, NULL, error));
    size_t applied_count = 0;
    RETURN_IF_ERROR(check_applied(transaction, arena, &applied_count, error));
    if (applied_count < STORE_MIGRATION_COUNT) {
        RETURN_IF_ERROR(apply(transaction, arena, &STORE_MIGRATIONS[applied_count], error));
        applied_count++;
    }
    *ret_is_done = applied_count == STORE_MIGRATION_COUNT;
    return store_commit(&transaction, error);
}

Status store_migrate(Store *store, Error *error)
{
    bool is_done = false;
    while (!is_done) {
        RETURN_IF_ERROR(migrate_step(store, &is_done, error));
    }
    return STATUS_OK;
}
