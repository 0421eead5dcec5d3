// SPDX-License-Identifier: Apache-2.0
// Red when the S3 driver takes a lost answer for a failure or a failure for an answer, names a
// failure wrongly, or sends something else than its options say. The store is played, so that it
// can misbehave; real ones are in the conformance suite.
#include "common/buffer.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"
#include "tests/harness/fake_http.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define TOKEN_HEADER "x-amz-meta-holdfast-write"
#define PART_SIZE ((size_t)16 * 1024 * 1024)

typedef enum Act { ANSWER, DROP, STALL, ANSWER_TOKEN } Act;

// The first rule that fits and is not used up answers.
typedef struct Rule {
    const char *method, *part_of_target;
    int times; // 0: any number
    int status;
    const char *headers, *body;
    Act act;
} Rule;

typedef struct Fixture {
    FakeHttp *server;
    Storage *storage;
    Error error;
    Secret secret;
    const Rule *rules;
    size_t rule_count;
    int used[16];
    pthread_mutex_t mutex; // guards what follows
    Buffer log;            // "METHOD target\n" of every request
    Buffer headers;        // of the last PUT, or POST that begins an upload
    char token[64];        // of the last write
} Fixture;

static const Rule *find_rule(Fixture *fixture, const FakeHttpRequest *request)
{
    for (size_t i = 0; i < fixture->rule_count; i++) {
        const Rule *rule = &fixture->rules[i];
        if (text_equal(rule->method, request->method) &&
            strstr(request->target, rule->part_of_target) != NULL &&
            (rule->times == 0 || fixture->used[i] < rule->times)) {
            fixture->used[i]++;
            return rule;
        }
    }
    return NULL;
}

static void wait_until_cut(const FakeHttpRequest *request)
{
    char byte;
    while (!fake_http_is_stopping(request->server) && recv(request->fd, &byte, 1, 0) > 0) {
    }
}

static bool on_request(void *context, const FakeHttpRequest *request)
{
    static const Rule unexpected = {.status = 418, .body = ""};
    Fixture *fixture = context;
    (void)pthread_mutex_lock(&fixture->mutex);
    (void)buffer_append_format(&fixture->log, "%s %s\n", request->method, request->target);
    CLEANUP_FREE char *token = fake_http_header(request, TOKEN_HEADER);
    if (token != NULL) {
        (void)snprintf(fixture->token, sizeof(fixture->token), "%s", token);
        buffer_clear(&fixture->headers);
        (void)buffer_append_text(&fixture->headers, request->headers);
    }
    const Rule *rule = find_rule(fixture, request);
    rule = rule == NULL ? &unexpected : rule;
    CLEANUP_FREE char *headers = rule->act == ANSWER_TOKEN
                                     ? string_format(TOKEN_HEADER ": %s\r\n", fixture->token)
                                     : string_copy(rule->headers);
    (void)pthread_mutex_unlock(&fixture->mutex);
    if (rule->act == STALL) {
        wait_until_cut(request);
    }
    if (rule->act == STALL || rule->act == DROP) {
        return false;
    }
    const char *body = rule->body == NULL ? "" : rule->body;
    return fake_http_answer(request, rule->status, headers, body, strlen(body));
}

static void open_with(Fixture *fixture, StorageOptions options)
{
    options.location = "s3://bucket/some/prefix";
    options.endpoint = options.endpoint != NULL ? options.endpoint : fake_http_url(fixture->server);
    options.region = "eu-west-1";
    options.is_path_style = true;
    options.access_key_id = "AKIATEST";
    options.secret_key = &fixture->secret;
    options.limits.stall_timeout_ms = 1100;
    storage_free(fixture->storage);
    fixture->storage = NULL;
    assert_ok(storage_open(&options, &fixture->storage, &fixture->error), &fixture->error);
}

static int set_up(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    (void)pthread_mutex_init(&fixture->mutex, NULL);
    buffer_init(&fixture->log, 1 << 20);
    buffer_init(&fixture->headers, 1 << 20);
    fixture->secret = secret_from_text("very-secret");
    fixture->server = fake_http_start(on_request, fixture);
    open_with(fixture, (StorageOptions){0});
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    storage_free(fixture->storage);
    fake_http_stop(fixture->server);
    secret_done(&fixture->secret);
    buffer_done(&fixture->log);
    buffer_done(&fixture->headers);
    (void)pthread_mutex_destroy(&fixture->mutex);
    mem_free(fixture);
    return 0;
}

static void play(Fixture *fixture, const Rule *rules, size_t count)
{
    fixture->rules = rules;
    fixture->rule_count = count;
    memset(fixture->used, 0, sizeof(fixture->used));
    buffer_clear(&fixture->log);
}

#define PLAY(fixture, ...)                                                                         \
    do {                                                                                           \
        static const Rule rules_[] = {__VA_ARGS__};                                                \
        play((fixture), rules_, ARRAY_COUNT(rules_));                                              \
    } while (0)

static Status create(Fixture *fixture)
{
    return storage_put(fixture->storage, "k", "v", 1,
                       &(StorageWriteOptions){.is_create_only = true}, &fixture->error);
}

static int log_count(const Fixture *fixture, const char *part)
{
    int count = 0;
    for (const char *at = strstr(buffer_text(&fixture->log), part); at != NULL;
         at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

static void test_a_lost_answer_of_our_own_create_is_no_conflict(void **state)
{
    Fixture *fixture = *state;
    PLAY(fixture, {.method = "PUT", .part_of_target = "/k", .times = 1, .act = DROP},
         {.method = "PUT", .part_of_target = "/k", .status = 412},
         {.method = "HEAD", .part_of_target = "/k", .status = 200, .act = ANSWER_TOKEN});
    assert_ok(create(fixture), &fixture->error);
    assert_int_equal(log_count(fixture, "PUT /bucket/some/prefix/k\n"), 2);
    PLAY(fixture, {.method = "PUT", .part_of_target = "/k", .times = 1, .act = DROP},
         {.method = "PUT", .part_of_target = "/k", .status = 412},
         {.method = "HEAD",
          .part_of_target = "/k",
          .status = 200,
          .headers = TOKEN_HEADER ": of-somebody-else\r\n"});
    assert_int_equal(create(fixture), STATUS_ALREADY_EXISTS);
    // A conflict of two creations at the same moment is tried again.
    PLAY(fixture,
         {.method = "PUT",
          .part_of_target = "/k",
          .times = 1,
          .status = 409,
          .body = "<Error><Code>ConditionalRequestConflict</Code></Error>"},
         {.method = "PUT", .part_of_target = "/k", .status = 200});
    assert_ok(create(fixture), &fixture->error);
}

static Status write_parts(Fixture *fixture, size_t size)
{
    StorageWriter *writer = NULL;
    CLEANUP_FREE uint8_t *data = mem_alloc(size);
    RETURN_IF_ERROR(storage_writer_open(fixture->storage, "large", NULL, &writer, &fixture->error));
    RETURN_IF_ERROR(storage_writer_write(writer, data, size, &fixture->error));
    return storage_writer_commit(writer, &fixture->error);
}

#define BEGIN_RULE                                                                                 \
    {                                                                                              \
        .method = "POST", .part_of_target = "?uploads=", .status = 200,                            \
        .body = "<R><UploadId>the/id</UploadId></R>"                                               \
    }
#define PART_RULE                                                                                  \
    {                                                                                              \
        .method = "PUT", .part_of_target = "partNumber=", .status = 200,                           \
        .headers = "ETag: \"part\"\r\n"                                                            \
    }

static void test_only_the_part_that_stalled_is_sent_again(void **state)
{
    Fixture *fixture = *state;
    PLAY(fixture, BEGIN_RULE,
         {.method = "PUT", .part_of_target = "partNumber=2", .times = 1, .act = STALL},
         {.method = "PUT",
          .part_of_target = "partNumber=3",
          .times = 1,
          .status = 503,
          .headers = "Retry-After: 1\r\n",
          .body = "<Error><Code>SlowDown</Code></Error>"},
         PART_RULE,
         {.method = "POST",
          .part_of_target = "?uploadId=the%2Fid",
          .status = 200,
          .body = "<CompleteMultipartUploadResult/>"});
    assert_ok(write_parts(fixture, 2 * PART_SIZE + 5), &fixture->error);
    assert_int_equal(log_count(fixture, "partNumber=1"), 1);
    assert_int_equal(log_count(fixture, "partNumber=2"), 2);
    assert_int_equal(log_count(fixture, "partNumber=3"), 2);
}

static void test_a_lost_answer_of_a_completion_is_settled(void **state)
{
    Fixture *fixture = *state;
    PLAY(fixture, BEGIN_RULE, PART_RULE,
         {.method = "POST",
          .part_of_target = "uploadId=",
          .times = 1,
          .status = 200,
          .body = "\n <Error><Code>InternalError</Code></Error>"},
         {.method = "POST",
          .part_of_target = "uploadId=",
          .status = 404,
          .body = "<Error><Code>NoSuchUpload</Code></Error>"},
         {.method = "HEAD", .part_of_target = "/large", .status = 200, .act = ANSWER_TOKEN});
    assert_ok(write_parts(fixture, PART_SIZE + 1), &fixture->error);
    // Somebody has aborted it: nothing was written, and nothing is said to be.
    PLAY(fixture, BEGIN_RULE, PART_RULE,
         {.method = "POST",
          .part_of_target = "uploadId=",
          .status = 404,
          .body = "<Error><Code>NoSuchUpload</Code></Error>"},
         {.method = "HEAD", .part_of_target = "/large", .status = 404},
         {.method = "DELETE", .part_of_target = "uploadId=", .status = 204});
    assert_int_equal(write_parts(fixture, PART_SIZE + 1), STATUS_UNAVAILABLE);
    assert_int_equal(log_count(fixture, "DELETE "), 1);
}

static void test_a_failed_part_aborts_the_upload(void **state)
{
    Fixture *fixture = *state;
    PLAY(fixture, BEGIN_RULE,
         {.method = "PUT",
          .part_of_target = "partNumber=",
          .status = 403,
          .body = "<Error><Code>AccessDenied</Code></Error>"},
         {.method = "DELETE", .part_of_target = "uploadId=the%2Fid", .status = 204});
    assert_int_equal(write_parts(fixture, PART_SIZE + 1), STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_ACCESS);
    assert_int_equal(log_count(fixture, "DELETE "), 1);
}

static void test_what_was_uploaded_is_verified(void **state)
{
    Fixture *fixture = *state;
    PLAY(fixture, {.method = "PUT",
                   .part_of_target = "/k",
                   .status = 200,
                   .headers = "x-amz-checksum-sha256: bm90IHRoZSBzYW1l\r\n"});
    assert_int_equal(create(fixture), STATUS_DATA_LOSS);
    // The store got other bytes than we sent: once more.
    PLAY(fixture,
         {.method = "PUT",
          .part_of_target = "/k",
          .times = 1,
          .status = 400,
          .body = "<Error><Code>XAmzContentSHA256Mismatch</Code></Error>"},
         {.method = "PUT", .part_of_target = "/k", .status = 200});
    assert_ok(create(fixture), &fixture->error);
    const char *headers = buffer_text(&fixture->headers);
    assert_contains(headers, "x-amz-content-sha256: "
                             "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080");
    assert_contains(headers, "x-amz-checksum-sha256: TJRIXgwhrmxBzh3+e2v6zupato5AokdvUCCOUm9QYIA=");
}

static void test_options_become_headers(void **state)
{
    Fixture *fixture = *state;
    static const char *const expected[] = {
        "x-amz-server-side-encryption: aws:kms\r\n",
        "x-amz-server-side-encryption-aws-kms-key-id: alias/key\r\n",
        "x-amz-storage-class: STANDARD_IA\r\n",
        "x-amz-object-lock-mode: COMPLIANCE\r\n",
        "x-amz-object-lock-retain-until-date: 2",
    };
    open_with(fixture, (StorageOptions){.encryption = STORAGE_ENCRYPTION_KMS,
                                        .kms_key_id = "alias/key",
                                        .storage_class = "STANDARD_IA",
                                        .lock_mode = STORAGE_LOCK_COMPLIANCE,
                                        .lock_duration_s = 86400});
    PLAY(fixture, {.method = "PUT", .part_of_target = "/k", .status = 200});
    assert_ok(create(fixture), &fixture->error);
    for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
        assert_contains(buffer_text(&fixture->headers), expected[i]);
    }
    assert_contains(buffer_text(&fixture->headers), "If-None-Match: *\r\n");
    buffer_clear(&fixture->headers);
    PLAY(fixture, BEGIN_RULE, PART_RULE,
         {.method = "POST", .part_of_target = "uploadId=", .status = 200, .body = "<R/>"});
    assert_ok(write_parts(fixture, PART_SIZE + 1), &fixture->error);
    for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
        assert_contains(buffer_text(&fixture->headers), expected[i]);
    }
    open_with(fixture, (StorageOptions){.encryption = STORAGE_ENCRYPTION_STORE});
    PLAY(fixture, {.method = "PUT", .part_of_target = "/k", .status = 200});
    assert_ok(create(fixture), &fixture->error);
    assert_contains(buffer_text(&fixture->headers), "x-amz-server-side-encryption: AES256\r\n");
}

static void test_failures_are_named_with_their_cure(void **state)
{
    Fixture *fixture = *state;
    static const struct {
        Rule rule;
        Reason reason;
        const char *told; // in message or hint
    } cases[] = {
        {{.status = 403,
          .body = "<Error><Code>AccessDenied</Code><Message>User: x is not authorized "
                  "to perform: kms:GenerateDataKey on resource: y</Message></Error>"},
         REASON_STORAGE_ACCESS,
         "allow kms:GenerateDataKey"},
        {{.status = 403, .body = "<Error><Code>AccessDenied</Code></Error>"},
         REASON_STORAGE_ACCESS,
         "allow s3:PutObject on 'arn:aws:s3:::bucket/some/prefix/*'"},
        {{.status = 403, .body = "<Error><Code>InvalidAccessKeyId</Code></Error>"},
         REASON_STORAGE_CREDENTIAL,
         "check the access key id"},
        {{.status = 403, .body = "<Error><Code>SignatureDoesNotMatch</Code></Error>"},
         REASON_STORAGE_CREDENTIAL,
         "check the secret key"},
        {{.status = 400, .body = "<Error><Code>ExpiredToken</Code></Error>"},
         REASON_STORAGE_CREDENTIAL,
         "fresh credential"},
        {{.status = 404, .body = "<Error><Code>NoSuchBucket</Code></Error>"},
         REASON_STORAGE_BUCKET,
         "make the bucket"},
        {{.status = 301,
          .headers = "x-amz-bucket-region: eu-central-1\r\nLocation: http://elsewhere/\r\n",
          .body = "<Error><Code>PermanentRedirect</Code></Error>"},
         REASON_STORAGE_BUCKET,
         "region to 'eu-central-1'"},
        {{.status = 400,
          .body =
              "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>"},
         REASON_STORAGE_BUCKET,
         "region to 'us-west-2'"},
        {{.status = 403, .body = "<Error><Code>RequestTimeTooSkewed</Code></Error>"},
         REASON_CLOCK_SKEW,
         "NTP"},
        {{.status = 400, .body = "<Error><Code>InvalidStorageClass</Code></Error>"},
         REASON_STORAGE_UNFIT,
         "another storage class"},
        {{.status = 501, .body = "<Error><Code>NotImplemented</Code></Error>"},
         REASON_STORAGE_UNFIT,
         "If-None-Match"},
        {{.status = 507}, REASON_DISK_FULL, "delete old backups"},
        {{.status = 400, .body = "<html>what?"}, REASON_STORAGE_UNFIT, "check the endpoint"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        Rule rule = cases[i].rule;
        rule.method = "PUT";
        rule.part_of_target = "/k";
        play(fixture, &rule, 1);
        assert_int_not_equal(create(fixture), STATUS_OK);
        assert_string_equal(reason_slug(fixture->error.reason), reason_slug(cases[i].reason));
        assert_contains(fixture->error.hint, cases[i].told);
        assert_null(strstr(fixture->error.message, "very-secret"));
        assert_int_equal(log_count(fixture, "PUT "), 1);
    }
}

static void test_locked_objects_are_told_apart(void **state)
{
    Fixture *fixture = *state;
    PLAY(fixture,
         {.method = "DELETE",
          .part_of_target = "/locked",
          .status = 403,
          .body = "<Error><Code>AccessDenied</Code><Message>Access Denied because object protected "
                  "by object lock.</Message></Error>"},
         {.method = "DELETE",
          .part_of_target = "/forbidden",
          .status = 403,
          .body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"},
         {.method = "HEAD",
          .part_of_target = "/locked",
          .status = 200,
          .headers = "x-amz-object-lock-retain-until-date: 2030-01-02T03:04:05Z\r\n"},
         {.method = "POST",
          .part_of_target = "?delete=",
          .times = 1,
          .status = 200,
          .body = "<DeleteResult><Error><Key>some/prefix/b</Key><Code>AccessDenied</Code><Message>"
                  "object protected by object lock</Message></Error></DeleteResult>"},
         {.method = "POST",
          .part_of_target = "?delete=",
          .status = 200,
          .body = "<DeleteResult><Error><Key>some/prefix/b</Key><Code>AccessDenied</Code>"
                  "</Error></DeleteResult>"});
    StorageObject object;
    StorageRemoval removals[] = {{.key = "a"}, {.key = "b"}};
    (void)storage_remove(fixture->storage, "locked", &fixture->error);
    assert_int_equal(fixture->error.reason, REASON_OBJECT_LOCKED);
    (void)storage_remove(fixture->storage, "forbidden", &fixture->error);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_ACCESS);
    assert_ok(storage_stat(fixture->storage, "locked", &object, &fixture->error), &fixture->error);
    assert_int_equal(object.locked_until_us, INT64_C(1893553445000000));
    assert_ok(storage_remove_many(fixture->storage, removals, 2, &fixture->error), &fixture->error);
    assert_false(removals[0].is_locked);
    assert_true(removals[1].is_locked);
    (void)storage_remove_many(fixture->storage, removals, 2, &fixture->error);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_ACCESS);
}

static Status list(Fixture *fixture, Arena *arena, StoragePage *ret_page)
{
    return storage_list(fixture->storage, "a", NULL, 2, arena, ret_page, &fixture->error);
}

#define OBJECT(key, size, time)                                                                    \
    "<Contents><Key>" key "</Key><LastModified>" time "</LastModified><Size>" size                 \
    "</Size></Contents>"
#define TIME "2026-01-02T03:04:05.678Z"

static void test_listings(void **state)
{
    Fixture *fixture = *state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoragePage page;
    // What is not ours in the bucket is passed over, whole pages of it, too.
    PLAY(fixture,
         {.method = "GET",
          .part_of_target = "start-after=some%2Fprefix%2Fa%20y%2F",
          .status = 200,
          .body = "<L><IsTruncated>true</IsTruncated>" OBJECT("some/prefix/az", "12", TIME) "</L>"},
         {.method = "GET",
          .part_of_target = "?list-type=2&max-keys=2&prefix=some%2Fprefix%2Fa",
          .status = 200,
          .body = "<L><IsTruncated>true</IsTruncated>" OBJECT("some/prefix/a x", "1", TIME)
              OBJECT("some/prefix/a y/", "1", TIME) "</L>"});
    assert_ok(list(fixture, arena, &page), &fixture->error);
    assert_int_equal(page.count, 1);
    assert_string_equal(page.objects[0].key, "az");
    assert_int_equal(page.objects[0].size_bytes, 12);
    assert_int_equal(page.objects[0].modified_us, INT64_C(1767323045678000));
    assert_string_equal(page.next_page_token, "az");
    static const char *const hostile[] = {
        "<L>" OBJECT("some/prefix/a", "-1", TIME) "</L>",
        "<L>" OBJECT("some/prefix/a", "1", "yesterday") "</L>",
        "<L>" OBJECT("elsewhere", "1", TIME) "</L>",
        "<L>" OBJECT("some/prefix/a1", "1", TIME) OBJECT("some/prefix/a2", "1", TIME)
            OBJECT("some/prefix/a3", "1", TIME) "</L>",
        "<L><IsTruncated>true</IsTruncated></L>",
        "<!DOCTYPE L [<!ENTITY e \"x\">]><L>&e;</L>",
        "<L><Contents>",
        "",
    };
    for (size_t i = 0; i < ARRAY_COUNT(hostile); i++) {
        Rule rule = {.method = "GET", .part_of_target = "?", .status = 200, .body = hostile[i]};
        play(fixture, &rule, 1);
        assert_int_equal(list(fixture, arena, &page), STATUS_FAILED_PRECONDITION);
        assert_int_equal(fixture->error.reason, REASON_STORAGE_UNFIT);
    }
}

static void test_only_stale_uploads_are_aborted(void **state)
{
    Fixture *fixture = *state;
    char now[TIME_TEXT_SIZE];
    time_format(clock_now_us() - INT64_C(23) * 3600 * 1000000, now);
    CLEANUP_FREE char *body = string_format(
        "<L><Upload><Key>some/prefix/old</Key><UploadId>1</UploadId><Initiated>2020-01-01T00:00:00Z"
        "</Initiated></Upload><Upload><Key>some/prefix/young</Key><UploadId>2</UploadId><Initiated>"
        "%s</Initiated></Upload><Upload><Key>other/old</Key><UploadId>3</UploadId><Initiated>"
        "2020-01-01T00:00:00Z</Initiated></Upload><Upload><Key>some/prefix/timeless</Key><UploadId>"
        "4</UploadId></Upload></L>",
        now);
    Rule rules[] = {{.method = "GET", .part_of_target = "uploads=", .status = 200, .body = body},
                    {.method = "DELETE", .part_of_target = "/old?uploadId=1", .status = 204}};
    play(fixture, rules, ARRAY_COUNT(rules));
    int64_t removed_count = 0;
    assert_ok(storage_remove_stale(fixture->storage, &removed_count, &fixture->error),
              &fixture->error);
    assert_int_equal(removed_count, 1);
    assert_int_equal(log_count(fixture, "DELETE "), 1);
}

static void test_virtual_hosts(void **state)
{
    Fixture *fixture = *state;
    const char *port = strrchr(fake_http_url(fixture->server), ':');
    CLEANUP_FREE char *endpoint = string_format("http://localhost%s/", port);
    const StorageOptions options = {.location = "s3://bucket/p",
                                    .endpoint = endpoint,
                                    .access_key_id = "AKIATEST",
                                    .secret_key = &fixture->secret};
    Storage *storage = NULL;
    assert_ok(storage_open(&options, &storage, &fixture->error), &fixture->error);
    assert_string_equal(storage_describe(storage), "s3://bucket/p");
    PLAY(fixture, {.method = "PUT", .part_of_target = "/p/k", .status = 200});
    assert_ok(storage_put(storage, "k", "v", 1, NULL, &fixture->error), &fixture->error);
    assert_string_equal(buffer_text(&fixture->log), "PUT /p/k\n");
    CLEANUP_FREE char *host = string_format("Host: bucket.localhost%s\r\n", port);
    assert_contains(buffer_text(&fixture->headers), host);
    storage_free(storage);
}

static void test_a_small_object_is_one_request(void **state)
{
    Fixture *fixture = *state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    uint8_t *data = NULL;
    size_t size = 0;
    PLAY(fixture, {.method = "GET",
                   .part_of_target = "/k",
                   .status = 206,
                   .headers = "Content-Range: bytes 0-4/5\r\n",
                   .body = "hello"});
    assert_ok(storage_get(fixture->storage, "k", 1 << 20, arena, &data, &size, &fixture->error),
              &fixture->error);
    assert_int_equal(size, 5);
    assert_string_equal((const char *)data, "hello");
    assert_string_equal(buffer_text(&fixture->log), "GET /bucket/some/prefix/k\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_lost_answer_of_our_own_create_is_no_conflict, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_only_the_part_that_stalled_is_sent_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_lost_answer_of_a_completion_is_settled, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_failed_part_aborts_the_upload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_uploaded_is_verified, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_options_become_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures_are_named_with_their_cure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_locked_objects_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_stale_uploads_are_aborted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_virtual_hosts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_small_object_is_one_request, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
