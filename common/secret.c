// SPDX-License-Identifier: Apache-2.0
// Secrets are copied once and wiped when done.
#include "common/secret.h"

#include "common/memory.h"

#include <assert.h>
#include <string.h>

Secret secret_from_text(const char *text)
{
    return text == NULL ? (Secret){0} : secret_from_bytes(text, strlen(text));
}

Secret secret_from_bytes(const void *data, size_t size)
{
    assert(data != NULL || size == 0);
    Secret secret = {.data = mem_alloc(size + 1), .size = size};
    if (size > 0) {
        memcpy(secret.data, data, size);
    }
    return secret;
}

Secret secret_copy(const Secret *secret)
{
    assert(secret != NULL);
    return secret->data == NULL ? (Secret){0} : secret_from_bytes(secret->data, secret->size);
}

const char *secret_text(const Secret *secret)
{
    return secret == NULL || secret->data == NULL ? "" : (const char *)secret->data;
}

void secret_done(Secret *secret)
{
    if (secret == NULL) {
        return;
    }
    if (secret->data != NULL) {
        explicit_bzero(secret->data, secret->size);
        mem_free(secret->data);
    }
    secret->data = NULL;
    secret->size = 0;
}

void secret_wipe_text(char *text)
{
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
    }
}
