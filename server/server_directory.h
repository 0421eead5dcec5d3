// SPDX-License-Identifier: Apache-2.0
// Who holdfastd is on its machine: an unprivileged user, one process per data directory, a stable
// server id.
#pragma once

#include "common/error.h"

typedef struct ServerDirectory {
    int lock_fd;
    char server_id[37]; // stays the same for this data directory
} ServerDirectory;

// As root: makes the data directory and the secret key file (in a directory that only root may
// write to, perhaps) for `user`, and becomes that user for good; else does nothing but make the
// directory.
Status server_become_user(const char *user, const char *data_directory, const char *secret_key_file,
                          Error *error);
// REASON_PRECONDITION when another holdfastd runs on it. The lock lasts until the process ends.
Status server_directory_open(const char *data_directory, ServerDirectory *ret_directory,
                             Error *error);
void server_directory_close(ServerDirectory *directory);
