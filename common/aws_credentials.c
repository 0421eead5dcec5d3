// SPDX-License-Identifier: Apache-2.0
#include "common/aws_credentials.h"

#include "common/aws_credential_source.h"
#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TRY_COUNT_MAX 4
#define REFRESH_BEFORE_US (INT64_C(5) * 60 * 1000000) // as early as the instance's new ones come
#define REFRESH_RETRY_US (INT64_C(30) * 1000000)      // after a failure, while old ones are good

static const struct {
    AwsCredentialSource source;
    AwsSource fetch;
} sources[] = {
    {AWS_CREDENTIALS_ENVIRONMENT, aws_source_environment},
    {AWS_CREDENTIALS_PROFILE, aws_source_profile},
    {AWS_CREDENTIALS_WEB_IDENTITY, aws_source_web_identity},
    {AWS_CREDENTIALS_CONTAINER, aws_source_container},
    {AWS_CREDENTIALS_INSTANCE, aws_source_instance},
};

struct AwsCredentials {
    AwsCredentialsOptions options; // its texts are owned
    AwsCredential given;           // access_key_id NULL: none
    HttpClient *http;              // of the thread that fetches
    pthread_mutex_t mutex;         // guards everything below
    pthread_cond_t is_fetched;
    AwsCredential current;
    bool has_current, is_fetching, must_fetch;
    int64_t next_fetch_us;
};

static int64_t real_now_us(void *context)
{
    (void)context;
    return clock_now_us();
}

AwsCredentials *aws_credentials_new(const AwsCredentialsOptions *options)
{
    AwsCredentials *credentials = mem_alloc(sizeof(*credentials));
    credentials->options = (AwsCredentialsOptions){
        .source = options->source,
        .profile = text_is_empty(options->profile) ? NULL : string_copy(options->profile),
        .profiles_path =
            text_is_empty(options->profiles_path) ? NULL : string_copy(options->profiles_path),
        .region = text_is_empty(options->region) ? NULL : string_copy(options->region),
        .now_us = options->now_us != NULL ? options->now_us : real_now_us,
        .now_context = options->now_context,
    };
    if (!text_is_empty(options->access_key_id) && options->secret_key != NULL) {
        credentials->given.access_key_id = string_copy(options->access_key_id);
        credentials->given.secret_key = secret_copy(options->secret_key);
        if (options->session_token != NULL) {
            credentials->given.session_token = secret_copy(options->session_token);
        }
    }
    credentials->http = http_client_new();
    (void)pthread_mutex_init(&credentials->mutex, NULL); // cannot fail with default attributes
    (void)pthread_cond_init(&credentials->is_fetched, NULL);
    return credentials;
}

static void free_text(const char *text)
{
    union {
        const char *in;
        void *out;
    } owned = {.in = text};
    mem_free(owned.out);
}

void aws_credentials_free(AwsCredentials *credentials)
{
    if (credentials == NULL) {
        return;
    }
    assert(!credentials->is_fetching);
    aws_credential_done(&credentials->given);
    aws_credential_done(&credentials->current);
    http_client_free(credentials->http);
    free_text(credentials->options.profile);
    free_text(credentials->options.profiles_path);
    free_text(credentials->options.region);
    (void)pthread_cond_destroy(&credentials->is_fetched);
    (void)pthread_mutex_destroy(&credentials->mutex);
    mem_free(credentials);
}

static Status none_found(AwsCredentialSource source, Error *error)
{
    static const char *const hints[] = {
        [AWS_CREDENTIALS_AUTOMATIC] =
            "give the repository a credential, or run where the environment, the shared files, a "
            "web identity, a container endpoint or the instance's role has one",
        [AWS_CREDENTIALS_EXPLICIT] = "give the repository a credential: the access key's id and "
                                     "its secret",
        [AWS_CREDENTIALS_ENVIRONMENT] = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        [AWS_CREDENTIALS_PROFILE] = "add the profile with its keys to ~/.aws/credentials, or set "
                                    "AWS_PROFILE or AWS_SHARED_CREDENTIALS_FILE",
        [AWS_CREDENTIALS_WEB_IDENTITY] = "set AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN",
        [AWS_CREDENTIALS_CONTAINER] = "run in a container that has a role: "
                                      "AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI is set "
                                      "there",
        [AWS_CREDENTIALS_INSTANCE] = "give the instance a role",
    };
    error_set(error, REASON_STORAGE_CREDENTIAL, "there are no AWS credentials here");
    return error_hint(error, "%s", hints[source]);
}

// By the one thread that fetches, without the lock.
static Status fetch(AwsCredentials *credentials, AwsCredential *ret_credential, Error *error)
{
    AwsCredentialSource source = credentials->options.source;
    if (credentials->given.access_key_id != NULL &&
        (source == AWS_CREDENTIALS_AUTOMATIC || source == AWS_CREDENTIALS_EXPLICIT)) {
        *ret_credential = aws_credential_copy(&credentials->given);
        return STATUS_OK;
    }
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const AwsSourceContext context = {.options = &credentials->options,
                                      .http = credentials->http,
                                      .arena = arena,
                                      .try_count_max = TRY_COUNT_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(sources); i++) {
        bool is_there = false;
        if (source != AWS_CREDENTIALS_AUTOMATIC && source != sources[i].source) {
            continue;
        }
        RETURN_IF_ERROR(sources[i].fetch(&context, &is_there, ret_credential, error));
        if (is_there) {
            return STATUS_OK;
        }
    }
    return none_found(source, error);
}

static bool is_good(const AwsCredentials *credentials, int64_t now_us)
{
    return credentials->has_current && !credentials->must_fetch &&
           (credentials->current.expires_at_us == 0 || now_us < credentials->current.expires_at_us);
}

static bool is_due(const AwsCredentials *credentials, int64_t now_us)
{
    return !is_good(credentials, now_us) ||
           (credentials->current.expires_at_us != 0 &&
            now_us >= credentials->current.expires_at_us - REFRESH_BEFORE_US &&
            now_us >= credentials->next_fetch_us);
}

// With the lock, which is given up meanwhile.
static Status fetch_in_turn(AwsCredentials *credentials, Error *error)
{
    AwsCredential fresh = {0};
    credentials->is_fetching = true;
    (void)pthread_mutex_unlock(&credentials->mutex);
    Status status = fetch(credentials, &fresh, error);
    (void)pthread_mutex_lock(&credentials->mutex);
    credentials->is_fetching = false;
    int64_t now_us = credentials->options.now_us(credentials->options.now_context);
    credentials->next_fetch_us = now_us + REFRESH_RETRY_US;
    if (status == STATUS_OK) {
        aws_credential_done(&credentials->current);
        credentials->current = fresh;
        credentials->has_current = true;
        credentials->must_fetch = false;
    }
    (void)pthread_cond_broadcast(&credentials->is_fetched);
    return status;
}

Status aws_credentials_get(AwsCredentials *credentials, AwsCredential *ret_credential, Error *error)
{
    Status status = STATUS_OK;
    (void)pthread_mutex_lock(&credentials->mutex);
    const AwsCredentialsOptions *options = &credentials->options;
    while (credentials->is_fetching &&
           !is_good(credentials, options->now_us(options->now_context))) {
        (void)pthread_cond_wait(&credentials->is_fetched, &credentials->mutex);
    }
    if (!credentials->is_fetching && is_due(credentials, options->now_us(options->now_context))) {
        status = fetch_in_turn(credentials, error);
    }
    // A failure to refresh is nobody's while the old ones are good.
    if (is_good(credentials, options->now_us(options->now_context))) {
        *ret_credential = aws_credential_copy(&credentials->current);
        status = STATUS_OK;
    } else if (status == STATUS_OK) {
        status = error_set(error, REASON_STORAGE_CREDENTIAL,
                           "the AWS credentials here are expired already");
        error_hint(error, "check the clock of this machine and what hands them out");
    }
    (void)pthread_mutex_unlock(&credentials->mutex);
    return status;
}

bool aws_credentials_expire(AwsCredentials *credentials)
{
    (void)pthread_mutex_lock(&credentials->mutex);
    bool can_fetch = credentials->has_current && credentials->current.expires_at_us != 0;
    credentials->must_fetch = credentials->must_fetch || can_fetch;
    (void)pthread_mutex_unlock(&credentials->mutex);
    return can_fetch;
}

const char *aws_region(const char *profile, Arena *arena)
{
    static const char *const names[] = {"AWS_REGION", "AWS_DEFAULT_REGION"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        const char *value = getenv(names[i]);
        if (!text_is_empty(value)) {
            return arena_string(arena, value);
        }
    }
    return aws_profile_value(profile, "region", arena);
}
