// SPDX-License-Identifier: Apache-2.0
// The local driver with real processes. If this goes red, instances are started twice, lost sight
// of, left behind - or somebody else's process is killed.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "provisioner/compute_driver.h"
#include "provisioner/compute_local.h"
#include "tests/harness/harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_MS 1500

typedef struct Fixture {
    char *home, *directory, *logs;
    Provisioner *provisioner;
    Secret secret;
    char id[UUID_TEXT_SIZE];
} Fixture;

static Provisioner *new_provisioner(const Fixture *fixture)
{
    LocalDriverOptions options = {.directory = fixture->directory,
                                  .log_directory = fixture->logs,
                                  .agent_program = TEST_FAKE_AGENT,
                                  .grace_ms = GRACE_MS};
    ComputeDriver *driver = NULL;
    Error error = {0};
    assert_ok(compute_local_new(&options, &driver, &error), &error);
    Provisioner *provisioner = provisioner_new();
    provisioner_add(provisioner, driver);
    return provisioner;
}

static int setup(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->home = temp_dir_new();
    fixture->directory = path_join(fixture->home, "instances");
    fixture->logs = path_join(fixture->home, "logs");
    fixture->provisioner = new_provisioner(fixture);
    fixture->secret = secret_from_text("the-join-secret");
    crypto_uuid(fixture->id);
    *state = fixture;
    return 0;
}

// As after a restart of the server: nothing is remembered.
static void restart(Fixture *fixture)
{
    provisioner_free(fixture->provisioner);
    fixture->provisioner = new_provisioner(fixture);
}

static void set_mode(const Fixture *fixture, const char *mode)
{
    CLEANUP_FREE char *path = path_join(fixture->directory, "mode");
    write_file(path, mode);
}

static Status try_launch(Fixture *fixture, char ret_provider_id[PROVIDER_ID_SIZE], Error *error)
{
    LaunchSpec spec = {.instance_id = fixture->id,
                       .server_addresses = "127.0.0.1:1,127.0.0.1:2",
                       .certificate_pem = "pem",
                       .server_name = "holdfast",
                       .join_secret = &fixture->secret,
                       .deadman_ms = 1000,
                       .lifetime_ms = 2000};
    return provisioner_launch(fixture->provisioner, "local", &spec, ret_provider_id, error);
}

static pid_t launch(Fixture *fixture)
{
    char provider_id[PROVIDER_ID_SIZE];
    Error error = {0};
    int64_t pid = 0;
    assert_ok(try_launch(fixture, provider_id, &error), &error);
    assert_true(text_to_int64(provider_id, &pid));
    return (pid_t)pid;
}

static char *instance_path(const Fixture *fixture, const char *name)
{
    char path[LOCAL_PATH_SIZE];
    local_path(fixture->directory, fixture->id, name, path);
    return string_copy(path);
}

// Everything that lives in the directory of the instance, whoever started it.
static size_t processes(const Fixture *fixture, LocalProcess ret_processes[16])
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    LocalProcess *found = NULL;
    size_t count = 0;
    Error error = {0};
    assert_ok(local_processes_find(fixture->directory, fixture->id, arena, &found, &count, &error),
              &error);
    assert_true(count <= 16);
    for (size_t i = 0; i < count; i++) {
        ret_processes[i] = found[i];
    }
    return count;
}

static void wait_for_processes(const Fixture *fixture, size_t wanted)
{
    LocalProcess found[16];
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    while (processes(fixture, found) != wanted) {
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("%zu processes, not %zu", processes(fixture, found), wanted);
        }
        clock_sleep_ms(5);
    }
}

static bool is_listed(Fixture *fixture, bool *ret_is_running)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ComputeInstance *instances = NULL;
    size_t count = 0;
    Error error = {0};
    assert_ok(provisioner_list(fixture->provisioner, "local", arena, &instances, &count, &error),
              &error);
    for (size_t i = 0; i < count; i++) {
        if (text_equal(instances[i].instance_id, fixture->id)) {
            *ret_is_running = instances[i].is_running;
            assert_true(instances[i].created_us > 0);
            return true;
        }
    }
    return false;
}

// Asks until it is observed gone; the milliseconds it took.
static int64_t terminate(Fixture *fixture)
{
    int64_t started_ms = clock_monotonic_ms();
    bool is_running = false;
    do {
        Error error = {0};
        assert_ok(provisioner_terminate(fixture->provisioner, "local", fixture->id, &error),
                  &error);
        assert_true(clock_monotonic_ms() - started_ms < 15000);
        clock_sleep_ms(5);
    } while (is_listed(fixture, &is_running));
    LocalProcess found[16];
    CLEANUP_FREE char *path = instance_path(fixture, NULL);
    assert_int_equal(processes(fixture, found), 0);
    assert_int_not_equal(access(path, F_OK), 0);
    return clock_monotonic_ms() - started_ms;
}

static int teardown(void **state)
{
    Fixture *fixture = *state;
    LocalProcess found[16];
    size_t count = processes(fixture, found);
    for (size_t i = 0; i < count; i++) { // of a test that failed
        (void)kill(found[i].identity.pid, SIGKILL);
    }
    provisioner_free(fixture->provisioner);
    temp_dir_removep(&fixture->home);
    mem_free(fixture->directory);
    mem_free(fixture->logs);
    secret_done(&fixture->secret);
    mem_free(fixture);
    return 0;
}

static void test_launches_once(void **state)
{
    Fixture *fixture = *state;
    bool is_running = false;
    pid_t pid = launch(fixture);
    wait_for_processes(fixture, 2);
    assert_true(is_listed(fixture, &is_running));
    assert_true(is_running);
    assert_int_equal(launch(fixture), pid);
    restart(fixture);
    assert_int_equal(launch(fixture), pid);
    wait_for_processes(fixture, 2);
    assert_int_equal(getsid(pid), pid);
    assert_true(terminate(fixture) < GRACE_MS + 5000);
    restart(fixture);
    assert_false(is_listed(fixture, &is_running));
}

static void test_tells_the_agent_in_a_private_file(void **state)
{
    Fixture *fixture = *state;
    struct stat facts;
    CLEANUP_FREE char *path = instance_path(fixture, "join.json");
    CLEANUP_FREE char *directory = instance_path(fixture, NULL);
    CLEANUP_FREE char *text = NULL;
    CLEANUP(json_freep) Json *json = NULL;
    size_t size = 0;
    Error error = {0};
    pid_t pid = launch(fixture);
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_int_equal(stat(directory, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0700);
    assert_ok(file_read(path, 65536, &text, &size, &error), &error);
    assert_ok(json_parse(text, size, &json, &error), &error);
    assert_string_equal(json_get_text(json, "join_secret", ""), "the-join-secret");
    assert_string_equal(json_get_text(json, "instance_id", ""), fixture->id);
    assert_string_equal(json_text(json_item(json_get(json, "server_addresses"), 1), ""),
                        "127.0.0.1:2");
    assert_int_equal(json_get_integer(json, "deadman_ms", 0), 1000);
    assert_int_equal(json_get_integer(json, "lifetime_ms", 0), 2000);
    static const char *const files[] = {"cmdline", "environ"};
    for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
        CLEANUP_FREE char *place = string_format("/proc/%d/%s", (int)pid, files[i]);
        CLEANUP_FREE char *content = NULL;
        assert_ok(file_read(place, 1 << 20, &content, &size, &error), &error);
        assert_null(memmem(content, size, "join-secret", strlen("join-secret")));
    }
    (void)terminate(fixture);
}

// Killed between starting the agent and writing down who it is.
static void test_adopts_an_agent_that_was_not_recorded(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE char *record = instance_path(fixture, "process.json");
    pid_t pid = launch(fixture);
    wait_for_processes(fixture, 2);
    assert_int_equal(unlink(record), 0);
    restart(fixture);
    bool is_running = false;
    assert_true(is_listed(fixture, &is_running));
    assert_true(is_running);
    assert_int_equal(launch(fixture), pid);
    assert_int_equal(access(record, F_OK), 0);
    wait_for_processes(fixture, 2);
    (void)terminate(fixture);
}

// Killed after any of the steps before the agent was started.
static void test_goes_on_after_a_kill_at_each_step(void **state)
{
    Fixture *fixture = *state;
    for (int step = 0; step < 3; step++) {
        Error error = {0};
        CLEANUP_FREE char *directory = instance_path(fixture, NULL);
        assert_int_equal(mkdir(directory, 0700), 0);
        LaunchSpec spec = {.instance_id = fixture->id,
                           .server_addresses = "old:1",
                           .certificate_pem = "old",
                           .join_secret = &fixture->secret};
        if (step > 0) {
            assert_ok(local_write_birth(fixture->directory, fixture->id, &error), &error);
        }
        if (step > 1) {
            assert_ok(local_write_join(fixture->directory, &spec, &error), &error);
        }
        bool is_running = true;
        assert_true(is_listed(fixture, &is_running));
        assert_false(is_running);
        pid_t pid = launch(fixture);
        wait_for_processes(fixture, 2);
        assert_int_equal(launch(fixture), pid);
        (void)terminate(fixture);
        // And what is left half made is cleared when it is not wanted any more.
        assert_int_equal(mkdir(directory, 0700), 0);
        (void)terminate(fixture);
    }
}

static pid_t start_stranger(void)
{
    const char *arguments[] = {"sleep", "600", NULL};
    ProcessOptions options = {.arguments = arguments, .directory = "/", .new_session = true};
    pid_t pid = 0;
    Error error = {0};
    assert_ok(process_spawn(&options, &pid, &error), &error);
    return pid;
}

// The record names a living process that is not ours: the number was given out again.
static void test_never_touches_a_recycled_pid(void **state)
{
    Fixture *fixture = *state;
    Error error = {0};
    pid_t stranger = start_stranger();
    ProcessIdentity identity = {0};
    assert_true(process_identify(stranger, &identity));
    for (int is_exact = 0; is_exact < 2; is_exact++) {
        pid_t pid = launch(fixture);
        wait_for_processes(fixture, 2);
        ProcessIdentity recorded = identity;
        recorded.start_ticks -= is_exact ? 0 : 1;
        assert_ok(local_write_process(fixture->directory, fixture->id, &recorded, &error), &error);
        restart(fixture);
        if (!is_exact) {
            assert_int_equal(launch(fixture), pid); // the real one is found
        }
        (void)terminate(fixture);
        assert_true(process_is_alive(&identity));
    }
    // A process whose working directory says nothing any more about an instance is not signalled
    // either.
    LocalProcess gone = {.identity = identity};
    memcpy(gone.instance_id, fixture->id, sizeof(gone.instance_id));
    assert_false(local_process_signal(fixture->directory, &gone, SIGKILL));
    assert_true(process_is_alive(&identity));
    process_stop(stranger, SIGKILL, 0);
}

static void test_clears_what_left_the_process_group(void **state)
{
    Fixture *fixture = *state;
    set_mode(fixture, "orphans");
    pid_t pid = launch(fixture);
    LocalProcess found[16];
    // A child is in our sight a moment before it is in its own session.
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    while (processes(fixture, found) != 2 ||
           getpgid(found[1].identity.pid) == getpgid(found[0].identity.pid)) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(5);
    }
    (void)terminate(fixture);
    // Killed without warning: only the engine is left, in a session of its own.
    crypto_uuid(fixture->id);
    pid = launch(fixture);
    wait_for_processes(fixture, 2);
    assert_int_equal(kill(pid, SIGKILL), 0);
    wait_for_processes(fixture, 1);
    // The engine looks like the agent until it is in a session of its own.
    bool is_running = true;
    deadline_ms = clock_monotonic_ms() + 10000;
    while (is_running) {
        assert_true(is_listed(fixture, &is_running));
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(5);
    }
    assert_true(terminate(fixture) < GRACE_MS); // nobody is there who could be asked
}

// A restored server works in a directory that is not the instance's, so the instance is gone only
// when that server is.
static void test_finds_an_engine_that_serves_from_elsewhere(void **state)
{
    Fixture *fixture = *state;
    set_mode(fixture, "serves");
    pid_t pid = launch(fixture);
    wait_for_processes(fixture, 2);
    assert_int_equal(kill(pid, SIGKILL), 0);
    wait_for_processes(fixture, 1);
    LocalProcess found[16];
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    for (;;) { // on its way there it passes through the instance's directory
        char link[64];
        char place[16] = "";
        assert_int_equal(processes(fixture, found), 1);
        (void)snprintf(link, sizeof(link), "/proc/%d/cwd", (int)found[0].identity.pid);
        if (readlink(link, place, sizeof(place) - 1) == 1 && !found[0].is_at_root) {
            break;
        }
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(5);
    }
    bool is_running = true;
    assert_true(is_listed(fixture, &is_running));
    assert_false(is_running);
    (void)terminate(fixture);
    assert_false(process_is_alive(&found[0].identity));
}

static void test_kills_one_that_does_not_listen(void **state)
{
    Fixture *fixture = *state;
    set_mode(fixture, "stubborn");
    (void)launch(fixture);
    wait_for_processes(fixture, 2);
    int64_t took_ms = terminate(fixture);
    assert_true(took_ms >= GRACE_MS);
    assert_true(took_ms < GRACE_MS + 5000);
    // The grace goes on over a restart of the server, from when it was first asked.
    crypto_uuid(fixture->id);
    (void)launch(fixture);
    wait_for_processes(fixture, 2);
    Error error = {0};
    assert_ok(provisioner_terminate(fixture->provisioner, "local", fixture->id, &error), &error);
    clock_sleep_ms(GRACE_MS);
    restart(fixture);
    assert_true(terminate(fixture) < GRACE_MS);
}

static void test_does_not_launch_what_has_ended(void **state)
{
    Fixture *fixture = *state;
    char provider_id[PROVIDER_ID_SIZE];
    Error error = {0};
    set_mode(fixture, "ends");
    (void)launch(fixture);
    wait_for_processes(fixture, 0);
    assert_int_not_equal(try_launch(fixture, provider_id, &error), STATUS_OK);
    assert_int_equal(error.reason, REASON_LAUNCH_FAILED);
    assert_contains(error.hint, "hello from ends");
    (void)terminate(fixture);
    // Nor what is being destroyed.
    set_mode(fixture, "stubborn");
    (void)launch(fixture);
    wait_for_processes(fixture, 2);
    assert_ok(provisioner_terminate(fixture->provisioner, "local", fixture->id, &error), &error);
    assert_int_equal(try_launch(fixture, provider_id, &error), STATUS_FAILED_PRECONDITION);
    (void)terminate(fixture);
}

static void test_keeps_the_last_logs(void **state)
{
    Fixture *fixture = *state;
    set_mode(fixture, "ends");
    for (int i = 0; i < 53; i++) {
        crypto_uuid(fixture->id);
        (void)launch(fixture);
        wait_for_processes(fixture, 0);
        (void)terminate(fixture);
    }
    Buffer log;
    Error error = {0};
    buffer_init(&log, 4096);
    assert_ok(provisioner_fetch_log(fixture->provisioner, "local", fixture->id, &log, &error),
              &error);
    assert_contains(buffer_text(&log), "hello from ends");
    buffer_done(&log);
    int count = 0;
    DIR *logs = opendir(fixture->logs);
    for (struct dirent *entry = readdir(logs); entry != NULL; entry = readdir(logs)) {
        count += text_has_suffix(entry->d_name, ".log") ? 1 : 0;
    }
    closedir(logs);
    assert_int_equal(count, 50);
}

static void test_refuses_what_is_not_an_id_or_a_provider(void **state)
{
    Fixture *fixture = *state;
    Error error = {0};
    char provider_id[PROVIDER_ID_SIZE];
    assert_int_equal(provisioner_terminate(fixture->provisioner, "local", "../../etc", &error),
                     STATUS_INVALID_ARGUMENT);
    LaunchSpec spec = {.instance_id = fixture->id,
                       .server_addresses = "a:1",
                       .certificate_pem = "pem",
                       .join_secret = &fixture->secret};
    assert_int_equal(provisioner_launch(fixture->provisioner, "moon", &spec, provider_id, &error),
                     STATUS_INVALID_ARGUMENT);
    assert_contains(error.hint, "local");
    assert_ok(provisioner_preflight(fixture->provisioner, "local", &spec, &error), &error);
}

#define LOCAL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCAL_TEST(test_launches_once),
        LOCAL_TEST(test_tells_the_agent_in_a_private_file),
        LOCAL_TEST(test_adopts_an_agent_that_was_not_recorded),
        LOCAL_TEST(test_goes_on_after_a_kill_at_each_step),
        LOCAL_TEST(test_never_touches_a_recycled_pid),
        LOCAL_TEST(test_clears_what_left_the_process_group),
        LOCAL_TEST(test_finds_an_engine_that_serves_from_elsewhere),
        LOCAL_TEST(test_kills_one_that_does_not_listen),
        LOCAL_TEST(test_does_not_launch_what_has_ended),
        LOCAL_TEST(test_keeps_the_last_logs),
        LOCAL_TEST(test_refuses_what_is_not_an_id_or_a_provider),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
