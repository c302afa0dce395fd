/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - one exchange with ClickHouse over HTTP.
 *
 * curl sends a POST again by itself when a kept connection dies before the first byte of the
 * answer. The seek function allows that, and the insert's token makes it harmless; but not for an
 * insert that the table can be asked for.
 *
 * Each exchange has an easy handle of its own: libcurl 7.88.1 reads freed memory when a handle is
 * used again and the first header of an answer begins with a space.
 *
 * Runs on: flusher thread.
 * Owns: the easy handle, the URL, the first bytes of the answer.
 */
#include "transfer.h"

#include <string.h>
#include <strings.h>

#include "insert_request.h"

#define CONNECT_TIMEOUT_MS 5000
#define CONNECTION_AGE_MAX_S 20 /* ClickHouse closes an idle one after 30 s */
#define UPLOAD_BUFFER_BYTES (1L << 20)
#define CODE_UNREADABLE (-1) /* there was an exception, but we cannot read its code */

#define HEADER_CODE "X-ClickHouse-Exception-Code:"
#define HEADER_SUMMARY "X-ClickHouse-Summary:"
#define HEADER_RETRY_AFTER "Retry-After:"

static size_t transfer_copy(struct transfer_text *text, char *out, size_t room)
{
    const size_t left = text->len - text->at;
    const size_t n = left < room ? left : room;

    if (n > 0)
        memcpy(out, text->data + text->at, n);
    text->at += n;
    return n;
}

static size_t transfer_on_read(char *out, size_t size, size_t n, void *arg)
{
    struct transfer *transfer = arg;
    const size_t room = size * n;
    size_t copied = transfer_copy(&transfer->head, out, room);

    if (transfer->insert != NULL)
        copied += insert_read(transfer->insert, out + copied, room - copied);
    return copied + transfer_copy(&transfer->tail, out + copied, room - copied);
}

static int transfer_on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *transfer = arg;

    if (origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_CANTSEEK;
    if (transfer->once && transfer->insert != NULL &&
        (transfer->insert->read_row > 0 || transfer->insert->read_offset > 0))
        return CURL_SEEKFUNC_FAIL;
    transfer->resent = true;
    transfer->head.at = transfer->tail.at = 0;
    if (transfer->insert != NULL)
        insert_rewind(transfer->insert);
    return CURL_SEEKFUNC_OK;
}

/* Keeps the beginning and the end: a message may quote a long value before it says what is
 * wrong. */
static size_t transfer_on_body(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *transfer = arg;
    const size_t half = transfer->body_max / 2;
    size_t len = size * n;
    size_t room = transfer->body_max - transfer->body_len;
    size_t first = len < room ? len : room;
    size_t rest = len - first;

    memcpy(transfer->body + transfer->body_len, data, first);
    transfer->body_len += first;
    if (rest >= half) {
        memcpy(transfer->body + half, data + len - half, half);
    } else if (rest > 0) {
        memmove(transfer->body + half, transfer->body + half + rest, half - rest);
        memcpy(transfer->body + transfer->body_max - rest, data + first, rest);
    }
    return len;
}

/* True, and the value, when line is the header called name (with its colon). */
static bool transfer_header_value(struct slice line, const char *name, struct slice *value)
{
    size_t len = strlen(name);

    if (line.len < len || strncasecmp(line.data, name, len) != 0)
        return false;
    *value = (struct slice){line.data + len, line.len - len};
    while (value->len > 0 && (value->data[0] == ' ' || value->data[0] == '\t')) {
        value->data++;
        value->len--;
    }
    return true;
}

static int transfer_read_code(struct slice value)
{
    int code = 0;
    size_t i;

    for (i = 0; i < value.len && i < 6 && value.data[i] >= '0' && value.data[i] <= '9'; i++)
        code = code * 10 + (value.data[i] - '0');
    return code == 0 ? CODE_UNREADABLE : code;
}

/* Reads seconds. A date, which is legal too but which ClickHouse does not send, counts as 0. */
static uint64_t transfer_read_seconds(struct slice value)
{
    uint64_t seconds = 0;
    size_t i;

    for (i = 0; i < value.len && i < 6 && value.data[i] >= '0' && value.data[i] <= '9'; i++)
        seconds = seconds * 10 + (uint64_t)(value.data[i] - '0');
    return seconds * 1000;
}

static size_t transfer_on_header(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *transfer = arg;
    struct slice line = {data, size * n};
    struct slice value;

    if (line.len >= 5 && memcmp(line.data, "HTTP/", 5) == 0)
        transfer->answer = (struct insert_answer){0}; /* forget an interim answer (100) */
    else if (transfer_header_value(line, HEADER_CODE, &value))
        transfer->answer.exception_code = transfer_read_code(value);
    else if (transfer_header_value(line, HEADER_SUMMARY, &value))
        transfer->answer.has_summary = insert_answer_summary(value, &transfer->answer.written_rows);
    else if (transfer_header_value(line, HEADER_RETRY_AFTER, &value))
        transfer->answer.retry_after_ms = transfer_read_seconds(value);
    return line.len;
}

static struct curl_slist *transfer_append(struct curl_slist *list, const char *header)
{
    struct curl_slist *longer = list == NULL ? NULL : curl_slist_append(list, header);

    if (longer == NULL)
        curl_slist_free_all(list);
    return longer;
}

static struct curl_slist *transfer_append_pair(struct curl_slist *list, const char *name,
                                               const char *value)
{
    char *header = NULL;

    if (*value == '\0')
        return list;
    if (asprintf(&header, "%s: %s", name, value) < 0) {
        curl_slist_free_all(list);
        return NULL;
    }
    list = transfer_append(list, header);
    free(header);
    return list;
}

struct curl_slist *transfer_headers(const struct config *config, const char *content_type)
{
    /* No Expect: waiting for "100 Continue" can cost a second and saves nothing. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");

    list = transfer_append_pair(list, "Content-Type", content_type);
    if (list == NULL || !insert_request_uses_headers(config))
        return list;
    list = transfer_append_pair(list, "X-ClickHouse-User",
                                *config->clickhouse_user != '\0' ? config->clickhouse_user
                                                                 : "default");
    if (list == NULL)
        return NULL;
    return transfer_append_pair(list, "X-ClickHouse-Key", insert_request_password(config));
}

/* Sets what every transfer has. */
static void transfer_set_up(struct transfer *transfer, struct curl_slist *headers)
{
    CURL *easy = transfer->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, transfer_on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, transfer_on_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, transfer_on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, transfer_on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)CONNECTION_AGE_MAX_S);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_BYTES);
}

struct transfer *transfer_create(struct curl_slist *headers, char *url, struct insert *insert,
                                 uint64_t timeout_ms, size_t body_max)
{
    const uint64_t connect_ms = timeout_ms < CONNECT_TIMEOUT_MS ? timeout_ms : CONNECT_TIMEOUT_MS;
    const curl_off_t bytes = insert == NULL ? 0 : (curl_off_t)insert->bytes;
    struct transfer *transfer = malloc(sizeof(*transfer) + body_max);
    CURL *easy = curl_easy_init();

    if (transfer == NULL || easy == NULL) {
        free(transfer);
        free(url);
        curl_easy_cleanup(easy);
        return NULL;
    }
    *transfer = (struct transfer){.easy = easy, .insert = insert, .url = url, .body_max = body_max};
    transfer_set_up(transfer, headers);
    if (insert != NULL)
        insert_rewind(insert);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, bytes);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    return transfer;
}

void transfer_wrap(struct transfer *transfer, const char *head, const char *tail)
{
    transfer->head = (struct transfer_text){.data = head, .len = strlen(head)};
    transfer->tail = (struct transfer_text){.data = tail, .len = strlen(tail)};
    curl_easy_setopt(
        transfer->easy, CURLOPT_POSTFIELDSIZE_LARGE,
        (curl_off_t)(transfer->insert->bytes + transfer->head.len + transfer->tail.len));
}

void transfer_destroy(struct transfer *transfer)
{
    if (transfer == NULL)
        return;
    curl_easy_cleanup(transfer->easy);
    free(transfer->url);
    free(transfer);
}

void transfer_end(struct transfer *transfer, CURLcode result)
{
    curl_off_t connected = 0;
    long sent = 0;

    transfer->answer.transport_failed = result != CURLE_OK;
    /* A time-out before the connection is there means that the server is away, not that it is
     * slow. */
    curl_easy_getinfo(transfer->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    transfer->answer.timed_out = result == CURLE_OPERATION_TIMEDOUT && connected > 0;
    /* No connection, now or in an earlier try of curl's own: an outage leaves no doubt. */
    curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &sent);
    transfer->answer.unsent = result != CURLE_OK && connected == 0 && sent == 0;
    transfer->answer.body = (struct slice){transfer->body, transfer->body_len};
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &transfer->answer.status);
    if (result != CURLE_OK && transfer->error[0] == '\0')
        snprintf(transfer->error, sizeof(transfer->error), "%s", curl_easy_strerror(result));
}

bool transfer_is_answered(const struct transfer *transfer)
{
    return transfer->answer.status == 200 && transfer->answer.exception_code == 0 &&
           !transfer->answer.transport_failed;
}
