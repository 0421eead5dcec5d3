// SPDX-License-Identifier: Apache-2.0
// An agent played by the test: speaks to the sessions as the real one does over gRPC, and publishes
// real manifests.
#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/message_json.h"
#include "common/text.h"
#include "storage/storage_drivers.h"
#include "tests/harness/fake_driver.h"
#include "tests/harness/harness.h"
#include "tests/harness/worker_fixture.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WAIT_MS 15000

static bool on_send(void *context, const Holdfast__V1__ServerMessage *message)
{
    FakeAgent *agent = context;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t size = protobuf_c_message_get_packed_size(&message->base);
    uint8_t *packed = arena_alloc(arena, size + 1);
    protobuf_c_message_pack(&message->base, packed);
    ProtobufCMessage *copy = NULL;
    Error error = {0};
    (void)pthread_mutex_lock(&agent->mutex);
    Status status = message_unpack(agent->arena, &holdfast__v1__server_message__descriptor, packed,
                                   size, &copy, &error);
    if (status == STATUS_OK && agent->inbox_count < ARRAY_COUNT(agent->inbox)) {
        agent->inbox[agent->inbox_count++] = (Holdfast__V1__ServerMessage *)copy;
    }
    if (status == STATUS_OK &&
        message->message_case == HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_LIMITS) {
        agent->limits = *message->limits;
        agent->is_limited = true;
    }
    (void)pthread_cond_broadcast(&agent->received);
    (void)pthread_mutex_unlock(&agent->mutex);
    return status == STATUS_OK;
}

static void on_finish(void *context, Status status, const char *message)
{
    FakeAgent *agent = context;
    (void)status;
    (void)message;
    (void)pthread_mutex_lock(&agent->mutex);
    agent->is_finished = true;
    (void)pthread_cond_broadcast(&agent->received);
    (void)pthread_mutex_unlock(&agent->mutex);
}

FakeAgent *fake_agent_wait(WorkerFixture *fixture)
{
    FakeAgent *agent = mem_alloc(sizeof(*agent));
    agent->fixture = fixture;
    agent->arena = arena_new();
    agent->publish_arena = arena_new();
    (void)pthread_mutex_init(&agent->mutex, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&agent->received, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (!fake_driver_take(fixture->driver, agent->instance_id, agent->join_secret)) {
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("no instance was launched");
        }
        clock_sleep_ms(5);
    }
    return agent;
}

void fake_agent_connect(FakeAgent *agent)
{
    Error error = {0};
    assert_null(agent->session);
    agent->inbox_count = 0;
    agent->is_finished = false;
    agent->is_limited = false;
    assert_ok(agent_session_open(agent->fixture->sessions, on_send, on_finish, agent,
                                 &agent->session, &error),
              &error);
}

void fake_agent_disconnect(FakeAgent *agent)
{
    if (agent->session != NULL) {
        agent_session_close(agent->session);
        agent->session = NULL;
    }
}

void fake_agent_free(FakeAgent *agent)
{
    if (agent == NULL) {
        return;
    }
    fake_agent_disconnect(agent);
    arena_free(agent->arena);
    arena_free(agent->publish_arena);
    (void)pthread_cond_destroy(&agent->received);
    (void)pthread_mutex_destroy(&agent->mutex);
    mem_free(agent);
}

void fake_agent_freep(FakeAgent **agent)
{
    fake_agent_free(*agent);
    *agent = NULL;
}

Status fake_agent_say(FakeAgent *agent, Holdfast__V1__AgentMessage__MessageCase kind,
                      ProtobufCMessage *message, Error *error)
{
    Holdfast__V1__AgentMessage said = HOLDFAST__V1__AGENT_MESSAGE__INIT;
    said.message_case = kind;
    said.progress = (void *)message;
    return agent_session_message(agent->session, &said, error);
}

Status fake_agent_join(FakeAgent *agent, const char *secret, const char *attempt_id, Error *error)
{
    Holdfast__V1__Join join = HOLDFAST__V1__JOIN__INIT;
    join.instance_id = agent->instance_id;
    join.secret = (char *)(uintptr_t)secret;
    join.attempt_id = (char *)(uintptr_t)attempt_id;
    join.agent_version = (char *)(uintptr_t) "test";
    return fake_agent_say(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_JOIN, &join.base, error);
}

static Holdfast__V1__ServerMessage *take(FakeAgent *agent,
                                         Holdfast__V1__ServerMessage__MessageCase kind)
{
    for (size_t i = 0; i < agent->inbox_count; i++) {
        if (agent->inbox[i]->message_case == kind) {
            Holdfast__V1__ServerMessage *message = agent->inbox[i];
            agent->inbox_count -= i + 1;
            memmove(agent->inbox, agent->inbox + i + 1,
                    agent->inbox_count * sizeof(agent->inbox[0]));
            return message;
        }
    }
    return NULL;
}

Holdfast__V1__ServerMessage *fake_agent_receive(FakeAgent *agent,
                                                Holdfast__V1__ServerMessage__MessageCase kind,
                                                int64_t timeout_ms)
{
    Holdfast__V1__ServerMessage *message = NULL;
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (timeout_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&agent->mutex);
    while ((message = take(agent, kind)) == NULL && !agent->is_finished) {
        if (pthread_cond_timedwait(&agent->received, &agent->mutex, &until) != 0) {
            message = take(agent, kind);
            break;
        }
    }
    (void)pthread_mutex_unlock(&agent->mutex);
    return message;
}

bool fake_agent_take_assignment(FakeAgent *agent, int64_t deadline_ms)
{
    while (agent->backup == NULL && agent->restore == NULL) {
        (void)pthread_mutex_lock(&agent->mutex);
        Holdfast__V1__ServerMessage *backup =
            take(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_BACKUP);
        Holdfast__V1__ServerMessage *restore =
            backup != NULL ? NULL : take(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_RESTORE);
        (void)pthread_mutex_unlock(&agent->mutex);
        agent->backup = backup != NULL ? backup->backup : NULL;
        agent->restore = restore != NULL ? restore->restore : NULL;
        if (clock_monotonic_ms() > deadline_ms) {
            return false;
        }
        clock_sleep_ms(2);
    }
    return true;
}

FakeAgent *fake_agent_assigned(WorkerFixture *fixture)
{
    Error error = {0};
    FakeAgent *agent = fake_agent_wait(fixture);
    fake_agent_connect(agent);
    assert_ok(fake_agent_join(agent, agent->join_secret, "", &error), &error);
    Holdfast__V1__ServerMessage *joined =
        fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_JOINED, WAIT_MS);
    assert_non_null(joined);
    (void)snprintf(agent->session_token, sizeof(agent->session_token), "%s",
                   joined->joined->session_token);
    if (!fake_agent_take_assignment(agent, clock_monotonic_ms() + WAIT_MS)) {
        fail_msg("instance %s got no assignment", agent->instance_id);
    }
    return agent;
}

void fake_agent_phase(FakeAgent *agent, Holdfast__V1__Phase phase)
{
    Error error = {0};
    Holdfast__V1__PhaseStarted started = HOLDFAST__V1__PHASE_STARTED__INIT;
    started.phase = phase;
    assert_ok(fake_agent_say(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PHASE_STARTED,
                             &started.base, &error),
              &error);
}

void fake_agent_heartbeat(FakeAgent *agent)
{
    Error error = {0};
    Holdfast__V1__Progress progress = HOLDFAST__V1__PROGRESS__INIT;
    progress.total_bytes = -1;
    progress.memory_bytes = 1 << 20;
    assert_ok(fake_agent_say(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_PROGRESS, &progress.base,
                             &error),
              &error);
}

void fake_agent_ready(FakeAgent *agent)
{
    bool is_seed = agent->backup->parent_manifest_id[0] == '\0';
    fake_agent_phase(agent, is_seed ? HOLDFAST__V1__PHASE__PHASE_SEED
                                    : HOLDFAST__V1__PHASE__PHASE_RESTORE);
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_START);
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_REPLAY);
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_READY);
}

void fake_agent_take_checkpoint(FakeAgent *agent, const char *position)
{
    Error error = {0};
    Holdfast__V1__ServerMessage *order =
        fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_TAKE_CHECKPOINT, WAIT_MS);
    assert_non_null(order);
    assert_true(strlen(order->take_checkpoint->name) > 0 &&
                strlen(order->take_checkpoint->name) < 64);
    Holdfast__V1__CheckpointTaken taken = HOLDFAST__V1__CHECKPOINT_TAKEN__INIT;
    taken.position = (char *)(uintptr_t)position;
    taken.name = order->take_checkpoint->name;
    taken.server_identity = (char *)(uintptr_t) "identity";
    assert_ok(fake_agent_say(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_CHECKPOINT_TAKEN,
                             &taken.base, &error),
              &error);
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_CHECKPOINT);
}

static void write_data(FakeAgent *agent, const char *directory)
{
    CLEANUP_FREE char *path = path_join(directory, "table");
    CLEANUP_FREE char *other = path_join(directory, "other");
    CLEANUP_FREE char *text = string_format("shard %s epoch %lld", agent->backup->shard_name,
                                            (long long)agent->backup->epoch);
    write_file(path, text);
    write_file(other, "the same every time");
}

void fake_agent_publish(FakeAgent *agent, Holdfast__V1__CommitRequest *ret_request)
{
    const Holdfast__V1__BackupAssignment *backup = agent->backup;
    Error error = {0};
    Storage *storage = NULL;
    Repository *repository = NULL;
    Manifest *parent = NULL;
    Manifest *manifest = NULL;
    CLEANUP(temp_dir_removep) char *directory = temp_dir_new();
    CLEANUP(data_key_done)
    DataKey key = {.bytes = secret_from_bytes(backup->repository->data_key.data,
                                              backup->repository->data_key.len)};
    (void)snprintf(key.id, sizeof(key.id), "%s", backup->repository->key_id);
    write_data(agent, directory);
    assert_ok(
        storage_open(&(StorageOptions){.location = backup->repository->location}, &storage, &error),
        &error);
    assert_ok(repository_open(storage, NULL, &repository, &error), &error);
    if (backup->parent_manifest_id[0] != '\0') {
        assert_ok(manifest_read(repository, &key, backup->shard_id, backup->parent_manifest_id,
                                agent->publish_arena, &parent, &error),
                  &error);
        assert_string_equal(parent->digest, backup->parent_manifest_digest);
    }
    struct SourceFile files[] = {{.path = "other", .size_bytes = 19, .mode = 0600},
                                 {.path = "table", .size_bytes = 0, .mode = 0600}};
    CLEANUP_FREE char *table = path_join(directory, "table");
    CLEANUP_FREE char *content = NULL;
    size_t size = 0;
    assert_ok(file_read(table, 4096, &content, &size, &error), &error);
    files[1].size_bytes = (int64_t)size;
    PublishOptions options = {.directory = directory,
                              .files = files,
                              .file_count = 2,
                              .epoch = (uint32_t)backup->epoch,
                              .parent = parent,
                              .manifest = {.database_name = backup->database_name,
                                           .shard_name = backup->shard_name,
                                           .engine = "postgresql",
                                           .engine_version = "15",
                                           .checkpoint = "0/1",
                                           .engine_state = "{}",
                                           .generation = backup->generation},
                              .compression_level = 1};
    memcpy(options.manifest.database_id, backup->database_id, 36);
    memcpy(options.manifest.shard_id, backup->shard_id, 36);
    assert_ok(
        repository_publish(repository, &key, &options, agent->publish_arena, &manifest, &error),
        &error);
    *ret_request = (Holdfast__V1__CommitRequest)HOLDFAST__V1__COMMIT_REQUEST__INIT;
    ret_request->manifest_id = arena_string(agent->publish_arena, manifest->id);
    ret_request->manifest_digest = arena_string(agent->publish_arena, manifest->digest);
    ret_request->size_bytes = manifest->size_bytes;
    ret_request->new_bytes = manifest->new_bytes;
    ret_request->stored_bytes = manifest->stored_bytes;
    ret_request->checkpoint = arena_string(agent->publish_arena, "0/1");
    ret_request->engine_version = arena_string(agent->publish_arena, "15");
    ret_request->parent_restore_ms = 1500;
    ret_request->parent_start_ms = 250;
    ret_request->replay_ms = 100;
    repository_free(repository);
}

bool fake_agent_commit(FakeAgent *agent, Holdfast__V1__CommitRequest *request)
{
    Error error = {0};
    assert_ok(fake_agent_say(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_COMMIT_REQUEST,
                             &request->base, &error),
              &error);
    Holdfast__V1__ServerMessage *reply =
        fake_agent_receive(agent, HOLDFAST__V1__SERVER_MESSAGE__MESSAGE_COMMIT_REPLY, WAIT_MS);
    assert_non_null(reply);
    return reply->commit_reply->is_accepted;
}

void fake_agent_fail(FakeAgent *agent, Reason reason, const char *message)
{
    Error error = {0};
    Holdfast__V1__Failed failed = HOLDFAST__V1__FAILED__INIT;
    failed.reason = (char *)(uintptr_t)reason_slug(reason);
    failed.message = (char *)(uintptr_t)message;
    assert_ok(
        fake_agent_say(agent, HOLDFAST__V1__AGENT_MESSAGE__MESSAGE_FAILED, &failed.base, &error),
        &error);
}

void fake_agent_finish(FakeAgent *agent)
{
    Holdfast__V1__CommitRequest request;
    fake_agent_take_checkpoint(agent, "0/1");
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_STOP);
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_PUBLISH);
    fake_agent_publish(agent, &request);
    fake_agent_phase(agent, HOLDFAST__V1__PHASE__PHASE_COMMIT);
    assert_true(fake_agent_commit(agent, &request));
}
