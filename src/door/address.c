/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.c - a client's address, small enough to keep for each connection.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const unsigned char v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

struct address address_of_v4(const unsigned char bytes[4])
{
    struct address out = {.family = ADDRESS_V4};

    memcpy(out.bytes, bytes, 4);
    return out;
}

struct address address_of_v6(const unsigned char bytes[16])
{
    struct address out = {.family = ADDRESS_V6};

    if (memcmp(bytes, v4_mapped, sizeof(v4_mapped)) == 0)
        return address_of_v4(bytes + sizeof(v4_mapped));
    memcpy(out.bytes, bytes, 16);
    return out;
}

struct address address_of(const struct sockaddr *address)
{
    switch (address->sa_family) {
    case AF_INET:
        return address_of_v4(
            (const unsigned char *)&((const struct sockaddr_in *)(const void *)address)->sin_addr);
    case AF_INET6:
        return address_of_v6(
            ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr);
    case AF_UNIX:
        return (struct address){.family = ADDRESS_UNIX};
    default:
        return (struct address){.family = ADDRESS_NONE};
    }
}

bool address_parse(struct slice text, struct address *address)
{
    const bool v6 = memchr(text.data, ':', text.len) != NULL;
    unsigned char bytes[16];
    char copy[ADDRESS_TEXT_MAX];

    /* inet_pton() ends at a NUL, and text may hold one. */
    if (text.len >= sizeof(copy) || memchr(text.data, '\0', text.len) != NULL)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (inet_pton(v6 ? AF_INET6 : AF_INET, copy, bytes) != 1)
        return false;
    *address = v6 ? address_of_v6(bytes) : address_of_v4(bytes);
    return true;
}

size_t address_format(const struct address *address, char out[ADDRESS_TEXT_MAX])
{
    out[0] = '\0';
    if (address_is_ip(address))
        inet_ntop(address->family == ADDRESS_V4 ? AF_INET : AF_INET6, address->bytes, out,
                  ADDRESS_TEXT_MAX);
    return strlen(out);
}
