/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_url.h - parses redis.url:
 *
 *   redis://[[user]:password@]host[:port][/[database]]
 *   unix://[[user]:password@]/path[?db=database]
 *
 * Both the check of the configuration and the connection use it, so that no URL passes the check
 * and then fails to connect for its form.
 *
 * Runs on: any thread. Owns: nothing.
 */
#ifndef ALLOY_REDIS_URL_H
#define ALLOY_REDIS_URL_H

#include "alloy/base.h"

struct redis_url {
    char *host; /* NULL: a unix socket, at path */
    char *path;
    int port;
    char *user; /* percent-decoded, as is password; NULL: none */
    char *password;
    char database[12]; /* digits; "": none given */
};

/*
 * Parses text. Returns NULL and fills url (redis_url_fini()); or returns what is wrong and leaves
 * nothing to free. Never quotes the URL, which may hold a password.
 */
MUST_CHECK const char *redis_url_parse(struct redis_url *url, const char *text);
void redis_url_fini(struct redis_url *url);

#endif
