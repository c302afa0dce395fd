/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_forwarded.c - any head that is one: the way through X-Forwarded-For ends where a plain
 * reading of all its entries, from the first to the last, says that it must.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "alloy/forwarded.h"

#include "alloy/http_parse.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#define NAME "x-forwarded-for:"
#define ENTRIES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice entries[ENTRIES_MAX];
static size_t entry_count;

static void take_entries(const char *at, const char *end)
{
    while (at <= end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma != NULL ? comma : end;
        struct slice entry = {at, (size_t)(stop - at)};

        while (entry.len > 0 && strchr(" \t\r", *entry.data)) {
            entry.data++;
            entry.len--;
        }
        while (entry.len > 0 && strchr(" \t\r", entry.data[entry.len - 1]))
            entry.len--;
        if (entry.len > 0 && entry_count < ENTRIES_MAX)
            entries[entry_count++] = entry;
        at = stop + 1;
    }
}

static void read_entries(const char *head, size_t len)
{
    const char *end = head + len, *line = head, *newline;

    entry_count = 0;
    for (; line < end && (newline = memchr(line, '\n', (size_t)(end - line))); line = newline + 1)
        if ((size_t)(newline - line) >= strlen(NAME) && strncasecmp(line, NAME, strlen(NAME)) == 0)
            take_entries(line + strlen(NAME), newline);
}

/* The address in an entry, whatever stands around it. */
static bool holds(struct slice entry, const struct address *address)
{
    for (size_t from = 0; from <= 1 && from < entry.len; from++)
        for (size_t len = 1; from + len <= entry.len; len++) {
            struct address found;

            if (address_parse((struct slice){entry.data + from, len}, &found) &&
                memcmp(&found, address, sizeof(found)) == 0)
                return true;
        }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct networks *networks;
    const struct address peer = {.family = ADDRESS_V4, .bytes = {10, 0, 0, 1}};
    struct http_request request;
    struct address client, other;
    size_t scanned = 0, hops;
    char *head = malloc(size + 1);

    ALLOY_ASSERT(head != NULL);
    if (networks == NULL)
        ALLOY_ASSERT(networks_create(&networks, "10.0.0.0/8,2001:db8::/32", NULL, NULL) == 0);
    memcpy(head, data, size);
    if (http_parse_head(head, size, &scanned, &request) == HTTP_DONE) {
        struct slice text = {head, request.head_len};

        client = forwarded_client(networks, &peer, text);
        read_entries(head, request.head_len);
        /* It is the peer, or stands in an entry behind which only trusted ones do. */
        hops = entry_count;
        while (hops > 0 && !holds(entries[hops - 1], &client))
            hops--;
        ALLOY_ASSERT(hops > 0 || memcmp(&client, &peer, sizeof(peer)) == 0);
        ALLOY_ASSERT(networks_have(networks, &client) || hops > 0);
        if (entry_count == 0)
            ALLOY_ASSERT(memcmp(&client, &peer, sizeof(peer)) == 0);
        /* Whom nobody trusts nobody believes. */
        other = (struct address){.family = ADDRESS_V4, .bytes = {11, 0, 0, 1}};
        client = forwarded_client(networks, &other, text);
        ALLOY_ASSERT(memcmp(&client, &other, sizeof(other)) == 0);
    }
    free(head);
    return 0;
}
