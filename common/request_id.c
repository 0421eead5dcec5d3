// SPDX-License-Identifier: Apache-2.0
#include "common/request_id.h"

#include "common/crypto.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define REQUEST_ID_BYTES_MAX 64

const char *request_id_accept(Arena *arena, const char *given)
{
    size_t size = strlen(given);
    bool is_plain = size > 0 && size <= REQUEST_ID_BYTES_MAX;
    for (size_t i = 0; is_plain && i < size; i++) {
        is_plain = isalnum((unsigned char)given[i]) || strchr("-_.:", given[i]) != NULL;
    }
    if (is_plain) {
        return given;
    }
    char made[UUID_TEXT_SIZE];
    crypto_uuid(made);
    return arena_string(arena, made);
}
