/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_id.h - an event's id, out of the event that json_scan.c has checked and of the request.
 */
#ifndef ALLOY_JSON_ID_H
#define ALLOY_JSON_ID_H

#include "alloy/json_scan.h"

/*
 * Makes the id of a whole and valid event. values: where the value of each of the names begins,
 * NULL where there is none. Returns JSON_SCAN_EVENT, or what is wrong, with the place and the
 * problem.
 */
enum json_scan_result json_id_read(struct json_scan *scan, const char *const *values,
                                   struct json_scan_event *event);

/* Walks the rest of a JSON Pointer, which is not empty, through a value that is valid JSON and that
 * more may follow. Returns 1 with the value that it leads to, 0: there is none, or 2: there are
 * several. */
int json_id_walk(struct slice *value, struct slice rest);

#endif
