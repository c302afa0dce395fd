/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_command.c - the command line of alloyctl: finds a command by its name, reads its options and
 * words, and prints help.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_command.h"

#include <getopt.h>
#include <string.h>

#include "alloy/nearest.h"
#include "ctl_json.h"

#define COLUMNS 80
#define LEFT_MAX 24 /* a longer name has its help on the next line */
#define NAME_MAX_LEN 64

/* What getopt_long returns for the option at index is FIRST_OPTION + index. */
#define FIRST_OPTION 1000
#define JSON_OPTION 'j'

static const struct ctl_option common_options[] = {
    {.name = "json", .help = "print one JSON document in place of text for people"},
    {.name = "help", .help = "print this text, and exit"},
};

struct commands {
    const struct ctl_command *const *rows;
    size_t count;
};

/* ---- rows ---- */

static size_t ctl_command_option_count(const struct ctl_command *command)
{
    size_t count = 0;

    while (command->options != NULL && command->options[count].name != NULL)
        count++;
    ALLOY_ASSERT(count <= CTL_OPTIONS_MAX);
    return count;
}

/* The row of a group or of a command of one word or two; NULL: there is none. */
static const struct ctl_command *ctl_command_find(const struct commands *commands, const char *noun,
                                                  const char *verb)
{
    char name[NAME_MAX_LEN];

    if (snprintf(name, sizeof(name), "%s%s%s", noun, verb != NULL ? " " : "",
                 verb != NULL ? verb : "") >= (int)sizeof(name))
        return NULL;
    for (size_t i = 0; i < commands->count; i++)
        if (strcmp(commands->rows[i]->name, name) == 0)
            return commands->rows[i];
    return NULL;
}

/* The verb of a command that belongs to a group; NULL: it does not. */
static const char *ctl_command_verb_of(const struct ctl_command *command, const char *group)
{
    const size_t len = strlen(group);

    return strncmp(command->name, group, len) == 0 && command->name[len] == ' '
               ? command->name + len + 1
               : NULL;
}

/* ---- help ---- */

/* Writes text from the present column on, wrapped between left and COLUMNS. */
static void ctl_command_wrap(FILE *out, const char *text, size_t column, size_t left)
{
    while (*text != '\0') {
        const size_t len = strcspn(text, " \n");

        if (column + 1 + len > COLUMNS && column > left) {
            fprintf(out, "\n%*s", (int)left, "");
            column = left;
        } else if (column > left) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, len, out);
        column += len;
        text += len;
        while (*text == ' ')
            text++;
        for (; *text == '\n'; text++) {
            fprintf(out, "\n%*s", text[1] == '\n' ? 0 : (int)left, "");
            column = left;
        }
    }
    fputc('\n', out);
}

static void ctl_command_print_row(FILE *out, const char *name, size_t left, const char *text)
{
    const int len = fprintf(out, "  %s", name);
    size_t column = len < 0 ? 0 : (size_t)len;

    if (column + 2 > left) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", (int)(left - column), "");
    ctl_command_wrap(out, text, left, left);
}

/* "--stream NAME", or "-h, --help" */
static void ctl_command_option_name(const struct ctl_option *option, char name[NAME_MAX_LEN])
{
    snprintf(name, NAME_MAX_LEN, "%s--%s%s%s", strcmp(option->name, "help") == 0 ? "-h, " : "",
             option->name, option->value != NULL ? " " : "",
             option->value != NULL ? option->value : "");
}

static void ctl_command_print_options(const struct ctl_command *command, FILE *out)
{
    const size_t own = ctl_command_option_count(command);
    const struct ctl_option *rows[CTL_OPTIONS_MAX + ARRAY_LEN(common_options)];
    size_t left = 0, count = 0;
    char name[NAME_MAX_LEN];

    for (size_t i = 0; i < own; i++)
        rows[count++] = &command->options[i];
    for (size_t i = command->no_json ? 1 : 0; i < ARRAY_LEN(common_options); i++)
        rows[count++] = &common_options[i];
    for (size_t i = 0; i < count; i++) {
        ctl_command_option_name(rows[i], name);
        if (strlen(name) + 4 > left && strlen(name) + 4 <= LEFT_MAX)
            left = strlen(name) + 4;
    }
    fputs("\nOptions:\n", out);
    for (size_t i = 0; i < count; i++) {
        ctl_command_option_name(rows[i], name);
        ctl_command_print_row(out, name, left, rows[i]->help);
    }
}

/* The commands of a group, or all when group is NULL. */
static void ctl_command_print_list(const struct commands *commands, const char *group, FILE *out)
{
    size_t left = 0;

    for (size_t pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < commands->count; i++) {
            const struct ctl_command *command = commands->rows[i];

            if (command->run == NULL ||
                (group != NULL && ctl_command_verb_of(command, group) == NULL))
                continue;
            if (pass == 0 && strlen(command->name) + 4 > left)
                left = strlen(command->name) + 4;
            else if (pass == 1)
                ctl_command_print_row(out, command->name, left, command->summary);
        }
}

static void ctl_command_help(const struct commands *commands, const struct ctl_command *command,
                             FILE *out)
{
    if (command->run == NULL) {
        fprintf(out, "Usage: alloyctl %s COMMAND [OPTION]... [ARGUMENT]...\n\n", command->name);
        ctl_command_wrap(out, command->help, 0, 0);
        fputs("\nCommands:\n", out);
        ctl_command_print_list(commands, command->name, out);
        fprintf(out, "\n'alloyctl %s COMMAND --help' tells more of one.\n", command->name);
        return;
    }
    fprintf(out, "Usage: alloyctl %s [OPTION]...%s%s\n\n", command->name,
            command->words != NULL ? " " : "", command->words != NULL ? command->words : "");
    ctl_command_wrap(out, command->help, 0, 0);
    ctl_command_print_options(command, out);
}

static void ctl_command_help_all(const struct commands *commands, FILE *out)
{
    fputs("Usage: alloyctl COMMAND [OPTION]... [ARGUMENT]...\n\n", out);
    ctl_command_wrap(out,
                     "alloyctl is for whoever runs alloyd: it looks into its folders, asks and "
                     "tells the running daemon, and keeps the keys of its clients.",
                     0, 0);
    fputs("\nCommands:\n", out);
    ctl_command_print_list(commands, NULL, out);
    fputs("\n"
          "  -V, --version  print the version, and exit\n"
          "  -h, --help     print this text, and exit\n"
          "\n"
          "'alloyctl COMMAND --help' tells more of a command.\n"
          "Exit status: 0 when all went well, 1 when something failed or a problem was found,\n"
          "2 for a wrong command line.\n",
          out);
}

static json_t *ctl_command_json_options(const struct ctl_command *command)
{
    const size_t count = ctl_command_option_count(command);
    json_t *options = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            options, json_pack("{s:s, s:s?, s:s}", "name", command->options[i].name, "value",
                               command->options[i].value, "help", command->options[i].help));
    return options;
}

/* The same for programs: completions and manual pages are made of it. */
static void ctl_command_json_all(const struct commands *commands, FILE *out)
{
    json_t *list = json_array();

    for (size_t i = 0; i < commands->count; i++) {
        const struct ctl_command *command = commands->rows[i];

        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s?, s:b, s:b, s:s, s:o}", "name", command->name,
                            "summary", command->summary, "words", command->words, "group",
                            command->run == NULL, "json", command->run != NULL && !command->no_json,
                            "help", command->help, "options", ctl_command_json_options(command)));
    }
    ctl_print_json(json_pack("{s:o}", "commands", list), out);
}

/* ---- wrong command lines ---- */

int ctl_refuse(const struct ctl_command *command)
{
    if (command != NULL)
        fprintf(stderr, "Try 'alloyctl --help' or 'alloyctl %s --help' for more information.\n",
                command->name);
    else
        fputs("Try 'alloyctl --help' for more information.\n", stderr);
    return CTL_USAGE;
}

static void ctl_command_tell_nearest(const struct nearest *nearest, const char *before)
{
    if (nearest->word != NULL)
        fprintf(stderr, "; did you mean '%s%s'?", before, nearest->word);
    fputc('\n', stderr);
}

static int ctl_command_refuse_noun(const struct commands *commands, const char *noun)
{
    struct nearest nearest = {.to = noun};
    char first[NAME_MAX_LEN];

    fprintf(stderr, "alloyctl: there is no command '%s'", noun);
    for (size_t i = 0; i < commands->count; i++) {
        const char *name = commands->rows[i]->name;

        if (strchr(name, ' ') == NULL)
            nearest_try(&nearest, name);
    }
    /* Who writes the second word alone means the command that has it. */
    for (size_t i = 0; nearest.word == NULL && i < commands->count; i++) {
        const char *verb = strchr(commands->rows[i]->name, ' ');

        if (verb != NULL && strcmp(verb + 1, noun) == 0) {
            snprintf(first, sizeof(first), "%s", commands->rows[i]->name);
            nearest.word = first;
        }
    }
    ctl_command_tell_nearest(&nearest, "");
    return ctl_refuse(NULL);
}

static int ctl_command_refuse_verb(const struct commands *commands, const struct ctl_command *group,
                                   const char *verb)
{
    struct nearest nearest = {.to = verb};
    char before[NAME_MAX_LEN];

    fprintf(stderr, "alloyctl: there is no command '%s %s'", group->name, verb);
    for (size_t i = 0; i < commands->count; i++) {
        const char *word = ctl_command_verb_of(commands->rows[i], group->name);

        if (word != NULL)
            nearest_try(&nearest, word);
    }
    snprintf(before, sizeof(before), "%s ", group->name);
    ctl_command_tell_nearest(&nearest, before);
    return ctl_refuse(group);
}

/* Tells of an option that the command does not have. */
static void ctl_command_tell_option(const struct ctl_command *command, const char *text)
{
    const size_t len = strcspn(text, "=");
    char name[NAME_MAX_LEN];
    struct nearest nearest = {.to = name};
    const size_t dashes = strspn(text, "-");

    snprintf(name, sizeof(name), "%.*s", (int)(len > dashes ? len - dashes : 0), text + dashes);
    fprintf(stderr, "alloyctl: %s does not take %.*s", command->name, (int)len, text);
    for (size_t i = 0; i < ctl_command_option_count(command); i++)
        nearest_try(&nearest, command->options[i].name);
    ctl_command_tell_nearest(&nearest, "--");
}

/* ---- options and words ---- */

/* getopt's table of a command. */
static void ctl_command_long_options(const struct ctl_command *command,
                                     struct option options[CTL_OPTIONS_MAX + 4])
{
    const size_t count = ctl_command_option_count(command);
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        options[n++] = (struct option){.name = command->options[i].name,
                                       .has_arg = command->options[i].value != NULL,
                                       .val = FIRST_OPTION + (int)i};
    if (!command->no_json)
        options[n++] = (struct option){.name = "json", .val = JSON_OPTION};
    options[n++] = (struct option){.name = "help", .val = 'h'};
    options[n++] = (struct option){.name = "version", .val = 'V'};
    options[n] = (struct option){0};
}

/* Tells what is wrong with the option that getopt has not taken. */
static void ctl_command_tell_getopt(const struct ctl_command *command, int said, char **argv)
{
    if (said == ':' && optopt >= FIRST_OPTION)
        fprintf(stderr, "alloyctl: %s: --%s needs a value, %s\n", command->name,
                command->options[optopt - FIRST_OPTION].name,
                command->options[optopt - FIRST_OPTION].takes);
    else if (optopt >= FIRST_OPTION)
        fprintf(stderr, "alloyctl: %s: --%s takes no value\n", command->name,
                command->options[optopt - FIRST_OPTION].name);
    else if (optopt == JSON_OPTION && strncmp(argv[optind - 1], "--json=", 7) == 0)
        fprintf(stderr, "alloyctl: %s: --json takes no value\n", command->name);
    else if (optopt != 0)
        fprintf(stderr, "alloyctl: %s does not take -%c\n", command->name, optopt);
    else
        ctl_command_tell_option(command, argv[optind - 1]);
}

/* Takes the value of one option. False: it is wrong (reported). */
static bool ctl_command_take_option(struct ctl_given *given, int index)
{
    const struct ctl_option *option = &given->command->options[index];
    const char *value = option->value != NULL ? optarg : "";

    given->values[index] = value;
    if (option->value == NULL || (option->good != NULL ? option->good(value) : value[0] != '\0'))
        return true;
    fprintf(stderr, "alloyctl: --%s: '%s' is not %s\n", option->name, value, option->takes);
    return false;
}

/* False: they are wrong (reported). */
static bool ctl_command_take_words(struct ctl_given *given, char *const *words, size_t count)
{
    const struct ctl_command *command = given->command;
    size_t filled = 0;

    while (filled < count && words[filled][0] != '\0')
        filled++;
    if (count > command->words_max) {
        fprintf(stderr, "alloyctl: unexpected argument '%s'\n", words[command->words_max]);
        return false;
    }
    if (filled < count || count < command->words_min) {
        fprintf(stderr, "alloyctl: %s: %s\n", command->name,
                command->which != NULL ? command->which : "an empty argument");
        return false;
    }
    given->words = words;
    given->word_count = count;
    return true;
}

/* A write error is a failure: a script must not go on with half of the output. */
static int ctl_command_finish(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("alloyctl: standard output");
        return EXIT_FAILURE;
    }
    return status;
}

/* Reads options and words, where argv[0] stands for the command's name, and runs it. */
static int ctl_command_run(const struct commands *commands, const struct ctl_command *command,
                           int argc, char **argv)
{
    struct ctl_given given = {.command = command, .out = {.file = stdout}};
    struct option options[CTL_OPTIONS_MAX + 4];
    int said;

    ctl_command_long_options(command, options);
    optind = 0; /* glibc begins anew */
    opterr = 0;
    while ((said = getopt_long(argc, argv, ":hV", options, NULL)) != -1) {
        if (said == 'h' || said == 'V') {
            if (said == 'h')
                ctl_command_help(commands, command, stdout);
            else
                puts("alloyctl " ALLOY_VERSION);
            return ctl_command_finish(EXIT_SUCCESS);
        }
        if (said == JSON_OPTION) {
            given.out.json = true;
            continue;
        }
        if (said == '?' || said == ':') {
            ctl_command_tell_getopt(command, said, argv);
            return ctl_refuse(command);
        }
        if (!ctl_command_take_option(&given, said - FIRST_OPTION))
            return ctl_refuse(command);
    }
    if (!ctl_command_take_words(&given, argv + optind, (size_t)(argc - optind)))
        return ctl_refuse(command);
    return ctl_command_finish(command->run(&given));
}

/* ---- finding the command ---- */

/* The options before any command. */
static int ctl_command_before(const struct commands *commands, int argc, char **argv)
{
    const char *option = argv[1];

    if (strcmp(option, "-V") == 0 || strcmp(option, "--version") == 0)
        puts("alloyctl " ALLOY_VERSION);
    else if (strcmp(option, "-h") != 0 && strcmp(option, "--help") != 0) {
        fprintf(stderr, "alloyctl: unknown option '%s'; a command comes first\n", option);
        return ctl_refuse(NULL);
    } else if (argc > 2 && strcmp(argv[2], "--json") == 0)
        ctl_command_json_all(commands, stdout);
    else
        ctl_command_help_all(commands, stdout);
    return ctl_command_finish(EXIT_SUCCESS);
}

static bool ctl_command_is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* Goes on in a group, whose name is argv[1]. */
static int ctl_command_in_group(const struct commands *commands, const struct ctl_command *group,
                                int argc, char **argv)
{
    const struct ctl_command *command;

    if (argc > 2 && ctl_command_is_help(argv[2])) {
        ctl_command_help(commands, group, stdout);
        return ctl_command_finish(EXIT_SUCCESS);
    }
    if (argc < 3 || argv[2][0] == '-') {
        fprintf(stderr, "alloyctl: %s: a command is missing\n", group->name);
        return ctl_refuse(group);
    }
    command = ctl_command_find(commands, group->name, argv[2]);
    if (command == NULL)
        return ctl_command_refuse_verb(commands, group, argv[2]);
    return ctl_command_run(commands, command, argc - 2, argv + 2);
}

/* alloyctl help [COMMAND [SUB]] */
static int ctl_command_help_word(const struct commands *commands, int argc, char **argv)
{
    const struct ctl_command *command;

    if (argc < 3) {
        ctl_command_help_all(commands, stdout);
        return ctl_command_finish(EXIT_SUCCESS);
    }
    command = ctl_command_find(commands, argv[2], NULL);
    if (command == NULL)
        return ctl_command_refuse_noun(commands, argv[2]);
    if (command->run == NULL && argc > 3) {
        const struct ctl_command *sub = ctl_command_find(commands, argv[2], argv[3]);

        if (sub == NULL)
            return ctl_command_refuse_verb(commands, command, argv[3]);
        command = sub;
    }
    ctl_command_help(commands, command, stdout);
    return ctl_command_finish(EXIT_SUCCESS);
}

int ctl_dispatch(const struct ctl_command *const *rows, size_t count, int argc, char **argv)
{
    const struct commands commands = {rows, count};
    const struct ctl_command *command;

    if (argc < 2) {
        fputs("alloyctl: a command is missing\n", stderr);
        return ctl_refuse(NULL);
    }
    if (argv[1][0] == '-')
        return ctl_command_before(&commands, argc, argv);
    if (strcmp(argv[1], "help") == 0)
        return ctl_command_help_word(&commands, argc, argv);
    command = ctl_command_find(&commands, argv[1], NULL);
    if (command == NULL || strchr(argv[1], ' ') != NULL)
        return ctl_command_refuse_noun(&commands, argv[1]);
    if (command->run == NULL)
        return ctl_command_in_group(&commands, command, argc, argv);
    return ctl_command_run(&commands, command, argc - 1, argv + 1);
}

/* ---- for the commands ---- */

const char *ctl_value(const struct ctl_given *given, const char *option)
{
    for (size_t i = 0; given->command->options[i].name != NULL; i++)
        if (strcmp(given->command->options[i].name, option) == 0)
            return given->values[i];
    ALLOY_UNREACHABLE("a command asks for an option that it does not have");
}

const char *ctl_value_or(const struct ctl_given *given, const char *option, const char *otherwise)
{
    const char *value = ctl_value(given, option);

    return value != NULL ? value : otherwise;
}

const char *ctl_word(const struct ctl_given *given, size_t index)
{
    return index < given->word_count ? given->words[index] : NULL;
}
