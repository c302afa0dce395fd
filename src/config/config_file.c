/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_file.c - reads a configuration: the file, those that it includes, then the overrides of
 * the command line.
 *
 * Runs on: main thread.
 * Owns: nothing; texts go into the loader and its configuration.
 */
#include "config_file.h"

#include <errno.h>
#include <glob.h>
#include <string.h>

#include "config_check.h"
#include "config_hint.h"
#include "config_places.h"
#include "config_stream.h"
#include "config_value.h"
#include "alloy/ini.h"
#include "alloy/text.h"

#define STREAM_PREFIX "stream."
#define INCLUDE_DEPTH_MAX 8

/* Settings that Alloy sends itself, or on which its guarantees depend. */
static const struct {
    const char *name;
    const char *why;
} reserved_settings[] = {
    {"async_insert", "use the key async_insert"},
    {"wait_for_async_insert", "use the key wait_for_async_insert"},
    {"insert_deduplication_token", "Alloy names each insert, so that a retry gives no second row"},
    {"deduplicate_insert", "retries rely on deduplication"},
    {"insert_deduplicate", "retries rely on deduplication"},
    {"async_insert_deduplicate", "retries rely on deduplication"},
    {"max_insert_block_size", "an insert has to be one block, or a retry is cut differently"},
    {"min_insert_block_size_rows", "an insert has to be one block, or a retry is cut differently"},
    {"min_insert_block_size_bytes", "an insert has to be one block, or a retry is cut differently"},
    {"input_format_parallel_parsing",
     "an insert has to be one block, or a retry is cut differently"},
    {"max_insert_delayed_streams_for_parallel_write",
     "a refused insert would leave some partitions behind"},
    {"wait_end_of_query", "ClickHouse would answer 200 before an insert has succeeded"},
    {"input_format_allow_errors_num", "it would drop rows silently"},
    {"input_format_allow_errors_ratio", "it would drop rows silently"},
    {"send_progress_in_http_headers", "ClickHouse would answer 200 before an insert has succeeded"},
    {"query", "Alloy sends the query itself"},
    {"query_id", "two inserts must not share one"},
    {"database", "it is part of a stream's table"},
    {"user", "use the key user"},
    {"password", "use the key password_file"},
};

/* One `key = value` of a section. */
struct assignment {
    const char *section;
    const char *key;
    const char *value;
};

static const struct config_key *config_find_key(const char *section, const char *name)
{
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
        if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

static bool config_is_section(const char *section)
{
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
        if (strcmp(config_keys[i].section, section) == 0)
            return true;
    return false;
}

static bool config_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Removes white space at both ends, in place. */
static char *config_trim(char *text)
{
    size_t len;

    text += strspn(text, " \t");
    len = strlen(text);
    while (len > 0 && strchr(" \t", text[len - 1]) != NULL)
        text[--len] = '\0';
    return text;
}

static void config_replace_text(struct config_loader *loader, char **field, const char *text)
{
    free(*field);
    *field = config_copy(loader, text, strlen(text));
}

/*
 * Notes that *noted is given at place. Returns false, with a problem, when the file gives it a
 * second time; of several --set of one key the last one counts.
 */
static bool config_note_place(struct config_loader *loader, int place, int *noted,
                              const char *label)
{
    char first[CONFIG_PLACE_MAX];

    if (place > 0 && *noted > 0) {
        config_problem(loader, place, "%s is given twice; the first is %s", label,
                       config_place_text(loader, place, *noted, first));
        return false;
    }
    *noted = place;
    return true;
}

static void config_assign_key(struct config_loader *loader, int place, const struct config_key *key,
                              const char *text)
{
    char why[CONFIG_WHY_MAX];
    char label[CONFIG_VALUE_MAX];
    uint64_t value;

    snprintf(label, sizeof(label), "%s.%s", key->section, key->name);
    if (!config_note_place(loader, place, &loader->key_places[key - config_keys], label))
        return;
    if (key->kind == KIND_STR)
        config_replace_text(loader, config_text_field(loader->config, key), text);
    else if (config_value_parse(key, text, &value, why))
        config_set_value(loader->config, key, value);
    else
        config_problem(loader, place, "%s = %s: %s", label, text, why);
}

/* Adds a stream, unless it is already there. */
static void config_begin_stream(struct config_loader *loader, int place, const char *name)
{
    struct config *config = loader->config;
    size_t len = strlen(name);
    char *copy;

    if (config_find_stream(config, name) >= 0)
        return;
    if (len > CONFIG_STREAM_NAME_MAX || !text_is_name(name, len, "_-")) {
        config_problem(loader, place,
                       "[stream.%s]: a stream's name is 1 to %d letters, digits, _ and -", name,
                       CONFIG_STREAM_NAME_MAX);
        return;
    }
    if (config->stream_count == CONFIG_STREAMS_MAX) {
        config_problem(loader, place, "[stream.%s]: there can be at most %d streams", name,
                       CONFIG_STREAMS_MAX);
        return;
    }
    copy = config_copy(loader, name, len);
    if (copy == NULL)
        return;
    config->streams[config->stream_count].name = copy;
    loader->streams[config->stream_count].place = place;
    config->stream_count++;
}

static void config_assign_stream(struct config_loader *loader, int place, const char *name,
                                 const struct assignment *given)
{
    int index = config_find_stream(loader->config, name);
    char label[CONFIG_STREAM_NAME_MAX + 32];
    char why[CONFIG_WHY_MAX];
    char hint[CONFIG_HINT_MAX];
    size_t id = 0;

    if (index < 0)
        return; /* it could not begin, which has been reported */
    if (config_has_prefix(given->key, CONFIG_COLUMN_PREFIX)) {
        config_stream_give_column(loader, (size_t)index, place,
                                  given->key + strlen(CONFIG_COLUMN_PREFIX), given->value);
        return;
    }
    while (id < STREAM_KEY_COUNT && strcmp(config_stream_keys[id], given->key) != 0)
        id++;
    if (id == STREAM_KEY_COUNT) {
        config_hint_stream_key(given->key, hint);
        config_problem(loader, place, "unknown key %s in [stream.%s]%s", given->key, name, hint);
        return;
    }
    snprintf(label, sizeof(label), "stream.%s.%s", name, given->key);
    if (!config_note_place(loader, place, &loader->streams[index].key_places[id], label))
        return;
    if (id != STREAM_KEY_TTL)
        config_replace_text(loader, &loader->streams[index].texts[id], given->value);
    else if (!config_value_parse(&config_keys[KEY_redis_ttl], given->value,
                                 &loader->config->streams[index].ttl_ms, why))
        config_problem(loader, place, "%s = %s: %s", label, given->value, why);
}

static bool config_may_set(struct config_loader *loader, int place, const char *name)
{
    if (!text_is_name(name, strlen(name), "_")) {
        config_problem(loader, place,
                       "clickhouse.setting.%s: a setting's name is letters, digits and _", name);
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(reserved_settings); i++) {
        if (strcmp(reserved_settings[i].name, name) == 0) {
            config_problem(loader, place, "clickhouse.setting.%s cannot be set: %s", name,
                           reserved_settings[i].why);
            return false;
        }
    }
    return true;
}

static void config_assign_setting(struct config_loader *loader, int place, const char *name,
                                  const char *text)
{
    struct config *config = loader->config;
    size_t i = 0;

    if (!config_may_set(loader, place, name))
        return;
    while (i < config->setting_count && strcmp(config->settings[i].name, name) != 0)
        i++;
    if (i == CONFIG_SETTINGS_MAX) {
        config_problem(loader, place, "clickhouse.setting.%s: there can be at most %d settings",
                       name, CONFIG_SETTINGS_MAX);
        return;
    }
    if (i == config->setting_count) {
        char *copy = config_copy(loader, name, strlen(name));

        if (copy == NULL)
            return;
        config->settings[config->setting_count++].name = copy;
    } else if (place > 0 && loader->setting_places[i] > 0) {
        char first[CONFIG_PLACE_MAX];

        config_problem(loader, place, "clickhouse.setting.%s is given twice; the first is %s", name,
                       config_place_text(loader, place, loader->setting_places[i], first));
        return;
    }
    loader->setting_places[i] = place;
    config_replace_text(loader, &config->settings[i].value, text);
}

/* Takes one assignment whose variables have their values, to a section that exists. */
static void config_assign_expanded(struct config_loader *loader, int place,
                                   const struct assignment *given)
{
    const struct config_key *key = config_find_key(given->section, given->key);
    char hint[CONFIG_HINT_MAX];

    /* A value of --set that a file cannot hold could not be read back from --dump-config either. */
    for (const char *at = given->value; *at != '\0'; at++) {
        bool comment = *at == ';' && (at == given->value || at[-1] == ' ');

        if ((unsigned char)*at < ' ' || *at == 0x7f || comment) {
            config_problem(loader, place, "%s.%s: a value cannot hold %s", given->section,
                           given->key, comment ? "a ; behind white space" : "control characters");
            return;
        }
    }
    if (config_has_prefix(given->section, STREAM_PREFIX)) {
        config_assign_stream(loader, place, given->section + strlen(STREAM_PREFIX), given);
    } else if (key != NULL) {
        config_assign_key(loader, place, key, given->value);
    } else if (strcmp(given->section, "clickhouse") == 0 &&
               config_has_prefix(given->key, CONFIG_SETTING_PREFIX)) {
        config_assign_setting(loader, place, given->key + strlen(CONFIG_SETTING_PREFIX),
                              given->value);
    } else {
        config_hint_key(given->section, given->key, hint);
        config_problem(loader, place, "unknown key %s in [%s]%s", given->key, given->section, hint);
    }
}

static void config_assign(struct config_loader *loader, int place, const struct assignment *given)
{
    const char *literal = config_hint_literal(given->key, given->value);
    char *value;

    if (literal != NULL) {
        config_problem(loader, place, "%s.%s = %s: %s", given->section, given->key, given->value,
                       literal);
        return;
    }
    value = config_hint_expand(loader, place, given->value);
    if (value != NULL)
        config_assign_expanded(loader, place,
                               &(struct assignment){given->section, given->key, value});
    free(value);
}

/* Returns whether the section exists; adds the stream of a stream's section. */
static bool config_take_section(struct config_loader *loader, int place, const char *section)
{
    char hint[CONFIG_HINT_MAX];

    if (config_has_prefix(section, STREAM_PREFIX))
        config_begin_stream(loader, place, section + strlen(STREAM_PREFIX));
    else if (!config_is_section(section))
        config_problem(loader, place, "unknown section [%s]%s", section,
                       config_hint_section(section, hint));
    else
        return true;
    return config_has_prefix(section, STREAM_PREFIX);
}

static int config_file_place(const struct config_loader *loader, int line)
{
    return loader->file * PLACE_LINES + (line < PLACE_LINES ? line : PLACE_LINES - 1);
}

/* Reads one file; place says where it was included. */
static void config_file_read(struct config_loader *loader, int place, const char *path);

/* A folder that is not there holds no file; one that cannot be read may. */
static int config_file_glob_error(const char *folder, int err)
{
    (void)folder;
    return err != ENOENT && err != ENOTDIR;
}

/* Reads all files of a pattern, which counts from the folder of the file that names it. */
static void config_file_include(struct config_loader *loader, int place, const char *pattern)
{
    const char *from = loader->files[loader->file];
    const char *slash = *pattern == '/' ? NULL : strrchr(from, '/');
    char full[INI_LINE_MAX * 2];
    glob_t found;
    int err;

    snprintf(full, sizeof(full), "%.*s%s", slash != NULL ? (int)(slash + 1 - from) : 0, from,
             pattern);
    err = glob(full, 0, config_file_glob_error, &found);
    if (err == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++)
            config_file_read(loader, place, found.gl_pathv[i]);
        globfree(&found);
    } else if (err != GLOB_NOMATCH) {
        config_problem(loader, place, "include = %s: its folder cannot be read", pattern);
    } else if (strpbrk(pattern, "*?[") == NULL) {
        config_problem(loader, place, "include = %s: there is no file %s", pattern, full);
    }
}

/* The three callbacks of ini_read(). */
static void config_file_section(void *arg, int line, const char *section)
{
    struct config_loader *loader = arg;

    (void)config_take_section(loader, config_file_place(loader, line), section);
}

static void config_file_entry(void *arg, int line, const char *section, const char *key,
                              const char *value)
{
    struct config_loader *loader = arg;
    const int place = config_file_place(loader, line);

    if (*section == '\0' && strcmp(key, "include") == 0) {
        char *pattern = config_hint_expand(loader, place, value);

        if (pattern != NULL && *pattern == '\0')
            config_problem(loader, place, "include names no file");
        else if (pattern != NULL)
            config_file_include(loader, place, pattern);
        free(pattern);
    } else if (*section == '\0') {
        config_problem(loader, place, "the key %s comes before the first [section]", key);
    } else if (config_is_section(section) || config_has_prefix(section, STREAM_PREFIX)) {
        config_assign(loader, place, &(struct assignment){section, key, value});
    }
}

static void config_file_error(void *arg, int line, const char *message)
{
    struct config_loader *loader = arg;

    config_problem(loader, config_file_place(loader, line), "%s", message);
}

static void config_file_read(struct config_loader *loader, int place, const char *path)
{
    struct ini_handler handler = {loader, config_file_section, config_file_entry,
                                  config_file_error};
    const int before = loader->file;
    int err;

    if (loader->depth == INCLUDE_DEPTH_MAX || loader->file_count == CONFIG_FILES_MAX) {
        config_problem(loader, place,
                       loader->depth == INCLUDE_DEPTH_MAX
                           ? "includes are nested deeper than %d; does a file include itself?"
                           : "there are more than %d files",
                       loader->depth == INCLUDE_DEPTH_MAX ? INCLUDE_DEPTH_MAX : CONFIG_FILES_MAX);
        return;
    }
    loader->files[loader->file_count] = config_copy(loader, path, strlen(path));
    if (loader->files[loader->file_count] == NULL)
        return;
    loader->file = loader->file_count++;
    loader->depth++;
    err = ini_read(path, &handler);
    loader->depth--;
    loader->file = before;
    loader->unread |= err != 0;
    if (err != 0 && place == PLACE_NONE)
        config_problem(loader, place, "cannot be read: %s", strerror(-err));
    else if (err != 0)
        config_problem(loader, place, "include: %s cannot be read: %s", path, strerror(-err));
}

/* Takes "SECTION.KEY=VALUE"; the section of a stream contains a dot. */
static void config_apply_override(struct config_loader *loader, int place, const char *override)
{
    char *text = config_copy(loader, override, strlen(override));
    char *value, *dot;

    if (text == NULL)
        return;
    value = text + (ini_find_unquoted(text, "=") - text);
    if (*value == '=')
        *value++ = '\0';
    else
        value = NULL;
    dot = strchr(config_has_prefix(text, STREAM_PREFIX) ? text + strlen(STREAM_PREFIX) : text, '.');
    if (value == NULL || dot == NULL) {
        config_problem(loader, place, "must be SECTION.KEY=VALUE");
    } else if (strlen(override) > INI_LINE_MAX) {
        config_problem(loader, place, "is longer than %d bytes", INI_LINE_MAX);
    } else {
        *dot = '\0';
        if (config_take_section(loader, place, text))
            config_assign(loader, place, &(struct assignment){text, dot + 1, config_trim(value)});
    }
    free(text);
}

static void config_set_defaults(struct config_loader *loader)
{
    char why[CONFIG_WHY_MAX];

    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        uint64_t value = 0;

        if (key->kind == KIND_STR) {
            config_replace_text(loader, config_text_field(loader->config, key), key->default_text);
            continue;
        }
        ALLOY_ASSERT(config_value_parse(key, key->default_text, &value, why));
        config_set_value(loader->config, key, value);
    }
}

void config_file_load(struct config_loader *loader, const char *path, size_t override_count)
{
    config_set_defaults(loader);
    config_file_read(loader, PLACE_NONE, path);
    for (size_t i = 0; i < override_count; i++)
        config_apply_override(loader, -(int)i - 1, loader->overrides[i]);
    if (!loader->unread && !loader->out_of_memory)
        config_check(loader);
    if (loader->problem_count == 0 && !config_places_keep(loader))
        config_problem(loader, PLACE_NONE, "out of memory");
    for (int i = 0; i < loader->file_count; i++)
        free(loader->files[i]);
    for (size_t i = 0; i < CONFIG_STREAMS_MAX; i++) {
        for (size_t id = 0; id < STREAM_KEY_COUNT; id++)
            free(loader->streams[i].texts[id]);
        for (size_t k = 0; k < loader->streams[i].column_count; k++) {
            free(loader->streams[i].columns[k].name);
            free(loader->streams[i].columns[k].text);
        }
    }
}
