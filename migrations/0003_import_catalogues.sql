-- SPDX-License-Identifier: Apache-2.0
-- What was found in a repository without its server: shards that have no source until one is given. And the wrapping
-- key that a rotation has not struck off yet.

ALTER TABLE shards DROP CONSTRAINT shards_check;
-- Only a deleted shard may have lost its credential, and only an imported one has never had a source.
ALTER TABLE shards
    ADD CONSTRAINT shards_source_check
    CHECK (source_credential_id IS NOT NULL OR deleted_at IS NOT NULL OR source_host = '');

ALTER TABLE repositories ADD COLUMN previous_key_file text NOT NULL DEFAULT '';
