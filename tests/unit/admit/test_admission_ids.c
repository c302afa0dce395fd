/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_admission_ids.c - ids that count as unknown although L1 has them, and requests that are
 * dropped.
 */
#include "admission_fixture.h"

/* What bodies that turn out bad at their ends have brought must not gather in a turn. */
static void dropped_requests_take_no_room_in_their_turn(void **state)
{
    char *text = many("x", 900, 0);
    size_t before = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        body(0, text);
        admission_drop(admission);
        if (i == 0)
            before = mallinfo2().uordblks + mallinfo2().hblkhd;
    }
    assert_in_range(mallinfo2().uordblks + mallinfo2().hblkhd, 0, before + 65536);
    body(0, "{\"event_id\":\"a\"}");
    admission_commit(admission, 1000, REAL_MS);
    assert_result(admission_result(admission, 0), ADMISSION_ACCEPTED, 1, 0);
    admission_reset(admission);
    free(text);
}

/* Another alloyd owned the id when it was asked; whether it still does only its claim can tell. */
static void an_id_that_is_owned_elsewhere_goes_to_be_asked_for(void **state)
{
    static const char text[] = "{\"event_id\":\"a\"}",
                      twice[] = "[{\"event_id\":\"a\"},{\"event_id\":\"a\"}]";
    struct record *record;

    (void)state;
    l1_share(l1);
    assert_result(post(0, text), ADMISSION_ACCEPTED, 1, 0);
    assert_result(post(0, text), ADMISSION_ACCEPTED, 0, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ring_take(ring, &record, 1), 1);
        l1_disown(l1_thread, &record->hash, record->lsn);
        journal_finish(journal, &record, 1, RECORD_DUPLICATE);
        assert_result(post(0, twice), ADMISSION_ACCEPTED, 1, 1);
        assert_result(post(0, text), ADMISSION_ACCEPTED, 0, 1);
    }
    assert_int_equal(ring_depth(ring), 1);
    assert_int_equal(journal_live(journal, 0), 1);
    assert_int_equal(l1_entries(l1), 1);
    assert_books_balance();
}

static void an_id_is_new_after_its_streams_ttl(void **state)
{
    const uint64_t times[] = {1000, 1000 + 1999, 1000 + 2000, 1000 + 3999, 1000 + 4000};
    const uint32_t accepted[] = {1, 0, 1, 0, 1};

    (void)state;
    l1_set_stream_ttl(l1, 1, 2000);
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        const size_t request = body(1, "{\"event_id\":\"a\"}");

        admission_commit(admission, times[i], REAL_MS);
        assert_result(admission_result(admission, request), ADMISSION_ACCEPTED, accepted[i],
                      1 - accepted[i]);
        admission_reset(admission);
    }
    assert_string_equal(ring_ids(), "a a a ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(dropped_requests_take_no_room_in_their_turn),
        TEST_BOTH(an_id_that_is_owned_elsewhere_goes_to_be_asked_for),
        TEST_BOTH(an_id_is_new_after_its_streams_ttl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
