// SPDX-License-Identifier: Apache-2.0
// Inside repository/ only: format version 1 in numbers and structs (docs/repository-format.md),
// with its codecs. All integers are little-endian. Everything decoded here is outside data:
// decoders check every size and count.
#pragma once

#include "common/buffer.h"
#include "common/crypto.h"
#include "repository/repository.h"

#define EXTENT_SIZE ((size_t)REPOSITORY_EXTENT_SIZE)
#define ID_SIZE 16
#define HASH_SIZE 16
#define REF_SIZE 56
#define NODE_HEADER_SIZE 8
// How many refs a whole node of a map has: a fact of the manifest, for all its files.
#define MAP_FAN_OUT 64      // of what starts a line of backups now
#define MAP_FAN_OUT_MAX 512 // of what was started before, and its children
#define MAP_NODE_SIZE_MAX ((size_t)NODE_HEADER_SIZE + (size_t)MAP_FAN_OUT_MAX * REF_SIZE)
#define MAP_LEVEL_MAX 6 // 32 KiB * 64^6 = 2 PiB
#define FILE_SIZE_MAX (INT64_C(1) << 51)
#define LIST_LEVEL_MAX 3
#define LIST_COUNT_MAX 512 // of a leaf's entries, or of an index node's refs
#define LIST_INDEX_SIZE_MAX ((size_t)NODE_HEADER_SIZE + (size_t)LIST_COUNT_MAX * REF_SIZE)
#define LIST_LEAF_SIZE_MAX ((size_t)512 * 1024)
#define LIST_PATH_SIZE_MAX 1024
#define LIST_ENTRY_HEAD_SIZE 24
#define LIST_ENTRY_SIZE_MAX (LIST_ENTRY_HEAD_SIZE + REF_SIZE + LIST_PATH_SIZE_MAX)
#define BLOB_SIZE_MAX LIST_LEAF_SIZE_MAX
#define PACK_SIZE_MAX ((size_t)16 * 1024 * 1024)
#define PACK_HEADER_SIZE 96
#define PACK_INDEX_ENTRY_SIZE 28
#define PACK_TRAILER_SIZE 16
#define PACK_BLOB_COUNT_MAX 16384
#define PACK_INDEX_NONCE UINT32_MAX
#define PACK_NAME_SIZE MANIFEST_ID_SIZE // "eeeeeeee-uuid" and the NUL
#define MANIFEST_SIZE_MAX ((size_t)1024 * 1024)
#define SET_SIZE_MAX ((size_t)16 * 1024 * 1024)
#define ASSOCIATED_SIZE_MAX 256

typedef enum BlobKind { BLOB_ZERO = 0, BLOB_EXTENT = 1, BLOB_NODE = 2, BLOB_INDEX = 3 } BlobKind;
typedef enum Encoding { ENCODING_RAW = 0, ENCODING_ZSTD = 1 } Encoding;
typedef enum NodeType { NODE_MAP = 1, NODE_LIST_LEAF = 2, NODE_LIST_INDEX = 3 } NodeType;

typedef struct PackName {
    uint32_t epoch;
    uint8_t id[ID_SIZE];
} PackName;

// Where a blob is and what it is called. BLOB_ZERO is all zeros and stored nowhere.
typedef struct Ref {
    uint8_t hash[HASH_SIZE];
    PackName pack;
    uint32_t index; // within the pack; also the nonce
    uint32_t offset;
    uint32_t stored_size; // sealed, with the tag
    uint32_t plain_size;
    BlobKind kind;
    Encoding encoding;
} Ref;

typedef enum EntryKind { ENTRY_FILE = 1, ENTRY_DIRECTORY = 2 } EntryKind;

// A line of the file list. The root of a file of depth 0 is its only extent; an empty file's is
// BLOB_ZERO.
typedef struct ListEntry {
    EntryKind kind;
    uint32_t mode;
    int64_t size_bytes;
    int64_t data_bytes; // of size_bytes, what is in extents that are not all zeros
    int depth;
    Ref root;
    char path[LIST_PATH_SIZE_MAX + 1];
} ListEntry;

// Where a manifest's file list is, and how its files' maps are made.
typedef struct ManifestRoot {
    int level; // of the file list's root
    Ref ref;
    int map_fan_out;
} ManifestRoot;

typedef struct NodeHeader {
    NodeType type;
    int level;
    size_t count;
} NodeHeader;

void put_u32(uint8_t *target, uint32_t value);
void put_u64(uint8_t *target, uint64_t value);
uint32_t get_u32(const uint8_t *source);
uint64_t get_u64(const uint8_t *source);

void id_decode(const char *text, uint8_t ret_id[ID_SIZE]); // asserts that it is a UUID
void id_encode(const uint8_t id[ID_SIZE], char ret_text[UUID_TEXT_SIZE]);
Status id_check(const char *text, const char *what,
                Error *error); // REASON_INVALID unless it is a UUID
// Random, with a UUID's version 4 bits.
void id_random(uint8_t ret_id[ID_SIZE]);

void pack_name_encode(const PackName *name, char ret_text[PACK_NAME_SIZE]);
bool pack_name_decode(const char *text, PackName *ret_name);
bool pack_name_equal(const PackName *a, const PackName *b);

void ref_encode(const Ref *ref, uint8_t ret_data[REF_SIZE]);
bool ref_decode(const uint8_t data[REF_SIZE], Ref *ret_ref); // false: not a possible ref
// Of two pointers to refs, for qsort: the order in which blobs lie in packs.
int ref_compare_places(const void *a, const void *b);
bool ref_has_hash(const Ref *a, const Ref *b); // same kind and content

void node_header_encode(NodeType type, int level, size_t count, uint8_t ret_data[NODE_HEADER_SIZE]);
bool node_header_decode(const uint8_t *data, size_t size, NodeHeader *ret_header);

void list_entry_encode(const ListEntry *entry, Buffer *buffer);
// Takes the entry at *offset and moves it on; false: not a possible entry of a list whose maps have
// this fan-out.
bool list_entry_decode(int map_fan_out, const uint8_t *data, size_t size, size_t *offset,
                       ListEntry *ret_entry);

// Relative, '/'-separated, without empty, "." or ".." segments, at most LIST_PATH_SIZE_MAX bytes.
bool list_path_is_valid(const char *path);
int64_t extent_count_of(int64_t size_bytes);
bool map_fan_out_is_known(int64_t fan_out);
size_t map_node_size(int64_t ref_count);
// How many nodes (level > 0) or extents (0) a file's map has at a level.
int64_t map_width(int fan_out, int64_t extent_count, int level);
int64_t map_span(int fan_out, int level);         // how many extents a whole node of a level covers
int map_depth(int fan_out, int64_t extent_count); // 0: the root is the extent itself

bool memory_is_zero(const uint8_t *data, size_t size);
