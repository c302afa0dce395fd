/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_file.c - files that include others, and values that name environment variables.
 */
#include "config_fixture.h"

/* Writes another file beside the configuration; returns its path. */
static const char *write_beside(const char *ending, const char *text)
{
    static char beside[4][128];
    static int next;
    char *name = beside[next++ % 4];
    FILE *file;

    snprintf(name, sizeof(beside[0]), "%s%s", path, ending);
    file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return name;
}

static void mistakes_in_included_files_are_told_with_their_file(void **state)
{
    const char *one = write_beside(".d1.conf", "[ring]\ncapacity = 5\nx = 1\n");
    const char *two = write_beside(".d2.conf", "[ring]\ncapacity = 6\n");
    const char *itself = write_beside(".loop", "");
    char text[512], expected[512];

    (void)state;
    snprintf(text, sizeof(text), "include = %s.d*.conf\n" STREAM, strrchr(path, '/') + 1);
    assert_null(load(text));
    snprintf(expected, sizeof(expected), "%s:3: unknown key x in [ring]\n", one);
    assert_non_null(strstr(problems, expected));
    snprintf(expected, sizeof(expected),
             "%s:2: ring.capacity is given twice; the first is at %s:2\n", two, one);
    assert_non_null(strstr(problems, expected));
    unlink(one);
    unlink(two);
    snprintf(text, sizeof(text), "include = %s\n", itself);
    write_beside(".loop", text);
    snprintf(text, sizeof(text), "include = %s\n" STREAM, itself);
    assert_null(load(text));
    assert_non_null(strstr(problems, "nested deeper than 8; does a file include itself?"));
    unlink(itself);
}

static void included_files_are_as_if_they_stood_there(void **state)
{
    const char *more = write_beside(".more", "[stream.b]\ntable = d.u\n[ring]\ncapacity = 7\n");
    struct config *config;
    char text[512];

    (void)state;
    snprintf(text, sizeof(text),
             "include = /nonexistent/*.ini\ninclude = ${ALLOY_TEST_PATH}.more\n" STREAM
             "[ring]\n[server]\nthreads = 2\n");
    setenv("ALLOY_TEST_PATH", path, 1);
    config = must_load(text);
    assert_int_equal(config->stream_count, 2);
    assert_string_equal(config->streams[0].name, "b");
    assert_int_equal(config->ring_capacity, 7);
    config_destroy(config);
    unlink(more);
}

static void values_name_environment_variables(void **state)
{
    static const char *const overrides[] = {"redis.key_prefix=${ALLOY_TEST_A}:${ALLOY_TEST_NO:-x}"};
    struct config *config;
    char *text;

    (void)state;
    setenv("ALLOY_TEST_A", "seven", 1);
    setenv("ALLOY_TEST_EMPTY", "", 1);
    config = load_with(STREAM "id = ${ALLOY_TEST_EMPTY:-a}${ALLOY_TEST_EMPTY}, $${b}, $c, d$$\n"
                              "[clickhouse]\nuser = ${ALLOY_TEST_EMPTY}\n",
                       overrides, 1, CPUS);
    assert_string_equal(problems, "");
    assert_string_equal(config->streams[0].ids[0].name, "a");
    assert_string_equal(config->streams[0].ids[1].name, "${b}");
    assert_string_equal(config->streams[0].ids[2].name, "$c");
    assert_string_equal(config->streams[0].ids[3].name, "d$$");
    assert_string_equal(config->redis_key_prefix, "seven:x");
    assert_string_equal(config->clickhouse_user, "");
    text = dump(config);
    config_destroy(config);
    assert_non_null(strstr(text, "\nid = a, $${b}, $c, d$$\n"));
    config = must_load(text);
    assert_string_equal(config->streams[0].ids[1].name, "${b}");
    config_destroy(config);
    free(text);
}

static const char *place_of(const struct config *config, const char *key)
{
    static char text[256];
    FILE *out = fmemopen(text, sizeof(text), "w");

    config_print_place(config, key, out);
    fclose(out);
    return text;
}

static void places_are_known_after_loading(void **state)
{
    static const char *const overrides[] = {"redis.url=redis://:geheim@h", "l1.capacity=5"};
    struct config *config =
        load_with("[stream.a]\n\ntable = d.t\n[clickhouse]\nuser = u\n", overrides, 2, CPUS);
    char expected[128];

    (void)state;
    assert_non_null(config);
    snprintf(expected, sizeof(expected), "%s:3: ", path);
    assert_string_equal(place_of(config, "stream.a.table"), expected);
    snprintf(expected, sizeof(expected), "%s:1: ", path);
    assert_string_equal(place_of(config, "stream.a.id"), expected);
    snprintf(expected, sizeof(expected), "%s:5: ", path);
    assert_string_equal(place_of(config, "clickhouse.user"), expected);
    snprintf(expected, sizeof(expected), "%s: ", path);
    assert_string_equal(place_of(config, "clickhouse.url"), expected);
    assert_string_equal(place_of(config, "redis.url"), "--set redis.url=********: ");
    assert_string_equal(place_of(config, "l1.capacity"), "--set l1.capacity=5: ");
    config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_in_included_files_are_told_with_their_file),
        cmocka_unit_test(included_files_are_as_if_they_stood_there),
        cmocka_unit_test(places_are_known_after_loading),
        cmocka_unit_test(values_name_environment_variables),
    };

    return cmocka_run_group_tests(tests, make_path, remove_path);
}
