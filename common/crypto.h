// SPDX-License-Identifier: Apache-2.0
// The cryptography the project uses, over OpenSSL: randomness, hashes, AEAD, derivation, encodings.
// Thread-safe.
#pragma once

#include "common/arena.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define MD5_SIZE 16
#define AES256_KEY_SIZE 32
#define GCM_NONCE_SIZE 12
#define GCM_TAG_SIZE 16
#define UUID_TEXT_SIZE 37 // with the NUL

void crypto_random(void *data, size_t size); // never fails: no randomness ends the program
void crypto_sha256(const void *data, size_t size, uint8_t ret_digest[SHA256_SIZE]);
void crypto_md5(const void *data, size_t size,
                uint8_t ret_digest[MD5_SIZE]); // for protocols that ask for it, never for safety
void crypto_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
                        uint8_t ret_digest[SHA256_SIZE]);
// HKDF-SHA256 (RFC 5869) with empty salt; `info` is the label.
void crypto_hkdf(const void *key, size_t key_size, const void *info, size_t info_size,
                 uint8_t *ret_key, size_t ret_size);
// AES-256-GCM. `ret_sealed` has room for size + GCM_TAG_SIZE; the tag comes last.
void crypto_seal(const uint8_t key[AES256_KEY_SIZE], const uint8_t nonce[GCM_NONCE_SIZE],
                 const void *associated, size_t associated_size, const void *plain, size_t size,
                 uint8_t *ret_sealed);
// False when the bytes were not sealed with this key, nonce and associated data. `ret_plain` has
// room for size - GCM_TAG_SIZE and holds nothing useful on false.
MUST_USE bool crypto_open(const uint8_t key[AES256_KEY_SIZE], const uint8_t nonce[GCM_NONCE_SIZE],
                          const void *associated, size_t associated_size, const void *sealed,
                          size_t size, uint8_t *ret_plain);
// The same with one key for many messages, without its cost for each; one thread at a time.
typedef struct GcmKey GcmKey;
GcmKey *gcm_key_new(void);      // without a key
void gcm_key_free(GcmKey *key); // NULL is fine
void gcm_key_set(GcmKey *key, const uint8_t bytes[AES256_KEY_SIZE]);
void gcm_seal(GcmKey *key, const uint8_t nonce[GCM_NONCE_SIZE], const void *associated,
              size_t associated_size, const void *plain, size_t size, uint8_t *ret_sealed);
MUST_USE bool gcm_open(GcmKey *key, const uint8_t nonce[GCM_NONCE_SIZE], const void *associated,
                       size_t associated_size, const void *sealed, size_t size, uint8_t *ret_plain);
// The tag of sealing nothing with `data` associated: GMAC (NIST SP 800-38D). With a nonce that
// repeats it is a universal hash, no signature: whoever sees such tags can make others.
void gcm_mac(GcmKey *key, const uint8_t nonce[GCM_NONCE_SIZE], const void *data, size_t size,
             uint8_t ret_tag[GCM_TAG_SIZE]);
bool crypto_equal(const void *a, const void *b, size_t size); // constant time
void crypto_uuid(char ret_text[UUID_TEXT_SIZE]);              // UUIDv7 (RFC 9562): sorts by time
bool uuid_is_valid(const char *text);
void hex_encode(const void *data, size_t size, char *ret_text);      // 2 * size + 1 bytes
bool hex_decode(const char *text, uint8_t *ret_data, size_t size);   // exactly size bytes or false
char *base64url_encode(Arena *arena, const void *data, size_t size); // without padding
bool base64url_decode(Arena *arena, const char *text, uint8_t **ret_data, size_t *ret_size);
// With the usual letters ("+/") and padding. Decoding wants both.
char *base64_encode(Arena *arena, const void *data, size_t size);
bool base64_decode(Arena *arena, const char *text, uint8_t **ret_data, size_t *ret_size);

// Incremental SHA-256, for streams.
typedef struct Sha256 Sha256;
Sha256 *sha256_new(void);
void sha256_update(Sha256 *hash, const void *data, size_t size);
void sha256_finish(Sha256 *hash, uint8_t ret_digest[SHA256_SIZE]); // resets it for another stream
void sha256_free(Sha256 *hash);

// Signs with an RSA key in PEM: RSASSA-PKCS1-v1_5 with SHA-256, which JWTs call RS256.
// REASON_INVALID for a text that is no such key; the error says nothing of it.
Status crypto_sign_rs256(const char *private_key_pem, const void *data, size_t size, Arena *arena,
                         uint8_t **ret_signature, size_t *ret_size, Error *error);

// A self-signed P-256 certificate for `host` valid for `days`; both PEM texts are malloc'd, the key
// is secret.
Status crypto_self_signed_certificate(const char *host, int days, char **ret_certificate_pem,
                                      char **ret_key_pem, Error *error);
