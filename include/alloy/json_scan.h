/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_scan.h - finds in one pass over a request body where each event begins and ends, and its id.
 *
 * Strict RFC 8259 with valid UTF-8, no lone surrogates, depth at most 64 (the event's own object is
 * depth 1; the array around events does not count). The body is one object, several, with or
 * without white space between them, or an array of objects. A byte order mark before it is skipped.
 * Where the stream has an envelope, an object's member of that name which is an array holds the
 * events, whatever stands around it; an object without it is an event. Nothing is copied but ids
 * that need decoding or joining.
 *
 * An event is judged at its closing brace. Broken JSON, which includes an id field given twice, is
 * reported before an invalid id, and that before a missing one. Of several invalid ids we name the
 * first in the configured order.
 *
 * Runs on: any thread. Core: no allocation.
 */
#ifndef ALLOY_JSON_SCAN_H
#define ALLOY_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"

#define JSON_SCAN_DEPTH_MAX 64

enum json_scan_result {
    JSON_SCAN_EVENT, /* one more event */
    JSON_SCAN_END,   /* the body is whole and valid, and held at least one event */
    JSON_SCAN_EMPTY, /* no event: nothing, white space, or [] */
    JSON_SCAN_INVALID_JSON,
    JSON_SCAN_MISSING_ID,
    JSON_SCAN_INVALID_ID,    /* not a string or integer, empty, or too long */
    JSON_SCAN_INVALID_EVENT, /* it has a member that the request fills */
    JSON_SCAN_MISMATCH,      /* never found here: json_scan_reject() */
    JSON_SCAN_PAUSED,        /* in the middle of an event, at pause_at: call again to go on */
};

#define JSON_SCAN_NAMES_MAX 32 /* of ids and columns */
#define JSON_SCAN_SOURCES_MAX 16
#define JSON_SCAN_COLUMNS_MAX 16

/* Where a part of an id may come from. */
struct json_scan_source {
    enum { JSON_SCAN_OF_MEMBER, JSON_SCAN_OF_HEADER } kind;
    size_t name; /* MEMBER: which of the names */
    struct slice
        rest;    /* MEMBER: what a JSON Pointer (RFC 6901) has behind it, from its '/'; or empty */
    size_t part; /* of the id; the first source of a part that is there counts */
};

/* Values that are looked for in an object. */
#define JSON_SCAN_WANTED_MAX 16
struct json_scan_wanted {
    struct slice name; /* of a member, decoded */
    struct slice rest; /* what a JSON Pointer has behind it, from its '/'; or empty */
};
struct json_scan_search {
    struct json_scan_wanted wanted[JSON_SCAN_WANTED_MAX];
    size_t count;
    struct slice events; /* as in struct json_scan_fields */
    size_t enough;       /* with so many members found before its array, nobody looks behind it */
};

/* What becomes of an event without an id. */
enum json_scan_missing { JSON_SCAN_REFUSE_MISSING, JSON_SCAN_GENERATE, JSON_SCAN_HASH };

/* What makes an event's id, and where events are; set up once, constant after. */
struct json_scan_fields {
    /* Members of the event's own object; decoded key names, borrowed. */
    struct slice names[JSON_SCAN_NAMES_MAX];
    size_t count;
    /* Columns that the request fills: which of the names each is. An event that has such a member
     * itself is invalid, or, where columns yield, tells which. */
    uint8_t columns[JSON_SCAN_COLUMNS_MAX];
    size_t column_count;
    size_t column_names; /* the last of the names, that no id is made of */
    bool columns_yield;
    /* In the order of their parts; none: each name is a part. */
    struct json_scan_source sources[JSON_SCAN_SOURCES_MAX];
    size_t source_count;
    struct slice events; /* the envelope's member; empty: there is no envelope */
    enum json_scan_missing missing;
    const char *missing_problem; /* one sentence for the client; NULL: the usual one */
};

/* One event: slices of the body. */
struct json_scan_event {
    struct slice text; /* the object, from '{' to '}' */
    /*
     * The canonical id. It points into the body when id_verbatim, else into id_buffer, lent until
     * the next call.
     */
    struct slice id;
    bool id_verbatim;
    uint32_t own_columns; /* a bit for each of the columns, the first one lowest, that it has */
};

/* A member of the event's own object, of which only the begin of the value is known. */
struct json_scan_member {
    const char *name; /* the inside of its quotes, still escaped */
    const char *value;
    uint32_t name_len;
    bool escaped;
};

/* Where a pause was made: private. */
struct json_scan_pause {
    const char *at; /* where the next value begins; NULL: there was no pause */
    const char *text;
    uint64_t arrays;
    unsigned depth;
    const char *values[JSON_SCAN_NAMES_MAX + 1];
};

/* Which of 64 bytes from base on are special: private to json_window.h. The first one's bit is the
 * lowest; those before where the scan is may be cleared. */
struct json_window {
    const char *base;
    uint64_t special;
};

struct json_scan {
    /* set by json_scan_init() */
    const struct json_scan_fields *fields;
    uint64_t key_lengths; /* private: most keys are of a length that nobody looks for */
    const char *body;
    size_t len;
    /* The request's headers, one for each source, borrowed; set by the caller where there is a
     * source of that kind. */
    const struct slice *headers;
    /* Set by the caller, who does not want to wait: a call that gets so far in the body, and is in
     * the middle of an event, pauses. SIZE_MAX: never. */
    size_t pause_at;
    /* Set by the caller, who wants to know the members of each event: room for so many. NULL:
     * nobody does. After JSON_SCAN_EVENT there are member_count of them, or, if that is more than
     * member_max, the first member_max. */
    struct json_scan_member *members;
    size_t member_max;
    size_t member_count;
    struct json_scan_pause paused;
    const char *pause; /* pause_at while an event is scanned, else the end of the body */
    /* where it stands */
    size_t offset;
    uint32_t index;  /* events returned so far: the index of the one that is read next */
    size_t envelope; /* where the object begins that the event stands in; SIZE_MAX: in none */
    struct json_window window; /* private, like the next three */
    int state;
    size_t event_at; /* where the event that was looked at last begins */
    size_t searched; /* bytes in which json_scan_skip() has looked for an event's end in vain */
    size_t elements; /* of the array that it is in */
    size_t skip_to;  /* behind an event whose id is at fault */
    /*
     * Set after an outcome other than EVENT and END; an offset in the body. Invalid JSON: the first
     * byte that no valid body could have here, the body's length when it ends too early, the
     * backslash of an invalid escape or lone surrogate, the quote before an id field given twice.
     * Missing id: the event's '{'. Invalid id: the value. Empty: the body's length.
     */
    size_t error_offset;
    const char *problem; /* one constant sentence for the client */
    const char *made;    /* the event whose id was made last; NULL: none was */
    char id_buffer[EVENT_ID_MAX];
};

void json_scan_init(struct json_scan *scan, const struct json_scan_fields *fields, const char *body,
                    size_t len);

/* How far in the body the scan is. */
static inline size_t json_scan_reached(const struct json_scan *scan)
{
    return scan->paused.at != NULL ? (size_t)(scan->paused.at - scan->body) : scan->offset;
}

/* Whether the id of an event, the one returned last, was made since it has none itself. */
static inline bool json_scan_made_id(const struct json_scan *scan,
                                     const struct json_scan_event *event)
{
    return scan->made == event->text.data;
}

/* The next event or the outcome. After anything but JSON_SCAN_EVENT and JSON_SCAN_PAUSED do not
 * call again, but after json_scan_skip(). */
enum json_scan_result json_scan_next(struct json_scan *scan, struct json_scan_event *event);

/* Takes back the event that was returned last: the caller has found it at fault, at offset of the
 * body. problem: one constant sentence. Its result is JSON_SCAN_MISMATCH. */
void json_scan_reject(struct json_scan *scan, size_t offset, const char *problem);

/*
 * Passes over what result, which is no event and no end, has found at fault, so that the scan can
 * go on behind it; it counts as an event in index. An event whose id is at fault is passed over
 * alone, and so is what is no object in an array, and an event whose brackets and quotes tell its
 * end. Other invalid JSON ends with its line, where that is the event's own. False: nobody can tell
 * where the next event begins; good ones would be lost with the bad one, or parts of it be taken
 * for events.
 */
bool json_scan_skip(struct json_scan *scan, enum json_scan_result result);

/*
 * Looks for values in the first object of a body, or, where the body is an array, in its first
 * element: values[i] becomes the text of wanted[i], empty where there is none. Of a member that is
 * given twice the last one counts. Where the object turns out to be no valid JSON, what was found
 * before its array of events counts, and nothing else. from: where in the body to begin; values are
 * slices of the body.
 */
void json_scan_find(const struct json_scan_search *search, struct slice body, size_t from,
                    struct slice *values);

#endif
