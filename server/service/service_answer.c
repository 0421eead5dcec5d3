// SPDX-License-Identifier: Apache-2.0
// Answers: one message, pages with signed tokens, etags.
#include "common/limits.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/service_internal.h"
#include "server/store/store_database.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PAGE_MAC_SIZE 16

Status service_answer_one(ServiceCall *call, const StoreRows *rows,
                          const ProtobufCMessageDescriptor *descriptor,
                          ProtobufCMessage **ret_response, Error *error)
{
    assert(rows->count == 1);
    ProtobufCMessage **messages = NULL;
    RETURN_IF_ERROR(store_messages(rows, call->arena, descriptor, &messages, error));
    *ret_response = messages[0];
    return STATUS_OK;
}

ProtobufCMessage *service_empty_response(ServiceCall *call)
{
    return message_new(call->arena, &holdfast__v1__delete_response__descriptor);
}

void service_new_etag(char ret_etag[17])
{
    uint8_t random[8];
    crypto_random(random, sizeof(random));
    hex_encode(random, sizeof(random), ret_etag);
}

// One of an If-Match list: "*", "etag" in quotes or not, with or without W/.
static bool etag_matches(const char *list, const char *current)
{
    size_t current_size = strlen(current);
    while (*list != '\0') {
        list += strspn(list, " \t,");
        size_t size = strcspn(list, ",");
        const char *item = list;
        list += size;
        while (size > 0 && (item[size - 1] == ' ' || item[size - 1] == '\t')) {
            size--;
        }
        if (size == 1 && item[0] == '*') {
            return true;
        }
        if (size >= 2 && strncmp(item, "W/", 2) == 0) {
            item += 2;
            size -= 2;
        }
        if (size >= 2 && item[0] == '"' && item[size - 1] == '"') {
            item++;
            size -= 2;
        }
        if (size == current_size && memcmp(item, current, size) == 0) {
            return true;
        }
    }
    return false;
}

Status service_check_etag(const ServiceCall *call, const char *body_etag, const char *current_etag,
                          Error *error)
{
    bool is_header_fine =
        text_is_empty(call->if_match) || etag_matches(call->if_match, current_etag);
    bool is_body_fine = text_is_empty(body_etag) || etag_matches(body_etag, current_etag);
    if (is_header_fine && is_body_fine) {
        return STATUS_OK;
    }
    error_set(error, REASON_ETAG_MISMATCH, "it has changed since it was read");
    error_field(error, is_header_fine ? "etag" : "If-Match");
    return error_hint(error, "read it again, look at what changed, and repeat with the new etag");
}

// --- page tokens: base64url(MAC || key 1 || NUL || key 2). The MAC covers the list's name and
// filters, so that a token made up, or taken from another list, is refused before it gets anywhere
// near a statement.

static void page_mac(const Service *service, Arena *arena, const char *list, const void *keys,
                     size_t keys_size, uint8_t ret_mac[PAGE_MAC_SIZE])
{
    size_t list_size = strlen(list) + 1;
    uint8_t *text = arena_alloc(arena, list_size + keys_size);
    memcpy(text, list, list_size);
    memcpy(text + list_size, keys, keys_size);
    uint8_t digest[SHA256_SIZE];
    crypto_hmac_sha256(service->page_key, sizeof(service->page_key), text, list_size + keys_size,
                       digest);
    memcpy(ret_mac, digest, PAGE_MAC_SIZE);
}

static Status token_read(Service *service, ServiceCall *call, const PageRequest *request,
                         StorePage *page, Error *error)
{
    uint8_t *data = NULL;
    size_t size = 0;
    bool is_good = strlen(request->page_token) <= LIMIT_TEXT_BYTES &&
                   base64url_decode(call->arena, request->page_token, &data, &size) &&
                   size > PAGE_MAC_SIZE;
    if (is_good) {
        uint8_t mac[PAGE_MAC_SIZE];
        page_mac(service, call->arena, request->list, data + PAGE_MAC_SIZE, size - PAGE_MAC_SIZE,
                 mac);
        is_good = crypto_equal(mac, data, PAGE_MAC_SIZE);
    }
    if (!is_good) {
        error_set(error, REASON_INVALID, "the page token is not one of this list");
        error_field(error, "page_token");
        return error_hint(error, "use next_page_token of the page before, with the same filters; "
                                 "leave it out for the first page");
    }
    const char *keys =
        arena_string_n(call->arena, (const char *)data + PAGE_MAC_SIZE, size - PAGE_MAC_SIZE);
    page->after[0] = keys;
    page->after[1] = request->key_count == 2 ? keys + strlen(keys) + 1 : NULL;
    return STATUS_OK;
}

Status service_page_open(Service *service, ServiceCall *call, const PageRequest *request,
                         StorePage *ret_page, Error *error)
{
    if (request->page_size < 0 || request->page_size > LIMIT_PAGE_SIZE) {
        error_set(error, REASON_INVALID, "page_size is %d", request->page_size);
        error_field(error, "page_size");
        return error_hint(error, "use 1 to %d; left out it is %d", LIMIT_PAGE_SIZE,
                          LIMIT_PAGE_SIZE_DEFAULT);
    }
    int page_size = request->page_size > 0 ? request->page_size : LIMIT_PAGE_SIZE_DEFAULT;
    StorePage page = {.limit = page_size + 1};
    if (!text_is_empty(request->page_token)) {
        RETURN_IF_ERROR(token_read(service, call, request, &page, error));
    }
    *ret_page = page;
    return STATUS_OK;
}

Status service_list_begin(Service *service, ServiceCall *call, const char *database,
                          StoreTransaction **ret_transaction, const char **ret_database_id,
                          Error *error)
{
    *ret_database_id = NULL;
    if (text_is_empty(database)) {
        return store_begin(service->store, ret_transaction, error);
    }
    RETURN_IF_ERROR(check_name("database", database, error));
    RETURN_IF_ERROR(store_begin(service->store, ret_transaction, error));
    return store_database_id(*ret_transaction, call->arena, database, ret_database_id, error);
}

static char *token_write(Service *service, ServiceCall *call, const PageRequest *request,
                         const StoreRows *rows, int row)
{
    const char *first = store_value(rows, row, "page_key_1");
    const char *second = request->key_count == 2 ? store_value(rows, row, "page_key_2") : NULL;
    size_t first_size = strlen(first);
    size_t keys_size = first_size + (second != NULL ? strlen(second) + 1 : 0);
    uint8_t *data = arena_alloc(call->arena, PAGE_MAC_SIZE + keys_size + 1);
    memcpy(data + PAGE_MAC_SIZE, first, first_size);
    if (second != NULL) {
        memcpy(data + PAGE_MAC_SIZE + first_size + 1, second, strlen(second));
    }
    page_mac(service, call->arena, request->list, data + PAGE_MAC_SIZE, keys_size, data);
    return base64url_encode(call->arena, data, PAGE_MAC_SIZE + keys_size);
}

Status service_page_answer(Service *service, ServiceCall *call, const PageRequest *request,
                           const StorePage *page, StoreRows *rows, ProtobufCMessage **messages,
                           ProtobufCMessage **ret_response, Error *error)
{
    ProtobufCMessage *response = message_new(call->arena, request->response);
    const ProtobufCFieldDescriptor *items = &request->response->fields[0];
    const ProtobufCFieldDescriptor *next =
        protobuf_c_message_descriptor_get_field_by_name(request->response, "next_page_token");
    assert(items->label == PROTOBUF_C_LABEL_REPEATED);
    assert(next != NULL);
    if (rows->count == page->limit) {
        rows->count--;
        *(void **)((void *)((uint8_t *)response + next->offset)) =
            token_write(service, call, request, rows, rows->count - 1);
    }
    if (messages == NULL) {
        RETURN_IF_ERROR(store_messages(rows, call->arena, items->descriptor, &messages, error));
    }
    *(size_t *)((void *)((uint8_t *)response + items->quantifier_offset)) = (size_t)rows->count;
    *(void **)((void *)((uint8_t *)response + items->offset)) = messages;
    *ret_response = response;
    return STATUS_OK;
}
