// SPDX-License-Identifier: Apache-2.0
// What the handlers of databases and shards share. Only server/service includes it.
#pragma once

#include "server/service/service_internal.h"
#include "server/store/store_database.h"

// Rows of store_database_get or _list as messages, with protection and its reason.
Status database_messages(const StoreRows *rows, Arena *arena, ProtobufCMessage ***ret_messages,
                         Error *error);
// Checks a shard from a caller and fills in defaults; `prefix` is the path of its field ("shard",
// "shards[3]"). Resolves the credential.
Status shard_from_message(ServiceCall *call, StoreTransaction *transaction, const char *prefix,
                          const Holdfast__V1__Shard *body, const char *engine,
                          StoreShard *ret_shard, Error *error);
Status check_shard_name(const char *field, const char *value, Error *error);
