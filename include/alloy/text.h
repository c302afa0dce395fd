/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - bytes that people or JSON parsers read: hexadecimal digits, UTF-8, escapes.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_TEXT_H
#define ALLOY_TEXT_H

#include <stddef.h>

#define TEXT_ESCAPE_MAX 6 /* bytes that text_escape() writes at most */

/* The digit's value, 0 to 15; -1: c is no hexadecimal digit. */
static inline int text_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Length of the UTF-8 character at the start of text, of which len > 0 bytes are there; 0: none is
 * (RFC 3629 section 4: no overlong form, no surrogate, nothing above U+10FFFF). */
size_t text_utf8_len(const char *text, size_t len);

/*
 * Writes the character at the start of text as the inside of a JSON string has it, which readers of
 * logfmt understand too, to out and returns how many bytes that are. taken: bytes of text that it
 * stands for. A byte that is no UTF-8 becomes \ufffd. There are len > 0 bytes.
 */
size_t text_escape(const char *text, size_t len, size_t *taken, char out[TEXT_ESCAPE_MAX]);

#endif
