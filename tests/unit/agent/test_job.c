// SPDX-License-Identifier: Apache-2.0
// The agent's way to an object store. If this goes red, a canceled run hangs on a transfer.
#include "agent/job.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/fake_http.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <string.h>

typedef struct Stopper {
    AgentState *state;
    FakeHttp *server;
} Stopper;

static void *stop_under_way(void *context)
{
    Stopper *stopper = context;
    while (fake_http_request_count(stopper->server) == 0) {
        clock_sleep_ms(10);
    }
    agent_state_stop(stopper->state, STOP_ORDERED, "the backup was canceled");
    return NULL;
}

static void test_a_stop_cuts_a_transfer(void **state)
{
    (void)state;
    FakeHttp *server = fake_http_start(fake_http_stall, NULL);
    AgentState *agent = agent_state_new(clock_monotonic_ms(), 0, 0);
    uint8_t key[AES256_KEY_SIZE] = {1};
    CLEANUP_FREE char *endpoint = string_copy(fake_http_url(server));
    CLEANUP_FREE char *location = string_copy("s3://bucket/prefix");
    CLEANUP_FREE char *word = string_copy("secret");
    Holdfast__V1__ObjectStore store = HOLDFAST__V1__OBJECT_STORE__INIT;
    store.endpoint = endpoint;
    store.path_style = true;
    Holdfast__V1__RepositoryAccess access = HOLDFAST__V1__REPOSITORY_ACCESS__INIT;
    access.location = location;
    access.object_store = &store;
    access.access_key_id = word;
    access.secret_key = word;
    access.data_key.data = key;
    access.data_key.len = sizeof(key);
    const Job job = {.state = agent};
    JobRepository repository = {0};
    Error error = {0};
    pthread_t thread;
    Stopper stopper = {.state = agent, .server = server};
    assert_int_equal(pthread_create(&thread, NULL, stop_under_way, &stopper), 0);
    // Without the cut it would be tried for a quarter of an hour.
    assert_int_equal(job_repository_open(&job, &access, &repository, &error), STATUS_CANCELED);
    assert_int_equal(error.reason, REASON_CANCELED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    job_repository_done(&repository);
    fake_http_stop(server);
    agent_state_free(agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stop_cuts_a_transfer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
