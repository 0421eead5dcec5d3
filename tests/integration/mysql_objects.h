// SPDX-License-Identifier: Apache-2.0
// What the tests of the MySQL family put into a source, and how they compare two servers.
#pragma once

#include <stddef.h>

extern const char MYSQL_OBJECTS[];          // statements for both engines
extern const char MARIADB_OBJECTS[];        // further ones
extern const char *const MYSQL_QUESTIONS[]; // queries that two servers must answer alike
extern const size_t MYSQL_QUESTION_COUNT;
