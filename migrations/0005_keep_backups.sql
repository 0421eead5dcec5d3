-- SPDX-License-Identifier: Apache-2.0
-- More reasons to keep a backup: the newest of each hour, day, week, month and year; pins; legal holds. And the indexes
-- that retention needs when a database has ten thousand backups.

ALTER TABLE policies
    ADD COLUMN keep_hourly int NOT NULL DEFAULT 0 CHECK (keep_hourly >= 0),
    ADD COLUMN keep_daily int NOT NULL DEFAULT 0 CHECK (keep_daily >= 0),
    ADD COLUMN keep_weekly int NOT NULL DEFAULT 0 CHECK (keep_weekly >= 0),
    ADD COLUMN keep_monthly int NOT NULL DEFAULT 0 CHECK (keep_monthly >= 0),
    ADD COLUMN keep_yearly int NOT NULL DEFAULT 0 CHECK (keep_yearly >= 0);

ALTER TABLE backups
    ADD COLUMN pinned_at timestamptz,
    -- NULL: until it is unpinned.
    ADD COLUMN pinned_until timestamptz,
    ADD COLUMN pin_note text NOT NULL DEFAULT '',
    ADD COLUMN held_at timestamptz,
    ADD COLUMN hold_note text NOT NULL DEFAULT '',
    -- A held backup is never deleted, whatever asks for it.
    ADD CHECK (held_at IS NULL OR state NOT IN ('deleting', 'deleted'));

-- What retention decides over; deleted backups are many and need no look.
CREATE INDEX backups_retained ON backups (database_id, created_at DESC, id DESC)
    WHERE state IN ('succeeded', 'failed', 'canceled');
CREATE INDEX backups_deleting ON backups (database_id, repository_id) WHERE state = 'deleting';
CREATE INDEX backups_by_place ON backups (database_id, repository_id);
-- Who reads a backup just now.
CREATE INDEX shard_backups_active ON shard_backups (shard_id) WHERE state IN ('pending', 'running');
CREATE INDEX restores_active ON restores (backup_id) WHERE state IN ('pending', 'running');
