/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify_answer.c - what ClickHouse answers when it is asked whether it has the rows of an insert.
 *
 * Whatever is not exactly as expected counts as no answer: an insert that is taken for lost goes
 * again under another token.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "verify_answer.h"

#include <stdio.h>
#include <string.h>

#include "alloy/members.h"

#define ENGINE "MergeTree" /* others merge rows into each other: what is missing is not lost */
#define REPLICATED "ReplicatedMergeTree" /* these two have tokens and parts at once */
#define SHARED "SharedMergeTree"
#define LOW_CARDINALITY "LowCardinality("
#define COLUMN_FIELDS 3
#define TEXT_MAX 512

/* A number, between quotes or not: that depends on a setting. */
static bool verify_answer_number(struct members *members, uint64_t *number)
{
    struct slice value;

    *number = 0;
    if (!members_next_element(members, &value))
        return false;
    if (value.len >= 2 && value.data[0] == '"')
        value = (struct slice){value.data + 1, value.len - 2};
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
        *number = *number * 10 + (uint64_t)(value.data[i] - '0');
    }
    return value.len > 0 && value.len < 19;
}

static bool verify_answer_quoted(struct members *members, struct slice *value)
{
    return members_next_element(members, value) && value->len >= 2 && value->data[0] == '"' &&
           value->data[value->len - 1] == '"';
}

/* A text between quotes; false: it is none, or too long. */
static bool verify_answer_text(struct members *members, char out[TEXT_MAX])
{
    struct slice value;

    if (!verify_answer_quoted(members, &value))
        return false;
    return members_decode((struct slice){value.data + 1, value.len - 2}, out, TEXT_MAX) < TEXT_MAX;
}

static bool verify_answer_array(struct members *members, struct members *inside)
{
    struct slice value;

    if (!members_next_element(members, &value) || value.data[0] != '[')
        return false;
    members_open(inside, value);
    return true;
}

/* Type and default_kind of a column; false: there is none of this name. */
static bool verify_answer_column(struct members columns, const char *name, char type[TEXT_MAX],
                                 char kind[TEXT_MAX])
{
    char found[TEXT_MAX];
    struct members column;

    while (verify_answer_array(&columns, &column)) {
        if (!verify_answer_text(&column, found) || !verify_answer_text(&column, type) ||
            !verify_answer_text(&column, kind))
            return false;
        if (strcmp(found, name) == 0)
            return true;
    }
    return false;
}

/* The type of the column that a field of this name fills; false: there is none, or none that what
 * was inserted goes to as it is. */
static bool verify_answer_type(struct members columns, const char *name, char type[TEXT_MAX])
{
    char kind[TEXT_MAX];

    return verify_answer_column(columns, name, type, kind) &&
           (kind[0] == '\0' || strcmp(kind, "DEFAULT") == 0);
}

/* Appends "`name` type"; a table of other types than strings may not have them of low cardinality.
 * False: no room. */
static bool verify_answer_add(char structure[VERIFY_STRUCTURE_MAX], const char *name, char *type)
{
    size_t len = strlen(structure);
    const size_t prefix = strlen(LOW_CARDINALITY);

    if (strncmp(type, LOW_CARDINALITY, prefix) == 0 && strlen(type) > prefix) {
        type += prefix;
        type[strlen(type) - 1] = '\0';
    }
    /* Room for a comma, the worst of names, and the end. */
    if (len + 2 * strlen(name) + strlen(type) + 8 > VERIFY_STRUCTURE_MAX)
        return false;
    len += (size_t)sprintf(structure + len, "%s`", len > 0 ? ", " : "");
    for (; *name != '\0'; name++) {
        if (*name == '`' || *name == '\\')
            structure[len++] = '\\';
        structure[len++] = *name;
    }
    (void)sprintf(structure + len, "` %s", type);
    return true;
}

/* Whether each row has all of its id in members of its own. */
static bool verify_answer_rows_have_ids(const struct config_stream *stream)
{
    bool have = stream->missing_id == CONFIG_MISSING_REFUSE;

    for (size_t i = 0; i < stream->id_count; i++)
        have = have && stream->ids[i].kind == CONFIG_ID_MEMBER && stream->ids[i].field == i;
    return have;
}

/* Whether the column of the token is there, as a column that nothing but its default fills. */
static bool verify_answer_has_proof(struct members columns, const char *name)
{
    char type[TEXT_MAX], kind[TEXT_MAX];

    return verify_answer_column(columns, name, type, kind) &&
           (strcmp(kind, "DEFAULT") == 0 || strcmp(kind, "MATERIALIZED") == 0);
}

bool verify_answer_trace(struct slice body, const struct config_stream *stream, bool token,
                         struct verify_trace *trace)
{
    struct members members, engines, columns;
    char engine[TEXT_MAX] = "", text[TEXT_MAX];

    *trace = (struct verify_trace){.since_s = 0};
    members_open(&members, body);
    if (!verify_answer_number(&members, &trace->uptime_s) ||
        !verify_answer_number(&members, &trace->since_s) ||
        !verify_answer_number(&members, &trace->rows) || !verify_answer_array(&members, &engines) ||
        !verify_answer_array(&members, &columns))
        return false;
    if (token && (!verify_answer_number(&members, &trace->busy) ||
                  !verify_answer_number(&members, &trace->behind)))
        return false;
    trace->table_exists = verify_answer_text(&engines, engine);
    trace->ids = trace->table_exists && verify_answer_rows_have_ids(stream);
    for (size_t i = 0; i < stream->id_count && trace->ids; i++)
        trace->ids = verify_answer_type(columns, stream->ids[i].name, text) &&
                     verify_answer_add(trace->structure, stream->ids[i].name, text);
    trace->tells = trace->ids && strcmp(engine, ENGINE) == 0;
    trace->proves = token &&
                    (strcmp(engine, ENGINE) == 0 || strcmp(engine, REPLICATED) == 0 ||
                     strcmp(engine, SHARED) == 0) &&
                    verify_answer_has_proof(columns, stream->proof);
    return true;
}

bool verify_answer_count(struct slice body, uint64_t *shown, uint64_t *found)
{
    struct members members;

    members_open(&members, body);
    return verify_answer_number(&members, shown) && verify_answer_number(&members, found);
}

bool verify_answer_rows(struct slice body, size_t count, struct verify_rows *rows)
{
    struct members members;
    struct slice value;

    members_open(&members, body);
    if (!verify_answer_number(&members, &rows->shown) ||
        !verify_answer_number(&members, &rows->distinct) ||
        !verify_answer_quoted(&members, &value) || value.len != count + 2)
        return false;
    rows->bits = value.data + 1;
    for (size_t i = 0; i < count; i++) {
        if (rows->bits[i] != '0' && rows->bits[i] != '1')
            return false;
    }
    return true;
}
