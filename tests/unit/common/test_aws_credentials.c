// SPDX-License-Identifier: Apache-2.0
// Red when credentials are not found where AWS documents them, are not refreshed in time, or go to
// somebody who must not have them. The services are played as they are documented.
#include "common/aws_credentials.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/harness/fake_http.h"
#include "tests/harness/harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW_US INT64_C(1700000000000000)
#define MINUTE_US (INT64_C(60) * 1000000)

typedef struct Fixture {
    char *directory;
    FakeHttp *server;
    Error error;
    _Atomic int64_t now_us;
    _Atomic int64_t life_us; // of what is handed out
    atomic_bool is_broken;   // the services fail
    atomic_bool is_slow;     // they wait until it is false
    _Atomic int fetch_count;
} Fixture;

static const char *const variables[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_PROFILE",
                                        "AWS_REGION",
                                        "AWS_DEFAULT_REGION",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "AWS_CONFIG_FILE",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_ROLE_ARN",
                                        "AWS_ROLE_SESSION_NAME",
                                        "AWS_ENDPOINT_URL_STS",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                                        "AWS_EC2_METADATA_DISABLED"};

static bool answer_json(Fixture *fixture, const FakeHttpRequest *request)
{
    char expiration[TIME_TEXT_SIZE];
    time_format(atomic_load(&fixture->now_us) + atomic_load(&fixture->life_us), expiration);
    int number = atomic_fetch_add(&fixture->fetch_count, 1) + 1;
    CLEANUP_FREE char *body =
        string_format("{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ASIA%d\","
                      "\"SecretAccessKey\":\"secret\",\"Token\":\"token\",\"Expiration\":\"%s\"}",
                      number, expiration);
    return fake_http_answer(request, 200, NULL, body, strlen(body));
}

static bool answer_instance(Fixture *fixture, const FakeHttpRequest *request)
{
    if (text_equal(request->target, "/latest/api/token")) {
        CLEANUP_FREE char *life = fake_http_header(request, "X-aws-ec2-metadata-token-ttl-seconds");
        bool is_right = text_equal(request->method, "PUT") && life != NULL;
        return fake_http_answer(request, is_right ? 200 : 400, NULL, "IMDS-TOKEN", 10);
    }
    CLEANUP_FREE char *token = fake_http_header(request, "X-aws-ec2-metadata-token");
    if (!text_equal(token, "IMDS-TOKEN")) {
        return fake_http_answer(request, 401, NULL, "", 0); // version 1 is off
    }
    if (text_equal(request->target, "/latest/meta-data/iam/security-credentials/")) {
        return fake_http_answer(request, 200, NULL, "the-role", 8);
    }
    if (text_equal(request->target, "/latest/meta-data/iam/security-credentials/the-role")) {
        return answer_json(fixture, request);
    }
    return fake_http_answer(request, 404, NULL, "", 0);
}

static bool answer_sts(Fixture *fixture, const FakeHttpRequest *request)
{
    CLEANUP_FREE char *form = string_copy_n((const char *)request->body, request->body_size);
    if (strstr(form, "Action=AssumeRoleWithWebIdentity&") == NULL ||
        strstr(form, "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fbackup&") == NULL ||
        strstr(form, "Version=2011-06-15") == NULL ||
        strstr(form, "WebIdentityToken=the.jwt") == NULL) {
        static const char refusal[] =
            "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>"
            "<Message>no</Message></Error></ErrorResponse>";
        return fake_http_answer(request, 400, NULL, refusal, strlen(refusal));
    }
    char expiration[TIME_TEXT_SIZE];
    time_format(atomic_load(&fixture->now_us) + atomic_load(&fixture->life_us), expiration);
    CLEANUP_FREE char *body = string_format(
        "<AssumeRoleWithWebIdentityResponse "
        "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>"
        "<Credentials><AccessKeyId>ASIASTS</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials>"
        "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        expiration);
    return fake_http_answer(request, 200, NULL, body, strlen(body));
}

static bool on_request(void *context, const FakeHttpRequest *request)
{
    Fixture *fixture = context;
    while (atomic_load(&fixture->is_slow) && !fake_http_is_stopping(request->server)) {
        clock_sleep_ms(2);
    }
    if (atomic_load(&fixture->is_broken)) {
        return fake_http_answer(request, 404, NULL, "", 0);
    }
    if (text_has_prefix(request->target, "/latest/")) {
        return answer_instance(fixture, request);
    }
    if (text_equal(request->target, "/container")) {
        CLEANUP_FREE char *authorization = fake_http_header(request, "Authorization");
        return text_equal(authorization, "pod-token") ? answer_json(fixture, request)
                                                      : fake_http_answer(request, 401, NULL, "", 0);
    }
    return answer_sts(fixture, request);
}

static int64_t fake_now_us(void *context)
{
    Fixture *fixture = context;
    return atomic_load(&fixture->now_us);
}

static int set_up(void **state)
{
    Fixture *fixture = mem_alloc(sizeof(*fixture));
    for (size_t i = 0; i < ARRAY_COUNT(variables); i++) {
        unsetenv(variables[i]);
    }
    fixture->directory = temp_dir_new();
    setenv("HOME", fixture->directory, 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    atomic_store(&fixture->now_us, NOW_US);
    atomic_store(&fixture->life_us, 60 * MINUTE_US);
    fixture->server = fake_http_start(on_request, fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    fake_http_stop(fixture->server);
    temp_dir_removep(&fixture->directory);
    mem_free(fixture);
    return 0;
}

static AwsCredentials *new_credentials(Fixture *fixture, AwsCredentialSource source)
{
    return aws_credentials_new(
        &(AwsCredentialsOptions){.source = source, .now_us = fake_now_us, .now_context = fixture});
}

static void assert_key(Fixture *fixture, AwsCredentials *credentials, const char *access_key_id)
{
    AwsCredential credential = {0};
    assert_ok(aws_credentials_get(credentials, &credential, &fixture->error), &fixture->error);
    assert_string_equal(credential.access_key_id, access_key_id);
    aws_credential_done(&credential);
}

static void assert_found(Fixture *fixture, AwsCredentialSource source, const char *access_key_id)
{
    AwsCredentials *credentials = new_credentials(fixture, source);
    assert_key(fixture, credentials, access_key_id);
    aws_credentials_free(credentials);
}

static void assert_refused(Fixture *fixture, AwsCredentialSource source, const char *hint)
{
    AwsCredential credential = {0};
    AwsCredentials *credentials = new_credentials(fixture, source);
    assert_int_equal(aws_credentials_get(credentials, &credential, &fixture->error),
                     STATUS_FAILED_PRECONDITION);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_CREDENTIAL);
    assert_contains(fixture->error.hint, hint);
    aws_credentials_free(credentials);
}

static void set_url(const Fixture *fixture, const char *variable, const char *path)
{
    CLEANUP_FREE char *url = string_format("%s%s", fake_http_url(fixture->server), path);
    setenv(variable, url, 1);
}

static void test_environment(void **state)
{
    Fixture *fixture = *state;
    assert_refused(fixture, AWS_CREDENTIALS_ENVIRONMENT, "AWS_ACCESS_KEY_ID");
    setenv("AWS_ACCESS_KEY_ID", "AKIAENV", 1);
    assert_refused(fixture, AWS_CREDENTIALS_ENVIRONMENT, "both");
    setenv("AWS_SECRET_ACCESS_KEY", "the-secret", 1);
    assert_found(fixture, AWS_CREDENTIALS_ENVIRONMENT, "AKIAENV");
    assert_found(fixture, AWS_CREDENTIALS_AUTOMATIC, "AKIAENV");
}

static void test_profiles(void **state)
{
    Fixture *fixture = *state;
    assert_refused(fixture, AWS_CREDENTIALS_PROFILE, "~/.aws/credentials");
    CLEANUP_FREE char *keys = path_join(fixture->directory, "keys");
    CLEANUP_FREE char *configuration = path_join(fixture->directory, "configuration");
    write_file(keys, "# a comment\n[default]\naws_access_key_id = AKIADEFAULT\r\n"
                     "aws_secret_access_key=one=two\n\n[ other ]\n"
                     "aws_access_key_id=AKIAOTHER\naws_secret_access_key = x\n");
    write_file(configuration, "[default]\nregion = eu-west-1\ns3 =\n  region = nested\n"
                              "[profile other]\nregion=eu-central-1\n"
                              "[profile assume]\nrole_arn = a\nsource_profile = default\n");
    setenv("AWS_SHARED_CREDENTIALS_FILE", keys, 1);
    setenv("AWS_CONFIG_FILE", configuration, 1);
    assert_found(fixture, AWS_CREDENTIALS_PROFILE, "AKIADEFAULT");
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_string_equal(aws_region(NULL, arena), "eu-west-1");
    assert_string_equal(aws_region("other", arena), "eu-central-1");
    setenv("AWS_PROFILE", "other", 1);
    assert_found(fixture, AWS_CREDENTIALS_AUTOMATIC, "AKIAOTHER");
    setenv("AWS_PROFILE", "assume", 1);
    assert_refused(fixture, AWS_CREDENTIALS_PROFILE, "use a profile with keys");
    setenv("AWS_PROFILE", "nobody", 1);
    assert_refused(fixture, AWS_CREDENTIALS_PROFILE, "~/.aws/credentials");
}

// A file that was named is asked alone, whatever the environment says.
static void test_a_named_file(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE char *keys = path_join(fixture->directory, "named");
    AwsCredential credential = {0};
    AwsCredentialsOptions options = {.source = AWS_CREDENTIALS_PROFILE, .profiles_path = keys};
    setenv("AWS_ACCESS_KEY_ID", "AKIAENV", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "the-secret", 1);
    setenv("AWS_PROFILE", "nobody", 1);
    AwsCredentials *credentials = aws_credentials_new(&options);
    assert_int_not_equal(aws_credentials_get(credentials, &credential, &fixture->error), STATUS_OK);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_CREDENTIAL);
    write_file(keys, "[default]\naws_access_key_id = AKIANAMED\naws_secret_access_key = x\n");
    assert_int_equal(aws_credentials_get(credentials, &credential, &fixture->error), STATUS_OK);
    assert_string_equal(credential.access_key_id, "AKIANAMED");
    aws_credential_done(&credential);
    aws_credentials_free(credentials);
    options.profile = "other";
    credentials = aws_credentials_new(&options);
    assert_int_not_equal(aws_credentials_get(credentials, &credential, &fixture->error), STATUS_OK);
    assert_int_equal(fixture->error.reason, REASON_STORAGE_CREDENTIAL);
    assert_non_null(strstr(fixture->error.message, "'other'"));
    aws_credentials_free(credentials);
}

static void test_web_identity(void **state)
{
    Fixture *fixture = *state;
    assert_refused(fixture, AWS_CREDENTIALS_WEB_IDENTITY, "AWS_WEB_IDENTITY_TOKEN_FILE");
    CLEANUP_FREE char *token = path_join(fixture->directory, "token");
    write_file(token, "the.jwt\n");
    set_url(fixture, "AWS_ENDPOINT_URL_STS", "");
    setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token, 1);
    assert_refused(fixture, AWS_CREDENTIALS_WEB_IDENTITY, "AWS_ROLE_ARN");
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup", 1);
    assert_found(fixture, AWS_CREDENTIALS_WEB_IDENTITY, "ASIASTS");
    assert_found(fixture, AWS_CREDENTIALS_AUTOMATIC, "ASIASTS");
    write_file(token, "another.jwt\n");
    assert_refused(fixture, AWS_CREDENTIALS_WEB_IDENTITY, "trusts the identity provider");
    assert_contains(fixture->error.message, "InvalidIdentityToken");
    assert_null(strstr(fixture->error.message, "another.jwt"));
}

static void test_container(void **state)
{
    Fixture *fixture = *state;
    CLEANUP_FREE char *token = path_join(fixture->directory, "pod");
    write_file(token, "pod-token\n");
    assert_refused(fixture, AWS_CREDENTIALS_CONTAINER, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    set_url(fixture, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/container");
    assert_refused(fixture, AWS_CREDENTIALS_CONTAINER, "token file");
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token, 1);
    assert_found(fixture, AWS_CREDENTIALS_CONTAINER, "ASIA1");
    assert_found(fixture, AWS_CREDENTIALS_AUTOMATIC, "ASIA2");
    const char *strangers[] = {"http://example.com/container", "http://127.0.0.1.example.com/c",
                               "ftp://127.0.0.1/c", "http://169.254.170.2.example.com"};
    for (size_t i = 0; i < ARRAY_COUNT(strangers); i++) {
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", strangers[i], 1);
        assert_refused(fixture, AWS_CREDENTIALS_CONTAINER, "use https");
    }
    write_file(token, "pod\r\nX-Evil: token");
    set_url(fixture, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "/container");
    assert_refused(fixture, AWS_CREDENTIALS_CONTAINER, "");
    assert_contains(fixture->error.message, "line break");
}

static void test_instance(void **state)
{
    Fixture *fixture = *state;
    set_url(fixture, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "/");
    assert_refused(fixture, AWS_CREDENTIALS_INSTANCE, "give the instance a role"); // disabled
    unsetenv("AWS_EC2_METADATA_DISABLED");
    assert_found(fixture, AWS_CREDENTIALS_INSTANCE, "ASIA1");
    assert_found(fixture, AWS_CREDENTIALS_AUTOMATIC, "ASIA2");
    atomic_store(&fixture->is_broken, true);
    assert_refused(fixture, AWS_CREDENTIALS_INSTANCE, "version 2");
    assert_refused(fixture, AWS_CREDENTIALS_AUTOMATIC, "give the repository a credential");
}

static void test_refreshed_before_expiry(void **state)
{
    Fixture *fixture = *state;
    unsetenv("AWS_EC2_METADATA_DISABLED");
    set_url(fixture, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
    AwsCredentials *credentials = new_credentials(fixture, AWS_CREDENTIALS_INSTANCE);
    assert_key(fixture, credentials, "ASIA1");
    atomic_fetch_add(&fixture->now_us, 54 * MINUTE_US);
    assert_key(fixture, credentials, "ASIA1");
    atomic_fetch_add(&fixture->now_us, 2 * MINUTE_US); // four minutes are left
    atomic_store(&fixture->is_broken, true);
    assert_key(fixture, credentials, "ASIA1"); // the old ones are good still
    atomic_store(&fixture->is_broken, false);
    assert_key(fixture, credentials, "ASIA1"); // asked a moment ago
    atomic_fetch_add(&fixture->now_us, MINUTE_US);
    assert_key(fixture, credentials, "ASIA2");
    assert_true(aws_credentials_expire(credentials));
    assert_key(fixture, credentials, "ASIA3");
    atomic_fetch_add(&fixture->now_us, 60 * MINUTE_US);
    atomic_store(&fixture->is_broken, true);
    AwsCredential credential = {0};
    assert_int_equal(aws_credentials_get(credentials, &credential, &fixture->error),
                     STATUS_FAILED_PRECONDITION);
    aws_credentials_free(credentials);
}

typedef struct Getter {
    AwsCredentials *credentials;
    char access_key_id[16];
    atomic_bool is_done;
} Getter;

static void *get_one(void *context)
{
    Getter *getter = context;
    AwsCredential credential = {0};
    Error error = {0};
    if (aws_credentials_get(getter->credentials, &credential, &error) == STATUS_OK) {
        (void)snprintf(getter->access_key_id, sizeof(getter->access_key_id), "%s",
                       credential.access_key_id);
        aws_credential_done(&credential);
    }
    atomic_store(&getter->is_done, true);
    return NULL;
}

static void test_others_go_on_while_one_refreshes(void **state)
{
    Fixture *fixture = *state;
    unsetenv("AWS_EC2_METADATA_DISABLED");
    set_url(fixture, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
    AwsCredentials *credentials = new_credentials(fixture, AWS_CREDENTIALS_INSTANCE);
    assert_key(fixture, credentials, "ASIA1");
    atomic_fetch_add(&fixture->now_us, 56 * MINUTE_US);
    int before = fake_http_request_count(fixture->server);
    atomic_store(&fixture->is_slow, true);
    Getter getter = {.credentials = credentials};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, get_one, &getter), 0);
    while (fake_http_request_count(fixture->server) == before) {
        clock_sleep_ms(1);
    }
    assert_key(fixture, credentials, "ASIA1");
    assert_false(atomic_load(&getter.is_done));
    atomic_store(&fixture->is_slow, false);
    (void)pthread_join(thread, NULL);
    assert_true(text_has_prefix(getter.access_key_id, "ASIA"));
    aws_credentials_free(credentials);
}

static void test_given_ones_win(void **state)
{
    Fixture *fixture = *state;
    setenv("AWS_ACCESS_KEY_ID", "AKIAENV", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "the-secret", 1);
    Secret secret = secret_from_text("given");
    AwsCredentials *credentials = aws_credentials_new(
        &(AwsCredentialsOptions){.access_key_id = "AKIAGIVEN", .secret_key = &secret});
    assert_key(fixture, credentials, "AKIAGIVEN");
    assert_false(aws_credentials_expire(credentials));
    aws_credentials_free(credentials);
    secret_done(&secret);
    assert_refused(fixture, AWS_CREDENTIALS_EXPLICIT, "give the repository a credential");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_environment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_profiles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_named_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_web_identity, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_container, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_instance, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refreshed_before_expiry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_others_go_on_while_one_refreshes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_ones_win, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
