// SPDX-License-Identifier: Apache-2.0
// Google Cloud Storage by its JSON API: https://cloud.google.com/storage/docs/json_api
// Writing is in storage_gcs_upload.c, reading in storage_gcs_read.c.
#include "storage/storage_gcs.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/storage_gcs_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ENDPOINT "https://storage.googleapis.com"
#define SCOPE "https://www.googleapis.com/auth/devstorage.read_write"
#define LIST_ANSWER_BYTES_MAX ((size_t)8 * 1024 * 1024)
#define EMPTY_PAGE_COUNT_MAX 10000 // pages of a listing with nothing of ours
#define REMOVER_COUNT_MAX 16
#define THREAD_COUNT_MAX 32

static void gcs_free(Storage *storage)
{
    StorageGcs *gcs = (StorageGcs *)storage;
    storage_tasks_free(gcs->tasks);
    storage_http_free(gcs->http);
    gcp_tokens_free(gcs->tokens);
    mem_free(gcs->description);
    mem_free(gcs->endpoint);
    mem_free(gcs->storage_class);
    mem_free(gcs->kms_key_id);
    storage_base_done(&gcs->base);
    mem_free(gcs);
}

static const char *gcs_describe(const Storage *storage)
{
    return ((const StorageGcs *)storage)->description;
}

// --- objects ----------------------------------------------------------------------------------

static int64_t get_time(const Json *object, const char *name)
{
    int64_t time_us = 0;
    return time_parse(json_get_text(object, name, ""), &time_us) ? time_us : 0;
}

// A policy of the bucket and a retention of the object may both keep it. A hold has no end that
// could be told.
static int64_t locked_until(const Json *object)
{
    int64_t by_policy_us = get_time(object, "retentionExpirationTime");
    int64_t by_object_us = get_time(json_get(object, "retention"), "retainUntilTime");
    int64_t until_us = MAX(by_policy_us, by_object_us);
    return until_us > clock_now_us() ? until_us : 0;
}

static void read_object(const Json *json, StorageObject *ret_object)
{
    ret_object->size_bytes = gcs_get_number(json, "size");
    ret_object->modified_us = get_time(json, "timeCreated"); // of this generation
}

static Status check_size(const StorageGcs *gcs, const char *key, const StorageObject *object,
                         Error *error)
{
    if (object->size_bytes < 0) {
        return error_set(error, REASON_STORAGE_UNFIT, "%s: the store tells no size of object '%s'",
                         gcs->description, key);
    }
    return STATUS_OK;
}

Status gcs_stat(Storage *storage, const char *key, StorageObject *ret_object, Error *error)
{
    StorageGcs *gcs = (StorageGcs *)storage;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    CLEANUP(json_freep) Json *object = NULL;
    GcsCall call = {.gcs = gcs, .http = {.method = "GET"}};
    call.path = gcs_object_path(gcs, arena, key);
    RETURN_IF_ERROR(gcs_send(&call, &response, error));
    if (response.status != 200) {
        return gcs_refused(gcs, &response, "storage.objects.get", key, error);
    }
    RETURN_IF_ERROR(gcs_parse(gcs, &response, &object, error));
    read_object(object, ret_object);
    RETURN_IF_ERROR(check_size(gcs, key, ret_object, error));
    ret_object->locked_until_us = locked_until(object);
    return STATUS_OK;
}

// --- listing ----------------------------------------------------------------------------------

typedef struct Listing {
    StorageGcs *gcs;
    const char *prefix, *after;
    size_t limit;
    Arena *arena;
    StoragePage page;
    const char *page_token; // NULL: no more pages
} Listing;

static const char *list_path(const Listing *listing)
{
    const StorageGcs *gcs = listing->gcs;
    Arena *arena = listing->arena;
    const char *path = arena_format(
        arena,
        "/storage/v1/b/%s/o?maxResults=%zu&fields=nextPageToken,items(name,size,timeCreated)"
        "&prefix=%s",
        gcs->location.bucket, MIN(listing->limit + 1 - listing->page.count, 1000),
        text_url_encode(arena, arena_format(arena, "%s%s", gcs->location.prefix, listing->prefix)));
    if (listing->page_token != NULL) {
        return arena_format(arena, "%s&pageToken=%s", path,
                            text_url_encode(arena, listing->page_token));
    }
    if (listing->after[0] == '\0') {
        return path;
    }
    const char *name = gcs_object_name(gcs, arena, listing->after); // inclusive: passed over below
    return arena_format(arena, "%s&startOffset=%s", path, text_url_encode(arena, name));
}

// Adds what is ours of one page; false when there is one more than wanted.
static bool add_objects(Listing *listing, const Json *items)
{
    size_t prefix_size = strlen(listing->gcs->location.prefix);
    for (const Json *item = json_first(items); item != NULL; item = json_next(item)) {
        const char *name = json_get_text(item, "name", "");
        const char *key = name + MIN(prefix_size, strlen(name));
        if (!text_has_prefix(name, listing->gcs->location.prefix) ||
            !text_has_prefix(key, listing->prefix) || !storage_key_is_valid(key) ||
            strcmp(key, listing->after) <= 0) {
            continue; // somebody else's, such as the "folder/" of a console
        }
        if (listing->page.count == listing->limit) {
            return false;
        }
        StorageObject *object = &listing->page.objects[listing->page.count++];
        object->key = arena_string(listing->arena, key);
        read_object(item, object);
    }
    return true;
}

static Status list_page(Listing *listing, bool *ret_is_full, Error *error)
{
    StorageGcs *gcs = listing->gcs;
    CLEANUP(http_response_done) HttpResponse response = {0};
    CLEANUP(json_freep) Json *answer = NULL;
    GcsCall call = {.gcs = gcs,
                    .path = list_path(listing),
                    .http = {.method = "GET", .response_bytes_max = LIST_ANSWER_BYTES_MAX}};
    RETURN_IF_ERROR(gcs_send(&call, &response, error));
    if (response.status != 200) {
        return gcs_refused(gcs, &response, "storage.objects.list", NULL, error);
    }
    RETURN_IF_ERROR(gcs_parse(gcs, &response, &answer, error));
    *ret_is_full = !add_objects(listing, json_get(answer, "items"));
    const char *token = json_get_text(answer, "nextPageToken", "");
    listing->page_token = token[0] == '\0' ? NULL : arena_string(listing->arena, token);
    return STATUS_OK;
}

static Status check_objects(const Listing *listing, Error *error)
{
    for (size_t i = 0; i < listing->page.count; i++) {
        const StorageObject *object = &listing->page.objects[i];
        RETURN_IF_ERROR(check_size(listing->gcs, object->key, object, error));
        if (i > 0 && strcmp(listing->page.objects[i - 1].key, listing->page.objects[i].key) >= 0) {
            return error_set(error, REASON_STORAGE_UNFIT,
                             "%s: the store does not list objects in the order of their names",
                             listing->gcs->description);
        }
    }
    return STATUS_OK;
}

static Status gcs_list(Storage *storage, const char *prefix, const char *after, size_t limit,
                       Arena *arena, StoragePage *ret_page, bool *ret_has_more, Error *error)
{
    Listing listing = {.gcs = (StorageGcs *)storage,
                       .prefix = prefix,
                       .after = after,
                       .limit = limit,
                       .arena = arena};
    listing.page.objects = arena_alloc_array(arena, limit, sizeof(StorageObject));
    bool is_full = false;
    int page_count = 0;
    do {
        if (++page_count > EMPTY_PAGE_COUNT_MAX) {
            return error_set(error, REASON_STORAGE_UNFIT, "%s: the listing does not end",
                             listing.gcs->description);
        }
        RETURN_IF_ERROR(list_page(&listing, &is_full, error));
    } while (!is_full && listing.page_token != NULL);
    RETURN_IF_ERROR(check_objects(&listing, error));
    *ret_page = listing.page;
    *ret_has_more = is_full;
    return STATUS_OK;
}

// --- removing ---------------------------------------------------------------------------------

static Status gcs_remove(Storage *storage, const char *key, Error *error)
{
    StorageGcs *gcs = (StorageGcs *)storage;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(http_response_done) HttpResponse response = {0};
    GcsCall call = {.gcs = gcs, .http = {.method = "DELETE"}};
    call.path = gcs_object_path(gcs, arena, key);
    RETURN_IF_ERROR(gcs_send(&call, &response, error));
    if (response.status == 204 || response.status == 200) {
        return STATUS_OK;
    }
    Status status = gcs_refused(gcs, &response, "storage.objects.delete", key, error);
    if (error->reason == REASON_NOT_FOUND) {
        error_clear(error);
        return STATUS_OK;
    }
    return status;
}

// Tasks that take keys in turn. The API's batches would count as many requests and could not be
// tried again one by one.
typedef struct Removing {
    Storage *storage;
    StorageRemoval *removals;
    size_t count;
    _Atomic size_t next;
    atomic_bool is_failed;
} Removing;

typedef struct RemoveTask {
    StorageTask task;
    Removing *removing;
} RemoveTask;

static Status remove_in_turn(StorageTask *task, Error *error)
{
    Removing *removing = ((RemoveTask *)task)->removing;
    size_t index = 0;
    while (!atomic_load(&removing->is_failed) &&
           (index = atomic_fetch_add(&removing->next, 1)) < removing->count) {
        StorageRemoval *removal = &removing->removals[index];
        Status status = gcs_remove(removing->storage, removal->key, error);
        removal->is_locked = status != STATUS_OK && error->reason == REASON_OBJECT_LOCKED;
        if (removal->is_locked) {
            error_clear(error);
        } else if (status != STATUS_OK) {
            atomic_store(&removing->is_failed, true);
            return status;
        }
    }
    return STATUS_OK;
}

static Status gcs_remove_many(Storage *storage, StorageRemoval *removals, size_t count,
                              Error *error)
{
    StorageTasks *tasks = ((StorageGcs *)storage)->tasks;
    Removing removing = {.storage = storage, .removals = removals, .count = count};
    RemoveTask removers[REMOVER_COUNT_MAX] = {0};
    size_t remover_count = MIN(count, REMOVER_COUNT_MAX);
    for (size_t i = 0; i < remover_count; i++) {
        removers[i].task.run = remove_in_turn;
        removers[i].removing = &removing;
        storage_task_start(tasks, &removers[i].task);
    }
    Status status = STATUS_OK;
    for (size_t i = 0; i < remover_count; i++) {
        Error one = {0};
        if (storage_task_wait(tasks, &removers[i].task, &one) != STATUS_OK && status == STATUS_OK) {
            *error = one;
            status = error->status;
        }
    }
    return status;
}

// --- opening ----------------------------------------------------------------------------------

static const StorageOperations GCS_OPERATIONS = {
    .name = "gcs",
    .free = gcs_free,
    .describe = gcs_describe,
    .open_writer = gcs_open_writer,
    .writer_write = gcs_writer_write,
    .writer_commit = gcs_writer_commit,
    .writer_abort = gcs_writer_abort,
    .open_reader = gcs_open_reader,
    .reader_read = gcs_reader_read,
    .reader_close = gcs_reader_close,
    .put = gcs_put,
    .read_range = gcs_read_range,
    .stat = gcs_stat,
    .list = gcs_list,
    .remove = gcs_remove,
    .remove_many = gcs_remove_many,
};

static Status refuse(Error *error, const char *field, const char *message, const char *hint)
{
    error_set(error, REASON_INVALID, "%s", message);
    error_field(error, "%s", field);
    return error_hint(error, "%s", hint);
}

// The key's name is the account's, so that a wrong one is seen by who gives it.
static Status check_key(const StorageOptions *options, Error *error)
{
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *account = NULL;
    if (gcp_key_check(options->secret_key, arena, &account, error) != STATUS_OK) {
        return error_field(error, "credential");
    }
    if (!text_is_empty(options->access_key_id) && !text_equal(options->access_key_id, account)) {
        error_set(error, REASON_INVALID,
                  "the key is of the service account '%.200s', not of '%.200s'", account,
                  options->access_key_id);
        error_field(error, "credential");
        return error_hint(error, "name the service account's e-mail address beside its key");
    }
    return STATUS_OK;
}

Status storage_gcs_check(const StorageOptions *options, Error *error)
{
    if (options->session_token != NULL && options->session_token->size > 0) {
        return refuse(error, "credential", "Google Cloud Storage takes no session token",
                      "give a service account's JSON key as the secret key");
    }
    if (!text_is_empty(options->profile)) {
        return refuse(error, "profile", "Google Cloud Storage has no profiles of credentials",
                      "name the credential's file");
    }
    switch (options->credential_source) {
    case STORAGE_CREDENTIALS_PROFILE:
    case STORAGE_CREDENTIALS_CONTAINER:
        return refuse(error, "credential_source",
                      "Google Cloud Storage has no such source of credentials",
                      "use automatic, explicit, environment, web_identity, instance or none");
    case STORAGE_CREDENTIALS_ENVIRONMENT:
    case STORAGE_CREDENTIALS_WEB_IDENTITY:
        if (text_is_empty(getenv("GOOGLE_APPLICATION_CREDENTIALS"))) {
            return refuse(error, "credential_source",
                          "GOOGLE_APPLICATION_CREDENTIALS is not set where this program runs",
                          "let it name a file with a service account's key or with the "
                          "configuration of a workload identity federation");
        }
        break;
    default:
        break;
    }
    if (options->encryption == STORAGE_ENCRYPTION_KMS && text_is_empty(options->kms_key_id)) {
        return refuse(error, "kms_key_id", "the key of Cloud KMS is missing",
                      "name it: projects/P/locations/L/keyRings/R/cryptoKeys/K");
    }
    if (options->secret_key != NULL && options->secret_key->size > 0) {
        return check_key(options, error);
    }
    return STATUS_OK;
}

static GcpTokens *make_tokens(const StorageOptions *options)
{
    GcpTokenOptions token_options = {
        .scope = SCOPE, .ca_pem = text_is_empty(options->ca_pem) ? NULL : options->ca_pem};
    if (options->credential_source == STORAGE_CREDENTIALS_NONE) {
        return NULL;
    }
    if (options->secret_key != NULL && options->secret_key->size > 0) {
        token_options.key = options->secret_key;
    }
    if (!text_is_empty(options->credential_file)) {
        token_options.credentials_path = options->credential_file;
    }
    token_options.is_metadata_only = options->credential_source == STORAGE_CREDENTIALS_INSTANCE;
    return gcp_tokens_new(&token_options);
}

static char *copy_or_null(const char *text)
{
    return text_is_empty(text) ? NULL : string_copy(text);
}

Status storage_gcs_new(const StorageOptions *options, const StorageHttpHooks *hooks,
                       Storage **ret_storage, Error *error)
{
    StorageLocation location;
    RETURN_IF_ERROR(storage_location_parse(options->location, &location, error));
    RETURN_IF_ERROR(storage_gcs_check(options, error));
    StorageGcs *gcs = mem_alloc(sizeof(*gcs));
    storage_base_init(&gcs->base, &GCS_OPERATIONS);
    gcs->location = location;
    gcs->description = string_format("gs://%s/%s", location.bucket, location.prefix);
    gcs->endpoint = string_copy(text_is_empty(options->endpoint) ? ENDPOINT : options->endpoint);
    for (size_t size = strlen(gcs->endpoint); size > 0 && gcs->endpoint[size - 1] == '/'; size--) {
        gcs->endpoint[size - 1] = '\0';
    }
    for (size_t size = strlen(gcs->description); gcs->description[size - 1] == '/'; size--) {
        gcs->description[size - 1] = '\0';
    }
    gcs->storage_class = copy_or_null(options->storage_class);
    gcs->kms_key_id = copy_or_null(options->kms_key_id);
    gcs->lock_mode = options->lock_mode;
    gcs->lock_duration_s = options->lock_duration_s;
    gcs->tokens = make_tokens(options);
    StorageHttpOptions http_options = {.ca_pem =
                                           text_is_empty(options->ca_pem) ? NULL : options->ca_pem,
                                       .limits = options->limits};
    if (hooks != NULL) {
        http_options.hooks = *hooks;
    }
    gcs->http = storage_http_new(&http_options);
    gcs->tasks = storage_tasks_new(THREAD_COUNT_MAX);
    *ret_storage = (Storage *)gcs;
    return STATUS_OK;
}
