// SPDX-License-Identifier: Apache-2.0
// Google Cloud Storage of a test: fake-gcs-server keeps the objects; before it stands a server of
// our own that is as strict as Google's where fake-gcs-server is not (tokens, checksums, the rules
// of resumable uploads), and that fails when it is told to. The program is taken from the directory
// that HOLDFAST_TOOLS_DIR names, or from PATH.
#pragma once

#include "common/secret.h"

#include <stdint.h>

typedef struct FakeGcs FakeGcs;

typedef enum FakeGcsFault {
    FAKE_GCS_SLOW_DOWN,    // 503
    FAKE_GCS_RATE_LIMIT,   // 403 with rateLimitExceeded
    FAKE_GCS_FORBIDDEN,    // 403 as for a missing permission
    FAKE_GCS_LOCKED,       // 403 with retentionPolicyNotMet
    FAKE_GCS_NO_BUCKET,    // 404 of the bucket
    FAKE_GCS_TOKEN_ENDED,  // 401, and the token is not taken any more
    FAKE_GCS_RESET,        // the connection is gone, nothing was done
    FAKE_GCS_LOST_REPLY,   // all was done, then the connection is gone
    FAKE_GCS_HALF,         // an upload: half of the piece is kept; a download: half of it comes
    FAKE_GCS_STALL,        // as FAKE_GCS_HALF, but the connection stays and is silent
    FAKE_GCS_WRONG_CRC,    // the checksum of the answer is another one
    FAKE_GCS_SHORT,        // a download: fewer bytes, as if these were all
    FAKE_GCS_SESSION_GONE, // 410
} FakeGcsFault;

FakeGcs *fake_gcs_start(void); // with the bucket "bucket"
void fake_gcs_stop(FakeGcs *gcs);
const char *fake_gcs_url(const FakeGcs *gcs); // the endpoint
Secret fake_gcs_key(const FakeGcs *gcs);      // of the service account; the caller's
// Happens to the next `count` requests of this method whose target has this part.
void fake_gcs_fail(FakeGcs *gcs, FakeGcsFault fault, const char *method, const char *part,
                   int count);
int fake_gcs_faults_left(FakeGcs *gcs); // that have not happened yet
// Since the last call: what the driver sent. Fails when faults are left, and forgets them.
typedef struct FakeGcsCounts {
    int request_count, token_count;
    int64_t repeated_bytes; // of pieces, that were there already
} FakeGcsCounts;
FakeGcsCounts fake_gcs_counts(FakeGcs *gcs);
// Target and metadata of the last upload that began. malloc'd.
char *fake_gcs_last_upload(FakeGcs *gcs);
// Why a request was not as Google asks, or NULL: the first one since the last call. malloc'd.
char *fake_gcs_complaint(FakeGcs *gcs);
