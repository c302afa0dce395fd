/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_command.c - how alloyctl reads its command line, with commands of the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "ctl_command.h"

/* What the last command was given. */
static char got[256];
/* What the last run printed to standard output and standard error. */
static char printed[8192], told[2048];

static int tell(const struct ctl_given *given)
{
    snprintf(got, sizeof(got), "%s(%s %s %s)%s", given->command->name,
             ctl_value_or(given, "color", "-"), ctl_value(given, "loud") != NULL ? "loud" : "-",
             ctl_word(given, 0) != NULL ? ctl_word(given, 0) : "-", given->out.json ? " json" : "");
    return 0;
}

static bool good_color(const char *value)
{
    return strcmp(value, "red") == 0 || strcmp(value, "blue") == 0;
}

static const struct ctl_option options[] = {{.name = "color",
                                             .value = "COLOR",
                                             .help = "which color",
                                             .takes = "red or blue",
                                             .good = good_color},
                                            {.name = "loud", .help = "loudly"},
                                            {.name = NULL}};
static const struct ctl_command paint = {.name = "paint",
                                         .summary = "paints",
                                         .words = "WALL",
                                         .which = "which wall?",
                                         .words_min = 1,
                                         .words_max = 1,
                                         .help = "Paints a wall.",
                                         .options = options,
                                         .run = tell};
static const struct ctl_command group = {
    .name = "house", .summary = "houses", .help = "Houses have walls."};
static const struct ctl_command build = {.name = "house build",
                                         .summary = "builds",
                                         .help = "Builds.",
                                         .options = options,
                                         .no_json = true,
                                         .run = tell};
static const struct ctl_command burn = {.name = "house burn",
                                        .summary = "burns",
                                        .words_max = 1,
                                        .help = "Burns.",
                                        .options = options,
                                        .run = tell};
static const struct ctl_command *const commands[] = {&paint, &group, &build, &burn};

static void read_back(int fd, char *text, size_t room)
{
    ssize_t n = pread(fd, text, room - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    close(fd);
}

/* Splits words at spaces and runs them as a command line; "" stands for an empty argument. */
static int run(const char *words)
{
    char line[256], *argv[16] = {(char[]){"alloyctl"}}, *rest = NULL;
    int out = open("/tmp", O_TMPFILE | O_RDWR, 0600), err = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    const int old_out = dup(STDOUT_FILENO), old_err = dup(STDERR_FILENO);
    int argc = 1, status;

    got[0] = '\0';
    snprintf(line, sizeof(line), "%s", words);
    for (char *word = strtok_r(line, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        argv[argc++] = strcmp(word, "\"\"") == 0 ? word + 2 : word;
    argv[argc] = NULL;
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    status = ctl_dispatch(commands, ARRAY_LEN(commands), argc, argv);
    fflush(NULL);
    dup2(old_out, STDOUT_FILENO);
    dup2(old_err, STDERR_FILENO);
    close(old_out);
    close(old_err);
    read_back(out, printed, sizeof(printed));
    read_back(err, told, sizeof(told));
    return status;
}

static void assert_runs(const char *words, const char *expected)
{
    assert_int_equal(run(words), 0);
    assert_string_equal(got, expected);
}

static void assert_refused(const char *words, const char *why)
{
    assert_int_equal(run(words), CTL_USAGE);
    assert_string_equal(got, "");
    assert_string_equal(printed, "");
    if (strstr(told, why) == NULL || strstr(told, "Try 'alloyctl --help'") == NULL)
        fail_msg("%s: %s", words, told);
}

static void assert_prints(const char *words, const char *expected)
{
    assert_int_equal(run(words), 0);
    assert_string_equal(got, "");
    if (strstr(printed, expected) == NULL)
        fail_msg("%s: %s", words, printed);
}

static void a_command_gets_its_options_and_words_in_any_order(void **state)
{
    (void)state;
    assert_runs("paint north", "paint(- - north)");
    assert_runs("paint --color red --loud north", "paint(red loud north)");
    assert_runs("paint north --color=blue --json", "paint(blue - north) json");
    assert_runs("paint -- --loud", "paint(- - --loud)");
    assert_runs("house burn", "house burn(- - -)");
    assert_runs("house burn down --color red", "house burn(red - down)");
    assert_runs("paint --color red --color blue x", "paint(blue - x)");
}

static void what_is_wrong_is_told(void **state)
{
    (void)state;
    assert_refused("", "alloyctl: a command is missing\n");
    assert_refused("pant", "there is no command 'pant'; did you mean 'paint'?\n");
    assert_refused("burn", "there is no command 'burn'; did you mean 'house burn'?\n");
    assert_refused("sing", "there is no command 'sing'\n");
    assert_refused("house", "house: a command is missing\n");
    assert_refused("house --loud", "house: a command is missing\n");
    assert_refused("house bulid", "there is no command 'house bulid'; did you mean 'house build'?");
    assert_refused("paint", "paint: which wall?\n");
    assert_refused("paint \"\"", "paint: which wall?\n");
    assert_refused("paint a b", "unexpected argument 'b'\n");
    assert_refused("house build a", "unexpected argument 'a'\n");
    assert_refused("paint a --color green", "--color: 'green' is not red or blue\n");
    assert_refused("paint a --color", "paint: --color needs a value, red or blue\n");
    assert_refused("paint a --colour=red", "paint does not take --colour; did you mean '--color'?");
    assert_refused("paint a --quiet", "paint does not take --quiet\n");
    assert_refused("paint a --loud=5", "paint: --loud takes no value\n");
    assert_refused("paint a --json=5", "paint: --json takes no value\n");
    assert_refused("paint a -q", "paint does not take -q\n");
    assert_refused("house build --json", "house build does not take --json\n");
    assert_refused("--loud paint a", "unknown option '--loud'; a command comes first\n");
    assert_refused("help sing", "there is no command 'sing'\n");
    assert_refused("help house sing", "there is no command 'house sing'\n");
}

static void every_command_has_help_of_its_own(void **state)
{
    (void)state;
    assert_prints("--help", "  paint        paints\n  house build  builds\n  house burn   burns\n");
    assert_prints("help", "  house build  builds\n");
    assert_prints("house --help", "Houses have walls.\n\nCommands:\n  house build  builds\n");
    assert_null(strstr(printed, "paint"));
    assert_prints("paint --help",
                  "Usage: alloyctl paint [OPTION]... WALL\n\nPaints a wall.\n\nOptions:\n"
                  "  --color COLOR  which color\n  --loud         loudly\n  --json         ");
    assert_prints("help house build", "Usage: alloyctl house build [OPTION]...\n\nBuilds.\n");
    assert_null(strstr(printed, "--json"));
}

static void programs_can_list_the_commands(void **state)
{
    (void)state;
    assert_prints("--help --json", "\"name\": \"house burn\"");
    assert_prints("--version", "alloyctl ");
    assert_prints("paint --version", "alloyctl ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_gets_its_options_and_words_in_any_order),
        cmocka_unit_test(what_is_wrong_is_told),
        cmocka_unit_test(every_command_has_help_of_its_own),
        cmocka_unit_test(programs_can_list_the_commands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
