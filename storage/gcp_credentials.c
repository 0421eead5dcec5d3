// SPDX-License-Identifier: Apache-2.0
// https://developers.google.com/identity/protocols/oauth2/service-account#httprest,
// https://cloud.google.com/compute/docs/access/authenticate-workloads and, for federation,
// https://google.aip.dev/auth/4117
#include "storage/gcp_credentials.h"

#include "common/buffer.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/http_client.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/text.h"

#include <stdlib.h>
#include <string.h>

#define CREDENTIALS_BYTES_MAX 65536
#define ANSWER_BYTES_MAX 65536
#define TIMEOUT_MS 10000
#define TRY_COUNT_MAX 4
#define RETRY_MS 100 // doubled each time
#define SUBJECT_HEADER_COUNT_MAX 16
#define LIFE_S_MAX (24 * 3600)
#define ASSERTION_LIFE_S 3600
#define TOKEN_URI "https://oauth2.googleapis.com/token"
#define METADATA_HOST "metadata.google.internal"
#define METADATA_PATH "/computeMetadata/v1/instance/service-accounts/default/token"
#define GRANT_ASSERTION "urn:ietf:params:oauth:grant-type:jwt-bearer"
#define GRANT_EXCHANGE "urn:ietf:params:oauth:grant-type:token-exchange"
#define TYPE_ACCESS_TOKEN "urn:ietf:params:oauth:token-type:access_token"
#define SCOPE_CLOUD "https://www.googleapis.com/auth/cloud-platform"

// One fetch.
typedef struct Fetch {
    const GcpTokenOptions *options;
    Arena *arena;
    const char *name; // of where the credentials are from, for messages
    Json *json;       // the credentials, or NULL
} Fetch;

static void body_done(Buffer *body)
{
    if (body->data != NULL) {
        explicit_bzero(body->data, body->capacity);
    }
    buffer_done(body);
}

static const char *get(const Fetch *fetch, const char *name)
{
    return json_get_text(fetch->json, name, "");
}

// Not with the reason of its own: a file that is not there is no missing object.
static Status read_whole(const char *path, const char *what, char **ret_text, size_t *ret_size,
                         Error *error)
{
    Error failure = {0};
    if (file_read(path, CREDENTIALS_BYTES_MAX, ret_text, ret_size, &failure) != STATUS_OK) {
        return error_set(error, REASON_INVALID, "reading %s: %s", what, failure.message);
    }
    return STATUS_OK;
}

// --- asking an endpoint -----------------------------------------------------------------------

// A credential is not sent in the clear over a network.
static bool is_safe_url(const char *url)
{
    return text_has_prefix(url, "https://") || text_has_prefix(url, "http://127.0.0.1:") ||
           text_has_prefix(url, "http://localhost:") || text_has_prefix(url, "http://[::1]:");
}

static Status refused(const HttpRequest *request, const HttpResponse *response, const Json *json,
                      Error *error)
{
    bool is_away = response->status >= 500 || response->status == 429 || response->status == 408;
    const Json *problem = json_get(json, "error"); // a word, or an object of Google's APIs
    const char *word = json_text(problem, json_get_text(problem, "status", ""));
    const char *text =
        json_get_text(json, "error_description", json_get_text(problem, "message", ""));
    error_set(error, is_away ? REASON_UNAVAILABLE : REASON_FORBIDDEN,
              "%.200s gave no token (HTTP %d) %.64s: %.200s", request->url, response->status, word,
              text);
    if (is_away) {
        return error_hint(error, "try again later");
    }
    return error_hint(error, "check that the service account and its key still exist and are "
                             "enabled, and the clock of this machine");
}

// An object of JSON, or with ret_text any text: then ret_json is not written.
static Status send_once(const HttpRequest *request, Json **ret_json, Buffer *ret_text, Error *error)
{
    HttpClient *client = http_client_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    Status status = http_client_send(client, request, &response, error);
    http_client_free(client);
    RETURN_IF_ERROR(status);
    if (ret_text != NULL && response.status == 200) {
        *ret_text = response.body;
        response.body = (Buffer){0};
        return STATUS_OK;
    }
    Error ignored = {0};
    CLEANUP(json_freep) Json *json = NULL;
    (void)json_parse(buffer_text(&response.body), response.body.size, &json, &ignored);
    char flavor[32];
    bool is_metadata = request->is_direct && ret_text == NULL;
    if (is_metadata &&
        !(http_response_header(&response, "Metadata-Flavor", flavor, sizeof(flavor)) &&
          text_equal(flavor, "Google"))) {
        return error_set(error, REASON_FORBIDDEN, "%.200s is not a metadata server of Google's",
                         request->url);
    }
    if (response.status != 200 || json_type(json) != JSON_OBJECT) {
        return refused(request, &response, json, error);
    }
    body_done(&response.body); // it holds the token
    *ret_json = TAKE_PTR(json);
    return STATUS_OK;
}

static Status send_for(const Fetch *fetch, HttpRequest *request, Json **ret_json, Buffer *ret_text,
                       Error *error)
{
    request->timeout_ms = TIMEOUT_MS;
    request->response_bytes_max = ANSWER_BYTES_MAX;
    request->ca_path = fetch->options->ca_path;
    request->ca_pem = fetch->options->ca_pem;
    for (int i = 1;; i++) {
        Status status = send_once(request, ret_json, ret_text, error);
        if (status == STATUS_OK || error->reason != REASON_UNAVAILABLE || i == TRY_COUNT_MAX) {
            return status;
        }
        clock_sleep_ms((int64_t)RETRY_MS << i);
        error_clear(error);
    }
}

static Status send(const Fetch *fetch, HttpRequest *request, Json **ret_json, Error *error)
{
    return send_for(fetch, request, ret_json, NULL, error);
}

static void add_field(Buffer *body, Arena *arena, const char *name, const char *value)
{
    (void)buffer_append_format(body, "%s%s=%s", body->size == 0 ? "" : "&", name,
                               text_url_encode(arena, value));
}

static Status post_form(const Fetch *fetch, const char *url, const Buffer *body, Json **ret_json,
                        Error *error)
{
    const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", NULL};
    if (!is_safe_url(url) || body->is_overflowed) {
        error_set(error, REASON_INVALID, "%s: '%.200s' is not an endpoint for tokens", fetch->name,
                  url);
        return error_hint(error, "use the file as Google's console gave it, unchanged");
    }
    HttpRequest request = {.method = "POST",
                           .url = url,
                           .headers = headers,
                           .body = body->data,
                           .body_size = body->size};
    return send(fetch, &request, ret_json, error);
}

static Status take_token(const char *from, const Json *json, GcpToken *ret_token, Error *error)
{
    const char *token = json_get_text(json, "access_token", "");
    int64_t life_s = json_get_integer(json, "expires_in", 0);
    // It becomes a header's value: nothing that ends a line may be in it.
    if (token[0] == '\0' || strpbrk(token, " \r\n") != NULL || life_s <= 0) {
        return error_set(error, REASON_UNAVAILABLE, "%.200s gave no token", from);
    }
    ret_token->text = secret_from_text(token);
    ret_token->life_s = MIN(life_s, LIFE_S_MAX);
    return STATUS_OK;
}

// --- a service account's key ------------------------------------------------------------------

static const char *encode_json(Arena *arena, const Json *json)
{
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, CREDENTIALS_BYTES_MAX);
    (void)json_write(json, false, &text); // fits: it is made of a file of this size
    return base64url_encode(arena, text.data, text.size);
}

static Status make_assertion(const Fetch *fetch, const char **ret_assertion, Error *error)
{
    Arena *arena = fetch->arena;
    CLEANUP(json_freep) Json *header = json_new_object();
    CLEANUP(json_freep) Json *claims = json_new_object();
    int64_t now_s = clock_now_us() / 1000000;
    json_set_text(header, "alg", "RS256");
    json_set_text(header, "typ", "JWT");
    if (get(fetch, "private_key_id")[0] != '\0') {
        json_set_text(header, "kid", get(fetch, "private_key_id"));
    }
    json_set_text(claims, "iss", get(fetch, "client_email"));
    json_set_text(claims, "scope", fetch->options->scope);
    json_set_text(claims, "aud", json_get_text(fetch->json, "token_uri", TOKEN_URI));
    json_set_integer(claims, "iat", now_s);
    json_set_integer(claims, "exp", now_s + ASSERTION_LIFE_S);
    const char *signed_text =
        arena_format(arena, "%s.%s", encode_json(arena, header), encode_json(arena, claims));
    uint8_t *signature = NULL;
    size_t size = 0;
    Status status = crypto_sign_rs256(get(fetch, "private_key"), signed_text, strlen(signed_text),
                                      arena, &signature, &size, error);
    if (status != STATUS_OK) {
        return error_wrap(error, "%s", fetch->name);
    }
    *ret_assertion =
        arena_format(arena, "%s.%s", signed_text, base64url_encode(arena, signature, size));
    return STATUS_OK;
}

static Status ask_account(const Fetch *fetch, GcpToken *ret_token, Error *error)
{
    CLEANUP(body_done) Buffer body = {0};
    CLEANUP(json_freep) Json *answer = NULL;
    const char *assertion = NULL;
    const char *url = json_get_text(fetch->json, "token_uri", TOKEN_URI);
    RETURN_IF_ERROR(make_assertion(fetch, &assertion, error));
    buffer_init(&body, (size_t)3 * CREDENTIALS_BYTES_MAX);
    add_field(&body, fetch->arena, "grant_type", GRANT_ASSERTION);
    add_field(&body, fetch->arena, "assertion", assertion);
    RETURN_IF_ERROR(post_form(fetch, url, &body, &answer, error));
    return take_token(url, answer, ret_token, error);
}

// --- what gcloud leaves on a developer's machine ----------------------------------------------

static Status ask_user(const Fetch *fetch, GcpToken *ret_token, Error *error)
{
    CLEANUP(body_done) Buffer body = {0};
    CLEANUP(json_freep) Json *answer = NULL;
    const char *url = json_get_text(fetch->json, "token_uri", TOKEN_URI);
    buffer_init(&body, (size_t)3 * CREDENTIALS_BYTES_MAX);
    add_field(&body, fetch->arena, "grant_type", "refresh_token");
    add_field(&body, fetch->arena, "client_id", get(fetch, "client_id"));
    add_field(&body, fetch->arena, "client_secret", get(fetch, "client_secret"));
    add_field(&body, fetch->arena, "refresh_token", get(fetch, "refresh_token"));
    RETURN_IF_ERROR(post_form(fetch, url, &body, &answer, error));
    return take_token(url, answer, ret_token, error);
}

// --- workload identity federation -------------------------------------------------------------

static Status take_headers(const Fetch *fetch, const Json *headers,
                           const char *ret_lines[SUBJECT_HEADER_COUNT_MAX + 1], Error *error)
{
    size_t count = 0;
    for (const Json *item = json_first(headers); item != NULL; item = json_next(item)) {
        const char *name = json_key(item);
        const char *value = json_text(item, NULL);
        if (count == SUBJECT_HEADER_COUNT_MAX || text_is_empty(name) || value == NULL ||
            strpbrk(name, ": \t\r\n") != NULL || strpbrk(value, "\r\n") != NULL) {
            return error_set(error, REASON_INVALID,
                             "%s: the headers of its credential_source are not valid", fetch->name);
        }
        ret_lines[count++] = arena_format(fetch->arena, "%s: %s", name, value);
    }
    ret_lines[count] = NULL;
    return STATUS_OK;
}

// From an identity provider, or from what only this machine has: Azure's is link-local.
static Status fetch_subject(const Fetch *fetch, const Json *source, Buffer *ret_text, Error *error)
{
    const char *url = json_get_text(source, "url", "");
    const char *headers[SUBJECT_HEADER_COUNT_MAX + 1];
    bool is_link_local = text_has_prefix(url, "http://169.254.169.254/");
    if (!is_safe_url(url) && !is_link_local) {
        error_set(error, REASON_INVALID, "%s: its URL is no safe place for a subject token",
                  fetch->name);
        return error_hint(error, "use https, or http on this machine");
    }
    RETURN_IF_ERROR(take_headers(fetch, json_get(source, "headers"), headers, error));
    HttpRequest request = {
        .method = "GET", .url = url, .headers = headers, .is_direct = is_link_local};
    if (send_for(fetch, &request, NULL, ret_text, error) != STATUS_OK) {
        return error_wrap(error, "%s: asking for the subject token", fetch->name);
    }
    return STATUS_OK;
}

static Status read_source(const Fetch *fetch, const Json *source, char **ret_text, size_t *ret_size,
                          Error *error)
{
    const char *path = json_get_text(source, "file", "");
    if (path[0] != '\0') {
        return read_whole(path, "the subject token", ret_text, ret_size, error);
    }
    if (json_get(source, "environment_id") != NULL || json_get(source, "url") == NULL) {
        error_set(error, REASON_INVALID, "%s: its subject token comes from no file and no URL",
                  fetch->name);
        return error_hint(error, "make the configuration with --credential-source-file or "
                                 "--credential-source-url; other sources are not there");
    }
    CLEANUP(body_done) Buffer body = {0};
    RETURN_IF_ERROR(fetch_subject(fetch, source, &body, error));
    *ret_text = string_copy(buffer_text(&body));
    *ret_size = strlen(*ret_text);
    return STATUS_OK;
}

// The subject token: the source's text, or a member of the JSON in it.
static Status read_subject(const Fetch *fetch, Secret *ret_subject, Error *error)
{
    const Json *source = json_get(fetch->json, "credential_source");
    const Json *format = json_get(source, "format");
    char *text = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(read_source(fetch, source, &text, &size, error));
    Error ignored = {0};
    CLEANUP(json_freep) Json *json = NULL;
    const char *subject = text;
    if (text_equal(json_get_text(format, "type", "text"), "json")) {
        (void)json_parse(text, size, &json, &ignored);
        subject = json_get_text(json, json_get_text(format, "subject_token_field_name", ""), "");
    } else {
        text[strcspn(text, "\r\n")] = '\0';
    }
    Secret copy = secret_from_text(subject);
    explicit_bzero(text, size);
    mem_free(text);
    if (copy.size == 0) {
        secret_done(&copy);
        return error_set(error, REASON_INVALID, "%s: there is no subject token at its source",
                         fetch->name);
    }
    *ret_subject = copy;
    return STATUS_OK;
}

// Becomes the service account that the federation stands in for.
static Status impersonate(const Fetch *fetch, const char *url, GcpToken *token, Error *error)
{
    CLEANUP(json_freep) Json *question = json_new_object();
    CLEANUP(json_freep) Json *answer = NULL;
    CLEANUP(buffer_done) Buffer body = {0};
    Json *scopes = json_new_array();
    json_add(scopes, json_new_text(fetch->options->scope));
    json_set(question, "scope", scopes);
    json_set_text(question, "lifetime", "3600s");
    buffer_init(&body, CREDENTIALS_BYTES_MAX);
    (void)json_write(question, false, &body);
    const char *const headers[] = {
        "Content-Type: application/json",
        arena_format(fetch->arena, "Authorization: Bearer %s", secret_text(&token->text)), NULL};
    HttpRequest request = {.method = "POST",
                           .url = url,
                           .headers = headers,
                           .body = body.data,
                           .body_size = body.size};
    if (!is_safe_url(url)) {
        return error_set(error, REASON_INVALID, "%s: '%.200s' is not an endpoint for tokens",
                         fetch->name, url);
    }
    RETURN_IF_ERROR(send(fetch, &request, &answer, error));
    int64_t end_us = 0;
    const char *text = json_get_text(answer, "accessToken", "");
    int64_t life_s = time_parse(json_get_text(answer, "expireTime", ""), &end_us)
                         ? (end_us - clock_now_us()) / 1000000
                         : 0;
    CLEANUP(json_freep) Json *plain = json_new_object();
    json_set_text(plain, "access_token", text);
    json_set_integer(plain, "expires_in", life_s);
    secret_done(&token->text);
    return take_token(url, plain, token, error);
}

static Status ask_federation(const Fetch *fetch, GcpToken *ret_token, Error *error)
{
    CLEANUP(body_done) Buffer body = {0};
    CLEANUP(json_freep) Json *answer = NULL;
    CLEANUP(secret_done) Secret subject = {0};
    const char *account_url = get(fetch, "service_account_impersonation_url");
    bool is_impersonated = account_url[0] != '\0';
    Arena *arena = fetch->arena;
    RETURN_IF_ERROR(read_subject(fetch, &subject, error));
    buffer_init(&body, (size_t)4 * CREDENTIALS_BYTES_MAX);
    add_field(&body, arena, "grant_type", GRANT_EXCHANGE);
    add_field(&body, arena, "audience", get(fetch, "audience"));
    add_field(&body, arena, "scope", is_impersonated ? SCOPE_CLOUD : fetch->options->scope);
    add_field(&body, arena, "requested_token_type", TYPE_ACCESS_TOKEN);
    add_field(&body, arena, "subject_token", secret_text(&subject));
    add_field(&body, arena, "subject_token_type", get(fetch, "subject_token_type"));
    RETURN_IF_ERROR(post_form(fetch, get(fetch, "token_url"), &body, &answer, error));
    RETURN_IF_ERROR(take_token(get(fetch, "token_url"), answer, ret_token, error));
    if (is_impersonated && impersonate(fetch, account_url, ret_token, error) != STATUS_OK) {
        secret_done(&ret_token->text);
        return error->status;
    }
    return STATUS_OK;
}

// --- the machine's metadata server ------------------------------------------------------------

static Status ask_metadata_server(const Fetch *fetch, GcpToken *ret_token, Error *error)
{
    CLEANUP(json_freep) Json *answer = NULL;
    const char *host = getenv("GCE_METADATA_HOST");
    const char *url = arena_format(fetch->arena, "http://%.253s" METADATA_PATH,
                                   text_is_empty(host) ? METADATA_HOST : host);
    const char *const headers[] = {"Metadata-Flavor: Google", NULL};
    HttpRequest request = {.method = "GET", .url = url, .headers = headers, .is_direct = true};
    if (send(fetch, &request, &answer, error) != STATUS_OK) {
        return error_hint(error, "give the machine a service account; where there is no metadata "
                                 "server, give an account's key, or name its file in "
                                 "GOOGLE_APPLICATION_CREDENTIALS");
    }
    return take_token(url, answer, ret_token, error);
}

// --- which of them ----------------------------------------------------------------------------

static bool is_account_key(const Json *json)
{
    return text_equal(json_get_text(json, "type", ""), "service_account") &&
           json_get_text(json, "client_email", "")[0] != '\0' &&
           json_get_text(json, "private_key", "")[0] != '\0';
}

static Status no_account_key(const char *name, Error *error)
{
    error_set(error, REASON_INVALID, "%s is not a service account's key", name);
    return error_hint(error, "it is JSON with \"type\": \"service_account\", client_email and "
                             "private_key, as 'gcloud iam service-accounts keys create' writes it");
}

// The JSON holds the key: where it fails is told, not what is there.
static Status parse_key(const Secret *key, Json **ret_json, Error *error)
{
    Error ignored = {0};
    CLEANUP(json_freep) Json *json = NULL;
    if (key->size > CREDENTIALS_BYTES_MAX ||
        json_parse(secret_text(key), key->size, &json, &ignored) != STATUS_OK ||
        !is_account_key(json)) {
        return no_account_key("the credential", error);
    }
    *ret_json = TAKE_PTR(json);
    return STATUS_OK;
}

Status gcp_key_check(const Secret *key, Arena *arena, const char **ret_account, Error *error)
{
    CLEANUP(json_freep) Json *json = NULL;
    uint8_t *signature = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(parse_key(key, &json, error));
    if (!is_safe_url(json_get_text(json, "token_uri", TOKEN_URI)) ||
        crypto_sign_rs256(json_get_text(json, "private_key", ""), "", 0, arena, &signature, &size,
                          error) != STATUS_OK) {
        return no_account_key("the credential", error);
    }
    *ret_account = arena_string(arena, json_get_text(json, "client_email", ""));
    return STATUS_OK;
}

static Status read_file(Fetch *fetch, const char *path, Error *error)
{
    char *text = NULL;
    size_t size = 0;
    Error ignored = {0};
    fetch->name = arena_format(fetch->arena, "'%.200s'", path);
    if (read_whole(path, "Google's credentials", &text, &size, error) != STATUS_OK) {
        return error_hint(error, "correct GOOGLE_APPLICATION_CREDENTIALS, or unset it to use the "
                                 "metadata server");
    }
    Status status = json_parse(text, size, &fetch->json, &ignored);
    explicit_bzero(text, size);
    mem_free(text);
    return status == STATUS_OK ? STATUS_OK : no_account_key(fetch->name, error);
}

static Status ask(Fetch *fetch, GcpToken *ret_token, Error *error)
{
    const GcpTokenOptions *options = fetch->options;
    if (options->key != NULL) {
        // What a key says is done: a federation may name files and endpoints, so only one that the
        // operator of this machine put into a file is taken.
        fetch->name = "the credential";
        RETURN_IF_ERROR(parse_key(options->key, &fetch->json, error));
        return ask_account(fetch, ret_token, error);
    }
    if (options->is_metadata_only || options->credentials_path == NULL) {
        return ask_metadata_server(fetch, ret_token, error);
    }
    RETURN_IF_ERROR(read_file(fetch, options->credentials_path, error));
    if (text_equal(get(fetch, "type"), "external_account")) {
        return ask_federation(fetch, ret_token, error);
    }
    if (text_equal(get(fetch, "type"), "authorized_user")) {
        return ask_user(fetch, ret_token, error);
    }
    return is_account_key(fetch->json) ? ask_account(fetch, ret_token, error)
                                       : no_account_key(fetch->name, error);
}

Status gcp_credentials_fetch(const GcpTokenOptions *options, GcpToken *ret_token, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Fetch fetch = {.options = options, .arena = arena};
    Status status = ask(&fetch, ret_token, error);
    json_free(fetch.json);
    return status;
}
