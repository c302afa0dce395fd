/* SPDX-License-Identifier: Apache-2.0 */
/* test_config.c - every key's bounds, every mistake's line, and what a reload changes. */
#include "config_fixture.h"
#include "changes_fixture.h"

#include <inttypes.h>

/* ---- wrong configurations ---- */

struct wrong {
    int line; /* 0: the file as a whole */
    const char *text;
    const char *message; /* a part of it */
};

static const struct wrong wrongs[] = {
    {0, "", "no [stream.NAME] section"},
    {0, "[server]\n", "no [stream.NAME] section"},
    {3, STREAM "[sever]\nlisten = x", "unknown section [sever]; did you mean server?"},
    {3, STREAM "[streams.b]\ntable = d.t", "unknown section [streams.b]; did you mean [stream.b]?"},
    {3, STREAM "[zzzzzz]\nx = x", "unknown section [zzzzzz]\n"},
    {4, STREAM "[server]\nlisen = 1", "unknown key lisen in [server]; did you mean listen?"},
    {4, STREAM "[admin]\nmax_body = 1", "unknown key max_body in [admin]; it is a key of [server]"},
    {4, STREAM "[clickhouse]\nmax_insert_threads = 1", "is given as setting.max_insert_threads"},
    {4, STREAM "[server]\nx = 1", "unknown key x in [server]\n"},
    {3, STREAM "tabel = d.t", "unknown key tabel in [stream.a]; did you mean table?"},
    {3, STREAM "columns.x = path", "unknown key columns.x in [stream.a]; did you mean column.x?"},
    {4, STREAM "[redis]\nkey_prefix = \"alloy:\"", "the quotes would be part of the value"},
    {3, STREAM "id = 'event_id'", "the quotes would be part of the value"},
    {4, STREAM "[server]\nlisten = h:1 # here", "a # begins no comment behind a value"},
    {3, STREAM "events = # none", "a # begins no comment behind a value"},
    {3, STREAM "id = ${ALLOY_TEST_NONE}", "environment variable ALLOY_TEST_NONE is not set"},
    {3, STREAM "id = ${}", "${ begins an environment variable"},
    {3, STREAM "id = ${A", "${ begins an environment variable"},
    {3, STREAM "id = ${A-b}", "${ begins an environment variable"},
    {1, "include = /nonexistent/x.ini\n" STREAM, "there is no file /nonexistent/x.ini"},
    {1, "include =\n" STREAM, "include names no file"},
    {4, STREAM "[server]\ninclude = x.ini", "unknown key include in [server]"},
    {6, STREAM "[journal]\ndir = /tmp\n[dead_letter]\ndir = /tmp/.", "are one folder"},
    {6, STREAM "[journal]\ndir = /nonexistent/a\n[dead_letter]\ndir = /nonexistent/a//",
     "are one folder"},
    {1, "threads = 2\n" STREAM, "before the first [section]"},
    {5, STREAM "[ring]\ncapacity=1\ncapacity=2",
     "ring.capacity is given twice; the first is on line 4"},
    {6, STREAM "[ring]\ncapacity=1\n[ring]\ncapacity=2", "the first is on line 4"},
    {3, STREAM "table = d.u", "stream.a.table is given twice; the first is on line 2"},
    {5, STREAM "[clickhouse]\nsetting.x=1\nsetting.x=1",
     "clickhouse.setting.x is given twice; the first is on line 4"},
    {4, STREAM "[ring]\ncapacity=0", "must be 1 to 16777216"},
    {4, STREAM "[ring]\ncapacity=99999999999999999999999", "must be 1 to 16777216"},
    {4, STREAM "[ring]\ncapacity=-1", "whole number"},
    {4, STREAM "[ring]\ncapacity=1k", "whole number"},
    {4, STREAM "[ring]\ncapacity=", "whole number"},
    {4, STREAM "[server]\nthreads=65", "must be 1 to 64, or auto"},
    {4, STREAM "[server]\nthreads=0", "must be 1 to 64, or auto"},
    {4, STREAM "[server]\nmax_head=1KB", "B, KiB, MiB or GiB"},
    {4, STREAM "[server]\nmax_head=1024", "B, KiB, MiB or GiB"},
    {4, STREAM "[server]\nmax_head=512B", "must be 1KiB to 1MiB"},
    {4, STREAM "[server]\nmax_head=99999999999999999GiB", "must be 1KiB to 1MiB"},
    {4, STREAM "[worker]\nlinger=50", "ms, s, min or h"},
    {4, STREAM "[worker]\nlinger=1.5s", "ms, s, min or h"},
    {4, STREAM "[worker]\nlinger=2min", "must be 1ms to 1min"},
    {4, STREAM "[worker]\nlinger=0", "must be 1ms to 1min"},
    {4, STREAM "[log]\nlevel=loud", "must be one of: error, warn, info, debug"},
    {4, STREAM "[log]\nlevel=Info", "must be one of: error, warn, info, debug"},
    {4, STREAM "[log]\nlevel=error,warn", "must be one of: error, warn, info, debug"},
    {4, STREAM "[clickhouse]\nwait_for_async_insert=yes", "must be one of: off, on"},
    {1, "[stream.a]\n", "stream.a.table is missing"},
    {2, "[stream.a]\ntable = t", "must be db.table"},
    {2, "[stream.a]\ntable = a.b.c", "must be db.table"},
    {2, "[stream.a]\ntable = .t", "must be db.table"},
    {2, "[stream.a]\ntable = d.", "must be db.table"},
    {2, "[stream.a]\ntable = d.`t", "the closing quote of a name is missing"},
    {2, "[stream.a]\ntable = `d.t`", "the dot between them is missing"},
    {2, "[stream.a]\ntable = \"d.t\"", "the dot between them is missing"},
    {2, "[stream.a]\ntable = 'd.t'", "must stand in back-quotes"},
    {2, "[stream.a]\ntable = ``.t", "a name is empty"},
    {2, "[stream.a]\ntable = d.`t`x", "a name with a dot in it"},
    {2, "[stream.a]\ntable = d.t`", "must stand in back-quotes"},
    {2, "[stream.a]\ntable = d.t\\", "must stand in back-quotes"},
    {2, "[stream.a]\ntable = d.it's", "must stand in back-quotes"},
    {2, "[stream.a]\ntable = `d`.t # new", "must stand in back-quotes"},
    {2, "[stream.a]\ntable = d.`\\x0g`", "is followed by no escape"},
    {2, "[stream.a]\ntable = d.`\\x00`", "cannot hold a NUL"},
    {2, "[stream.a]\ntable = d.`\\xff`", "must be UTF-8"},
    {3, STREAM "path = v1", "must begin with /"},
    {3, STREAM "path =", "must begin with /"},
    {3, STREAM "path = /a?b", "without ? and #"},
    {3, STREAM "path = /a#b", "without ? and #"},
    {3, STREAM "path = /a b", "visible ASCII"},
    {4, STREAM "[stream.b]\npath = /v1/a\ntable = d.t", "is the path of stream.a too"},
    {5, STREAM "preset = segment\n[stream.b]\npath = /v1/t\ntable = d.t",
     "/v1/t is the path of stream.a too, which has preset = segment"},
    {4, STREAM "preset = segment\n[stream.b]\npreset = rudderstack\ntable = d.t",
     "stream.b: /v1/batch is a path of its preset rudderstack and of stream.a too: write path = "
     "/b/* "
     "in stream.b"},
    {3, STREAM "[stream.b!]\ntable = d.t", "letters, digits, _ and -"},
    {3, STREAM "[stream.]\ntable = d.t", "letters, digits, _ and -"},
    {3, STREAM "id = a,,b", "empty field"},
    {3, STREAM "id =", "empty field"},
    {3, STREAM "id = a, b, a", "the field a is given twice"},
    {3, STREAM "id = 1,2,3,4,5,6,7,8,9", "at most 8 fields"},
    {3, STREAM "id = a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q", "at most 16 fields and alternatives"},
    {3, STREAM "id = a|", "empty field"},
    {3, STREAM "id = header:a b", "must be followed by a header's name"},
    {3, STREAM "id = header:", "must be followed by a header's name"},
    {3, STREAM "id = header:X-A, header:x-a", "the field x-a is given twice"},
    {3, STREAM "path = /a, /b, /a/", "/a is given twice"},
    {3, STREAM "path = /a*", "a * stands at the end of a path alone"},
    {3, STREAM "path = /a/*/b", "a * stands at the end of a path alone"},
    {3, STREAM "path = /1,/2,/3,/4,/5,/6,/7,/8,/9,/10,/11,/12,/13,/14,/15,/16,/17",
     "at most 16 paths"},
    {4, STREAM "[stream.b]\npath = /x, /v1/a/\ntable = d.t", "/v1/a is the path of stream.a too"},
    {3, STREAM "preset = segmant", "there is no such preset; there are segment, rudderstack"},
    {3, STREAM "missing_id = make", "must be refuse, generate or hash"},
    {3, STREAM "partial = yes", "must be off or on"},
    {3, STREAM "answer = 500 {}", "must be 200, 201, 202 or 204"},
    {3, STREAM "answer = 2000", "must be 200, 201, 202 or 204"},
    {3, STREAM "answer = 204 {}", "204 has no body"},
    {3, STREAM "answer_verbose = {}", "needs answer with a body"},
    {4, STREAM "answer = 204\nanswer_verbose = {}", "needs answer with a body"},
    {3, STREAM "proof = a\\b", "must stand in back-quotes"},
    {3, STREAM "proof = `a`b", "must be a column's name"},
    {3, STREAM "proof = ins,b", "must be a column's name: one, in back-quotes"},
    {3, STREAM "proof = ins, b", "must be a column's name: one, in back-quotes"},
    {3, STREAM "proof = `ins`, `b`", "must be a column's name: one, in back-quotes"},
    {3, STREAM "proof = ins b", "must be a column's name: one, in back-quotes"},
    {3, STREAM "proof = t.ins", "must be a column's name: one, in back-quotes"},
    {3, STREAM "proof = lower(ins)", "must be a column's name: one, in back-quotes"},
    {3, STREAM "proof = (ins)", "a name is empty"},
    {3, STREAM "proof = ``", "a name is empty"},
    {3, STREAM "proof = event_id", "nothing but its DEFAULT fills"},
    {3, STREAM "proof = `event_id`", "nothing but its DEFAULT fills"},
    {4, STREAM "column.ins = path\nproof = ins", "neither a field of the id nor column.ins"},
    {3, STREAM "column_conflict = both", "must be refuse or event"},
    {3, STREAM "column. = path", "a name is empty"},
    {3, STREAM "column.a\\b = path", "must stand in back-quotes"},
    {3, STREAM "column.`a`b = path", "text behind the closing quote"},
    {3, STREAM "column.`a = path", "expected [section] or key = value"},
    {4, STREAM "column.`a` = path\ncolumn.a = path", "column.a is given twice"},
    {3, STREAM "column.a = paths", "must be received_at, client_address"},
    {3, STREAM "column.a = query:", "must be received_at, client_address"},
    {3, STREAM "column.a = header:(", "must be followed by a header's name"},
    {3, STREAM "column.a = envelope:sentAt", "needs events, the member whose array"},
    {4, STREAM "events = batch\ncolumn.a = envelope:batch", "the array of the events itself"},
    {4, STREAM "events = batch\ncolumn.a = envelope:", "must be received_at, client_address"},
    {3, STREAM "key_member = a,,b", "empty member"},
    {3, STREAM "key_member = 1,2,3,4,5,6,7,8,9", "at most 8 members"},
    {4, STREAM "column.a = path\ncolumn.a = key",
     "column.a is given twice; the first is on line 3"},
    {3, STREAM "ttl = 10ms", "must be 1s to 8760h"},
    {4, STREAM "[server]\nlisten = 8080", "port is missing"},
    {4, STREAM "[server]\nlisten = :8080", "host is missing (0.0.0.0"},
    {4, STREAM "[server]\nlisten = ::1:80", "needs brackets"},
    {4, STREAM "[server]\nlisten = [::1", "closing ]"},
    {4, STREAM "[server]\nlisten = [::g]:80", "no IPv6 address"},
    {4, STREAM "[server]\nlisten = [::1]80", "only :port"},
    {4, STREAM "[server]\nlisten = h:0", "1 to 65535"},
    {4, STREAM "[server]\nlisten = h:65536", "1 to 65535"},
    {4, STREAM "[server]\nlisten = h:", "1 to 65535"},
    {4, STREAM "[server]\nlisten = a b:80", "neither a name nor an address"},
    {4, STREAM "[server]\nlisten = unix:x", "must begin with /"},
    {4, STREAM "[server]\nlisten =", "an address is missing"},
    {4, STREAM "[server]\nlisten = h:80,", "an address is missing"},
    {4, STREAM "[server]\nlisten = h:80, h:80", "given twice"},
    {4, STREAM "[admin]\nlisten = 127.0.0.1:8080", "have an address in common"},
    {6, STREAM "[server]\nlisten = 0.0.0.0:81\n[admin]\nlisten = 127.0.0.1:81", "in common"},
    {6, STREAM "[server]\nlisten = [::]:81\n[admin]\nlisten = localhost:81", "in common"},
    {6, STREAM "[server]\nlisten = 127.0.0.1:81\n[admin]\nlisten = localhost:81", "in common"},
    {4, STREAM "[server]\nmax_body=1GiB", "larger than server.max_buffers"},
    {4, STREAM "[redis]\nurl = localhost:6379", "must begin with redis://"},
    {4, STREAM "[redis]\nurl = rediss://h?ca=x", "ssl_ca_certs=FILE"},
    {4, STREAM "[redis]\nurl = redis://", "host is missing\n"},
    {4, STREAM "[redis]\nurl = redis://h:x", "1 to 65535"},
    {4, STREAM "[redis]\nurl = redis://h/db", "only /number"},
    {4, STREAM "[redis]\nurl = redis://secret@h", "credentials must be"},
    {4, STREAM "[redis]\nurl = redis://u:a%4@h", "special characters must be written as %XX"},
    {4, STREAM "[redis]\nurl = unix://x", "must begin with /"},
    {4, STREAM "[redis]\nurl = unix:///x?db=a", "only ?db=number"},
    {4, STREAM "[clickhouse]\nurl = localhost:8123", "must begin with http://"},
    {4, STREAM "[clickhouse]\nurl =", "must begin with http://"},
    {4, STREAM "[clickhouse]\nurl = discard:x", "must begin with http://"},
    {4, STREAM "[clickhouse]\nurl = http://h/?a=b", "? or #"},
    {4, STREAM "[clickhouse]\nurl = https://:1", "host is missing"},
    {4, STREAM "[clickhouse]\nurl = http://u:p@h\nuser = v", "refuses both"},
    {4, STREAM "[clickhouse]\nurl = http://h,http://u:p@i\nuser = v", "refuses both"},
    {4, STREAM "[clickhouse]\nurl = http://h,", "an endpoint of the list is empty"},
    {4, STREAM "[clickhouse]\nurl = http://h,,http://i", "an endpoint of the list is empty"},
    {4, STREAM "[clickhouse]\nurl = http://h:1,i:2", "every endpoint of a list begins with http"},
    {4, STREAM "[clickhouse]\nurl = http://h,discard:", "every endpoint of a list begins"},
    {4, STREAM "[clickhouse]\nurl = http://h,http://u@H/", "an endpoint is there twice"},
    {4, STREAM "[clickhouse]\nurl = http://h,https://i:0", "the port must be"},
    {4, STREAM "[clickhouse]\nurl = http://h,http://H:80/", "an endpoint is there twice"},
    {4, STREAM "[clickhouse]\nurl = http://h,http://i,http://u:p@h:8123", "there twice"},
    {4, STREAM "[clickhouse]\nurl = http://h:8123|http://h", "an endpoint is there twice"},
    {4, STREAM "[clickhouse]\nurl = https://h/x,https://h:443/x/", "an endpoint is there twice"},
    {4, STREAM "[clickhouse]\nurl = http://h|http://i|http://h/", "an endpoint is there twice"},
    {4, STREAM "[clickhouse]\nurl = http://h||http://i", "an endpoint of the list is empty"},
    {5, STREAM "[clickhouse]\npassword = p\npassword_file = /proc/version", "both given"},
    {4, STREAM "[clickhouse]\npassword_file = /nonexistent/p", "No such file"},
    {4, STREAM "[clickhouse]\npassword_file = /dev/null", "first line must be 1 to 1024"},
    {4, STREAM "[clickhouse]\npassword_file = /", "Is a directory"},
    {4, STREAM "[clickhouse]\nretry_min = 11s", "retry_min is longer"},
    {4, STREAM "[clickhouse]\nretry_max = 99ms", "retry_min is longer"},
    {4, STREAM "[clickhouse]\nsetting.a-b = 1", "letters, digits and _"},
    {4, STREAM "[clickhouse]\nsetting. = 1", "letters, digits and _"},
    {4, STREAM "[clickhouse]\nsetting.async_insert = 1", "use the key async_insert"},
    {4, STREAM "[clickhouse]\nsetting.wait_for_async_insert = 1", "use the key"},
    {4, STREAM "[clickhouse]\nsetting.insert_deduplication_token = x", "cannot be set"},
    {4, STREAM "[clickhouse]\nsetting.deduplicate_insert = x", "cannot be set"},
    {4, STREAM "[clickhouse]\nsetting.async_insert_deduplicate = 0", "cannot be set"},
    {4, STREAM "[clickhouse]\nsetting.input_format_allow_errors_num = 1", "silently"},
    {4, STREAM "[clickhouse]\nsetting.max_insert_block_size = 1", "one block"},
    {4, STREAM "[clickhouse]\nsetting.min_insert_block_size_rows = 1", "one block"},
    {4, STREAM "[clickhouse]\nsetting.min_insert_block_size_bytes = 1", "one block"},
    {4, STREAM "[clickhouse]\nsetting.input_format_parallel_parsing = 1", "one block"},
    {4, STREAM "[clickhouse]\nsetting.max_insert_delayed_streams_for_parallel_write = 0",
     "partitions"},
    {4, STREAM "[clickhouse]\nsetting.wait_end_of_query = 0", "cannot be set"},
    {4, STREAM "[clickhouse]\nsetting.input_format_allow_errors_ratio = 1", "silently"},
    {4, STREAM "[clickhouse]\nsetting.send_progress_in_http_headers = 1", "cannot be set"},
    {4, STREAM "[clickhouse]\nsetting.query = 1", "cannot be set"},
    {4, STREAM "[clickhouse]\nsetting.database = 1", "cannot be set"},
    {4, STREAM "[journal]\nmax_bytes = 128MiB\n[server]\nthreads = 2", "at least 192MiB"},
    {4, STREAM "[journal]\ndir =", "journal.dir is empty"},
    {4, STREAM "[dead_letter]\ndir =", "dead_letter.dir is empty"},
    {3, STREAM "nonsense", "expected [section] or key = value"},
    {3, STREAM "[server", "closing ]"},
    {4, STREAM "[redis]\nkey_prefix = a\001b", "control characters"},
};

static void each_mistake_is_told_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
        char place[128];

        if (wrongs[i].line > 0)
            snprintf(place, sizeof(place), "%s:%d: ", path, wrongs[i].line);
        else
            snprintf(place, sizeof(place), "%s: ", path);
        assert_null(load(wrongs[i].text));
        if (strncmp(problems, place, strlen(place)) != 0 ||
            strstr(problems, wrongs[i].message) == NULL)
            fail_msg("case %zu: expected %s...%s, got %s", i, place, wrongs[i].message, problems);
        if (strchr(problems, '\n') != problems + strlen(problems) - 1)
            fail_msg("case %zu: one problem expected, got %s", i, problems);
    }
}

static void all_mistakes_are_told_in_one_run(void **state)
{
    const char *overrides[] = {"log.level=x", "nonsense", "a.b=c", "clickhouse.password=a\nb"};
    size_t lines = 0;

    (void)state;
    assert_null(load_with("[server]\nthreads = many\nfoo = 1\n[x]\ny = 1\n[ring\n", overrides,
                          ARRAY_LEN(overrides), CPUS));
    for (const char *at = problems; *at != '\0'; at++)
        lines += *at == '\n';
    assert_int_equal(lines, 9);
    assert_non_null(strstr(problems, "\n--set log.level=x: log.level = x: must be one of"));
    assert_non_null(strstr(problems, "\n--set nonsense: must be SECTION.KEY=VALUE\n"));
    assert_non_null(strstr(problems, "\n--set a.b=c: unknown section [a]\n"));
    assert_non_null(strstr(problems, "\n--set clickhouse.password=********: "));
}

static void an_unreadable_file_is_named(void **state)
{
    FILE *out = fmemopen(problems, sizeof(problems), "w");

    (void)state;
    memset(problems, 0, sizeof(problems));
    assert_null(config_load("/nonexistent/a.ini", NULL, 0, 1, out));
    fclose(out);
    assert_string_equal(problems,
                        "/nonexistent/a.ini: cannot be read: No such file or directory\n");
}

static void more_than_64_streams_or_settings_are_refused(void **state)
{
    static char text[1 << 14];

    (void)state;
    for (int count = CONFIG_STREAMS_MAX; count <= CONFIG_STREAMS_MAX + 1; count++) {
        struct config *config;
        char *at = text;

        at += sprintf(at, "[clickhouse]\n");
        for (int i = 0; i < CONFIG_SETTINGS_MAX; i++)
            at += sprintf(at, "setting.s%d = 1\n", i);
        for (int i = 0; i < count; i++)
            at += sprintf(at, "[stream.s%d]\ntable = d.t\n", i);
        config = load(text);
        if (count == CONFIG_STREAMS_MAX)
            assert_int_equal(config->stream_count, CONFIG_STREAMS_MAX);
        else
            assert_non_null(strstr(problems, "[stream.s64]: there can be at most 64 streams"));
        config_destroy(config);
    }
    strcat(text, "[clickhouse]\nsetting.more = 1\n");
    assert_null(load(text));
    assert_non_null(strstr(problems, "there can be at most 64 settings"));
}

/* ---- right ones ---- */

static void defaults_are_as_promised(void **state)
{
    struct config *config = must_load(STREAM);

    (void)state;
    assert_string_equal(config->streams[0].name, "a");
    assert_string_equal(config->streams[0].paths[0], "/v1/a");
    assert_string_equal(config->streams[0].database, "d");
    assert_string_equal(config->streams[0].table, "t");
    assert_int_equal(config->streams[0].id_count, 1);
    assert_string_equal(config->streams[0].ids[0].name, "event_id");
    assert_int_equal(config->streams[0].ttl_ms, 24 * 3600 * 1000);
    assert_int_equal(config->server_threads, CPUS);
    assert_int_equal(config->worker_threads, CPUS / 2);
    assert_int_equal(config->journal_max_bytes_bytes, 8ull << 30);
    assert_int_equal(config->server_address_count, 1);
    assert_string_equal(config->server_addresses[0].host, "127.0.0.1");
    assert_string_equal(config->server_addresses[0].port, "8080");
    assert_true(config->clickhouse_wait_for_async_insert);
    assert_int_equal(config->clickhouse_async_insert, CONFIG_ASYNC_AUTO);
    assert_int_equal(config->redis_on_failure, CONFIG_REDIS_PASS);
    assert_int_equal(config->journal_sync, CONFIG_SYNC_INTERVAL);
    assert_string_equal(config->clickhouse_password_resolved, "");
    config_destroy(config);
}

static void auto_follows_cpus_mode_and_segment(void **state)
{
    struct config *config;

    (void)state;
    config = load_with(STREAM, NULL, 0, 1);
    assert_int_equal(config->server_threads, 1);
    assert_int_equal(config->worker_threads, 1);
    config_destroy(config);
    config = load_with(STREAM, NULL, 0, 100);
    assert_int_equal(config->server_threads, 16);
    assert_int_equal(config->worker_threads, 16);
    config_destroy(config);
    config = load_with(STREAM "[journal]\nmode = memory", NULL, 0, 2);
    assert_int_equal(config->journal_max_bytes_bytes, 512ull << 20);
    config_destroy(config);
    /* auto never contradicts the other keys */
    config = load_with(STREAM "[journal]\nmode = memory\nsegment = 1GiB", NULL, 0, 2);
    assert_int_equal(config->journal_max_bytes_bytes, 3ull << 30);
    config_destroy(config);
    /* nor what the kernel maps */
    config = load_with(STREAM "[journal]\nsegment = 64KiB", NULL, 0, 2);
    assert_in_range(config->journal_max_bytes_bytes, 1, 8ull << 30);
    config_destroy(config);
}

static void addresses_of_every_kind_are_read(void **state)
{
    struct config *config = must_load(
        STREAM "[server]\nlisten = localhost:80, [::1]:81 ,unix:/run/a.sock\n[admin]\nlisten =\n");

    (void)state;
    assert_int_equal(config->server_address_count, 3);
    assert_string_equal(config->server_addresses[0].host, "localhost");
    assert_string_equal(config->server_addresses[1].host, "::1");
    assert_string_equal(config->server_addresses[1].port, "81");
    assert_int_equal(config->server_addresses[2].kind, CONFIG_ADDRESS_UNIX);
    assert_string_equal(config->server_addresses[2].host, "/run/a.sock");
    assert_int_equal(config->admin_address_count, 0);
    config_destroy(config);
}

static void redis_urls_of_every_form_are_taken(void **state)
{
    static const char *const urls[] = {"",
                                       "redis://h",
                                       "redis://h/",
                                       "redis://[::1]:6379/15",
                                       "redis://:p@h",
                                       "redis://u:p%40@h:1/2",
                                       "rediss://u:p@h/1?ssl_ca_certs=/dev/null",
                                       "redis-sentinel://:p@a:26379,b/mymaster/2",
                                       "unix:///run/redis.sock",
                                       "unix://u:p@/run/redis.sock?db=3"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        char text[256];

        snprintf(text, sizeof(text), STREAM "[redis]\nurl = %s\n", urls[i]);
        config_destroy(must_load(text));
    }
}

static void overrides_win_and_the_last_one_counts(void **state)
{
    const char *overrides[] = {
        "ring.capacity=7",    "ring.capacity=8",        "stream.a.path=/other",
        "stream.b.table=x.y", "clickhouse.setting.s=1", "clickhouse.setting.s=2",
        "redis.url=",         "stream.a.id= p , q "};
    struct config *config =
        load_with(STREAM "[ring]\ncapacity=5", overrides, ARRAY_LEN(overrides), CPUS);

    (void)state;
    assert_string_equal(problems, "");
    assert_int_equal(config->ring_capacity, 8);
    assert_string_equal(config->streams[0].paths[0], "/other");
    assert_string_equal(config->streams[0].ids[1].name, "q");
    assert_string_equal(config->streams[1].table, "y");
    assert_int_equal(config->setting_count, 1);
    assert_string_equal(config->settings[0].value, "2");
    assert_string_equal(config->redis_url, "");
    config_destroy(config);
}

static void a_password_file_gives_its_first_line(void **state)
{
    char file[] = "/tmp/alloy-test-password-XXXXXX";
    const char *overrides[1];
    char override[128];
    struct config *config;
    int fd = mkstemp(file);

    (void)state;
    assert_int_equal(write(fd, "s3 cret;\r\nmore\n", 15), 15);
    close(fd);
    snprintf(override, sizeof(override), "clickhouse.password_file=%s", file);
    overrides[0] = override;
    config = load_with(STREAM, overrides, 1, CPUS);
    assert_string_equal(config->clickhouse_password_resolved, "s3 cret;");
    config_destroy(config);
    unlink(file);
}

/* ---- every row of config_keys.def ---- */

/* What has to move along, so that a key's bound contradicts no other key. */
static size_t companions(const char *section, const char *key, const char **overrides)
{
    size_t count = 0;

    if (strcmp(key, "max_body") == 0)
        overrides[count++] = "server.max_buffers=1GiB";
    if (strcmp(key, "max_buffers") == 0)
        overrides[count++] = "server.max_body=1KiB";
    if (strcmp(key, "retry_min") == 0)
        overrides[count++] = "clickhouse.retry_max=1h";
    if (strcmp(key, "retry_max") == 0)
        overrides[count++] = "clickhouse.retry_min=1ms";
    if (strcmp(section, "journal") == 0 && strcmp(key, "max_bytes") == 0) {
        overrides[count++] = "journal.segment=64KiB";
        overrides[count++] = "server.threads=1";
    }
    return count;
}

static void try_value(const char *section, const char *key, const char *value, bool good)
{
    const char *overrides[4];
    size_t count = companions(section, key, overrides);
    char override[256];
    struct config *config;

    snprintf(override, sizeof(override), "%s.%s=%s", section, key, value);
    overrides[count++] = override;
    config = load_with(STREAM, overrides, count, CPUS);
    /* How many segments a machine can map is not the key's bound. */
    if (config == NULL && strcmp(key, "max_bytes") == 0 && strstr(problems, "vm.max_map_count"))
        return;
    if ((config != NULL) != good)
        fail_msg("%s: expected to be %s: %s", override, good ? "taken" : "refused", problems);
    config_destroy(config);
}

static void try_bounds(const char *section, const char *key, const char *unit,
                       const uint64_t bounds[2])
{
    char value[64];

    for (int above = 0; above <= 1; above++) {
        snprintf(value, sizeof(value), "%" PRIu64 "%s", bounds[above], unit);
        try_value(section, key, value, true);
        snprintf(value, sizeof(value), "%" PRIu64 "%s", bounds[above] + (above ? 1 : UINT64_MAX),
                 unit);
        if (above || bounds[above] > 0)
            try_value(section, key, value, false);
    }
    try_value(section, key, "", false);
    try_value(section, key, "auto1", false);
}

static void every_key_takes_its_default_and_bounds_and_nothing_beyond(void **state)
{
    (void)state;
#define BOUNDS(section, key, default_text, min, max, unit) \
    try_value(#section, #key, default_text, true);         \
    try_bounds(#section, #key, unit, (const uint64_t[2]){min, max});
#define KEY_STR(section, key, default_text, reload, help) \
    try_value(#section, #key, default_text, true);
#define KEY_UINT(section, key, default_text, min, max, reload, help) \
    BOUNDS(section, key, default_text, min, max, "")
#define KEY_AUTO(section, key, min, max, reload, help) BOUNDS(section, key, "auto", min, max, "")
#define KEY_SIZE(section, key, default_text, min, max, reload, help) \
    BOUNDS(section, key, default_text, min, max, "B")
#define KEY_AUTO_SIZE(section, key, min, max, reload, help) \
    BOUNDS(section, key, "auto", min, max, "B")
#define KEY_MSEC(section, key, default_text, min, max, reload, help) \
    BOUNDS(section, key, default_text, min, max, "ms")
#define KEY_BOOL(section, key, default_text, reload, help) \
    try_value(#section, #key, default_text, true);         \
    try_value(#section, #key, "on", true);                 \
    try_value(#section, #key, "off", true);                \
    try_value(#section, #key, "1", false);
#define KEY_ENUM(section, key, default_text, words, reload, help) \
    try_value(#section, #key, default_text, true);                \
    try_value(#section, #key, words, false);                      \
    try_value(#section, #key, "", false);
#include "alloy/config_keys.def"
    try_value("drain", "timeout", "0", true);
}

/* ---- dump ---- */

static void a_dump_reads_back_to_the_same_dump(void **state)
{
    struct config *config = must_load(
        STREAM
        "id = x, y\nttl = 90s\n[server]\nthreads = 3\nlisten = h:1, [::]:2\n[redis]\n"
        "url = redis://u:geheim@h:1/2\n[clickhouse]\nurl = https://u:geheim@h/p\n"
        "setting.z = a = b;c\nsetting.empty =\n[journal]\nmode = memory\n"
        "[stream.b]\ntable = e.f\npath = /x\nevents = batch\nid = /a/b|header:X-Y, z\n"
        "missing_id = hash\npartial = on\nanswer = 200 {\"a\": 1}\nanswer_verbose = "
        "{}\ncolumn.h = header:X-Z\ncolumn.e = envelope:/a/b\nkey_member = k, /p/t\n"
        "column_conflict = event\nproof = `a=b`\n[stream.c]\ntable = e.f\npreset = shopify\n");
    char *first = dump(config);
    char *second;

    (void)state;
    config_destroy(config);
    assert_null(strstr(first, "geheim"));
    assert_non_null(strstr(first, "\nurl = redis://u:********@h:1/2\n"));
    assert_non_null(strstr(first, "\nurl = https://u:********@h/p\n"));
    assert_non_null(strstr(first, "\nsetting.z = a = b;c\n"));
    assert_non_null(strstr(first, "\nid = x, y\nmissing_id = refuse\n"));
    config = must_load(first);
    second = dump(config);
    config_destroy(config);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

static void a_dump_hides_the_password_and_reads_back(void **state)
{
    struct config *config = must_load(STREAM "[clickhouse]\npassword = geheim\n");
    char *text = dump(config);

    (void)state;
    config_destroy(config);
    assert_null(strstr(text, "geheim"));
    assert_non_null(strstr(text, "\n; password = (set, not shown)\n"));
    config_destroy(must_load(text));
    free(text);
}

/* ---- names ---- */

struct spelling {
    const char *text;
    const char *database;
    const char *table;
    const char *dumped; /* NULL: as text */
};

static const struct spelling spellings[] = {
    {"my-db.events", "my-db", "events", NULL},
    {"größe.событие", "größe", "событие", NULL},
    {"2024.1", "2024", "1", NULL},
    {"`my.db`.t", "my.db", "t", NULL},
    {"\"my.db\".\"t\"", "my.db", "t", "`my.db`.t"},
    {"`d`.`t`", "d", "t", "d.t"},
    {"`d` . `t`", "d", "t", "d.t"},
    {"my db.my events", "my db", "my events", "`my db`.`my events`"},
    {"d.`it's \"so\"`", "d", "it's \"so\"", NULL},
    {"d.`a``b`", "d", "a`b", "d.`a\\`b`"},
    {"d.`a\\`b\\\\c`", "d", "a`b\\c", NULL},
    {"d.`a\\q`", "d", "a\\q", "d.`a\\\\q`"},
    {"d.`a\\x3bb`", "d", "a;b", NULL},
    {"d.`a;b # c=d`", "d", "a;b # c=d", "d.`a\\x3bb \\x23 c\\x3dd`"},
    {"d.`\\n\\t\\x7f`", "d", "\n\t\x7f", "d.`\\x0a\\x09\\x7f`"},
    {"d.`) VALUES (1) --`", "d", ") VALUES (1) --", NULL},
    {"d.$${x}", "d", "${x}", "d.`\\x24{x}`"},
};

static void names_of_tables_are_read_as_clickhouse_reads_them_and_dumped(void **state)
{
    char text[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(spellings); i++) {
        const struct spelling *spelling = &spellings[i];
        const char *dumped = spelling->dumped != NULL ? spelling->dumped : spelling->text;

        for (int again = 0; again < 2; again++) {
            struct config *config;
            char *all;

            snprintf(text, sizeof(text), "[stream.a]\ntable = %s\n",
                     again ? dumped : spelling->text);
            config = must_load(text);
            assert_string_equal(config->streams[0].database, spelling->database);
            assert_string_equal(config->streams[0].table, spelling->table);
            assert_string_equal(config->streams[0].table_text, dumped);
            all = dump(config);
            snprintf(text, sizeof(text), "\ntable = %s\n", dumped);
            assert_non_null(strstr(all, text));
            free(all);
            config_destroy(config);
        }
    }
}

static void names_of_columns_may_hold_anything_in_back_quotes(void **state)
{
    const char *const overrides[] = {"stream.a.column.`x=y`=key"};
    struct config *config = load_with(
        STREAM "column.my-col = path\ncolumn.n.a = path\ncolumn.größe=path\n"
               "column.`a=b: \\`c\\\\` : path ; and a comment\ncolumn.`say \"hi\";`= path\n"
               "column.\"tab\\t\" = path\n",
        overrides, 1, CPUS);
    const struct config_column *columns = config->streams[0].columns;
    char *first = dump(config), *second;

    (void)state;
    assert_int_equal(config->streams[0].column_count, 7);
    assert_string_equal(columns[0].member, "\"my-col\":");
    assert_string_equal(columns[1].name, "n.a");
    assert_string_equal(columns[2].member, "\"größe\":");
    assert_string_equal(columns[3].name, "a=b: `c\\");
    assert_string_equal(columns[3].member, "\"a=b: `c\\\\\":");
    assert_string_equal(columns[4].member, "\"say \\\"hi\\\";\":");
    assert_string_equal(columns[5].member, "\"tab\\u0009\":");
    assert_string_equal(columns[6].name, "x=y");
    config_destroy(config);
    config = must_load(first);
    second = dump(config);
    assert_string_equal(first, second);
    assert_string_equal(config->streams[0].columns[3].name, "a=b: `c\\");
    config_destroy(config);
    free(first);
    free(second);
}

/* ---- reload ---- */

#define RELOAD_BEFORE                                                                       \
    "[stream.a]\ntable=d.t\n[stream.b]\ntable=d.u\nid=x\n[redis]\nkey_prefix = p\nttl=1h\n" \
    "[clickhouse]\nsetting.gone=1\nsetting.same=1\nsetting.new=1\n"
#define RELOAD_AFTER                                                                      \
    "[stream.c]\ntable=d.t\n[stream.b]\ntable=e.u\npath=/q\nid=y\nttl=5s\n[redis]\n"      \
    "key_prefix=q\nttl=2h\n[clickhouse]\nsetting.same=1\nsetting.new=2\nsetting.more=1\n" \
    "max_inflight=9\n[log]\nlevel=debug\n[server]\nlisten = h:1\n"

static void compare_names_every_difference(void **state)
{
    struct config *before = must_load(RELOAD_BEFORE);
    struct config *after = must_load(RELOAD_AFTER);
    char changes[CHANGES_MAX] = "";

    (void)state;
    config_compare(before, before, note_change, changes);
    assert_string_equal(changes, "");
    config_compare(before, after, note_change, changes);
    assert_string_equal(changes,
                        "server.listen! redis.ttl redis.key_prefix! clickhouse.max_inflight "
                        "log.level clickhouse.setting.gone! clickhouse.setting.new! "
                        "clickhouse.setting.more! stream.a stream.b.path stream.b.table "
                        "stream.b.id stream.b.ttl stream.c ");
    config_destroy(before);
    config_destroy(after);
}

static void publish_keeps_what_takes_a_restart(void **state)
{
    struct config_ref ref = {NULL};
    struct config *first = must_load(RELOAD_BEFORE);
    const struct config *now;
    char changes[CHANGES_MAX] = "";

    (void)state;
    config_publish(&ref, first);
    assert_ptr_equal(config_current(&ref), first);
    config_publish(&ref, must_load(RELOAD_AFTER));
    config_publish(&ref, must_load(RELOAD_AFTER));
    now = config_current(&ref);
    assert_ptr_not_equal(now, first);
    config_compare(first, now, note_change, changes);
    assert_string_equal(changes,
                        "redis.ttl clickhouse.max_inflight log.level stream.a.path stream.b.path "
                        "stream.b.table stream.b.id stream.b.ttl stream.c ");
    /* A stream keeps its number, also when it is removed and when it comes back. */
    assert_true(now->streams[0].removed && !now->streams[1].removed);
    assert_string_equal(now->streams[1].table_text, "e.u");
    assert_int_equal(now->stream_count, 3);
    assert_string_equal(now->streams[2].name, "c");
    config_publish(&ref, must_load(RELOAD_BEFORE));
    now = config_current(&ref);
    assert_true(!now->streams[0].removed && now->streams[0].path_count == 1);
    config_publish(&ref, must_load(RELOAD_AFTER));
    now = config_current(&ref);
    assert_int_equal(now->redis_ttl_ms, 7200000);
    assert_int_equal(now->streams[0].ttl_ms, 3600000);
    assert_int_equal(now->streams[1].ttl_ms, 5000);
    assert_string_equal(now->redis_key_prefix, "p");
    assert_string_equal(now->server_addresses[0].host, "127.0.0.1");
    config_destroy(atomic_load(&ref.current));
}

static void a_preset_gives_what_the_section_does_not(void **state)
{
    struct config *config;

    (void)state;
    config = must_load(STREAM "preset = segment\npath = /s/*\nanswer =\ncolumn.at = received_at\n"
                              "[stream.b]\ntable = d.u\npreset = cloudevents\ncolumn.id = query:i\n"
                              "[stream.c]\ntable = d.u\npreset = mixpanel\n"
                              "[stream.d]\ntable = d.u\npreset = mixpanel\npath = /d\nanswer =\n");
    assert_int_equal(config->streams[0].path_count, 1);
    assert_string_equal(config->streams[0].paths[0], "/s/*");
    assert_string_equal(config->streams[0].events, "batch");
    assert_string_equal(config->streams[0].ids[0].name, "messageId");
    assert_int_equal(config->streams[0].answer_status, 0);
    assert_int_equal(config->streams[0].column_count, 1);
    assert_int_equal(config->streams[1].id_count, 4);
    assert_int_equal(config->streams[1].ids[0].kind, CONFIG_ID_PERCENT);
    assert_string_equal(config->streams[1].ids[2].name, "ce-id");
    assert_int_equal(config->streams[1].ids[2].field, 1);
    assert_int_equal(config->streams[1].ids[3].field, 1);
    assert_int_equal(config->streams[1].column_count, 6);
    assert_int_equal(config->streams[1].columns[0].kind, CONFIG_COLUMN_QUERY);
    assert_true(config->streams[1].column_yields);
    assert_string_equal(config->streams[2].answer, "1");
    assert_string_equal(config->streams[2].answer_verbose, "{\"status\":1}");
    assert_null(config->streams[3].answer);
    assert_null(config->streams[3].answer_verbose);
    assert_int_equal(config->streams[0].key_member_count, 1);
    assert_string_equal(config->streams[0].key_members[0], "writeKey");
    assert_int_equal(config->streams[1].key_member_count, 0);
    assert_string_equal(config->streams[2].key_members[0], "/properties/token");
    config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_is_told_with_its_line),
        cmocka_unit_test(all_mistakes_are_told_in_one_run),
        cmocka_unit_test(an_unreadable_file_is_named),
        cmocka_unit_test(more_than_64_streams_or_settings_are_refused),
        cmocka_unit_test(defaults_are_as_promised),
        cmocka_unit_test(auto_follows_cpus_mode_and_segment),
        cmocka_unit_test(addresses_of_every_kind_are_read),
        cmocka_unit_test(redis_urls_of_every_form_are_taken),
        cmocka_unit_test(overrides_win_and_the_last_one_counts),
        cmocka_unit_test(a_password_file_gives_its_first_line),
        cmocka_unit_test(every_key_takes_its_default_and_bounds_and_nothing_beyond),
        cmocka_unit_test(a_preset_gives_what_the_section_does_not),
        cmocka_unit_test(a_dump_reads_back_to_the_same_dump),
        cmocka_unit_test(a_dump_hides_the_password_and_reads_back),
        cmocka_unit_test(names_of_tables_are_read_as_clickhouse_reads_them_and_dumped),
        cmocka_unit_test(names_of_columns_may_hold_anything_in_back_quotes),
        cmocka_unit_test(compare_names_every_difference),
        cmocka_unit_test(publish_keeps_what_takes_a_restart),
    };

    return cmocka_run_group_tests(tests, make_path, remove_path);
}
