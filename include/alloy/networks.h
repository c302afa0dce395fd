/* SPDX-License-Identifier: Apache-2.0 */
/*
 * networks.h - a list of addresses and networks (server.trusted_proxies), and who is in it.
 *
 * Constant once made. Runs on: any thread.
 */
#ifndef ALLOY_NETWORKS_H
#define ALLOY_NETWORKS_H

#include <stdbool.h>

#include "alloy/address.h"
#include "alloy/base.h"

struct networks;

/* Told of an item of the list: it is at fault, or (warning) it says more than it means. */
typedef void (*networks_tell_fn)(void *arg, struct slice item, const char *problem, bool warning);

/*
 * Reads a comma-separated list: IPv4 and IPv6 addresses, networks as ADDRESS/BITS, and `unix:` for
 * whoever comes over a unix socket. An IPv6 network within ::ffff:0:0/96 is one of IPv4. Bits of an
 * address beyond its network's do not count, which is a warning. Returns 0 and, owned
 * (networks_destroy()), the list, which is NULL when text is empty; or -EINVAL or -ENOMEM.
 */
MUST_CHECK int networks_create(struct networks **networks, const char *text, networks_tell_fn tell,
                               void *arg);
void networks_destroy(struct networks *networks); /* NULL is fine */

/* True when one of the networks has the address; ADDRESS_NONE is in none. */
bool networks_have(const struct networks *networks, const struct address *address);

#endif
