/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_pending.c - the events that wait in a journal, each once.
 *
 * A record that was moved has copies with the same LSN, and a crash can leave several of them LIVE
 * (recover_moves.c). So we first note the LSNs of all copies, then whether a record of such an LSN
 * is finished, and pass over what is finished or was seen. A running alloyd may move records while
 * we read: such an event can come twice, and never not at all.
 *
 * Runs on: main thread. Owns: the list of copies.
 */
#include "ctl_pending.h"

#include <errno.h>
#include <string.h>

#include "alloy/journal_dir.h"
#include "ctl_walk.h"

/* What is known of an LSN that has copies. */
struct pending_copy {
    uint64_t lsn;
    bool finished;
    bool seen;
};

struct pending {
    const struct journal_dir *folder;
    enum { PENDING_NOTE_COPIES, PENDING_NOTE_FINISHED, PENDING_VISIT } pass;
    struct pending_copy *copies; /* owned; by LSN once noted */
    size_t count, room;
    ctl_pending_fn visit;
    void *arg;
    uint64_t problems;
    bool no_memory;
};

static int ctl_pending_compare(const void *left, const void *right)
{
    const struct pending_copy *a = left, *b = right;

    return (a->lsn > b->lsn) - (a->lsn < b->lsn);
}

static struct pending_copy *ctl_pending_copy(const struct pending *pending, uint64_t lsn)
{
    const struct pending_copy wanted = {.lsn = lsn};

    return pending->count == 0 ? NULL
                               : bsearch(&wanted, pending->copies, pending->count, sizeof(wanted),
                                         ctl_pending_compare);
}

static void ctl_pending_note_copy(struct pending *pending, uint64_t lsn)
{
    if (pending->count == pending->room) {
        const size_t room = pending->room > 0 ? 2 * pending->room : 1024;
        struct pending_copy *grown = reallocarray(pending->copies, room, sizeof(*grown));

        if (grown == NULL) {
            pending->no_memory = true;
            return;
        }
        pending->copies = grown;
        pending->room = room;
    }
    pending->copies[pending->count++] = (struct pending_copy){.lsn = lsn};
}

static void ctl_pending_on_record(void *arg, const struct segment *segment,
                                  const struct record *record)
{
    struct pending *pending = arg;
    const struct segment_header *header = (const struct segment_header *)segment->base;
    const enum record_state word = record_state_of(record_state(record));
    /* As alloyd's recovery takes it. */
    const enum record_state state = word == 0 ? RECORD_LIVE : word;
    struct pending_copy *copy;

    if (state == RECORD_MOVED)
        return;
    if (pending->pass == PENDING_NOTE_COPIES) {
        ctl_pending_note_copy(pending, record->lsn);
        return;
    }
    copy = ctl_pending_copy(pending, record->lsn);
    if (pending->pass == PENDING_NOTE_FINISHED) {
        if (copy != NULL && state != RECORD_LIVE)
            copy->finished = true;
        return;
    }
    if (state != RECORD_LIVE || (copy != NULL && (copy->finished || copy->seen)))
        return;
    if (copy != NULL)
        copy->seen = true;
    pending->visit(pending->arg, header->streams[record->stream_entry],
                   pending->folder->instance_id, record);
}

static void ctl_pending_on_problem(void *arg, const struct segment *segment, size_t offset,
                                   const char *text)
{
    struct pending *pending = arg;
    char name[SEGMENT_NAME_MAX];

    if (pending->pass != PENDING_VISIT)
        return;
    segment_name(name, segment->number, "alj");
    fprintf(stderr, "alloyctl: %s: offset %zu: %s\n", name, offset, text);
    pending->problems++;
}

static void ctl_pending_read_segment(struct pending *pending, uint32_t number)
{
    const struct segment_spec spec = {.dir_fd = pending->folder->fd,
                                      .instance_id = pending->folder->instance_id};
    const struct ctl_walk walk = {
        .record = ctl_pending_on_record, .problem = ctl_pending_on_problem, .arg = pending};
    struct segment *segment;
    char name[SEGMENT_NAME_MAX];
    int err = segment_peek(&segment, &spec, number);

    if (err == 0) {
        (void)ctl_walk_segment(&walk, segment);
        segment_close(segment);
    } else if (err != -ENOENT && pending->pass == PENDING_VISIT) {
        segment_name(name, number, "alj");
        fprintf(stderr, "alloyctl: %s: %s\n", name,
                err == -EBADMSG  ? "the header is broken, or of another journal"
                : err == -EPROTO ? "the segment is of another version of alloyd"
                                 : strerror(-err));
        pending->problems++;
    }
}

/* Reads all segments, or those of copies only. */
static void ctl_pending_read(struct pending *pending, bool copies_only)
{
    const struct segment_spec spec = {.dir_fd = pending->folder->fd,
                                      .instance_id = pending->folder->instance_id};

    for (size_t i = 0; i < pending->folder->file_count; i++) {
        const uint32_t number = pending->folder->files[i].number;

        if (!copies_only || segment_file_kind(&spec, number) == SEGMENT_COPIES)
            ctl_pending_read_segment(pending, number);
    }
}

/* Reads segments of copies that were made meanwhile. */
static int ctl_pending_read_new(struct pending *pending, const char *dir, char *error)
{
    const struct journal_dir *before = pending->folder;
    struct journal_dir now;
    int err = journal_dir_peek(&now, dir, error);

    if (err != 0)
        return err;
    pending->folder = &now;
    for (size_t i = 0; i < now.file_count; i++) {
        const struct segment_spec spec = {.dir_fd = now.fd, .instance_id = now.instance_id};
        bool known = false;

        for (size_t k = 0; k < before->file_count && !known; k++)
            known = before->files[k].number == now.files[i].number;
        if (!known && segment_file_kind(&spec, now.files[i].number) == SEGMENT_COPIES)
            ctl_pending_read_segment(pending, now.files[i].number);
    }
    pending->folder = before;
    journal_dir_peek_end(&now);
    return 0;
}

int ctl_pending_visit(const char *dir, ctl_pending_fn visit, void *arg)
{
    struct journal_dir folder;
    struct pending pending = {.folder = &folder, .visit = visit, .arg = arg};
    char error[JOURNAL_DIR_ERROR_MAX];
    int err = journal_dir_peek(&folder, dir, error);

    if (err != 0) {
        fprintf(stderr, "alloyctl: %s\n", error);
        return err;
    }
    pending.pass = PENDING_NOTE_COPIES;
    ctl_pending_read(&pending, true);
    if (pending.count > 0) {
        qsort(pending.copies, pending.count, sizeof(*pending.copies), ctl_pending_compare);
        pending.pass = PENDING_NOTE_FINISHED;
        ctl_pending_read(&pending, false);
    }
    pending.pass = PENDING_VISIT;
    ctl_pending_read(&pending, false);
    for (size_t i = 0; i < folder.damaged_count; i++) {
        char name[SEGMENT_NAME_MAX];

        segment_name(name, folder.damaged[i], "alj.corrupt");
        fprintf(stderr, "alloyctl: %s: set aside, and not read\n", name);
        pending.problems++;
    }
    err = ctl_pending_read_new(&pending, dir, error);
    if (pending.no_memory)
        err = -ENOMEM;
    if (err != 0)
        fprintf(stderr, "alloyctl: %s\n", err == -ENOMEM ? "out of memory" : error);
    free(pending.copies);
    journal_dir_peek_end(&folder);
    return err != 0 ? err : pending.problems > 0;
}
