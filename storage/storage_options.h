// SPDX-License-Identifier: Apache-2.0
// Where an object store is and how to use it: what composition code fills and storage_open takes.
// Texts and secrets are borrowed for the call; NULL and "" mean "not given".
#pragma once

#include "common/error.h"
#include "common/secret.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORAGE_BUCKET_SIZE_MAX 63  // bytes
#define STORAGE_PREFIX_SIZE_MAX 256 // bytes, without slashes at the ends

// Where the credentials of a cloud's store come from.
typedef enum StorageCredentialSource {
    STORAGE_CREDENTIALS_AUTOMATIC,    // the explicit ones when given, else the first that is found
    STORAGE_CREDENTIALS_EXPLICIT,     // access_key_id, secret_key, session_token below
    STORAGE_CREDENTIALS_ENVIRONMENT,  // AWS_ACCESS_KEY_ID ..., GOOGLE_APPLICATION_CREDENTIALS
    STORAGE_CREDENTIALS_PROFILE,      // the shared files in ~/.aws
    STORAGE_CREDENTIALS_WEB_IDENTITY, // a token file that is exchanged for credentials
    STORAGE_CREDENTIALS_CONTAINER,    // the container's credential endpoint
    STORAGE_CREDENTIALS_INSTANCE,     // the machine's metadata service
    STORAGE_CREDENTIALS_NONE,         // requests are not signed: public buckets, emulators
} StorageCredentialSource;

typedef enum StorageEncryption {
    STORAGE_ENCRYPTION_DEFAULT, // what the bucket says
    STORAGE_ENCRYPTION_STORE,   // keys of the store's own: SSE-S3
    STORAGE_ENCRYPTION_KMS,     // a key of the cloud's key service: kms_key_id, or its default key
} StorageEncryption;

typedef enum StorageLockMode {
    STORAGE_LOCK_NONE,
    STORAGE_LOCK_GOVERNANCE, // who has the right to may still delete
    STORAGE_LOCK_COMPLIANCE, // nobody can delete before the time
} StorageLockMode;

// What bounds the traffic of one Storage. Zeros are the defaults.
typedef struct StorageLimits {
    int concurrency_max;            // requests in flight; default 32, at most 256
    int64_t operation_timeout_ms;   // one call with all its tries and waits; default 15 minutes
    int64_t stall_timeout_ms;       // a transfer without bytes is cut after it; default 30 s
    int64_t deadline_ms;            // of everything, by clock_monotonic_ms
    const atomic_bool *is_canceled; // true ends calls with REASON_CANCELED; outlives the Storage
    // Called on the transferring thread before each piece of a body is sent and after each that
    // came; blocks for as long as a cap on bandwidth asks. Must be thread-safe.
    void (*pace)(void *context, bool is_upload, size_t size);
    void *pace_context;
} StorageLimits;

typedef struct StorageOptions {
    // "file:///absolute/path" or "/absolute/path", "s3://bucket[/prefix]", "gs://bucket[/prefix]".
    const char *location;

    // The rest is for object stores.
    const char *endpoint; // "https://objects.example.com:9000"; default: the cloud's own
    const char *region;   // default: the environment's, else "us-east-1"
    bool is_path_style;   // https://host/bucket/key instead of https://bucket.host/key
    const char *ca_pem;   // certificates to trust instead of the system's
    StorageEncryption encryption;
    const char *kms_key_id;
    const char *storage_class; // "STANDARD_IA"
    StorageLockMode lock_mode;
    int64_t lock_duration_s; // every object written is locked for so long

    StorageCredentialSource credential_source;
    const char *access_key_id;
    const Secret *secret_key; // for gs: a service account's JSON key
    const Secret *session_token;
    const char *profile; // s3: default AWS_PROFILE, else "default"
    // A file to take the credential from, whatever the environment says. s3: one such as
    // ~/.aws/credentials; gs: what GOOGLE_APPLICATION_CREDENTIALS may name. Only from whom the
    // machine trusts: never from the API.
    const char *credential_file;

    StorageLimits limits;
} StorageOptions;

typedef enum StorageScheme {
    STORAGE_SCHEME_FILE,
    STORAGE_SCHEME_S3,
    STORAGE_SCHEME_GS,
} StorageScheme;

typedef struct StorageLocation {
    StorageScheme scheme;
    char bucket[STORAGE_BUCKET_SIZE_MAX + 1];
    char prefix[STORAGE_PREFIX_SIZE_MAX + 2]; // "" or "backups/shop/": goes before every key
} StorageLocation;

// REASON_INVALID, with a hint that shows the forms, for what is no location. A path is not looked
// at beyond its scheme.
Status storage_location_parse(const char *location, StorageLocation *ret_location, Error *error);
// Whether the options fit to each other and to the location; the error's field is the member's
// name. storage_open checks them too.
Status storage_options_check(const StorageOptions *options, Error *error);

// Fills the members below "the rest" but for the credential itself and the limits from the API's
// JSON of an ObjectStore (NULL or "": none); the texts are of the arena. REASON_INVALID with the
// field's name in the JSON.
typedef struct Arena Arena;
Status storage_options_from_json(const char *json, Arena *arena, StorageOptions *options,
                                 Error *error);

// Words of the API and of the command line ("automatic", "kms", ...); "" is the first of each.
// False: not one of them. The lists are for messages: "automatic, explicit, ...".
bool storage_credential_source_from_text(const char *text, StorageCredentialSource *ret_source);
bool storage_encryption_from_text(const char *text, StorageEncryption *ret_encryption);
bool storage_lock_mode_from_text(const char *text, StorageLockMode *ret_mode);
const char *storage_credential_source_list(void);
const char *storage_encryption_list(void);
const char *storage_lock_mode_list(void);
