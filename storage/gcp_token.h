// SPDX-License-Identifier: Apache-2.0
// Access tokens for Google's APIs: of a service account's key file, or of the machine's metadata
// server. Thread-safe; a token is kept until five minutes before its end.
#pragma once

#include "common/error.h"
#include "common/secret.h"

typedef struct GcpTokens GcpTokens;

typedef struct GcpTokenOptions {
    const char *scope; // "https://www.googleapis.com/auth/cloudkms"
    // A service account's key file; NULL: GOOGLE_APPLICATION_CREDENTIALS, and without that the
    // metadata server (GCE_METADATA_HOST or metadata.google.internal).
    const char *credentials_path;
    const char *ca_path; // PEM file to trust for the token's endpoint, or NULL
} GcpTokenOptions;

GcpTokens *gcp_tokens_new(const GcpTokenOptions *options); // copies the options
void gcp_tokens_free(GcpTokens *tokens);                   // NULL is fine
// REASON_INVALID for a key file that is none; REASON_FORBIDDEN when the token is refused;
// REASON_UNAVAILABLE.
Status gcp_tokens_get(GcpTokens *tokens, Secret *ret_token, Error *error);
