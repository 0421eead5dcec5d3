// SPDX-License-Identifier: Apache-2.0
// MariaDB's GTID positions; see engine_mysql_gtid.h.
#include "agent/engine/engine_mysql_gtid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool parse_number(const char **text, uint64_t maximum, char end, uint64_t *ret_number)
{
    if (**text < '0' || **text > '9') {
        return false;
    }
    char *rest = NULL;
    errno = 0;
    unsigned long long number = strtoull(*text, &rest, 10);
    if (errno != 0 || number > maximum || (end != '\0' && *rest != end)) {
        return false;
    }
    *text = rest + (end != '\0');
    *ret_number = number;
    return true;
}

bool mariadb_position_parse(MariadbPosition *position, const char *text)
{
    position->count = 0;
    while (*text == ' ' || *text == '\n') {
        text++;
    }
    while (*text != '\0') {
        uint64_t domain = 0, server = 0, sequence = 0;
        if (position->count == MARIADB_GTID_COUNT_MAX ||
            !parse_number(&text, UINT32_MAX, '-', &domain) ||
            !parse_number(&text, UINT32_MAX, '-', &server) ||
            !parse_number(&text, UINT64_MAX, '\0', &sequence)) {
            return false;
        }
        position->items[position->count++] = (MariadbGtid){
            .domain = (uint32_t)domain, .server = (uint32_t)server, .sequence = sequence};
        if (*text != '\0' && *text != ',') {
            return false;
        }
        text += *text == ',';
        while (*text == ' ' || *text == '\n') {
            text++;
        }
    }
    return true;
}

static const MariadbGtid *find_domain(const MariadbPosition *position, uint32_t domain)
{
    const MariadbGtid *best = NULL;
    for (size_t i = 0; i < position->count; i++) {
        const MariadbGtid *item = &position->items[i];
        if (item->domain == domain && (best == NULL || item->sequence > best->sequence)) {
            best = item;
        }
    }
    return best;
}

static bool has_gtids_of(const MariadbPosition *position, const MariadbPosition *other)
{
    for (size_t i = 0; i < other->count; i++) {
        const MariadbGtid *wanted = &other->items[i];
        bool has = false;
        for (size_t j = 0; j < position->count && !has; j++) {
            const MariadbGtid *item = &position->items[j];
            has = item->domain == wanted->domain && item->server == wanted->server &&
                  item->sequence == wanted->sequence;
        }
        if (!has) {
            return false;
        }
    }
    return true;
}

bool mariadb_position_equal(const MariadbPosition *a, const MariadbPosition *b)
{
    return has_gtids_of(a, b) && has_gtids_of(b, a);
}

bool mariadb_position_reached(const MariadbPosition *position, const MariadbPosition *wanted)
{
    for (size_t i = 0; i < wanted->count; i++) {
        const MariadbGtid *ours = find_domain(position, wanted->items[i].domain);
        if (ours == NULL || ours->sequence < wanted->items[i].sequence) {
            return false;
        }
    }
    return true;
}

bool mariadb_position_is_known(const MariadbPosition *position, const MariadbPosition *binlog_state,
                               const MariadbPosition *slave_position, MariadbGtid *ret_missing)
{
    for (size_t i = 0; i < position->count; i++) {
        const MariadbGtid *ours = &position->items[i];
        const MariadbGtid *newest = find_domain(binlog_state, ours->domain);
        const MariadbGtid *replicated = find_domain(slave_position, ours->domain);
        bool is_reached = (newest != NULL && newest->sequence >= ours->sequence) ||
                          (replicated != NULL && replicated->sequence >= ours->sequence);
        bool is_passed =
            false; // this server's own writes ended before ours: somebody else went on from there
        for (size_t other = 0; other < binlog_state->count; other++) {
            const MariadbGtid *item = &binlog_state->items[other];
            is_passed =
                is_passed || (item->domain == ours->domain && item->server == ours->server &&
                              item->sequence < ours->sequence);
        }
        bool is_same = replicated != NULL && replicated->server == ours->server &&
                       replicated->sequence == ours->sequence;
        if (!is_reached || (is_passed && !is_same)) {
            *ret_missing = *ours;
            return false;
        }
    }
    return true;
}
