/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forwarded.c - whose request a proxy passes on.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/forwarded.h"

#include "alloy/http_parse.h"
#include "http_bytes.h"

#include <string.h>

/* The way back through the entries of all headers of one head. */
struct forwarded_walk {
    const char *head;
    size_t at;         /* headers that begin before it are still to come */
    struct slice rest; /* of the header's value, without the entries taken; data NULL: nothing */
};

static struct slice forwarded_trim(struct slice text)
{
    while (text.len > 0 && http_is_space(*text.data)) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && http_is_space(text.data[text.len - 1]))
        text.len--;
    return text;
}

/* Takes the last entry of what is left; a list may have empty ones (RFC 9110 section 5.6.1). */
static bool forwarded_next(struct forwarded_walk *walk, struct slice *entry)
{
    do {
        const char *comma;

        while (walk->rest.data == NULL)
            if (!http_find_header_before(walk->head, &walk->at, "x-forwarded-for", &walk->rest))
                return false;
        comma = memrchr(walk->rest.data, ',', walk->rest.len);
        *entry = walk->rest;
        walk->rest = (struct slice){NULL, 0};
        if (comma != NULL) {
            walk->rest = (struct slice){entry->data, (size_t)(comma - entry->data)};
            *entry = (struct slice){comma + 1, entry->len - walk->rest.len - 1};
        }
        *entry = forwarded_trim(*entry);
    } while (entry->len == 0);
    return true;
}

static bool forwarded_is_port(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return text.len > 0 && text.len <= 5;
}

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]" or "[2001:db8::1]:80". */
static bool forwarded_read(struct slice entry, struct address *address)
{
    const bool brackets = entry.data[0] == '[';
    const char *end = entry.data + entry.len;
    const char *stop = memchr(entry.data, brackets ? ']' : ':', entry.len);

    if (brackets) {
        if (stop == NULL || (stop + 1 < end && stop[1] != ':'))
            return false;
        if (stop + 1 < end &&
            !forwarded_is_port((struct slice){stop + 2, (size_t)(end - stop - 2)}))
            return false;
        entry = (struct slice){entry.data + 1, (size_t)(stop - entry.data - 1)};
        return memchr(entry.data, ':', entry.len) != NULL && address_parse(entry, address);
    }
    /* One colon is a port's; more are IPv6's, which then has no port. */
    if (stop != NULL && memchr(stop + 1, ':', (size_t)(end - stop - 1)) == NULL) {
        if (!forwarded_is_port((struct slice){stop + 1, (size_t)(end - stop - 1)}))
            return false;
        entry.len = (size_t)(stop - entry.data);
    }
    return address_parse(entry, address);
}

struct address forwarded_client(const struct networks *networks, const struct address *peer,
                                struct slice head)
{
    struct forwarded_walk walk = {.head = head.data, .at = head.len};
    struct address client = *peer;
    struct slice entry;

    for (int i = 0; i < FORWARDED_HOPS_MAX && networks_have(networks, &client); i++)
        if (!forwarded_next(&walk, &entry) || !forwarded_read(entry, &client))
            break;
    return client;
}
