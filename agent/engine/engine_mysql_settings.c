// SPDX-License-Identifier: Apache-2.0
// What our server must share with the source, and which programs and versions fit together.
#include "agent/engine/engine_mysql_family.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/process.h"
#include "common/text.h"

#include <stdio.h>
#include <string.h>

#define VERSION_MS (20 * 1000)
#define MYSQL_CLONE_WITHIN_SERIES                                                                  \
    80037 // from here on donor and recipient need not be the same patch release

static void copy_text(char *target, size_t size, const char *text)
{
    (void)snprintf(target, size, "%s", text == NULL ? "" : text);
}

Status mysql_settings_read(MysqlClient *source, bool is_mysql, MysqlSettings *ret_settings,
                           Error *error)
{
    MysqlSettings settings = {0};
    CLEANUP(mysql_result_freep) MYSQL_RES *result = NULL;
    RETURN_IF_ERROR(mysql_client_query(source, MYSQL_STATEMENT_MS, &result, error,
                                       "SELECT @@innodb_page_size, @@lower_case_table_names, "
                                       "@@global.explicit_defaults_for_timestamp,"
                                       " @@global.default_storage_engine, "
                                       "@@global.character_set_server, @@global.collation_server,"
                                       " @@innodb_data_file_path"));
    MYSQL_ROW row = mysql_fetch_row(result);
    if (row == NULL) {
        return error_set(error, REASON_SOURCE_CONFIGURATION,
                         "the source does not tell its settings");
    }
    int64_t number = 0;
    settings.page_size = text_to_int64(row[0], &number) ? (int)number : 16384;
    settings.lower_case_table_names = text_to_int64(row[1], &number) ? (int)number : 0;
    settings.explicit_defaults_for_timestamp = text_equal(row[2], "1");
    copy_text(settings.default_storage_engine, sizeof(settings.default_storage_engine), row[3]);
    copy_text(settings.character_set, sizeof(settings.character_set), row[4]);
    copy_text(settings.collation, sizeof(settings.collation), row[5]);
    copy_text(settings.data_file_path, sizeof(settings.data_file_path), is_mysql ? row[6] : "");

    CLEANUP(mysql_result_freep) MYSQL_RES *plugins = NULL;
    RETURN_IF_ERROR(mysql_client_query(
        source, MYSQL_STATEMENT_MS, &plugins, error,
        "SELECT DISTINCT PLUGIN_LIBRARY FROM information_schema.PLUGINS WHERE PLUGIN_LIBRARY IS "
        "NOT NULL"
        " AND PLUGIN_STATUS = 'ACTIVE' AND PLUGIN_TYPE IN"
        " ('AUTHENTICATION', 'STORAGE ENGINE', 'DATA TYPE', 'FUNCTION', 'FTPARSER')"));
    for (row = mysql_fetch_row(plugins);
         row != NULL && settings.plugin_count < MYSQL_PLUGIN_COUNT_MAX;
         row = mysql_fetch_row(plugins)) {
        copy_text(settings.plugins[settings.plugin_count++], sizeof(settings.plugins[0]), row[0]);
    }
    *ret_settings = settings;
    return STATUS_OK;
}

Json *mysql_settings_to_json(const MysqlSettings *settings)
{
    Json *json = json_new_object();
    json_set_integer(json, "page_size", settings->page_size);
    json_set_integer(json, "lower_case_table_names", settings->lower_case_table_names);
    json_set_boolean(json, "explicit_defaults_for_timestamp",
                     settings->explicit_defaults_for_timestamp);
    json_set_text(json, "default_storage_engine", settings->default_storage_engine);
    json_set_text(json, "character_set", settings->character_set);
    json_set_text(json, "collation", settings->collation);
    json_set_text(json, "data_file_path", settings->data_file_path);
    Json *plugins = json_new_array();
    for (size_t i = 0; i < settings->plugin_count; i++) {
        json_add(plugins, json_new_text(settings->plugins[i]));
    }
    json_set(json, "plugins", plugins);
    return json;
}

// They become options of a program: a damaged or forged state must not smuggle others in.
static bool is_plain(const char *text)
{
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:;") ==
           strlen(text);
}

static void copy_plain(char *target, size_t size, const char *text)
{
    copy_text(target, size, is_plain(text) ? text : "");
}

void mysql_settings_from_json(MysqlSettings *settings, const Json *json)
{
    *settings = (MysqlSettings){0};
    settings->page_size = (int)json_get_integer(json, "page_size", 16384);
    settings->lower_case_table_names = (int)json_get_integer(json, "lower_case_table_names", 0);
    settings->explicit_defaults_for_timestamp =
        json_get_boolean(json, "explicit_defaults_for_timestamp", true);
    copy_plain(settings->default_storage_engine, sizeof(settings->default_storage_engine),
               json_get_text(json, "default_storage_engine", "InnoDB"));
    copy_plain(settings->character_set, sizeof(settings->character_set),
               json_get_text(json, "character_set", ""));
    copy_plain(settings->collation, sizeof(settings->collation),
               json_get_text(json, "collation", ""));
    copy_plain(settings->data_file_path, sizeof(settings->data_file_path),
               json_get_text(json, "data_file_path", ""));
    const Json *plugins = json_get(json, "plugins");
    for (size_t i = 0; i < json_count(plugins) && settings->plugin_count < MYSQL_PLUGIN_COUNT_MAX;
         i++) {
        const char *library = json_text(json_item(plugins, i), "");
        if (library[0] != '\0' && is_plain(library)) {
            copy_text(settings->plugins[settings->plugin_count++], sizeof(settings->plugins[0]),
                      library);
        }
    }
}

static bool find_program(const char *directory, const char *const *names, char path[4096])
{
    if (!text_is_empty(directory)) {
        for (size_t i = 0; names[i] != NULL; i++) {
            const char *base = strrchr(names[i], '/');
            CLEANUP_FREE char *inside =
                string_format("%s/%s", directory, base == NULL ? names[i] : base + 1);
            const char *const candidate[] = {inside, NULL};
            if (program_find(candidate, path)) {
                return true;
            }
        }
    }
    return program_find(names, path);
}

static Status missing(Error *error, bool is_mysql, const char *what)
{
    error_set(error, REASON_ENGINE_MISSING, "%s is not installed here", what);
    return error_hint(error,
                      is_mysql ? "install the package mysql-server-core (mysql-server-core-8.0 on"
                                 " Ubuntu), or name the directory of MySQL's programs"
                               : "install the package mariadb-server-core, or name the directory of"
                                 " MariaDB's programs");
}

static Status read_version(MysqlPrograms *programs, Error *error)
{
    CLEANUP(buffer_done) Buffer output = {0};
    buffer_init(&output, 4096);
    const char *const arguments[] = {programs->server, "--no-defaults", "--version", NULL};
    ProcessOptions options = {.arguments = arguments};
    RETURN_IF_ERROR(process_run(&options, VERSION_MS, REASON_ENGINE_MISSING, &output, error));
    const char *version = strstr(buffer_text(&output), "Ver ");
    if (version == NULL || sscanf(version + 4, " %63s", programs->version) != 1) {
        return error_set(error, REASON_ENGINE_MISSING, "'%s' does not tell its version",
                         programs->server);
    }
    programs->version_number = mysql_version_number(programs->version);
    return STATUS_OK;
}

Status mysql_programs_find(MysqlPrograms *programs, bool is_mysql, const char *program_directory,
                           Error *error)
{
    static const char *const mysql_names[] = {"/usr/sbin/mysqld", "/usr/libexec/mysqld",
                                              "/usr/local/mysql/bin/mysqld", "mysqld", NULL};
    static const char *const mariadb_names[] = {"/usr/sbin/mariadbd", "/usr/libexec/mariadbd",
                                                "/usr/local/mariadb/bin/mariadbd", "mariadbd",
                                                NULL};
    static const char *const install_names[] = {"/usr/bin/mariadb-install-db", "mariadb-install-db",
                                                NULL};
    *programs = (MysqlPrograms){0};
    if (!find_program(program_directory, is_mysql ? mysql_names : mariadb_names,
                      programs->server)) {
        return missing(error, is_mysql, is_mysql ? "mysqld" : "mariadbd");
    }
    if (!is_mysql && !find_program(program_directory, install_names, programs->install)) {
        return missing(error, is_mysql, "mariadb-install-db");
    }
    RETURN_IF_ERROR(read_version(programs, error));
    if (is_mysql && strstr(programs->version, "MariaDB") != NULL) {
        return missing(error, is_mysql, "mysqld (the one found is MariaDB's)");
    }
    return STATUS_OK;
}

static Status version_mismatch(Error *error, const MysqlPrograms *programs, const char *what,
                               const char *version)
{
    error_set(error, REASON_ENGINE_VERSION, "%s has version %s, the programs here are %s", what,
              version, programs->version);
    return error_hint(error, "install the programs of the source's version where the agent runs");
}

Status mysql_version_check(const MysqlPrograms *programs, bool is_mysql, const char *version,
                           Error *error)
{
    int theirs = mysql_version_number(version);
    int ours = programs->version_number;
    bool is_same_series = theirs / 100 == ours / 100;
    bool fits = is_same_series;
    if (is_mysql) {
        // A newer server upgrades the data directory when it starts, also from the long-term series
        // before; going back is only possible inside a long-term series.
        bool is_long_term = theirs / 100 == 804 || theirs / 100 == 907;
        fits = (is_same_series && (ours >= theirs || is_long_term)) ||
               (theirs / 10000 == ours / 10000 && ours >= theirs);
    }
    return fits ? STATUS_OK : version_mismatch(error, programs, "the backup", version);
}

Status mysql_source_version_check(const MysqlPrograms *programs, bool is_mysql, const char *version,
                                  Error *error)
{
    int theirs = mysql_version_number(version);
    int ours = programs->version_number;
    if (is_mysql != (strstr(version, "MariaDB") == NULL)) {
        return version_mismatch(error, programs, "the source is another engine and", version);
    }
    bool fits = theirs / 100 == ours / 100;
    if (fits && is_mysql && theirs < MYSQL_CLONE_WITHIN_SERIES) {
        fits = theirs == ours;
    }
    return fits ? STATUS_OK : version_mismatch(error, programs, "the source", version);
}
