/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_id.c - an event's id, out of the event that json_scan.c has checked and of the request.
 *
 * The scanner has noted where the values of the members begin that an id can come from. Most ids
 * are a string without escapes, and are lent as they stand in the body. A JSON Pointer is walked
 * inside its first member's value alone.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "json_id.h"

#include "alloy/clock.h"
#include "alloy/members.h"
#include "json_plain.h"

#include <string.h>

#define NOT_AN_ID "The id is neither a string nor an integer."
#define TWICE "An id field is given twice."
#define NAME_ROOM 1024 /* for a member's name on a pointer's way; a longer one is another */

/* A part on its way: one of the sources' values. */
struct part {
    struct slice text; /* decoded */
    const char *at;    /* in the body, for an error; NULL: it is not from there */
    bool verbatim;
    const char *problem; /* what is wrong with it; NULL: nothing */
};

static bool json_id_is_null(struct slice value)
{
    return value.len == 4 && memcmp(value.data, "null", 4) == 0;
}

/* Takes the next reference token off a pointer's rest, which begins with '/'. */
static struct slice json_id_cut_token(struct slice *rest)
{
    const char *from = rest->data + 1;
    const char *const end = rest->data + rest->len;
    const char *slash = memchr(from, '/', (size_t)(end - from));

    if (slash == NULL)
        slash = end;
    *rest = (struct slice){slash, (size_t)(end - slash)};
    return (struct slice){from, (size_t)(slash - from)};
}

/* Whether a decoded name is the one of a token, in which ~1 stands for / and ~0 for ~. */
static bool json_id_token_is(struct slice token, const char *name, size_t len)
{
    size_t i = 0;

    for (size_t at = 0; at < token.len; at++, i++) {
        char byte = token.data[at];

        if (byte == '~' && at + 1 < token.len)
            byte = token.data[++at] == '1' ? '/' : '~';
        if (i == len || name[i] != byte)
            return false;
    }
    return i == len;
}

/* The member of an object that a token names. Returns how many there are; value is the last. */
static int json_id_find_member(struct slice object, struct slice token, struct slice *value)
{
    struct members members;
    struct slice key, text;
    char name[NAME_ROOM];
    int found = 0;

    members_open(&members, object);
    while (members_next(&members, &key, &text)) {
        const size_t len = members_decode(key, name, sizeof(name));

        if (len < sizeof(name) && json_id_token_is(token, name, len)) {
            *value = text;
            found++;
        }
    }
    return found;
}

static int json_id_find_element(struct slice array, struct slice token, struct slice *value)
{
    struct members members;
    struct slice text;
    size_t index = 0;

    if (token.len == 0 || token.len > 9 || (token.len > 1 && token.data[0] == '0'))
        return 0;
    for (size_t i = 0; i < token.len; i++) {
        if (token.data[i] < '0' || token.data[i] > '9')
            return 0;
        index = index * 10 + (size_t)(token.data[i] - '0');
    }
    members_open(&members, array);
    for (size_t i = 0; members_next_element(&members, &text); i++) {
        if (i == index) {
            *value = text;
            return 1;
        }
    }
    return 0;
}

int json_id_walk(struct slice *value, struct slice rest)
{
    int found = 1;

    while (found == 1 && rest.len > 0) {
        const struct slice token = json_id_cut_token(&rest);

        if (value->data[0] == '{')
            found = json_id_find_member(*value, token, value);
        else
            found = value->data[0] == '[' ? json_id_find_element(*value, token, value) : 0;
    }
    return found > 1 ? 2 : found;
}

/* Reads a value that stands in the body. buffer: EVENT_ID_PART_MAX + 1 bytes, for what has to be
 * decoded. Returns NULL, or what is wrong with it. */
static const char *json_id_decode(struct slice value, char *buffer, struct part *part)
{
    part->at = value.data;
    part->verbatim = true;
    if (value.data[0] == '"') {
        part->text = (struct slice){value.data + 1, value.len - 2};
        if (memchr(part->text.data, '\\', part->text.len) != NULL) {
            part->text.len = members_decode(part->text, buffer, EVENT_ID_PART_MAX + 1);
            part->text.data = buffer;
            part->verbatim = false;
        }
        if (part->text.len == 0)
            return "The id is empty.";
    } else if (value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9')) {
        part->text = value;
        for (size_t i = 1; i < value.len; i++)
            if (value.data[i] < '0' || value.data[i] > '9')
                return NOT_AN_ID;
        if (value.len == 2 && memcmp(value.data, "-0", 2) == 0) {
            buffer[0] = '0';
            part->text = (struct slice){buffer, 1};
            part->verbatim = false;
        }
    } else {
        return NOT_AN_ID;
    }
    return part->text.len > EVENT_ID_PART_MAX ? "The id is longer than 256 bytes." : NULL;
}

/* A header names the request: of several events in it each has a number behind. */
static const char *json_id_of_header(const struct json_scan *scan, struct slice header,
                                     char *buffer, struct part *part)
{
    char number[16];
    size_t digits = 0;

    *part = (struct part){.text = header};
    if (scan->index > 0)
        digits = (size_t)snprintf(number, sizeof(number), ":%u", scan->index);
    if (header.len + digits > EVENT_ID_PART_MAX)
        return "The id is longer than 256 bytes.";
    memcpy(buffer, header.data, header.len);
    memcpy(buffer + header.len, number, digits);
    part->text = (struct slice){buffer, header.len + digits};
    return NULL;
}

static size_t json_id_sources(const struct json_scan_fields *fields)
{
    return fields->source_count > 0 ? fields->source_count : fields->count;
}

static struct json_scan_source json_id_source(const struct json_scan_fields *fields, size_t i)
{
    return fields->source_count > 0
               ? fields->sources[i]
               : (struct json_scan_source){.kind = JSON_SCAN_OF_MEMBER, .name = i, .part = i};
}

/* Whether a null counts as none: where something else takes its place. */
static bool json_id_null_is_none(const struct json_scan_fields *fields, size_t i)
{
    const size_t part = json_id_source(fields, i).part;

    return fields->missing != JSON_SCAN_REFUSE_MISSING ||
           (i > 0 && json_id_source(fields, i - 1).part == part) ||
           (i + 1 < json_id_sources(fields) && json_id_source(fields, i + 1).part == part);
}

/* Reads a part from one source. Returns false: it is not there. */
static bool json_id_read_source(const struct json_scan *scan, size_t i, const char *const *values,
                                char *buffer, struct part *part)
{
    const struct json_scan_source source = json_id_source(scan->fields, i);
    struct slice value;
    int found;

    if (source.kind == JSON_SCAN_OF_HEADER) {
        if (scan->headers == NULL || scan->headers[i].len == 0)
            return false;
        part->problem = json_id_of_header(scan, scan->headers[i], buffer, part);
        return true;
    }
    if (values[source.name] == NULL)
        return false;
    /* A walk ends at its object's bracket, so nobody needs to look for that first. */
    if (source.rest.len > 0)
        value = (struct slice){values[source.name],
                               (size_t)(scan->body + scan->len - values[source.name])};
    else
        value = members_value(values[source.name], scan->body + scan->len);
    found = json_id_walk(&value, source.rest);
    part->at = values[source.name];
    if (found == 0 || (json_id_is_null(value) && json_id_null_is_none(scan->fields, i)))
        return false;
    part->problem = found > 1 ? TWICE : json_id_decode(value, buffer, part);
    return true;
}

static enum json_scan_result json_id_fail(struct json_scan *scan, const char *at,
                                          const char *problem, enum json_scan_result result)
{
    scan->error_offset = (size_t)(at - scan->body);
    scan->problem = problem;
    return result;
}

static enum json_scan_result json_id_invalid(struct json_scan *scan, const struct part *part,
                                             const struct json_scan_event *event)
{
    return json_id_fail(scan, part->at != NULL ? part->at : event->text.data, part->problem,
                        JSON_SCAN_INVALID_ID);
}

static enum json_scan_result json_id_missing(struct json_scan *scan, struct json_scan_event *event)
{
    const struct json_scan_fields *fields = scan->fields;

    event->id = (struct slice){scan->id_buffer, EVENT_ID_MADE_LEN};
    event->id_verbatim = false;
    scan->made = event->text.data;
    switch (fields->missing) {
    case JSON_SCAN_REFUSE_MISSING:
        break;
    case JSON_SCAN_GENERATE:
        event_id_generate(scan->id_buffer, clock_real_ms());
        return JSON_SCAN_EVENT;
    case JSON_SCAN_HASH:
        event_id_of_bytes(scan->id_buffer, event->text.data, event->text.len);
        return JSON_SCAN_EVENT;
    }
    return json_id_fail(scan, event->text.data,
                        fields->missing_problem != NULL ? fields->missing_problem
                                                        : "An id field is missing.",
                        JSON_SCAN_MISSING_ID);
}

/* Nearly every id is the string of one member, short and plain: lends it. False: this one is not,
 * or not valid. */
static bool json_id_lend(const struct json_scan *scan, const char *const *values, struct slice *id)
{
    const struct json_scan_source source = json_id_source(scan->fields, 0);
    const char *const end = scan->body + scan->len;
    const char *text, *quote;

    if (source.kind != JSON_SCAN_OF_MEMBER || source.rest.len > 0)
        return false;
    text = values[source.name];
    if (text == NULL || *text++ != '"')
        return false;
    quote = json_skip_plain(text, end);
    if (*quote != '"' || quote == text || quote - text > EVENT_ID_PART_MAX)
        return false;
    *id = (struct slice){text, (size_t)(quote - text)};
    return true;
}

enum json_scan_result json_id_read(struct json_scan *scan, const char *const *values,
                                   struct json_scan_event *event)
{
    const struct json_scan_fields *fields = scan->fields;
    const size_t sources = json_id_sources(fields);
    const size_t part_count = json_id_source(fields, sources - 1).part + 1;
    char buffer[EVENT_ID_PART_MAX + 1];
    size_t len = 0, next = 0;
    bool missing = false;

    event->id_verbatim = true;
    if (likely(part_count == 1 && json_id_lend(scan, values, &event->id)))
        return JSON_SCAN_EVENT;
    for (size_t i = 0; i < sources; i++) {
        const size_t number = json_id_source(fields, i).part;
        struct part part = {.at = NULL};

        if (number < next ||
            !json_id_read_source(scan, i, values, part_count == 1 ? scan->id_buffer : buffer,
                                 &part))
            continue;
        if (part.problem != NULL)
            return json_id_invalid(scan, &part, event);
        missing = missing || number > next;
        next = number + 1;
        if (part_count == 1) {
            event->id = part.text;
            event->id_verbatim = part.verbatim;
            return JSON_SCAN_EVENT;
        }
        len += event_id_append_part(scan->id_buffer + len, part.text.data, part.text.len, len == 0);
    }
    if (missing || next < part_count)
        return json_id_missing(scan, event);
    event->id = (struct slice){scan->id_buffer, len};
    event->id_verbatim = false;
    return JSON_SCAN_EVENT;
}
