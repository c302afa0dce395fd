/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_networks.c - any text as a list of networks: what is read has its own addresses, what is not
 * has a problem.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "alloy/networks.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count_problem(void *arg, struct slice item, const char *problem, bool warning)
{
    unsigned *problems = arg;

    ALLOY_ASSERT(problem != NULL &&
                 (item.len == 0 || !warning || memchr(item.data, '/', item.len)));
    if (!warning)
        ++*problems;
}

/* The address that an item of a good list names is in the list. */
static void must_have(const struct networks *networks, const char *text)
{
    for (const char *at = text; at != NULL;) {
        const size_t len = strcspn(at, ",");
        const size_t skip = strspn(at, " \t");
        struct address address = {.family = ADDRESS_UNIX};
        struct slice item = {at + skip, strcspn(at + skip, ",/ \t")};

        if (item.len != 5 || memcmp(item.data, "unix:", 5) != 0)
            ALLOY_ASSERT(address_parse(item, &address));
        ALLOY_ASSERT(networks_have(networks, &address));
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct networks *networks;
    unsigned problems = 0;
    int err;

    ALLOY_ASSERT(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    err = networks_create(&networks, text, count_problem, &problems);
    ALLOY_ASSERT((err == 0) == (problems == 0));
    ALLOY_ASSERT((networks != NULL) == (err == 0 && *text != '\0'));
    if (networks != NULL) {
        must_have(networks, text);
        ALLOY_ASSERT(!networks_have(networks, &(struct address){0}));
    }
    networks_destroy(networks);
    free(text);
    return 0;
}
