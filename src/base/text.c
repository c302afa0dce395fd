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
