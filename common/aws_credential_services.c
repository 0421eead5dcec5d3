// SPDX-License-Identifier: Apache-2.0
// Credentials that a service hands out for a while: STS for a web identity, the container's
// endpoint, the instance's metadata service.
#include "common/aws_credential_source.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/text.h"
#include "common/xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 250
#define SERVICE_TIMEOUT_MS 10000
#define INSTANCE_TIMEOUT_MS 1000 // it is on the machine, or not there at all
#define ANSWER_BYTES_MAX (256 * 1024)
#define INSTANCE_ENDPOINT "http://169.254.169.254"
#define INSTANCE_ROLE_PATH "/latest/meta-data/iam/security-credentials/"
#define CONTAINER_ENDPOINT "http://169.254.170.2"

// Tries again after passing failures; the answer's body is in the arena.
static Status ask(const AwsSourceContext *context, HttpRequest request, int *ret_status,
                  const char **ret_body, Error *error)
{
    request.response_bytes_max = ANSWER_BYTES_MAX;
    for (int try_count = 1;; try_count++) {
        CLEANUP(http_response_done) HttpResponse response = {0};
        Status status = http_client_send(context->http, &request, &response, error);
        bool is_passing =
            status == STATUS_UNAVAILABLE || status == STATUS_DEADLINE_EXCEEDED ||
            (status == STATUS_OK && (response.status >= 500 || response.status == 429));
        if (is_passing && try_count < context->try_count_max) {
            clock_sleep_ms((int64_t)RETRY_MS << (try_count - 1));
            continue;
        }
        RETURN_IF_ERROR(status);
        *ret_status = response.status;
        *ret_body = arena_string_n(context->arena, buffer_text(&response.body), response.body.size);
        return STATUS_OK;
    }
}

static Status refused(const char *who, int status, const char *hint, Error *error)
{
    error_set(error, status >= 500 ? REASON_UNAVAILABLE : REASON_STORAGE_CREDENTIAL,
              "%s gives no AWS credentials: it answered HTTP status %d", who, status);
    return error_hint(error, "%s", hint);
}

static Status make(const char *who, const char *access_key_id, const char *secret_key,
                   const char *session_token, const char *expiration, AwsCredential *ret_credential,
                   Error *error)
{
    int64_t expires_at_us = 0;
    if (text_is_empty(access_key_id) || text_is_empty(secret_key) ||
        !time_parse(expiration, &expires_at_us)) {
        return error_set(error, REASON_STORAGE_CREDENTIAL,
                         "%s answered something that is no AWS credential", who);
    }
    *ret_credential = (AwsCredential){.access_key_id = string_copy(access_key_id),
                                      .secret_key = secret_from_text(secret_key),
                                      .session_token = secret_from_text(session_token),
                                      .expires_at_us = expires_at_us};
    return STATUS_OK;
}

// As the container's endpoint and the metadata service write them.
static Status parse_json(const char *who, const char *body, AwsCredential *ret_credential,
                         Error *error)
{
    CLEANUP(json_freep) Json *json = NULL;
    Error ignored = {0}; // it may quote the body
    if (json_parse(body, strlen(body), &json, &ignored) != STATUS_OK) {
        return error_set(error, REASON_STORAGE_CREDENTIAL,
                         "%s answered something that is no AWS credential", who);
    }
    return make(who, json_get_text(json, "AccessKeyId", ""),
                json_get_text(json, "SecretAccessKey", ""), json_get_text(json, "Token", ""),
                json_get_text(json, "Expiration", ""), ret_credential, error);
}

// --- web identity -----------------------------------------------------------------------------

static const char *environment_or(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return text_is_empty(value) ? otherwise : value;
}

static const char *sts_endpoint(const AwsSourceContext *context)
{
    const char *endpoint = environment_or("AWS_ENDPOINT_URL_STS", NULL);
    if (endpoint != NULL) {
        return endpoint;
    }
    const char *region = context->options->region != NULL
                             ? context->options->region
                             : aws_region(context->options->profile, context->arena);
    region = text_is_empty(region) ? "us-east-1" : region;
    return arena_format(context->arena, "https://sts.%s.amazonaws.com%s", region,
                        text_has_prefix(region, "cn-") ? ".cn" : "");
}

static Status parse_sts(int status, const char *body, const char *role,
                        AwsCredential *ret_credential, Error *error)
{
#define RESULT "AssumeRoleWithWebIdentityResult/Credentials/"
    char access_key_id[256];
    char secret_key[256];
    char session_token[16384];
    char expiration[64];
    char code[64];
    size_t size = strlen(body);
    if (status != 200) {
        bool has_code = xml_find(body, size, "Error/Code", code, sizeof(code));
        error_set(error, status >= 500 ? REASON_UNAVAILABLE : REASON_STORAGE_CREDENTIAL,
                  "STS does not let the web identity assume the role '%.200s': HTTP status %d%s%s",
                  role, status, has_code ? ", " : "", code);
        return error_hint(error, "check that the role trusts the identity provider and the token's "
                                 "subject, and that the token is fresh");
    }
    (void)xml_find(body, size, RESULT "AccessKeyId", access_key_id, sizeof(access_key_id));
    (void)xml_find(body, size, RESULT "SecretAccessKey", secret_key, sizeof(secret_key));
    (void)xml_find(body, size, RESULT "SessionToken", session_token, sizeof(session_token));
    (void)xml_find(body, size, RESULT "Expiration", expiration, sizeof(expiration));
    Status result =
        make("STS", access_key_id, secret_key, session_token, expiration, ret_credential, error);
    explicit_bzero(secret_key, sizeof(secret_key));
    explicit_bzero(session_token, sizeof(session_token));
    return result;
#undef RESULT
}

Status aws_source_web_identity(const AwsSourceContext *context, bool *ret_is_there,
                               AwsCredential *ret_credential, Error *error)
{
    Arena *arena = context->arena;
    const char *profile = context->options->profile;
    const char *file = environment_or("AWS_WEB_IDENTITY_TOKEN_FILE", NULL);
    const char *role = environment_or("AWS_ROLE_ARN", NULL);
    file = file != NULL ? file : aws_profile_value(profile, "web_identity_token_file", arena);
    role = role != NULL ? role : aws_profile_value(profile, "role_arn", arena);
    *ret_is_there = !text_is_empty(file);
    if (!*ret_is_there) {
        return STATUS_OK;
    }
    if (text_is_empty(role)) {
        error_set(error, REASON_STORAGE_CREDENTIAL,
                  "there is a web identity's token, but no role to assume with it");
        return error_hint(error, "set AWS_ROLE_ARN");
    }
    const char *token = NULL;
    RETURN_IF_ERROR(aws_read_token(file, arena, &token, error));
    AwsQueryPair pairs[] = {
        {"Action", "AssumeRoleWithWebIdentity"},
        {"Version", "2011-06-15"},
        {"RoleArn", role},
        {"RoleSessionName", environment_or("AWS_ROLE_SESSION_NAME", "holdfast")},
        {"WebIdentityToken", token},
    };
    const char *form = aws_query_text(pairs, ARRAY_COUNT(pairs), arena);
    const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded",
                                   "Accept: application/xml", NULL};
    const char *body = NULL;
    int status = 0;
    RETURN_IF_ERROR(ask(context,
                        (HttpRequest){.method = "POST",
                                      .url = arena_format(arena, "%s/", sts_endpoint(context)),
                                      .headers = headers,
                                      .body = form,
                                      .body_size = strlen(form),
                                      .timeout_ms = SERVICE_TIMEOUT_MS},
                        &status, &body, error));
    return parse_sts(status, body, role, ret_credential, error);
}

// --- the container's endpoint -----------------------------------------------------------------

// The token must not go to just anybody: over plain HTTP only to the machine itself and to the two
// addresses that ECS and EKS have.
static bool is_container_url_allowed(const char *url)
{
    static const char *const hosts[] = {"127.0.0.1",     "localhost",      "[::1]",
                                        "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
    if (text_has_prefix(url, "https://")) {
        return true;
    }
    if (!text_has_prefix(url, "http://")) {
        return false;
    }
    const char *host = url + strlen("http://");
    for (size_t i = 0; i < ARRAY_COUNT(hosts); i++) {
        size_t size = strlen(hosts[i]);
        if (strncmp(host, hosts[i], size) == 0 && strchr(":/?", host[size]) != NULL) {
            return true; // strchr finds the NUL, too
        }
    }
    return false;
}

static Status container_token(const AwsSourceContext *context, const char **ret_header,
                              Error *error)
{
    const char *file = environment_or("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", NULL);
    const char *token = environment_or("AWS_CONTAINER_AUTHORIZATION_TOKEN", NULL);
    if (file != NULL) {
        RETURN_IF_ERROR(aws_read_token(file, context->arena, &token, error)); // it is rotated
    }
    if (token != NULL && strpbrk(token, "\r\n") != NULL) {
        return error_set(error, REASON_STORAGE_CREDENTIAL,
                         "the container's authorization token has a line break in it");
    }
    *ret_header = token == NULL ? NULL : arena_format(context->arena, "Authorization: %s", token);
    return STATUS_OK;
}

Status aws_source_container(const AwsSourceContext *context, bool *ret_is_there,
                            AwsCredential *ret_credential, Error *error)
{
    const char *relative = environment_or("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", NULL);
    const char *url = environment_or("AWS_CONTAINER_CREDENTIALS_FULL_URI", NULL);
    if (relative != NULL) {
        url = arena_format(context->arena, CONTAINER_ENDPOINT "%s", relative);
    }
    *ret_is_there = url != NULL;
    if (url == NULL) {
        return STATUS_OK;
    }
    if (!is_container_url_allowed(url)) {
        error_set(error, REASON_STORAGE_CREDENTIAL,
                  "AWS_CONTAINER_CREDENTIALS_FULL_URI is not an address that may have the token");
        return error_hint(error, "use https, or the address of the container's own agent");
    }
    const char *authorization = NULL;
    RETURN_IF_ERROR(container_token(context, &authorization, error));
    const char *const headers[] = {"Accept: application/json", authorization, NULL};
    const char *body = NULL;
    int status = 0;
    RETURN_IF_ERROR(ask(context,
                        (HttpRequest){.method = "GET",
                                      .url = url,
                                      .headers = headers,
                                      .timeout_ms = SERVICE_TIMEOUT_MS,
                                      .is_direct = text_has_prefix(url, "http://")},
                        &status, &body, error));
    if (status != 200) {
        return refused("the container's endpoint", status,
                       "check that the container has a role and its token file is readable", error);
    }
    return parse_json("the container's endpoint", body, ret_credential, error);
}

// --- the instance's metadata service ------------------------------------------------------------

static Status ask_instance(const AwsSourceContext *context, const char *method, const char *path,
                           const char *header, int *ret_status, const char **ret_body, Error *error)
{
    const char *endpoint = environment_or("AWS_EC2_METADATA_SERVICE_ENDPOINT", INSTANCE_ENDPOINT);
    const char *const headers[] = {header, NULL};
    size_t size = strlen(endpoint);
    size -= size > 0 && endpoint[size - 1] == '/' ? 1 : 0;
    return ask(
        context,
        (HttpRequest){.method = method,
                      .url = arena_format(context->arena, "%.*s%s", (int)size, endpoint, path),
                      .headers = headers,
                      .timeout_ms = INSTANCE_TIMEOUT_MS,
                      .is_direct = true},
        ret_status, ret_body, error);
}

Status aws_source_instance(const AwsSourceContext *context, bool *ret_is_there,
                           AwsCredential *ret_credential, Error *error)
{
    static const char who[] = "the instance's metadata service";
    bool is_chosen = context->options->source == AWS_CREDENTIALS_INSTANCE;
    const char *token = NULL;
    const char *role = NULL;
    const char *body = NULL;
    int status = 0;
    *ret_is_there = !text_equal(getenv("AWS_EC2_METADATA_DISABLED"), "true");
    if (!*ret_is_there) {
        return STATUS_OK;
    }
    AwsSourceContext first = *context;
    first.try_count_max = is_chosen ? context->try_count_max : 1; // elsewhere nobody answers
    Status result =
        ask_instance(&first, "PUT", "/latest/api/token",
                     "X-aws-ec2-metadata-token-ttl-seconds: 300", &status, &token, error);
    if (!is_chosen && (result != STATUS_OK || status != 200)) {
        *ret_is_there = false; // this is no instance, and nobody said that it is
        error_clear(error);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(result);
    if (status != 200 || strpbrk(token, "\r\n") != NULL) {
        return refused(who, status, "allow version 2 of it, with a hop limit that reaches us",
                       error);
    }
    const char *header = arena_format(context->arena, "X-aws-ec2-metadata-token: %s", token);
    RETURN_IF_ERROR(
        ask_instance(context, "GET", INSTANCE_ROLE_PATH, header, &status, &role, error));
    role = arena_string_n(context->arena, role, strcspn(role, "\r\n"));
    if (status != 200 || role[0] == '\0') {
        return refused(who, status, "give the instance a role", error);
    }
    const char *path = arena_format(context->arena, INSTANCE_ROLE_PATH "%s",
                                    aws_uri_encode(role, false, context->arena));
    RETURN_IF_ERROR(ask_instance(context, "GET", path, header, &status, &body, error));
    if (status != 200) {
        return refused(who, status, "give the instance a role", error);
    }
    return parse_json(who, body, ret_credential, error);
}
