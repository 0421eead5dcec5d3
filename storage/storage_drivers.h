// SPDX-License-Identifier: Apache-2.0
// The drivers, and how a location becomes a Storage. Only composition code (main.c, tests) and
// storage.c include this.
#pragma once

#include "storage/storage.h"
#include "storage/storage_options.h"

// Opens the store at options->location. Opening creates nothing and asks no server. Options that do
// not fit are REASON_INVALID (storage_options_check).
Status storage_open(const StorageOptions *options, Storage **ret_storage, Error *error);

Status storage_filesystem_new(const char *directory, Storage **ret_storage, Error *error);

Status storage_s3_new(const StorageOptions *options, Storage **ret_storage, Error *error);

// In memory, with faults and locks: the n-th call from now on (1 = the next) of any operation fails
// once with REASON_UNAVAILABLE; 0: none. With is_lost_reply the operation takes effect and then
// fails, as a network does.
Storage *storage_memory_new(void);
void storage_memory_fail_at(Storage *storage, int call_number, bool is_lost_reply);
int storage_memory_call_count(
    const Storage *storage); // calls since the last storage_memory_fail_at
// Objects whose keys start with the prefix cannot be removed until this time; "": no lock any more.
void storage_memory_lock(Storage *storage, const char *prefix, int64_t until_us);
