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

#define REAL_MS 1769860800123ull /* 2026-01-31T12:00:00.123Z */

static uint64_t real_ms;

struct world {
    struct dead_letter *dead_letter;
    char dir[64];
    char deep[96];
};

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    real_ms = REAL_MS;
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

static struct dead_letter_reason reason_of(const char *stream, const char *message)
{
    return (struct dead_letter_reason){.stream = stream,
                                       .code = 27,
                                       .message = {message, strlen(message)},
                                       .real_ms = real_ms,
                                       .instance_id = 0xab};
}

static int write_one(struct world *world, const char *stream, const char *message,
                     const char *event, uint64_t max_bytes)
{
    struct record *record = make_record(event);
    const struct dead_letter_reason reason = reason_of(stream, message);
    int err = dead_letter_write(world->dead_letter, &record, 1, &reason, max_bytes);

    free(record);
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

static void several_records_are_several_lines(void **state)
{
    struct world *world = *state;
    struct record *records[] = {make_record("{\"i\":1}"), make_record("{\"i\":2}")};
    const struct dead_letter_reason reason = reason_of("a", "m");
    char *text;

    assert_int_equal(dead_letter_write(world->dead_letter, records, 2, &reason, 4096), 0);
    text = text_of(world, FILE_1);
    assert_non_null(strstr(text, "{\"i\":1}}\n{\"time\""));
    assert_non_null(strstr(text, "{\"i\":2}}\n"));
    free(text);
    free(records[0]);
    free(records[1]);
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
        TEST(line_breaks_between_tokens_become_spaces),
        TEST(a_message_is_escaped_and_made_valid_utf8),
        TEST(a_long_message_is_cut_between_characters),
        TEST(several_records_are_several_lines),
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
