/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_schema.c - the rows of the configuration, for programs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/config_schema.h"
#include "config_loader.h"

/* A new key of a stream needs its row in config_schema.c. */
static void every_key_has_a_row_that_says_what_it_is(void **state)
{
    struct config_row row;
    size_t index = 0, count = 0;

    (void)state;
    while (config_schema_next(&index, &row)) {
        if (strlen(row.help) < 10)
            fail_msg("%s.%s says nothing", row.section, row.key);
        count++;
    }
    /* column.NAME and setting.NAME beside them */
    assert_int_equal(count, STREAM_KEY_COUNT + CONFIG_KEY_COUNT + 2);
}

static void a_section_is_whole(void **state)
{
    char seen[1024] = "|stream.NAME|";
    const char *last = "stream.NAME";
    struct config_row row;
    size_t index = 0;

    (void)state;
    while (config_schema_next(&index, &row)) {
        char name[64];

        if (strcmp(row.section, last) == 0)
            continue;
        last = row.section;
        snprintf(name, sizeof(name), "|%s|", row.section);
        if (strstr(seen, name) != NULL)
            fail_msg("%s is in two parts", row.section);
        strncat(seen, name, sizeof(seen) - strlen(seen) - 1);
    }
}

static void a_row_has_bounds_words_or_neither(void **state)
{
    struct config_row row;
    size_t index = 0;

    (void)state;
    while (config_schema_next(&index, &row)) {
        assert_true(*row.bounds == '\0' || *row.words == '\0');
        if (row.number)
            assert_true(row.min < row.max && *row.bounds != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_a_row_that_says_what_it_is),
        cmocka_unit_test(a_section_is_whole),
        cmocka_unit_test(a_row_has_bounds_words_or_neither),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
