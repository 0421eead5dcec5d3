// SPDX-License-Identifier: Apache-2.0
// Inside of aws_credentials only: one function for each place that has credentials.
#pragma once

#include "common/aws_credentials.h"
#include "common/http_client.h"

typedef struct AwsSourceContext {
    const AwsCredentialsOptions *options;
    HttpClient *http; // of the one thread that fetches
    Arena *arena;
    int try_count_max; // of each request
} AwsSourceContext;

// *ret_is_there false: this place is not set up here, and nothing else is written. The others write
// *ret_credential on STATUS_OK.
typedef Status (*AwsSource)(const AwsSourceContext *context, bool *ret_is_there,
                            AwsCredential *ret_credential, Error *error);

Status aws_source_environment(const AwsSourceContext *context, bool *ret_is_there,
                              AwsCredential *ret_credential, Error *error);
Status aws_source_profile(const AwsSourceContext *context, bool *ret_is_there,
                          AwsCredential *ret_credential, Error *error);
Status aws_source_web_identity(const AwsSourceContext *context, bool *ret_is_there,
                               AwsCredential *ret_credential, Error *error);
Status aws_source_container(const AwsSourceContext *context, bool *ret_is_there,
                            AwsCredential *ret_credential, Error *error);
Status aws_source_instance(const AwsSourceContext *context, bool *ret_is_there,
                           AwsCredential *ret_credential, Error *error);

// Of the shared files: NULL when profile or key is not there.
const char *aws_profile_value(const char *profile, const char *key, Arena *arena);
// A token file's text without white space at its end, at most 64 KiB.
Status aws_read_token(const char *path, Arena *arena, const char **ret_token, Error *error);
