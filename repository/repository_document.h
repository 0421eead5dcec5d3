// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: the form that manifests and sets share: a plain header and a sealed,
// compressed JSON text.
#pragma once

#include "repository/repository_blob.h"

#define DOCUMENT_MANIFEST "HFMANIF1"
#define DOCUMENT_SET "HFSET001"

typedef struct DocumentHeader {
    const char *magic;
    uint32_t epoch; // 0 for sets
    char id[UUID_TEXT_SIZE], repository_id[UUID_TEXT_SIZE], database_id[UUID_TEXT_SIZE],
        shard_id[UUID_TEXT_SIZE], key_id[UUID_TEXT_SIZE]; // shard_id is "" for sets
} DocumentHeader;

// Seals with a key derived from the data key for this very document, and a random nonce.
Status document_seal(const DocumentHeader *header, const Secret *data_key, const Json *json,
                     size_t size_max, Buffer *buffer, Error *error);
// `object` is the storage key, for messages. The header is not authenticated before document_open.
Status document_header_decode(const char *object, const char *magic, const uint8_t *data,
                              size_t size, DocumentHeader *ret_header, Error *error);
Status document_open(const char *object, const DocumentHeader *header, const Secret *data_key,
                     const uint8_t *data, size_t size, size_t size_max, Json **ret_json,
                     Error *error);
Status document_is_damaged(const char *object, const char *what, Error *error);
// "sets/<database id>/<backup id>" in its parts.
bool backup_set_id_parse(const char *object_key, char ret_database_id[UUID_TEXT_SIZE],
                         char ret_backup_id[UUID_TEXT_SIZE]);
