/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schemas.h - what is known now of the columns of each stream's table, for whoever checks events,
 * and what these checks have found.
 *
 * Runs on: any thread. schemas_version() and schemas_count() are lock-free but for a finding that
 * is new; nothing blocks for longer than a copy.
 */
#ifndef ALLOY_SCHEMAS_H
#define ALLOY_SCHEMAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/schema.h"

#define SCHEMAS_FIELDS_MAX 64 /* of a stream: findings that are counted by field and problem */
#define SCHEMAS_FIELD_MAX 64  /* bytes of a field's name that are told */
#define SCHEMAS_TYPE_MAX 80   /* and of a column's type */

struct schemas;

/* Returns owned (schemas_destroy()); NULL: out of memory. */
struct schemas *schemas_create(size_t streams);
void schemas_destroy(struct schemas *schemas); /* NULL is fine */

/* From now on this is the stream's schema; takes it. NULL: nothing is known. */
void schemas_publish(struct schemas *schemas, size_t stream, struct schema *schema);
/* Changes whenever a stream's schema does; never 0. */
uint64_t schemas_version(const struct schemas *schemas, size_t stream);
/* One more holder of the stream's schema (schema_put()), and its version; NULL: nothing is known.
 */
struct schema *schemas_hold(struct schemas *schemas, size_t stream, uint64_t *version);

/* A check has found what a change of the table would explain: asks for another look at it. */
void schemas_doubt(struct schemas *schemas, size_t stream);
/* Whether somebody has, since this was asked last. */
bool schemas_doubted(struct schemas *schemas, size_t stream);

/* Counts a finding. True: it is the first of its field and problem, and has a place of its own. */
bool schemas_count(struct schemas *schemas, size_t stream, const struct schema *schema,
                   const struct schema_finding *finding);
/* Writes the name of the field of a finding as it is told: cut, and of printable UTF-8. */
void schemas_field(const struct schema *schema, const struct schema_finding *finding,
                   char out[SCHEMAS_FIELD_MAX + 1]);

/* What was counted. field "": of all fields that found no place. */
struct schemas_counted {
    char field[SCHEMAS_FIELD_MAX + 1];
    char type[SCHEMAS_TYPE_MAX + 1]; /* of the column; when it was found first; empty: none */
    enum schema_problem problem;
    uint64_t events;
};
#define SCHEMAS_COUNTED_MAX (SCHEMAS_FIELDS_MAX + SCHEMA_PROBLEMS)
/* Fills out; returns how many. */
size_t schemas_read(const struct schemas *schemas, size_t stream,
                    struct schemas_counted out[SCHEMAS_COUNTED_MAX]);

#endif
