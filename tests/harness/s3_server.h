// SPDX-License-Identifier: Apache-2.0
// A real S3 server for a test, started by tests/tools/s3_server.py.
#pragma once

#include "common/secret.h"
#include "storage/storage_options.h"

#include <sys/types.h>

typedef struct S3Server {
    pid_t pid;
    int stop_fd; // closing it ends the server
    char *directory;
    char *endpoint, *bucket, *region, *access_key_id;
    Secret secret_key;
} S3Server;

// kind: "swift" or "moto". Fails the test when it does not get ready.
void s3_server_start(S3Server *server, const char *kind);
void s3_server_stop(S3Server *server); // fine on a zeroed one
// Options for s3://bucket/prefix there; location is malloc'd by the caller and borrowed.
StorageOptions s3_server_options(const S3Server *server, const char *location);
