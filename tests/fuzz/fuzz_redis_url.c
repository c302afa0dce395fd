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

/* Returns owned. */
static char *make_url(const struct redis_url *url)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    ALLOY_ASSERT(out != NULL);
    fputs(url->host != NULL ? "redis://" : "unix://", out);
    if (url->password != NULL) {
        put_escaped(out, url->user != NULL ? url->user : "");
        fputc(':', out);
        put_escaped(out, url->password);
        fputc('@', out);
    }
    if (url->host != NULL) {
        fprintf(out, strchr(url->host, ':') != NULL ? "[%s]:%d" : "%s:%d", url->host, url->port);
        fprintf(out, "/%s", url->database);
    } else {
        fprintf(out, "%s%s%s", url->path, url->database[0] != '\0' ? "?db=" : "", url->database);
    }
    ALLOY_ASSERT(fclose(out) == 0);
    return text;
}

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_url(const struct redis_url *url)
{
    ALLOY_ASSERT((url->host != NULL) != (url->path != NULL));
    ALLOY_ASSERT(url->user == NULL || url->password != NULL);
    ALLOY_ASSERT(strspn(url->database, "0123456789") == strlen(url->database));
    if (url->host != NULL)
        ALLOY_ASSERT(url->host[0] != '\0' && url->port >= 1 && url->port <= 65535);
    else
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
        ALLOY_ASSERT(is_same(url.host, again.host) && is_same(url.path, again.path));
        ALLOY_ASSERT(is_same(url.user, again.user) && is_same(url.password, again.password));
        ALLOY_ASSERT(url.port == again.port && is_same(url.database, again.database));
        redis_url_fini(&again);
        redis_url_fini(&url);
        free(written);
    }
    free(text);
    return 0;
}
