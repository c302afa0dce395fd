/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_claims_wait.c - WAIT after a batch's SETs: enough replicas, too few, no answer.
 */
#include "claims_fixture.h"

#define MISS "*1\r\n$-1\r\n"
#define WAIT_MS 40

static void wait_for_replicas(uint64_t n)
{
    METRIC_GAUGE_SET(metrics, redis_up, 1); /* or claims would prove it first */
    config.redis_timeout_ms = 5000;
    config.redis_wait_replicas = n;
    config.redis_wait_timeout_ms = WAIT_MS;
}

/* Another id, after the last batch is done. */
static int take_another(const char *id, uint64_t now_ms)
{
    empty_batch();
    add_record(id);
    return claims_take(claims, batch, verdicts, now_ms);
}

static bool heard(const struct fake *fake, size_t i, const char *words)
{
    return memmem(fake->heard[i], sizeof(fake->heard[i]), words, strlen(words)) != NULL;
}

static void enough_replicas_are_no_matter_for_anybody(void **state)
{
    static const struct slice script[] = {{LITERAL(MISS)}, {LITERAL("+OK\r\n:2\r\n")}};
    struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 2};

    (void)state;
    wait_for_replicas(2);
    add_record("a");
    fake_start(&fake);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    /* With the SET, at once: no round trip of its own. */
    assert_true(heard(&fake, 1, "SET\r\n"));
    assert_true(heard(&fake, 1, "*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$2\r\n40\r\n"));
    assert_int_equal(short_waits(), 0);
    assert_false(replicas_condition().up);
    assert_int_equal(claims_replicas_due_in_ms(claims, clock_mono_ms()), UINT64_MAX);
    fake_end(&fake);
}

static void too_few_are_counted_and_told_and_the_claims_stand(void **state)
{
    static const struct slice script[] = {{LITERAL(MISS)}, {LITERAL("+OK\r\n:1\r\n")},
                                          {LITERAL(MISS)}, {LITERAL("+OK\r\n:0\r\n")},
                                          {LITERAL(MISS)}, {LITERAL("+OK\r\n:2\r\n")}};
    struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 6};
    const uint64_t now_ms = clock_mono_ms();

    (void)state;
    wait_for_replicas(2);
    add_record("a");
    fake_start(&fake);
    assert_int_equal(claims_take(claims, batch, verdicts, now_ms), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(short_waits(), 1);
    assert_true(replicas_condition().up);
    assert_false(replicas_condition().blocking);
    assert_non_null(strstr(replicas_condition().text, ": 1 of redis.wait_replicas = 2 replicas"));
    assert_int_equal(errors(), 0);
    assert_int_equal(gauge_up(), 1);
    /* The next one within a second only looks. */
    assert_int_equal(take_another("b", now_ms + 999), 0);
    assert_true(heard(&fake, 3, "WAIT\r\n$1\r\n2\r\n$1\r\n1\r\n"));
    assert_int_equal(short_waits(), 2);
    assert_non_null(strstr(replicas_condition().text, ": 0 of "));
    assert_int_equal(take_another("c", now_ms + 999), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(short_waits(), 2);
    assert_false(replicas_condition().up);
    fake_end(&fake);
}

static void a_refused_wait_is_no_refused_claim(void **state)
{
    static const char *const codes[] = {"NOPERM", "ERR", "BUSY", "MOVED", "LOADING"};

    (void)state;
    wait_for_replicas(1);
    add_record("a");
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        char line[64];
        const struct slice script[] = {
            {LITERAL(MISS)}, {line, (size_t)sprintf(line, "+OK\r\n-%s \"no\"\r\n", codes[i])}};
        struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 2};
        char told[64];

        snprintf(told, sizeof(told), " refuses WAIT (%s)", codes[i]);
        fake_start(&fake);
        assert_int_equal(take(), 0);
        assert_all(CLAIM_OWNED);
        assert_int_equal(short_waits(), i + 1);
        assert_non_null(strstr(replicas_condition().text, told));
        assert_false(redis_condition().up);
        fake_end(&fake);
        assert_false(replicas_condition().up); /* nobody is left who would clear it */
    }
    assert_int_equal(errors(), 0);
}

static void a_refused_set_is_told_in_its_own_words_whatever_wait_says(void **state)
{
    static const struct slice script[] = {{LITERAL(MISS)},
                                          {LITERAL("-READONLY no\r\n-ERR not with a replica\r\n")}};

    (void)state;
    wait_for_replicas(1);
    add_record("a");
    assert_int_equal(take_scripted(script, 2), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    assert_non_null(strstr(redis_condition().text, "READONLY"));
}

static void no_answer_or_a_strange_one_is_a_redis_that_is_away(void **state)
{
    static const char *const answers[] = {"", ":-1\r\n", "$-1\r\n", "+OK\r\n", "*1\r\n:1\r\n"};

    (void)state;
    wait_for_replicas(1);
    add_record("a");
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        char line[64];
        /* The third keeps the connection open. */
        const struct slice script[] = {
            {LITERAL(MISS)}, {line, (size_t)sprintf(line, "+OK\r\n%s", answers[i])}, {LITERAL("")}};

        config.redis_timeout_ms = i == 0 ? TIMEOUT_MS : 5000;
        assert_int_equal(take_scripted(script, 3), -EAGAIN);
        assert_all(CLAIM_OWNED); /* so said its SET */
        assert_int_equal(errors(), i + 1);
        assert_non_null(strstr(redis_condition().text, i == 0 ? "timed out" : "unexpected reply"));
    }
    assert_int_equal(short_waits(), 0);
}

static void waiting_for_replicas_does_not_count_against_the_time_out(void **state)
{
    const uint64_t began_ms = clock_mono_ms();

    (void)state;
    config.redis_wait_replicas = 1;
    config.redis_wait_timeout_ms = 2 * TIMEOUT_MS;
    add_record("a");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_true(clock_mono_ms() - began_ms >= 2 * TIMEOUT_MS);
    assert_int_equal(short_waits(), 1);
    assert_int_equal(errors(), 0);
}

static void claims_that_were_found_are_waited_for_too(void **state)
{
    (void)state;
    add_record("a");
    assert_int_equal(take(), 0);
    wait_for_replicas(1);
    assert_int_equal(take(), 0); /* as after a time-out, or a restart */
    assert_all(CLAIM_OWNED);
    assert_int_equal(short_waits(), 1);
    assert_true(replicas_condition().up);
    /* Duplicates are another's. */
    batch->records[0]->lsn = next_lsn++;
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
    assert_int_equal(short_waits(), 1);
}

static void without_traffic_the_question_is_asked_again(void **state)
{
    static const struct slice script[] = {{LITERAL(MISS)},
                                          {LITERAL("+OK\r\n:0\r\n")},
                                          {LITERAL("+OK\r\n:0\r\n")},
                                          {LITERAL("+OK\r\n:1\r\n")}};
    struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 4};
    const uint64_t now_ms = clock_mono_ms();

    (void)state;
    wait_for_replicas(1);
    add_record("a");
    fake_start(&fake);
    assert_int_equal(claims_take(claims, batch, verdicts, now_ms), 0);
    assert_int_equal(claims_replicas_due_in_ms(claims, now_ms), 1000);
    assert_int_equal(claims_replicas_due_in_ms(claims, now_ms + 1000), 0);
    claims_ask_replicas(claims, now_ms + 1000);
    assert_true(heard(&fake, 2, "alloy:events:\r\n$4\r\nwait\r\n"));
    assert_true(heard(&fake, 2, "WAIT\r\n$1\r\n1\r\n$2\r\n40\r\n"));
    assert_true(replicas_condition().up);
    assert_int_equal(claims_replicas_due_in_ms(claims, now_ms + 1000), 1000);
    claims_ask_replicas(claims, now_ms + 2000);
    assert_false(replicas_condition().up);
    assert_int_equal(claims_replicas_due_in_ms(claims, now_ms + 9000), UINT64_MAX);
    assert_int_equal(short_waits(), 1);
    fake_end(&fake);
}

static void the_condition_ends_with_the_last_thread_that_knows_of_it(void **state)
{
    struct claims *first = claims, *second;

    (void)state;
    wait_for_replicas(1);
    add_record("a");
    assert_int_equal(take(), 0);
    claims = second = create_claims();
    assert_int_equal(take_another("b", clock_mono_ms()), 0);
    assert_int_equal(short_waits(), 2);
    config.redis_wait_replicas = 0; /* a reload */
    claims_ask_replicas(second, clock_mono_ms());
    assert_true(replicas_condition().up);
    claims_ask_replicas(first, clock_mono_ms());
    assert_false(replicas_condition().up);
    claims_destroy(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(enough_replicas_are_no_matter_for_anybody),
        TEST(too_few_are_counted_and_told_and_the_claims_stand),
        TEST(a_refused_wait_is_no_refused_claim),
        TEST(a_refused_set_is_told_in_its_own_words_whatever_wait_says),
        TEST(no_answer_or_a_strange_one_is_a_redis_that_is_away),
        TEST(waiting_for_replicas_does_not_count_against_the_time_out),
        TEST(claims_that_were_found_are_waited_for_too),
        TEST(without_traffic_the_question_is_asked_again),
        TEST(the_condition_ends_with_the_last_thread_that_knows_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
