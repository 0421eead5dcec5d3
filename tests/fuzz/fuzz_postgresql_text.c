// SPDX-License-Identifier: Apache-2.0
// What PostgreSQL tells in texts: LSNs, names of segments, timeline histories, states of a backup,
// messages with SQLSTATEs.
#include "agent/engine/engine_postgresql.h"
#include "agent/engine/engine_postgresql_wal.h"
#include "common/memory.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#define SEGMENT_BYTES (INT64_C(16) * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error error = {0};
    CLEANUP_FREE char *text = string_copy_n((const char *)data, size);
    uint64_t lsn = 0;
    uint64_t again = 0;
    uint64_t segment = 0;
    uint32_t timeline = 0;
    char lsn_text[POSTGRESQL_LSN_TEXT_SIZE];
    char name[POSTGRESQL_SEGMENT_NAME_SIZE];
    char sqlstate[6];
    PostgresqlState state;
    if (postgresql_lsn_parse(text, &lsn)) {
        postgresql_lsn_format(lsn, lsn_text);
        bool is_lsn = postgresql_lsn_parse(lsn_text, &again);
        assert(is_lsn && again == lsn);
    }
    if (postgresql_segment_parse(text, SEGMENT_BYTES, &timeline, &segment)) {
        postgresql_segment_name(timeline, segment, SEGMENT_BYTES, name);
        assert(strcmp(name, text) == 0);
    }
    (void)postgresql_history_switch(text, 1, &lsn);
    (void)postgresql_history_switch(text, UINT32_MAX, &lsn);
    const char *rest = postgresql_find_sqlstate(text, sqlstate);
    assert(rest == NULL || (rest >= text && rest <= text + strlen(text)));
    if (postgresql_state_parse(text, &state, &error) == STATUS_OK) {
        assert(state.checkpoint_name[0] != '\0' && state.timeline > 0);
    }
    return 0;
}
