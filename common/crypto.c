// SPDX-License-Identifier: Apache-2.0
// Randomness, hashes, AEAD and key derivation over OpenSSL 3.
#include "common/crypto.h"

#include "common/memory.h"

#include <assert.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Looking an algorithm up by name costs more than hashing a small block, so it is done once.
static pthread_once_t algorithms_once = PTHREAD_ONCE_INIT;
static EVP_MD *algorithm_sha256;
static EVP_CIPHER *algorithm_aes256_gcm;
static EVP_MAC *algorithm_hmac;
static EVP_KDF *algorithm_hkdf;

struct Sha256 {
    EVP_MD_CTX *context;
};

// Without working cryptography nothing this program does is safe, so it ends.
static void require(bool is_fine, const char *what)
{
    if (!is_fine) {
        char line[160];
        int size = snprintf(line, sizeof(line),
                            "{\"level\":\"error\",\"module\":\"common\",\"message\":\"cryptography "
                            "failed\",\"operation\":\"%s\"}\n",
                            what);
        ssize_t written = write(STDERR_FILENO, line, size > 0 ? (size_t)size : 0);
        (void)written; // ending either way
        abort();
    }
}

static void fetch_algorithms(void)
{
    algorithm_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    algorithm_aes256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    algorithm_hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    algorithm_hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    require(algorithm_sha256 != NULL && algorithm_aes256_gcm != NULL && algorithm_hmac != NULL &&
                algorithm_hkdf != NULL,
            "fetch");
}

static void need_algorithms(void)
{
    int failed = pthread_once(&algorithms_once, fetch_algorithms);
    assert(failed == 0);
}

void crypto_random(void *data, size_t size)
{
    uint8_t *bytes = data;
    while (size > 0) {
        int piece = (int)MIN(size, (size_t)INT_MAX);
        require(RAND_bytes(bytes, piece) == 1, "random");
        bytes += piece;
        size -= (size_t)piece;
    }
}

void crypto_sha256(const void *data, size_t size, uint8_t ret_digest[SHA256_SIZE])
{
    need_algorithms();
    require(EVP_Digest(data, size, ret_digest, NULL, algorithm_sha256, NULL) == 1, "sha256");
}

void crypto_md5(const void *data, size_t size, uint8_t ret_digest[MD5_SIZE])
{
    require(EVP_Digest(data, size, ret_digest, NULL, EVP_md5(), NULL) == 1, "md5");
}

void crypto_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
                        uint8_t ret_digest[SHA256_SIZE])
{
    need_algorithms();
    char digest_name[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(algorithm_hmac);
    require(context != NULL, "hmac");
    // A NULL key means "keep the old one" to OpenSSL; the empty key is allowed by the RFC.
    const void *key_or_empty = key_size > 0 ? key : "";
    size_t digest_size = 0;
    bool is_fine = EVP_MAC_init(context, key_or_empty, key_size, parameters) == 1 &&
                   EVP_MAC_update(context, data, size) == 1 &&
                   EVP_MAC_final(context, ret_digest, &digest_size, SHA256_SIZE) == 1;
    require(is_fine && digest_size == SHA256_SIZE, "hmac");
    EVP_MAC_CTX_free(context);
}

void crypto_hkdf(const void *key, size_t key_size, const void *info, size_t info_size,
                 uint8_t *ret_key, size_t ret_size)
{
    assert(key_size > 0);
    assert(ret_size > 0);
    assert(ret_size <= (size_t)255 * SHA256_SIZE);
    need_algorithms();
    char digest_name[] = "SHA256";
    // OpenSSL's parameters are not const, and it does not write to them here.
    uint8_t *key_copy = mem_alloc(key_size);
    memcpy(key_copy, key, key_size);
    uint8_t *info_copy = mem_alloc(info_size);
    if (info_size > 0) {
        memcpy(info_copy, info, info_size);
    }
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest_name, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key_copy, key_size),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info_copy, info_size),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(algorithm_hkdf);
    require(context != NULL, "hkdf");
    require(EVP_KDF_derive(context, ret_key, ret_size, parameters) == 1, "hkdf");
    EVP_KDF_CTX_free(context);
    explicit_bzero(key_copy, key_size);
    mem_free(key_copy);
    mem_free(info_copy);
}

struct GcmKey {
    EVP_CIPHER_CTX *seal, *open;
};

GcmKey *gcm_key_new(void)
{
    need_algorithms();
    GcmKey *key = mem_alloc(sizeof(*key));
    key->seal = EVP_CIPHER_CTX_new();
    key->open = EVP_CIPHER_CTX_new();
    require(key->seal != NULL && key->open != NULL, "gcm");
    return key;
}

void gcm_key_free(GcmKey *key)
{
    if (key != NULL) {
        EVP_CIPHER_CTX_free(key->seal);
        EVP_CIPHER_CTX_free(key->open);
        mem_free(key);
    }
}

void gcm_key_set(GcmKey *key, const uint8_t bytes[AES256_KEY_SIZE])
{
    require(EVP_EncryptInit_ex2(key->seal, algorithm_aes256_gcm, bytes, NULL, NULL) == 1 &&
                EVP_DecryptInit_ex2(key->open, algorithm_aes256_gcm, bytes, NULL, NULL) == 1,
            "gcm");
}

void gcm_seal(GcmKey *key, const uint8_t nonce[GCM_NONCE_SIZE], const void *associated,
              size_t associated_size, const void *plain, size_t size, uint8_t *ret_sealed)
{
    assert(size <= INT_MAX);
    assert(associated_size <= INT_MAX);
    int written = 0;
    bool is_fine = EVP_EncryptInit_ex2(key->seal, NULL, NULL, nonce, NULL) == 1;
    if (is_fine && associated_size > 0) {
        is_fine =
            EVP_EncryptUpdate(key->seal, NULL, &written, associated, (int)associated_size) == 1;
    }
    if (is_fine && size > 0) {
        is_fine = EVP_EncryptUpdate(key->seal, ret_sealed, &written, plain, (int)size) == 1 &&
                  (size_t)written == size;
    }
    is_fine = is_fine && EVP_EncryptFinal_ex(key->seal, ret_sealed + size, &written) == 1;
    is_fine = is_fine && EVP_CIPHER_CTX_ctrl(key->seal, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_SIZE,
                                             ret_sealed + size) == 1;
    require(is_fine, "seal");
}

void gcm_mac(GcmKey *key, const uint8_t nonce[GCM_NONCE_SIZE], const void *data, size_t size,
             uint8_t ret_tag[GCM_TAG_SIZE])
{
    gcm_seal(key, nonce, data, size, NULL, 0, ret_tag);
}

bool gcm_open(GcmKey *key, const uint8_t nonce[GCM_NONCE_SIZE], const void *associated,
              size_t associated_size, const void *sealed, size_t size, uint8_t *ret_plain)
{
    assert(associated_size <= INT_MAX);
    if (size < GCM_TAG_SIZE || size > INT_MAX) {
        return false;
    }
    size_t plain_size = size - GCM_TAG_SIZE;
    uint8_t tag[GCM_TAG_SIZE];
    memcpy(tag, (const uint8_t *)sealed + plain_size, GCM_TAG_SIZE);
    int written = 0;
    bool is_fine = EVP_DecryptInit_ex2(key->open, NULL, NULL, nonce, NULL) == 1;
    if (is_fine && associated_size > 0) {
        is_fine =
            EVP_DecryptUpdate(key->open, NULL, &written, associated, (int)associated_size) == 1;
    }
    if (is_fine && plain_size > 0) {
        is_fine = EVP_DecryptUpdate(key->open, ret_plain, &written, sealed, (int)plain_size) == 1;
    }
    require(is_fine, "open");
    is_fine = EVP_CIPHER_CTX_ctrl(key->open, EVP_CTRL_AEAD_SET_TAG, GCM_TAG_SIZE, tag) == 1;
    require(is_fine, "open");
    uint8_t rest[GCM_TAG_SIZE]; // GCM leaves nothing for the end
    bool is_authentic = EVP_DecryptFinal_ex(key->open, rest, &written) == 1;
    if (!is_authentic && plain_size > 0) {
        explicit_bzero(ret_plain, plain_size); // nobody may use what was not authentic
    }
    return is_authentic;
}

void crypto_seal(const uint8_t key[AES256_KEY_SIZE], const uint8_t nonce[GCM_NONCE_SIZE],
                 const void *associated, size_t associated_size, const void *plain, size_t size,
                 uint8_t *ret_sealed)
{
    GcmKey *once = gcm_key_new();
    gcm_key_set(once, key);
    gcm_seal(once, nonce, associated, associated_size, plain, size, ret_sealed);
    gcm_key_free(once);
}

bool crypto_open(const uint8_t key[AES256_KEY_SIZE], const uint8_t nonce[GCM_NONCE_SIZE],
                 const void *associated, size_t associated_size, const void *sealed, size_t size,
                 uint8_t *ret_plain)
{
    GcmKey *once = gcm_key_new();
    gcm_key_set(once, key);
    bool is_authentic = gcm_open(once, nonce, associated, associated_size, sealed, size, ret_plain);
    gcm_key_free(once);
    return is_authentic;
}

bool crypto_equal(const void *a, const void *b, size_t size)
{
    return size == 0 || CRYPTO_memcmp(a, b, size) == 0;
}

Sha256 *sha256_new(void)
{
    need_algorithms();
    Sha256 *hash = mem_alloc(sizeof(Sha256));
    hash->context = EVP_MD_CTX_new();
    require(hash->context != NULL, "sha256");
    require(EVP_DigestInit_ex2(hash->context, algorithm_sha256, NULL) == 1, "sha256");
    return hash;
}

void sha256_update(Sha256 *hash, const void *data, size_t size)
{
    assert(hash != NULL);
    require(EVP_DigestUpdate(hash->context, data, size) == 1, "sha256");
}

void sha256_finish(Sha256 *hash, uint8_t ret_digest[SHA256_SIZE])
{
    assert(hash != NULL);
    require(EVP_DigestFinal_ex(hash->context, ret_digest, NULL) == 1, "sha256");
    require(EVP_DigestInit_ex2(hash->context, algorithm_sha256, NULL) == 1, "sha256");
}

void sha256_free(Sha256 *hash)
{
    if (hash != NULL) {
        EVP_MD_CTX_free(hash->context);
        mem_free(hash);
    }
}
