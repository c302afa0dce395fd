/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.c - writes the bytes of one answer of the ingest port.
 *
 * Uses a few memcpys into the caller's buffer: printf would cost more than the rest of an answer.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/reply.h"

#include "alloy/waiter.h"
#include "alloy/text.h"

#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline))
#define REPLY_HEAD_MAX 512
#define REPLY_COUNTS_MAX 80 /* a body that has counts alone */
_Static_assert(2 * REPLY_HEAD_MAX + CORS_ORIGIN_MAX <= REPLY_MAX, "an answer to a page fits");
/* Of one error: printable text, which escapes at most double. */
#define REPLY_ENTRY_MAX \
    (2 * (REPLY_MESSAGE_MAX + REPLY_COLUMN_MAX + REPLY_TYPE_MAX + REPLY_GOT_MAX) + 200)
_Static_assert(REPLY_ENTRY_MAX + REPLY_HEAD_MAX + CORS_ORIGIN_MAX <= REPLY_MAX, "a refusal fits");
_Static_assert(2 * REPLY_HEAD_MAX + CORS_ORIGIN_MAX + CORS_HEADERS_MAX <= REPLY_REJECTED_MAX,
               "a preflight's answer fits");
/* A rejection's message is printable ASCII, so escaping at most doubles it. */
_Static_assert(WAITER_REJECTIONS_MAX *(2 * WAITER_MESSAGE_MAX + 80) + 2 * REPLY_HEAD_MAX <=
                   REPLY_REJECTED_MAX,
               "a 422 fits");

struct text {
    char *at;
};

static void reply_put(struct text *text, const char *data, size_t len)
{
    memcpy(text->at, data, len);
    text->at += len;
}

#define PUT(text, literal) reply_put((text), (literal), sizeof(literal) - 1)

static void reply_put_number(struct text *text, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);

    if (likely(number < 10)) {
        *text->at++ = (char)('0' + number);
        return;
    }
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    reply_put(text, digits + at, sizeof(digits) - at);
}

static void reply_put_error(struct text *text, enum error_code error)
{
    const char *name = error_code_name(error);

    reply_put(text, name, strlen(name));
}

static void reply_put_escaped(struct text *text, const char *message)
{
    const size_t len = strnlen(message, REPLY_MESSAGE_MAX);
    char escaped[TEXT_ESCAPE_MAX];
    size_t taken;

    for (size_t at = 0; at < len; at += taken) {
        /* Our own sentences are plain: one copy for each, and not one for each letter. */
        const size_t plain = text_plain_len(message + at, len - at);

        reply_put(text, message + at, plain);
        at += plain;
        taken = 0;
        if (at < len)
            reply_put(text, escaped, text_escape(message + at, len - at, &taken, escaped));
    }
}

/* The place in the request of the good event at index, which counts only good ones. */
static size_t reply_place(const struct reply_errors *errors, size_t index)
{
    for (uint32_t i = 0; errors != NULL && i < errors->count; i++)
        index += errors->list[i].event <= index;
    return index;
}

/* The body of a 422 without its last brace, and without what a lenient request is told besides. */
static void reply_put_rejected(struct text *into, const struct reply *reply)
{
    struct text text = *into;

    PUT(&text, "{\"error\":\"rejected\",\"message\":\"ClickHouse rejected ");
    reply_put_number(&text, reply->rejected);
    PUT(&text, " of the request's events");
    if (reply->rejected_duplicates > 0) {
        PUT(&text, " (");
        reply_put_number(&text, reply->rejected_duplicates);
        if (reply->rejected_duplicates == 1)
            PUT(&text, " of them a duplicate of a rejected event)");
        else
            PUT(&text, " of them duplicates of rejected events)");
    }
    PUT(&text, ". What was rejected is in the dead-letter folder; the others are not affected.\","
               "\"rejected\":[");
    for (const struct waiter_rejection *at = reply->rejections; at; at = at->next) {
        PUT(&text, "{\"event\":");
        reply_put_number(&text, reply_place(reply->errors, at->event));
        if (at->duplicate)
            PUT(&text, ",\"duplicate\":true");
        PUT(&text, ",\"code\":");
        reply_put_number(&text, at->code < 0 ? 0 : (size_t)at->code);
        PUT(&text, ",\"message\":\"");
        reply_put_escaped(&text, at->message);
        PUT(&text, "\"}");
        if (at->next)
            PUT(&text, ",");
    }
    PUT(&text, "]");
    *into = text;
}

/* The sentence, and what else is known of an event that does not fit its table; without a quote
 * before, and with one behind. */
static void reply_put_message(struct text *into, const char *message,
                              const struct reply_mismatch *mismatch)
{
    struct text text = *into;

    reply_put_escaped(&text, mismatch != NULL ? mismatch->message : message);
    if (unlikely(mismatch != NULL)) {
        PUT(&text, "\",\"column\":\"");
        reply_put_escaped(&text, mismatch->column);
        if (mismatch->type[0] != '\0')
            PUT(&text, "\",\"type\":\"");
        reply_put_escaped(&text, mismatch->type);
        PUT(&text, "\",\"got\":\"");
        reply_put_escaped(&text, mismatch->got);
    }
    PUT(&text, "\"");
    *into = text;
}

/* The errors of a lenient request, as many as fit; begin: of the body. */
static void reply_put_errors(struct text *into, const struct reply_errors *errors,
                             const char *begin)
{
    const char *const last = begin + REPLY_REJECTED_MAX - 2 * REPLY_HEAD_MAX - REPLY_ENTRY_MAX;
    struct text text = *into;

    PUT(&text, ",\"invalid\":");
    reply_put_number(&text, errors != NULL ? errors->invalid : 0);
    PUT(&text, ",\"errors\":[");
    for (uint32_t i = 0; errors != NULL && i < errors->count && text.at < last; i++) {
        PUT(&text, "{\"event\":");
        reply_put_number(&text, errors->list[i].event);
        PUT(&text, ",\"offset\":");
        reply_put_number(&text, errors->list[i].offset);
        PUT(&text, ",\"error\":\"");
        reply_put_error(&text, errors->list[i].error);
        PUT(&text, "\",\"message\":\"");
        reply_put_message(&text, errors->list[i].message, errors->list[i].mismatch);
        PUT(&text, "},");
    }
    if (text.at[-1] == ',')
        text.at--;
    PUT(&text, "]");
    *into = text;
}

static void reply_put_counts(struct text *into, const struct reply *reply)
{
    struct text text = *into;

    PUT(&text, "{\"accepted\":");
    reply_put_number(&text, reply->accepted);
    PUT(&text, ",\"duplicates\":");
    reply_put_number(&text, reply->duplicates);
    if (unlikely(reply->lenient))
        reply_put_errors(&text, reply->errors, into->at);
    PUT(&text, "}");
    *into = text;
}

/* The body of a 422. A lenient request hears of its other events too. */
static void reply_put_rejection(struct text *into, const struct reply *reply)
{
    struct text text = *into;

    reply_put_rejected(&text, reply);
    if (reply->lenient) {
        PUT(&text, ",\"accepted\":");
        reply_put_number(&text, reply->accepted);
        PUT(&text, ",\"duplicates\":");
        reply_put_number(&text, reply->duplicates);
        reply_put_errors(&text, reply->errors, into->at);
    }
    PUT(&text, "}");
    *into = text;
}

static void reply_put_refusal(struct text *into, const struct reply *reply)
{
    struct text text = *into;

    PUT(&text, "{\"error\":\"");
    reply_put_error(&text, reply->error);
    PUT(&text, "\",\"message\":\"");
    reply_put_message(&text, reply->message,
                      reply->error == ERROR_schema_mismatch ? reply->mismatch : NULL);
    if (reply->has_place) {
        PUT(&text, ",\"event\":");
        reply_put_number(&text, reply->event);
        PUT(&text, ",\"offset\":");
        reply_put_number(&text, reply->offset);
    }
    PUT(&text, "}");
    *into = text;
}

static size_t reply_write_body(const struct reply *reply, char *out)
{
    struct text text = {out};

    if (reply->answer != NULL)
        reply_put(&text, reply->answer, strlen(reply->answer));
    else if (reply->status < 300 || (reply->status == 400 && reply->lenient))
        reply_put_counts(&text, reply);
    else if (unlikely(reply->error == ERROR_rejected))
        reply_put_rejection(&text, reply);
    else
        reply_put_refusal(&text, reply);
    return (size_t)(text.at - out);
}

static const char *reply_status_line(uint16_t status)
{
    switch (status) {
    case 200:
        return "HTTP/1.1 200 OK\r\n";
    case 201:
        return "HTTP/1.1 201 Created\r\n";
    case 202:
        return "HTTP/1.1 202 Accepted\r\n";
    case 204:
        return "HTTP/1.1 204 No Content\r\n";
    case 400:
        return "HTTP/1.1 400 Bad Request\r\n";
    case 401:
        return "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n";
    case 403:
        return "HTTP/1.1 403 Forbidden\r\n";
    case 404:
        return "HTTP/1.1 404 Not Found\r\n";
    case 405:
        return "HTTP/1.1 405 Method Not Allowed\r\n";
    case 408:
        return "HTTP/1.1 408 Request Timeout\r\n";
    case 411:
        return "HTTP/1.1 411 Length Required\r\n";
    case 413:
        return "HTTP/1.1 413 Content Too Large\r\n";
    case 415:
        return "HTTP/1.1 415 Unsupported Media Type\r\nAccept-Encoding: gzip, deflate, zstd\r\n";
    case 422:
        return "HTTP/1.1 422 Unprocessable Content\r\n";
    case 429:
        return "HTTP/1.1 429 Too Many Requests\r\n";
    case 431:
        return "HTTP/1.1 431 Request Header Fields Too Large\r\n";
    case 501:
        return "HTTP/1.1 501 Not Implemented\r\n";
    case 503:
        return "HTTP/1.1 503 Service Unavailable\r\n";
    case 505:
        return "HTTP/1.1 505 HTTP Version Not Supported\r\n";
    }
    ALLOY_UNREACHABLE("a status that nobody answers");
    return NULL;
}

void reply_date_update(struct reply_date *date, uint64_t real_ms)
{
    uint64_t second = real_ms / 1000;
    time_t at = (time_t)second;
    struct tm tm;

    if (second == date->second && date->text[0])
        return;
    date->second = second;
    /* With English names: alloyd never calls setlocale(). */
    if (!gmtime_r(&at, &tm) ||
        strftime(date->text, sizeof(date->text), "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
        memcpy(date->text, "Thu, 01 Jan 1970 00:00:00 GMT", sizeof(date->text));
}

static void reply_put_cors(struct text *into, const struct cors *cors)
{
    struct text text = *into;

    PUT(&text, "\r\nAccess-Control-Allow-Origin: ");
    reply_put(&text, cors->origin.data, cors->origin.len);
    PUT(&text, "\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin");
    if (cors->preflight) {
        PUT(&text, "\r\nAccess-Control-Allow-Methods: POST\r\nAccess-Control-Max-Age: 86400");
        if (cors->asked.len > 0) {
            PUT(&text, "\r\nAccess-Control-Allow-Headers: ");
            reply_put(&text, cors->asked.data, cors->asked.len);
        }
    } else {
        PUT(&text, "\r\nAccess-Control-Expose-Headers: Retry-After");
    }
    *into = text;
}

/* Writes the whole answer with this body. */
static size_t reply_write_with(const struct reply *reply, const struct reply_date *date,
                               struct slice body, char *out)
{
    const char *line = reply_status_line(reply->status);
    struct text text = {out};

    reply_put(&text, line, strlen(line));
    PUT(&text, "Date: ");
    reply_put(&text, date->text, sizeof(date->text) - 1);
    /* RFC 9110 section 8.6: a 204 has neither. */
    if (likely(reply->status != 204)) {
        PUT(&text, "\r\nContent-Type: application/json\r\nContent-Length: ");
        reply_put_number(&text, body.len);
    }
    if (unlikely(reply->allow != NULL || reply->status == 405)) {
        const char *allow = reply->allow != NULL ? reply->allow : "POST";

        PUT(&text, "\r\nAllow: ");
        reply_put(&text, allow, strlen(allow));
    }
    if (unlikely(reply->cors != NULL))
        reply_put_cors(&text, reply->cors);
    if (unlikely(reply->retry_s > 0 || reply->status == 503)) {
        PUT(&text, "\r\nRetry-After: ");
        reply_put_number(&text, reply->retry_s > 0 ? reply->retry_s : 1);
    }
    if (reply->close)
        PUT(&text, "\r\nConnection: close");
    else if (reply->keep_alive)
        PUT(&text, "\r\nConnection: keep-alive");
    PUT(&text, "\r\n\r\n");
    if (!reply->head_only)
        reply_put(&text, body.data, body.len);
    return (size_t)(text.at - out);
}

/* By itself: a frame of so many pages costs as much as a short answer. */
static NOINLINE size_t reply_write_long(const struct reply *reply, const struct reply_date *date,
                                        char *out)
{
    char body[REPLY_REJECTED_MAX];

    return reply_write_with(reply, date, (struct slice){body, reply_write_body(reply, body)}, out);
}

size_t reply_write(const struct reply *reply, const struct reply_date *date, char *out)
{
    char body[REPLY_COUNTS_MAX];
    struct text text = {body};

    if (unlikely(reply->answer != NULL || reply->status >= 300 || reply->lenient))
        return reply_write_long(reply, date, out);
    reply_put_counts(&text, reply);
    return reply_write_with(reply, date, (struct slice){body, (size_t)(text.at - body)}, out);
}
