// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/service_case.h"

void make_repository(ServiceFixture *fixture, const char *name)
{
    const char *request = arena_format(
        fixture->arena,
        "{\"repository\":{\"name\":\"%s\",\"location\":\"file://%s/%d-%s\",\"key_file\":"
        "\"%s/%d-%s.key\"},\"create_key_file\":true}",
        name, fixture->directory, fixture->database_count, name, fixture->directory,
        fixture->database_count, name);
    CALL("CreateRepository", request);
}

void make_database(ServiceFixture *fixture)
{
    CALL("CreateCredential", CREDENTIAL);
    CALL("CreateDatabase", DATABASE);
    make_repository(fixture, "main");
}

void finish_backup(ServiceFixture *fixture, const char *id, const char *state)
{
    bool is_good = text_equal(state, "succeeded");
    const char *sql = arena_format(
        fixture->arena,
        "UPDATE shard_backups SET state = '%s', size_bytes = 1000, new_bytes = 100, "
        "stored_bytes = 50, received_bytes = 10, finished_at = now(), "
        "parent_restore_time = CASE WHEN parent_id IS NOT NULL THEN interval '3 s' END, "
        "parent_start_time = CASE WHEN parent_id IS NOT NULL THEN interval '2 s' END "
        "WHERE backup_id = '%s'; UPDATE backups SET state = '%s', started_at = now(), "
        "finished_at = now(), checkpoint_at = now(), message = '%s' WHERE id = '%s'; "
        "UPDATE backups b SET size_bytes = s.size_bytes, stored_bytes = s.stored_bytes FROM "
        "(SELECT coalesce(sum(size_bytes), 0) AS size_bytes, coalesce(sum(stored_bytes), 0) AS "
        "stored_bytes FROM shard_backups WHERE backup_id = '%s' AND state = 'committed') s "
        "WHERE b.id = '%s'; "
        "UPDATE repositories r SET added_bytes = added_bytes + (SELECT coalesce(sum(stored_bytes), 0) "
        "FROM shard_backups WHERE backup_id = b.id AND state = 'committed') FROM backups b "
        "WHERE b.id = '%s' AND r.id = b.repository_id; DELETE FROM work_items; SELECT 1",
        is_good ? "committed" : "failed", id, state, is_good ? "" : "it broke", id, id, id, id);
    CLEANUP_FREE char *result = service_fixture_sql(fixture, sql);
}

const char *start_backup(ServiceFixture *fixture)
{
    return json_get_text(CALL("StartBackup", "{\"database\":\"shop\",\"repository\":\"main\"}"),
                         "id", NULL);
}

const char *text_with(ServiceFixture *fixture, const char *text, const char *value)
{
    const char *place = strstr(text, "%s");
    assert_non_null(place);
    return arena_format(fixture->arena, "%.*s%s%s", (int)(place - text), text, value, place + 2);
}
