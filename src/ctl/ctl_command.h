/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_command.h - a command of alloyctl is one row: its name, options, help text and function. The
 * row stands in the file that does the work; ctl_main.c lists the rows.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_COMMAND_H
#define ALLOY_CTL_COMMAND_H

#include <stdbool.h>

#include "alloy/base.h"
#include "ctl.h"

#define CTL_OPTIONS_MAX 16 /* options of one command */

/* --json, --help and --version are every command's and in no row. */
struct ctl_option {
    const char *name;                /* without its dashes; NULL: the row that ends the table */
    const char *value;               /* what the help calls its value; NULL: it takes none */
    const char *help;                /* what it does */
    const char *takes;               /* what a value must be, for the message about a wrong one */
    bool (*good)(const char *value); /* NULL: any value but the empty one */
};

/* What the command line gives to a command. Everything is lent until the command returns. */
struct ctl_given {
    const struct ctl_command *command;
    /* In the order of the command's options. NULL: not given. An option without a value has "". */
    const char *values[CTL_OPTIONS_MAX];
    char *const *words; /* those behind the command's name; none is empty */
    size_t word_count;
    struct ctl_out out;
};

struct ctl_command {
    const char *name;    /* "bury", or "journal inspect" */
    const char *summary; /* half a sentence for the list of commands */
    const char *words;   /* how the usage line shows its words, "DIR" or "[DIR]"; NULL: none */
    const char *which;   /* what to ask when a word is missing: "which folder?" */
    size_t words_min, words_max;
    bool no_json;                     /* it prints no facts, so --json is refused */
    const char *help;                 /* sentences; an empty line begins a paragraph */
    const struct ctl_option *options; /* NULL: none */
    /* Returns the exit status. NULL: the row is the head of a group, as "journal" is. */
    int (*run)(const struct ctl_given *given);
};

/* The value of one of the command's options; NULL: it was not given. */
const char *ctl_value(const struct ctl_given *given, const char *option);
/* The same, or otherwise where it was not given. */
const char *ctl_value_or(const struct ctl_given *given, const char *option, const char *otherwise);
/* The word at index; NULL: there are fewer. */
const char *ctl_word(const struct ctl_given *given, size_t index);

/* Says where help is, for a command whose words or options are wrong (which has been told). Returns
 * the exit status. */
int ctl_refuse(const struct ctl_command *command);

/* Finds the command, reads its options, runs it, and returns the exit status of the process. */
int ctl_dispatch(const struct ctl_command *const *commands, size_t count, int argc, char **argv);

/* Options that several commands take. */
#define CTL_OPTION_ADMIN                                                                    \
    {                                                                                       \
        .name = "admin", .value = "URL",                                                    \
        .help = "where alloyd's admin port is (default " CTL_ADMIN_URL ")",                 \
        .takes = "a URL such as " CTL_ADMIN_URL ", without a path", .good = ctl_is_base_url \
    }
#define CTL_OPTION_ADMIN_KEY_FILE                                                      \
    {                                                                                  \
        .name = "admin-key-file", .value = "FILE",                                     \
        .help = "file whose first line is the key of the admin port (admin.key_file)", \
        .takes = "the name of a file"                                                  \
    }
#define CTL_OPTION_CONFIG(text)                                                        \
    {                                                                                  \
        .name = "config", .value = "FILE", .help = text, .takes = "the name of a file" \
    }
#define CTL_OPTION_STREAM(text)                                                          \
    {                                                                                    \
        .name = "stream", .value = "NAME", .help = text, .takes = "the name of a stream" \
    }

#endif
