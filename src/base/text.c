/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.c - helpers for text: UTF-8, escapes.
 *
 * Not for events: json_scan.c checks UTF-8 in its own pass.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/text.h"

#include <string.h>

size_t text_utf8_len(const char *text, size_t len)
{
    const unsigned char *byte = (const unsigned char *)text;
    const size_t need = byte[0] < 0x80   ? 1
                        : byte[0] < 0xc2 ? 0
                        : byte[0] < 0xe0 ? 2
                        : byte[0] < 0xf0 ? 3
                                         : 4;

    if (need <= 1)
        return need;
    if (byte[0] > 0xf4 || need > len)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((byte[i] & 0xc0) != 0x80)
            return 0;
    if ((byte[0] == 0xe0 && byte[1] < 0xa0) || (byte[0] == 0xed && byte[1] > 0x9f) ||
        (byte[0] == 0xf0 && byte[1] < 0x90) || (byte[0] == 0xf4 && byte[1] > 0x8f))
        return 0;
    return need;
}

bool text_is_name(const char *text, size_t len, const char *more)
{
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        const bool alnum =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!alnum && (c == '\0' || strchr(more, c) == NULL))
            return false;
    }
    return len > 0;
}

bool text_is_shown(const char *text, size_t utf8_len)
{
    const unsigned char *byte = (const unsigned char *)text;

    if (utf8_len <= 1)
        return utf8_len == 1 && byte[0] >= ' ' && byte[0] != 0x7f;
    if (byte[0] == 0xc2)
        return byte[1] >= 0xa0; /* below: C1, among them the beginning of a terminal's sequences */
    if (byte[0] == 0xd8)
        return byte[1] != 0x9c; /* U+061C */
    if (byte[0] != 0xe2)
        return true;
    if (byte[1] == 0x80) /* U+200E, U+200F, U+2028 to U+202E */
        return byte[2] != 0x8e && byte[2] != 0x8f && (byte[2] < 0xa8 || byte[2] > 0xae);
    return byte[1] != 0x81 || byte[2] < 0xa6 || byte[2] > 0xa9; /* U+2066 to U+2069 */
}

/* Whether text is the beginning of a longer character. */
static bool text_is_cut(const char *text, size_t len)
{
    char whole[4];

    for (unsigned byte = 0x80; len > 0 && len < sizeof(whole) && byte <= 0xbf; byte += 0x10) {
        memset(whole, (int)byte, sizeof(whole));
        memcpy(whole, text, len);
        if (text_utf8_len(whole, sizeof(whole)) > len)
            return true;
    }
    return false;
}

void text_clean(char *text)
{
    size_t left = strlen(text), n = 0, len;
    const char *at = text;

    for (; left > 0 && !text_is_cut(at, left); at += len, left -= len) {
        const size_t utf8_len = text_utf8_len(at, left);

        len = utf8_len > 0 ? utf8_len : 1;
        if (text_is_shown(at, utf8_len)) {
            memmove(text + n, at, len);
            n += len;
        } else {
            text[n++] = '?';
        }
    }
    text[n] = '\0';
}

void text_copy_shown(char *out, size_t max, struct slice text, const char *end)
{
    const size_t end_len = strlen(end);
    size_t len = 0;

    while (text.len > 0) {
        const size_t n = text_utf8_len(text.data, text.len);
        const bool shown = text_is_shown(text.data, n);
        const size_t taken = n > 0 ? n : 1;

        if (len + taken + end_len > max && len + text.len > max) {
            memcpy(out + len, end, end_len);
            len += end_len;
            break;
        }
        memcpy(out + len, shown ? text.data : "?", shown ? n : 1);
        len += shown ? n : 1;
        text.data += taken;
        text.len -= taken;
    }
    out[len] = '\0';
}

void text_unquote(char *text)
{
    while ((text = strchr(text, '"')) != NULL)
        *text = '\'';
}

size_t text_plain_len(const char *text, size_t len)
{
    size_t at = 0;

    while (at < len && text[at] >= ' ' && text[at] < 0x7f && text[at] != '"' && text[at] != '\\')
        at++;
    return at;
}

size_t text_escape(const char *text, size_t len, size_t *taken, char out[TEXT_ESCAPE_MAX])
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char c = (unsigned char)text[0];
    const size_t utf8_len = text_utf8_len(text, len);

    *taken = utf8_len == 0 ? 1 : utf8_len;
    if (c == '"' || c == '\\' || c == '\n') {
        out[0] = '\\';
        out[1] = c == '\n' ? 'n' : (char)c;
        return 2;
    }
    if (c < 0x20 || c == 0x7f) {
        memcpy(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        return 6;
    }
    if (utf8_len == 0) {
        memcpy(out, "\\ufffd", 6);
        return 6;
    }
    memcpy(out, text, utf8_len);
    return utf8_len;
}

size_t text_escape_number(const char *text, size_t utf8_len, char out[TEXT_ESCAPE_MAX])
{
    static const char hex[] = "0123456789abcdef";
    unsigned number = (unsigned char)text[0] & (utf8_len == 2 ? 0x1f : 0x0f);

    for (size_t i = 1; i < utf8_len; i++)
        number = number << 6 | ((unsigned char)text[i] & 0x3f);
    memcpy(out,
           (char[]){'\\', 'u', hex[number >> 12 & 15], hex[number >> 8 & 15], hex[number >> 4 & 15],
                    hex[number & 15]},
           6);
    return 6;
}
