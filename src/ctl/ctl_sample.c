/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_sample.c - what sample events hold: for each member of their objects the kinds and ranges of
 * its values.
 *
 * jansson says whether a line is JSON; then its text is walked through as it stands, since a parsed
 * number has lost what tells 1.0 from 1, and 2^64 from its neighbor. Memory is bounded: one line,
 * and a fixed size for each column, of which there are at most 1000.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_sample.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "alloy/members.h"
#include "alloy/text.h"
#include "ctl_form.h"

#define LINE_MAX_BYTES ((size_t)16 << 20)
#define PROBLEMS_TOLD 10
#define HASH_SLOTS 1024 /* a power of two, above CTL_SAMPLE_DISTINCT_MAX */
#define DEPTH_MAX 64    /* what alloyd takes */
#define TEXT_ROOM 256   /* a longer text has none of the forms */

_Static_assert(HASH_SLOTS > CTL_SAMPLE_DISTINCT_MAX + 1, "there is a free slot");

static enum ctl_kind ctl_sample_kind(struct slice value)
{
    switch (value.data[0]) {
    case 'n':
        return CTL_KIND_NULL;
    case 't':
    case 'f':
        return CTL_KIND_BOOL;
    case '"':
        return CTL_KIND_TEXT;
    case '[':
        return CTL_KIND_ARRAY;
    case '{':
        return CTL_KIND_OBJECT;
    default:
        for (size_t i = 0; i < value.len; i++)
            if (value.data[i] == '.' || value.data[i] == 'e' || value.data[i] == 'E')
                return CTL_KIND_FLOAT;
        return CTL_KIND_INTEGER;
    }
}

static void ctl_sample_integer(struct ctl_seen *seen, struct slice value)
{
    const bool negative = value.data[0] == '-';
    uint64_t number = 0;

    for (size_t i = negative; i < value.len; i++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(value.data[i] - '0'), &number))
            number = UINT64_MAX;
    seen->negative |= negative;
    if (number > seen->magnitude)
        seen->magnitude = number;
    if (value.len - negative > seen->digits)
        seen->digits = value.len - negative;
}

static void ctl_sample_text(struct ctl_seen *seen, struct slice value)
{
    const struct slice inside = {value.data + 1, value.len - 2};
    char text[TEXT_ROOM];
    unsigned fraction = 0;
    unsigned forms = 0;
    size_t len = members_decode(inside, text, sizeof(text));

    if (len < sizeof(text) && strlen(text) == len)
        forms = ctl_form(text, &fraction);
    seen->forms = seen->kinds[CTL_KIND_TEXT] == 1 ? forms : seen->forms & forms;
    if (fraction > seen->fraction)
        seen->fraction = fraction;
    if (inside.len > seen->longest)
        seen->longest = inside.len;
}

static enum ctl_kind ctl_sample_value(struct ctl_seen *seen, struct slice value)
{
    const enum ctl_kind kind = ctl_sample_kind(value);

    seen->kinds[kind]++;
    if (kind == CTL_KIND_INTEGER)
        ctl_sample_integer(seen, value);
    else if (kind == CTL_KIND_TEXT)
        ctl_sample_text(seen, value);
    return kind;
}

/* Notes a text among the different ones. False: out of memory. */
static bool ctl_sample_distinct(struct ctl_column *column, struct slice value)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    size_t slot;

    if (column->distinct > CTL_SAMPLE_DISTINCT_MAX)
        return true;
    if (column->hashes == NULL)
        column->hashes = calloc(HASH_SLOTS, sizeof(column->hashes[0]));
    if (column->hashes == NULL)
        return false;
    for (size_t i = 0; i < value.len; i++)
        hash = (hash ^ (unsigned char)value.data[i]) * UINT64_C(1099511628211);
    hash += hash == 0; /* 0 is a free slot */
    for (slot = hash % HASH_SLOTS; column->hashes[slot] != 0; slot = (slot + 1) % HASH_SLOTS)
        if (column->hashes[slot] == hash)
            return true;
    column->hashes[slot] = hash;
    column->distinct++;
    return true;
}

/* Why a value inside an object would come back changed from a column of type JSON; NULL: it would
 * not. Of depth levels at most. */
static const char *ctl_sample_not_json(struct slice value, unsigned depth)
{
    const enum ctl_kind kind = ctl_sample_kind(value);
    const char *why = NULL;
    struct members members;
    struct slice name, inner;
    bool any = false;

    if (depth == 0)
        return "is nested too deep";
    if (kind == CTL_KIND_TEXT)
        return ctl_form_is_time_like((struct slice){value.data + 1, value.len - 2})
                   ? "has times that JSON would write in another form"
                   : NULL;
    if (kind == CTL_KIND_INTEGER)
        return value.len > 19 ? "has integers that are too large" : NULL;
    if (kind != CTL_KIND_ARRAY && kind != CTL_KIND_OBJECT)
        return NULL;
    members_open(&members, value);
    while (why == NULL && (kind == CTL_KIND_ARRAY ? members_next_element(&members, &inner)
                                                  : members_next(&members, &name, &inner))) {
        any = true;
        if (kind == CTL_KIND_OBJECT && memchr(name.data, '.', name.len) != NULL)
            why = "has names with dots";
        else if (inner.data[0] == 'n')
            why = "has null, which JSON drops";
        else
            why = ctl_sample_not_json(inner, depth - 1);
    }
    if (!any && kind == CTL_KIND_OBJECT)
        why = "has empty objects, which JSON drops";
    return why;
}

static void ctl_sample_inside(struct ctl_column *column, struct slice value, enum ctl_kind kind)
{
    struct members members;
    struct slice name, inner;

    members_open(&members, value);
    while (kind == CTL_KIND_ARRAY ? members_next_element(&members, &inner)
                                  : members_next(&members, &name, &inner)) {
        (void)ctl_sample_value(&column->inside, inner);
        if (kind == CTL_KIND_ARRAY || column->not_json != NULL)
            continue;
        if (memchr(name.data, '.', name.len) != NULL)
            column->not_json = "has names with dots";
        else if (inner.data[0] == 'n')
            column->not_json = "has null, which JSON drops";
        else
            column->not_json = ctl_sample_not_json(inner, DEPTH_MAX);
    }
}

/* The column of a name, made if there is none yet. NULL: it can be none, or there is no memory. */
static struct ctl_column *ctl_sample_column(struct ctl_sample *sample, const char *name)
{
    struct ctl_column *column;

    /* Events are alike: the next name is nearly always that of the next column. */
    for (size_t i = 0; i < sample->count; i++) {
        column = &sample->columns[(sample->next + i) % sample->count];
        if (strcmp(column->name, name) != 0)
            continue;
        sample->next = (size_t)(column - sample->columns) + 1;
        return column;
    }
    if (sample->count == CTL_SAMPLE_COLUMNS_MAX)
        return NULL;
    if (sample->columns == NULL)
        sample->columns = calloc(CTL_SAMPLE_COLUMNS_MAX, sizeof(sample->columns[0]));
    if (sample->columns == NULL)
        return NULL;
    column = &sample->columns[sample->count];
    column->name = strdup(name);
    sample->count += column->name != NULL;
    return column->name != NULL ? column : NULL;
}

const struct ctl_column *ctl_sample_find(const struct ctl_sample *sample, const char *name)
{
    for (size_t i = 0; i < sample->count; i++)
        if (strcmp(sample->columns[i].name, name) == 0)
            return &sample->columns[i];
    return NULL;
}

/* Takes in one event. False: out of memory. */
static bool ctl_sample_event(struct ctl_sample *sample, struct slice event)
{
    char name[CTL_SAMPLE_NAME_MAX + 1];
    struct members members;
    struct slice key, value;

    sample->events++;
    members_open(&members, event);
    while (members_next(&members, &key, &value)) {
        const size_t len = members_decode(key, name, sizeof(name));
        struct ctl_column *column = NULL;
        enum ctl_kind kind;

        if (len > 0 && len < sizeof(name) && strlen(name) == len)
            column = ctl_sample_column(sample, name);
        if (column == NULL) {
            sample->dropped++;
            continue;
        }
        column->events++;
        kind = ctl_sample_value(&column->seen, value);
        if (kind == CTL_KIND_TEXT && !ctl_sample_distinct(column, value))
            return false;
        if (kind == CTL_KIND_ARRAY || kind == CTL_KIND_OBJECT)
            ctl_sample_inside(column, value, kind);
    }
    return true;
}

static void ctl_sample_tell(struct ctl_sample *sample, const char *place, const char *why)
{
    if (sample->bad++ < PROBLEMS_TOLD)
        fprintf(stderr, "alloyctl: %s: skipped: %s\n", place, why);
    else if (sample->bad == PROBLEMS_TOLD + 1)
        fputs("alloyctl: more lines are skipped, and only counted\n", stderr);
}

/* NULL: the line is an event, or an array of them. */
static const char *ctl_sample_check(struct slice line, json_error_t *error)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_t *value = json_loadb(line.data, line.len, flags, error);
    const char *why = NULL;
    json_t *event;
    size_t i;

    /* Of an integer beyond 64 bits jansson has no other way to say that it is one. */
    if (value == NULL && json_error_code(error) == json_error_numeric_overflow)
        value = json_loadb(line.data, line.len, flags | JSON_DECODE_INT_AS_REAL, error);
    if (value == NULL)
        return error->text;
    if (json_is_array(value)) {
        json_array_foreach(value, i, event) if (!json_is_object(event)) why =
            "an event is no JSON object";
    } else if (!json_is_object(value)) {
        why = "it is no JSON object";
    }
    json_decref(value);
    return why;
}

bool ctl_sample_line(struct ctl_sample *sample, const char *place, struct slice line)
{
    json_error_t error;
    struct members members;
    struct slice event;
    const char *why;

    while (line.len > 0 && strchr(" \t\r\n", line.data[0]) != NULL)
        line = (struct slice){line.data + 1, line.len - 1};
    while (line.len > 0 && strchr(" \t\r\n", line.data[line.len - 1]) != NULL)
        line.len--;
    if (line.len == 0)
        return true;
    why = ctl_sample_check(line, &error);
    if (why != NULL) {
        ctl_sample_tell(sample, place, why);
        return true;
    }
    if (line.data[0] == '{')
        return ctl_sample_event(sample, line);
    members_open(&members, line);
    while (members_next_element(&members, &event))
        if (!ctl_sample_event(sample, event))
            return false;
    return true;
}

/* Reads a line of up to LINE_MAX_BYTES, and the rest of a longer one, which has a length of one
 * more. -1: there is none. */
static ssize_t ctl_sample_get_line(FILE *file, char *line)
{
    size_t len = 0;
    int c = getc_unlocked(file);

    if (c == EOF)
        return -1;
    for (; c != EOF && c != '\n'; c = getc_unlocked(file)) {
        if (len < LINE_MAX_BYTES)
            line[len] = (char)c;
        len += len <= LINE_MAX_BYTES;
    }
    return (ssize_t)len;
}

bool ctl_sample_read(struct ctl_sample *sample, FILE *file, const char *name)
{
    char *line = malloc(LINE_MAX_BYTES);
    char place[512];
    bool right = line != NULL;
    ssize_t len;

    for (uint64_t number = 1; right && (len = ctl_sample_get_line(file, line)) >= 0; number++) {
        const size_t bom = number == 1 && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

        snprintf(place, sizeof(place), "%s:%" PRIu64, name, number);
        if ((size_t)len > LINE_MAX_BYTES)
            ctl_sample_tell(sample, place, "the line is longer than 16 MiB");
        else
            right = ctl_sample_line(sample, place, (struct slice){line + bom, (size_t)len - bom});
    }
    free(line);
    if (!right)
        fputs("alloyctl: out of memory\n", stderr);
    if (!ferror(file))
        return right;
    fprintf(stderr, "alloyctl: %s: %s\n", name, strerror(errno));
    return false;
}

void ctl_sample_fini(struct ctl_sample *sample)
{
    for (size_t i = 0; i < sample->count; i++) {
        free(sample->columns[i].name);
        free(sample->columns[i].hashes);
    }
    free(sample->columns);
}
