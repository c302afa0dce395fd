/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.c - who may read the admin port: its key, and no web page of somebody else.
 *
 * A page that an operator looks at can make its name point to 127.0.0.1 and then read this port as
 * its own (DNS rebinding). Its requests bear its name as Host, so without a key a Host must be an
 * address, localhost, or a name of admin.listen. A request with the right key needs no such proof,
 * and can come through a proxy under any name. Origin, which browsers send with what pages may not
 * simply do, must always be the Host.
 *
 * A browser cannot be told to send a header with a page that somebody opens. Such a page has the
 * key in its query, and gives it to its scripts and figures as a cookie.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "guard.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "alloy/text.h"

#define COOKIE_NAME "alloy_admin_key"
#define TOKEN_MAX 1024 /* bytes of a key */

/* The host of "host", "host:port", "[v6]" or "[v6]:port". */
static struct slice guard_host_of(const char *text)
{
    const char *end;

    if (text[0] != '[')
        return (struct slice){text, strcspn(text, ":")};
    end = strchr(text, ']');
    return end != NULL ? (struct slice){text + 1, (size_t)(end - text - 1)}
                       : (struct slice){text, 0};
}

static bool guard_is(struct slice host, const char *name)
{
    return host.len == strlen(name) && strncasecmp(host.data, name, host.len) == 0;
}

static bool guard_host_is_ours(const struct config *config, const char *text)
{
    struct slice host = guard_host_of(text);
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr v6;
    struct in_addr v4;

    if (guard_is(host, "localhost"))
        return true;
    for (size_t i = 0; i < config->admin_address_count; i++)
        if (guard_is(host, config->admin_addresses[i].host))
            return true;
    if (host.len >= sizeof(copy))
        return false;
    memcpy(copy, host.data, host.len);
    copy[host.len] = '\0';
    return inet_pton(text[0] == '[' ? AF_INET6 : AF_INET, copy,
                     text[0] == '[' ? (void *)&v6 : (void *)&v4) == 1;
}

/* Whether "scheme://authority" has this authority. */
static bool guard_origin_is_host(const char *origin, const char *host)
{
    const char *authority = strstr(origin, "://");

    return authority != NULL && host != NULL && strcasecmp(authority + 3, host) == 0;
}

/* Whether text[0, len), percent-decoded, is the key. */
static bool guard_is_key(const struct config *config, const char *text, size_t len, bool encoded)
{
    unsigned char hash[KEYS_HASH_BYTES];
    char token[TOKEN_MAX];
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        const bool escape = encoded && text[i] == '%' && i + 2 < len &&
                            text_hex_digit(text[i + 1]) >= 0 && text_hex_digit(text[i + 2]) >= 0;

        if (n == sizeof(token))
            return false;
        token[n] = text[i];
        if (escape)
            token[n] = (char)(text_hex_digit(text[i + 1]) << 4 | text_hex_digit(text[i + 2]));
        n++;
        i += escape ? 2 : 0;
    }
    keys_hash((struct slice){token, n}, hash);
    return keys_hash_equal(hash, config->admin_key_hash);
}

/* Finds the value of name in "a=b<separator>name=value"; an empty slice: it has none. */
static struct slice guard_find_value(const char *text, const char *name, char separator)
{
    const char ends[] = {separator, '\0'};
    const size_t len = strlen(name);

    while (text != NULL && *text != '\0') {
        text += strspn(text, " ");
        if (strncmp(text, name, len) == 0 && text[len] == '=')
            return (struct slice){text + len + 1, strcspn(text + len + 1, ends)};
        text += strcspn(text, ends);
        text += *text != '\0';
    }
    return (struct slice){NULL, 0};
}

static bool guard_has_key(const struct config *config, const struct guard_request *request)
{
    const char *authorization = request->authorization;
    const struct slice query = guard_find_value(request->query, "key", '&');
    const struct slice cookie = guard_find_value(request->cookie, COOKIE_NAME, ';');

    if (authorization != NULL && strncasecmp(authorization, "Bearer ", 7) == 0) {
        authorization += 7 + strspn(authorization + 7, " ");
        if (guard_is_key(config, authorization, strlen(authorization), false))
            return true;
    }
    return (query.len > 0 && guard_is_key(config, query.data, query.len, true)) ||
           (cookie.len > 0 && guard_is_key(config, cookie.data, cookie.len, true));
}

enum guard_verdict guard_judge(const struct config *config, const struct guard_request *request)
{
    if (request->origin != NULL && !guard_origin_is_host(request->origin, request->host))
        return GUARD_ORIGIN;
    if (config->has_admin_key)
        return guard_has_key(config, request) ? GUARD_PASS : GUARD_KEY;
    /* HTTP/1.0 needs no Host, and no browser speaks it. */
    if (request->host != NULL && !request->unix_socket &&
        !guard_host_is_ours(config, request->host))
        return GUARD_HOST;
    return GUARD_PASS;
}

bool guard_cookie(const char *query, char out[GUARD_COOKIE_MAX])
{
    const struct slice key = guard_find_value(query, "key", '&');
    size_t n = (size_t)snprintf(out, GUARD_COOKIE_MAX, COOKIE_NAME "=");

    if (key.len == 0 || key.len > TOKEN_MAX)
        return false;
    /* As it came, but for what would end the value. */
    for (size_t i = 0; i < key.len; i++) {
        const unsigned char c = (unsigned char)key.data[i];
        const bool plain = c > ' ' && c < 0x7f && strchr("\";,\\", c) == NULL;

        n += (size_t)snprintf(out + n, GUARD_COOKIE_MAX - n, plain ? "%c" : "%%%02X", c);
    }
    snprintf(out + n, GUARD_COOKIE_MAX - n, "; Path=/; HttpOnly; SameSite=Strict");
    return true;
}
