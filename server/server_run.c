// SPDX-License-Identifier: Apache-2.0
// Wiring. Each part borrows those started before it.
#define LOG_MODULE "server"
#include "server/server_run.h"

#include "common/file.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/memory.h"
#include "provisioner/provisioner.h"
#include "server/embedded_postgres.h"
#include "server/http/http_server.h"
#include "server/rpc/agent_face.h"
#include "server/rpc/rpc_face.h"
#include "server/server_identity.h"
#include "server/service/agent_sessions.h"
#include "server/service/repository_cache.h"
#include "server/service/service.h"
#include "server/store/store.h"
#include "server/worker/worker.h"
#include "storage/storage_drivers.h"

#include <assert.h>

#define IDEMPOTENCY_KEEP_MS (48 * 3600 * INT64_C(1000))
#define AGENT_THREAD_COUNT 2

struct Server {
    EmbeddedPostgres *postgres; // NULL: another PostgreSQL
    Store *store;
    ServerIdentity identity;
    Service *service;
    RepositoryCache *repositories;
    AgentSessions *sessions;
    AgentFace *agent_face;
    RpcFace *rpc_face;
    HttpServer *http;
    Provisioner *provisioner;
    Worker *worker;
    int grace_ms;
};

static Status start_store(Server *server, const ServerOptions *options, Error *error)
{
    const char *url = options_text(&options->set, "database-url");
    int connection_count = (int)options_number(&options->set, "database-connections");
    if (url == NULL) {
        EmbeddedPostgresOptions embedded = {.data_directory = options->data_directory,
                                            .connection_count = connection_count};
        RETURN_IF_ERROR(embedded_postgres_start(&embedded, &server->postgres, error));
        url = embedded_postgres_url(server->postgres);
    }
    StoreOptions store = {
        .database_url = url, .connection_count = connection_count, .application_name = "holdfastd"};
    RETURN_IF_ERROR(store_open(&store, &server->store, error));
    return store_migrate(server->store, error);
}

static Status start_service(Server *server, const ServerOptions *options, const char *server_id,
                            Error *error)
{
    RETURN_IF_ERROR(
        server_identity_load(server->store, options->secret_key_file, &server->identity, error));
    ServiceOptions service = {.store = server->store,
                              .server_id = server_id,
                              .is_embedded = server->postgres != NULL,
                              .secret_key = &server->identity.secret_key,
                              .agent_program = options->agent_program,
                              .idempotency_keep_ms = IDEMPOTENCY_KEEP_MS,
                              .open_storage = storage_open};
    RETURN_IF_ERROR(service_new(&service, &server->service, error));
    bool is_new = false;
    RETURN_IF_ERROR(
        service_ensure_admin_token(server->service, options->admin_token_file, &is_new, error));
    if (is_new) {
        log_info("made an admin token", "file", options->admin_token_file, NULL);
    }
    return STATUS_OK;
}

static Status start_agents(Server *server, const ServerOptions *options, const char *server_id,
                           Error *error)
{
    server->repositories = repository_cache_new(storage_open, &server->identity.secret_key);
    AgentSessionsOptions sessions = {.store = server->store,
                                     .server_id = server_id,
                                     .secret_key = &server->identity.secret_key,
                                     .repositories = server->repositories,
                                     .deadman_ms = options_number(&options->set, "deadman"),
                                     .memory_bytes = options_number(&options->set, "agent-memory")};
    RETURN_IF_ERROR(agent_sessions_new(&sessions, &server->sessions, error));
    AgentFaceOptions face = {.sessions = server->sessions,
                             .address = options_text(&options->set, "agent-address"),
                             .certificate_pem = server->identity.certificate_pem,
                             .key_pem = &server->identity.key_pem,
                             .thread_count = AGENT_THREAD_COUNT};
    return agent_face_start(&face, &server->agent_face, error);
}

typedef struct Tls {
    char *certificate_pem;
    Secret key_pem;
} Tls;

static void tls_done(Tls *tls)
{
    mem_free(tls->certificate_pem);
    secret_done(&tls->key_pem);
}

static Status tls_read(const OptionSet *set, const char *certificate_key, const char *key_key,
                       Tls *ret_tls, Error *error)
{
    const char *certificate_path = options_text(set, certificate_key);
    const char *key_path = options_text(set, key_key);
    size_t size = 0;
    char *key = NULL;
    if (certificate_path == NULL) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(
        file_read(certificate_path, LIMIT_FILE_BYTES, &ret_tls->certificate_pem, &size, error));
    RETURN_IF_ERROR(file_read(key_path, LIMIT_FILE_BYTES, &key, &size, error));
    ret_tls->key_pem = secret_from_bytes(key, size);
    secret_wipe_text(key);
    mem_free(key);
    return STATUS_OK;
}

static Status start_faces(Server *server, const ServerOptions *options, Error *error)
{
    const OptionSet *set = &options->set;
    CLEANUP(tls_done) Tls grpc_tls = {0};
    CLEANUP(tls_done) Tls http_tls = {0};
    RETURN_IF_ERROR(tls_read(set, "grpc-tls-certificate", "grpc-tls-key", &grpc_tls, error));
    RETURN_IF_ERROR(tls_read(set, "http-tls-certificate", "http-tls-key", &http_tls, error));
    RpcFaceOptions rpc = {.service = server->service,
                          .address = options_text(set, "grpc-address"),
                          .certificate_pem = grpc_tls.certificate_pem,
                          .key_pem = &grpc_tls.key_pem,
                          .thread_count = (int)options_number(set, "grpc-threads")};
    RETURN_IF_ERROR(rpc_face_start(&rpc, &server->rpc_face, error));
    HttpServerOptions http = {.service = server->service,
                              .address = options_text(set, "http-address"),
                              .certificate_pem = http_tls.certificate_pem,
                              .key_pem = &http_tls.key_pem,
                              .thread_count = (int)options_number(set, "http-threads")};
    return http_server_start(&http, &server->http, error);
}

static Status start_worker(Server *server, const ServerOptions *options, const char *server_id,
                           Error *error)
{
    const OptionSet *set = &options->set;
    ComputeDriver *local = NULL;
    CLEANUP_FREE char *logs = string_format("%s/logs", options->data_directory);
    LocalDriverOptions driver = {.directory = options->instance_directory,
                                 .log_directory = logs,
                                 .agent_program = options->agent_program};
    server->provisioner = provisioner_new();
    RETURN_IF_ERROR(compute_local_new(&driver, &local, error));
    provisioner_add(server->provisioner, local);
    WorkerOptions worker = {.store = server->store,
                            .server_id = server_id,
                            .secret_key = &server->identity.secret_key,
                            .certificate_pem = server->identity.certificate_pem,
                            .certificate_name = SERVER_CERTIFICATE_NAME,
                            .agent_address = options_text(set, "agent-address"),
                            .agent_program = options->agent_program,
                            .provisioner = server->provisioner,
                            .repositories = server->repositories,
                            .thread_count = (int)options_number(set, "worker-threads"),
                            .instance_count_max = (int)options_number(set, "max-instances"),
                            .deadman_ms = options_number(set, "deadman"),
                            .lifetime_ms = options_number(set, "instance-lifetime"),
                            .attempt_lease_ms = options_number(set, "attempt-lease"),
                            .barrier_timeout_ms = options_number(set, "barrier-timeout"),
                            .sweep_interval_ms = options_number(set, "sweep-interval"),
                            .idempotency_keep_ms = IDEMPOTENCY_KEEP_MS,
                            .event_keep_ms = options_number(set, "event-keep"),
                            .orphan_grace_ms = options_number(set, "orphan-grace")};
    return worker_start(&worker, &server->worker, error);
}

Status server_start(const ServerOptions *options, const char *server_id, Server **ret_server,
                    Error *error)
{
    Server *server = mem_alloc(sizeof(*server));
    server->grace_ms = (int)options_number(&options->set, "shutdown-grace");
    Status status = start_store(server, options, error);
    // Workers come before the faces: who is told that we are ready must find everything working.
    status = status != STATUS_OK ? status : start_service(server, options, server_id, error);
    status = status != STATUS_OK ? status : start_agents(server, options, server_id, error);
    status = status != STATUS_OK ? status : start_worker(server, options, server_id, error);
    status = status != STATUS_OK ? status : start_faces(server, options, error);
    if (status != STATUS_OK) {
        server_stop(server);
        return status;
    }
    rpc_face_set_healthy(server->rpc_face, true);
    log_info("ready", "version", HOLDFAST_VERSION, "http",
             options_text(&options->set, "http-address"), "grpc",
             options_text(&options->set, "grpc-address"), "agents",
             options_text(&options->set, "agent-address"), "server_id", server_id, NULL);
    *ret_server = server;
    return STATUS_OK;
}

void server_stop(Server *server)
{
    if (server->rpc_face != NULL) {
        rpc_face_set_healthy(server->rpc_face, false);
    }
    if (server->http != NULL) {
        http_server_stop(server->http);
    }
    if (server->rpc_face != NULL) {
        rpc_face_stop(server->rpc_face, server->grace_ms);
    }
    worker_stop(server->worker);
    if (server->agent_face != NULL) {
        agent_face_stop(server->agent_face,
                        0); // agents come back to the next server; waiting would not help
    }
    http_server_free(server->http);
    rpc_face_free(server->rpc_face);
    agent_face_free(server->agent_face);
    agent_sessions_free(server->sessions);
    provisioner_free(server->provisioner);
    service_free(server->service);
    repository_cache_free(server->repositories);
    if (server->store != NULL) {
        store_close(server->store);
    }
    server_identity_done(&server->identity);
    embedded_postgres_stop(server->postgres);
    mem_free(server);
}
