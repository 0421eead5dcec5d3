// SPDX-License-Identifier: Apache-2.0
// libcurl as a transport only: no redirects, no retries, no decoding; the caller decides.
#include "common/http_client.h"

#include "common/clock.h"
#include "common/http_trust.h"
#include "common/limits.h"
#include "common/memory.h"
#include "common/text.h"

#include <assert.h>
#include <curl/curl.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CONNECT_TIMEOUT_MS 10000
#define HEADERS_BYTES_MAX (64 * 1024)
#define URL_SHOWN_BYTES 256
#define STALL_BYTES_MIN 4096 // fewer in stall_ms are a stall
#define TRANSFER_BUFFER_BYTES (256L * 1024)
#define LARGE_BODY_BYTES (64 * 1024)

struct HttpClient {
    CURL *curl;          // keeps connections between requests
    X509_STORE *trusted; // what they were verified with; NULL: what libcurl read by itself
};

// One request under way.
typedef struct Exchange {
    const HttpRequest *request;
    HttpResponse *response;
    CURL *curl;
    X509_STORE *trusted;     // or NULL
    size_t sent;             // of the body
    int64_t window_ms;       // since when the bytes for stall_ms are counted
    curl_off_t window_bytes; // and how many there were then
    bool is_answered;        // on_answer was called
    bool is_ended_by_caller;
    bool is_too_large;
    bool is_stalled;
} Exchange;

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        mem_exhausted();
    }
}

static CURL *new_curl(void)
{
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        mem_exhausted();
    }
    return curl;
}

HttpClient *http_client_new(void)
{
    int failed = pthread_once(&curl_once, start_curl);
    assert(failed == 0);
    HttpClient *client = mem_alloc(sizeof(HttpClient));
    client->curl = new_curl();
    return client;
}

void http_client_free(HttpClient *client)
{
    if (client != NULL) {
        curl_easy_cleanup(client->curl);
        X509_STORE_free(client->trusted);
        mem_free(client);
    }
}

void http_response_done(HttpResponse *response)
{
    buffer_done(&response->headers);
    buffer_done(&response->body);
    memset(response, 0, sizeof(*response));
}

bool http_response_header(const HttpResponse *response, const char *name, char *ret_value,
                          size_t ret_size)
{
    assert(ret_size > 0);
    size_t name_size = strlen(name);
    const char *line = buffer_text(&response->headers);
    while (*line != '\0') {
        size_t line_size = strcspn(line, "\r\n");
        if (line_size > name_size && line[name_size] == ':' &&
            strncasecmp(line, name, name_size) == 0) {
            const char *value = line + name_size + 1;
            size_t value_size = line_size - name_size - 1;
            while (value_size > 0 && (*value == ' ' || *value == '\t')) {
                value++;
                value_size--;
            }
            (void)snprintf(ret_value, ret_size, "%.*s", (int)value_size, value);
            return value_size < ret_size;
        }
        line += line_size;
        line += strspn(line, "\r\n");
    }
    ret_value[0] = '\0';
    return false;
}

static size_t on_header(char *data, size_t item_size, size_t count, void *context)
{
    Exchange *exchange = context;
    size_t size = item_size * count;
    if (size >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        buffer_clear(&exchange->response->headers); // what came before was a 1xx answer
        return size;
    }
    if (!buffer_append(&exchange->response->headers, data, size)) {
        exchange->is_too_large = true;
        return 0;
    }
    return size;
}

static void pace(Exchange *exchange, bool is_upload, size_t size)
{
    const HttpRequest *request = exchange->request;
    if (request->pace != NULL && size > 0) {
        int64_t before_ms = clock_monotonic_ms();
        request->pace(request->pace_context, is_upload, size);
        if (exchange->window_ms != 0) {
            exchange->window_ms += clock_monotonic_ms() - before_ms;
        }
    }
}

// The caller's callbacks for a piece of a 2xx body.
static bool hand_over(Exchange *exchange, const void *data, size_t size, int status)
{
    const HttpRequest *request = exchange->request;
    if (!exchange->is_answered && request->on_answer != NULL) {
        exchange->is_answered = true;
        exchange->response->status = status;
        if (!request->on_answer(request->context, exchange->response)) {
            return false;
        }
    }
    return request->on_data(request->context, data, size);
}

static size_t on_body(char *data, size_t item_size, size_t count, void *context)
{
    Exchange *exchange = context;
    size_t size = item_size * count;
    long status = 0;
    (void)curl_easy_getinfo(exchange->curl, CURLINFO_RESPONSE_CODE, &status); // cannot fail here
    pace(exchange, false, size);
    if (exchange->request->on_data != NULL && status >= 200 && status < 300) {
        if (!hand_over(exchange, data, size, (int)status)) {
            exchange->is_ended_by_caller = true;
            return 0;
        }
        return size;
    }
    if (!buffer_append(&exchange->response->body, data, size)) {
        exchange->is_too_large = true;
        return 0;
    }
    return size;
}

static size_t on_upload(char *data, size_t item_size, size_t count, void *context)
{
    Exchange *exchange = context;
    const HttpRequest *request = exchange->request;
    size_t size = MIN(item_size * count, request->body_size - exchange->sent);
    pace(exchange, true, size);
    if (size > 0) {
        memcpy(data, (const char *)request->body + exchange->sent, size);
    }
    exchange->sent += size;
    return size;
}

// libcurl sends a body again when a connection that it kept turns out to be closed.
static int on_seek(void *context, curl_off_t offset, int origin)
{
    Exchange *exchange = context;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > exchange->request->body_size) {
        return CURL_SEEKFUNC_FAIL;
    }
    exchange->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

// At least once a second. Not 0 ends the transfer.
static int on_progress(void *context, curl_off_t download_total, curl_off_t downloaded,
                       curl_off_t upload_total, curl_off_t uploaded)
{
    (void)download_total;
    (void)upload_total;
    Exchange *exchange = context;
    const HttpRequest *request = exchange->request;
    if ((request->is_canceled != NULL && atomic_load(request->is_canceled)) ||
        (request->is_abandoned != NULL && atomic_load(request->is_abandoned))) {
        return 1;
    }
    int64_t now_ms = clock_monotonic_ms();
    curl_off_t bytes = downloaded + uploaded;
    if (exchange->window_ms == 0 || bytes < exchange->window_bytes ||
        bytes - exchange->window_bytes >= STALL_BYTES_MIN) {
        exchange->window_ms = now_ms;
        exchange->window_bytes = bytes;
    }
    exchange->is_stalled =
        request->stall_ms > 0 && now_ms - exchange->window_ms > request->stall_ms;
    return exchange->is_stalled ? 1 : 0;
}

static void headers_freep(struct curl_slist **headers)
{
    curl_slist_free_all(*headers);
}

static void add_header(struct curl_slist **headers, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*headers, line);
    if (longer == NULL) {
        mem_exhausted();
    }
    *headers = longer;
}

static struct curl_slist *make_headers(const HttpRequest *request)
{
    struct curl_slist *headers = NULL;
    bool has_content_type = false;
    for (size_t i = 0; request->headers != NULL && request->headers[i] != NULL; i++) {
        has_content_type =
            has_content_type || strncasecmp(request->headers[i], "Content-Type:", 13) == 0;
        add_header(&headers, request->headers[i]);
    }
    // libcurl would call any body a form, and wait a second for a 100 that many servers never send.
    if (!has_content_type) {
        add_header(&headers, "Content-Type:");
    }
    add_header(&headers, "Expect:");
    return headers;
}

// Options fail only for lack of memory or when libcurl was built without a feature.
#define SET_OPTION(curl, option, value)                                                            \
    do {                                                                                           \
        CURLcode set_result_ = curl_easy_setopt((curl), (option), (value));                        \
        if (set_result_ != CURLE_OK) {                                                             \
            return set_result_;                                                                    \
        }                                                                                          \
    } while (0)

static bool is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    if (host == NULL) {
        return false;
    }
    host += 3;
    return text_has_prefix(host, "127.") || text_has_prefix(host, "[::1]") ||
           (text_has_prefix(host, "localhost") && strchr(":/", host[9]) != NULL);
}

static CURLcode set_upload(CURL *curl, Exchange *exchange)
{
    SET_OPTION(curl, CURLOPT_POST, 1L);
    SET_OPTION(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)exchange->request->body_size);
    SET_OPTION(curl, CURLOPT_READFUNCTION, on_upload);
    SET_OPTION(curl, CURLOPT_READDATA, exchange);
    SET_OPTION(curl, CURLOPT_SEEKFUNCTION, on_seek);
    SET_OPTION(curl, CURLOPT_SEEKDATA, exchange);
    if (exchange->request->body_size > LARGE_BODY_BYTES) {
        SET_OPTION(curl, CURLOPT_UPLOAD_BUFFERSIZE, TRANSFER_BUFFER_BYTES);
    }
    return CURLE_OK;
}

static CURLcode set_method(CURL *curl, Exchange *exchange)
{
    const HttpRequest *request = exchange->request;
    bool has_body = request->body_size > 0 || strcmp(request->method, "POST") == 0 ||
                    strcmp(request->method, "PUT") == 0 || strcmp(request->method, "PATCH") == 0;
    if (strcmp(request->method, "HEAD") == 0) {
        SET_OPTION(curl, CURLOPT_NOBODY, 1L);
    } else if (has_body) {
        CURLcode result = set_upload(curl, exchange);
        if (result != CURLE_OK) {
            return result;
        }
    } else {
        SET_OPTION(curl, CURLOPT_HTTPGET, 1L);
    }
    SET_OPTION(curl, CURLOPT_CUSTOMREQUEST, request->method);
    return CURLE_OK;
}

// Finds what the request trusts. A connection that was verified with something else is not used.
static void choose_trust(HttpClient *client, const HttpRequest *request)
{
    const char *ca_path = request->ca_path;
    if (ca_path == NULL) {
        ca_path = curl_version_info(CURLVERSION_NOW)->cainfo; // the system's
    }
    bool is_needed = strncasecmp(request->url, "https:", 6) == 0;
    X509_STORE *trusted = is_needed ? http_trust_get(ca_path, request->ca_pem) : NULL;
    if (is_needed && trusted != client->trusted) {
        curl_easy_cleanup(client->curl);
        client->curl = new_curl();
        X509_STORE_free(client->trusted);
        client->trusted = trusted;
    } else {
        X509_STORE_free(trusted);
    }
}

static CURLcode on_tls(CURL *curl, void *tls_context, void *context)
{
    (void)curl;
    SSL_CTX_set1_cert_store(tls_context, context);
    return CURLE_OK;
}

static CURLcode set_trust(CURL *curl, const HttpRequest *request, X509_STORE *trusted)
{
    SET_OPTION(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    // A libcurl with another TLS library than ours reads the certificates by itself.
    if (trusted != NULL && curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_tls) == CURLE_OK) {
        SET_OPTION(curl, CURLOPT_SSL_CTX_DATA, trusted);
        SET_OPTION(curl, CURLOPT_CAINFO, NULL); // nothing beside it
        SET_OPTION(curl, CURLOPT_CAPATH, NULL);
        return CURLE_OK;
    }
    if (request->ca_path != NULL) {
        SET_OPTION(curl, CURLOPT_CAINFO, request->ca_path);
    }
    if (request->ca_pem != NULL) {
        union {
            const char *in;
            void *out;
        } text = {.in = request->ca_pem}; // copied by libcurl, never written through
        struct curl_blob blob = {
            .data = text.out, .len = strlen(request->ca_pem), .flags = CURL_BLOB_COPY};
        SET_OPTION(curl, CURLOPT_CAINFO_BLOB, &blob);
        SET_OPTION(curl, CURLOPT_CAPATH, NULL); // instead of the system's, not beside them
    }
    return CURLE_OK;
}

static CURLcode set_transfer(Exchange *exchange)
{
    CURL *curl = exchange->curl;
    SET_OPTION(curl, CURLOPT_HEADERFUNCTION, on_header);
    SET_OPTION(curl, CURLOPT_HEADERDATA, exchange);
    SET_OPTION(curl, CURLOPT_WRITEFUNCTION, on_body);
    SET_OPTION(curl, CURLOPT_WRITEDATA, exchange);
    SET_OPTION(curl, CURLOPT_NOPROGRESS, 0L);
    SET_OPTION(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    SET_OPTION(curl, CURLOPT_XFERINFODATA, exchange);
    if (exchange->request->on_data != NULL) {
        SET_OPTION(curl, CURLOPT_BUFFERSIZE, TRANSFER_BUFFER_BYTES);
    }
    return CURLE_OK;
}

static CURLcode set_options(Exchange *exchange, struct curl_slist *headers, char *message)
{
    CURL *curl = exchange->curl;
    const HttpRequest *request = exchange->request;
    SET_OPTION(curl, CURLOPT_ERRORBUFFER, message);
    SET_OPTION(curl, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
    SET_OPTION(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    SET_OPTION(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS)); // Ubuntu 22.04
#endif
    SET_OPTION(curl, CURLOPT_URL, request->url);
    SET_OPTION(curl, CURLOPT_USERAGENT, "holdfast/" HOLDFAST_VERSION);
    SET_OPTION(curl, CURLOPT_HTTPHEADER, headers);
    SET_OPTION(curl, CURLOPT_PATH_AS_IS,
               1L); // object keys may hold dots; signatures cover the path as it is
    SET_OPTION(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET_OPTION(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    long timeout_ms = (long)request->timeout_ms;
    SET_OPTION(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    SET_OPTION(curl, CURLOPT_CONNECTTIMEOUT_MS,
               timeout_ms > 0 ? MIN(timeout_ms, (long)CONNECT_TIMEOUT_MS) : CONNECT_TIMEOUT_MS);
    if (request->unix_socket != NULL) {
        SET_OPTION(curl, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket);
    }
    if (request->is_direct || request->unix_socket != NULL || is_loopback(request->url)) {
        SET_OPTION(curl, CURLOPT_NOPROXY, "*"); // a proxy has another loopback
    }
    CURLcode result = set_trust(curl, request, exchange->trusted);
    result = result == CURLE_OK ? set_transfer(exchange) : result;
    return result == CURLE_OK ? set_method(curl, exchange) : result;
}

// Without query and user: they may hold signatures and passwords.
static void show_url(const char *url, char ret_shown[URL_SHOWN_BYTES])
{
    const char *authority = strstr(url, "://");
    size_t scheme_size = authority == NULL ? 0 : (size_t)(authority - url) + 3;
    const char *rest = url + scheme_size;
    size_t authority_size = strcspn(rest, "/?#");
    for (size_t i = 0; i < authority_size; i++) {
        if (rest[i] == '@') {
            rest += i + 1;
            authority_size -= i + 1;
            i = 0;
        }
    }
    (void)snprintf(ret_shown, URL_SHOWN_BYTES, "%.*s%.*s", (int)MIN(scheme_size, 16), url,
                   (int)MIN(strcspn(rest, "?#"), 200), rest);
}

static Status explain(const Exchange *exchange, CURLcode result, const char *message, Error *error)
{
    const HttpRequest *request = exchange->request;
    char url[URL_SHOWN_BYTES];
    show_url(request->url, url);
    const char *cause = message[0] != '\0' ? message : curl_easy_strerror(result);
    if (exchange->is_too_large) {
        return error_set(error, REASON_EXHAUSTED, "%s %s: the answer is larger than %zu bytes",
                         request->method, url, exchange->response->body.size_max);
    }
    if (result == CURLE_ABORTED_BY_CALLBACK && exchange->is_stalled) {
        return error_set(error, REASON_UNAVAILABLE, "%s %s: the transfer stalled for %lld ms",
                         request->method, url, (long long)request->stall_ms);
    }
    if (result == CURLE_ABORTED_BY_CALLBACK) {
        return error_set(error, REASON_CANCELED, "%s %s: canceled", request->method, url);
    }
    curl_off_t connect_time = 0;
    (void)curl_easy_getinfo(exchange->curl, CURLINFO_CONNECT_TIME_T, &connect_time); // 0 will do
    if (result == CURLE_OPERATION_TIMEDOUT && connect_time > 0) {
        return error_set(error, REASON_DEADLINE, "%s %s: no answer within %lld ms", request->method,
                         url, (long long)request->timeout_ms);
    }
    // libcurl says "unsupported protocol" of an answer that is not HTTP, too.
    bool is_bad_url = result == CURLE_URL_MALFORMAT || result == CURLE_UNSUPPORTED_PROTOCOL;
    if (is_bad_url && connect_time == 0) {
        error_set(error, REASON_INVALID, "'%s' is not a URL we can use", url);
        return error_hint(error, "give a URL such as https://host:port/path");
    }
    bool is_untrusted =
        result == CURLE_PEER_FAILED_VERIFICATION || result == CURLE_SSL_CACERT_BADFILE;
    error_set(error, is_untrusted ? REASON_ENDPOINT_UNTRUSTED : REASON_UNAVAILABLE, "%s %s: %s",
              request->method, url, cause);
    if (is_untrusted) {
        return error_hint(
            error, "the server's certificate is not trusted: check the CA file and the host name");
    }
    if (result == CURLE_COULDNT_RESOLVE_HOST) {
        return error_hint(error, "check the host name and the resolver of this machine");
    }
    if (result == CURLE_COULDNT_CONNECT || result == CURLE_OPERATION_TIMEDOUT) {
        return error_hint(error,
                          "check that the server runs, the address, and the network between");
    }
    return error->status;
}

static void copy_header(const HttpResponse *response, const char *name, char *value, size_t size)
{
    if (!http_response_header(response, name, value, size)) {
        value[0] = '\0'; // half a header value is worse than none
    }
}

Status http_client_send(HttpClient *client, const HttpRequest *request, HttpResponse *ret_response,
                        Error *error)
{
    assert(client != NULL);
    assert(request->method != NULL);
    assert(request->url != NULL);
    CLEANUP(http_response_done) HttpResponse response = {0};
    buffer_init(&response.headers, HEADERS_BYTES_MAX);
    buffer_init(&response.body, request->response_bytes_max > 0 ? request->response_bytes_max
                                                                : LIMIT_HTTP_RESPONSE_BYTES);
    choose_trust(client, request);
    Exchange exchange = {.request = request,
                         .response = &response,
                         .curl = client->curl,
                         .trusted = client->trusted};
    char message[CURL_ERROR_SIZE] = "";
    curl_easy_reset(client->curl);
    CLEANUP(headers_freep) struct curl_slist *headers = make_headers(request);
    CURLcode result = set_options(&exchange, headers, message);
    if (result == CURLE_OK) {
        result = curl_easy_perform(client->curl);
    }
    if (result != CURLE_OK && !exchange.is_ended_by_caller) {
        Status status = explain(&exchange, result, message, error);
        curl_easy_reset(client->curl); // forget pointers into this frame
        return status;
    }
    long http_status = 0;
    (void)curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE,
                            &http_status); // 0 cannot happen now
    response.status = (int)http_status;
    copy_header(&response, "Content-Type", response.content_type, sizeof(response.content_type));
    copy_header(&response, "ETag", response.etag, sizeof(response.etag));
    copy_header(&response, "Location", response.location, sizeof(response.location));
    curl_easy_reset(client->curl);
    *ret_response = response;
    memset(&response, 0, sizeof(response));
    return STATUS_OK;
}
