/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_config_name.c - any text as a name: what is read is written as it reads back.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include <stdint.h>
#include <string.h>

#include "alloy/config_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    char name[CONFIG_NAME_MAX + 1], again[CONFIG_NAME_MAX + 1];
    char written[CONFIG_NAME_TEXT_MAX + 1] = "";
    const char *why = NULL, *end;

    ALLOY_ASSERT(text != NULL);
    end = config_name_read(text, ".", name, &why);
    ALLOY_ASSERT((end == NULL) == (why != NULL));
    if (end != NULL) {
        ALLOY_ASSERT(end > text && end <= text + strlen(text));
        config_name_append(written, name);
        ALLOY_ASSERT(strpbrk(written, "=;\n\r\t") == NULL);
        end = config_name_read(written, ".", again, &why);
        ALLOY_ASSERT(end != NULL && *end == '\0' && strcmp(name, again) == 0);
    }
    free(text);
    return 0;
}
