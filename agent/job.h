// SPDX-License-Identifier: Apache-2.0
// What an instance does in its life: one backup of one shard, or one restore of one shard. Runs on
// the main thread, because the kernel ties an engine's life to the thread that started it
// (PR_SET_PDEATHSIG).
#pragma once

#include "agent/agent_state.h"
#include "agent/data_directory.h"
#include "agent/instance.h"
#include "repository/repository.h"

typedef struct Job {
    AgentState *state;
    const Instance *instance;
    const char *program_directory; // where to look for engines first, or NULL
    const DataDirectoryProvider *provider;
} Job;

// Each tells the server of its failure itself, then stops the engine and cleans up. CANCELED when
// the agent was stopped; LEASE_LOST when the commit was refused.
Status job_backup_run(const Job *job, const Holdfast__V1__BackupAssignment *assignment,
                      Error *error);
Status job_restore_run(const Job *job, const Holdfast__V1__RestoreAssignment *assignment,
                       Error *error);

// --- shared by both
// ---------------------------------------------------------------------------------------------
typedef struct JobRepository {
    Repository *repository;
    DataKey key;
} JobRepository;
// Its transfers are cut when the agent is stopped.
Status job_repository_open(const Job *job, const Holdfast__V1__RepositoryAccess *access,
                           JobRepository *ret_repository, Error *error);
void job_repository_done(JobRepository *repository);
// Reads a manifest and compares its digest with the one that the server recorded ("": none).
Status job_manifest_read(const JobRepository *repository, const char *shard_id,
                         const char *manifest_id, const char *digest, Arena *arena,
                         Manifest **ret_manifest, Error *error);
// For the engine's buffers: what the limits say, else what the assignment does.
int64_t job_engine_memory_bytes(const Job *job, int64_t assigned_bytes);
Progress job_progress(const Job *job); // reports bytes, and cancels when the agent is stopped
const char *job_engine_name(Holdfast__V1__Engine engine); // "mariadb"; "" when unknown
// REASON_CANCELED once the agent is stopped.
Status job_check_canceled(const Job *job, Error *error);
// Tells the server, unless the agent is stopping and nobody wants to know.
void job_failed(const Job *job, const Error *error);
