// SPDX-License-Identifier: Apache-2.0
// Inside storage/ only: one exchange of credentials for an access token. Nothing is kept.
#pragma once

#include "storage/gcp_token.h"

#include <stdint.h>

typedef struct GcpToken {
    Secret text;
    int64_t life_s;
} GcpToken;

// Fetches a token as the options say. Tries again for some seconds when an endpoint is away.
Status gcp_credentials_fetch(const GcpTokenOptions *options, GcpToken *ret_token, Error *error);
