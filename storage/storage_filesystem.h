// SPDX-License-Identifier: Apache-2.0
// Inside the filesystem driver only: what its two files share.
#pragma once

#include "storage/storage_driver.h"

typedef struct FilesystemStorage {
    Storage base;
    char *root;     // absolute, without a slash at the end
    char *location; // "file:///backups"
} FilesystemStorage;

Status filesystem_list(Storage *storage, const char *prefix, const char *after, size_t limit,
                       Arena *arena, StoragePage *ret_page, bool *ret_has_more, Error *error);
// The place of a key, or of the temporary folder's entry with key ".tmp/...".
Status filesystem_path(const FilesystemStorage *storage, const char *key, char *ret_path,
                       size_t size, Error *error);
int64_t filesystem_time_us(const struct timespec *time);
