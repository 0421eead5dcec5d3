// SPDX-License-Identifier: Apache-2.0
// The shared helpers of C tests.
#include "tests/harness/harness.h"

#include "common/file.h"
#include "common/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

char *temp_dir_new(void)
{
    const char *base = getenv("TMPDIR");
    char *path = string_format("%s/holdfast-test-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(path) == NULL) {
        fail_msg("making a temporary directory '%s' failed", path);
    }
    return path;
}

void temp_dir_removep(char **path)
{
    if (*path != NULL) {
        Error error = {0};
        (void)dir_remove_all(*path, &error); // the test's result is known already
        mem_free(*path);
    }
}

#define SMALL_DISK_VARIABLE "HOLDFAST_TEST_SMALL_DISK"

static bool write_text(const char *path, const char *text)
{
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

// In a user namespace of our own we may mount; outside of it we stay who we are.
static bool enter_namespaces(void)
{
    if (geteuid() == 0) {
        return unshare(CLONE_NEWNS) == 0;
    }
    CLEANUP_FREE char *users = string_format("%u %u 1", geteuid(), geteuid());
    CLEANUP_FREE char *groups = string_format("%u %u 1", getegid(), getegid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
           write_text("/proc/self/setgroups", "deny") && write_text("/proc/self/uid_map", users) &&
           write_text("/proc/self/gid_map", groups);
}

const char *small_disk_new(int size_mib)
{
    static const char path[] = "/tmp/holdfast-small-disk"; // a mount point only
    if (getenv(SMALL_DISK_VARIABLE) != NULL) {
        return path;
    }
    CLEANUP_FREE char *options = string_format("size=%dm,mode=1777", size_mib);
    if ((mkdir(path, 0755) != 0 && errno != EEXIST) || !enter_namespaces() ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0 ||
        setenv(SMALL_DISK_VARIABLE, "1", 1) != 0) {
        (void)fprintf(stderr,
                      "cannot mount a small disk on '%s': %s; run the test as root, or allow "
                      "unprivileged user namespaces\n",
                      path, strerror(errno)); // NOLINT(concurrency-mt-unsafe): before any thread
        exit(1);
    }
    return path;
}

char *path_join(const char *directory, const char *name)
{
    return string_format("%s/%s", directory, name);
}

void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        fail_msg("writing '%s' failed", path);
    }
}

void assert_ok_at(Status status, const Error *error, const char *file, int line)
{
    if (status != STATUS_OK) {
        print_error("unexpected %s: %s (%s)\n", status_name(status), error->message, error->hint);
        _fail(file, line);
    }
}

void assert_error_at(Status status, const Error *error, Reason reason, const char *message,
                     const char *file, int line)
{
    if (status != reason_status(reason) || error->reason != reason ||
        strcmp(error->message, message) != 0) {
        print_error("expected %s: %s\n     got %s: %s\n", reason_slug(reason), message,
                    status == STATUS_OK ? "ok" : reason_slug(error->reason), error->message);
        _fail(file, line);
    }
}

void assert_contains_at(const char *text, const char *part, const char *file, int line)
{
    if (text == NULL || strstr(text, part) == NULL) {
        print_error("'%s' does not contain '%s'\n", text == NULL ? "(null)" : text, part);
        _fail(file, line);
    }
}
