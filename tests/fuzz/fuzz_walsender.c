// SPDX-License-Identifier: Apache-2.0
// What a walsender says, from the first byte to the segments of pg_wal. Input: pieces, each two
// bytes with its size (the higher first) and: a message as PostgreSQL sends it; or 'L' and eight
// bytes, the limit from here on; or 'T', and a timeline, a space and an LSN, the answer at a
// timeline's end.
#include "agent/engine/engine_postgresql_stream.h"
#include "common/file.h"
#include "common/memory.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_BYTES 4096
#define START_LSN UINT64_C(0x1000F80) // a little before a segment's end

static char directory[64];

static void remove_directory(void)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/pg_wal", directory);
    (void)rmdir(path);
    (void)rmdir(directory);
}

static void make_directory(void)
{
    char path[128];
    (void)snprintf(directory, sizeof(directory), "/tmp/fuzz-walsender-XXXXXX");
    const char *made = mkdtemp(directory);
    assert(made != NULL);
    (void)snprintf(path, sizeof(path), "%s/pg_wal", directory);
    int failed = mkdir(path, 0700);
    assert(failed == 0);
    (void)atexit(remove_directory);
}

// Every segment is whole; none is left.
static void empty_directory(void)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/pg_wal", directory);
    DIR *segments = opendir(path);
    assert(segments != NULL);
    for (struct dirent *entry = readdir(segments); entry != NULL; entry = readdir(segments)) {
        struct stat facts;
        if (entry->d_name[0] != '.') {
            int failed = fstatat(dirfd(segments), entry->d_name, &facts, 0);
            assert(failed == 0 && facts.st_size == SEGMENT_BYTES);
            (void)unlinkat(dirfd(segments), entry->d_name, 0);
        }
    }
    (void)closedir(segments);
}

// What the last segment of a message has is what was sent.
static void check_written(const PostgresqlStream *stream, const uint8_t *wal, size_t size)
{
    uint8_t found[SEGMENT_BYTES];
    size_t within = (size_t)((stream->lsn - 1) % SEGMENT_BYTES) + 1;
    size_t last = MIN(within, size);
    ssize_t count = pread(stream->segment_fd, found, last, (off_t)(within - last));
    assert(count == (ssize_t)last && memcmp(found, wal + size - last, last) == 0);
}

static void take(PostgresqlStream *stream, const uint8_t *data, size_t size, uint64_t limit_lsn)
{
    Error error = {0};
    uint8_t feedback[POSTGRESQL_FEEDBACK_SIZE];
    const PostgresqlMessage message = postgresql_message_read(data, size);
    if (message.kind == POSTGRESQL_MESSAGE_KEEPALIVE) {
        postgresql_feedback_write(stream->lsn, 0, message.wants_reply, feedback);
        assert(feedback[0] == 'r' && feedback[POSTGRESQL_FEEDBACK_SIZE - 1] <= 1);
    }
    if (message.kind != POSTGRESQL_MESSAGE_WAL) {
        return;
    }
    assert(message.wal >= data && message.wal + message.wal_size == data + size);
    uint64_t before = stream->lsn;
    if (postgresql_stream_take(stream, &message, limit_lsn, &error) != STATUS_OK) {
        assert(error.reason == REASON_REPLICATION_BROKEN && stream->lsn == before);
        return;
    }
    assert(message.lsn == before && stream->lsn - before <= message.wal_size);
    assert(stream->lsn == before + message.wal_size || stream->lsn == MAX(before, limit_lsn));
    if (stream->lsn > before) {
        assert(stream->lsn <= limit_lsn);
        check_written(stream, message.wal, (size_t)(stream->lsn - before));
    }
}

static void switch_timeline(PostgresqlStream *stream, const uint8_t *data, size_t size)
{
    Error error = {0};
    CLEANUP_FREE char *text = string_copy_n((const char *)data, size);
    char *space = strchr(text, ' ');
    const PostgresqlStream before = *stream;
    if (space == NULL) {
        return;
    }
    *space = '\0';
    if (postgresql_stream_switch(stream, text, space + 1, &error) == STATUS_OK) {
        assert(stream->timeline > before.timeline && stream->lsn <= before.lsn);
        assert(stream->lsn % SEGMENT_BYTES == 0);
    } else {
        assert(error.reason == REASON_REPLICATION_BROKEN && stream->lsn == before.lsn);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (directory[0] == '\0') {
        make_directory();
    }
    PostgresqlStream stream = {.data_directory = directory,
                               .segment_bytes = SEGMENT_BYTES,
                               .timeline = 1,
                               .lsn = START_LSN,
                               .segment_fd = INVALID_FD};
    uint64_t limit_lsn = UINT64_MAX;
    while (size > 2) {
        size_t piece = MIN((size_t)data[0] << 8 | data[1], size - 2);
        const uint8_t *bytes = data + 2;
        data += 2 + piece;
        size -= 2 + piece;
        if (piece == 9 && bytes[0] == 'L') {
            limit_lsn = 0;
            for (size_t i = 1; i < 9; i++) {
                limit_lsn = limit_lsn << 8 | bytes[i];
            }
        } else if (piece > 0 && bytes[0] == 'T') {
            switch_timeline(&stream, bytes + 1, piece - 1);
        } else {
            take(&stream, bytes, piece, limit_lsn);
        }
    }
    postgresql_stream_close(&stream);
    empty_directory();
    return 0;
}
