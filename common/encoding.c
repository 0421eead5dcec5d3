// SPDX-License-Identifier: Apache-2.0
// Hexadecimal, base64 and UUID texts.
#include "common/clock.h"
#include "common/crypto.h"

#include <assert.h>
#include <string.h>

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void crypto_uuid(char ret_text[UUID_TEXT_SIZE])
{
    uint8_t bytes[16];
    crypto_random(bytes, sizeof(bytes));
    // RFC 9562, 5.7 with 6.2 method 3: milliseconds, then their fraction, so that ids made one
    // after the other sort.
    uint64_t now_us = (uint64_t)clock_now_us();
    uint64_t milliseconds = now_us / 1000;
    uint64_t fraction = (now_us % 1000) * 4096 / 1000;
    for (int i = 0; i < 6; i++) {
        bytes[i] = (uint8_t)(milliseconds >> (8 * (5 - i)));
    }
    bytes[6] = (uint8_t)(0x70 | (fraction >> 8));
    bytes[7] = (uint8_t)fraction;
    bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3f));
    char *out = ret_text;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *out++ = '-';
        }
        *out++ = hex_digits[bytes[i] >> 4];
        *out++ = hex_digits[bytes[i] & 15];
    }
    *out = '\0';
}

bool uuid_is_valid(const char *text)
{
    if (text == NULL || strnlen(text, UUID_TEXT_SIZE) != UUID_TEXT_SIZE - 1) {
        return false;
    }
    for (int i = 0; i < UUID_TEXT_SIZE - 1; i++) {
        bool is_dash_place = i == 8 || i == 13 || i == 18 || i == 23;
        if (is_dash_place ? text[i] != '-' : strchr(hex_digits, text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

void hex_encode(const void *data, size_t size, char *ret_text)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        ret_text[2 * i] = hex_digits[bytes[i] >> 4];
        ret_text[2 * i + 1] = hex_digits[bytes[i] & 15];
    }
    ret_text[2 * size] = '\0';
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

bool hex_decode(const char *text, uint8_t *ret_data, size_t size)
{
    if (text == NULL || strnlen(text, 2 * size + 1) != 2 * size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(text[2 * i]);
        int low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        ret_data[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

char *base64url_encode(Arena *arena, const void *data, size_t size)
{
    assert(data != NULL || size == 0);
    const uint8_t *bytes = data;
    char *text = arena_alloc_array(arena, size / 3 + 1, 4);
    char *out = text;
    for (size_t i = 0; i < size; i += 3) {
        size_t have = MIN(size - i, 3);
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= have > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= have > 2 ? (uint32_t)bytes[i + 2] : 0;
        for (size_t digit = 0; digit <= have; digit++) {
            *out++ = base64_digits[(group >> (18 - 6 * digit)) & 63];
        }
    }
    *out = '\0';
    return text;
}

bool base64url_decode(Arena *arena, const char *text, uint8_t **ret_data, size_t *ret_size)
{
    if (text == NULL) {
        return false;
    }
    size_t text_size = strlen(text);
    if (text_size % 4 == 1) {
        return false;
    }
    size_t size = text_size / 4 * 3 + (text_size % 4 == 0 ? 0 : text_size % 4 - 1);
    uint8_t *data = arena_alloc(arena, size);
    uint32_t group = 0;
    unsigned bit_count = 0;
    size_t filled = 0;
    for (size_t i = 0; i < text_size; i++) {
        const char *place = strchr(base64_digits, text[i]);
        if (place == NULL) {
            return false;
        }
        group = (group << 6 | (uint32_t)(place - base64_digits)) & 0xffffu;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            data[filled++] = (uint8_t)(group >> bit_count);
        }
    }
    // Left-over bits must be zero, or two texts would mean the same bytes.
    if ((group & ((1u << bit_count) - 1)) != 0) {
        return false;
    }
    assert(filled == size);
    *ret_data = data;
    *ret_size = size;
    return true;
}

char *base64_encode(Arena *arena, const void *data, size_t size)
{
    char *text = base64url_encode(arena, data, size);
    size_t text_size = strlen(text);
    for (size_t i = 0; i < text_size; i++) {
        text[i] = (char)(text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i]);
    }
    size_t padding = (4 - text_size % 4) % 4;
    char *padded = arena_alloc(arena, text_size + padding + 1);
    memcpy(padded, text, text_size);
    memset(padded + text_size, '=', padding);
    explicit_bzero(text, text_size);
    return padded;
}

bool base64_decode(Arena *arena, const char *text, uint8_t **ret_data, size_t *ret_size)
{
    size_t size = text == NULL ? 1 : strlen(text);
    if (size % 4 != 0 || strpbrk(text, "-_") != NULL) {
        return false;
    }
    size_t padding = size > 0 && text[size - 1] == '=' ? (text[size - 2] == '=' ? 2 : 1) : 0;
    char *plain = arena_alloc(arena, size + 1);
    for (size_t i = 0; i + padding < size; i++) {
        plain[i] = (char)(text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
    }
    bool is_good = base64url_decode(arena, plain, ret_data, ret_size);
    explicit_bzero(plain, size);
    return is_good;
}
