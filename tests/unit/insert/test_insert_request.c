/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_insert_request.c - the URLs, character by character where it matters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "insert_request.h"

static struct config config_of(const char *url)
{
    return (struct config){.clickhouse_url = (char *)url,
                           .clickhouse_user = (char *)"",
                           .clickhouse_password = (char *)"",
                           .clickhouse_wait_for_async_insert = true};
}

static const struct config_stream stream = {.database = (char *)"d`b\\", .table = (char *)"t"};

/* The whole of a URL, at the endpoint of config. */
static char *whole(const struct config *config, char *tail)
{
    const char *endpoint = config->clickhouse_url;
    char *base = insert_request_base(config, (struct slice){endpoint, strlen(endpoint)});
    char *url = insert_request_join(base, tail);

    free(base);
    return url;
}

static char *url_of(const struct config *config, bool async)
{
    const struct insert_request request = {
        .instance_id = 0xab, .insert_id = UINT64_MAX, .async = async};
    char *url = whole(config, insert_request_url(config, &stream, &request));

    assert_non_null(url);
    return url;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no %s in %s", part, text);
}

static void an_insert_names_table_token_and_settings(void **state)
{
    struct config config = config_of("http://h:8123");
    char *url = url_of(&config, false);

    (void)state;
    assert_has(url, "http://h:8123/?query=INSERT%20INTO%20%60d%5C%60b%5C%5C%60.%60t%60%20FORMAT"
                    "%20JSONEachRow&insert_deduplication_token=00000000000000abffffffffffffffff&");
    assert_has(url, "&async_insert=0");
    assert_has(url, "&insert_deduplicate=1&date_time_input_format=best_effort&");
    assert_has(url, "&wait_end_of_query=1&send_progress_in_http_headers=0&");
    assert_has(url, "&min_insert_block_size_rows=1000000&min_insert_block_size_bytes=0");
    assert_null(strstr(url, "wait_for_async_insert"));
    assert_null(strstr(url, "async_insert_deduplicate"));
    free(url);
}

static void an_async_insert_deduplicates_and_waits_as_configured(void **state)
{
    struct config config = config_of("http://h:8123");
    char *url = url_of(&config, true);

    (void)state;
    assert_has(url, "&async_insert=1&wait_for_async_insert=1&async_insert_deduplicate=1");
    free(url);
    config.clickhouse_wait_for_async_insert = false;
    url = url_of(&config, true);
    assert_has(url, "&wait_for_async_insert=0");
    free(url);
}

static void settings_of_the_user_come_last_and_encoded(void **state)
{
    struct config config = config_of("http://h:8123");
    char *url;

    (void)state;
    config.settings[0] = (struct config_setting){(char *)"log_comment", (char *)"a&b=c d%\xc3\xa9"};
    config.settings[1] = (struct config_setting){(char *)"async_insert", (char *)"0"};
    config.setting_count = 2;
    url = url_of(&config, true);
    assert_string_equal(strstr(url, "&log_comment"),
                        "&log_comment=a%26b%3Dc%20d%25%C3%A9&async_insert=0");
    free(url);
}

static void path_and_query_of_the_url_stay_and_credentials_give_way(void **state)
{
    static const struct {
        const char *url;
        const char *user;
        const char *begin;
    } cases[] = {
        {"http://h", "", "http://h/?query="},
        {"http://h/", "", "http://h/?query="},
        {"https://h/proxy/ch", "", "https://h/proxy/ch?query="},
        {"http://h/x?role=a", "", "http://h/x?role=a&query="},
        {"http://h?role=a#top", "", "http://h/?role=a&query="},
        {"http://u:p@h/x?y=@", "", "http://u:p@h/x?y=@&query="},
        {"http://u:p@h/x?y=@", "me", "http://h/x?y=@&query="},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config config = config_of(cases[i].url);
        char *url;
        config.clickhouse_user = (char *)cases[i].user;
        url = url_of(&config, false);
        if (strncmp(url, cases[i].begin, strlen(cases[i].begin)) != 0)
            fail_msg("%s gave %s", cases[i].url, url);
        free(url);
    }
}

static void a_password_is_never_in_a_url(void **state)
{
    struct config config = config_of("http://h");
    char *url;

    (void)state;
    config.clickhouse_user = (char *)"me";
    config.clickhouse_password_resolved = (char *)"hunter2";
    assert_true(insert_request_uses_headers(&config));
    assert_string_equal(insert_request_password(&config), "hunter2");
    url = url_of(&config, false);
    assert_null(strstr(url, "hunter2"));
    free(url);
    url = whole(&config, insert_request_table_url(&stream));
    assert_null(strstr(url, "hunter2"));
    free(url);
}

static void the_questions_about_a_table_quote_names_as_literals(void **state)
{
    struct config config = config_of("http://h");
    const struct config_stream quoted = {.database = (char *)"d", .table = (char *)"o'k\\"};
    char *url = whole(&config, insert_request_table_url(&quoted));

    (void)state;
    assert_has(url, "http://h/?query=SELECT%20version%28%29");
    assert_has(url, "%28%5C%5Cd%2B%29"); /* (\\d+) in the SQL */
    assert_has(url, "engine_full%2C%201%2C%201024%29%29%20FROM%20system.tables%20WHERE%20"
                    "database%20%3D%20%27d%27%20AND%20name%20%3D%20%27o%5C%27k%5C%5C%27%20FORMAT");
    free(url);
    config.settings[0] =
        (struct config_setting){(char *)"input_format_import_nested_json", (char *)"1"};
    config.settings[1] = (struct config_setting){(char *)"max_memory_usage", (char *)"1"};
    config.setting_count = 2;
    url = insert_request_site_url(&quoted);
    assert_has(url, "FROM%20system.replicas%20WHERE%20database%20%3D%20%27d%27%20AND%20table%20%3D"
                    "%20%27o%5C%27k%5C%5C%27");
    assert_has(url, "FROM%20system.tables%20WHERE%20database%20%3D%20%27d%27%20AND%20name%20%3D");
    free(url);
    url = insert_request_columns_url(&config, &quoted);
    assert_has(url, "database%20%3D%20%27d%27%20AND%20table%20%3D%20%27o%5C%27k%5C%5C%27%20ORDER");
    assert_has(url, "&input_format_import_nested_json=1");
    assert_null(strstr(url, "max_memory_usage"));
    free(url);
}

static void the_questions_for_rows_name_the_id_fields_and_a_time(void **state)
{
    struct config config = config_of("http://h");
    const struct config_stream ids = {
        .database = (char *)"d",
        .table = (char *)"t",
        .ids = {{CONFIG_ID_MEMBER, (char *)"a`b", 0}, {CONFIG_ID_MEMBER, (char *)"it's", 1}},
        .id_count = 2};
    char *url = whole(&config, insert_request_trace_url(&ids, 660, NULL));

    (void)state;
    assert_has(url, "http://h/?query=SELECT%20uptime%28%29%2C%20toUnixTimestamp%28now%28%29%29"
                    "%20-%20660%20AS%20since");
    assert_has(url, "name%20IN%20%28%27a%60b%27%2C%20%27it%5C%27s%27%29");
    free(url);
    config.settings[0] = (struct config_setting){(char *)"max_threads", (char *)"7"};
    config.setting_count = 1;
    url = insert_request_rows_url(&config, &ids, 17, "s t", NULL);
    assert_has(url, "%28%60a%5C%60b%60%2C%20%60it%27s%60%29%20IN%20%28SELECT");
    assert_has(url, "_part%20NOT%20IN%20%28SELECT%20name%20FROM%20system.parts%20WHERE%20database"
                    "%20%3D%20%27d%27%20AND%20table%20%3D%20%27t%27%20AND%20modification_time%20"
                    "%3C%20toDateTime%2817%29%29");
    assert_has(url, "&alloy_rows_structure=s%20t&alloy_rows_format=JSONEachRow");
    assert_has(url, "&max_threads=7");
    assert_has(strstr(url, "&max_threads=7") + 1, "&max_threads=1&"); /* the later one holds */
    assert_null(strstr(url, "INSERT"));
    free(url);
}

static void an_insert_with_proof_leaves_its_column_out_and_questions_look_for_it(void **state)
{
    struct config config = config_of("http://h");
    struct config_stream proven = {.database = (char *)"d",
                                   .table = (char *)"t",
                                   .ids = {{CONFIG_ID_MEMBER, (char *)"a", 0}},
                                   .id_count = 1,
                                   .proof = (char *)"i`s"};
    const struct insert_request request = {.insert_id = 1, .proof = proven.proof};
    const struct config_setting off = {(char *)"input_format_defaults_for_omitted_fields",
                                       (char *)"0"};
    char *url;

    (void)state;
    config.settings[0] = off;
    config.setting_count = 1;
    url = insert_request_url(&config, &proven, &request);
    assert_has(url, "%60d%60.%60t%60%20%28%2A%20EXCEPT%28%60i%5C%60s%60%29%29%20FORMAT");
    assert_has(url, "fields=0&input_format_defaults_for_omitted_fields=1");
    free(url);
    url = insert_request_trace_url(&proven, 60, "70ken");
    assert_has(url, "name%20IN%20%28%27a%27%2C%20%27i%60s%27%29");
    assert_has(url, "Settings%5B%27insert_deduplication_token%27%5D%20%3D%20%2770ken%27");
    assert_has(url, "system.replicas");
    free(url);
    url = insert_request_count_url(&proven, 17, "70ken");
    assert_has(url, "SELECT%20%28SELECT%20count%28%29%20FROM%20%60d%60.%60t%60");
    assert_has(url, "%20AND%20%60i%5C%60s%60%20%3D%20%2770ken%27");
    free(url);
    url = insert_request_rows_url(&config, &proven, 17, "s t", "70ken");
    assert_has(url, "%20AND%20%60i%5C%60s%60%20%3D%20%2770ken%27%20AND%20%28");
    free(url);
    url = insert_request_columns_url(&config, &proven);
    assert_has(url, "if%28name%20%3D%20%27i%60s%27%2C%20concat%28default_kind");
    free(url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_insert_names_table_token_and_settings),
        cmocka_unit_test(an_async_insert_deduplicates_and_waits_as_configured),
        cmocka_unit_test(settings_of_the_user_come_last_and_encoded),
        cmocka_unit_test(path_and_query_of_the_url_stay_and_credentials_give_way),
        cmocka_unit_test(a_password_is_never_in_a_url),
        cmocka_unit_test(the_questions_about_a_table_quote_names_as_literals),
        cmocka_unit_test(the_questions_for_rows_name_the_id_fields_and_a_time),
        cmocka_unit_test(an_insert_with_proof_leaves_its_column_out_and_questions_look_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
