// SPDX-License-Identifier: Apache-2.0
// Another wrapping key, and the end of data keys. No data is read or written.
//
// Rotation, in this order, so that at every moment the old key opens everything, or the new one
// does:
//   1. every data key is wrapped by the new key too, and that is opened and compared
//   2. the new key is written down as one that opens the repository
//   3. the old key is struck off: from now on nobody makes data keys under it (make_key looks)
//   4. data keys that were made since 1 are wrapped by the new key
//   5. the wrappings by the old key are removed
// Each step finds out from what is there what is left to do, so it may be killed and repeated.
#include "common/clock.h"
#include "common/memory.h"
#include "repository/repository_keys.h"

#include <stdio.h>
#include <string.h>

typedef struct Rotation {
    Repository *from, *to; // the same place through the old and the new key
    bool is_removing;
    RotateResult result;
} Rotation;

static Status remove_wrapping(Repository *repository, const KeyState *state,
                              const char *wrapping_id, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    key_wrapping_object_key(state->database_id, state->key_id, wrapping_id, object);
    return storage_remove(repository->storage, object, error);
}

static Status wrap_anew(Rotation *rotation, const KeyState *state, const Secret *key, Error *error)
{
    CLEANUP(secret_done) Secret again = {0};
    Status status = wrapping_write(rotation->to, state->database_id, state->key_id, key, error);
    if (status == STATUS_ALREADY_EXISTS) {
        error_clear(error); // by a rotation that runs beside this one
    } else {
        RETURN_IF_ERROR(status);
        rotation->result.rewrapped_count++;
    }
    RETURN_IF_ERROR(wrapping_read(rotation->to, state->database_id, state->key_id, &again, error));
    if (!crypto_equal(again.data, key->data, key->size)) {
        return error_set(error, REASON_OBJECT_CORRUPT,
                         "data key '%s' came back from %s as another key", state->key_id,
                         key_wrapper_name(rotation->to->wrapper));
    }
    // A destruction that ran beside this one has not seen the new wrapping.
    char object[OBJECT_KEY_SIZE];
    StorageObject facts;
    key_destroyed_object_key(state->database_id, state->key_id, object);
    status = storage_stat(rotation->to->storage, object, &facts, error);
    if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(status);
    return remove_wrapping(rotation->to, state, key_wrapper_id(rotation->to->wrapper), error);
}

// Whether the new wrapping is there and holds `key`; one that is damaged is removed.
static Status compare_new(Rotation *rotation, const KeyState *state, const Secret *key,
                          bool *ret_is_good, Error *error)
{
    CLEANUP(secret_done) Secret other = {0};
    *ret_is_good = false;
    Status status = wrapping_read(rotation->to, state->database_id, state->key_id, &other, error);
    if (status == STATUS_NOT_FOUND) {
        error_clear(error);
        return STATUS_OK;
    }
    if (status != STATUS_OK && error->status != STATUS_DATA_LOSS) {
        return status;
    }
    if (status == STATUS_OK && crypto_equal(other.data, key->data, key->size)) {
        *ret_is_good = true;
        return STATUS_OK;
    }
    error_clear(error);
    return remove_wrapping(rotation->to, state, key_wrapper_id(rotation->to->wrapper), error);
}

static Status rotate_key(void *context, const KeyState *state, Error *error)
{
    Rotation *rotation = context;
    const char *old_id = key_wrapper_id(rotation->from->wrapper);
    const char *new_id = key_wrapper_id(rotation->to->wrapper);
    if (state->is_destroyed) {
        for (size_t i = 0; i < state->wrapping_count; i++) {
            RETURN_IF_ERROR(remove_wrapping(rotation->to, state, state->wrappings[i], error));
        }
        return STATUS_OK;
    }
    rotation->result.key_count++;
    if (!key_state_has(state, old_id)) {
        rotation->result.lost_count += key_state_has(state, new_id) ? 0 : 1;
        return STATUS_OK;
    }
    CLEANUP(secret_done) Secret key = {0};
    bool is_good = false;
    Status status = wrapping_read(rotation->from, state->database_id, state->key_id, &key, error);
    if (status == STATUS_DATA_LOSS && key_state_has(state, new_id)) {
        // It never became the key (write_record), or is damaged: the new wrapping decides.
        Error old_error = *error;
        error_clear(error);
        status = wrapping_read(rotation->to, state->database_id, state->key_id, &key, error);
        *error = status == STATUS_DATA_LOSS ? old_error : *error;
    }
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(compare_new(rotation, state, &key, &is_good, error));
    if (!is_good) {
        RETURN_IF_ERROR(wrap_anew(rotation, state, &key, error));
    }
    if (!rotation->is_removing) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(remove_wrapping(rotation->from, state, old_id, error));
    rotation->result.removed_count++;
    return STATUS_OK;
}

static Status pass(Rotation *rotation, bool is_removing, Error *error)
{
    rotation->is_removing = is_removing;
    rotation->result.key_count = 0;
    rotation->result.lost_count = 0;
    return each_data_key(rotation->from, NULL, rotate_key, rotation, error);
}

static Status strike_off(Rotation *rotation, Error *error)
{
    char object[OBJECT_KEY_SIZE];
    wrapping_key_object_key(key_wrapper_id(rotation->from->wrapper), object);
    return storage_remove(rotation->from->storage, object, error);
}

static Status rotation_check(const Rotation *rotation, Error *error)
{
    bool is_old_known = false;
    bool is_new_known = false;
    RETURN_IF_ERROR(wrapping_key_is_known(rotation->from, &is_old_known, error));
    RETURN_IF_ERROR(wrapping_key_is_known(rotation->to, &is_new_known, error));
    if (!is_old_known && !is_new_known) {
        return wrapping_key_wrong(rotation->from, error);
    }
    return STATUS_OK;
}

static Status rotation_begin(Storage *storage, KeyWrapper *from, KeyWrapper *to,
                             Rotation *ret_rotation, Error *error)
{
    if (strcmp(key_wrapper_id(from), key_wrapper_id(to)) == 0) {
        error_set(error, REASON_INVALID, "the new key is the one that the repository has: %s",
                  key_wrapper_name(to));
        return error_hint(error, "make another one, for example with: holdfast repository "
                                 "create-key --key-file FILE");
    }
    Rotation rotation = {0};
    RETURN_IF_ERROR(repository_borrow(storage, from, &rotation.from, error));
    Status status = repository_borrow(storage, to, &rotation.to, error);
    if (status == STATUS_OK) {
        status = rotation_check(&rotation, error);
    }
    if (status != STATUS_OK) {
        repository_return(rotation.from);
        repository_return(rotation.to);
        return status;
    }
    *ret_rotation = rotation;
    return STATUS_OK;
}

static Status rotation_end(Rotation *rotation, Status status, RotateResult *ret_result)
{
    repository_return(rotation->from);
    repository_return(rotation->to);
    if (status == STATUS_OK) {
        *ret_result = rotation->result;
    }
    return status;
}

Status repository_add_wrapping_key(Storage *storage, KeyWrapper *from, KeyWrapper *to,
                                   RotateResult *ret_result, Error *error)
{
    Rotation rotation;
    RETURN_IF_ERROR(rotation_begin(storage, from, to, &rotation, error));
    Status status = pass(&rotation, false, error);
    if (status == STATUS_OK) {
        status = wrapping_key_write(rotation.to, error);
    }
    return rotation_end(&rotation, status, ret_result);
}

static Status remove_old(Rotation *rotation, Error *error)
{
    bool is_new_known = false;
    RETURN_IF_ERROR(wrapping_key_is_known(rotation->to, &is_new_known, error));
    if (!is_new_known) {
        return error_set(error, REASON_PRECONDITION, "%s does not open everything yet",
                         key_wrapper_name(rotation->to->wrapper));
    }
    RETURN_IF_ERROR(strike_off(rotation, error));
    RETURN_IF_ERROR(pass(rotation, false, error));
    return pass(rotation, true, error);
}

Status repository_remove_wrapping_key(Storage *storage, KeyWrapper *from, KeyWrapper *to,
                                      RotateResult *ret_result, Error *error)
{
    Rotation rotation;
    RETURN_IF_ERROR(rotation_begin(storage, from, to, &rotation, error));
    return rotation_end(&rotation, remove_old(&rotation, error), ret_result);
}

// --- destroying -------------------------------------------------------------------------------

typedef struct Destruction {
    Repository *repository;
    const char *key_id; // NULL: every key
    DestroyResult result;
    size_t left_count; // wrappings seen in a pass
} Destruction;

static bool is_meant(const Destruction *destruction, const KeyState *state)
{
    return destruction->key_id == NULL || strcmp(destruction->key_id, state->key_id) == 0;
}

// First it is written that the key is gone: a reader of what is left over is told so, and a killed
// destruction is known to be one.
static Status mark_destroyed(void *context, const KeyState *state, Error *error)
{
    Destruction *destruction = context;
    char object[OBJECT_KEY_SIZE];
    char moment[TIME_TEXT_SIZE];
    if (!is_meant(destruction, state) || state->is_destroyed) {
        return STATUS_OK;
    }
    time_format(clock_now_us(), moment);
    CLEANUP(json_freep) Json *json = json_new_object();
    CLEANUP(buffer_done) Buffer text = {0};
    json_set_text(json, "destroyed", moment);
    buffer_init(&text, DESTROYED_SIZE_MAX);
    (void)json_write(json, false, &text); // fits
    key_destroyed_object_key(state->database_id, state->key_id, object);
    const StorageWriteOptions options = {.is_create_only = true};
    Status status = storage_put(destruction->repository->storage, object, text.data, text.size,
                                &options, error);
    if (status == STATUS_ALREADY_EXISTS) {
        error_clear(error);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(status);
    destruction->result.key_count++;
    return STATUS_OK;
}

static Status remove_wrappings(void *context, const KeyState *state, Error *error)
{
    Destruction *destruction = context;
    for (size_t i = 0; is_meant(destruction, state) && i < state->wrapping_count; i++) {
        destruction->left_count++;
        RETURN_IF_ERROR(
            remove_wrapping(destruction->repository, state, state->wrappings[i], error));
        destruction->result.wrapping_count++;
    }
    return STATUS_OK;
}

Status repository_destroy_data_keys(Repository *repository, const char *database_id,
                                    const char *key_id, DestroyResult *ret_result, Error *error)
{
    Destruction destruction = {.repository = repository, .key_id = key_id};
    RETURN_IF_ERROR(id_check(database_id, "database", error));
    if (key_id != NULL) {
        RETURN_IF_ERROR(id_check(key_id, "data key", error));
    }
    RETURN_IF_ERROR(each_data_key(repository, database_id, mark_destroyed, &destruction, error));
    do {
        destruction.left_count = 0;
        RETURN_IF_ERROR(
            each_data_key(repository, database_id, remove_wrappings, &destruction, error));
    } while (destruction.left_count > 0);
    *ret_result = destruction.result;
    return STATUS_OK;
}
