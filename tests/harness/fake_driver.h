// SPDX-License-Identifier: Apache-2.0
// A provider without machines: remembers what was launched, for tests of what uses one. Its memory
// is a file, so that several processes may be its users.
#pragma once

#include "provisioner/compute_driver.h"
#include "tests/harness/worker_fixture.h"

FakeDriver *fake_driver_new(const char *path);  // nothing is launched yet
FakeDriver *fake_driver_open(const char *path); // that another process has made
ComputeDriver *fake_driver_base(FakeDriver *driver);
// An instance that was launched and not taken before. False: there is none.
bool fake_driver_take(FakeDriver *driver, char ret_instance_id[37], char ret_join_secret[80]);
