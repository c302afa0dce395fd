/* SPDX-License-Identifier: Apache-2.0 */
/*
 * columns.c - columns that the request fills: text that goes before an event's own members.
 *
 * All events of a request share it, and it goes into the journal with each of them, so a replay
 * inserts what was true when the request came. A value that is not there is left out, and the
 * column's default counts.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: nothing; the text is the set's.
 */
#include "conn_private.h"

#include "alloy/attribute.h"
#include "alloy/clock.h"
#include "alloy/keys.h"
#include "alloy/text.h"

#include <string.h>

/* A name, quotes and comma, and a value of which each byte is escaped. */
_Static_assert(CONFIG_COLUMNS_MAX *(CONFIG_COLUMN_MEMBER_MAX + 8 + COLUMNS_VALUE_MAX * 6) <=
                   CONN_COLUMNS_MAX,
               "all columns fit");
_Static_assert(COLUMNS_MEMBER_MAX <= COLUMNS_VALUE_MAX * 6, "as long as an escaped value at most");
_Static_assert(CONN_COLUMNS_MAX <= RECORD_COLUMNS_MAX, "a record takes them");

static int columns_hex(struct slice text, size_t at)
{
    int high, low;

    if (text.len - at < 3)
        return -1;
    high = text_hex_digit(text.data[at + 1]);
    low = text_hex_digit(text.data[at + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Decodes a query's value into out; returns its length. */
static size_t columns_decode(struct slice text, char out[COLUMNS_VALUE_MAX])
{
    size_t len = 0;

    for (size_t at = 0; at < text.len && len < COLUMNS_VALUE_MAX; at++) {
        const int byte = text.data[at] == '%' ? columns_hex(text, at) : -1;

        out[len++] = byte >= 0 ? (char)byte : text.data[at] == '+' ? ' ' : text.data[at];
        at += byte >= 0 ? 2 : 0;
    }
    return len;
}

/* The first value of a parameter, as it was sent. */
static struct slice columns_find_parameter(struct slice query, const char *name)
{
    const char *at = query.data, *const end = query.data + query.len;

    while (at < end) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        const char *equals;

        if (stop == NULL)
            stop = end;
        equals = memchr(at, '=', (size_t)(stop - at));
        if (equals != NULL && (size_t)(equals - at) == strlen(name) &&
            memcmp(at, name, strlen(name)) == 0)
            return (struct slice){equals + 1, (size_t)(stop - equals - 1)};
        at = stop + 1;
    }
    return (struct slice){"", 0};
}

/* The value of a column; room: where to put what does not stand in the head as it is. */
static struct slice columns_find(struct conn *conn, const struct config_column *column,
                                 const struct http_request *request, char room[COLUMNS_VALUE_MAX])
{
    const char *head = conn->buffer.data + conn->buffer.start;
    struct slice value = {room, 0};

    switch (column->kind) {
    case CONFIG_COLUMN_RECEIVED_AT:
        clock_format_iso(clock_real_ms(), room);
        value.len = strlen(room);
        return value;
    case CONFIG_COLUMN_CLIENT_ADDRESS:
        value.len = address_format(conn_address(conn), room);
        return value;
    case CONFIG_COLUMN_USER_AGENT:
        return http_find_header(head, conn->head_len, "user-agent");
    case CONFIG_COLUMN_KEY:
        return conn->key == NULL ? value : (struct slice){conn->key->name, strlen(conn->key->name)};
    case CONFIG_COLUMN_PATH:
        return request->path;
    case CONFIG_COLUMN_HEADER:
        return http_find_header(head, conn->head_len, column->argument);
    case CONFIG_COLUMN_PERCENT:
        return attribute_decode(http_find_header(head, conn->head_len, column->argument), room,
                                COLUMNS_VALUE_MAX);
    case CONFIG_COLUMN_QUERY:
        value.len = columns_decode(columns_find_parameter(request->query, column->argument), room);
        return value;
    case CONFIG_COLUMN_ENVELOPE:
        break; /* columns_put_member() */
    }
    ALLOY_UNREACHABLE("a column of no kind");
    return value;
}

/* Appends "name": to out; returns the new length. */
static size_t columns_put_name(char *out, size_t len, const char *member)
{
    const size_t member_len = strlen(member);

    memcpy(out + len, member, member_len);
    return len + member_len;
}

/* Appends "name":value, with a JSON value as it came. */
static size_t columns_put_member(char *out, size_t len, const char *member, struct slice value)
{
    ALLOY_ASSERT(value.len <= COLUMNS_MEMBER_MAX);
    len = columns_put_name(out, len, member);
    memcpy(out + len, value.data, value.len);
    out[len + value.len] = ',';
    return len + value.len + 1;
}

/* Appends "name":"value", with any text as value. */
static size_t columns_put(char *out, size_t len, const char *member, struct slice value)
{
    char escaped[TEXT_ESCAPE_MAX];
    size_t taken;

    if (value.len > COLUMNS_VALUE_MAX)
        value.len = COLUMNS_VALUE_MAX;
    len = columns_put_name(out, len, member);
    out[len++] = '"';
    for (size_t at = 0; at < value.len; at += taken) {
        size_t n = text_plain_len(value.data + at, value.len - at);

        if (likely(n > 0)) {
            memcpy(out + len, value.data + at, n);
            len += n;
            taken = n;
            continue;
        }
        n = text_escape(value.data + at, value.len - at, &taken, escaped);

        memcpy(out + len, escaped, n);
        len += n;
    }
    memcpy(out + len, "\",", 2);
    return len + 2;
}

/* It was accepted before: we want its path and query again. Returns true. */
static bool columns_parse(const struct conn *conn, struct http_request *request)
{
    size_t scanned = 0;

    if (http_parse_head(conn->buffer.data + conn->buffer.start, conn->head_len, &scanned,
                        request) != HTTP_DONE)
        request->path = request->query = (struct slice){"", 0};
    return true;
}

struct slice columns_write(struct conn *conn, const struct slice *members, uint32_t but)
{
    const struct config_stream *stream = conn_route(conn)->stream;
    struct http_request request;
    char *out = conn->set->columns;
    bool parsed = false;
    size_t len = 0;

    for (size_t i = 0; i < stream->column_count; i++) {
        const struct config_column *column = &stream->columns[i];
        const bool member = column->kind == CONFIG_COLUMN_ENVELOPE;
        char room[COLUMNS_VALUE_MAX];
        struct slice value = member ? *members++ : (struct slice){"", 0};

        if (but >> i & 1)
            continue;
        if (!parsed && (column->kind == CONFIG_COLUMN_PATH || column->kind == CONFIG_COLUMN_QUERY))
            parsed = columns_parse(conn, &request);
        if (!member)
            value = columns_find(conn, column, &request, room);
        if (value.len > 0)
            len = member ? columns_put_member(out, len, column->member, value)
                         : columns_put(out, len, column->member, value);
    }
    return (struct slice){out, len};
}
