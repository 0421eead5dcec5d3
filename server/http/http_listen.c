// SPDX-License-Identifier: Apache-2.0
// The listening socket is ours, because only then is it known why an address cannot be had.
#include "common/memory.h"
#include "common/text.h"
#include "server/http/http_internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

static Status wrong_address(const char *address, Error *error)
{
    (void)error_set(error, REASON_OPTION_INVALID, "'%s' is not an address of this machine",
                    address);
    return error_hint(error, "use 'address:port' with an address that this machine has");
}

static Status bind_error(const char *address, int number, Error *error)
{
    if (number == EADDRINUSE) {
        (void)error_set(error, REASON_PORT_IN_USE, "the address '%s' is in use", address);
        return error_hint(error, "stop the program that listens there or choose another port");
    }
    if (number == EADDRNOTAVAIL) {
        return wrong_address(address, error);
    }
    return error_set_errno(error, REASON_UNAVAILABLE, number, "cannot listen on '%s'", address);
}

static Status resolve(const char *address, struct addrinfo **ret_found, Error *error)
{
    CLEANUP_FREE char *copy = string_copy(address);
    char *colon = strrchr(copy, ':');
    int64_t port = 0;
    if (colon == NULL || !text_to_int64(colon + 1, &port) || port < 0 || port > UINT16_MAX) {
        return wrong_address(address, error);
    }
    *colon = '\0';
    char *host = copy;
    size_t size = strlen(host);
    if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
        host[size - 1] = '\0';
        host++;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    if (getaddrinfo(host[0] == '\0' ? NULL : host, colon + 1, &hints, ret_found) != 0) {
        return wrong_address(address, error);
    }
    return STATUS_OK;
}

static int bound_port(int fd)
{
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof(name);
    if (getsockname(fd, (struct sockaddr *)&name, &size) != 0) {
        return 0;
    }
    if (name.ss_family == AF_INET6) {
        return ntohs(((const struct sockaddr_in6 *)&name)->sin6_port);
    }
    return ntohs(((const struct sockaddr_in *)&name)->sin_port);
}

Status http_listen(const char *address, int *ret_socket, int *ret_port, Error *error)
{
    struct addrinfo *found = NULL;
    RETURN_IF_ERROR(resolve(address, &found, error));
    int number = 0;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        number = errno;
    } else {
        int yes = 1;
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
            number = errno;
            (void)close(fd);
        }
    }
    freeaddrinfo(found);
    if (number != 0) {
        return bind_error(address, number, error);
    }
    *ret_socket = fd;
    *ret_port = bound_port(fd);
    return STATUS_OK;
}
