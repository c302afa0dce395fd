/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_value.h - numbers, sizes, durations, words and lists, between text and value.
 */
#ifndef ALLOY_CONFIG_VALUE_H
#define ALLOY_CONFIG_VALUE_H

#include "config_loader.h"

#define CONFIG_VALUE_MAX 64 /* bytes of a formatted value */
#define CONFIG_WHY_MAX 200  /* bytes of a sentence that says why a value is refused */

/* Reads text as key's kind (not STR). Returns true, or false with the reason in why. */
bool config_value_parse(const struct config_key *key, const char *text, uint64_t *value,
                        char why[CONFIG_WHY_MAX]);
/* Writes value as in the file, in the largest unit that divides it. */
void config_value_format(const struct config_key *key, uint64_t value, char out[CONFIG_VALUE_MAX]);

/* One place in a comma-separated list: [at, at + len), white space trimmed. */
struct config_item {
    const char *at;
    size_t len;
    const char *next; /* NULL after the last */
};

struct config_item config_first_item(const char *list);

/* True for every byte a visible ASCII character, none of them in but. */
bool config_is_visible(const char *text, const char *but);

#endif
