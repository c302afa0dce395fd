/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_json_window.c - tests json_window.h and json_plain.h with what each byte is by itself.
 *
 * The text is between two inaccessible pages, so that a read before or behind it ends the test.
 */
#include "json_window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PAGE 4096

static char *page; /* what may be read */

static int map_page(void **state)
{
    char *base = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (base == MAP_FAILED || mprotect(base, PAGE, PROT_NONE) != 0 ||
        mprotect(base + 2 * (size_t)PAGE, PAGE, PROT_NONE) != 0)
        return -1;
    page = base + PAGE;
    return 0;
}

/* The window from at on, byte by byte. */
static uint64_t special_of(const char *at, const char *end)
{
    uint64_t special = 0;

    for (unsigned i = 0; i < JSON_WINDOW && at + i < end; i++)
        special |= (uint64_t)!json_is_plain(at[i]) << i;
    return special;
}

/* Text in which special bytes are rare, or frequent. */
static void fill(char *at, size_t len, unsigned seed)
{
    static const char bytes[] = "\"\\\n\x1F\x80\xFF !#[]~\x7F";
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

    for (size_t i = 0; i < len; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        at[i] = (x >> 33) % (1 + seed % 70) == 0 ? bytes[(x >> 40) % (sizeof(bytes) - 1)] : 'x';
    }
}

static void each_byte_is_what_it_is_at_each_position(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        for (size_t at = 0; at < JSON_WINDOW; at++) {
            char text[JSON_WINDOW];
            const bool plain = json_is_plain((char)byte);

            memset(text, at % 2 == 0 ? 'x' : '"', sizeof(text));
            text[at] = (char)byte;
            assert_int_equal(json_special_64(text), special_of(text, text + sizeof(text)));
            memset(text, 'x', sizeof(text));
            text[at] = (char)byte;
            assert_ptr_equal(json_skip_plain(text, text + sizeof(text)),
                             text + (plain ? sizeof(text) : at));
        }
    }
}

static void windows_follow_each_other_to_the_end(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 300; len++) {
        for (int at_end = 0; at_end < 2; at_end++) {
            char *const body = at_end ? page + PAGE - len : page;
            const char *const end = body + len;
            struct json_window window = {body, 0};
            const char *from = body;

            fill(body, len, (unsigned)len);
            window = json_window_seek(body, end, (ptrdiff_t)len);
            for (; from < end; from += JSON_WINDOW) {
                const uint64_t special = special_of(from, end);

                if (special == 0)
                    continue;
                assert_ptr_equal(window.base, from);
                assert_int_equal(window.special, special);
                window = json_window_next(window, body, end);
            }
            assert_int_equal(window.special, 0);
        }
    }
}

static void a_window_moves_to_any_quote_and_keeps_nothing_before_it(void **state)
{
    char *const body = page + PAGE - 1000;
    const char *const end = body + 1000;

    (void)state;
    for (unsigned seed = 1; seed < 40; seed++) {
        fill(body, 1000, seed);
        for (size_t from = 0; from < 1000; from += 7) {
            for (size_t at = 0; at < 1000; at += 1 + seed % 3) {
                struct json_window window = {NULL, 0};

                body[at] = '"';
                if (from > 0)
                    window = json_window_seek(body, end, end - (body + from));
                if (from % 2 == 0)
                    window.special &= window.special - 1; /* one was used */
                window = json_window_move(window, body, body + at, end);
                assert_true(window.special != 0);
                assert_ptr_equal(window.base + __builtin_ctzll(window.special), body + at);
                assert_int_equal(window.special, special_of(window.base, end) &
                                                     UINT64_MAX << (body + at - window.base));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_byte_is_what_it_is_at_each_position),
        cmocka_unit_test(windows_follow_each_other_to_the_end),
        cmocka_unit_test(a_window_moves_to_any_quote_and_keeps_nothing_before_it),
    };

    return cmocka_run_group_tests(tests, map_page, NULL);
}
