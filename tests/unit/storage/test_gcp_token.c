// SPDX-License-Identifier: Apache-2.0
// Red when Google would not take what we sign, when a token runs out under a running backup, or
// when a key shows up in a message.
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"
#include "storage/gcp_token.h"
#include "tests/harness/fake_http.h"
#include "tests/harness/gcp_account.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCOPE "https://www.googleapis.com/auth/test"
#define DEADLINE_MS 30000

typedef struct Fixture {
    FakeHttp *server;
    GcpAccount *account;
    char *directory;
    Error error;
    pthread_mutex_t mutex; // guards what follows
    char refusal[128];     // why an exchange was not as it must be
    char *last_form;
    _Atomic int life_s;
    _Atomic int failure_count; // of the next exchanges: 503
    atomic_bool is_held;       // exchanges wait
    _Atomic int waiting_count;
    atomic_bool is_refused;
    atomic_bool lacks_flavor;
} Fixture;

static bool answer_token(Fixture *fixture, const FakeHttpRequest *request, const char *kind)
{
    CLEANUP_FREE char *body =
        string_format("{\"access_token\":\"%s-%d\",\"expires_in\":%d,\"token_type\":\"Bearer\"}",
                      kind, request->number, atomic_load(&fixture->life_s));
    const char *headers = text_equal(kind, "metadata") && !atomic_load(&fixture->lacks_flavor)
                              ? "Metadata-Flavor: Google\r\n"
                              : NULL;
    return fake_http_answer(request, 200, headers, body, strlen(body));
}

static void refuse(Fixture *fixture, const char *why)
{
    (void)pthread_mutex_lock(&fixture->mutex);
    (void)snprintf(fixture->refusal, sizeof(fixture->refusal), "%s", why);
    (void)pthread_mutex_unlock(&fixture->mutex);
}

static bool exchange_key(Fixture *fixture, const FakeHttpRequest *request, const char *form)
{
    const char *refusal = gcp_account_refusal(fixture->account, form, SCOPE);
    if (refusal != NULL) {
        refuse(fixture, refusal);
    }
    return answer_token(fixture, request, "key");
}

static void expect_field(Fixture *fixture, const char *form, const char *name, const char *value)
{
    CLEANUP_FREE char *field = form_field(form, name);
    if (!text_equal(field, value)) {
        refuse(fixture, name);
    }
}

static bool exchange_subject(Fixture *fixture, const FakeHttpRequest *request, const char *form)
{
    expect_field(fixture, form, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    expect_field(fixture, form, "audience", "//iam.googleapis.com/projects/1/pool");
    expect_field(fixture, form, "subject_token", "subject+/=");
    expect_field(fixture, form, "subject_token_type", "urn:ietf:params:oauth:token-type:jwt");
    expect_field(fixture, form, "requested_token_type",
                 "urn:ietf:params:oauth:token-type:access_token");
    expect_field(fixture, form, "scope", "https://www.googleapis.com/auth/cloud-platform");
    return answer_token(fixture, request, "federated");
}

static bool impersonate(Fixture *fixture, const FakeHttpRequest *request)
{
    char until[TIME_TEXT_SIZE];
    CLEANUP_FREE char *authorization = fake_http_header(request, "Authorization");
    if (authorization == NULL || !text_has_prefix(authorization, "Bearer federated-")) {
        refuse(fixture, "Authorization");
    }
    time_format(clock_now_us() + INT64_C(3600000000), until);
    CLEANUP_FREE char *body =
        string_format("{\"accessToken\":\"account\",\"expireTime\":\"%s\"}", until);
    return fake_http_answer(request, 200, NULL, body, strlen(body));
}

// As Azure's identity endpoint does, and as plain text.
static bool give_subject(Fixture *fixture, const FakeHttpRequest *request, bool is_json)
{
    CLEANUP_FREE char *metadata = fake_http_header(request, "Metadata");
    CLEANUP_FREE char *authorization = fake_http_header(request, "Authorization");
    if (!text_equal(metadata, "True") || !text_equal(authorization, "Bearer s3cret")) {
        refuse(fixture, "headers of the subject token");
    }
    const char *body = is_json ? "{\"id\": {}, \"access_token\": \"subject+/=\"}" : "subject+/=\n";
    return fake_http_answer(request, 200, NULL, body, strlen(body));
}

static bool exchange_user(Fixture *fixture, const FakeHttpRequest *request, const char *form)
{
    expect_field(fixture, form, "grant_type", "refresh_token");
    expect_field(fixture, form, "client_id", "id");
    expect_field(fixture, form, "client_secret", "s3cret");
    expect_field(fixture, form, "refresh_token", "1//refresh");
    return answer_token(fixture, request, "user");
}

static bool give_metadata(Fixture *fixture, const FakeHttpRequest *request)
{
    CLEANUP_FREE char *flavor = fake_http_header(request, "Metadata-Flavor");
    if (!text_equal(flavor, "Google")) {
        refuse(fixture, "Metadata-Flavor");
    }
    return answer_token(fixture, request, "metadata");
}

static bool on_request(void *context, const FakeHttpRequest *request)
{
    Fixture *fixture = context;
    CLEANUP_FREE char *form = string_copy_n((const char *)request->body, request->body_size);
    atomic_fetch_add(&fixture->waiting_count, 1);
    while (atomic_load(&fixture->is_held) && !fake_http_is_stopping(request->server)) {
        clock_sleep_ms(1);
    }
    atomic_fetch_sub(&fixture->waiting_count, 1);
    (void)pthread_mutex_lock(&fixture->mutex);
    mem_free(fixture->last_form);
    fixture->last_form = string_copy(form);
    (void)pthread_mutex_unlock(&fixture->mutex);
    if (atomic_load(&fixture->failure_count) > 0) {
        atomic_fetch_sub(&fixture->failure_count, 1);
        return fake_http_answer(request, 503, NULL, "{}", 2);
    }
    if (atomic_load(&fixture->is_refused)) {
        static const char body[] =
            "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid JWT Signature.\"}";
        return fake_http_answer(request, 400, NULL, body, strlen(body));
    }
    if (text_equal(request->target, "/token")) {
        return exchange_key(fixture, request, form);
    }
    if (text_equal(request->target, "/sts")) {
        return exchange_subject(fixture, request, form);
    }
    if (text_equal(request->target, "/impersonate:generateAccessToken")) {
        return impersonate(fixture, request);
    }
    if (text_has_prefix(request->target, "/subject-")) {
        return give_subject(fixture, request, text_equal(request->target, "/subject-json"));
    }
    return text_equal(request->target, "/user") ? exchange_user(fixture, request, form)
                                                : give_metadata(fixture, request);
}

static int set_up(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    (void)pthread_mutex_init(&fixture->mutex, NULL);
    fixture->directory = temp_dir_new();
    fixture->life_s = 3599;
    fixture->server = fake_http_start(on_request, fixture);
    CLEANUP_FREE char *token_uri = string_format("%s/token", fake_http_url(fixture->server));
    fixture->account = gcp_account_new(token_uri);
    (void)unsetenv("GOOGLE_APPLICATION_CREDENTIALS");
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    atomic_store(&fixture->is_held, false);
    fake_http_stop(fixture->server);
    assert_string_equal(fixture->refusal, "");
    gcp_account_free(fixture->account);
    temp_dir_removep(&fixture->directory);
    (void)pthread_mutex_destroy(&fixture->mutex);
    mem_free(fixture->last_form);
    mem_free(fixture);
    return 0;
}

static GcpTokens *tokens_of_key(Fixture *fixture)
{
    Secret key = secret_from_text(gcp_account_key_json(fixture->account));
    GcpTokens *tokens = gcp_tokens_new(&(GcpTokenOptions){.scope = SCOPE, .key = &key});
    secret_done(&key);
    return tokens;
}

static GcpTokens *tokens_of_file(Fixture *fixture, const char *text)
{
    CLEANUP_FREE char *path = path_join(fixture->directory, "credentials.json");
    write_file(path, text);
    return gcp_tokens_new(&(GcpTokenOptions){.scope = SCOPE, .credentials_path = path});
}

static void assert_token(Fixture *fixture, GcpTokens *tokens, const char *expected)
{
    CLEANUP(secret_done) Secret token = {0};
    assert_ok(gcp_tokens_get(tokens, &token, &fixture->error), &fixture->error);
    assert_string_equal(secret_text(&token), expected);
}

// The openssl program checks what we signed.
static void test_another_program_takes_our_signature(void **state)
{
    Fixture *fixture = *state;
    GcpTokens *tokens = tokens_of_key(fixture);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_token(fixture, tokens, "key-1");
    CLEANUP_FREE char *assertion = form_field(fixture->last_form, "assertion");
    char *dot = strrchr(assertion, '.');
    uint8_t *signature = NULL;
    size_t size = 0;
    *dot = '\0';
    assert_true(base64url_decode(arena, dot + 1, &signature, &size));
    CLEANUP_FREE char *text_path = path_join(fixture->directory, "text");
    CLEANUP_FREE char *key_path = path_join(fixture->directory, "public.pem");
    CLEANUP_FREE char *signature_path = path_join(fixture->directory, "signature");
    CLEANUP_FREE char *pem = gcp_account_public_pem(fixture->account);
    write_file(text_path, assertion);
    write_file(key_path, pem);
    assert_ok(file_write_atomic(signature_path, signature, size, 0600, &fixture->error),
              &fixture->error);
    const char *const arguments[] = {"openssl",    "dgst",         "-sha256", "-verify", key_path,
                                     "-signature", signature_path, text_path, NULL};
    Buffer output;
    buffer_init(&output, 4096);
    assert_ok(process_run(&(ProcessOptions){.arguments = arguments}, DEADLINE_MS, REASON_INTERNAL,
                          &output, &fixture->error),
              &fixture->error);
    assert_string_equal(buffer_text(&output), "Verified OK\n");
    buffer_done(&output);
    gcp_tokens_free(tokens);
}

static void test_a_token_is_kept_and_renewed(void **state)
{
    Fixture *fixture = *state;
    GcpTokens *tokens = tokens_of_key(fixture);
    assert_token(fixture, tokens, "key-1");
    assert_token(fixture, tokens, "key-1");
    Secret refused = secret_from_text("key-0");
    gcp_tokens_forget(tokens, &refused); // another one
    assert_token(fixture, tokens, "key-1");
    secret_done(&refused);
    refused = secret_from_text("key-1");
    gcp_tokens_forget(tokens, &refused);
    secret_done(&refused);
    atomic_store(&fixture->failure_count, 2); // passing
    assert_token(fixture, tokens, "key-4");
    gcp_tokens_free(tokens);
}

typedef struct Getter {
    GcpTokens *tokens;
    Secret token;
    Status status;
    Error error;
} Getter;

static void *get(void *context)
{
    Getter *getter = context;
    getter->status = gcp_tokens_get(getter->tokens, &getter->token, &getter->error);
    return NULL;
}

static void test_others_go_on_while_one_renews(void **state)
{
    Fixture *fixture = *state;
    GcpTokens *tokens = tokens_of_key(fixture);
    atomic_store(&fixture->life_s, 40); // usable for 40 s, renewed after 20
    assert_token(fixture, tokens, "key-1");
    gcp_tokens_age(tokens, 25000);
    atomic_store(&fixture->is_held, true);
    pthread_t thread;
    Getter getter = {.tokens = tokens};
    assert_int_equal(pthread_create(&thread, NULL, get, &getter), 0);
    int64_t end_ms = clock_monotonic_ms() + DEADLINE_MS;
    while (atomic_load(&fixture->waiting_count) == 0 && clock_monotonic_ms() < end_ms) {
        clock_sleep_ms(1);
    }
    assert_token(fixture, tokens, "key-1");
    atomic_store(&fixture->is_held, false);
    (void)pthread_join(thread, NULL);
    assert_string_equal(secret_text(&getter.token), "key-2");
    secret_done(&getter.token);
    // When no other can be had, the old one is good up to its end.
    gcp_tokens_age(tokens, 25000);
    atomic_store(&fixture->is_refused, true);
    assert_token(fixture, tokens, "key-2");
    gcp_tokens_age(tokens, 25000);
    Secret token = {0};
    assert_error(gcp_tokens_get(tokens, &token, &fixture->error), &fixture->error, REASON_FORBIDDEN,
                 fixture->error.message);
    assert_contains(fixture->error.message, "(HTTP 400) invalid_grant: Invalid JWT Signature.");
    gcp_tokens_free(tokens);
}

static void test_all_sources_give_a_token(void **state)
{
    Fixture *fixture = *state;
    const char *url = fake_http_url(fixture->server);
    CLEANUP_FREE char *path = path_join(fixture->directory, "subject");
    write_file(path, "{\"id\": {}, \"jwt\": \"subject+/=\"}");
    CLEANUP_FREE char *federation = string_format(
        "{\"type\":\"external_account\",\"audience\":\"//iam.googleapis.com/projects/1/pool\","
        "\"subject_token_type\":\"urn:ietf:params:oauth:token-type:jwt\",\"token_url\":\"%s/sts\","
        "\"service_account_impersonation_url\":\"%s/impersonate:generateAccessToken\","
        "\"credential_source\":{\"file\":\"%s\",\"format\":{\"type\":\"json\","
        "\"subject_token_field_name\":\"jwt\"}}}",
        url, url, path);
    CLEANUP_FREE char *user = string_format(
        "{\"type\":\"authorized_user\",\"client_id\":\"id\",\"client_secret\":\"s3cret\","
        "\"refresh_token\":\"1//refresh\",\"token_uri\":\"%s/user\"}",
        url);
    GcpTokens *tokens = tokens_of_file(fixture, gcp_account_key_json(fixture->account));
    assert_token(fixture, tokens, "key-1");
    gcp_tokens_free(tokens);
    tokens = tokens_of_file(fixture, federation);
    assert_token(fixture, tokens, "account");
    gcp_tokens_free(tokens);
    tokens = tokens_of_file(fixture, user);
    assert_token(fixture, tokens, "user-4");
    gcp_tokens_free(tokens);
    (void)setenv("GCE_METADATA_HOST", url + strlen("http://"), 1);
    tokens = gcp_tokens_new(&(GcpTokenOptions){.scope = SCOPE});
    assert_token(fixture, tokens, "metadata-5");
    gcp_tokens_free(tokens);
    // Something else that answers at that address is not believed.
    atomic_store(&fixture->lacks_flavor, true);
    tokens = gcp_tokens_new(&(GcpTokenOptions){.scope = SCOPE, .is_metadata_only = true});
    Secret token = {0};
    assert_int_equal(gcp_tokens_get(tokens, &token, &fixture->error), STATUS_PERMISSION_DENIED);
    assert_contains(fixture->error.message, "is not a metadata server of Google's");
    assert_contains(fixture->error.hint, "GOOGLE_APPLICATION_CREDENTIALS");
    gcp_tokens_free(tokens);
    (void)unsetenv("GCE_METADATA_HOST");
}

// A configuration whose credential_source is this.
static GcpTokens *tokens_of_source(Fixture *fixture, const char *source)
{
    CLEANUP_FREE char *federation = string_format(
        "{\"type\":\"external_account\",\"audience\":\"//iam.googleapis.com/projects/1/pool\","
        "\"subject_token_type\":\"urn:ietf:params:oauth:token-type:jwt\",\"token_url\":\"%s/sts\","
        "\"service_account_impersonation_url\":\"%s/impersonate:generateAccessToken\","
        "\"credential_source\":%s}",
        fake_http_url(fixture->server), fake_http_url(fixture->server), source);
    return tokens_of_file(fixture, federation);
}

static void assert_no_token(Fixture *fixture, const char *source, Reason reason, const char *says)
{
    Secret token = {0};
    GcpTokens *tokens = tokens_of_source(fixture, source);
    assert_int_not_equal(gcp_tokens_get(tokens, &token, &fixture->error), STATUS_OK);
    assert_int_equal(fixture->error.reason, reason);
    assert_contains(fixture->error.message, says);
    assert_null(strstr(fixture->error.message, "s3cret"));
    gcp_tokens_free(tokens);
}

#define HEADERS "\"headers\":{\"Metadata\":\"True\",\"Authorization\":\"Bearer s3cret\"}"

static void test_a_subject_token_comes_from_a_url(void **state)
{
    Fixture *fixture = *state;
    const char *url = fake_http_url(fixture->server);
    CLEANUP_FREE char *json =
        string_format("{\"url\":\"%s/subject-json\"," HEADERS ",\"format\":{\"type\":\"json\","
                      "\"subject_token_field_name\":\"access_token\"}}",
                      url);
    CLEANUP_FREE char *text = string_format("{\"url\":\"%s/subject-text\"," HEADERS "}", url);
    GcpTokens *tokens = tokens_of_source(fixture, json);
    assert_token(fixture, tokens, "account");
    gcp_tokens_free(tokens);
    atomic_store(&fixture->failure_count, 2); // passing
    tokens = tokens_of_source(fixture, text);
    assert_token(fixture, tokens, "account");
    gcp_tokens_free(tokens);
    CLEANUP_FREE char *folded = string_format(
        "{\"url\":\"%s/subject-text\",\"headers\":{\"Metadata\":\"True\\r\\nHost: s3cret\"}}", url);
    assert_no_token(fixture, folded, REASON_INVALID, "headers");
    CLEANUP_FREE char *member =
        string_format("{\"url\":\"%s/subject-json\"," HEADERS ",\"format\":{\"type\":\"json\","
                      "\"subject_token_field_name\":\"other\"}}",
                      url);
    assert_no_token(fixture, member, REASON_INVALID, "there is no subject token");
    assert_no_token(fixture, "{\"url\":\"http://example.com/token\"}", REASON_INVALID,
                    "no safe place");
    assert_no_token(fixture,
                    "{\"environment_id\":\"aws1\",\"url\":\"http://169.254.169.254/latest\"}",
                    REASON_INVALID, "no file and no URL");
    atomic_store(&fixture->is_refused, true);
    assert_no_token(fixture, text, REASON_FORBIDDEN, "asking for the subject token");
}

static void test_bad_credentials_are_named_and_not_shown(void **state)
{
    Fixture *fixture = *state;
    static const char *const texts[] = {
        "",
        "s3cret",
        "{\"type\":\"service_account\",\"client_email\":\"a@b\",\"private_key\":\"s3cret\"}",
        "{\"type\":\"service_account\",\"client_email\":\"a@b\"}",
        "{\"type\":\"impersonated_service_account\",\"source\":\"s3cret\"}",
        "{\"type\":\"external_account\",\"credential_source\":{\"url\":\"http://s3cret\"}}",
        "{\"type\":\"authorized_user\",\"refresh_token\":\"s3cret\","
        "\"token_uri\":\"http://example.com/token\"}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        GcpTokens *tokens = tokens_of_file(fixture, texts[i]);
        Secret token = {0};
        assert_int_equal(gcp_tokens_get(tokens, &token, &fixture->error), STATUS_INVALID_ARGUMENT);
        assert_null(strstr(fixture->error.message, "s3cret"));
        gcp_tokens_free(tokens);
        error_clear(&fixture->error);
    }
    // A federation names files and endpoints: only who runs this machine may give one.
    Secret key = secret_from_text(texts[5]);
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *account = NULL;
    assert_int_equal(gcp_key_check(&key, arena, &account, &fixture->error),
                     STATUS_INVALID_ARGUMENT);
    secret_done(&key);
    key = secret_from_text(gcp_account_key_json(fixture->account));
    assert_ok(gcp_key_check(&key, arena, &account, &fixture->error), &fixture->error);
    assert_string_equal(account, "holdfast@project.iam.gserviceaccount.com");
    secret_done(&key);
    assert_int_equal(fake_http_request_count(fixture->server), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_another_program_takes_our_signature, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_token_is_kept_and_renewed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_others_go_on_while_one_renews, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_sources_give_a_token, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_subject_token_comes_from_a_url, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_credentials_are_named_and_not_shown, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
