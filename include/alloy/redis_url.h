/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_url.h - what redis.url says:
 *
 *   redis://[[user]:password@]host[:port][/[database]]
 *   unix://[[user]:password@]/path[?db=database]
 *
 * The check of the configuration and the connection itself read it here, so that no URL passes the
 * one and fails the other.
 *
 * Runs on: any thread. Owns: nothing.
 */
#ifndef ALLOY_REDIS_URL_H
#define ALLOY_REDIS_URL_H

#include "alloy/base.h"

struct redis_url {
    char *host; /* NULL: path counts */
    char *path; /* of a unix socket */
    int port;
    char *user; /* percent-decoded, as is password; NULL: none */
    char *password;
    char database[12]; /* digits; "": none given */
};

/*
 * Takes text apart. Returns NULL and fills url, to be freed with redis_url_fini(); or returns what
 * is wrong, never quoting the URL, which may hold a password: then nothing is to be freed.
 */
MUST_CHECK const char *redis_url_parse(struct redis_url *url, const char *text);
void redis_url_fini(struct redis_url *url);

#endif
