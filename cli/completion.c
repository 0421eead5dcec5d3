// SPDX-License-Identifier: Apache-2.0
// Completion scripts, made from the command table.
#include "cli/command_parse.h"
#include "cli/help_commands.h"
#include "common/text.h"

#include <stdio.h>
#include <string.h>

// Help texts go into single-quoted words of three shells; what any of them would not like is left
// out.
static void print_plain(const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("'`\\[]:$\"", *text) == NULL) {
            (void)fputc(*text, stdout);
        }
    }
}

static void print_groups(const char *separator)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (command_begins_group(i)) {
            (void)printf("%s%s", i == 0 ? "" : separator, COMMANDS[i].group);
        }
    }
}

static void print_option_words(const CommandOption *options)
{
    for (const CommandOption *option = options; option != NULL && option->name != NULL; option++) {
        (void)printf(" --%s", option->name);
    }
}

// --- bash ---------------------------------------------------------------------------------------

static void print_bash_verbs(void)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (COMMANDS[i].verb == NULL) {
            continue;
        }
        if (command_begins_group(i)) {
            (void)printf("        %s) words=\"", COMMANDS[i].group);
        }
        (void)printf("%s ", COMMANDS[i].verb);
        if (i + 1 == COMMAND_COUNT || command_begins_group(i + 1)) {
            (void)printf("\" ;;\n");
        }
    }
}

static void print_bash_choices(const CommandOption *options)
{
    for (const CommandOption *option = options; option != NULL && option->name != NULL; option++) {
        if (option->choices != NULL) {
            (void)printf(
                "        --%s) COMPREPLY=($(compgen -W \"%s\" -- \"$current\")); return ;;\n",
                option->name, option->choices);
        } else if (option->placeholder != NULL && (strstr(option->placeholder, "FILE") != NULL ||
                                                   strstr(option->placeholder, "DIR") != NULL)) {
            (void)printf("        --%s) COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n",
                         option->name);
        }
    }
}

static void print_bash(void)
{
    (void)printf("# bash completion for holdfast; made by: holdfast completion bash\n"
                 "_holdfast() {\n"
                 "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} "
                 "words=\n"
                 "    local group=${COMP_WORDS[1]} command=\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\"\n"
                 "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
                 "        COMPREPLY=($(compgen -W \"");
    print_groups(" ");
    (void)printf("\" -- \"$current\")); return\n    fi\n    case $previous in\n");
    print_bash_choices(GLOBAL_OPTIONS);
    // The same option means the same in every command, so that its words are given once.
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        print_bash_choices(COMMANDS[i].options);
    }
    (void)printf("    esac\n    if [[ $current == -* ]]; then\n        case $command in\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)printf("        \"%s %s\"%s) words=\"", COMMANDS[i].group,
                     COMMANDS[i].verb == NULL ? "" : COMMANDS[i].verb,
                     COMMANDS[i].verb == NULL ? "*" : "");
        print_option_words(COMMANDS[i].options);
        (void)printf("\" ;;\n");
    }
    (void)printf("        esac\n        words+=\"");
    print_option_words(GLOBAL_OPTIONS);
    (void)printf("\"\n    elif [ \"$COMP_CWORD\" = 2 ]; then\n        case $group in\n");
    print_bash_verbs();
    (void)printf("        completion) words=\"bash zsh fish\" ;;\n        help) words=\"");
    print_groups(" ");
    (void)printf("\" ;;\n        esac\n    fi\n"
                 "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
                 "}\ncomplete -F _holdfast holdfast\n");
}

// --- zsh ----------------------------------------------------------------------------------------

static void print_zsh_options(const CommandOption *options)
{
    for (const CommandOption *option = options; option != NULL && option->name != NULL; option++) {
        (void)printf(" '%s--%s%s[", option->kind == VALUE_LIST ? "*" : "", option->name,
                     option->placeholder == NULL ? "" : "=");
        print_plain(option->help);
        (void)printf("]");
        if (option->choices != NULL) {
            (void)printf(":%s:(%s)", option->placeholder, option->choices);
        } else if (option->placeholder != NULL) {
            bool is_file = strstr(option->placeholder, "FILE") != NULL ||
                           strstr(option->placeholder, "DIR") != NULL;
            (void)printf(":%s:%s", option->placeholder, is_file ? "_files" : " ");
        }
        (void)printf("'");
    }
}

static void print_zsh_verbs(void)
{
    (void)printf(
        "    if (( CURRENT == 3 )); then\n        local -a verbs\n        case $words[2] in\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (COMMANDS[i].verb == NULL) {
            continue;
        }
        if (command_begins_group(i)) {
            (void)printf("        %s) verbs=(", COMMANDS[i].group);
        }
        (void)printf("'%s:", COMMANDS[i].verb);
        print_plain(COMMANDS[i].summary);
        (void)printf("' ");
        if (i + 1 == COMMAND_COUNT || command_begins_group(i + 1)) {
            (void)printf(") ;;\n");
        }
    }
    (void)printf(
        "        completion) verbs=(bash zsh fish) ;;\n"
        "        esac\n        (( $#verbs )) && { _describe command verbs; return }\n    fi\n");
}

static void print_zsh(void)
{
    (void)printf(
        "#compdef holdfast\n# zsh completion for holdfast; made by: holdfast completion zsh\n"
        "_holdfast() {\n    if (( CURRENT == 2 )); then\n        local -a groups=(");
    print_groups(" ");
    (void)printf(")\n        _describe command groups; return\n    fi\n");
    print_zsh_verbs();
    (void)printf("    case \"$words[2] $words[3]\" in\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)printf("    '%s %s'%s) _arguments", COMMANDS[i].group,
                     COMMANDS[i].verb == NULL ? "" : COMMANDS[i].verb,
                     COMMANDS[i].verb == NULL ? "*" : "");
        print_zsh_options(COMMANDS[i].options);
        print_zsh_options(GLOBAL_OPTIONS);
        (void)printf(" ;;\n");
    }
    (void)printf("    esac\n}\n_holdfast \"$@\"\n");
}

// --- fish ---------------------------------------------------------------------------------------

static void print_fish_options(const char *condition, const CommandOption *options)
{
    for (const CommandOption *option = options; option != NULL && option->name != NULL; option++) {
        (void)printf("complete -c holdfast %s -l %s%s -d '", condition, option->name,
                     option->placeholder == NULL ? "" : " -r");
        print_plain(option->help);
        (void)printf("'");
        if (option->choices != NULL) {
            (void)printf(" -f -a '%s'", option->choices);
        }
        (void)printf("\n");
    }
}

static void print_fish(void)
{
    (void)printf("# fish completion for holdfast; made by: holdfast completion fish\n"
                 "complete -c holdfast -f\n"
                 "complete -c holdfast -n __fish_use_subcommand -a '");
    print_groups(" ");
    (void)printf("'\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char condition[256];
        const Command *command = &COMMANDS[i];
        if (command->verb == NULL) {
            (void)snprintf(condition, sizeof(condition), "-n '__fish_seen_subcommand_from %s'",
                           command->group);
        } else {
            (void)printf("complete -c holdfast -n '__fish_seen_subcommand_from %s; and test (count "
                         "(commandline -opc)) -eq 2' -a %s -d '",
                         command->group, command->verb);
            print_plain(command->summary);
            (void)printf("'\n");
            (void)snprintf(
                condition, sizeof(condition),
                "-n '__fish_seen_subcommand_from %s; and __fish_seen_subcommand_from %s'",
                command->group, command->verb);
        }
        print_fish_options(condition, command->options);
    }
    print_fish_options("", GLOBAL_OPTIONS);
}

Status completion_run(Cli *cli, const Invocation *invocation, Error *error)
{
    (void)cli;
    const char *shell = invocation_argument(invocation, 0);
    if (text_equal(shell, "bash")) {
        print_bash();
    } else if (text_equal(shell, "zsh")) {
        print_zsh();
    } else if (text_equal(shell, "fish")) {
        print_fish();
    } else {
        (void)error_set(error, REASON_INVALID, "there is no completion for '%s'", shell);
        return error_hint(error, "shells are bash, zsh and fish");
    }
    return STATUS_OK;
}
