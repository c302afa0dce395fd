/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_keys.c - the keys file line by line, who is found, and what a reload keeps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <unistd.h>

#include <cmocka.h>

#include "alloy/keys.h"

/* Of the keys "one" and "two": printf %s one | b2sum -l 256 */
#define ONE "b2:d01c06cb09606bc4b2cedf4266a3a20e1e636b467cb77a9dbed595094e02ea46"
#define TWO "b2:7a52b251a3428a1b64967851157047d22919cc610c6b138e98a25280b1534b21"

static char problems[4096];

static struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* The keys of a text, owned, or NULL and problems. */
static struct keys *read_bytes(const char *text, size_t len)
{
    FILE *in = tmpfile();
    FILE *out = fmemopen(problems, sizeof(problems), "w");
    struct keys *keys;
    int err;

    assert_non_null(in);
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, len, in), len);
    rewind(in);
    err = keys_read(&keys, in, "k", out);
    fclose(in);
    fclose(out);
    assert_int_equal(err, keys == NULL ? -EINVAL : 0);
    return keys;
}

static struct keys *read_text(const char *text)
{
    return read_bytes(text, strlen(text));
}

static const struct key *find(const struct keys *keys, const char *token)
{
    struct keys_cache *cache = keys_cache_create();
    const struct key *first = keys_find(cache, keys, slice_of(token));

    /* Not remembered, and remembered. */
    assert_ptr_equal(keys_find(cache, keys, slice_of(token)), first);
    free(cache);
    return first;
}

static void a_file_of_every_kind_of_line_is_read(void **state)
{
    struct keys *keys = read_text("\xef\xbb\xbf# keys\r\n"
                                  "\n"
                                  "  web.1   " ONE " *   # of the shop\r\n"
                                  "\t# nothing\n"
                                  "app-2\t" TWO "\tevents,logs_2 500");

    (void)state;
    assert_non_null(keys);
    assert_int_equal(keys_count(keys), 2);
    assert_string_equal(keys_at(keys, 0)->name, "web.1");
    assert_int_equal(keys_at(keys, 0)->rate, 0);
    assert_int_equal(keys_at(keys, 0)->line, 3);
    assert_string_equal(keys_at(keys, 1)->stream_list, "events,logs_2");
    assert_int_equal(keys_at(keys, 1)->rate, 500);
    assert_ptr_equal(keys_by_name(keys, slice_of("app-2")), keys_at(keys, 1));
    assert_null(keys_by_name(keys, slice_of("app")));
    keys_destroy(keys);
}

static void an_empty_file_holds_no_key(void **state)
{
    struct keys *keys = read_text("");

    (void)state;
    assert_int_equal(keys_count(keys), 0);
    assert_null(find(keys, "one"));
    keys_destroy(keys);
}

static void a_key_is_found_by_what_b2sum_says_of_it(void **state)
{
    struct keys *keys = read_text("a " ONE " *\nb " TWO " *\n");

    (void)state;
    assert_string_equal(find(keys, "one")->name, "a");
    assert_string_equal(find(keys, "two")->name, "b");
    assert_null(find(keys, "three"));
    assert_null(find(keys, "One"));
    assert_null(find(keys, "one "));
    assert_null(find(keys, ONE));
    assert_null(find(keys, ""));
    keys_destroy(keys);
}

static void every_problem_is_told_with_its_line(void **state)
{
    static const struct {
        const char *line;
        const char *problem;
    } bad[] = {
        {"a", "a line is: name hash streams [events a second]"},
        {"a " ONE, "a line is: name hash streams [events a second]"},
        {"a " ONE " * 1 2", "a line is: name hash streams [events a second]"},
        {"a/b " ONE " *", "a key's name is 1 to 63 letters, digits, _, . and -"},
        {"a one *", "the hash must be b2: and 64 hexadecimal digits (alloyctl key add writes it)"},
        {"a " ONE "0 *",
         "the hash must be b2: and 64 hexadecimal digits (alloyctl key add writes it)"},
        {"a b2:d01c06cb09606bc4b2cedf4266a3a20e1e636b467cb77a9dbed595094e02ea4g *",
         "the hash must be b2: and 64 hexadecimal digits (alloyctl key add writes it)"},
        {"a " ONE " ,b",
         "streams are * or names of streams, with commas and no white space between them"},
        {"a " ONE " b,",
         "streams are * or names of streams, with commas and no white space between them"},
        {"a " ONE " *,b",
         "streams are * or names of streams, with commas and no white space between them"},
        {"a " ONE " a.b",
         "streams are * or names of streams, with commas and no white space between them"},
        {"a " ONE " * -1", "events a second must be a whole number from 0 to 1000000000"},
        {"a " ONE " * 1000000001", "events a second must be a whole number from 0 to 1000000000"},
        {"a " ONE " * 99999999999999999999",
         "events a second must be a whole number from 0 to 1000000000"},
        {"a " ONE " * 1.5", "events a second must be a whole number from 0 to 1000000000"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[512], expected[256];

        snprintf(text, sizeof(text), "# one\n%s\n%s\n", bad[i].line, bad[i].line);
        snprintf(expected, sizeof(expected), "k:2: %s\nk:3: %s\n", bad[i].problem, bad[i].problem);
        assert_null(read_text(text));
        assert_string_equal(problems, expected);
    }
}

static void nul_and_endless_lines_are_problems(void **state)
{
    static const char nul[] = "a " ONE " *\0 \nb " TWO " *\n";
    char *text = malloc(KEYS_LINE_MAX + 2);

    (void)state;
    assert_null(read_bytes(nul, sizeof(nul) - 1));
    assert_string_equal(problems, "k:1: the line is longer than 8192 bytes, or holds a NUL\n");
    memset(text, '#', KEYS_LINE_MAX + 1);
    assert_null(read_bytes(text, KEYS_LINE_MAX + 1));
    keys_destroy(read_bytes(text, KEYS_LINE_MAX));
    free(text);
}

static void a_name_or_a_key_cannot_be_given_twice(void **state)
{
    (void)state;
    assert_null(read_text("a " ONE " *\n\na " TWO " *\nb " ONE " *\n"));
    assert_string_equal(problems, "k:3: the name a is given twice; the first is on line 1\n"
                                  "k:4: this is the key a of line 1 too\n");
}

static void a_file_that_cannot_be_read_is_no_problem_of_a_line(void **state)
{
    FILE *out = fmemopen(problems, sizeof(problems), "w");
    struct keys *keys;

    (void)state;
    problems[0] = '\0';
    assert_int_equal(keys_load(&keys, "/does/not/exist", out), -ENOENT);
    assert_int_equal(keys_load(&keys, "/", out), -EISDIR);
    fclose(out);
    assert_string_equal(problems, "");
    assert_null(keys);
}

static void a_key_opens_the_streams_that_it_names(void **state)
{
    static const char *const streams[] = {"events", "logs", "more"};
    struct keys *keys = read_text("a " ONE " *\nb " TWO " more,none,events\n");
    const struct key *all = keys_at(keys, 0), *some = keys_at(keys, 1);

    (void)state;
    assert_false(keys_allows(some, 0));
    keys_bind(keys, streams, 3);
    for (unsigned i = 0; i < 64; i++) {
        assert_true(keys_allows(all, i));
        assert_int_equal(keys_allows(some, i), i == 0 || i == 2);
    }
    assert_int_equal(all->strangers, 0);
    assert_int_equal(some->strangers, 1);
    keys_bind(keys, streams + 2, 1);
    assert_true(keys_allows(some, 0));
    assert_false(keys_allows(some, 2));
    assert_int_equal(some->strangers, 2);
    keys_destroy(keys);
}

static void a_reload_keeps_counts_and_debts_by_name(void **state)
{
    struct keys *before = read_text("a " ONE " * 10\nb " TWO " * 10\n");
    struct keys *after = read_text("b " ONE " * 10\nc " TWO " * 10\n");
    struct keys *faster = read_text("b " ONE " * 20\n");
    struct bucket *bucket = &keys_at(before, 1)->state->bucket;
    uint64_t wait_ns;

    (void)state;
    keys_at(before, 1)->state->events = 7;
    assert_true(bucket_take(bucket, 10, 10, 1000, &wait_ns));
    keys_inherit(after, before);
    assert_int_equal(keys_at(after, 0)->state->events, 7);
    assert_int_equal(keys_at(after, 1)->state->events, 0);
    assert_false(bucket_take(&keys_at(after, 0)->state->bucket, 10, 1, 1000, &wait_ns));
    /* Another rate: a full bucket. */
    keys_inherit(faster, after);
    assert_int_equal(keys_at(faster, 0)->state->events, 7);
    assert_true(bucket_take(&keys_at(faster, 0)->state->bucket, 20, 20, 1000, &wait_ns));
    keys_destroy(faster);
    keys_destroy(after);
    keys_destroy(before);
}

static void what_was_remembered_of_another_table_is_forgotten(void **state)
{
    struct keys_cache *cache = keys_cache_create();
    struct keys *before = read_text("a " ONE " *\n");
    struct keys *after = read_text("b " TWO " *\n");

    (void)state;
    assert_string_equal(keys_find(cache, before, slice_of("one"))->name, "a");
    assert_null(keys_find(cache, after, slice_of("one")));
    assert_string_equal(keys_find(cache, after, slice_of("two"))->name, "b");
    assert_null(keys_find(cache, before, slice_of("two")));
    keys_destroy(before);
    keys_destroy(after);
    free(cache);
}

static void equal_tables_are_the_same(void **state)
{
    static const char *const texts[] = {
        "a " ONE " * 1\n",
        "b " ONE " * 1\n",
        "a " TWO " * 1\n",
        "a " ONE " s 1\n",
        "a " ONE " * 2\n",
        "",
        "a " ONE " * 1\nb " TWO " *\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
            struct keys *a = read_text(texts[i]), *b = read_text(texts[k]);

            assert_int_equal(keys_same(a, b), i == k);
            assert_false(keys_same(a, NULL));
            keys_destroy(a);
            keys_destroy(b);
        }
    assert_true(keys_same(NULL, NULL));
}

static void many_keys_are_all_found(void **state)
{
    const unsigned count = 5000;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct keys_cache *cache = keys_cache_create();
    struct keys *keys;

    (void)state;
    for (unsigned i = 0; i < count; i++) {
        char token[16], hash[KEYS_HASH_TEXT];

        snprintf(token, sizeof(token), "token%u", i);
        keys_format_hash(slice_of(token), hash);
        fprintf(out, "key%u %s *\n", i, hash);
    }
    fclose(out);
    keys = read_text(text);
    assert_int_equal(keys_count(keys), count);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < count; i++) {
            char token[16];

            snprintf(token, sizeof(token), "token%u", i);
            assert_ptr_equal(keys_find(cache, keys, slice_of(token)), keys_at(keys, i));
        }
    assert_null(keys_find(cache, keys, slice_of("token")));
    keys_destroy(keys);
    free(cache);
    free(text);
}

static void a_generated_key_is_a_new_one_and_its_line_is_read(void **state)
{
    char one[KEYS_TOKEN_TEXT], two[KEYS_TOKEN_TEXT], hash[KEYS_HASH_TEXT], line[256];
    struct keys *keys;

    (void)state;
    keys_generate(one);
    keys_generate(two);
    assert_int_equal(strlen(one), KEYS_TOKEN_TEXT - 1);
    assert_string_not_equal(one, two);
    keys_format_hash(slice_of(one), hash);
    snprintf(line, sizeof(line), "new %s events\n", hash);
    assert_null(strstr(line, one));
    keys = read_text(line);
    assert_string_equal(find(keys, one)->name, "new");
    assert_null(find(keys, two));
    keys_destroy(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_of_every_kind_of_line_is_read),
        cmocka_unit_test(an_empty_file_holds_no_key),
        cmocka_unit_test(a_key_is_found_by_what_b2sum_says_of_it),
        cmocka_unit_test(every_problem_is_told_with_its_line),
        cmocka_unit_test(nul_and_endless_lines_are_problems),
        cmocka_unit_test(a_name_or_a_key_cannot_be_given_twice),
        cmocka_unit_test(a_file_that_cannot_be_read_is_no_problem_of_a_line),
        cmocka_unit_test(a_key_opens_the_streams_that_it_names),
        cmocka_unit_test(a_reload_keeps_counts_and_debts_by_name),
        cmocka_unit_test(what_was_remembered_of_another_table_is_forgotten),
        cmocka_unit_test(equal_tables_are_the_same),
        cmocka_unit_test(many_keys_are_all_found),
        cmocka_unit_test(a_generated_key_is_a_new_one_and_its_line_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
