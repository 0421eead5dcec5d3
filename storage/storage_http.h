// SPDX-License-Identifier: Apache-2.0
// The HTTP transport that the drivers of object stores share: a pool of kept connections, retries
// with full jitter within a budget, concurrency that adapts to the store, transfers that are cut
// when they stall and go on where they were, a deadline, cancel. Thread-safe: any number of threads
// send at once, each its own call. For drivers only.
#pragma once

#include "common/arena.h"
#include "common/http_client.h"
#include "storage/storage_options.h"

typedef struct StorageHttp StorageHttp;
typedef struct StorageHttpCall StorageHttpCall;

#define STORAGE_HTTP_HEADER_COUNT_MAX 24

// Time and chance, for tests. Zeros: the real ones.
typedef struct StorageHttpHooks {
    int64_t (*now_ms)(void *context); // monotonic
    void (*wait_ms)(void *context, int64_t duration_ms);
    int64_t (*random)(void *context, int64_t most); // 0 .. most
    void *context;
} StorageHttpHooks;

typedef struct StorageHttpOptions {
    const char *ca_pem; // copied; NULL: the system's
    StorageLimits limits;
    StorageHttpHooks hooks;
} StorageHttpOptions;

// Where one try goes; made anew for each, since signatures and tokens age. Memory of the arena.
typedef struct StorageHttpTarget {
    const char *url;
    const char *headers[STORAGE_HTTP_HEADER_COUNT_MAX + 1]; // "Name: value"
    size_t header_count;
} StorageHttpTarget;

typedef enum StorageHttpVerdict {
    STORAGE_HTTP_DONE,      // the answer is the caller's
    STORAGE_HTTP_RETRY,     // a passing failure
    STORAGE_HTTP_THROTTLED, // the store asks for less
} StorageHttpVerdict;

struct StorageHttpCall {
    const char *method;
    const void *body; // sent as it is on every try
    size_t body_size;

    // Where the body of a 2xx answer goes, at most sink_size bytes; NULL: into the response. What
    // came before a transfer broke is kept, and the next try asks for the rest.
    uint8_t *sink;
    size_t sink_size;
    // Asks for bytes range_offset .. range_offset + sink_size - 1 and refuses other ones.
    bool is_range;
    int64_t range_offset;
    size_t response_bytes_max; // of a body that is no sink's; 0: 1 MiB

    // Required: fills target->url and headers (not Range). context: below.
    Status (*prepare)(void *context, Arena *arena, StorageHttpTarget *target, Error *error);
    // NULL: storage_http_judge.
    StorageHttpVerdict (*judge)(void *context, const HttpResponse *response);
    void *context;
    const atomic_bool *is_abandoned; // true ends the call with REASON_CANCELED, or NULL
    // How often what this call goes on with has failed in a row before: the waits and the budget
    // go on from there.
    int failure_count;

    // Outputs.
    size_t sink_done;   // bytes in the sink
    int64_t total_size; // of the object, from Content-Range; -1: not told
    int try_count;
    // An earlier try got no answer, or a 5xx one: its effect is unknown. False proves nothing:
    // libcurl sends a request again by itself when a kept connection turns out to be closed.
    bool may_have_taken_effect;
};

StorageHttp *storage_http_new(const StorageHttpOptions *options);
void storage_http_free(StorageHttp *http); // NULL is fine; no call may be under way

// STATUS_OK: an answer came that was not worth another try, or the last of the budget; whatever its
// HTTP status, it is the caller's to read and to end with http_response_done. Without an answer:
// REASON_UNAVAILABLE, REASON_DEADLINE (of the operation or of everything), REASON_CANCELED,
// REASON_ENDPOINT_UNTRUSTED, REASON_OBJECT_CORRUPT for bytes that were not asked for, or what
// prepare said.
Status storage_http_send(StorageHttp *http, StorageHttpCall *call, HttpResponse *ret_response,
                         Error *error);

// By status alone: 429 and 503 throttle; 408, 500, 502 and 504 are passing.
StorageHttpVerdict storage_http_judge(const HttpResponse *response);

typedef struct StorageHttpStatistics {
    int64_t try_count, retry_count, throttled_count, resumed_count;
    int concurrency_limit; // now
} StorageHttpStatistics;
void storage_http_statistics(StorageHttp *http, StorageHttpStatistics *ret_statistics);
// Adds "name: value" to the headers of a target.
void storage_http_header(StorageHttpTarget *target, Arena *arena, const char *name,
                         const char *value);
