/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shape.c - computes an event's shape, a number for what it looks like.
 *
 * Too fine a shape is as useless as too coarse a one: if each event had its own, only the bad row
 * itself would be like the bad row. So a string without letters (a time, an address, a number in
 * quotes) counts with its runs of digits and the bytes between them; a string with letters counts
 * only with the set of its bytes that are neither letters nor digits, and prose not even with that.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "shape.h"

#include <stdbool.h>
#include <string.h>

#include "alloy/members.h"

#define RUNS_MAX 16 /* runs of a string that count; with letters and more runs it is prose */

/* What a string consists of. */
struct classes {
    char runs[RUNS_MAX]; /* '9' for digits, else the byte itself */
    size_t run_count;
    uint64_t others[2]; /* a bit for each ASCII byte that is neither letter nor digit */
    bool letters;
    bool digits;
    bool joined; /* letters and digits next to each other, as in ids */
    bool beyond_ascii;
    bool escapes;
};

/* FNV-1a. */
static void shape_put(uint64_t *hash, unsigned char byte)
{
    *hash = (*hash ^ byte) * UINT64_C(0x100000001b3);
}

static void shape_put_bytes(uint64_t *hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < len; i++)
        shape_put(hash, bytes[i]);
}

static bool shape_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool shape_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void shape_add_run(struct classes *classes, char class)
{
    /* Count one more than we keep, so that we notice when there are more. */
    if (classes->run_count > RUNS_MAX ||
        (classes->run_count > 0 && classes->run_count <= RUNS_MAX &&
         classes->runs[classes->run_count - 1] == class))
        return;
    if (classes->run_count < RUNS_MAX)
        classes->runs[classes->run_count] = class;
    classes->run_count++;
}

static void shape_classify(struct slice text, struct classes *classes)
{
    char before = '\0';

    for (size_t i = 0; i < text.len; i++) {
        const char byte = text.data[i];
        char class;

        if (byte == '\\') {
            classes->escapes = true;
            class = byte;
            i++;
        } else if (shape_is_digit(byte)) {
            classes->digits = true;
            class = '9';
        } else if (shape_is_letter(byte)) {
            classes->letters = true;
            class = 'a';
        } else if ((unsigned char)byte >= 0x80) {
            classes->letters = classes->beyond_ascii = true;
            class = 'u';
        } else {
            classes->others[byte / 64] |= UINT64_C(1) << byte % 64;
            class = byte;
        }
        classes->joined |= (class == '9' && before == 'a') || (class == 'a' && before == '9');
        shape_add_run(classes, class);
        before = class;
    }
}

static void shape_put_string(uint64_t *hash, struct slice text)
{
    struct classes classes = {.run_count = 0};

    shape_put(hash, '"');
    shape_classify(text, &classes);
    shape_put(hash, (unsigned char)(classes.letters | classes.joined << 1 |
                                    classes.beyond_ascii << 2 | classes.escapes << 3));
    if (!classes.letters) {
        shape_put_bytes(hash, classes.runs,
                        classes.run_count < RUNS_MAX ? classes.run_count : RUNS_MAX);
    } else if (classes.joined || classes.run_count <= RUNS_MAX) {
        /* Digits count only apart from letters: ids have them or not at random. */
        shape_put(hash, classes.digits && !classes.joined);
        shape_put_bytes(hash, classes.others, sizeof(classes.others));
    }
    shape_put(hash, '"');
}

/* Puts roughly how many digits a number has before its point: integer types end at 3, 5, 10 and 19
 * or 20 digits. */
static void shape_put_digits(uint64_t *hash, size_t digits)
{
    static const size_t ends[] = {2, 3, 5, 10, 19};
    size_t i = 0;

    while (i < ARRAY_LEN(ends) && digits > ends[i])
        i++;
    shape_put(hash, (unsigned char)('0' + i));
}

/* A number, true, false, null, or whatever else is there. length: whether a number's length
 * counts. */
static void shape_put_word(uint64_t *hash, struct slice word, bool length)
{
    size_t digits = 0;
    bool point = false, exponent = false;

    if (word.data[0] != '-' && !shape_is_digit(word.data[0])) {
        shape_put(hash, (unsigned char)word.data[0]); /* t, f, n */
        return;
    }
    for (size_t i = 0; i < word.len; i++) {
        digits += shape_is_digit(word.data[i]) && !point && !exponent;
        point |= word.data[i] == '.';
        exponent |= word.data[i] == 'e' || word.data[i] == 'E';
    }
    shape_put(hash, word.data[0] == '-' ? '-' : '+');
    shape_put(hash, (unsigned char)('0' + point + 2 * exponent));
    if (length)
        shape_put_digits(hash, digits);
}

/* The inside of a string's quotes. */
static struct slice shape_inside(struct slice string)
{
    const bool closed = string.len > 1 && string.data[string.len - 1] == '"';

    return (struct slice){string.data + 1, string.len - 1 - closed};
}

/* The kind of a value that is inside another. */
static void shape_put_kind(uint64_t *hash, struct slice value)
{
    if (value.data[0] == '"')
        shape_put(hash, shape_inside(value).len == 0 ? '\'' : '"');
    else if (value.data[0] == '{' || value.data[0] == '[')
        shape_put(hash, (unsigned char)value.data[0]);
    else
        shape_put_word(hash, value, false);
}

/* The name of a member. Inside a value, names with digits are often ids: they count only as strings
 * do. */
static void shape_put_name(uint64_t *hash, struct slice name, bool nested)
{
    struct classes classes = {.run_count = 0};

    shape_put(hash, 'k');
    if (nested)
        shape_classify(name, &classes);
    if (classes.digits)
        shape_put_string(hash, name);
    else
        shape_put_bytes(hash, name.data, name.len);
    shape_put(hash, ':');
}

static void shape_put_value(uint64_t *hash, struct slice value)
{
    struct members inside;
    struct slice name, nested;

    if (value.data[0] == '"') {
        shape_put_string(hash, shape_inside(value));
        return;
    }
    if (value.data[0] != '{' && value.data[0] != '[') {
        shape_put_word(hash, value, true);
        return;
    }
    shape_put(hash, (unsigned char)value.data[0]);
    members_open(&inside, value);
    if (value.data[0] == '[') {
        if (members_next_element(&inside, &nested))
            shape_put_kind(hash, nested);
        return;
    }
    while (members_next(&inside, &name, &nested)) {
        shape_put_name(hash, name, true);
        shape_put_kind(hash, nested);
    }
    shape_put(hash, '}');
}

uint64_t shape_of(struct slice event)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    struct members members;
    struct slice name, value;

    members_open(&members, event);
    while (members_next(&members, &name, &value)) {
        shape_put_name(&hash, name, false);
        shape_put_value(&hash, value);
    }
    return hash;
}
