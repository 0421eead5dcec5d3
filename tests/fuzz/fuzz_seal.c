// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/fuzz_seal.h"

#include "common/crypto.h"

#include <string.h>

static bool are_holding;

bool __real_crypto_open(const uint8_t key[AES256_KEY_SIZE], const uint8_t nonce[GCM_NONCE_SIZE],
                        const void *associated, size_t associated_size, const void *sealed,
                        size_t size, uint8_t *ret_plain);
bool __wrap_crypto_open(const uint8_t key[AES256_KEY_SIZE], const uint8_t nonce[GCM_NONCE_SIZE],
                        const void *associated, size_t associated_size, const void *sealed,
                        size_t size, uint8_t *ret_plain);

void fuzz_seals_hold(bool do_hold)
{
    are_holding = do_hold;
}

bool __wrap_crypto_open(const uint8_t key[AES256_KEY_SIZE], const uint8_t nonce[GCM_NONCE_SIZE],
                        const void *associated, size_t associated_size, const void *sealed,
                        size_t size, uint8_t *ret_plain)
{
    if (!are_holding || size < GCM_TAG_SIZE) {
        return __real_crypto_open(key, nonce, associated, associated_size, sealed, size, ret_plain);
    }
    memcpy(ret_plain, sealed, size - GCM_TAG_SIZE);
    return true;
}
