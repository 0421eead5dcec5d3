// SPDX-License-Identifier: Apache-2.0
// The files of the private cluster: finding programs, making it, reading who runs it.
#include "common/arena.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "server/embedded_postgres_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEBIAN_ROOT "/usr/lib/postgresql"
#define VERSION_MIN 14
#define INITDB_TIMEOUT_MS 300000
// sun_path has 108 bytes; the socket is "/.s.PGSQL.5432" and has a lock file ".lock" beside it.
#define SOCKET_DIRECTORY_BYTES_MAX 88

static void directory_closep(DIR **directory)
{
    if (*directory != NULL) {
        (void)closedir(*directory); // reading only: nothing can be lost
    }
}

// The cluster's major version, or 0 when there is none.
static int cluster_version(const char *cluster_directory)
{
    CLEANUP_FREE char *path = string_format("%s/PG_VERSION", cluster_directory);
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    int64_t version = 0;
    Error ignored = {0};
    if (file_read(path, 64, &text, &size, &ignored) != STATUS_OK) {
        return 0;
    }
    text[strcspn(text, "\n")] = '\0';
    return text_to_int64(text, &version) ? (int)version : 0;
}

static bool has_programs(const char *directory)
{
    char path[1200];
    (void)snprintf(path, sizeof(path), "%s/initdb", directory);
    bool has_initdb = access(path, X_OK) == 0;
    (void)snprintf(path, sizeof(path), "%s/postgres", directory);
    return has_initdb && access(path, X_OK) == 0;
}

static int newest_installed(void)
{
    CLEANUP(directory_closep) DIR *root = opendir(DEBIAN_ROOT);
    int newest = 0;
    struct dirent *entry = NULL;
    while (root != NULL && (entry = readdir(root)) != NULL) {
        int64_t version = 0;
        char directory[512];
        if (!text_to_int64(entry->d_name, &version) || version <= newest || version > 1000) {
            continue;
        }
        (void)snprintf(directory, sizeof(directory), DEBIAN_ROOT "/%s/bin", entry->d_name);
        if (has_programs(directory)) {
            newest = (int)version;
        }
    }
    return newest;
}

// Not Debian's layout: what is in PATH. Its version is not known here; PostgreSQL itself refuses a
// cluster of another one.
static bool find_in_path(char ret_directory[1024])
{
    const char *const names[] = {"initdb", NULL};
    char path[4096];
    if (!program_find(names, path)) {
        return false;
    }
    char real[4096];
    if (realpath(path, real) == NULL) {
        return false;
    }
    char *slash = strrchr(real, '/');
    if (slash == NULL || slash - real >= 1024) {
        return false;
    }
    *slash = '\0';
    memcpy(ret_directory, real, (size_t)(slash - real) + 1); // with its NUL
    return has_programs(ret_directory);
}

Status embedded_postgres_find_programs(const char *cluster_directory, char ret_directory[1024],
                                       Error *error)
{
    int wanted = cluster_version(cluster_directory);
    int version = wanted != 0 ? wanted : newest_installed();
    if (version > 0 && (wanted != 0 || version >= VERSION_MIN)) {
        (void)snprintf(ret_directory, 1024, DEBIAN_ROOT "/%d/bin", version);
        if (has_programs(ret_directory)) {
            return STATUS_OK;
        }
    }
    if (find_in_path(ret_directory)) {
        return STATUS_OK;
    }
    if (wanted != 0) {
        error_set(error, REASON_DATABASE_UNREACHABLE,
                  "the cluster '%s' was made by PostgreSQL %d, which is not installed",
                  cluster_directory, wanted);
        return error_hint(error,
                          "install postgresql-%d, or move the cluster to a newer version with "
                          "pg_upgrade",
                          wanted);
    }
    error_set(error, REASON_DATABASE_UNREACHABLE, "PostgreSQL's server programs are not installed");
    return error_hint(error,
                      "install the package 'postgresql' (version %d or newer), or set "
                      "database-url to a PostgreSQL that runs elsewhere",
                      VERSION_MIN);
}

Status embedded_postgres_create_cluster(const char *data_directory, const char *cluster_directory,
                                        const char *program_directory, Error *error)
{
    if (cluster_version(cluster_directory) != 0) {
        return STATUS_OK;
    }
    bool is_empty = false;
    RETURN_IF_ERROR(dir_is_empty(cluster_directory, &is_empty, error));
    if (!is_empty) {
        error_set(error, REASON_PRECONDITION, "'%s' is not empty and not a PostgreSQL cluster",
                  cluster_directory);
        return error_hint(error, "move it away, or choose another data-dir");
    }
    // Made beside its place and renamed: a kill in between leaves no half cluster under the real
    // name.
    CLEANUP_FREE char *new_directory = string_format("%s/postgres.new", data_directory);
    RETURN_IF_ERROR(dir_remove_all(new_directory, error));
    CLEANUP_FREE char *initdb = string_format("%s/initdb", program_directory);
    const char *arguments[] = {initdb,
                               "-D",
                               new_directory,
                               "-U",
                               "holdfast",
                               "-A",
                               "trust",
                               "-E",
                               "UTF8",
                               "--locale=C.UTF-8",
                               "--data-checksums",
                               "--no-instructions",
                               NULL};
    ProcessOptions options = {.arguments = arguments, .directory = data_directory};
    Buffer output;
    buffer_init(&output, 65536);
    Status status =
        process_run(&options, INITDB_TIMEOUT_MS, REASON_DATABASE_UNREACHABLE, &output, error);
    buffer_done(&output);
    if (status != STATUS_OK) {
        return error_wrap(error, "making the private PostgreSQL cluster");
    }
    (void)rmdir(cluster_directory); // an empty one may be there
    if (rename(new_directory, cluster_directory) != 0) {
        return error_set_errno(error, REASON_INTERNAL, errno, "renaming '%s' to '%s'",
                               new_directory, cluster_directory);
    }
    return dir_sync(data_directory, error);
}

static Status make_private(const char *directory, Error *error)
{
    struct stat facts;
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        return error_set_errno(error, REASON_INTERNAL, errno, "making '%s'", directory);
    }
    if (lstat(directory, &facts) != 0 || !S_ISDIR(facts.st_mode) || facts.st_uid != geteuid()) {
        return error_set(error, REASON_PRECONDITION, "'%s' is not a directory of our own",
                         directory);
    }
    if ((facts.st_mode & 077) != 0 && chmod(directory, 0700) != 0) {
        return error_set_errno(error, REASON_PRECONDITION, errno, "making '%s' private", directory);
    }
    return STATUS_OK;
}

Status embedded_postgres_socket_directory(const char *data_directory, char ret_directory[256],
                                          Error *error)
{
    int size = snprintf(ret_directory, 256, "%s/run", data_directory);
    if (size > SOCKET_DIRECTORY_BYTES_MAX || strchr(data_directory, ',') != NULL) {
        // The name is derived, so that the next start finds the same place; who owns it is checked.
        uint8_t digest[SHA256_SIZE];
        char name[17];
        crypto_sha256(data_directory, strlen(data_directory), digest);
        hex_encode(digest, 8, name);
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        bool has_runtime = runtime != NULL && runtime[0] == '/' && strlen(runtime) < 48 &&
                           access(runtime, W_OK) == 0;
        (void)snprintf(ret_directory, 256, "%s/holdfast-%s", has_runtime ? runtime : "/tmp", name);
    }
    return make_private(ret_directory, error);
}

// Is this process a postmaster whose working directory is the cluster? PostgreSQL always moves
// there.
static bool is_postmaster_of(const char *cluster_directory, pid_t pid)
{
    char link[64];
    char target[4096];
    struct stat here;
    struct stat there;
    (void)snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
    if (stat(link, &there) != 0 || stat(cluster_directory, &here) != 0 ||
        here.st_dev != there.st_dev || here.st_ino != there.st_ino) {
        return false;
    }
    (void)snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    ssize_t size = readlink(link, target, sizeof(target) - 1);
    if (size <= 0) {
        return false;
    }
    target[size] = '\0';
    return strstr(target, "/postgres") != NULL;
}

PostmasterState embedded_postgres_look(const char *cluster_directory, ProcessIdentity *ret_identity)
{
    CLEANUP_FREE char *path = string_format("%s/postmaster.pid", cluster_directory);
    CLEANUP_FREE char *text = NULL;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t size = 0;
    Error ignored = {0};
    if (file_read(path, 4096, &text, &size, &ignored) != STATUS_OK) {
        return POSTMASTER_NONE;
    }
    size_t count = 0;
    char **lines = text_split(arena, text, '\n', &count);
    int64_t pid = 0;
    if (!text_to_int64(lines[0], &pid) || pid <= 1 || pid > INT32_MAX ||
        !process_identify((pid_t)pid, ret_identity) || !process_is_alive(ret_identity) ||
        !is_postmaster_of(cluster_directory, (pid_t)pid)) {
        return POSTMASTER_NONE;
    }
    // The eighth line is its status, since PostgreSQL 10.
    bool is_ready = count >= 8 && text_has_prefix(lines[7], "ready");
    return is_ready ? POSTMASTER_READY : POSTMASTER_STARTING;
}
