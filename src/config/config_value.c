/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_value.c - numbers, sizes, durations, booleans and words of the configuration.
 *
 * Reading is strict: a whole number, its unit, and nothing else. A written value reads back as the
 * same number.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "config_value.h"

#include <inttypes.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first, for config_value_format(). */
static const struct unit size_units[] = {
    {"GiB", 1ull << 30}, {"MiB", 1ull << 20}, {"KiB", 1ull << 10}, {"B", 1}, {NULL, 0}};
static const struct unit msec_units[] = {
    {"h", 3600000}, {"min", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *config_value_units_of(const struct config_key *key)
{
    if (key->kind == KIND_SIZE)
        return size_units;
    return key->kind == KIND_MSEC ? msec_units : no_units;
}

static const char *config_value_expected(const struct config_key *key)
{
    if (key->kind == KIND_SIZE)
        return "must be a whole number with B, KiB, MiB or GiB";
    if (key->kind == KIND_MSEC)
        return "must be a whole number with ms, s, min or h";
    return "must be a whole number";
}

/* Reads digits; returns how many, or 0 when there are none. Stops at UINT64_MAX. */
static size_t config_value_parse_digits(const char *text, uint64_t *value)
{
    size_t len = 0;

    *value = 0;
    for (; text[len] >= '0' && text[len] <= '9'; len++)
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(text[len] - '0'), value))
            *value = UINT64_MAX;
    return len;
}

static bool config_value_parse_number(const struct config_key *key, const char *text,
                                      uint64_t *value)
{
    size_t len = config_value_parse_digits(text, value);
    const char *name = text + len + strspn(text + len, " \t");

    if (len == 0)
        return false;
    if (*value == 0 && *name == '\0')
        return true; /* 0 needs no unit */
    for (const struct unit *unit = config_value_units_of(key); unit->name != NULL; unit++) {
        if (strcmp(name, unit->name) != 0)
            continue;
        if (__builtin_mul_overflow(*value, unit->factor, value))
            *value = UINT64_MAX;
        return true;
    }
    return false;
}

static bool config_value_parse_word(const char *words, const char *text, uint64_t *value)
{
    size_t text_len = strlen(text);

    for (uint64_t i = 0;; i++) {
        size_t len = strcspn(words, ",");

        if (len == text_len && memcmp(words, text, len) == 0) {
            *value = i;
            return true;
        }
        if (words[len] == '\0')
            return false;
        words += len + 1;
    }
}

/* Writes "a, b, c" for "a,b,c". */
static void config_value_list_words(const char *words, char *out, size_t size)
{
    size_t len = 0;

    for (; *words != '\0' && len + 2 < size; words++) {
        out[len++] = *words;
        if (*words == ',')
            out[len++] = ' ';
    }
    out[len] = '\0';
}

bool config_value_parse(const struct config_key *key, const char *text, uint64_t *value,
                        char why[CONFIG_WHY_MAX])
{
    char list[CONFIG_VALUE_MAX], min[CONFIG_VALUE_MAX], max[CONFIG_VALUE_MAX];

    if (key->kind == KIND_BOOL || key->kind == KIND_ENUM) {
        if (config_value_parse_word(key->words, text, value))
            return true;
        config_value_list_words(key->words, list, sizeof(list));
        snprintf(why, CONFIG_WHY_MAX, "must be one of: %s", list);
        return false;
    }
    if (key->automatic && strcmp(text, "auto") == 0) {
        *value = 0;
        return true;
    }
    if (!config_value_parse_number(key, text, value)) {
        snprintf(why, CONFIG_WHY_MAX, "%s%s", config_value_expected(key),
                 key->automatic ? ", or auto" : "");
        return false;
    }
    if (*value < key->min || *value > key->max) {
        config_value_format(key, key->min, min);
        config_value_format(key, key->max, max);
        snprintf(why, CONFIG_WHY_MAX, "out of range: must be %s to %s%s", min, max,
                 key->automatic ? ", or auto" : "");
        return false;
    }
    return true;
}

void config_value_format(const struct config_key *key, uint64_t value, char out[CONFIG_VALUE_MAX])
{
    const struct unit *unit = config_value_units_of(key);

    if (key->kind == KIND_BOOL || key->kind == KIND_ENUM) {
        const char *word = key->words;

        for (; value > 0; value--)
            word = strchr(word, ',') + 1;
        snprintf(out, CONFIG_VALUE_MAX, "%.*s", (int)strcspn(word, ","), word);
        return;
    }
    while (unit->factor > 1 && (value == 0 || value % unit->factor != 0))
        unit++;
    snprintf(out, CONFIG_VALUE_MAX, "%" PRIu64 "%s", value / unit->factor, unit->name);
}

struct config_item config_first_item(const char *list)
{
    struct config_item item = {.at = list + strspn(list, " \t"), .len = 0, .next = NULL};

    item.len = strcspn(item.at, ",");
    if (item.at[item.len] == ',')
        item.next = item.at + item.len + 1;
    while (item.len > 0 && strchr(" \t", item.at[item.len - 1]) != NULL)
        item.len--;
    return item;
}

bool config_is_visible(const char *text, const char *but)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~' || strchr(but, *text) != NULL)
            return false;
    return true;
}
