/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_loader.h - what reading and checking a configuration share: the rows of the keys, and
 * reporting problems.
 */
#ifndef ALLOY_CONFIG_LOADER_H
#define ALLOY_CONFIG_LOADER_H

#include "alloy/config.h"

enum config_kind { KIND_STR, KIND_UINT, KIND_SIZE, KIND_MSEC, KIND_BOOL, KIND_ENUM };

/* A row of config_keys.def. */
struct config_key {
    const char *section;
    const char *name;
    const char *default_text;
    const char *words; /* ENUM: comma-separated */
    const char *help;  /* a sentence for its user */
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
    STREAM_KEY_PRESET,
    STREAM_KEY_PATH,
    STREAM_KEY_TABLE,
    STREAM_KEY_EVENTS,
    STREAM_KEY_ID,
    STREAM_KEY_MISSING_ID,
    STREAM_KEY_KEY_MEMBER,
    STREAM_KEY_PARTIAL,
    STREAM_KEY_SCHEMA,
    STREAM_KEY_ON_UNKNOWN,
    STREAM_KEY_ON_MISSING,
    STREAM_KEY_ANSWER,
    STREAM_KEY_ANSWER_VERBOSE,
    STREAM_KEY_COLUMN_CONFLICT,
    STREAM_KEY_PROOF,
    STREAM_KEY_TTL,
    STREAM_KEY_COUNT
};
extern const char *const config_stream_keys[STREAM_KEY_COUNT];

#define CONFIG_MASK "********" /* shown in place of a secret */
#define CONFIG_SETTING_PREFIX "setting."

/* The field of a key: of a KIND_STR its text, of the others a number (bool and enum too). */
char **config_text_field(const struct config *config, const struct config_key *key);
uint64_t config_get_value(const struct config *config, const struct config_key *key);
void config_set_value(struct config *config, const struct config_key *key, uint64_t value);
/* A stream's index, or -1. */
int config_find_stream(const struct config *config, const char *name);

/* A place where a value was given: line place % PLACE_LINES of file place / PLACE_LINES, the
 * override -place - 1, or nowhere. */
#define PLACE_NONE 0
#define PLACE_LINES (1 << 20)
#define CONFIG_FILES_MAX 256

/* `column.NAME = source`, as given. */
struct config_given_column {
    char *name; /* owned, like the next */
    char *text;
    int place;
};

/* A configuration on its way from text to struct. Main thread. */
struct config_loader {
    struct config *config;
    char *files[CONFIG_FILES_MAX]; /* owned; the first is the one that was asked for */
    int file_count;
    int file;       /* that is being read */
    unsigned depth; /* of includes */
    const char *const *overrides;
    size_t cpu_count;
    FILE *problems;
    size_t problem_count;
    bool out_of_memory;
    bool unread; /* a file could not be read: what follows from the whole is not checked */
    int key_places[CONFIG_KEY_COUNT];
    struct {
        int place; /* of the first [stream.NAME] */
        int key_places[STREAM_KEY_COUNT];
        char *texts[STREAM_KEY_COUNT]; /* as given, NULL: not given; owned */
        struct config_given_column columns[CONFIG_COLUMNS_MAX];
        size_t column_count;
    } streams[CONFIG_STREAMS_MAX];
    int setting_places[CONFIG_SETTINGS_MAX];
};

/* Writes one problem, preceded by its place. */
void config_problem(struct config_loader *loader, int place, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* The same of what is hardly meant, and yet may stay. */
void config_warning(struct config_loader *loader, int place, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* Where a value was given, for a sentence about another place: "on line 3", or with its file. */
#define CONFIG_PLACE_MAX 600
const char *config_place_text(const struct config_loader *loader, int place, int other,
                              char out[CONFIG_PLACE_MAX]);
/* strdup(), or NULL and a problem. */
char *config_copy(struct config_loader *loader, const char *text, size_t len);
/* The first line of the file that a key names, owned; or NULL and a problem. */
char *config_read_secret(struct config_loader *loader, enum config_key_id id);

#endif
