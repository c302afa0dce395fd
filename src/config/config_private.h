/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_private.h - what the three files of the configuration share: config.c (load, dump,
 * compare, publish), config_value.c (numbers and their units), config_check.c (addresses, streams,
 * whatever concerns more than one key).
 */
#ifndef ALLOY_CONFIG_PRIVATE_H
#define ALLOY_CONFIG_PRIVATE_H

#include "alloy/config.h"

enum config_kind { KIND_STR, KIND_UINT, KIND_SIZE, KIND_MSEC, KIND_BOOL, KIND_ENUM };

/* A row of config_keys.def. */
struct config_key {
    const char *section;
    const char *name;
    const char *default_text;
    const char *words; /* ENUM: comma-separated */
    uint64_t min;
    uint64_t max;
    size_t offset; /* of the field in struct config */
    enum config_kind kind;
    bool automatic; /* takes `auto`, which is 0 until resolved */
    bool secret;
    bool reload;
};

/* KEY_<section>_<key>: the row's index in config_keys. */
enum config_key_id {
#define KEY_STR(section, key, ...) KEY_##section##_##key,
#define KEY_UINT(section, key, ...) KEY_##section##_##key,
#define KEY_AUTO(section, key, ...) KEY_##section##_##key,
#define KEY_SIZE(section, key, ...) KEY_##section##_##key,
#define KEY_AUTO_SIZE(section, key, ...) KEY_##section##_##key,
#define KEY_MSEC(section, key, ...) KEY_##section##_##key,
#define KEY_BOOL(section, key, ...) KEY_##section##_##key,
#define KEY_ENUM(section, key, ...) KEY_##section##_##key,
#include "alloy/config_keys.def"
    CONFIG_KEY_COUNT
};
extern const struct config_key config_keys[CONFIG_KEY_COUNT];

enum config_stream_key {
    STREAM_KEY_PATH,
    STREAM_KEY_TABLE,
    STREAM_KEY_ID,
    STREAM_KEY_TTL,
    STREAM_KEY_COUNT
};
extern const char *const config_stream_keys[STREAM_KEY_COUNT];

/* Where a value was given: a line of the file, the override -place - 1, or nowhere. */
#define PLACE_NONE 0

/* A configuration on its way from text to struct. Main thread. */
struct config_loader {
    struct config *config;
    const char *path;
    const char *const *overrides;
    size_t cpu_count;
    FILE *problems;
    size_t problem_count;
    bool out_of_memory;
    int key_places[CONFIG_KEY_COUNT];
    struct {
        int place; /* of the first [stream.NAME] */
        int key_places[STREAM_KEY_COUNT];
        char *texts[STREAM_KEY_COUNT]; /* as given, NULL: not given; owned */
    } streams[CONFIG_STREAMS_MAX];
    int setting_places[CONFIG_SETTINGS_MAX];
};

/* Writes one problem, with the place's name before it. */
void config_problem(struct config_loader *loader, int place, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* strdup(), or NULL and a problem. */
char *config_copy(struct config_loader *loader, const char *text, size_t len);

#define CONFIG_VALUE_MAX 64 /* bytes of a formatted value */
#define CONFIG_WHY_MAX 200  /* bytes of a sentence that tells why a value is refused */

/* Reads text as key's kind (not STR). Returns true, or false with the reason in why. */
bool config_value_parse(const struct config_key *key, const char *text, uint64_t *value,
                        char why[CONFIG_WHY_MAX]);
/* Writes value as the file would have it, in the largest unit that divides it. */
void config_value_format(const struct config_key *key, uint64_t value, char out[CONFIG_VALUE_MAX]);

/* True for at least one letter, digit or character of more, and nothing else. */
bool config_is_name(const char *text, size_t len, const char *more);
/* The part of url between "user:" and "@host"; empty where there is none. */
struct slice config_url_password(const char *url);

/* Resolves what is `auto` or inherited, fills streams and addresses, and reports what is wrong. */
void config_check(struct config_loader *loader);

#endif
