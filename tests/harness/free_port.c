// SPDX-License-Identifier: Apache-2.0
// A random port that can be bound.
#include "tests/harness/free_port.h"

#include "common/crypto.h"
#include "common/file.h"
#include "tests/harness/harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_MIN 12000
#define PORT_COUNT 20000 // up to 31999; /proc/sys/net/ipv4/ip_local_port_range begins at 32768
#define TRY_COUNT_MAX 1000

int free_port(void)
{
    for (int i = 0; i < TRY_COUNT_MAX; i++) {
        uint16_t number = 0;
        crypto_random(&number, sizeof(number));
        int port = PORT_MIN + number % PORT_COUNT;
        CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
            return port;
        }
    }
    fail_msg("there is no free port");
    return -1;
}
