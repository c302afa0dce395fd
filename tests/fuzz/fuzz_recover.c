/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_recover.c - recovery over arbitrary bytes in a segment file.
 *
 * The first byte chooses: bit 0, the bytes lie over the whole file, header included, else behind a
 * good header; bit 1, what looks like a record gets its right place and checksum, so that the
 * checks behind them are reached; bit 2, the file ends with the bytes; bit 3, it is a segment of
 * copies, whose records name places that can be in it too; bits 4 to 7, the file ends with the
 * bytes too, since to read its zeros is most of a run.
 */
#include "alloy/recover.h"

#include "alloy/journal_dir.h"

#include <xxhash.h>

#include "folder_fixture.h"
#include "segment_image.h"

#define CUT 0xe4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"orders", "clicks"};
static char headers[2][SEGMENT_HEADER_BYTES]; /* by enum segment_kind */
static volatile size_t touched;
static size_t waiting; /* LIVE records that the second pass has to hand out */

static struct journal *open_journal(void)
{
    const struct journal_options options = {
        .dir = FOLDER_PATH,
        .segment_bytes = SEGMENT_BYTES_MIN,
        .max_bytes = 2 * SEGMENT_BYTES_MIN,
        .writer_count = 1,
        .stream_names = names,
        .stream_count = ARRAY_LEN(names),
    };
    char error[JOURNAL_ERROR_MAX];
    struct journal *journal;

    if (journal_open(&journal, &options, error) != 0) {
        fprintf(stderr, "%s\n", error);
        abort();
    }
    return journal;
}

static void make_headers(void)
{
    struct journal *journal = open_journal();
    char name[SEGMENT_NAME_MAX];
    struct segment_header *copies;
    int fd;

    segment_name(name, 1, "alj");
    fd = openat(journal_segments(journal)->dir_fd, name, O_RDONLY);
    if (fd < 0 || pread(fd, headers[0], sizeof(headers[0]), 0) != (ssize_t)sizeof(headers[0]))
        abort();
    close(fd);
    journal_close(journal);
    memcpy(headers[1], headers[0], sizeof(headers[0]));
    copies = (struct segment_header *)headers[1];
    copies->kind = SEGMENT_COPIES;
    copies->checksum = XXH3_64bits(copies, offsetof(struct segment_header, checksum));
}

static void visit(void *arg, struct record *record)
{
    struct journal *journal = arg;
    const char *id = record_id(record);

    for (size_t i = 0; i < record->body_length; i++)
        touched += (size_t)record->body[i];
    for (size_t i = 0; i < record->id_length; i++)
        touched += (size_t)id[i];
    if (record->stream >= ARRAY_LEN(names))
        abort();
    if (record_state(record) == RECORD_LIVE && record->received_ms % 2 == 0)
        journal_finish(journal, &record, 1, RECORD_INSERTED);
    else if (record_state(record) == RECORD_LIVE && record_insert_word(record) == 0)
        waiting++;
}

/* Hands out what is waiting, a few at a time, and has it finished. */
static void take_all(struct recovery *recovery, struct journal *journal)
{
    struct record *records[3];
    size_t taken = 0, n;

    for (size_t i = 0; i < recover_segments(recovery); i++) {
        do {
            n = recover_take(recovery, i, records, ARRAY_LEN(records));
            for (size_t at = 0; at < n; at++)
                if (record_state(records[at]) != RECORD_LIVE ||
                    records[at]->stream >= ARRAY_LEN(names))
                    abort();
            journal_finish(journal, records, n, RECORD_DEAD);
            taken += n;
        } while (n == ARRAY_LEN(records));
        recover_release(recovery, i);
    }
    if (taken != waiting)
        abort();
}

static void recover(struct journal *journal)
{
    char error[JOURNAL_ERROR_MAX];
    struct recovery *recovery;
    int err = recover_open(&recovery, journal, error);
    uint64_t live;

    waiting = 0;
    if (err == -EPROTO)
        return;
    if (err != 0)
        abort();
    for (size_t i = 0; err == 0 && i < recover_segments(recovery); i++)
        err = recover_read(recovery, i, visit, journal, error);
    if (err != 0 && err != -EPROTO) /* another version's segment is left alone */
        abort();
    live = journal_live(journal, 0) + journal_live(journal, 1);
    if (live > recover_stats(recovery)->live || live < waiting)
        abort();
    take_all(recovery, journal);
    recover_close(recovery);
    /* What is in an insert. */
    if (journal_live(journal, 0) + journal_live(journal, 1) != live - waiting)
        abort();
}

static void write_segment(const char *name, const uint8_t *data, size_t size)
{
    static size_t dirty = FILE_BYTES;
    const unsigned choice = data[0];
    const size_t begin = (choice & 1) ? 0 : image_begin(choice);
    size_t end, length;

    data++;
    size--;
    memset(image, 0, dirty);
    image_put_header(headers[choice >> 3 & 1], choice);
    if (size > FILE_BYTES - begin)
        size = FILE_BYTES - begin;
    end = begin + size;
    memcpy(image + begin, data, size);
    if (choice & 2)
        image_repair(choice, choice & 8, end);
    /* What begins before the end, and was repaired, may end behind it. */
    dirty = (end > image_begin(choice) ? end : image_begin(choice)) + sizeof(struct record);
    if (dirty > FILE_BYTES)
        dirty = FILE_BYTES;
    length = (choice & CUT) ? end : FILE_BYTES;
    folder_write(name, image, length < dirty ? length : dirty, length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[SEGMENT_NAME_MAX], aside[SEGMENT_NAME_MAX];
    struct journal *journal;

    if (size < 1)
        return 0;
    if (headers[0][0] == '\0')
        make_headers();
    segment_name(name, 1, "alj");
    segment_name(aside, 1, "alj.corrupt");
    write_segment(name, data, size);
    journal = open_journal();
    recover(journal);
    journal_maintain(journal, 0, 0);
    journal_close(journal);
    (void)unlinkat(FOLDER_FD, name, 0);
    (void)unlinkat(FOLDER_FD, aside, 0);
    return 0;
}
