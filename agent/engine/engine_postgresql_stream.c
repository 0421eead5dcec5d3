// SPDX-License-Identifier: Apache-2.0
#include "agent/engine/engine_postgresql_stream.h"

#include "agent/engine/engine_postgresql_client.h"
#include "agent/engine/engine_postgresql_server.h"
#include "agent/engine/engine_postgresql_wal.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAL_HEADER_BYTES 25 // 'w', its LSN, the end of WAL there, the time
#define KEEPALIVE_BYTES 18  // 'k', the end of WAL there, the time, whether to reply
#define POSTGRES_EPOCH_US INT64_C(946684800000000)

static uint64_t read_u64(const uint8_t *data)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | data[i];
    }
    return value;
}

static void put_u64(uint8_t *data, uint64_t value)
{
    for (int i = 7; i >= 0; i--) {
        data[i] = (uint8_t)value;
        value >>= 8;
    }
}

PostgresqlMessage postgresql_message_read(const uint8_t *data, size_t size)
{
    if (size >= WAL_HEADER_BYTES && data[0] == 'w') {
        return (PostgresqlMessage){.kind = POSTGRESQL_MESSAGE_WAL,
                                   .lsn = read_u64(data + 1),
                                   .wal = data + WAL_HEADER_BYTES,
                                   .wal_size = size - WAL_HEADER_BYTES};
    }
    if (size >= KEEPALIVE_BYTES && data[0] == 'k') {
        return (PostgresqlMessage){.kind = POSTGRESQL_MESSAGE_KEEPALIVE,
                                   .wants_reply = data[KEEPALIVE_BYTES - 1] != 0};
    }
    return (PostgresqlMessage){.kind = POSTGRESQL_MESSAGE_UNKNOWN};
}

void postgresql_feedback_write(uint64_t written_lsn, int64_t now_us, bool wants_reply,
                               uint8_t ret_message[POSTGRESQL_FEEDBACK_SIZE])
{
    memset(ret_message, 0, POSTGRESQL_FEEDBACK_SIZE);
    ret_message[0] = 'r';
    put_u64(ret_message + 1, written_lsn);
    put_u64(ret_message + 25, (uint64_t)(now_us - POSTGRES_EPOCH_US));
    ret_message[33] = wants_reply ? 1 : 0;
}

bool postgresql_timeline_parse(const char *text, uint32_t *ret_timeline)
{
    int64_t number = 0;
    if (!text_to_int64(text, &number) || number <= 0 || number >= UINT32_MAX) {
        return false;
    }
    *ret_timeline = (uint32_t)number;
    return true;
}

static Status open_segment(const PostgresqlStream *stream, uint64_t segment, int *ret_fd,
                           Error *error)
{
    char name[8 + POSTGRESQL_SEGMENT_NAME_SIZE] = "pg_wal/";
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_segment_name(stream->timeline, segment, stream->segment_bytes,
                            name + strlen("pg_wal/"));
    postgresql_path(stream->data_directory, name, path);
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0 ||
        (facts.st_size < stream->segment_bytes && ftruncate(fd, stream->segment_bytes) != 0)) {
        return error_set_errno(error, REASON_INTERNAL, errno, "creating '%s'", path);
    }
    *ret_fd = fd;
    fd = INVALID_FD;
    return STATUS_OK;
}

void postgresql_stream_close(PostgresqlStream *stream)
{
    fd_closep(&stream->segment_fd);
    stream->segment_fd = INVALID_FD;
}

// The next segment is made as well: the server would otherwise prepare it, and put its own file in
// the place of ours.
static Status switch_segment(PostgresqlStream *stream, uint64_t segment, Error *error)
{
    if (stream->segment_fd != INVALID_FD && stream->segment == segment) {
        return STATUS_OK;
    }
    postgresql_stream_close(stream);
    CLEANUP(fd_closep) int next_fd = INVALID_FD;
    RETURN_IF_ERROR(open_segment(stream, segment + 1, &next_fd, error));
    RETURN_IF_ERROR(open_segment(stream, segment, &stream->segment_fd, error));
    stream->segment = segment;
    return STATUS_OK;
}

Status postgresql_stream_take(PostgresqlStream *stream, const PostgresqlMessage *message,
                              uint64_t limit_lsn, Error *error)
{
    uint64_t segment_bytes = (uint64_t)stream->segment_bytes;
    const uint8_t *data = message->wal;
    if (message->lsn != stream->lsn || message->wal_size > UINT64_MAX - stream->lsn) {
        return error_set(error, REASON_REPLICATION_BROKEN,
                         "the source sent WAL of another place than expected");
    }
    uint64_t allowed = limit_lsn > stream->lsn ? limit_lsn - stream->lsn : 0;
    size_t size = (size_t)MIN(allowed, (uint64_t)message->wal_size);
    while (size > 0) {
        uint64_t offset = stream->lsn % segment_bytes;
        size_t part = (size_t)MIN(segment_bytes - offset, (uint64_t)size);
        RETURN_IF_ERROR(switch_segment(stream, stream->lsn / segment_bytes, error));
        recorder_note_write(stream->recorder, stream->segment_fd, (int64_t)offset, (int64_t)part);
        RETURN_IF_ERROR(file_write_all_at(stream->segment_fd, data, part, (int64_t)offset, error));
        stream->lsn += part;
        data += part;
        size -= part;
    }
    return STATUS_OK;
}

Status postgresql_stream_switch(PostgresqlStream *stream, const char *timeline, const char *lsn,
                                Error *error)
{
    uint32_t next = 0;
    uint64_t switch_lsn = 0;
    // A place that is yet to come would leave a hole; the same timeline again would never end.
    if (!postgresql_timeline_parse(timeline, &next) || next <= stream->timeline ||
        !postgresql_lsn_parse(lsn, &switch_lsn) || switch_lsn > stream->lsn) {
        return error_set(error, REASON_REPLICATION_BROKEN,
                         "the source ended timeline %" PRIu32
                         " at %.20s and goes on with timeline %.20s, which cannot be",
                         stream->timeline, lsn, timeline);
    }
    // The segment that both timelines share begins with the old one's records: all of it belongs to
    // the new one.
    uint64_t segment_bytes = (uint64_t)stream->segment_bytes;
    stream->timeline = next;
    stream->lsn = switch_lsn / segment_bytes * segment_bytes;
    postgresql_stream_close(stream);
    return STATUS_OK;
}
