// SPDX-License-Identifier: Apache-2.0
// The one growable buffer.
#include "common/buffer.h"

#include "common/memory.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CAPACITY_FIRST 256

void buffer_init(Buffer *buffer, size_t size_max)
{
    assert(buffer != NULL);
    assert(size_max < SIZE_MAX);
    memset(buffer, 0, sizeof(*buffer));
    buffer->size_max = size_max;
}

void buffer_done(Buffer *buffer)
{
    assert(buffer != NULL);
    mem_free(buffer->data);
    memset(buffer, 0, sizeof(*buffer));
}

void buffer_clear(Buffer *buffer)
{
    buffer->size = 0;
    buffer->is_overflowed = false;
    if (buffer->data != NULL) {
        buffer->data[0] = '\0';
    }
}

bool buffer_reserve(Buffer *buffer, size_t free_size)
{
    assert(buffer != NULL);
    assert(buffer->size <= buffer->size_max);
    if (free_size > buffer->size_max - buffer->size) {
        return false;
    }
    size_t need = buffer->size + free_size + 1;
    if (need <= buffer->capacity) {
        return true;
    }
    size_t capacity = MAX(buffer->capacity, CAPACITY_FIRST);
    while (capacity < need) {
        capacity = capacity > SIZE_MAX / 2 ? need : capacity * 2;
    }
    capacity = MAX(MIN(capacity, buffer->size_max + 1), need);
    buffer->data = mem_realloc_array(buffer->data, capacity, 1);
    buffer->capacity = capacity;
    buffer->data[buffer->size] = '\0';
    return true;
}

static bool make_room(Buffer *buffer, size_t size)
{
    // Once cut, always cut: a later, smaller piece must not follow a hole.
    if (buffer->is_overflowed || !buffer_reserve(buffer, size)) {
        buffer->is_overflowed = true;
        return false;
    }
    return true;
}

bool buffer_append(Buffer *buffer, const void *data, size_t size)
{
    assert(data != NULL || size == 0);
    if (!make_room(buffer, size)) {
        return false;
    }
    if (size > 0) {
        memcpy(buffer->data + buffer->size, data, size);
    }
    buffer->size += size;
    buffer->data[buffer->size] = '\0';
    return true;
}

bool buffer_append_text(Buffer *buffer, const char *text)
{
    assert(text != NULL);
    return buffer_append(buffer, text, strlen(text));
}

bool buffer_append_format(Buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert(wanted >= 0);
    size_t size = (size_t)wanted;
    if (!make_room(buffer, size)) {
        return false;
    }
    va_start(arguments, format);
    int written = vsnprintf((char *)buffer->data + buffer->size, size + 1, format, arguments);
    va_end(arguments);
    assert(written == wanted);
    buffer->size += size;
    return true;
}

bool buffer_append_u32(Buffer *buffer, uint32_t value)
{
    uint8_t bytes[4];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    return buffer_append(buffer, bytes, sizeof(bytes));
}

bool buffer_append_u64(Buffer *buffer, uint64_t value)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    return buffer_append(buffer, bytes, sizeof(bytes));
}

const char *buffer_text(const Buffer *buffer)
{
    return buffer->data == NULL ? "" : (const char *)buffer->data;
}

char *buffer_take_text(Buffer *buffer)
{
    size_t size_max = buffer->size_max;
    char *text = buffer->data == NULL ? string_copy("") : (char *)buffer->data;
    buffer_init(buffer, size_max);
    return text;
}
