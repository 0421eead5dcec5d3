// SPDX-License-Identifier: Apache-2.0
// Reading what the provisioner wrote. The directory is ours, but its content is checked as all
// outside input is.
#include "agent/instance.h"

#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define JOIN_FILE_BYTES_MAX (64 * 1024)
// Engines make their sockets in the work directory: sun_path has 108 bytes, and the longest name is
// "/.s.PGSQL.65535".
#define WORK_PATH_BYTES_MAX 90

static Status instance_lock(Instance *instance, Error *error)
{
    CLEANUP_FREE char *path = string_format("%s/lock", instance->directory);
    instance->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (instance->lock_fd == INVALID_FD) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'", path);
    }
    if (flock(instance->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return error_set(error, REASON_EXISTS, "an agent runs in '%s' already",
                             instance->directory);
        }
        return error_set_errno(error, REASON_INTERNAL, errno, "locking '%s'", path);
    }
    return STATUS_OK;
}

static Status instance_read_addresses(Instance *instance, const Json *join, Error *error)
{
    const Json *addresses = json_get(join, "server_addresses");
    for (const Json *item = json_first(addresses); item != NULL; item = json_next(item)) {
        const char *address = json_text(item, "");
        if (instance->address_count == INSTANCE_ADDRESS_COUNT_MAX) {
            break; // more would not help: any server will do
        }
        if (strchr(address, ':') == NULL) {
            return error_set(error, REASON_INVALID, "'%s' is not host:port", address);
        }
        instance->addresses[instance->address_count] = string_copy(address);
        instance->address_count++;
    }
    if (instance->address_count == 0) {
        return error_set(error, REASON_INVALID, "join.json names no server address");
    }
    return STATUS_OK;
}

static Status instance_parse_join(const char *directory, Json **ret_join, Error *error)
{
    CLEANUP_FREE char *path = string_format("%s/join.json", directory);
    char *text = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(file_read(path, JOIN_FILE_BYTES_MAX, &text, &size, error));
    Status status = json_parse(text, size, ret_join, error);
    secret_wipe_text(text);
    mem_free(text);
    return status == STATUS_OK ? STATUS_OK : error_wrap(error, "reading '%s'", path);
}

static Status instance_read_join(Instance *instance, Error *error)
{
    CLEANUP(json_freep) Json *join = NULL;
    RETURN_IF_ERROR(instance_parse_join(instance->directory, &join, error));
    const char *instance_id = json_get_text(join, "instance_id", "");
    const char *secret = json_get_text(join, "join_secret", "");
    if (*instance_id == '\0') {
        return error_set(error, REASON_INVALID, "join.json has no instance_id");
    }
    if (*secret == '\0') {
        (void)error_set(error, REASON_PRECONDITION, "join.json has no join_secret any more");
        return error_hint(error, "an instance joins once; launch a new one");
    }
    instance->instance_id = string_copy(instance_id);
    instance->join_secret = secret_from_text(secret);
    instance->certificate_pem = string_copy(json_get_text(join, "certificate_pem", NULL));
    instance->server_name = string_copy(json_get_text(join, "server_name", NULL));
    instance->deadman_ms = json_get_integer(join, "deadman_ms", 0);
    instance->lifetime_ms = json_get_integer(join, "lifetime_ms", 0);
    if (text_is_empty(instance->certificate_pem)) {
        return error_set(error, REASON_INVALID, "join.json has no certificate_pem to trust");
    }
    if (instance->deadman_ms <= 0 || instance->lifetime_ms < 0) {
        return error_set(error, REASON_INVALID,
                         "join.json must give a deadman_ms above 0 and a lifetime_ms of 0 or more");
    }
    return instance_read_addresses(instance, join, error);
}

static Status instance_paths(const char *directory, Instance *instance, Error *error)
{
    char path[PATH_MAX];
    if (realpath(directory, path) == NULL) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening instance directory '%s'",
                               directory);
    }
    instance->directory = string_copy(path);
    instance->data_directory = string_format("%s/data", path);
    instance->work_directory = string_format("%s/work", path);
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (size < 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "finding our own program");
    }
    path[size] = '\0';
    instance->agent_program = string_copy(path);
    return STATUS_OK;
}

// A directory far down gets a short name as well: that of our own descriptor of it, which works for
// our children too, and ends with us as they do. Nothing of it is left behind.
static Status instance_open_work(Instance *instance, Error *error)
{
    RETURN_IF_ERROR(dir_create_all(instance->work_directory, 0700, error));
    if (strlen(instance->work_directory) <= WORK_PATH_BYTES_MAX) {
        return STATUS_OK;
    }
    instance->work_fd = open(instance->work_directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (instance->work_fd == INVALID_FD) {
        return error_set_errno(error, REASON_INTERNAL, errno, "opening '%s'",
                               instance->work_directory);
    }
    mem_free(instance->work_directory);
    instance->work_directory = string_format("/proc/%d/fd/%d", (int)getpid(), instance->work_fd);
    return STATUS_OK;
}

Status instance_open(const char *directory, Instance *ret_instance, Error *error)
{
    *ret_instance = (Instance){.lock_fd = INVALID_FD, .work_fd = INVALID_FD};
    Status status = instance_paths(directory, ret_instance, error);
    if (status == STATUS_OK) {
        status = instance_lock(ret_instance, error);
    }
    if (status == STATUS_OK) {
        status = instance_read_join(ret_instance, error);
    }
    if (status == STATUS_OK) {
        status = instance_open_work(ret_instance, error);
    }
    if (status != STATUS_OK) {
        instance_done(ret_instance);
    }
    return status;
}

Status instance_forget_secret(const Instance *instance, Error *error)
{
    CLEANUP(json_freep) Json *rest = json_new_object();
    json_set_text(rest, "instance_id", instance->instance_id);
    json_set_boolean(rest, "has_joined", true);
    CLEANUP(buffer_done) Buffer text;
    buffer_init(&text, JOIN_FILE_BYTES_MAX);
    (void)json_write(rest, true, &text);
    CLEANUP_FREE char *path = string_format("%s/join.json", instance->directory);
    return file_write_atomic(path, text.data, text.size, 0600, error);
}

void instance_done(Instance *instance)
{
    for (size_t i = 0; i < instance->address_count; i++) {
        mem_free(instance->addresses[i]);
    }
    mem_free(instance->directory);
    mem_free(instance->data_directory);
    mem_free(instance->work_directory);
    mem_free(instance->agent_program);
    mem_free(instance->instance_id);
    mem_free(instance->certificate_pem);
    mem_free(instance->server_name);
    secret_done(&instance->join_secret);
    fd_closep(&instance->lock_fd);
    fd_closep(&instance->work_fd);
    *instance = (Instance){.lock_fd = INVALID_FD, .work_fd = INVALID_FD};
}
