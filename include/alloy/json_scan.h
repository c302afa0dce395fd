/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_scan.h - finds in one pass over a request body where each event begins and ends, and its id.
 *
 * Strict RFC 8259 with valid UTF-8, no lone surrogates, depth at most 64 (the event's own object is
 * depth 1; the array around events does not count). The body is one object, objects separated by
 * white space, or an array of objects. Only ids that need decoding or joining are copied.
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
    JSON_SCAN_INVALID_ID, /* not a string or integer, empty, or too long */
};

/* The id fields of a stream; set up once, constant after. */
struct json_scan_fields {
    struct slice names[EVENT_ID_FIELDS_MAX]; /* decoded key names, borrowed */
    size_t count;
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
};

struct json_scan {
    /* set by json_scan_init() */
    const struct json_scan_fields *fields;
    const char *body;
    size_t len;
    /* where it stands */
    size_t offset;
    uint32_t index; /* events returned so far, which is the index of the next one */
    int state;      /* private */
    /*
     * Set after an outcome other than EVENT and END; an offset in the body. Invalid JSON: the first
     * byte that no valid body could have here, the body's length when it ends too early, the
     * backslash of an invalid escape or lone surrogate, the quote before an id field given twice.
     * Missing id: the event's '{'. Invalid id: the value. Empty: the body's length.
     */
    size_t error_offset;
    const char *problem; /* one constant sentence for the client */
    char id_buffer[EVENT_ID_MAX];
};

void json_scan_init(struct json_scan *scan, const struct json_scan_fields *fields, const char *body,
                    size_t len);

/* Returns the next event or the outcome. Do not call again after anything but JSON_SCAN_EVENT. */
enum json_scan_result json_scan_next(struct json_scan *scan, struct json_scan_event *event);

#endif
