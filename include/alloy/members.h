/* SPDX-License-Identifier: Apache-2.0 */
/*
 * members.h - what stands in the objects and arrays of an event. The scanner at the door has
 * checked the event; here any bytes are taken, and what is no JSON comes out in some way. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_MEMBERS_H
#define ALLOY_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"

/* Where a walk through an object or array stands. */
struct members {
    const char *at;
    const char *end;
};

/* Begins with the text of an object or array; what stands before its bracket is white space. */
void members_open(struct members *members, struct slice text);
/* The next member of an object: the inside of its name's quotes, escapes and all, and the text of
 * its value, never empty. False: there is none. */
bool members_next(struct members *members, struct slice *name, struct slice *value);
/* The next element of an array: its text, never empty. False: there is none. */
bool members_next_element(struct members *members, struct slice *value);

/* The text of the value that begins at value, before end. Empty: none does. */
struct slice members_value(const char *value, const char *end);

/*
 * Writes the name with its escapes decoded to out, with a NUL. Returns its length; room: it is too
 * long for out.
 */
size_t members_decode(struct slice name, char *out, size_t room);

#endif
