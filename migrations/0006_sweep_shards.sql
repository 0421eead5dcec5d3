-- SPDX-License-Identifier: Apache-2.0
-- A shard's objects are swept when something of it goes, when an attempt has left something, and once a week: so it
-- must be known when they were. Deleting is retention's work now, one database at a time.

CREATE TABLE shard_sweeps (
    shard_id uuid NOT NULL REFERENCES shards (id),
    repository_id uuid NOT NULL REFERENCES repositories (id),
    -- When the sweep before which nothing is unknown began.
    swept_at timestamptz NOT NULL,
    thorough_at timestamptz NOT NULL,
    -- The store keeps objects locked that are to go: when to try again.
    retry_at timestamptz,
    PRIMARY KEY (shard_id, repository_id)
);

ALTER TABLE repositories ADD COLUMN stale_removed_at timestamptz;

-- What attempts may have left behind.
CREATE INDEX attempts_abandoned ON attempts (shard_id, finished_at) WHERE state IN ('failed', 'canceled', 'lost');

DELETE FROM work_items WHERE kind = 'backup_delete';
INSERT INTO work_items (kind, subject_id)
    SELECT DISTINCT 'retention', database_id FROM backups WHERE state = 'deleting' ON CONFLICT DO NOTHING;
