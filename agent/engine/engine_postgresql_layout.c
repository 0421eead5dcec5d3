// SPDX-License-Identifier: Apache-2.0
// Which files of a stopped PostgreSQL data directory make the backup. Left out is what the server
// makes anew at every start (as pg_basebackup leaves it out), and what describes this machine
// rather than the data.
#include "agent/engine/engine_postgres_page.h"
#include "agent/engine/engine_postgresql.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// Directories that must be there, but whose content is of no use. "base/pgsql_tmp" is not among
// them: it is made anew.
static const char *const EMPTY_DIRECTORIES[] = {
    "pg_dynshmem",           "pg_notify",        "pg_replslot", "pg_serial",
    "pg_snapshots",          "pg_stat",          "pg_stat_tmp", "pg_subtrans",
    "pg_wal/archive_status", "pg_wal/summaries",
};
// By their last name, wherever they are.
static const char *const IGNORED_NAMES[] = {
    "postmaster.pid",      "postmaster.opts",          "current_logfile",
    "current_logfile.tmp", "backup_label.old",         "tablespace_map.old",
    "backup_manifest",     "postgresql.auto.conf.tmp", "standby.signal",
    "recovery.signal",     POSTGRESQL_AUTO_CONF_ASIDE,
};
static const char *const IGNORED_PREFIXES[] = {"pgsql_tmp", "pg_internal.init"};

static bool is_in(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && path[length] == '/';
}

static bool is_below_empty(const char *path)
{
    for (size_t i = 0; i < ARRAY_COUNT(EMPTY_DIRECTORIES); i++) {
        if (is_in(path, EMPTY_DIRECTORIES[i])) {
            return true;
        }
    }
    return false;
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static bool is_ignored(const char *path)
{
    const char *name = last_name(path);
    for (size_t i = 0; i < ARRAY_COUNT(IGNORED_NAMES); i++) {
        if (text_equal(name, IGNORED_NAMES[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(IGNORED_PREFIXES); i++) {
        if (text_has_prefix(name, IGNORED_PREFIXES[i])) {
            return true;
        }
    }
    return text_equal(path, "log") || is_in(path, "log") || text_equal(path, "pg_log") ||
           is_in(path, "pg_log");
}

bool postgresql_layout_keeps(const char *path)
{
    return !is_below_empty(path) && !is_ignored(path);
}

typedef struct Collector {
    Arena *arena;
    bool has_checksums;
    EngineFile *files;
    size_t file_count, file_capacity;
    const char **directories;
    size_t directory_count, directory_capacity;
} Collector;

static void add_directory(Collector *collector, const char *path)
{
    if (collector->directory_count == collector->directory_capacity) {
        collector->directory_capacity = MAX(64, collector->directory_capacity * 2);
        collector->directories = mem_realloc_array(collector->directories,
                                                   collector->directory_capacity, sizeof(char *));
    }
    collector->directories[collector->directory_count++] = arena_string(collector->arena, path);
}

static void add_file(Collector *collector, const char *path, const struct stat *facts)
{
    if (collector->file_count == collector->file_capacity) {
        collector->file_capacity = MAX(1024, collector->file_capacity * 2);
        collector->files =
            mem_realloc_array(collector->files, collector->file_capacity, sizeof(EngineFile));
    }
    EngineFile file = {
        .path = arena_string(collector->arena, path),
        .size_bytes = facts->st_size,
        .mode = facts->st_mode & 07777,
    };
    uint32_t segment;
    if (collector->has_checksums && postgres_page_file(path, &segment)) {
        PostgresPageFile *page_file = arena_alloc(collector->arena, sizeof(*page_file));
        page_file->segment = segment;
        file.check = postgres_page_check;
        file.context = page_file;
        file.page_size_bytes = POSTGRES_PAGE_SIZE;
    }
    collector->files[collector->file_count++] = file;
}

static void tree_closep(FTS **tree)
{
    if (*tree != NULL) {
        (void)fts_close(*tree); // only read from
    }
}

static Status visit(Collector *collector, FTSENT *entry, size_t root_size, Error *error)
{
    const char *path = entry->fts_path + root_size + 1;
    switch (entry->fts_info) {
    case FTS_D:
        add_directory(collector, path);
        return STATUS_OK;
    case FTS_F:
        add_file(collector, path, entry->fts_statp);
        return STATUS_OK;
    case FTS_SL:
    case FTS_SLNONE:
        return error_set(
            error, REASON_ENGINE_FAILED,
            "the data directory has the symbolic link '%s': tablespaces and directories "
            "elsewhere are not supported",
            path);
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return error_set_errno(error, REASON_ENGINE_FAILED, entry->fts_errno, "reading '%s'", path);
    default:
        return STATUS_OK;
    }
}

static Status collect(Collector *collector, const char *root, Error *error)
{
    CLEANUP_FREE char *start = string_copy(root);
    char *paths[] = {start, NULL};
    CLEANUP(tree_closep) FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (tree == NULL) {
        return error_set_errno(error, REASON_ENGINE_FAILED, errno, "opening '%s'", root);
    }
    size_t root_size = strlen(root);
    for (;;) {
        errno = 0;
        FTSENT *entry = fts_read(tree);
        if (entry == NULL) {
            return errno == 0
                       ? STATUS_OK
                       : error_set_errno(error, REASON_ENGINE_FAILED, errno, "reading '%s'", root);
        }
        if (entry->fts_level == 0 || entry->fts_info == FTS_DP) {
            continue;
        }
        if (!postgresql_layout_keeps(entry->fts_path + root_size + 1)) {
            (void)fts_set(tree, entry, FTS_SKIP); // its descendants as well
            continue;
        }
        RETURN_IF_ERROR(visit(collector, entry, root_size, error));
    }
}

static int compare_files(const void *left, const void *right)
{
    return strcmp(((const EngineFile *)left)->path, ((const EngineFile *)right)->path);
}

static int compare_texts(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

Status postgresql_layout(Engine *base, Arena *arena, EngineLayout *ret_layout, Error *error)
{
    PostgresqlEngine *engine = (PostgresqlEngine *)base;
    assert(engine->is_stopped);
    Collector collector = {
        .arena = arena,
        .has_checksums = engine->control.checksum_version != 0 &&
                         engine->control.page_bytes == POSTGRES_PAGE_SIZE &&
                         engine->control.segment_pages == POSTGRES_SEGMENT_PAGES,
    };
    Status status = collect(&collector, base->options.data_directory, error);
    if (status == STATUS_OK) {
        // Byte order of the whole path, which puts parents before what is in them.
        qsort(collector.files, collector.file_count, sizeof(EngineFile), compare_files);
        qsort(collector.directories, collector.directory_count, sizeof(char *), compare_texts);
        ret_layout->file_count = collector.file_count;
        ret_layout->files =
            arena_copy(arena, collector.files, collector.file_count * sizeof(EngineFile));
        ret_layout->directory_count = collector.directory_count;
        ret_layout->directories =
            arena_copy(arena, collector.directories, collector.directory_count * sizeof(char *));
    }
    mem_free(collector.files);
    mem_free(collector.directories);
    return status;
}
