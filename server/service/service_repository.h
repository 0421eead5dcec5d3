// SPDX-License-Identifier: Apache-2.0
// What the use cases around repositories share. Only server/service includes it.
#pragma once

#include "server/service/service_internal.h"

// Checks a wrapping key's location, makes a key file that is missing where that is allowed, and
// tries to open it. Errors have the field.
Status repository_key_prepare(const char *field, const char *location, bool may_create,
                              Error *error);

// The store of the row with this id, with its options and credential.
Status repository_storage_open(Service *service, const char *id, Storage **ret_storage,
                               Error *error);
