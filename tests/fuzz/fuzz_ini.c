/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ini.c - any bytes as a configuration file: no crash, lines in order, texts within bounds.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include <stdint.h>
#include <string.h>

#include "alloy/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(int *last, int line)
{
    ALLOY_ASSERT(line >= *last && line >= 1);
    *last = line;
}

static void on_section(void *arg, int line, const char *section)
{
    check_line(arg, line);
    ALLOY_ASSERT(*section != '\0' && strlen(section) <= INI_LINE_MAX);
}

static void on_entry(void *arg, int line, const char *section, const char *key, const char *value)
{
    check_line(arg, line);
    ALLOY_ASSERT(*key != '\0' && strlen(section) <= INI_LINE_MAX);
    ALLOY_ASSERT(strlen(key) + strlen(value) < INI_LINE_MAX);
}

static void on_error(void *arg, int line, const char *message)
{
    check_line(arg, line);
    ALLOY_ASSERT(*message != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int last = 0;
    struct ini_handler handler = {&last, on_section, on_entry, on_error};
    FILE *stream;

    if (size == 0)
        return 0;
    stream = fmemopen((void *)(uintptr_t)data, size, "r");
    ALLOY_ASSERT(stream != NULL);
    ALLOY_ASSERT(ini_read_stream(stream, &handler) == 0);
    fclose(stream);
    return 0;
}
