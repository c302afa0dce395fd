/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.c - a client's address, small enough to keep for each connection.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

struct address address_of(const struct sockaddr *address)
{
    struct address out = {.family = ADDRESS_NONE};

    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        out.family = ADDRESS_V4;
        memcpy(out.bytes, &in->sin_addr, sizeof(in->sin_addr));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
        const uint8_t *bytes = in6->sin6_addr.s6_addr;
        const bool v4 = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

        out.family = v4 ? ADDRESS_V4 : ADDRESS_V6;
        memcpy(out.bytes, v4 ? bytes + 12 : bytes, v4 ? 4 : 16);
    }
    return out;
}

size_t address_format(const struct address *address, char out[ADDRESS_TEXT_MAX])
{
    out[0] = '\0';
    if (address->family != ADDRESS_NONE)
        inet_ntop(address->family == ADDRESS_V4 ? AF_INET : AF_INET6, address->bytes, out,
                  ADDRESS_TEXT_MAX);
    return strlen(out);
}
