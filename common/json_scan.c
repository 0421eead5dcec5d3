// SPDX-License-Identifier: Apache-2.0
// A strict reader of RFC 8259 that builds nothing: cJSON alone accepts too much and cannot say
// where it stopped.
#include "common/json_scan.h"

#include "common/limits.h"
#include "common/text.h"

#include <string.h>

#define NUMBER_BYTES_MAX 63 // what cJSON looks at

typedef struct Scanner {
    const char *text;
    size_t size;
    size_t position;
    const char *problem;
} Scanner;

static bool fail(Scanner *scanner, const char *problem)
{
    if (scanner->problem == NULL) {
        scanner->problem = problem;
    }
    return false;
}

// The next byte, or NUL at the end; a NUL in the text is never valid either.
static char peek(const Scanner *scanner)
{
    return scanner->position < scanner->size ? scanner->text[scanner->position] : '\0';
}

static void skip_space(Scanner *scanner)
{
    char c = peek(scanner);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        scanner->position++;
        c = peek(scanner);
    }
}

static bool take(Scanner *scanner, char wanted)
{
    if (peek(scanner) != wanted) {
        return false;
    }
    scanner->position++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool scan_hex4(Scanner *scanner, unsigned *ret_value)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char c = peek(scanner);
        unsigned digit = 0;
        if (is_digit(c)) {
            digit = (unsigned)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            digit = (unsigned)(c - 'a') + 10;
        } else if (c >= 'A' && c <= 'F') {
            digit = (unsigned)(c - 'A') + 10;
        } else {
            return fail(scanner, "expected four hexadecimal digits");
        }
        value = value * 16 + digit;
        scanner->position++;
    }
    *ret_value = value;
    return true;
}

// After the backslash.
static bool scan_escape(Scanner *scanner)
{
    char c = peek(scanner);
    if (c != 'u') {
        if (c == '\0' || strchr("\"\\/bfnrt", c) == NULL) {
            return fail(scanner, "unknown escape");
        }
        scanner->position++;
        return true;
    }
    scanner->position++;
    unsigned unit = 0;
    if (!scan_hex4(scanner, &unit)) {
        return false;
    }
    if (unit == 0) {
        return fail(scanner, "a text may not contain NUL");
    }
    if (unit >= 0xdc00 && unit <= 0xdfff) {
        return fail(scanner, "a surrogate without its first half");
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
        unsigned second = 0;
        if (!take(scanner, '\\') || !take(scanner, 'u') || !scan_hex4(scanner, &second) ||
            second < 0xdc00 || second > 0xdfff) {
            return fail(scanner, "a surrogate without its second half");
        }
    }
    return true;
}

static bool scan_string(Scanner *scanner)
{
    if (!take(scanner, '"')) {
        return fail(scanner, "expected a text in double quotes");
    }
    for (;;) {
        if (scanner->position >= scanner->size) {
            return fail(scanner, "the text is not closed");
        }
        char c = peek(scanner);
        if (c == '"') {
            scanner->position++;
            return true;
        }
        if (c == '\\') {
            scanner->position++;
            if (!scan_escape(scanner)) {
                return false;
            }
            continue;
        }
        if ((unsigned char)c < 0x20) {
            return fail(scanner, "a control character in a text");
        }
        size_t length = utf8_character_size(scanner->text + scanner->position,
                                            scanner->size - scanner->position);
        if (length == 0) {
            return fail(scanner, "the text is not UTF-8");
        }
        scanner->position += length;
    }
}

static bool scan_digits(Scanner *scanner)
{
    if (!is_digit(peek(scanner))) {
        return fail(scanner, "expected a digit");
    }
    while (is_digit(peek(scanner))) {
        scanner->position++;
    }
    return true;
}

static bool scan_number(Scanner *scanner)
{
    size_t start = scanner->position;
    (void)take(scanner, '-'); // optional
    if (!take(scanner, '0') && !scan_digits(scanner)) {
        return false;
    }
    if (is_digit(peek(scanner))) {
        return fail(scanner, "a number may not start with 0");
    }
    if (take(scanner, '.') && !scan_digits(scanner)) {
        return false;
    }
    if (take(scanner, 'e') || take(scanner, 'E')) {
        if (!take(scanner, '+')) {
            (void)take(scanner, '-'); // optional
        }
        if (!scan_digits(scanner)) {
            return false;
        }
    }
    if (scanner->position - start > NUMBER_BYTES_MAX) {
        return fail(scanner, "the number is too long");
    }
    return true;
}

static bool scan_word(Scanner *scanner, const char *word)
{
    size_t size = strlen(word);
    if (scanner->size - scanner->position < size ||
        memcmp(scanner->text + scanner->position, word, size) != 0) {
        return fail(scanner, "expected a value");
    }
    scanner->position += size;
    return true;
}

static bool scan_value(Scanner *scanner, int depth);

static bool scan_object(Scanner *scanner, int depth)
{
    scanner->position++;
    skip_space(scanner);
    if (take(scanner, '}')) {
        return true;
    }
    do {
        skip_space(scanner);
        if (!scan_string(scanner)) {
            return false;
        }
        skip_space(scanner);
        if (!take(scanner, ':')) {
            return fail(scanner, "expected ':'");
        }
        if (!scan_value(scanner, depth)) {
            return false;
        }
        skip_space(scanner);
    } while (take(scanner, ','));
    return take(scanner, '}') || fail(scanner, "expected ',' or '}'");
}

static bool scan_array(Scanner *scanner, int depth)
{
    scanner->position++;
    skip_space(scanner);
    if (take(scanner, ']')) {
        return true;
    }
    do {
        if (!scan_value(scanner, depth)) {
            return false;
        }
        skip_space(scanner);
    } while (take(scanner, ','));
    return take(scanner, ']') || fail(scanner, "expected ',' or ']'");
}

static bool scan_value(Scanner *scanner, int depth)
{
    skip_space(scanner);
    char c = peek(scanner);
    if (c == '{' || c == '[') {
        if (depth >= LIMIT_JSON_DEPTH) {
            return fail(scanner, "nested too deeply");
        }
        return c == '{' ? scan_object(scanner, depth + 1) : scan_array(scanner, depth + 1);
    }
    if (c == '"') {
        return scan_string(scanner);
    }
    if (c == '-' || is_digit(c)) {
        return scan_number(scanner);
    }
    if (c == 't') {
        return scan_word(scanner, "true");
    }
    return scan_word(scanner, c == 'f' ? "false" : "null");
}

bool json_scan(const char *text, size_t size, const char **ret_problem, size_t *ret_position)
{
    Scanner scanner = {.text = text, .size = size};
    bool is_fine = scan_value(&scanner, 0);
    if (is_fine) {
        skip_space(&scanner);
        is_fine = scanner.position == size || fail(&scanner, "something follows the value");
    }
    *ret_problem = scanner.problem;
    *ret_position = scanner.position;
    return is_fine;
}
