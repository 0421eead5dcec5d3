// SPDX-License-Identifier: Apache-2.0
#include "common/text.h"
#include "server/service/credential_seal.h"
#include "server/service/service_internal.h"
#include "server/store/store_credential.h"

#include <string.h>

#define DESCRIPTOR (&holdfast__v1__credential__descriptor)
#define USERNAME_SIZE_MAX 128
#define PASSWORD_SIZE_MAX 4096 // a service account's key in JSON is one, too

static Status answer(ServiceCall *call, StoreTransaction *transaction, const char *name,
                     ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    RETURN_IF_ERROR(store_credential_get(transaction, call->arena, name, false, &rows, error));
    return service_answer_one(call, &rows, DESCRIPTOR, ret_response, error);
}

static Status check_password(const char *password, Error *error)
{
    // Its value must not get into an error, so no check_text.
    if (text_is_empty(password) || strlen(password) > PASSWORD_SIZE_MAX) {
        error_set(error, REASON_INVALID, "the password is missing or too long");
        error_field(error, "credential.password");
        return error_hint(error, "give a password of 1 to %d bytes", PASSWORD_SIZE_MAX);
    }
    return STATUS_OK;
}

Status service_create_credential(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__CreateCredentialRequest *request = (const void *)message;
    const Holdfast__V1__Credential *body = request->credential;
    RETURN_IF_ERROR(check_body("credential", body, error));
    RETURN_IF_ERROR(check_name("credential.name", body->name, error));
    RETURN_IF_ERROR(
        check_text("credential.username", body->username, USERNAME_SIZE_MAX, true, error));
    RETURN_IF_ERROR(check_password(body->password, error));
    char id[UUID_TEXT_SIZE];
    char etag[17];
    crypto_uuid(id);
    service_new_etag(etag);
    StoreCredential row = {.id = id, .name = body->name, .username = body->username, .etag = etag};
    row.password_sealed = credential_seal(service->secret_key, id, body->password, call->arena,
                                          &row.password_sealed_size);
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_credential_add(transaction, call->arena, &row, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, row.name, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_get_credential(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                              ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__GetCredentialRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("credential", request->credential, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    return answer(call, transaction, request->credential, ret_response, error);
}

Status service_list_credentials(Service *service, ServiceCall *call,
                                const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                Error *error)
{
    const Holdfast__V1__ListCredentialsRequest *request = (const void *)message;
    PageRequest list = {.list = "credentials",
                        .page_size = request->page_size,
                        .page_token = request->page_token,
                        .key_count = 1,
                        .response = &holdfast__v1__list_credentials_response__descriptor};
    StorePage page;
    StoreRows rows;
    RETURN_IF_ERROR(service_page_open(service, call, &list, &page, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    RETURN_IF_ERROR(store_credential_list(transaction, call->arena, &page, &rows, error));
    return service_page_answer(service, call, &list, &page, &rows, NULL, ret_response, error);
}

enum { MASK_USERNAME = 1, MASK_PASSWORD = 2 };
static const MaskField MASK[] = {
    {"name", 0}, {"etag", 0}, {"username", MASK_USERNAME}, {"password", MASK_PASSWORD}};

Status service_update_credential(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__UpdateCredentialRequest *request = (const void *)message;
    const Holdfast__V1__Credential *body = request->credential;
    unsigned bits = 0;
    RETURN_IF_ERROR(check_body("credential", body, error));
    RETURN_IF_ERROR(check_name("credential.name", body->name, error));
    RETURN_IF_ERROR(service_mask(request->update_mask, MASK, ARRAY_COUNT(MASK), &bits, error));
    char etag[17];
    service_new_etag(etag);
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(
        store_credential_get(transaction, call->arena, body->name, true, &current, error));
    RETURN_IF_ERROR(service_check_etag(call, body->etag, store_value(&current, 0, "etag"), error));
    StoreCredential row = {.id = store_value(&current, 0, "id"), .etag = etag};
    if ((bits & MASK_USERNAME) != 0) {
        RETURN_IF_ERROR(
            check_text("credential.username", body->username, USERNAME_SIZE_MAX, true, error));
        row.username = body->username;
    }
    if ((bits & MASK_PASSWORD) != 0) {
        RETURN_IF_ERROR(check_password(body->password, error));
        row.password_sealed = credential_seal(service->secret_key, row.id, body->password,
                                              call->arena, &row.password_sealed_size);
    }
    RETURN_IF_ERROR(store_credential_update(transaction, call->arena, &row, error));
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(answer(call, transaction, body->name, &response, error));
    return service_finish(service, call, &transaction, response, ret_response, error);
}

Status service_delete_credential(Service *service, ServiceCall *call,
                                 const ProtobufCMessage *message, ProtobufCMessage **ret_response,
                                 Error *error)
{
    const Holdfast__V1__DeleteCredentialRequest *request = (const void *)message;
    RETURN_IF_ERROR(check_name("credential", request->credential, error));
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(service->store, &transaction, error));
    StoreRows current;
    RETURN_IF_ERROR(
        store_credential_get(transaction, call->arena, request->credential, true, &current, error));
    RETURN_IF_ERROR(service_check_etag(call, "", store_value(&current, 0, "etag"), error));
    RETURN_IF_ERROR(store_credential_delete(
        transaction, call->arena, store_value(&current, 0, "id"), request->credential, error));
    return service_finish(service, call, &transaction, service_empty_response(call), ret_response,
                          error);
}
