// SPDX-License-Identifier: Apache-2.0
#include "cli/repository_commands.h"

#include "cli/repository_verbs.h"
#include "common/memory.h"
#include "common/text.h"

#include <string.h>
#include <unistd.h>

typedef struct RepositoryVerb {
    const char *name;
    Status (*run)(Cli *cli, const OfflineOptions *options, Error *error);
    const char *usage;
} RepositoryVerb;

void verb_print(const Cli *cli, const Json *object)
{
    if (cli->is_json) {
        output_json(object);
    } else {
        output_details(cli, object);
    }
}

// --- the group --------------------------------------------------------------------------------

#define PLACE "--repository LOCATION --key-file KEY"
#define KEY_HELP "KEY is a key file, or a key of a service: awskms:///KEY or gcpkms:///KEY.\n"

static const RepositoryVerb VERBS[] = {
    {"create-key", verb_create_key,
     "usage: holdfast repository create-key --key-file FILE\n\n"
     "Makes a key file, which a repository is created with and which its backups cannot be read\n"
     "without. An existing file is never overwritten.\n"},
    {"init", verb_init,
     "usage: holdfast repository init " PLACE "\n\n"
     "Creates an empty repository at LOCATION, a directory or file:///directory.\n" KEY_HELP},
    {"check", verb_check,
     "usage: holdfast repository check " PLACE "\n"
     "                                [--sample PERCENT] [--state FILE] [--bandwidth BYTES]\n"
     "                                [--cpus N] [--memory BYTES] [--output json]\n\n"
     "Reads and verifies everything that every backup needs: each object is there, is what was\n"
     "written, and belongs where it is. Exit code 10 when something is not. With --sample only so\n"
     "many of every 100 packs are read; maps are, and each pack must be there, in any case. FILE\n"
     "keeps how far it came, so that a check that is stopped goes on there. Packs are read several\n"
     "at once: with --bandwidth at most so many bytes a second, such as 20MiB, with --cpus by at\n"
     "most so many threads, and with --memory as many as fit into it.\n"},
    {"list", verb_list,
     "usage: holdfast repository list " PLACE " [--database NAME]\n"
     "                                [--sizes] [--output json]\n\n"
     "Lists the backups in a repository, oldest first; with --sizes it also opens every manifest.\n"
     "Backups that cannot be read are listed with the reason.\n"},
    {"show", verb_show,
     "usage: holdfast repository show [BACKUP] " PLACE "\n"
     "                                [--database NAME] [--shard NAME]... [--files] [--output "
     "json]\n\n"
     "Shows a backup and its shards, with --files every file; without BACKUP, or with 'latest',\n"
     "the newest complete one.\n"},
    {"diff", verb_diff,
     "usage: holdfast repository diff OLD NEW " PLACE "\n"
     "                                [--shard NAME]... [--output json]\n\n"
     "Says which files of two backups differ and by how much, from their maps: no data is read.\n"},
    {"copy", verb_copy,
     "usage: holdfast repository copy [BACKUP] " PLACE "\n"
     "                                --to LOCATION --to-key-file KEY [--database NAME]\n"
     "                                [--to-endpoint URL] [--to-region NAME] [--to-path-style]\n"
     "                                [--to-ca-certificate-file FILE] [--to-profile NAME]\n"
     "                                [--to-credential-file FILE]\n"
     "                                [--bandwidth BYTES] [--cpus N] [--memory BYTES]\n"
     "                                [--output json]\n\n"
     "Copies backups (all, those of a database, or one) to another repository, sealed anew under\n"
     "its keys. What it has is neither read nor written again: run it again when it was stopped.\n"
     "Needs no disk. --bandwidth is of a second, both for reading and for writing; --memory is for\n"
     "buffers. The --to-... options are of the other one's object store and are none of this one's:\n"
     "--endpoint, --region and so on are not taken over.\n"},
    {"keys", verb_keys,
     "usage: holdfast repository keys " PLACE " [--output json]\n\n"
     "Lists the data keys: whose they are, when they were made, what wraps them.\n"},
    {"rotate-key", verb_rotate_key,
     "usage: holdfast repository rotate-key " PLACE "\n"
     "                                --new-key-file KEY [--output json]\n\n"
     "Wraps every data key by the new key and strikes off the old one. No data is touched. At\n"
     "every moment the old key or the new one opens everything; run it again when it was "
     "stopped.\n" KEY_HELP},
    {"destroy-key", verb_destroy_key,
     "usage: holdfast repository destroy-key " PLACE "\n"
     "                                --database NAME [--confirm NAME] [--ignore-holds]\n"
     "                                [--output json]\n\n"
     "Destroys a database's data keys: nobody can read its backups any more, for ever. Without\n"
     "--confirm it only says what that would be. Legal holds and pins are known to the server only,\n"
     "so where there are backups --ignore-holds must say that you know there are none.\n"},
};

int repository_command(int argument_count, char **arguments)
{
    Error error = {0};
    OfflineOptions options = {0};
    Cli cli = {.arena = arena_new()};
    const char *name = argument_count > 2 ? arguments[2] : "";
    const RepositoryVerb *verb = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(VERBS); i++) {
        verb = text_equal(VERBS[i].name, name) ? &VERBS[i] : verb;
    }
    Status status = STATUS_OK;
    if (verb == NULL) {
        status =
            error_set(&error, REASON_INVALID, "there is no offline command 'repository %s'", name);
    } else {
        status = offline_parse(argument_count, arguments, 3, &options, &error);
    }
    if (status == STATUS_OK && options.is_help) {
        (void)fputs(verb->usage, stdout);
    } else if (status == STATUS_OK) {
        cli.is_json = options.is_json;
        cli.is_terminal = isatty(STDOUT_FILENO) == 1;
        cli.has_color = cli.is_terminal;
        offline_watch_signals();
        status = verb->run(&cli, &options, &error);
    }
    int code = offline_result(&cli, status, &error);
    arena_free(cli.arena);
    return code;
}
