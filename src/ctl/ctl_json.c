/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_json.c - what commands of alloyctl share for --json.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_json.h"

#include <string.h>

#include "alloy/clock.h"
#include "alloy/text.h"

#define ISO_MAX 25

int ctl_print_json(json_t *document, FILE *out)
{
    int err = document == NULL ? -1 : json_dumpf(document, out, JSON_INDENT(2) | JSON_ENCODE_ANY);

    json_decref(document);
    if (err != 0) {
        fputs("alloyctl: out of memory, or standard output is closed\n", stderr);
        return EXIT_FAILURE;
    }
    fputc('\n', out);
    return EXIT_SUCCESS;
}

json_t *ctl_json_text(const char *text)
{
    char *quoted = NULL;
    size_t size = 0;
    size_t len = strlen(text);
    FILE *out = open_memstream(&quoted, &size);
    json_t *value = NULL;

    if (out == NULL)
        return NULL;
    while (len > 0) {
        char escaped[TEXT_ESCAPE_MAX];
        size_t taken;
        const size_t n = text_escape(text, len, &taken, escaped);

        fwrite(escaped, 1, n, out);
        text += taken;
        len -= taken;
    }
    if (fclose(out) == 0)
        value = ctl_json_escaped((struct slice){quoted, size});
    free(quoted);
    return value;
}

json_t *ctl_json_escaped(struct slice escaped)
{
    char *quoted;
    json_t *value;
    int len = asprintf(&quoted, "\"%.*s\"", (int)escaped.len, escaped.data);

    if (len < 0)
        return NULL;
    value = json_loadb(quoted, (size_t)len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    free(quoted);
    return value;
}

json_t *ctl_json_number(uint64_t number)
{
    return json_integer((json_int_t)number);
}

json_t *ctl_json_time(uint64_t ms)
{
    char text[ISO_MAX];

    if (ms == 0)
        return json_null();
    clock_format_iso(ms, text);
    return json_string(text);
}
