// SPDX-License-Identifier: Apache-2.0
// Credentials that are here already: the environment and the shared files of the AWS tools.
// https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
#include "common/aws_credential_source.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_BYTES_MAX (64 * 1024)

Status aws_read_token(const char *path, Arena *arena, const char **ret_token, Error *error)
{
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    RETURN_IF_ERROR(file_read(path, TOKEN_BYTES_MAX, &text, &size, error));
    while (size > 0 && strchr(" \t\r\n", text[size - 1]) != NULL) {
        size--;
    }
    *ret_token = arena_string_n(arena, text, size);
    explicit_bzero(text, strlen(text));
    return STATUS_OK;
}

static bool make(const char *access_key_id, const char *secret_key, const char *session_token,
                 AwsCredential *ret_credential)
{
    if (text_is_empty(access_key_id) || text_is_empty(secret_key)) {
        return false;
    }
    *ret_credential = (AwsCredential){.access_key_id = string_copy(access_key_id),
                                      .secret_key = secret_from_text(secret_key)};
    if (!text_is_empty(session_token)) {
        ret_credential->session_token = secret_from_text(session_token);
    }
    return true;
}

Status aws_source_environment(const AwsSourceContext *context, bool *ret_is_there,
                              AwsCredential *ret_credential, Error *error)
{
    (void)context;
    const char *access_key_id = getenv("AWS_ACCESS_KEY_ID");
    const char *secret_key = getenv("AWS_SECRET_ACCESS_KEY");
    if (text_is_empty(access_key_id) != text_is_empty(secret_key)) {
        error_set(error, REASON_STORAGE_CREDENTIAL,
                  "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set");
        return error_hint(error, "set both or none");
    }
    *ret_is_there = make(access_key_id, secret_key, getenv("AWS_SESSION_TOKEN"), ret_credential);
    return STATUS_OK;
}

// --- the shared files -------------------------------------------------------------------------

static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    size_t size = strlen(text);
    while (size > 0 && strchr(" \t\r", text[size - 1]) != NULL) {
        text[--size] = '\0';
    }
    return text;
}

// Whether "[...]" is the profile's section; in the configuration file all but "default" are called
// "profile NAME".
static bool is_section(char *line, const char *profile, bool is_configuration)
{
    char *end = strchr(line, ']');
    if (end == NULL) {
        return false;
    }
    *end = '\0';
    char *name = trim(line + 1);
    if (is_configuration && text_has_prefix(name, "profile ")) {
        name = trim(name + strlen("profile "));
    } else if (is_configuration && !text_equal(name, "default")) {
        return false;
    }
    return text_equal(name, profile);
}

// Cuts `text` into pieces.
static const char *cut_value(char *text, const char *profile, bool is_configuration,
                             const char *key, Arena *arena)
{
    bool is_ours = false;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        // A line that begins with white space belongs to a nested setting of another kind.
        if (line[0] == '#' || line[0] == ';' || line[0] == ' ' || line[0] == '\t') {
            continue;
        }
        if (line[0] == '[') {
            is_ours = is_section(line, profile, is_configuration);
            continue;
        }
        char *equals = strchr(line, '=');
        if (!is_ours || equals == NULL) {
            continue;
        }
        *equals = '\0';
        if (text_equal(trim(line), key)) {
            return arena_string(arena, trim(equals + 1));
        }
    }
    return NULL;
}

static const char *find_value(const char *text, const char *profile, bool is_configuration,
                              const char *key, Arena *arena)
{
    size_t size = strlen(text);
    CLEANUP_FREE char *copy = string_copy(text);
    const char *value = cut_value(copy, profile, is_configuration, key, arena);
    explicit_bzero(copy, size);
    return value;
}

static const char *file_value(const char *variable, const char *name, const char *profile,
                              const char *key, Arena *arena)
{
    const char *path = getenv(variable);
    const char *home = getenv("HOME");
    if (text_is_empty(path) && !text_is_empty(home)) {
        path = arena_format(arena, "%s/.aws/%s", home, name);
    }
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    Error error = {0};
    // A file that cannot be read has nothing for us, as for the AWS tools.
    if (text_is_empty(path) ||
        file_read(path, LIMIT_FILE_BYTES, &text, &size, &error) != STATUS_OK) {
        return NULL;
    }
    const char *value = find_value(text, profile, text_equal(name, "config"), key, arena);
    explicit_bzero(text, size);
    return value;
}

const char *aws_profile_value(const char *profile, const char *key, Arena *arena)
{
    profile = text_is_empty(profile) ? getenv("AWS_PROFILE") : profile;
    profile = text_is_empty(profile) ? "default" : profile;
    const char *value =
        file_value("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile, key, arena);
    return value != NULL ? value : file_value("AWS_CONFIG_FILE", "config", profile, key, arena);
}

// A file that was named must be there and have the profile's keys.
static Status read_named_file(const AwsSourceContext *context, AwsCredential *ret_credential,
                              Error *error)
{
    static const char *const keys[] = {"aws_access_key_id", "aws_secret_access_key",
                                       "aws_session_token"};
    const char *values[ARRAY_COUNT(keys)];
    const char *path = context->options->profiles_path;
    const char *profile = context->options->profile;
    profile = text_is_empty(profile) ? "default" : profile;
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    Error failure = {0};
    if (file_read(path, LIMIT_FILE_BYTES, &text, &size, &failure) != STATUS_OK) {
        // Not with its own reason: a file that is not there is no missing object.
        error_set(error, REASON_STORAGE_CREDENTIAL, "%s", failure.message);
        return error_hint(error, "name the file that has the store's credential");
    }
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        values[i] = find_value(text, profile, false, keys[i], context->arena);
    }
    explicit_bzero(text, size);
    if (make(values[0], values[1], values[2], ret_credential)) {
        return STATUS_OK;
    }
    error_set(error, REASON_STORAGE_CREDENTIAL, "file '%s' has no keys of the profile '%s'", path,
              profile);
    return error_hint(error,
                      "write it as ~/.aws/credentials is: [%s], aws_access_key_id = ... and "
                      "aws_secret_access_key = ...",
                      profile);
}

Status aws_source_profile(const AwsSourceContext *context, bool *ret_is_there,
                          AwsCredential *ret_credential, Error *error)
{
    const char *profile = context->options->profile;
    if (context->options->profiles_path != NULL) {
        *ret_is_there = true;
        return read_named_file(context, ret_credential, error);
    }
    Arena *arena = context->arena;
    *ret_is_there = make(aws_profile_value(profile, "aws_access_key_id", arena),
                         aws_profile_value(profile, "aws_secret_access_key", arena),
                         aws_profile_value(profile, "aws_session_token", arena), ret_credential);
    if (*ret_is_there) {
        return STATUS_OK;
    }
    if (aws_profile_value(profile, "source_profile", arena) != NULL ||
        aws_profile_value(profile, "credential_process", arena) != NULL ||
        aws_profile_value(profile, "sso_session", arena) != NULL) {
        error_set(error, REASON_STORAGE_CREDENTIAL,
                  "the profile has no keys of its own, but a way to get some that is not "
                  "supported: source_profile, credential_process or sso_session");
        return error_hint(error, "use a profile with keys, or a role of the instance, the "
                                 "container or a web identity");
    }
    return STATUS_OK;
}
