/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clickhouse_main.c - alloy-clickhouse: the real ClickHouse engine of libchdb in one process, with
 * ClickHouse's own HTTP interface, for the quick start and the system tests. Not for production.
 *
 * libchdb runs clickhouse-local, which can start the HTTP listener and serves it as long as its
 * query runs: so the query sleeps. The main thread belongs to the engine; a second thread says when
 * the port answers, and ends the process on TERM or INT. An engine that aborts starts again.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "alloy/base.h"

#define CHDB_VERSION "26.7.3-stable.1" /* the version that scripts/install fetches */
#define READY_TIMEOUT_MS 60000
#define READY_POLL_MS 20
#define TEXT_MAX 4096

static const char usage[] =
    "alloy-clickhouse - the real ClickHouse engine in one process, for trying Alloy out\n"
    "\n"
    "Usage: alloy-clickhouse [--port N] [--path DIR] [--listen HOST] [--lib FILE]\n"
    "\n"
    "Serves ClickHouse's HTTP interface from libchdb. Not for production: no users, no limits, no\n"
    "replication, no asynchronous insert queue.\n"
    "\n"
    "  --port N       port of the HTTP interface (default 8123)\n"
    "  --path DIR     folder of the data, created when absent (default ./clickhouse-data)\n"
    "  --listen HOST  address to listen on (default 127.0.0.1)\n"
    "  --lib FILE     libchdb.so (default: $ALLOY_LIBCHDB, else where scripts/install puts it)\n"
    "  --version      print the version and exit\n"
    "  --help         print this text and exit\n"
    "\n"
    "Ends on TERM or INT. Exit status: 0 after a signal, 1 when the engine fails, 2 for a wrong\n"
    "command line.\n";

struct options {
    const char *port;
    const char *path;
    const char *listen;
    char lib[TEXT_MAX];
};

static char **arguments; /* of the process, to start again with */
static struct options options = {.port = "8123", .path = "clickhouse-data", .listen = "127.0.0.1"};

static void clickhouse_default_lib(char out[TEXT_MAX])
{
    const char *lib = getenv("ALLOY_LIBCHDB"), *cache = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");

    if (lib != NULL)
        snprintf(out, TEXT_MAX, "%s", lib);
    else if (cache != NULL)
        snprintf(out, TEXT_MAX, "%s/alloy/libchdb-" CHDB_VERSION "/libchdb.so", cache);
    else
        snprintf(out, TEXT_MAX, "%s/.cache/alloy/libchdb-" CHDB_VERSION "/libchdb.so",
                 home != NULL ? home : "");
}

static bool clickhouse_parse_options(int argc, char **argv)
{
    static const struct option longs[] = {{"port", required_argument, NULL, 'p'},
                                          {"path", required_argument, NULL, 'd'},
                                          {"listen", required_argument, NULL, 'l'},
                                          {"lib", required_argument, NULL, 'L'},
                                          {"version", no_argument, NULL, 'V'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    int option;
    char *end;

    clickhouse_default_lib(options.lib);
    while ((option = getopt_long(argc, argv, "p:hV", longs, NULL)) != -1) {
        switch (option) {
        case 'p':
            options.port = optarg;
            break;
        case 'd':
            options.path = optarg;
            break;
        case 'l':
            options.listen = optarg;
            break;
        case 'L':
            snprintf(options.lib, sizeof(options.lib), "%s", optarg);
            break;
        case 'V':
            puts("alloy-clickhouse " ALLOY_VERSION " (libchdb " CHDB_VERSION ")");
            exit(0);
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "alloy-clickhouse: unexpected argument %s\n", argv[optind]);
        return false;
    }
    errno = 0;
    if (strtol(options.port, &end, 10) < 1 || strtol(options.port, &end, 10) > 65535 ||
        *end != '\0') {
        fprintf(stderr, "alloy-clickhouse: --port takes a number from 1 to 65535, not %s\n",
                options.port);
        return false;
    }
    return true;
}

/* Resolves --listen and --port, then calls use() (bind or connect) on a socket for them. */
static int clickhouse_try_socket(int (*use)(int, const struct sockaddr *, socklen_t))
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *address = NULL;
    int fd, result, on = 1;

    if (getaddrinfo(options.listen, options.port, &hints, &address) != 0)
        return -EADDRNOTAVAIL;
    fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    result = use(fd, address->ai_addr, address->ai_addrlen) == 0 ? 0 : -errno;
    close(fd);
    freeaddrinfo(address);
    return result;
}

/*
 * The engine aborts when clients reset their connections at a bad moment (seen with 26.7: an
 * exception in a connection's thread that nobody catches). It starts again in its place, with the
 * same process id, as after a kill. Runs in a signal handler.
 */
static void clickhouse_start_again(int number)
{
    static const char words[] = "alloy-clickhouse: the engine has aborted, and starts again\n";

    (void)number;
    (void)!write(STDERR_FILENO, words, sizeof(words) - 1);
    (void)close_range(STDERR_FILENO + 1, ~0u, 0);
    execv("/proc/self/exe", arguments);
    _exit(1);
}

/* Once it serves: an engine that cannot even start should not try for ever. */
static void clickhouse_outlive_aborts(void)
{
    const struct sigaction action = {.sa_handler = clickhouse_start_again};

    sigaction(SIGABRT, &action, NULL);
}

static void *clickhouse_watch(void *arg)
{
    const struct timespec pause = {.tv_nsec = READY_POLL_MS * 1000000L};
    const sigset_t *signals = arg;
    bool ready = false;

    for (int waited_ms = 0;; waited_ms += READY_POLL_MS) {
        /* Stopping and continuing the process interrupts the wait: only a signal of the set ends
         * it. */
        if ((ready ? sigwaitinfo(signals, NULL) : sigtimedwait(signals, NULL, &pause)) > 0)
            _exit(0);
        if (ready)
            continue;
        ready = clickhouse_try_socket(connect) == 0;
        if (ready)
            clickhouse_outlive_aborts();
        if (ready)
            fprintf(stderr, "alloy-clickhouse: serving http://%s:%s (not for production)\n",
                    options.listen, options.port);
        else if (waited_ms >= READY_TIMEOUT_MS) {
            fprintf(stderr, "alloy-clickhouse: the engine did not open port %s in %d s\n",
                    options.port, READY_TIMEOUT_MS / 1000);
            _exit(1);
        }
    }
}

/* Runs the engine; returns only when it has failed. */
static int clickhouse_run_engine(void *(*query)(int, char **))
{
    /* One row a second, in blocks of one row: about thirty years. */
    static char forever[] = "--query=SYSTEM START LISTEN HTTP; SELECT sleepEachRow(1) FROM "
                            "numbers(1000000000) FORMAT Null SETTINGS max_block_size = 1, "
                            "function_sleep_max_microseconds_per_block = 10000000";
    static char name[] = "clickhouse", multiquery[] = "--multiquery";
    char path[TEXT_MAX], port[64], listen_host[TEXT_MAX];
    char *argv[] = {name, path, port, listen_host, multiquery, forever, NULL};

    snprintf(path, sizeof(path), "--path=%s", options.path);
    snprintf(port, sizeof(port), "--http_port=%s", options.port);
    snprintf(listen_host, sizeof(listen_host), "--listen_host=%s", options.listen);
    query((int)ARRAY_LEN(argv) - 1, argv);
    fprintf(stderr, "alloy-clickhouse: the engine ended by itself\n");
    return 1;
}

int main(int argc, char **argv)
{
    void *(*query)(int, char **);
    pthread_t watcher;
    sigset_t signals;
    void *lib;
    int err;

    arguments = argv;
    if (!clickhouse_parse_options(argc, argv)) {
        fputs("Try: alloy-clickhouse --help\n", stderr);
        return 2;
    }
    if (mkdir(options.path, 0755) != 0 && errno != EEXIST) {
        fprintf(stderr, "alloy-clickhouse: cannot create %s: %s\n", options.path, strerror(errno));
        return 1;
    }
    err = clickhouse_try_socket(bind);
    if (err != 0) {
        fprintf(stderr, "alloy-clickhouse: cannot listen on %s:%s: %s\n", options.listen,
                options.port, strerror(-err));
        return 1;
    }
    /* Block them before the engine starts its threads, so that only the watcher gets these
     * signals. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGABRT); /* blocked in the handler that has started us again */
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    lib = dlopen(options.lib, RTLD_NOW | RTLD_GLOBAL);
    if (lib == NULL) {
        fprintf(stderr, "alloy-clickhouse: %s\nRun scripts/install to fetch libchdb.\n", dlerror());
        return 1;
    }
    *(void **)&query = dlsym(lib, "chdb_query_cmdline");
    if (query == NULL) {
        fprintf(stderr, "alloy-clickhouse: %s\n", dlerror());
        return 1;
    }
    if (pthread_create(&watcher, NULL, clickhouse_watch, &signals) != 0) {
        fprintf(stderr, "alloy-clickhouse: cannot start a thread\n");
        return 1;
    }
    return clickhouse_run_engine(query);
}
