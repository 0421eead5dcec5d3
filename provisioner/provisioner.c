// SPDX-License-Identifier: Apache-2.0
// The wrapper over the compute drivers: finds the driver, checks what comes in.
#include "common/crypto.h"
#include "common/memory.h"
#include "common/text.h"
#include "provisioner/compute_driver.h"

#include <assert.h>
#include <string.h>

#define DRIVER_COUNT_MAX 8

struct Provisioner {
    ComputeDriver *drivers[DRIVER_COUNT_MAX];
    const char *names[DRIVER_COUNT_MAX];
    size_t count;
};

Provisioner *provisioner_new(void)
{
    return mem_alloc(sizeof(Provisioner));
}

void provisioner_free(Provisioner *provisioner)
{
    if (provisioner == NULL) {
        return;
    }
    for (size_t i = 0; i < provisioner->count; i++) {
        provisioner->drivers[i]->operations->free(provisioner->drivers[i]);
    }
    mem_free(provisioner);
}

void provisioner_add(Provisioner *provisioner, ComputeDriver *driver)
{
    assert(provisioner != NULL);
    assert(driver != NULL && driver->operations != NULL);
    assert(provisioner->count < DRIVER_COUNT_MAX);
    provisioner->names[provisioner->count] = driver->operations->name;
    provisioner->drivers[provisioner->count++] = driver;
}

size_t provisioner_providers(const Provisioner *provisioner, const char *const **ret_names)
{
    *ret_names = provisioner->names;
    return provisioner->count;
}

static Status find_driver(Provisioner *provisioner, const char *provider,
                          ComputeDriver **ret_driver, Error *error)
{
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < provisioner->count; i++) {
        const char *name = provisioner->names[i];
        if (text_equal(name, provider)) {
            *ret_driver = provisioner->drivers[i];
            return STATUS_OK;
        }
        size_t size = strlen(name);
        if (used + size + 3 < sizeof(known)) {
            memcpy(known + used, used == 0 ? "" : ", ", used == 0 ? 0 : 2);
            used += used == 0 ? 0 : 2;
            memcpy(known + used, name, size + 1);
            used += size;
        }
    }
    error_set(error, REASON_INVALID, "there is no provider '%s'", provider);
    return error_hint(error, "the providers of this server are: %s", known);
}

static Status check_instance_id(const char *instance_id, Error *error)
{
    // The id becomes a path: nothing but a UUID may reach a driver.
    if (instance_id == NULL || !uuid_is_valid(instance_id)) {
        return error_set(error, REASON_INVALID, "an instance id must be a UUID");
    }
    return STATUS_OK;
}

static Status check_spec(const LaunchSpec *spec, Error *error)
{
    assert(spec != NULL);
    RETURN_IF_ERROR(check_instance_id(spec->instance_id, error));
    if (text_is_empty(spec->server_addresses) || text_is_empty(spec->certificate_pem) ||
        spec->join_secret == NULL || spec->join_secret->size == 0) {
        return error_set(error, REASON_INVALID,
                         "a launch needs server addresses, a certificate and a join secret");
    }
    return STATUS_OK;
}

Status provisioner_launch(Provisioner *provisioner, const char *provider, const LaunchSpec *spec,
                          char ret_provider_id[PROVIDER_ID_SIZE], Error *error)
{
    ComputeDriver *driver = NULL;
    RETURN_IF_ERROR(check_spec(spec, error));
    RETURN_IF_ERROR(find_driver(provisioner, provider, &driver, error));
    return driver->operations->launch(driver, spec, ret_provider_id, error);
}

Status provisioner_list(Provisioner *provisioner, const char *provider, Arena *arena,
                        ComputeInstance **ret_instances, size_t *ret_count, Error *error)
{
    ComputeDriver *driver = NULL;
    RETURN_IF_ERROR(find_driver(provisioner, provider, &driver, error));
    return driver->operations->list(driver, arena, ret_instances, ret_count, error);
}

Status provisioner_terminate(Provisioner *provisioner, const char *provider,
                             const char *instance_id, Error *error)
{
    ComputeDriver *driver = NULL;
    RETURN_IF_ERROR(check_instance_id(instance_id, error));
    RETURN_IF_ERROR(find_driver(provisioner, provider, &driver, error));
    return driver->operations->terminate(driver, instance_id, error);
}

Status provisioner_fetch_log(Provisioner *provisioner, const char *provider,
                             const char *instance_id, Buffer *buffer, Error *error)
{
    ComputeDriver *driver = NULL;
    RETURN_IF_ERROR(check_instance_id(instance_id, error));
    RETURN_IF_ERROR(find_driver(provisioner, provider, &driver, error));
    if (driver->operations->fetch_log == NULL) {
        return error_set(error, REASON_UNIMPLEMENTED, "provider '%s' keeps no logs", provider);
    }
    return driver->operations->fetch_log(driver, instance_id, buffer, error);
}

Status provisioner_preflight(Provisioner *provisioner, const char *provider, const LaunchSpec *spec,
                             Error *error)
{
    ComputeDriver *driver = NULL;
    RETURN_IF_ERROR(find_driver(provisioner, provider, &driver, error));
    return driver->operations->preflight(driver, spec, error);
}
