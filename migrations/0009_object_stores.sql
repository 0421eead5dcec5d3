-- SPDX-License-Identifier: Apache-2.0
-- Repositories in object stores: how the store is used, as the API's JSON without the credential, which is a reference.
ALTER TABLE repositories
    ADD COLUMN object_store jsonb,
    ADD COLUMN credential_id uuid REFERENCES credentials (id);
CREATE INDEX repositories_by_credential ON repositories (credential_id);
-- Two stores may have buckets of one name.
DROP INDEX repositories_location;
CREATE UNIQUE INDEX repositories_location ON repositories (location, coalesce(object_store ->> 'endpoint', ''))
    WHERE deleted_at IS NULL;
