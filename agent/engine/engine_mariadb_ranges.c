// SPDX-License-Identifier: Apache-2.0
// Ranges of a primary key. The range with the most rows is cut in two, again and again: in the
// middle between its lowest and highest value, moved up to a value that a row has. Where the middle
// lies is arithmetic on numbers or on the first bytes, which only decides how even the ranges
// become: the order of values is always the server's own, so no row is lost or doubled whatever the
// collation. When a range has come down to one value of a column, the next column of the key goes
// on.
#include "agent/engine/engine_mariadb_ranges.h"

#include "common/crypto.h"
#include "common/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMN_COUNT_MAX 8 // further ones of a key are not needed
#define CUT_COUNT_MAX 96
#define NUMBER_TRIES 64 // each halves what is left
#define BYTES_TRIES 24
#define DIGIT_COUNT 7 // of a text or byte key that take part in the arithmetic
#define TEXT_FIRST 0x20
#define TEXT_BASE 95 // the printable characters of ASCII
#define BYTES_BASE 256
#define ESTIMATE_MS (5 * 60 * 1000)

typedef enum KeyKind {
    KEY_NUMBER,
    KEY_TEXT,
    KEY_BYTES,
} KeyKind;

typedef struct KeyColumn {
    KeyKind kind;
    bool is_unsigned;
    bool ignores_case;
    const char *name; // quoted
    const char *character_set, *collation;
} KeyColumn;

typedef struct KeyValue {
    const char *data; // as the column holds it; numbers in decimal
    size_t size;
} KeyValue;

typedef struct Range {
    const char *prefix; // " AND `a` = 1": the columns before `column`, each with its one value
    size_t column;      // the one that the range is of
    const char *from;   // literal, inclusive; NULL: open
    const char *to;     // literal, exclusive; NULL: open
    KeyValue first;     // the lowest value that a row has
    KeyValue low, high; // where the middle is looked for
    int64_t row_count;  // about
    bool is_indivisible;
} Range;

typedef struct Plan {
    MysqlClient *source;
    Arena *arena;
    const char *table; // quoted
    KeyColumn columns[COLUMN_COUNT_MAX];
    size_t column_count;
    Range ranges[MARIADB_RANGE_COUNT_MAX];
    size_t range_count;
} Plan;

static bool is_one_of(const char *text, const char *const *words)
{
    while (*words != NULL && !text_equal(text, *words)) {
        words++;
    }
    return *words != NULL;
}

// False: a column that cannot be reckoned with.
static bool key_column(Arena *arena, MYSQL_ROW row, KeyColumn *column)
{
    static const char *const numbers[] = {"tinyint", "smallint", "mediumint",
                                          "int",     "bigint",   NULL};
    static const char *const bytes[] = {"binary", "varbinary", NULL};
    static const char *const texts[] = {"char", "varchar", NULL};
    static const char *const wide[] = {"ucs2", "utf16", "utf16le", "utf32", NULL};
    *column = (KeyColumn){.name = mysql_quote_name(arena, row[0])};
    if (row[5] != NULL) { // only the beginning of the column is in the key
        return false;
    }
    if (is_one_of(row[1], numbers)) {
        column->kind = KEY_NUMBER;
        column->is_unsigned = strstr(row[2], "unsigned") != NULL;
        return true;
    }
    if (is_one_of(row[1], bytes)) {
        column->kind = KEY_BYTES;
        return true;
    }
    if (!is_one_of(row[1], texts) || row[3] == NULL || row[4] == NULL || is_one_of(row[3], wide)) {
        return false;
    }
    column->kind = KEY_TEXT;
    column->character_set = arena_string(arena, row[3]);
    column->collation = arena_string(arena, row[4]);
    column->ignores_case = strstr(row[4], "_ci") != NULL;
    return true;
}

// The leading columns of the primary key that can be reckoned with.
static Status read_key(Plan *plan, const MariadbTable *table, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        plan->source, MYSQL_STATEMENT_DEFAULT_MS, &result, error,
        "SELECT c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, c.CHARACTER_SET_NAME, c.COLLATION_NAME,"
        " s.SUB_PART FROM information_schema.STATISTICS s JOIN information_schema.COLUMNS c ON"
        " c.TABLE_SCHEMA = s.TABLE_SCHEMA AND c.TABLE_NAME = s.TABLE_NAME AND"
        " c.COLUMN_NAME = s.COLUMN_NAME WHERE s.INDEX_NAME = 'PRIMARY' AND s.TABLE_SCHEMA = %s"
        " AND s.TABLE_NAME = %s ORDER BY s.SEQ_IN_INDEX",
        mysql_quote_text(plan->arena, table->schema), mysql_quote_text(plan->arena, table->name)));
    MYSQL_ROW row = mysql_fetch_row(result);
    while (row != NULL && plan->column_count < COLUMN_COUNT_MAX &&
           key_column(plan->arena, row, &plan->columns[plan->column_count])) {
        plan->column_count++;
        row = mysql_fetch_row(result);
    }
    return STATUS_OK;
}

// As the column's own type, character set and collation: anything else would not be looked up in
// the key.
static const char *literal(const Plan *plan, const KeyColumn *column, const KeyValue *value)
{
    if (column->kind == KEY_NUMBER) {
        return arena_format(plan->arena, "%.*s", (int)value->size, value->data);
    }
    char *hex = arena_alloc(plan->arena, value->size * 2 + 1);
    hex_encode(value->data, value->size, hex);
    const char *bytes = value->size == 0 ? "''" : arena_format(plan->arena, "0x%s", hex);
    return column->kind == KEY_BYTES
               ? bytes
               : arena_format(plan->arena, "_%s %s COLLATE %s", column->character_set, bytes,
                              column->collation);
}

static const char *condition(const Plan *plan, const Range *range)
{
    const char *name = plan->columns[range->column].name;
    const char *text = arena_format(plan->arena, "TRUE%s", range->prefix);
    if (range->from != NULL) {
        text = arena_format(plan->arena, "%s AND %s >= %s", text, name, range->from);
    }
    if (range->to != NULL) {
        text = arena_format(plan->arena, "%s AND %s < %s", text, name, range->to);
    }
    return text;
}

// The first value of the range's column, in the key's order or against it, that also fulfils
// `further`.
static Status look_up(Plan *plan, const Range *range, const char *further, bool is_last,
                      KeyValue *ret_value, bool *ret_is_found, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    const char *name = plan->columns[range->column].name;
    if (mysql_client_query(plan->source, ESTIMATE_MS, &result, error,
                           "SELECT %s FROM %s FORCE INDEX (PRIMARY) WHERE %s%s ORDER BY %s %s"
                           " LIMIT 1",
                           name, plan->table, condition(plan, range), further, name,
                           is_last ? "DESC" : "ASC") != STATUS_OK) {
        return mariadb_source_failed(plan->source, error);
    }
    MYSQL_ROW row = mysql_fetch_row(result);
    *ret_is_found = row != NULL && row[0] != NULL;
    if (*ret_is_found) {
        size_t size = mysql_fetch_lengths(result)[0];
        *ret_value = (KeyValue){.data = arena_string_n(plan->arena, row[0], size), .size = size};
    }
    return STATUS_OK;
}

// The optimizer's guess, which looks at two pages of the key.
static Status estimate(Plan *plan, Range *range, Error *error)
{
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(plan->source, ESTIMATE_MS, &result, error,
                                       "EXPLAIN SELECT 1 FROM %s FORCE INDEX (PRIMARY) WHERE %s",
                                       plan->table, condition(plan, range)));
    MYSQL_ROW row = mysql_fetch_row(result);
    const char *rows = row == NULL ? NULL : mysql_row_text(result, row, "rows");
    range->row_count = rows == NULL ? 0 : strtoll(rows, NULL, 10);
    return STATUS_OK;
}

// Numbers in an order that unsigned arithmetic keeps.
static uint64_t number_of(const KeyColumn *column, const KeyValue *value)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%.*s", (int)MIN(value->size, sizeof(text) - 1),
                   value->data);
    return column->is_unsigned ? strtoull(text, NULL, 10)
                               : (uint64_t)strtoll(text, NULL, 10) ^ (UINT64_C(1) << 63);
}

static KeyValue number_value(const Plan *plan, const KeyColumn *column, uint64_t number)
{
    const char *text = column->is_unsigned ? arena_format(plan->arena, "%" PRIu64, number)
                                           : arena_format(plan->arena, "%" PRId64,
                                                          (int64_t)(number ^ (UINT64_C(1) << 63)));
    return (KeyValue){.data = text, .size = strlen(text)};
}

static uint64_t digits_of(const KeyColumn *column, const KeyValue *value, size_t from)
{
    uint64_t number = 0;
    for (size_t i = from; i < from + DIGIT_COUNT; i++) {
        int byte = i < value->size ? (uint8_t)value->data[i] : 0;
        if (column->kind == KEY_TEXT) {
            byte = column->ignores_case ? tolower(byte) : byte;
            byte = MIN(MAX(byte - TEXT_FIRST, 0), TEXT_BASE - 1);
        }
        number = number * (column->kind == KEY_TEXT ? TEXT_BASE : BYTES_BASE) + (unsigned)byte;
    }
    return number;
}

static size_t common_size(const KeyColumn *column, const KeyValue *low, const KeyValue *high)
{
    size_t size = 0;
    while (size < low->size && size < high->size && low->data[size] == high->data[size] &&
           (column->kind == KEY_BYTES || (uint8_t)low->data[size] < 0x80)) {
        size++; // a character that is longer than a byte is not taken apart
    }
    return size;
}

static bool middle_of_bytes(const Plan *plan, const KeyColumn *column, const Range *range,
                            KeyValue *ret_middle)
{
    size_t common = common_size(column, &range->low, &range->high);
    uint64_t low = digits_of(column, &range->low, common);
    uint64_t high = digits_of(column, &range->high, common);
    if (high <= low) {
        return false;
    }
    uint64_t base = column->kind == KEY_TEXT ? TEXT_BASE : BYTES_BASE;
    uint64_t number = low + (high - low) / 2 + ((high - low) & 1);
    char *data = arena_alloc(plan->arena, common + DIGIT_COUNT + 1);
    memcpy(data, range->low.data, common);
    for (size_t i = common + DIGIT_COUNT; i > common; i--) {
        data[i - 1] = (char)(number % base + (column->kind == KEY_TEXT ? TEXT_FIRST : 0));
        number /= base;
    }
    *ret_middle = (KeyValue){.data = data, .size = common + DIGIT_COUNT};
    return true;
}

// Above the lowest value; false: there is nothing between.
static bool middle(const Plan *plan, const Range *range, KeyValue *ret_middle)
{
    const KeyColumn *column = &plan->columns[range->column];
    if (column->kind != KEY_NUMBER) {
        return middle_of_bytes(plan, column, range, ret_middle);
    }
    uint64_t low = number_of(column, &range->low);
    uint64_t high = number_of(column, &range->high);
    if (high <= low) {
        return false;
    }
    *ret_middle = number_value(plan, column, low + (high - low) / 2 + ((high - low) & 1));
    return true;
}

// Everything is below the middle.
static void lower(const Plan *plan, Range *range, const KeyValue *middle_value)
{
    const KeyColumn *column = &plan->columns[range->column];
    range->high = column->kind == KEY_NUMBER
                      ? number_value(plan, column, number_of(column, middle_value) - 1)
                      : *middle_value;
}

// A value of a row to cut the range at, so that both sides have rows. Not found: it has one value.
static Status find_cut(Plan *plan, Range *range, KeyValue *ret_cut, KeyValue *ret_middle,
                       bool *ret_is_found, Error *error)
{
    const KeyColumn *column = &plan->columns[range->column];
    const char *above = arena_format(plan->arena, " AND %s > %s", column->name,
                                     literal(plan, column, &range->first));
    int tries = column->kind == KEY_NUMBER ? NUMBER_TRIES : BYTES_TRIES;
    for (int i = 0; i < tries && middle(plan, range, ret_middle); i++) {
        const char *further = arena_format(plan->arena, "%s AND %s >= %s", above, column->name,
                                           literal(plan, column, ret_middle));
        RETURN_IF_ERROR(look_up(plan, range, further, false, ret_cut, ret_is_found, error));
        if (*ret_is_found) {
            return STATUS_OK;
        }
        lower(plan, range, ret_middle);
    }
    // The arithmetic knows no more: the second value, if there is one.
    RETURN_IF_ERROR(look_up(plan, range, above, false, ret_cut, ret_is_found, error));
    *ret_middle = *ret_cut;
    return STATUS_OK;
}

static Status find_ends(Plan *plan, Range *range, bool *ret_is_found, Error *error)
{
    RETURN_IF_ERROR(look_up(plan, range, "", false, &range->first, ret_is_found, error));
    if (*ret_is_found) {
        range->low = range->first;
        RETURN_IF_ERROR(look_up(plan, range, "", true, &range->high, ret_is_found, error));
    }
    return STATUS_OK;
}

// The range has one value of its column: from here on the next column divides it.
static Status descend(Plan *plan, Range *range, Error *error)
{
    const KeyColumn *column = &plan->columns[range->column];
    bool is_found = false;
    if (range->column + 1 < plan->column_count) {
        range->prefix = arena_format(plan->arena, "%s AND %s = %s", range->prefix, column->name,
                                     literal(plan, column, &range->first));
        range->from = range->to = NULL;
        range->column++;
        RETURN_IF_ERROR(find_ends(plan, range, &is_found, error));
    }
    range->is_indivisible = !is_found;
    return STATUS_OK;
}

static Status cut(Plan *plan, Range *range, Error *error)
{
    KeyValue at = {0};
    KeyValue middle_value = {0};
    bool is_found = false;
    RETURN_IF_ERROR(find_cut(plan, range, &at, &middle_value, &is_found, error));
    if (!is_found) {
        return descend(plan, range, error);
    }
    const char *boundary = literal(plan, &plan->columns[range->column], &at);
    Range *upper = &plan->ranges[plan->range_count++];
    *upper = *range;
    upper->from = boundary;
    upper->first = upper->low = at;
    range->to = boundary;
    range->high = middle_value;
    RETURN_IF_ERROR(estimate(plan, range, error));
    return estimate(plan, upper, error);
}

static Range *largest(Plan *plan)
{
    Range *found = NULL;
    for (size_t i = 0; i < plan->range_count; i++) {
        Range *range = &plan->ranges[i];
        if (!range->is_indivisible && (found == NULL || range->row_count > found->row_count)) {
            found = range;
        }
    }
    return found;
}

Status mariadb_ranges_plan(MysqlClient *source, Arena *arena, const MariadbTable *table,
                           MariadbRanges *ret_ranges, Error *error)
{
    Plan plan = {.source = source, .arena = arena};
    *ret_ranges = (MariadbRanges){0};
    plan.table = arena_format(arena, "%s.%s", mysql_quote_name(arena, table->schema),
                              mysql_quote_name(arena, table->name));
    RETURN_IF_ERROR(read_key(&plan, table, error));
    if (plan.column_count == 0) {
        return STATUS_OK;
    }
    bool is_found = false;
    plan.ranges[0] = (Range){.prefix = ""};
    RETURN_IF_ERROR(find_ends(&plan, &plan.ranges[0], &is_found, error));
    if (!is_found) {
        return STATUS_OK; // empty
    }
    plan.range_count = 1;
    for (int i = 0; i < CUT_COUNT_MAX && plan.range_count < MARIADB_RANGE_COUNT_MAX; i++) {
        Range *range = largest(&plan);
        if (range == NULL) {
            break;
        }
        RETURN_IF_ERROR(cut(&plan, range, error));
    }
    for (size_t i = 0; i < plan.range_count && plan.range_count > 1; i++) {
        ret_ranges->conditions[ret_ranges->count++] = condition(&plan, &plan.ranges[i]);
    }
    return STATUS_OK;
}
