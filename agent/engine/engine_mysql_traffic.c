// SPDX-License-Identifier: Apache-2.0
// TCP byte counters by NETLINK_SOCK_DIAG (sock_diag(7)); see engine_mysql_traffic.h.
#include "agent/engine/engine_mysql_traffic.h"

#include "common/file.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define STATE_ESTABLISHED 1
#define STATE_CLOSE_WAIT 8
#define OWN_COUNT_MAX 4096

static bool has_inode(const uint64_t *inodes, size_t count, uint64_t inode)
{
    for (size_t i = 0; i < count; i++) {
        if (inodes[i] == inode) {
            return true;
        }
    }
    return false;
}

// The inodes of the process's sockets.
static size_t list_sockets(pid_t pid, uint64_t inodes[OWN_COUNT_MAX])
{
    char path[320];
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return 0;
    }
    size_t count = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL && count < OWN_COUNT_MAX;
         entry = readdir(directory)) {
        char target[64] = "";
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, entry->d_name);
        ssize_t size = readlink(path, target, sizeof(target) - 1);
        unsigned long long inode = 0;
        if (size > 0 && sscanf(target, "socket:[%llu]", &inode) == 1) {
            inodes[count++] = inode;
        }
    }
    (void)closedir(directory);
    return count;
}

static bool send_request(int fd, uint8_t family)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } message = {
        .header = {.nlmsg_len = sizeof(message),
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = family,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                    .idiag_states = (1 << STATE_ESTABLISHED) | (1 << STATE_CLOSE_WAIT)},
    };
    return send(fd, &message, sizeof(message), 0) == (ssize_t)sizeof(message);
}

static int64_t received_bytes(const struct nlmsghdr *header)
{
    const struct inet_diag_msg *socket = NLMSG_DATA(header);
    size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof(*socket));
    const uint8_t *at = (const uint8_t *)(socket + 1);
    while (left >= sizeof(struct rtattr)) {
        struct rtattr attribute;
        memcpy(&attribute, at, sizeof(attribute));
        if (attribute.rta_len < sizeof(attribute) || attribute.rta_len > left) {
            break;
        }
        if (attribute.rta_type == INET_DIAG_INFO) {
            struct tcp_info info = {0};
            size_t size = attribute.rta_len - sizeof(attribute);
            memcpy(&info, at + RTA_LENGTH(0), size < sizeof(info) ? size : sizeof(info));
            return (int64_t)info.tcpi_bytes_received;
        }
        size_t step = RTA_ALIGN(attribute.rta_len);
        if (step > left) {
            break;
        }
        at += step;
        left -= step;
    }
    return 0;
}

typedef struct Look {
    const uint64_t *own;
    size_t own_count;
    int port;
    MysqlTraffic *now;
} Look;

static void take_socket(Look *look, const struct nlmsghdr *header)
{
    const struct inet_diag_msg *socket = NLMSG_DATA(header);
    MysqlTraffic *now = look->now;
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof(*socket)) ||
        ntohs(socket->id.idiag_dport) != look->port ||
        !has_inode(look->own, look->own_count, socket->idiag_inode) ||
        now->count == MYSQL_TRAFFIC_SOCKET_COUNT_MAX) {
        return;
    }
    now->sockets[now->count].inode = socket->idiag_inode;
    now->sockets[now->count++].bytes = received_bytes(header);
}

static void look_at_family(int fd, uint8_t family, Look *look)
{
    if (!send_request(fd, family)) {
        return;
    }
    alignas(struct nlmsghdr) uint8_t data[32768];
    for (;;) {
        ssize_t size = recv(fd, data, sizeof(data), 0);
        if (size <= 0) {
            return;
        }
        size_t left = (size_t)size;
        const uint8_t *at = data;
        while (left >= sizeof(struct nlmsghdr)) {
            const struct nlmsghdr *header = (const void *)at;
            if (header->nlmsg_len < sizeof(*header) || header->nlmsg_len > left ||
                header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) {
                return;
            }
            take_socket(look, header);
            size_t step = NLMSG_ALIGN(header->nlmsg_len);
            at += step;
            left -= step < left ? step : left;
        }
    }
}

void mysql_traffic_look(MysqlTraffic *traffic, pid_t pid, int port)
{
    MysqlTraffic now = {0};
    uint64_t own[OWN_COUNT_MAX];
    size_t own_count = pid > 0 ? list_sockets(pid, own) : 0;
    CLEANUP(fd_closep) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (own_count > 0 && fd >= 0) {
        struct timeval patience = {.tv_usec = 200 * 1000};
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        Look look = {.own = own, .own_count = own_count, .port = port, .now = &now};
        look_at_family(fd, AF_INET, &look);
        look_at_family(fd, AF_INET6, &look);
    }
    now.closed_bytes = traffic->closed_bytes;
    for (size_t i = 0; i < traffic->count; i++) {
        bool is_open = false;
        for (size_t other = 0; other < now.count; other++) {
            is_open = is_open || now.sockets[other].inode == traffic->sockets[i].inode;
        }
        now.closed_bytes += is_open ? 0 : traffic->sockets[i].bytes;
    }
    *traffic = now;
}

int64_t mysql_traffic_bytes(const MysqlTraffic *traffic)
{
    int64_t bytes = traffic->closed_bytes;
    for (size_t i = 0; i < traffic->count; i++) {
        bytes += traffic->sockets[i].bytes;
    }
    return bytes;
}
