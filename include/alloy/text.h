/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - helpers for text: hexadecimal digits, UTF-8, escapes.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_TEXT_H
#define ALLOY_TEXT_H

#include <stddef.h>

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

/* How many of the first bytes text_escape() would leave as they are: printable ASCII. */
size_t text_plain_len(const char *text, size_t len);

/*
 * Writes the character at the start of text (len > 0 bytes) to out, escaped as in a JSON string,
 * which readers of logfmt understand too. Returns the bytes written; *taken is the bytes of text
 * that they stand for. A byte that is not UTF-8 becomes \ufffd.
 */
size_t text_escape(const char *text, size_t len, size_t *taken, char out[TEXT_ESCAPE_MAX]);

#endif
