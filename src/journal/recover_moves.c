/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_moves.c - a crash can leave several records with one LSN; decides which one counts.
 *
 * We read the segments of copies and look up the originals of their records. A finished record
 * proves that its event is finished, whatever the others say. Of LIVE records, the one with the
 * latest stamp counts, since only that one was in use; of equal ones, the latest copy. The others
 * are marked MOVED, and that is synced before anything is handed out or removed: otherwise one of
 * them could come back after a power loss, when the one that counted is gone with its segment, and
 * the event would be inserted again.
 *
 * Runs on: main, at start. Owns: a list of all copies while it runs.
 */
#include "recover_moves.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* A record that may be the one that counts for its LSN. */
struct recover_rival {
    uint64_t lsn;
    uint64_t mark; /* where its state is: segment number and offset, like an LSN */
    uint64_t insert_number;
    uint32_t copies;
    bool live;
};

struct recover_rivals {
    const struct segment_spec *spec;
    struct recover_rival *list;
    size_t count, capacity;
};

static int recover_add_rival(struct recover_rivals *rivals, const struct segment *segment,
                             const struct record *record)
{
    const enum record_state state = record_state_of(record_state(record));
    struct recover_rival *grown;

    if (state == RECORD_MOVED)
        return 0;
    /* recover.c will set this one aside; another may still count. */
    if ((state == RECORD_LIVE || state == 0) && !record_insert_id_valid(record))
        return 0;
    if (rivals->count == rivals->capacity) {
        const size_t next = rivals->capacity == 0 ? 256 : rivals->capacity * 2;

        grown = reallocarray(rivals->list, next, sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        rivals->list = grown;
        rivals->capacity = next;
    }
    rivals->list[rivals->count++] = (struct recover_rival){
        .lsn = record->lsn,
        .mark = segment_lsn(segment,
                            (size_t)((const char *)&record_mark(record)->state - segment->base)),
        .insert_number = record_insert_id(record) & INSERT_ID_NUMBER,
        .copies = record->copies,
        .live = state == RECORD_LIVE || state == 0,
    };
    return 0;
}

static int recover_read_copies(struct recover_rivals *rivals, uint32_t number)
{
    struct segment *segment;
    struct record *record;
    size_t offset;
    int err = segment_peek(&segment, rivals->spec, number);

    if (err != 0)
        return err;
    offset = segment->begin;
    while (err == 0) {
        const enum segment_step step = segment_next(segment, &offset, &record);

        if (step == SEGMENT_TORN || step == SEGMENT_END)
            break;
        if (step == SEGMENT_RECORD)
            err = recover_add_rival(rivals, segment, record);
    }
    segment_close(segment);
    return err;
}

/* Adds the original of lsn, if it is in this segment as it should be. */
static int recover_read_original(struct recover_rivals *rivals, const struct segment *segment,
                                 uint64_t lsn)
{
    size_t offset = (size_t)(lsn & UINT32_MAX);
    const struct record *original = (const struct record *)(segment->base + offset);
    struct record *record;

    if (offset < segment->begin || offset % RECORD_ALIGN != 0 ||
        offset + sizeof(*record) > segment->limit ||
        segment_next(segment, &offset, &record) != SEGMENT_RECORD || record != original ||
        record->copies > 0)
        return 0;
    return recover_add_rival(rivals, segment, record);
}

static int recover_by_lsn(const void *left, const void *right)
{
    const struct recover_rival *a = left, *b = right;

    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

static int recover_by_mark(const void *left, const void *right)
{
    const struct recover_rival *a = left, *b = right;

    return a->mark < b->mark ? -1 : a->mark > b->mark;
}

/* Adds the originals of the copies where they are still there; one that cannot be read does not
 * count. */
static int recover_read_originals(struct recover_rivals *rivals)
{
    const size_t copies = rivals->count;
    struct segment *segment = NULL;
    uint32_t number = 0;
    int err = 0;

    for (size_t i = 0; i < copies && err == 0; i++) {
        const uint64_t lsn = rivals->list[i].lsn;

        if (i > 0 && lsn == rivals->list[i - 1].lsn)
            continue;
        if (number != (uint32_t)(lsn >> 32)) {
            number = (uint32_t)(lsn >> 32);
            if (segment != NULL)
                segment_close(segment);
            if (segment_peek(&segment, rivals->spec, number) != 0)
                segment = NULL;
        }
        if (segment != NULL)
            err = recover_read_original(rivals, segment, lsn);
    }
    if (segment != NULL)
        segment_close(segment);
    return err;
}

/* Whether a counts rather than b. */
static bool recover_beats(const struct recover_rival *a, const struct recover_rival *b)
{
    if (a->live != b->live)
        return !a->live;
    if (a->insert_number != b->insert_number)
        return a->insert_number > b->insert_number;
    return a->copies > b->copies;
}

/* Leaves in the list, which is sorted by LSN, the LIVE records that do not count. */
static void recover_choose(struct recover_rivals *rivals)
{
    size_t left = 0, end;

    for (size_t i = 0; i < rivals->count; i = end) {
        size_t best = i;

        for (end = i + 1; end < rivals->count && rivals->list[end].lsn == rivals->list[i].lsn;
             end++)
            if (recover_beats(&rivals->list[end], &rivals->list[best]))
                best = end;
        for (size_t j = i; j < end; j++)
            if (j != best && rivals->list[j].live)
                /* left <= j: this overwrites only rivals that we have judged, or skipped as the
                 * best. */
                rivals->list[left++] = rivals->list[j];
    }
    rivals->count = left;
}

/* Marks the rivals from index from on that are in one segment; the list is sorted by mark. Returns
 * how many, or -errno. */
static ssize_t recover_mark_segment(const struct recover_rivals *rivals, size_t from)
{
    const uint16_t moved = RECORD_MOVED;
    const uint32_t number = (uint32_t)(rivals->list[from].mark >> 32);
    char name[SEGMENT_NAME_MAX];
    ssize_t marked = 0;
    int fd, err = 0;

    segment_name(name, number, "alj");
    fd = openat(rivals->spec->dir_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    for (size_t i = from; err == 0 && i < rivals->count; i++, marked++) {
        const uint64_t mark = rivals->list[i].mark;

        if ((uint32_t)(mark >> 32) != number)
            break;
        if (pwrite(fd, &moved, sizeof(moved), (off_t)(mark & UINT32_MAX)) != (ssize_t)sizeof(moved))
            err = -EIO;
    }
    if (err == 0 && fdatasync(fd) != 0)
        err = -errno;
    close(fd);
    return err == 0 ? marked : err;
}

int recover_settle_moves(const struct journal_dir *dir, const struct segment_spec *spec,
                         uint32_t *number)
{
    struct recover_rivals rivals = {.spec = spec};
    int err = 0;

    *number = 0;
    for (size_t i = 0; i < dir->file_count && err == 0; i++) {
        *number = dir->files[i].number;
        if (segment_file_kind(spec, *number) == SEGMENT_COPIES)
            err = recover_read_copies(&rivals, *number);
    }
    if (err == 0 && rivals.count > 0) {
        qsort(rivals.list, rivals.count, sizeof(*rivals.list), recover_by_lsn);
        err = recover_read_originals(&rivals);
        qsort(rivals.list, rivals.count, sizeof(*rivals.list), recover_by_lsn);
    }
    if (err == 0)
        recover_choose(&rivals);
    if (err == 0 && rivals.count > 1)
        qsort(rivals.list, rivals.count, sizeof(*rivals.list), recover_by_mark);
    /* A record that counts may be only in the page cache: with sync = never nobody has synced what
     * an earlier life left. */
    if (err == 0 && rivals.count > 0 && syncfs(spec->dir_fd) != 0)
        err = -errno;
    for (size_t i = 0; i < rivals.count && err == 0;) {
        const ssize_t marked = recover_mark_segment(&rivals, i);

        *number = (uint32_t)(rivals.list[i].mark >> 32);
        err = marked < 0 ? (int)marked : 0;
        i += marked < 0 ? 0 : (size_t)marked;
    }
    free(rivals.list);
    return err;
}
