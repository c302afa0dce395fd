/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema.c - puts the members of an event beside the columns of a table.
 *
 * Events of a stream look alike, so a member most likely meets the column that the member at its
 * place has met in the event before: one comparison of names. Else a hash finds it.
 *
 * Runs on: any thread; a schema does not change once it is made.
 * Owns: schemas, until their last holder lets go.
 */
#include "alloy/schema.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/members.h"
#include "schema_type.h"
#include "schema_value.h"

#define NAME_MAX_LEN 1024 /* a longer name with escapes is not looked up */
#define WORDS_MAX ((SCHEMA_COLUMNS_MAX + 63) / 64)
#define AMBIGUOUS (UINT16_MAX - 1) /* several columns differ from a name in case alone */

enum column_kind { COLUMN_ORDINARY, COLUMN_OPTIONAL, COLUMN_NOT_STORED };

struct column {
    const char *name;
    uint32_t name_len;
    uint32_t type_node;
    enum column_kind kind;
    bool takes_strings; /* all of them */
    const char *type;
};

struct schema {
    _Atomic size_t holders;
    unsigned flags;
    struct schema_types types;
    size_t count;
    size_t words; /* of the bits for columns */
    uint64_t required[WORDS_MAX];
    uint16_t *slots; /* column + 1, by the hash of its name; 0: empty */
    size_t mask;
    char *text;
    struct column columns[];
};

const char *schema_problem_name(enum schema_problem problem)
{
    switch (problem) {
    case SCHEMA_FITS:
        return "none";
    case SCHEMA_UNKNOWN:
        return "unknown";
    case SCHEMA_NOT_STORED:
        return "not_stored";
    case SCHEMA_MISSING:
        return "missing";
    case SCHEMA_TWICE:
        return "twice";
    case SCHEMA_NULL:
        return "null";
    case SCHEMA_KIND:
        return "kind";
    case SCHEMA_RANGE:
        return "range";
    case SCHEMA_FORMAT:
        return "format";
    case SCHEMA_UNIT:
        return "unit";
    }
    ALLOY_UNREACHABLE("a problem of no name");
    return NULL;
}

static char schema_fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* FNV-1a, for which names of one spelling are one. */
static size_t schema_hash(struct slice name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ (unsigned char)schema_fold(name.data[i])) * UINT64_C(0x100000001b3);
    return (size_t)(hash ^ hash >> 32);
}

static bool schema_same_folded(struct slice a, struct slice b)
{
    for (size_t i = 0; i < a.len && a.len == b.len; i++)
        if (schema_fold(a.data[i]) != schema_fold(b.data[i]))
            return false;
    return a.len == b.len;
}

static inline bool schema_is_column(const struct column *column, struct slice name)
{
    return column->name_len == name.len && memcmp(column->name, name.data, name.len) == 0;
}

/* The column of a name, NONE, or AMBIGUOUS. */
static uint16_t schema_find(const struct schema *schema, struct slice name)
{
    uint16_t folded = SCHEMA_COLUMN_NONE;

    for (size_t at = schema_hash(name);; at++) {
        const uint16_t slot = schema->slots[at & schema->mask];
        const struct column *column = &schema->columns[slot - 1];

        if (slot == 0)
            return folded;
        if (schema_is_column(column, name))
            return (uint16_t)(slot - 1);
        if ((schema->flags & SCHEMA_IGNORE_CASE) != 0 &&
            schema_same_folded((struct slice){column->name, column->name_len}, name))
            folded = folded == SCHEMA_COLUMN_NONE ? (uint16_t)(slot - 1) : AMBIGUOUS;
    }
}

static void schema_add_slot(struct schema *schema, size_t column)
{
    const struct slice name = {schema->columns[column].name, schema->columns[column].name_len};
    size_t at = schema_hash(name);

    while (schema->slots[at & schema->mask] != 0)
        at++;
    schema->slots[at & schema->mask] = (uint16_t)(column + 1);
}

/* ---- making one ---- */

static char *schema_copy(char **text, struct slice from)
{
    char *copy = *text;

    if (from.len > 0)
        memcpy(copy, from.data, from.len);
    copy[from.len] = '\0';
    *text += from.len + 1;
    return copy;
}

static bool schema_equals(struct slice text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

static enum column_kind schema_kind_of(struct slice kind)
{
    if (kind.len == 0)
        return COLUMN_ORDINARY;
    if (schema_equals(kind, "MATERIALIZED") || schema_equals(kind, "ALIAS"))
        return COLUMN_NOT_STORED;
    return COLUMN_OPTIONAL; /* DEFAULT, EPHEMERAL, and what may come */
}

static bool schema_is_given(const struct schema_source *source, struct slice name)
{
    for (size_t i = 0; i < source->given_count; i++)
        if (source->given[i].len == name.len &&
            memcmp(source->given[i].data, name.data, name.len) == 0)
            return true;
    return false;
}

static bool schema_add_column(struct schema *schema, const struct schema_source *source, size_t i)
{
    const struct schema_source_column *from = &source->columns[i];
    struct column *column = &schema->columns[i];
    const struct schema_type *type;

    column->name_len = (uint32_t)from->name.len;
    column->name = schema_copy(&schema->types.text, from->name);
    column->type = schema_copy(&schema->types.text, from->type);
    column->kind = schema_kind_of(from->kind);
    column->type_node = schema_type_read(&schema->types, from->type);
    if (column->type_node == SCHEMA_TYPE_NONE)
        return false;
    type = &schema->types.list[column->type_node];
    column->takes_strings = type->open || type->kind == SCHEMA_STRING;
    if (column->kind == COLUMN_ORDINARY && !type->nullable && type->kind != SCHEMA_ANYTHING &&
        !schema_is_given(source, from->name))
        schema->required[i / 64] |= UINT64_C(1) << i % 64;
    schema_add_slot(schema, i);
    return true;
}

struct schema *schema_create(const struct schema_source *source)
{
    const size_t count = source->count < SCHEMA_COLUMNS_MAX ? source->count : SCHEMA_COLUMNS_MAX;
    struct schema *schema;
    size_t bytes = 1, slots = 4;

    if (count == 0)
        return NULL;
    schema = calloc(1, sizeof(*schema) + count * sizeof(schema->columns[0]));
    if (schema == NULL)
        return NULL;
    /* A type is kept as it is, and the names in it without their escapes. */
    for (size_t i = 0; i < count; i++)
        bytes += source->columns[i].name.len + 2 * source->columns[i].type.len + 2;
    while (slots < 2 * count)
        slots *= 2;
    schema->holders = 1;
    schema->flags = source->flags | (count < source->count ? SCHEMA_PARTIAL : 0);
    schema->count = count;
    schema->words = (count + 63) / 64;
    schema->mask = slots - 1;
    schema->slots = calloc(slots, sizeof(schema->slots[0]));
    schema->text = malloc(bytes);
    schema->types.text = schema->text;
    if (schema->slots == NULL || schema->text == NULL)
        goto destroy_schema;
    for (size_t i = 0; i < count; i++)
        if (!schema_add_column(schema, source, i))
            goto destroy_schema;
    return schema;

destroy_schema:
    schema_put(schema);
    return NULL;
}

struct schema *schema_get(struct schema *schema)
{
    /* relaxed: whoever gets it has it from a holder */
    atomic_fetch_add_explicit(&schema->holders, 1, memory_order_relaxed);
    return schema;
}

void schema_put(struct schema *schema)
{
    /* acq_rel: pairs with itself, so that what others did with it comes before the end */
    if (schema == NULL || atomic_fetch_sub_explicit(&schema->holders, 1, memory_order_acq_rel) > 1)
        return;
    schema_types_free(&schema->types);
    free(schema->slots);
    free(schema->text);
    free(schema);
}

const char *schema_column_name(const struct schema *schema, uint16_t column)
{
    return schema->columns[column].name;
}

const char *schema_column_type(const struct schema *schema, uint16_t column)
{
    return schema->columns[column].type;
}

/* ---- an event beside the columns ---- */

struct checking {
    const struct schema *schema;
    struct schema_findings *findings;
    uint64_t seen[WORDS_MAX];
};

static void schema_found(struct checking *checking, const struct schema_finding *finding)
{
    if (checking->findings->count < SCHEMA_FINDINGS_MAX)
        checking->findings->list[checking->findings->count++] = *finding;
}

static inline bool schema_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The text of member i: it ends before the comma and the next name, or before the event's brace. */
static inline struct slice schema_value_of(const struct schema_event *event, size_t i)
{
    const char *const begin = event->members[i].value;
    const char *end;

    if (likely(i + 1 < event->count)) {
        end = event->members[i + 1].name - 1;
        while (end > begin && schema_is_space(end[-1]))
            end--;
    } else {
        end = event->end;
    }
    end--; /* the comma, or the brace */
    while (end > begin && schema_is_space(end[-1]))
        end--;
    return (struct slice){begin, (size_t)(end - begin)};
}

/* The column of a member that the guess does not name. */
static uint16_t schema_look_up(const struct schema *schema, const struct json_scan_member *member)
{
    struct slice name = {member->name, member->name_len};
    char decoded[NAME_MAX_LEN];

    if (unlikely(member->escaped)) {
        name.len = members_decode(name, decoded, sizeof(decoded));
        if (name.len == sizeof(decoded))
            return AMBIGUOUS;
        name.data = decoded;
    }
    return schema_find(schema, name);
}

/* True when columns stand for the members of an object with this name; they count as given. */
static bool schema_is_nested(struct checking *checking, const struct json_scan_member *member)
{
    const struct schema *schema = checking->schema;
    bool found = false;

    if ((schema->flags & SCHEMA_NESTED) == 0 || (*member->value != '{' && *member->value != '['))
        return false;
    for (size_t i = 0; i < schema->count; i++) {
        const struct column *column = &schema->columns[i];

        if (column->name_len > member->name_len && column->name[member->name_len] == '.' &&
            memcmp(column->name, member->name, member->name_len) == 0) {
            checking->seen[i / 64] |= UINT64_C(1) << i % 64;
            found = true;
        }
    }
    return found;
}

/* A member that meets no column whose value counts. */
static void schema_check_stray(struct checking *checking, const struct json_scan_member *member,
                               uint16_t column, struct slice value)
{
    const bool none = column == SCHEMA_COLUMN_NONE;

    if (column == AMBIGUOUS || (none && ((checking->schema->flags & SCHEMA_PARTIAL) != 0 ||
                                         schema_is_nested(checking, member))))
        return;
    schema_found(checking, &(struct schema_finding){
                               .problem = none ? SCHEMA_UNKNOWN : SCHEMA_NOT_STORED,
                               .column = column,
                               .name = {member->name, member->name_len},
                               .value = value,
                           });
}

static inline void schema_check_member(struct checking *checking,
                                       const struct json_scan_member *member, uint16_t column,
                                       struct slice value)
{
    const struct schema *schema = checking->schema;
    const struct column *of = &schema->columns[column];
    const uint64_t bit = UINT64_C(1) << column % 64;
    struct schema_fault fault = {.problem = SCHEMA_FITS};

    if (unlikely((checking->seen[column / 64] & bit) != 0)) {
        fault.problem = SCHEMA_TWICE;
        fault.value = value;
    } else {
        const struct schema_judge judge = {&schema->types, schema->flags};

        checking->seen[column / 64] |= bit;
        if (of->takes_strings && *value.data == '"')
            return;
        /* For null a column's own default is as good as any other place for it. */
        if (of->kind == COLUMN_OPTIONAL && *value.data == 'n')
            return;
        if (likely((schema->flags & SCHEMA_SKIP_VALUES) == 0))
            schema_value_check(&judge, of->type_node, value, &fault);
    }
    if (likely(fault.problem == SCHEMA_FITS))
        return;
    schema_found(checking, &(struct schema_finding){
                               .problem = fault.problem,
                               .column = column,
                               .name = {member->name, member->name_len},
                               .value = fault.value,
                           });
}

static void schema_check_missing(struct checking *checking, size_t word, uint64_t bits)
{
    for (; bits != 0; bits &= bits - 1) {
        const size_t column = word * 64 + (size_t)__builtin_ctzll(bits);
        const struct column *of = &checking->schema->columns[column];

        schema_found(checking, &(struct schema_finding){
                                   .problem = SCHEMA_MISSING,
                                   .column = (uint16_t)column,
                                   .name = {of->name, of->name_len},
                                   .value = {"", 0},
                               });
    }
}

bool schema_check(const struct schema *schema, struct schema_guess *guess,
                  const struct schema_event *event, struct schema_findings *findings)
{
    /* Of the last one that was noted nobody knows the end. */
    const size_t count = event->cut ? event->count - 1 : event->count;
    struct checking checking;

    checking.schema = schema;
    checking.findings = findings;
    findings->count = 0;
    for (size_t i = 0; i < schema->words; i++)
        checking.seen[i] = 0;
    for (size_t i = 0; i < count; i++) {
        const struct json_scan_member *member = &event->members[i];
        const struct slice name = {member->name, member->name_len};
        const struct slice value = schema_value_of(event, i);
        uint16_t column = i < SCHEMA_GUESSES_MAX ? guess->columns[i] : SCHEMA_COLUMN_NONE;

        if (unlikely(column >= schema->count || member->escaped ||
                     !schema_is_column(&schema->columns[column], name))) {
            column = schema_look_up(schema, member);
            if (i < SCHEMA_GUESSES_MAX)
                guess->columns[i] = column;
        }
        if (unlikely(column >= AMBIGUOUS || schema->columns[column].kind == COLUMN_NOT_STORED))
            schema_check_stray(&checking, member, column, value);
        else
            schema_check_member(&checking, member, column, value);
    }
    for (size_t i = 0; i < schema->words; i++) {
        const uint64_t missing = schema->required[i] & ~checking.seen[i];

        if (unlikely(missing != 0) && !event->cut)
            schema_check_missing(&checking, i, missing);
    }
    return findings->count > 0;
}
