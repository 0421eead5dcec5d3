// SPDX-License-Identifier: Apache-2.0
// What the tests of the use cases share: short forms, and a database to work on.
#pragma once

#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/harness.h"
#include "tests/harness/service_fixture.h"

#include <string.h>

#define CALL(method, request) service_fixture_call(fixture, method, request)
#define REFUSE(method, request, reason, field)                                                     \
    service_fixture_refuse(fixture, method, request, REASON_##reason, field)
#define ID "01890000-0000-7000-8000-00000000ffff" // of nothing

#define CREDENTIAL                                                                                 \
    "{\"credential\":{\"name\":\"app\",\"username\":\"backup\",\"password\":\"hunter2\"}}"
#define SHARD(name)                                                                                \
    "{\"name\":\"" name                                                                            \
    "\",\"source\":{\"host\":\"127.0.0.1\",\"port\":3306,\"credential\":\"app\"}}"
#define DATABASE                                                                                   \
    "{\"database\":{\"name\":\"shop\",\"engine\":\"mariadb\"},\"shards\":[" SHARD(                 \
        "-80") "," SHARD("80-") "]}"
#define POLICY(fields)                                                                             \
    "{\"database\":\"shop\",\"policy\":{\"name\":\"nightly\",\"repository\":\"main\"," fields "}}"

#define SERVICE_TEST(name)                                                                         \
    cmocka_unit_test_setup_teardown(name, service_fixture_setup, service_fixture_teardown)

void make_repository(ServiceFixture *fixture, const char *name);
// Database "shop" with shards "-80" and "80-", credential "app", repository "main".
void make_database(ServiceFixture *fixture);
// What the worker and the agents do to a backup; state "succeeded" or "failed".
void finish_backup(ServiceFixture *fixture, const char *id, const char *state);
// Of "shop" to "main": its id.
const char *start_backup(ServiceFixture *fixture);
// The text with its one "%s" replaced.
const char *text_with(ServiceFixture *fixture, const char *text, const char *value);
