// SPDX-License-Identifier: Apache-2.0
// The configuration files of the engine's private PostgreSQL server. For the PostgreSQL engine's
// files only.
#pragma once

#include "agent/engine/engine_postgresql_server.h"

#define POSTGRESQL_CONF_NAME "postgresql.conf"
#define POSTGRESQL_HBA_NAME "pg_hba.conf"
#define POSTGRESQL_IDENT_NAME "pg_ident.conf"

// Writes our own configuration into the work directory: nothing of the source's is read, because a
// private start must not depend on libraries, certificates, memory or archives that only the source
// has.
Status postgresql_settings_write(const PostgresqlServer *server, const PostgresqlRun *run,
                                 Error *error);
// Gives a directory that is handed to a person the configuration files it lacks (some distributions
// keep them elsewhere).
Status postgresql_settings_complete(const char *data_directory, Error *error);
// Archiving is switched off in a directory that is handed to a person: a copy must never write into
// its source's archive.
Status postgresql_settings_disarm(const char *data_directory, Error *error);
