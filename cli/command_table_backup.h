// SPDX-License-Identifier: Apache-2.0
// Options and columns of the commands for policies and backups. Only command_table.c includes it.
#pragma once

#include "cli/command_options.h"

// What a policy keeps; a backup that any of them keeps stays.
#define KEEP_OPTIONS                                                                               \
    {"keep-last", VALUE_INTEGER, "N", "retention.keep_last", "keep the newest so many backups",    \
     NULL,        false},                                                                          \
        {"keep-for",                                                                               \
         VALUE_DURATION,                                                                           \
         "DURATION",                                                                               \
         "retention.keep_for",                                                                     \
         "keep every backup younger than this",                                                    \
         NULL,                                                                                     \
         false},                                                                                   \
        {"keep-hourly",                                                                            \
         VALUE_INTEGER,                                                                            \
         "N",                                                                                      \
         "retention.keep_hourly",                                                                  \
         "keep the newest backup of each of the last so many hours that have one",                 \
         NULL,                                                                                     \
         false},                                                                                   \
        {"keep-daily",        VALUE_INTEGER, "N",  "retention.keep_daily",                         \
         "the same for days", NULL,          false},                                               \
        {"keep-weekly",        VALUE_INTEGER, "N",  "retention.keep_weekly",                       \
         "the same for weeks", NULL,          false},                                              \
        {"keep-monthly",        VALUE_INTEGER, "N",  "retention.keep_monthly",                     \
         "the same for months", NULL,          false},                                             \
    {                                                                                              \
        "keep-yearly", VALUE_INTEGER, "N", "retention.keep_yearly", "the same for years", NULL,    \
            false                                                                                  \
    }
static const CommandOption POLICY_CREATE[] = {
    {"schedule", VALUE_TEXT, "CRON", "schedule",
     "five cron fields, or @hourly @daily @weekly @monthly", "@hourly @daily @weekly @monthly",
     true},
    {"repository", VALUE_TEXT, "NAME", "repository", "where its backups go", NULL, true},
    {"time-zone", VALUE_TEXT, "ZONE", "time_zone",
     "IANA name of the schedule's time zone; default UTC", NULL, false},
    KEEP_OPTIONS,
    {"full-read-every", VALUE_INTEGER, "N", "full_read_every",
     "every so many generations, read all of the data instead of what was written; default 10",
     NULL, false},
    {"stagger", VALUE_DURATION, "DURATION", "stagger",
     "start somewhere in this window after the slot, always at the same place", NULL, false},
    LIMIT_OPTIONS("limits."),
    {"paused", VALUE_FLAG, NULL, "is_paused", "do not fire until it is resumed", NULL, false},
    NO_MORE};
static const CommandOption POLICY_UPDATE[] = {
    {"schedule", VALUE_TEXT, "CRON", "schedule",
     "five cron fields, or @hourly @daily @weekly @monthly", "@hourly @daily @weekly @monthly",
     false},
    {"repository", VALUE_TEXT, "NAME", "repository", "where its backups go", NULL, false},
    {"time-zone", VALUE_TEXT, "ZONE", "time_zone", "IANA name of the schedule's time zone", NULL,
     false},
    KEEP_OPTIONS,
    {"full-read-every", VALUE_INTEGER, "N", "full_read_every",
     "every so many generations, read all of the data instead of what was written", NULL, false},
    {"stagger", VALUE_DURATION, "DURATION", "stagger",
     "start somewhere in this window after the slot, always at the same place; 0 for at the slot",
     NULL, false},
    LIMIT_OPTIONS("limits."),
    IF_MATCH,
    NO_MORE};
static const CommandOption POLICY_PREVIEW[] = {
    {"schedule", VALUE_TEXT, "CRON", "schedule", "a schedule that is not saved anywhere yet", NULL,
     false},
    {"time-zone", VALUE_TEXT, "ZONE", "time_zone", "IANA name; default UTC, or the policy's", NULL,
     false},
    {"from", VALUE_TEXT, "TIME", "from", "RFC 3339 moment to count from; default now", NULL, false},
    {"count", VALUE_INTEGER, "N", "count", "how many runs, 1 to 100; default 5", NULL, false},
    NO_MORE};
static const ViewColumn POLICY_COLUMNS[] = {{"DATABASE", "database", VIEW_TEXT},
                                            {"POLICY", "name", VIEW_TEXT},
                                            {"SCHEDULE", "schedule", VIEW_TEXT},
                                            {"TIME ZONE", "time_zone", VIEW_TEXT},
                                            {"REPOSITORY", "repository", VIEW_TEXT},
                                            {"KEEP LAST", "retention.keep_last", VIEW_NUMBER},
                                            {"KEEP FOR", "retention.keep_for", VIEW_DURATION},
                                            {"PAUSED", "is_paused", VIEW_YES},
                                            {"NEXT RUN", "next_run_at", VIEW_AGO},
                                            NO_MORE_COLUMNS};
static const ViewColumn VERDICT_COLUMNS[] = {
    {"BACKUP", "backup_id", VIEW_TEXT}, {"CHECKPOINT", "checkpoint_at", VIEW_TIME},
    {"KEPT", "is_kept", VIEW_STATE},    {"STORED", "stored_bytes", VIEW_BYTES},
    {"WHY", "why", VIEW_TEXT},          NO_MORE_COLUMNS};

static const CommandOption BACKUP_START[] = {
    {"repository", VALUE_TEXT, "NAME", "repository",
     "where it goes; default: the repository of the database's first policy", NULL, false},
    {"seed", VALUE_FLAG, NULL, "seed",
     "copy everything anew instead of going on from the last backup", NULL, false},
    {"note", VALUE_TEXT, "TEXT", "note", "for people", NULL, false},
    LIMIT_OPTIONS("limits."),
    {"wait", VALUE_FLAG, NULL, NULL, "show its progress and end with its outcome", NULL, false},
    NO_MORE};
static const CommandOption RUN_LIMITS[] = {LIMIT_OPTIONS("limits."), NO_MORE};
static const CommandOption FLEET_LIMITS[] = {BANDWIDTH_OPTIONS(""), IF_MATCH, NO_MORE};
static const CommandOption BACKUP_PIN[] = {
    {"until", VALUE_TEXT, "TIME", "until",
     "RFC 3339 moment at which the pin ends; default: when it is unpinned", NULL, false},
    {"note", VALUE_TEXT, "TEXT", "note", "why, for people", NULL, false},
    NO_MORE};
static const CommandOption BACKUP_HOLD[] = {
    {"note", VALUE_TEXT, "TEXT", "note", "who asked for it and why", NULL, false}, NO_MORE};
static const CommandOption BACKUP_LIST[] = {
    {"database", VALUE_TEXT, "NAME", "database", "of one database", NULL, false},
    {"repository", VALUE_TEXT, "NAME", "repository", "in one repository", NULL, false},
    {"state", VALUE_TEXT, "STATE", "state", "in one state",
     "pending running succeeded failed canceled deleting deleted", false},
    LIMIT_OPTION,
    NO_MORE};
static const ViewColumn BACKUP_COLUMNS[] = {{"BACKUP", "id", VIEW_TEXT},
                                            {"DATABASE", "database", VIEW_TEXT},
                                            {"STATE", "state", VIEW_STATE},
                                            {"STARTED", "created_at", VIEW_TIME},
                                            {"CHECKPOINT", "checkpoint_at", VIEW_AGO},
                                            {"GENERATION", "generation", VIEW_NUMBER},
                                            {"SIZE", "size_bytes", VIEW_BYTES},
                                            {"NEW", "new_bytes", VIEW_BYTES},
                                            {"STORED", "stored_bytes", VIEW_BYTES},
                                            {"POLICY", "policy", VIEW_TEXT},
                                            {"PINNED", "is_pinned", VIEW_YES},
                                            {"HELD", "is_held", VIEW_YES},
                                            NO_MORE_COLUMNS};
static const ViewColumn SHARD_BACKUP_COLUMNS[] = {
    {"SHARD", "shard", VIEW_TEXT},
    {"STATE", "state", VIEW_STATE},
    {"PHASE", "phase", VIEW_TEXT},
    {"GENERATION", "generation", VIEW_NUMBER},
    {"ATTEMPTS", "attempt_count", VIEW_NUMBER},
    {"SIZE", "size_bytes", VIEW_BYTES},
    {"NEW", "new_bytes", VIEW_BYTES},
    {"RECEIVED", "received_bytes", VIEW_BYTES},
    {"PARENT RESTORE", "parent_restore_time", VIEW_DURATION},
    {"CHECKPOINT", "checkpoint", VIEW_TEXT},
    {"MESSAGE", "message", VIEW_TEXT},
    NO_MORE_COLUMNS};
