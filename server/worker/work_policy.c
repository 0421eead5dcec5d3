// SPDX-License-Identifier: Apache-2.0
// Policies that are due fire. The slot, not the moment, is the identity: backup, record and next
// slot are one transaction, under the lock of the policy's due row, so that a slot fires once
// whatever the number of servers, restarts and repetitions.
//
// Slots that were missed (no server was there) collapse into the latest one; the earlier ones are
// recorded as such.
#define LOG_MODULE "worker"
#include "common/clock.h"
#include "common/log.h"
#include "common/text.h"
#include "server/store/store_backup.h"
#include "server/store/store_work_policy.h"
#include "server/worker/worker_internal.h"

#include <assert.h>
#include <string.h>

#define BATCH 20
#define COLLAPSED_RECORD_MAX 50
#define STEP_MAX 300
#define SECOND_US INT64_C(1000000)
#define DAY_US (86400 * SECOND_US)

// The slots of a policy up to now.
typedef struct Slots {
    int64_t latest_us;                          // the one that fires
    int64_t next_us;                            // the first one after now; 0: none
    int64_t collapsed_us[COLLAPSED_RECORD_MAX]; // the newest of those before it, as a ring
    size_t collapsed_count;                     // of all that were stepped over
} Slots;

typedef struct Schedule {
    TimeZones *zones;
    StoreTransaction *transaction;
    const DuePolicy *policy;
} Schedule;

static Status next_slot(const Schedule *schedule, int64_t after_us, int64_t *ret_slot_us,
                        Error *error)
{
    Status status =
        schedule_next(schedule->zones, schedule->transaction, schedule->policy->schedule,
                      schedule->policy->time_zone, after_us, ret_slot_us, error);
    if (status != STATUS_OK && error->reason == REASON_SCHEDULE_NEVER_FIRES) {
        *ret_slot_us = 0;
        error_clear(error);
        return STATUS_OK;
    }
    return status;
}

// After a long absence: starts near now instead of walking through years of minutes. 0: walk.
static Status find_start(const Schedule *schedule, int64_t *ret_start_us, Error *error)
{
    static const int64_t windows_us[] = {2 * 3600 * SECOND_US, 2 * DAY_US, 9 * DAY_US, 63 * DAY_US,
                                         732 * DAY_US};
    const DuePolicy *policy = schedule->policy;
    *ret_start_us = 0;
    for (size_t i = 0; i < ARRAY_COUNT(windows_us); i++) {
        int64_t from_us = policy->now_us - windows_us[i];
        int64_t slot_us = 0;
        if (from_us <= policy->slot_us) {
            return STATUS_OK;
        }
        RETURN_IF_ERROR(next_slot(schedule, from_us, &slot_us, error));
        if (slot_us != 0 && slot_us <= policy->now_us) {
            *ret_start_us = slot_us;
            return STATUS_OK;
        }
    }
    return STATUS_OK;
}

static void collapse(Slots *slots, int64_t slot_us)
{
    slots->collapsed_us[slots->collapsed_count % COLLAPSED_RECORD_MAX] = slot_us;
    slots->collapsed_count++;
}

// Goes on from slot to slot, at most `step_max` times. True: the latest one before now is found.
static Status walk(const Schedule *schedule, int step_max, Slots *slots, bool *ret_is_found,
                   Error *error)
{
    *ret_is_found = false;
    for (int i = 0; i < step_max && !*ret_is_found; i++) {
        RETURN_IF_ERROR(next_slot(schedule, slots->latest_us, &slots->next_us, error));
        *ret_is_found = slots->next_us == 0 || slots->next_us > schedule->policy->now_us;
        if (!*ret_is_found) {
            collapse(slots, slots->latest_us);
            slots->latest_us = slots->next_us;
        }
    }
    return STATUS_OK;
}

static Status find_slots(const Schedule *schedule, Slots *ret_slots, Error *error)
{
    int64_t start_us = 0;
    bool is_found = false;
    *ret_slots = (Slots){.latest_us = schedule->policy->slot_us};
    RETURN_IF_ERROR(walk(schedule, STEP_MAX, ret_slots, &is_found, error));
    if (is_found) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(find_start(schedule, &start_us, error));
    if (start_us > ret_slots->latest_us) {
        collapse(ret_slots, ret_slots->latest_us);
        ret_slots->latest_us = start_us;
    }
    return walk(schedule, STEP_MAX, ret_slots, &is_found,
                error); // the rest comes in the next round
}

static Status record_collapsed(StoreTransaction *transaction, Arena *arena, const DuePolicy *policy,
                               const Slots *slots, Error *error)
{
    size_t count = MIN(slots->collapsed_count, COLLAPSED_RECORD_MAX);
    char latest[TIME_TEXT_SIZE];
    time_format(slots->latest_us, latest);
    for (size_t i = 0; i < count; i++) {
        int64_t slot_us =
            slots->collapsed_us[(slots->collapsed_count - count + i) % COLLAPSED_RECORD_MAX];
        char text[TIME_TEXT_SIZE];
        time_format(slot_us, text);
        const char *message =
            arena_format(arena, "the slot %s of policy %s was missed; it is made up by %s", text,
                         policy->name, latest);
        RETURN_IF_ERROR(
            store_policy_slot_add(transaction, policy, slot_us, "collapsed", NULL, message, error));
    }
    return STATUS_OK;
}

static Status fire(StoreTransaction *transaction, Arena *arena, const DuePolicy *policy,
                   int64_t slot_us, Error *error)
{
    StoreBackupRequest request = {.database_id = policy->database_id,
                                  .repository_id = policy->repository_id,
                                  .policy_id = policy->id,
                                  .slot_at = store_time_parameter(arena, slot_us)};
    StoreBackupOutcome outcome = STORE_BACKUP_CREATED;
    const char *backup_id = NULL;
    char slot[TIME_TEXT_SIZE];
    time_format(slot_us, slot);
    RETURN_IF_ERROR(store_backup_create(transaction, arena, &request, &outcome, &backup_id, error));
    switch (outcome) {
    case STORE_BACKUP_CREATED:
        return store_policy_slot_add(
            transaction, policy, slot_us, "fired", backup_id,
            arena_format(arena, "policy %s fired for %s", policy->name, slot), error);
    case STORE_BACKUP_OVERLAP:
        return store_policy_slot_add(
            transaction, policy, slot_us, "refused", backup_id,
            arena_format(arena,
                         "the slot %s of policy %s did not start a backup: one is running still",
                         slot, policy->name),
            error);
    case STORE_BACKUP_SLOT_TAKEN:
        return STATUS_OK; // fired before
    case STORE_BACKUP_NO_SHARDS:
    default:
        return store_policy_slot_add(
            transaction, policy, slot_us, "failed", NULL,
            arena_format(
                arena,
                "the slot %s of policy %s did not start a backup: the database has no shards", slot,
                policy->name),
            error);
    }
}

static Status fire_policy(const WorkerOptions *options, TimeZones *zones, const char *policy_id,
                          Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    DuePolicy *policy = NULL;
    Slots slots = {0};
    RETURN_IF_ERROR(store_begin(options->store, &transaction, error));
    RETURN_IF_ERROR(store_policy_due_take(transaction, arena, policy_id, &policy, error));
    if (policy == NULL) {
        return STATUS_OK; // another server took it
    }
    Schedule schedule = {.zones = zones, .transaction = transaction, .policy = policy};
    RETURN_IF_ERROR(find_slots(&schedule, &slots, error));
    RETURN_IF_ERROR(record_collapsed(transaction, arena, policy, &slots, error));
    if (slots.next_us != 0 && slots.next_us <= policy->now_us) {
        // More was missed than one round walks through: none of it is the latest yet.
        RETURN_IF_ERROR(store_policy_due_move(transaction, policy->id, slots.latest_us, error));
        return store_commit(&transaction, error);
    }
    RETURN_IF_ERROR(fire(transaction, arena, policy, slots.latest_us, error));
    RETURN_IF_ERROR(store_policy_due_move(transaction, policy->id, slots.next_us, error));
    RETURN_IF_ERROR(store_commit(&transaction, error));
    log_info("a policy was due", "policy", policy->name, "database", policy->database_name, "slot",
             policy->slot_at, NULL);
    return STATUS_OK;
}

Status work_policy(const WorkerOptions *options, TimeZones *zones, int *ret_count, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char **ids = NULL;
    size_t count = 0;
    int fired = 0;
    {
        CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
        RETURN_IF_ERROR(store_begin(options->store, &transaction, error));
        RETURN_IF_ERROR(store_policy_due_list(transaction, arena, BATCH, &ids, &count, error));
        RETURN_IF_ERROR(store_commit(&transaction, error));
    }
    for (size_t i = 0; i < count; i++) {
        Error failure = {0};
        // One that cannot fire must not keep the others from it; it stays due and is tried again.
        if (fire_policy(options, zones, ids[i], &failure) != STATUS_OK) {
            log_error_record(LOG_WARNING, LOG_MODULE, &failure,
                             "a policy could not be fired; it stays due", "policy", ids[i], NULL);
        } else {
            fired++;
        }
    }
    *ret_count = fired == BATCH ? fired : 0; // a full batch: there may be more at once
    return STATUS_OK;
}
