// SPDX-License-Identifier: Apache-2.0
// The built dashboard, embedded when the program is built: one row for each file of web/dist.
#pragma once

#include <stddef.h>

typedef struct WebAsset {
    const char *path; // "/index.html"
    const char *content_type;
    const char *etag; // quoted, made of the content
    const unsigned char *bytes;
    size_t size;
} WebAsset;

// NULL: there is no such file; of "/index.html": the dashboard was not built.
const WebAsset *web_asset_find(const char *path);
