// SPDX-License-Identifier: Apache-2.0
// holdfastd's options, read and checked. Nothing on disk is touched.
#pragma once

#include "common/options.h"

typedef struct ServerOptions {
    OptionSet set;
    char *data_directory; // absolute
    char *secret_key_file, *admin_token_file, *instance_directory, *agent_program;
} ServerOptions;

// ret_text: something to print and end (--help). Otherwise everything is valid as far as that can
// be known without looking outside.
Status server_options_load(int argument_count, char **arguments, ServerOptions *ret_options,
                           char **ret_text, Error *error);
void server_options_done(ServerOptions *options);
