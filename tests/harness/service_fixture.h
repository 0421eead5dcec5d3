// SPDX-License-Identifier: Apache-2.0
// A service on a real PostgreSQL: one cluster for a test program, an empty database for each test,
// calls in JSON.
#pragma once

#include "common/json.h"
#include "common/secret.h"
#include "server/service/service.h"
#include "server/store/store.h"
#include "tests/harness/scratch_postgres.h"

typedef struct ServiceFixture {
    char *directory;
    ScratchPostgres *postgres;
    char *url; // of the current test's database
    int database_count;
    Secret secret_key;
    Store *store;
    Service *service;
    Arena *arena;
    char *token; // of an admin
    // Of the next calls; NULL: none.
    const char *idempotency_key;
    const char *if_match;
    const char *authorization; // NULL: the admin's
    // Of the last call.
    char etag[80];
    bool is_replayed;
    Json **responses; // of this test's calls
    size_t response_count;
} ServiceFixture;

// For cmocka_run_group_tests; exits with 77 where PostgreSQL is not installed. main calls
// scratch_postgres_drop_root first.
int service_fixture_group_setup(void **state);
int service_fixture_group_teardown(void **state);
// For each test: a new database, migrated, with its store and service.
int service_fixture_setup(void **state);
int service_fixture_teardown(void **state);

Store *service_fixture_open_store(ServiceFixture *fixture, int connection_count);
// Another service on the same database: another replica.
Service *service_fixture_open_service(ServiceFixture *fixture, Store *store,
                                      const char *agent_program);

Status service_fixture_try(ServiceFixture *fixture, const char *method, const char *request,
                           Json **ret_response, Error *error);
Status service_fixture_try_at(ServiceFixture *fixture, Service *service, const char *method,
                              const char *request, Json **ret_response, Error *error);
// Must succeed. The answer lives until the test's end.
const Json *service_fixture_call(ServiceFixture *fixture, const char *method, const char *request);
// Must fail with this reason, at this field ("" for none), and with a cure.
void service_fixture_refuse(ServiceFixture *fixture, const char *method, const char *request,
                            Reason reason, const char *field);
// SQL in the test's database: the first value of the last statement, malloc'd.
char *service_fixture_sql(ServiceFixture *fixture, const char *sql);
int64_t service_fixture_number(ServiceFixture *fixture, const char *sql);
