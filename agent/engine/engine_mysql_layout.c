// SPDX-License-Identifier: Apache-2.0
// Which files of a cleanly stopped data directory make the backup, and how their pages are checked.
#include "agent/engine/engine_innodb.h"
#include "agent/engine/engine_mysql_family.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SYSTEM_PAGE 5 // names the doublewrite blocks

typedef struct Layout {
    MysqlEngine *engine;
    Arena *arena;
    EngineFile *files;
    size_t file_count, file_capacity;
    const char **directories;
    size_t directory_count, directory_capacity;
} Layout;

// Files of the top directory that belong to one run of one server: its identity, keys, caches,
// logs, binary logs.
static bool is_top_left_out(const char *name)
{
    static const char *const names[] = {
        "auto.cnf",          "mysqld-auto.cnf",  "ib_buffer_pool", "ibtmp1",
        "ib_doublewrite",    "tc.log",           "master.info",    "relay-log.info",
        "multi-master.info", "ddl_recovery.log", "ddl-backup.log", "ddl_recovery-backup.log",
        "mysql.sock",        "mysql.sock.lock",  "binlog.index",   "binlog.state",
        "backup-my.cnf",     "ib_lru_dump"};
    static const char *const suffixes[] = {".pem",   ".pid",  ".err",  ".log",
                                           ".dblwr", ".sock", ".lock", ".flag"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (text_equal(name, names[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(suffixes); i++) {
        if (text_has_suffix(name, suffixes[i])) {
            return true;
        }
    }
    return false;
}

// Directories that the server makes itself.
static bool is_directory_left_out(const char *path)
{
    return text_equal(path, "#innodb_temp") || text_equal(path, "#clone") ||
           text_equal(path, "lost+found");
}

static bool is_left_out(const char *path)
{
    return strchr(path, '/') == NULL && is_top_left_out(path);
}

// Tablespaces: table files, the system tablespace's, undo logs, MySQL's dictionary.
static bool is_tablespace(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base == NULL ? path : base + 1;
    if (text_has_suffix(base, ".ibd") || text_has_suffix(base, ".ibu")) {
        return true;
    }
    return base == path && (text_has_prefix(base, "ibdata") ||
                            (text_has_prefix(base, "undo") && strlen(base) >= 7));
}

static bool check_pages(void *context, const uint8_t *data, size_t size, int64_t offset,
                        int64_t *bad_page)
{
    return innodb_pages_check(context, data, size, offset, bad_page);
}

static void *grow(Arena *arena, void *items, size_t count, size_t *capacity, size_t item_size)
{
    if (count < *capacity) {
        return items;
    }
    *capacity = *capacity == 0 ? 256 : *capacity * 2;
    void *grown = arena_alloc_array(arena, *capacity, item_size);
    if (count > 0) {
        memcpy(grown, items, count * item_size);
    }
    return grown;
}

// Reads the file's first page, and for the system tablespace the place of its doublewrite blocks.
static Status make_check(Layout *layout, EngineFile *file, Error *error)
{
    CLEANUP_FREE char *path =
        string_format("%s/%s", layout->engine->base.options.data_directory, file->path);
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, REASON_ENGINE_FAILED, errno, "opening '%s'", file->path);
    }
    CLEANUP_FREE uint8_t *header = mem_alloc(INNODB_PAGE_SIZE_MAX);
    size_t got = 0;
    RETURN_IF_ERROR(file_read_at(fd, header, INNODB_HEADER_BYTES, 0, &got, error));
    InnodbFile *innodb = arena_alloc(layout->arena, sizeof(*innodb));
    if (!innodb_file_init(innodb, header, got)) {
        // No tablespace begins so: let the check say it of page 0.
        *innodb = (InnodbFile){.page_size = (uint32_t)layout->engine->settings.page_size};
    }
    if (text_equal(file->path, "ibdata1") &&
        file->size_bytes >= (SYSTEM_PAGE + 1) * (int64_t)innodb->page_size) {
        RETURN_IF_ERROR(file_read_at(fd, header, innodb->page_size,
                                     SYSTEM_PAGE * (int64_t)innodb->page_size, &got, error));
        innodb_file_set_doublewrite(innodb, header);
    }
    file->check = check_pages;
    file->context = innodb;
    return STATUS_OK;
}

static Status add_file(Layout *layout, const FTSENT *entry, const char *path, Error *error)
{
    layout->files = grow(layout->arena, layout->files, layout->file_count, &layout->file_capacity,
                         sizeof(EngineFile));
    EngineFile *file = &layout->files[layout->file_count++];
    *file = (EngineFile){.path = arena_string(layout->arena, path),
                         .size_bytes = entry->fts_statp->st_size,
                         .mode = entry->fts_statp->st_mode & 07777};
    // MariaDB keeps its own record of page compression etc. in files named alike; only tablespaces
    // have pages.
    return is_tablespace(path) && file->size_bytes > 0 ? make_check(layout, file, error)
                                                       : STATUS_OK;
}

static Status add_entry(Layout *layout, FTS *tree, FTSENT *entry, const char *path, Error *error)
{
    switch (entry->fts_info) {
    case FTS_D:
        if (is_directory_left_out(path)) {
            (void)fts_set(tree, entry, FTS_SKIP);
            return STATUS_OK;
        }
        layout->directories = grow(layout->arena, layout->directories, layout->directory_count,
                                   &layout->directory_capacity, sizeof(char *));
        layout->directories[layout->directory_count++] = arena_string(layout->arena, path);
        return STATUS_OK;
    case FTS_F:
        return is_left_out(path) ? STATUS_OK : add_file(layout, entry, path, error);
    case FTS_DP:
        return STATUS_OK;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return error_set_errno(error, REASON_ENGINE_FAILED, entry->fts_errno, "reading '%s'", path);
    case FTS_SL:
    case FTS_SLNONE:
        return error_set(error, REASON_ENGINE_FAILED,
                         "'%s' is a symbolic link: it cannot be backed up", path);
    default:
        return STATUS_OK; // sockets
    }
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const EngineFile *)a)->path, ((const EngineFile *)b)->path);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// A further file of the system tablespace has no header of its own: it goes on where the one before
// ends.
static void join_system_files(Layout *layout)
{
    const InnodbFile *first = NULL;
    int64_t pages = 0;
    for (size_t i = 0; i < layout->file_count; i++) {
        EngineFile *file = &layout->files[i];
        if (!text_has_prefix(file->path, "ibdata") || file->check == NULL) {
            continue;
        }
        InnodbFile *innodb = file->context;
        if (first == NULL) {
            first = innodb;
        } else {
            *innodb = *first;
            innodb->first_page = (uint32_t)pages;
            innodb->doublewrite[0] = innodb->doublewrite[1] = 0;
        }
        pages += file->size_bytes / innodb->page_size;
    }
}

Status mysql_family_layout(Engine *base, Arena *arena, EngineLayout *ret_layout, Error *error)
{
    MysqlEngine *engine = mysql_engine(base);
    assert(engine->pid == 0);
    if (!engine->is_clean) {
        return error_set(error, REASON_PRECONDITION, "the engine has not been stopped cleanly");
    }
    Layout layout = {.engine = engine, .arena = arena};
    char *root = arena_string(arena, base->options.data_directory);
    size_t root_size = strlen(root);
    char *const roots[] = {root, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (tree == NULL) {
        return error_set_errno(error, REASON_ENGINE_FAILED, errno, "reading the data directory");
    }
    Status status = STATUS_OK;
    for (FTSENT *entry = fts_read(tree); entry != NULL && status == STATUS_OK;
         entry = fts_read(tree)) {
        if (entry->fts_level > 0) {
            status = add_entry(&layout, tree, entry, entry->fts_path + root_size + 1, error);
        }
    }
    (void)fts_close(tree);
    RETURN_IF_ERROR(status);
    qsort(layout.files, layout.file_count, sizeof(EngineFile), compare_files);
    qsort(layout.directories, layout.directory_count, sizeof(char *), compare_texts);
    join_system_files(&layout);
    *ret_layout = (EngineLayout){.files = layout.files,
                                 .file_count = layout.file_count,
                                 .directories = layout.directories,
                                 .directory_count = layout.directory_count};
    return STATUS_OK;
}
