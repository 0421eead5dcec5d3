// SPDX-License-Identifier: Apache-2.0
// Structured log: one JSON object a line on stderr. Thread-safe. The message is constant text; what
// varies are fields: log_info("backup started", "backup", id, "database", name, NULL). Keys and
// values are C strings in pairs, ended by NULL; a NULL value is written as null. Secrets have no
// way in.
#pragma once

#include "common/error.h"

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;
typedef enum LogFormat { LOG_FORMAT_JSON, LOG_FORMAT_TEXT } LogFormat;

void log_configure(LogLevel level, LogFormat format, const char *program);
bool log_level_parse(const char *text, LogLevel *ret_level);
void log_write(LogLevel level, const char *module, const char *message, ...)
    __attribute__((sentinel));
// As log_write at `level`, with the error's status, reason, message, hint and origin as fields.
void log_error_record(LogLevel level, const char *module, const Error *error, const char *message,
                      ...) __attribute__((sentinel));

// LOG_MODULE is defined by each .c file that logs, before the include: its folder's name.
#define log_debug(...) log_write(LOG_DEBUG, LOG_MODULE, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, LOG_MODULE, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, LOG_MODULE, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, LOG_MODULE, __VA_ARGS__)
