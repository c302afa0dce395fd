/* SPDX-License-Identifier: Apache-2.0 */
/*
 * members.h - walks through the objects and arrays of an event. json_scan has checked the event
 * before; here any bytes are safe, but the result is meaningless when they are not JSON. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_MEMBERS_H
#define ALLOY_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"

/* The position of a walk through an object or array. */
struct members {
    const char *at;
    const char *end;
};

/* Begins with the text of an object or array; only white space may come before its bracket. */
void members_open(struct members *members, struct slice text);
/* The next member of an object: the inside of its name's quotes, still escaped, and the text of its
 * value, never empty. False: there is none. */
bool members_next(struct members *members, struct slice *name, struct slice *value);
/* The next element of an array: its text, never empty. False: there is none. */
bool members_next_element(struct members *members, struct slice *value);

/* The text of the value that begins at value, before end. Empty: none does. */
struct slice members_value(const char *value, const char *end);

/*
 * Writes the name with its escapes decoded, and a NUL, to out. Returns its length, or room when it
 * is too long.
 */
size_t members_decode(struct slice name, char *out, size_t room);

#endif
