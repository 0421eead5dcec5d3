-- SPDX-License-Identifier: Apache-2.0
-- What runs may use of bandwidth, processors and memory: the API's JSON without what is 0. NULL: no limits. They are
-- read again and again while something runs, so that a change takes effect at once.
ALTER TABLE policies ADD COLUMN limits jsonb;
ALTER TABLE backups ADD COLUMN limits jsonb;
ALTER TABLE restores ADD COLUMN limits jsonb;
ALTER TABLE repositories ADD COLUMN limits jsonb;
