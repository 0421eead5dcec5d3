-- SPDX-License-Identifier: Apache-2.0
-- A restore whose instance is lost is tried again on another one. instance_id is the fence: only what that
-- instance says counts.
ALTER TABLE restore_shards
    ADD COLUMN attempt_count int NOT NULL DEFAULT 0,
    ADD COLUMN retry_at timestamptz;
