/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_http.c - requests of alloyctl over HTTP.
 *
 * Runs on: main thread. alloyctl's home of libcurl.
 * Owns: the connection, and the answer's body.
 */
#include "ctl_http.h"

#include <stdbool.h>
#include <string.h>

#include <curl/curl.h>

#define CONNECT_TIMEOUT_MS 10000L

_Static_assert(CTL_HTTP_ERROR_MAX >= CURL_ERROR_SIZE, "curl writes its error there");

struct ctl_http {
    CURL *easy;
    char *body; /* of the last answer; NULL: none yet */
    size_t len, room;
    bool too_long;
};

struct ctl_http *ctl_http_create(void)
{
    struct ctl_http *http = calloc(1, sizeof(*http));

    if (http == NULL)
        return NULL;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    http->easy = curl_easy_init();
    if (http->easy != NULL)
        return http;
    ctl_http_destroy(http);
    return NULL;
}

void ctl_http_destroy(struct ctl_http *http)
{
    if (http == NULL)
        return;
    curl_easy_cleanup(http->easy);
    curl_global_cleanup();
    free(http->body);
    free(http);
}

/* Makes room for more bytes and a NUL. False: too long, or out of memory. */
static bool ctl_http_grow(struct ctl_http *http, size_t more)
{
    const size_t wanted = http->len + more + 1;
    size_t room = http->room > 0 ? http->room : 4096;
    char *grown;

    if (wanted > CTL_HTTP_ANSWER_MAX) {
        http->too_long = true;
        return false;
    }
    while (room < wanted)
        room *= 2;
    if (room == http->room)
        return true;
    grown = realloc(http->body, room);
    if (grown == NULL)
        return false;
    http->body = grown;
    http->room = room;
    return true;
}

static size_t ctl_http_on_answer(char *data, size_t size, size_t n, void *arg)
{
    struct ctl_http *http = arg;

    if (!ctl_http_grow(http, size * n))
        return 0;
    memcpy(http->body + http->len, data, size * n);
    http->len += size * n;
    return size * n;
}

/* The owned list of a request's headers. False: out of memory. */
static bool ctl_http_headers(const struct ctl_http_request *request, struct curl_slist **headers)
{
    struct curl_slist *longer = curl_slist_append(NULL, "Expect:");

    *headers = longer;
    for (size_t i = 0; longer != NULL && request->headers != NULL && request->headers[i] != NULL;
         i++) {
        longer = curl_slist_append(*headers, request->headers[i]);
        if (longer != NULL)
            *headers = longer;
    }
    return longer != NULL;
}

static void ctl_http_set_up(CURL *easy, struct ctl_http *http,
                            const struct ctl_http_request *request)
{
    curl_easy_reset(easy); /* keeps the connection */
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ctl_http_on_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "alloyctl/" ALLOY_VERSION);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    if (request->body != NULL) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    }
    if (request->method != NULL)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    if (request->bearer != NULL && request->bearer[0] != '\0') {
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, request->bearer);
    }
}

void ctl_http_send(struct ctl_http *http, const struct ctl_http_request *request,
                   struct ctl_http_answer *answer)
{
    struct curl_slist *headers = NULL;
    CURLcode result = CURLE_OUT_OF_MEMORY;
    curl_off_t retry_after = 0;
    static char nothing[1];

    *answer = (struct ctl_http_answer){.status = 0};
    http->len = 0;
    http->too_long = false;
    if (ctl_http_grow(http, 0) && ctl_http_headers(request, &headers)) {
        ctl_http_set_up(http->easy, http, request);
        curl_easy_setopt(http->easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(http->easy, CURLOPT_ERRORBUFFER, answer->error);
        result = curl_easy_perform(http->easy);
        /* Both belong to this call. */
        curl_easy_setopt(http->easy, CURLOPT_ERRORBUFFER, NULL);
        curl_easy_setopt(http->easy, CURLOPT_HTTPHEADER, NULL);
    }
    curl_slist_free_all(headers);
    if (result == CURLE_OK) {
        curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &answer->status);
        curl_easy_getinfo(http->easy, CURLINFO_RETRY_AFTER, &retry_after);
        answer->retry_after_s = retry_after > 0 ? (unsigned)retry_after : 0;
    } else if (http->too_long) {
        snprintf(answer->error, sizeof(answer->error), "the answer is too long");
    } else if (answer->error[0] == '\0') {
        snprintf(answer->error, sizeof(answer->error), "%s", curl_easy_strerror(result));
    }
    answer->body = nothing;
    if (http->body != NULL) {
        http->body[http->len] = '\0';
        answer->body = http->body;
        answer->len = http->len;
    }
}

char *ctl_http_url(const char *base, const char *path)
{
    size_t len = strlen(base);
    char *url;

    while (len > 0 && base[len - 1] == '/')
        len--;
    return asprintf(&url, "%.*s/%s", (int)len, base, path) < 0 ? NULL : url;
}

char *ctl_http_escape(const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    char *copy = escaped != NULL ? strdup(escaped) : NULL;

    curl_free(escaped);
    return copy;
}
