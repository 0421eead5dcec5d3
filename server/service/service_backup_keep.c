// SPDX-License-Identifier: Apache-2.0
// Keeping a backup whatever its policy says: pins, which end by themselves or by hand, and legal
// holds, which only a release ends.
#include "common/text.h"
#include "server/service/service_internal.h"
#include "server/store/store_backup.h"
#include "server/store/store_event.h"
#include "server/store/store_policy.h"

#define NOTE_SIZE_MAX 1024
#define US_PER_SECOND INT64_C(1000000)
#define UNTIL_SECONDS_MAX INT64_C(7258118400) // 2200

// Begins a transaction that locks a backup that can still be kept.
static Status begin(Service *service, ServiceCall *call, const char *id, const char *note,
                    StoreTransaction **ret_transaction, StoreRows *ret_rows, Error *error)
{
    RETURN_IF_ERROR(check_id("backup", id, error));
    RETURN_IF_ERROR(check_text("note", note, NOTE_SIZE_MAX, false, error));
    RETURN_IF_ERROR(store_begin(service->store, ret_transaction, error));
    RETURN_IF_ERROR(store_backup_lock(*ret_transaction, call->arena, id, ret_rows, error));
    const char *state = store_value(ret_rows, 0, "state");
    if (text_equal(state, "deleting") || text_equal(state, "deleted")) {
        error_set(error, REASON_PRECONDITION, "the backup is '%s'", state);
        return error_hint(error, "choose a backup that was not deleted");
    }
    return STATUS_OK;
}

static Status finish(Service *service, ServiceCall *call, StoreTransaction **transaction,
                     const char *id, ProtobufCMessage **ret_response, Error *error)
{
    StoreRows rows;
    ProtobufCMessage *response = NULL;
    RETURN_IF_ERROR(store_backup_get(*transaction, call->arena, id, &rows, error));
    RETURN_IF_ERROR(
        service_answer_one(call, &rows, &holdfast__v1__backup__descriptor, &response, error));
    return service_finish(service, call, transaction, response, ret_response, error);
}

static void add_event(StoreTransaction *transaction, const StoreRows *backup, const char *severity,
                      const char *kind, const char *message)
{
    store_event_add(transaction, &(StoreEventFields){.severity = severity,
                                                     .kind = kind,
                                                     .database = store_value(backup, 0, "database"),
                                                     .backup_id = store_value(backup, 0, "id"),
                                                     .message = message});
}

static const char *with_note(Arena *arena, const char *sentence, const char *note)
{
    return text_is_empty(note) ? sentence : arena_format(arena, "%s: %s", sentence, note);
}

// ret_until: a timestamptz, or NULL for no end.
static Status read_until(ServiceCall *call, StoreTransaction *transaction,
                         const Google__Protobuf__Timestamp *until, const char **ret_until,
                         Error *error)
{
    int64_t now_us = 0;
    *ret_until = NULL;
    if (until == NULL) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(store_now(transaction, &now_us, error));
    if (until->seconds > UNTIL_SECONDS_MAX || until->nanos < 0 || until->nanos > 999999999 ||
        until->seconds <= now_us / US_PER_SECOND) {
        error_set(error, REASON_INVALID, "'until' is not a time to come");
        error_field(error, "until");
        return error_hint(error, "use a time between now and 2200, or leave it out to pin the "
                                 "backup until it is unpinned");
    }
    *ret_until =
        store_time_parameter(call->arena, until->seconds * US_PER_SECOND + until->nanos / 1000);
    return STATUS_OK;
}

Status service_pin_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                          ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__PinBackupRequest *request = (const void *)message;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreRows backup;
    const char *until = NULL;
    RETURN_IF_ERROR(
        begin(service, call, request->backup, request->note, &transaction, &backup, error));
    RETURN_IF_ERROR(read_until(call, transaction, request->until, &until, error));
    RETURN_IF_ERROR(store_backup_pin(transaction, call->arena, request->backup, true, until,
                                     request->note, error));
    const char *sentence = until == NULL
                               ? "A backup was pinned"
                               : arena_format(call->arena, "A backup was pinned until %s", until);
    add_event(transaction, &backup, "info", "backup.pinned",
              with_note(call->arena, sentence, request->note));
    return finish(service, call, &transaction, request->backup, ret_response, error);
}

Status service_unpin_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                            ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__UnpinBackupRequest *request = (const void *)message;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreRows backup;
    RETURN_IF_ERROR(begin(service, call, request->backup, "", &transaction, &backup, error));
    if (store_boolean(&backup, 0, "is_pinned")) {
        RETURN_IF_ERROR(
            store_backup_pin(transaction, call->arena, request->backup, false, NULL, "", error));
        add_event(transaction, &backup, "info", "backup.unpinned",
                  "A backup was unpinned; its policy decides again");
    }
    return finish(service, call, &transaction, request->backup, ret_response, error);
}

Status service_hold_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                           ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__HoldBackupRequest *request = (const void *)message;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreRows backup;
    RETURN_IF_ERROR(
        begin(service, call, request->backup, request->note, &transaction, &backup, error));
    RETURN_IF_ERROR(
        store_backup_hold(transaction, call->arena, request->backup, true, request->note, error));
    add_event(transaction, &backup, "warning", "backup.held",
              with_note(call->arena, "A backup was put on legal hold", request->note));
    return finish(service, call, &transaction, request->backup, ret_response, error);
}

Status service_release_backup(Service *service, ServiceCall *call, const ProtobufCMessage *message,
                              ProtobufCMessage **ret_response, Error *error)
{
    const Holdfast__V1__ReleaseBackupRequest *request = (const void *)message;
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    StoreRows backup;
    RETURN_IF_ERROR(
        begin(service, call, request->backup, request->note, &transaction, &backup, error));
    if (store_boolean(&backup, 0, "is_held")) {
        RETURN_IF_ERROR(
            store_backup_hold(transaction, call->arena, request->backup, false, "", error));
        add_event(transaction, &backup, "warning", "backup.released",
                  with_note(call->arena, "The legal hold of a backup was ended", request->note));
    }
    return finish(service, call, &transaction, request->backup, ret_response, error);
}
