// SPDX-License-Identifier: Apache-2.0
// GTID positions of MariaDB. Input: up to three of them, one a line.
#include "agent/engine/engine_mysql_gtid.h"
#include "common/arena.h"
#include "common/text.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>

#define POSITION_COUNT 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MariadbPosition *positions = arena_alloc_array(arena, POSITION_COUNT, sizeof(*positions));
    MariadbGtid missing = {0};
    size_t count = 0;
    char **lines = text_split(arena, arena_string_n(arena, (const char *)data, size), '\n', &count);
    for (size_t i = 0; i < MIN(count, POSITION_COUNT); i++) {
        if (!mariadb_position_parse(&positions[i], lines[i])) {
            return 0;
        }
        assert(positions[i].count <= MARIADB_GTID_COUNT_MAX);
        assert(mariadb_position_equal(&positions[i], &positions[i]));
        assert(mariadb_position_reached(&positions[i], &positions[i]));
    }
    bool is_equal = mariadb_position_equal(&positions[0], &positions[1]);
    assert(is_equal == mariadb_position_equal(&positions[1], &positions[0]));
    assert(!is_equal || mariadb_position_reached(&positions[0], &positions[1]));
    (void)mariadb_position_is_known(&positions[0], &positions[1], &positions[2], &missing);
    return 0;
}
