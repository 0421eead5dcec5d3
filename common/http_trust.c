// SPDX-License-Identifier: Apache-2.0
#include "common/http_trust.h"

#include "common/crypto.h"
#include "common/memory.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define STORE_COUNT 8 // a process talks to few stores at once; more are parsed again

typedef struct Trust {
    char *identity; // of the certificates
    X509_STORE *store;
} Trust;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // guards what follows
static Trust trusts[STORE_COUNT];
static size_t next_trust;

static char *identity_of(const char *ca_path, const char *ca_pem)
{
    if (ca_pem != NULL) {
        uint8_t digest[SHA256_SIZE];
        char text[2 * SHA256_SIZE + 1];
        crypto_sha256(ca_pem, strlen(ca_pem), digest);
        hex_encode(digest, sizeof(digest), text);
        return string_format("pem %s", text);
    }
    struct stat facts;
    if (ca_path == NULL || stat(ca_path, &facts) != 0) {
        return NULL;
    }
    return string_format("%lld.%09ld %lld %llu %s", (long long)facts.st_mtim.tv_sec,
                         facts.st_mtim.tv_nsec, (long long)facts.st_size,
                         (unsigned long long)facts.st_ino, ca_path);
}

static bool add_text(X509_STORE *store, const char *ca_pem)
{
    size_t size = strlen(ca_pem);
    BIO *text = size <= INT_MAX ? BIO_new_mem_buf(ca_pem, (int)size) : NULL;
    STACK_OF(X509_INFO) *found =
        text == NULL ? NULL : PEM_X509_INFO_read_bio(text, NULL, NULL, NULL);
    int count = 0;
    for (int i = 0; i < sk_X509_INFO_num(found); i++) {
        X509 *certificate = sk_X509_INFO_value(found, i)->x509;
        count += certificate != NULL && X509_STORE_add_cert(store, certificate) == 1;
    }
    sk_X509_INFO_pop_free(found, X509_INFO_free);
    BIO_free(text);
    return count > 0;
}

static X509_STORE *load(const char *ca_path, const char *ca_pem)
{
    X509_STORE *store = X509_STORE_new();
    if (store == NULL) {
        mem_exhausted();
    }
    // As libcurl does: a certificate that is trusted ends the chain, be it a root or not.
    X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
    bool is_loaded =
        ca_pem != NULL ? add_text(store, ca_pem) : X509_STORE_load_file(store, ca_path) == 1;
    ERR_clear_error();
    if (!is_loaded) {
        X509_STORE_free(store);
        return NULL;
    }
    return store;
}

static X509_STORE *find(const char *identity)
{
    for (size_t i = 0; i < STORE_COUNT; i++) {
        if (trusts[i].identity != NULL && strcmp(trusts[i].identity, identity) == 0) {
            return trusts[i].store;
        }
    }
    return NULL;
}

X509_STORE *http_trust_get(const char *ca_path, const char *ca_pem)
{
    CLEANUP_FREE char *identity = identity_of(ca_path, ca_pem);
    if (identity == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&mutex);
    X509_STORE *store = find(identity);
    if (store == NULL) {
        store = load(ca_path, ca_pem);
        if (store != NULL) {
            Trust *trust = &trusts[next_trust++ % STORE_COUNT];
            mem_free(trust->identity);
            X509_STORE_free(trust->store);
            *trust = (Trust){.identity = TAKE_PTR(identity), .store = store};
        }
    }
    if (store != NULL) {
        X509_STORE_up_ref(store);
    }
    pthread_mutex_unlock(&mutex);
    return store;
}
