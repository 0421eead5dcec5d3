// SPDX-License-Identifier: Apache-2.0
// Who a process is, from /proc, and where a program is.
#include "common/file.h"
#include "common/limits.h"
#include "common/process_spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// proc(5): the fields after the name start with the third, the state; the start time is the 22nd.
#define FIELD_STATE 3
#define FIELD_START_TIME 22

// Files of /proc have no size, but come in one read.
static bool read_small(const char *path, char *text, size_t capacity)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t size = 0;
    do {
        size = read(fd, text, capacity - 1);
    } while (size < 0 && errno == EINTR);
    if (size <= 0) {
        return false;
    }
    text[size] = '\0';
    return true;
}

static bool read_boot_id(char ret_boot_id[37])
{
    char text[64];
    if (!read_small("/proc/sys/kernel/random/boot_id", text, sizeof(text)) ||
        strcspn(text, "\n") != 36) {
        return false;
    }
    memcpy(ret_boot_id, text, 36);
    ret_boot_id[36] = '\0';
    return true;
}

bool process_parse_stat(const char *text, char *ret_state, uint64_t *ret_start_ticks)
{
    // The name in parentheses may hold anything, also ") R 1"; its end is the last parenthesis.
    const char *field = strrchr(text, ')');
    if (field == NULL || field[1] != ' ') {
        return false;
    }
    field += 2;
    char state = field[0];
    for (int i = FIELD_STATE; i < FIELD_START_TIME; i++) {
        field = strchr(field, ' ');
        if (field == NULL) {
            return false;
        }
        field++;
    }
    if (*field < '0' || *field > '9') {
        return false;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long ticks = strtoull(field, &end, 10);
    if (errno != 0 || (*end != ' ' && *end != '\n' && *end != '\0')) {
        return false;
    }
    *ret_state = state;
    *ret_start_ticks = ticks;
    return true;
}

static bool read_stat(pid_t pid, char *ret_state, uint64_t *ret_start_ticks)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    char text[2048];
    return read_small(path, text, sizeof(text)) &&
           process_parse_stat(text, ret_state, ret_start_ticks);
}

bool process_identify(pid_t pid, ProcessIdentity *ret_identity)
{
    assert(ret_identity != NULL);
    char state = '\0';
    ProcessIdentity identity = {.pid = pid};
    if (pid <= 0 || !read_stat(pid, &state, &identity.start_ticks) ||
        !read_boot_id(identity.boot_id)) {
        return false;
    }
    *ret_identity = identity;
    return true;
}

bool process_is_alive(const ProcessIdentity *identity)
{
    assert(identity != NULL);
    char state = '\0';
    uint64_t start_ticks = 0;
    char boot_id[37];
    if (identity->pid <= 0 || !read_stat(identity->pid, &state, &start_ticks) ||
        !read_boot_id(boot_id)) {
        return false;
    }
    return state != 'Z' && state != 'X' && start_ticks == identity->start_ticks &&
           strcmp(boot_id, identity->boot_id) == 0;
}

static bool is_program(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode) && access(path, X_OK) == 0;
}

static bool find_in(const char *directories, const char *name, char ret_path[4096])
{
    const char *start = directories;
    while (start != NULL && *start != '\0') {
        size_t size = strcspn(start, ":");
        int length = snprintf(ret_path, LIMIT_PATH_BYTES, "%.*s/%s", (int)size, start, name);
        if (size > 0 && length > 0 && length < LIMIT_PATH_BYTES && is_program(ret_path)) {
            return true;
        }
        start += size;
        start += *start == ':' ? 1 : 0;
    }
    return false;
}

bool program_find(const char *const *candidates, char ret_path[4096])
{
    assert(candidates != NULL);
    for (size_t i = 0; candidates[i] != NULL; i++) {
        const char *name = candidates[i];
        if (strchr(name, '/') != NULL) {
            int length = snprintf(ret_path, LIMIT_PATH_BYTES, "%s", name);
            if (length > 0 && length < LIMIT_PATH_BYTES && is_program(ret_path)) {
                return true;
            }
            continue;
        }
        // Database servers live in sbin, which is not in everybody's PATH.
        if (find_in(getenv("PATH"), name, ret_path) ||
            find_in("/usr/local/sbin:/usr/sbin:/sbin", name, ret_path)) {
            return true;
        }
    }
    return false;
}
