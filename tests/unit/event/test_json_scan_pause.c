/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_json_scan_pause.c - a scan that pauses in the middle of events finds what one in a single
 * call finds.
 */
#include "alloy/json_scan.h"

#include "json_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define RANDOM_INPUTS 2000
#define EVENTS_MAX 64

static const struct json_scan_fields fields = {
    .names = {{"event_id", 8}}, .count = 1, .events = {"batch", 5}};

struct outcome {
    enum json_scan_result result;
    size_t offset;
    uint32_t count;
    struct {
        size_t begin, len, id_len;
        char id[EVENT_ID_MAX];
    } events[EVENTS_MAX];
};

/* Scans text; with step > 0 it pauses about every step bytes. Returns the pauses. */
static size_t scan(const char *text, size_t len, size_t step, struct outcome *outcome)
{
    struct json_scan scan;
    struct json_scan_event event;
    size_t pauses = 0;

    memset(outcome, 0, sizeof(*outcome));
    json_scan_init(&scan, &fields, text, len);
    for (;;) {
        if (step > 0)
            scan.pause_at = json_scan_reached(&scan) + step;
        outcome->result = json_scan_next(&scan, &event);
        if (outcome->result == JSON_SCAN_PAUSED) {
            assert_true(step > 0 && json_scan_reached(&scan) >= scan.pause_at);
            pauses++;
            continue;
        }
        if (outcome->result != JSON_SCAN_EVENT)
            break;
        assert_true(outcome->count < EVENTS_MAX);
        outcome->events[outcome->count].begin = (size_t)(event.text.data - text);
        outcome->events[outcome->count].len = event.text.len;
        outcome->events[outcome->count].id_len = event.id.len;
        memcpy(outcome->events[outcome->count].id, event.id.data, event.id.len);
        outcome->count++;
    }
    outcome->offset = outcome->result == JSON_SCAN_END ? 0 : scan.error_offset;
    return pauses;
}

static size_t compare(const char *text, size_t len, size_t step)
{
    static struct outcome whole, paused;
    const size_t none = scan(text, len, 0, &whole);
    const size_t pauses = scan(text, len, step, &paused);

    assert_int_equal(none, 0);
    if (memcmp(&whole, &paused, sizeof(whole)) != 0)
        fail_msg("differs with pauses every %zu bytes: [%.*s]", step, (int)len, text);
    return pauses;
}

static void random_bodies_are_judged_alike_with_pauses(void **state)
{
    size_t pauses = 0;

    (void)state;
    for (uint64_t seed = 1; seed < RANDOM_INPUTS; seed++) {
        made.state = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
        put_body();
        if (seed % 2 != 0)
            mutate_body();
        for (size_t step = 1; step < 200; step = step * 3 + 1)
            pauses += compare(made.text, made.len, step);
    }
    assert_true(pauses > RANDOM_INPUTS);
}

static void envelopes_are_judged_alike_with_pauses(void **state)
{
    static const char text[] =
        "{\"a\":[1,2,{\"b\":[]},3],\"batch\":[{\"event_id\":1,\"x\":[1,2,3]},{\"event_id\":"
        "\"\\u0061\","
        "\"y\":{\"z\":1,\"batch\":[1]}}],\"c\":[1,2,3,4,5]}{\"event_id\":3,\"batch\":7}";

    (void)state;
    for (size_t step = 1; step < sizeof(text); step++)
        for (size_t len = 0; len < sizeof(text); len++)
            (void)compare(text, len, step);
    assert_true(compare(text, sizeof(text) - 1, 1) > 5);
}

static void one_large_event_is_scanned_in_slices(void **state)
{
    static char text[1 << 16];
    size_t len = (size_t)sprintf(text, "{\"event_id\":1");

    (void)state;
    while (len < sizeof(text) - 32)
        len += (size_t)sprintf(text + len, ",\"m%zu\":%zu", len, len);
    text[len++] = '}';
    assert_true(compare(text, len, 1000) > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_bodies_are_judged_alike_with_pauses),
        cmocka_unit_test(envelopes_are_judged_alike_with_pauses),
        cmocka_unit_test(one_large_event_is_scanned_in_slices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
