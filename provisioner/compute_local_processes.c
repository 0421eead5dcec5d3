// SPDX-License-Identifier: Apache-2.0
// Finding and signalling the processes of local instances.
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "provisioner/compute_local.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        (void)closedir(*directory); // reading only: nothing can be lost
    }
}

// Which instance's directory holds what this link of the process's ("cwd", "fd/2") points to?
// False: none of ours, or gone, or not ours to see.
static bool find_owner_by(const char *directory, pid_t pid, const char *name,
                          char ret_instance_id[37], bool *ret_is_at_root)
{
    char link[64];
    char path[LOCAL_PATH_SIZE];
    (void)snprintf(link, sizeof(link), "/proc/%d/%s", (int)pid, name);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    if (size <= 0) {
        return false;
    }
    path[size] = '\0';
    size_t root_size = strlen(directory);
    if (strncmp(path, directory, root_size) != 0 || path[root_size] != '/') {
        return false;
    }
    const char *id = path + root_size + 1;
    size_t id_size = strcspn(id, "/ "); // "<id> (deleted)" when it was removed under the process
    if (id_size != UUID_TEXT_SIZE - 1) {
        return false;
    }
    memcpy(ret_instance_id, id, id_size);
    ret_instance_id[id_size] = '\0';
    *ret_is_at_root = id[id_size] != '/';
    return uuid_is_valid(ret_instance_id);
}

// By its working directory; or, for an engine that serves from a directory of its own elsewhere, by
// the log in the instance's directory that its stderr is.
static bool find_owner(const char *directory, pid_t pid, char ret_instance_id[37],
                       bool *ret_is_at_root)
{
    if (find_owner_by(directory, pid, "cwd", ret_instance_id, ret_is_at_root)) {
        return true;
    }
    bool is_served = find_owner_by(directory, pid, "fd/2", ret_instance_id, ret_is_at_root);
    *ret_is_at_root = false;
    return is_served;
}

static int compare_start(const void *left, const void *right)
{
    const LocalProcess *a = left;
    const LocalProcess *b = right;
    if (a->identity.start_ticks != b->identity.start_ticks) {
        return a->identity.start_ticks < b->identity.start_ticks ? -1 : 1;
    }
    return a->identity.pid < b->identity.pid ? -1 : 1;
}

static pid_t to_pid(const char *name)
{
    int64_t number = 0;
    return text_to_int64(name, &number) && number > 0 && number <= INT32_MAX ? (pid_t)number : 0;
}

Status local_processes_find(const char *directory, const char *instance_id, Arena *arena,
                            LocalProcess **ret_processes, size_t *ret_count, Error *error)
{
    CLEANUP(directory_closep) DIR *processes = opendir("/proc");
    if (processes == NULL) {
        return error_set_errno(error, REASON_UNAVAILABLE, errno, "reading /proc");
    }
    CLEANUP_FREE LocalProcess *found = NULL;
    size_t count = 0;
    size_t capacity = 0;
    struct dirent *entry = NULL;
    while ((entry = readdir(processes)) != NULL) {
        LocalProcess process = {0};
        pid_t pid = to_pid(entry->d_name);
        if (pid == 0 || !find_owner(directory, pid, process.instance_id, &process.is_at_root) ||
            (instance_id != NULL && strcmp(instance_id, process.instance_id) != 0)) {
            continue;
        }
        if (!process_identify(pid, &process.identity) || !process_is_alive(&process.identity)) {
            continue;
        }
        if (count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            found = mem_realloc_array(found, capacity, sizeof(*found));
        }
        found[count++] = process;
    }
    if (count > 0) {
        qsort(found, count, sizeof(*found), compare_start);
    }
    *ret_processes = arena_copy(arena, found, count * sizeof(*found));
    *ret_count = count;
    return STATUS_OK;
}

bool local_process_signal(const char *directory, const LocalProcess *process, int signal_number)
{
    assert(process->identity.pid > 1);
    // The descriptor pins the process; what is checked after it was opened is true of whom the
    // signal reaches.
    CLEANUP(fd_closep) int pidfd = (int)syscall(SYS_pidfd_open, process->identity.pid, 0);
    if (pidfd < 0) {
        return false;
    }
    char instance_id[37];
    bool is_at_root = false;
    if (!process_is_alive(&process->identity) ||
        !find_owner(directory, process->identity.pid, instance_id, &is_at_root) ||
        strcmp(instance_id, process->instance_id) != 0) {
        return false;
    }
    return syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0) == 0;
}
