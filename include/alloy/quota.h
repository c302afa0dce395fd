/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota.h - how many requests and events each client address may send a second.
 *
 * Memory is bounded by the size of the table, whoever comes. Runs on: quota_create() and
 * quota_destroy() the main thread, everything else any thread, without a lock.
 */
#ifndef ALLOY_QUOTA_H
#define ALLOY_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/bucket.h"

struct sockaddr;
struct quota;

/* Who sends: an IPv4 address, or the network (/64) of an IPv6 address. */
struct quota_address {
    uint64_t network; /* IPv6: the first 8 bytes; IPv4: the address */
    uint8_t family;   /* 4, 6; 0: none, as on a unix socket */
};

/* An IPv4 address that came as ::ffff:a.b.c.d is one of IPv4. */
struct quota_address quota_address_of(const struct sockaddr *address);

/* Has room for at least addresses; returns owned (quota_destroy()), NULL: out of memory. */
struct quota *quota_create(size_t addresses);
void quota_destroy(struct quota *quota); /* NULL is fine */

/*
 * An address's two buckets, lent for the request in hand. They are full where the address was
 * forgotten for want of room: a set of the table that is full forgets whoever misses least.
 */
struct quota_buckets {
    struct bucket requests;
    struct bucket events;
};
struct quota_buckets *quota_find(struct quota *quota, const struct quota_address *address);

/* Says which rates count now, each at most BUCKET_RATE_MAX. Others than before make every bucket
 * full: a debt was made at the old rate. */
void quota_use_rates(struct quota *quota, uint64_t requests, uint64_t events);

#endif
