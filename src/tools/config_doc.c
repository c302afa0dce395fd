/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_doc.c - puts the keys of the configuration and the commands of alloyctl into the manual
 * pages and the completions, when Alloy is built.
 *
 * Copies a template to standard output. A line @MANUAL@ becomes the keys in scdoc's language; a
 * line
 * @WORDS@ becomes a line for each key, its name with its section, and the words that it takes.
 * @COMMANDS@ becomes what the program of the second argument says of its commands, in scdoc's
 * language.
 */
#include <errno.h>
#include <stdbool.h>
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
        if (strcmp(row.section, section) != 0)
            printf("## [%s]\n\n", row.section); /* in a heading nothing is special */
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

/* ---- the commands of alloyctl, of which its help tells ---- */

static FILE *config_doc_ask(const char *program, const char *command)
{
    char *line = NULL;
    FILE *help = NULL;

    if (asprintf(&line, "'%s' %s --help", program, command) > 0)
        help = popen(line, "r");
    if (help == NULL) {
        perror("alloy-config-doc");
        exit(EXIT_FAILURE);
    }
    free(line);
    return help;
}

static void config_doc_answered(FILE *help, const char *program)
{
    if (pclose(help) == 0)
        return;
    fprintf(stderr, "alloy-config-doc: %s has no help for a command\n", program);
    exit(EXIT_FAILURE);
}

/* "  --name VALUE  text", or a line that goes on with the text before. */
static void config_doc_print_option(char *line)
{
    char *text = line + strspn(line, " ");
    char *gap = strstr(text, "  ");
    char *value;

    if (*text != '-') {
        putchar('\t');
        config_doc_escape(text);
        putchar('\n');
        return;
    }
    if (gap != NULL)
        *gap++ = '\0';
    value = strstr(text, "-h, ") == text ? NULL : strchr(text, ' ');
    if (value != NULL)
        *value++ = '\0';
    fputs("\n*", stdout);
    config_doc_escape(text);
    putchar('*');
    if (value != NULL) {
        fputs(" _", stdout);
        config_doc_escape(value);
        putchar('_');
    }
    putchar('\n');
    if (gap != NULL) {
        putchar('\t');
        config_doc_escape(gap + strspn(gap, " "));
        putchar('\n');
    }
}

static void config_doc_print_command(const char *program, const char *command)
{
    FILE *help = config_doc_ask(program, command);
    char line[LINE_MAX_BYTES];
    bool options = false;

    while (fgets(line, sizeof(line), help) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "Usage: ", 7) == 0) {
            printf("## %s\n", line + 7);
        } else if (strcmp(line, "Options:") == 0) {
            options = true;
        } else if (options && *line == ' ') {
            config_doc_print_option(line);
        } else if (*line == ' ') {
            printf("```\n%s\n```\n", line); /* an example in the text */
        } else {
            config_doc_escape(line);
            putchar('\n');
        }
    }
    putchar('\n');
    config_doc_answered(help, program);
}

/* The names are what stands behind "Commands:", up to two spaces or the line's end. */
static void config_doc_print_commands(const char *program)
{
    FILE *help = config_doc_ask(program, "");
    char line[LINE_MAX_BYTES];
    bool list = false;

    while (fgets(line, sizeof(line), help) != NULL) {
        char *gap = strstr(line + strspn(line, " "), "  ");

        if (list && strncmp(line, "  ", 2) == 0 && line[2] >= 'a' && line[2] <= 'z') {
            *(gap != NULL ? gap : line + strcspn(line, "\n")) = '\0';
            config_doc_print_command(program, line + 2);
        }
        list = strcmp(line, "Commands:\n") == 0 || (list && *line == ' ');
    }
    config_doc_answered(help, program);
}

int main(int argc, char **argv)
{
    char line[LINE_MAX_BYTES];
    FILE *template = argc == 3 ? fopen(argv[1], "r") : NULL;

    if (template == NULL) {
        fprintf(stderr, "alloy-config-doc: %s\n",
                argc == 3 ? strerror(errno) : "which template, and which alloyctl?");
        return EXIT_FAILURE;
    }
    while (fgets(line, sizeof(line), template) != NULL) {
        if (strcmp(line, "@MANUAL@\n") == 0)
            config_doc_print_manual();
        else if (strcmp(line, "@WORDS@\n") == 0)
            config_doc_print_words();
        else if (strcmp(line, "@COMMANDS@\n") == 0)
            config_doc_print_commands(argv[2]);
        else
            fputs(line, stdout);
        fflush(stdout);
    }
    fclose(template);
    return ferror(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
