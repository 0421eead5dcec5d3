// SPDX-License-Identifier: Apache-2.0
// The dashboard's files. Paths that look like pages get index.html, which knows them.
#include "common/limits.h"
#include "common/text.h"
#include "server/http/http_internal.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Everything comes from us and nothing is inline.
#define CONTENT_SECURITY_POLICY                                                                    \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src "     \
    "'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "       \
    "frame-ancestors 'none'"

typedef struct ContentType {
    const char *suffix;
    const char *name;
} ContentType;

static const ContentType TYPES[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".webmanifest", "application/manifest+json"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".woff2", "font/woff2"},
    {".txt", "text/plain; charset=utf-8"},
    {".map", "application/json"},
};

static const char *content_type(const char *path)
{
    for (size_t i = 0; i < ARRAY_COUNT(TYPES); i++) {
        if (text_has_suffix(path, TYPES[i].suffix)) {
            return TYPES[i].name;
        }
    }
    return "application/octet-stream";
}

// Plain segments only: nothing that begins with a dot, so that no path leads out of the directory.
static bool is_plain_path(const char *path)
{
    if (path[0] != '/' || strlen(path) > LIMIT_PATH_BYTES / 2) {
        return false;
    }
    for (const char *at = path; *at != '\0'; at++) {
        bool is_plain = isalnum((unsigned char)*at) || strchr("-_./", *at) != NULL;
        bool is_hidden = *at == '/' && (at[1] == '.' || at[1] == '/');
        if (!is_plain || is_hidden) {
            return false;
        }
    }
    return true;
}

// NULL: there is no such file.
static struct MHD_Response *file_response(HttpExchange *exchange, const char *path)
{
    const char *full = arena_format(exchange->arena, "%s%s", exchange->server->web_dir, path);
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return NULL;
    }
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        (void)close(fd);
        return NULL;
    }
    struct MHD_Response *response = MHD_create_response_from_fd64((uint64_t)status.st_size, fd);
    if (response == NULL) {
        (void)close(fd);
    }
    return response;
}

static void answer_file(HttpExchange *exchange, const char *path, struct MHD_Response *response)
{
    exchange->response = response;
    exchange->status = MHD_HTTP_OK;
    http_answer_header(exchange, "Content-Type", content_type(path));
    http_answer_header(exchange, "X-Content-Type-Options", "nosniff");
    http_answer_header(exchange, "Referrer-Policy", "no-referrer");
    http_answer_header(exchange, "Content-Security-Policy", CONTENT_SECURITY_POLICY);
    // The build puts a hash of the content into the names under /assets/.
    http_answer_header(exchange, "Cache-Control",
                       text_has_prefix(path, "/assets/") ? "public, max-age=31536000, immutable"
                                                         : "no-cache");
}

void http_static_answer(HttpExchange *exchange)
{
    const char *path = exchange->path;
    struct MHD_Response *response = NULL;
    if (exchange->server->web_dir != NULL && is_plain_path(path)) {
        const char *name = strrchr(path, '/') + 1;
        if (strchr(name, '.') == NULL) {
            path = "/index.html";
        }
        response = file_response(exchange, path);
    }
    if (response != NULL) {
        answer_file(exchange, path, response);
        return;
    }
    Error error = {0};
    (void)error_set(&error, REASON_NOT_FOUND, "there is no such path");
    (void)error_hint(&error, exchange->server->web_dir == NULL
                                 ? "the dashboard is not installed; the API is under /v1/"
                                 : "the API is under /v1/");
    http_answer_problem(exchange, &error);
}
