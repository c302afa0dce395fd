/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_options.h - the command line of bench/load.
 */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 64
#define PIPELINE_MAX 64

struct options {
    const char *host, *port, *path, *run, *header;
    bool tls, wait;
    unsigned threads, connections, seconds, pipeline, events, bytes;
    unsigned duplicates; /* of 100 events, how many repeat one of the last 1000 */
    unsigned streams;    /* 0, or the path has that many numbers at its end, by turns */
    double rate;         /* requests a second, all threads; 0: closed loop */
};

static inline void usage(FILE *out)
{
    fputs("Usage: load [options] http[s]://HOST:PORT/PATH\n"
          "  -c, --connections N  all threads together (64)\n"
          "  -t, --threads N      (1)\n"
          "  -d, --seconds N      (10)\n"
          "  -r, --rate N         requests a second, due at fixed times; 0: each connection sends\n"
          "                       again when it is answered (0)\n"
          "  -p, --pipeline N     requests under way on a connection (1)\n"
          "  -e, --events N       events a request, one a line (1)\n"
          "  -b, --bytes N        length of an event (300)\n"
          "      --duplicates N   of 100 events, how many repeat one of the last 1000 (0)\n"
          "      --streams N      request by request the path ends in 00, 01, ... N-1 (none)\n"
          "      --wait         once all are connected says CONNECTED, and begins with the next\n"
          "                     line of its input\n"
          "      --run WORD       first part of every id; must differ from run to run\n"
          "      --header LINE    one more header line, such as a key\n"
          "The server's certificate is not checked.\n",
          out);
}

static inline unsigned load_number(const char *text, unsigned least, unsigned most)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || number < least || number > most) {
        fprintf(stderr, "load: %s is not a number from %u to %u\n", text, least, most);
        exit(2);
    }
    return (unsigned)number;
}

/* Takes the URL apart, in place. */
static inline void load_parse_url(struct options *options, char *url)
{
    char *rest, *slash;

    options->tls = strncmp(url, "https://", 8) == 0;
    if (!options->tls && strncmp(url, "http://", 7) != 0)
        goto wrong;
    rest = strstr(url, "//") + 2;
    slash = strchr(rest, '/');
    options->path = slash != NULL ? strdup(slash) : "/";
    if (slash != NULL)
        *slash = '\0';
    options->host = rest;
    rest = strrchr(rest, ':');
    if (rest == NULL)
        goto wrong;
    *rest = '\0';
    options->port = rest + 1;
    return;

wrong:
    usage(stderr);
    exit(2);
}

static const struct option load_names[] = {
    {"connections", required_argument, NULL, 'c'},
    {"threads", required_argument, NULL, 't'},
    {"seconds", required_argument, NULL, 'd'},
    {"rate", required_argument, NULL, 'r'},
    {"pipeline", required_argument, NULL, 'p'},
    {"events", required_argument, NULL, 'e'},
    {"bytes", required_argument, NULL, 'b'},
    {"duplicates", required_argument, NULL, 'D'},
    {"streams", required_argument, NULL, 'S'},
    {"wait", no_argument, NULL, 'W'},
    {"run", required_argument, NULL, 'R'},
    {"header", required_argument, NULL, 'H'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static inline void load_parse(struct options *options, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "c:t:d:r:p:e:b:h", load_names, NULL)) != -1) {
        switch (option) {
        case 'c':
            options->connections = load_number(optarg, 1, 1000000);
            break;
        case 't':
            options->threads = load_number(optarg, 1, THREADS_MAX);
            break;
        case 'd':
            options->seconds = load_number(optarg, 1, 86400);
            break;
        case 'r':
            options->rate = load_number(optarg, 0, 100000000);
            break;
        case 'p':
            options->pipeline = load_number(optarg, 1, PIPELINE_MAX);
            break;
        case 'e':
            options->events = load_number(optarg, 1, 100000);
            break;
        case 'b':
            options->bytes = load_number(optarg, 1, 1000000);
            break;
        case 'D':
            options->duplicates = load_number(optarg, 0, 100);
            break;
        case 'S':
            options->streams = load_number(optarg, 1, 100);
            break;
        case 'W':
            options->wait = true;
            break;
        case 'R':
            options->run = optarg;
            break;
        case 'H':
            options->header = optarg;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    if (optind + 1 != argc || strlen(options->run) > 100 || strlen(options->header) > 1000) {
        usage(stderr);
        exit(2);
    }
    load_parse_url(options, argv[optind]);
    if (options->connections < options->threads)
        options->connections = options->threads;
}

#endif
