/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_batch.c - tests batch.c.
 */
#include "alloy/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void new_batch_is_empty(void **state)
{
    struct batch *batch = batch_create(7, 3);

    (void)state;
    assert_non_null(batch);
    assert_null(batch->next);
    assert_int_equal(batch->stream, 7);
    assert_int_equal(batch->count, 0);
    assert_int_equal(batch->capacity, 3);
    assert_int_equal(batch->bytes, 0);
    assert_int_equal(batch->insert_id, 0);
    free(batch);
}

static void records_keep_their_order_and_their_bytes_add_up(void **state)
{
    struct record records[3] = {{.stream = 2, .body_length = 10},
                                {.stream = 2, .body_length = 1},
                                {.stream = 2, .body_length = UINT32_MAX}};
    struct batch *batch = batch_create(2, ARRAY_LEN(records));

    (void)state;
    assert_non_null(batch);
    for (size_t i = 0; i < ARRAY_LEN(records); i++)
        batch_add(batch, &records[i]);
    assert_int_equal(batch->count, 3);
    for (size_t i = 0; i < ARRAY_LEN(records); i++)
        assert_ptr_equal(batch->records[i], &records[i]);
    assert_int_equal(batch->bytes, 11 + (uint64_t)UINT32_MAX);
    free(batch);
}

/* Runs batch_add() in a child, since it ends in abort(); true when it did. */
static int add_aborts(struct batch *batch, struct record *record)
{
    const struct rlimit no_core = {0, 0};
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        signal(SIGABRT, SIG_DFL);
        batch_add(batch, record);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void adding_to_a_full_batch_or_another_stream_is_a_bug(void **state)
{
    struct record record = {.stream = 2, .body_length = 10};
    struct record stranger = {.stream = 3, .body_length = 10};
    struct batch *batch = batch_create(2, 1);

    (void)state;
    assert_non_null(batch);
    assert_true(add_aborts(batch, &stranger));
    assert_false(add_aborts(batch, &record));
    batch_add(batch, &record);
    assert_true(add_aborts(batch, &record));
    free(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_batch_is_empty),
        cmocka_unit_test(records_keep_their_order_and_their_bytes_add_up),
        cmocka_unit_test(adding_to_a_full_batch_or_another_stream_is_a_bug),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
