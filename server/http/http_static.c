// SPDX-License-Identifier: Apache-2.0
// The dashboard's files, which are part of the program.
#include "common/text.h"
#include "server/http/http_internal.h"
#include "web/web_assets.h"

#include <string.h>

// Everything comes from us and nothing is inline.
#define CONTENT_SECURITY_POLICY                                                                    \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src "     \
    "'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "       \
    "frame-ancestors 'none'"

#define NOT_BUILT                                                                                  \
    "Holdfast is running, but this holdfastd was built without its dashboard.\n"                   \
    "Run ./dev build, which builds both, and start it again. The API is under /v1/.\n"

// The build puts a hash of the content into the names under /assets/.
static const char *cache_rule(const char *path)
{
    return text_has_prefix(path, "/assets/") ? "public, max-age=31536000, immutable" : "no-cache";
}

static void answer_asset(HttpExchange *exchange, const WebAsset *asset)
{
    bool is_current = text_equal(http_exchange_header(exchange, "If-None-Match"), asset->etag);
    struct MHD_IoVec bytes = {.iov_base = asset->bytes, .iov_len = asset->size};
    exchange->response = MHD_create_response_from_iovec(&bytes, is_current ? 0 : 1, NULL, NULL);
    exchange->status = is_current ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK;
    http_answer_header(exchange, "Content-Type", asset->content_type);
    http_answer_header(exchange, "ETag", asset->etag);
    http_answer_header(exchange, "Cache-Control", cache_rule(asset->path));
    http_answer_header(exchange, "X-Content-Type-Options", "nosniff");
    http_answer_header(exchange, "Referrer-Policy", "no-referrer");
    http_answer_header(exchange, "Content-Security-Policy", CONTENT_SECURITY_POLICY);
}

void http_static_answer(HttpExchange *exchange)
{
    // The dashboard keeps its own place behind a '#', so this is its only page.
    bool is_page = text_equal(exchange->path, "/");
    const WebAsset *asset = web_asset_find(is_page ? "/index.html" : exchange->path);
    if (asset != NULL) {
        answer_asset(exchange, asset);
        return;
    }
    if (is_page) {
        http_answer_text(exchange, MHD_HTTP_OK, NOT_BUILT);
        return;
    }
    Error error = {0};
    (void)error_set(&error, REASON_NOT_FOUND, "there is no such path");
    (void)error_hint(&error, "the dashboard is at /, the API under /v1/");
    http_answer_problem(exchange, &error);
}
