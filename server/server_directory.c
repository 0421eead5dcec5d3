// SPDX-License-Identifier: Apache-2.0
// Giving up root, locking the data directory, the server's id.
#include "server/server_directory.h"

#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/server_identity.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static Status find_user(const char *name, uid_t *ret_user, gid_t *ret_group, Error *error)
{
    char storage[4096];
    struct passwd entry;
    struct passwd *found = NULL;
    int failed = getpwnam_r(name, &entry, storage, sizeof(storage), &found);
    if (failed != 0 || found == NULL) {
        error_set(error, REASON_OPTION_INVALID, "the user '%s' to run as does not exist", name);
        error_field(error, "user");
        return error_hint(error, "make it with: useradd --system --no-create-home %s", name);
    }
    if (found->pw_uid == 0) {
        error_set(error, REASON_OPTION_INVALID, "the user to run as must not be root");
        error_field(error, "user");
        return error_hint(error,
                          "database engines refuse to run as root; name an unprivileged user");
    }
    *ret_user = found->pw_uid;
    *ret_group = found->pw_gid;
    return STATUS_OK;
}

// Made by us, or empty: the new user's. One with content belongs to whom it belongs.
static Status hand_over(const char *directory, uid_t user, gid_t group, Error *error)
{
    struct stat facts;
    bool is_new = stat(directory, &facts) != 0;
    bool is_empty = true;
    RETURN_IF_ERROR(dir_create_all(directory, 0700, error));
    RETURN_IF_ERROR(dir_is_empty(directory, &is_empty, error));
    if ((is_new || is_empty) && chown(directory, user, group) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "giving '%s' to the user", directory);
    }
    return STATUS_OK;
}

static Status make_key(const char *path, const char *data_directory, uid_t user, gid_t group,
                       Error *error)
{
    CLEANUP(secret_done) Secret key = {0};
    if (text_has_prefix(path, data_directory) || access(path, F_OK) == 0) {
        return STATUS_OK; // made by the user itself; or there
    }
    RETURN_IF_ERROR(server_secret_key_load(path, &key, error));
    if (chown(path, user, group) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "giving '%s' to the user", path);
    }
    return STATUS_OK;
}

static Status drop_root(uid_t user, gid_t group, Error *error)
{
    if (setgroups(0, NULL) != 0 || setresgid(group, group, group) != 0 ||
        setresuid(user, user, user) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "giving up root");
    }
    if (setuid(0) == 0 || geteuid() != user) {
        return error_set(error, REASON_INTERNAL, "root could not be given up completely");
    }
    // After a change of user the kernel hides a process from its own user; children are not
    // affected, but /proc/self is needed.
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    return STATUS_OK;
}

Status server_become_user(const char *user, const char *data_directory, const char *secret_key_file,
                          Error *error)
{
    uid_t user_id = 0;
    gid_t group_id = 0;
    if (geteuid() == 0) {
        RETURN_IF_ERROR(find_user(user, &user_id, &group_id, error));
        RETURN_IF_ERROR(hand_over(data_directory, user_id, group_id, error));
        RETURN_IF_ERROR(make_key(secret_key_file, data_directory, user_id, group_id, error));
        RETURN_IF_ERROR(drop_root(user_id, group_id, error));
        if (chdir("/") != 0) { // where root was may not be ours to see
            return error_set_errno(error, REASON_INTERNAL, errno, "changing to '/'");
        }
    } else {
        RETURN_IF_ERROR(dir_create_all(data_directory, 0700, error));
    }
    if (access(data_directory, R_OK | W_OK | X_OK) != 0) {
        error_set_errno(error, REASON_FORBIDDEN, errno, "the data directory '%s' is not ours",
                        data_directory);
        return error_hint(
            error,
            "give it to the user that holdfastd runs as (chown -R %s '%s') and let that "
            "user enter the directories above it",
            user, data_directory);
    }
    return STATUS_OK;
}

// Made once and kept: work and instances of an earlier run are then known to be ours.
static Status read_server_id(const char *data_directory, char ret_id[37], Error *error)
{
    CLEANUP_FREE char *path = string_format("%s/server-id", data_directory);
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    Status status = file_read(path, 128, &text, &size, error);
    if (status == STATUS_OK) {
        text[strcspn(text, "\n")] = '\0';
        if (!uuid_is_valid(text)) {
            error_set(error, REASON_PRECONDITION, "'%s' does not hold a server id", path);
            return error_hint(error, "remove the file to get a new one");
        }
        memcpy(ret_id, text, 37);
        return STATUS_OK;
    }
    if (error->reason != REASON_NOT_FOUND) {
        return status;
    }
    error_clear(error);
    crypto_uuid(ret_id);
    return file_write_atomic(path, ret_id, strlen(ret_id), 0600, error);
}

Status server_directory_open(const char *data_directory, ServerDirectory *ret_directory,
                             Error *error)
{
    ServerDirectory directory = {.lock_fd = INVALID_FD};
    CLEANUP_FREE char *path = string_format("%s/lock", data_directory);
    directory.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (directory.lock_fd < 0) {
        return error_set_errno(error, REASON_FORBIDDEN, errno, "opening '%s'", path);
    }
    if (flock(directory.lock_fd, LOCK_EX | LOCK_NB) != 0) {
        fd_closep(&directory.lock_fd);
        error_set(error, REASON_PRECONDITION, "another holdfastd runs on '%s' already",
                  data_directory);
        return error_hint(error, "stop it first, or give this one another data-dir");
    }
    Status status = read_server_id(data_directory, directory.server_id, error);
    if (status != STATUS_OK) {
        server_directory_close(&directory);
        return status;
    }
    *ret_directory = directory;
    return STATUS_OK;
}

void server_directory_close(ServerDirectory *directory)
{
    fd_closep(&directory->lock_fd);
}
