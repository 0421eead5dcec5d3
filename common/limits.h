// SPDX-License-Identifier: Apache-2.0
// Every limit on what comes from outside, in one place. Units are in the names.
#pragma once

#define LIMIT_HTTP_BODY_BYTES (1024 * 1024)
#define LIMIT_HTTP_CONNECTION_COUNT 4096
#define LIMIT_HTTP_HEADER_SECONDS 10
#define LIMIT_HTTP_RESPONSE_BYTES (64 * 1024 * 1024) // what our client reads at most
#define LIMIT_RPC_MESSAGE_BYTES (4 * 1024 * 1024)
#define LIMIT_JSON_DEPTH 32
#define LIMIT_PAGE_SIZE 1000
#define LIMIT_PAGE_SIZE_DEFAULT 100
#define LIMIT_NAME_BYTES 63
#define LIMIT_METRICS_DATABASES 1000 // with metrics of their own
#define LIMIT_TEXT_BYTES 4096        // any free text field of a request
#define LIMIT_LIST_COUNT 4096        // any repeated field of a request
#define LIMIT_MESSAGE_FIELD_COUNT                                                                  \
    (256 * 1024) // all fields of one message from the wire, nested ones too
#define LIMIT_SHARD_COUNT 4096
#define LIMIT_FILE_BYTES (16 * 1024 * 1024) // configuration, keys, tokens
#define LIMIT_LOG_LINE_BYTES 8192
#define LIMIT_PATH_BYTES 4096
#define LIMIT_IDEMPOTENCY_KEY_BYTES 255
