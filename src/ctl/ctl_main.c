/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_main.c - the command line of alloyctl.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/clock.h"
#include "alloy/keys.h"
#include "ctl.h"

#define LETTER_DIR "/var/lib/alloy/dead-letter"
#define URL "http://127.0.0.1:8080"
#define ADMIN_URL "http://127.0.0.1:8081"

#define CONFIG "/etc/alloy/alloy.ini"

enum command {
    LETTERS_LIST,
    LETTERS_SHOW,
    LETTERS_REPLAY,
    JOURNAL_INSPECT,
    JOURNAL_VERIFY,
    BURY,
    KEY_ADD,
    KEY_LIST,
    KEY_REMOVE
};

static const struct {
    const char *noun;
    const char *verb;    /* NULL: the noun is the whole command */
    const char *options; /* letters of the long_options that it takes */
} commands[] = {
    [LETTERS_LIST] = {"dead-letter", "list", ""},
    [LETTERS_SHOW] = {"dead-letter", "show", "scarA"},
    [LETTERS_REPLAY] = {"dead-letter", "replay", "supkF"},
    [JOURNAL_INSPECT] = {"journal", "inspect", ""},
    [JOURNAL_VERIFY] = {"journal", "verify", ""},
    [BURY] = {"bury", NULL, "dK"},
    [KEY_ADD] = {"key", "add", "SRfC"},
    [KEY_LIST] = {"key", "list", "fC"},
    [KEY_REMOVE] = {"key", "remove", "fC"},
};

static const struct option long_options[] = {
    {"stream", required_argument, NULL, 's'},
    {"code", required_argument, NULL, 'c'},
    {"since", required_argument, NULL, 'a'},
    {"raw", no_argument, NULL, 'r'},
    {"url", required_argument, NULL, 'u'},
    {"path", required_argument, NULL, 'p'},
    {"all", no_argument, NULL, 'A'},
    {"keep", no_argument, NULL, 'k'},
    {"key-file", required_argument, NULL, 'F'},
    {"admin", required_argument, NULL, 'd'},
    {"admin-key-file", required_argument, NULL, 'K'},
    {"streams", required_argument, NULL, 'S'},
    {"rate", required_argument, NULL, 'R'},
    {"file", required_argument, NULL, 'f'},
    {"config", required_argument, NULL, 'C'},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const char help_text[] =
    "alloyctl looks into the folders of alloyd, posts refused events again, lets a stream's\n"
    "refused events go, and makes keys for clients.\n"
    "\n"
    "Usage: alloyctl dead-letter list   [DIR]\n"
    "       alloyctl dead-letter show   [--stream NAME] [--code N] [--since TIME] [--raw] [--all] "
    "[DIR]\n"
    "       alloyctl dead-letter replay [--stream NAME] [--url URL] [--path PATH] [--keep]\n"
    "                                   [--key-file FILE] [DIR]\n"
    "       alloyctl journal inspect DIR\n"
    "       alloyctl journal verify DIR\n"
    "       alloyctl bury STREAM [--admin URL] [--admin-key-file FILE]\n"
    "       alloyctl key add NAME [--streams NAME,NAME] [--rate N] [--file FILE | --config FILE]\n"
    "       alloyctl key list [--file FILE | --config FILE]\n"
    "       alloyctl key remove NAME [--file FILE | --config FILE]\n"
    "\n"
    "dead-letter: events that ClickHouse refused, in DIR (default " LETTER_DIR ")\n"
    "  list    files, events and time span, and sums by stream and code\n"
    "  show    each event that was not replayed, with the reason, over several lines\n"
    "  replay  post the original events to an alloyd, which may run on this folder; a file whose\n"
    "          events were all answered 202 is renamed to *.replayed\n"
    "\n"
    "  --stream NAME  only events of this stream\n"
    "  --code N       only events refused with this exception code of ClickHouse\n"
    "  --since TIME   only events refused since then: 2026-01-31, 2026-01-31T12:00:00Z (UTC), or\n"
    "                 90s, 15min, 2h, 7d ago\n"
    "  --raw          lines as they are in the files, for jq and the like\n"
    "  --all          also events that were replayed\n"
    "  --url URL      where alloyd takes events (default " URL ")\n"
    "  --path PATH    path to post to, for one stream (default /v1/ and the stream's name)\n"
    "  --keep         leave the files as they are\n"
    "  --key-file FILE\n"
    "                 file whose first line is a key of auth.keys_file for these streams\n"
    "\n"
    "journal: accepted events that are not yet in ClickHouse, in DIR. Both commands only read, "
    "take\n"
    "no lock, and work whether alloyd runs or not.\n"
    "  inspect  segments and streams: records by state, bytes, and the oldest that waits\n"
    "  verify   check every checksum, and print segment and offset of each problem\n"
    "\n"
    "bury: tells a running alloyd to move the events of STREAM that ClickHouse refuses to the\n"
    "dead letters, from where they can be replayed. alloyd keeps them while ClickHouse refuses\n"
    "every event of the stream, which /readyz reports as clickhouse.STREAM.refuses.\n"
    "  --admin URL    where alloyd's admin port is (default " ADMIN_URL ")\n"
    "  --admin-key-file FILE\n"
    "                 file whose first line is the key of the admin port (admin.key_file)\n"
    "\n"
    "key: the keys with which clients may send, in the file of auth.keys_file. It holds hashes "
    "and\n"
    "no keys. alloyd reads it when it starts and at HUP.\n"
    "  add     make a key, print it this once, and add a line to the file, which is made if need "
    "be\n"
    "  list    names, streams and rates\n"
    "  remove  remove the line of the key NAME\n"
    "\n"
    "  --streams NAMES  the streams that the key is for (default *, all of them)\n"
    "  --rate N         events a second (default 0, any number)\n"
    "  --file FILE      the keys file\n"
    "  --config FILE    the configuration that names it (default " CONFIG ")\n"
    "\n"
    "  -V, --version  print the version, and exit\n"
    "  -h, --help     print this text, and exit\n"
    "\n"
    "Exit status: 0 when all went well, 1 when something failed or a problem was found,\n"
    "2 for a wrong command line.\n";

struct command_line {
    enum command command;
    const char *word; /* what the command is about: a folder, or a stream */
    struct ctl_admin admin;
    const char *config;
    struct ctl_key key;
    struct ctl_show show;
    struct ctl_replay replay;
};

/* A write error is a failure: a script must not go on with half of the output. */
static int ctl_main_finish_output(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("alloyctl: standard output");
        return EXIT_FAILURE;
    }
    return status;
}

static int ctl_main_refuse(void)
{
    fputs("Try 'alloyctl --help' for more information.\n", stderr);
    return CTL_USAGE;
}

/* What an option takes, for the message about a wrong value. */
static const char *ctl_main_what_it_takes(int option)
{
    switch (option) {
    case 's':
        return "the name of a stream";
    case 'c':
        return "an exception code of ClickHouse, a number from 1 to 99999";
    case 'a':
        return "a time such as 2026-01-31 or 2026-01-31T12:00:00Z (UTC), or 90s, 15min, 2h or 7d "
               "ago";
    case 'u':
        return "a URL such as " URL ", without a path: that goes into --path";
    case 'd':
        return "a URL such as " ADMIN_URL ", without a path";
    case 'S':
        return "* or names of streams, with commas and no white space between them";
    case 'R':
        return "a number of events a second, from 0 to 1000000000";
    case 'K':
    case 'f':
    case 'C':
        return "the name of a file";
    default:
        return "a path that begins with '/'";
    }
}

static bool ctl_main_set_code(struct command_line *line, const char *text)
{
    char *end;
    long code = strtol(text, &end, 10);

    line->show.filter.code = (int)code;
    return *text != '\0' && *end == '\0' && code > 0 && code < 100000;
}

static bool ctl_main_set_rate(struct command_line *line, const char *text)
{
    char *end;
    unsigned long rate = strtoul(text, &end, 10);

    line->key.rate = rate;
    return *text >= '0' && *text <= '9' && *end == '\0' && rate <= BUCKET_RATE_MAX;
}

static bool ctl_main_set_file(const char **file)
{
    *file = optarg;
    return optarg[0] != '\0';
}

/* Takes one option that is not --help or --version. False: its value is wrong. */
static bool ctl_main_take_option(struct command_line *line, int option)
{
    switch (option) {
    case 's':
        line->show.filter.stream = line->replay.stream = optarg;
        return optarg[0] != '\0';
    case 'c':
        return ctl_main_set_code(line, optarg);
    case 'a':
        return ctl_parse_since(optarg, clock_real_ms(), &line->show.filter.since_ms);
    case 'r':
        line->show.raw = true;
        return true;
    case 'A':
        line->show.all = true;
        return true;
    case 'u':
        line->replay.url = optarg;
        return ctl_is_base_url(optarg);
    case 'd':
        line->admin.url = optarg;
        return ctl_is_base_url(optarg);
    case 'K':
        return ctl_main_set_file(&line->admin.key_file);
    case 'F':
        return ctl_main_set_file(&line->replay.key_file);
    case 'f':
        return ctl_main_set_file(&line->key.file);
    case 'C':
        return ctl_main_set_file(&line->config);
    case 'S':
        line->key.streams = optarg;
        return keys_streams_problem((struct slice){optarg, strlen(optarg)}) == NULL;
    case 'R':
        return ctl_main_set_rate(line, optarg);
    case 'p':
        line->replay.path = optarg;
        return optarg[0] == '/';
    default:
        line->replay.keep = true;
        return true;
    }
}

/* Finds the command that the first words name, and in *used how many they are. False: there is none
 * (reported). */
static bool ctl_main_find_command(struct command_line *line, int count, char **words, int *used)
{
    bool is_noun = false;

    for (size_t i = 0; count > 0 && i < ARRAY_LEN(commands); i++) {
        if (strcmp(words[0], commands[i].noun) != 0)
            continue;
        is_noun = true;
        *used = commands[i].verb == NULL ? 1 : 2;
        if (*used == 1 || (count > 1 && strcmp(words[1], commands[i].verb) == 0)) {
            line->command = (enum command)i;
            return true;
        }
    }
    if (count == 0)
        fputs("alloyctl: a command is missing\n", stderr);
    else if (!is_noun)
        fprintf(stderr, "alloyctl: there is no command '%s'\n", words[0]);
    else if (count == 1)
        fprintf(stderr, "alloyctl: %s: a command is missing\n", words[0]);
    else
        fprintf(stderr, "alloyctl: there is no command '%s %s'\n", words[0], words[1]);
    return false;
}

/* Takes the name of a key; NULL: none is given. False: it is wrong (reported). */
static bool ctl_main_take_key(struct command_line *line, const char *name)
{
    const char *verb = commands[line->command].verb;
    const char *problem = NULL;

    if ((name != NULL) == (line->command == KEY_LIST)) {
        if (name == NULL)
            fprintf(stderr, "alloyctl: key %s: which key?\n", verb);
        else
            fprintf(stderr, "alloyctl: unexpected argument '%s'\n", name);
        return false;
    }
    line->key.name = name;
    if (name != NULL)
        problem = keys_name_problem((struct slice){name, strlen(name)});
    if (problem != NULL)
        fprintf(stderr, "alloyctl: key %s: '%s': %s\n", verb, name, problem);
    return problem == NULL;
}

/* Takes the words: noun, verb, and a folder or a stream. False: they are wrong (reported). */
static bool ctl_main_take_words(struct command_line *line, int count, char **words)
{
    int used;

    if (!ctl_main_find_command(line, count, words, &used))
        return false;
    if (count > used + 1) {
        fprintf(stderr, "alloyctl: unexpected argument '%s'\n", words[used + 1]);
        return false;
    }
    line->word = count > used ? words[used] : LETTER_DIR;
    if (strcmp(words[0], "key") == 0)
        return ctl_main_take_key(line, count > used ? words[used] : NULL);
    if (count == used && strcmp(words[0], "journal") == 0) {
        fprintf(stderr, "alloyctl: journal %s: which folder?\n", words[1]);
        return false;
    }
    if (line->command == BURY && (count == used || line->word[0] == '\0')) {
        fputs("alloyctl: bury: which stream?\n", stderr);
        return false;
    }
    return true;
}

/* Returns -1 to go on, or the exit status. */
static int ctl_main_parse_command_line(int argc, char **argv, struct command_line *line)
{
    char given[ARRAY_LEN(long_options)] = "";
    size_t given_count = 0;
    int index = 0;
    int option;

    while ((option = getopt_long(argc, argv, "Vh", long_options, &index)) != -1) {
        if (option == 'V') {
            puts("alloyctl " ALLOY_VERSION);
            return ctl_main_finish_output(EXIT_SUCCESS);
        }
        if (option == 'h') {
            fputs(help_text, stdout);
            return ctl_main_finish_output(EXIT_SUCCESS);
        }
        if (option == '?')
            return ctl_main_refuse();
        if (!ctl_main_take_option(line, option)) {
            fprintf(stderr, "alloyctl: --%s: '%s' is not %s\n", long_options[index].name, optarg,
                    ctl_main_what_it_takes(option));
            return ctl_main_refuse();
        }
        if (strchr(given, option) == NULL)
            given[given_count++] = (char)option;
    }
    if (!ctl_main_take_words(line, argc - optind, argv + optind))
        return ctl_main_refuse();
    for (const char *letter = given; *letter != '\0'; letter++) {
        if (strchr(commands[line->command].options, *letter) != NULL)
            continue;
        for (index = 0; long_options[index].val != *letter;)
            index++;
        fprintf(stderr, "alloyctl: %s%s%s does not take --%s\n", commands[line->command].noun,
                commands[line->command].verb == NULL ? "" : " ",
                commands[line->command].verb == NULL ? "" : commands[line->command].verb,
                long_options[index].name);
        return ctl_main_refuse();
    }
    return -1;
}

static int ctl_main_run_key(struct command_line *line)
{
    char *file = line->key.file != NULL ? strdup(line->key.file) : ctl_keys_file(line->config);
    int status = EXIT_FAILURE;

    line->key.file = file;
    if (file == NULL)
        return EXIT_FAILURE;
    if (line->command == KEY_ADD)
        status = ctl_key_add(&line->key, stdout);
    else if (line->command == KEY_REMOVE)
        status = ctl_key_remove(&line->key, stdout);
    else
        status = ctl_key_list(file, stdout);
    free(file);
    return ctl_main_finish_output(status);
}

static int ctl_main_run(struct command_line *line)
{
    switch (line->command) {
    case LETTERS_LIST:
        return ctl_main_finish_output(ctl_letters_list(line->word, stdout));
    case LETTERS_SHOW:
        return ctl_main_finish_output(ctl_letters_show(line->word, &line->show, stdout));
    case LETTERS_REPLAY:
        line->replay.dir = line->word;
        return ctl_replay(&line->replay);
    case JOURNAL_INSPECT:
        return ctl_main_finish_output(ctl_journal_inspect(line->word, stdout));
    case JOURNAL_VERIFY:
        return ctl_main_finish_output(ctl_journal_verify(line->word, stdout));
    case BURY:
        return ctl_main_finish_output(ctl_bury(&line->admin, line->word, stdout));
    case KEY_ADD:
    case KEY_LIST:
    case KEY_REMOVE:
        return ctl_main_run_key(line);
    }
    ALLOY_UNREACHABLE("a command without a case");
}

int main(int argc, char **argv)
{
    struct command_line line = {.admin = {.url = ADMIN_URL},
                                .config = CONFIG,
                                .key = {.streams = "*"},
                                .replay = {.url = URL}};
    int status = ctl_main_parse_command_line(argc, argv, &line);

    return status < 0 ? ctl_main_run(&line) : status;
}
