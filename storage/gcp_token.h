// SPDX-License-Identifier: Apache-2.0
// Access tokens for Google's APIs: of a service account's key, of a file that
// GOOGLE_APPLICATION_CREDENTIALS names, or of the machine's metadata server. Thread-safe: one
// thread fetches a new token some minutes before the old one ends, the others go on with that.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/secret.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct GcpTokens GcpTokens;

typedef struct GcpTokenOptions {
    const char *scope; // "https://www.googleapis.com/auth/cloudkms"
    // A service account's JSON key itself, or NULL.
    const Secret *key;
    // A file with such a key, with a user's refresh token (gcloud's application default
    // credentials), or with a workload identity federation whose subject token is in a file or at a
    // URL. NULL: GOOGLE_APPLICATION_CREDENTIALS, and without that the metadata server
    // (GCE_METADATA_HOST or metadata.google.internal).
    const char *credentials_path;
    bool is_metadata_only; // the metadata server, whatever the environment says
    const char *ca_path;   // PEM file to trust for the token's endpoint, or NULL
    const char *ca_pem;    // or the PEM text itself
} GcpTokenOptions;

GcpTokens *gcp_tokens_new(const GcpTokenOptions *options); // copies the options
void gcp_tokens_free(GcpTokens *tokens);                   // NULL is fine
// REASON_INVALID for credentials that are none; REASON_FORBIDDEN when the token is refused;
// REASON_UNAVAILABLE. The caller ends the token with secret_done.
Status gcp_tokens_get(GcpTokens *tokens, Secret *ret_token, Error *error);
// A service did not take this token: it is not given out again.
void gcp_tokens_forget(GcpTokens *tokens, const Secret *token);
// As if the token were so much older, for tests.
void gcp_tokens_age(GcpTokens *tokens, int64_t duration_ms);
// Whether a text is a service account's JSON key, without asking anybody, and of which account
// (its e-mail address): REASON_INVALID.
Status gcp_key_check(const Secret *key, Arena *arena, const char **ret_account, Error *error);
