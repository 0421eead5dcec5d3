// SPDX-License-Identifier: Apache-2.0
#include "server/service/attempt_sequel.h"

#define BACKOFF_MS_MIN 1000
#define BACKOFF_MS_SOURCE 10000 // a server takes some time to restart or to fail over
#define BACKOFF_MS_MAX 30000

static AttemptSequel retry_or_give_up(int64_t plain_failure_count)
{
    return plain_failure_count < ATTEMPT_PLAIN_FAILURE_MAX ? ATTEMPT_RETRY : ATTEMPT_GIVE_UP;
}

AttemptSequel attempt_sequel(const char *reason_slug, bool is_seed, int64_t attempt_count,
                             int64_t plain_failure_count)
{
    if (attempt_count >= ATTEMPT_COUNT_MAX) {
        return ATTEMPT_GIVE_UP; // whatever goes on there, a person must look
    }
    Reason reason = reason_from_slug(reason_slug);
    // NOLINTNEXTLINE: the default is meant: every reason not named here may pass by itself.
    switch ((int)reason) {
    case REASON_INSTANCE_LOST:
    case REASON_LEASE_LOST:
        return ATTEMPT_RETRY;
    case REASON_LOGS_GONE:
    case REASON_SOURCE_DIVERGED:
        return is_seed ? retry_or_give_up(plain_failure_count) : ATTEMPT_RESEED;
    case REASON_ENGINE_VERSION:
        return is_seed ? ATTEMPT_GIVE_UP : ATTEMPT_RESEED;
    // Corruption that a replayed parent may carry is not inherited: one new copy; a copy with a bad
    // page is the source's own.
    case REASON_PAGE_CORRUPT:
        return is_seed ? ATTEMPT_GIVE_UP : ATTEMPT_RESEED;
    case REASON_PARENT_UNRESTORABLE:
    case REASON_OBJECT_CORRUPT:
    case REASON_OBJECT_MISSING:
        return is_seed ? retry_or_give_up(plain_failure_count) : ATTEMPT_OLDER_PARENT;
    // Nothing changes by trying again: a person must act.
    case REASON_SOURCE_AUTHENTICATION:
    case REASON_SOURCE_PRIVILEGES:
    case REASON_SOURCE_CONFIGURATION:
    case REASON_SOURCE_TLS:
    case REASON_ENGINE_MISSING:
    case REASON_REPOSITORY_UNWRITABLE:
    case REASON_REPOSITORY_MISSING:
    case REASON_REPOSITORY_FORMAT:
    case REASON_KEY_MISSING:
    case REASON_KEY_WRONG:
        return ATTEMPT_GIVE_UP;
    default:
        return retry_or_give_up(plain_failure_count);
    }
}

int64_t attempt_backoff_ms(const char *reason_slug, int64_t attempt_count)
{
    bool is_source_away = reason_from_slug(reason_slug) == REASON_SOURCE_UNREACHABLE;
    int64_t first_ms = is_source_away ? BACKOFF_MS_SOURCE : BACKOFF_MS_MIN;
    int64_t backoff_ms = attempt_count > 0 ? first_ms : 0;
    for (int64_t i = 1; i < attempt_count && backoff_ms < BACKOFF_MS_MAX; i++) {
        backoff_ms *= 2;
    }
    return backoff_ms < BACKOFF_MS_MAX ? backoff_ms : BACKOFF_MS_MAX;
}
