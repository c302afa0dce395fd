/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - the command line of alloyd.
 *
 * Reads options and configuration, handles what only prints (--check, --help and the like) itself,
 * and leaves the rest to daemon_run().
 *
 * Runs on: main thread. Owns: the list of overrides.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloy/config.h"
#include "alloy/config_schema.h"
#include "alloy/connect_check.h"
#include "alloy/log.h"
#include "daemon.h"

#define CONFIG_PATH "/etc/alloy/alloy.ini"
#define EXIT_USAGE 2
#define OPTION_SCHEMA 256 /* options without a letter */
#define OPTION_CONNECT 257
#define OPTION_ADOPT 258
#define ADOPT_OVERRIDES 2 /* what --adopt sets */

struct command_line {
    const char *config_path;
    char *const *argv;
    const char **overrides; /* room for every argument */
    size_t override_count;
    const char *adopt; /* another alloyd's journal folder; NULL: serve */
    bool check;
    bool connect;
    bool dump;
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"set", required_argument, NULL, 'o'},
    {"check", no_argument, NULL, 't'},
    {"connect", no_argument, NULL, OPTION_CONNECT},
    {"dump-config", no_argument, NULL, 'D'},
    {"config-schema", no_argument, NULL, OPTION_SCHEMA},
    {"adopt", required_argument, NULL, OPTION_ADOPT},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const char help_text[] =
    "alloyd takes JSON events over HTTP and brings each of them to ClickHouse exactly once.\n"
    "\n"
    "Usage: alloyd [-c FILE] [-o SECTION.KEY=VALUE]... [-t [--connect]] [-D]\n"
    "\n"
    "  -c, --config FILE            configuration file (default " CONFIG_PATH ")\n"
    "  -o, --set SECTION.KEY=VALUE  override one key of the file; may be repeated\n"
    "  -t, --check                  check the configuration, print every problem, and exit\n"
    "      --connect                with --check: ask Redis and ClickHouse too, some seconds\n"
    "                               at most, whether they are as this configuration needs them\n"
    "  -D, --dump-config            print the configuration in effect, and exit\n"
    "      --adopt DIR              bring the events of another alloyd's journal folder to\n"
    "                               ClickHouse, and exit (alloyctl journal adopt)\n"
    "      --config-schema          print a JSON Schema of the configuration, and exit\n"
    "  -V, --version                print the version, and exit\n"
    "  -h, --help                   print this text, and exit\n"
    "\n"
    "alloyd stays in the foreground and logs to standard error.\n"
    "\n"
    "Signals:\n"
    "  TERM, INT  stop taking events, finish those at hand, and exit; a second one exits at once\n"
    "  HUP        read the configuration again and take over what needs no restart\n"
    "  USR2       restart, or upgrade, in place: as a stop and a start, but no client is refused\n"
    "\n"
    "Exit status: 0 after a clean stop, 1 after a failure at run time,\n"
    "2 for a wrong command line or configuration.\n"
    "\n"
    "Every key is explained in docs/CONFIG.md and in the configuration file itself.\n";

/* How many CPUs this process may use; in a container fewer than the machine has. */
static size_t main_count_cpus(void)
{
    cpu_set_t cpus;

    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
        return 1; /* more than 1024 CPUs do not fit here; the operator can set server.threads */
    return (size_t)CPU_COUNT(&cpus);
}

/* Ends a run that only prints. A write error is a failure: a script must not go on with half of the
 * output. */
static int main_finish_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("alloyd: standard output");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static int main_refuse(void)
{
    fputs("Try 'alloyd --help' for more information.\n", stderr);
    return EXIT_USAGE;
}

/* Returns -1 to go on, or the exit status. */
static int main_parse_command_line(int argc, char **argv, struct command_line *line)
{
    int option;

    while ((option = getopt_long(argc, argv, "c:o:tDVh", long_options, NULL)) != -1) {
        switch (option) {
        case 'c':
            line->config_path = optarg;
            break;
        case 'o':
            line->overrides[line->override_count++] = optarg;
            break;
        case 't':
            line->check = true;
            break;
        case OPTION_CONNECT:
            line->connect = true;
            break;
        case 'D':
            line->dump = true;
            break;
        case OPTION_ADOPT:
            line->adopt = optarg;
            break;
        case OPTION_SCHEMA:
            config_schema_print(stdout);
            return main_finish_output();
        case 'V':
            puts("alloyd " ALLOY_VERSION);
            return main_finish_output();
        case 'h':
            fputs(help_text, stdout);
            return main_finish_output();
        default:
            return main_refuse();
        }
    }
    if (optind < argc) {
        fprintf(stderr, "alloyd: unexpected argument '%s'\n", argv[optind]);
        return main_refuse();
    }
    if (line->connect && !line->check) {
        fputs("alloyd: --connect goes with --check\n", stderr);
        return main_refuse();
    }
    return -1;
}

/* Lets the daemon use another journal folder, in which there must be one: it would make it
 * otherwise. Returns -1 to go on, or the exit status. */
static int main_adopt(struct command_line *line, char **dir)
{
    char *instance;

    if (asprintf(&instance, "%s/instance", line->adopt) < 0)
        return EXIT_FAILURE;
    if (access(instance, F_OK) != 0) {
        fprintf(stderr, "alloyd: %s is not the folder of a journal: %s: %s\n", line->adopt,
                instance, strerror(errno));
        free(instance);
        return EXIT_FAILURE;
    }
    free(instance);
    if (asprintf(dir, "journal.dir=%s", line->adopt) < 0) {
        *dir = NULL;
        return EXIT_FAILURE;
    }
    line->overrides[line->override_count++] = *dir;
    line->overrides[line->override_count++] = "journal.mode=file";
    /* What the parent tells and gives is meant for one that serves. */
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("LISTEN_FDS");
    return -1;
}

/* Under systemd with their priority, so that journalctl -p warning says why alloyd does not start.
 */
static void main_print_problems(const char *text, bool fatal)
{
    const char *priority = !log_goes_to_journal() ? "" : fatal ? "<3>" : "<4>";

    for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1)
        fprintf(stderr, "%s%.*s\n", priority, (int)(end - text), text);
}

static struct config *main_load(const struct daemon_options *options)
{
    char *text = NULL;
    size_t len = 0;
    FILE *problems = open_memstream(&text, &len);
    struct config *config;

    if (problems == NULL) {
        perror("alloyd");
        return NULL;
    }
    config = config_load(options->config_path, options->overrides, options->override_count,
                         options->cpu_count, problems);
    if (fclose(problems) == 0)
        main_print_problems(text, config == NULL);
    free(text);
    return config;
}

static int main_run(const struct command_line *line)
{
    struct daemon_options options = {.config_path = line->config_path,
                                     .overrides = line->overrides,
                                     .override_count = line->override_count,
                                     .adopt = line->adopt != NULL,
                                     .cpu_count = main_count_cpus(),
                                     .argv = line->argv};
    struct config *config = main_load(&options);

    if (config == NULL)
        return EXIT_USAGE;
    if (line->connect && connect_check(config, stderr) > 0) {
        config_destroy(config);
        return EXIT_USAGE;
    }
    if (!line->check && !line->dump)
        return daemon_run(config, &options);
    /* With both, standard output must still read back as a configuration: "ok" is a comment. */
    if (line->check)
        printf("%s%s: ok\n", line->dump ? "; " : "", line->config_path);
    if (line->dump)
        config_dump(config, stdout);
    config_destroy(config);
    return main_finish_output();
}

int main(int argc, char **argv)
{
    struct command_line line = {.config_path = CONFIG_PATH, .argv = argv};
    char *adopt_dir = NULL;
    int status;

    line.overrides = calloc((size_t)argc + 1 + ADOPT_OVERRIDES, sizeof(*line.overrides));
    if (line.overrides == NULL) {
        fputs("alloyd: out of memory\n", stderr);
        return EXIT_FAILURE;
    }
    status = main_parse_command_line(argc, argv, &line);
    if (status < 0 && line.adopt != NULL)
        status = main_adopt(&line, &adopt_dir);
    if (status < 0)
        status = main_run(&line);
    free(adopt_dir);
    free(line.overrides);
    return status;
}
