// SPDX-License-Identifier: Apache-2.0
// Files and directories. Thread-safe.
#pragma once

#include "common/buffer.h"
#include "common/error.h"

#include <stdint.h>
#include <sys/types.h>

#define DIRECT_ALIGNMENT 4096 // of memory and offsets, for O_DIRECT
#define INVALID_FD (-1)
void fd_closep(int *fd); // for CLEANUP(fd_closep); INVALID_FD is fine

// Reads a whole file of at most size_max bytes; the text is malloc'd and NUL-terminated.
Status file_read(const char *path, size_t size_max, char **ret_data, size_t *ret_size,
                 Error *error);
// Replaces a file atomically and durably: temporary name beside it, fsync, rename, fsync of the
// directory.
Status file_write_atomic(const char *path, const void *data, size_t size, mode_t mode,
                         Error *error);
Status file_write_all(int fd, const void *data, size_t size,
                      Error *error); // loops over short writes
Status file_write_all_at(int fd, const void *data, size_t size, int64_t offset, Error *error);
// Reads exactly size bytes at offset, or fewer at the end of the file.
Status file_read_at(int fd, void *data, size_t size, int64_t offset, size_t *ret_size,
                    Error *error);
Status dir_create_all(const char *path, mode_t mode, Error *error); // like mkdir -p
Status dir_remove_all(const char *path, Error *error); // like rm -rf; a missing directory is fine
Status dir_sync(const char *path, Error *error);
Status dir_is_empty(const char *path, bool *ret_is_empty,
                    Error *error); // a missing directory is empty
// The same, but an entry of that name does not count.
Status dir_is_empty_but(const char *path, const char *name, bool *ret_is_empty, Error *error);
// Bytes in regular files below path (st_size), and on disk (st_blocks); either output may be NULL.
Status dir_size(const char *path, int64_t *ret_size_bytes, int64_t *ret_disk_bytes, Error *error);
Status disk_free_bytes(const char *path, int64_t *ret_free_bytes, Error *error);
// Calls on_file for every regular file below root, in byte order of the path relative to root;
// stops at the first non-OK status and returns it. A symbolic link below root is a
// REASON_PRECONDITION error naming the link; root itself may be one. Sockets, pipes and devices are
// passed over.
typedef Status (*FileVisitor)(void *context, const char *relative_path, int64_t size_bytes,
                              Error *error);
Status dir_walk(const char *root, FileVisitor on_file, void *context, Error *error);
