// SPDX-License-Identifier: Apache-2.0
// Parts of the command table that several commands have. Of the limits' options `in` is where they
// go in the body, with its dot.
#pragma once

#include "cli/command.h"

// The end of a list of options.
#define NO_MORE                                                                                    \
    {                                                                                              \
        NULL, VALUE_TEXT, NULL, NULL, NULL, NULL, false                                            \
    }
#define IF_MATCH                                                                                   \
    {                                                                                              \
        "if-match", VALUE_HEADER, "ETAG", "If-Match", "only when the etag is still this one",      \
            NULL, false                                                                            \
    }
#define BANDWIDTH_OPTIONS(in)                                                                      \
    {"upload-limit",                                                                               \
     VALUE_BYTES,                                                                                  \
     "BYTES",                                                                                      \
     in "upload_bytes_per_second",                                                                 \
     "bytes a second to the repository, such as 20MiB; 0: no limit of its own",                    \
     NULL,                                                                                         \
     false},                                                                                       \
    {                                                                                              \
        "download-limit", VALUE_BYTES, "BYTES", in "download_bytes_per_second",                    \
            "bytes a second from the repository; 0: no limit of its own", NULL, false              \
    }
#define LIMIT_OPTIONS(in)                                                                          \
    BANDWIDTH_OPTIONS(in),                                                                         \
        {"cpus",                                                                                   \
         VALUE_INTEGER,                                                                            \
         "N",                                                                                      \
         in "cpu_count",                                                                           \
         "threads of each instance that compress and hash; 0: one for each processor",             \
         NULL,                                                                                     \
         false},                                                                                   \
    {                                                                                              \
        "memory", VALUE_BYTES, "BYTES", in "memory_bytes",                                         \
            "for the buffers of each instance, from its start on; 0: the default", NULL, false     \
    }
