/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.c - what the commands of alloyctl share: times, filters, words, indentation. Pure.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#define CODE_ANY 0

bool ctl_parse_since(const char *text, uint64_t now_ms, uint64_t *since_ms)
{
    static const char *const forms[] = {"%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S",
                                        "%Y-%m-%dT%H:%M:%SZ"};
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    uint64_t number;
    char *end;

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct tm tm = {0};
        const char *rest = strptime(text, forms[i], &tm);

        if (rest != NULL && *rest == '\0' && tm.tm_year >= 70) {
            *since_ms = (uint64_t)timegm(&tm) * 1000;
            return true;
        }
    }
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    number = strtoull(text, &end, 10);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (errno != 0 || strcmp(end, units[i].unit) != 0)
            continue;
        *since_ms = number < now_ms / units[i].ms ? now_ms - number * units[i].ms : 0;
        return true;
    }
    return false;
}

bool ctl_matches(const struct ctl_filter *filter, const struct letter *letter)
{
    if (filter->stream != NULL && (letter->stream.len != strlen(filter->stream) ||
                                   memcmp(letter->stream.data, filter->stream, letter->stream.len)))
        return false;
    if (filter->code != CODE_ANY && letter->code != filter->code)
        return false;
    return letter->time_ms >= filter->since_ms;
}

bool ctl_is_base_url(const char *url)
{
    const char *host = strncmp(url, "http://", 7) == 0    ? url + 7
                       : strncmp(url, "https://", 8) == 0 ? url + 8
                                                          : "";
    const char *end = host + strcspn(host, "/?# ");

    return end > host && end[strspn(end, "/")] == '\0';
}

char *ctl_one_line(char *text)
{
    size_t len;

    text += strspn(text, " \t\r\n");
    len = strcspn(text, "\r\n");
    if (len > CTL_LINE_MAX) {
        /* Do not cut inside a UTF-8 character. */
        for (len = CTL_LINE_MAX; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80;)
            len--;
    }
    text[len] = '\0';
    for (char *at = text; *at != '\0'; at++)
        if (iscntrl((unsigned char)*at))
            *at = ' ';
    return text;
}

const char *ctl_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static void ctl_new_line(FILE *out, int indent)
{
    fprintf(out, "\n%*s", indent, "");
}

/* Writes a string with its quotes; returns where it ends. */
static const char *ctl_put_string(FILE *out, const char *at, const char *end)
{
    const char *from = at++;

    while (at < end && *at != '"')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    if (at < end)
        at++;
    fwrite(from, 1, (size_t)(at - from), out);
    return at;
}

static const char *ctl_skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    return at;
}

void ctl_pretty(FILE *out, struct slice text, int indent)
{
    const char *at = text.data;
    const char *end = text.data + text.len;

    while ((at = ctl_skip_space(at, end)) < end) {
        char byte = *at;

        if (byte == '"') {
            at = ctl_put_string(out, at, end);
            continue;
        }
        at++;
        if (byte == '{' || byte == '[') {
            const char *next = ctl_skip_space(at, end);

            fputc(byte, out);
            if (next < end && (*next == '}' || *next == ']')) {
                fputc(*next, out);
                at = next + 1;
                continue;
            }
            indent += 2;
            ctl_new_line(out, indent);
        } else if (byte == '}' || byte == ']') {
            indent = indent < 2 ? 0 : indent - 2;
            ctl_new_line(out, indent);
            fputc(byte, out);
        } else if (byte == ',') {
            fputc(byte, out);
            ctl_new_line(out, indent);
        } else if (byte == ':') {
            fputs(": ", out);
        } else {
            fputc(byte, out);
        }
    }
}

bool ctl_read_key(const char *path, char key[CTL_KEY_ROOM])
{
    FILE *file;
    bool got;

    errno = 0;
    file = fopen(path, "re");
    got = file != NULL && fgets(key, CTL_KEY_ROOM, file) != NULL;
    if (!got)
        fprintf(stderr, "alloyctl: %s: %s\n", path, errno != 0 ? strerror(errno) : "it is empty");
    if (file != NULL)
        fclose(file);
    if (got)
        key[strcspn(key, "\r\n")] = '\0';
    return got;
}
