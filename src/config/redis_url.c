/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_url.c - parses redis.url.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/redis_url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "host_port.h"
#include "alloy/text.h"

#define DEFAULT_PORT 6379
#define DATABASE_DIGITS_MAX 9
/* One byte less than possible: hiredis 0.14 does not terminate a path that fills sun_path. */
#define PATH_MAX_LEN (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 2)

static const char out_of_memory[] = "out of memory";

/* Sets *out to an owned string, or returns what is wrong: a bad escape, or a NUL in it. */
static const char *redis_url_decode(struct slice text, char **out)
{
    char *at = malloc(text.len + 1);

    *out = at;
    if (at == NULL)
        return out_of_memory;
    for (size_t i = 0; i < text.len; i++) {
        int byte = (unsigned char)text.data[i];

        if (byte == '%') {
            int high = i + 2 < text.len ? text_hex_digit(text.data[i + 1]) : -1;
            int low = i + 2 < text.len ? text_hex_digit(text.data[i + 2]) : -1;

            if (high < 0 || low < 0 || (high | low) == 0)
                return "credentials must encode special characters as %XX";
            byte = high << 4 | low;
            i += 2;
        }
        *at++ = (char)byte;
    }
    *at = '\0';
    return NULL;
}

/* "user:password" or ":password" */
static const char *redis_url_parse_login(struct redis_url *url, struct slice text)
{
    const char *colon = memchr(text.data, ':', text.len);
    const char *problem = NULL;
    size_t user_len;

    if (colon == NULL)
        return "credentials must be user:password@ or :password@, with special characters as %XX";
    user_len = (size_t)(colon - text.data);
    if (user_len > 0)
        problem = redis_url_decode((struct slice){text.data, user_len}, &url->user);
    if (problem == NULL)
        problem =
            redis_url_decode((struct slice){colon + 1, text.len - user_len - 1}, &url->password);
    return problem;
}

static bool redis_url_parse_database(struct redis_url *url, const char *text)
{
    size_t len = strspn(text, "0123456789");

    if (len == 0 || len > DATABASE_DIGITS_MAX || text[len] != '\0')
        return false;
    memcpy(url->database, text, len + 1);
    return true;
}

static const char *redis_url_parse_host(struct redis_url *url, struct slice text)
{
    struct slice host, port;
    const char *problem = host_port_split(text, &host, &port);

    if (problem != NULL)
        return problem;
    /* host_port_split() has checked that port is a number of at most 65535, with no digit behind
     * it. */
    url->port = port.len > 0 ? (int)strtol(port.data, NULL, 10) : DEFAULT_PORT;
    url->host = strndup(host.data, host.len);
    return url->host != NULL ? NULL : out_of_memory;
}

static const char *redis_url_parse_path(struct redis_url *url, const char *text)
{
    size_t len = strcspn(text, "?");

    if (text[0] != '/')
        return "the socket's path must begin with /";
    if (len == 1)
        return "the socket's path is missing";
    if (len > PATH_MAX_LEN)
        return "the socket's path is longer than 106 bytes";
    if (text[len] != '\0' &&
        (strncmp(text + len, "?db=", 4) != 0 || !redis_url_parse_database(url, text + len + 4)))
        return "only ?db=number may follow the socket's path";
    url->path = strndup(text, len);
    return url->path != NULL ? NULL : out_of_memory;
}

static const char *redis_url_parse_text(struct redis_url *url, const char *text)
{
    bool tcp = strncmp(text, "redis://", 8) == 0;
    const char *rest, *at, *problem;

    for (const char *c = text; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return "must not contain white space or control characters";
    if (strncmp(text, "rediss://", 9) == 0)
        return "TLS is not supported";
    if (!tcp && strncmp(text, "unix://", 7) != 0)
        return "must begin with redis:// or unix:///, or be empty";
    text += tcp ? 8 : 7;
    rest = text + strcspn(text, "/?#");
    at = memrchr(text, '@', (size_t)(rest - text));
    if (at != NULL) {
        problem = redis_url_parse_login(url, (struct slice){text, (size_t)(at - text)});
        if (problem != NULL)
            return problem;
        text = at + 1;
    }
    if (!tcp)
        return redis_url_parse_path(url, text);
    if (*rest != '\0' && strcmp(rest, "/") != 0 &&
        (*rest != '/' || !redis_url_parse_database(url, rest + 1)))
        return "only /number, the database, may follow the host";
    return redis_url_parse_host(url, (struct slice){text, (size_t)(rest - text)});
}

const char *redis_url_parse(struct redis_url *url, const char *text)
{
    const char *problem;

    *url = (struct redis_url){0};
    problem = redis_url_parse_text(url, text);
    if (problem != NULL)
        redis_url_fini(url);
    return problem;
}

void redis_url_fini(struct redis_url *url)
{
    free(url->host);
    free(url->path);
    free(url->user);
    free(url->password);
}
