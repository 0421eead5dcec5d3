-- SPDX-License-Identifier: Apache-2.0
-- What ended backups have stored is summed when they end, so that looking at a repository does not add up
-- the shard backups of all times. stored_bytes is this, and what running backups stored, less removed_bytes.
ALTER TABLE repositories ADD COLUMN added_bytes bigint NOT NULL DEFAULT 0;
UPDATE repositories r SET added_bytes = coalesce((SELECT sum(sb.stored_bytes) FROM backups b
    JOIN shard_backups sb ON sb.backup_id = b.id WHERE b.repository_id = r.id AND sb.state = 'committed'
    AND b.state NOT IN ('pending', 'running')), 0);
