-- SPDX-License-Identifier: Apache-2.0
-- What all instances together may use of bandwidth, whichever server they speak with: one row. 0: no limit.
CREATE TABLE fleet_limits (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    upload_bytes_per_second bigint NOT NULL DEFAULT 0,
    download_bytes_per_second bigint NOT NULL DEFAULT 0,
    etag text NOT NULL
);
INSERT INTO fleet_limits (etag) VALUES ('0000000000000001');
