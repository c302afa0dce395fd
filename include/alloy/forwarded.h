/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forwarded.h - whose request a proxy passes on, as the proxies on its way tell (X-Forwarded-For).
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_FORWARDED_H
#define ALLOY_FORWARDED_H

#include "alloy/address.h"
#include "alloy/networks.h"

#define FORWARDED_HOPS_MAX 64 /* a longer way is believed so far */

/*
 * Each proxy appends the address that it was asked from, so only what a proxy of ours has appended
 * can be believed: from the right end of all X-Forwarded-For headers of a head that
 * http_parse_head() has accepted, this goes from address to address, beginning with peer, as long
 * as networks have the one before. Returns the last that is believed. An entry that is no address
 * ends the way. It may have a port, and IPv6 brackets.
 */
struct address forwarded_client(const struct networks *networks, const struct address *peer,
                                struct slice head);

#endif
