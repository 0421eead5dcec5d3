// SPDX-License-Identifier: Apache-2.0
// A ring of parts that threads fill in any order and one thread empties in order.
#include "repository/repository_prefetch.h"

#include "common/memory.h"

#include <assert.h>
#include <pthread.h>

#define PART_COUNT 32
#define EXTENT_COUNT_MAX ((int64_t)4 * MAP_READ_EXTENT_COUNT) // of all parts: 1 MiB of refs
#define THREAD_COUNT_MAX 16

struct Prefetch {
    const ShardScope *scope;
    int map_fan_out;
    pthread_t threads[THREAD_COUNT_MAX];
    int thread_count;
    PrefetchedPart *parts;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t asked, loaded;
    struct {
        bool is_loaded;
        Error error;
    } states[PART_COUNT];
    uint64_t ask_count, claim_count, take_count;
    int64_t extent_count;  // of what was asked for and not given back
    PrefetchedPart *taken; // borrowed
    bool is_ending;
};

static void *run_thread(void *argument)
{
    Prefetch *prefetch = argument;
    BlobOpener *opener = blob_opener_new(prefetch->scope);
    uint8_t *data = mem_alloc(MAP_NODES_SIZE(MAP_READ_EXTENT_COUNT));
    pthread_mutex_lock(&prefetch->mutex);
    while (!prefetch->is_ending) {
        if (prefetch->claim_count == prefetch->ask_count) {
            pthread_cond_wait(&prefetch->asked, &prefetch->mutex);
            continue;
        }
        size_t place = prefetch->claim_count++ % PART_COUNT;
        pthread_mutex_unlock(&prefetch->mutex);
        Error error = {0};
        PrefetchedPart *part = &prefetch->parts[place];
        part->refs = mem_alloc_array((size_t)part->part.extent_count, sizeof(*part->refs));
        (void)map_part_read(opener, prefetch->map_fan_out, &part->part, data, part->refs,
                            &error); // told in error.status
        pthread_mutex_lock(&prefetch->mutex);
        prefetch->states[place].error = error;
        prefetch->states[place].is_loaded = true;
        pthread_cond_signal(&prefetch->loaded);
    }
    pthread_mutex_unlock(&prefetch->mutex);
    mem_free(data);
    blob_opener_free(opener);
    return NULL;
}

Status prefetch_new(const ShardScope *scope, int map_fan_out, int thread_count,
                    Prefetch **ret_prefetch, Error *error)
{
    assert(thread_count > 0 && thread_count <= THREAD_COUNT_MAX);
    Prefetch *prefetch = mem_alloc(sizeof(*prefetch));
    prefetch->scope = scope;
    prefetch->map_fan_out = map_fan_out;
    prefetch->parts = mem_alloc_array(PART_COUNT, sizeof(*prefetch->parts));
    pthread_mutex_init(&prefetch->mutex, NULL);
    pthread_cond_init(&prefetch->asked, NULL);
    pthread_cond_init(&prefetch->loaded, NULL);
    for (int i = 0; i < thread_count; i++) {
        if (pthread_create(&prefetch->threads[i], NULL, run_thread, prefetch) != 0) {
            prefetch_free(prefetch);
            return error_set(error, REASON_EXHAUSTED, "no thread could be started");
        }
        prefetch->thread_count++;
    }
    *ret_prefetch = prefetch;
    return STATUS_OK;
}

void prefetch_free(Prefetch *prefetch)
{
    if (prefetch == NULL) {
        return;
    }
    pthread_mutex_lock(&prefetch->mutex);
    prefetch->is_ending = true;
    pthread_cond_broadcast(&prefetch->asked);
    pthread_mutex_unlock(&prefetch->mutex);
    for (int i = 0; i < prefetch->thread_count; i++) {
        pthread_join(prefetch->threads[i], NULL);
    }
    pthread_mutex_destroy(&prefetch->mutex);
    pthread_cond_destroy(&prefetch->asked);
    pthread_cond_destroy(&prefetch->loaded);
    for (size_t i = 0; i < PART_COUNT; i++) {
        mem_free(prefetch->parts[i].refs);
    }
    mem_free(prefetch->parts);
    mem_free(prefetch);
}

bool prefetch_is_full(Prefetch *prefetch)
{
    // The part that was taken last is borrowed, so one place is kept free.
    return prefetch->ask_count - prefetch->take_count >= PART_COUNT - 1 ||
           prefetch->extent_count > EXTENT_COUNT_MAX - MAP_READ_EXTENT_COUNT;
}

bool prefetch_is_empty(Prefetch *prefetch)
{
    return prefetch->ask_count == prefetch->take_count;
}

void prefetch_ask(Prefetch *prefetch, const MapPart *part)
{
    assert(!prefetch_is_full(prefetch));
    size_t place = prefetch->ask_count % PART_COUNT;
    prefetch->parts[place].part = *part;
    prefetch->extent_count += part->extent_count;
    pthread_mutex_lock(&prefetch->mutex);
    prefetch->states[place].is_loaded = false;
    prefetch->ask_count++;
    pthread_cond_signal(&prefetch->asked);
    pthread_mutex_unlock(&prefetch->mutex);
}

static void give_back(Prefetch *prefetch)
{
    PrefetchedPart *part = TAKE_PTR(prefetch->taken);
    if (part != NULL) {
        prefetch->extent_count -= part->part.extent_count;
        mem_free(part->refs);
        part->refs = NULL;
    }
}

Status prefetch_take(Prefetch *prefetch, const PrefetchedPart **ret_part, Error *error)
{
    assert(!prefetch_is_empty(prefetch));
    give_back(prefetch);
    pthread_mutex_lock(&prefetch->mutex);
    size_t place = prefetch->take_count++ % PART_COUNT;
    while (!prefetch->states[place].is_loaded) {
        pthread_cond_wait(&prefetch->loaded, &prefetch->mutex);
    }
    Status status = prefetch->states[place].error.status;
    if (status != STATUS_OK) {
        *error = prefetch->states[place].error;
    }
    pthread_mutex_unlock(&prefetch->mutex);
    *ret_part = prefetch->taken = &prefetch->parts[place];
    return status;
}
