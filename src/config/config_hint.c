/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_hint.c - what somebody may have meant: environment variables, misspelt words, and quotes
 * and comments that are none.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "config_hint.h"

#include <ctype.h>
#include <string.h>

#include "config_stream.h"
#include "alloy/ini.h"
#include "alloy/nearest.h"

#define WORD_MAX 40 /* a longer one is not compared */

/* ---- environment variables ---- */

static size_t config_hint_name_len(const char *text)
{
    size_t len = 0;

    while (text[len] == '_' || isalpha((unsigned char)text[len]) ||
           (len > 0 && isdigit((unsigned char)text[len])))
        len++;
    return len;
}

/* Writes what stands behind the ${ at *at, and moves *at behind its }. False: a problem. */
static bool config_hint_variable(struct config_loader *loader, int place, const char **at,
                                 FILE *out)
{
    const char *name = *at + 2;
    const size_t len = config_hint_name_len(name);
    const char *rest = name + len;
    const char *end = strchr(rest, '}');
    const bool has_default = rest[0] == ':' && rest[1] == '-';
    char text[INI_LINE_MAX + 1];
    const char *value;

    if (len == 0 || end == NULL || (!has_default && rest != end)) {
        config_problem(loader, place,
                       "${ begins an environment variable, as in ${NAME} or ${NAME:-default}; "
                       "$${ stands for ${ itself");
        return false;
    }
    snprintf(text, sizeof(text), "%.*s", (int)len, name);
    value = getenv(text);
    if (value == NULL && !has_default) {
        config_problem(loader, place,
                       "the environment variable %s is not set; ${%s:-default} would give a "
                       "value without it",
                       text, text);
        return false;
    }
    if (has_default && (value == NULL || *value == '\0'))
        fprintf(out, "%.*s", (int)(end - rest - 2), rest + 2);
    else
        fputs(value, out);
    *at = end + 1;
    return true;
}

char *config_hint_expand(struct config_loader *loader, int place, const char *value)
{
    size_t size = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &size);
    bool right = out != NULL;

    while (right && *value != '\0') {
        if (value[0] == '$' && value[1] == '$' && value[2] == '{') {
            fputs("${", out);
            value += 3;
        } else if (value[0] == '$' && value[1] == '{') {
            right = config_hint_variable(loader, place, &value, out);
        } else {
            fputc(*value++, out);
        }
    }
    if (out == NULL || fclose(out) != 0) {
        config_problem(loader, place, "out of memory");
        right = false;
    }
    if (right && size > INI_LINE_MAX) {
        config_problem(loader, place,
                       "with its environment variables the value is longer than %d bytes",
                       INI_LINE_MAX);
        right = false;
    }
    if (right)
        return text;
    free(text);
    return NULL;
}

/* ---- quotes and comments ---- */

const char *config_hint_literal(const char *key, const char *value)
{
    const size_t len = strlen(value);
    const char *at = value;

    /* Any text may be a password, an answer or a setting of ClickHouse. */
    if (strncmp(key, "answer", strlen("answer")) == 0 || strcmp(key, "password") == 0 ||
        strncmp(key, CONFIG_SETTING_PREFIX, strlen(CONFIG_SETTING_PREFIX)) == 0)
        return NULL;
    /* Names of ClickHouse have quotes of their own, and may hold anything in them. */
    if ((strcmp(key, "table") == 0 || strcmp(key, "proof") == 0) && strpbrk(value, "`\"'") != NULL)
        return NULL;
    if (len >= 2 && (value[0] == '"' || value[0] == '\'') && value[len - 1] == value[0])
        return "the quotes would be part of the value: leave them out";
    while ((at = strchr(at, '#')) != NULL) {
        const bool alone = at[1] == '\0' || at[1] == ' ' || at[1] == '\t';

        if (at == value ? alone : at[-1] == ' ' || at[-1] == '\t')
            return "a # begins no comment behind a value: write ; in its place";
        at++;
    }
    return NULL;
}

/* ---- misspelt words ---- */

static const char *config_hint_say(const struct nearest *nearest, char out[CONFIG_HINT_MAX])
{
    out[0] = '\0';
    if (nearest->word != NULL)
        snprintf(out, CONFIG_HINT_MAX, "; did you mean %s?", nearest->word);
    return out;
}

const char *config_hint_key(const char *section, const char *key, char out[CONFIG_HINT_MAX])
{
    struct nearest nearest = {.to = key};

    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
        if (strcmp(config_keys[i].section, section) == 0)
            nearest_try(&nearest, config_keys[i].name);
    if (nearest.word == NULL && strcmp(section, "clickhouse") == 0)
        snprintf(out, CONFIG_HINT_MAX, "; a setting of ClickHouse is given as setting.%.*s",
                 WORD_MAX, key);
    else
        config_hint_say(&nearest, out);
    for (size_t i = 0; nearest.word == NULL && i < CONFIG_KEY_COUNT; i++)
        if (strcmp(config_keys[i].name, key) == 0) {
            snprintf(out, CONFIG_HINT_MAX, "; it is a key of [%s]", config_keys[i].section);
            return out;
        }
    return out;
}

const char *config_hint_stream_key(const char *key, char out[CONFIG_HINT_MAX])
{
    struct nearest nearest = {.to = key};
    const char *dot = strchr(key, '.');

    for (size_t i = 0; i < STREAM_KEY_COUNT; i++)
        nearest_try(&nearest, config_stream_keys[i]);
    config_hint_say(&nearest, out);
    if (dot != NULL)
        snprintf(out, CONFIG_HINT_MAX, "; did you mean " CONFIG_COLUMN_PREFIX "%.*s?", WORD_MAX,
                 dot + 1);
    return out;
}

const char *config_hint_section(const char *section, char out[CONFIG_HINT_MAX])
{
    struct nearest nearest = {.to = section};
    const char *dot = strchr(section, '.');

    if (dot != NULL || strcmp(section, "stream") == 0 || strcmp(section, "streams") == 0) {
        snprintf(out, CONFIG_HINT_MAX, "; did you mean [stream.%.*s]?", WORD_MAX,
                 dot != NULL ? dot + 1 : "NAME");
        return out;
    }
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
        nearest_try(&nearest, config_keys[i].section);
    return config_hint_say(&nearest, out);
}
