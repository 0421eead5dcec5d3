// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/worker_process.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "server/worker/worker_internal.h"
#include "storage/storage_drivers.h"
#include "tests/harness/fake_driver.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define CODE_OF_KILL (128 + SIGKILL)

// --- the commits that are counted ---

static CrashPlace crash_place; // of this process, when it is a worker
static atomic_int step_commits;
static _Thread_local bool is_in_step;

static CrashPlace fault_place; // of this process's sessions
static int session_commits;
static _Thread_local bool is_in_session;

Status __real_store_commit(StoreTransaction **transaction, Error *error);
Status __wrap_store_commit(StoreTransaction **transaction, Error *error);

static Status fail_commit(StoreTransaction **transaction, bool is_after, Error *error)
{
    if (is_after) {
        RETURN_IF_ERROR(__real_store_commit(transaction, error));
    } else {
        store_rollback(transaction);
    }
    return error_set(error, REASON_UNAVAILABLE, "the connection was lost, as the test wants it");
}

Status __wrap_store_commit(StoreTransaction **transaction, Error *error)
{
    if (is_in_session && ++session_commits == fault_place.commit) {
        return fail_commit(transaction, fault_place.is_after, error);
    }
    bool is_place = is_in_step && atomic_fetch_add(&step_commits, 1) + 1 == crash_place.commit;
    if (is_place && !crash_place.is_after) {
        (void)raise(SIGKILL);
    }
    Status status = __real_store_commit(transaction, error);
    if (is_place) {
        (void)raise(SIGKILL);
    }
    return status;
}

#define WRAPPED_STEP(name)                                                                         \
    Status __real_##name(const WorkStep *step, int64_t *ret_next_ms, Error *error);                \
    Status __wrap_##name(const WorkStep *step, int64_t *ret_next_ms, Error *error);                \
    Status __wrap_##name(const WorkStep *step, int64_t *ret_next_ms, Error *error)                 \
    {                                                                                              \
        is_in_step = true;                                                                         \
        Status status = __real_##name(step, ret_next_ms, error);                                   \
        is_in_step = false;                                                                        \
        return status;                                                                             \
    }
WRAPPED_STEP(work_backup)
WRAPPED_STEP(work_restore)
WRAPPED_STEP(work_instance_place)
WRAPPED_STEP(work_instance)

void session_fault_begin(CrashPlace place)
{
    fault_place = place;
    session_commits = 0;
    is_in_session = true;
}

bool session_fault_end(void)
{
    is_in_session = false;
    return session_commits >= fault_place.commit;
}

// --- the worker's process ---

// arguments: --worker <database url> <driver's memory> <secret key> <commit> <before|after>
void worker_process_main(int argument_count, char **arguments)
{
    if (argument_count != 7 || !text_equal(arguments[1], "--worker")) {
        return;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    crash_place = (CrashPlace){.commit = (int)strtol(arguments[5], NULL, 10),
                               .is_after = text_equal(arguments[6], "after")};
    StoreOptions store_options = {
        .database_url = arguments[2], .connection_count = 4, .application_name = "worker"};
    Secret secret_key = secret_from_text(arguments[4]);
    WorkerOptions options = worker_fixture_options(&secret_key);
    Provisioner *provisioner = provisioner_new();
    Store *store = NULL;
    Worker *worker = NULL;
    Error error = {0};
    provisioner_add(provisioner, fake_driver_base(fake_driver_open(arguments[3])));
    if (store_open(&store_options, &store, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    options.store = store;
    options.provisioner = provisioner;
    options.repositories = repository_cache_new(storage_open, &secret_key);
    if (worker_start(&options, &worker, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    for (;;) {
        (void)pause(); // until it is killed
    }
}

struct WorkerProcess {
    WorkerFixture *fixture;
    CrashPlace place;
    pthread_t supervisor;
    atomic_bool is_ending;
    bool is_reached, is_failed;
};

static pid_t spawn(const WorkerProcess *process, CrashPlace place)
{
    char program[4096] = "";
    char commit[16];
    ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);
    (void)snprintf(commit, sizeof(commit), "%d", place.commit);
    const WorkerFixture *fixture = process->fixture;
    const char *arguments[] = {size > 0 ? program : "",
                               "--worker",
                               fixture->base->url,
                               fixture->driver_path,
                               secret_text(&fixture->base->secret_key),
                               commit,
                               place.is_after ? "after" : "before",
                               NULL};
    ProcessOptions options = {.arguments = arguments};
    pid_t pid = 0;
    Error error = {0};
    return process_spawn(&options, &pid, &error) == STATUS_OK ? pid : 0;
}

static void *supervise(void *context)
{
    WorkerProcess *process = context;
    pid_t pid = spawn(process, process->place);
    while (pid > 0 && !atomic_load(&process->is_ending)) {
        bool is_done = false;
        int code = 0;
        Error error = {0};
        if (process_wait(pid, 20, &is_done, &code, &error) != STATUS_OK) {
            break;
        }
        if (!is_done) {
            continue;
        }
        if (code != CODE_OF_KILL || process->is_reached) {
            pid = 0; // it ended by itself: not what was asked for
            break;
        }
        process->is_reached = true;
        pid = spawn(process, (CrashPlace){0});
    }
    process->is_failed = pid <= 0;
    if (pid > 0) {
        process_stop(pid, SIGKILL, 0);
    }
    return NULL;
}

WorkerProcess *worker_process_start(WorkerFixture *fixture, CrashPlace place)
{
    WorkerProcess *process = mem_alloc(sizeof(*process));
    process->fixture = fixture;
    process->place = place;
    assert_int_equal(pthread_create(&process->supervisor, NULL, supervise, process), 0);
    return process;
}

bool worker_process_stop(WorkerProcess *process)
{
    atomic_store(&process->is_ending, true);
    (void)pthread_join(process->supervisor, NULL);
    bool is_reached = process->is_reached;
    assert_false(process->is_failed);
    mem_free(process);
    return is_reached;
}
