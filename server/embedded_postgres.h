// SPDX-License-Identifier: Apache-2.0
// Holdfast's own PostgreSQL when nobody gave another: a private cluster in the data directory, on a
// unix socket only that our user can reach. Made on first use, supervised, taken over again when an
// earlier holdfastd was killed.
#pragma once

#include "common/error.h"

#include <stdint.h>

typedef struct EmbeddedPostgres EmbeddedPostgres;

typedef struct EmbeddedPostgresOptions {
    const char *data_directory; // holdfastd's: the cluster is <data_directory>/postgres
    int connection_count;       // that it must allow
    int64_t start_timeout_ms;   // recovery after a crash may take long; 0: 5 min
} EmbeddedPostgresOptions;

// Returns when it accepts connections.
Status embedded_postgres_start(const EmbeddedPostgresOptions *options,
                               EmbeddedPostgres **ret_postgres, Error *error);
const char *
embedded_postgres_url(const EmbeddedPostgres
                          *postgres); // for store_open; no secret: the socket's directory guards it
int embedded_postgres_pid(EmbeddedPostgres *postgres); // of the postmaster now; 0 while it is down
// Fast shutdown: connections are ended, everything is on disk afterwards. NULL is fine.
void embedded_postgres_stop(EmbeddedPostgres *postgres);
