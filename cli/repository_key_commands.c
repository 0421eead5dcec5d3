// SPDX-License-Identifier: Apache-2.0
// Commands on the keys of a repository.
#include "cli/backup_selection.h"
#include "cli/repository_verbs.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_drivers.h"

#include <string.h>

Status verb_create_key(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    RETURN_IF_ERROR(offline_need(options->key_file, "--key-file", error));
    RETURN_IF_ERROR(key_location_check(options->key_file, error));
    if (!key_location_is_file(options->key_file)) {
        error_set(error, REASON_INVALID, "'%s' is not a file", options->key_file);
        return error_hint(error, "a service's keys are made with the service's own tools");
    }
    RETURN_IF_ERROR(key_file_create(key_location_path(options->key_file), error));
    RETURN_IF_ERROR(key_wrapper_open(options->key_file, &wrapper, error));
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_text(result, "key_file", options->key_file);
    json_set_text(result, "fingerprint", key_wrapper_id(wrapper));
    verb_print(cli, result);
    if (!cli->is_json) {
        (void)printf(
            "\nKeep a copy of this file in another safe place, away from the backups: without it "
            "nobody can read them.\n");
    }
    return STATUS_OK;
}

Status verb_init(Cli *cli, const OfflineOptions *options, Error *error)
{
    RETURN_IF_ERROR(offline_need(options->repository, "--repository", error));
    RETURN_IF_ERROR(offline_need(options->key_file, "--key-file", error));
    CLEANUP(key_wrapper_freep) KeyWrapper *wrapper = NULL;
    CLEANUP(repository_freep) Repository *repository = NULL;
    Storage *storage = NULL;
    RETURN_IF_ERROR(key_wrapper_open(options->key_file, &wrapper, error));
    RETURN_IF_ERROR(
        offline_open_storage(&options->store, options->repository, NULL, &storage, error));
    RETURN_IF_ERROR(repository_create(storage, TAKE_PTR(wrapper), &repository, error));
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_text(result, "repository_id", repository_id(repository));
    json_set_text(result, "location", storage_describe(repository_storage(repository)));
    json_set_text(result, "key_fingerprint", key_wrapper_id(repository_wrapper(repository)));
    verb_print(cli, result);
    return STATUS_OK;
}

Status verb_keys(Cli *cli, const OfflineOptions *options, Error *error)
{
    static const ViewColumn columns[] = {
        {"DATABASE", "database_id", VIEW_TEXT},  {"KEY", "key", VIEW_TEXT},
        {"MADE", "created_at", VIEW_TIME},       {"STATE", "state", VIEW_TEXT},
        {"WRAPPED BY", "wrapped_by", VIEW_TEXT}, {NULL, NULL, VIEW_TEXT},
    };
    CLEANUP(repository_freep) Repository *repository = NULL;
    DataKeyFacts *facts = NULL;
    size_t count = 0;
    RETURN_IF_ERROR(offline_open(options, NULL, &repository, error));
    RETURN_IF_ERROR(repository_data_key_list(repository, cli->arena, &facts, &count, error));
    CLEANUP(json_freep) Json *result = json_new_object();
    Json *items = json_new_array();
    for (size_t i = 0; i < count; i++) {
        Json *item = json_new_object();
        const char *state = facts[i].is_destroyed ? "destroyed"
                            : facts[i].can_open   ? "ready"
                                                  : "not wrapped by this key";
        json_set_text(item, "database_id", facts[i].database_id);
        json_set_text(item, "key", facts[i].key_id);
        json_set_text(item, "created_at", selection_time(cli->arena, facts[i].created_us));
        json_set_text(item, "state", state);
        json_set_text(item, "wrapped_by", facts[i].wrapped_by);
        json_add(items, item);
    }
    if (!cli->is_json) {
        output_table(cli, items, columns);
    }
    json_set(result, "keys", items);
    if (cli->is_json) {
        output_json(result);
    }
    return STATUS_OK;
}

// --- rotate-key -------------------------------------------------------------------------------

Status verb_rotate_key(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(key_wrapper_freep) KeyWrapper *from = NULL;
    CLEANUP(key_wrapper_freep) KeyWrapper *to = NULL;
    CLEANUP(storage_freep) Storage *storage = NULL;
    RotateResult added = {0};
    RotateResult removed = {0};
    RETURN_IF_ERROR(offline_need(options->repository, "--repository", error));
    RETURN_IF_ERROR(offline_need(options->key_file, "--key-file", error));
    RETURN_IF_ERROR(offline_need(options->new_key_file, "--new-key-file", error));
    RETURN_IF_ERROR(key_wrapper_open(options->key_file, &from, error));
    RETURN_IF_ERROR(key_wrapper_open(options->new_key_file, &to, error));
    RETURN_IF_ERROR(
        offline_open_storage(&options->store, options->repository, NULL, &storage, error));
    RETURN_IF_ERROR(repository_add_wrapping_key(storage, from, to, &added, error));
    RETURN_IF_ERROR(repository_remove_wrapping_key(storage, from, to, &removed, error));
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_text(result, "old_key", key_wrapper_name(from));
    json_set_text(result, "new_key", key_wrapper_name(to));
    json_set_integer(result, "data_keys", removed.key_count);
    json_set_integer(result, "wrapped_anew", added.rewrapped_count + removed.rewrapped_count);
    json_set_integer(result, "lost_keys", removed.lost_count);
    verb_print(cli, result);
    if (!cli->is_json) {
        (void)printf("\nThe old key opens nothing any more, but keep it for as long as there are "
                     "copies of the repository that were made before.\n");
    }
    return STATUS_OK;
}

// --- destroy-key ------------------------------------------------------------------------------

typedef struct Doomed {
    const char *database_id, *database_name;
    Json *backups;
} Doomed;

// A database that has backups is known by its name; any by its id.
static Status find_doomed(Repository *repository, Cli *cli, const OfflineOptions *options,
                          Doomed *ret_doomed, Error *error)
{
    BackupSet **sets = NULL;
    size_t count = 0;
    Doomed doomed = {.database_id = "", .database_name = options->database};
    OfflineOptions all = *options;
    all.database = NULL;
    RETURN_IF_ERROR(selection_list(repository, &all, cli->arena, &sets, &count, error));
    CLEANUP(json_freep) Json *backups = json_new_array();
    for (size_t i = 0; i < count; i++) {
        bool is_it = text_equal(sets[i]->database_name, options->database) ||
                     text_equal(sets[i]->database_id, options->database);
        if (is_it && doomed.database_id[0] != '\0' &&
            !text_equal(doomed.database_id, sets[i]->database_id)) {
            error_set(error, REASON_INVALID, "the repository has several databases called '%s'",
                      options->database);
            return error_hint(error, "name the id: '%s' or '%s'", doomed.database_id,
                              sets[i]->database_id);
        }
        if (is_it) {
            doomed.database_id = sets[i]->database_id;
            doomed.database_name = sets[i]->database_name;
            json_add(backups, selection_json(cli->arena, sets[i]));
        }
    }
    if (doomed.database_id[0] == '\0') {
        doomed.database_id = options->database;
    }
    doomed.backups = TAKE_PTR(backups);
    *ret_doomed = doomed;
    return STATUS_OK;
}

static Status not_confirmed(const Cli *cli, const Doomed *doomed, Error *error)
{
    static const ViewColumn columns[] = {
        {"BACKUP", "backup", VIEW_TEXT},
        {"CREATED", "created_at", VIEW_TIME},
        {"SHARDS", "shard_count", VIEW_NUMBER},
        {NULL, NULL, VIEW_TEXT},
    };
    if (!cli->is_json && json_count(doomed->backups) > 0) {
        output_table(cli, doomed->backups, columns);
    }
    error_set(error, REASON_PRECONDITION,
              "destroying the keys of database '%s' makes %zu backups unreadable for everybody, "
              "for ever",
              doomed->database_name, json_count(doomed->backups));
    return error_hint(error, "if that is what you want, add: --confirm '%s' --ignore-holds",
                      doomed->database_name);
}

// Holds and pins are the server's facts; the repository has none of them.
static Status may_be_held(const Doomed *doomed, Error *error)
{
    error_set(error, REASON_PRECONDITION,
              "whether backups of database '%s' are on legal hold or pinned is known to the server "
              "only: this command cannot see it",
              doomed->database_name);
    return error_hint(error, "let the server do it, which refuses when they are: holdfast database "
                             "destroy-data-keys. When there is no server any more, and you know "
                             "that nothing is held, add --ignore-holds");
}

static Status destroy(Cli *cli, const OfflineOptions *options, Repository *repository,
                      const Doomed *doomed, Error *error)
{
    DestroyResult destroyed = {0};
    if (!text_equal(options->confirm, doomed->database_name)) {
        return not_confirmed(cli, doomed, error);
    }
    if (json_count(doomed->backups) > 0 && !options->ignores_holds) {
        return may_be_held(doomed, error);
    }
    RETURN_IF_ERROR(
        repository_destroy_data_keys(repository, doomed->database_id, NULL, &destroyed, error));
    CLEANUP(json_freep) Json *result = json_new_object();
    json_set_text(result, "database_id", doomed->database_id);
    json_set_integer(result, "destroyed_keys", destroyed.key_count);
    json_set_integer(result, "removed_wrappings", destroyed.wrapping_count);
    json_set_integer(result, "unreadable_backups", (int64_t)json_count(doomed->backups));
    verb_print(cli, result);
    if (!cli->is_json) {
        (void)printf("\nCopies of the repository, and old versions of objects where the store "
                     "keeps them, may still have the wrapped keys.\n");
    }
    return STATUS_OK;
}

Status verb_destroy_key(Cli *cli, const OfflineOptions *options, Error *error)
{
    CLEANUP(repository_freep) Repository *repository = NULL;
    Doomed doomed = {0};
    RETURN_IF_ERROR(offline_need(options->database, "--database", error));
    RETURN_IF_ERROR(offline_open(options, NULL, &repository, error));
    RETURN_IF_ERROR(find_doomed(repository, cli, options, &doomed, error));
    Status status = destroy(cli, options, repository, &doomed, error);
    json_free(doomed.backups);
    return status;
}
