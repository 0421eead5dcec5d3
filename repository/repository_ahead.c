// SPDX-License-Identifier: Apache-2.0
// Rings of nodes, filled by threads in the order of the asking and emptied by one thread.
#include "repository/repository_ahead.h"

#include "common/memory.h"
#include "repository/repository_blob.h"

#include <pthread.h>
#include <string.h>

#define THREAD_COUNT_MAX 16

typedef enum AheadState { NODE_GONE, NODE_ASKED, NODE_READING, NODE_READ } AheadState;

typedef struct AheadNode {
    Ref ref;
    AheadState state;
    bool is_passed; // while it was being read
    uint64_t order; // of all that was asked for
    uint8_t *plain; // NODE_READ, unless it failed
    Error error;
} AheadNode;

typedef struct AheadRing {
    AheadNode nodes[AHEAD_COUNT];
    uint64_t first, end;
} AheadRing;

struct Ahead {
    const ShardScope *scope;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t asked, read;
    AheadRing rings[AHEAD_QUEUE_COUNT];
    uint64_t ask_count;
    pthread_t threads[THREAD_COUNT_MAX];
    int thread_count, idle_count;
    int unclaimed_count; // asked for, and nobody reads them
    bool is_ending;
};

static AheadNode *node_at(AheadRing *ring, uint64_t index)
{
    return &ring->nodes[index % AHEAD_COUNT];
}

// With the mutex held, as all that follows but read_run.
static void drop(Ahead *ahead, AheadNode *node)
{
    if (node->state == NODE_READING) {
        node->is_passed = true;
        return;
    }
    ahead->unclaimed_count -= node->state == NODE_ASKED ? 1 : 0;
    mem_free(node->plain);
    node->plain = NULL;
    node->state = NODE_GONE;
}

static void forget_gone(AheadRing *ring)
{
    while (ring->first < ring->end && node_at(ring, ring->first)->state == NODE_GONE) {
        ring->first++;
    }
}

// The ring of the oldest that nobody reads yet, or NULL.
static AheadRing *next_asked(Ahead *ahead, uint64_t *ret_index)
{
    AheadRing *found = NULL;
    for (size_t i = 0; i < AHEAD_QUEUE_COUNT && ahead->unclaimed_count > 0; i++) {
        AheadRing *ring = &ahead->rings[i];
        uint64_t index = ring->first;
        while (index < ring->end && node_at(ring, index)->state != NODE_ASKED) {
            index++;
        }
        if (index < ring->end &&
            (found == NULL || node_at(ring, index)->order < node_at(found, *ret_index)->order)) {
            found = ring;
            *ret_index = index;
        }
    }
    return found;
}

// Takes the node, and those after it that one read fetches with it. They keep their places while
// they are being read.
static void claim_run(Ahead *ahead, AheadRing *ring, uint64_t index, BlobRun *run,
                      AheadNode *nodes[BLOB_RUN_COUNT_MAX])
{
    // Leaves and roots are asked for one by one, and are rarely side by side.
    const uint64_t end = ring == &ahead->rings[AHEAD_NODES] ? ring->end : index + 1;
    for (; index < end; index++) {
        AheadNode *node = node_at(ring, index);
        if (node->state == NODE_ASKED && blob_run_add(run, &node->ref, NULL, &node->error)) {
            nodes[run->count - 1] = node;
            node->state = NODE_READING;
            node->error = (Error){0};
            ahead->unclaimed_count--;
        }
    }
}

static void read_run(BlobOpener *opener, BlobRun *run, AheadNode *nodes[BLOB_RUN_COUNT_MAX])
{
    for (size_t i = 0; i < run->count; i++) {
        run->plains[i] = nodes[i]->plain = mem_alloc(nodes[i]->ref.plain_size);
    }
    blob_run_read(opener, run);
    for (size_t i = 0; i < run->count; i++) {
        if (nodes[i]->error.status != STATUS_OK) {
            mem_free(nodes[i]->plain);
            nodes[i]->plain = NULL;
        }
    }
}

static void *run_thread(void *argument)
{
    Ahead *ahead = argument;
    BlobOpener *opener = blob_opener_new(ahead->scope);
    pthread_mutex_lock(&ahead->mutex);
    while (!ahead->is_ending) {
        uint64_t index = 0;
        AheadRing *ring = next_asked(ahead, &index);
        if (ring == NULL) {
            ahead->idle_count++;
            pthread_cond_wait(&ahead->asked, &ahead->mutex);
            ahead->idle_count--;
            continue;
        }
        BlobRun run = {0};
        AheadNode *nodes[BLOB_RUN_COUNT_MAX];
        claim_run(ahead, ring, index, &run, nodes);
        pthread_mutex_unlock(&ahead->mutex);
        read_run(opener, &run, nodes);
        pthread_mutex_lock(&ahead->mutex);
        for (size_t i = 0; i < run.count; i++) {
            nodes[i]->state = NODE_READ;
            if (nodes[i]->is_passed) {
                drop(ahead, nodes[i]);
            }
        }
        pthread_cond_signal(&ahead->read);
    }
    pthread_mutex_unlock(&ahead->mutex);
    blob_opener_free(opener);
    return NULL;
}

Ahead *ahead_new(const ShardScope *scope)
{
    Ahead *ahead = mem_alloc(sizeof(*ahead));
    ahead->scope = scope;
    pthread_mutex_init(&ahead->mutex, NULL);
    pthread_cond_init(&ahead->asked, NULL);
    pthread_cond_init(&ahead->read, NULL);
    return ahead;
}

void ahead_free(Ahead *ahead)
{
    if (ahead == NULL) {
        return;
    }
    pthread_mutex_lock(&ahead->mutex);
    ahead->is_ending = true;
    pthread_cond_broadcast(&ahead->asked);
    pthread_mutex_unlock(&ahead->mutex);
    for (int i = 0; i < ahead->thread_count; i++) {
        pthread_join(ahead->threads[i], NULL);
    }
    for (size_t i = 0; i < AHEAD_QUEUE_COUNT; i++) {
        for (size_t place = 0; place < AHEAD_COUNT; place++) {
            mem_free(ahead->rings[i].nodes[place].plain);
        }
    }
    pthread_mutex_destroy(&ahead->mutex);
    pthread_cond_destroy(&ahead->asked);
    pthread_cond_destroy(&ahead->read);
    mem_free(ahead);
}

static bool is_same_blob(const Ref *a, const Ref *b)
{
    return ref_has_hash(a, b) && pack_name_equal(&a->pack, &b->pack) && a->index == b->index &&
           a->plain_size == b->plain_size;
}

static AheadNode *find(Ahead *ahead, const Ref *ref, AheadRing **ret_ring, uint64_t *ret_index)
{
    for (size_t i = 0; i < AHEAD_QUEUE_COUNT; i++) {
        AheadRing *ring = &ahead->rings[i];
        for (uint64_t index = ring->first; index < ring->end; index++) {
            AheadNode *node = node_at(ring, index);
            if (node->state != NODE_GONE && !node->is_passed && is_same_blob(&node->ref, ref)) {
                *ret_ring = ring;
                *ret_index = index;
                return node;
            }
        }
    }
    return NULL;
}

bool ahead_has_room(Ahead *ahead, AheadQueue queue)
{
    AheadRing *ring = &ahead->rings[queue];
    pthread_mutex_lock(&ahead->mutex);
    forget_gone(ring);
    bool has_room = ring->end - ring->first < AHEAD_STEP;
    pthread_mutex_unlock(&ahead->mutex);
    return has_room;
}

static void ask_one(Ahead *ahead, AheadRing *ring, const Ref *ref)
{
    AheadRing *other = NULL;
    uint64_t index = 0;
    forget_gone(ring);
    if (ring->end - ring->first == AHEAD_COUNT) {
        drop(ahead, node_at(ring, ring->first)); // the walk did not come to it
        forget_gone(ring);
    }
    if (ref->kind == BLOB_NODE && ring->end - ring->first < AHEAD_COUNT &&
        find(ahead, ref, &other, &index) == NULL) {
        AheadNode *node = node_at(ring, ring->end++);
        node->ref = *ref;
        node->state = NODE_ASKED;
        node->is_passed = false;
        node->order = ahead->ask_count++;
        ahead->unclaimed_count++;
        // Without another thread it takes longer, and nothing else.
        if (ahead->unclaimed_count > ahead->idle_count && ahead->thread_count < THREAD_COUNT_MAX &&
            pthread_create(&ahead->threads[ahead->thread_count], NULL, run_thread, ahead) == 0) {
            ahead->thread_count++;
        }
        pthread_cond_signal(&ahead->asked);
    }
}

void ahead_ask(Ahead *ahead, AheadQueue queue, const Ref *refs, size_t count)
{
    pthread_mutex_lock(&ahead->mutex);
    for (size_t i = 0; i < count; i++) {
        ask_one(ahead, &ahead->rings[queue], &refs[i]);
    }
    pthread_mutex_unlock(&ahead->mutex);
}

bool ahead_take(Ahead *ahead, const Ref *ref, uint8_t *plain, Status *ret_status, Error *error)
{
    AheadRing *ring = NULL;
    uint64_t index = 0;
    pthread_mutex_lock(&ahead->mutex);
    AheadNode *node = find(ahead, ref, &ring, &index);
    for (uint64_t passed = node == NULL ? 0 : ring->first; passed < index; passed++) {
        drop(ahead, node_at(ring, passed));
    }
    bool is_begun = node != NULL && node->state != NODE_ASKED;
    while (is_begun && node->state != NODE_READ) {
        pthread_cond_wait(&ahead->read, &ahead->mutex);
    }
    if (is_begun && node->error.status == STATUS_OK) {
        memcpy(plain, node->plain, ref->plain_size);
        *ret_status = STATUS_OK;
    } else if (is_begun) {
        *error = node->error;
        *ret_status = error->status;
    }
    if (node != NULL) {
        drop(ahead, node);
        forget_gone(ring);
    }
    pthread_mutex_unlock(&ahead->mutex);
    return is_begun;
}
