// SPDX-License-Identifier: Apache-2.0
// JSON over cJSON, which only json.c includes. Limits on size and depth are enforced here.
// A Json returned by a getter is borrowed from its parent; one given to json_object_set or
// json_array_add is moved.
#pragma once

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cJSON Json;
typedef enum JsonType {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
} JsonType;

// Refuses trailing bytes, depth over LIMIT_JSON_DEPTH, invalid UTF-8, embedded NULs and repeated
// keys: REASON_MALFORMED_JSON with the place.
Status json_parse(const char *text, size_t size, Json **ret_json, Error *error);
void json_free(Json *json);
void json_freep(Json **json);
JsonType json_type(const Json *json);

const Json *json_get(const Json *object, const char *key); // NULL when absent or not an object
size_t json_count(const Json *container);
const Json *json_item(const Json *array, size_t index);
const Json *json_member(const Json *object, size_t index, const char **ret_key);
// Walking in order, for containers of any size (json_item and json_member count from the start each
// time).
const Json *json_first(const Json *container);
const Json *json_next(const Json *item);
const char *json_key(const Json *member); // NULL when it is not in an object
// These give the fallback when json is NULL or of another type.
const char *json_text(const Json *json, const char *fallback);
double json_number(const Json *json, double fallback);
int64_t json_integer(const Json *json,
                     int64_t fallback); // exact up to 2^53; fallback for a fraction
bool json_boolean(const Json *json, bool fallback);
const char *json_get_text(const Json *object, const char *key, const char *fallback);
int64_t json_get_integer(const Json *object, const char *key, int64_t fallback);
bool json_get_boolean(const Json *object, const char *key, bool fallback);

MUST_USE Json *json_new_object(void);
MUST_USE Json *json_new_array(void);
MUST_USE Json *json_new_text(const char *text); // NULL gives JSON null
MUST_USE Json *json_new_number(double number);
MUST_USE Json *json_new_integer(int64_t number);
MUST_USE Json *json_new_boolean(bool value);
MUST_USE Json *json_new_null(void);
void json_set(Json *object, const char *key, Json *value); // replaces
void json_append(Json *object, const char *key,
                 Json *value); // the caller knows that the key is new
void json_set_text(Json *object, const char *key, const char *text);
void json_set_integer(Json *object, const char *key, int64_t number);
void json_set_boolean(Json *object, const char *key, bool value);
void json_add(Json *array, Json *value);
bool json_write(const Json *json, bool is_pretty, Buffer *buffer); // false: did not fit
void json_write_string(const char *text, Buffer *buffer);          // a quoted, escaped JSON string
