/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - reads, dumps, compares and publishes the configuration.
 *
 * Rules about a single key are rows of config_keys.def; all other rules are in config_check.c. Both
 * use config_loader.c.
 *
 * Runs on: main thread; config_current() on any thread.
 * Owns: the texts of a struct config. After config_publish() a configuration shares the texts that
 * it kept with the one before, which owns them.
 */
#include "alloy/config.h"

#include <stdarg.h>
#include <string.h>

#include "config_check.h"
#include "config_door.h"
#include "config_loader.h"
#include "config_stream.h"
#include "config_value.h"
#include "alloy/ini.h"

#define STREAM_PREFIX "stream."
#define SETTING_PREFIX "setting."

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

static void *config_field_of(const struct config *config, const struct config_key *key)
{
    return (char *)config + key->offset;
}

static char **config_text_field(const struct config *config, const struct config_key *key)
{
    return config_field_of(config, key);
}

static uint64_t config_get_value(const struct config *config, const struct config_key *key)
{
    if (key->kind == KIND_BOOL)
        return *(bool *)config_field_of(config, key);
    if (key->kind == KIND_ENUM)
        return (uint64_t)(*(int *)config_field_of(config, key));
    return *(uint64_t *)config_field_of(config, key);
}

static void config_set_value(struct config *config, const struct config_key *key, uint64_t value)
{
    if (key->kind == KIND_BOOL)
        *(bool *)config_field_of(config, key) = value != 0;
    else if (key->kind == KIND_ENUM)
        *(int *)config_field_of(config, key) = (int)value;
    else
        *(uint64_t *)config_field_of(config, key) = value;
}

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
    if (place > 0 && *noted > 0) {
        config_problem(loader, place, "%s is given twice; the first is on line %d", label, *noted);
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

/* Returns the stream's index, or -1. */
static int config_find_stream(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->stream_count; i++)
        if (strcmp(config->streams[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* Adds a stream, unless it is already there. */
static void config_begin_stream(struct config_loader *loader, int place, const char *name)
{
    struct config *config = loader->config;
    size_t len = strlen(name);
    char *copy;

    if (config_find_stream(config, name) >= 0)
        return;
    if (len > CONFIG_STREAM_NAME_MAX || !config_is_name(name, len, "_-")) {
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
        config_problem(loader, place, "unknown key %s in [stream.%s]", given->key, name);
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
    if (!config_is_name(name, strlen(name), "_")) {
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
        config_problem(loader, place,
                       "clickhouse.setting.%s is given twice; the first is on line %d", name,
                       loader->setting_places[i]);
        return;
    }
    loader->setting_places[i] = place;
    config_replace_text(loader, &config->settings[i].value, text);
}

/* Takes one assignment, to a section that exists. */
static void config_assign(struct config_loader *loader, int place, const struct assignment *given)
{
    const struct config_key *key = config_find_key(given->section, given->key);

    /* A value of --set that a file cannot hold could not be read back from --dump-config either. */
    for (const char *at = given->value; *at != '\0'; at++) {
        bool comment = *at == ';' && (at == given->value || at[-1] == ' ');

        if ((unsigned char)*at < ' ' || *at == 0x7f || comment) {
            config_problem(loader, place, "%s.%s: a value cannot hold %s", given->section,
                           given->key, comment ? "a ; behind white space" : "control characters");
            return;
        }
    }
    if (config_has_prefix(given->section, STREAM_PREFIX))
        config_assign_stream(loader, place, given->section + strlen(STREAM_PREFIX), given);
    else if (key != NULL)
        config_assign_key(loader, place, key, given->value);
    else if (strcmp(given->section, "clickhouse") == 0 &&
             config_has_prefix(given->key, SETTING_PREFIX))
        config_assign_setting(loader, place, given->key + strlen(SETTING_PREFIX), given->value);
    else
        config_problem(loader, place, "unknown key %s in [%s]", given->key, given->section);
}

/* Returns whether the section exists; adds the stream of a stream's section. */
static bool config_take_section(struct config_loader *loader, int place, const char *section)
{
    if (config_has_prefix(section, STREAM_PREFIX))
        config_begin_stream(loader, place, section + strlen(STREAM_PREFIX));
    else if (!config_is_section(section))
        config_problem(loader, place, "unknown section [%s]", section);
    else
        return true;
    return config_has_prefix(section, STREAM_PREFIX);
}

/* The three callbacks of ini_read(). */
static void config_file_section(void *arg, int line, const char *section)
{
    (void)config_take_section(arg, line, section);
}

static void config_file_entry(void *arg, int line, const char *section, const char *key,
                              const char *value)
{
    if (*section == '\0')
        config_problem(arg, line, "the key %s comes before the first [section]", key);
    else if (config_is_section(section) || config_has_prefix(section, STREAM_PREFIX))
        config_assign(arg, line, &(struct assignment){section, key, value});
}

static void config_file_error(void *arg, int line, const char *message)
{
    config_problem(arg, line, "%s", message);
}

/* Takes "SECTION.KEY=VALUE"; the section of a stream contains a dot. */
static void config_apply_override(struct config_loader *loader, int place, const char *override)
{
    char *text = config_copy(loader, override, strlen(override));
    char *value, *dot;

    if (text == NULL)
        return;
    value = strchr(text, '=');
    if (value != NULL)
        *value++ = '\0';
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

static void config_free_addresses(struct config_address *addresses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(addresses[i].host);
        free(addresses[i].port);
    }
}

/* Frees the parts that config_publish() always replaces by those in force. */
static void config_free_frozen(struct config *config)
{
    for (size_t i = 0; i < config->stream_count; i++)
        config_stream_fini(&config->streams[i]);
    for (size_t i = 0; i < config->setting_count; i++) {
        free(config->settings[i].name);
        free(config->settings[i].value);
    }
    config_free_addresses(config->server_addresses, config->server_address_count);
    config_free_addresses(config->admin_addresses, config->admin_address_count);
    free(config->clickhouse_password_resolved);
}

static void config_load_all(struct config_loader *loader, size_t override_count)
{
    struct ini_handler handler = {loader, config_file_section, config_file_entry,
                                  config_file_error};
    int err;

    config_set_defaults(loader);
    err = ini_read(loader->path, &handler);
    if (err != 0)
        config_problem(loader, PLACE_NONE, "cannot be read: %s", strerror(-err));
    for (size_t i = 0; i < override_count; i++)
        config_apply_override(loader, -(int)i - 1, loader->overrides[i]);
    if (err == 0 && !loader->out_of_memory)
        config_check(loader);
    for (size_t i = 0; i < CONFIG_STREAMS_MAX; i++) {
        for (size_t id = 0; id < STREAM_KEY_COUNT; id++)
            free(loader->streams[i].texts[id]);
        for (size_t k = 0; k < loader->streams[i].column_count; k++) {
            free(loader->streams[i].columns[k].name);
            free(loader->streams[i].columns[k].text);
        }
    }
}

struct config *config_load(const char *path, const char *const *overrides, size_t override_count,
                           size_t cpu_count, FILE *problems)
{
    struct config_loader *loader = calloc(1, sizeof(*loader));
    struct config *config = calloc(1, sizeof(*config));

    if (loader == NULL || config == NULL) {
        fprintf(problems, "%s: out of memory\n", path);
        goto free_both;
    }
    loader->config = config;
    loader->path = path;
    loader->overrides = overrides;
    loader->cpu_count = cpu_count;
    loader->problems = problems;
    config_load_all(loader, override_count);
    if (loader->problem_count > 0)
        goto free_both;
    free(loader);
    return config;

free_both:
    free(loader);
    config_destroy(config);
    return NULL;
}

void config_destroy(struct config *config)
{
    while (config != NULL) {
        struct config *replaced = config->replaced;

        for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
            const struct config_key *key = &config_keys[i];
            char **text = config_text_field(config, key);

            /* A pointer equal to the replaced configuration's is owned there. */
            if (key->kind == KIND_STR &&
                (replaced == NULL || *text != *config_text_field(replaced, key)))
                free(*text);
        }
        if (replaced == NULL)
            config_free_frozen(config);
        config_door_fini(config);
        free(config);
        config = replaced;
    }
}

static void config_dump_key(const struct config *config, const struct config_key *key, FILE *out)
{
    char value[CONFIG_VALUE_MAX];
    const char *text;
    struct slice password;

    if (key->kind != KIND_STR) {
        config_value_format(key, config_get_value(config, key), value);
        fprintf(out, "%s = %s\n", key->name, value);
        return;
    }
    text = *config_text_field(config, key);
    password = config_url_password(text);
    if (!key->secret || *text == '\0')
        fprintf(out, "%s =%s%s\n", key->name, *text == '\0' ? "" : " ", text);
    else if (key == &config_keys[KEY_clickhouse_password])
        fprintf(out, "; %s = (set, not shown)\n", key->name);
    else
        fprintf(out, "%s = %.*s%s%s\n", key->name, (int)(password.data - text), text,
                password.len > 0 ? CONFIG_MASK : "", password.data + password.len);
}

void config_dump(const struct config *config, FILE *out)
{
    fputs("; Effective configuration of alloyd " ALLOY_VERSION ".\n", out);
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        bool last = i + 1 == CONFIG_KEY_COUNT || strcmp(key->section, key[1].section) != 0;

        if (i == 0 || strcmp(key->section, key[-1].section) != 0)
            fprintf(out, "\n[%s]\n", key->section);
        config_dump_key(config, key, out);
        for (size_t k = 0;
             last && strcmp(key->section, "clickhouse") == 0 && k < config->setting_count; k++)
            fprintf(out, SETTING_PREFIX "%s = %s\n", config->settings[k].name,
                    config->settings[k].value);
    }
    for (size_t i = 0; i < config->stream_count; i++)
        config_stream_dump(&config->streams[i], out);
}

/* The callback for differences. */
struct listener {
    config_changed_fn changed;
    void *arg;
};

static PRINTF_LIKE(3, 4) void config_tell(const struct listener *listener, bool restart,
                                          const char *format, ...)
{
    char key[INI_LINE_MAX + 32];
    va_list args;

    va_start(args, format);
    vsnprintf(key, sizeof(key), format, args);
    va_end(args);
    listener->changed(listener->arg, key, restart);
}

/* Who is told of a difference in one stream. */
struct stream_listener {
    const struct listener *listener;
    const char *name;
};

static void config_tell_stream(void *arg, const char *key, bool restart)
{
    const struct stream_listener *to = arg;

    config_tell(to->listener, restart, "stream.%s.%s", to->name, key);
}

static void config_compare_streams(const struct config *before, const struct config *after,
                                   const struct listener *listener)
{
    for (size_t i = 0; i < before->stream_count; i++) {
        const struct config_stream *stream = &before->streams[i];
        int other = config_find_stream(after, stream->name);

        if (other < 0)
            config_tell(listener, true, "stream.%s", stream->name);
        else
            config_stream_compare(stream, &after->streams[other], config_tell_stream,
                                  &(struct stream_listener){listener, stream->name});
    }
    for (size_t i = 0; i < after->stream_count; i++)
        if (config_find_stream(before, after->streams[i].name) < 0)
            config_tell(listener, true, "stream.%s", after->streams[i].name);
}

static const char *config_find_setting(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->setting_count; i++)
        if (strcmp(config->settings[i].name, name) == 0)
            return config->settings[i].value;
    return NULL;
}

static void config_compare_settings(const struct config *before, const struct config *after,
                                    const struct listener *listener)
{
    for (size_t i = 0; i < before->setting_count; i++) {
        const struct config_setting *setting = &before->settings[i];
        const char *value = config_find_setting(after, setting->name);

        if (value == NULL || strcmp(value, setting->value) != 0)
            config_tell(listener, true, "clickhouse." SETTING_PREFIX "%s", setting->name);
    }
    for (size_t i = 0; i < after->setting_count; i++)
        if (config_find_setting(before, after->settings[i].name) == NULL)
            config_tell(listener, true, "clickhouse." SETTING_PREFIX "%s", after->settings[i].name);
}

static bool config_same_value(const struct config *a, const struct config *b,
                              const struct config_key *key)
{
    if (key->kind == KIND_STR)
        return strcmp(*config_text_field(a, key), *config_text_field(b, key)) == 0;
    return config_get_value(a, key) == config_get_value(b, key);
}

void config_compare(const struct config *before, const struct config *after,
                    config_changed_fn changed, void *arg)
{
    struct listener listener = {changed, arg};
    const struct config_key *file = &config_keys[KEY_clickhouse_password_file];

    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];

        if (!config_same_value(before, after, key))
            config_tell(&listener, !key->reload, "%s.%s", key->section, key->name);
        else if (key == file && *before->clickhouse_password_file != '\0' &&
                 strcmp(before->clickhouse_password_resolved,
                        after->clickhouse_password_resolved) != 0)
            config_tell(&listener, true, "%s.%s", key->section,
                        key->name); /* the contents of the password file differ */
        else if (config_door_file_differs(before, after, (enum config_key_id)i))
            config_tell(&listener, false, "%s.%s", key->section, key->name); /* the same */
    }
    config_compare_settings(before, after, &listener);
    config_compare_streams(before, after, &listener);
}

/* Sets everything in next that needs a restart back to what is in force, sharing the texts. */
static void config_freeze(struct config *next, const struct config *current)
{
    uint64_t ttl_ms[CONFIG_STREAMS_MAX];

    for (size_t i = 0; i < current->stream_count; i++) {
        int other = config_find_stream(next, current->streams[i].name);

        ttl_ms[i] = other >= 0 ? next->streams[other].ttl_ms : current->streams[i].ttl_ms;
    }
    config_free_frozen(next);
    memcpy(next->streams, current->streams, sizeof(next->streams));
    memcpy(next->settings, current->settings, sizeof(next->settings));
    memcpy(next->server_addresses, current->server_addresses, sizeof(next->server_addresses));
    memcpy(next->admin_addresses, current->admin_addresses, sizeof(next->admin_addresses));
    next->stream_count = current->stream_count;
    next->setting_count = current->setting_count;
    next->server_address_count = current->server_address_count;
    next->admin_address_count = current->admin_address_count;
    next->clickhouse_password_resolved = current->clickhouse_password_resolved;
    for (size_t i = 0; i < next->stream_count; i++)
        next->streams[i].ttl_ms = ttl_ms[i];
    config_door_freeze(next, current);

    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];

        if (key->reload)
            continue;
        if (key->kind == KIND_STR) {
            free(*config_text_field(next, key));
            *config_text_field(next, key) = *config_text_field(current, key);
        } else {
            config_set_value(next, key, config_get_value(current, key));
        }
    }
}

void config_publish(struct config_ref *ref, struct config *next)
{
    /* relaxed: only this thread stores */
    struct config *current = atomic_load_explicit(&ref->current, memory_order_relaxed);

    if (current != NULL)
        config_freeze(next, current);
    next->replaced = current;
    /* release: pairs with the acquire in config_current() */
    atomic_store_explicit(&ref->current, next, memory_order_release);
}
