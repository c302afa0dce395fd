/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_schema.c - any type of a column, in the first line, and behind it the members of an event:
 * what is told of them stands in the event, and a second look, with the guess of the first, tells
 * the same.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include <stdint.h>
#include <string.h>

#include "alloy/schema.h"

#define MEMBERS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_findings(const struct schema_findings *findings, struct slice event)
{
    const char *const end = event.data + event.len;

    ALLOY_ASSERT(findings->count <= SCHEMA_FINDINGS_MAX);
    for (size_t i = 0; i < findings->count; i++) {
        const struct schema_finding *finding = &findings->list[i];

        ALLOY_ASSERT(finding->problem != SCHEMA_FITS);
        if (finding->problem == SCHEMA_MISSING)
            continue;
        ALLOY_ASSERT(finding->name.data > event.data &&
                     finding->name.data + finding->name.len < end);
        ALLOY_ASSERT(finding->value.len > 0 && finding->value.data > event.data &&
                     finding->value.data + finding->value.len < end);
    }
}

static void check_event(const struct schema *schema, struct slice body)
{
    static const struct json_scan_fields fields = {
        .names = {{"v", 1}}, .count = 1, .missing = JSON_SCAN_HASH};
    static struct schema_findings findings, again;
    struct schema_guess guess = {{0}};
    struct json_scan_member members[MEMBERS_MAX];
    struct json_scan_event event;
    struct json_scan scan;

    json_scan_init(&scan, &fields, body.data, body.len);
    scan.members = members;
    scan.member_max = MEMBERS_MAX;
    while (json_scan_next(&scan, &event) == JSON_SCAN_EVENT) {
        const bool cut = scan.member_count > MEMBERS_MAX;
        const struct schema_event seen = {members, cut ? MEMBERS_MAX : scan.member_count, cut,
                                          event.text.data + event.text.len};
        const bool found = schema_check(schema, &guess, &seen, &findings);

        ALLOY_ASSERT(found == (findings.count > 0));
        check_findings(&findings, event.text);
        ALLOY_ASSERT(schema_check(schema, &guess, &seen, &again) == found);
        ALLOY_ASSERT(again.count == findings.count);
        for (size_t i = 0; i < findings.count; i++)
            ALLOY_ASSERT(again.list[i].problem == findings.list[i].problem &&
                         again.list[i].value.data == findings.list[i].value.data);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size > 0 ? memchr(data, '\n', size) : NULL;
    const size_t type_len = line != NULL ? (size_t)(line - data) : size;
    struct slice body = {"", 0};
    char *type = malloc(type_len + 1), *text = malloc(size + 1);
    struct schema_source_column columns[] = {
        {{"v", 1}, {type, type_len}, {"", 0}},
        {{"a.b", 3}, {type, type_len}, {"DEFAULT", 7}},
        {{"A", 1}, {type, type_len}, {"MATERIALIZED", 12}},
    };
    struct schema *schema;

    ALLOY_ASSERT(type != NULL && text != NULL);
    memcpy(type, data, type_len);
    if (line != NULL) {
        body.len = size - type_len - 1;
        memcpy(text, line + 1, body.len);
        body.data = text;
    }
    schema = schema_create(&(struct schema_source){
        .columns = columns, .count = ARRAY_LEN(columns), .flags = size % 128});
    if (schema != NULL)
        check_event(schema, body);
    schema_put(schema);
    free(type);
    free(text);
    return 0;
}
