// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/fake_driver.h"

#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define INSTANCE_COUNT_MAX 256

typedef struct FakeInstance {
    ComputeInstance instance;
    char join_secret[80];
    bool is_there, is_taken;
} FakeInstance;

struct FakeDriver {
    ComputeDriver base;
    pthread_mutex_t mutex;
    FakeInstance instances[INSTANCE_COUNT_MAX];
    size_t count, terminations;
    int failing_launches;
};

static FakeInstance *find(FakeDriver *driver, const char *id)
{
    for (size_t i = 0; i < driver->count; i++) {
        if (text_equal(driver->instances[i].instance.instance_id, id)) {
            return &driver->instances[i];
        }
    }
    return NULL;
}

static FakeInstance *add(FakeDriver *driver, const char *id)
{
    assert(driver->count < INSTANCE_COUNT_MAX);
    FakeInstance *added = &driver->instances[driver->count++];
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
    (void)pthread_mutex_lock(&driver->mutex);
    if (driver->failing_launches > 0) {
        driver->failing_launches--;
        status = error_set(error, REASON_LAUNCH_FAILED, "no machine is free");
    } else if (find(driver, spec->instance_id) == NULL) {
        FakeInstance *added = add(driver, spec->instance_id);
        (void)snprintf(added->join_secret, sizeof(added->join_secret), "%s",
                       secret_text(spec->join_secret));
    }
    (void)pthread_mutex_unlock(&driver->mutex);
    (void)snprintf(ret_provider_id, PROVIDER_ID_SIZE, "fake");
    return status;
}

static Status fake_list(ComputeDriver *base, Arena *arena, ComputeInstance **ret_instances,
                        size_t *ret_count, Error *error)
{
    FakeDriver *driver = (FakeDriver *)base;
    (void)error;
    size_t count = 0;
    (void)pthread_mutex_lock(&driver->mutex);
    ComputeInstance *list = arena_alloc_array(arena, driver->count + 1, sizeof(*list));
    for (size_t i = 0; i < driver->count; i++) {
        if (driver->instances[i].is_there) {
            list[count++] = driver->instances[i].instance;
        }
    }
    (void)pthread_mutex_unlock(&driver->mutex);
    *ret_instances = list;
    *ret_count = count;
    return STATUS_OK;
}

static Status fake_terminate(ComputeDriver *base, const char *instance_id, Error *error)
{
    FakeDriver *driver = (FakeDriver *)base;
    (void)error;
    fake_driver_drop(driver, instance_id);
    (void)pthread_mutex_lock(&driver->mutex);
    driver->terminations++;
    (void)pthread_mutex_unlock(&driver->mutex);
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
    (void)pthread_mutex_destroy(&driver->mutex);
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

FakeDriver *fake_driver_new(void)
{
    FakeDriver *driver = mem_alloc(sizeof(*driver));
    driver->base.operations = &FAKE_OPERATIONS;
    (void)pthread_mutex_init(&driver->mutex, NULL);
    return driver;
}

ComputeDriver *fake_driver_base(FakeDriver *driver)
{
    return &driver->base;
}

bool fake_driver_take(FakeDriver *driver, char ret_instance_id[37], char ret_join_secret[80])
{
    bool is_taken = false;
    (void)pthread_mutex_lock(&driver->mutex);
    for (size_t i = 0; i < driver->count && !is_taken; i++) {
        FakeInstance *instance = &driver->instances[i];
        if (instance->is_there && !instance->is_taken) {
            is_taken = instance->is_taken = true;
            memcpy(ret_instance_id, instance->instance.instance_id, 37);
            memcpy(ret_join_secret, instance->join_secret, 80);
        }
    }
    (void)pthread_mutex_unlock(&driver->mutex);
    return is_taken;
}

void fake_driver_drop(FakeDriver *driver, const char *instance_id)
{
    (void)pthread_mutex_lock(&driver->mutex);
    FakeInstance *instance = find(driver, instance_id);
    if (instance != NULL) {
        instance->is_there = false;
    }
    (void)pthread_mutex_unlock(&driver->mutex);
}

void fake_driver_add(FakeDriver *driver, const char *instance_id)
{
    (void)pthread_mutex_lock(&driver->mutex);
    add(driver, instance_id)->is_taken = true;
    (void)pthread_mutex_unlock(&driver->mutex);
}

size_t fake_driver_count(FakeDriver *driver)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&driver->mutex);
    for (size_t i = 0; i < driver->count; i++) {
        count += driver->instances[i].is_there ? 1 : 0;
    }
    (void)pthread_mutex_unlock(&driver->mutex);
    return count;
}

size_t fake_driver_terminations(FakeDriver *driver)
{
    (void)pthread_mutex_lock(&driver->mutex);
    size_t terminations = driver->terminations;
    (void)pthread_mutex_unlock(&driver->mutex);
    return terminations;
}

void fake_driver_fail_launches(FakeDriver *driver, int count)
{
    (void)pthread_mutex_lock(&driver->mutex);
    driver->failing_launches = count;
    (void)pthread_mutex_unlock(&driver->mutex);
}
