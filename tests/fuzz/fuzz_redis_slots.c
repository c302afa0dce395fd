/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_redis_slots.c - any redirection, and any answer to CLUSTER SLOTS, that a node may send.
 *
 * The first byte chooses. 0: the rest is a redirection. Else it is an answer: each element has a
 * byte for its type and number of elements, and texts have their length in another.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "redis_slots.h"

#include <string.h>

#define DEPTH_MAX 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct redis_topology topology;
static const uint8_t *at, *end;

static void check_host(const char *host)
{
    ALLOY_ASSERT(strlen(host) < REDIS_HOST_MAX);
    for (; *host != '\0'; host++)
        ALLOY_ASSERT(*host > ' ' && *host <= '~');
}

/* Tells one element and what is in it. */
static bool tell(unsigned depth, size_t index)
{
    struct redis_link_element element = {.root = depth == 0, .depth = depth, .index = index};
    uint8_t kind;

    if (at == end)
        return false;
    kind = *at++;
    element.type = kind % 3 == 0   ? REDIS_LINK_ARRAY
                   : kind % 3 == 1 ? REDIS_LINK_INTEGER
                                   : REDIS_LINK_STRING;
    if (kind == 255)
        element.type = REDIS_LINK_NIL;
    element.count = kind / 3;
    element.value = (kind / 3) * 205 - 1;
    if (element.type == REDIS_LINK_STRING) {
        element.text.data = (const char *)at;
        element.text.len = (size_t)(end - at) < kind / 3u ? (size_t)(end - at) : kind / 3u;
        at += element.text.len;
    }
    if (!redis_topology_element(&topology, &element))
        return false;
    if (element.type != REDIS_LINK_ARRAY || depth == DEPTH_MAX)
        return true;
    for (size_t i = 0; i < element.count; i++)
        if (!tell(depth + 1, i))
            return false;
    return true;
}

static void check_topology(void)
{
    bool served = false;

    ALLOY_ASSERT(topology.count > 0 && topology.count <= REDIS_NODES_MAX);
    for (size_t i = 0; i < topology.count; i++) {
        check_host(topology.places[i].host);
        ALLOY_ASSERT(topology.places[i].port > 0 && topology.places[i].port <= 65535);
    }
    for (size_t i = 0; i < REDIS_SLOTS; i++) {
        ALLOY_ASSERT(topology.slots[i] == REDIS_NODE_NONE || topology.slots[i] < topology.count);
        served |= topology.slots[i] != REDIS_NODE_NONE;
    }
    ALLOY_ASSERT(served);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_redirect redirect;

    if (size == 0)
        return 0;
    at = data + 1;
    end = data + size;
    if (data[0] == 0) {
        const struct slice text = {(const char *)at, size - 1};

        if (redis_slots_read_redirect(text, &redirect)) {
            check_host(redirect.place.host);
            ALLOY_ASSERT(redirect.slot < REDIS_SLOTS);
            ALLOY_ASSERT(redirect.place.port > 0 && redirect.place.port <= 65535);
        }
        ALLOY_ASSERT(redis_slots_of_key(text) < REDIS_SLOTS);
        return 0;
    }
    redis_topology_begin(&topology, "asked");
    if (tell(0, 0) && redis_topology_end(&topology))
        check_topology();
    return 0;
}
