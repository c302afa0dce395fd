/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clickhouse_url.c - the endpoints that clickhouse.url lists.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/clickhouse_url.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BLANKS " \t"

static const char *clickhouse_url_skip(const char *text)
{
    return text + strspn(text, BLANKS);
}

static bool clickhouse_url_is_separator(const char *at)
{
    const char *after;

    if (*at != ',' && *at != '|')
        return false;
    after = clickhouse_url_skip(at + 1);
    return *after == '\0' || *after == ',' || *after == '|' || strncmp(after, "http://", 7) == 0 ||
           strncmp(after, "https://", 8) == 0;
}

bool clickhouse_url_next(struct clickhouse_url *walk)
{
    const char *end;
    size_t len;

    if (walk->rest == NULL)
        return false;
    if (walk->begun)
        walk->number++;
    if (walk->begun && walk->rest[-1] == '|')
        walk->shard++;
    walk->begun = true;
    walk->rest = clickhouse_url_skip(walk->rest);
    for (end = walk->rest; *end != '\0' && !clickhouse_url_is_separator(end);)
        end++;
    len = (size_t)(end - walk->rest);
    while (len > 0 && strchr(BLANKS, walk->rest[len - 1]) != NULL)
        len--;
    walk->url = (struct slice){walk->rest, len};
    walk->rest = *end == '\0' ? NULL : end + 1;
    return true;
}

size_t clickhouse_url_shards(const char *list)
{
    struct clickhouse_url walk = {.rest = list};

    while (clickhouse_url_next(&walk))
        ;
    return walk.shard + 1;
}

size_t clickhouse_url_name(struct slice url, char name[CLICKHOUSE_NAME_MAX])
{
    const char *scheme = memmem(url.data, url.len, "://", 3);
    const char *host = scheme == NULL ? url.data : scheme + 3;
    const char *end = url.data + url.len;
    const char *host_end = host;
    const char *at;

    while (host_end < end && *host_end != '/')
        host_end++;
    at = memrchr(host, '@', (size_t)(host_end - host));
    host = at == NULL ? host : at + 1;
    while (end > host && end[-1] == '/')
        end--;
    snprintf(name, CLICKHOUSE_NAME_MAX, "%.*s", (int)(end - host), host);
    return (size_t)(end - host);
}

/* Host, port and path of an endpoint. */
struct clickhouse_url_parts {
    struct slice host, port, path;
    bool tls;
};

static struct clickhouse_url_parts clickhouse_url_split(struct slice url)
{
    struct clickhouse_url_parts parts = {.tls = url.len > 5 && url.data[4] == 's'};
    char name[CLICKHOUSE_NAME_MAX];
    const size_t len = clickhouse_url_name(url, name);
    const char *end = url.data + url.len;
    const char *host, *host_end, *colon;

    while (end > url.data && end[-1] == '/')
        end--;
    host = end - len;
    host_end = memchr(host, '/', len);
    host_end = host_end == NULL ? end : host_end;
    colon = memrchr(host, ':', (size_t)(host_end - host));
    if (colon != NULL && memchr(colon, ']', (size_t)(host_end - colon)) != NULL)
        colon = NULL;
    parts.host = (struct slice){host, (size_t)((colon == NULL ? host_end : colon) - host)};
    if (colon != NULL)
        parts.port = (struct slice){colon + 1, (size_t)(host_end - colon - 1)};
    while (parts.port.len > 1 && *parts.port.data == '0')
        parts.port = (struct slice){parts.port.data + 1, parts.port.len - 1};
    parts.path = (struct slice){host_end, (size_t)(end - host_end)};
    return parts;
}

static bool clickhouse_url_is(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.data, b.data, a.len) == 0);
}

/* Whether a port that is left out in one URL may be that of the other. */
static bool clickhouse_url_is_default(struct clickhouse_url_parts without, struct slice port)
{
    static const char *const ports[][2] = {{"80", "8123"}, {"443", "8443"}};

    for (size_t i = 0; i < ARRAY_LEN(ports[0]); i++) {
        const char *usual = ports[without.tls ? 1 : 0][i];

        if (without.port.len == 0 && clickhouse_url_is(port, (struct slice){usual, strlen(usual)}))
            return true;
    }
    return false;
}

bool clickhouse_url_same(struct slice a, struct slice b)
{
    const struct clickhouse_url_parts one = clickhouse_url_split(a);
    const struct clickhouse_url_parts other = clickhouse_url_split(b);

    return clickhouse_url_is(one.host, other.host) && clickhouse_url_is(one.path, other.path) &&
           (clickhouse_url_is(one.port, other.port) || clickhouse_url_is_default(one, other.port) ||
            clickhouse_url_is_default(other, one.port));
}

void clickhouse_url_name_of(const char *list, size_t number, char name[CLICKHOUSE_NAME_MAX])
{
    struct clickhouse_url walk = {.rest = list};

    name[0] = '\0';
    while (clickhouse_url_next(&walk)) {
        if (walk.number == number)
            (void)clickhouse_url_name(walk.url, name);
    }
}
