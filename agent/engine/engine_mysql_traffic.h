// SPDX-License-Identifier: Apache-2.0
// Counts the bytes that a process has received over TCP from one port, as the kernel counts them
// (tcp_info of its sockets, by netlink): what the source really sent, whatever the engine makes of
// it. Needs no privileges.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MYSQL_TRAFFIC_SOCKET_COUNT_MAX 64

typedef struct MysqlTraffic {
    struct MysqlTrafficSocket {
        uint64_t inode;
        int64_t bytes;
    } sockets[MYSQL_TRAFFIC_SOCKET_COUNT_MAX]; // open at the last look
    size_t count;
    int64_t closed_bytes; // of sockets that are gone
} MysqlTraffic;

// Looks now; a connection's bytes since the last look before its end are lost, so look often.
void mysql_traffic_look(MysqlTraffic *traffic, pid_t pid, int port);
int64_t mysql_traffic_bytes(const MysqlTraffic *traffic);
