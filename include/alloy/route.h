/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.h - which stream a request's path belongs to, what identifies the stream's events and where
 * they stand in a body.
 *
 * Runs on: route_init() before the threads start; route_find() any thread.
 */
#ifndef ALLOY_ROUTE_H
#define ALLOY_ROUTE_H

#include <stddef.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/json_scan.h"

#define ROUTE_NONE (-1)
#define ROUTE_PROBLEM_MAX 200
#define ROUTE_DECODED_MAX 4096

/* Members of a replayed letter, beside its event. */
enum route_letter {
    ROUTE_LETTER_ID,
    ROUTE_LETTER_ID_HEX,
    ROUTE_LETTER_COLUMNS,
    ROUTE_LETTER_MEMBERS,
};

struct route {
    const struct config_stream *stream; /* borrowed, as all that follows is from it */
    struct json_scan_fields fields;
    const char *headers[JSON_SCAN_SOURCES_MAX]; /* of the sources that are headers: their names */
    bool has_headers;
    uint32_t percent; /* bit i: the value of headers[i] is percent-encoded */
    /* The same for replayed letters, and what stands around their events (replayed.c). */
    struct json_scan_fields letter_fields;
    struct json_scan_search letter_members;
    struct json_scan_search keys;     /* what may hold a key */
    struct json_scan_search envelope; /* what columns take from around the events, in their order */
    char decoded[ROUTE_DECODED_MAX];  /* names whose token in a JSON Pointer has escapes */
    size_t decoded_len;
    char missing_problem[ROUTE_PROBLEM_MAX]; /* names what an id was looked for in */
};

struct route_path {
    struct slice text; /* without the star at its end */
    bool all;          /* all that begins so */
    uint16_t stream;
};

/* Constant after route_init(). Route i is config->streams[i]. */
struct route_table {
    struct route routes[CONFIG_STREAMS_MAX];
    struct route_path paths[CONFIG_STREAMS_MAX * CONFIG_PATHS_MAX];
    size_t count; /* of paths */
};

/* Borrows config for the table's life. */
void route_init(struct route_table *table, const struct config *config);

/* The stream of a path, or ROUTE_NONE. A slash at the end does not matter. A whole path comes
 * before one with a star, and of these the longest that fits. */
int route_find(const struct route_table *table, struct slice path);

#endif
