// SPDX-License-Identifier: Apache-2.0
// The files of local instances. Every one is replaced atomically or made once, so that a kill
// leaves no half file.
#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"
#include "provisioner/compute_local.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_BYTES_MAX (256 * 1024)
#define LOG_TAIL_BYTES 4096
#define LOG_KEEP_COUNT 50

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        (void)closedir(*directory); // reading only: nothing can be lost
    }
}

void local_path(const char *directory, const char *instance_id, const char *name,
                char ret_path[LOCAL_PATH_SIZE])
{
    int size = name == NULL
                   ? snprintf(ret_path, LOCAL_PATH_SIZE, "%s/%s", directory, instance_id)
                   : snprintf(ret_path, LOCAL_PATH_SIZE, "%s/%s/%s", directory, instance_id, name);
    assert(size > 0 && size < LOCAL_PATH_SIZE); // the driver's constructor limits the directory
    (void)size;
}

static Status write_record(const char *path, const Json *record, Error *error)
{
    Buffer buffer;
    buffer_init(&buffer, RECORD_BYTES_MAX);
    bool fits = json_write(record, true, &buffer);
    Status status = fits ? file_write_atomic(path, buffer.data, buffer.size, 0600, error)
                         : error_set(error, REASON_EXHAUSTED, "the record '%s' is too large", path);
    if (buffer.data != NULL) {
        secret_wipe_text((char *)buffer.data); // the join record holds the secret
    }
    buffer_done(&buffer);
    return status;
}

static Json *read_record(const char *path)
{
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    Json *record = NULL;
    Error ignored = {0}; // no record, or not one: the caller goes on without
    if (file_read(path, RECORD_BYTES_MAX, &text, &size, &ignored) != STATUS_OK ||
        json_parse(text, size, &record, &ignored) != STATUS_OK) {
        return NULL;
    }
    return record;
}

static Json *addresses_array(const char *addresses)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Json *array = json_new_array();
    size_t count = 0;
    char **pieces = text_split(arena, addresses, ',', &count);
    for (size_t i = 0; i < count; i++) {
        json_add(array, json_new_text(pieces[i]));
    }
    return array;
}

Status local_write_join(const char *directory, const LaunchSpec *spec, Error *error)
{
    char path[LOCAL_PATH_SIZE];
    local_path(directory, spec->instance_id, "join.json", path);
    CLEANUP(json_freep) Json *record = json_new_object();
    json_set_text(record, "instance_id", spec->instance_id);
    json_set(record, "server_addresses", addresses_array(spec->server_addresses));
    json_set_text(record, "certificate_pem", spec->certificate_pem);
    if (spec->server_name != NULL) {
        json_set_text(record, "server_name", spec->server_name);
    }
    json_set_text(record, "join_secret", secret_text(spec->join_secret));
    json_set_integer(record, "deadman_ms", spec->deadman_ms);
    json_set_integer(record, "lifetime_ms", spec->lifetime_ms);
    return write_record(path, record, error);
}

Status local_write_birth(const char *directory, const char *instance_id, Error *error)
{
    char path[LOCAL_PATH_SIZE];
    local_path(directory, instance_id, "launch.json", path);
    if (access(path, F_OK) == 0) {
        return STATUS_OK;
    }
    CLEANUP(json_freep) Json *record = json_new_object();
    json_set_text(record, "instance_id", instance_id);
    json_set_integer(record, "created_us", clock_now_us());
    return write_record(path, record, error);
}

int64_t local_read_birth(const char *directory, const char *instance_id)
{
    char path[LOCAL_PATH_SIZE];
    local_path(directory, instance_id, "launch.json", path);
    CLEANUP(json_freep) Json *record = read_record(path);
    int64_t created_us = json_get_integer(record, "created_us", 0);
    struct stat facts;
    local_path(directory, instance_id, NULL, path);
    if (created_us == 0 && stat(path, &facts) == 0) {
        created_us = (int64_t)facts.st_mtime * 1000000;
    }
    return created_us;
}

Status local_write_process(const char *directory, const char *instance_id,
                           const ProcessIdentity *identity, Error *error)
{
    char path[LOCAL_PATH_SIZE];
    local_path(directory, instance_id, "process.json", path);
    CLEANUP(json_freep) Json *record = json_new_object();
    json_set_integer(record, "pid", identity->pid);
    json_set_integer(record, "start_ticks", (int64_t)identity->start_ticks);
    json_set_text(record, "boot_id", identity->boot_id);
    return write_record(path, record, error);
}

bool local_read_process(const char *directory, const char *instance_id,
                        ProcessIdentity *ret_identity)
{
    char path[LOCAL_PATH_SIZE];
    local_path(directory, instance_id, "process.json", path);
    CLEANUP(json_freep) Json *record = read_record(path);
    int64_t pid = json_get_integer(record, "pid", 0);
    const char *boot_id = json_get_text(record, "boot_id", "");
    if (pid <= 1 || pid > INT32_MAX || strlen(boot_id) >= sizeof(ret_identity->boot_id)) {
        return false;
    }
    *ret_identity = (ProcessIdentity){
        .pid = (pid_t)pid, .start_ticks = (uint64_t)json_get_integer(record, "start_ticks", 0)};
    memcpy(ret_identity->boot_id, boot_id, strlen(boot_id) + 1);
    return true;
}

bool local_is_terminated(const char *directory, const char *instance_id)
{
    char path[LOCAL_PATH_SIZE];
    local_path(directory, instance_id, "terminate.json", path);
    return access(path, F_OK) == 0;
}

Status local_mark_terminated(const char *directory, const char *instance_id, int64_t *ret_since_us,
                             bool *ret_is_first, Error *error)
{
    char path[LOCAL_PATH_SIZE];
    local_path(directory, instance_id, "terminate.json", path);
    CLEANUP(json_freep) Json *known = read_record(path);
    int64_t since_us = json_get_integer(known, "since_us", 0);
    *ret_is_first = since_us == 0;
    if (since_us != 0) {
        *ret_since_us = since_us;
        return STATUS_OK;
    }
    since_us = clock_now_us();
    CLEANUP(json_freep) Json *record = json_new_object();
    json_set_integer(record, "since_us", since_us);
    *ret_since_us = since_us;
    return write_record(path, record, error);
}

static Status append_tail(const char *path, Buffer *buffer, Error *error)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0) {
        return error_set_errno(error, REASON_NOT_FOUND, errno, "reading '%s'", path);
    }
    char text[LOG_TAIL_BYTES];
    int64_t offset = MAX(0, (int64_t)facts.st_size - (int64_t)sizeof(text));
    size_t size = 0;
    RETURN_IF_ERROR(file_read_at(fd, text, sizeof(text), offset, &size, error));
    (void)buffer_append(buffer, text, size); // what does not fit is not wanted
    return STATUS_OK;
}

static void kept_log_path(const char *log_directory, const char *name,
                          char ret_path[LOCAL_PATH_SIZE])
{
    local_path(log_directory, name, NULL, ret_path);
}

Status local_read_log(const char *directory, const char *log_directory, const char *instance_id,
                      Buffer *buffer, Error *error)
{
    char path[LOCAL_PATH_SIZE];
    local_path(directory, instance_id, "agent.log", path);
    if (append_tail(path, buffer, error) == STATUS_OK) {
        return STATUS_OK;
    }
    char name[64];
    (void)snprintf(name, sizeof(name), "%s.log", instance_id);
    kept_log_path(log_directory, name, path);
    error_clear(error);
    return append_tail(path, buffer, error);
}

// Removes the oldest kept logs. Instance ids sort by time, so the smallest name is the oldest.
static void prune_logs(const char *log_directory)
{
    for (;;) {
        char path[LOCAL_PATH_SIZE];
        char oldest[256] = "";
        size_t count = 0;
        CLEANUP(directory_closep) DIR *logs = opendir(log_directory);
        struct dirent *entry = NULL;
        while (logs != NULL && (entry = readdir(logs)) != NULL) {
            if (!text_has_suffix(entry->d_name, ".log")) {
                continue;
            }
            count++;
            if (oldest[0] == '\0' || strcmp(entry->d_name, oldest) < 0) {
                (void)snprintf(oldest, sizeof(oldest), "%s", entry->d_name);
            }
        }
        if (count <= LOG_KEEP_COUNT) {
            return;
        }
        kept_log_path(log_directory, oldest, path);
        if (unlink(path) != 0) {
            return; // the next removal tries again
        }
    }
}

static void keep_log(const char *directory, const char *log_directory, const char *instance_id)
{
    char from[LOCAL_PATH_SIZE];
    char to[LOCAL_PATH_SIZE];
    char name[64];
    Error ignored = {0}; // a log that cannot be kept must not keep the instance
    (void)dir_create_all(log_directory, 0700, &ignored);
    (void)snprintf(name, sizeof(name), "%s.log", instance_id);
    local_path(directory, instance_id, "agent.log", from);
    kept_log_path(log_directory, name, to);
    if (rename(from, to) == 0) {
        prune_logs(log_directory);
    }
}

Status local_remove(const char *directory, const char *log_directory, const char *instance_id,
                    Error *error)
{
    char path[LOCAL_PATH_SIZE];
    keep_log(directory, log_directory, instance_id);
    local_path(directory, instance_id, NULL, path);
    return dir_remove_all(path, error);
}
