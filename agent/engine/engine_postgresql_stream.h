// SPDX-License-Identifier: Apache-2.0
// What a walsender sends: its messages, and their WAL going into the segments of pg_wal. One thread
// at a time. For the PostgreSQL engine's files only.
#pragma once

#include "common/error.h"
#include "recorder/recorder.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum PostgresqlMessageKind {
    POSTGRESQL_MESSAGE_WAL,
    POSTGRESQL_MESSAGE_KEEPALIVE,
    POSTGRESQL_MESSAGE_UNKNOWN // too short, or of a kind that a later version may have added
} PostgresqlMessageKind;

typedef struct PostgresqlMessage {
    PostgresqlMessageKind kind;
    uint64_t lsn;       // WAL: of its first byte
    const uint8_t *wal; // borrowed from what was read
    size_t wal_size;
    bool wants_reply; // keepalive
} PostgresqlMessage;

PostgresqlMessage postgresql_message_read(const uint8_t *data, size_t size);

#define POSTGRESQL_FEEDBACK_SIZE 34
// A standby's status: written, but never flushed or applied.
void postgresql_feedback_write(uint64_t written_lsn, int64_t now_us, bool wants_reply,
                               uint8_t ret_message[POSTGRESQL_FEEDBACK_SIZE]);

// A timeline's number: decimal, more than 0, less than UINT32_MAX.
bool postgresql_timeline_parse(const char *text, uint32_t *ret_timeline);

typedef struct PostgresqlStream {
    const char *data_directory; // borrowed
    const Recorder *recorder;   // told what is written; borrowed; or NULL
    int64_t segment_bytes;
    uint32_t timeline;
    uint64_t lsn;     // the next byte's
    int segment_fd;   // INVALID_FD, or open on
    uint64_t segment; // this one
} PostgresqlStream;

// Writes what is before limit_lsn of a WAL message. REPLICATION_BROKEN when it is not the WAL that
// comes next.
Status postgresql_stream_take(PostgresqlStream *stream, const PostgresqlMessage *message,
                              uint64_t limit_lsn, Error *error);
// Goes on along the timeline that the source says comes next, from the segment of the place where
// it says that one begins. REPLICATION_BROKEN when that cannot be.
Status postgresql_stream_switch(PostgresqlStream *stream, const char *timeline, const char *lsn,
                                Error *error);
void postgresql_stream_close(PostgresqlStream *stream);
