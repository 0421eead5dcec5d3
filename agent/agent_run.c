// SPDX-License-Identifier: Apache-2.0
// Three threads: this one works, the control thread speaks with the server, the watchdog ends the
// agent when it must end. The watchdog needs nobody's help: when the work does not stop in time it
// ends the process, and the kernel kills the engine then.
#include "agent/agent_run.h"

#include "agent/control.h"
#include "agent/job.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_MODULE "agent"
#define WATCHDOG_STEP_MS 100
// From the order to stop to the end of the process, whatever hangs.
#define STOP_MS_MAX 12000
#define FLUSH_MS 2000
// After the work is done or has failed the server is given so long to say stop.
#define FAREWELL_MS 60000

// Set by the signal handler; one of the two process-wide variables (the other is the logger).
static atomic_int stop_signal;

static void on_signal(int number)
{
    atomic_store(&stop_signal, number);
}

typedef struct Watchdog {
    pthread_t thread;
    AgentState *state;
    atomic_bool is_ending;
} Watchdog;

static int stop_exit_code(StopCause cause)
{
    switch (cause) {
    case STOP_SIGNAL:
        return status_exit_code(STATUS_CANCELED);
    case STOP_DEADMAN:
        return status_exit_code(STATUS_UNAVAILABLE);
    case STOP_LIFETIME:
        return status_exit_code(STATUS_DEADLINE_EXCEEDED);
    case STOP_REFUSED:
        return status_exit_code(STATUS_PERMISSION_DENIED);
    default:
        return 0;
    }
}

static void *watchdog_thread(void *argument)
{
    Watchdog *watchdog = argument;
    while (!atomic_load(&watchdog->is_ending)) {
        if (atomic_load(&stop_signal) != 0) {
            agent_state_stop(watchdog->state, STOP_SIGNAL, "a signal asked for it");
        }
        int64_t now_ms = clock_monotonic_ms();
        StopCause cause = agent_state_check_limits(watchdog->state, now_ms);
        if (cause != STOP_NONE && now_ms - agent_state_stopped_ms(watchdog->state) > STOP_MS_MAX) {
            log_error("stopping takes too long, ending at once", NULL);
            _exit(stop_exit_code(cause));
        }
        clock_sleep_ms(WATCHDOG_STEP_MS);
    }
    return NULL;
}

static void prepare_process(void)
{
    (void)umask(077);
    // A core file would hold keys.
    const struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
}

static void on_joined(void *context)
{
    const Instance *instance = context;
    Error error = {0};
    if (instance_forget_secret(instance, &error) != STATUS_OK) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error,
                         "the used join secret could not be removed, ignoring it", NULL);
    }
}

// Where the engine's programs are, when they are not where the distribution puts them.
static const char *program_directory(Holdfast__V1__Engine engine)
{
    switch (engine) {
    case HOLDFAST__V1__ENGINE__ENGINE_MARIADB:
        return getenv("HOLDFAST_MARIADB_DIR");
    case HOLDFAST__V1__ENGINE__ENGINE_MYSQL:
        return getenv("HOLDFAST_MYSQL_DIR");
    case HOLDFAST__V1__ENGINE__ENGINE_POSTGRESQL:
        return getenv("HOLDFAST_POSTGRESQL_DIR");
    default:
        return NULL;
    }
}

static Status run_job(AgentState *state, const Instance *instance, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Holdfast__V1__ServerMessage *assignment = NULL;
    while (assignment == NULL && agent_state_stop_cause(state) == STOP_NONE) {
        assignment = agent_state_wait_assignment(state, 1000, arena);
    }
    if (assignment == NULL) {
        return STATUS_OK; // stopped before there was anything to do
    }
    Job job = {.state = state, .instance = instance, .provider = &data_directory_materialize};
    if (assignment->message_case == HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_RESTORE) {
        job.program_directory = program_directory(assignment->restore->engine);
        return job_restore_run(&job, assignment->restore, error);
    }
    if (assignment->backup->source != NULL) {
        job.program_directory = program_directory(assignment->backup->source->engine);
    }
    return job_backup_run(&job, assignment->backup, error);
}

// The exit code tells the provisioner's log what the server knows already.
static int run_to_end(AgentState *state, const Instance *instance)
{
    Error error = {0};
    Status status = run_job(state, instance, &error);
    if (status != STATUS_OK && error.reason == REASON_LEASE_LOST) {
        log_error_record(LOG_WARNING, LOG_MODULE, &error, "the lease is lost", NULL);
    } else {
        (void)agent_state_wait_stop(state, FAREWELL_MS);
    }
    StopCause cause = agent_state_stop_cause(state);
    char why[256];
    agent_state_stop_why(state, why, sizeof(why));
    log_info("the agent ends", "why", cause == STOP_NONE ? "its work is over" : why, NULL);
    if (cause != STOP_NONE && (status == STATUS_OK || error.reason == REASON_CANCELED)) {
        return stop_exit_code(cause);
    }
    return status_exit_code(status);
}

int agent_run(const char *instance_directory)
{
    prepare_process();
    Error error = {0};
    Instance instance = {0};
    if (instance_open(instance_directory, &instance, &error) != STATUS_OK) {
        log_error_record(LOG_ERROR, LOG_MODULE, &error, "the agent cannot start", NULL);
        return status_exit_code(error.status);
    }
    log_info("the agent starts", "instance", instance.instance_id, "version", HOLDFAST_VERSION,
             NULL);
    AgentState *state =
        agent_state_new(clock_monotonic_ms(), instance.deadman_ms, instance.lifetime_ms);
    Watchdog watchdog = {.state = state};
    if (pthread_create(&watchdog.thread, NULL, watchdog_thread, &watchdog) != 0) {
        mem_exhausted();
    }
    Control *control = control_start(state, &instance, on_joined, &instance);
    int exit_code = run_to_end(state, &instance);
    control_stop(control, FLUSH_MS);
    atomic_store(&watchdog.is_ending, true);
    (void)pthread_join(watchdog.thread, NULL);
    agent_state_free(state);
    instance_done(&instance);
    return exit_code;
}
