// SPDX-License-Identifier: Apache-2.0
// An instance: placed, launched, destroyed and observed gone. The row always says what is meant
// before the provisioner is asked; the provisioner is asked again until what is there is what is
// meant.
#define LOG_MODULE "worker"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/store/store_agent.h"
#include "server/store/store_instance.h"
#include "server/worker/worker_internal.h"

#include <assert.h>
#include <string.h>

#define LAUNCH_TRIES_MAX 4
#define GONE_LOOK_MS 200
#define JOIN_LOOK_MS 2000
#define RESTORE_LIFETIME_MS                                                                        \
    (3650 * 86400 * INT64_C(1000)) // restored servers run until somebody stops them

static Status read_instance(const WorkStep *step, InstanceRow **ret_row, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(
        store_instance_lock(transaction, step->arena, step->item->subject_id, ret_row, error));
    return store_commit(&transaction, error);
}

Status work_instance_place(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    InstanceRow *row = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(
        store_instance_lock(transaction, step->arena, step->item->subject_id, &row, error));
    *ret_next_ms = WORK_DONE;
    if (row == NULL || text_equal(row->state, "destroyed")) {
        return STATUS_OK;
    }
    if (row->is_destroy_requested && row->home[0] == '\0') {
        // Nobody has been asked to launch it: there is nothing to observe.
        RETURN_IF_ERROR(store_instance_destroyed(transaction, row->id, error));
        return store_commit(&transaction, error);
    }
    RETURN_IF_ERROR(store_instance_place(transaction, row->id, step->options->server_id, error));
    return store_commit(&transaction, error);
}

static Status launch(const WorkStep *step, const InstanceRow *row,
                     char ret_provider_id[PROVIDER_ID_SIZE], Error *error)
{
    const WorkerOptions *options = step->options;
    const char *addresses = "";
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(options->store, &transaction, error));
        RETURN_IF_ERROR(store_server_addresses(transaction, step->arena, options->server_id,
                                               &addresses, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    CLEANUP(secret_done) Secret secret = worker_join_secret(options, row->id);
    LaunchSpec spec = {.instance_id = row->id,
                       .server_addresses = addresses,
                       .certificate_pem = options->certificate_pem,
                       .server_name = options->certificate_name,
                       .join_secret = &secret,
                       .region = row->region,
                       .zone = row->zone,
                       .deadman_ms = options->deadman_ms,
                       // Restored servers run until somebody stops them.
                       .lifetime_ms =
                           text_equal(row->purpose, "backup") ? options->lifetime_ms : 0};
    return provisioner_launch(options->provisioner, row->provider, &spec, ret_provider_id, error);
}

// It cannot be launched: whoever wanted it is told, through the instance that goes away.
static Status give_up(const WorkStep *step, const InstanceRow *row, const Error *cause,
                      Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    const char *message = cause->hint[0] == '\0'
                              ? arena_format(step->arena, "%s", cause->message)
                              : arena_format(step->arena, "%s (%s)", cause->message, cause->hint);
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_instance_request_destroy(transaction, row->id, message, error));
    RETURN_IF_ERROR(store_work_add(transaction, row->backup_id != NULL ? WORK_BACKUP : WORK_RESTORE,
                                   row->backup_id != NULL ? row->backup_id : row->subject_id, 0,
                                   error));
    return store_commit(&transaction, error);
}

static Status bring_up(const WorkStep *step, const InstanceRow *row, int64_t *ret_next_ms,
                       Error *error)
{
    char provider_id[PROVIDER_ID_SIZE];
    Status status = launch(step, row, provider_id, error);
    if (status != STATUS_OK) {
        if (step->item->tries + 1 < LAUNCH_TRIES_MAX && error->reason != REASON_INVALID) {
            return error_wrap(error, "launching instance %s", row->id);
        }
        Error cause = *error;
        error_clear(error);
        log_error_record(LOG_ERROR, LOG_MODULE, &cause, "an instance could not be launched",
                         "instance", row->id, NULL);
        *ret_next_ms = 0; // now it is to be destroyed
        return give_up(step, row, &cause, error);
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_instance_launched(transaction, row->id, step->options->server_id,
                                            provider_id, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    log_info("an instance is launched", "instance", row->id, "provider", row->provider,
             "provider_id", provider_id, NULL);
    *ret_next_ms = JOIN_LOOK_MS;
    return STATUS_OK;
}

// Does it run? Is anything of it left?
static Status look_for(const WorkStep *step, const InstanceRow *row, bool *ret_is_there,
                       bool *ret_is_running, Error *error)
{
    ComputeInstance *instances = NULL;
    size_t count = 0;
    *ret_is_there = false;
    *ret_is_running = false;
    RETURN_IF_ERROR(provisioner_list(step->options->provisioner, row->provider, step->arena,
                                     &instances, &count, error));
    for (size_t i = 0; i < count; i++) {
        if (text_equal(instances[i].instance_id, row->id)) {
            *ret_is_there = true;
            *ret_is_running = instances[i].is_running;
        }
    }
    return STATUS_OK;
}

static Status take_down(const WorkStep *step, const InstanceRow *row, int64_t *ret_next_ms,
                        Error *error)
{
    bool is_there = false;
    bool is_running = false;
    RETURN_IF_ERROR(
        provisioner_terminate(step->options->provisioner, row->provider, row->id, error));
    RETURN_IF_ERROR(look_for(step, row, &is_there, &is_running, error));
    if (is_there) {
        *ret_next_ms = GONE_LOOK_MS;
        return STATUS_OK;
    }
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(step->options->store, &transaction, error));
    RETURN_IF_ERROR(store_instance_destroyed(transaction, row->id, error));
    if (text_equal(row->purpose, "backup")) {
        // What it may have left at the source can only be removed once it is surely gone.
        RETURN_IF_ERROR(
            store_work_add(transaction, WORK_FORGET_SOURCE, row->shard_id, 1000, error));
    }
    RETURN_IF_ERROR(store_commit(&transaction, error));
    log_info("an instance is gone", "instance", row->id, NULL);
    *ret_next_ms = WORK_DONE;
    return STATUS_OK;
}

// It should run. Until it has joined it is looked at; after that its stream ending brings us here.
static Status watch(const WorkStep *step, const InstanceRow *row, int64_t *ret_next_ms,
                    Error *error)
{
    bool is_there = false;
    bool is_running = false;
    RETURN_IF_ERROR(look_for(step, row, &is_there, &is_running, error));
    if (!is_running) {
        *ret_next_ms = 0;
        return worker_lose_instance(step, row, error);
    }
    *ret_next_ms = text_equal(row->state, "joined") ? WORK_DONE : JOIN_LOOK_MS;
    return STATUS_OK;
}

Status work_instance(const WorkStep *step, int64_t *ret_next_ms, Error *error)
{
    InstanceRow *row = NULL;
    RETURN_IF_ERROR(read_instance(step, &row, error));
    *ret_next_ms = WORK_DONE;
    if (row == NULL || text_equal(row->state, "destroyed")) {
        return STATUS_OK; // what still runs of it is a stray, for the sweep
    }
    if (row->is_destroy_requested) {
        return take_down(step, row, ret_next_ms, error);
    }
    if (text_equal(row->state, "intended")) {
        return bring_up(step, row, ret_next_ms, error);
    }
    return watch(step, row, ret_next_ms, error);
}
