// SPDX-License-Identifier: Apache-2.0
// Every command. A new one is a row here; code is needed only for what is more than one call.
#include "cli/backup_commands.h"
#include "cli/command.h"
#include "cli/event_commands.h"
#include "cli/help_commands.h"
#include "cli/policy_commands.h"
#include "cli/repository_import.h"
#include "cli/repository_options.h"

#define ENGINES "mariadb mysql postgresql"
#define LIMIT_OPTION                                                                               \
    {                                                                                              \
        "limit", VALUE_INTEGER, "N", NULL, "show at most so many", NULL, false                     \
    }
#define SHARD_DETAILS                                                                              \
    "A shard's name may begin with '-' (a key range, \"-80\"): give it as it is, or after \"--\"."
#define NO_MORE                                                                                    \
    {                                                                                              \
        NULL, VALUE_TEXT, NULL, NULL, NULL, NULL, false                                            \
    }
#define NO_MORE_COLUMNS                                                                            \
    {                                                                                              \
        NULL, NULL, VIEW_TEXT                                                                      \
    }

const CommandOption GLOBAL_OPTIONS[] = {
    {"server", VALUE_TEXT, "URL", NULL,
     "the server; default HOLDFAST_SERVER or http://127.0.0.1:8080", NULL, false},
    {"token-file", VALUE_TEXT, "FILE", NULL,
     "file with the API token; default HOLDFAST_TOKEN_FILE, or HOLDFAST_TOKEN holds the token itself",
     NULL, false},
    {"ca-file", VALUE_TEXT, "FILE", NULL,
     "PEM file with the certificates to trust for https; default HOLDFAST_CA_FILE", NULL, false},
    {"output", VALUE_TEXT, "FORMAT", NULL, "table (for people) or json (for scripts)", "table json",
     false},
    {"no-color", VALUE_FLAG, NULL, NULL, "plain text also on a terminal; NO_COLOR does the same",
     NULL, false},
    {"help", VALUE_FLAG, NULL, NULL, "say how a command is used", NULL, false},
    NO_MORE};

static const CommandOption LIMIT[] = {LIMIT_OPTION, NO_MORE};

static const CommandOption DATABASE_CREATE[] = {
    {"engine", VALUE_TEXT, "ENGINE", "database.engine", "mariadb, mysql or postgresql", ENGINES,
     true},
    {"rpo", VALUE_DURATION, "DURATION", "database.recovery_point_objective",
     "how old the last restorable point may become; default 24h", NULL, false},
    {"description", VALUE_TEXT, "TEXT", "database.description", "for people", NULL, false},
    {"validate-only", VALUE_FLAG, NULL, "validate_only", "check the request and change nothing",
     NULL, false},
    NO_MORE};
static const CommandOption DATABASE_UPDATE[] = {
    {"rpo", VALUE_DURATION, "DURATION", "recovery_point_objective",
     "how old the last restorable point may become", NULL, false},
    {"description", VALUE_TEXT, "TEXT", "description", "for people", NULL, false},
    {"reads-everything", VALUE_BOOLEAN, "true|false", "reads_everything",
     "read all of the data in every backup; false trusts the recorder of writes again",
     "true false", false},
    {"if-match", VALUE_HEADER, "ETAG", "If-Match", "only when the etag is still this one", NULL,
     false},
    NO_MORE};
static const CommandOption DATABASE_DELETE[] = {{"force", VALUE_FLAG, NULL, "force",
                                                 "also when it has backups; they are deleted too",
                                                 NULL, false},
                                                NO_MORE};
static const ViewColumn DATABASE_COLUMNS[] = {{"DATABASE", "name", VIEW_TEXT},
                                              {"ENGINE", "engine", VIEW_TEXT},
                                              {"SHARDS", "shard_count", VIEW_NUMBER},
                                              {"PROTECTION", "protection", VIEW_STATE},
                                              {"RESTORABLE", "last_restorable_at", VIEW_AGO},
                                              {"NEXT RUN", "next_run_at", VIEW_AGO},
                                              {"PROVEN RTO", "proven_recovery_time", VIEW_DURATION},
                                              {"SIZE", "size_bytes", VIEW_BYTES},
                                              NO_MORE_COLUMNS};

static const CommandOption SHARD_CREATE[] = {
    {"host", VALUE_TEXT, "HOST", "source.host", "the server it is replicated from", NULL, true},
    {"port", VALUE_INTEGER, "PORT", "source.port", "its port", NULL, true},
    {"credential", VALUE_TEXT, "NAME", "source.credential", "the credential to sign in with", NULL,
     true},
    {"tls-mode", VALUE_TEXT, "MODE", "source.tls_mode",
     "disable, prefer (default), require or verify-full", "disable prefer require verify-full",
     false},
    {"tls-ca-file", VALUE_SECRET, "FILE", "source.tls_ca",
     "PEM file of the authority that verify-full trusts", NULL, false},
    {"provider", VALUE_TEXT, "NAME", "placement.provider", "where its instances run; default local",
     "local", false},
    {"region", VALUE_TEXT, "NAME", "placement.region", "of its instances", NULL, false},
    {"zone", VALUE_TEXT, "NAME", "placement.zone", "of its instances", NULL, false},
    NO_MORE};
static const CommandOption SHARD_UPDATE[] = {
    {"host", VALUE_TEXT, "HOST", "source.host", "the server it is replicated from", NULL, false},
    {"port", VALUE_INTEGER, "PORT", "source.port", "its port", NULL, false},
    {"credential", VALUE_TEXT, "NAME", "source.credential", "the credential to sign in with", NULL,
     false},
    {"tls-mode", VALUE_TEXT, "MODE", "source.tls_mode", "disable, prefer, require or verify-full",
     "disable prefer require verify-full", false},
    {"tls-ca-file", VALUE_SECRET, "FILE", "source.tls_ca",
     "PEM file of the authority that verify-full trusts", NULL, false},
    {"if-match", VALUE_HEADER, "ETAG", "If-Match", "only when the etag is still this one", NULL,
     false},
    NO_MORE};
static const ViewColumn SHARD_COLUMNS[] = {{"SHARD", "name", VIEW_TEXT},
                                           {"HOST", "source.host", VIEW_TEXT},
                                           {"PORT", "source.port", VIEW_NUMBER},
                                           {"CREDENTIAL", "source.credential", VIEW_TEXT},
                                           {"LAST BACKUP", "last_backup_at", VIEW_AGO},
                                           {"GENERATION", "generation", VIEW_NUMBER},
                                           {"PROVEN", "proven_at", VIEW_AGO},
                                           {"PROVEN RTO", "proven_recovery_time", VIEW_DURATION},
                                           {"SIZE", "size_bytes", VIEW_BYTES},
                                           NO_MORE_COLUMNS};

static const CommandOption CREDENTIAL_CREATE[] = {
    {"username", VALUE_TEXT, "NAME", "username", "the user at the source", NULL, true},
    {"password-file", VALUE_SECRET, "FILE", "password",
     "file with the password, '-' for standard input", NULL, true},
    NO_MORE};
static const CommandOption CREDENTIAL_UPDATE[] = {
    {"username", VALUE_TEXT, "NAME", "username", "the user at the source", NULL, false},
    {"password-file", VALUE_SECRET, "FILE", "password",
     "file with the password, '-' for standard input", NULL, false},
    {"if-match", VALUE_HEADER, "ETAG", "If-Match", "only when the etag is still this one", NULL,
     false},
    NO_MORE};
static const ViewColumn CREDENTIAL_COLUMNS[] = {{"CREDENTIAL", "name", VIEW_TEXT},
                                                {"USERNAME", "username", VIEW_TEXT},
                                                {"UPDATED", "updated_at", VIEW_AGO},
                                                NO_MORE_COLUMNS};

static const CommandOption REPOSITORY_CREATE[] = {
    {"location", VALUE_TEXT, "URL", "repository.location",
     "file:///absolute/path on the servers and instances", NULL, true},
    {"key-file", VALUE_TEXT, "FILE", "repository.key_file", "path of the key file on the servers",
     NULL, true},
    {"create-key-file", VALUE_FLAG, NULL, "create_key_file", "make the key file when it is missing",
     NULL, false},
    NO_MORE};
static const ViewColumn REPOSITORY_COLUMNS[] = {{"REPOSITORY", "name", VIEW_TEXT},
                                                {"LOCATION", "location", VIEW_TEXT},
                                                {"KEY", "key_fingerprint", VIEW_TEXT},
                                                {"STORED", "stored_bytes", VIEW_BYTES},
                                                NO_MORE_COLUMNS};

#define REPOSITORY_OFFLINE_TOO                                                                     \
    "With --repository LOCATION --key-file FILE it is offline: the backups in a "                  \
    "repository, without a server; see --help with both."

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
    {"if-match", VALUE_HEADER, "ETAG", "If-Match", "only when the etag is still this one", NULL,
     false},
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
    {"wait", VALUE_FLAG, NULL, NULL, "show its progress and end with its outcome", NULL, false},
    NO_MORE};
static const CommandOption BACKUP_PIN[] = {
    {"until", VALUE_TEXT, "TIME", "until",
     "RFC 3339 moment at which the pin ends; default: when it is unpinned", NULL, false},
    {"note", VALUE_TEXT, "TEXT", "note", "why, for people", NULL, false},
    NO_MORE};
static const CommandOption BACKUP_HOLD[] = {
    {"note", VALUE_TEXT, "TEXT", "note", "who asked for it and why", NULL, false}, NO_MORE};
static const CommandOption BACKUP_LIST[] = {
    {"database", VALUE_TEXT, "NAME", "database", "of one database", NULL, false},
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

static const CommandOption RESTORE_CREATE[] = {
    {"database", VALUE_TEXT, "NAME", "database", "restore its newest succeeded backup", NULL,
     false},
    {"backup", VALUE_TEXT, "ID", "backup", "restore this backup", NULL, false},
    {"shard", VALUE_LIST, "NAME", "shards", "only this shard; may be given several times", NULL,
     false},
    {"directory", VALUE_TEXT, "DIR", "directory",
     "absolute; each shard goes to DIR/SHARD, which must be empty or missing", NULL, false},
    {"first-port", VALUE_INTEGER, "PORT", "first_port",
     "run servers on this port of 127.0.0.1 and the following ones", NULL, false},
    {"wait", VALUE_FLAG, NULL, NULL, "show its progress and end with its outcome", NULL, false},
    NO_MORE};
static const CommandOption RESTORE_LIST[] = {
    {"database", VALUE_TEXT, "NAME", "database", "of one database", NULL, false},
    LIMIT_OPTION,
    NO_MORE};
static const ViewColumn RESTORE_COLUMNS[] = {{"RESTORE", "id", VIEW_TEXT},
                                             {"DATABASE", "database", VIEW_TEXT},
                                             {"BACKUP", "backup_id", VIEW_TEXT},
                                             {"MODE", "mode", VIEW_TEXT},
                                             {"STATE", "state", VIEW_STATE},
                                             {"STARTED", "created_at", VIEW_AGO},
                                             {"DIRECTORY", "directory", VIEW_TEXT},
                                             {"PORT", "first_port", VIEW_NUMBER},
                                             NO_MORE_COLUMNS};

static const CommandOption INSTANCE_LIST[] = {
    {"database", VALUE_TEXT, "NAME", "database", "of one database", NULL, false},
    {"all", VALUE_FLAG, NULL, "include_destroyed", "also those that are destroyed", NULL, false},
    LIMIT_OPTION,
    NO_MORE};
static const ViewColumn INSTANCE_COLUMNS[] = {
    {"INSTANCE", "id", VIEW_TEXT},          {"STATE", "state", VIEW_STATE},
    {"PROVIDER", "provider", VIEW_TEXT},    {"PURPOSE", "purpose", VIEW_TEXT},
    {"DATABASE", "database", VIEW_TEXT},    {"SHARD", "shard", VIEW_TEXT},
    {"CREATED", "created_at", VIEW_AGO},    {"SEEN", "last_seen_at", VIEW_AGO},
    {"MEMORY", "memory_bytes", VIEW_BYTES}, NO_MORE_COLUMNS};

static const CommandOption EVENTS[] = {
    {"database", VALUE_TEXT, "NAME", "database", "of one database", NULL, false},
    {"backup", VALUE_TEXT, "ID", "backup", "of one backup", NULL, false},
    {"minimum-severity", VALUE_TEXT, "SEVERITY", "minimum_severity",
     "info, warning or error; not with --follow", "info warning error", false},
    {"follow", VALUE_FLAG, NULL, NULL, "go on with new events as they happen, until interrupted",
     NULL, false},
    LIMIT_OPTION,
    NO_MORE};
static const CommandOption HELP[] = {
    {"markdown", VALUE_FLAG, NULL, NULL, "print the whole reference, docs/cli.md", NULL, false},
    NO_MORE};

#define DATABASE_ARGUMENT                                                                          \
    {                                                                                              \
        "DATABASE", NULL, "name of the database", false                                            \
    }
#define SHARD_ARGUMENT                                                                             \
    {                                                                                              \
        "SHARD", NULL, "name of the shard", false                                                  \
    }
#define POLICY_ARGUMENT                                                                            \
    {                                                                                              \
        "POLICY", NULL, "name of the policy", false                                                \
    }
#define CREDENTIAL_ARGUMENT                                                                        \
    {                                                                                              \
        "CREDENTIAL", NULL, "name of the credential", false                                        \
    }
#define REPOSITORY_ARGUMENT                                                                        \
    {                                                                                              \
        "REPOSITORY", NULL, "name of the repository", false                                        \
    }
#define BACKUP_ARGUMENT                                                                            \
    {                                                                                              \
        "BACKUP", NULL, "id of the backup", false                                                  \
    }
#define RESTORE_ARGUMENT                                                                           \
    {                                                                                              \
        "RESTORE", NULL, "id of the restore", false                                                \
    }

const Command COMMANDS[] = {
    {.group = "database",
     .verb = "create",
     .summary = "Put a database under protection",
     .method = "POST",
     .path = "/v1/databases",
     .arguments = {{"DATABASE", "database.name", "its name: lower-case letters, digits and '-'",
                    false}},
     .options = DATABASE_CREATE,
     .done = "created"},
    {.group = "database",
     .verb = "list",
     .summary = "List databases and how well they are protected",
     .method = "GET",
     .path = "/v1/databases",
     .options = LIMIT,
     .list_key = "databases",
     .columns = DATABASE_COLUMNS,
     .limit = 1000},
    {.group = "database",
     .verb = "show",
     .summary = "Show a database",
     .method = "GET",
     .path = "/v1/databases/{DATABASE}",
     .arguments = {DATABASE_ARGUMENT}},
    {.group = "database",
     .verb = "update",
     .summary = "Change a database",
     .method = "PATCH",
     .path = "/v1/databases/{DATABASE}",
     .arguments = {DATABASE_ARGUMENT},
     .options = DATABASE_UPDATE,
     .done = "updated"},
    {.group = "database",
     .verb = "rotate-data-key",
     .summary = "Make a new data key: the next seeds are sealed with it",
     .method = "POST",
     .path = "/v1/databases/{DATABASE}/rotate-data-key",
     .arguments = {DATABASE_ARGUMENT},
     .options = ROTATE_DATA_KEY},
    {.group = "database",
     .verb = "destroy-data-keys",
     .summary = "Destroy a database's data keys: nobody can read its backups any more",
     .method = "POST",
     .path = "/v1/databases/{DATABASE}/destroy-data-keys",
     .arguments = {DATABASE_ARGUMENT},
     .options = DESTROY_DATA_KEYS,
     .details = "Without --confirm it says what would become unreadable. See docs/keys.md."},
    {.group = "database",
     .verb = "delete",
     .summary = "Take a database out of protection",
     .method = "DELETE",
     .path = "/v1/databases/{DATABASE}",
     .arguments = {DATABASE_ARGUMENT},
     .options = DATABASE_DELETE,
     .done = "deleted"},
    {.group = "database",
     .verb = "probe",
     .summary = "Connect to every shard's source and name what is missing",
     .method = "POST",
     .path = "/v1/databases/{DATABASE}/probe",
     .arguments = {DATABASE_ARGUMENT},
     .run = database_probe_run,
     .details =
         "Changes nothing. The exit code is 0 when every shard is ready to be backed up, else "
         "that of the first problem."},

    {.group = "shard",
     .verb = "create",
     .summary = "Add a shard to a database",
     .method = "POST",
     .path = "/v1/databases/{DATABASE}/shards",
     .arguments = {DATABASE_ARGUMENT,
                   {"SHARD", "name", "its name: a key range (\"-80\", \"80-\") or \"0\"", false}},
     .options = SHARD_CREATE,
     .done = "created",
     .details = SHARD_DETAILS},
    {.group = "shard",
     .verb = "list",
     .summary = "List a database's shards",
     .method = "GET",
     .path = "/v1/databases/{DATABASE}/shards",
     .arguments = {DATABASE_ARGUMENT},
     .options = LIMIT,
     .list_key = "shards",
     .columns = SHARD_COLUMNS,
     .limit = 4096},
    {.group = "shard",
     .verb = "show",
     .summary = "Show a shard",
     .method = "GET",
     .path = "/v1/databases/{DATABASE}/shards/{SHARD}",
     .arguments = {DATABASE_ARGUMENT, SHARD_ARGUMENT},
     .details = SHARD_DETAILS},
    {.group = "shard",
     .verb = "update",
     .summary = "Change a shard's source",
     .method = "PATCH",
     .path = "/v1/databases/{DATABASE}/shards/{SHARD}",
     .arguments = {DATABASE_ARGUMENT, SHARD_ARGUMENT},
     .options = SHARD_UPDATE,
     .done = "updated",
     .details = SHARD_DETAILS},
    {.group = "shard",
     .verb = "delete",
     .summary = "Remove a shard from its database",
     .method = "DELETE",
     .path = "/v1/databases/{DATABASE}/shards/{SHARD}",
     .arguments = {DATABASE_ARGUMENT, SHARD_ARGUMENT},
     .done = "deleted",
     .details = SHARD_DETAILS},

    {.group = "credential",
     .verb = "create",
     .summary = "Save a user name and password for sources",
     .method = "POST",
     .path = "/v1/credentials",
     .arguments = {{"CREDENTIAL", "name", "its name", false}},
     .options = CREDENTIAL_CREATE,
     .done = "created",
     .details = "A password is never given on the command line, because command lines are visible "
                "to every user of the machine."},
    {.group = "credential",
     .verb = "list",
     .summary = "List credentials",
     .method = "GET",
     .path = "/v1/credentials",
     .options = LIMIT,
     .list_key = "credentials",
     .columns = CREDENTIAL_COLUMNS,
     .limit = 1000},
    {.group = "credential",
     .verb = "show",
     .summary = "Show a credential, without its password",
     .method = "GET",
     .path = "/v1/credentials/{CREDENTIAL}",
     .arguments = {CREDENTIAL_ARGUMENT}},
    {.group = "credential",
     .verb = "update",
     .summary = "Change a credential",
     .method = "PATCH",
     .path = "/v1/credentials/{CREDENTIAL}",
     .arguments = {CREDENTIAL_ARGUMENT},
     .options = CREDENTIAL_UPDATE,
     .done = "updated"},
    {.group = "credential",
     .verb = "delete",
     .summary = "Delete a credential that no shard uses",
     .method = "DELETE",
     .path = "/v1/credentials/{CREDENTIAL}",
     .arguments = {CREDENTIAL_ARGUMENT},
     .done = "deleted"},

    {.group = "policy",
     .verb = "create",
     .summary = "Back up a database on a schedule",
     .method = "POST",
     .path = "/v1/databases/{DATABASE}/policies",
     .arguments = {DATABASE_ARGUMENT,
                   {"POLICY", "name", "its name, unique within the database", false}},
     .options = POLICY_CREATE,
     .done = "created"},
    {.group = "policy",
     .verb = "list",
     .summary = "List policies, of one database or of all",
     .method = "GET",
     .path = "/v1/databases/{DATABASE}/policies",
     .arguments = {{"DATABASE", NULL, "name of the database; default: every one", true}},
     .options = LIMIT,
     .list_key = "policies",
     .columns = POLICY_COLUMNS,
     .limit = 1000},
    {.group = "policy",
     .verb = "show",
     .summary = "Show a policy",
     .method = "GET",
     .path = "/v1/databases/{DATABASE}/policies/{POLICY}",
     .arguments = {DATABASE_ARGUMENT, POLICY_ARGUMENT}},
    {.group = "policy",
     .verb = "update",
     .summary = "Change a policy",
     .method = "PATCH",
     .path = "/v1/databases/{DATABASE}/policies/{POLICY}",
     .arguments = {DATABASE_ARGUMENT, POLICY_ARGUMENT},
     .options = POLICY_UPDATE,
     .done = "updated"},
    {.group = "policy",
     .verb = "delete",
     .summary = "Delete a policy; its backups stay",
     .method = "DELETE",
     .path = "/v1/databases/{DATABASE}/policies/{POLICY}",
     .arguments = {DATABASE_ARGUMENT, POLICY_ARGUMENT},
     .done = "deleted"},
    {.group = "policy",
     .verb = "pause",
     .summary = "Stop a policy from firing",
     .method = "POST",
     .path = "/v1/databases/{DATABASE}/policies/{POLICY}/pause",
     .arguments = {DATABASE_ARGUMENT, POLICY_ARGUMENT},
     .done = "paused"},
    {.group = "policy",
     .verb = "resume",
     .summary = "Let a paused policy fire again",
     .method = "POST",
     .path = "/v1/databases/{DATABASE}/policies/{POLICY}/resume",
     .arguments = {DATABASE_ARGUMENT, POLICY_ARGUMENT},
     .done = "resumed"},
    {.group = "policy",
     .verb = "preview",
     .summary = "Show the next runs of a policy, or of a schedule",
     .method = "POST",
     .path = "/v1/schedules/preview",
     .arguments = {{"DATABASE", NULL, "name of the database", true},
                   {"POLICY", NULL, "name of the policy", true}},
     .options = POLICY_PREVIEW,
     .run = policy_preview_run},
    {.group = "policy",
     .verb = "retention",
     .summary = "Show what retention would delete now, and why",
     .method = "GET",
     .path = "/v1/databases/{DATABASE}/policies/{POLICY}/retention",
     .arguments = {DATABASE_ARGUMENT, POLICY_ARGUMENT},
     .list_key = "verdicts",
     .columns = VERDICT_COLUMNS,
     .details = "A dry run: nothing is deleted."},

    {.group = "backup",
     .verb = "start",
     .summary = "Back up every shard of a database now",
     .method = "POST",
     .path = "/v1/databases/{DATABASE}/backups",
     .arguments = {DATABASE_ARGUMENT},
     .options = BACKUP_START,
     .run = backup_start_run},
    {.group = "backup",
     .verb = "list",
     .summary = "List backups, newest first",
     .method = "GET",
     .path = "/v1/backups",
     .options = BACKUP_LIST,
     .list_key = "backups",
     .columns = BACKUP_COLUMNS,
     .limit = 50},
    {.group = "backup",
     .verb = "show",
     .summary = "Show a backup and its shards",
     .method = "GET",
     .path = "/v1/backups/{BACKUP}",
     .arguments = {BACKUP_ARGUMENT},
     .columns = SHARD_BACKUP_COLUMNS,
     .run = backup_show_run},
    {.group = "backup",
     .verb = "watch",
     .summary = "Show a backup's progress and end with its outcome",
     .method = "GET",
     .path = "/v1/backups/{BACKUP}",
     .arguments = {BACKUP_ARGUMENT},
     .run = backup_watch_run},
    {.group = "backup",
     .verb = "cancel",
     .summary = "Cancel a running backup",
     .method = "POST",
     .path = "/v1/backups/{BACKUP}/cancel",
     .arguments = {BACKUP_ARGUMENT},
     .done = "canceled"},
    {.group = "backup",
     .verb = "delete",
     .summary = "Delete a backup; its space is freed in the background",
     .method = "DELETE",
     .path = "/v1/backups/{BACKUP}",
     .arguments = {BACKUP_ARGUMENT},
     .done = "deleted"},
    {.group = "backup",
     .verb = "pin",
     .summary = "Keep a backup whatever its policy says",
     .method = "POST",
     .path = "/v1/backups/{BACKUP}/pin",
     .arguments = {BACKUP_ARGUMENT},
     .options = BACKUP_PIN,
     .done = "pinned",
     .details = "Pinning it again replaces time and note. A pinned backup cannot be deleted."},
    {.group = "backup",
     .verb = "unpin",
     .summary = "Let the policy decide about a backup again",
     .method = "POST",
     .path = "/v1/backups/{BACKUP}/unpin",
     .arguments = {BACKUP_ARGUMENT},
     .done = "unpinned"},
    {.group = "backup",
     .verb = "hold",
     .summary = "Put a backup on legal hold: nothing deletes it until it is released",
     .method = "POST",
     .path = "/v1/backups/{BACKUP}/hold",
     .arguments = {BACKUP_ARGUMENT},
     .options = BACKUP_HOLD,
     .done = "held"},
    {.group = "backup",
     .verb = "release",
     .summary = "End the legal hold of a backup",
     .method = "POST",
     .path = "/v1/backups/{BACKUP}/release",
     .arguments = {BACKUP_ARGUMENT},
     .options = BACKUP_HOLD,
     .done = "released"},

    {.group = "restore",
     .verb = "create",
     .summary = "Restore a backup to directories or as running servers",
     .method = "POST",
     .path = "/v1/restores",
     .options = RESTORE_CREATE,
     .run = restore_create_run,
     .details = "With --first-port every shard becomes a running server until the restore is "
                "stopped; without, its data directory is prepared."},
    {.group = "restore",
     .verb = "list",
     .summary = "List restores, newest first",
     .method = "GET",
     .path = "/v1/restores",
     .options = RESTORE_LIST,
     .list_key = "restores",
     .columns = RESTORE_COLUMNS,
     .limit = 50},
    {.group = "restore",
     .verb = "show",
     .summary = "Show a restore and its shards",
     .method = "GET",
     .path = "/v1/restores/{RESTORE}",
     .arguments = {RESTORE_ARGUMENT}},
    {.group = "restore",
     .verb = "watch",
     .summary = "Show a restore's progress and end with its outcome",
     .method = "GET",
     .path = "/v1/restores/{RESTORE}",
     .arguments = {RESTORE_ARGUMENT},
     .run = restore_watch_run},
    {.group = "restore",
     .verb = "stop",
     .summary = "Cancel a running restore, or stop its servers",
     .method = "POST",
     .path = "/v1/restores/{RESTORE}/stop",
     .arguments = {RESTORE_ARGUMENT},
     .done = "stopped"},
    {.group = "restore",
     .verb = "--offline",
     .summary = "Restore with only the repository and its key file, without a server",
     .options = OFFLINE_RESTORE,
     .is_offline = true,
     .details = OFFLINE_DETAILS
     "Each directory is exactly that of the stopped engine at the backup's checkpoint."},

    {.group = "repository",
     .verb = "create",
     .summary = "Register a repository with the server, creating it when it is not there",
     .method = "POST",
     .path = "/v1/repositories",
     .arguments = {{"REPOSITORY", "repository.name", "its name", false}},
     .options = REPOSITORY_CREATE,
     .done = "created"},
    {.group = "repository",
     .verb = "list",
     .summary = "List the server's repositories",
     .method = "GET",
     .path = "/v1/repositories",
     .options = LIMIT,
     .list_key = "repositories",
     .columns = REPOSITORY_COLUMNS,
     .limit = 1000,
     .details = REPOSITORY_OFFLINE_TOO},
    {.group = "repository",
     .verb = "show",
     .summary = "Show a repository of the server",
     .method = "GET",
     .path = "/v1/repositories/{REPOSITORY}",
     .arguments = {REPOSITORY_ARGUMENT},
     .details = REPOSITORY_OFFLINE_TOO},
    {.group = "repository",
     .verb = "delete",
     .summary = "Forget a repository; its objects stay",
     .method = "DELETE",
     .path = "/v1/repositories/{REPOSITORY}",
     .arguments = {REPOSITORY_ARGUMENT},
     .done = "forgotten"},
    {.group = "repository",
     .verb = "rebuild-catalogue",
     .summary = "Let the server know the databases and backups that a repository has",
     .method = "POST",
     .path = "/v1/repositories/{REPOSITORY}/import-catalogue",
     .arguments = {REPOSITORY_ARGUMENT},
     .run = repository_import_run,
     .details =
         "For a new server whose PostgreSQL is gone. What it knows stays as it is; it may be "
         "repeated. See docs/disaster-recovery.md."},
    {.group = "repository",
     .verb = "create-key",
     .summary = "Make a key file",
     .options = OFFLINE_KEY_ONLY,
     .is_offline = true,
     .details = OFFLINE_DETAILS
     "Backups cannot be read without the key file, and nobody can make it again: keep "
     "copies. An existing file is never overwritten."},
    {.group = "repository",
     .verb = "init",
     .summary = "Create an empty repository",
     .options = OFFLINE,
     .is_offline = true,
     .details = OFFLINE_DETAILS},
    {.group = "repository",
     .verb = "check",
     .summary = "Read and verify everything that every backup needs",
     .options = OFFLINE_CHECK,
     .is_offline = true,
     .details = OFFLINE_DETAILS "The exit code is 10 when something is missing or damaged."},
    {.group = "repository",
     .verb = "diff",
     .summary = "Say which files of two backups differ, and by how much",
     .arguments = {{"OLD", NULL, "id of the older backup, or its start", false},
                   {"NEW", NULL, "id of the newer backup", false}},
     .options = OFFLINE_DIFF,
     .is_offline = true,
     .details = OFFLINE_DETAILS "Maps are compared; no data is read."},
    {.group = "repository",
     .verb = "copy",
     .summary = "Copy backups to another repository, sealed anew under its keys",
     .arguments = {{"BACKUP", NULL, "id of one backup; default all", true}},
     .options = OFFLINE_COPY,
     .is_offline = true,
     .details = OFFLINE_DETAILS "What the other repository has is not copied again, so it may be "
                                "stopped and repeated."},
    {.group = "repository",
     .verb = "keys",
     .summary = "List the data keys: whose they are, when they were made, what wraps them",
     .options = OFFLINE,
     .is_offline = true,
     .details = OFFLINE_DETAILS},
    {.group = "repository",
     .verb = "rotate-key",
     .summary = "Give a repository another wrapping key, without touching data",
     .method = "POST",
     .path = "/v1/repositories/{REPOSITORY}/rotate-key",
     .arguments = {REPOSITORY_ARGUMENT},
     .options = ROTATE_KEY,
     .done = "rotated",
     .details =
         "With --repository LOCATION --key-file FILE instead of a name it is offline. "
         "At every moment the old key or the new one opens everything; run it again when it was "
         "stopped. See docs/keys.md."},
    {.group = "repository",
     .verb = "destroy-key",
     .summary = "Destroy a database's data keys: nobody can read its backups any more",
     .options = DESTROY_KEY,
     .is_offline = true,
     .details = OFFLINE_DETAILS
     "Without --confirm it says what would become unreadable. See docs/keys.md."},

    {.group = "instance",
     .verb = "list",
     .summary = "List instances",
     .method = "GET",
     .path = "/v1/instances",
     .options = INSTANCE_LIST,
     .list_key = "instances",
     .columns = INSTANCE_COLUMNS,
     .limit = 100},
    {.group = "instance",
     .verb = "show",
     .summary = "Show an instance",
     .method = "GET",
     .path = "/v1/instances/{INSTANCE}",
     .arguments = {{"INSTANCE", NULL, "id of the instance", false}}},

    {.group = "events",
     .summary = "Show what happened, oldest first",
     .method = "GET",
     .path = "/v1/events",
     .options = EVENTS,
     .list_key = "events",
     .limit = 50,
     .run = events_run},
    {.group = "completion",
     .summary = "Print a completion script for a shell",
     .arguments = {{"SHELL", NULL, "bash, zsh or fish", false}},
     .run = completion_run,
     .details = "For bash: holdfast completion bash > /etc/bash_completion.d/holdfast"},
    {.group = "version",
     .summary = "Print the version of the client, and of the server when it can be reached",
     .run = version_run},
    {.group = "help",
     .summary = "Say how a command is used",
     .arguments = {{"COMMAND", NULL, "for example: database", true},
                   {"VERB", NULL, "for example: create", true}},
     .options = HELP,
     .run = help_run},
};
const size_t COMMAND_COUNT = ARRAY_COUNT(COMMANDS);
