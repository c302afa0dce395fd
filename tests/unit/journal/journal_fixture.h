/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_fixture.h - a journal of two streams with the smallest segments, in a folder of the
 * test's own or in memory.
 */
#ifndef JOURNAL_FIXTURE_H
#define JOURNAL_FIXTURE_H

#include "alloy/journal.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#define SEGMENT SEGMENT_BYTES_MIN
#define ROOM (SEGMENT - segment_begin(SEGMENT))

static const char *const stream_names[] = {"orders", "clicks"};
static char error[JOURNAL_ERROR_MAX];
static char filler[SEGMENT];

static inline int set_up_folder(void **state)
{
    (void)state;
    memset(filler, 'x', sizeof(filler));
    return make_folder("/tmp");
}

static inline int tear_down(void **state)
{
    (void)state;
    return remove_folder();
}

static inline struct journal_options options_of(const char *dir, uint64_t segments)
{
    return (struct journal_options){
        .dir = dir,
        .segment_bytes = SEGMENT,
        .max_bytes = segments * SEGMENT,
        .sync = JOURNAL_SYNC_NEVER,
        .writer_count = 2,
        .stream_names = stream_names,
        .stream_count = 2,
    };
}

static inline struct journal *open_with(const struct journal_options *options)
{
    struct journal *journal;

    if (journal_open(&journal, options, error) != 0)
        fail_msg("%s", error);
    return journal;
}

static inline struct journal *open_journal(const char *dir, uint64_t segments)
{
    const struct journal_options options = options_of(dir, segments);

    return open_with(&options);
}

/* An entry whose record takes just these bytes. */
static inline struct journal_entry entry_of(size_t bytes)
{
    return (struct journal_entry){
        .text = {filler, bytes - sizeof(struct record) - 1},
        .id = {filler, 5},
        .id_verbatim = true,
        .stream = 1,
    };
}

static inline struct record *append(struct journal_writer *writer, size_t bytes)
{
    const struct journal_entry entry = entry_of(bytes);

    return journal_writer_append(writer, &entry, 1000);
}

static inline struct record *put(struct journal_writer *writer, size_t bytes)
{
    if (journal_writer_reserve(writer, &bytes, 1) != 0)
        return NULL;
    return append(writer, bytes);
}

#endif
