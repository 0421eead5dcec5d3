// SPDX-License-Identifier: Apache-2.0
// Brings the source's WAL into the data directory's pg_wal, where the private standby replays it.
//
// The agent does this itself rather than the standby's walreceiver, because then (1) WAL behind the
// checkpoint never reaches the directory: a standby cannot replay too far; (2) the stream begins at
// the exact byte the parent ended at, where a walreceiver always begins at its 16 MiB segment: an
// idle shard costs some kilobytes; (3) the bytes are counted; (4) no server of ours is given the
// source's password; (5) nothing is reported as flushed, so that the source never takes us for a
// synchronous standby.
#pragma once

#include "agent/engine/engine.h"

typedef struct PostgresqlReceiver PostgresqlReceiver;

typedef struct PostgresqlReceiverOptions {
    const EngineSource *source; // borrowed until stopped
    const char *data_directory; // borrowed until stopped
    const Recorder *recorder;   // told what is written there; borrowed until stopped; or NULL
    uint64_t system_identifier;
    uint32_t timeline;  // of start_lsn
    uint64_t start_lsn; // everything before it is in pg_wal
    int64_t segment_bytes;
} PostgresqlReceiverOptions;

typedef struct PostgresqlReceiverState {
    uint64_t written_lsn; // pg_wal holds everything before it
    uint32_t timeline;    // that it is on
    int64_t received_bytes;
    bool is_streaming; // connected and accepted by the source
    bool has_streamed; // was, at least once
} PostgresqlReceiverState;

Status postgresql_receiver_start(const PostgresqlReceiverOptions *options,
                                 PostgresqlReceiver **ret_receiver, Error *error);
// The failure that ended it, or OK and its state. A source that is away is not a failure for two
// minutes.
Status postgresql_receiver_look(PostgresqlReceiver *receiver, PostgresqlReceiverState *ret_state,
                                Error *error);
// Nothing more is written after this returns, until a limit is set.
void postgresql_receiver_hold(PostgresqlReceiver *receiver);
// Goes on, up to that byte and not beyond; UINT64_MAX: for ever.
void postgresql_receiver_limit(PostgresqlReceiver *receiver, uint64_t limit_lsn);
void postgresql_receiver_stop(PostgresqlReceiver *receiver); // NULL is fine
