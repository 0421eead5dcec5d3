// SPDX-License-Identifier: Apache-2.0
// MariaDB's GTID positions: one GTID (domain-server-sequence) for each domain, as text
// "0-1-42,7-3-9". Pure functions. (MySQL's GTID sets are compared by the server itself:
// GTID_SUBSET.)
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MARIADB_GTID_COUNT_MAX 256

typedef struct MariadbGtid {
    uint32_t domain;
    uint32_t server;
    uint64_t sequence;
} MariadbGtid;

typedef struct MariadbPosition {
    MariadbGtid items[MARIADB_GTID_COUNT_MAX];
    size_t count;
} MariadbPosition;

// Also reads @@gtid_binlog_state, which has several servers for a domain. False: not such a text,
// or too many.
bool mariadb_position_parse(MariadbPosition *position, const char *text);
// The same GTIDs, in any order.
bool mariadb_position_equal(const MariadbPosition *a, const MariadbPosition *b);
// Has `position` everything that `wanted` has: for each of its domains a sequence at least as high?
bool mariadb_position_reached(const MariadbPosition *position, const MariadbPosition *wanted);
// Is `position` in the history of a source with this binlog state and replicated position
// (gtid_slave_pos)? False fills `missing` with the GTID that the source lacks. What only the
// source's binlogs can tell is left to the source.
bool mariadb_position_is_known(const MariadbPosition *position, const MariadbPosition *binlog_state,
                               const MariadbPosition *slave_position, MariadbGtid *ret_missing);
