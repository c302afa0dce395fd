/* SPDX-License-Identifier: Apache-2.0 */
/* test_log.c - lines keep their form whatever their values hold. */
#define LOG_MODULE "test"
#include "alloy/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

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
                "\"code\":\"27\",\"action\":\"dead_letter\"}\n");
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
                "\",\"level\":\"info\",\"module\":\"test\",\"msg\":\"\",\"a\":\"1\",\"b\":\"\"}\n");
}

static void quoted_values_keep_spaces_quotes_and_equal_signs(void **state)
{
    (void)state;
    capture(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info("x reason=\"%s\" n=%d", "say \"a=b\" \\ twice", 5);
    assert_line(release(), "{\"time\":\"",
                "\",\"level\":\"info\",\"module\":\"test\",\"msg\":\"x\","
                "\"reason\":\"say \\\"a=b\\\" \\\\ twice\",\"n\":\"5\"}\n");
    capture(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    log_info("x reason=%s n=%d", "No such file or directory", 5);
    assert_line(release(), "time=",
                " level=info module=test msg=\"x\" reason=\"No such file or directory\" n=5\n");
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
                assert_non_null(strstr(line, format == LOG_FORMAT_JSON ? "\",\"cut\":\"true\"}\n"
                                                                       : " cut=true\n"));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logfmt_splits_text_and_pairs),
        cmocka_unit_test(json_splits_text_and_pairs),
        cmocka_unit_test(a_line_may_have_no_pairs_or_nothing_else),
        cmocka_unit_test(quoted_values_keep_spaces_quotes_and_equal_signs),
        cmocka_unit_test(control_bytes_and_bad_utf8_never_break_a_line),
        cmocka_unit_test(every_byte_value_leaves_one_printable_line),
        cmocka_unit_test(long_lines_are_cut_marked_and_closed),
        cmocka_unit_test(levels_below_the_configured_one_are_silent),
        cmocka_unit_test(errno_survives_a_log_line),
        cmocka_unit_test(limit_passes_once_an_interval_and_counts_the_rest),
        cmocka_unit_test(lines_of_threads_never_mix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
