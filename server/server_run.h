// SPDX-License-Identifier: Apache-2.0
// The running server: what is built in which order, and ended in the opposite one.
#pragma once

#include "common/error.h"
#include "server/server_options.h"

typedef struct Server Server;

// `server_id` must belong to this process alone. On failure everything that was started is stopped
// again.
Status server_start(const ServerOptions *options, const char *server_id, Server **ret_server,
                    Error *error);
// Answers what is under way, stops working, closes everything. Backups go on in their instances and
// are picked up by the next start.
void server_stop(Server *server);
