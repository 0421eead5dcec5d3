// SPDX-License-Identifier: Apache-2.0
// Inside cli/ only: what the commands on a repository itself do, one function each.
#pragma once

#include "cli/offline_session.h"

Status verb_create_key(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_init(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_keys(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_rotate_key(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_destroy_key(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_check(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_list(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_show(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_copy(Cli *cli, const OfflineOptions *options, Error *error);
Status verb_diff(Cli *cli, const OfflineOptions *options, Error *error);

// The one object of an answer, in the form that was asked for.
void verb_print(const Cli *cli, const Json *object);
