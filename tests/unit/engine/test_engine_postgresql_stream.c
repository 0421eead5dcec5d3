// SPDX-License-Identifier: Apache-2.0
// A walsender's messages on their way into pg_wal. If this goes red, WAL of another place or of
// behind a checkpoint gets into a backup, or a source can lead the agent in circles.
#include "agent/engine/engine_postgresql_stream.h"
#include "common/file.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_BYTES 65536
#define ANOTHER_PLACE "the source sent WAL of another place than expected"
#define START_LSN UINT64_C(0x2FF00) // 256 bytes before a segment's end

typedef struct Fixture {
    char *directory;
    PostgresqlStream stream;
} Fixture;

static Fixture fixture_new(void)
{
    Fixture fixture = {.directory = temp_dir_new()};
    CLEANUP_FREE char *wal = path_join(fixture.directory, "pg_wal");
    assert_int_equal(mkdir(wal, 0700), 0);
    fixture.stream = (PostgresqlStream){.data_directory = fixture.directory,
                                        .segment_bytes = SEGMENT_BYTES,
                                        .timeline = 3,
                                        .lsn = START_LSN,
                                        .segment_fd = INVALID_FD};
    return fixture;
}

static void fixture_done(Fixture *fixture)
{
    postgresql_stream_close(&fixture->stream);
    temp_dir_removep(&fixture->directory);
}

static int byte_of(const Fixture *fixture, const char *segment, off_t offset)
{
    CLEANUP_FREE char *name = string_format("pg_wal/%s", segment);
    CLEANUP_FREE char *path = path_join(fixture->directory, name);
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t byte = 0;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    return byte;
}

static PostgresqlMessage wal_of(uint64_t lsn, const uint8_t *wal, size_t size)
{
    return (PostgresqlMessage){
        .kind = POSTGRESQL_MESSAGE_WAL, .lsn = lsn, .wal = wal, .wal_size = size};
}

static void test_messages_are_read(void **state)
{
    (void)state;
    static const uint8_t wal[] = "w\0\0\0\1\0\0\0\2--------........WAL";
    PostgresqlMessage message = postgresql_message_read(wal, sizeof(wal) - 1);
    assert_int_equal(message.kind, POSTGRESQL_MESSAGE_WAL);
    assert_int_equal(message.lsn, UINT64_C(0x100000002));
    assert_int_equal(message.wal_size, 3);
    assert_memory_equal(message.wal, "WAL", 3);
    message = postgresql_message_read(wal, 25); // a message may have no WAL
    assert_int_equal(message.kind, POSTGRESQL_MESSAGE_WAL);
    assert_int_equal(message.wal_size, 0);
    static const uint8_t alive[] = "k--------........\1";
    message = postgresql_message_read(alive, sizeof(alive) - 1);
    assert_int_equal(message.kind, POSTGRESQL_MESSAGE_KEEPALIVE);
    assert_true(message.wants_reply);
    assert_int_equal(postgresql_message_read(wal, 24).kind, POSTGRESQL_MESSAGE_UNKNOWN);
    assert_int_equal(postgresql_message_read(alive, 17).kind, POSTGRESQL_MESSAGE_UNKNOWN);
    assert_int_equal(postgresql_message_read(NULL, 0).kind, POSTGRESQL_MESSAGE_UNKNOWN);
}

static void test_wal_goes_to_its_place_and_not_behind_the_limit(void **state)
{
    (void)state;
    Error error = {0};
    uint8_t wal[1000];
    memset(wal, 'w', sizeof(wal));
    CLEANUP(fixture_done) Fixture fixture = fixture_new();
    PostgresqlStream *stream = &fixture.stream;
    PostgresqlMessage message = wal_of(START_LSN, wal, sizeof(wal));
    assert_ok(postgresql_stream_take(stream, &message, START_LSN + 500, &error), &error);
    assert_int_equal(stream->lsn, START_LSN + 500);
    assert_int_equal(byte_of(&fixture, "000000030000000000000002", 0xFEFF), 0);
    assert_int_equal(byte_of(&fixture, "000000030000000000000002", 0xFF00), 'w');
    assert_int_equal(byte_of(&fixture, "000000030000000000000002", 0xFFFF), 'w');
    assert_int_equal(byte_of(&fixture, "000000030000000000000003", 243), 'w');
    assert_int_equal(byte_of(&fixture, "000000030000000000000003", 244), 0);
    assert_int_equal(byte_of(&fixture, "000000030000000000000004", SEGMENT_BYTES - 1), 0);
    // Again, or with a gap.
    assert_error(postgresql_stream_take(stream, &message, UINT64_MAX, &error), &error,
                 REASON_REPLICATION_BROKEN, ANOTHER_PLACE);
    message.lsn = stream->lsn + 1;
    assert_error(postgresql_stream_take(stream, &message, UINT64_MAX, &error), &error,
                 REASON_REPLICATION_BROKEN, ANOTHER_PLACE);
    assert_int_equal(byte_of(&fixture, "000000030000000000000003", 245), 0);
    // At the limit nothing more is taken.
    message.lsn = stream->lsn;
    assert_ok(postgresql_stream_take(stream, &message, stream->lsn, &error), &error);
    assert_int_equal(stream->lsn, START_LSN + 500);
}

static void test_timelines_go_on_where_the_one_before_ended(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"3", "0/2FF00"}, {"2", "0/2FF00"},          {"0", "0/2FF00"},  {"-4", "0/2FF00"},
        {"", ""},         {"4294967300", "0/2FF00"}, {"4", "0/2FF01"},  {"4", "1/0"},
        {"4", "nowhere"}, {"4294967295", "0/2FF00"}, {"4x", "0/2FF00"},
    };
    Error error = {0};
    CLEANUP(fixture_done) Fixture fixture = fixture_new();
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        CLEANUP_FREE char *message = string_format(
            "the source ended timeline 3 at %s and goes on with timeline %s, which cannot be",
            bad[i][1], bad[i][0]);
        assert_error(postgresql_stream_switch(&fixture.stream, bad[i][0], bad[i][1], &error),
                     &error, REASON_REPLICATION_BROKEN, message);
        assert_int_equal(fixture.stream.timeline, 3);
        assert_int_equal(fixture.stream.lsn, START_LSN);
    }
    assert_ok(postgresql_stream_switch(&fixture.stream, "5", "0/2FF00", &error), &error);
    assert_int_equal(fixture.stream.timeline, 5);
    assert_int_equal(fixture.stream.lsn, 0x20000); // all of the segment that both share
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_are_read),
        cmocka_unit_test(test_wal_goes_to_its_place_and_not_behind_the_limit),
        cmocka_unit_test(test_timelines_go_on_where_the_one_before_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
