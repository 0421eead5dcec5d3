// SPDX-License-Identifier: Apache-2.0
// Google Cloud Storage where it is not like other stores, and where it fails. If this goes red, a
// broken connection ends a backup, damage goes unseen, or a failure does not say its cure.
#include "common/clock.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"
#include "storage/storage_gcs.h"
#include "tests/harness/fake_gcs.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1024 * 1024)
#define PIECE (8 * MIB)
#define DEADLINE_MS 30000

typedef struct Fixture {
    Storage *storage;
    Arena *arena;
    Error error;
    uint8_t *data; // LARGE bytes
} Fixture;

#define LARGE (2 * PIECE + 12345)

static FakeGcs *gcs;

static int64_t no_jitter(void *context, int64_t most)
{
    (void)context;
    (void)most;
    return 0;
}

static Storage *open_with(Fixture *fixture, StorageOptions options)
{
    static const StorageHttpHooks hooks = {.random = no_jitter};
    Storage *storage = NULL;
    Secret key = fake_gcs_key(gcs);
    options.endpoint = fake_gcs_url(gcs);
    if (options.credential_source != STORAGE_CREDENTIALS_NONE && options.secret_key == NULL) {
        options.secret_key = &key;
    }
    assert_ok(storage_gcs_new(&options, &hooks, &storage, &fixture->error), &fixture->error);
    secret_done(&key);
    return storage;
}

static int set_up(void **state)
{
    static int number = 0;
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->arena = arena_new();
    fixture->data = mem_alloc(LARGE);
    for (size_t i = 0; i < LARGE; i++) {
        fixture->data[i] = (uint8_t)((i * 2654435761U) >> 13);
    }
    CLEANUP_FREE char *location = string_format("gs://bucket/faults-%d", number++);
    fixture->storage = open_with(fixture, (StorageOptions){.location = location});
    (void)fake_gcs_counts(gcs);
    *state = fixture;
    return 0;
}

// Stalls are cut after a second. A slow server is cut, too: what is asserted must not mind.
static void be_impatient(Fixture *fixture)
{
    CLEANUP_FREE char *location = string_copy(storage_describe(fixture->storage));
    storage_free(fixture->storage);
    fixture->storage =
        open_with(fixture, (StorageOptions){.location = location, .limits.stall_timeout_ms = 1100});
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    storage_free(fixture->storage);
    arena_free(fixture->arena);
    mem_free(fixture->data);
    mem_free(fixture);
    CLEANUP_FREE char *complaint = fake_gcs_complaint(gcs);
    if (complaint != NULL) {
        fail_msg("%s", complaint);
    }
    return 0;
}

static Status put(Fixture *fixture, const char *key, size_t size)
{
    return storage_put(fixture->storage, key, fixture->data, size,
                       &(StorageWriteOptions){.is_create_only = true}, &fixture->error);
}

static Status read_all(Fixture *fixture, const char *key, size_t size)
{
    CLEANUP_FREE uint8_t *data = mem_alloc(size + 1);
    StorageReader *reader = NULL;
    size_t done = 0;
    size_t part = 0;
    RETURN_IF_ERROR(storage_reader_open(fixture->storage, key, 0, -1, &reader, &fixture->error));
    Status status;
    do {
        status = storage_reader_read(reader, data + done, size + 1 - done, &part, &fixture->error);
        done += part;
    } while (status == STATUS_OK && part > 0);
    storage_reader_close(reader);
    if (status == STATUS_OK) {
        assert_int_equal(done, size);
        assert_memory_equal(data, fixture->data, size);
    }
    return status;
}

static void test_large_objects_go_in_pieces(void **state)
{
    Fixture *fixture = *state;
    static const size_t sizes[] = {PIECE, PIECE + 1, 2 * PIECE, LARGE};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        const char *key = arena_format(fixture->arena, "large/%zu", sizes[i]);
        assert_ok(put(fixture, key, sizes[i]), &fixture->error);
        assert_ok(read_all(fixture, key, sizes[i]), &fixture->error);
        assert_error(put(fixture, key, sizes[i]), &fixture->error, REASON_EXISTS,
                     arena_format(fixture->arena, "%s: object '%s' exists already",
                                  storage_describe(fixture->storage), key));
    }
    FakeGcsCounts counts = fake_gcs_counts(gcs);
    assert_int_equal(counts.token_count, 1);
}

static void test_an_upload_goes_on_where_it_broke(void **state)
{
    Fixture *fixture = *state;
    be_impatient(fixture);
    fake_gcs_fail(gcs, FAKE_GCS_STALL, "PUT", "upload_id=", 1);
    assert_ok(put(fixture, "stalled", LARGE), &fixture->error);
    assert_int_equal(fake_gcs_counts(gcs).repeated_bytes, 0); // the half that was kept
    assert_ok(read_all(fixture, "stalled", LARGE), &fixture->error);

    fake_gcs_fail(gcs, FAKE_GCS_HALF, "PUT", "upload_id=", 2);
    fake_gcs_fail(gcs, FAKE_GCS_RESET, "PUT", "upload_id=", 3);
    fake_gcs_fail(gcs, FAKE_GCS_SLOW_DOWN, "PUT", "upload_id=", 3);
    assert_ok(put(fixture, "broken", LARGE), &fixture->error);
    assert_ok(read_all(fixture, "broken", LARGE), &fixture->error);
    (void)fake_gcs_counts(gcs);
}

static void test_our_own_success_is_not_somebody_elses(void **state)
{
    Fixture *fixture = *state;
    fake_gcs_fail(gcs, FAKE_GCS_LOST_REPLY, "POST", "uploadType=multipart", 1);
    assert_ok(put(fixture, "small", 1000), &fixture->error);
    assert_int_equal(put(fixture, "small", 1000), STATUS_ALREADY_EXISTS);
    // Of a large one: the session's, of a piece in the middle, and of the last one.
    fake_gcs_fail(gcs, FAKE_GCS_LOST_REPLY, "POST", "uploadType=resumable", 1);
    fake_gcs_fail(gcs, FAKE_GCS_LOST_REPLY, "PUT", "upload_id=", 1);
    assert_ok(put(fixture, "large", LARGE), &fixture->error);
    StorageWriter *writer = NULL;
    assert_ok(storage_writer_open(fixture->storage, "last", NULL, &writer, &fixture->error),
              &fixture->error);
    assert_ok(storage_writer_write(writer, fixture->data, LARGE, &fixture->error), &fixture->error);
    fake_gcs_fail(gcs, FAKE_GCS_LOST_REPLY, "PUT", "upload_id=", 2); // of the question, too
    assert_ok(storage_writer_commit(writer, &fixture->error), &fixture->error);
    assert_ok(read_all(fixture, "last", LARGE), &fixture->error);
    (void)fake_gcs_counts(gcs);
}

static void test_what_is_at_hand_begins_again(void **state)
{
    Fixture *fixture = *state;
    fake_gcs_fail(gcs, FAKE_GCS_SESSION_GONE, "PUT", "upload_id=", 1);
    assert_ok(put(fixture, "gone", LARGE), &fixture->error);
    fake_gcs_fail(gcs, FAKE_GCS_WRONG_CRC, "POST", "uploadType=multipart", 2);
    assert_ok(put(fixture, "damaged", 1000), &fixture->error);
    assert_ok(read_all(fixture, "damaged", 1000), &fixture->error);
    (void)fake_gcs_counts(gcs);
    // A writer has let go of what was before: the object has to be written anew.
    StorageWriter *writer = NULL;
    assert_ok(storage_writer_open(fixture->storage, "writer", NULL, &writer, &fixture->error),
              &fixture->error);
    fake_gcs_fail(gcs, FAKE_GCS_SESSION_GONE, "PUT", "upload_id=", 1);
    assert_int_equal(storage_writer_write(writer, fixture->data, LARGE, &fixture->error),
                     STATUS_UNAVAILABLE);
    assert_contains(fixture->error.message, "the upload session is gone");
    assert_int_equal(storage_writer_commit(writer, &fixture->error), STATUS_UNAVAILABLE);
}

static void test_damage_on_the_way_is_seen(void **state)
{
    Fixture *fixture = *state;
    StorageObject object;
    fake_gcs_fail(gcs, FAKE_GCS_WRONG_CRC, "POST", "uploadType=multipart", 3);
    assert_int_equal(put(fixture, "up", 1000), STATUS_UNAVAILABLE);
    assert_contains(fixture->error.message, "damaged on the way and removed again");
    assert_int_equal(storage_stat(fixture->storage, "up", &object, &fixture->error),
                     STATUS_NOT_FOUND);
    assert_ok(put(fixture, "up", 1000), &fixture->error);
    fake_gcs_fail(gcs, FAKE_GCS_WRONG_CRC, "GET", "alt=media", 1);
    assert_int_equal(read_all(fixture, "up", 1000), STATUS_DATA_LOSS);
    assert_int_equal(fixture->error.reason, REASON_OBJECT_CORRUPT);
    fake_gcs_fail(gcs, FAKE_GCS_SHORT, "GET", "alt=media", 1);
    assert_int_equal(read_all(fixture, "up", 1000), STATUS_UNAVAILABLE);
    assert_contains(fixture->error.message, "came with fewer bytes than it has");

    assert_ok(put(fixture, "long", LARGE), &fixture->error);
    fake_gcs_fail(gcs, FAKE_GCS_WRONG_CRC, "GET", "alt=media", 1); // the first piece tells it
    assert_int_equal(read_all(fixture, "long", LARGE), STATUS_DATA_LOSS);
    (void)fake_gcs_counts(gcs);
}

static void test_downloads_go_on_where_they_broke(void **state)
{
    Fixture *fixture = *state;
    assert_ok(put(fixture, "read", LARGE), &fixture->error);
    be_impatient(fixture);
    fake_gcs_fail(gcs, FAKE_GCS_HALF, "GET", "alt=media", 2);
    fake_gcs_fail(gcs, FAKE_GCS_STALL, "GET", "alt=media", 1);
    fake_gcs_fail(gcs, FAKE_GCS_SLOW_DOWN, "GET", "alt=media", 3);
    fake_gcs_fail(gcs, FAKE_GCS_RATE_LIMIT, "GET", "alt=media", 2);
    assert_ok(read_all(fixture, "read", LARGE), &fixture->error);
    (void)fake_gcs_counts(gcs);
    StorageReader *reader = NULL;
    fake_gcs_fail(gcs, FAKE_GCS_STALL, "GET", "generation=", 1);
    assert_ok(storage_reader_open(fixture->storage, "read", 5, -1, &reader, &fixture->error),
              &fixture->error);
    int64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
    while (fake_gcs_faults_left(gcs) > 0 && clock_monotonic_ms() < end_ms) {
        clock_sleep_ms(1);
    }
    storage_reader_close(reader); // a fetch is under way, and silent
}

static void test_a_token_that_ends_early_is_replaced(void **state)
{
    Fixture *fixture = *state;
    assert_ok(put(fixture, "token", 10), &fixture->error);
    fake_gcs_fail(gcs, FAKE_GCS_TOKEN_ENDED, "GET", "alt=media", 1);
    assert_ok(read_all(fixture, "token", 10), &fixture->error);
    assert_int_equal(fake_gcs_counts(gcs).token_count, 2);
    fake_gcs_fail(gcs, FAKE_GCS_TOKEN_ENDED, "GET", "alt=media", 2);
    assert_int_equal(read_all(fixture, "token", 10), STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_CREDENTIAL);
    (void)fake_gcs_counts(gcs);
}

static void test_refusals_say_their_cure(void **state)
{
    Fixture *fixture = *state;
    assert_ok(put(fixture, "here", 10), &fixture->error);
    fake_gcs_fail(gcs, FAKE_GCS_FORBIDDEN, "POST", "upload", 1);
    assert_int_equal(put(fixture, "new", 10), STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_ACCESS);
    assert_contains(fixture->error.hint, "roles/storage.objectUser");
    assert_contains(fixture->error.hint, "storage.objects.create");
    fake_gcs_fail(gcs, FAKE_GCS_NO_BUCKET, "GET", "here", 1);
    assert_int_equal(read_all(fixture, "here", 10), STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_BUCKET);
    assert_contains(fixture->error.hint, "gcloud storage buckets create gs://bucket");
    fake_gcs_fail(gcs, FAKE_GCS_SLOW_DOWN, "DELETE", "here", 20);
    assert_int_equal(storage_remove(fixture->storage, "here", &fixture->error), STATUS_UNAVAILABLE);
    assert_contains(fixture->error.message, "asks for fewer requests");
    fake_gcs_fail(gcs, FAKE_GCS_LOCKED, "DELETE", "here", 1);
    assert_int_equal(storage_remove(fixture->storage, "here", &fixture->error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_OBJECT_LOCKED);
    (void)fake_gcs_counts(gcs);
    StorageOptions options = {.location = "gs://bucket",
                              .credential_source = STORAGE_CREDENTIALS_NONE};
    Storage *anonymous = open_with(fixture, options);
    assert_int_equal(storage_remove(anonymous, "here", &fixture->error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_CREDENTIAL);
    storage_free(anonymous);
}

static void test_many_are_removed_and_locked_ones_told(void **state)
{
    Fixture *fixture = *state;
    enum { COUNT = 50 };
    StorageRemoval removals[COUNT] = {0};
    for (size_t i = 0; i < COUNT; i++) {
        removals[i].key = arena_format(fixture->arena, "many/%03zu", i);
        assert_ok(put(fixture, removals[i].key, i), &fixture->error);
    }
    fake_gcs_fail(gcs, FAKE_GCS_LOCKED, "DELETE", "many%2F042", 1);
    fake_gcs_fail(gcs, FAKE_GCS_SLOW_DOWN, "DELETE", "many", 5);
    assert_ok(storage_remove_many(fixture->storage, removals, COUNT, &fixture->error),
              &fixture->error);
    StoragePage page;
    assert_ok(
        storage_list(fixture->storage, "many/", NULL, 1000, fixture->arena, &page, &fixture->error),
        &fixture->error);
    assert_int_equal(page.count, 1);
    assert_string_equal(page.objects[0].key, "many/042");
    assert_int_equal(page.objects[0].size_bytes, 42);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(removals[i].is_locked, i == 42);
    }
    fake_gcs_fail(gcs, FAKE_GCS_FORBIDDEN, "DELETE", "many%2F042", 1);
    assert_int_equal(storage_remove_many(fixture->storage, removals, COUNT, &fixture->error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_ACCESS);
    (void)fake_gcs_counts(gcs);
}

static void test_listing_passes_over_what_is_not_ours(void **state)
{
    Fixture *fixture = *state;
    Storage *above = open_with(fixture, (StorageOptions){.location = "gs://bucket/mixed"});
    Storage *inside = open_with(fixture, (StorageOptions){.location = "gs://bucket/mixed/in"});
    Storage *beside = open_with(fixture, (StorageOptions){.location = "gs://bucket/mixed/inner"});
    const char *text = "x";
    assert_ok(storage_put(beside, "b", text, 1, NULL, &fixture->error), &fixture->error);
    assert_ok(storage_put(inside, "a", text, 1, NULL, &fixture->error), &fixture->error);
    assert_ok(storage_put(above, "in-front", text, 1, NULL, &fixture->error), &fixture->error);
    StoragePage page;
    assert_ok(storage_list(inside, "", NULL, 10, fixture->arena, &page, &fixture->error),
              &fixture->error);
    assert_int_equal(page.count, 1);
    assert_string_equal(page.objects[0].key, "a");
    assert_true(page.objects[0].modified_us > clock_now_us() - INT64_C(3600000000));
    storage_free(above);
    storage_free(inside);
    storage_free(beside);
}

static void test_options_reach_the_store(void **state)
{
    Fixture *fixture = *state;
    Storage *storage =
        open_with(fixture, (StorageOptions){
                               .location = "gs://bucket/options",
                               .storage_class = "NEARLINE",
                               .encryption = STORAGE_ENCRYPTION_KMS,
                               .kms_key_id = "projects/p/locations/eu/keyRings/r/cryptoKeys/k",
                               .lock_mode = STORAGE_LOCK_COMPLIANCE,
                               .lock_duration_s = 7 * 86400,
                           });
    for (int is_large = 0; is_large < 2; is_large++) {
        assert_ok(
            storage_put(storage, "o", fixture->data, is_large ? LARGE : 5, NULL, &fixture->error),
            &fixture->error);
        CLEANUP_FREE char *upload = fake_gcs_last_upload(gcs);
        assert_contains(upload, "\"storageClass\":\"NEARLINE\"");
        assert_contains(
            upload, "&kmsKeyName=projects%2Fp%2Flocations%2Feu%2FkeyRings%2Fr%2FcryptoKeys%2Fk");
        assert_contains(upload, "\"retention\":{\"mode\":\"Locked\",\"retainUntilTime\":\"");
        assert_null(strstr(upload, "ifGenerationMatch"));
    }
    StorageObject object;
    assert_ok(storage_stat(storage, "o", &object, &fixture->error), &fixture->error);
    storage_free(storage);
}

static void test_options_that_do_not_fit_are_refused(void **state)
{
    Fixture *fixture = *state;
    Secret key = secret_from_text("{\"type\":\"service_account\",\"private_key\":\"s3cret\"}");
    Secret word = secret_from_text("w0rd");
    Secret good = fake_gcs_key(gcs);
    const struct {
        StorageOptions options;
        const char *field;
    } cases[] = {
        {{.access_key_id = "id", .secret_key = &good}, "credential"},
        {{.secret_key = &word}, "credential"},
        {{.secret_key = &key}, "credential"},
        {{.credential_source = STORAGE_CREDENTIALS_PROFILE}, "credential_source"},
        {{.encryption = STORAGE_ENCRYPTION_KMS}, "kms_key_id"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        StorageOptions options = cases[i].options;
        Storage *storage = NULL;
        options.location = "gs://bucket";
        assert_int_equal(storage_open(&options, &storage, &fixture->error),
                         STATUS_INVALID_ARGUMENT);
        assert_string_equal(fixture->error.field, cases[i].field);
        assert_true(fixture->error.hint[0] != '\0');
        assert_null(strstr(fixture->error.message, "s3cret"));
        assert_null(strstr(fixture->error.message, "w0rd"));
        error_clear(&fixture->error);
    }
    secret_done(&key);
    secret_done(&word);
    secret_done(&good);
}

static void test_abort_drops_the_session(void **state)
{
    Fixture *fixture = *state;
    StorageWriter *writer = NULL;
    StorageObject object;
    assert_ok(storage_writer_open(fixture->storage, "dropped", NULL, &writer, &fixture->error),
              &fixture->error);
    assert_ok(storage_writer_write(writer, fixture->data, LARGE, &fixture->error), &fixture->error);
    (void)fake_gcs_counts(gcs);
    storage_writer_abort(writer);
    assert_int_equal(fake_gcs_counts(gcs).request_count, 1);
    assert_int_equal(storage_stat(fixture->storage, "dropped", &object, &fixture->error),
                     STATUS_NOT_FOUND);
}

static int start(void **state)
{
    (void)state;
    gcs = fake_gcs_start();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_gcs_stop(gcs);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_large_objects_go_in_pieces),
        TEST(test_an_upload_goes_on_where_it_broke),
        TEST(test_our_own_success_is_not_somebody_elses),
        TEST(test_what_is_at_hand_begins_again),
        TEST(test_damage_on_the_way_is_seen),
        TEST(test_downloads_go_on_where_they_broke),
        TEST(test_a_token_that_ends_early_is_replaced),
        TEST(test_refusals_say_their_cure),
        TEST(test_many_are_removed_and_locked_ones_told),
        TEST(test_listing_passes_over_what_is_not_ours),
        TEST(test_options_reach_the_store),
        TEST(test_options_that_do_not_fit_are_refused),
        TEST(test_abort_drops_the_session),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
