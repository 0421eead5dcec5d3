// SPDX-License-Identifier: Apache-2.0
// The strict syntax check of json.c; nobody else includes it.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// False: not one JSON value within LIMIT_JSON_DEPTH; what is wrong (constant text), and at which
// byte.
bool json_scan(const char *text, size_t size, const char **ret_problem, size_t *ret_position);
