// SPDX-License-Identifier: Apache-2.0
// What every command of the client works with.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/http_client.h"
#include "common/json.h"
#include "common/secret.h"

#include <stdbool.h>

typedef struct Cli {
    const char *server; // "http://127.0.0.1:8080", without a slash at the end
    Secret token;       // empty: none
    const char *ca_path;
    bool is_json;     // --output json
    bool has_color;   // of standard output
    bool is_terminal; // standard output is one
    HttpClient *http;
    Arena *arena; // for the whole run
} Cli;

// One REST call. `query` is without the '?', or NULL; `body` may be NULL; `header` is one more
// header line, or NULL. An answer that is not 2xx becomes the error that the problem+json
// describes. Calls that did not arrive are tried again for a short while with the same
// Idempotency-Key. ret_json is NULL for an answer without content; the caller frees it.
typedef struct CliRequest {
    const char *method, *path, *query, *header;
    const Json *body;
} CliRequest;
Status cli_call(Cli *cli, const CliRequest *request, Json **ret_json, Error *error);
Status cli_get(Cli *cli, const char *path, const char *query, Json **ret_json, Error *error);
// For event streams: on_data gets the body's pieces of a 200; no limit on time, no retries.
Status cli_stream(Cli *cli, const char *path, const char *query,
                  bool (*on_data)(void *context, const void *data, size_t size), void *context,
                  Error *error);
// Percent-encodes one segment of a path or one value of a query.
char *cli_escape(Arena *arena, const char *text);

// Appends "&key=value" to a query in the arena (NULL: empty) and returns it.
const char *cli_query_add(Arena *arena, const char *query, const char *key, const char *value);
