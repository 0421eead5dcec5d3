// SPDX-License-Identifier: Apache-2.0
// One call of a wrapping key, for tests: key_service_client LOCATION wrap|unwrap REPOSITORY
// DATABASE KEY HEX prints the result in hex; a failure is its reason and message, and exit code 1.
#include "common/crypto.h"
#include "common/memory.h"
#include "repository/key_wrapper.h"

#include <stdio.h>
#include <string.h>

static Status run(char **arguments, Arena *arena, Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    CLEANUP(secret_done) Secret key = {0};
    const WrapContext context = {
        .repository_id = arguments[3], .database_id = arguments[4], .key_id = arguments[5]};
    size_t size = strlen(arguments[6]) / 2;
    uint8_t *data = arena_alloc(arena, size + 1);
    uint8_t *result = NULL;
    size_t result_size = 0;
    if (!hex_decode(arguments[6], data, size)) {
        return error_set(error, REASON_INVALID, "not hexadecimal");
    }
    RETURN_IF_ERROR(key_wrapper_open(arguments[1], &wrapper, error));
    if (strcmp(arguments[2], "wrap") == 0) {
        key = secret_from_bytes(data, size);
        RETURN_IF_ERROR(
            key_wrapper_wrap(wrapper, &context, &key, arena, &result, &result_size, error));
    } else {
        RETURN_IF_ERROR(key_wrapper_unwrap(wrapper, &context, data, size, &key, error));
        result = key.data;
        result_size = key.size;
    }
    char *text = arena_alloc(arena, 2 * result_size + 1);
    hex_encode(result, result_size, text);
    printf("%s\n", text);
    return STATUS_OK;
}

int main(int count, char **arguments)
{
    Error error = {0};
    Arena *arena = arena_new();
    Status status = count == 7 ? run(arguments, arena, &error)
                               : error_set(&error, REASON_INVALID, "seven words are needed");
    if (status != STATUS_OK) {
        printf("%s: %s (%s)\n", reason_slug(error.reason), error.message, error.hint);
    }
    arena_free(arena);
    return status == STATUS_OK ? 0 : 1;
}
