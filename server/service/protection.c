// SPDX-License-Identifier: Apache-2.0
#include "server/service/protection.h"

#include "common/attributes.h"
#include "common/clock.h"
#include "common/text.h"

#include <stdio.h>
#include <string.h>

#define US_PER_SECOND INT64_C(1000000)
#define SPAN_SIZE 32

static const char *span(int64_t duration_us, char text[SPAN_SIZE])
{
    long long seconds = duration_us / US_PER_SECOND;
    if (seconds < 120) {
        snprintf(text, SPAN_SIZE, "%lld s", seconds);
    } else if (seconds < 7200) {
        snprintf(text, SPAN_SIZE, "%lld min", seconds / 60);
    } else if (seconds < 172800) {
        snprintf(text, SPAN_SIZE, "%lld h", seconds / 3600);
    } else {
        snprintf(text, SPAN_SIZE, "%lld days", seconds / 86400);
    }
    return text;
}

static const char *moment(int64_t time_us, char text[TIME_TEXT_SIZE])
{
    time_format(time_us - time_us % US_PER_SECOND, text);
    return text;
}

static Holdfast__V1__Protection unprotected(const ProtectionFacts *facts, char *reason)
{
    char age[SPAN_SIZE];
    char objective[SPAN_SIZE];
    if (facts->shard_count == 0) {
        snprintf(reason, PROTECTION_REASON_SIZE,
                 "It has no shards, so there is nothing to back up.");
    } else if (facts->last_restorable_us == 0) {
        snprintf(reason, PROTECTION_REASON_SIZE, "It has no restorable backup.");
    } else if (facts->uncovered_shard != NULL) {
        snprintf(reason, PROTECTION_REASON_SIZE, "Shard '%s' is not in the newest backup.",
                 facts->uncovered_shard);
    } else {
        snprintf(reason, PROTECTION_REASON_SIZE,
                 "The last restorable point is %s old, the objective is %s.",
                 span(facts->now_us - facts->last_restorable_us, age),
                 span(facts->objective_us, objective));
    }
    return HOLDFAST__V1__PROTECTION__PROTECTION_UNPROTECTED;
}

Holdfast__V1__Protection protection_of(const ProtectionFacts *facts,
                                       char ret_reason[PROTECTION_REASON_SIZE])
{
    char first[TIME_TEXT_SIZE];
    char second[TIME_TEXT_SIZE];
    int64_t deadline_us = facts->last_restorable_us + facts->objective_us;
    if (facts->shard_count == 0 || facts->last_restorable_us == 0 ||
        facts->uncovered_shard != NULL || facts->now_us > deadline_us) {
        return unprotected(facts, ret_reason);
    }
    if (facts->is_last_failed) {
        snprintf(ret_reason, PROTECTION_REASON_SIZE, "The last backup failed%s%.160s",
                 text_is_empty(facts->last_failure) ? "" : ": ",
                 text_is_empty(facts->last_failure) ? "." : facts->last_failure);
        return HOLDFAST__V1__PROTECTION__PROTECTION_AT_RISK;
    }
    if (facts->running_since_us == 0 && facts->next_run_us == 0) {
        snprintf(ret_reason, PROTECTION_REASON_SIZE,
                 "No backup is planned; the objective will be missed at %s.",
                 moment(deadline_us, first));
        return HOLDFAST__V1__PROTECTION__PROTECTION_AT_RISK;
    }
    // A backup counts when it has ended; one that is late already can end now at the earliest.
    int64_t start_us = facts->running_since_us != 0 ? facts->running_since_us
                                                    : MAX(facts->next_run_us, facts->now_us);
    int64_t end_us = MAX(start_us + facts->predicted_us, facts->now_us);
    if (end_us > deadline_us) {
        snprintf(ret_reason, PROTECTION_REASON_SIZE,
                 "The next backup is expected to end at %s, the objective will be missed at %s.",
                 moment(end_us, first), moment(deadline_us, second));
        return HOLDFAST__V1__PROTECTION__PROTECTION_AT_RISK;
    }
    snprintf(ret_reason, PROTECTION_REASON_SIZE,
             "Restorable to %s; the next backup is expected to end before %s.",
             moment(facts->last_restorable_us, first), moment(deadline_us, second));
    return HOLDFAST__V1__PROTECTION__PROTECTION_PROTECTED;
}
