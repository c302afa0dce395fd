/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_type.h - the types of a table's columns, read from ClickHouse's words for them. Pure.
 *
 * A type is a node in an array; what stands inside it are its children, by number. Whatever is not
 * known here becomes SCHEMA_ANYTHING, which takes every value.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_SCHEMA_TYPE_H
#define ALLOY_SCHEMA_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

#define SCHEMA_TYPE_NONE UINT32_MAX
#define SCHEMA_TYPE_DEPTH_MAX 16    /* a deeper type is not checked */
#define SCHEMA_TYPE_NODES_MAX 20000 /* of a table; what does not fit is not checked */

enum schema_kind {
    SCHEMA_ANYTHING,
    SCHEMA_STRING,
    SCHEMA_FIXED_STRING,
    SCHEMA_INTEGER,
    SCHEMA_FLOAT,
    SCHEMA_BOOL,
    SCHEMA_DECIMAL,
    SCHEMA_DATE,
    SCHEMA_DATE32,
    SCHEMA_DATETIME,
    SCHEMA_DATETIME64,
    SCHEMA_TIME,
    SCHEMA_TIME64,
    SCHEMA_UUID,
    SCHEMA_IPV4,
    SCHEMA_IPV6,
    SCHEMA_ENUM,
    SCHEMA_ARRAY,
    SCHEMA_MAP,
    SCHEMA_TUPLE,
    SCHEMA_NAMED_TUPLE,
    SCHEMA_JSON,
    SCHEMA_VARIANT,
};

struct schema_type {
    enum schema_kind kind;
    bool nullable;
    bool is_signed;    /* INTEGER, ENUM */
    bool open;         /* no value can be wrong */
    bool utc;          /* DATETIME, DATETIME64: the type says so */
    uint16_t bits;     /* INTEGER, FLOAT, ENUM */
    uint8_t precision; /* DECIMAL */
    uint8_t scale;     /* DECIMAL, DATETIME64, TIME64 */
    uint32_t size;     /* FIXED_STRING: bytes; ENUM: entries; MAP, VARIANT and tuples: children */
    uint32_t first;    /* child, or entry of an ENUM */
    uint32_t next;     /* child of the same parent, or NONE */
    struct slice name; /* in a NAMED_TUPLE */
};

/* An element of an Enum; those of one stand together, by length and then by bytes. */
struct schema_element {
    struct slice name;
    int32_t value;
};

struct schema_types {
    struct schema_type *list;
    size_t count, room;
    struct schema_element *elements;
    size_t element_count, element_room;
    char *text; /* of names; has room for what is left to read */
};

/*
 * Reads one type; borrows types->text, which must have room for its length, and moves it on.
 * Returns its number; what cannot be read takes every value. SCHEMA_TYPE_NONE: out of memory, or
 * too many nodes.
 */
uint32_t schema_type_read(struct schema_types *types, struct slice text);
void schema_types_free(struct schema_types *types); /* but for the text */

#endif
