/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_json_scan.c - any bytes: the scanner stays inside the body, and what it lends is valid.
 *
 * The first byte chooses the number of id fields; the rest is the body, in a block of its exact
 * size so that the address sanitizer sees a read beyond it.
 */
#include "alloy/json_scan.h"

#include <string.h>

static const struct json_scan_fields all_fields = {
    .names = {{"event_id", 8}, {"a", 1}, {"b", 1}},
    .count = 3,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_event(const struct json_scan *scan, const struct json_scan_event *event,
                        const char *previous_end)
{
    const char *end = scan->body + scan->len;
    const struct slice text = event->text;
    const struct slice id = event->id;

    ALLOY_ASSERT(text.data >= previous_end && text.len >= 2 && text.data + text.len <= end);
    ALLOY_ASSERT(text.data[0] == '{' && text.data[text.len - 1] == '}');
    ALLOY_ASSERT(id.len > 0 && id.len <= EVENT_ID_MAX);
    if (event->id_verbatim)
        ALLOY_ASSERT(id.data > text.data && id.data + id.len < text.data + text.len);
    else
        ALLOY_ASSERT(id.data == scan->id_buffer);
}

/* An event on its own is accepted again, with the same id. */
static void check_again(const struct json_scan_fields *fields, const struct json_scan_event *event)
{
    struct json_scan scan;
    struct json_scan_event again;

    json_scan_init(&scan, fields, event->text.data, event->text.len);
    ALLOY_ASSERT(json_scan_next(&scan, &again) == JSON_SCAN_EVENT);
    ALLOY_ASSERT(again.text.len == event->text.len && again.id.len == event->id.len);
    ALLOY_ASSERT(memcmp(again.id.data, event->id.data, again.id.len) == 0);
    ALLOY_ASSERT(json_scan_next(&scan, &again) == JSON_SCAN_END);
}

/* What is found is inside the body, and what a pointer leads to inside the member. */
static void check_found(struct slice body, struct slice events, size_t enough)
{
    const struct json_scan_search search = {
        .wanted = {{{"a", 1}, {"", 0}}, {{"a", 1}, {"/b", 2}}, {{"b", 1}, {"/0/a", 4}}},
        .count = 3,
        .events = events,
        .enough = enough};
    struct slice values[3];

    json_scan_find(&search, body, 0, values);
    for (int i = 0; i < 3; i++)
        ALLOY_ASSERT(values[i].len == 0 || (values[i].data > body.data &&
                                            values[i].data + values[i].len < body.data + body.len));
    ALLOY_ASSERT(values[1].len == 0 || values[1].len < values[0].len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;

    struct json_scan_fields fields = all_fields;
    struct json_scan scan;
    struct json_scan_event event;
    enum json_scan_result result;
    const size_t len = size - 1;
    char *body = malloc(len > 0 ? len : 1);

    ALLOY_ASSERT(body != NULL);
    memcpy(body, data + 1, len);
    fields.count = 1 + data[0] % 3;
    json_scan_init(&scan, &fields, body, len);
    const char *previous_end = body;
    while ((result = json_scan_next(&scan, &event)) == JSON_SCAN_EVENT) {
        check_event(&scan, &event, len > 0 ? previous_end : scan.body);
        check_again(&fields, &event);
        previous_end = event.text.data + event.text.len;
    }
    if (result == JSON_SCAN_END)
        ALLOY_ASSERT(scan.index > 0);
    else
        ALLOY_ASSERT(scan.problem != NULL && scan.error_offset <= len);
    check_found((struct slice){body, len}, (struct slice){"", 0}, 1);
    check_found((struct slice){body, len}, (struct slice){"event_id", 8}, 1 + data[0] / 3 % 2);
    free(body);
    return 0;
}
