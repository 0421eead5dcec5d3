// SPDX-License-Identifier: Apache-2.0
// What the use cases share: the Service, the frame of a handler, checks of fields, pages, answers.
// Only server/service includes it.
#pragma once

#include "common/crypto.h"
#include "holdfast/v1/holdfast.pb-c.h"
#include "server/service/event_stream.h"
#include "server/service/service.h"
#include "server/service/time_zones.h"
#include "server/store/store.h"

typedef struct EventHub EventHub;
typedef struct MetricsCache MetricsCache;

struct Service {
    Store *store;
    char *server_id;
    char *agent_program;
    bool is_embedded;
    int64_t idempotency_keep_ms;
    int64_t started_us;
    Status (*open_storage)(const StorageOptions *options, Storage **ret_storage, Error *error);
    const Secret *secret_key;          // borrowed
    uint8_t page_key[AES256_KEY_SIZE]; // signs page tokens
    TimeZones *time_zones;
    EventHub *event_hub;
    MetricsCache *metrics_cache;
};

// The handlers of methods.def.
#define METHOD(name, snake, request, response, role, is_mutation)                                  \
    Status service_##snake(Service *service, ServiceCall *call, const ProtobufCMessage *message,   \
                           ProtobufCMessage **ret_response, Error *error);
#include "server/service/methods.def"
#undef METHOD

// --- answers ---
// The one row as a message.
Status service_answer_one(ServiceCall *call, const StoreRows *rows,
                          const ProtobufCMessageDescriptor *descriptor,
                          ProtobufCMessage **ret_response, Error *error);
// Ends a mutation: stores the answer under the call's idempotency key and commits, in one
// transaction.
Status service_finish(Service *service, ServiceCall *call, StoreTransaction **transaction,
                      ProtobufCMessage *response, ProtobufCMessage **ret_response, Error *error);
ProtobufCMessage *service_empty_response(ServiceCall *call); // DeleteResponse
void service_new_etag(char ret_etag[17]);
// If-Match, and the etag that a body may carry: REASON_ETAG_MISMATCH when one is given and is not
// the current one.
Status service_check_etag(const ServiceCall *call, const char *body_etag, const char *current_etag,
                          Error *error);

// --- lists ---
typedef struct PageRequest {
    const char
        *list; // the RPC's name and its filters as one text: a token is good for this list alone
    int32_t page_size;
    const char *page_token;
    int key_count;                              // 1 or 2
    const ProtobufCMessageDescriptor *response; // first field: the items; next_page_token
} PageRequest;
// REASON_INVALID with the field for a page_size over the limit or a token that is not of this list.
// The store's limit is one more than the page's, which tells whether there is a next one.
Status service_page_open(Service *service, ServiceCall *call, const PageRequest *request,
                         StorePage *ret_page, Error *error);
// Begins the transaction of a list of one database's items, or of every one's when `database` is
// empty: then *ret_database_id is NULL.
Status service_list_begin(Service *service, ServiceCall *call, const char *database,
                          StoreTransaction **ret_transaction, const char **ret_database_id,
                          Error *error);
// `messages` may be NULL: made from the rows.
Status service_page_answer(Service *service, ServiceCall *call, const PageRequest *request,
                           const StorePage *page, StoreRows *rows, ProtobufCMessage **messages,
                           ProtobufCMessage **ret_response, Error *error);

// --- checks; each failure is REASON_INVALID with the field's path and a cure ---
Status check_name(const char *field, const char *value, Error *error); // a label; also in paths
Status check_body(const char *field, const void *body,
                  Error *error); // the request's resource is there
Status check_id(const char *field, const char *value,
                Error *error); // a UUID: REASON_NOT_FOUND when it cannot be one
Status check_text(const char *field, const char *value, size_t size_max, bool is_required,
                  Error *error);
Status check_absolute_path(const char *field, const char *value, Error *error);
Status check_key(ServiceCall *call, Error *error); // the idempotency key's form
// Seconds of a Duration, in microseconds. NULL gives the fallback.
Status check_duration(const char *field, const Google__Protobuf__Duration *duration,
                      int64_t minimum_s, int64_t maximum_s, int64_t fallback_us,
                      int64_t *ret_duration_us, Error *error);
Google__Protobuf__Timestamp *service_timestamp(Arena *arena, int64_t time_us);

// --- update masks ---
typedef struct MaskField {
    const char *path;
    int bit; // 0: allowed but without effect, like the name in a body
} MaskField;
// The bits of the paths. REASON_INVALID for an empty mask and for paths that are not in the table;
// "*" is every bit.
Status service_mask(const Google__Protobuf__FieldMask *mask, const MaskField *fields,
                    size_t field_count, unsigned *ret_bits, Error *error);

// --- events ---
Status event_hub_new(Store *store, EventHub **ret_hub, Error *error);
void event_hub_free(EventHub *hub); // every subscription must be closed
