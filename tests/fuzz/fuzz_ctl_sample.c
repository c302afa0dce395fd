/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ctl_sample.c - any lines as sample events: each gets a table, within its bounds.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include <stdint.h>
#include <string.h>

#include "ctl_infer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ctl_sample sample = {.columns = NULL};
    struct ctl_table_plan plan;
    FILE *const own = stderr;
    static FILE *nowhere;

    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "we");
    ALLOY_ASSERT(nowhere != NULL);
    /* Each bad line is told, and libFuzzer writes there too. */
    stderr = nowhere;
    for (size_t at = 0, len; at < size; at += len + 1) {
        const char *line = (const char *)data + at;
        const char *end = memchr(line, '\n', size - at);

        len = end != NULL ? (size_t)(end - line) : size - at;
        ALLOY_ASSERT(ctl_sample_line(&sample, "f", (struct slice){line, len}));
    }
    stderr = own;
    for (int knows_json = 0; knows_json < 2; knows_json++) {
        ALLOY_ASSERT(ctl_infer(&sample, NULL, knows_json, &plan));
        ALLOY_ASSERT(plan.count == sample.count && plan.count <= CTL_SAMPLE_COLUMNS_MAX);
        for (size_t i = 0; i < plan.count; i++) {
            ALLOY_ASSERT(plan.columns[i].type[0] != '\0' && plan.columns[i].why[0] != '\0');
            ALLOY_ASSERT(plan.columns[i].column->events <= sample.events);
        }
        ctl_infer_fini(&plan);
    }
    ctl_sample_fini(&sample);
    return 0;
}
