/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_redis_url.c - any text as redis.url: the result, written as a URL, parses to the same
 * result.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "alloy/redis_url.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fprintf(out, "%%%02X", (unsigned)(unsigned char)*text);
}

static void put_file(FILE *out, const char *name, const char *file, char *mark)
{
    if (file == NULL)
        return;
    fprintf(out, "%c%s=", *mark, name);
    put_escaped(out, file);
    *mark = '&';
}

static void put_hosts(FILE *out, const struct redis_url *url)
{
    char mark = '?';

    for (size_t i = 0; i < url->host_count; i++) {
        const struct redis_host *host = &url->hosts[i];

        fprintf(out, strchr(host->name, ':') != NULL ? "%s[%s]:%d" : "%s%s:%d", i > 0 ? "," : "",
                host->name, host->port);
    }
    fputc('/', out);
    if (url->master != NULL) {
        put_escaped(out, url->master);
        if (url->database[0] != '\0')
            fputc('/', out);
    }
    fputs(url->database, out);
    put_file(out, "ssl_ca_certs", url->ca_file, &mark);
    put_file(out, "ssl_certfile", url->cert_file, &mark);
    put_file(out, "ssl_keyfile", url->key_file, &mark);
}

/* Returns owned. */
static char *make_url(const struct redis_url *url)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    ALLOY_ASSERT(out != NULL);
    if (url->path != NULL)
        fputs("unix://", out);
    else
        fprintf(out, "redis%s%s://", url->tls ? "s" : "",
                url->cluster          ? "-cluster"
                : url->master != NULL ? "-sentinel"
                                      : "");
    if (url->password != NULL) {
        put_escaped(out, url->user != NULL ? url->user : "");
        fputc(':', out);
        put_escaped(out, url->password);
        fputc('@', out);
    }
    if (url->path != NULL)
        fprintf(out, "%s%s%s", url->path, url->database[0] != '\0' ? "?db=" : "", url->database);
    else
        put_hosts(out, url);
    ALLOY_ASSERT(fclose(out) == 0);
    return text;
}

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_url(const struct redis_url *url)
{
    ALLOY_ASSERT((url->host_count != 0) != (url->path != NULL));
    ALLOY_ASSERT(url->host_count <= 1 || url->master != NULL || url->cluster);
    ALLOY_ASSERT(!url->cluster || (url->master == NULL && url->database[0] == '\0'));
    ALLOY_ASSERT(url->user == NULL || url->password != NULL);
    ALLOY_ASSERT(strspn(url->database, "0123456789") == strlen(url->database));
    for (size_t i = 0; i < url->host_count; i++)
        ALLOY_ASSERT(url->hosts[i].name[0] != '\0' && url->hosts[i].port >= 1 &&
                     url->hosts[i].port <= 65535);
    if (url->path != NULL)
        ALLOY_ASSERT(url->path[0] == '/' && strlen(url->path) > 1 && strlen(url->path) <= 106);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_url url, again;
    char *text = malloc(size + 1);

    ALLOY_ASSERT(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    if (redis_url_parse(&url, text) == NULL) {
        char *written = make_url(&url);

        check_url(&url);
        ALLOY_ASSERT(redis_url_parse(&again, written) == NULL);
        ALLOY_ASSERT(url.host_count == again.host_count && is_same(url.path, again.path));
        for (size_t i = 0; i < url.host_count; i++)
            ALLOY_ASSERT(is_same(url.hosts[i].name, again.hosts[i].name) &&
                         url.hosts[i].port == again.hosts[i].port);
        ALLOY_ASSERT(url.tls == again.tls && url.cluster == again.cluster &&
                     is_same(url.master, again.master));
        ALLOY_ASSERT(is_same(url.ca_file, again.ca_file) &&
                     is_same(url.cert_file, again.cert_file) &&
                     is_same(url.key_file, again.key_file));
        ALLOY_ASSERT(is_same(url.user, again.user) && is_same(url.password, again.password));
        ALLOY_ASSERT(is_same(url.database, again.database));
        redis_url_fini(&again);
        redis_url_fini(&url);
        free(written);
    }
    free(text);
    return 0;
}
