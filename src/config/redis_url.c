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
#define SENTINEL_PORT 26379
#define DATABASE_DIGITS_MAX 9
/* One byte less than possible: hiredis 0.14 does not terminate a path that fills sun_path. */
#define PATH_MAX_LEN (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 2)

static const char out_of_memory[] = "out of memory";

static bool redis_url_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Visible characters, and between begin and end blanks beside a comma, as in other lists. */
static bool redis_url_is_visible(const char *text, const char *begin, const char *end)
{
    for (const char *c = text; *c != '\0'; c++) {
        const char *after = c + strspn(c, " \t");
        const char *before = c;

        while (before > text && redis_url_is_blank(*before))
            before--;
        if (redis_url_is_blank(*c) ? c < begin || c >= end || (*after != ',' && *before != ',')
                                   : *c <= ' ' || *c > '~')
            return false;
    }
    return true;
}

/* Sets *out to an owned string, or returns what is wrong: a bad escape, or a NUL in it. */
static const char *redis_url_decode(struct slice text, char **out)
{
    char *at = malloc(text.len + 1);

    *out = at;
    if (at == NULL)
        return out_of_memory;
    for (size_t i = 0; i < text.len; i++) {
        int byte = (unsigned char)text.data[i];

        if (redis_url_is_blank(text.data[i]))
            return "special characters must be written as %XX";
        if (byte == '%') {
            int high = i + 2 < text.len ? text_hex_digit(text.data[i + 1]) : -1;
            int low = i + 2 < text.len ? text_hex_digit(text.data[i + 2]) : -1;

            if (high < 0 || low < 0 || (high | low) == 0)
                return "special characters must be written as %XX";
            byte = high << 4 | low;
            i += 2;
        }
        *at++ = (char)byte;
    }
    *at = '\0';
    return NULL;
}

/* "user:password" or ":password"; one of several hosts, or of one. */
static const char *redis_url_parse_login(struct redis_url *url, struct slice text, bool several)
{
    const char *colon = memchr(text.data, ':', text.len);
    const char *problem = NULL;
    const char *comma = memchr(text.data, ',', text.len);
    size_t user_len;

    /* Taken for a password they would hide hosts, and be sent to another. */
    if (comma != NULL && (several || memchr(text.data, '@', text.len) != NULL))
        return "user and password stand once, before the first host, and count for all; a comma "
               "in them is written as %2C, and an @ as %40";
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

static bool redis_url_parse_database(struct redis_url *url, struct slice text)
{
    if (text.len == 0 || text.len > DATABASE_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    memcpy(url->database, text.data, text.len);
    url->database[text.len] = '\0';
    return true;
}

static const char *redis_url_parse_host(struct redis_url *url, struct slice text)
{
    struct slice host, port;
    const char *problem = host_port_split(text, &host, &port);
    struct redis_host *into = &url->hosts[url->host_count];

    if (problem != NULL)
        return problem;
    /* host_port_split() has checked that port is a number of at most 65535, with no digit behind
     * it. */
    if (port.len > 0)
        into->port = (int)strtol(port.data, NULL, 10);
    else
        into->port = url->master != NULL ? SENTINEL_PORT : DEFAULT_PORT;
    into->name = strndup(host.data, host.len);
    if (into->name == NULL)
        return out_of_memory;
    url->host_count++;
    return NULL;
}

/* Without the blanks around it. */
static struct slice redis_url_trim(struct slice text)
{
    while (text.len > 0 && redis_url_is_blank(*text.data))
        text = (struct slice){text.data + 1, text.len - 1};
    while (text.len > 0 && redis_url_is_blank(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* "host,host:port"; blanks may stand around a comma. */
static const char *redis_url_parse_hosts(struct redis_url *url, struct slice text)
{
    const char *problem = NULL;

    for (;;) {
        const char *comma = memchr(text.data, ',', text.len);
        const size_t len = comma != NULL ? (size_t)(comma - text.data) : text.len;

        if (url->host_count == REDIS_URL_HOSTS_MAX)
            return "there are more than 16 hosts";
        problem = redis_url_parse_host(url, redis_url_trim((struct slice){text.data, len}));
        if (problem != NULL || comma == NULL)
            return problem;
        text = (struct slice){comma + 1, text.len - len - 1};
    }
}

/* "/name" or "/name/database" */
static const char *redis_url_parse_master(struct redis_url *url, struct slice text)
{
    const char *slash = text.len > 0 ? memchr(text.data + 1, '/', text.len - 1) : NULL;
    size_t name_len = slash != NULL ? (size_t)(slash - text.data) : text.len;

    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '?' || text.data[i] == '#')
            return "special characters must be written as %XX; files go with rediss-sentinel://";
    if (name_len < 2)
        return "the name by which the Sentinels know the master is missing: "
               "redis-sentinel://host:port,host:port/name";
    if (slash != NULL &&
        !redis_url_parse_database(url, (struct slice){slash + 1, text.len - name_len - 1}))
        return "only /number, the database, may follow the master's name";
    return redis_url_decode((struct slice){text.data + 1, name_len - 1}, &url->master);
}

/* "ssl_ca_certs=FILE&ssl_certfile=FILE": the names are those of other clients. */
static const char *redis_url_parse_files(struct redis_url *url, const char *text)
{
    const struct {
        const char *name;
        char **file;
    } files[] = {
        {"ssl_ca_certs=", &url->ca_file},
        {"ssl_certfile=", &url->cert_file},
        {"ssl_keyfile=", &url->key_file},
    };

    while (*text != '\0') {
        const size_t len = strcspn(text, "&");
        const char *problem = "only ssl_ca_certs=FILE, ssl_certfile=FILE and ssl_keyfile=FILE, "
                              "joined by &, may follow ?";

        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
            const size_t name_len = strlen(files[i].name);

            if (len > name_len && strncmp(text, files[i].name, name_len) == 0 &&
                *files[i].file == NULL)
                problem = redis_url_decode((struct slice){text + name_len, len - name_len},
                                           files[i].file);
        }
        if (problem != NULL)
            return problem;
        text += len + (text[len] == '&');
    }
    if ((url->cert_file == NULL) != (url->key_file == NULL))
        return "ssl_certfile and ssl_keyfile go together";
    return NULL;
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
        (strncmp(text + len, "?db=", 4) != 0 ||
         !redis_url_parse_database(url, (struct slice){text + len + 4, strlen(text + len + 4)})))
        return "only ?db=number may follow the socket's path";
    url->path = strndup(text, len);
    return url->path != NULL ? NULL : out_of_memory;
}

/* What follows the scheme of redis:// and its kind. */
static const char *redis_url_parse_server(struct redis_url *url, struct slice authority,
                                          struct slice path)
{
    if (memchr(authority.data, ',', authority.len) != NULL)
        return url->tls ? "several hosts go with rediss-cluster://host:port,host:port or with "
                          "rediss-sentinel://host:port,host:port/name"
                        : "several hosts go with redis-cluster://host:port,host:port or with "
                          "redis-sentinel://host:port,host:port/name";
    if (path.len > 0 && (path.data[0] != '/' ||
                         (path.len > 1 && !redis_url_parse_database(
                                              url, (struct slice){path.data + 1, path.len - 1}))))
        return "only /number, the database, may follow the host";
    return redis_url_parse_host(url, authority);
}

static const char *redis_url_parse_sentinels(struct redis_url *url, struct slice authority,
                                             struct slice path)
{
    const char *problem = redis_url_parse_master(url, path);

    return problem != NULL ? problem : redis_url_parse_hosts(url, authority);
}

static const char *redis_url_parse_nodes(struct redis_url *url, struct slice authority,
                                         struct slice path)
{
    if (path.len > 1 ? path.len != 2 || memcmp(path.data, "/0", 2) != 0
                     : path.len == 1 && *path.data != '/')
        return "nothing but /0 may follow the hosts: a cluster has no other database";
    url->cluster = true;
    return redis_url_parse_hosts(url, authority);
}

static const struct {
    const char *prefix;
    bool tls;
    const char *(*parse)(struct redis_url *url, struct slice authority, struct slice path);
} schemes[] = {
    {"redis://", false, redis_url_parse_server},
    {"rediss://", true, redis_url_parse_server},
    {"redis-sentinel://", false, redis_url_parse_sentinels},
    {"rediss-sentinel://", true, redis_url_parse_sentinels},
    {"redis-cluster://", false, redis_url_parse_nodes},
    {"rediss-cluster://", true, redis_url_parse_nodes},
    {"unix://", false, NULL},
};

/* The scheme's number, or what is wrong. */
static const char *redis_url_find_scheme(const char *text, size_t *scheme)
{
    const char *begin = strstr(text, "://");
    const char *end = begin == NULL ? text : begin + 3 + strcspn(begin + 3, "/?#");
    const char *at = memchr(text, '@', (size_t)(end - text));

    if (!redis_url_is_visible(text, at == NULL ? text : at, end))
        return "must not contain white space or control characters";
    *scheme = 0;
    while (*scheme < ARRAY_LEN(schemes) &&
           strncmp(text, schemes[*scheme].prefix, strlen(schemes[*scheme].prefix)) != 0)
        ++*scheme;
    return *scheme < ARRAY_LEN(schemes)
               ? NULL
               : "must begin with redis://, rediss://, redis-sentinel://, redis-cluster:// or "
                 "unix:///, or be empty";
}

static const char *redis_url_parse_text(struct redis_url *url, const char *text)
{
    size_t scheme;
    const char *problem = redis_url_find_scheme(text, &scheme);
    const char *end, *query, *at;

    if (problem != NULL)
        return problem;
    text += strlen(schemes[scheme].prefix);
    end = text + strcspn(text, "/?#");
    at = memrchr(text, '@', (size_t)(end - text));
    if (at != NULL) {
        problem = redis_url_parse_login(url, (struct slice){text, (size_t)(at - text)},
                                        schemes[scheme].parse == redis_url_parse_nodes ||
                                            schemes[scheme].parse == redis_url_parse_sentinels);
        if (problem != NULL)
            return problem;
        text = at + 1;
    }
    if (schemes[scheme].parse == NULL)
        return redis_url_parse_path(url, text);
    if (end[0] == '/' && end[1] == '/' && memchr(text, ',', (size_t)(end - text)) != NULL)
        return "the hosts of a list go without a scheme: it stands once, before the first";
    url->tls = schemes[scheme].tls;
    query = url->tls ? end + strcspn(end, "?") : end + strlen(end);
    problem = schemes[scheme].parse(url, (struct slice){text, (size_t)(end - text)},
                                    (struct slice){end, (size_t)(query - end)});
    if (problem == NULL && *query == '?')
        problem = redis_url_parse_files(url, query + 1);
    return problem;
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
    for (size_t i = 0; i < url->host_count; i++)
        free(url->hosts[i].name);
    free(url->path);
    free(url->master);
    free(url->user);
    free(url->password);
    free(url->ca_file);
    free(url->cert_file);
    free(url->key_file);
}
