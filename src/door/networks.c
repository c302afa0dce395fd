/* SPDX-License-Identifier: Apache-2.0 */
/*
 * networks.c - a list of addresses and networks, and who is in it.
 *
 * A list has as many entries as fit into a line of the configuration, mostly a few, so we look at
 * one after another.
 *
 * Runs on: any thread.
 * Owns: its lists.
 */
#include "alloy/networks.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define V4_IN_V6_BITS 96 /* of the network in which IPv6 writes IPv4: ::ffff:0:0/96 */

struct network {
    struct address base; /* the bits beyond the network's are zero */
    unsigned bits;
};

struct networks {
    bool unix_sockets;
    size_t count;
    struct network list[];
};

static struct slice networks_trim(struct slice text)
{
    while (text.len > 0 && (*text.data == ' ' || *text.data == '\t')) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t'))
        text.len--;
    return text;
}

/* The bits of byte number at that belong to a network of so many bits. */
static uint8_t networks_mask(unsigned bits, size_t at)
{
    const unsigned before = (unsigned)at * 8;

    if (bits >= before + 8)
        return 0xff;
    if (bits <= before)
        return 0;
    return (uint8_t)(0xff << (before + 8 - bits));
}

static bool networks_parse_bits(struct slice text, unsigned *bits)
{
    *bits = 0;
    if (text.len == 0 || text.len > 3 || (text.len > 1 && text.data[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *bits = *bits * 10 + (unsigned)(text.data[i] - '0');
    }
    return true;
}

/* Reads ADDRESS or ADDRESS/BITS. Returns NULL, or what is wrong; *loose: it has bits beyond its
 * network's. */
static const char *networks_parse(struct slice text, struct network *network, bool *loose)
{
    const char *slash = memchr(text.data, '/', text.len);
    struct slice address = {text.data, slash != NULL ? (size_t)(slash - text.data) : text.len};
    const bool v6 = memchr(address.data, ':', address.len) != NULL;
    unsigned bits = v6 ? 128 : 32;

    if (!address_parse(address, &network->base))
        return "this is no address, no network such as 10.0.0.0/8 or 2001:db8::/32, and not unix:";
    if (slash != NULL &&
        (!networks_parse_bits((struct slice){slash + 1, text.len - address.len - 1}, &bits) ||
         bits > (v6 ? 128u : 32u)))
        return v6 ? "the bits of an IPv6 network are 0 to 128"
                  : "the bits of an IPv4 network are 0 to 32";
    if (v6 && network->base.family == ADDRESS_V4) {
        if (bits < V4_IN_V6_BITS)
            return "an IPv4 network written as ::ffff:a.b.c.d has at least 96 bits";
        bits -= V4_IN_V6_BITS;
    }
    network->bits = bits;
    for (size_t i = 0; i < sizeof(network->base.bytes); i++) {
        const uint8_t kept = network->base.bytes[i] & networks_mask(bits, i);

        *loose = *loose || kept != network->base.bytes[i];
        network->base.bytes[i] = kept;
    }
    return NULL;
}

/* Adds an item of the list. Returns NULL, or what is wrong. */
static const char *networks_add(struct networks *networks, struct slice item, bool *loose)
{
    const char *problem;

    *loose = false;
    if (item.len == 0)
        return "an address is missing";
    if (item.len == 5 && memcmp(item.data, "unix:", 5) == 0) {
        networks->unix_sockets = true;
        return NULL;
    }
    problem = networks_parse(item, &networks->list[networks->count], loose);
    if (problem == NULL)
        networks->count++;
    return problem;
}

int networks_create(struct networks **out, const char *text, networks_tell_fn tell, void *arg)
{
    struct networks *networks;
    size_t most = 1;
    int err = 0;

    *out = NULL;
    if (*text == '\0')
        return 0;
    for (const char *at = text; *at != '\0'; at++)
        most += *at == ',';
    networks = calloc(1, sizeof(*networks) + most * sizeof(networks->list[0]));
    if (networks == NULL)
        return -ENOMEM;
    for (const char *at = text; at != NULL;) {
        const size_t len = strcspn(at, ",");
        const struct slice item = networks_trim((struct slice){at, len});
        bool loose;
        const char *problem = networks_add(networks, item, &loose);

        if (problem != NULL)
            err = -EINVAL;
        else if (loose)
            problem = "its address has bits beyond its network's, which do not count";
        if (problem != NULL)
            tell(arg, item, problem, loose);
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    if (err != 0)
        networks_destroy(networks);
    else
        *out = networks;
    return err;
}

void networks_destroy(struct networks *networks)
{
    free(networks);
}

static bool networks_has(const struct network *network, const struct address *address)
{
    if (network->base.family != address->family)
        return false;
    for (size_t i = 0; i * 8 < network->bits; i++)
        if ((address->bytes[i] & networks_mask(network->bits, i)) != network->base.bytes[i])
            return false;
    return true;
}

bool networks_have(const struct networks *networks, const struct address *address)
{
    if (address->family == ADDRESS_UNIX)
        return networks->unix_sockets;
    for (size_t i = 0; i < networks->count; i++)
        if (networks_has(&networks->list[i], address))
            return true;
    return false;
}
