// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/gcp_account.h"

#include "common/buffer.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/harness.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ACCOUNT_EMAIL "holdfast@project.iam.gserviceaccount.com"
#define ACCOUNT_KEY_ID "0123456789abcdef"
#define SKEW_S 60

static EVP_PKEY *shared_key; // making one takes long
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
    shared_key = EVP_RSA_gen(2048);
}

struct GcpAccount {
    EVP_PKEY *key;
    char *token_uri;
    char *json;
};

static char *take_bio(BIO *bio)
{
    char *data = NULL;
    long size = BIO_get_mem_data(bio, &data);
    char *text = string_copy_n(data, (size_t)size);
    BIO_free(bio);
    return text;
}

char *gcp_account_public_pem(const GcpAccount *account)
{
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PUBKEY(bio, account->key), 1);
    return take_bio(bio);
}

GcpAccount *gcp_account_new(const char *token_uri)
{
    GcpAccount *account = mem_alloc(sizeof(*account));
    account->token_uri = string_copy(token_uri);
    (void)pthread_once(&key_once, make_key);
    assert_non_null(shared_key);
    account->key = shared_key;
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, account->key, NULL, NULL, 0, NULL, NULL),
                     1);
    CLEANUP_FREE char *pem = take_bio(bio);
    CLEANUP(json_freep) Json *json = json_new_object();
    Buffer text;
    json_set_text(json, "type", "service_account");
    json_set_text(json, "project_id", "project");
    json_set_text(json, "private_key_id", ACCOUNT_KEY_ID);
    json_set_text(json, "private_key", pem);
    json_set_text(json, "client_email", ACCOUNT_EMAIL);
    json_set_text(json, "token_uri", token_uri);
    buffer_init(&text, 65536);
    assert_true(json_write(json, true, &text));
    account->json = buffer_take_text(&text);
    return account;
}

void gcp_account_free(GcpAccount *account)
{
    if (account != NULL) {
        mem_free(account->token_uri);
        mem_free(account->json);
        mem_free(account);
    }
}

const char *gcp_account_key_json(const GcpAccount *account)
{
    return account->json;
}

char *form_field(const char *form, const char *name)
{
    size_t name_size = strlen(name);
    while (strncmp(form, name, name_size) != 0 || form[name_size] != '=') {
        form = strchr(form, '&');
        if (form == NULL) {
            return NULL;
        }
        form++;
    }
    form += name_size + 1;
    char *value = string_copy_n(form, strcspn(form, "&"));
    char *to = value;
    for (const char *from = value; *from != '\0'; from++) {
        if (*from == '%') {
            const char digits[] = {from[1], from[2], '\0'};
            *to++ = (char)strtol(digits, NULL, 16);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return value;
}

static bool is_signed(const GcpAccount *account, const char *text, size_t text_size,
                      const uint8_t *signature, size_t size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_good =
        EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, account->key) == 1 &&
        EVP_DigestVerify(context, signature, size, (const uint8_t *)text, text_size) == 1;
    EVP_MD_CTX_free(context);
    return is_good;
}

static Json *decode_json(Arena *arena, const char *text)
{
    uint8_t *data = NULL;
    size_t size = 0;
    Json *json = NULL;
    Error error = {0};
    if (base64url_decode(arena, text, &data, &size)) {
        (void)json_parse((const char *)data, size, &json, &error);
    }
    return json;
}

static const char *claims_refusal(const GcpAccount *account, const Json *claims, const char *scope)
{
    int64_t now_s = clock_now_us() / 1000000;
    int64_t issued_s = json_get_integer(claims, "iat", 0);
    int64_t end_s = json_get_integer(claims, "exp", 0);
    if (!text_equal(json_get_text(claims, "iss", ""), ACCOUNT_EMAIL)) {
        return "iss";
    }
    if (!text_equal(json_get_text(claims, "aud", ""), account->token_uri)) {
        return "aud";
    }
    if (!text_equal(json_get_text(claims, "scope", ""), scope)) {
        return "scope";
    }
    if (issued_s > now_s + SKEW_S || issued_s < now_s - SKEW_S) {
        return "iat";
    }
    return end_s <= issued_s || end_s > issued_s + 3600 ? "exp" : NULL;
}

const char *gcp_account_refusal(const GcpAccount *account, const char *form, const char *scope)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP_FREE char *grant = form_field(form, "grant_type");
    CLEANUP_FREE char *assertion = form_field(form, "assertion");
    if (!text_equal(grant, "urn:ietf:params:oauth:grant-type:jwt-bearer") || assertion == NULL) {
        return "grant_type";
    }
    size_t count = 0;
    char **parts = text_split(arena, assertion, '.', &count);
    if (count != 3) {
        return "assertion";
    }
    CLEANUP(json_freep) Json *header = decode_json(arena, parts[0]);
    CLEANUP(json_freep) Json *claims = decode_json(arena, parts[1]);
    uint8_t *signature = NULL;
    size_t size = 0;
    size_t signed_size = strlen(parts[0]) + 1 + strlen(parts[1]);
    if (!text_equal(json_get_text(header, "alg", ""), "RS256") ||
        !text_equal(json_get_text(header, "typ", ""), "JWT") ||
        !text_equal(json_get_text(header, "kid", ""), ACCOUNT_KEY_ID)) {
        return "header";
    }
    if (!base64url_decode(arena, parts[2], &signature, &size) ||
        !is_signed(account, assertion, signed_size, signature, size)) {
        return "signature";
    }
    return claims_refusal(account, claims, scope);
}
