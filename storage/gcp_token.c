// SPDX-License-Identifier: Apache-2.0
#include "storage/gcp_token.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/gcp_credentials.h"

#include <pthread.h>
#include <stdlib.h>

#define RENEWAL_MARGIN_S 300 // before its end a token is renewed
#define END_MARGIN_S 30      // before its end it is not given out any more
#define RENEWAL_RETRY_MS 15000

struct GcpTokens {
    GcpTokenOptions options; // its texts and the key are our own
    Secret key;
    pthread_mutex_t mutex; // guards what follows; not held while a token is fetched
    pthread_cond_t fetched;
    bool is_fetching;
    int64_t fetch_count; // ended ones
    Error error;         // of the last fetch
    Secret token;
    int64_t renewal_ms, end_ms; // monotonic
};

GcpTokens *gcp_tokens_new(const GcpTokenOptions *options)
{
    GcpTokens *tokens = mem_alloc(sizeof(*tokens));
    const char *path = options->credentials_path;
    if (path == NULL && options->key == NULL && !options->is_metadata_only &&
        !text_is_empty(getenv("GOOGLE_APPLICATION_CREDENTIALS"))) {
        path = getenv("GOOGLE_APPLICATION_CREDENTIALS");
    }
    tokens->options = (GcpTokenOptions){.scope = string_copy(options->scope),
                                        .credentials_path = string_copy(path),
                                        .is_metadata_only = options->is_metadata_only,
                                        .ca_path = string_copy(options->ca_path),
                                        .ca_pem = string_copy(options->ca_pem)};
    if (options->key != NULL) {
        tokens->key = secret_copy(options->key);
        tokens->options.key = &tokens->key;
    }
    (void)pthread_mutex_init(&tokens->mutex, NULL); // cannot fail with default attributes
    (void)pthread_cond_init(&tokens->fetched, NULL);
    return tokens;
}

static void free_text(const char *text)
{
    mem_freep(&text);
}

void gcp_tokens_free(GcpTokens *tokens)
{
    if (tokens != NULL) {
        secret_done(&tokens->token);
        secret_done(&tokens->key);
        free_text(tokens->options.scope);
        free_text(tokens->options.credentials_path);
        free_text(tokens->options.ca_path);
        free_text(tokens->options.ca_pem);
        (void)pthread_cond_destroy(&tokens->fetched);
        (void)pthread_mutex_destroy(&tokens->mutex);
        mem_free(tokens);
    }
}

// Under the mutex. A token that ends soon is used up to its end when no other can be had.
static bool is_usable(const GcpTokens *tokens, int64_t now_ms)
{
    return tokens->token.size > 0 && now_ms < tokens->end_ms;
}

static void take(GcpTokens *tokens, GcpToken *token)
{
    int64_t life_s = token->life_s;
    int64_t renewal_s = life_s > 2 * RENEWAL_MARGIN_S ? life_s - RENEWAL_MARGIN_S : life_s / 2;
    int64_t end_s = life_s > 2 * END_MARGIN_S ? life_s - END_MARGIN_S : life_s;
    int64_t now_ms = clock_monotonic_ms();
    secret_done(&tokens->token);
    tokens->token = token->text;
    tokens->renewal_ms = now_ms + renewal_s * 1000;
    tokens->end_ms = now_ms + end_s * 1000;
}

// Under the mutex, which is let go meanwhile.
static void fetch(GcpTokens *tokens)
{
    GcpToken token = {0};
    Error error = {0};
    tokens->is_fetching = true;
    (void)pthread_mutex_unlock(&tokens->mutex);
    Status status = gcp_credentials_fetch(&tokens->options, &token, &error);
    (void)pthread_mutex_lock(&tokens->mutex);
    tokens->is_fetching = false;
    tokens->fetch_count++;
    tokens->error = error;
    if (status == STATUS_OK) {
        take(tokens, &token);
    } else {
        tokens->renewal_ms = clock_monotonic_ms() + RENEWAL_RETRY_MS;
    }
    (void)pthread_cond_broadcast(&tokens->fetched);
}

Status gcp_tokens_get(GcpTokens *tokens, Secret *ret_token, Error *error)
{
    (void)pthread_mutex_lock(&tokens->mutex);
    int64_t now_ms = clock_monotonic_ms();
    if (!is_usable(tokens, now_ms) || (now_ms >= tokens->renewal_ms && !tokens->is_fetching)) {
        if (!tokens->is_fetching) {
            fetch(tokens);
        } else {
            int64_t count = tokens->fetch_count;
            while (tokens->fetch_count == count) {
                (void)pthread_cond_wait(&tokens->fetched, &tokens->mutex);
            }
        }
    }
    Status status = STATUS_OK;
    if (is_usable(tokens, clock_monotonic_ms())) {
        *ret_token = secret_copy(&tokens->token);
    } else if (tokens->error.status != STATUS_OK) {
        *error = tokens->error;
        status = error->status;
    } else {
        status = error_set(error, REASON_UNAVAILABLE, "the access token ended before it came");
    }
    (void)pthread_mutex_unlock(&tokens->mutex);
    return status;
}

void gcp_tokens_forget(GcpTokens *tokens, const Secret *token)
{
    (void)pthread_mutex_lock(&tokens->mutex);
    if (tokens->token.size == token->size &&
        crypto_equal(tokens->token.data, token->data, token->size)) {
        secret_done(&tokens->token);
    }
    (void)pthread_mutex_unlock(&tokens->mutex);
}

void gcp_tokens_age(GcpTokens *tokens, int64_t duration_ms)
{
    (void)pthread_mutex_lock(&tokens->mutex);
    tokens->renewal_ms -= duration_ms;
    tokens->end_ms -= duration_ms;
    (void)pthread_mutex_unlock(&tokens->mutex);
}
