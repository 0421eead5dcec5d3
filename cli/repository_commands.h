// SPDX-License-Identifier: Apache-2.0
// Commands that need only a repository and its key file: no server, no PostgreSQL.
#pragma once

// `holdfast repository create-key|init|check|list|show ...`, with main's arguments. Returns the
// exit code.
int repository_command(int argument_count, char **arguments);
// `holdfast restore --offline ...`, with main's arguments. Returns the exit code.
int restore_offline_command(int argument_count, char **arguments);
