/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_port.c - splits the "host:port" in addresses and URLs of the configuration.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "host_port.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

#define PORT_MAX 65535u

static bool host_port_is_port(struct slice text)
{
    unsigned value = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text.data[i] - '0');
        if (value > PORT_MAX)
            return false;
    }
    return value > 0;
}

static bool host_port_is_v6(struct slice host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *zone = memchr(host.data, '%', host.len);
    size_t len = zone != NULL ? (size_t)(zone - host.data) : host.len;

    if (len >= sizeof(text))
        return false;
    memcpy(text, host.data, len);
    text[len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

/* A name or an IPv4 address: letters, digits, '.', '_' and '-'. */
static bool host_port_is_host(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!alnum && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

const char *host_port_split(struct slice text, struct slice *host, struct slice *port)
{
    const char *end = text.data + text.len;
    const char *colon;

    *port = (struct slice){end, 0};
    if (text.len > 0 && text.data[0] == '[') {
        const char *close = memchr(text.data, ']', text.len);

        if (close == NULL)
            return "the closing ] is missing";
        *host = (struct slice){text.data + 1, (size_t)(close - text.data - 1)};
        if (!host_port_is_v6(*host))
            return "there is no IPv6 address between the brackets";
        colon = close + 1;
        if (colon < end && *colon != ':')
            return "only :port may follow the ]";
    } else {
        colon = memchr(text.data, ':', text.len);
        if (colon == NULL)
            colon = end;
        *host = (struct slice){text.data, (size_t)(colon - text.data)};
        if (colon < end && memchr(colon + 1, ':', (size_t)(end - colon - 1)) != NULL)
            return "an IPv6 address needs brackets, as in [::1]:8080";
        if (host->len == 0)
            return "the host is missing";
        if (!host_port_is_host(*host))
            return "the host is neither a name nor an address";
    }
    if (colon < end) {
        *port = (struct slice){colon + 1, (size_t)(end - colon - 1)};
        if (!host_port_is_port(*port))
            return "the port must be 1 to 65535";
    }
    return NULL;
}
