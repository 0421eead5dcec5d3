// SPDX-License-Identifier: Apache-2.0
// Red when what we seal, hash or encode is not what the standards say, or tampering goes unnoticed.
#include "common/crypto.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

static void assert_hex(const uint8_t *data, size_t size, const char *expected)
{
    char text[256];
    assert_true(size * 2 < sizeof(text));
    hex_encode(data, size, text);
    assert_string_equal(text, expected);
}

static void test_sha256(void **state)
{
    (void)state;
    uint8_t digest[SHA256_SIZE];
    crypto_sha256("abc", 3, digest);
    assert_hex(digest, sizeof(digest),
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); // FIPS 180-4
    crypto_sha256(NULL, 0, digest);
    assert_hex(digest, sizeof(digest),
               "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    Sha256 *hash = sha256_new();
    for (int round = 0; round < 2; round++) { // the second: finish resets
        sha256_update(hash, "a", 1);
        sha256_update(hash, "", 0);
        sha256_update(hash, "bc", 2);
        sha256_finish(hash, digest);
        assert_hex(digest, sizeof(digest),
                   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
    sha256_free(hash);
    sha256_free(NULL);
}

static void test_hmac_and_hkdf(void **state)
{
    (void)state;
    uint8_t digest[SHA256_SIZE];
    crypto_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, digest); // RFC 4231, case 2
    assert_hex(digest, sizeof(digest),
               "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    crypto_hmac_sha256("", 0, "", 0, digest);
    assert_hex(digest, sizeof(digest),
               "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    uint8_t key[22];
    memset(key, 0x0b, sizeof(key));
    uint8_t derived[42];
    crypto_hkdf(key, sizeof(key), NULL, 0, derived, sizeof(derived)); // RFC 5869, case 3
    assert_hex(
        derived, sizeof(derived),
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
    uint8_t other[42];
    crypto_hkdf(key, sizeof(key), "label", 5, other, sizeof(other));
    assert_false(crypto_equal(derived, other, sizeof(other)));
}

static void test_seal_known_answer(void **state)
{
    (void)state;
    // McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16.
    uint8_t key[32];
    uint8_t nonce[12];
    uint8_t plain[60];
    uint8_t associated[20];
    assert_true(
        hex_decode("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", key, 32));
    assert_true(hex_decode("cafebabefacedbaddecaf888", nonce, 12));
    assert_true(
        hex_decode("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95"
                   "956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
                   plain, 60));
    assert_true(hex_decode("feedfacedeadbeeffeedfacedeadbeefabaddad2", associated, 20));
    uint8_t sealed[76];
    crypto_seal(key, nonce, associated, 20, plain, 60, sealed);
    assert_hex(
        sealed, sizeof(sealed),
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10"
        "56828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b");
}

static void test_open_refuses_tampering(void **state)
{
    (void)state;
    uint8_t key[AES256_KEY_SIZE];
    uint8_t nonce[GCM_NONCE_SIZE];
    crypto_random(key, sizeof(key));
    crypto_random(nonce, sizeof(nonce));
    const char *text = "every backup proves the one before it";
    size_t size = strlen(text);
    uint8_t sealed[64];
    uint8_t plain[64];
    crypto_seal(key, nonce, "place", 5, text, size, sealed);
    assert_true(crypto_open(key, nonce, "place", 5, sealed, size + GCM_TAG_SIZE, plain));
    assert_memory_equal(plain, text, size);
    for (size_t i = 0; i < size + GCM_TAG_SIZE; i++) {
        sealed[i] ^= 1;
        assert_false(crypto_open(key, nonce, "place", 5, sealed, size + GCM_TAG_SIZE, plain));
        sealed[i] ^= 1;
    }
    assert_false(crypto_open(key, nonce, "Place", 5, sealed, size + GCM_TAG_SIZE, plain));
    assert_false(crypto_open(key, nonce, NULL, 0, sealed, size + GCM_TAG_SIZE, plain));
    for (size_t cut = 0; cut < size + GCM_TAG_SIZE; cut++) {
        assert_false(crypto_open(key, nonce, "place", 5, sealed, cut, plain));
    }
    nonce[0] ^= 1;
    assert_false(crypto_open(key, nonce, "place", 5, sealed, size + GCM_TAG_SIZE, plain));
    nonce[0] ^= 1;
    key[31] ^= 1;
    assert_false(crypto_open(key, nonce, "place", 5, sealed, size + GCM_TAG_SIZE, plain));
    crypto_seal(key, nonce, NULL, 0, NULL, 0, sealed); // nothing can be sealed too
    assert_true(crypto_open(key, nonce, NULL, 0, sealed, GCM_TAG_SIZE, plain));
}

static void test_uuid(void **state)
{
    (void)state;
    char previous[UUID_TEXT_SIZE] = "";
    int in_order_count = 0;
    for (int i = 0; i < 1000; i++) {
        char text[UUID_TEXT_SIZE];
        crypto_uuid(text);
        assert_true(uuid_is_valid(text));
        assert_int_equal(text[14], '7');
        assert_non_null(strchr("89ab", text[19]));
        assert_string_not_equal(text, previous);
        in_order_count += strcmp(previous, text) < 0 ? 1 : 0;
        memcpy(previous, text, sizeof(previous));
    }
    assert_true(in_order_count > 500); // within a quarter of a microsecond chance decides
    static const char *const wrong[] = {"",
                                        "0190163d-8694-739b-aea5-966c26f8ad9",
                                        "0190163d-8694-739b-aea5-966c26f8ad911",
                                        "0190163D-8694-739b-aea5-966c26f8ad91",
                                        "0190163d08694-739b-aea5-966c26f8ad91",
                                        "0190163g-8694-739b-aea5-966c26f8ad91"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        assert_false(uuid_is_valid(wrong[i]));
    }
    assert_false(uuid_is_valid(NULL));
}

static void test_encodings(void **state)
{
    (void)state;
    uint8_t data[4];
    assert_true(hex_decode("00fFa1", data, 3));
    assert_memory_equal(data, "\x00\xff\xa1", 3);
    assert_false(hex_decode("00ff", data, 3));
    assert_false(hex_decode("00ff000", data, 3));
    assert_false(hex_decode("00fg00", data, 3));
    assert_false(hex_decode(NULL, data, 3));
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_string_equal(base64url_encode(arena, "\xfb\xff\xbe", 3), "-_--");
    static const char *const encoded[] = {"", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"};
    for (size_t i = 0; i < ARRAY_COUNT(encoded); i++) { // RFC 4648, 10
        assert_string_equal(base64url_encode(arena, "foobar", i), encoded[i]);
        uint8_t *decoded = NULL;
        size_t size = 99;
        assert_true(base64url_decode(arena, encoded[i], &decoded, &size));
        assert_int_equal(size, i);
        assert_memory_equal(decoded, "foobar", i);
    }
    static const char *const wrong[] = {"Z", "Zg==", "Zh", "Zm9=", "Zm+v", "Zm/v", "Zm 9"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        uint8_t *decoded = NULL;
        size_t size = 0;
        assert_false(base64url_decode(arena, wrong[i], &decoded, &size));
    }
}

static void check_certificate(const char *host, bool is_address)
{
    Error error = {0};
    CLEANUP_FREE char *certificate_pem = NULL;
    CLEANUP_FREE char *key_pem = NULL;
    assert_ok(crypto_self_signed_certificate(host, 30, &certificate_pem, &key_pem, &error), &error);
    assert_contains(key_pem, "BEGIN PRIVATE KEY");
    BIO *bio = BIO_new_mem_buf(certificate_pem, -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    bio = BIO_new_mem_buf(key_pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(certificate);
    assert_int_equal(X509_check_private_key(certificate, key), 1);
    assert_int_equal(is_address ? X509_check_ip_asc(certificate, host, 0)
                                : X509_check_host(certificate, host, 0, 0, NULL),
                     1);
    assert_int_equal(X509_check_host(certificate, "other.example", 0, 0, NULL), 0);
    // A client that pins exactly this certificate accepts it.
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, certificate);
    X509_STORE_CTX_init(context, store, certificate, NULL);
    assert_int_equal(X509_verify_cert(context), 1);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void test_certificate(void **state)
{
    (void)state;
    check_certificate("localhost", false);
    check_certificate("127.0.0.1", true);
    check_certificate("::1", true);
    check_certificate("a-very-long-name-of-a-machine.in-a-very-long-zone-name.backup.example",
                      false);
    Error error = {0};
    char *certificate_pem = NULL;
    char *key_pem = NULL;
    Status status = crypto_self_signed_certificate("a,DNS:evil.example", 30, &certificate_pem,
                                                   &key_pem, &error);
    assert_error(status, &error, REASON_INVALID,
                 "'a,DNS:evil.example' is not a host name or address");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_hmac_and_hkdf),
        cmocka_unit_test(test_seal_known_answer),
        cmocka_unit_test(test_open_refuses_tampering),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
