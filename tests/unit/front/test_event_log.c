/* SPDX-License-Identifier: Apache-2.0 */
/* test_event_log.c - libevent's warnings become log lines, at a limited rate. */
#include "alloy/event_log.h"

#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define NO_DESCRIPTOR 999
#define TIMES 1000

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

/* Has libevent warn of a descriptor that is none. */
static void provoke(struct event_base *base)
{
    struct event *event = event_new(base, NO_DESCRIPTOR, EV_READ, on_event, NULL);

    (void)event_add(event, NULL);
    (void)event_base_loop(base, EVLOOP_NONBLOCK);
    event_free(event);
}

static void warnings_of_libevent_are_log_lines_and_limited(void **state)
{
    static char captured[1 << 16];
    struct event_base *base = event_base_new();
    FILE *sink = tmpfile();
    const int saved_stderr = dup(STDERR_FILENO);
    ssize_t len;

    (void)state;
    assert_non_null(sink);
    event_log_install();
    dup2(fileno(sink), STDERR_FILENO);
    for (int i = 0; i < TIMES; i++)
        provoke(base);
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    event_base_free(base);
    len = pread(fileno(sink), captured, sizeof(captured) - 1, 0);
    fclose(sink);
    assert_true(len > 0);
    assert_memory_equal(captured, "time=", 5);
    assert_non_null(strstr(captured, " level=warn module=libevent msg=\"libevent\" text=\""));
    assert_ptr_equal(strchr(captured, '\n'), captured + len - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warnings_of_libevent_are_log_lines_and_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
