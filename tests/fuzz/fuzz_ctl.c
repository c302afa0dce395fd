/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ctl.c - any arguments of alloyctl, and any answer of the server that it talks to.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include <ctype.h>
#include <string.h>

#include "ctl_verdict.h"

#define NOW_MS 1800000000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_since(const char *text)
{
    uint64_t since_ms = 0;

    if (!ctl_parse_since(text, NOW_MS, &since_ms))
        return;
    ALLOY_ASSERT(isdigit((unsigned char)text[strspn(text, " \t\n\v\f\r+")]));
    /* A duration goes back; a date is of this age of the world, with four digits for its year. */
    if (strchr(text, '-') == NULL)
        ALLOY_ASSERT(since_ms <= NOW_MS);
    else
        ALLOY_ASSERT(since_ms < 253402300800000ull + 86400000ull);
}

static void check_url(const char *text)
{
    const char *host;

    if (!ctl_is_base_url(text))
        return;
    host = strstr(text, "://");
    ALLOY_ASSERT(host == text + 4 || host == text + 5);
    ALLOY_ASSERT(host[3] != '\0' && host[3] != '/' && strpbrk(host + 3, "?# ") == NULL);
}

static void check_line(char *text)
{
    const char *line = ctl_one_line(text);
    const size_t len = strlen(line);

    ALLOY_ASSERT(line >= text && len <= CTL_LINE_MAX);
    for (size_t i = 0; i < len; i++)
        ALLOY_ASSERT(!iscntrl((unsigned char)line[i]));
}

static void check_verdict(const char *text, size_t len)
{
    static const long statuses[] = {200, 202, 400, 422, 503};
    struct ctl_verdict verdict;

    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        ctl_verdict_read(&verdict, statuses[i], (struct slice){text, len});
        ALLOY_ASSERT(verdict.kind != CTL_VERDICT_NONE || verdict.count == 0);
        ALLOY_ASSERT(verdict.kind != CTL_VERDICT_IN || statuses[i] != 202);
        for (size_t k = 0; k < verdict.count; k++)
            ALLOY_ASSERT(strlen(verdict.refusals[k].message) <= CTL_LINE_MAX);
        ctl_verdict_free(&verdict);
    }
}

/* Appends what is no white space outside of strings. */
static size_t squeeze(const char *text, size_t len, char *out)
{
    bool inside = false;
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (inside && text[i] == '\\' && i + 1 < len)
            out[n++] = text[i++];
        else if (text[i] == '"')
            inside = !inside;
        else if (!inside && memchr(" \t\r\n", text[i], 4) != NULL)
            continue;
        out[n++] = text[i];
    }
    return n;
}

/* Indenting changes nothing but white space. */
static void check_pretty(const char *text, size_t len)
{
    char *pretty = NULL;
    size_t pretty_len = 0;
    FILE *out = open_memstream(&pretty, &pretty_len);
    char *before = malloc(len + 1), *after;
    size_t n;

    ALLOY_ASSERT(out != NULL && before != NULL);
    ctl_pretty(out, (struct slice){text, len}, 0);
    ALLOY_ASSERT(fclose(out) == 0);
    after = malloc(pretty_len + 1);
    ALLOY_ASSERT(after != NULL);
    n = squeeze(text, len, before);
    ALLOY_ASSERT(squeeze(pretty, pretty_len, after) == n && memcmp(before, after, n) == 0);
    free(before);
    free(after);
    free(pretty);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    ALLOY_ASSERT(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    check_since(text);
    check_url(text);
    (void)ctl_judge((long)size);
    check_verdict(text, size);
    if (size < 512) /* each level of brackets indents each of its lines */
        check_pretty(text, size);
    check_line(text);
    free(text);
    return 0;
}
