// SPDX-License-Identifier: Apache-2.0
// test_agent_prepare DIRECTORY DATABASE_ID: makes a repository with a data key, and prints what a
// server would hand to an agent: {"key_id", "data_key" in hex}. For test_agent.py.
#include "common/crypto.h"
#include "repository/repository.h"
#include "storage/storage_drivers.h"

#include <stdio.h>

static Status prepare(const char *directory, const char *database_id, DataKey *ret_key,
                      Error *error)
{
    uint8_t bytes[AES256_KEY_SIZE];
    crypto_random(bytes, sizeof(bytes));
    Secret wrapping_key = secret_from_bytes(bytes, sizeof(bytes));
    Storage *storage = NULL;
    Repository *repository = NULL;
    Status status = storage_filesystem_new(directory, &storage, error);
    if (status == STATUS_OK) {
        status =
            repository_create(storage, key_wrapper_from_key(&wrapping_key), &repository, error);
    }
    if (status == STATUS_OK) {
        status = repository_data_key(repository, database_id, true, ret_key, error);
    }
    repository_free(repository);
    secret_done(&wrapping_key);
    return status;
}

int main(int argument_count, char **arguments)
{
    Error error = {0};
    DataKey key = {0};
    if (argument_count != 3 || prepare(arguments[1], arguments[2], &key, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    char text[AES256_KEY_SIZE * 2 + 1];
    hex_encode(key.bytes.data, key.bytes.size, text);
    (void)printf("{\"key_id\": \"%s\", \"data_key\": \"%s\"}\n", key.id, text);
    data_key_done(&key);
    return 0;
}
