/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_random.h - makes bodies of random events, and damages a few of their bytes.
 *
 * put_body() makes a body from made.state, which the caller seeds: valid, except perhaps for its
 * ids and depth. mutate_body() damages it.
 */
#ifndef ALLOY_TEST_JSON_RANDOM_H
#define ALLOY_TEST_JSON_RANDOM_H

#include "alloy/base.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define RANDOM_BODY_MAX 65536

struct random_body {
    uint64_t state; /* xorshift64*, never 0 */
    char text[RANDOM_BODY_MAX];
    size_t len;
};

static struct random_body made;

static unsigned below(unsigned bound)
{
    made.state ^= made.state >> 12;
    made.state ^= made.state << 25;
    made.state ^= made.state >> 27;
    return (unsigned)((made.state * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % bound;
}

static void put(const char *text)
{
    const size_t len = strlen(text);

    memcpy(made.text + made.len, text, len);
    made.len += len;
}

static void put_space(void)
{
    static const char *const spaces[] = {" ", "\n", "\t", "\r\n", "    "};

    if (below(8) == 0)
        put(spaces[below(ARRAY_LEN(spaces))]);
}

static void put_utf8(unsigned code)
{
    char *at = made.text + made.len;

    if (code < 0x800) {
        made.len += 2;
        at[0] = (char)(0xC0 | code >> 6);
    } else if (code < 0x10000) {
        made.len += 3;
        at[0] = (char)(0xE0 | code >> 12);
        at[1] = (char)(0x80 | (code >> 6 & 0x3F));
    } else {
        made.len += 4;
        at[0] = (char)(0xF0 | code >> 18);
        at[1] = (char)(0x80 | (code >> 12 & 0x3F));
        at[2] = (char)(0x80 | (code >> 6 & 0x3F));
    }
    made.text[made.len - 1] = (char)(0x80 | (code & 0x3F));
}

static void put_escape(unsigned code)
{
    char text[16];

    if (code < 0x10000)
        sprintf(text, below(2) ? "\\u%04x" : "\\u%04X", code);
    else
        sprintf(text, "\\u%04x\\u%04X", 0xD800 + ((code - 0x10000) >> 10),
                0xDC00 + ((code - 0x10000) & 0x3FF));
    put(text);
}

static void put_string(unsigned chars_max)
{
    static const char *const escapes[] = {"\\n", "\\\"", "\\\\", "\\/", "\\b", "\\f", "\\r", "\\t"};
    static const unsigned bounds[] = {0x800, 0x10000, 0x110000};

    put("\"");
    for (unsigned left = below(chars_max + 1); left > 0; left--) {
        const unsigned kind = below(32);
        unsigned code = below(bounds[below(3)]);

        if (code >= 0xD800 && code <= 0xDFFF)
            code -= 0x800;
        if (kind == 0)
            put(escapes[below(ARRAY_LEN(escapes))]);
        else if (kind == 1)
            put_escape(code);
        else if (kind <= 3)
            put_utf8(code < 0x80 ? code + 0x80 : code);
        else
            put((char[]){(char)("abcdefghijklmnopqrstuvwxyz 0:{}[],"[below(34)]), '\0'});
    }
    put("\"");
}

static void put_number(void)
{
    char text[64];
    int len = sprintf(text, "%s%u", below(3) == 0 ? "-" : "", below(4) == 0 ? 0 : below(1000000));

    if (below(3) == 0)
        len += sprintf(text + len, ".%u", below(1000));
    if (below(4) == 0)
        sprintf(text + len, "%c%s%u", below(2) ? 'e' : 'E',
                ((const char *const[]){"+", "-", ""})[below(3)], below(20));
    put(text);
}

static void put_value(unsigned depth)
{
    const unsigned kind = below(depth < 5 ? 9 : 6);

    put_space();
    if (kind <= 1) {
        put_string(40);
    } else if (kind <= 3) {
        put_number();
    } else if (kind <= 5) {
        put(((const char *const[]){"true", "false", "null"})[below(3)]);
    } else if (kind <= 7) {
        put(kind == 6 ? "[" : "{");
        put_space();
        for (unsigned i = 0, count = below(4); i < count; i++) {
            put(i > 0 ? "," : "");
            if (kind == 7) {
                put_string(12);
                put_space();
                put(":");
            }
            put_value(depth + 1);
        }
        put(kind == 6 ? "]" : "}");
    } else {
        const unsigned levels = below(6) == 0 ? 55 + below(12) : below(6);

        for (unsigned i = 0; i < levels; i++)
            put("[");
        for (unsigned i = 0; i < levels; i++)
            put("]");
        put(levels == 0 ? "0" : "");
    }
    put_space();
}

static void put_event(void)
{
    const unsigned count = below(6);
    const unsigned id_at = below(24) == 0 ? count + 1 : below(count + 1);

    put("{");
    put_space();
    for (unsigned i = 0; i <= count; i++) {
        put(i > 0 ? "," : "");
        put_space();
        if (i != id_at) {
            put_string(12);
        } else if (below(4) > 0) {
            put("\"event_id\"");
        } else {
            put("\"");
            for (const char *at = "event_id"; *at != '\0'; at++) {
                if (below(2))
                    put_escape((unsigned char)*at);
                else
                    put((char[]){*at, '\0'});
            }
            put("\"");
        }
        put_space();
        put(":");
        if (i != id_at || below(24) == 0)
            put_value(1);
        else if (below(3) == 0)
            put(((const char *const[]){"-0", "0", "42", "-7"})[below(4)]);
        else
            put_string(below(16) == 0 ? 280 : 30);
    }
    put("}");
}

static void put_body(void)
{
    const bool array = below(2);
    const unsigned count = below(16) == 0 ? 0 : 1 + below(3);

    made.len = 0;
    put_space();
    put(array ? "[" : "");
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            put(array ? "," : ((const char *const[]){"\n", " ", "\r\n"})[below(3)]);
        put_space();
        put_event();
        put_space();
    }
    put(array ? "]" : "");
    put_space();
}

static void mutate_body(void)
{
    static const char interesting[] = "{}[]\",:\\u0-9.eE+ \n\t\x80\xC3\xED\xF4\xFF\x1F\0x";

    for (unsigned left = 1 + below(2); left > 0 && made.len > 0; left--) {
        const size_t at = below((unsigned)made.len);
        const size_t run_len = 1 + below(4);
        const char byte = below(2) ? interesting[below(sizeof(interesting))] : (char)below(256);

        switch (below(4)) {
        case 0:
            made.text[at] = byte;
            break;
        case 1:
            memmove(made.text + at + 1, made.text + at, made.len - at);
            made.text[at] = byte;
            made.len++;
            break;
        case 2:
            if (at + run_len <= made.len) {
                memmove(made.text + at, made.text + at + run_len, made.len - at - run_len);
                made.len -= run_len;
            }
            break;
        default:
            made.len = below(4) == 0 ? at : made.len;
        }
    }
}

#endif
