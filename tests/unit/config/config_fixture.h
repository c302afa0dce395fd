/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_fixture.h - a configuration file of a test, and what is said about it.
 */
#ifndef CONFIG_FIXTURE_H
#define CONFIG_FIXTURE_H

#include "alloy/config.h"

#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define STREAM \
    "[stream.a]\ntable=d.t\n" /* two lines: a mistake that follows is on line 3 or later */
#define CPUS 6

static char problems[1 << 16];
static char path[64];

static inline void write_file(const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static inline struct config *load_with(const char *text, const char *const *overrides, size_t count,
                                       size_t cpus)
{
    FILE *out = fmemopen(problems, sizeof(problems), "w");
    struct config *config;

    memset(problems, 0, sizeof(problems));
    write_file(text);
    config = config_load(path, overrides, count, cpus, out);
    fclose(out);
    assert_true((config == NULL) == (problems[0] != '\0'));
    return config;
}

static inline struct config *load(const char *text)
{
    return load_with(text, NULL, 0, CPUS);
}

static inline struct config *must_load(const char *text)
{
    struct config *config = load(text);

    assert_string_equal(problems, "");
    return config;
}

static inline int make_path(void **state)
{
    int fd;

    (void)state;
    strcpy(path, "/tmp/alloy-test-config-XXXXXX");
    fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static inline int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static inline char *dump(const struct config *config)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    config_dump(config, out);
    fclose(out);
    return text;
}

#endif
