/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ack.c - what a query and a Prefer header ask for.
 */
#include "alloy/ack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

/* The text stands at the end of a piece of its own, so that a read beyond it shows. */
static struct slice piece(const char *text, char **owned)
{
    size_t len = strlen(text);

    *owned = malloc(len > 0 ? len : 1);
    assert_non_null(*owned);
    memcpy(*owned, text, len);
    return (struct slice){*owned, len};
}

static const char *read_ack(const char *query, const char *prefer, struct ack *ack)
{
    char *a, *b;
    const char *problem = ack_read(piece(query, &a), piece(prefer, &b), ack);

    free(a);
    free(b);
    return problem;
}

static void a_query_names_one_of_three(void **state)
{
    static const struct {
        const char *query;
        enum admission_ack kind;
    } cases[] = {
        {"", ADMISSION_ACK_NONE},
        {"ack=none", ADMISSION_ACK_NONE},
        {"ack=disk", ADMISSION_ACK_DISK},
        {"ack=clickhouse", ADMISSION_ACK_CLICKHOUSE},
        {"a&b=c&ack=disk&", ADMISSION_ACK_DISK},
        {"&&ack=clickhouse&back=disk&ackn=1&xack=none", ADMISSION_ACK_CLICKHOUSE},
        {"back=disk", ADMISSION_ACK_NONE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ack ack;

        assert_null(read_ack(cases[i].query, "", &ack));
        assert_int_equal(ack.kind, cases[i].kind);
        assert_int_equal(ack.wait_s, ACK_WAIT_DEFAULT_S);
    }
}

static void anything_else_is_told(void **state)
{
    static const char *const queries[] = {"ack",          "ack=",
                                          "ack=Disk",     "ack=disk ",
                                          "ack=diskdisk", "ack=none&ack=none",
                                          "ack&a=b",      "ack=click%68ouse",
                                          "a=b&ack=dis",  "ack=clickhouse&ack"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        struct ack ack;

        assert_non_null(read_ack(queries[i], "", &ack));
    }
}

static void prefer_says_how_long_and_by_itself_what_for(void **state)
{
    static const struct {
        const char *prefer;
        uint32_t wait_s; /* 0: it says nothing */
    } cases[] = {
        {"wait=7", 7},
        {"wait=0", 1},
        {"wait=60", 60},
        {"wait=61", 60},
        {"wait=99999999999999999999999999", 60},
        {"WAIT = \"20\" ;x=y", 20},
        {"respond-async, wait=10", 10},
        {"\t,, handling=lenient;a=\"b\",wait=3 ", 3},
        {"wait=3, wait=4", 3},
        {"wait=x, wait=4", 4},
        {"wait", 0},
        {"wait=", 0},
        {"wait=\"", 0},
        {"wait=\"\"", 0},
        {"wait=-1", 0},
        {"wait=1.5", 0},
        {"await=5", 0},
        {"waiting=5", 0},
        {",", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const uint32_t want = cases[i].wait_s > 0 ? cases[i].wait_s : ACK_WAIT_DEFAULT_S;
        struct ack ack;

        assert_null(read_ack("", cases[i].prefer, &ack));
        assert_int_equal(ack.kind,
                         cases[i].wait_s > 0 ? ADMISSION_ACK_CLICKHOUSE : ADMISSION_ACK_NONE);
        assert_int_equal(ack.wait_s, want);
        assert_null(read_ack("ack=clickhouse", cases[i].prefer, &ack));
        assert_int_equal(ack.kind, ADMISSION_ACK_CLICKHOUSE);
        assert_int_equal(ack.wait_s, want);
        /* What the query names counts more. */
        assert_null(read_ack("ack=disk", cases[i].prefer, &ack));
        assert_int_equal(ack.kind, ADMISSION_ACK_DISK);
        assert_null(read_ack("ack=none", cases[i].prefer, &ack));
        assert_int_equal(ack.kind, ADMISSION_ACK_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_names_one_of_three),
        cmocka_unit_test(anything_else_is_told),
        cmocka_unit_test(prefer_says_how_long_and_by_itself_what_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
