// SPDX-License-Identifier: Apache-2.0
// The local driver: an instance is a directory and the processes that live in it, on this machine.
//
// Steps of a launch, each safe to be the last one before a kill:
//   1. make the directory     - listed from here on, so the sweep finds whatever is left
//   2. birth and join records - nothing runs yet; made again by the next launch
//   3. start the agent        - found by its working directory, even before step 4
//   4. record who it is       - so that a later look needs no search
#include "provisioner/compute_local.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "provisioner/compute_driver.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_MS_DEFAULT 15000
#define DIRECTORY_BYTES_MAX 1024

typedef struct LocalDriver {
    ComputeDriver base;
    char *directory; // canonical, as the kernel shows working directories
    char *log_directory;
    char *agent_program; // absolute
    int64_t grace_ms;
    pthread_mutex_t mutex; // one launch or terminate at a time; guards the children
    pid_t *children;       // started by us and not reaped yet
    size_t child_count;
    size_t child_capacity;
} LocalDriver;

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        (void)closedir(*directory); // reading only: nothing can be lost
    }
}

static void unlockp(pthread_mutex_t **mutex)
{
    (void)pthread_mutex_unlock(*mutex); // cannot fail for its owner
}
#define LOCKED(driver)                                                                             \
    (void)pthread_mutex_lock(&(driver)->mutex);                                                    \
    CLEANUP(unlockp) pthread_mutex_t *locked_mutex = &(driver)->mutex;                             \
    (void)locked_mutex

// Agents that ended stay as zombies until their parent has looked; while we live that is us.
static void reap_children(LocalDriver *driver)
{
    for (size_t i = 0; i < driver->child_count;) {
        int wait_status = 0;
        pid_t reaped = waitpid(driver->children[i], &wait_status, WNOHANG);
        if (reaped == 0) {
            i++;
            continue;
        }
        driver->children[i] = driver->children[--driver->child_count];
    }
}

static void remember_child(LocalDriver *driver, pid_t pid)
{
    if (driver->child_count == driver->child_capacity) {
        driver->child_capacity = driver->child_capacity == 0 ? 16 : driver->child_capacity * 2;
        driver->children =
            mem_realloc_array(driver->children, driver->child_capacity, sizeof(pid_t));
    }
    driver->children[driver->child_count++] = pid;
}

static Status local_preflight(ComputeDriver *base, const LaunchSpec *spec, Error *error)
{
    LocalDriver *driver = (LocalDriver *)base;
    (void)spec;
    if (access(driver->agent_program, X_OK) != 0) {
        error_set_errno(error, REASON_LAUNCH_FAILED, errno, "the agent program '%s'",
                        driver->agent_program);
        return error_hint(error, "set agent-program to the path of holdfast-agent");
    }
    if (access(driver->directory, W_OK | X_OK) != 0) {
        error_set_errno(error, REASON_LAUNCH_FAILED, errno, "the instance directory '%s'",
                        driver->directory);
        return error_hint(error, "make it writable for the user that holdfastd runs as");
    }
    return STATUS_OK;
}

static Status start_agent(LocalDriver *driver, const LaunchSpec *spec,
                          ProcessIdentity *ret_identity, Error *error)
{
    char directory[LOCAL_PATH_SIZE];
    char log[LOCAL_PATH_SIZE];
    local_path(driver->directory, spec->instance_id, NULL, directory);
    local_path(driver->directory, spec->instance_id, "agent.log", log);
    const char *arguments[] = {driver->agent_program, "--instance-directory", directory, NULL};
    ProcessOptions options = {
        .arguments = arguments, .directory = directory, .output_path = log, .new_session = true};
    pid_t pid = 0;
    if (process_spawn(&options, &pid, error) != STATUS_OK) {
        error->reason = REASON_LAUNCH_FAILED;
        error->status = reason_status(REASON_LAUNCH_FAILED);
        return error_wrap(error, "instance %s", spec->instance_id);
    }
    remember_child(driver, pid);
    if (!process_identify(pid, ret_identity)) { // our own unreaped child always has an entry
        return error_set(error, REASON_LAUNCH_FAILED, "instance %s ended while it was started",
                         spec->instance_id);
    }
    return STATUS_OK;
}

// The agent of an instance, if it runs: the one recorded, or (killed before it was recorded) the
// oldest process at its root.
static Status find_agent(LocalDriver *driver, const char *instance_id, bool *ret_is_found,
                         ProcessIdentity *ret_identity, Error *error)
{
    *ret_is_found = local_read_process(driver->directory, instance_id, ret_identity) &&
                    process_is_alive(ret_identity);
    if (*ret_is_found) {
        return STATUS_OK;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    LocalProcess *processes = NULL;
    size_t count = 0;
    RETURN_IF_ERROR(
        local_processes_find(driver->directory, instance_id, arena, &processes, &count, error));
    for (size_t i = 0; i < count; i++) {
        if (processes[i].is_at_root &&
            getsid(processes[i].identity.pid) == processes[i].identity.pid) {
            *ret_identity = processes[i].identity;
            *ret_is_found = true;
            return local_write_process(driver->directory, instance_id, ret_identity, error);
        }
    }
    return STATUS_OK;
}

static Status refuse_ended(LocalDriver *driver, const char *instance_id, Error *error)
{
    Buffer log;
    buffer_init(&log, 512);
    Error ignored = {0};
    (void)local_read_log(driver->directory, driver->log_directory, instance_id, &log, &ignored);
    error_set(error, REASON_LAUNCH_FAILED, "the agent of instance %s has ended already",
              instance_id);
    if (log.size > 0) {
        error_hint(error, "its log begins its end with: %.300s", buffer_text(&log));
    }
    buffer_done(&log);
    return error->status;
}

static Status local_launch(ComputeDriver *base, const LaunchSpec *spec,
                           char ret_provider_id[PROVIDER_ID_SIZE], Error *error)
{
    LocalDriver *driver = (LocalDriver *)base;
    LOCKED(driver);
    reap_children(driver);
    ProcessIdentity identity = {0};
    bool is_found = false;
    char path[LOCAL_PATH_SIZE];
    local_path(driver->directory, spec->instance_id, NULL, path);
    if (mkdir(path, 0700) != 0) {
        if (errno != EEXIST) {
            return error_set_errno(error, REASON_LAUNCH_FAILED, errno, "making '%s'", path);
        }
        if (local_is_terminated(driver->directory, spec->instance_id)) {
            return error_set(error, REASON_PRECONDITION, "instance %s is being destroyed",
                             spec->instance_id);
        }
        RETURN_IF_ERROR(find_agent(driver, spec->instance_id, &is_found, &identity, error));
        ProcessIdentity ended = {0};
        if (!is_found && local_read_process(driver->directory, spec->instance_id, &ended)) {
            return refuse_ended(driver, spec->instance_id, error);
        }
    }
    if (!is_found) {
        RETURN_IF_ERROR(local_write_birth(driver->directory, spec->instance_id, error));
        RETURN_IF_ERROR(local_write_join(driver->directory, spec, error));
        RETURN_IF_ERROR(start_agent(driver, spec, &identity, error));
        RETURN_IF_ERROR(
            local_write_process(driver->directory, spec->instance_id, &identity, error));
    }
    (void)snprintf(ret_provider_id, PROVIDER_ID_SIZE, "%d", (int)identity.pid);
    return STATUS_OK;
}

static void append_instance(ComputeInstance **list, size_t *count, const char *instance_id)
{
    *list = mem_realloc_array(*list, *count + 1, sizeof(**list));
    ComputeInstance *instance = &(*list)[(*count)++];
    *instance = (ComputeInstance){0};
    memcpy(instance->instance_id, instance_id, sizeof(instance->instance_id));
}

static void append_processes(const LocalProcess *processes, size_t process_count,
                             ComputeInstance **list, size_t *count)
{
    for (size_t i = 0; i < process_count; i++) {
        size_t at = 0;
        while (at < *count && strcmp((*list)[at].instance_id, processes[i].instance_id) != 0) {
            at++;
        }
        if (at == *count) {
            append_instance(list, count, processes[i].instance_id);
        }
        (*list)[at].is_running |= processes[i].is_at_root;
        if ((*list)[at].provider_id[0] == '\0') {
            (void)snprintf((*list)[at].provider_id, PROVIDER_ID_SIZE, "%d",
                           (int)processes[i].identity.pid);
        }
    }
}

static Status local_list(ComputeDriver *base, Arena *arena, ComputeInstance **ret_instances,
                         size_t *ret_count, Error *error)
{
    LocalDriver *driver = (LocalDriver *)base;
    {
        LOCKED(driver);
        reap_children(driver);
    }
    CLEANUP_FREE ComputeInstance *list = NULL;
    size_t count = 0;
    CLEANUP(directory_closep) DIR *directory = opendir(driver->directory);
    if (directory == NULL) {
        return error_set_errno(error, REASON_UNAVAILABLE, errno, "reading '%s'", driver->directory);
    }
    struct dirent *entry = NULL;
    while ((errno = 0, entry = readdir(directory)) != NULL) {
        if (uuid_is_valid(entry->d_name)) {
            append_instance(&list, &count, entry->d_name);
        }
    }
    if (errno != 0) {
        return error_set_errno(error, REASON_UNAVAILABLE, errno, "reading '%s'", driver->directory);
    }
    LocalProcess *processes = NULL;
    size_t process_count = 0;
    RETURN_IF_ERROR(
        local_processes_find(driver->directory, NULL, arena, &processes, &process_count, error));
    append_processes(processes, process_count, &list, &count);
    for (size_t i = 0; i < count; i++) {
        list[i].created_us = local_read_birth(driver->directory, list[i].instance_id);
    }
    *ret_instances = arena_copy(arena, list, count * sizeof(*list));
    *ret_count = count;
    return STATUS_OK;
}

// Asks the agent first, so that it can take its slot off the source; what is left after the grace
// is killed.
static void end_processes(LocalDriver *driver, const char *instance_id,
                          const LocalProcess *processes, size_t count, int64_t since_us)
{
    ProcessIdentity agent = {0};
    bool has_agent =
        local_read_process(driver->directory, instance_id, &agent) && process_is_alive(&agent);
    bool is_patient = clock_now_us() - since_us < driver->grace_ms * 1000;
    for (size_t i = 0; i < count; i++) {
        bool is_agent = has_agent ? processes[i].identity.pid == agent.pid
                                  : processes[i].is_at_root && getsid(processes[i].identity.pid) ==
                                                                   processes[i].identity.pid;
        if (is_agent && is_patient) {
            (void)local_process_signal(driver->directory, &processes[i], SIGTERM);
            return; // it ends its own children
        }
    }
    for (size_t i = 0; i < count; i++) {
        (void)local_process_signal(driver->directory, &processes[i], SIGKILL); // gone is as good
    }
}

static Status local_terminate(ComputeDriver *base, const char *instance_id, Error *error)
{
    LocalDriver *driver = (LocalDriver *)base;
    LOCKED(driver);
    reap_children(driver);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    LocalProcess *processes = NULL;
    size_t count = 0;
    char path[LOCAL_PATH_SIZE];
    local_path(driver->directory, instance_id, NULL, path);
    int64_t since_us = 0;
    bool is_first = false;
    // The mark comes before the look: from here on launch refuses, so nothing can be started after
    // the last look.
    if (access(path, F_OK) == 0) {
        RETURN_IF_ERROR(
            local_mark_terminated(driver->directory, instance_id, &since_us, &is_first, error));
    }
    RETURN_IF_ERROR(
        local_processes_find(driver->directory, instance_id, arena, &processes, &count, error));
    if (count > 0) {
        end_processes(driver, instance_id, processes, count, since_us);
        return STATUS_OK;
    }
    return local_remove(driver->directory, driver->log_directory, instance_id, error);
}

static Status local_fetch_log(ComputeDriver *base, const char *instance_id, Buffer *buffer,
                              Error *error)
{
    LocalDriver *driver = (LocalDriver *)base;
    return local_read_log(driver->directory, driver->log_directory, instance_id, buffer, error);
}

static void local_free(ComputeDriver *base)
{
    LocalDriver *driver = (LocalDriver *)base;
    (void)pthread_mutex_destroy(&driver->mutex);
    mem_free(driver->directory);
    mem_free(driver->log_directory);
    mem_free(driver->agent_program);
    mem_free(driver->children);
    mem_free(driver);
}

static const ComputeDriverOperations LOCAL_OPERATIONS = {
    .name = "local",
    .launch = local_launch,
    .list = local_list,
    .terminate = local_terminate,
    .fetch_log = local_fetch_log,
    .preflight = local_preflight,
    .free = local_free,
};

Status compute_local_new(const LocalDriverOptions *options, ComputeDriver **ret_driver,
                         Error *error)
{
    assert(options != NULL && options->directory != NULL && options->agent_program != NULL);
    RETURN_IF_ERROR(dir_create_all(options->directory, 0700, error));
    char canonical[LOCAL_PATH_SIZE];
    if (realpath(options->directory, canonical) == NULL) {
        return error_set_errno(error, REASON_INVALID, errno, "the instance directory '%s'",
                               options->directory);
    }
    if (strlen(canonical) > DIRECTORY_BYTES_MAX) {
        error_set(error, REASON_INVALID, "the instance directory's path is longer than %d bytes",
                  DIRECTORY_BYTES_MAX);
        return error_hint(error, "choose a data-dir with a shorter path");
    }
    LocalDriver *driver = mem_alloc(sizeof(*driver));
    driver->base.operations = &LOCAL_OPERATIONS;
    driver->directory = string_copy(canonical);
    driver->log_directory = options->log_directory != NULL ? string_copy(options->log_directory)
                                                           : string_format("%s-logs", canonical);
    driver->agent_program = string_copy(options->agent_program);
    driver->grace_ms = options->grace_ms > 0 ? options->grace_ms : GRACE_MS_DEFAULT;
    (void)pthread_mutex_init(&driver->mutex, NULL); // cannot fail with default attributes
    *ret_driver = (ComputeDriver *)driver;
    return STATUS_OK;
}
