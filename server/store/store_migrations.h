// SPDX-License-Identifier: Apache-2.0
// The files of migrations/, embedded at build time by embed_migrations.cmake, in order of version.
#pragma once

#include <stddef.h>

typedef struct StoreMigration {
    int version;
    const char *name; // "create_schema"
    const char *sql;
    size_t sql_size;
} StoreMigration;

extern const StoreMigration STORE_MIGRATIONS[];
extern const size_t STORE_MIGRATION_COUNT;
