/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_doc.c - puts the keys of the configuration into the manual page and the completions, when
 * Alloy is built.
 *
 * Copies a template to standard output. A line @MANUAL@ becomes the keys in scdoc's language; a
 * line
 * @WORDS@ becomes a line for each key, its name with its section, and the words that it takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/config_schema.h"

#define LINE_MAX_BYTES 4096

/* Text in scdoc's language, in which these characters would begin something. */
static void config_doc_escape(const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("\\*_+[]|#`<>~", *text) != NULL)
            putchar('\\');
        putchar(*text);
    }
}

/* "a, b or c" of the words "a,b,c". */
static void config_doc_list(const char *words)
{
    while (*words != '\0') {
        size_t len = strcspn(words, ",");
        const char *rest = words + len + strspn(words + len, ", ");
        char word[CONFIG_ROW_TEXT_MAX];

        snprintf(word, sizeof(word), "%.*s", (int)len, words);
        config_doc_escape(word);
        if (*rest != '\0')
            fputs(strchr(rest, ',') != NULL ? ", " : " or ", stdout);
        words = rest;
    }
}

static void config_doc_print_manual(void)
{
    const char *section = "";
    struct config_row row;

    for (size_t index = 0; config_schema_next(&index, &row); section = row.section) {
        if (strcmp(row.section, section) != 0) {
            fputs("## [", stdout);
            config_doc_escape(row.section);
            fputs("]\n\n", stdout);
        }
        fputs("*", stdout);
        config_doc_escape(row.key);
        fputs("*", stdout);
        if (row.default_text != NULL) {
            fputs(*row.default_text != '\0' ? " = " : " =", stdout);
            config_doc_escape(row.default_text);
        }
        fputs("\n\t", stdout);
        config_doc_escape(row.help);
        if (*row.bounds != '\0' || *row.words != '\0') {
            fputs(*row.bounds != '\0' ? " Bounds: " : " Values: ", stdout);
            config_doc_escape(row.bounds);
            config_doc_list(row.words);
            fputs(".", stdout);
        }
        printf("%s Takes a %s.\n\n", row.required ? " It must be given." : "",
               row.reload ? "reload" : "restart");
    }
}

static void config_doc_print_words(void)
{
    struct config_row row;

    for (size_t index = 0; config_schema_next(&index, &row);) {
        printf("%s.%s", row.section, row.key);
        for (const char *at = row.words; *at != '\0';) {
            size_t len = strcspn(at, ",");

            printf(" %.*s", (int)len, at);
            at += len + strspn(at + len, ", ");
        }
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    char line[LINE_MAX_BYTES];
    FILE *template = argc == 2 ? fopen(argv[1], "r") : NULL;

    if (template == NULL) {
        fprintf(stderr, "alloy-config-doc: %s\n", argc == 2 ? strerror(errno) : "which template?");
        return EXIT_FAILURE;
    }
    while (fgets(line, sizeof(line), template) != NULL) {
        if (strcmp(line, "@MANUAL@\n") == 0)
            config_doc_print_manual();
        else if (strcmp(line, "@WORDS@\n") == 0)
            config_doc_print_words();
        else
            fputs(line, stdout);
    }
    fclose(template);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
