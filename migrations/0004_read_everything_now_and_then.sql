-- SPDX-License-Identifier: Apache-2.0
-- What the recorder of writes says is checked by reading everything: every so many generations, and always for a
-- database where such a check found it wrong.
ALTER TABLE policies ADD COLUMN full_read_every int NOT NULL DEFAULT 10 CHECK (full_read_every BETWEEN 1 AND 1000);
ALTER TABLE databases ADD COLUMN reads_everything boolean NOT NULL DEFAULT false;
ALTER TABLE shard_backups
    ADD COLUMN read_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN unrecorded_bytes bigint NOT NULL DEFAULT 0;
