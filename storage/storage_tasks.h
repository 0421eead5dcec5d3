// SPDX-License-Identifier: Apache-2.0
// A few threads that do the parallel parts of large transfers. Thread-safe. For drivers only.
#pragma once

#include "common/error.h"

#include <stdbool.h>

typedef struct StorageTasks StorageTasks;
typedef struct StorageTask StorageTask;

// Embedded as the first member of what the task works on; it must stay in place until it was waited
// for. `run` must not wait for another task.
struct StorageTask {
    Status (*run)(StorageTask *task, Error *error);
    // Written by the tasks.
    StorageTask *next;
    bool is_started, is_done;
    Status status;
    Error error;
};

StorageTasks *storage_tasks_new(int thread_count_max); // threads begin when they are needed
void storage_tasks_free(StorageTasks *tasks);          // no task may be unfinished; NULL is fine
void storage_task_start(StorageTasks *tasks, StorageTask *task);
// What run returned; for one that was never started STATUS_OK at once. It can be started again.
Status storage_task_wait(StorageTasks *tasks, StorageTask *task, Error *error);
