// SPDX-License-Identifier: Apache-2.0
// The test service as a program: prints its port, serves until its standard input ends, obeys
// "down" and "up" lines for its health. For clients in other languages.
#include "common/clock.h"
#include "common/error.h"
#include "tests/unit/rpc/rpc_echo.h"

#include <stdio.h>
#include <string.h>

int main(void)
{
    Echo echo = {0};
    Error error = {0};
    RpcServerOptions options = {
        .address = "127.0.0.1:0",
        .thread_count = 2,
        .context = &echo,
        .descriptors = echo_descriptors,
        .descriptors_size = echo_descriptors_size,
    };
    options.methods = echo_methods(&options.method_count);
    RpcServer *server = NULL;
    if (rpc_server_start(&options, &server, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    (void)printf("%d\n", rpc_server_port(server));
    (void)fflush(stdout);
    char line[16];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        rpc_server_set_healthy(server, strcmp(line, "down\n") != 0);
    }
    rpc_server_stop(server, 1000);
    rpc_server_free(server);
    return atomic_load(&echo.open_count) == atomic_load(&echo.close_count) ? 0 : 2;
}
