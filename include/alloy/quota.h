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

#include "alloy/address.h"
#include "alloy/base.h"
#include "alloy/bucket.h"

struct quota;

/* Has room for at least addresses; returns owned (quota_destroy()), NULL: out of memory. */
struct quota *quota_create(size_t addresses);
void quota_destroy(struct quota *quota); /* NULL is fine */

/*
 * What one IPv4 address, or one network (/64) of IPv6, may still send; lent for the request in
 * hand. The buckets are full if the address was forgotten: where there is no room for one more,
 * the table forgets the address whose buckets lack least.
 */
struct quota_buckets {
    struct bucket requests;
    struct bucket events;
    struct bucket refusals; /* bytes in vain, before its connections are left unread for a while */
};
struct quota_buckets *quota_find(struct quota *quota, const struct address *address);

/* Tells the rates that count now, each at most BUCKET_RATE_MAX. If they have changed, every bucket
 * becomes full: its debt was made at the old rate. */
void quota_use_rates(struct quota *quota, uint64_t requests, uint64_t events);

#endif
