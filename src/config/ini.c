/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ini.c - reads an INI file and passes on section, key, value and line of each assignment.
 *
 * We give inih one line at a time. On a whole file it would silently do four things that could
 * change what a configuration means: split a line longer than its buffer, append an indented line
 * to the value above, cut a section name at 49 bytes, and ignore text behind a section's bracket.
 * So we handle lines, sections and comments, and inih parses `key = value; comment`.
 *
 * Runs on: main thread. Owns: nothing after it returns.
 */
#include "alloy/ini.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <ini.h>

#define BLANKS " \t\v\f\r"
#define INIH_LINE (INI_LINE_MAX + 3) /* inih wants room for "\r\n" and the NUL */

enum line_result { LINE_OK, LINE_TOO_LONG, LINE_HAS_NUL, LINE_NONE };

struct reader {
    const struct ini_handler *handler;
    char section[INI_LINE_MAX + 1];
    bool section_broken;
    int line;
    const char *key; /* read here; NULL: inih has it */
};

/* Reads one line into out, without its line end; keeps at most INI_LINE_MAX bytes. */
static enum line_result ini_read_line(FILE *stream, char *out)
{
    enum line_result result = LINE_OK;
    size_t len = 0;
    int c = getc(stream);

    if (c == EOF)
        return LINE_NONE;
    for (; c != EOF && c != '\n'; c = getc(stream)) {
        if (c == '\0')
            result = LINE_HAS_NUL;
        else if (len == INI_LINE_MAX)
            result = LINE_TOO_LONG;
        else
            out[len++] = (char)c;
    }
    while (len > 0 && strchr(BLANKS, out[len - 1]) != NULL)
        len--;
    out[len] = '\0';
    return result;
}

static void ini_error(const struct reader *reader, const char *message)
{
    reader->handler->error(reader->handler->arg, reader->line, message);
}

/* Takes text = "[name] ; comment". */
static void ini_begin_section(struct reader *reader, char *text)
{
    char *name = text + 1 + strspn(text + 1, BLANKS);
    char *end = strchr(name, ']');
    const char *rest;

    reader->section_broken = true;
    if (end == NULL) {
        ini_error(reader, "the section's closing ] is missing");
        return;
    }
    rest = end + 1 + strspn(end + 1, BLANKS);
    if (*rest != '\0' && *rest != ';' && *rest != '#') {
        ini_error(reader, "unexpected text behind the section's ]");
        return;
    }
    while (end > name && strchr(BLANKS, end[-1]) != NULL)
        end--;
    *end = '\0';
    if (*name == '\0') {
        ini_error(reader, "the section has no name");
        return;
    }
    reader->section_broken = false;
    memcpy(reader->section, name, strlen(name) + 1);
    if (reader->handler->section != NULL)
        reader->handler->section(reader->handler->arg, reader->line, reader->section);
}

/* inih's callback; returns nonzero on success. inih's own section is always empty. */
static int ini_take_entry(void *arg, const char *section, const char *key, const char *value)
{
    const struct reader *reader = arg;

    (void)section;
    if (reader->key != NULL)
        key = reader->key;
    if (*key == '\0')
        return 0;
    reader->handler->entry(reader->handler->arg, reader->line, reader->section, key, value);
    return 1;
}

const char *ini_find_unquoted(const char *text, const char *stops)
{
    bool quoted = false;

    for (; *text != '\0'; text++) {
        if (*text == '`')
            quoted = !quoted;
        else if (quoted && *text == '\\' && text[1] != '\0')
            text++;
        else if (!quoted && strchr(stops, *text) != NULL)
            break;
    }
    return text;
}

/* Takes text = "key = value ; comment" whose key has back-quotes, which inih does not know. */
static void ini_take_quoted(struct reader *reader, char *text)
{
    char *separator = text + (ini_find_unquoted(text, "=:") - text);
    char key[INI_LINE_MAX + 1];
    size_t len = (size_t)(separator - text);

    if (*separator == '\0') {
        ini_error(reader, "expected [section] or key = value");
        return;
    }
    while (len > 0 && strchr(BLANKS, text[len - 1]) != NULL)
        len--;
    memcpy(key, text, len);
    key[len] = '\0';
    separator[-1] = 'k'; /* any key, for inih */
    reader->key = key;
    if (ini_parse_string(separator - 1, ini_take_entry, reader) != 0)
        ini_error(reader, "expected [section] or key = value");
    reader->key = NULL;
}

static void ini_take_line(struct reader *reader, char *text)
{
    const size_t plain = strcspn(text, "=:`");

    if (*text == '\0' || *text == ';' || *text == '#')
        return;
    if (*text == '[')
        ini_begin_section(reader, text);
    else if (!reader->section_broken && text[plain] == '`')
        ini_take_quoted(reader, text);
    else if (!reader->section_broken && ini_parse_string(text, ini_take_entry, reader) != 0)
        ini_error(reader, "expected [section] or key = value");
}

int ini_read_stream(FILE *stream, const struct ini_handler *handler)
{
    struct reader reader = {.handler = handler};
    char text[INI_LINE_MAX + 1];

    ini_max_line = INIH_LINE;
    ini_allow_multiline = false;
    for (;;) {
        enum line_result result = ini_read_line(stream, text);
        char *start = text;

        if (result == LINE_NONE)
            break;
        reader.line++;
        if (reader.line == 1 && strncmp(start, "\xef\xbb\xbf", 3) == 0)
            start += 3;
        start += strspn(start, BLANKS);
        if (result == LINE_TOO_LONG)
            ini_error(&reader, "the line is longer than 4000 bytes");
        else if (result == LINE_HAS_NUL)
            ini_error(&reader, "the line holds a NUL byte");
        else
            ini_take_line(&reader, start);
    }
    return ferror(stream) ? -EIO : 0;
}

int ini_read(const char *path, const struct ini_handler *handler)
{
    FILE *stream = fopen(path, "re");
    int err;

    if (stream == NULL)
        return -errno;
    errno = 0;
    err = ini_read_stream(stream, handler);
    if (err != 0 && errno != 0)
        err = -errno; /* a folder opens, and fails to read with EISDIR */
    fclose(stream);
    return err;
}
