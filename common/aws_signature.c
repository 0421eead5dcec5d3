// SPDX-License-Identifier: Apache-2.0
#include "common/aws_signature.h"

#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define SCOPE_END "aws4_request"
#define STAMP_SIZE 17 // "20130524T000000Z" and the NUL
#define DAY_SIZE 8

typedef struct Header {
    const char *name;  // lower-case
    const char *value; // trimmed, with single spaces
    size_t index;      // where it came: equal names keep their order
} Header;

AwsCredential aws_credential_copy(const AwsCredential *credential)
{
    return (AwsCredential){.access_key_id = string_copy(credential->access_key_id),
                           .secret_key = secret_copy(&credential->secret_key),
                           .session_token = secret_copy(&credential->session_token),
                           .expires_at_us = credential->expires_at_us};
}

void aws_credential_done(AwsCredential *credential)
{
    mem_free(credential->access_key_id);
    secret_done(&credential->secret_key);
    secret_done(&credential->session_token);
    *credential = (AwsCredential){0};
}

static bool is_unreserved(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

char *aws_uri_encode(const char *text, bool is_path, Arena *arena)
{
    static const char digits[] = "0123456789ABCDEF";
    char *encoded = arena_alloc(arena, 3 * strlen(text) + 1);
    char *next = encoded;
    for (; *text != '\0'; text++) {
        if (is_unreserved(*text) || (is_path && *text == '/')) {
            *next++ = *text;
            continue;
        }
        unsigned char byte = (unsigned char)*text;
        *next++ = '%';
        *next++ = digits[byte >> 4];
        *next++ = digits[byte & 15];
    }
    *next = '\0';
    return encoded;
}

static int compare_pairs(const void *a, const void *b)
{
    const AwsQueryPair *left = a;
    const AwsQueryPair *right = b;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : strcmp(left->value, right->value);
}

char *aws_query_text(AwsQueryPair *pairs, size_t count, Arena *arena)
{
    size_t size = 1;
    for (size_t i = 0; i < count; i++) {
        pairs[i].name = aws_uri_encode(pairs[i].name, false, arena);
        pairs[i].value = aws_uri_encode(pairs[i].value, false, arena);
        size += strlen(pairs[i].name) + strlen(pairs[i].value) + 2;
    }
    if (count > 1) {
        qsort(pairs, count, sizeof(pairs[0]), compare_pairs);
    }
    char *text = arena_alloc(arena, size);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%s=%s", i > 0 ? "&" : "",
                                 pairs[i].name, pairs[i].value);
    }
    return text;
}

void aws_payload_hash(const void *data, size_t size, char ret_text[65])
{
    uint8_t digest[SHA256_SIZE];
    crypto_sha256(data, size, digest);
    hex_encode(digest, sizeof(digest), ret_text);
}

static int compare_headers(const void *a, const void *b)
{
    const Header *left = a;
    const Header *right = b;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : (left->index < right->index ? -1 : 1);
}

static Header parse_header(const char *line, size_t index, Arena *arena)
{
    const char *colon = strchr(line, ':');
    assert(colon != NULL);
    char *name = arena_string_n(arena, line, (size_t)(colon - line));
    for (char *byte = name; *byte != '\0'; byte++) {
        *byte = (char)tolower((unsigned char)*byte);
    }
    char *value = arena_string(arena, colon + 1);
    size_t size = 0;
    for (const char *byte = value; *byte != '\0'; byte++) {
        bool is_space = *byte == ' ' || *byte == '\t';
        if (!is_space) {
            value[size++] = *byte;
        } else if (size > 0 && value[size - 1] != ' ') {
            value[size++] = ' ';
        }
    }
    size -= size > 0 && value[size - 1] == ' ' ? 1 : 0;
    value[size] = '\0';
    return (Header){.name = name, .value = value, .index = index};
}

// The canonical headers, one on a line, and the list of their names.
static void format_headers(Header *headers, size_t count, Arena *arena, const char **ret_lines,
                           const char **ret_names)
{
    const char *lines = "";
    const char *names = "";
    qsort(headers, count, sizeof(headers[0]), compare_headers);
    for (size_t i = 0; i < count;) {
        const char *values = headers[i].value;
        size_t next = i + 1;
        for (; next < count && text_equal(headers[next].name, headers[i].name); next++) {
            values = arena_format(arena, "%s,%s", values, headers[next].value);
        }
        lines = arena_format(arena, "%s%s:%s\n", lines, headers[i].name, values);
        names = arena_format(arena, "%s%s%s", names, i > 0 ? ";" : "", headers[i].name);
        i = next;
    }
    *ret_lines = lines;
    *ret_names = names;
}

static void derive_key(const AwsSignatureRequest *request, const char *day,
                       uint8_t ret_key[SHA256_SIZE])
{
    const Secret *secret = &request->credential->secret_key;
    CLEANUP_FREE uint8_t *start = mem_alloc(secret->size + 4);
    memcpy(start, "AWS4", 4);
    if (secret->size > 0) {
        memcpy(start + 4, secret->data, secret->size);
    }
    crypto_hmac_sha256(start, secret->size + 4, day, strlen(day), ret_key);
    explicit_bzero(start, secret->size + 4);
    const char *parts[] = {request->region, request->service, SCOPE_END};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        uint8_t next[SHA256_SIZE];
        crypto_hmac_sha256(ret_key, SHA256_SIZE, parts[i], strlen(parts[i]), next);
        memcpy(ret_key, next, SHA256_SIZE);
    }
}

AwsSignature aws_sign(const AwsSignatureRequest *request, Arena *arena)
{
    AwsSignature signature = {0};
    time_t seconds = (time_t)(request->time_us / 1000000);
    struct tm fields;
    char stamp[STAMP_SIZE];
    char day[DAY_SIZE + 1];
    (void)gmtime_r(&seconds, &fields);
    (void)strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &fields);
    (void)snprintf(day, sizeof(day), "%.8s", stamp);
    signature.date = arena_format(arena, "X-Amz-Date: %s", stamp);
    if (request->credential->session_token.size > 0) {
        signature.session_token = arena_format(arena, "X-Amz-Security-Token: %s",
                                               secret_text(&request->credential->session_token));
    }
    size_t count = 0;
    Header *headers = arena_alloc_array(arena, request->header_count + 3, sizeof(*headers));
    for (; count < request->header_count; count++) {
        headers[count] = parse_header(request->headers[count], count, arena);
    }
    headers[count++] = (Header){.name = "host", .value = request->host};
    headers[count++] = (Header){.name = "x-amz-date", .value = arena_string(arena, stamp)};
    if (signature.session_token != NULL) {
        headers[count] = parse_header(signature.session_token, count, arena);
        count++;
    }
    const char *lines = NULL;
    const char *names = NULL;
    format_headers(headers, count, arena, &lines, &names);
    signature.canonical_request =
        arena_format(arena, "%s\n%s\n%s\n%s\n%s\n%s", request->method, request->path,
                     request->query, lines, names, request->payload_hash);
    char hash[65];
    aws_payload_hash(signature.canonical_request, strlen(signature.canonical_request), hash);
    const char *scope =
        arena_format(arena, "%s/%s/%s/" SCOPE_END, day, request->region, request->service);
    const char *to_sign = arena_format(arena, ALGORITHM "\n%s\n%s\n%s", stamp, scope, hash);
    uint8_t key[SHA256_SIZE];
    uint8_t digest[SHA256_SIZE];
    derive_key(request, day, key);
    crypto_hmac_sha256(key, sizeof(key), to_sign, strlen(to_sign), digest);
    explicit_bzero(key, sizeof(key));
    hex_encode(digest, sizeof(digest), hash);
    signature.authorization = arena_format(
        arena, "Authorization: " ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s",
        request->credential->access_key_id, scope, names, hash);
    return signature;
}
