// SPDX-License-Identifier: Apache-2.0
// Where AWS credentials come from: given ones, the environment, the shared files, a web identity,
// the container's endpoint, the machine's metadata service (IMDSv2). Fetched when they are first
// needed and again before they expire. Thread-safe: one thread fetches, the others go on with what
// is still good.
#pragma once

#include "common/aws_signature.h"
#include "common/error.h"

typedef struct AwsCredentials AwsCredentials;

typedef enum AwsCredentialSource {
    AWS_CREDENTIALS_AUTOMATIC, // the given ones, else the first of the following that is there
    AWS_CREDENTIALS_EXPLICIT,
    AWS_CREDENTIALS_ENVIRONMENT,  // AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
    AWS_CREDENTIALS_PROFILE,      // AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, AWS_PROFILE
    AWS_CREDENTIALS_WEB_IDENTITY, // AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN; asks STS
    AWS_CREDENTIALS_CONTAINER,    // AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI
    AWS_CREDENTIALS_INSTANCE,     // AWS_EC2_METADATA_SERVICE_ENDPOINT for another address
} AwsCredentialSource;

typedef struct AwsCredentialsOptions {
    AwsCredentialSource source;
    const char *access_key_id; // these three are copied; NULL or "": not given
    const Secret *secret_key;
    const Secret *session_token;
    const char *profile;              // NULL: AWS_PROFILE, else "default"
    const char *profiles_path;        // instead of the shared files; then AWS_PROFILE is not asked
    const char *region;               // of STS; NULL: aws_region
    int64_t (*now_us)(void *context); // NULL: the real clock
    void *now_context;
} AwsCredentialsOptions;

AwsCredentials *aws_credentials_new(const AwsCredentialsOptions *options);
void aws_credentials_free(AwsCredentials *credentials); // NULL is fine
// A copy that is good for minutes at least; end it with aws_credential_done. Waits for at most a
// few seconds when they must be fetched. None found or refused: REASON_STORAGE_CREDENTIAL, with
// what to set; the place that has them cannot be reached: REASON_UNAVAILABLE.
Status aws_credentials_get(AwsCredentials *credentials, AwsCredential *ret_credential,
                           Error *error);
// A service said that they are expired: the next get fetches them anew when they can be fetched.
// False: they are fixed.
bool aws_credentials_expire(AwsCredentials *credentials);
// AWS_REGION, AWS_DEFAULT_REGION, the profile's, or NULL.
const char *aws_region(const char *profile, Arena *arena);
