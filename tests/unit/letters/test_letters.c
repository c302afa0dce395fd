/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_letters.c - lines as alloyd writes them, as people edit them, and broken ones; and folders.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/letters.h"

#define LINE                                                                                \
    "{\"time\":\"2026-01-31T12:00:00.123Z\",\"lsn\":\"00000000000000ab00000007000020a8\","  \
    "\"stream\":\"clicks\",\"code\":27,\"message\":\"no \\\"good\\\" \\u000a}\",\"event\":" \
    "{\"id\":\"}\\\\\",\"a\":[1,{\"b\":null}], \"n\":1e400}}"

static bool parse(const char *text, struct letter *letter)
{
    /* On the heap and without a NUL, so that a read past its end is seen. */
    size_t len = strlen(text);
    char *copy = malloc(len + 1);
    bool parsed;

    memcpy(copy, text, len);
    copy = realloc(copy, len > 0 ? len : 1);
    parsed = letter_parse((struct slice){copy, len}, letter);
    if (parsed) { /* for comparing */
        letter->stream.data = text + (letter->stream.data - copy);
        letter->message.data =
            letter->message.len > 0 ? text + (letter->message.data - copy) : text;
        letter->event.data = text + (letter->event.data - copy);
        letter->id.data = letter->id.len > 0 ? text + (letter->id.data - copy) : text;
        letter->columns.data =
            letter->columns.len > 0 ? text + (letter->columns.data - copy) : text;
    }
    free(copy);
    return parsed;
}

static void assert_slice(struct slice slice, const char *expected)
{
    assert_int_equal(slice.len, strlen(expected));
    assert_memory_equal(slice.data, expected, slice.len);
}

static void a_line_of_ours_is_read_whole(void **state)
{
    struct letter letter;

    (void)state;
    assert_true(parse(LINE, &letter));
    assert_int_equal(letter.time_ms, 1769860800123);
    assert_true(letter.has_lsn);
    assert_int_equal(letter.instance_id, 0xab);
    assert_int_equal(letter.lsn, 0x7000020a8);
    assert_slice(letter.stream, "clicks");
    assert_int_equal(letter.code, 27);
    assert_slice(letter.message, "no \\\"good\\\" \\u000a}");
    assert_slice(letter.event, "{\"id\":\"}\\\\\",\"a\":[1,{\"b\":null}], \"n\":1e400}");
}

static void order_white_space_and_more_members_do_not_matter(void **state)
{
    struct letter letter;

    (void)state;
    assert_true(parse(" { \"event\" : {\"x\": 1} ,\t\"note\":[true, false],\"stream\":\"s\", "
                      "\"code\": 6 } \r",
                      &letter));
    assert_slice(letter.event, "{\"x\": 1}");
    assert_slice(letter.stream, "s");
    assert_int_equal(letter.code, 6);
    assert_false(letter.has_lsn);
    assert_int_equal(letter.time_ms, 0);
}

static void what_came_with_the_request_is_read(void **state)
{
    struct letter letter;

    (void)state;
    assert_true(parse(LINE, &letter));
    assert_int_equal(letter.id.len + letter.columns.len, 0);
    assert_true(parse("{\"stream\":\"s\",\"id\" : \"a\\\"}\",\"columns\": {\"c\":[1,\"}\"]},"
                      "\"event\":{}}",
                      &letter));
    assert_slice(letter.id, "\"id\" : \"a\\\"}\"");
    assert_slice(letter.columns, "{\"c\":[1,\"}\"]}");
    assert_true(parse("{\"stream\":\"s\",\"id_hex\":\"ff\",\"event\":{}}", &letter));
    assert_slice(letter.id, "\"id_hex\":\"ff\"");
    /* Somebody's notes. */
    assert_true(parse("{\"stream\":\"s\",\"id\":7,\"columns\":[],\"event\":{}}", &letter));
    assert_int_equal(letter.id.len + letter.columns.len, 0);
}

static void what_is_no_letter_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "{}",
        "null",
        "[{}]",
        "{\"stream\":\"s\"}",
        "{\"event\":{}}",
        "{\"stream\":\"s\",\"event\":[]}",
        "{\"stream\":\"s\",\"event\":{}",
        "{\"stream\":\"s\",\"event\":{}}x",
        "{\"stream\":\"s\",\"event\":{},}",
        "{\"stream\":\"s\",\"event\":{\"a\":\"}}",
        "{\"stream\":\"s\",\"code\":-1,\"event\":{}}",
        "{\"stream\":\"s\",\"code\":\"x\",\"event\":{}}",
        "{\"stream\":\"s\",\"code\":99999999999,\"event\":{}}",
        "{\"stream\":\"s\" \"event\":{}}",
        "{\"stream\":\"s\",\"event\":}",
        "{\"stream\":\"s\\",
    };
    struct letter letter;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse(bad[i], &letter))
            fail_msg("taken: %s", bad[i]);
}

static void a_line_cut_anywhere_is_refused(void **state)
{
    struct letter letter;
    char *cut = strdup(LINE);

    (void)state;
    for (size_t len = strlen(LINE); len-- > 0;) {
        cut[len] = '\0';
        assert_false(parse(cut, &letter));
    }
    free(cut);
}

static void an_lsn_that_is_none_is_left_out(void **state)
{
    static const char *const lsns[] = {"\"00000000000000ab00000007000020\"", "7", "null",
                                       "\"0x000000000000ab00000007000020a8\"",
                                       "\"+0000000000000ab-0000007000020a8\""};
    struct letter letter;
    char line[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lsns); i++) {
        snprintf(line, sizeof(line), "{\"lsn\":%s,\"stream\":\"s\",\"event\":{}}", lsns[i]);
        assert_true(parse(line, &letter));
        assert_false(letter.has_lsn);
    }
}

struct seen {
    size_t good, bad;
    uint64_t last;
    int stop_with;
};

static int see(void *arg, const struct letter *letter, struct slice line, uint64_t number)
{
    struct seen *seen = arg;

    assert_true(line.data[line.len] == '\n' || line.data[line.len] == '\0');
    assert_int_equal(number, seen->last + 1);
    seen->last = number;
    seen->good += letter != NULL;
    seen->bad += letter == NULL;
    return seen->stop_with;
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

static void a_folder_is_listed_in_order_and_its_files_line_by_line(void **state)
{
    static const char *const names[] = {"a-20260131T120000Z-2.ndjson",
                                        "a-20260131T120000Z-10.ndjson.replaying",
                                        "b-20260131T120000Z-1.ndjson.replayed"};
    char dir[] = "/tmp/test_letters.XXXXXX";
    struct letters letters;
    struct seen seen = {0};
    char path[512];

    (void)state;
    assert_non_null(mkdtemp(dir));
    put(dir, names[2], "");
    put(dir, names[1], LINE "\n");
    put(dir, names[0], LINE "\nbroken\n\n" LINE "\n" LINE);
    put(dir, ".ndjson", "");
    put(dir, "notes.txt", "");
    snprintf(path, sizeof(path), "%s/folder.ndjson", dir);
    mkdir(path, 0700);
    assert_int_equal(letters_open(&letters, dir), 0);
    assert_int_equal(letters.count, 3);
    assert_int_equal(letters.passed_over, 1);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(letters.files[i].name, names[i]);
        assert_int_equal(letters.files[i].state, i);
    }
    assert_int_equal(letters.files[1].bytes, strlen(LINE) + 1);
    assert_true(letters.files[1].modified_ms > 1700000000000);
    assert_int_equal(letters_visit(&letters, names[0], see, &seen), 0);
    assert_int_equal(seen.good, 3); /* whoever edits the last may leave out its line break */
    assert_int_equal(seen.bad, 2);
    letters.tail = LETTERS_TAIL_NEVER; /* alloyd was killed before the end of the line */
    seen = (struct seen){0};
    assert_int_equal(letters_visit(&letters, names[0], see, &seen), 0);
    assert_int_equal(seen.good, 2);
    put(dir, names[0], LINE "\n{\"time");
    for (int always = 0; always < 2; always++) {
        letters.tail = always ? LETTERS_TAIL_ALWAYS : LETTERS_TAIL_IF_WHOLE;
        seen = (struct seen){0};
        assert_int_equal(letters_visit(&letters, names[0], see, &seen), 0);
        assert_int_equal(seen.good, 1);
        assert_int_equal(seen.bad, always); /* what a kill left, or somebody's event */
    }
    seen = (struct seen){.stop_with = 7};
    assert_int_equal(letters_visit(&letters, names[0], see, &seen), 7);
    assert_int_equal(seen.last, 1);
    seen = (struct seen){0};
    assert_int_equal(letters_visit(&letters, names[2], see, &seen), 0);
    assert_int_equal(seen.last, 0);
    assert_int_equal(letters_visit(&letters, "gone", see, &seen), -ENOENT);
    rmdir(path);
    for (int i = 0; i < 3; i++)
        unlinkat(letters.dir_fd, names[i], 0);
    unlinkat(letters.dir_fd, ".ndjson", 0);
    unlinkat(letters.dir_fd, "notes.txt", 0);
    letters_close(&letters);
    rmdir(dir);
    assert_int_equal(letters_open(&letters, dir), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_ours_is_read_whole),
        cmocka_unit_test(what_came_with_the_request_is_read),
        cmocka_unit_test(order_white_space_and_more_members_do_not_matter),
        cmocka_unit_test(what_is_no_letter_is_refused),
        cmocka_unit_test(a_line_cut_anywhere_is_refused),
        cmocka_unit_test(an_lsn_that_is_none_is_left_out),
        cmocka_unit_test(a_folder_is_listed_in_order_and_its_files_line_by_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
