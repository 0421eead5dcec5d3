// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/service_fixture.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/process.h"
#include "common/text.h"
#include "storage/storage_drivers.h"
#include "tests/harness/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int service_fixture_group_setup(void **state)
{
    if (!scratch_postgres_is_installed()) {
        print_message("PostgreSQL is not installed\n");
        exit(77);
    }
    ServiceFixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->directory = temp_dir_new();
    // No test kills this server's machine, so it need not wait for its disk.
    fixture->postgres =
        scratch_postgres_new(fixture->directory, "control", "fsync = off\nmax_connections = 60");
    fixture->secret_key = secret_from_text("0123456789abcdef0123456789abcdef");
    *state = fixture;
    return 0;
}

int service_fixture_group_teardown(void **state)
{
    ServiceFixture *fixture = *state;
    scratch_postgres_free(fixture->postgres);
    temp_dir_removep(&fixture->directory);
    secret_done(&fixture->secret_key);
    mem_free(fixture->url);
    mem_free(fixture);
    return 0;
}

Store *service_fixture_open_store(ServiceFixture *fixture, int connection_count)
{
    StoreOptions options = {.database_url = fixture->url,
                            .connection_count = connection_count,
                            .application_name = "test"};
    Store *store = NULL;
    Error error = {0};
    assert_ok(store_open(&options, &store, &error), &error);
    return store;
}

Service *service_fixture_open_service(ServiceFixture *fixture, Store *store,
                                      const char *agent_program)
{
    ServiceOptions options = {.store = store,
                              .server_id = "01890000-0000-7000-8000-00000000000a",
                              .secret_key = &fixture->secret_key,
                              .agent_program = agent_program,
                              .idempotency_keep_ms = INT64_C(86400000),
                              .open_storage = storage_open};
    Service *service = NULL;
    Error error = {0};
    assert_ok(service_new(&options, &service, &error), &error);
    return service;
}

int service_fixture_setup(void **state)
{
    ServiceFixture *fixture = *state;
    CLEANUP_FREE char *name = string_format("test%d", ++fixture->database_count);
    CLEANUP_FREE char *create = string_format("CREATE DATABASE %s", name);
    scratch_postgres_run(fixture->postgres, create);
    mem_free(fixture->url);
    fixture->url =
        string_format("host=%s port=%d user=admin dbname=%s", fixture->postgres->socket_directory,
                      fixture->postgres->port, name);
    fixture->store = service_fixture_open_store(fixture, 4);
    Error error = {0};
    assert_ok(store_migrate(fixture->store, &error), &error);
    fixture->service = service_fixture_open_service(fixture, fixture->store, NULL);
    fixture->arena = arena_new();
    CLEANUP_FREE char *token_name = string_format("token%d", fixture->database_count);
    CLEANUP_FREE char *path = path_join(fixture->directory, token_name);
    bool is_new = false;
    assert_ok(service_ensure_admin_token(fixture->service, path, &is_new, &error), &error);
    assert_true(is_new);
    size_t size;
    assert_ok(file_read(path, 1000, &fixture->token, &size, &error), &error);
    fixture->token[strcspn(fixture->token, "\n")] = '\0';
    return 0;
}

int service_fixture_teardown(void **state)
{
    ServiceFixture *fixture = *state;
    service_free(fixture->service);
    store_close(fixture->store);
    for (size_t i = 0; i < fixture->response_count; i++) {
        json_free(fixture->responses[i]);
    }
    mem_free(fixture->responses);
    fixture->responses = NULL;
    fixture->response_count = 0;
    arena_free(fixture->arena);
    mem_free(fixture->token);
    fixture->token = NULL;
    fixture->idempotency_key = NULL;
    fixture->if_match = NULL;
    fixture->authorization = NULL;
    return 0;
}

// What a call leaves behind for the test; threads have none.
typedef struct CallOutput {
    char etag[80];
    bool is_replayed;
} CallOutput;

static Status run_call(const ServiceFixture *fixture, Service *service, const char *method_name,
                       const char *request, Json **ret_response, CallOutput *ret_output,
                       Error *error)
{
    const ServiceMethod *method = service_method_find(method_name);
    if (method == NULL) {
        fail_msg("there is no method '%s'", method_name);
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) Json *json = NULL;
    assert_ok(json_parse(request, strlen(request), &json, error), error);
    ProtobufCMessage *message = NULL;
    Status status = message_from_json(arena, method->request, json, &message, error);
    if (status != STATUS_OK) {
        return status;
    }
    ServiceCall call = {.arena = arena,
                        .authorization = fixture->authorization != NULL
                                             ? fixture->authorization
                                             : arena_format(arena, "Bearer %s", fixture->token),
                        .idempotency_key =
                            fixture->idempotency_key != NULL ? fixture->idempotency_key : "",
                        .if_match = fixture->if_match != NULL ? fixture->if_match : "",
                        .request_id = "test"};
    ProtobufCMessage *response = NULL;
    status = service_call(service, method, &call, message, &response, error);
    if (status == STATUS_OK) {
        *ret_response = message_to_json(response);
        memcpy(ret_output->etag, call.etag, sizeof(call.etag));
        ret_output->is_replayed = call.is_replayed;
    }
    return status;
}

Status service_fixture_try_at(ServiceFixture *fixture, Service *service, const char *method,
                              const char *request, Json **ret_response, Error *error)
{
    CallOutput output;
    return run_call(fixture, service, method, request, ret_response, &output, error);
}

Status service_fixture_try(ServiceFixture *fixture, const char *method, const char *request,
                           Json **ret_response, Error *error)
{
    CallOutput output = {0};
    Status status =
        run_call(fixture, fixture->service, method, request, ret_response, &output, error);
    memcpy(fixture->etag, output.etag, sizeof(output.etag));
    fixture->is_replayed = output.is_replayed;
    return status;
}

const Json *service_fixture_call(ServiceFixture *fixture, const char *method, const char *request)
{
    Error error = {0};
    CLEANUP(json_freep) Json *response = NULL;
    Status status = service_fixture_try(fixture, method, request, &response, &error);
    if (status != STATUS_OK) {
        print_error("%s %s: field '%s'\n", method, request, error.field);
    }
    assert_ok(status, &error);
    fixture->responses = mem_realloc_array(fixture->responses, fixture->response_count + 1,
                                           sizeof(*fixture->responses));
    fixture->responses[fixture->response_count] = TAKE_PTR(response);
    return fixture->responses[fixture->response_count++];
}

void service_fixture_refuse(ServiceFixture *fixture, const char *method, const char *request,
                            Reason reason, const char *field)
{
    Error error = {0};
    CLEANUP(json_freep) Json *response = NULL;
    Status status = service_fixture_try(fixture, method, request, &response, &error);
    if (status == STATUS_OK || error.reason != reason || !text_equal(error.field, field) ||
        error.message[0] == '\0') {
        fail_msg("%s %s: expected %s at '%s', got %s at '%s': %s", method, request,
                 reason_slug(reason), field, status == STATUS_OK ? "OK" : reason_slug(error.reason),
                 error.field, error.message);
    }
    if (error.hint[0] == '\0' && reason != REASON_NOT_FOUND) {
        fail_msg("%s %s: '%s' has no cure", method, request, error.message);
    }
}

char *service_fixture_sql(ServiceFixture *fixture, const char *sql)
{
    CLEANUP_FREE char *psql = scratch_postgres_program("psql");
    const char *arguments[] = {psql, "-XAtq",      "-v", "ON_ERROR_STOP=1", "-c", sql,
                               "-d", fixture->url, NULL};
    ProcessOptions process = {.arguments = arguments};
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 1024 * 1024);
    Error error = {0};
    assert_ok(process_run(&process, 60000, REASON_INTERNAL, &output, &error), &error);
    char *text = string_copy(buffer_text(&output));
    text[strcspn(text, "\n")] = '\0';
    return text;
}

int64_t service_fixture_number(ServiceFixture *fixture, const char *sql)
{
    CLEANUP_FREE char *text = service_fixture_sql(fixture, sql);
    int64_t number = 0;
    if (!text_to_int64(text, &number)) {
        fail_msg("'%s' gave '%s'", sql, text);
    }
    return number;
}
