/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.h - a client's address, small enough to keep for each connection.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_ADDRESS_H
#define ALLOY_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

struct sockaddr;

#define ADDRESS_TEXT_MAX 46 /* bytes that address_format() writes at most, NUL included */

enum address_family { ADDRESS_NONE, ADDRESS_UNIX, ADDRESS_V4, ADDRESS_V6 };

/* Zero-initialised: none, and nobody knows why. One of a unix socket says that, and no more. */
struct address {
    uint8_t family;
    uint8_t bytes[16]; /* of IPv4 the first four; in network order */
};

/* An IPv4 address that came as ::ffff:a.b.c.d is one of IPv4. */
struct address address_of(const struct sockaddr *address);

/* The same of the 4 or 16 bytes in network order. */
struct address address_of_v4(const unsigned char bytes[4]);
struct address address_of_v6(const unsigned char bytes[16]);

/* Reads one as people write it: four numbers with dots, or IPv6 without brackets and zone. False:
 * text is neither, and *address is not touched. */
bool address_parse(struct slice text, struct address *address);

/* True for IPv4 and IPv6. */
static inline bool address_is_ip(const struct address *address)
{
    return address->family >= ADDRESS_V4;
}

/* Writes it as people do, or nothing for what is no IP address; returns its length without the NUL.
 */
size_t address_format(const struct address *address, char out[ADDRESS_TEXT_MAX]);

#endif
