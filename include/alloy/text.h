/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - helpers for text: hexadecimal digits, UTF-8, escapes.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_TEXT_H
#define ALLOY_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"

#define TEXT_ESCAPE_MAX 6 /* bytes that text_escape() writes at most */

/* The value of a hexadecimal digit, 0 to 15; -1: c is not one. */
static inline int text_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Length of the UTF-8 character at the start of text, which has len > 0 bytes; 0: there is no valid
 * one (RFC 3629 section 4: no overlong form, no surrogate, nothing above U+10FFFF). */
size_t text_utf8_len(const char *text, size_t len);

/* True for at least one letter, digit or character of more, and nothing else. */
bool text_is_name(const char *text, size_t len, const char *more);

/* Whether a character, whose length text_utf8_len() has told, shows as itself and changes nothing
 * around it: no control character, no end of a line, none that turns the direction of writing.
 * False for a length of 0. */
bool text_is_shown(const char *text, size_t utf8_len);

/* Makes a text fit for logs, terminals and JSON, in place: of what is not valid UTF-8 each byte
 * becomes '?', and each character that does not show as itself; one that is cut at the end goes. */
void text_clean(char *text);

/* Copies as much of a text as fits to out, which has max + 1 bytes, made fit as by text_clean().
 * What is cut ends with end. */
void text_copy_shown(char *out, size_t max, struct slice text, const char *end);

/* Makes double quotes single ones. For what clients choose in a quoted value of a log line: log.c
 * takes a double quote before " key=" for the value's end. */
void text_unquote(char *text);

/* How many of the first bytes text_escape() would leave as they are: printable ASCII. */
size_t text_plain_len(const char *text, size_t len);

/*
 * Writes the character at the start of text (len > 0 bytes) to out, escaped as in a JSON string,
 * which readers of logfmt understand too. Returns the bytes written; *taken is the bytes of text
 * that they stand for. A byte that is not UTF-8 becomes \ufffd.
 */
size_t text_escape(const char *text, size_t len, size_t *taken, char out[TEXT_ESCAPE_MAX]);

/* Writes a character of two or three bytes, as text_utf8_len() has told, to out as \uXXXX. Returns
 * the bytes written. */
size_t text_escape_number(const char *text, size_t utf8_len, char out[TEXT_ESCAPE_MAX]);

#endif
