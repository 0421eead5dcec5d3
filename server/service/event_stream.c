// SPDX-License-Identifier: Apache-2.0
// One thread reads new events for all subscriptions; the latest ones stay in memory, so that a
// hundred dashboards cost one query.
#include "server/service/event_stream.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "server/service/service_internal.h"
#include "server/store/store_event.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define RING_COUNT 1024
#define READ_COUNT 500
#define NEXT_COUNT 100
#define POLL_SECONDS 2 // a notification only makes it faster

typedef struct RingEvent {
    int64_t id;
    uint8_t *packed;
    size_t size;
} RingEvent;

struct EventHub {
    Store *store;
    pthread_t thread;
    bool is_started;

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t on_change;
    bool is_notified, is_stopping;
    bool is_ready;    // last_id is known
    int64_t floor_id; // the ring holds every event after this one, up to last_id
    int64_t last_id;
    RingEvent ring[RING_COUNT];
    size_t first, count;

    pthread_mutex_t subscriptions_mutex; // held while on_wake runs; taken before nothing
    EventSubscription *subscriptions;
};

struct EventSubscription {
    EventHub *hub;
    EventSubscription *next;
    void (*on_wake)(void *context);
    void *context;
    char *database, *backup_id; // NULL: all
    int64_t after_id;
};

static void on_notify(void *context, const char *channel)
{
    EventHub *hub = context;
    if (text_equal(channel, "events")) {
        pthread_mutex_lock(&hub->mutex);
        hub->is_notified = true;
        pthread_cond_signal(&hub->on_change);
        pthread_mutex_unlock(&hub->mutex);
    }
}

static void ring_add(EventHub *hub, const Holdfast__V1__Event *event)
{
    if (hub->count == RING_COUNT) {
        RingEvent *oldest = &hub->ring[hub->first];
        hub->floor_id = oldest->id;
        mem_free(oldest->packed);
        hub->first = (hub->first + 1) % RING_COUNT;
        hub->count--;
    }
    RingEvent *slot = &hub->ring[(hub->first + hub->count++) % RING_COUNT];
    slot->id = event->id;
    slot->size = holdfast__v1__event__get_packed_size(event);
    slot->packed = mem_alloc(slot->size + 1);
    holdfast__v1__event__pack(event, slot->packed);
    hub->last_id = event->id;
}

// Reads one batch of what is new. True: there may be more.
static bool read_new(EventHub *hub, bool *ret_is_new)
{
    Error error = {0}; // the next round tries again
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    if (store_begin(hub->store, &transaction, &error) != STATUS_OK) {
        return false;
    }
    if (!hub->is_ready) {
        int64_t last_id;
        if (store_event_last_id(transaction, &last_id, &error) == STATUS_OK) {
            pthread_mutex_lock(&hub->mutex);
            hub->floor_id = last_id;
            hub->last_id = last_id;
            hub->is_ready = true;
            pthread_mutex_unlock(&hub->mutex);
            *ret_is_new = true;
        }
        return false;
    }
    StoreRows rows;
    ProtobufCMessage **messages = NULL;
    if (store_event_after(transaction, arena, &(StoreEventFilter){0}, hub->last_id, READ_COUNT,
                          &rows, &error) != STATUS_OK ||
        store_messages(&rows, arena, &holdfast__v1__event__descriptor, &messages, &error) !=
            STATUS_OK) {
        return false;
    }
    pthread_mutex_lock(&hub->mutex);
    for (int row = 0; row < rows.count; row++) {
        ring_add(hub, (const Holdfast__V1__Event *)messages[row]);
    }
    pthread_mutex_unlock(&hub->mutex);
    *ret_is_new = *ret_is_new || rows.count > 0;
    return rows.count == READ_COUNT;
}

static void wake_all(EventHub *hub)
{
    pthread_mutex_lock(&hub->subscriptions_mutex);
    for (EventSubscription *item = hub->subscriptions; item != NULL; item = item->next) {
        item->on_wake(item->context);
    }
    pthread_mutex_unlock(&hub->subscriptions_mutex);
}

static void *hub_main(void *argument)
{
    EventHub *hub = argument;
    pthread_mutex_lock(&hub->mutex);
    while (!hub->is_stopping) {
        hub->is_notified = false;
        pthread_mutex_unlock(&hub->mutex);
        bool is_new = false;
        while (read_new(hub, &is_new)) {
        }
        if (is_new) {
            wake_all(hub);
        }
        pthread_mutex_lock(&hub->mutex);
        struct timespec deadline;
        clock_gettime(CLOCK_MONOTONIC, &deadline);
        deadline.tv_sec += POLL_SECONDS;
        while (!hub->is_notified && !hub->is_stopping &&
               pthread_cond_timedwait(&hub->on_change, &hub->mutex, &deadline) != ETIMEDOUT) {
        }
    }
    pthread_mutex_unlock(&hub->mutex);
    return NULL;
}

Status event_hub_new(Store *store, EventHub **ret_hub, Error *error)
{
    EventHub *hub = mem_alloc(sizeof(*hub));
    hub->store = store;
    pthread_mutex_init(&hub->mutex, NULL);
    pthread_mutex_init(&hub->subscriptions_mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&hub->on_change, &attributes);
    pthread_condattr_destroy(&attributes);
    Status status = store_listen(store, on_notify, hub, error);
    if (status == STATUS_OK && pthread_create(&hub->thread, NULL, hub_main, hub) != 0) {
        status = error_set(error, REASON_EXHAUSTED, "no thread for the event stream");
    }
    if (status != STATUS_OK) {
        event_hub_free(hub);
        return status;
    }
    hub->is_started = true;
    *ret_hub = hub;
    return STATUS_OK;
}

void event_hub_free(EventHub *hub)
{
    if (hub == NULL) {
        return;
    }
    assert(hub->subscriptions == NULL);
    store_unlisten(hub->store, hub);
    if (hub->is_started) {
        pthread_mutex_lock(&hub->mutex);
        hub->is_stopping = true;
        pthread_cond_signal(&hub->on_change);
        pthread_mutex_unlock(&hub->mutex);
        pthread_join(hub->thread, NULL);
    }
    for (size_t i = 0; i < hub->count; i++) {
        mem_free(hub->ring[(hub->first + i) % RING_COUNT].packed);
    }
    pthread_cond_destroy(&hub->on_change);
    pthread_mutex_destroy(&hub->subscriptions_mutex);
    pthread_mutex_destroy(&hub->mutex);
    mem_free(hub);
}

// Where "from now on" begins.
static Status last_id_of(EventHub *hub, int64_t *ret_id, Error *error)
{
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(hub->store, &transaction, error));
    return store_event_last_id(transaction, ret_id, error);
}

Status event_subscription_open(Service *service, ServiceCall *call,
                               const Holdfast__V1__StreamEventsRequest *request,
                               void (*on_wake)(void *context), void *context,
                               EventSubscription **ret_subscription, Error *error)
{
    assert(on_wake != NULL);
    RETURN_IF_ERROR(service_authorize(service, call, ROLE_VIEWER, error));
    if (!text_is_empty(request->database)) {
        RETURN_IF_ERROR(check_name("database", request->database, error));
    }
    if (!text_is_empty(request->backup)) {
        RETURN_IF_ERROR(check_id("backup", request->backup, error));
    }
    EventHub *hub = service->event_hub;
    int64_t after_id = request->after_id;
    if (after_id < 0) {
        RETURN_IF_ERROR(last_id_of(hub, &after_id, error));
    }
    EventSubscription *subscription = mem_alloc(sizeof(*subscription));
    subscription->hub = hub;
    subscription->on_wake = on_wake;
    subscription->context = context;
    subscription->after_id = after_id;
    subscription->database =
        text_is_empty(request->database) ? NULL : string_copy(request->database);
    subscription->backup_id = text_is_empty(request->backup) ? NULL : string_copy(request->backup);
    *ret_subscription = subscription;
    pthread_mutex_lock(&hub->subscriptions_mutex);
    subscription->next = hub->subscriptions;
    hub->subscriptions = subscription;
    pthread_mutex_unlock(&hub->subscriptions_mutex);
    return STATUS_OK;
}

static bool is_wanted(const EventSubscription *subscription, const Holdfast__V1__Event *event)
{
    return (subscription->database == NULL ||
            text_equal(subscription->database, event->database)) &&
           (subscription->backup_id == NULL ||
            text_equal(subscription->backup_id, event->backup_id));
}

// False: what comes next is older than the ring.
static bool next_from_ring(EventSubscription *subscription, Arena *arena,
                           Holdfast__V1__Event **events, size_t *ret_count, Error *error)
{
    EventHub *hub = subscription->hub;
    pthread_mutex_lock(&hub->mutex);
    bool is_in_ring = hub->is_ready && subscription->after_id >= hub->floor_id;
    size_t count = 0;
    for (size_t i = 0; is_in_ring && i < hub->count && count < NEXT_COUNT; i++) {
        const RingEvent *item = &hub->ring[(hub->first + i) % RING_COUNT];
        if (item->id <= subscription->after_id) {
            continue;
        }
        ProtobufCMessage *message = NULL;
        if (message_unpack(arena, &holdfast__v1__event__descriptor, item->packed, item->size,
                           &message, error) != STATUS_OK) {
            is_in_ring = false; // cannot be, but then the table will do
            break;
        }
        subscription->after_id = item->id;
        events[count] = (Holdfast__V1__Event *)message;
        count += is_wanted(subscription, events[count]) ? 1 : 0;
    }
    pthread_mutex_unlock(&hub->mutex);
    *ret_count = count;
    return is_in_ring;
}

Status event_subscription_next(EventSubscription *subscription, Arena *arena,
                               Holdfast__V1__Event ***ret_events, size_t *ret_count, Error *error)
{
    Holdfast__V1__Event **events = arena_alloc_array(arena, NEXT_COUNT, sizeof(*events));
    if (next_from_ring(subscription, arena, events, ret_count, error)) {
        *ret_events = events;
        return STATUS_OK;
    }
    EventHub *hub = subscription->hub;
    pthread_mutex_lock(&hub->mutex);
    int64_t known_id = hub->last_id; // committed, so the query below sees everything up to here
    pthread_mutex_unlock(&hub->mutex);
    CLEANUP(store_rollback) StoreTransaction *transaction = NULL;
    RETURN_IF_ERROR(store_begin(hub->store, &transaction, error));
    StoreEventFilter filter = {.database = subscription->database,
                               .backup_id = subscription->backup_id};
    StoreRows rows;
    ProtobufCMessage **messages = NULL;
    RETURN_IF_ERROR(store_event_after(transaction, arena, &filter, subscription->after_id,
                                      NEXT_COUNT, &rows, error));
    RETURN_IF_ERROR(
        store_messages(&rows, arena, &holdfast__v1__event__descriptor, &messages, error));
    for (int row = 0; row < rows.count; row++) {
        events[row] = (Holdfast__V1__Event *)messages[row];
        subscription->after_id = events[row]->id;
    }
    if (rows.count < NEXT_COUNT) {
        subscription->after_id = MAX(subscription->after_id, known_id);
    }
    *ret_events = events;
    *ret_count = (size_t)rows.count;
    return STATUS_OK;
}

void event_subscription_close(EventSubscription *subscription)
{
    if (subscription == NULL) {
        return;
    }
    EventHub *hub = subscription->hub;
    pthread_mutex_lock(&hub->subscriptions_mutex);
    EventSubscription **place = &hub->subscriptions;
    while (*place != subscription) {
        place = &(*place)->next;
    }
    *place = subscription->next;
    pthread_mutex_unlock(&hub->subscriptions_mutex);
    mem_free(subscription->database);
    mem_free(subscription->backup_id);
    mem_free(subscription);
}
