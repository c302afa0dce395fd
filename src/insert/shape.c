/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shape.c - what an event looks like, as a number.
 *
 * Too fine a shape is as useless as too coarse a one: if each event had its own, the rows like the
 * bad one would be the bad one. So a string without letters (a time, an address, a number in
 * quotes) is known by its runs of digits and the bytes between them, but of a string with letters
 * only the set of its bytes that are neither letters nor digits is kept, and of prose not even
 * that.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "shape.h"

#include <stdbool.h>
#include <string.h>

#define RUNS_MAX 16 /* of a string, that count; a string with letters and more runs is prose */

struct cursor {
    const char *at;
    const char *end;
};

/* What stands in a string. */
struct classes {
    char runs[RUNS_MAX]; /* '9' for digits, else the byte itself */
    size_t run_count;
    uint64_t others[2]; /* ASCII bytes that are neither letters nor digits, a bit each */
    bool letters;
    bool digits;
    bool joined; /* letters and digits without anything between them, as ids have */
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

static void shape_skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' ||
                                        *cursor->at == '\r' || *cursor->at == '\n'))
        cursor->at++;
}

/* The byte that comes next, behind white space; '\0': the end. */
static char shape_peek(struct cursor *cursor)
{
    shape_skip_space(cursor);
    return cursor->at < cursor->end ? *cursor->at : '\0';
}

/* Takes a string, of which the cursor is at the quote. Returns its inside. */
static struct slice shape_take_string(struct cursor *cursor)
{
    const char *from = ++cursor->at;
    struct slice inside;

    while (cursor->at < cursor->end && *cursor->at != '"')
        cursor->at += *cursor->at == '\\' && cursor->end - cursor->at > 1 ? 2 : 1;
    inside = (struct slice){from, (size_t)(cursor->at - from)};
    if (cursor->at < cursor->end)
        cursor->at++;
    return inside;
}

/* Takes the rest of an object or array, whose first bracket is behind us. */
static void shape_skip_nested(struct cursor *cursor)
{
    size_t depth = 1;

    while (cursor->at < cursor->end && depth > 0) {
        const char byte = *cursor->at;

        if (byte == '"') {
            (void)shape_take_string(cursor);
            continue;
        }
        cursor->at++;
        if (byte == '{' || byte == '[')
            depth++;
        else if (byte == '}' || byte == ']')
            depth--;
    }
}

static void shape_add_run(struct classes *classes, char class)
{
    /* One more than is kept, so that more can be told. */
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
        /* Digits that stand alone between letters come and go in ids. */
        shape_put(hash, classes.digits && !classes.joined);
        shape_put_bytes(hash, classes.others, sizeof(classes.others));
    }
    shape_put(hash, '"');
}

/* Puts how many digits a number has before its point, roughly: types end at 3, 5, 10 and 19 or 20.
 */
static void shape_put_digits(uint64_t *hash, size_t digits)
{
    static const size_t ends[] = {2, 3, 5, 10, 19};
    size_t i = 0;

    while (i < ARRAY_LEN(ends) && digits > ends[i])
        i++;
    shape_put(hash, (unsigned char)('0' + i));
}

/* Takes a number, true, false, null, or what else stands there, which ends at a comma, a closing
 * bracket or white space. length: whether that of a number counts. */
static void shape_put_word(uint64_t *hash, struct cursor *cursor, bool length)
{
    const char *from = cursor->at;
    size_t digits = 0;
    bool point = false, exponent = false;

    while (cursor->at < cursor->end && memchr(",]} \t\r\n", *cursor->at, 7) == NULL) {
        digits += shape_is_digit(*cursor->at) && !point && !exponent;
        point |= *cursor->at == '.';
        exponent |= *cursor->at == 'e' || *cursor->at == 'E';
        cursor->at++;
    }
    if (cursor->at == from)
        return;
    if (*from != '-' && !shape_is_digit(*from)) {
        shape_put(hash, (unsigned char)*from); /* t, f, n */
        return;
    }
    shape_put(hash, *from == '-' ? '-' : '+');
    shape_put(hash, (unsigned char)('0' + point + 2 * exponent));
    if (length)
        shape_put_digits(hash, digits);
}

/* Puts the kind of a value that lies in another, and takes it. */
static void shape_put_kind(uint64_t *hash, struct cursor *cursor)
{
    const char byte = shape_peek(cursor);

    if (byte == '"') {
        shape_put(hash, shape_take_string(cursor).len == 0 ? '\'' : '"');
    } else if (byte == '{' || byte == '[') {
        shape_put(hash, (unsigned char)byte);
        cursor->at++;
        shape_skip_nested(cursor);
    } else {
        shape_put_word(hash, cursor, false);
    }
}

/* Puts the name of a member. Inside a value, names with digits are often ids. */
static void shape_put_key(uint64_t *hash, struct slice key, bool nested)
{
    struct classes classes = {.run_count = 0};

    shape_put(hash, 'k');
    if (nested)
        shape_classify(key, &classes);
    if (classes.digits)
        shape_put_string(hash, key);
    else
        shape_put_bytes(hash, key.data, key.len);
    shape_put(hash, ':');
}

/* Takes a key and the colon behind it. False: the object ends here. */
static bool shape_take_key(struct cursor *cursor, struct slice *key)
{
    if (shape_peek(cursor) == ',')
        cursor->at++;
    if (shape_peek(cursor) != '"')
        return false;
    *key = shape_take_string(cursor);
    if (shape_peek(cursor) == ':')
        cursor->at++;
    return true;
}

static void shape_put_value(uint64_t *hash, struct cursor *cursor)
{
    const char byte = shape_peek(cursor);
    struct slice key;

    if (byte == '"') {
        shape_put_string(hash, shape_take_string(cursor));
    } else if (byte == '[') {
        shape_put(hash, '[');
        cursor->at++;
        shape_put_kind(hash, cursor);
        shape_skip_nested(cursor);
    } else if (byte == '{') {
        shape_put(hash, '{');
        cursor->at++;
        while (shape_take_key(cursor, &key)) {
            shape_put_key(hash, key, true);
            shape_put_kind(hash, cursor);
        }
        shape_skip_nested(cursor);
        shape_put(hash, '}');
    } else {
        shape_put_word(hash, cursor, true);
    }
}

uint64_t shape_of(struct slice event)
{
    struct cursor cursor = {event.data, event.data + event.len};
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    struct slice key;

    if (event.len == 0)
        return hash;
    if (shape_peek(&cursor) == '{')
        cursor.at++;
    while (shape_take_key(&cursor, &key)) {
        shape_put_key(&hash, key, false);
        shape_put_value(&hash, &cursor);
    }
    return hash;
}
