/* SPDX-License-Identifier: Apache-2.0 */
/* test_log.c - lines keep their form whatever is in their values. */
#define LOG_MODULE "test"
#include "alloy/log.h"

#include <errno.h>
#include <inttypes.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alloy/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define THREADS 4
#define TIME_LEN 24 /* "2026-01-31T12:00:00.123Z" */

static char captured[1 << 20];
static int saved_stderr;
static FILE *sink;

/* Standard error goes to a file from here on. */
static void capture(enum log_level level, enum log_format format)
{
    log_configure(level, format);
    sink = tmpfile();
    assert_non_null(sink);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(sink), STDERR_FILENO);
}

/* Gives standard error back and returns what was written. */
static const char *release(void)
{
    ssize_t len;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    len = pread(fileno(sink), captured, sizeof(captured) - 1, 0);
    fclose(sink);
    assert_true(len >= 0);
    captured[len] = '\0';
    return captured;
}

/* Checks one line but for its time. */
static void assert_line(const char *line, const char *before, const char *after)
{
    assert_memory_equal(line, before, strlen(before));
    assert_int_equal(line[strlen(before) + 10], 'T');
    assert_int_equal(line[strlen(before) + TIME_LEN - 1], 'Z');
    assert_string_equal(line + strlen(before) + TIME_LEN, after);
}

static void logfmt_splits_text_and_pairs(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    log_warn("insert rejected code=%d table=%s", 27, "default.events");
    assert_line(release(), "time=",
                " level=warn module=test msg=\"insert rejected\" code=27 table=default.events\n");
}

static void json_splits_text_and_pairs(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_error("insert rejected code=%d action=dead_letter", 27);
    assert_line(release(), "{\"time\":\"",
                "\",\"level\":\"error\",\"module\":\"test\",\"msg\":\"insert rejected\","
                "\"code\":27,\"action\":\"dead_letter\"}\n");
}

static void a_line_may_have_no_pairs_or_nothing_else(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    log_info("draining");
    assert_line(release(), "time=", " level=info module=test msg=\"draining\"\n");
    capture(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info("a=1 b=");
    assert_line(release(), "{\"time\":\"",
                "\",\"level\":\"info\",\"module\":\"test\",\"msg\":\"\",\"a\":1,\"b\":\"\"}\n");
}

static void quoted_values_keep_spaces_quotes_and_equal_signs(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info("x reason=\"%s\" n=%d", "say \"a=b\" \\ twice", 5);
    assert_line(release(), "{\"time\":\"",
                "\",\"level\":\"info\",\"module\":\"test\",\"msg\":\"x\","
                "\"reason\":\"say \\\"a=b\\\" \\\\ twice\",\"n\":5}\n");
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    log_info("x reason=%s n=%d", "No such file or directory", 5);
    assert_line(release(), "time=",
                " level=info module=test msg=\"x\" reason=\"No such file or directory\" n=5\n");
}

static void json_has_numbers_and_booleans_and_names_are_strings(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info("x i=%d u=%zu p=%" PRIu64 " f=%.3f cold=%s clean=%s quoted=\"%s\" flags=%#x stream=%s "
             "key=%s code=%s%s",
             -3, (size_t)0, UINT64_MAX, 1.25, "yes", "no", "12", 17u, "12", "yes", "7",
             " offset=12 tls=no zip=02134 size=5KiB version=26.7 partitioned=true");
    assert_line(release(), "{\"time\":\"",
                "\",\"level\":\"info\",\"module\":\"test\",\"msg\":\"x\","
                "\"i\":-3,\"u\":0,\"p\":18446744073709551615,\"f\":1.250,\"cold\":true,"
                "\"clean\":false,\"quoted\":\"12\",\"flags\":\"0x11\",\"stream\":\"12\","
                "\"key\":\"yes\",\"code\":\"7\",\"offset\":12,\"tls\":false,"
                "\"zip\":\"02134\",\"size\":\"5KiB\",\"version\":\"26.7\","
                "\"partitioned\":true}\n");
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    log_info("x i=%d clean=%s", 3, "no");
    assert_line(release(), "time=", " level=info module=test msg=\"x\" i=3 clean=no\n");
}

static void a_burst_passes_so_many_lines_a_second(void **state)
{
    struct log_burst burst = {0};
    uint64_t suppressed = 99;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_true(log_burst_pass(&burst, 5000 + (uint64_t)i, 3, &suppressed));
        assert_int_equal(suppressed, 0);
    }
    assert_false(log_burst_pass(&burst, 5100, 3, &suppressed));
    assert_false(log_burst_pass(&burst, 5999, 3, &suppressed));
    assert_true(log_burst_pass(&burst, 6000, 3, &suppressed));
    assert_int_equal(suppressed, 2);
    assert_true(log_burst_pass(&burst, 6000, 3, &suppressed));
    assert_int_equal(suppressed, 0);
}

static void control_bytes_and_bad_utf8_never_break_a_line(void **state)
{
    (void)state;
    for (int format = LOG_FORMAT_LOGFMT; format <= LOG_FORMAT_JSON; format++) {
        const char *line;

        capture(LOG_LEVEL_INFO, (enum log_format)format);
        log_info("x v=\"%s\"", "a\nb\r\x1b\x7f \xc3\xa9 \xff\xc0\x80\xed\xa0\x80 \xf0\x9f\x98\x80");
        line = release();
        assert_non_null(strstr(line, "a\\nb\\u000d\\u001b\\u007f \xc3\xa9 \\ufffd\\ufffd\\ufffd"
                                     "\\ufffd\\ufffd\\ufffd \xf0\x9f\x98\x80\""));
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    }
}

static void what_a_terminal_would_act_on_is_escaped(void **state)
{
    (void)state;
    for (int format = LOG_FORMAT_LOGFMT; format <= LOG_FORMAT_JSON; format++) {
        capture(LOG_LEVEL_INFO, (enum log_format)format);
        log_info("x v=\"%s\"", "\xc2\x9b"
                               "31m \xe2\x80\xae \xc2\xa0");
        assert_non_null(strstr(release(), "\"\\u009b31m \\u202e \xc2\xa0\""));
    }
}

static void every_byte_value_leaves_one_printable_line(void **state)
{
    char value[256];

    (void)state;
    for (int i = 0; i < 255; i++)
        value[i] = (char)(i + 1);
    value[255] = '\0';
    capture(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info("%s k=%s", value, value);
    release();
    for (const char *at = captured; at[1] != '\0'; at++)
        assert_in_range((unsigned char)*at, 0x20, 0x7e);
}

static void long_lines_are_cut_marked_and_closed(void **state)
{
    static char value[8192];

    (void)state;
    /* A quote becomes two bytes, so every length near the limit meets both parities. */
    for (size_t len = 3900; len < 4200; len++) {
        for (int format = LOG_FORMAT_LOGFMT; format <= LOG_FORMAT_JSON; format++) {
            const char *line;

            memset(value, len % 2 ? '"' : 'x', len);
            value[len] = '\0';
            capture(LOG_LEVEL_INFO, (enum log_format)format);
            log_info("m v=\"%s\" tail=1", value);
            line = release();
            assert_true(strlen(line) <= 4096);
            assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
            if (strlen(line) >= 4000 && strstr(line, "tail") == NULL)
                assert_non_null(
                    strstr(line, format == LOG_FORMAT_JSON ? "\",\"cut\":true}\n" : " cut=true\n"));
            else
                assert_non_null(strstr(line, "tail"));
        }
    }
}

static void levels_below_the_configured_one_are_silent(void **state)
{
    (void)state;
    capture(LOG_LEVEL_WARN, LOG_FORMAT_LOGFMT);
    log_info("no");
    log_debug("no");
    log_warn("yes");
    log_error("yes");
    assert_null(strstr(release(), "no"));
    assert_non_null(strstr(captured, "level=warn"));
    assert_non_null(strstr(captured, "level=error"));
    assert_true(log_enabled(LOG_LEVEL_WARN));
    assert_false(log_enabled(LOG_LEVEL_INFO));
}

static void errno_survives_a_log_line(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    close(STDERR_FILENO);
    errno = ENOSPC;
    log_info("lost");
    assert_int_equal(errno, ENOSPC);
    assert_string_equal(release(), "");
}

static void limit_passes_once_an_interval_and_counts_the_rest(void **state)
{
    struct log_limit limit = {0};
    uint64_t suppressed = 99;

    (void)state;
    assert_true(log_limit_pass(&limit, 1000, 100, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_false(log_limit_pass(&limit, 1000, 100, &suppressed));
    assert_false(log_limit_pass(&limit, 1099, 100, &suppressed));
    assert_true(log_limit_pass(&limit, 1100, 100, &suppressed));
    assert_int_equal(suppressed, 2);
    assert_true(log_limit_pass(&limit, 5000, 100, &suppressed));
    assert_int_equal(suppressed, 0);
}

static void *write_lines(void *arg)
{
    for (int i = 0; i < 200; i++)
        log_info("line from=\"%s\"", (const char *)arg);
    return NULL;
}

static void lines_of_threads_never_mix(void **state)
{
    static char words[THREADS][512];
    pthread_t threads[THREADS];
    size_t lines = 0;

    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    for (size_t i = 0; i < THREADS; i++) {
        memset(words[i], (int)('A' + i), sizeof(words[i]) - 1);
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, words[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    release();
    for (char *line = strtok(captured, "\n"); line != NULL; line = strtok(NULL, "\n"), lines++) {
        const char *word = strstr(line, "from=");

        assert_memory_equal(line, "time=", 5);
        assert_non_null(word);
        assert_string_equal(word + 5, words[word[5] - 'A']);
    }
    assert_int_equal(lines, THREADS * 200);
}

/* ---- the writer's thread */

static int pipe_ends[2];

/* Standard error goes into a pipe that nobody reads, from here on. */
static void stall(int flags)
{
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    assert_int_equal(pipe2(pipe_ends, 0), 0);
    assert_int_equal(fcntl(pipe_ends[1], F_SETFL, flags), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(pipe_ends[1], STDERR_FILENO);
    close(pipe_ends[1]);
}

static void unstall(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(pipe_ends[0]);
}

static size_t read_some(char *out, size_t size)
{
    struct pollfd readable = {.fd = pipe_ends[0], .events = POLLIN};
    ssize_t n = 0;

    if (poll(&readable, 1, 20000) == 1)
        n = read(pipe_ends[0], out, size);
    assert_true(n > 0);
    return (size_t)n;
}

/* Reads what the pipe gives until the line is there, and returns all of it. */
static const char *read_until(const char *line)
{
    static char text[4 << 20];
    size_t len = 0;

    do {
        len += read_some(text + len, sizeof(text) - 1 - len);
        text[len] = '\0';
    } while (strstr(text, line) == NULL || text[len - 1] != '\n');
    return text;
}

static void log_many(size_t from, size_t to)
{
    static char filler[512];

    memset(filler, 'x', sizeof(filler) - 1);
    for (; from < to; from++)
        log_info("line n=%zu filler=%s", from, filler);
}

/* Checks that lines are whole and in order, and that each gap tells how many are missing there. */
static void assert_order(const char *text, size_t next, size_t end)
{
    while (*text != '\0') {
        const char *stop = strchr(text, '\n');
        size_t n;

        assert_non_null(stop);
        assert_memory_equal(text, "time=", 5);
        if (sscanf(text + 5 + TIME_LEN, " level=info module=test msg=\"line\" n=%zu ", &n) == 1)
            assert_int_equal(n, next++);
        else if (sscanf(text + 5 + TIME_LEN,
                        " level=warn module=log msg=\"log lines dropped, because standard "
                        "error did not take them\" lines=%zu",
                        &n) == 1)
            next += n;
        text = stop + 1;
    }
    assert_int_equal(next, end);
}

static void a_reader_that_stalls_holds_up_nobody(void **state)
{
    const int flags[] = {0, O_NONBLOCK};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        const uint64_t dropped_before = log_dropped();
        uint64_t started_ms;
        const char *text;

        stall(flags[i]);
        assert_int_equal(log_start(), 0);
        started_ms = clock_mono_ms();
        log_many(0, 4000); /* twice what buffer and pipe hold */
        assert_in_range(clock_mono_ms() - started_ms, 0, 10000);
        assert_in_range(log_dropped() - dropped_before, 1, 3000);
        text = read_until("dropped");
        assert_order(text, 0, 4000);
        log_many(4000, 4010);
        assert_order(read_until(" n=4009 "), 4000, 4010);
        log_stop(1000);
        unstall();
    }
}

static void stop_writes_what_is_left_and_then_lines_are_direct(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    assert_int_equal(log_start(), 0);
    log_many(0, 1500);
    log_stop(5000);
    log_many(1500, 1502);
    assert_order(release(), 0, 1502);
}

static void flush_waits_until_all_is_written(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    assert_int_equal(log_start(), 0);
    log_many(0, 1500);
    log_flush(5000);
    assert_order(release(), 0, 1500);
    log_stop(1000);
}

static void what_standard_error_refuses_is_counted(void **state)
{
    const uint64_t dropped_before = log_dropped();

    (void)state;
    stall(0);
    close(pipe_ends[0]);
    assert_int_equal(log_start(), 0); /* its thread has SIGPIPE blocked */
    log_many(0, 5);
    log_flush(1000);
    log_stop(1000);
    assert_int_equal(log_dropped() - dropped_before, 5);
    pipe_ends[0] = dup(STDERR_FILENO);
    unstall();
}

/* A reader that takes a little now and then gets no line more for it, and no gap after each. */
static void a_reader_that_is_too_slow_sees_one_gap(void **state)
{
    static char text[4 << 20];
    size_t gaps = 0, len = 0;

    (void)state;
    stall(0);
    assert_int_equal(log_start(), 0);
    log_many(0, 4000);
    for (size_t i = 0; i < 20; i++) {
        len += read_some(text + len, 4096);
        (void)poll(NULL, 0, 5);
        log_many(4000 + 10 * i, 4010 + 10 * i);
    }
    do {
        len += read_some(text + len, sizeof(text) - 1 - len);
        text[len] = '\0';
    } while (strstr(text, "dropped") == NULL || text[len - 1] != '\n');
    assert_order(text, 0, 4200);
    for (const char *at = text; (at = strstr(at, "dropped")) != NULL; at++)
        gaps++;
    assert_int_equal(gaps, 1);
    log_stop(1000);
    unstall();
}

static void behind_half_a_line_a_line_begins_anew(void **state)
{
    struct rlimit before, small;
    const char *text, *second;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){700, before.rlim_max};
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    assert_int_equal(log_start(), 0); /* its thread has SIGXFSZ blocked */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    log_many(0, 1);
    log_flush(5000);
    log_many(1, 2); /* half of it */
    log_flush(5000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    log_many(2, 3);
    log_stop(5000);
    text = release();
    second = strstr(text, " n=1 ");
    assert_non_null(second);
    second = strchr(second, '\n');
    assert_non_null(second);
    assert_int_equal(second - text, 700);
    assert_order(second + 1, 2, 3);
}

/* Runs end in a child whose standard error is a pipe; returns how it ended. */
static int in_child(void (*end)(void))
{
    struct rlimit no_core = {0, 0};
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        alarm(20);
        if (log_start() != 0)
            _exit(99);
        log_many(0, 50);
        end();
        _exit(98);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void fail_assertion(void)
{
    ALLOY_ASSERT(pipe_ends[0] < 0);
}

static void crash(void)
{
    raise(SIGSEGV);
}

static void fill_and_fail_assertion(void)
{
    log_many(50, 4000);
    ALLOY_ASSERT(pipe_ends[0] < 0);
}

static void fill_and_stop(void)
{
    log_many(50, 4000);
    log_stop(100);
    log_many(0, 4000);
    _exit(7);
}

static void a_crash_loses_no_line(void **state)
{
    static const struct {
        void (*end)(void);
        int signal;
    } ends[] = {{fail_assertion, SIGABRT}, {abort, SIGABRT}, {crash, SIGSEGV}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        int status;
        const char *text;

        stall(0);
        status = in_child(ends[i].end);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), ends[i].signal);
        text = read_until(" n=49 ");
        if (i == 0)
            assert_non_null(strstr(text, "alloyd: assertion failed: pipe_ends[0] < 0 ("));
        else
            assert_order(text, 0, 50);
        unstall();
    }
}

static void a_stalled_reader_holds_up_no_end(void **state)
{
    int status;

    (void)state;
    stall(0);
    status = in_child(fill_and_stop);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    unstall();
    stall(0);
    status = in_child(fill_and_fail_assertion);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    unstall();
}

static void priorities_are_told_to_the_journal_alone(void **state)
{
    static const char *const expected[] = {"<3>time=", "<4>time=", "<6>time=", "<7>time="};
    struct stat status;
    char stream[64];
    const char *line;

    (void)state;
    for (int format = LOG_FORMAT_LOGFMT; format <= LOG_FORMAT_JSON; format++) {
        for (int journal = 0; journal < 2; journal++) {
            capture(LOG_LEVEL_DEBUG, (enum log_format)format);
            assert_int_equal(fstat(STDERR_FILENO, &status), 0);
            snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)status.st_dev,
                     (uintmax_t)status.st_ino + !journal);
            setenv("JOURNAL_STREAM", stream, 1);
            assert_int_equal(log_start(), 0);
            for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++)
                log_write((enum log_level)level, "test", "text");
            log_stop(1000);
            line = release();
            for (size_t i = 0; i < ARRAY_LEN(expected); i++, line = strchr(line, '\n') + 1) {
                const char *text = expected[i] + (journal ? 0 : 3);

                assert_memory_equal(line, text, journal ? 3 : 0);
                assert_int_equal(line[journal ? 3 : 0], format == LOG_FORMAT_JSON ? '{' : 't');
            }
        }
    }
    unsetenv("JOURNAL_STREAM");
    capture(LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT);
    assert_int_equal(log_start(), 0);
    log_error("x");
    log_stop(1000);
    assert_memory_equal(release(), "time=", 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logfmt_splits_text_and_pairs),
        cmocka_unit_test(json_splits_text_and_pairs),
        cmocka_unit_test(json_has_numbers_and_booleans_and_names_are_strings),
        cmocka_unit_test(a_burst_passes_so_many_lines_a_second),
        cmocka_unit_test(a_line_may_have_no_pairs_or_nothing_else),
        cmocka_unit_test(quoted_values_keep_spaces_quotes_and_equal_signs),
        cmocka_unit_test(control_bytes_and_bad_utf8_never_break_a_line),
        cmocka_unit_test(what_a_terminal_would_act_on_is_escaped),
        cmocka_unit_test(every_byte_value_leaves_one_printable_line),
        cmocka_unit_test(long_lines_are_cut_marked_and_closed),
        cmocka_unit_test(levels_below_the_configured_one_are_silent),
        cmocka_unit_test(errno_survives_a_log_line),
        cmocka_unit_test(limit_passes_once_an_interval_and_counts_the_rest),
        cmocka_unit_test(lines_of_threads_never_mix),
        cmocka_unit_test(a_reader_that_stalls_holds_up_nobody),
        cmocka_unit_test(stop_writes_what_is_left_and_then_lines_are_direct),
        cmocka_unit_test(flush_waits_until_all_is_written),
        cmocka_unit_test(what_standard_error_refuses_is_counted),
        cmocka_unit_test(a_reader_that_is_too_slow_sees_one_gap),
        cmocka_unit_test(behind_half_a_line_a_line_begins_anew),
        cmocka_unit_test(a_crash_loses_no_line),
        cmocka_unit_test(a_stalled_reader_holds_up_no_end),
        cmocka_unit_test(priorities_are_told_to_the_journal_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
