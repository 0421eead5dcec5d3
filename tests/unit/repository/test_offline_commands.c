// SPDX-License-Identifier: Apache-2.0
// The commands that need only a repository and its key. If this goes red, nobody restores when the
// server is gone.
#include "cli/offline_session.h"
#include "cli/repository_commands.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "tests/harness/fake_http.h"
#include "tests/unit/repository/repository_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// cmocka needs these four first
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define FIRST_ID "0197a000-0000-7000-8000-0000000000b1"
#define SECOND_ID "0197b000-0000-7000-8000-0000000000b2"

typedef struct Offline {
    Fixture *fixture;
    char location[128], key_file[128], target[128];
    Manifest *shards[2];
    const char *digest;
    char *output; // of the last command, both streams
} Offline;

// A key file with the fixture's own key.
static void write_key(const Offline *offline)
{
    char digits[65];
    char line[100];
    Error error = {0};
    hex_encode(offline->fixture->wrapping_key.data, 32, digits);
    int size = snprintf(line, sizeof(line), "holdfast-key-1:%s\n", digits);
    assert_int_equal(file_write_atomic(offline->key_file, line, (size_t)size, 0600, &error),
                     STATUS_OK);
}

static void write_two_shards(Offline *offline, const char *backup_id, bool is_complete)
{
    Fixture *fixture = offline->fixture;
    SetShard shards[2] = {{.shard_name = "-80"}, {.shard_name = "../80-"}};
    for (int i = 0; i < 2; i++) {
        const Manifest *manifest = offline->shards[i];
        shards[i].checkpoint = manifest->checkpoint;
        snprintf(shards[i].shard_id, sizeof(shards[i].shard_id), "%s", manifest->shard_id);
        snprintf(shards[i].manifest_id, sizeof(shards[i].manifest_id), "%s", manifest->id);
        snprintf(shards[i].manifest_digest, sizeof(shards[i].manifest_digest), "%s",
                 manifest->digest);
    }
    BackupSet set = {.database_name = "shop",
                     .engine = "mariadb",
                     .created_us = is_complete ? 1000000 : 2000000,
                     .is_complete = is_complete,
                     .shards = shards,
                     .shard_count = 2};
    snprintf(set.backup_id, sizeof(set.backup_id), "%s", backup_id);
    snprintf(set.database_id, sizeof(set.database_id), "%s", DATABASE_ID);
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error));
}

static int set_up(void **state)
{
    Offline *offline = mem_alloc(sizeof(*offline));
    void *fixture = NULL;
    fixture_set_up_filesystem(&fixture);
    offline->fixture = fixture;
    snprintf(offline->location, sizeof(offline->location), "%s/repository",
             offline->fixture->directory);
    snprintf(offline->key_file, sizeof(offline->key_file), "%s/key", offline->fixture->directory);
    snprintf(offline->target, sizeof(offline->target), "%s/target", offline->fixture->directory);
    write_key(offline);
    source_write(offline->fixture, "base/1", 3 * EXTENT, 1);
    offline->digest = tree_digest(offline->fixture, offline->fixture->source);
    assert_ok(offline->fixture,
              fixture_publish_shard(offline->fixture, SHARD_ID, NULL, &offline->shards[0]));
    assert_ok(offline->fixture,
              fixture_publish_shard(offline->fixture, OTHER_SHARD_ID, NULL, &offline->shards[1]));
    write_two_shards(offline, FIRST_ID, true);
    write_two_shards(offline, SECOND_ID, false);
    *state = offline;
    return 0;
}

static int tear_down(void **state)
{
    Offline *offline = *state;
    void *fixture = offline->fixture;
    fixture_tear_down(&fixture);
    mem_free(offline->output);
    mem_free(offline);
    return 0;
}

// Runs `holdfast <words>` with both streams going to a file.
static int run(Offline *offline, const char *const *words)
{
    char program[] = "holdfast";
    char *arguments[24] = {program};
    int count = 1;
    for (; words[count - 1] != NULL; count++) {
        arguments[count] = arena_string(offline->fixture->arena, words[count - 1]);
    }
    CLEANUP_FREE char *path = string_format("%s/output", offline->fixture->directory);
    CLEANUP(fd_closep) int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CLEANUP(fd_closep) int saved_output = dup(STDOUT_FILENO);
    CLEANUP(fd_closep) int saved_error = dup(STDERR_FILENO);
    assert_true(file >= 0 && saved_output >= 0 && saved_error >= 0);
    fflush(NULL);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    int code = strcmp(words[0], "restore") == 0 ? restore_offline_command(count, arguments)
                                                : repository_command(count, arguments);
    fflush(NULL);
    dup2(saved_output, STDOUT_FILENO);
    dup2(saved_error, STDERR_FILENO);
    mem_free(offline->output);
    offline->output = NULL;
    size_t size = 0;
    assert_ok(offline->fixture,
              file_read(path, 1 << 20, &offline->output, &size, &offline->fixture->error));
    return code;
}

#define RUN(...)                                                                                   \
    run(offline, (const char *const[]){__VA_ARGS__, "--repository", offline->location,             \
                                       "--key-file", offline->key_file, NULL})

static void assert_says(const Offline *offline, const char *text)
{
    if (strstr(offline->output, text) == NULL) {
        fail_msg("'%s' is not in: %s", text, offline->output);
    }
}

static void test_a_whole_backup_is_restored(void **state)
{
    Offline *offline = *state;
    assert_int_equal(RUN("restore", "--offline", "--target", offline->target), 0);
    assert_says(offline, "-80");
    assert_says(offline, "Next: start it");
    CLEANUP_FREE char *first = string_format("%s/-80", offline->target);
    // A name that could lead out of the target is not used.
    CLEANUP_FREE char *second = string_format("%s/%s", offline->target, OTHER_SHARD_ID);
    assert_string_equal(tree_digest(offline->fixture, first), offline->digest);
    assert_string_equal(tree_digest(offline->fixture, second), offline->digest);
    assert_int_equal(RUN("restore", "--offline", "--target", offline->target), 5);
    assert_says(offline, "is not empty");
}

static void test_one_shard_goes_to_the_target_itself(void **state)
{
    Offline *offline = *state;
    assert_int_equal(RUN("restore", "--offline", "--target", offline->target, "--shard=-80",
                         "--backup", SECOND_ID, "--output", "json"),
                     0);
    assert_string_equal(tree_digest(offline->fixture, offline->target), offline->digest);
    CLEANUP(json_freep) Json *json = NULL;
    assert_ok(offline->fixture, json_parse(offline->output, strlen(offline->output), &json,
                                           &offline->fixture->error));
    assert_string_equal(json_get_text(json, "backup", ""), SECOND_ID);
    const Json *shard = json_item(json_get(json, "shards"), 0);
    assert_int_equal(json_count(json_get(json, "shards")), 1);
    assert_int_equal(json_get_integer(shard, "size_bytes", 0), 3 * EXTENT);
    assert_string_equal(json_get_text(shard, "checkpoint", ""), "0-1-42");
    assert_string_equal(json_get_text(shard, "restore_hint", ""), "start it");
}

// Of six shards, two of them damaged, in ways that are found before and while they are restored.
static void test_a_shard_s_damage_is_its_own(void **state)
{
    Offline *offline = *state;
    Fixture *fixture = offline->fixture;
    enum { COUNT = 6, NO_MANIFEST = 1, BAD_PACK = 4 };
    SetShard shards[COUNT] = {0};
    BackupSet set = {.backup_id = "0197c000-0000-7000-8000-0000000000b3",
                     .database_id = DATABASE_ID,
                     .database_name = "shop",
                     .engine = "mariadb",
                     .created_us = 3000000,
                     .is_complete = true,
                     .shards = shards,
                     .shard_count = COUNT};
    for (int i = 0; i < COUNT; i++) {
        Manifest *manifest = NULL;
        SetShard *shard = &shards[i];
        snprintf(shard->shard_id, sizeof(shard->shard_id), "0197a000-0000-7000-8000-0000000000c%d",
                 i);
        shard->shard_name = arena_format(fixture->arena, "s%d", i);
        assert_ok(fixture, fixture_publish_shard(fixture, shard->shard_id, NULL, &manifest));
        shard->checkpoint = manifest->checkpoint;
        snprintf(shard->manifest_id, sizeof(shard->manifest_id), "%s", manifest->id);
        snprintf(shard->manifest_digest, sizeof(shard->manifest_digest), "%s", manifest->digest);
    }
    assert_ok(fixture, backup_set_write(fixture->repository, &fixture->key, &set, &fixture->error));
    const char *prefix =
        arena_format(fixture->arena, "shards/%s/manifests/", shards[NO_MANIFEST].shard_id);
    assert_ok(fixture,
              storage_remove(fixture->storage, object_key(fixture, prefix, 0), &fixture->error));
    prefix = arena_format(fixture->arena, "shards/%s/packs/", shards[BAD_PACK].shard_id);
    object_flip(fixture, object_key(fixture, prefix, 0), 5000);
    for (const char *jobs = "1"; jobs != NULL; jobs = strcmp(jobs, "1") == 0 ? "4" : NULL) {
        const char *target = arena_format(fixture->arena, "%s-%s", offline->target, jobs);
        assert_int_equal(RUN("restore", "--offline", "--target", target, "--jobs", jobs), 10);
        assert_says(offline, "shard 's1'");
        assert_says(offline, "shard 's4'");
        for (int i = 0; i < COUNT; i++) {
            const char *directory = arena_format(fixture->arena, "%s/s%d", target, i);
            if (i == NO_MANIFEST || i == BAD_PACK) {
                assert_int_not_equal(access(directory, F_OK), 0);
            } else {
                assert_says(offline, directory);
                assert_string_equal(tree_digest(fixture, directory), offline->digest);
            }
        }
    }
    assert_int_equal(RUN("restore", "--offline", "--target", offline->target, "--jobs", "9"), 2);
    assert_says(offline, "--jobs is 1 to 8");
}

static void test_what_is_not_there_is_told(void **state)
{
    Offline *offline = *state;
    const char *target = offline->target;
    assert_int_equal(RUN("restore", "--offline", "--target", target, "--shard", "40-"), 3);
    assert_says(offline, "has no shard '40-'");
    assert_int_equal(RUN("restore", "--offline", "--target", target, "--backup", "ffff"), 3);
    assert_int_equal(RUN("restore", "--offline", "--target", target, "--backup", "0197"), 2);
    assert_says(offline, "more than one backup");
    assert_int_equal(RUN("restore", "--offline", "--target", target, "--database", "other"), 3);
    assert_int_equal(RUN("restore", "--offline"), 2);
    assert_says(offline, "--target is needed");
    assert_int_equal(RUN("restore", "--offline", "--target", target, "--frobnicate"), 2);
    assert_int_not_equal(access(target, F_OK), 0);
}

// Two packs of some 50 KiB at 64 KiB a second: the second has to wait.
static void test_limits_hold_without_a_server(void **state)
{
    Offline *offline = *state;
    int64_t started_ms = clock_monotonic_ms();
    assert_int_equal(RUN("repository", "check", "--bandwidth", "64KiB"), 0);
    assert_true(clock_monotonic_ms() - started_ms > 400);
    started_ms = clock_monotonic_ms();
    assert_int_equal(RUN("restore", "--offline", "--target", offline->target, "--bandwidth=64KiB",
                         "--cpus", "1", "--memory", "64MiB"),
                     0);
    assert_true(clock_monotonic_ms() - started_ms > 400);
    CLEANUP_FREE char *first = string_format("%s/-80", offline->target);
    assert_string_equal(tree_digest(offline->fixture, first), offline->digest);
    assert_int_equal(RUN("repository", "check", "--bandwidth", "1KiB"), 2);
    assert_says(offline, "--bandwidth is at least 64KiB");
    assert_int_equal(RUN("repository", "copy", "--to", "/nowhere", "--memory", "1MiB"), 2);
    assert_says(offline, "--memory is at least 65536KiB");
    assert_int_equal(RUN("restore", "--offline", "--target", offline->target, "--cpus", "0"), 2);
    assert_says(offline, "--cpus is 1 to");
}

static void test_listing_and_showing(void **state)
{
    Offline *offline = *state;
    assert_int_equal(RUN("repository", "list"), 0);
    assert_says(offline, FIRST_ID);
    assert_says(offline, SECOND_ID);
    assert_int_equal(RUN("repository", "show", "--database", "shop"), 0);
    assert_says(offline, FIRST_ID); // the newest complete one
    assert_says(offline, "96.0 KiB");
    assert_int_equal(RUN("repository", "show", "--backup", "0197b", "--output=json"), 0);
    assert_says(offline, "\"shard\": \"-80\"");
}

static void test_showing_more(void **state)
{
    Offline *offline = *state;
    assert_int_equal(RUN("repository", "list", "--sizes"), 0);
    assert_says(offline, "192 KiB"); // of both shards
    assert_int_equal(RUN("repository", "show", FIRST_ID, "--files", "--shard=-80"), 0);
    assert_says(offline, "base/1");
    assert_says(offline, "0640");
    assert_int_equal(RUN("repository", "show", FIRST_ID, "--output", "json"), 0);
    assert_says(offline, offline->shards[0]->digest);
    assert_int_equal(RUN("repository", "keys"), 0);
    assert_says(offline, offline->fixture->key.id);
    assert_says(offline, "ready");
    assert_int_equal(RUN("repository", "show", FIRST_ID, SECOND_ID, "third"), 2);
}

static void test_comparing_two_backups(void **state)
{
    Offline *offline = *state;
    Fixture *fixture = offline->fixture;
    const char *third = "0197c000-0000-7000-8000-0000000000b3";
    source_patch(fixture, "base/1", EXTENT, 10, 7);
    source_write(fixture, "base/new", 100, 8);
    assert_ok(fixture, fixture_publish(fixture, offline->shards[0], &offline->shards[0]));
    write_two_shards(offline, third, true);
    assert_int_equal(RUN("repository", "diff", FIRST_ID, third, "--output", "json"), 0);
    CLEANUP(json_freep) Json *json = NULL;
    assert_ok(fixture,
              json_parse(offline->output, strlen(offline->output), &json, &fixture->error));
    const Json *shard = json_item(json_get(json, "shards"), 0);
    assert_int_equal(json_get_integer(shard, "changed", -1), 1);
    assert_int_equal(json_get_integer(shard, "added", -1), 1);
    assert_int_equal(json_get_integer(shard, "removed", -1), 0);
    assert_int_equal(json_get_integer(shard, "changed_bytes", -1), EXTENT + 100);
    assert_int_equal(RUN("repository", "diff", third, FIRST_ID), 0);
    assert_says(offline, "removed");
    assert_int_equal(RUN("repository", "diff", FIRST_ID, SECOND_ID), 0);
    assert_int_equal(RUN("repository", "diff", FIRST_ID), 2);
}

static void test_copying_to_another_repository(void **state)
{
    Offline *offline = *state;
    Fixture *fixture = offline->fixture;
    CLEANUP_FREE char *key = string_format("%s/other-key", fixture->directory);
    CLEANUP_FREE char *place = string_format("%s/other", fixture->directory);
    const char *create[] = {"repository", "create-key", "--key-file", key, NULL};
    const char *init[] = {"repository", "init", "--repository", place, "--key-file", key, NULL};
    const char *check[] = {"repository", "check", "--repository", place, "--key-file", key, NULL};
    const char *restore[] = {"restore",     "--offline",  "--target", offline->target,
                             "--shard=-80", "--backup",   "latest",   "--repository",
                             place,         "--key-file", key,        NULL};
    assert_int_equal(run(offline, create), 0);
    assert_int_equal(RUN("repository", "copy", "--to", place, "--to-key-file", key), 3);
    assert_says(offline, "there is no repository");
    assert_int_equal(run(offline, init), 0);
    assert_int_equal(RUN("repository", "copy", FIRST_ID, "--to", place, "--to-key-file", key), 0);
    assert_says(offline, "copied");
    source_patch(fixture, "base/1", EXTENT, 10, 7);
    const char *digest = tree_digest(fixture, fixture->source);
    assert_ok(fixture, fixture_publish(fixture, offline->shards[0], &offline->shards[0]));
    write_two_shards(offline, "0197c000-0000-7000-8000-0000000000b3", true);
    assert_int_equal(
        RUN("repository", "copy", "--to", place, "--to-key-file", key, "--output", "json"), 0);
    CLEANUP(json_freep) Json *json = NULL;
    assert_ok(fixture,
              json_parse(offline->output, strlen(offline->output), &json, &fixture->error));
    assert_int_equal(json_get_integer(json, "copied_count", -1), 2);
    // One extent and the maps above it, not the shard again.
    assert_in_range(json_get_integer(json, "stored_bytes", -1), 1, 2 * EXTENT);
    assert_int_equal(run(offline, check), 0);
    assert_int_equal(run(offline, restore), 0);
    // Both were made at the same second; the newest by id is what "latest" means.
    assert_string_equal(tree_digest(fixture, offline->target), digest);
    assert_int_equal(RUN("repository", "copy", "--to", place, "--to-key-file", key), 0);
    assert_says(offline, "there already");
}

static void test_rotating_the_wrapping_key(void **state)
{
    Offline *offline = *state;
    CLEANUP_FREE char *key = string_format("%s/new-key", offline->fixture->directory);
    const char *create[] = {"repository", "create-key", "--key-file", key, NULL};
    const char *restore[] = {"restore",
                             "--offline",
                             "--target",
                             offline->target,
                             "--shard=-80",
                             "--repository",
                             offline->location,
                             "--key-file",
                             key,
                             NULL};
    assert_int_equal(RUN("repository", "rotate-key"), 2);
    assert_says(offline, "--new-key-file is needed");
    assert_int_equal(RUN("repository", "rotate-key", "--new-key-file", key), 5); // there is none
    assert_int_equal(run(offline, create), 0);
    assert_int_equal(RUN("repository", "rotate-key", "--new-key-file", key), 0);
    assert_int_equal(RUN("repository", "list"), 5);
    assert_says(offline, "does not open the repository");
    assert_int_equal(run(offline, restore), 0);
    assert_string_equal(tree_digest(offline->fixture, offline->target), offline->digest);
    // Again, as after a kill.
    assert_int_equal(RUN("repository", "rotate-key", "--new-key-file", key), 0);
}

static void test_destroying_a_database_s_keys(void **state)
{
    Offline *offline = *state;
    assert_int_equal(RUN("repository", "destroy-key", "--database", "shop"), 5);
    assert_says(offline, FIRST_ID);
    assert_says(offline, "2 backups unreadable");
    assert_int_equal(RUN("repository", "destroy-key", "--database", "shop", "--confirm", "sho"), 5);
    assert_int_equal(RUN("repository", "destroy-key", "--database", "shop", "--ignore-holds"), 5);
    assert_says(offline, "2 backups unreadable");
    // What the server alone knows is not passed over in silence.
    assert_int_equal(RUN("repository", "destroy-key", "--database", "shop", "--confirm", "shop"),
                     5);
    assert_says(offline, "legal hold");
    assert_says(offline, "--ignore-holds");
    assert_int_equal(RUN("repository", "list"), 0);
    assert_int_equal(RUN("repository", "show", FIRST_ID), 0); // nothing was destroyed
    assert_int_equal(RUN("repository", "destroy-key", "--database", "shop", "--confirm", "shop",
                         "--ignore-holds"),
                     0);
    assert_int_equal(
        RUN("restore", "--offline", "--target", offline->target, "--database", DATABASE_ID), 5);
    assert_says(offline, "was destroyed on 20");
    assert_int_equal(RUN("repository", "list"), 0);
    assert_says(offline, "key-missing");
    assert_int_equal(RUN("repository", "keys"), 0);
    assert_says(offline, "destroyed");
}

static void test_the_check_finds_damage(void **state)
{
    Offline *offline = *state;
    assert_int_equal(RUN("repository", "check"), 0);
    assert_says(offline, "Everything that a backup needs");
    const char *pack = object_key(offline->fixture, "shards/" SHARD_ID "/packs/", 0);
    object_flip(offline->fixture, pack, 5000);
    assert_int_equal(RUN("repository", "check"), 10);
    assert_says(offline, pack);
    assert_int_equal(RUN("repository", "check", "--output", "json"), 10);
    assert_says(offline, "\"problem_count\": 1");
    assert_int_equal(RUN("restore", "--offline", "--target", offline->target, "--shard=-80"), 10);
    assert_says(offline, "is not what was written");
    assert_int_not_equal(access(offline->target, F_OK), 0);
}

// Stopped after its first shard, a check goes on behind it and counts both.
static void test_a_check_goes_on_where_it_was(void **state)
{
    Offline *offline = *state;
    CLEANUP_FREE char *file = string_format("%s/state", offline->fixture->directory);
    const char *pack = object_key(offline->fixture, "shards/" OTHER_SHARD_ID "/packs/", 0);
    CLEANUP_FREE char *text =
        string_format("{\"repository_id\":\"%s\",\"shard_id\":\"%s\",\"extents\":1000,"
                      "\"problem_count\":0}",
                      repository_id(offline->fixture->repository), SHARD_ID);
    assert_ok(offline->fixture,
              file_write_atomic(file, text, strlen(text), 0600, &offline->fixture->error));
    assert_int_equal(RUN("repository", "check", "--state", file, "--output", "json"), 0);
    assert_says(offline, "\"extents\": 1003");
    assert_int_not_equal(access(file, F_OK), 0);
    object_flip(offline->fixture, pack, 5000);
    assert_int_equal(RUN("repository", "check", "--state", file), 10);
    assert_ok(offline->fixture, file_write_atomic(file, "{}", 2, 0600, &offline->fixture->error));
    assert_int_equal(RUN("repository", "check", "--state", file), 5);
    assert_int_equal(RUN("repository", "check", "--sample", "0"), 2);
    assert_int_equal(RUN("repository", "check", "--sample", "100"), 10);
    // Reading no data it still finds what is not there.
    assert_ok(offline->fixture,
              storage_remove(offline->fixture->storage, pack, &offline->fixture->error));
    assert_int_equal(RUN("repository", "check", "--sample", "1"), 10);
    assert_says(offline, pack);
}

static void test_making_a_repository(void **state)
{
    Offline *offline = *state;
    CLEANUP_FREE char *key = string_format("%s/new-key", offline->fixture->directory);
    CLEANUP_FREE char *place = string_format("file://%s/new", offline->fixture->directory);
    const char *create[] = {"repository", "create-key", "--key-file", key, NULL};
    const char *init[] = {"repository", "init", "--repository", place, "--key-file", key, NULL};
    const char *list[] = {"repository", "list", "--repository", place, "--key-file", key, NULL};
    const char *wrong[] = {"repository",      "list", "--repository", place, "--key-file",
                           offline->key_file, NULL};
    assert_int_equal(run(offline, create), 0);
    assert_int_equal(run(offline, create), 4);
    assert_int_equal(run(offline, init), 0);
    assert_int_equal(run(offline, init), 4);
    assert_int_equal(run(offline, list), 0);
    assert_int_equal(run(offline, wrong), 5);
    assert_says(offline, "does not open the repository");
}

enum { SERVED_SIZE = 3 << 20 };
static bool serve(void *context, const FakeHttpRequest *request)
{
    (void)context;
    CLEANUP_FREE uint8_t *body = mem_alloc(SERVED_SIZE);
    return fake_http_answer(request, 200, NULL, body, SERVED_SIZE);
}

static void sign_in(void)
{
    assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "name", 1), 0);
    assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
}

// Within one object, which is less than a pack.
static void test_a_transfer_goes_at_the_pace_of_the_limits(void **state)
{
    const Offline *offline = *state;
    Fixture *fixture = offline->fixture;
    FakeHttp *server = fake_http_start(serve, NULL);
    CLEANUP(limits_freep) Limits *limits = NULL;
    CLEANUP(storage_freep) Storage *storage = NULL;
    int64_t memory_bytes = 0;
    const OfflineOptions options = {.bandwidth = "2MiB"};
    const OfflineStore store = {.endpoint = fake_http_url(server), .is_path_style = true};
    sign_in();
    assert_ok(fixture, offline_limits(&options, &limits, &memory_bytes, &fixture->error));
    assert_ok(fixture, offline_open_storage(&store, "s3://bucket/prefix", limits, &storage,
                                            &fixture->error));
    int64_t started_ms = clock_monotonic_ms();
    CLEANUP_FREE uint8_t *got = mem_alloc(SERVED_SIZE);
    assert_ok(fixture, storage_get_range(storage, "object", 0, SERVED_SIZE, got, &fixture->error));
    assert_true(clock_monotonic_ms() - started_ms > 1000);
    fake_http_stop(server);
}

static void *interrupt_under_way(void *context)
{
    while (fake_http_request_count(context) == 0) {
        clock_sleep_ms(10);
    }
    (void)kill(getpid(), SIGINT);
    return NULL;
}

// Without the cut it would be tried for a quarter of an hour. The last test: what was interrupted
// stays so.
static void test_an_interrupt_cuts_a_transfer(void **state)
{
    Offline *offline = *state;
    FakeHttp *server = fake_http_start(fake_http_stall, NULL);
    pthread_t thread;
    sign_in();
    const char *check[] = {
        "repository",      "check",      "--repository",        "s3://bucket/prefix", "--key-file",
        offline->key_file, "--endpoint", fake_http_url(server), "--path-style",       NULL};
    assert_int_equal(pthread_create(&thread, NULL, interrupt_under_way, server), 0);
    assert_int_equal(run(offline, check), status_exit_code(STATUS_CANCELED));
    assert_says(offline, "canceled");
    assert_int_equal(pthread_join(thread, NULL), 0);
    fake_http_stop(server);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_whole_backup_is_restored),
        TEST(test_one_shard_goes_to_the_target_itself),
        TEST(test_a_shard_s_damage_is_its_own),
        TEST(test_what_is_not_there_is_told),
        TEST(test_listing_and_showing),
        TEST(test_showing_more),
        TEST(test_comparing_two_backups),
        TEST(test_copying_to_another_repository),
        TEST(test_rotating_the_wrapping_key),
        TEST(test_destroying_a_database_s_keys),
        TEST(test_a_check_goes_on_where_it_was),
        TEST(test_the_check_finds_damage),
        TEST(test_making_a_repository),
        TEST(test_limits_hold_without_a_server),
        TEST(test_a_transfer_goes_at_the_pace_of_the_limits),
        TEST(test_an_interrupt_cuts_a_transfer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
