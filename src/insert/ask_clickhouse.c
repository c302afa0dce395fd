/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask_clickhouse.c - asks ClickHouse one thing at a time and waits for the answer.
 *
 * For checks, where a second does not matter; the pipeline has the flusher. It uses the flusher's
 * URLs and headers, so that what it finds is what inserts will find.
 *
 * Runs on: the thread that owns it. Owns: a curl handle and the last answer.
 */
#include "alloy/ask_clickhouse.h"

#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "alloy/clickhouse_url.h"
#include "insert_answer.h"
#include "insert_request.h"
#include "transfer.h"

#define HEADER_CODE "X-ClickHouse-Exception-Code:"
#define HEADER_SUMMARY "X-ClickHouse-Summary:"

/* A body that is sent, or half of it. */
struct sending {
    const char *data;
    size_t len;
    size_t at;
    bool cut; /* at its end the connection is */
};

static size_t ask_clickhouse_on_body(char *data, size_t size, size_t n, void *arg)
{
    struct ask_clickhouse *ask = arg;
    const size_t room = ASK_CLICKHOUSE_BODY_MAX - ask->len;
    const size_t len = size * n < room ? size * n : room;

    memcpy(ask->body + ask->len, data, len);
    ask->len += len;
    ask->body[ask->len] = '\0';
    return size * n;
}

static size_t ask_clickhouse_on_header(char *data, size_t size, size_t n, void *arg)
{
    struct ask_clickhouse *ask = arg;
    const struct slice line = {data, size * n};
    const size_t code = strlen(HEADER_CODE), summary = strlen(HEADER_SUMMARY);

    if (line.len > code && strncasecmp(line.data, HEADER_CODE, code) == 0)
        ask->answer.code = atoi(line.data + code);
    else if (line.len > summary && strncasecmp(line.data, HEADER_SUMMARY, summary) == 0)
        ask->answer.counted = insert_answer_summary(
            (struct slice){line.data + summary, line.len - summary}, &ask->answer.written_rows);
    return line.len;
}

static size_t ask_clickhouse_on_read(char *out, size_t size, size_t n, void *arg)
{
    struct sending *sending = arg;
    const size_t left = sending->len - sending->at;
    const size_t len = left < size * n ? left : size * n;

    if (len == 0)
        return sending->cut ? CURL_READFUNC_ABORT : 0;
    memcpy(out, sending->data + sending->at, len);
    sending->at += len;
    return len;
}

bool ask_clickhouse_open(struct ask_clickhouse *ask, const struct config *config,
                         unsigned timeout_ms)
{
    *ask = (struct ask_clickhouse){.config = config, .timeout_ms = timeout_ms};
    curl_global_init(CURL_GLOBAL_DEFAULT);
    ask->headers = transfer_headers(config, TRANSFER_BYTES);
    ask->body = malloc(ASK_CLICKHOUSE_BODY_MAX + 1);
    ask->easy = curl_easy_init();
    return ask_clickhouse_at(ask, 0) && ask->headers != NULL && ask->body != NULL &&
           ask->easy != NULL;
}

bool ask_clickhouse_at(struct ask_clickhouse *ask, size_t number)
{
    struct clickhouse_url walk = {.rest = ask->config->clickhouse_url};

    while (clickhouse_url_next(&walk))
        if (walk.number == number) {
            free(ask->base);
            ask->base = insert_request_base(ask->config, walk.url);
            return ask->base != NULL;
        }
    return false;
}

void ask_clickhouse_close(struct ask_clickhouse *ask)
{
    curl_easy_cleanup(ask->easy);
    curl_slist_free_all(ask->headers);
    free(ask->body);
    free(ask->base);
    curl_global_cleanup();
}

/* The first line of a text, printable. */
static void ask_clickhouse_say(struct ask_clickhouse *ask, const char *text)
{
    snprintf(ask->answer.why, sizeof(ask->answer.why), "%.*s", (int)strcspn(text, "\r\n"), text);
    for (char *at = ask->answer.why; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
}

static void ask_clickhouse_judge(struct ask_clickhouse *ask, CURLcode result, const char *error)
{
    struct ask_clickhouse_answer *answer = &ask->answer;

    curl_easy_getinfo(ask->easy, CURLINFO_RESPONSE_CODE, &answer->status);
    answer->reached = answer->status != 0;
    if (answer->code == 0 && answer->status != 200)
        answer->code = insert_answer_body_code((struct slice){ask->body, ask->len});
    answer->right = result == CURLE_OK && answer->status == 200 && answer->code == 0;
    if (answer->right)
        return;
    if (result != CURLE_OK)
        ask_clickhouse_say(ask, *error != '\0' ? error : curl_easy_strerror(result));
    else if (ask->len > 0)
        ask_clickhouse_say(ask, ask->body);
    else
        snprintf(answer->why, sizeof(answer->why), "HTTP status %ld", answer->status);
}

static void ask_clickhouse_perform(struct ask_clickhouse *ask, const char *url,
                                   struct sending *sending, size_t announced)
{
    char error[CURL_ERROR_SIZE] = "";
    curl_off_t took_us = 0;
    CURLcode result;

    ask->answer = (struct ask_clickhouse_answer){.reached = false};
    ask->len = 0;
    ask->body[0] = '\0';
    curl_easy_reset(ask->easy);
    curl_easy_setopt(ask->easy, CURLOPT_URL, url);
    curl_easy_setopt(ask->easy, CURLOPT_HTTPHEADER, ask->headers);
    curl_easy_setopt(ask->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(ask->easy, CURLOPT_READFUNCTION, ask_clickhouse_on_read);
    curl_easy_setopt(ask->easy, CURLOPT_READDATA, sending);
    curl_easy_setopt(ask->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)announced);
    curl_easy_setopt(ask->easy, CURLOPT_WRITEFUNCTION, ask_clickhouse_on_body);
    curl_easy_setopt(ask->easy, CURLOPT_WRITEDATA, ask);
    curl_easy_setopt(ask->easy, CURLOPT_HEADERFUNCTION, ask_clickhouse_on_header);
    curl_easy_setopt(ask->easy, CURLOPT_HEADERDATA, ask);
    curl_easy_setopt(ask->easy, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(ask->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(ask->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(ask->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(ask->easy, CURLOPT_NOSIGNAL, 1L);
    /* Each on a connection of its own: none is kept long enough to die in between. */
    curl_easy_setopt(ask->easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(ask->easy, CURLOPT_TIMEOUT_MS, (long)ask->timeout_ms);
    result = curl_easy_perform(ask->easy);
    curl_easy_getinfo(ask->easy, CURLINFO_TOTAL_TIME_T, &took_us);
    ask->answer.took_us = (uint64_t)took_us;
    ask_clickhouse_judge(ask, result, error);
}

bool ask_clickhouse_url(struct ask_clickhouse *ask, char *url, const char *body)
{
    struct sending sending = {.data = body, .len = body == NULL ? 0 : strlen(body)};

    url = insert_request_join(ask->base, url);
    if (url == NULL) {
        ask->answer = (struct ask_clickhouse_answer){.why = "out of memory"};
        return false;
    }
    ask_clickhouse_perform(ask, url, &sending, sending.len);
    free(url);
    return ask->answer.right;
}

bool ask_clickhouse_typed(struct ask_clickhouse *ask, char *url, const char *content_type,
                          struct slice body)
{
    struct sending sending = {.data = body.data, .len = body.len};
    void *const bytes = ask->headers;
    void *const typed = transfer_headers(ask->config, content_type);

    url = insert_request_join(ask->base, url);
    if (url == NULL || typed == NULL) {
        ask->answer = (struct ask_clickhouse_answer){.why = "out of memory"};
    } else {
        ask->headers = typed;
        ask_clickhouse_perform(ask, url, &sending, sending.len);
        ask->headers = bytes;
    }
    curl_slist_free_all(typed);
    free(url);
    return ask->answer.right;
}

bool ask_clickhouse(struct ask_clickhouse *ask, const char *query,
                    const struct config_setting *settings, size_t count)
{
    return ask_clickhouse_url(ask, insert_request_query_url("", settings, count), query);
}

void ask_clickhouse_cut(struct ask_clickhouse *ask, char *url, const char *body)
{
    struct sending sending = {.data = body, .len = strlen(body) / 2, .cut = true};

    url = insert_request_join(ask->base, url);
    if (url != NULL)
        ask_clickhouse_perform(ask, url, &sending, strlen(body));
    free(url);
}
