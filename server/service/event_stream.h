// SPDX-License-Identifier: Apache-2.0
// The event stream for both faces: subscribe, be woken, fetch. Thread-safe except that one
// subscription is used by one thread at a time.
#pragma once

#include "holdfast/v1/holdfast.pb-c.h"
#include "server/service/service.h"

// `after_id` of the request: 0 begins with the oldest event kept, a negative one with what happens
// from now on.
typedef struct EventSubscription EventSubscription;

// Checks the caller (viewer). `on_wake` is called from the hub's thread whenever there may be
// something new; it must not block and may call nothing of this file but, if it likes,
// event_subscription_next. Call event_subscription_next once after opening: what is there already
// wakes nobody.
Status event_subscription_open(Service *service, ServiceCall *call,
                               const Holdfast__V1__StreamEventsRequest *request,
                               void (*on_wake)(void *context), void *context,
                               EventSubscription **ret_subscription, Error *error);
// Up to 100 events after the last ones given, oldest first; none: count 0. Events become visible in
// id order only (no gaps are skipped).
Status event_subscription_next(EventSubscription *subscription, Arena *arena,
                               Holdfast__V1__Event ***ret_events, size_t *ret_count, Error *error);
// After it returns on_wake is not running and will not run again.
void event_subscription_close(EventSubscription *subscription);
