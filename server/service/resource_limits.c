// SPDX-License-Identifier: Apache-2.0
#include "server/service/resource_limits.h"

#include "common/json.h"
#include "common/limits.h"
#include "common/message_json.h"
#include "repository/repository.h"

static Status check_bandwidth(const char *prefix, const char *name, int64_t bytes_per_second,
                              Error *error)
{
    if (bytes_per_second == 0 ||
        (bytes_per_second >= REPOSITORY_BANDWIDTH_MIN && bytes_per_second <= LIMIT_BANDWIDTH_MAX)) {
        return STATUS_OK;
    }
    error_set(error, REASON_INVALID, "%s is %lld", name, (long long)bytes_per_second);
    error_field(error, "%s.%s", prefix, name);
    return error_hint(error, "use 0 for no limit, or %lld (64 KiB a second) to %lld (1 TiB)",
                      (long long)REPOSITORY_BANDWIDTH_MIN, (long long)LIMIT_BANDWIDTH_MAX);
}

static Status check_rates(const char *prefix, int64_t upload, int64_t download, Error *error)
{
    RETURN_IF_ERROR(check_bandwidth(prefix, "upload_bytes_per_second", upload, error));
    return check_bandwidth(prefix, "download_bytes_per_second", download, error);
}

Status resource_limits_check(const char *prefix, const Holdfast__V1__ResourceLimits *limits,
                             Error *error)
{
    if (limits == NULL) {
        return STATUS_OK;
    }
    RETURN_IF_ERROR(check_rates(prefix, limits->upload_bytes_per_second,
                                limits->download_bytes_per_second, error));
    if (limits->cpu_count < 0 || limits->cpu_count > LIMIT_CPU_COUNT_MAX) {
        error_set(error, REASON_INVALID, "cpu_count is %d", limits->cpu_count);
        error_field(error, "%s.cpu_count", prefix);
        return error_hint(error, "use 0 for one thread for each processor, or 1 to %d",
                          LIMIT_CPU_COUNT_MAX);
    }
    if (limits->memory_bytes != 0 && (limits->memory_bytes < REPOSITORY_MEMORY_BYTES_MIN ||
                                      limits->memory_bytes > LIMIT_MEMORY_MAX)) {
        error_set(error, REASON_INVALID, "memory_bytes is %lld", (long long)limits->memory_bytes);
        error_field(error, "%s.memory_bytes", prefix);
        return error_hint(error, "use 0 for the default, or %lld (64 MiB) to %lld (1 TiB)",
                          (long long)REPOSITORY_MEMORY_BYTES_MIN, (long long)LIMIT_MEMORY_MAX);
    }
    return STATUS_OK;
}

Status bandwidth_limits_check(const char *prefix, const Holdfast__V1__BandwidthLimits *limits,
                              Error *error)
{
    return limits == NULL ? STATUS_OK
                          : check_rates(prefix, limits->upload_bytes_per_second,
                                        limits->download_bytes_per_second, error);
}

const char *limits_to_json(Arena *arena, const ProtobufCMessage *limits)
{
    if (limits == NULL) {
        return NULL;
    }
    CLEANUP(json_freep) Json *json = message_to_json(limits);
    CLEANUP(json_freep) Json *kept = json_new_object();
    for (const Json *member = json_first(json); member != NULL; member = json_next(member)) {
        if (json_integer(member, 0) != 0) {
            json_set_integer(kept, json_key(member), json_integer(member, 0));
        }
    }
    CLEANUP(buffer_done) Buffer text;
    buffer_init(&text, LIMIT_TEXT_BYTES);
    bool is_written = json_count(kept) > 0 && json_write(kept, false, &text);
    return is_written ? arena_string(arena, buffer_text(&text)) : NULL;
}

int64_t bandwidth_share(const BandwidthCap *caps, size_t count)
{
    int64_t share = 0;
    for (size_t i = 0; i < count; i++) {
        if (caps[i].bytes_per_second > 0) {
            int64_t part = MAX(caps[i].bytes_per_second / MAX(caps[i].user_count, 1), 1);
            share = share == 0 ? part : MIN(share, part);
        }
    }
    return share;
}
