// SPDX-License-Identifier: Apache-2.0
// Google Cloud Storage. For storage.c and tests of the driver only.
#pragma once

#include "storage/storage_http.h"

typedef struct Storage Storage;

// What storage_options_check asks of a gs:// location. REASON_INVALID.
Status storage_gcs_check(const StorageOptions *options, Error *error);
// The options have passed storage_options_check; the location is a gs:// one. hooks: NULL, or for
// tests.
Status storage_gcs_new(const StorageOptions *options, const StorageHttpHooks *hooks,
                       Storage **ret_storage, Error *error);
