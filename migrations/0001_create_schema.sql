-- SPDX-License-Identifier: Apache-2.0
-- The first schema: facts (what is and what happened) and work (what is to be done), kept apart.
-- Column names equal the field names of api/holdfast/v1/types.proto, so that rows map to messages by name.

-- Replicas that run, or ran lately.
CREATE TABLE servers (
    id uuid PRIMARY KEY,
    version text NOT NULL,
    agent_address text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now()
);

-- One row: what all replicas share. The certificate is what agents pin.
CREATE TABLE server_identity (
    is_single boolean PRIMARY KEY DEFAULT true CHECK (is_single),
    certificate_pem text NOT NULL,
    key_sealed bytea NOT NULL,
    -- Proves that a replica has the same secret key: sealed zeros.
    key_check bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE credentials (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    username text NOT NULL,
    password_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    etag text NOT NULL
);

CREATE TABLE repositories (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    location text NOT NULL,
    key_file text NOT NULL,
    key_fingerprint text NOT NULL,
    repository_id uuid NOT NULL,
    -- What sweeps have freed: stored_bytes is the sum of what shard backups stored less this.
    removed_bytes bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    etag text NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX repositories_name ON repositories (name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX repositories_location ON repositories (location) WHERE deleted_at IS NULL;

CREATE TABLE databases (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    engine text NOT NULL CHECK (engine IN ('mariadb', 'mysql', 'postgresql')),
    description text NOT NULL DEFAULT '',
    recovery_point_objective interval NOT NULL DEFAULT '24 hours',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    etag text NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX databases_name ON databases (name) WHERE deleted_at IS NULL;

CREATE TABLE shards (
    id uuid PRIMARY KEY,
    database_id uuid NOT NULL REFERENCES databases (id),
    name text NOT NULL,
    source_host text NOT NULL,
    source_port int NOT NULL,
    -- Only a deleted shard may have lost its credential.
    source_credential_id uuid REFERENCES credentials (id),
    source_tls_mode text NOT NULL DEFAULT 'prefer',
    source_tls_ca text NOT NULL DEFAULT '',
    placement_provider text NOT NULL DEFAULT 'local',
    placement_region text NOT NULL DEFAULT '',
    placement_zone text NOT NULL DEFAULT '',
    -- The fencing number of the newest attempt: only that attempt can commit.
    epoch bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    etag text NOT NULL,
    deleted_at timestamptz,
    CHECK (source_credential_id IS NOT NULL OR deleted_at IS NOT NULL)
);
CREATE INDEX shards_by_credential ON shards (source_credential_id);
CREATE UNIQUE INDEX shards_name ON shards (database_id, name) WHERE deleted_at IS NULL;

CREATE TABLE policies (
    id uuid PRIMARY KEY,
    database_id uuid NOT NULL REFERENCES databases (id),
    name text NOT NULL,
    schedule text NOT NULL,
    time_zone text NOT NULL DEFAULT 'UTC',
    repository_id uuid NOT NULL REFERENCES repositories (id),
    keep_last int NOT NULL DEFAULT 0 CHECK (keep_last >= 0),
    keep_for interval NOT NULL DEFAULT '0',
    is_paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    etag text NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX policies_name ON policies (database_id, name) WHERE deleted_at IS NULL;

-- Work: when a policy fires next. Claimed in batches; the next slot is computed from the slot, never from now.
CREATE TABLE policy_due (
    policy_id uuid PRIMARY KEY REFERENCES policies (id),
    next_at timestamptz NOT NULL
);
CREATE INDEX policy_due_next ON policy_due (next_at);

CREATE TABLE backups (
    id uuid PRIMARY KEY,
    database_id uuid NOT NULL REFERENCES databases (id),
    repository_id uuid NOT NULL REFERENCES repositories (id),
    policy_id uuid REFERENCES policies (id),
    trigger text NOT NULL CHECK (trigger IN ('manual', 'policy')),
    state text NOT NULL
        CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'canceled', 'deleting', 'deleted')),
    slot_at timestamptz,
    is_seed boolean NOT NULL DEFAULT false,
    note text NOT NULL DEFAULT '',
    -- waiting: shards get ready; taking: agents were told to take their positions; taken: all did.
    barrier text NOT NULL DEFAULT 'waiting' CHECK (barrier IN ('waiting', 'taking', 'taken')),
    barrier_at timestamptz,
    checkpoint_at timestamptz,
    checkpoint_skew interval,
    cancel_requested_at timestamptz,
    set_written_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT ''
);
-- A slot fires once, whatever the number of replicas and restarts.
CREATE UNIQUE INDEX backups_slot ON backups (policy_id, slot_at) WHERE slot_at IS NOT NULL;
-- Overlap is refused.
CREATE UNIQUE INDEX backups_one_running ON backups (database_id) WHERE state IN ('pending', 'running');
CREATE INDEX backups_by_database ON backups (database_id, created_at DESC, id DESC);
CREATE INDEX backups_by_time ON backups (created_at DESC, id DESC);

-- Slots that did not start a backup, and why: nothing is skipped silently.
CREATE TABLE policy_slots (
    policy_id uuid NOT NULL REFERENCES policies (id),
    slot_at timestamptz NOT NULL,
    -- fired, collapsed (missed, made up by a later one), refused (a backup was running), failed
    outcome text NOT NULL CHECK (outcome IN ('fired', 'collapsed', 'refused', 'failed')),
    backup_id uuid REFERENCES backups (id),
    message text NOT NULL DEFAULT '',
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (policy_id, slot_at)
);

CREATE TABLE shard_backups (
    id uuid PRIMARY KEY,
    backup_id uuid NOT NULL REFERENCES backups (id),
    shard_id uuid NOT NULL REFERENCES shards (id),
    state text NOT NULL CHECK (state IN ('pending', 'running', 'committed', 'failed', 'canceled')),
    parent_id uuid REFERENCES shard_backups (id),
    generation int NOT NULL DEFAULT 0,
    seed_reason text NOT NULL DEFAULT '',
    attempt_count int NOT NULL DEFAULT 0,
    checkpoint text NOT NULL DEFAULT '',
    checkpoint_at timestamptz,
    manifest_id text NOT NULL DEFAULT '',
    manifest_digest text NOT NULL DEFAULT '',
    engine_version text NOT NULL DEFAULT '',
    size_bytes bigint NOT NULL DEFAULT 0,
    new_bytes bigint NOT NULL DEFAULT 0,
    stored_bytes bigint NOT NULL DEFAULT 0,
    received_bytes bigint NOT NULL DEFAULT 0,
    pages_checked bigint NOT NULL DEFAULT 0,
    parent_restore_time interval,
    parent_start_time interval,
    replay_time interval,
    -- A parent that failed to restore is not tried again as a parent.
    is_unrestorable boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    UNIQUE (backup_id, shard_id)
);
CREATE INDEX shard_backups_by_shard ON shard_backups (shard_id, created_at DESC) WHERE state = 'committed';

-- One throw-away machine, from intent (written before the provisioner is called) to observed destruction.
CREATE TABLE instances (
    id uuid PRIMARY KEY,
    provider text NOT NULL,
    provider_id text NOT NULL DEFAULT '',
    state text NOT NULL CHECK (state IN ('intended', 'launched', 'joined', 'destroying', 'destroyed')),
    purpose text NOT NULL CHECK (purpose IN ('backup', 'restore')),
    database_id uuid NOT NULL REFERENCES databases (id),
    shard_id uuid NOT NULL REFERENCES shards (id),
    backup_id uuid REFERENCES backups (id),
    subject_id uuid NOT NULL,
    -- SHA-256 of the single-use join secret, then of the session token that replaced it.
    join_secret_hash bytea,
    session_token_hash bytea,
    -- The replica that holds its stream.
    server_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    launched_at timestamptz,
    joined_at timestamptz,
    last_seen_at timestamptz,
    destroy_requested_at timestamptz,
    destroyed_at timestamptz,
    memory_bytes bigint NOT NULL DEFAULT 0,
    message text NOT NULL DEFAULT ''
);
CREATE INDEX instances_alive ON instances (created_at) WHERE state <> 'destroyed';
CREATE INDEX instances_by_subject ON instances (subject_id);

CREATE TABLE attempts (
    id uuid PRIMARY KEY,
    shard_backup_id uuid NOT NULL REFERENCES shard_backups (id),
    shard_id uuid NOT NULL REFERENCES shards (id),
    epoch bigint NOT NULL,
    instance_id uuid NOT NULL REFERENCES instances (id),
    state text NOT NULL CHECK (state IN ('running', 'committed', 'failed', 'canceled', 'lost')),
    is_seed boolean NOT NULL,
    parent_id uuid REFERENCES shard_backups (id),
    phase text NOT NULL DEFAULT 'launch'
        CHECK (phase IN ('launch', 'seed', 'restore', 'start', 'replay', 'ready', 'checkpoint', 'stop', 'publish',
                         'commit', 'destroy')),
    done_bytes bigint NOT NULL DEFAULT 0,
    total_bytes bigint NOT NULL DEFAULT -1,
    received_bytes bigint NOT NULL DEFAULT 0,
    rate_bytes_per_second bigint NOT NULL DEFAULT 0,
    position text NOT NULL DEFAULT '',
    progress_at timestamptz,
    ready_at timestamptz,
    -- The checkpoint: asked for, and what came back.
    checkpoint_sent_at timestamptz,
    checkpoint_received_at timestamptz,
    checkpoint_position text NOT NULL DEFAULT '',
    checkpoint_name text NOT NULL DEFAULT '',
    checkpoint_server_identity text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    UNIQUE (shard_id, epoch)
);
CREATE INDEX attempts_by_shard_backup ON attempts (shard_backup_id);
CREATE UNIQUE INDEX attempts_one_running ON attempts (shard_id) WHERE state = 'running';

CREATE TABLE attempt_phases (
    attempt_id uuid NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
    phase text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    done_bytes bigint NOT NULL DEFAULT 0,
    total_bytes bigint NOT NULL DEFAULT -1,
    PRIMARY KEY (attempt_id, phase)
);

CREATE TABLE restores (
    id uuid PRIMARY KEY,
    database_id uuid NOT NULL REFERENCES databases (id),
    backup_id uuid NOT NULL REFERENCES backups (id),
    mode text NOT NULL CHECK (mode IN ('directory', 'server')),
    state text NOT NULL CHECK (state IN ('pending', 'running', 'serving', 'succeeded', 'failed', 'canceled')),
    directory text NOT NULL,
    first_port int NOT NULL DEFAULT 0,
    stop_requested_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT ''
);
CREATE INDEX restores_by_time ON restores (created_at DESC, id DESC);

CREATE TABLE restore_shards (
    id uuid PRIMARY KEY,
    restore_id uuid NOT NULL REFERENCES restores (id) ON DELETE CASCADE,
    shard_id uuid NOT NULL REFERENCES shards (id),
    shard_backup_id uuid NOT NULL REFERENCES shard_backups (id),
    state text NOT NULL CHECK (state IN ('pending', 'running', 'serving', 'succeeded', 'failed', 'canceled')),
    directory text NOT NULL,
    port int NOT NULL DEFAULT 0,
    instance_id uuid REFERENCES instances (id),
    done_bytes bigint NOT NULL DEFAULT 0,
    total_bytes bigint NOT NULL DEFAULT -1,
    restore_time interval,
    start_time interval,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    UNIQUE (restore_id, shard_id)
);

CREATE INDEX restore_shards_by_shard ON restore_shards (shard_id);

CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time timestamptz NOT NULL DEFAULT clock_timestamp(),
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
    kind text NOT NULL,
    database text NOT NULL DEFAULT '',
    backup_id text NOT NULL DEFAULT '',
    shard text NOT NULL DEFAULT '',
    subject_id text NOT NULL DEFAULT '',
    message text NOT NULL
);

-- Work: a narrow table that stays small. Claimed in batches with SKIP LOCKED under a lease, deleted when done.
CREATE TABLE work_items (
    kind text NOT NULL,
    subject_id uuid NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    lease_owner uuid,
    tries int NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, subject_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
CREATE INDEX work_items_due ON work_items (due_at);

CREATE TABLE idempotency_keys (
    token_id uuid NOT NULL,
    key text NOT NULL,
    method text NOT NULL,
    request_hash bytea NOT NULL,
    -- Who answers: a claim that was left behind is taken over under a new one, and the old one can no longer answer.
    claim_id uuid NOT NULL,
    -- NULL while the first call is under way; set in the transaction of the call's effect.
    response bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (token_id, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
