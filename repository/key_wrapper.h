// SPDX-License-Identifier: Apache-2.0
// Wrapping keys: what data keys are wrapped with before they are stored. A key file, or a key that
// never leaves a key management service. A KeyWrapper is thread-safe; calls to a service block.
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/secret.h"

#include <stdint.h>

typedef struct KeyWrapper KeyWrapper;

#define WRAPPING_ID_SIZE 17 // 16 hex digits and the NUL
#define WRAPPED_SIZE_MAX ((size_t)8192)

// --- key files ---
// A key file is one line, "holdfast-key-1:" and 64 hex digits, mode 0600.
Status key_file_create(const char *path, Error *error); // REASON_EXISTS when there is one
Status key_file_read(const char *path, Secret *ret_key,
                     Error *error); // REASON_KEY_MISSING, or PRECONDITION when others may read it
void key_fingerprint(const Secret *key, char ret_text[WRAPPING_ID_SIZE]); // safe to show

// --- wrapping keys ---
// What a location of a wrapping key may be, checked without looking whether it is there:
//   /path/to/file or file:///path/to/file          a key file
//   awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID     a key of AWS KMS; also .../alias/NAME, whose
//   awskms:///alias/NAME?region=REGION              region may come from AWS_REGION
//   gcpkms:///projects/P/locations/L/keyRings/R/cryptoKeys/K
// Options of both services, after '?' and joined by '&': endpoint=URL, ca_file=/path.
// REASON_INVALID says which schemes there are.
Status key_location_check(const char *location, Error *error);
bool key_location_is_file(const char *location);
// The path of a key file's location; borrowed. Only for key_location_is_file.
const char *key_location_path(const char *location);

// Reads a key file (errors of key_file_read); of a service, only the location is looked at.
Status key_wrapper_open(const char *location, KeyWrapper **ret_wrapper, Error *error);
// A key file's key that is in memory; copied.
KeyWrapper *key_wrapper_from_key(const Secret *key);
void key_wrapper_free(KeyWrapper *wrapper); // NULL is fine
void key_wrapper_freep(KeyWrapper **wrapper);

// Says which wrapping key it is: a key file's fingerprint, or one of the service's name for the
// key.
const char *key_wrapper_id(const KeyWrapper *wrapper);
const char *key_wrapper_kind(const KeyWrapper *wrapper); // "file", "awskms", "gcpkms"
// What a person looks for, safe to show: "key file 0123456789abcdef", "awskms:///alias/backups".
const char *key_wrapper_name(const KeyWrapper *wrapper);

// What a data key is wrapped for. It opens for nothing else.
typedef struct WrapContext {
    const char *repository_id, *database_id, *key_id;
} WrapContext;
// The result is in the arena, at most WRAPPED_SIZE_MAX bytes. Services: REASON_UNAVAILABLE,
// _DEADLINE, _FORBIDDEN, _KEY_MISSING (no such key, disabled, to be deleted).
Status key_wrapper_wrap(KeyWrapper *wrapper, const WrapContext *context, const Secret *key,
                        Arena *arena, uint8_t **ret_wrapped, size_t *ret_size, Error *error);
// REASON_KEY_WRONG when these bytes were not wrapped by this key for this context.
Status key_wrapper_unwrap(KeyWrapper *wrapper, const WrapContext *context, const uint8_t *wrapped,
                          size_t size, Secret *ret_key, Error *error);
