/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_url.h - parses redis.url:
 *
 *   redis://[[user]:password@]host[:port][/[database]]
 *   unix://[[user]:password@]/path[?db=database]
 *   redis-sentinel://[[user]:password@]host[:port][,host[:port]...]/name[/database]
 *   redis-cluster://[[user]:password@]host[:port][,host[:port]...][/[0]]
 *   rediss://..., rediss-sentinel://... and rediss-cluster://...: the same over TLS, with
 *       ?ssl_ca_certs=FILE&ssl_certfile=FILE&ssl_keyfile=FILE, each of which may be left out
 *
 * Both the check of the configuration and the connection use it, so that no URL passes the check
 * and then fails to connect for its form.
 *
 * Runs on: any thread. Owns: nothing.
 */
#ifndef ALLOY_REDIS_URL_H
#define ALLOY_REDIS_URL_H

#include <stdbool.h>

#include "alloy/base.h"

#define REDIS_URL_HOSTS_MAX 16

struct redis_host {
    char *name;
    int port;
};

struct redis_url {
    struct redis_host hosts[REDIS_URL_HOSTS_MAX]; /* the server, the Sentinels, or some nodes */
    size_t host_count;                            /* 0: a unix socket, at path */
    char *path;
    char *master; /* NULL: no Sentinel; else the name by which Sentinels know the master */
    char *user;   /* percent-decoded, as are password, master and the files; NULL: none */
    char *password;
    char database[12]; /* digits; "": none given */
    bool cluster;
    bool tls;
    char *ca_file; /* NULL: the system's certificates */
    char *cert_file;
    char *key_file;
};

/*
 * Parses text. Returns NULL and fills url (redis_url_fini()); or returns what is wrong and leaves
 * nothing to free. Never quotes the URL, which may hold a password.
 */
MUST_CHECK const char *redis_url_parse(struct redis_url *url, const char *text);
void redis_url_fini(struct redis_url *url);

#endif
