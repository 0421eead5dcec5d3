// SPDX-License-Identifier: Apache-2.0
// WAL segment files and timeline histories.
#include "agent/engine/engine_postgresql_wal.h"

#include "agent/engine/engine_postgresql_client.h"
#include "agent/engine/engine_postgresql_server.h"
#include "common/file.h"
#include "common/text.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY_LINE_BYTES 256

static uint64_t segments_per_id(int64_t segment_bytes)
{
    return (UINT64_C(1) << 32) / (uint64_t)segment_bytes;
}

void postgresql_segment_name(uint32_t timeline, uint64_t segment, int64_t segment_bytes,
                             char ret_name[POSTGRESQL_SEGMENT_NAME_SIZE])
{
    uint64_t per_id = segments_per_id(segment_bytes);
    (void)snprintf(ret_name, POSTGRESQL_SEGMENT_NAME_SIZE, "%08" PRIX32 "%08" PRIX32 "%08" PRIX32,
                   timeline, (uint32_t)(segment / per_id), (uint32_t)(segment % per_id));
}

static uint32_t hex_of(const char *text)
{
    char digits[9];
    memcpy(digits, text, 8);
    digits[8] = '\0';
    return (uint32_t)strtoul(digits, NULL, 16);
}

bool postgresql_segment_parse(const char *name, int64_t segment_bytes, uint32_t *ret_timeline,
                              uint64_t *ret_segment)
{
    if (strlen(name) != 24 || strspn(name, "0123456789ABCDEF") != 24) {
        return false;
    }
    uint64_t per_id = segments_per_id(segment_bytes);
    uint32_t within = hex_of(name + 16);
    if (within >= per_id) {
        return false;
    }
    *ret_timeline = hex_of(name);
    *ret_segment = hex_of(name + 8) * per_id + within;
    return true;
}

bool postgresql_history_switch(const char *history, uint32_t timeline, uint64_t *ret_switch_lsn)
{
    for (const char *line = history; line != NULL && *line != '\0';) {
        char text[HISTORY_LINE_BYTES];
        (void)snprintf(text, sizeof(text), "%.*s", (int)MIN(strcspn(line, "\n"), sizeof(text) - 1),
                       line);
        char *end = NULL;
        unsigned long number = strtoul(text, &end, 10);
        if (end != text && number == timeline) {
            end += strspn(end, " \t");
            end[strcspn(end, " \t")] = '\0';
            return postgresql_lsn_parse(end, ret_switch_lsn);
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return false;
}

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        (void)closedir(*directory); // only read from
    }
}

static Status open_wal(const char *data_directory, DIR **ret_directory, Error *error)
{
    char path[POSTGRESQL_PATH_SIZE];
    postgresql_path(data_directory, "pg_wal", path);
    *ret_directory = opendir(path);
    if (*ret_directory == NULL) {
        return error_set_errno(error, REASON_PARENT_UNRESTORABLE, errno, "opening '%s'", path);
    }
    return STATUS_OK;
}

Status postgresql_wal_newest(const char *data_directory, int64_t segment_bytes,
                             uint32_t *ret_timeline, uint64_t *ret_segment, Error *error)
{
    CLEANUP(directory_closep) DIR *directory = NULL;
    RETURN_IF_ERROR(open_wal(data_directory, &directory, error));
    bool is_found = false;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        uint32_t timeline;
        uint64_t segment;
        if (!postgresql_segment_parse(entry->d_name, segment_bytes, &timeline, &segment)) {
            continue;
        }
        if (!is_found || segment > *ret_segment ||
            (segment == *ret_segment && timeline > *ret_timeline)) {
            is_found = true;
            *ret_timeline = timeline;
            *ret_segment = segment;
        }
    }
    if (!is_found) {
        return error_set(error, REASON_PARENT_UNRESTORABLE, "the data directory holds no WAL");
    }
    return STATUS_OK;
}

// Cutting the file and making it long again leaves a hole: zeros that cost nothing.
static Status zero_from(const char *path, int64_t offset, int64_t segment_bytes,
                        const Recorder *recorder, Error *error)
{
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        recorder_note_write(recorder, fd, offset, -1);
    }
    if (fd < 0 || ftruncate(fd, offset) != 0 || ftruncate(fd, segment_bytes) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "cutting '%s'", path);
    }
    return STATUS_OK;
}

static bool is_unfinished(const char *name)
{
    return text_has_prefix(name, "xlogtemp.") || text_has_suffix(name, ".partial") ||
           text_has_suffix(name, ".tmp") || text_has_prefix(name, "RECOVERY");
}

Status postgresql_wal_trim(const char *data_directory, int64_t segment_bytes, uint64_t redo_lsn,
                           uint64_t end_lsn, const Recorder *recorder, Error *error)
{
    assert(end_lsn > 0);
    uint64_t first = redo_lsn / (uint64_t)segment_bytes;
    uint64_t last = (end_lsn - 1) / (uint64_t)segment_bytes;
    int64_t used = (int64_t)(end_lsn - last * (uint64_t)segment_bytes);
    CLEANUP(directory_closep) DIR *directory = NULL;
    RETURN_IF_ERROR(open_wal(data_directory, &directory, error));
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char name[64 + 8];
        char path[POSTGRESQL_PATH_SIZE];
        uint32_t timeline;
        uint64_t segment;
        (void)snprintf(name, sizeof(name), "pg_wal/%.64s", entry->d_name);
        postgresql_path(data_directory, name, path);
        bool is_segment =
            postgresql_segment_parse(entry->d_name, segment_bytes, &timeline, &segment);
        if (is_unfinished(entry->d_name) || (is_segment && (segment < first || segment > last))) {
            RETURN_IF_ERROR(postgresql_remove_file(data_directory, name, error));
        } else if (is_segment && segment == last) {
            RETURN_IF_ERROR(zero_from(path, used, segment_bytes, recorder, error));
        }
    }
    return STATUS_OK;
}
