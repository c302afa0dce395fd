/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_name.c - names of ClickHouse's databases, tables and columns, as somebody writes them.
 *
 * Quoted names follow ClickHouse's rules (parseComplexEscapeSequence in ReadHelpers.cpp), so that
 * what works in its client works here. A bare name may hold anything that cannot be mistaken for a
 * quote, an escape or a comment. What is written reads back as the same name, anywhere in a file.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "alloy/config_name.h"

#include <string.h>

#include "alloy/text.h"

#define QUOTES "`\""
#define NOT_BARE "`\"'\\#"

/* The byte that \c stands for; c itself: no escape, or the byte is c. */
static char config_name_escape(char c)
{
    static const char letters[] = "abefnrtv0", bytes[] = "\a\b\x1b\f\n\r\t\v";
    const char *known = c == '\0' ? NULL : strchr(letters, c);

    return known == NULL ? c : bytes[known - letters];
}

/* Reads the escape at text, which begins with a backslash, into out[0..1]. Returns how long it is;
 * 0: it is none. *len: bytes it stands for. */
static size_t config_name_unescape(const char *text, char out[2], size_t *len)
{
    *len = 1;
    if (text[1] == 'x') {
        const int high = text_hex_digit(text[2]);
        const int low = high < 0 ? -1 : text_hex_digit(text[3]);

        out[0] = (char)(high * 16 + low);
        return low < 0 ? 0 : 4;
    }
    if (text[1] == '\0')
        return 0;
    if (text[1] == 'N') {
        *len = 0;
        return 2;
    }
    out[0] = config_name_escape(text[1]);
    if (out[0] == text[1] && strchr("\\`\"'/", out[0]) == NULL) {
        out[1] = out[0]; /* as in ClickHouse, the backslash stays */
        out[0] = '\\';
        *len = 2;
    }
    return 2;
}

static const char *config_name_check(const char *name, size_t len)
{
    if (len == 0)
        return "a name is empty";
    if (len > CONFIG_NAME_MAX)
        return "a name is longer than 255 bytes";
    if (memchr(name, '\0', len) != NULL)
        return "a name cannot hold a NUL byte";
    for (size_t at = 0, n; at < len; at += n) {
        n = text_utf8_len(name + at, len - at);
        if (n == 0)
            return "a name must be UTF-8";
    }
    return NULL;
}

static const char *config_name_read_quoted(const char *text, char out[CONFIG_NAME_MAX + 2],
                                           size_t *len, const char **why)
{
    const char quote = *text++;

    *len = 0;
    for (;;) {
        char bytes[2] = {*text, '\0'};
        size_t count = 1, taken = 1;

        if (*text == '\0') {
            *why = "the closing quote of a name is missing";
            return NULL;
        }
        if (text[0] == quote && text[1] == quote)
            taken = 2;
        else if (text[0] == quote)
            return text + 1;
        else if (text[0] == '\\')
            taken = config_name_unescape(text, bytes, &count);
        if (taken == 0) {
            *why = "a \\ is followed by no escape; \\\\ stands for itself";
            return NULL;
        }
        for (size_t i = 0; i < count && *len <= CONFIG_NAME_MAX; i++)
            out[(*len)++] = bytes[i];
        text += taken;
    }
}

const char *config_name_read(const char *text, const char *stops, char out[CONFIG_NAME_MAX + 1],
                             const char **why)
{
    char name[CONFIG_NAME_MAX + 2];
    const char *end;
    size_t len;

    text += strspn(text, " \t");
    if (*text != '\0' && strchr(QUOTES, *text) != NULL) {
        end = config_name_read_quoted(text, name, &len, why);
        if (end == NULL)
            return NULL;
    } else {
        len = strcspn(text, stops);
        end = text + len;
        while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
            len--;
        if (strcspn(text, NOT_BARE) < len) {
            *why = "a name with quotes, \\ or # in it must stand in back-quotes, as in `it's`";
            return NULL;
        }
        len = len <= CONFIG_NAME_MAX ? len : CONFIG_NAME_MAX + 1;
        memcpy(name, text, len);
    }
    *why = config_name_check(name, len);
    if (*why != NULL)
        return NULL;
    memcpy(out, name, len);
    out[len] = '\0';
    return end + strspn(end, " \t");
}

/* Whether a byte may stand in a name without quotes, everywhere. */
static bool config_name_is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || (unsigned char)c >= 0x80;
}

void config_name_append(char *out, const char *name)
{
    const char *at = name;

    out += strlen(out);
    while (config_name_is_plain(*at))
        at++;
    if (*at == '\0') {
        memcpy(out, name, strlen(name) + 1);
        return;
    }
    *out++ = '`';
    for (at = name; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f || strchr("=;#$", *at) != NULL) {
            out += sprintf(out, "\\x%02x", (unsigned char)*at);
            continue;
        }
        if (*at == '`' || *at == '\\')
            *out++ = '\\';
        *out++ = *at;
    }
    memcpy(out, "`", 2);
}
