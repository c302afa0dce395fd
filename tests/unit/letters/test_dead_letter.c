/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_dead_letter.c - lines, escapes, limits and torn tails, in a temporary folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/dead_letter.h"
#include "alloy/letters_key.h"

#define REAL_MS 1769860800123ull /* 2026-01-31T12:00:00.123Z */

static uint64_t real_ms;
static const struct voucher_key *replay_key;
static int syncs;        /* since the test began */
static int sync_to_fail; /* the n-th; 0: none */

/* In place of libc's: the disk of these tests. */
int fdatasync(int fd)
{
    (void)fd;
    if (++syncs != sync_to_fail)
        return 0;
    errno = EIO;
    return -1;
}

struct world {
    struct dead_letter *dead_letter;
    char dir[64];
    char deep[96];
};

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    real_ms = REAL_MS;
    syncs = sync_to_fail = 0;
    snprintf(world->dir, sizeof(world->dir), "/tmp/test_dead_letter.XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    snprintf(world->deep, sizeof(world->deep), "%s/x/y", world->dir);
    assert_int_equal(dead_letter_open(&world->dead_letter, world->deep), 0);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    DIR *dir = opendir(world->deep);
    struct dirent *entry;
    char path[128];

    dead_letter_close(world->dead_letter);
    while ((entry = readdir(dir)) != NULL)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(world->deep);
    snprintf(path, sizeof(path), "%s/x", world->dir);
    rmdir(path);
    rmdir(world->dir);
    free(world);
    return 0;
}

static struct record *make_record(const char *text)
{
    size_t len = strlen(text);
    struct record *record = calloc(1, sizeof(*record) + len + 1);

    record->lsn = 0x7000020a8;
    record->body_length = (uint32_t)len + 1;
    memcpy(record->body, text, len);
    record->body[len] = '\n';
    return record;
}

static struct dead_letter_line line_of(const char *stream, const char *message, const char *event)
{
    return (struct dead_letter_line){.record = make_record(event),
                                     .stream = stream,
                                     .code = 27,
                                     .message = {message, strlen(message)}};
}

/* Writes lines and frees their records. */
static int write_lines(struct world *world, struct dead_letter_line *lines, size_t n,
                       uint64_t max_bytes)
{
    const struct dead_letter_order order = {real_ms, 0xab, max_bytes, replay_key};
    int err = dead_letter_write_lines(world->dead_letter, lines, n, &order);

    for (size_t i = 0; i < n; i++)
        free(lines[i].record);
    return err;
}

static int write_one(struct world *world, const char *stream, const char *message,
                     const char *event, uint64_t max_bytes)
{
    struct dead_letter_line line = line_of(stream, message, event);
    int err = write_lines(world, &line, 1, max_bytes);

    assert_int_equal(line.err, err);
    return err;
}

/* Text of the file called name; "" when there is none. */
static char *text_of(struct world *world, const char *name)
{
    char path[256];
    char *text = calloc(1, 65536);
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", world->deep, name);
    file = fopen(path, "r");
    if (file != NULL) {
        assert_true(fread(text, 1, 65535, file) < 65535);
        fclose(file);
    }
    return text;
}

#define FILE_1 "a-20260131T120000Z-1.ndjson"

static void assert_text(struct world *world, const char *name, const char *expected)
{
    char *text = text_of(world, name);

    assert_string_equal(text, expected);
    free(text);
}

static void a_line_says_when_where_why_and_what(void **state)
{
    struct world *world = *state;

    assert_int_equal(write_one(world, "a", "no good", "{\"event_id\":\"1\"}", 4096), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 4096), 0);
    assert_text(world, FILE_1,
                "{\"time\":\"2026-01-31T12:00:00.123Z\","
                "\"lsn\":\"00000000000000ab00000007000020a8\",\"stream\":\"a\",\"code\":27,"
                "\"message\":\"no good\",\"event\":{\"event_id\":\"1\"}}\n"
                "{\"time\":\"2026-01-31T12:00:00.123Z\","
                "\"lsn\":\"00000000000000ab00000007000020a8\",\"stream\":\"a\",\"code\":27,"
                "\"message\":\"\",\"event\":{}}\n");
}

/* A record with columns and an id behind its event, as the journal has it. */
static struct record *make_full_record(const char *columns, const char *rest, struct slice id)
{
    char text[512];
    struct record *record;
    size_t len = (size_t)snprintf(text, sizeof(text), "{%s%s", columns, rest);

    record = calloc(1, sizeof(*record) + len + 1 + id.len);
    record->columns_length = (uint16_t)strlen(columns);
    record->body_length = (uint32_t)len + 1;
    memcpy(record->body, text, len);
    record->body[len] = '\n';
    record->id_offset = record->body_length;
    record->id_length = (uint16_t)id.len;
    memcpy(record->body + record->id_offset, id.data, id.len);
    return record;
}

static void a_line_tells_what_came_with_the_request(void **state)
{
    static const struct voucher_key key = {{9}};
    struct world *world = *state;
    struct dead_letter_line lines[4];
    struct voucher_key read;
    char *text;
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        lines[i] = (struct dead_letter_line){.stream = "a", .tell_id = i != 3};
    lines[0].record = make_full_record("\"c\":\"{\\\"\",\"d\":[1,\n2],", "\"v\":1}",
                                       (struct slice){"q\"\xc3\xa9\0", 5});
    lines[1].record = make_full_record("\"c\":1", " }", (struct slice){"\xff!", 2});
    lines[2].record = make_full_record("", "\"id\":\"x\"}", (struct slice){"", 0});
    lines[2].record->id_offset = 7; /* the event has it */
    lines[3].record = make_full_record("", "\"a\":1,\"b\":2}", (struct slice){"1:2", 3});
    replay_key = &key;
    assert_int_equal(write_lines(world, lines, ARRAY_LEN(lines), 65536), 0);
    replay_key = NULL;
    text = text_of(world, FILE_1);
    assert_non_null(strstr(text,
                           ",\"id\":\"q\\\"\xc3\xa9\\u0000\",\"columns\":{\"c\":\"{\\\"\",\"d\":[1,"
                           " 2]},\"event\":{\"v\":1}}\n"));
    assert_non_null(strstr(text, ",\"id_hex\":\"ff21\",\"columns\":{\"c\":1},\"event\":{ }}\n"));
    assert_non_null(strstr(text, "\"message\":\"\",\"event\":{\"id\":\"x\"}}\n"));
    assert_non_null(strstr(text, "\"message\":\"\",\"event\":{\"a\":1,\"b\":2}}\n"));
    free(text);
    fd = open(world->deep, O_RDONLY | O_DIRECTORY);
    assert_int_equal(letters_key_read(fd, LETTERS_KEY_NAME, &read), 0);
    close(fd);
    assert_memory_equal(&read, &key, sizeof(key));
}

static void an_ordinary_line_makes_no_key(void **state)
{
    static const struct voucher_key key = {{9}};
    struct world *world = *state;
    struct voucher_key read;
    int fd;

    replay_key = &key;
    assert_int_equal(write_one(world, "a", "", "{}", 4096), 0);
    replay_key = NULL;
    fd = open(world->deep, O_RDONLY | O_DIRECTORY);
    assert_int_equal(letters_key_read(fd, LETTERS_KEY_NAME, &read), -ENOENT);
    close(fd);
}

static void line_breaks_between_tokens_become_spaces(void **state)
{
    struct world *world = *state;
    char *text;

    assert_int_equal(write_one(world, "a", "", "{\n  \"v\":\r\n\"x\\n\"\n}", 4096), 0);
    text = text_of(world, FILE_1);
    assert_non_null(strstr(text, ",\"event\":{   \"v\":  \"x\\n\" }}\n"));
    free(text);
}

static void a_message_is_escaped_and_made_valid_utf8(void **state)
{
    struct world *world = *state;
    char *text;

    assert_int_equal(write_one(world, "a",
                               "q\" b\\ n\n t\x01 \xc3\xa9 \xff \xc3( \xed\xa0\x80 \xe2\x82", "{}",
                               4096),
                     0);
    text = text_of(world, FILE_1);
    assert_non_null(strstr(text, "\"message\":\"q\\\" b\\\\ n\\n t\\u0001 \xc3\xa9 \\ufffd "
                                 "\\ufffd( \\ufffd\\ufffd\\ufffd "
                                 "\\ufffd\\ufffd\",\"event\""));
    free(text);
}

static void a_long_message_is_cut_between_characters(void **state)
{
    struct world *world = *state;
    char message[2049];
    char *text;
    char *end;

    for (int i = 0; i < 1023; i++)
        memcpy(message + 1 + 2 * i, "\xc3\xa9", 2);
    message[0] = 'x';
    message[2047] = '\0';
    assert_int_equal(write_one(world, "a", message, "{}", 65536), 0);
    text = text_of(world, FILE_1);
    end = strstr(text, "\",\"event\"");
    assert_int_equal(end - (strstr(text, "\"message\":\"") + 11), 1023);
    free(text);
}

#define FILE_2 "a-20260131T120000Z-2.ndjson"

static size_t lines_of(struct world *world, const char *name)
{
    char *text = text_of(world, name);
    size_t lines = 0;

    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    free(text);
    return lines;
}

/* Expects the values of "v" in the lines of a file, one letter each. */
static void assert_values(struct world *world, const char *name, const char *expected)
{
    char *text = text_of(world, name);
    char values[64] = "";

    for (const char *at = text; (at = strstr(at, "{\"v\":\"")) != NULL; at++)
        strncat(values, at + 6, 1);
    assert_string_equal(values, expected);
    free(text);
}

static void a_group_costs_one_sync_for_each_file(void **state)
{
    struct world *world = *state;
    struct dead_letter_line lines[] = {
        line_of("a", "first", "{\"v\":\"1\"}"), line_of("b", "second", "{\"v\":\"2\"}"),
        line_of("a", "third", "{\"v\":\"3\"}"), line_of("a", "", "{\"v\":\"4\"}"),
        line_of("b", "fifth", "{\"v\":\"5\"}"),
    };
    char *text;

    lines[2].code = 53;
    assert_int_equal(write_lines(world, lines, ARRAY_LEN(lines), 65536), 0);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_int_equal(lines[i].err, 0);
    assert_int_equal(syncs, 2);
    assert_values(world, FILE_1, "134");
    assert_values(world, "b-20260131T120000Z-1.ndjson", "25");
    text = text_of(world, FILE_1);
    assert_non_null(strstr(text, "\"code\":27,\"message\":\"first\",\"event\":{\"v\":\"1\"}}\n"));
    assert_non_null(strstr(text, "\"code\":53,\"message\":\"third\",\"event\":{\"v\":\"3\"}}\n"));
    free(text);
}

static void a_group_goes_on_in_the_next_file(void **state)
{
    struct world *world = *state;
    struct dead_letter_line lines[5];
    uint64_t line;

    assert_int_equal(write_one(world, "a", "", "{\"v\":\"0\"}", 65536), 0);
    line = dead_letter_bytes(world->dead_letter);
    for (int i = 0; i < 5; i++)
        lines[i] = line_of("a", "",
                           (const char *[]){"{\"v\":\"1\"}", "{\"v\":\"2\"}", "{\"v\":\"3\"}",
                                            "{\"v\":\"4\"}", "{\"v\":\"5\"}"}[i]);
    syncs = 0;
    assert_int_equal(write_lines(world, lines, 5, 8 * 3 * line), 0);
    assert_values(world, FILE_1, "012");
    assert_values(world, FILE_2, "345");
    assert_int_equal(syncs, 2);
    assert_int_equal(dead_letter_bytes(world->dead_letter), 6 * line);
}

static void of_a_group_that_does_not_fit_the_lines_that_do_are_written(void **state)
{
    struct world *world = *state;
    char longer[256] = "{\"v\":\"2";
    struct dead_letter_line lines[4];
    uint64_t line;

    assert_int_equal(write_one(world, "a", "", "{\"v\":\"0\"}", 65536), 0);
    line = dead_letter_bytes(world->dead_letter);
    memset(longer + 7, 'x', 200);
    strcpy(longer + 207, "\"}");
    lines[0] = line_of("a", "", "{\"v\":\"1\"}");
    lines[1] = line_of("a", "", longer);
    lines[2] = line_of("b", "", "{\"v\":\"3\"}");
    lines[3] = line_of("a", "", "{\"v\":\"4\"}");
    assert_int_equal(write_lines(world, lines, 4, 3 * line), -ENOSPC);
    assert_int_equal(lines[0].err, 0);
    assert_int_equal(lines[1].err, -ENOSPC);
    assert_int_equal(lines[2].err, -ENOSPC); /* its stream's turn comes after the first one's */
    assert_int_equal(lines[3].err, 0);
    assert_int_equal(dead_letter_bytes(world->dead_letter), 3 * line);
    assert_values(world, "a-20260131T120000Z-1.ndjson", "0");
    assert_values(world, "a-20260131T120000Z-2.ndjson", "1");
    assert_values(world, "a-20260131T120000Z-3.ndjson", "4");
}

static void a_group_whose_sync_fails_leaves_nothing_in_that_file(void **state)
{
    struct world *world = *state;
    struct dead_letter_line lines[3];
    uint64_t line;

    assert_int_equal(write_one(world, "a", "", "{\"v\":\"0\"}", 65536), 0);
    line = dead_letter_bytes(world->dead_letter);
    lines[0] = line_of("a", "", "{\"v\":\"1\"}");
    lines[1] = line_of("b", "", "{\"v\":\"2\"}");
    lines[2] = line_of("a", "", "{\"v\":\"3\"}");
    sync_to_fail = syncs + 1;
    assert_int_equal(write_lines(world, lines, 3, 65536), -EIO);
    assert_int_equal(lines[0].err, -EIO);
    assert_int_equal(lines[1].err, 0);
    assert_int_equal(lines[2].err, -EIO);
    assert_values(world, FILE_1, "0");
    assert_values(world, "b-20260131T120000Z-1.ndjson", "2");
    assert_int_equal(dead_letter_bytes(world->dead_letter), 2 * line);
    /* Nobody knows what a failed sync has left: the stream begins another file. */
    assert_int_equal(write_one(world, "a", "", "{\"v\":\"1\"}", 65536), 0);
    assert_values(world, FILE_1, "0");
    assert_values(world, FILE_2, "1");
}

static void each_stream_has_its_own_file(void **state)
{
    struct world *world = *state;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
        assert_int_equal(write_one(world, "b", "", "{}", 65536), 0);
    }
    assert_int_equal(lines_of(world, FILE_1), 3);
    assert_int_equal(lines_of(world, "b-20260131T120000Z-1.ndjson"), 3);
}

static void a_file_of_an_earlier_life_is_not_reused(void **state)
{
    struct world *world = *state;

    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    dead_letter_close(world->dead_letter);
    assert_int_equal(dead_letter_open(&world->dead_letter, world->deep), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(lines_of(world, FILE_1), 1);
    assert_int_equal(lines_of(world, FILE_2), 1);
}

static void a_file_is_an_eighth_of_the_folder_at_most(void **state)
{
    struct world *world = *state;
    uint64_t line;
    char *text;

    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    text = text_of(world, FILE_1);
    line = strlen(text);
    free(text);
    assert_int_equal(write_one(world, "a", "", "{}", 8 * (3 * line)), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 8 * (3 * line)), 0);
    assert_int_equal(lines_of(world, FILE_1), 3);
    assert_int_equal(write_one(world, "a", "", "{}", 8 * (4 * line) - 1), 0);
    assert_int_equal(lines_of(world, FILE_1), 3);
    assert_int_equal(lines_of(world, FILE_2), 1);
    assert_int_equal(dead_letter_bytes(world->dead_letter), 4 * line);
}

static void a_file_ends_with_its_day(void **state)
{
    struct world *world = *state;

    real_ms = REAL_MS + 43199000 - 123; /* 23:59:59 */
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    real_ms += 1000;
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(lines_of(world, "a-20260131T235959Z-1.ndjson"), 2);
    assert_int_equal(lines_of(world, "a-20260201T000000Z-1.ndjson"), 1);
}

static void a_file_that_was_removed_renamed_or_locked_gets_no_more_lines(void **state)
{
    struct world *world = *state;
    char path[256], aside[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", world->deep, FILE_1);
    snprintf(aside, sizeof(aside), "%s/aside", world->deep);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(lines_of(world, FILE_1), 1);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(lines_of(world, "aside"), 1);
    assert_int_equal(lines_of(world, FILE_1), 1);
    fd = open(path, O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0); /* alloyd holds it only while it writes */
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    close(fd);
    assert_int_equal(lines_of(world, FILE_1), 1);
    assert_int_equal(lines_of(world, FILE_2), 1);
}

static void a_name_is_not_used_again_after_a_replay(void **state)
{
    static const char *const suffixes[] = {".replaying", ".replayed"};
    struct world *world = *state;
    char path[256], later[300];

    for (int i = 0; i < 2; i++) {
        assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
        snprintf(path, sizeof(path), "%s/a-20260131T120000Z-%d.ndjson", world->deep, i + 1);
        snprintf(later, sizeof(later), "%s%s", path, suffixes[i]);
        assert_int_equal(rename(path, later), 0);
    }
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(lines_of(world, "a-20260131T120000Z-3.ndjson"), 1);
}

static void more_streams_than_open_files_give_up_the_first(void **state)
{
    struct world *world = *state;
    char stream[16];

    for (int i = 0; i < 65; i++) {
        snprintf(stream, sizeof(stream), "s%d", i);
        assert_int_equal(write_one(world, stream, "", "{}", 1 << 20), 0);
    }
    assert_int_equal(write_one(world, "s64", "", "{}", 1 << 20), 0);
    assert_int_equal(lines_of(world, "s64-20260131T120000Z-1.ndjson"), 2);
}

static void a_full_folder_takes_nothing_until_there_is_room(void **state)
{
    struct world *world = *state;
    char path[256];
    uint64_t line;
    char *text;

    assert_int_equal(write_one(world, "a", "", "{}", 4096), 0);
    text = text_of(world, FILE_1);
    line = strlen(text);
    free(text);
    assert_int_equal(write_one(world, "a", "", "{}", 2 * line - 1), -ENOSPC);
    assert_int_equal(write_one(world, "a", "", "{}", 2 * line), 0);
    /* What an earlier life left counts too. */
    dead_letter_close(world->dead_letter);
    assert_int_equal(dead_letter_open(&world->dead_letter, world->deep), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 3 * line - 1), -ENOSPC);
    snprintf(path, sizeof(path), "%s/%s", world->deep, FILE_1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 3 * line - 1), 0);
}

static void a_torn_tail_is_cut_off(void **state)
{
    struct world *world = *state;
    struct rlimit old;
    struct rlimit low;
    struct dead_letter_line lines[3];
    char *before;
    char *after;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    before = text_of(world, FILE_1);
    getrlimit(RLIMIT_FSIZE, &old);
    low = (struct rlimit){strlen(before) + 5, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &low);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), -EIO);
    setrlimit(RLIMIT_FSIZE, &old);
    after = text_of(world, FILE_1);
    assert_string_equal(before, after);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    free(after);
    free(before);
    /* Of a group the lines before it are whole. */
    before = text_of(world, FILE_1);
    for (int i = 0; i < 3; i++)
        lines[i] = line_of("a", "", "{}");
    low.rlim_cur = strlen(before) / 2 * 3 + 5;
    setrlimit(RLIMIT_FSIZE, &low);
    assert_int_equal(write_lines(world, lines, 3, 65536), -EIO);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(lines[0].err, 0);
    assert_int_equal(lines[1].err, -EIO);
    assert_int_equal(lines[2].err, -EIO);
    assert_int_equal(lines_of(world, FILE_1), 3);
    after = text_of(world, FILE_1);
    assert_int_equal(strlen(after), strlen(before) / 2 * 3);
    free(before);
    free(after);
}

static void a_folder_that_was_moved_away_gets_no_more_lines(void **state)
{
    struct world *world = *state;
    char old[128], path[256];
    uint64_t line;

    snprintf(old, sizeof(old), "%s/old", world->dir);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    line = dead_letter_bytes(world->dead_letter);
    assert_int_equal(rename(world->deep, old), 0);
    assert_int_equal(mkdir(world->deep, 0750), 0);
    /* The cap is for what is in the new one. */
    assert_int_equal(write_one(world, "a", "", "{}", line), 0);
    assert_int_equal(lines_of(world, FILE_1), 1);
    assert_int_equal(dead_letter_bytes(world->dead_letter), line);
    assert_int_equal(write_one(world, "a", "", "{}", line), -ENOSPC);
    snprintf(path, sizeof(path), "%s/%s", old, FILE_1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(old), 0); /* nothing else was written there */
}

static void a_folder_that_was_removed_is_made_again(void **state)
{
    struct world *world = *state;
    char path[256], parent[128];

    snprintf(path, sizeof(path), "%s/%s", world->deep, FILE_1);
    snprintf(parent, sizeof(parent), "%s/x", world->dir);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(world->deep), 0);
    assert_int_equal(rmdir(parent), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(lines_of(world, FILE_1), 1);
    /* Made by somebody else meanwhile, it is used just as well. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(world->deep), 0);
    assert_int_equal(mkdir(world->deep, 0750), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(lines_of(world, FILE_1), 2);
}

static void while_the_path_leads_to_no_folder_nothing_is_written(void **state)
{
    struct world *world = *state;
    char old[128], path[256];
    int fd;

    snprintf(old, sizeof(old), "%s/old", world->dir);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(rename(world->deep, old), 0);
    fd = open(world->deep, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), -EIO);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), -EIO);
    assert_int_equal(unlink(world->deep), 0);
    /* Back in its place it is the one that was open all the time. */
    assert_int_equal(rename(old, world->deep), 0);
    assert_int_equal(write_one(world, "a", "", "{}", 65536), 0);
    assert_int_equal(lines_of(world, FILE_1), 2);
    snprintf(path, sizeof(path), "%s/%s", world->deep, FILE_2);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_folder_that_cannot_be_made_is_an_error(void **state)
{
    struct dead_letter *dead_letter;

    (void)state;
    assert_int_equal(dead_letter_open(&dead_letter, "/proc/nothing/here"), -ENOENT);
    assert_int_equal(dead_letter_open(&dead_letter, "/dev/null/x"), -ENOTDIR);
    assert_int_equal(dead_letter_open(&dead_letter, ""), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_says_when_where_why_and_what),
        TEST(a_line_tells_what_came_with_the_request),
        TEST(an_ordinary_line_makes_no_key),
        TEST(line_breaks_between_tokens_become_spaces),
        TEST(a_message_is_escaped_and_made_valid_utf8),
        TEST(a_long_message_is_cut_between_characters),
        TEST(a_group_costs_one_sync_for_each_file),
        TEST(a_group_goes_on_in_the_next_file),
        TEST(of_a_group_that_does_not_fit_the_lines_that_do_are_written),
        TEST(a_group_whose_sync_fails_leaves_nothing_in_that_file),
        TEST(each_stream_has_its_own_file),
        TEST(a_file_of_an_earlier_life_is_not_reused),
        TEST(a_file_is_an_eighth_of_the_folder_at_most),
        TEST(a_file_ends_with_its_day),
        TEST(a_file_that_was_removed_renamed_or_locked_gets_no_more_lines),
        TEST(a_name_is_not_used_again_after_a_replay),
        TEST(more_streams_than_open_files_give_up_the_first),
        TEST(a_full_folder_takes_nothing_until_there_is_room),
        TEST(a_torn_tail_is_cut_off),
        TEST(a_folder_that_was_moved_away_gets_no_more_lines),
        TEST(a_folder_that_was_removed_is_made_again),
        TEST(while_the_path_leads_to_no_folder_nothing_is_written),
        TEST(a_folder_that_cannot_be_made_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
