// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: the kinds of wrapping keys that there are.
#pragma once

#include "repository/key_wrapper_driver.h"

#define KEY_SCHEME_FILE "file://"
#define KEY_SCHEME_AWS "awskms:///"
#define KEY_SCHEME_GCP "gcpkms:///"

Status key_wrapper_file_check(const char *location, Error *error);
Status key_wrapper_file_open(const char *location, KeyWrapper **ret_wrapper, Error *error);
Status key_wrapper_aws_check(const char *location, Error *error);
Status key_wrapper_aws_open(const char *location, KeyWrapper **ret_wrapper, Error *error);
Status key_wrapper_gcp_check(const char *location, Error *error);
Status key_wrapper_gcp_open(const char *location, KeyWrapper **ret_wrapper, Error *error);
