/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_verdict.c - reads lines "TYPE\tVALUE" and prints for each what the check of a column of
 * that type has against that JSON value: a problem's name, or "none".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/schema.h"

static struct schema *verdict_schema(const char *type, struct schema *last)
{
    const struct schema_source_column column = {{"v", 1}, {type, strlen(type)}, {"", 0}};

    if (last != NULL && strcmp(schema_column_type(last, 0), type) == 0)
        return last;
    schema_put(last);
    return schema_create(&(struct schema_source){.columns = &column, .count = 1});
}

int main(void)
{
    static struct schema_findings findings;
    struct schema_guess guess = {{0}};
    struct schema *schema = NULL;
    char *line = NULL;
    size_t room = 0;

    while (getline(&line, &room, stdin) > 0) {
        char *value = strchr(line, '\t');
        char *event;
        struct json_scan_member member;

        if (value == NULL)
            return 2;
        *value++ = '\0';
        value[strcspn(value, "\n")] = '\0';
        schema = verdict_schema(line, schema);
        if (schema == NULL || asprintf(&event, "{\"v\":%s}", value) < 0)
            return 1;
        member = (struct json_scan_member){event + 2, event + 5, 1, false};
        (void)schema_check(schema, &guess,
                           &(struct schema_event){&member, 1, false, event + strlen(event)},
                           &findings);
        puts(schema_problem_name(findings.count > 0 ? findings.list[0].problem : SCHEMA_FITS));
        free(event);
    }
    free(line);
    schema_put(schema);
    return 0;
}
