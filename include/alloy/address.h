/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.h - a client's address, small enough to keep for each connection.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_ADDRESS_H
#define ALLOY_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

struct sockaddr;

#define ADDRESS_TEXT_MAX 46 /* bytes that address_format() writes at most, NUL included */

enum address_family { ADDRESS_NONE, ADDRESS_V4, ADDRESS_V6 };

/* Zero-initialised: none, as on a unix socket. */
struct address {
    uint8_t family;
    uint8_t bytes[16]; /* of IPv4 the first four; in network order */
};

/* An IPv4 address that came as ::ffff:a.b.c.d is one of IPv4. */
struct address address_of(const struct sockaddr *address);

/* Writes it as people do, or nothing for ADDRESS_NONE; returns its length without the NUL. */
size_t address_format(const struct address *address, char out[ADDRESS_TEXT_MAX]);

#endif
