/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_adopt.c - alloyctl journal adopt: brings the events of a dead machine's journal to
 * ClickHouse.
 *
 * alloyd itself does it (alloyd --adopt): only its own replay keeps LSNs, claims and insert tokens
 * exact. Here we find the program, run it, and put its result into words.
 *
 * Runs on: main thread. Owns: the child process.
 */
#include "ctl_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl_json.h"

static pid_t ctl_adopt_child; /* for the handler of signals; 0: none yet */

/* The terminal sends INT to both of us; whoever sends TERM means the work. */
static void ctl_adopt_pass_on(int number)
{
    if (number == SIGTERM && ctl_adopt_child > 0)
        kill(ctl_adopt_child, number);
}

/* The alloyd that lies beside this program, else the one in PATH. */
static void ctl_adopt_find(char path[PATH_MAX])
{
    const ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - 1);
    char *slash;

    if (len > 0) {
        path[len] = '\0';
        slash = strrchr(path, '/');
        if (slash != NULL && (size_t)(slash - path) + sizeof("/alloyd") <= PATH_MAX) {
            strcpy(slash, "/alloyd");
            if (access(path, X_OK) == 0)
                return;
        }
    }
    strcpy(path, "alloyd");
}

/* Starts alloyd with its standard output in *out. Returns 0 or -errno. */
static int ctl_adopt_start(char *const argv[], FILE **out)
{
    struct sigaction action = {.sa_handler = ctl_adopt_pass_on, .sa_flags = SA_RESTART};
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    pid = fork();
    if (pid < 0) {
        close(ends[0]);
        close(ends[1]);
        return -errno;
    }
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execvp(argv[0], argv);
        fprintf(stderr, "alloyctl: %s: %s\n", argv[0], strerror(errno));
        _exit(EXIT_FAILURE);
    }
    close(ends[1]);
    ctl_adopt_child = pid;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    *out = fdopen(ends[0], "r");
    if (*out == NULL)
        close(ends[0]);
    return *out == NULL ? -ENOMEM : 0;
}

/* Waits for the end of alloyd. Returns its exit status. */
static int ctl_adopt_wait(void)
{
    int status;

    while (waitpid(ctl_adopt_child, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_FAILURE;
    ctl_adopt_child = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

static uint64_t ctl_adopt_number(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static void ctl_adopt_tell(const char *dir, const json_t *result, FILE *out)
{
    const uint64_t unknown = ctl_adopt_number(result, "unknown_stream");
    const uint64_t left = ctl_adopt_number(result, "left");
    const uint64_t damaged = ctl_adopt_number(result, "damaged");
    const bool read = json_is_true(json_object_get(result, "read"));
    const json_t *streams = json_object_get(result, "streams");

    for (size_t i = 0; i < json_array_size(streams); i++) {
        const json_t *stream = json_array_get(streams, i);
        const uint64_t events = ctl_adopt_number(stream, "events");

        if (events == 0)
            continue;
        fprintf(out,
                "stream %s: %" PRIu64 " event%s: %" PRIu64 " inserted, %" PRIu64
                " duplicate%s, %" PRIu64 " dead-lettered, %" PRIu64 " left\n",
                json_string_value(json_object_get(stream, "stream")), events, ctl_plural(events),
                ctl_adopt_number(stream, "inserted"), ctl_adopt_number(stream, "duplicates"),
                ctl_plural(ctl_adopt_number(stream, "duplicates")),
                ctl_adopt_number(stream, "dead_lettered"), ctl_adopt_number(stream, "left"));
    }
    if (unknown > 0)
        fprintf(out,
                "%" PRIu64 " event%s wait for streams that this configuration does not have: see "
                "alloyctl journal inspect %s\n",
                unknown, ctl_plural(unknown), dir);
    if (damaged > 0)
        fprintf(out,
                "events are lost in %" PRIu64
                " damaged segment%s: what is left of %s stays there as "
                "*.alj.corrupt\n",
                damaged, ctl_plural(damaged), damaged == 1 ? "it" : "them");
    if (!read)
        fprintf(out, "not all of the journal was read: there may be more events\n");
    if (left > 0)
        fprintf(out, "%" PRIu64 " event%s left in %s: adopt it again\n", left,
                left == 1 ? " is" : "s are", dir);
    else if (!read)
        fprintf(out, "adopt %s again\n", dir);
    else if (damaged == 0)
        fprintf(out, "nothing is left in %s: you may remove it\n", dir);
}

/* Reads what alloyd has to say, and says it. Returns the exit status, given alloyd's. */
static int ctl_adopt_end(const char *dir, json_t *result, int status, struct ctl_out out)
{
    if (result == NULL) {
        fprintf(stderr, "alloyctl: %s was not adopted\n", dir);
        return status == 0 ? EXIT_FAILURE : status;
    }
    if (!out.json) {
        ctl_adopt_tell(dir, result, out.file);
        json_decref(result);
        return status;
    }
    json_object_set_new(result, "dir", ctl_json_text(dir));
    json_object_set_new(result, "ok", json_boolean(status == 0));
    return ctl_print_json(result, out.file) == EXIT_SUCCESS ? status : EXIT_FAILURE;
}

static int ctl_adopt_run(const struct ctl_given *given)
{
    const char *dir = ctl_word(given, 0);
    const char *set = ctl_value(given, "set");
    const char *argv[8] = {ctl_value(given, "alloyd"), "--config",
                           ctl_value_or(given, "config", CTL_CONFIG), "--adopt", dir};
    char path[PATH_MAX];
    json_t *result = NULL;
    FILE *from = NULL;
    int status, err;

    if (set != NULL) {
        argv[5] = "--set";
        argv[6] = set;
    }
    if (argv[0] == NULL) {
        ctl_adopt_find(path);
        argv[0] = path;
    }
    err = ctl_adopt_start((char *const *)argv, &from);
    if (err != 0) {
        fprintf(stderr, "alloyctl: %s: %s\n", argv[0], strerror(-err));
        if (ctl_adopt_child > 0)
            (void)ctl_adopt_wait();
        return EXIT_FAILURE;
    }
    result = json_loadf(from, JSON_DISABLE_EOF_CHECK, NULL);
    fclose(from);
    status = ctl_adopt_wait();
    return ctl_adopt_end(dir, result, status, given->out);
}

static const struct ctl_option ctl_adopt_options[] = {
    CTL_OPTION_CONFIG("the configuration of alloyd, with the streams, Redis and ClickHouse that "
                      "the folder's events belong to (default " CTL_CONFIG ")"),
    {.name = "set",
     .value = "SECTION.KEY=VALUE",
     .help = "override one key of it, such as dead_letter.dir",
     .takes = "SECTION.KEY=VALUE"},
    {.name = "alloyd",
     .value = "PROGRAM",
     .help = "the alloyd to run (default the one beside alloyctl, else the one in PATH)",
     .takes = "the name of a program"},
    {.name = NULL}};

const struct ctl_command ctl_adopt_command = {
    .name = "journal adopt",
    .summary = "bring the events of a dead machine's journal to ClickHouse",
    .words = "DIR",
    .which = "which folder?",
    .words_min = 1,
    .words_max = 1,
    .help = "Takes over the journal folder DIR of an alloyd that will not come back, beside a "
            "running one: starts an alloyd without ports on it, which brings each pending event to "
            "ClickHouse exactly once, with the folder's own LSNs, claims and insert tokens, and "
            "ends when nothing is left. It shows its progress on standard error.\n\n"
            "Run it as the user whom the folder belongs to. Move the folder here rather than copy "
            "it, with the dead machine's dead letters into dead_letter.dir; and never start the "
            "old alloyd on a copy again. Killed or stopped, it can be repeated. Exit status 0 when "
            "all was read, nothing is left, and no segment is damaged.",
    .options = ctl_adopt_options,
    .run = ctl_adopt_run,
};
