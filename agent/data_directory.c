// SPDX-License-Identifier: Apache-2.0
#include "agent/data_directory.h"

static Status materialize_provide(const DataDirectoryRequest *request,
                                  MaterializeResult *ret_result, Error *error)
{
    const MaterializeOptions options = {.limits = request->limits,
                                        .memory_bytes = request->memory_bytes,
                                        .is_scratch = request->is_scratch,
                                        .node_cache = request->node_cache,
                                        .progress = request->progress};
    return repository_materialize(request->repository, request->key, request->manifest,
                                  request->directory, &options, ret_result, error);
}

const DataDirectoryProvider data_directory_materialize = {
    .name = "materialize",
    .provide = materialize_provide,
};
