/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clickhouse_url.c - the endpoints that clickhouse.url lists.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/clickhouse_url.h"

#include <stdio.h>
#include <string.h>

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

void clickhouse_url_name_of(const char *list, size_t number, char name[CLICKHOUSE_NAME_MAX])
{
    struct clickhouse_url walk = {.rest = list};

    name[0] = '\0';
    while (clickhouse_url_next(&walk)) {
        if (walk.number == number)
            (void)clickhouse_url_name(walk.url, name);
    }
}
