// SPDX-License-Identifier: Apache-2.0
// Self-signed certificates, for a first start without a certificate authority.
#include "common/crypto.h"
#include "common/memory.h"
#include "common/secret.h"

#include <arpa/inet.h>
#include <assert.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#define SERIAL_BYTES 16
#define COMMON_NAME_BYTES_MAX 64 // RFC 5280, ub-common-name

static void key_freep(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static void certificate_freep(X509 **certificate)
{
    X509_free(*certificate);
}

static void bio_freep(BIO **bio)
{
    BIO_free(*bio);
}

static bool add_extension(X509 *certificate, int id, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, id, value);
    if (extension == NULL) {
        return false;
    }
    bool is_added = X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

static bool is_ip_address(const char *host)
{
    struct in6_addr storage;
    return inet_pton(AF_INET, host, &storage) == 1 || inet_pton(AF_INET6, host, &storage) == 1;
}

static bool set_serial(X509 *certificate)
{
    uint8_t bytes[SERIAL_BYTES];
    crypto_random(bytes, sizeof(bytes));
    bytes[0] &= 0x7f; // positive
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool is_set =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return is_set;
}

static bool fill_certificate(X509 *certificate, EVP_PKEY *key, const char *host, int days)
{
    CLEANUP_FREE char *alternative = string_format(is_ip_address(host) ? "IP:%s" : "DNS:%s", host);
    const char *common_name = strlen(host) <= COMMON_NAME_BYTES_MAX ? host : "holdfast";
    X509_NAME *name = X509_get_subject_name(certificate);
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
           // A clock that is a little behind must accept it too.
           X509_gmtime_adj(X509_getm_notBefore(certificate), -60 * 60) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(certificate), days, 0, NULL) != NULL &&
           X509_set_pubkey(certificate, key) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)common_name, -1,
                                      -1, 0) == 1 &&
           X509_set_issuer_name(certificate, name) == 1 &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
           add_extension(certificate, NID_subject_alt_name, alternative) &&
           add_extension(certificate, NID_subject_key_identifier, "hash") &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
}

static char *copy_text(BIO *bio)
{
    char *data = NULL;
    long size = BIO_get_mem_data(bio, &data);
    return size > 0 ? string_copy_n(data, (size_t)size) : NULL;
}

static bool is_host(const char *host)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:*";
    size_t size = strnlen(host, 254);
    return size > 0 && size <= 253 && strspn(host, allowed) == size;
}

Status crypto_self_signed_certificate(const char *host, int days, char **ret_certificate_pem,
                                      char **ret_key_pem, Error *error)
{
    assert(host != NULL);
    assert(days > 0);
    if (!is_host(host)) { // also keeps the extension's little language out of reach
        error_set(error, REASON_INVALID, "'%.64s' is not a host name or address", host);
        return error_hint(error, "give a DNS name or an IP address without port");
    }
    CLEANUP(key_freep) EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    CLEANUP(certificate_freep) X509 *certificate = X509_new();
    CLEANUP(bio_freep) BIO *certificate_bio = BIO_new(BIO_s_mem());
    CLEANUP(bio_freep) BIO *key_bio = BIO_new(BIO_s_secmem());
    if (key == NULL || certificate == NULL || certificate_bio == NULL || key_bio == NULL ||
        !fill_certificate(certificate, key, host, days) ||
        PEM_write_bio_X509(certificate_bio, certificate) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        return error_set(error, REASON_INTERNAL, "making a certificate for '%s' failed", host);
    }
    char *certificate_pem = copy_text(certificate_bio);
    char *key_pem = copy_text(key_bio);
    if (certificate_pem == NULL || key_pem == NULL) {
        mem_free(certificate_pem);
        secret_wipe_text(key_pem);
        mem_free(key_pem);
        return error_set(error, REASON_INTERNAL, "writing the certificate for '%s' failed", host);
    }
    *ret_certificate_pem = certificate_pem;
    *ret_key_pem = key_pem;
    return STATUS_OK;
}
