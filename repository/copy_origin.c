// SPDX-License-Identifier: Apache-2.0
// A reader is at one part of a file's map. It reads the nodes over what is going to be asked for,
// and extents that lie close together in a pack with one request.
#include "repository/copy_origin.h"

#include "common/memory.h"
#include "repository/manifest_object.h"
#include "repository/map_part.h"
#include "repository/repository_diff.h"
#include "repository/repository_limits.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SEALED_SIZE ((size_t)2 * 1024 * 1024)
#define READER_SIZE ((size_t)4 * 1024 * 1024)
#define WORD_BITS 64

typedef struct OriginFile {
    int depth;
    Ref root;
    uint64_t *changed; // a bit for each extent; NULL: none has
} OriginFile;

struct CopyOrigin {
    ShardScope scope;
    Limits *limits;
    PublishSource source;
    int map_fan_out;
    Arena *arena;       // paths
    SourceFile *files;  // in order of path
    OriginFile *places; // of each
    size_t file_count, file_capacity;
    const char **directories;
    size_t directory_count, directory_capacity;
    atomic_llong read_bytes;
};

typedef struct OriginReader {
    CopyOrigin *origin;
    const atomic_bool *is_stopping;
    BlobOpener *opener;
    MapReader map;
    const SourceFile *file; // that the map is open on
    MapPart part;
    bool are_left_out[MAP_PART_NODE_COUNT_MAX]; // nodes of the part
    uint8_t nodes[MAP_NODES_SIZE(MAP_PART_EXTENT_COUNT)];
    Ref refs[MAP_PART_EXTENT_COUNT];
    uint8_t *sealed; // SEALED_SIZE
} OriginReader;

// --- the part of a map ------------------------------------------------------------------------

static const OriginFile *place_of(const CopyOrigin *origin, const SourceFile *file)
{
    return &origin->places[file - origin->files];
}

static void open_map(OriginReader *reader, const SourceFile *file)
{
    const OriginFile *place = place_of(reader->origin, file);
    const ListEntry entry = {.kind = ENTRY_FILE,
                             .size_bytes = file->size_bytes,
                             .depth = place->depth,
                             .root = place->root};
    map_reader_open(&reader->map, &entry);
    reader->file = file;
    reader->part = (MapPart){0};
}

// Nodes over nothing that was written are left out: nobody asks for what is below them.
static void leave_out(OriginReader *reader, MapPart *part)
{
    const SourceFile *file = reader->file;
    int64_t span_bytes = reader->map.fan_out * (int64_t)EXTENT_SIZE;
    for (size_t i = 0; i < part->node_count && file->is_written != NULL; i++) {
        int64_t offset = part->first * (int64_t)EXTENT_SIZE + (int64_t)i * span_bytes;
        int64_t size = MIN(span_bytes, file->size_bytes - offset);
        reader->are_left_out[i] = !file->is_written(file->written_context, offset, size);
        if (reader->are_left_out[i]) {
            part->nodes[i] = (Ref){0};
        }
    }
}

static Status load_part(OriginReader *reader, int64_t first, bool is_whole, Error *error)
{
    MapPart part;
    first -= first % MAP_PART_EXTENT_COUNT;
    reader->part = (MapPart){0}; // should this fail
    memset(reader->are_left_out, 0, sizeof(reader->are_left_out));
    if (reader->map.depth == 0) {
        part = (MapPart){.extent_count = 1, .size_bytes = reader->map.size_bytes};
        reader->refs[0] = reader->map.root;
    } else {
        RETURN_IF_ERROR(map_part_find(&reader->map, first, MAP_PART_EXTENT_COUNT, &part, error));
        if (!is_whole) {
            leave_out(reader, &part);
        }
        RETURN_IF_ERROR(map_part_read(reader->opener, reader->map.fan_out, &part, reader->nodes,
                                      reader->refs, error));
    }
    reader->part = part;
    return STATUS_OK;
}

static bool has_left_out(const OriginReader *reader, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (reader->are_left_out[(first + i - reader->part.first) / reader->map.fan_out]) {
            return true;
        }
    }
    return false;
}

// Afterwards the refs are those of the part that these extents are in.
static Status need_extents(OriginReader *reader, const SourceFile *file, int64_t first,
                           int64_t count, Error *error)
{
    if (reader->file != file) {
        open_map(reader, file);
    }
    const MapPart *part = &reader->part;
    if (first < part->first || first >= part->first + part->extent_count) {
        RETURN_IF_ERROR(load_part(reader, first, false, error));
    }
    assert(first + count <= part->first + part->extent_count);
    return has_left_out(reader, first, count) ? load_part(reader, first, true, error) : STATUS_OK;
}

// --- extents ----------------------------------------------------------------------------------

// How many of them, in the order in which they are stored, one request fetches.
static size_t run_length(const Ref *const *refs, size_t count)
{
    size_t length = 1;
    while (length < count && blob_is_close(refs[0], refs[length - 1], refs[length], SEALED_SIZE)) {
        length++;
    }
    return length;
}

static Status open_run(OriginReader *reader, const Ref *const *refs, const BlobPlace *places,
                       size_t count, const Ref *first, uint8_t *data, Error *error)
{
    for (size_t i = 0; i < count; i++) {
        RETURN_IF_ERROR(blob_open(reader->opener, refs[i], reader->sealed + places[i].offset, true,
                                  data + (size_t)(refs[i] - first) * EXTENT_SIZE, error));
    }
    return STATUS_OK;
}

// `first` is the ref of what comes first in `data`.
static Status read_run(OriginReader *reader, const Ref *const *refs, size_t count, const Ref *first,
                       uint8_t *data, Error *error)
{
    CopyOrigin *origin = reader->origin;
    BlobPlace places[SOURCE_READ_EXTENT_COUNT];
    const Ref *last = refs[count - 1];
    size_t size = (size_t)last->offset + last->stored_size - refs[0]->offset;
    for (size_t i = 0; i < count; i++) {
        places[i] = blob_place(refs[i]);
    }
    limits_wait_download(origin->limits, size, reader->is_stopping);
    RETURN_IF_ERROR(blob_fetch(reader->opener, &refs[0]->pack, places, count, reader->sealed,
                               SEALED_SIZE, &size, error));
    atomic_fetch_add(&origin->read_bytes, (long long)size);
    limits_enter(origin->limits);
    Status status = open_run(reader, refs, places, count, first, data, error);
    limits_leave(origin->limits);
    return status;
}

static Status read_extents(OriginReader *reader, const SourceFile *file, int64_t offset,
                           uint8_t *data, size_t size, Error *error)
{
    const Ref *order[SOURCE_READ_EXTENT_COUNT];
    int64_t position = offset / (int64_t)EXTENT_SIZE;
    size_t count = (size_t)extent_count_of((int64_t)size);
    assert(count <= SOURCE_READ_EXTENT_COUNT);
    RETURN_IF_ERROR(need_extents(reader, file, position, (int64_t)count, error));
    const Ref *first = &reader->refs[position - reader->part.first];
    for (size_t i = 0; i < count; i++) {
        order[i] = first + i;
    }
    qsort(order, count, sizeof(*order), ref_compare_places);
    for (size_t done = 0; done < count;) {
        size_t length = run_length(order + done, count - done);
        RETURN_IF_ERROR(read_run(reader, order + done, length, first, data, error));
        done += length;
    }
    return STATUS_OK;
}

// --- as a source ------------------------------------------------------------------------------

// Two repositories have objects of these names.
static Status of_origin(Status status, Error *error)
{
    return status == STATUS_OK ? status : error_wrap(error, "in the repository that is copied");
}

static Status read_origin(void *context, const SourceFile *file, int64_t offset, uint8_t *data,
                          size_t size, Error *error)
{
    return of_origin(read_extents(context, file, offset, data, size, error), error);
}

static Status is_hole(void *context, const SourceFile *file, int64_t offset, size_t size,
                      bool *ret_is_hole, Error *error)
{
    OriginReader *reader = context;
    int64_t position = offset / (int64_t)EXTENT_SIZE;
    (void)size; // an extent's
    RETURN_IF_ERROR(of_origin(need_extents(reader, file, position, 1, error), error));
    *ret_is_hole = reader->refs[position - reader->part.first].kind == BLOB_ZERO;
    return STATUS_OK;
}

static void *reader_new(void *context, const atomic_bool *is_stopping)
{
    CopyOrigin *origin = context;
    OriginReader *reader = mem_alloc(sizeof(*reader));
    reader->origin = origin;
    reader->is_stopping = is_stopping;
    reader->opener = blob_opener_new(&origin->scope);
    reader->sealed = mem_alloc_aligned(DIRECT_ALIGNMENT, SEALED_SIZE);
    map_reader_init(&reader->map, reader->opener, origin->map_fan_out);
    return reader;
}

static void reader_free(void *context)
{
    OriginReader *reader = context;
    map_reader_done(&reader->map);
    blob_opener_free(reader->opener);
    mem_free(reader->sealed);
    mem_free(reader);
}

// --- what has changed -------------------------------------------------------------------------

static bool is_written(void *context, int64_t offset, int64_t size)
{
    const OriginFile *place = context;
    if (place->changed == NULL || size == 0) {
        return false;
    }
    int64_t last = (offset + size - 1) / (int64_t)EXTENT_SIZE;
    for (int64_t position = offset / (int64_t)EXTENT_SIZE; position <= last;) {
        uint64_t word = place->changed[position / WORD_BITS] >> (position % WORD_BITS);
        int64_t left = MIN(last - position + 1, WORD_BITS - position % WORD_BITS);
        if ((word & (UINT64_MAX >> (WORD_BITS - left))) != 0) {
            return true;
        }
        position += left;
    }
    return false;
}

typedef struct Comparison {
    CopyOrigin *origin;
    Progress progress;
    uint64_t *changed; // of the file that is told of next
    size_t next_file;
} Comparison;

static void on_extent(void *context, int64_t size_bytes, int64_t position)
{
    Comparison *comparison = context;
    if (comparison->changed == NULL) {
        size_t word_count = (size_t)(extent_count_of(size_bytes) - 1) / WORD_BITS + 1;
        comparison->changed = mem_alloc_array(word_count, sizeof(*comparison->changed));
    }
    comparison->changed[position / WORD_BITS] |= UINT64_C(1) << (position % WORD_BITS);
}

static void on_file(void *context, const FileDifference *difference)
{
    Comparison *comparison = context;
    CopyOrigin *origin = comparison->origin;
    uint64_t *changed = TAKE_PTR(comparison->changed);
    size_t *next = &comparison->next_file;
    while (*next < origin->file_count && strcmp(origin->files[*next].path, difference->path) < 0) {
        (*next)++;
    }
    if (*next < origin->file_count && strcmp(origin->files[*next].path, difference->path) == 0) {
        origin->places[*next].changed = changed;
    } else {
        mem_free(changed); // of what is no file any more
    }
}

static bool on_progress(void *context, int64_t done_bytes, int64_t total_bytes)
{
    const Progress *progress = context;
    (void)done_bytes; // nothing is copied yet
    return progress->on_progress == NULL ||
           progress->on_progress(progress->context, 0, total_bytes);
}

static Status compare(CopyOrigin *origin, const CopyOriginOptions *options, Error *error)
{
    Comparison comparison = {.origin = origin, .progress = options->progress};
    const DiffObserver observer = {
        .on_extent = on_extent, .on_file = on_file, .context = &comparison};
    const Progress progress = {.on_progress = on_progress, .context = &comparison.progress};
    DiffResult result;
    Status status = diff_manifests(&origin->scope, options->parent, options->manifest, progress,
                                   &observer, &result, error);
    mem_free(comparison.changed);
    for (size_t i = 0; i < origin->file_count && status == STATUS_OK; i++) {
        origin->files[i].is_written = is_written;
        origin->files[i].written_context = &origin->places[i];
    }
    return status;
}

// --- the list ---------------------------------------------------------------------------------

static void add_directory(CopyOrigin *origin, const char *path)
{
    if (origin->directory_count == origin->directory_capacity) {
        origin->directory_capacity = MAX(64, 2 * origin->directory_capacity);
        origin->directories = mem_realloc_array(origin->directories, origin->directory_capacity,
                                                sizeof(*origin->directories));
    }
    origin->directories[origin->directory_count++] = path;
}

static void add_file(CopyOrigin *origin, const ListEntry *entry, const char *path)
{
    if (origin->file_count == origin->file_capacity) {
        origin->file_capacity = MAX(64, 2 * origin->file_capacity);
        origin->files =
            mem_realloc_array(origin->files, origin->file_capacity, sizeof(*origin->files));
        origin->places =
            mem_realloc_array(origin->places, origin->file_capacity, sizeof(*origin->places));
    }
    origin->files[origin->file_count] =
        (SourceFile){.path = path, .size_bytes = entry->size_bytes, .mode = entry->mode};
    origin->places[origin->file_count++] = (OriginFile){.depth = entry->depth, .root = entry->root};
}

static Status list(CopyOrigin *origin, const ManifestRoot *root, Error *error)
{
    const ListEntry *entry = NULL;
    CLEANUP(blob_opener_freep) BlobOpener *opener = blob_opener_new(&origin->scope);
    blob_opener_read_ahead(opener);
    CLEANUP(list_reader_freep) ListReader *reader = list_reader_new(opener, root, NULL, NULL);
    for (;;) {
        RETURN_IF_ERROR(list_reader_next(reader, &entry, error));
        if (entry == NULL) {
            return STATUS_OK;
        }
        const char *path = arena_string(origin->arena, entry->path);
        if (entry->kind == ENTRY_DIRECTORY) {
            add_directory(origin, path);
        } else {
            add_file(origin, entry, path);
        }
    }
}

Status copy_origin_new(const Repository *repository, const DataKey *key,
                       const CopyOriginOptions *options, CopyOrigin **ret_origin, Error *error)
{
    const Manifest *manifest = options->manifest;
    CLEANUP(copy_origin_freep) CopyOrigin *origin = mem_alloc(sizeof(*origin));
    ManifestRoot root;
    origin->limits = options->limits;
    origin->arena = arena_new();
    RETURN_IF_ERROR(scope_init(&origin->scope, repository, key, manifest->database_id,
                               manifest->shard_id, error));
    RETURN_IF_ERROR(manifest_root(manifest, &root, error));
    origin->map_fan_out = root.map_fan_out;
    origin->source = (PublishSource){.reader_new = reader_new,
                                     .reader_free = reader_free,
                                     .read = read_origin,
                                     .is_hole = is_hole,
                                     .context = origin,
                                     .is_distant = true,
                                     .reader_size = READER_SIZE};
    RETURN_IF_ERROR(of_origin(list(origin, &root, error), error));
    if (options->parent != NULL) {
        RETURN_IF_ERROR(of_origin(compare(origin, options, error), error));
    }
    *ret_origin = TAKE_PTR(origin);
    return STATUS_OK;
}

void copy_origin_free(CopyOrigin *origin)
{
    if (origin == NULL) {
        return;
    }
    for (size_t i = 0; i < origin->file_count; i++) {
        mem_free(origin->places[i].changed);
    }
    mem_free(origin->files);
    mem_free(origin->places);
    mem_free(origin->directories);
    arena_free(origin->arena);
    scope_done(&origin->scope);
    mem_free(origin);
}

void copy_origin_freep(CopyOrigin **origin)
{
    copy_origin_free(*origin);
}

void copy_origin_describe(const CopyOrigin *origin, PublishOptions *options)
{
    options->source = &origin->source;
    options->files = origin->files;
    options->file_count = origin->file_count;
    options->directories = origin->directories;
    options->directory_count = origin->directory_count;
}

int64_t copy_origin_read_bytes(const CopyOrigin *origin)
{
    return atomic_load(&origin->read_bytes);
}
