/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows_fixture.h - records in plain memory, for tests of modules that only pass records on.
 */
#ifndef TEST_ROWS_FIXTURE_H
#define TEST_ROWS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "insert.h"

/* A record of the event; returned owned. */
static struct record *make_row(const char *event)
{
    const size_t len = strlen(event);
    struct record *record = calloc(1, sizeof(*record) + len + 1);

    assert_non_null(record);
    memcpy(record->body, event, len);
    record->body[len] = '\n';
    record->body_length = (uint32_t)len + 1;
    return record;
}

/* Takes an insert through a try that was refused. */
static inline void refuse(struct insert *insert)
{
    insert->id = 1;
    insert_move(insert, INSERT_FROZEN);
    insert->stamped = true;
    insert_move(insert, INSERT_SENT);
    insert_move(insert, INSERT_REFUSED);
}

#endif
