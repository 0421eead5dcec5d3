-- SPDX-License-Identifier: Apache-2.0
-- What a backup has is summed in its row when it ends, so that looking at what a repository holds does not add up shard
-- backups: the size of a succeeded one, and what it stored. And what looking into one repository needs.
ALTER TABLE backups
    ADD COLUMN size_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN stored_bytes bigint NOT NULL DEFAULT 0;
UPDATE backups b SET size_bytes = sums.size_bytes, stored_bytes = sums.stored_bytes
    FROM (SELECT sb.backup_id, sum(sb.size_bytes) AS size_bytes, sum(sb.stored_bytes) AS stored_bytes
        FROM shard_backups sb WHERE sb.state = 'committed' GROUP BY sb.backup_id) sums
    WHERE sums.backup_id = b.id AND b.state NOT IN ('pending', 'running', 'deleted');
CREATE INDEX backups_in_repository ON backups (repository_id, database_id) WHERE state <> 'deleted';
CREATE INDEX backups_by_repository ON backups (repository_id, created_at DESC, id DESC);

-- Whether a shard backup was one of those that read everything.
ALTER TABLE shard_backups ADD COLUMN reads_everything boolean NOT NULL DEFAULT false;
UPDATE shard_backups SET reads_everything = true WHERE state = 'committed' AND generation = 0;
