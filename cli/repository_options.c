// SPDX-License-Identifier: Apache-2.0
#include "cli/repository_options.h"

#define NO_MORE                                                                                    \
    {                                                                                              \
        NULL, VALUE_TEXT, NULL, NULL, NULL, NULL, false                                            \
    }
#define OFFLINE_REPOSITORY                                                                         \
    {                                                                                              \
        "repository", VALUE_TEXT, "LOCATION", NULL,                                                \
            "where it is: file:///absolute/path or a directory", NULL, true                        \
    }
#define OFFLINE_KEY                                                                                \
    {                                                                                              \
        "key-file", VALUE_TEXT, "FILE", NULL,                                                      \
            "its key file, or its key of a service: awskms:///KEY, gcpkms:///KEY", NULL, true      \
    }
const CommandOption OFFLINE_KEY_ONLY[] = {OFFLINE_KEY, NO_MORE};
const CommandOption OFFLINE[] = {OFFLINE_REPOSITORY, OFFLINE_KEY, NO_MORE};
const CommandOption OFFLINE_CHECK[] = {
    OFFLINE_REPOSITORY,
    OFFLINE_KEY,
    {"sample", VALUE_INTEGER, "PERCENT", NULL,
     "read only so many of every 100 packs; maps are read, and each pack must be there, anyway",
     NULL, false},
    {"state", VALUE_TEXT, "FILE", NULL, "keeps how far it came, to go on there when it is stopped",
     NULL, false},
    NO_MORE};
const CommandOption OFFLINE_COPY[] = {
    OFFLINE_REPOSITORY,
    OFFLINE_KEY,
    {"to", VALUE_TEXT, "LOCATION", NULL, "the other repository", NULL, true},
    {"to-key-file", VALUE_TEXT, "FILE", NULL, "the other repository's key", NULL, true},
    {"database", VALUE_TEXT, "NAME", NULL, "only backups of this database", NULL, false},
    {"scratch", VALUE_TEXT, "DIR", NULL, "with room for one shard; default /var/tmp", NULL, false},
    NO_MORE};
const CommandOption OFFLINE_DIFF[] = {
    OFFLINE_REPOSITORY,
    OFFLINE_KEY,
    {"shard", VALUE_LIST, "NAME", NULL, "only this shard", NULL, false},
    NO_MORE};
const CommandOption ROTATE_DATA_KEY[] = {
    {"repository", VALUE_TEXT, "NAME", "repository", "in which repository", NULL, true}, NO_MORE};
const CommandOption DESTROY_DATA_KEYS[] = {
    {"repository", VALUE_TEXT, "NAME", "repository", "in which repository", NULL, true},
    {"confirm", VALUE_TEXT, "NAME", "confirm",
     "the database's name again; without it nothing is destroyed", NULL, false},
    NO_MORE};
const CommandOption ROTATE_KEY[] = {
    {"repository", VALUE_TEXT, "LOCATION", NULL, "where it is; makes the command an offline one",
     NULL, false},
    {"key-file", VALUE_TEXT, "FILE", NULL, "its key until now (offline)", NULL, false},
    {"new-key-file", VALUE_TEXT, "FILE", "key_file",
     "its key from now on: a key file, awskms:///KEY or gcpkms:///KEY", NULL, true},
    {"create-key-file", VALUE_FLAG, NULL, "create_key_file",
     "make the new key file when it is missing (not offline)", NULL, false},
    NO_MORE};
const CommandOption DESTROY_KEY[] = {
    {"repository", VALUE_TEXT, "LOCATION", NULL, "where it is; makes the command an offline one",
     NULL, false},
    {"key-file", VALUE_TEXT, "FILE", NULL, "its key (offline)", NULL, false},
    {"database", VALUE_TEXT, "NAME", NULL, "whose data keys; a name or an id", NULL, true},
    {"confirm", VALUE_TEXT, "NAME", NULL, "the same name again; without it nothing is destroyed",
     NULL, false},
    NO_MORE};
const CommandOption OFFLINE_RESTORE[] = {
    OFFLINE_REPOSITORY,
    OFFLINE_KEY,
    {"target", VALUE_TEXT, "DIR", NULL,
     "a shard goes to DIR/SHARD, a single --shard to DIR itself; empty or missing", NULL, true},
    {"database", VALUE_TEXT, "NAME", NULL, "of this database, when the repository has several",
     NULL, false},
    {"backup", VALUE_TEXT, "ID", NULL, "this backup; default latest, the newest complete one", NULL,
     false},
    {"shard", VALUE_LIST, "NAME", NULL, "only this shard", NULL, false},
    NO_MORE};
