// SPDX-License-Identifier: Apache-2.0
// A ring of nodes that threads fill in any order and one thread empties in order.
#include "repository/repository_prefetch.h"

#include "common/memory.h"

#include <assert.h>
#include <pthread.h>

#define NODE_COUNT 32
#define THREAD_COUNT_MAX 16

struct Prefetch {
    const ShardScope *scope;
    pthread_t threads[THREAD_COUNT_MAX];
    int thread_count;
    PrefetchedNode *nodes;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t asked, loaded;
    struct {
        bool is_loaded;
        Error error;
    } states[NODE_COUNT];
    uint64_t ask_count, claim_count, take_count;
    bool is_ending;
};

static Status load(BlobOpener *opener, uint8_t *data, PrefetchedNode *node, Error *error)
{
    int64_t left = extent_count_of(node->size_bytes) - node->first;
    node->count = (size_t)MIN(left, NODE_REF_COUNT_MAX);
    if (node->node.kind == BLOB_ZERO) {
        for (size_t i = 0; i < node->count; i++) {
            node->refs[i] = (Ref){0};
        }
        return STATUS_OK;
    }
    NodeHeader header;
    RETURN_IF_ERROR(node_read(opener, &node->node, MAP_NODE_SIZE_MAX, data, &header, error));
    if (header.type != NODE_MAP || header.level != 1 || header.count != node->count) {
        return node_is_damaged(&node->node, "does not fit its file", error);
    }
    for (size_t i = 0; i < node->count; i++) {
        const Ref *ref = &node->refs[i];
        RETURN_IF_ERROR(node_ref(&node->node, data, i, &node->refs[i], error));
        size_t size = extent_size_at(node->size_bytes, node->first + (int64_t)i);
        if (ref->kind != BLOB_ZERO && (ref->kind != BLOB_EXTENT || ref->plain_size != size)) {
            return node_is_damaged(&node->node, "has an entry that does not fit its file", error);
        }
    }
    return STATUS_OK;
}

static void *run_thread(void *argument)
{
    Prefetch *prefetch = argument;
    BlobOpener *opener = blob_opener_new(prefetch->scope);
    uint8_t *data = mem_alloc(MAP_NODE_SIZE_MAX);
    pthread_mutex_lock(&prefetch->mutex);
    while (!prefetch->is_ending) {
        if (prefetch->claim_count == prefetch->ask_count) {
            pthread_cond_wait(&prefetch->asked, &prefetch->mutex);
            continue;
        }
        size_t place = prefetch->claim_count++ % NODE_COUNT;
        pthread_mutex_unlock(&prefetch->mutex);
        Error error = {0};
        (void)load(opener, data, &prefetch->nodes[place], &error); // told in error.status
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

Status prefetch_new(const ShardScope *scope, int thread_count, Prefetch **ret_prefetch,
                    Error *error)
{
    assert(thread_count > 0 && thread_count <= THREAD_COUNT_MAX);
    Prefetch *prefetch = mem_alloc(sizeof(*prefetch));
    prefetch->scope = scope;
    prefetch->nodes = mem_alloc_array(NODE_COUNT, sizeof(*prefetch->nodes));
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
    mem_free(prefetch->nodes);
    mem_free(prefetch);
}

bool prefetch_is_full(Prefetch *prefetch)
{
    // The node that was taken last is borrowed, so one place is kept free.
    return prefetch->ask_count - prefetch->take_count >= NODE_COUNT - 1;
}

bool prefetch_is_empty(Prefetch *prefetch)
{
    return prefetch->ask_count == prefetch->take_count;
}

void prefetch_ask(Prefetch *prefetch, const Ref *node, int64_t first, int64_t size_bytes)
{
    assert(!prefetch_is_full(prefetch));
    size_t place = prefetch->ask_count % NODE_COUNT;
    PrefetchedNode *asked = &prefetch->nodes[place];
    asked->node = *node;
    asked->first = first;
    asked->size_bytes = size_bytes;
    pthread_mutex_lock(&prefetch->mutex);
    prefetch->states[place].is_loaded = false;
    prefetch->ask_count++;
    pthread_cond_signal(&prefetch->asked);
    pthread_mutex_unlock(&prefetch->mutex);
}

Status prefetch_take(Prefetch *prefetch, const PrefetchedNode **ret_node, Error *error)
{
    assert(!prefetch_is_empty(prefetch));
    pthread_mutex_lock(&prefetch->mutex);
    size_t place = prefetch->take_count++ % NODE_COUNT;
    while (!prefetch->states[place].is_loaded) {
        pthread_cond_wait(&prefetch->loaded, &prefetch->mutex);
    }
    Status status = prefetch->states[place].error.status;
    if (status != STATUS_OK) {
        *error = prefetch->states[place].error;
    }
    pthread_mutex_unlock(&prefetch->mutex);
    *ret_node = &prefetch->nodes[place];
    return status;
}
