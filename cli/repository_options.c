// SPDX-License-Identifier: Apache-2.0
#include "cli/repository_options.h"

#include "cli/command_options.h"

#define OFFLINE_REPOSITORY                                                                         \
    {                                                                                              \
        "repository", VALUE_TEXT, "LOCATION", NULL,                                                \
            "where it is: file:///absolute/path, a directory, s3:// or gs://bucket/prefix", NULL,  \
            true                                                                                   \
    }
#define OFFLINE_KEY                                                                                \
    {                                                                                              \
        "key-file", VALUE_TEXT, "FILE", NULL,                                                      \
            "its key file, or its key of a service: awskms:///KEY, gcpkms:///KEY", NULL, true      \
    }
#define OFFLINE_STORE                                                                              \
    {"endpoint", VALUE_TEXT, "URL", NULL, "of the object store, without the bucket", NULL, false}, \
        {"region", VALUE_TEXT, "NAME", NULL, "of the bucket", NULL, false},                        \
        {"path-style", VALUE_FLAG, NULL, NULL, "the bucket is in the path, not in the host name",  \
         NULL,         false},                                                                     \
        {"ca-certificate-file",                                                                    \
         VALUE_TEXT,                                                                               \
         "FILE",                                                                                   \
         NULL,                                                                                     \
         "PEM file of the authority to trust instead of the system's",                             \
         NULL,                                                                                     \
         false},                                                                                   \
        {"profile", VALUE_TEXT, "NAME", NULL, "of AWS's credentials", NULL, false},                \
    {                                                                                              \
        "credential-file", VALUE_TEXT, "FILE", NULL,                                               \
            "the store's credential: a file like ~/.aws/credentials; gs://: a JSON key", NULL,     \
            false                                                                                  \
    }
#define OFFLINE_LIMITS                                                                             \
    {"bandwidth",                                                                                  \
     VALUE_BYTES,                                                                                  \
     "BYTES",                                                                                      \
     NULL,                                                                                         \
     "of the repository, at most so many a second, such as 20MiB",                                 \
     NULL,                                                                                         \
     false},                                                                                       \
        {"cpus",                                                                                   \
         VALUE_INTEGER,                                                                            \
         "N",                                                                                      \
         NULL,                                                                                     \
         "so many threads hash, compress and decompress; default the number of "                   \
         "processors",                                                                             \
         NULL,                                                                                     \
         false},                                                                                   \
    {                                                                                              \
        "memory", VALUE_BYTES, "BYTES", NULL, "for buffers, at least 64MiB", NULL, false           \
    }
const CommandOption REPOSITORY_CREATE[] = {
    {"location", VALUE_TEXT, "URL", "repository.location",
     "file:///absolute/path on the servers and instances, s3:// or gs://bucket/prefix", NULL, true},
    {"key-file", VALUE_TEXT, "FILE", "repository.key_file", "path of the key file on the servers",
     NULL, true},
    {"create-key-file", VALUE_FLAG, NULL, "create_key_file", "make the key file when it is missing",
     NULL, false},
    {"credential", VALUE_TEXT, "NAME", "repository.object_store.credential",
     "the credential for the store: access key id as username, secret as password; for gs:// the "
     "account and its JSON key",
     NULL, false},
    {"credential-source", VALUE_TEXT, "SOURCE", "repository.object_store.credential_source",
     "where else credentials come from; default automatic",
     "automatic explicit environment profile web_identity container instance none", false},
    {"endpoint", VALUE_TEXT, "URL", "repository.object_store.endpoint",
     "of the store, without the bucket; default the cloud's", NULL, false},
    {"region", VALUE_TEXT, "NAME", "repository.object_store.region", "of the bucket", NULL, false},
    {"path-style", VALUE_FLAG, NULL, "repository.object_store.path_style",
     "the bucket is in the path, not in the host name", NULL, false},
    {"ca-certificate-file", VALUE_SECRET, "FILE", "repository.object_store.ca_certificate",
     "PEM file of the authority to trust instead of the system's", NULL, false},
    {"encryption", VALUE_TEXT, "KIND", "repository.object_store.encryption",
     "the store's own: default, store or kms", "default store kms", false},
    {"kms-key-id", VALUE_TEXT, "ID", "repository.object_store.kms_key_id",
     "id or ARN of the key, with --encryption kms", NULL, false},
    {"storage-class", VALUE_TEXT, "CLASS", "repository.object_store.storage_class",
     "such as STANDARD_IA; default the bucket's", NULL, false},
    {"lock-mode", VALUE_TEXT, "MODE", "repository.object_store.lock_mode",
     "lock every object: governance or compliance", "none governance compliance", false},
    {"lock-days", VALUE_INTEGER, "DAYS", "repository.object_store.lock_days", "for so long", NULL,
     false},
    BANDWIDTH_OPTIONS("repository.limits."),
    NO_MORE};
const CommandOption REPOSITORY_UPDATE[] = {BANDWIDTH_OPTIONS("limits."), IF_MATCH, NO_MORE};
const CommandOption OFFLINE_KEY_ONLY[] = {OFFLINE_KEY, NO_MORE};
const CommandOption OFFLINE[] = {OFFLINE_REPOSITORY, OFFLINE_KEY, OFFLINE_STORE, NO_MORE};
const CommandOption OFFLINE_CHECK[] = {
    OFFLINE_REPOSITORY,
    OFFLINE_KEY,
    OFFLINE_STORE,
    {"sample", VALUE_INTEGER, "PERCENT", NULL,
     "read only so many of every 100 packs; maps are read, and each pack must be there, anyway",
     NULL, false},
    {"state", VALUE_TEXT, "FILE", NULL, "keeps how far it came, to go on there when it is stopped",
     NULL, false},
    OFFLINE_LIMITS,
    NO_MORE};
const CommandOption OFFLINE_COPY[] = {
    OFFLINE_REPOSITORY,
    OFFLINE_KEY,
    OFFLINE_STORE,
    {"to", VALUE_TEXT, "LOCATION", NULL, "the other repository", NULL, true},
    {"to-key-file", VALUE_TEXT, "FILE", NULL, "the other repository's key", NULL, true},
    {"to-endpoint", VALUE_TEXT, "URL", NULL, "of the other repository's object store", NULL, false},
    {"to-region", VALUE_TEXT, "NAME", NULL, "of its bucket", NULL, false},
    {"to-path-style", VALUE_FLAG, NULL, NULL, "its bucket is in the path, not in the host name",
     NULL, false},
    {"to-ca-certificate-file", VALUE_TEXT, "FILE", NULL, "PEM file of the authority to trust there",
     NULL, false},
    {"to-profile", VALUE_TEXT, "NAME", NULL, "of AWS's credentials, for it", NULL, false},
    {"to-credential-file", VALUE_TEXT, "FILE", NULL, "its credential, as --credential-file", NULL,
     false},
    {"database", VALUE_TEXT, "NAME", NULL, "only backups of this database", NULL, false},
    OFFLINE_LIMITS,
    NO_MORE};
const CommandOption OFFLINE_DIFF[] = {
    OFFLINE_REPOSITORY,
    OFFLINE_KEY,
    OFFLINE_STORE,
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
    {"ignore-holds", VALUE_FLAG, NULL, NULL,
     "although legal holds and pins, which only the server knows, cannot be seen here", NULL,
     false},
    NO_MORE};
const CommandOption OFFLINE_RESTORE[] = {
    OFFLINE_REPOSITORY,
    OFFLINE_KEY,
    OFFLINE_STORE,
    {"target", VALUE_TEXT, "DIR", NULL,
     "a shard goes to DIR/SHARD, a single --shard to DIR itself; empty or missing", NULL, true},
    {"database", VALUE_TEXT, "NAME", NULL, "of this database, when the repository has several",
     NULL, false},
    {"backup", VALUE_TEXT, "ID", NULL, "this backup; default latest, the newest complete one", NULL,
     false},
    {"shard", VALUE_LIST, "NAME", NULL, "only this shard", NULL, false},
    {"jobs", VALUE_INTEGER, "N", NULL,
     "so many shards at a time, 1 to 8; default the number of processors", NULL, false},
    OFFLINE_LIMITS,
    NO_MORE};
