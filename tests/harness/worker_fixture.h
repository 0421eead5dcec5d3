// SPDX-License-Identifier: Apache-2.0
// A worker and agent sessions on a real PostgreSQL and a real repository; instances and their
// agents are played by the test.
#pragma once

#include "provisioner/compute_driver.h"
#include "server/service/agent_sessions.h"
#include "server/worker/worker.h"
#include "tests/harness/service_fixture.h"

#define WORKER_FIXTURE_SERVER_ID "01890000-0000-7000-8000-00000000000b"

typedef struct FakeDriver FakeDriver;

typedef struct WorkerFixture {
    ServiceFixture *base;
    RepositoryCache *repositories;
    AgentSessions *sessions;
    Provisioner *provisioner;
    FakeDriver *driver; // owned by the provisioner
    Worker *worker;     // NULL: not started
    WorkerOptions options;
    char *repository_directory;
    char *driver_path; // the driver's memory
} WorkerFixture;

// On a fixture that service_fixture_setup has prepared. Makes credential "source", repository
// "main" and database "shop" (postgresql) with `shard_count` shards "0", "1" ...
WorkerFixture *worker_fixture_new(ServiceFixture *base, int shard_count);
void worker_fixture_free(WorkerFixture *fixture); // stops the worker
// What a worker of the fixture is started with, but for its store, provisioner and repositories.
WorkerOptions worker_fixture_options(const Secret *secret_key);
void worker_fixture_start(WorkerFixture *fixture);
void worker_fixture_stop(WorkerFixture *fixture);

// --- the provider ---
void fake_driver_drop(FakeDriver *driver, const char *instance_id); // disappears by itself
void fake_driver_add(FakeDriver *driver, const char *instance_id);  // something nobody asked for
size_t fake_driver_count(FakeDriver *driver);
size_t fake_driver_launches(FakeDriver *driver);               // instances, ever
size_t fake_driver_terminations(FakeDriver *driver);           // calls so far
void fake_driver_fail_launches(FakeDriver *driver, int count); // the next ones fail

// --- an agent ---
typedef struct FakeAgent {
    WorkerFixture *fixture;
    AgentSession *session;
    char instance_id[37], join_secret[80], session_token[80];
    Arena *arena; // of what it received; guarded by the mutex
    Arena *publish_arena;
    pthread_mutex_t mutex;
    pthread_cond_t received;
    Holdfast__V1__ServerMessage *inbox[64];
    size_t inbox_count;
    Holdfast__V1__ResourceLimits limits; // told last on this stream
    bool is_limited;                     // it was told any
    bool is_finished;
    Holdfast__V1__BackupAssignment *backup;
    Holdfast__V1__RestoreAssignment *restore;
    int published; // files grow with each publish
} FakeAgent;

// Waits for an instance that was launched and that no agent plays yet; not joined.
FakeAgent *fake_agent_wait(WorkerFixture *fixture);
void fake_agent_free(FakeAgent *agent);
void fake_agent_freep(FakeAgent **agent);
void fake_agent_connect(FakeAgent *agent); // a new stream
void fake_agent_disconnect(FakeAgent *agent);
Status fake_agent_join(FakeAgent *agent, const char *secret, const char *attempt_id, Error *error);
Status fake_agent_say(FakeAgent *agent, Holdfast__V1__AgentMessage__MessageCase kind,
                      ProtobufCMessage *message, Error *error);
// Waits for a message of this kind; earlier ones of others are dropped. NULL: none came in
// timeout_ms.
Holdfast__V1__ServerMessage *fake_agent_receive(FakeAgent *agent,
                                                Holdfast__V1__ServerMessage__MessageCase kind,
                                                int64_t timeout_ms);
// Waits for the assignment of one that has joined. False: none came.
bool fake_agent_take_assignment(FakeAgent *agent, int64_t deadline_ms);
// Connects, joins and takes its assignment.
FakeAgent *fake_agent_assigned(WorkerFixture *fixture);
void fake_agent_phase(FakeAgent *agent, Holdfast__V1__Phase phase);
void fake_agent_heartbeat(FakeAgent *agent);
void fake_agent_ready(FakeAgent *agent);                                 // through the phases
void fake_agent_take_checkpoint(FakeAgent *agent, const char *position); // waits for the order
// Publishes a real manifest and fills the request; texts in its publish arena.
void fake_agent_publish(FakeAgent *agent, Holdfast__V1__CommitRequest *ret_request);
bool fake_agent_commit(FakeAgent *agent, Holdfast__V1__CommitRequest *request); // was it accepted?
void fake_agent_fail(FakeAgent *agent, Reason reason, const char *message);
// From ready to committed.
void fake_agent_finish(FakeAgent *agent);

// --- the test's view ---
// Polls until the SQL's number is `wanted`; fails after 20 s.
void worker_fixture_wait(WorkerFixture *fixture, const char *sql, int64_t wanted);
char *worker_fixture_start_backup(WorkerFixture *fixture); // its id, malloc'd
char *worker_fixture_backup_state(WorkerFixture *fixture, const char *backup_id); // once it is over
