// SPDX-License-Identifier: Apache-2.0
#include "common/limits.h"
#include "common/text.h"
#include "server/service/service_database.h"
#include "server/store/store_credential.h"
#include "server/store/store_event.h"

#include <string.h>

#define DESCRIPTOR (&holdfast__v1__shard__descriptor)
#define HOST_SIZE_MAX 253

Status check_shard_name(const char *field, const char *value, Error *error)
{
    size_t size = value != NULL ? strlen(value) : 0;
    if (size > 0 && size <= LIMIT_NAME_BYTES &&
        strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") == size && !text_equal(value, "-")) {
        return STATUS_OK;
    }
    if (size == 0) {
        error_set(error, REASON_INVALID, "'%s' is missing", field);
    } else {
        error_set(error, REASON_INVALID, "'%s' is '%.80s', which is not a shard's name", field,
                  value);
    }
    error_field(error, "%s", field);
    return error_hint(error,
                      "use a key range like '-80' or '80-', or '0' for a database of one "
                      "shard: 1 to %d lower-case letters, digits and '-'",
                      LIMIT_NAME_BYTES);
}

static Status invalid(Error *error, const char *prefix, const char *field, const char *hint)
{
    error_set(error, REASON_INVALID, "'%s.%s' is not valid", prefix, field);
    error_field(error, "%s.%s", prefix, field);
    return error_hint(error, "%s", hint);
}

static Status check_source(ServiceCall *call, const char *prefix,
                           const Holdfast__V1__Source *source, const char *engine,
                           StoreShard *shard, Error *error)
{
    if (source == NULL) {
        return invalid(error, prefix, "source",
                       "give host, port and credential of the server "
                       "that the shard is on");
    }
    size_t host_size = strlen(source->host);
    if (host_size == 0 || host_size > HOST_SIZE_MAX ||
        strspn(source->host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                             "-._:") != host_size) {
        return invalid(error, prefix, "source.host", "give a host name or an IP address");
    }
    if (source->port < 0 || source->port > 65535) {
        return invalid(error, prefix, "source.port", "use 1 to 65535");
    }
    static const char *const MODES[] = {"", "disable", "prefer", "require", "verify-full"};
    size_t mode = 0;
    while (mode < ARRAY_COUNT(MODES) && !text_equal(MODES[mode], source->tls_mode)) {
        mode++;
    }
    if (mode == ARRAY_COUNT(MODES)) {
        return invalid(error, prefix, "source.tls_mode",
                       "use 'disable', 'prefer', 'require' or 'verify-full'");
    }
    if (!text_is_empty(source->tls_ca) &&
        strstr(source->tls_ca, "-----BEGIN CERTIFICATE-----") == NULL) {
        return invalid(error, prefix, "source.tls_ca",
                       "give the certificates in PEM form: '-----BEGIN CERTIFICATE-----' ...");
    }
    RETURN_IF_ERROR(check_text(arena_format(call->arena, "%s.source.tls_ca", prefix),
                               source->tls_ca, LIMIT_FILE_BYTES, false, error));
    // Their clients trust no authority of the machine's, and some would accept any certificate.
    if (text_equal(source->tls_mode, "verify-full") && text_is_empty(source->tls_ca) &&
        !text_equal(engine, "postgresql")) {
        return invalid(error, prefix, "source.tls_ca",
                       "'verify-full' needs the certificates of the authority that signed the "
                       "source's own, in PEM form");
    }
    shard->source_host = source->host;
    shard->source_port = source->port;
    if (source->port == 0) {
        shard->source_port = text_equal(engine, "postgresql") ? 5432 : 3306;
    }
    shard->source_tls_mode = mode == 0 ? "prefer" : source->tls_mode;
    shard->source_tls_ca = source->tls_ca;
    return STATUS_OK;
}

static Status check_credential(ServiceCall *call, StoreTransaction *transaction, const char *prefix,
                               const char *name, const char **ret_id, Error *error)
{
    const char *field = arena_format(call->arena, "%s.source.credential", prefix);
    RETURN_IF_ERROR(check_name(field, name, error));
    StoreRows rows;
    Status status = store_credential_get(transaction, call->arena, name, false, &rows, error);
    if (status == STATUS_NOT_FOUND) {
        error_set(error, REASON_INVALID, "there is no credential '%s'", name);
        error_field(error, "%s", field);
        return error_hint(error, "create the credential first");
    }
    RETURN_IF_ERROR(status);
    *ret_id = store_value(&rows, 0, "id");
    return STATUS_OK;
}

static Status check_placement(ServiceCall *call, const char *prefix,
                              const Holdfast__V1__Placement *placement, StoreShard *shard,
                              Error *error)
{
    shard->placement_provider = "local";
    shard->placement_region = "";
    shard->placement_zone = "";
    if (placement == NULL) {
        return STATUS_OK;
    }
    if (!text_is_empty(placement->provider) && !text_equal(placement->provider, "local")) {
        return invalid(error, prefix, "placement.provider", "use 'local', the only one there is");
    }
    RETURN_IF_ERROR(check_text(arena_format(call->arena, "%s.placement.region", prefix),
                               placement->region, LIMIT_NAME_BYTES, false, error));
    RETURN_IF_ERROR(check_text(arena_format(call->arena, "%s.placement.zone", prefix),
                               placement->zone, LIMIT_NAME_BYTES, false, error));
    shard->placement_region = placement->region;
    shard->placement_zone = placement->zone;
    return STATUS_OK;
}

Status shard_from_message(ServiceCall *call, StoreTransaction *transaction, const char *prefix,
                          const Holdfast__V1__Shard *body, const char *engine,
                          StoreShard *ret_shard, Error *error)
{
    StoreShard shard = {0};
    RETURN_IF_ERROR(check_body(prefix, body, error));
    RETURN_IF_ERROR(
        check_shard_name(arena_format(call->arena, "%s.name", prefix), body->name, error));
    RETURN_IF_ERROR(check_source(call, prefix, body->source, engine, &shard, error));
    RETURN_IF_ERROR(check_placement(call, prefix, body->placement, &shard, error));
    RETURN_IF_ERROR(check_credential(call, transaction, prefix, body->source->credential,
                                     &shard.source_credential_id, error));
    char *id = arena_alloc(call->arena, UUID_TEXT_SIZE);
    char *etag = arena_alloc(call->arena, 17);
    crypto_uuid(id);
    service_new_etag(etag);
    shard.id = id;
    shard.etag = etag;
    shard.name = body->name;
    *ret_shard = shard;
    return STATUS_OK;
}

static Status answer(ServiceCall *call, StoreTransaction *transaction, const char *database,
                     const char *name, ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_shard_get(transaction, call->arena, database, name, false, &rows, error));
    return service_answer_one(call, &rows, DESCRIPTOR, ret_response, error);
}

Status service_create_shard(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__CreateShardRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows database;
    RETURN_IF_ERROR(
        store_database_lock(transaction, call->arena, request->database, &database, error));
    StoreShard row;
    RETURN_IF_ERROR(shard_from_message(call, transaction, "shard", request->shard,
                                       store_value(&database, 0, "engine"), &row, error));
    row.database_id = store_value(&database, 0, "id");
    RETURN_IF_ERROR(store_shard_add(transaction, call->arena, &row, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, request->database, row.name, &response, error));
    store_event_add(transaction, &(StoreEventFields){.severity = "info",
                                                     .kind = "shard.created",
                                                     .database = request->database,
                                                     .shard = row.name,
                                                     .message = "The shard was added"});
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_get_shard(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                         ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__GetShardRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_shard_name("shard", request->shard, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return answer(call, transaction, request->database, request->shard, ret_response, error);
}

Status service_list_shards(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                           ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ListShardsRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    PageRequest list = {.list = arena_format(call->arena, "shards %s", request->database),
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 1,
                        .response = &holdfast__v1__list_shards_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    const char *database_id = NULL;
    RETURN_IF_ERROR(
        store_database_id(transaction, call->arena, request->database, &database_id, error));
    RETURN_IF_ERROR(store_shard_list(transaction, call->arena, database_id, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}

enum {
    MASK_HOST = 1,
    MASK_PORT = 2,
    MASK_CREDENTIAL = 4,
    MASK_TLS_MODE = 8,
    MASK_TLS_CA = 16,
    MASK_PROVIDER = 32,
    MASK_REGION = 64,
    MASK_ZONE = 128
};
#define MASK_SOURCE (MASK_HOST | MASK_PORT | MASK_CREDENTIAL | MASK_TLS_MODE | MASK_TLS_CA)
#define MASK_PLACEMENT (MASK_PROVIDER | MASK_REGION | MASK_ZONE)
static const MaskField MASK[] = {{"database", 0},
                                 {"name", 0},
                                 {"etag", 0},
                                 {"source", MASK_SOURCE},
                                 {"source.host", MASK_HOST},
                                 {"source.port", MASK_PORT},
                                 {"source.credential", MASK_CREDENTIAL},
                                 {"source.tls_mode", MASK_TLS_MODE},
                                 {"source.tls_ca", MASK_TLS_CA},
                                 {"placement", MASK_PLACEMENT},
                                 {"placement.provider", MASK_PROVIDER},
                                 {"placement.region", MASK_REGION},
                                 {"placement.zone", MASK_ZONE}};

// What the shard is to be: the current one with the masked fields of the body.
static Holdfast__V1__Shard *merge(ServiceCall *call, const ProtobufCMessage *current_message,
                                  const Holdfast__V1__Shard *body, unsigned bits)
{
    Holdfast__V1__Shard *merged =
        arena_copy(call->arena, current_message, sizeof(Holdfast__V1__Shard));
    Holdfast__V1__Source empty_source = HOLDFAST__V1__SOURCE__INIT;
    Holdfast__V1__Placement empty_placement = HOLDFAST__V1__PLACEMENT__INIT;
    const Holdfast__V1__Source *source = body->source != NULL ? body->source : &empty_source;
    const Holdfast__V1__Placement *placement =
        body->placement != NULL ? body->placement : &empty_placement;
    Holdfast__V1__Source *target = merged->source;
    target->host = (bits & MASK_HOST) != 0 ? source->host : target->host;
    target->port = (bits & MASK_PORT) != 0 ? source->port : target->port;
    target->credential = (bits & MASK_CREDENTIAL) != 0 ? source->credential : target->credential;
    target->tls_mode = (bits & MASK_TLS_MODE) != 0 ? source->tls_mode : target->tls_mode;
    target->tls_ca = (bits & MASK_TLS_CA) != 0 ? source->tls_ca : target->tls_ca;
    Holdfast__V1__Placement *place = merged->placement;
    place->provider = (bits & MASK_PROVIDER) != 0 ? placement->provider : place->provider;
    place->region = (bits & MASK_REGION) != 0 ? placement->region : place->region;
    place->zone = (bits & MASK_ZONE) != 0 ? placement->zone : place->zone;
    return merged;
}

Status service_update_shard(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__UpdateShardRequest *request = (const void *)message;
    const Holdfast__V1__Shard *body = request->shard;
    unsigned bits = 0;
    RETURN_IF_ERROR(check_body("shard", body, error));
    RETURN_IF_ERROR(check_name("shard.database", body->database, error));
    RETURN_IF_ERROR(check_shard_name("shard.name", body->name, error));
    RETURN_IF_ERROR(service_mask(request->update_mask, MASK, ARRAY_COUNT(MASK), &bits, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(store_shard_get(transaction, call->arena, body->database, body->name, true,
                                    &current, error));
    RETURN_IF_ERROR(service_check_etag(call, body->etag, store_value(&current, 0, "etag"), error));
    ProtobufCMessage *current_message = NULL;
    RETURN_IF_ERROR(service_answer_one(call, &current, DESCRIPTOR, &current_message, error));
    StoreShard row;
    RETURN_IF_ERROR(shard_from_message(call, transaction, "shard",
                                       merge(call, current_message, body, bits),
                                       store_value(&current, 0, "engine"), &row, error));
    row.id = store_value(&current, 0, "id");
    RETURN_IF_ERROR(store_shard_update(transaction, call->arena, &row, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, body->database, body->name, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_delete_shard(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__DeleteShardRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("database", request->database, error));
    RETURN_IF_ERROR(check_shard_name("shard", request->shard, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows database;
    StoreRows current;
    StoreRows uses;
    RETURN_IF_ERROR(
        store_database_lock(transaction, call->arena, request->database, &database, error));
    RETURN_IF_ERROR(store_shard_get(transaction, call->arena, request->database, request->shard,
                                    true, &current, error));
    RETURN_IF_ERROR(service_check_etag(call, "", store_value(&current, 0, "etag"), error));
    const char *id = store_value(&current, 0, "id");
    RETURN_IF_ERROR(store_shard_uses(transaction, call->arena, id, &uses, error));
    if (store_value(&uses, 0, "running_backup_id") != NULL) {
        error_set(error, REASON_BACKUP_RUNNING, "backup '%s' of the shard is running",
                  store_value(&uses, 0, "running_backup_id"));
        return error_hint(error, "cancel it, or wait for its end");
    }
    if (store_value(&uses, 0, "active_restore_id") != NULL) {
        error_set(error, REASON_IN_USE, "restore '%s' of the shard has not ended",
                  store_value(&uses, 0, "active_restore_id"));
        return error_hint(error, "stop it, or wait for its end");
    }
    RETURN_IF_ERROR(store_shard_delete(transaction, call->arena, id, error));
    store_event_add(transaction,
                    &(StoreEventFields){.severity = "warning",
                                        .kind = "shard.deleted",
                                        .database = request->database,
                                        .shard = request->shard,
                                        .subject_id = id,
                                        .message = "The shard was deleted; its backups stay"});
    return service_finish(service, call, &transaction, service_empty_response(call), ret_response,
                          error);
}
