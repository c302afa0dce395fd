/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_type.c - reads "Array(LowCardinality(Nullable(String)))" and the like.
 *
 * The words come from a server, and newer servers have types that nobody here has heard of: what is
 * not understood to its last byte is not checked.
 *
 * Runs on: any thread.
 * Owns: nothing; the nodes belong to the caller's struct schema_types.
 */
#include "schema_type.h"

#include <stdlib.h>
#include <string.h>

#define ELEMENTS_MAX 65536

struct reader {
    struct schema_types *types;
    const char *at;
    const char *end;
    unsigned depth;
    bool failed; /* the text is not understood */
    bool full;   /* no memory, or too many nodes */
};

static void schema_type_skip_space(struct reader *reader)
{
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\n'))
        reader->at++;
}

/* Takes a byte, with white space around it. False: something else comes. */
static bool schema_type_take(struct reader *reader, char byte)
{
    schema_type_skip_space(reader);
    if (reader->at == reader->end || *reader->at != byte)
        return false;
    reader->at++;
    schema_type_skip_space(reader);
    return true;
}

static void schema_type_expect(struct reader *reader, char byte)
{
    if (!schema_type_take(reader, byte))
        reader->failed = true;
}

static bool schema_type_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static struct slice schema_type_word(struct reader *reader)
{
    const char *from = reader->at;

    while (reader->at < reader->end && schema_type_is_letter(*reader->at))
        reader->at++;
    return (struct slice){from, (size_t)(reader->at - from)};
}

static bool schema_type_is(struct slice word, const char *name)
{
    return word.len == strlen(name) && memcmp(word.data, name, word.len) == 0;
}

/* A number of at most nine digits, with a sign or without. */
static int32_t schema_type_number(struct reader *reader)
{
    const bool minus = schema_type_take(reader, '-');
    const struct slice word = schema_type_word(reader);
    int32_t value = 0;

    for (size_t i = 0; i < word.len && i < 10; i++) {
        if (word.data[i] < '0' || word.data[i] > '9' || i == 9)
            reader->failed = true;
        else
            value = value * 10 + (word.data[i] - '0');
    }
    if (word.len == 0 || word.len > 9)
        reader->failed = true;
    return minus ? -value : value;
}

/* Takes what stands in quotes, without its escapes, into the text of the types. */
static struct slice schema_type_quoted(struct reader *reader, char quote)
{
    static const char letters[] = "bfrnt0", bytes[] = "\b\f\r\n\t";
    struct slice inside = {reader->types->text, 0};

    if (reader->at == reader->end || *reader->at != quote) {
        reader->failed = true;
        return inside;
    }
    for (reader->at++; reader->at < reader->end; reader->at++) {
        char byte = *reader->at;

        if (byte == quote) {
            /* A quote that is doubled stands for itself. */
            if (reader->at + 1 == reader->end || reader->at[1] != quote)
                break;
            reader->at++;
        } else if (byte == '\\' && reader->at + 1 < reader->end) {
            const char *known = NULL;

            byte = *++reader->at;
            if (byte != '\0')
                known = strchr(letters, byte);
            if (known != NULL)
                byte = bytes[known - letters];
            else if (schema_type_is_letter(byte))
                reader->failed = true; /* \x41, and whatever else there may be */
        }
        *reader->types->text++ = byte;
        inside.len++;
    }
    if (reader->at == reader->end)
        reader->failed = true;
    else
        reader->at++;
    return inside;
}

/* A new node; SCHEMA_TYPE_NONE: there is no room. */
static uint32_t schema_type_add(struct reader *reader, enum schema_kind kind)
{
    struct schema_types *types = reader->types;

    if (types->count == types->room) {
        const size_t room = types->room * 2 + 64;
        struct schema_type *list = reallocarray(types->list, room, sizeof(*list));

        if (list == NULL || types->count >= SCHEMA_TYPE_NODES_MAX) {
            types->list = list != NULL ? list : types->list;
            reader->full = reader->failed = true;
            return SCHEMA_TYPE_NONE;
        }
        types->list = list;
        types->room = room;
    }
    types->list[types->count] =
        (struct schema_type){.kind = kind, .first = SCHEMA_TYPE_NONE, .next = SCHEMA_TYPE_NONE};
    return (uint32_t)types->count++;
}

/* Skips what stands in the parentheses of a type that is not checked. */
static void schema_type_skip_arguments(struct reader *reader)
{
    size_t depth = 0;

    for (; reader->at < reader->end; reader->at++) {
        const char byte = *reader->at;

        if (byte == '\'' || byte == '`' || byte == '"') {
            char *const text = reader->types->text;

            (void)schema_type_quoted(reader, byte);
            reader->types->text = text;
            reader->at--;
        } else if (byte == '(') {
            depth++;
        } else if (byte == ')') {
            if (depth == 0)
                return;
            depth--;
        }
    }
}

static int schema_type_compare(const void *a, const void *b)
{
    const struct schema_element *one = a, *other = b;

    if (one->name.len != other->name.len)
        return one->name.len < other->name.len ? -1 : 1;
    return memcmp(one->name.data, other->name.data, one->name.len);
}

static bool schema_type_add_element(struct reader *reader, struct schema_element element)
{
    struct schema_types *types = reader->types;

    if (types->element_count == types->element_room) {
        const size_t room = types->element_room * 2 + 16;
        struct schema_element *elements = reallocarray(types->elements, room, sizeof(*elements));

        if (elements == NULL)
            return false;
        types->elements = elements;
        types->element_room = room;
    }
    types->elements[types->element_count++] = element;
    return true;
}

/* 'a' = 1, 'b' = 2: behind the parenthesis. */
static void schema_type_read_enum(struct reader *reader, uint32_t node)
{
    struct schema_types *types = reader->types;
    const size_t first = types->element_count;

    do {
        struct schema_element element;

        schema_type_skip_space(reader);
        element.name = schema_type_quoted(reader, '\'');
        schema_type_expect(reader, '=');
        element.value = schema_type_number(reader);
        if (reader->failed || types->element_count - first >= ELEMENTS_MAX ||
            !schema_type_add_element(reader, element)) {
            reader->failed = true;
            return;
        }
    } while (schema_type_take(reader, ','));
    types->list[node].first = (uint32_t)first;
    types->list[node].size = (uint32_t)(types->element_count - first);
    qsort(types->elements + first, types->element_count - first, sizeof(*types->elements),
          schema_type_compare);
}

static uint32_t schema_type_read_one(struct reader *reader);

/* Makes child the last of a node's children; *last is the one before, at first none. */
static void schema_type_append(struct reader *reader, uint32_t node, uint32_t *last, uint32_t child)
{
    struct schema_type *list = reader->types->list;

    if (*last == SCHEMA_TYPE_NONE)
        list[node].first = child;
    else
        list[*last].next = child;
    list[node].size++;
    *last = child;
}

/* The children of a node, behind the parenthesis. */
static void schema_type_read_children(struct reader *reader, uint32_t node)
{
    uint32_t last = SCHEMA_TYPE_NONE;

    do {
        const uint32_t child = schema_type_read_one(reader);

        if (reader->failed)
            return;
        schema_type_append(reader, node, &last, child);
    } while (schema_type_take(reader, ','));
}

/* The name of a tuple's element, if it has one. */
static struct slice schema_type_read_name(struct reader *reader)
{
    const char *const from = reader->at;
    struct slice word;

    if (from < reader->end && *from == '`') {
        word = schema_type_quoted(reader, '`');
        schema_type_skip_space(reader);
        return word;
    }
    word = schema_type_word(reader);
    if (word.len > 0 && reader->at < reader->end && *reader->at == ' ') {
        memcpy(reader->types->text, word.data, word.len);
        word.data = reader->types->text;
        reader->types->text += word.len;
        schema_type_skip_space(reader);
        return word;
    }
    reader->at = from;
    return (struct slice){"", 0};
}

static void schema_type_read_tuple(struct reader *reader, uint32_t node)
{
    uint32_t last = SCHEMA_TYPE_NONE;
    size_t named = 0;

    do {
        const struct slice name = schema_type_read_name(reader);
        const uint32_t child = reader->failed ? SCHEMA_TYPE_NONE : schema_type_read_one(reader);

        if (reader->failed)
            return;
        reader->types->list[child].name = name;
        named += name.len > 0;
        schema_type_append(reader, node, &last, child);
    } while (schema_type_take(reader, ','));
    if (named == reader->types->list[node].size)
        reader->types->list[node].kind = SCHEMA_NAMED_TUPLE;
    else if (named > 0)
        reader->failed = true;
}

/* An array of tuples, as with flatten_nested = 0. */
static void schema_type_read_nested(struct reader *reader, uint32_t node)
{
    const uint32_t child = schema_type_add(reader, SCHEMA_TUPLE);

    if (child == SCHEMA_TYPE_NONE)
        return;
    reader->types->list[node].kind = SCHEMA_ARRAY;
    reader->types->list[node].first = child;
    reader->types->list[node].size = 1;
    schema_type_read_tuple(reader, child);
}

/* One of several types, or null. */
static void schema_type_read_variant(struct reader *reader, uint32_t node)
{
    struct schema_type *list;

    reader->types->list[node].kind = SCHEMA_VARIANT;
    schema_type_read_children(reader, node);
    if (reader->failed)
        return;
    list = reader->types->list;
    list[node].nullable = true;
    for (uint32_t child = list[node].first; child != SCHEMA_TYPE_NONE; child = list[child].next)
        if (list[child].open || list[child].kind == SCHEMA_STRING)
            list[node].kind = SCHEMA_ANYTHING;
}

/* The time zone of a DateTime. */
static void schema_type_read_zone(struct reader *reader, uint32_t node)
{
    char *const text = reader->types->text;
    const struct slice zone = schema_type_quoted(reader, '\'');

    reader->types->text = text;
    reader->types->list[node].utc = schema_type_is(zone, "UTC");
}

/* Int8 to UInt256, Float32, BFloat16. False: it is none of these. */
static bool schema_type_read_plain(struct slice word, struct schema_type *type)
{
    static const struct {
        const char *name;
        enum schema_kind kind;
        uint16_t bits;
        bool is_signed;
    } known[] = {
        {"String", SCHEMA_STRING, 0, false},     {"Bool", SCHEMA_BOOL, 0, false},
        {"Int8", SCHEMA_INTEGER, 8, true},       {"UInt8", SCHEMA_INTEGER, 8, false},
        {"Int16", SCHEMA_INTEGER, 16, true},     {"UInt16", SCHEMA_INTEGER, 16, false},
        {"Int32", SCHEMA_INTEGER, 32, true},     {"UInt32", SCHEMA_INTEGER, 32, false},
        {"Int64", SCHEMA_INTEGER, 64, true},     {"UInt64", SCHEMA_INTEGER, 64, false},
        {"Int128", SCHEMA_INTEGER, 128, true},   {"UInt128", SCHEMA_INTEGER, 128, false},
        {"Int256", SCHEMA_INTEGER, 256, true},   {"UInt256", SCHEMA_INTEGER, 256, false},
        {"Float32", SCHEMA_FLOAT, 32, true},     {"Float64", SCHEMA_FLOAT, 64, true},
        {"BFloat16", SCHEMA_FLOAT, 16, true},    {"UUID", SCHEMA_UUID, 0, false},
        {"IPv4", SCHEMA_IPV4, 0, false},         {"IPv6", SCHEMA_IPV6, 0, false},
        {"Date", SCHEMA_DATE, 0, false},         {"Date32", SCHEMA_DATE32, 0, false},
        {"DateTime", SCHEMA_DATETIME, 0, false}, {"JSON", SCHEMA_JSON, 0, false},
        {"Time", SCHEMA_TIME, 0, true},
    };
    static const char interval[] = "Interval";

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (schema_type_is(word, known[i].name)) {
            type->kind = known[i].kind;
            type->bits = known[i].bits;
            type->is_signed = known[i].is_signed;
            return true;
        }
    /* IntervalSecond and the like are a number of them. */
    if (word.len > sizeof(interval) - 1 && memcmp(word.data, interval, sizeof(interval) - 1) == 0) {
        *type = (struct schema_type){.kind = SCHEMA_INTEGER,
                                     .bits = 64,
                                     .is_signed = true,
                                     .first = SCHEMA_TYPE_NONE,
                                     .next = SCHEMA_TYPE_NONE};
        return true;
    }
    return false;
}

/* Types that take arguments; the reader is behind the parenthesis. */
static void schema_type_read_arguments(struct reader *reader, struct slice word, uint32_t node)
{
    /* The list may move while children are read. */
    struct schema_types *types = reader->types;
    int32_t first, second;

    if (schema_type_is(word, "FixedString")) {
        first = schema_type_number(reader);
        types->list[node].kind = SCHEMA_FIXED_STRING;
        types->list[node].size = first > 0 ? (uint32_t)first : 0;
    } else if (schema_type_is(word, "Decimal")) {
        first = schema_type_number(reader);
        schema_type_expect(reader, ',');
        second = schema_type_number(reader);
        if (first <= 0 || first > 76 || second < 0 || second > first)
            reader->failed = true;
        types->list[node].kind = SCHEMA_DECIMAL;
        types->list[node].precision = (uint8_t)first;
        types->list[node].scale = (uint8_t)second;
    } else if (schema_type_is(word, "DateTime64") || schema_type_is(word, "Time64")) {
        first = schema_type_number(reader);
        if (first < 0 || first > 9)
            reader->failed = true;
        types->list[node].kind = word.len > 6 ? SCHEMA_DATETIME64 : SCHEMA_TIME64;
        types->list[node].scale = (uint8_t)first;
        if (schema_type_take(reader, ','))
            schema_type_read_zone(reader, node);
    } else if (schema_type_is(word, "DateTime")) {
        schema_type_read_zone(reader, node);
    } else if (schema_type_is(word, "Enum8") || schema_type_is(word, "Enum16")) {
        types->list[node].kind = SCHEMA_ENUM;
        types->list[node].bits = schema_type_is(word, "Enum8") ? 8 : 16;
        types->list[node].is_signed = true;
        schema_type_read_enum(reader, node);
    } else if (schema_type_is(word, "Array") || schema_type_is(word, "Map")) {
        types->list[node].kind = word.len == 3 ? SCHEMA_MAP : SCHEMA_ARRAY;
        schema_type_read_children(reader, node);
        if (types->list[node].size != (word.len == 3 ? 2 : 1))
            reader->failed = true;
    } else if (schema_type_is(word, "Tuple")) {
        types->list[node].kind = SCHEMA_TUPLE;
        schema_type_read_tuple(reader, node);
    } else if (schema_type_is(word, "Nested")) {
        schema_type_read_nested(reader, node);
    } else if (schema_type_is(word, "Variant")) {
        schema_type_read_variant(reader, node);
    } else {
        if (!schema_type_is(word, "JSON"))
            types->list[node].kind = SCHEMA_ANYTHING;
        schema_type_skip_arguments(reader);
    }
}

/* Nullable and LowCardinality have no node of their own. */
static uint32_t schema_type_read_wrapped(struct reader *reader, bool nullable)
{
    const uint32_t inner = schema_type_read_one(reader);

    if (!reader->failed && nullable)
        reader->types->list[inner].nullable = true;
    schema_type_expect(reader, ')');
    return inner;
}

/* The type behind the function of a SimpleAggregateFunction. */
static uint32_t schema_type_read_aggregated(struct reader *reader)
{
    uint32_t inner;

    if (schema_type_word(reader).len == 0)
        reader->failed = true;
    if (schema_type_take(reader, '(')) {
        schema_type_skip_arguments(reader);
        schema_type_expect(reader, ')');
    }
    schema_type_expect(reader, ',');
    inner = reader->failed ? SCHEMA_TYPE_NONE : schema_type_read_one(reader);
    schema_type_expect(reader, ')');
    return inner;
}

/* Types that are another name for others; NONE: the word is no such name. */
static uint32_t schema_type_read_alias(struct reader *reader, struct slice word)
{
    static const struct {
        const char *name;
        const char *type;
    } known[] = {
        {"Point", "Tuple(Float64, Float64)"}, {"Ring", "Array(Point)"},
        {"LineString", "Array(Point)"},       {"Polygon", "Array(Ring)"},
        {"MultiPolygon", "Array(Polygon)"},   {"MultiLineString", "Array(LineString)"},
    };

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (schema_type_is(word, known[i].name)) {
            struct reader inner = *reader;
            uint32_t node;

            inner.at = known[i].type;
            inner.end = known[i].type + strlen(known[i].type);
            node = schema_type_read_one(&inner);
            reader->failed = reader->failed || inner.failed;
            reader->full = reader->full || inner.full;
            return node;
        }
    return SCHEMA_TYPE_NONE;
}

static uint32_t schema_type_read_one(struct reader *reader)
{
    const struct slice word = schema_type_word(reader);
    uint32_t node = SCHEMA_TYPE_NONE;
    struct schema_type *type;

    if (word.len == 0 || reader->depth == SCHEMA_TYPE_DEPTH_MAX) {
        reader->failed = true;
        return node;
    }
    reader->depth++;
    if ((schema_type_is(word, "Nullable") || schema_type_is(word, "LowCardinality")) &&
        schema_type_take(reader, '(')) {
        node = schema_type_read_wrapped(reader, word.data[0] == 'N');
    } else if (schema_type_is(word, "SimpleAggregateFunction") && schema_type_take(reader, '(')) {
        node = schema_type_read_aggregated(reader);
    } else if ((node = schema_type_read_alias(reader, word)) == SCHEMA_TYPE_NONE &&
               (node = schema_type_add(reader, SCHEMA_ANYTHING)) != SCHEMA_TYPE_NONE) {
        (void)schema_type_read_plain(word, &reader->types->list[node]);
        if (schema_type_take(reader, '(')) {
            schema_type_read_arguments(reader, word, node);
            schema_type_expect(reader, ')');
        }
    }
    reader->depth--;
    if (reader->failed)
        return SCHEMA_TYPE_NONE;
    type = &reader->types->list[node];
    type->open = type->kind == SCHEMA_ANYTHING || (type->kind == SCHEMA_STRING && type->nullable);
    return node;
}

uint32_t schema_type_read(struct schema_types *types, struct slice text)
{
    struct reader reader = {.types = types, .at = text.data, .end = text.data + text.len};
    const size_t count = types->count, elements = types->element_count;
    char *const names = types->text;
    uint32_t node = schema_type_read_one(&reader);

    if (!reader.failed && reader.at == reader.end)
        return node;
    types->count = count;
    types->element_count = elements;
    types->text = names;
    if (reader.full)
        return SCHEMA_TYPE_NONE;
    reader.failed = false;
    node = schema_type_add(&reader, SCHEMA_ANYTHING);
    if (node != SCHEMA_TYPE_NONE)
        types->list[node].open = true;
    return node;
}

void schema_types_free(struct schema_types *types)
{
    free(types->list);
    free(types->elements);
}
