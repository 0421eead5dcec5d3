// SPDX-License-Identifier: Apache-2.0
#include "storage/storage_tasks.h"

#include "common/memory.h"

#include <assert.h>
#include <pthread.h>

struct StorageTasks {
    pthread_mutex_t mutex; // guards everything below
    pthread_cond_t has_work;
    pthread_cond_t is_done;
    StorageTask *first, *last;
    pthread_t *threads;
    int thread_count, thread_count_max, idle_count;
    bool is_stopping;
};

StorageTasks *storage_tasks_new(int thread_count_max)
{
    assert(thread_count_max > 0);
    StorageTasks *tasks = mem_alloc(sizeof(*tasks));
    (void)pthread_mutex_init(&tasks->mutex, NULL); // these cannot fail with default attributes
    (void)pthread_cond_init(&tasks->has_work, NULL);
    (void)pthread_cond_init(&tasks->is_done, NULL);
    tasks->threads = mem_alloc_array((size_t)thread_count_max, sizeof(pthread_t));
    tasks->thread_count_max = thread_count_max;
    return tasks;
}

void storage_tasks_free(StorageTasks *tasks)
{
    if (tasks == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&tasks->mutex);
    assert(tasks->first == NULL);
    tasks->is_stopping = true;
    (void)pthread_cond_broadcast(&tasks->has_work);
    (void)pthread_mutex_unlock(&tasks->mutex);
    for (int i = 0; i < tasks->thread_count; i++) {
        (void)pthread_join(tasks->threads[i], NULL);
    }
    mem_free(tasks->threads);
    (void)pthread_cond_destroy(&tasks->is_done);
    (void)pthread_cond_destroy(&tasks->has_work);
    (void)pthread_mutex_destroy(&tasks->mutex);
    mem_free(tasks);
}

// With the lock. NULL when the tasks stop.
static StorageTask *next_task(StorageTasks *tasks)
{
    while (tasks->first == NULL && !tasks->is_stopping) {
        tasks->idle_count++;
        (void)pthread_cond_wait(&tasks->has_work, &tasks->mutex);
        tasks->idle_count--;
    }
    StorageTask *task = tasks->first;
    if (task != NULL) {
        tasks->first = task->next;
        tasks->last = tasks->first == NULL ? NULL : tasks->last;
    }
    return task;
}

static void *work(void *context)
{
    StorageTasks *tasks = context;
    (void)pthread_mutex_lock(&tasks->mutex);
    for (StorageTask *task = next_task(tasks); task != NULL; task = next_task(tasks)) {
        (void)pthread_mutex_unlock(&tasks->mutex);
        Status status = task->run(task, &task->error);
        (void)pthread_mutex_lock(&tasks->mutex);
        task->status = status;
        task->is_done = true;
        (void)pthread_cond_broadcast(&tasks->is_done);
    }
    (void)pthread_mutex_unlock(&tasks->mutex);
    return NULL;
}

void storage_task_start(StorageTasks *tasks, StorageTask *task)
{
    assert(!task->is_started);
    task->is_started = true;
    task->is_done = false;
    task->next = NULL;
    (void)pthread_mutex_lock(&tasks->mutex);
    if (tasks->last != NULL) {
        tasks->last->next = task;
    } else {
        tasks->first = task;
    }
    tasks->last = task;
    if (tasks->idle_count == 0 && tasks->thread_count < tasks->thread_count_max &&
        pthread_create(&tasks->threads[tasks->thread_count], NULL, work, tasks) == 0) {
        tasks->thread_count++;
    }
    if (tasks->thread_count == 0) {
        mem_exhausted(); // not even one thread can be made
    }
    (void)pthread_cond_signal(&tasks->has_work);
    (void)pthread_mutex_unlock(&tasks->mutex);
}

Status storage_task_wait(StorageTasks *tasks, StorageTask *task, Error *error)
{
    if (!task->is_started) {
        return STATUS_OK;
    }
    (void)pthread_mutex_lock(&tasks->mutex);
    while (!task->is_done) {
        (void)pthread_cond_wait(&tasks->is_done, &tasks->mutex);
    }
    (void)pthread_mutex_unlock(&tasks->mutex);
    task->is_started = false;
    if (task->status != STATUS_OK) {
        *error = task->error;
    }
    return task->status;
}
