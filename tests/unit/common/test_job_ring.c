// SPDX-License-Identifier: Apache-2.0
// Red when results come back in another order than they were asked for, when jobs wait for each
// other, or when something is left behind.
#include "common/job_ring.h"
#include "common/memory.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <stdatomic.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define THREAD_COUNT 4
#define PLACE_COUNT 7
#define WAIT_MS 30000

typedef struct Job {
    int number, result;
    char *held; // of an earlier job at this place
} Job;

typedef struct Work {
    pthread_barrier_t all;
    atomic_int thread_count, run_count;
    atomic_int done_count;
    atomic_bool is_open; // jobs may end
    pthread_mutex_t mutex;
    pthread_cond_t opened;
} Work;

static Work *work;

static void *thread_new(void *context)
{
    assert_ptr_equal(context, work);
    work->thread_count++;
    return mem_alloc(1);
}

static void thread_free(void *thread)
{
    work->thread_count--;
    mem_free(thread);
}

static void job_done(void *place)
{
    Job *job = place;
    work->done_count++;
    mem_free(job->held);
}

static int set_up(void **state)
{
    (void)state;
    work = mem_alloc(sizeof(*work));
    pthread_barrier_init(&work->all, NULL, THREAD_COUNT);
    pthread_mutex_init(&work->mutex, NULL);
    pthread_cond_init(&work->opened, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pthread_barrier_destroy(&work->all);
    pthread_mutex_destroy(&work->mutex);
    pthread_cond_destroy(&work->opened);
    mem_free(work);
    return 0;
}

static JobRing *new_ring(void (*run)(void *context, void *thread, void *job))
{
    Error error = {0};
    JobRing *ring = NULL;
    const JobRingOptions options = {.job_size = sizeof(Job),
                                    .place_count = PLACE_COUNT,
                                    .thread_count = THREAD_COUNT,
                                    .thread_new = thread_new,
                                    .thread_free = thread_free,
                                    .run = run,
                                    .job_done = job_done,
                                    .context = work};
    assert_ok(job_ring_new(&options, &ring, &error), &error);
    return ring;
}

static void ask(JobRing *ring, int number)
{
    Job *job = job_ring_next(ring);
    job->number = number;
    job->result = 0;
    if (job->held == NULL) {
        job->held = string_copy("held");
    }
    job_ring_ask(ring);
}

// Nobody goes on before all threads are here: jobs that are done one by one would wait for ever.
static void run_together(void *context, void *thread, void *place)
{
    (void)context;
    assert_non_null(thread);
    Job *job = place;
    pthread_barrier_wait(&work->all);
    job->result = job->number * job->number;
    work->run_count++;
}

static void test_results_come_in_order(void **state)
{
    (void)state;
    enum { COUNT = THREAD_COUNT * 50 };
    JobRing *ring = new_ring(run_together);
    int asked = 0;
    for (int taken = 0; taken < COUNT; taken++) {
        while (asked < COUNT && !job_ring_is_full(ring)) {
            ask(ring, asked++);
        }
        const Job *job = job_ring_take(ring, WAIT_MS);
        assert_non_null(job);
        assert_int_equal(job->number, taken);
        assert_int_equal(job->result, taken * taken);
        assert_string_equal(job->held, "held");
    }
    assert_true(job_ring_is_empty(ring));
    assert_int_equal(work->run_count, COUNT);
    job_ring_free(ring);
    assert_int_equal(work->thread_count, 0);
    assert_int_equal(work->done_count, PLACE_COUNT);
}

static void run_when_opened(void *context, void *thread, void *place)
{
    (void)context;
    (void)thread;
    (void)place;
    work->run_count++;
    pthread_mutex_lock(&work->mutex);
    while (!work->is_open) {
        pthread_cond_wait(&work->opened, &work->mutex);
    }
    pthread_mutex_unlock(&work->mutex);
}

static void test_a_wait_ends(void **state)
{
    (void)state;
    JobRing *ring = new_ring(run_when_opened);
    for (int i = 0; !job_ring_is_full(ring); i++) {
        ask(ring, i);
    }
    assert_null(job_ring_take(ring, 10));
    pthread_mutex_lock(&work->mutex);
    work->is_open = true;
    pthread_cond_broadcast(&work->opened);
    pthread_mutex_unlock(&work->mutex);
    assert_non_null(job_ring_take(ring, WAIT_MS));
    job_ring_free(ring);
    assert_int_equal(work->done_count, PLACE_COUNT);
    job_ring_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_results_come_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_wait_ends, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
