/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_keys.c - any bytes as a keys file: what is read, written again, is the same; what is not
 * has a problem that names a line.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "alloy/keys.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct keys *read_all(const char *data, size_t len, char **problems)
{
    FILE *in = fmemopen((void *)(uintptr_t)data, len, "r");
    size_t problems_len = 0;
    FILE *out = open_memstream(problems, &problems_len);
    struct keys *keys;
    int err;

    ALLOY_ASSERT(in != NULL && out != NULL);
    err = keys_read(&keys, in, "k", out);
    fclose(in);
    fclose(out);
    ALLOY_ASSERT((err == 0) == (keys != NULL));
    ALLOY_ASSERT(err == 0 || (err == -EINVAL && strncmp(*problems, "k:", 2) == 0));
    return keys;
}

/* Returns owned. */
static char *write_all(const struct keys *keys, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    ALLOY_ASSERT(out != NULL);
    fputs("#\n", out);
    for (size_t i = 0; i < keys_count(keys); i++) {
        const struct key *key = keys_at(keys, i);

        ALLOY_ASSERT(keys_name_problem((struct slice){key->name, strlen(key->name)}) == NULL);
        ALLOY_ASSERT(keys_by_name(keys, (struct slice){key->name, strlen(key->name)}) == key);
        fprintf(out, "%s b2:", key->name);
        for (size_t k = 0; k < KEYS_HASH_BYTES; k++)
            fprintf(out, "%02x", key->hash[k]);
        fprintf(out, " %s %llu\n", key->stream_list, (unsigned long long)key->rate);
    }
    fclose(out);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const streams[] = {"events", "a"};
    char *problems = NULL, *more = NULL, *text;
    struct keys *keys, *again;
    size_t len;

    if (size == 0)
        return 0;
    keys = read_all((const char *)data, size, &problems);
    if (keys != NULL) {
        text = write_all(keys, &len);
        again = read_all(text, len, &more);
        keys_bind(keys, streams, 2);
        ALLOY_ASSERT(again != NULL);
        keys_bind(again, streams, 2);
        ALLOY_ASSERT(keys_same(keys, again));
        keys_inherit(again, keys);
        keys_destroy(again);
        free(text);
    }
    keys_destroy(keys);
    free(problems);
    free(more);
    return 0;
}
