/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_schema.h - what a configuration may hold, for programs: as rows, and as a JSON Schema.
 *
 * The manual page and the completions are made of the rows when Alloy is built.
 */
#ifndef ALLOY_CONFIG_SCHEMA_H
#define ALLOY_CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CONFIG_ROW_TEXT_MAX 256

struct config_row {
    const char *section;              /* `server`, `stream.NAME` */
    const char *key;                  /* `listen`, `column.NAME` */
    const char *names;                /* expression of a NAME in key; NULL: it has none */
    const char *help;                 /* sentences */
    const char *default_text;         /* as in a file; NULL: there is none */
    bool required;                    /* it must be given */
    bool reload;                      /* a changed value needs no restart */
    bool number;                      /* whole, and without a unit */
    unsigned long long min, max;      /* of a number */
    char bounds[CONFIG_ROW_TEXT_MAX]; /* for people; empty: any text */
    char words[CONFIG_ROW_TEXT_MAX];  /* the values that there are, comma-separated; or empty */
    char expression[2 * CONFIG_ROW_TEXT_MAX]; /* ECMA 262, of a whole value; empty: any */
};

/* The next row after *index, which begins with 0; false: there is none. Sections are whole. */
bool config_schema_next(size_t *index, struct config_row *row);

/* Writes a JSON Schema (draft 2020-12) of a configuration as {"section": {"key": value}}. */
void config_schema_print(FILE *out);

#endif
