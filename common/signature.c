// SPDX-License-Identifier: Apache-2.0
#include "common/crypto.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

// No terminal is asked for a passphrase.
static int no_passphrase(char *buffer, int size, int is_writing, void *context)
{
    (void)buffer;
    (void)size;
    (void)is_writing;
    (void)context;
    return 0;
}

static EVP_PKEY *read_key(const char *pem)
{
    BIO *input = BIO_new_mem_buf(pem, (int)strnlen(pem, 65536));
    EVP_PKEY *key =
        input == NULL ? NULL : PEM_read_bio_PrivateKey(input, NULL, no_passphrase, NULL);
    BIO_free(input);
    if (key != NULL && EVP_PKEY_base_id(key) != EVP_PKEY_RSA) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

Status crypto_sign_rs256(const char *private_key_pem, const void *data, size_t size, Arena *arena,
                         uint8_t **ret_signature, size_t *ret_size, Error *error)
{
    EVP_PKEY *key = read_key(private_key_pem);
    if (key == NULL) {
        return error_set(error, REASON_INVALID, "the private key is not an RSA key in PEM");
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t signature_size = 0;
    uint8_t *signature = NULL;
    bool is_signed = context != NULL &&
                     EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
                     EVP_DigestSign(context, NULL, &signature_size, data, size) == 1;
    if (is_signed) {
        signature = arena_alloc(arena, signature_size);
        is_signed = EVP_DigestSign(context, signature, &signature_size, data, size) == 1;
    }
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    if (!is_signed) {
        return error_set(error, REASON_INVALID, "the private key cannot sign");
    }
    *ret_signature = signature;
    *ret_size = signature_size;
    return STATUS_OK;
}
