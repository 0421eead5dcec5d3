// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/fake_driver.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INSTANCE_COUNT_MAX 512

typedef struct FakeInstance {
    ComputeInstance instance;
    char join_secret[80];
    bool is_there, is_taken;
} FakeInstance;

// The world of machines: it outlives the processes that look at it.
typedef struct FakeWorld {
    pthread_mutex_t mutex;
    FakeInstance instances[INSTANCE_COUNT_MAX];
    size_t count, terminations;
    int failing_launches;
} FakeWorld;

struct FakeDriver {
    ComputeDriver base;
    FakeWorld *world;
};

static void lock(FakeDriver *driver)
{
    if (pthread_mutex_lock(&driver->world->mutex) == EOWNERDEAD) {
        (void)pthread_mutex_consistent(&driver->world->mutex); // killed in the middle of a look
    }
}

static void unlock(FakeDriver *driver)
{
    (void)pthread_mutex_unlock(&driver->world->mutex);
}

static FakeInstance *find(FakeDriver *driver, const char *id)
{
    for (size_t i = 0; i < driver->world->count; i++) {
        if (text_equal(driver->world->instances[i].instance.instance_id, id)) {
            return &driver->world->instances[i];
        }
    }
    return NULL;
}

static FakeInstance *add(FakeDriver *driver, const char *id)
{
    assert(driver->world->count < INSTANCE_COUNT_MAX);
    FakeInstance *added = &driver->world->instances[driver->world->count++];
    *added = (FakeInstance){.is_there = true};
    added->instance.is_running = true;
    added->instance.created_us = clock_now_us();
    (void)snprintf(added->instance.instance_id, sizeof(added->instance.instance_id), "%s", id);
    return added;
}

static Status fake_launch(ComputeDriver *base, const LaunchSpec *spec,
                          char ret_provider_id[PROVIDER_ID_SIZE], Error *error)
{
    FakeDriver *driver = (FakeDriver *)base;
    Status status = STATUS_OK;
    lock(driver);
    if (driver->world->failing_launches > 0) {
        driver->world->failing_launches--;
        status = error_set(error, REASON_LAUNCH_FAILED, "no machine is free");
    } else if (find(driver, spec->instance_id) == NULL) {
        FakeInstance *added = add(driver, spec->instance_id);
        (void)snprintf(added->join_secret, sizeof(added->join_secret), "%s",
                       secret_text(spec->join_secret));
    }
    unlock(driver);
    (void)snprintf(ret_provider_id, PROVIDER_ID_SIZE, "fake");
    return status;
}

static Status fake_list(ComputeDriver *base, Arena *arena, ComputeInstance **ret_instances,
                        size_t *ret_count, Error *error)
{
    FakeDriver *driver = (FakeDriver *)base;
    (void)error;
    size_t count = 0;
    lock(driver);
    ComputeInstance *list = arena_alloc_array(arena, driver->world->count + 1, sizeof(*list));
    for (size_t i = 0; i < driver->world->count; i++) {
        if (driver->world->instances[i].is_there) {
            list[count++] = driver->world->instances[i].instance;
        }
    }
    unlock(driver);
    *ret_instances = list;
    *ret_count = count;
    return STATUS_OK;
}

static Status fake_terminate(ComputeDriver *base, const char *instance_id, Error *error)
{
    FakeDriver *driver = (FakeDriver *)base;
    (void)error;
    fake_driver_drop(driver, instance_id);
    lock(driver);
    driver->world->terminations++;
    unlock(driver);
    return STATUS_OK;
}

static Status fake_preflight(ComputeDriver *base, const LaunchSpec *spec, Error *error)
{
    (void)base;
    (void)spec;
    (void)error;
    return STATUS_OK;
}

static void fake_free(ComputeDriver *base)
{
    FakeDriver *driver = (FakeDriver *)base;
    (void)munmap(driver->world, sizeof(*driver->world));
    mem_free(driver);
}

static const ComputeDriverOperations FAKE_OPERATIONS = {
    .name = "local", // shards are placed there
    .launch = fake_launch,
    .list = fake_list,
    .terminate = fake_terminate,
    .preflight = fake_preflight,
    .free = fake_free,
};

static FakeDriver *driver_on(int fd)
{
    FakeDriver *driver = mem_alloc(sizeof(*driver));
    driver->base.operations = &FAKE_OPERATIONS;
    driver->world = mmap(NULL, sizeof(*driver->world), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert(driver->world != MAP_FAILED);
    (void)close(fd);
    return driver;
}

FakeDriver *fake_driver_new(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0);
    assert(ftruncate(fd, sizeof(FakeWorld)) == 0);
    FakeDriver *driver = driver_on(fd);
    pthread_mutexattr_t attributes;
    (void)pthread_mutexattr_init(&attributes);
    (void)pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    (void)pthread_mutex_init(&driver->world->mutex, &attributes);
    (void)pthread_mutexattr_destroy(&attributes);
    return driver;
}

FakeDriver *fake_driver_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert(fd >= 0);
    return driver_on(fd);
}

size_t fake_driver_launches(FakeDriver *driver)
{
    lock(driver);
    size_t count = driver->world->count;
    unlock(driver);
    return count;
}

ComputeDriver *fake_driver_base(FakeDriver *driver)
{
    return &driver->base;
}

bool fake_driver_take(FakeDriver *driver, char ret_instance_id[37], char ret_join_secret[80])
{
    bool is_taken = false;
    lock(driver);
    for (size_t i = 0; i < driver->world->count && !is_taken; i++) {
        FakeInstance *instance = &driver->world->instances[i];
        if (instance->is_there && !instance->is_taken) {
            is_taken = instance->is_taken = true;
            memcpy(ret_instance_id, instance->instance.instance_id, 37);
            memcpy(ret_join_secret, instance->join_secret, 80);
        }
    }
    unlock(driver);
    return is_taken;
}

void fake_driver_drop(FakeDriver *driver, const char *instance_id)
{
    lock(driver);
    FakeInstance *instance = find(driver, instance_id);
    if (instance != NULL) {
        instance->is_there = false;
    }
    unlock(driver);
}

void fake_driver_add(FakeDriver *driver, const char *instance_id)
{
    lock(driver);
    add(driver, instance_id)->is_taken = true;
    unlock(driver);
}

size_t fake_driver_count(FakeDriver *driver)
{
    size_t count = 0;
    lock(driver);
    for (size_t i = 0; i < driver->world->count; i++) {
        count += driver->world->instances[i].is_there ? 1 : 0;
    }
    unlock(driver);
    return count;
}

size_t fake_driver_terminations(FakeDriver *driver)
{
    lock(driver);
    size_t terminations = driver->world->terminations;
    unlock(driver);
    return terminations;
}

void fake_driver_fail_launches(FakeDriver *driver, int count)
{
    lock(driver);
    driver->world->failing_launches = count;
    unlock(driver);
}
