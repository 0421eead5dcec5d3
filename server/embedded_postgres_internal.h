// SPDX-License-Identifier: Apache-2.0
// Inside of embedded_postgres*.c. Nobody else includes it.
#pragma once

#include "common/error.h"
#include "common/process.h"

// --- embedded_postgres_cluster.c: the files ---
// The directory with the programs that fit the cluster (the newest ones for a new cluster):
// "/usr/lib/postgresql/15/bin".
Status embedded_postgres_find_programs(const char *cluster_directory, char ret_directory[1024],
                                       Error *error);
// Makes the cluster unless there is one. A kill leaves either none or a whole one.
Status embedded_postgres_create_cluster(const char *data_directory, const char *cluster_directory,
                                        const char *program_directory, Error *error);
// Where the socket lives: below the data directory, or where there is room for a short path. Made
// with mode 0700.
Status embedded_postgres_socket_directory(const char *data_directory, char ret_directory[256],
                                          Error *error);

typedef enum PostmasterState {
    POSTMASTER_NONE,
    POSTMASTER_STARTING,
    POSTMASTER_READY
} PostmasterState;
// What postmaster.pid says, when the process it names is really the postmaster of this cluster.
PostmasterState embedded_postgres_look(const char *cluster_directory,
                                       ProcessIdentity *ret_identity);
