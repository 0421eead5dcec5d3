// SPDX-License-Identifier: Apache-2.0
// https://developers.google.com/identity/protocols/oauth2/service-account#httprest and
// https://cloud.google.com/compute/docs/access/authenticate-workloads
#include "storage/gcp_token.h"

#include "common/buffer.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/file.h"
#include "common/http_client.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/text.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREDENTIALS_BYTES_MAX 65536
#define CLAIMS_BYTES_MAX 4096
#define TIMEOUT_MS 10000
#define TOKEN_MARGIN_S 300
#define ASSERTION_LIFE_S 3600
#define METADATA_HOST "metadata.google.internal"
#define METADATA_PATH "/computeMetadata/v1/instance/service-accounts/default/token"
#define GRANT "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"

struct GcpTokens {
    char *scope, *credentials_path, *ca_path;
    pthread_mutex_t mutex; // guards what follows; held while a token is fetched
    Secret token;
    int64_t end_ms; // monotonic
};

static char *copy_or_null(const char *text)
{
    return text == NULL ? NULL : string_copy(text);
}

GcpTokens *gcp_tokens_new(const GcpTokenOptions *options)
{
    GcpTokens *tokens = mem_alloc(sizeof(*tokens));
    const char *path = options->credentials_path;
    if (path == NULL && !text_is_empty(getenv("GOOGLE_APPLICATION_CREDENTIALS"))) {
        path = getenv("GOOGLE_APPLICATION_CREDENTIALS");
    }
    tokens->scope = string_copy(options->scope);
    tokens->credentials_path = copy_or_null(path);
    tokens->ca_path = copy_or_null(options->ca_path);
    (void)pthread_mutex_init(&tokens->mutex, NULL); // cannot fail with default attributes
    return tokens;
}

void gcp_tokens_free(GcpTokens *tokens)
{
    if (tokens != NULL) {
        secret_done(&tokens->token);
        mem_free(tokens->scope);
        mem_free(tokens->credentials_path);
        mem_free(tokens->ca_path);
        (void)pthread_mutex_destroy(&tokens->mutex);
        mem_free(tokens);
    }
}

// --- a service account's key file -------------------------------------------------------------

typedef struct ServiceAccount {
    const char *email, *key_id, *private_key, *token_uri; // of json
    Json *json;
} ServiceAccount;

static void account_done(ServiceAccount *account)
{
    json_free(account->json);
}

static Status account_read(const char *path, ServiceAccount *ret_account, Error *error)
{
    char *text = NULL;
    size_t size = 0;
    ServiceAccount account = {0};
    if (file_read(path, CREDENTIALS_BYTES_MAX, &text, &size, error) != STATUS_OK) {
        return error_wrap(error, "reading the service account's key file");
    }
    Error ignored = {0};
    Status status = json_parse(text, size, &account.json, &ignored);
    secret_wipe_text(text);
    mem_free(text);
    account.email = json_get_text(account.json, "client_email", "");
    account.key_id = json_get_text(account.json, "private_key_id", "");
    account.private_key = json_get_text(account.json, "private_key", "");
    account.token_uri =
        json_get_text(account.json, "token_uri", "https://oauth2.googleapis.com/token");
    if (status != STATUS_OK ||
        !text_equal(json_get_text(account.json, "type", ""), "service_account") ||
        account.email[0] == '\0' || account.private_key[0] == '\0') {
        account_done(&account);
        error_set(error, REASON_INVALID, "'%s' is not a service account's key file", path);
        return error_hint(error, "it is JSON with \"type\": \"service_account\", client_email and "
                                 "private_key");
    }
    *ret_account = account;
    return STATUS_OK;
}

static const char *encode_json(Arena *arena, const Json *json)
{
    CLEANUP(buffer_done) Buffer text = {0};
    buffer_init(&text, CLAIMS_BYTES_MAX);
    (void)json_write(json, false, &text); // what is cut is refused by the other side
    return base64url_encode(arena, text.data, text.size);
}

static Status make_assertion(const GcpTokens *tokens, const ServiceAccount *account, Arena *arena,
                             const char **ret_assertion, Error *error)
{
    CLEANUP(json_freep) Json *header = json_new_object();
    CLEANUP(json_freep) Json *claims = json_new_object();
    int64_t now_s = clock_now_us() / 1000000;
    json_set_text(header, "alg", "RS256");
    json_set_text(header, "typ", "JWT");
    if (account->key_id[0] != '\0') {
        json_set_text(header, "kid", account->key_id);
    }
    json_set_text(claims, "iss", account->email);
    json_set_text(claims, "scope", tokens->scope);
    json_set_text(claims, "aud", account->token_uri);
    json_set_integer(claims, "iat", now_s);
    json_set_integer(claims, "exp", now_s + ASSERTION_LIFE_S);
    const char *signed_text =
        arena_format(arena, "%s.%s", encode_json(arena, header), encode_json(arena, claims));
    uint8_t *signature = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(crypto_sign_rs256(account->private_key, signed_text, strlen(signed_text), arena,
                                      &signature, &size, error));
    *ret_assertion =
        arena_format(arena, "%s.%s", signed_text, base64url_encode(arena, signature, size));
    return STATUS_OK;
}

// --- asking -----------------------------------------------------------------------------------

static Status take_token(GcpTokens *tokens, const HttpResponse *response, const char *url,
                         Error *error)
{
    Error ignored = {0};
    CLEANUP(json_freep) Json *json = NULL;
    (void)json_parse(buffer_text(&response->body), response->body.size, &json, &ignored);
    const char *token = json_get_text(json, "access_token", "");
    if (response->status != 200 || token[0] == '\0') {
        bool is_away = response->status >= 500 || response->status == 429;
        error_set(error, is_away ? REASON_UNAVAILABLE : REASON_FORBIDDEN,
                  "%.200s gave no token (HTTP %d): %.200s", url, response->status,
                  json_get_text(json, "error_description", json_get_text(json, "error", "")));
        return error_hint(error, "check the service account, its key, and this machine's clock");
    }
    int64_t life_s = json_get_integer(json, "expires_in", 0);
    int64_t kept_s = life_s > 2 * TOKEN_MARGIN_S ? life_s - TOKEN_MARGIN_S : life_s / 2;
    secret_done(&tokens->token);
    tokens->token = secret_from_text(token);
    tokens->end_ms = clock_monotonic_ms() + kept_s * 1000;
    return STATUS_OK;
}

static Status ask(GcpTokens *tokens, const HttpRequest *request, Error *error)
{
    HttpClient *client = http_client_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    Status status = http_client_send(client, request, &response, error);
    http_client_free(client);
    return status == STATUS_OK ? take_token(tokens, &response, request->url, error) : status;
}

static Status ask_account(GcpTokens *tokens, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(account_done) ServiceAccount account = {0};
    const char *assertion = NULL;
    RETURN_IF_ERROR(account_read(tokens->credentials_path, &account, error));
    RETURN_IF_ERROR(make_assertion(tokens, &account, arena, &assertion, error));
    const char *body = arena_format(arena, "%s&assertion=%s", GRANT, assertion);
    const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", NULL};
    const HttpRequest request = {.method = "POST",
                                 .url = account.token_uri,
                                 .headers = headers,
                                 .body = body,
                                 .body_size = strlen(body),
                                 .timeout_ms = TIMEOUT_MS,
                                 .ca_path = tokens->ca_path};
    return ask(tokens, &request, error);
}

static Status ask_metadata_server(GcpTokens *tokens, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *host = getenv("GCE_METADATA_HOST");
    const char *url = arena_format(arena, "http://%.253s" METADATA_PATH,
                                   text_is_empty(host) ? METADATA_HOST : host);
    const char *const headers[] = {"Metadata-Flavor: Google", NULL};
    const HttpRequest request = {
        .method = "GET", .url = url, .headers = headers, .timeout_ms = TIMEOUT_MS};
    if (ask(tokens, &request, error) != STATUS_OK && error->reason == REASON_UNAVAILABLE) {
        return error_hint(error, "where there is no metadata server, name a service account's key "
                                 "file in GOOGLE_APPLICATION_CREDENTIALS");
    }
    return error->status;
}

Status gcp_tokens_get(GcpTokens *tokens, Secret *ret_token, Error *error)
{
    Status status = STATUS_OK;
    (void)pthread_mutex_lock(&tokens->mutex);
    if (tokens->token.size == 0 || clock_monotonic_ms() >= tokens->end_ms) {
        status = tokens->credentials_path != NULL ? ask_account(tokens, error)
                                                  : ask_metadata_server(tokens, error);
    }
    if (status == STATUS_OK) {
        *ret_token = secret_copy(&tokens->token);
    }
    (void)pthread_mutex_unlock(&tokens->mutex);
    return status;
}
