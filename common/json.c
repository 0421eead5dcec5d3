// SPDX-License-Identifier: Apache-2.0
// JSON trees over cJSON: strict parsing, our own writing.
#include "common/json.h"

#include "common/json_scan.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_INTEGER_MAX 9007199254740992.0 // 2^53

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Sorting keeps a body of a hundred thousand keys from costing seconds.
static bool has_repeated_key(const Json *object, char *ret_key, size_t ret_size)
{
    size_t count = json_count(object);
    CLEANUP_FREE const char **keys = mem_alloc_array(count, sizeof(char *));
    size_t filled = 0;
    for (const cJSON *item = object->child; item != NULL; item = item->next) {
        keys[filled++] = item->string;
    }
    assert(filled == count);
    qsort(keys, count, sizeof(char *), compare_keys);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(keys[i - 1], keys[i]) == 0) {
            (void)snprintf(ret_key, ret_size, "%s", keys[i]);
            return true;
        }
    }
    return false;
}

// What the syntax alone does not show. Recursion is bounded by the scan before.
static Status check_tree(const Json *json, Error *error)
{
    if (cJSON_IsNumber(json) && !isfinite(json->valuedouble)) {
        return error_set(error, REASON_MALFORMED_JSON, "a number is out of range");
    }
    char key[64];
    if (cJSON_IsObject(json) && json->child != NULL && has_repeated_key(json, key, sizeof(key))) {
        return error_set(error, REASON_MALFORMED_JSON, "the key '%s' is repeated", key);
    }
    for (const cJSON *item = json->child; item != NULL; item = item->next) {
        RETURN_IF_ERROR(check_tree(item, error));
    }
    return STATUS_OK;
}

Status json_parse(const char *text, size_t size, Json **ret_json, Error *error)
{
    assert(text != NULL || size == 0);
    const char *problem = NULL;
    size_t position = 0;
    if (!json_scan(text, size, &problem, &position)) {
        size_t line = 1;
        size_t column = 1;
        for (size_t i = 0; i < position && i < size; i++) {
            line += text[i] == '\n' ? 1 : 0;
            column = text[i] == '\n' ? 1 : column + 1;
        }
        return error_set(error, REASON_MALFORMED_JSON, "line %zu, column %zu: %s", line, column,
                         problem);
    }
    CLEANUP(json_freep) Json *json = cJSON_ParseWithLength(text, size);
    if (json == NULL) {
        return error_set(error, REASON_MALFORMED_JSON, "the JSON cannot be read");
    }
    RETURN_IF_ERROR(check_tree(json, error));
    *ret_json = TAKE_PTR(json);
    return STATUS_OK;
}

void json_free(Json *json)
{
    cJSON_Delete(json);
}

void json_freep(Json **json)
{
    cJSON_Delete(*json);
    *json = NULL;
}

JsonType json_type(const Json *json)
{
    if (cJSON_IsBool(json)) {
        return JSON_BOOL;
    }
    if (cJSON_IsNumber(json) || cJSON_IsRaw(json)) { // raw: an integer beyond 2^53 of ours
        return JSON_NUMBER;
    }
    if (cJSON_IsString(json)) {
        return JSON_STRING;
    }
    if (cJSON_IsArray(json)) {
        return JSON_ARRAY;
    }
    return cJSON_IsObject(json) ? JSON_OBJECT : JSON_NULL;
}

const Json *json_get(const Json *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

size_t json_count(const Json *container)
{
    if (!cJSON_IsObject(container) && !cJSON_IsArray(container)) {
        return 0;
    }
    return (size_t)cJSON_GetArraySize(container);
}

const Json *json_item(const Json *array, size_t index)
{
    if (!cJSON_IsArray(array) || index > INT32_MAX) {
        return NULL;
    }
    return cJSON_GetArrayItem(array, (int)index);
}

const Json *json_member(const Json *object, size_t index, const char **ret_key)
{
    if (!cJSON_IsObject(object) || index > INT32_MAX) {
        return NULL;
    }
    const Json *member = cJSON_GetArrayItem(object, (int)index);
    if (member != NULL && ret_key != NULL) {
        *ret_key = member->string;
    }
    return member;
}

const Json *json_first(const Json *container)
{
    return cJSON_IsObject(container) || cJSON_IsArray(container) ? container->child : NULL;
}

const Json *json_next(const Json *item)
{
    return item == NULL ? NULL : item->next;
}

const char *json_key(const Json *member)
{
    return member == NULL ? NULL : member->string;
}

const char *json_text(const Json *json, const char *fallback)
{
    return cJSON_IsString(json) ? json->valuestring : fallback;
}

double json_number(const Json *json, double fallback)
{
    if (cJSON_IsRaw(json)) {
        return (double)json_integer(json, 0);
    }
    return cJSON_IsNumber(json) ? json->valuedouble : fallback;
}

int64_t json_integer(const Json *json, int64_t fallback)
{
    if (cJSON_IsRaw(json)) {
        int64_t value = 0;
        return text_to_int64(json->valuestring, &value) ? value : fallback;
    }
    if (!cJSON_IsNumber(json)) {
        return fallback;
    }
    double number = json->valuedouble;
    // The comparison also keeps the conversion defined.
    if (number < -EXACT_INTEGER_MAX || number > EXACT_INTEGER_MAX || number != trunc(number)) {
        return fallback;
    }
    return (int64_t)number;
}

bool json_boolean(const Json *json, bool fallback)
{
    return cJSON_IsBool(json) ? cJSON_IsTrue(json) != 0 : fallback;
}

const char *json_get_text(const Json *object, const char *key, const char *fallback)
{
    return json_text(json_get(object, key), fallback);
}

int64_t json_get_integer(const Json *object, const char *key, int64_t fallback)
{
    return json_integer(json_get(object, key), fallback);
}

bool json_get_boolean(const Json *object, const char *key, bool fallback)
{
    return json_boolean(json_get(object, key), fallback);
}

static Json *need(Json *json)
{
    if (json == NULL) {
        mem_exhausted();
    }
    return json;
}

Json *json_new_object(void)
{
    return need(cJSON_CreateObject());
}

Json *json_new_array(void)
{
    return need(cJSON_CreateArray());
}

Json *json_new_text(const char *text)
{
    return need(text == NULL ? cJSON_CreateNull() : cJSON_CreateString(text));
}

Json *json_new_number(double number)
{
    return need(cJSON_CreateNumber(number));
}

Json *json_new_integer(int64_t number)
{
    double approximate = (double)number;
    if (approximate >= -EXACT_INTEGER_MAX && approximate <= EXACT_INTEGER_MAX) {
        return need(cJSON_CreateNumber(approximate));
    }
    // A double would change it.
    char digits[24];
    (void)snprintf(digits, sizeof(digits), "%lld", (long long)number);
    return need(cJSON_CreateRaw(digits));
}

Json *json_new_boolean(bool value)
{
    return need(cJSON_CreateBool(value));
}

Json *json_new_null(void)
{
    return need(cJSON_CreateNull());
}

void json_set(Json *object, const char *key, Json *value)
{
    assert(cJSON_IsObject(object));
    assert(key != NULL);
    assert(value != NULL);
    cJSON_bool is_done = cJSON_GetObjectItemCaseSensitive(object, key) == NULL
                             ? cJSON_AddItemToObject(object, key, value)
                             : cJSON_ReplaceItemInObjectCaseSensitive(object, key, value);
    if (!is_done) {
        mem_exhausted();
    }
}

void json_append(Json *object, const char *key, Json *value)
{
    assert(cJSON_IsObject(object));
    assert(value != NULL);
    if (!cJSON_AddItemToObject(object, key, value)) {
        mem_exhausted();
    }
}

void json_set_text(Json *object, const char *key, const char *text)
{
    json_set(object, key, json_new_text(text));
}

void json_set_integer(Json *object, const char *key, int64_t number)
{
    json_set(object, key, json_new_integer(number));
}

void json_set_boolean(Json *object, const char *key, bool value)
{
    json_set(object, key, json_new_boolean(value));
}

void json_add(Json *array, Json *value)
{
    assert(cJSON_IsArray(array));
    assert(value != NULL);
    if (!cJSON_AddItemToArray(array, value)) {
        mem_exhausted();
    }
}
