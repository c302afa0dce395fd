/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buried.c - finds out which records of a journal are already in the dead-letter folder.
 *
 * Runs on: main, at start.
 * Owns: the sorted LSNs, eight bytes for each line read.
 */
#include "alloy/buried.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "alloy/journal_dir.h"
#include "alloy/letters.h"

/* File times and received times come from one clock, but people set clocks. */
#define CLOCK_SLACK_MS ((uint64_t)3600 * 1000)

struct reading {
    struct buried *buried;
    size_t capacity;
    uint64_t instance_id;
    uint64_t first_lsn; /* of the oldest record of the journal */
};

static int buried_by_lsn(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;

    return *a < *b ? -1 : *a > *b;
}

/* The bounds for lines that can belong to records of the journal. */
struct bounds {
    uint64_t lsn; /* no record has a lower LSN */
    uint64_t ms;  /* no record came earlier; UINT64_MAX: there are no records */
};

/* When the first, and so the oldest, record of a segment came; 0: unknown. */
static uint64_t buried_segment_begun_ms(const struct segment_spec *spec, uint32_t number)
{
    const size_t begin = segment_file_begin(spec, number);
    char name[SEGMENT_NAME_MAX];
    struct record record;
    ssize_t got;
    int fd;

    if (begin == 0)
        return 0;
    segment_name(name, number, "alj");
    fd = openat(spec->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return 0;
    got = pread(fd, &record, sizeof(record), (off_t)begin);
    close(fd);
    if (got != (ssize_t)sizeof(record))
        return 0;
    if (record.magic == 0)
        return UINT64_MAX; /* a spare segment: it has no records */
    return record.magic == RECORD_MAGIC || record.magic == RECORD_MAGIC_INLINE ? record.received_ms
                                                                               : 0;
}

static void buried_lower(struct bounds *bounds, uint64_t lsn, uint64_t ms)
{
    if (lsn < bounds->lsn)
        bounds->lsn = lsn;
    if (ms < bounds->ms)
        bounds->ms = ms;
}

/* Copies are in any order, and their LSNs belong to segments that may be gone: look at each. */
static void buried_read_copies(struct bounds *bounds, const struct segment_spec *spec,
                               uint32_t number)
{
    struct segment *segment;
    struct record *record;
    size_t offset;

    if (segment_peek(&segment, spec, number) != 0) {
        *bounds = (struct bounds){0};
        return;
    }
    offset = segment->begin;
    for (;;) {
        const enum segment_step step = segment_next(segment, &offset, &record);

        if (step == SEGMENT_RECORD)
            buried_lower(bounds, record->lsn, record->received_ms);
        else if (step != SEGMENT_GAP)
            break;
    }
    segment_close(segment);
}

static struct bounds buried_find_bounds(const struct journal_dir *dir,
                                        const struct segment_spec *spec)
{
    struct bounds bounds = {UINT64_MAX, UINT64_MAX};

    for (size_t i = 0; i < dir->file_count; i++) {
        const uint32_t number = dir->files[i].number;

        if (segment_file_kind(spec, number) == SEGMENT_COPIES)
            buried_read_copies(&bounds, spec, number);
        else
            buried_lower(&bounds, (uint64_t)number << 32, buried_segment_begun_ms(spec, number));
    }
    return bounds;
}

static int buried_add_line(void *arg, const struct letter *letter, struct slice line,
                           uint64_t number)
{
    struct reading *reading = arg;
    struct buried *buried = reading->buried;

    (void)line;
    (void)number;
    if (letter == NULL || !letter->has_lsn || letter->instance_id != reading->instance_id ||
        letter->lsn < reading->first_lsn)
        return 0;
    if (buried->count == reading->capacity) {
        size_t next = reading->capacity == 0 ? 256 : reading->capacity * 2;
        uint64_t *grown = reallocarray(buried->lsns, next, sizeof(*grown));

        if (grown == NULL)
            return -ENOMEM;
        buried->lsns = grown;
        reading->capacity = next;
    }
    buried->lsns[buried->count++] = letter->lsn;
    return 0;
}

static int buried_sync_file(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int err = fd < 0 || fsync(fd) != 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return err;
}

static int buried_read_files(struct reading *reading, const struct letters *letters,
                             uint64_t since_ms)
{
    int err = 0;

    for (size_t i = 0; err == 0 && i < letters->count; i++) {
        const struct letters_file *file = &letters->files[i];
        size_t before = reading->buried->count;

        if (file->modified_ms < since_ms)
            continue;
        err = letters_visit(letters, file->name, buried_add_line, reading);
        if (err == 0 && reading->buried->count > before)
            err = buried_sync_file(letters->dir_fd, file->name);
        if (err == -ENOENT)
            err = 0; /* somebody removed it in between */
    }
    return err;
}

int buried_read(struct buried *buried, const char *dir, struct journal *journal)
{
    const struct journal_dir *folder = journal_folder(journal);
    struct reading reading = {.buried = buried, .instance_id = folder->instance_id};
    struct letters letters;
    struct bounds bounds;
    int err;

    *buried = (struct buried){0};
    if (folder->file_count == 0)
        return 0;
    bounds = buried_find_bounds(folder, journal_segments(journal));
    reading.first_lsn = bounds.lsn;
    err = letters_open(&letters, dir);
    if (err != 0)
        return err == -ENOENT ? 0 : err;
    letters.tail = LETTERS_TAIL_NEVER;
    err = buried_read_files(&reading, &letters,
                            bounds.ms > CLOCK_SLACK_MS ? bounds.ms - CLOCK_SLACK_MS : 0);
    letters_close(&letters);
    if (err != 0)
        buried_free(buried);
    else if (buried->count > 1)
        qsort(buried->lsns, buried->count, sizeof(*buried->lsns), buried_by_lsn);
    return err;
}

bool buried_has(const struct buried *buried, uint64_t lsn)
{
    return buried->count > 0 &&
           bsearch(&lsn, buried->lsns, buried->count, sizeof(lsn), buried_by_lsn) != NULL;
}

void buried_free(struct buried *buried)
{
    free(buried->lsns);
    *buried = (struct buried){0};
}
