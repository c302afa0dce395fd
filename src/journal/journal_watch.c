/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_watch.c - notices that somebody has removed the journal's folder, or files in it, while
 * they are in use.
 *
 * A mapping outlives the name of its file: alloyd would go on as if nothing had happened, and at
 * the next start all events would be gone. So we take no event until the files are back, or the
 * missing ones hold nothing that is pending.
 *
 * Runs on: the janitor.
 */
#include "journal_private.h"

#define LOG_MODULE "journal"
#include "alloy/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#define WATCH_SPARES_MAX 64

/* A file that should be there. */
struct watched {
    uint32_t number;
    uint64_t inode;
};

static struct watched journal_watch_of(const struct segment *segment)
{
    return (struct watched){.number = segment->number, .inode = segment->inode};
}

/* Whether the file with that name is still the one that we have mapped. */
static bool journal_watch_is_there(const struct journal *journal, struct watched file)
{
    char name[SEGMENT_NAME_MAX];
    struct stat st;

    segment_name(name, file.number, "alj");
    if (fstatat(journal->spec.dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno != ENOENT;
    return st.st_ino == file.inode;
}

/* The number of a segment whose file is missing; 0: none is. */
static uint32_t journal_watch_missing(struct journal *journal)
{
    struct watched spares[WATCH_SPARES_MAX];
    size_t count = 0;

    /* Spares before those in use: a spare that is taken in between is then found there, and not
     * missed. */
    pthread_mutex_lock(&journal->lock);
    for (struct segment *segment = journal->spares; segment != NULL && count < ARRAY_LEN(spares);
         segment = segment->next)
        spares[count++] = journal_watch_of(segment);
    pthread_mutex_unlock(&journal->lock);
    for (size_t i = 0; i < count; i++)
        if (!journal_watch_is_there(journal, spares[i]))
            return spares[i].number;
    for (struct segment *segment = journal_first_in_use(journal); segment != NULL;
         segment = segment->next)
        if (atomic_load_explicit(&segment->refs, memory_order_relaxed) > 0 &&
            !journal_watch_is_there(journal, journal_watch_of(segment)))
            return segment->number;
    return 0;
}

void journal_watch(struct journal *journal)
{
    const bool before =
        atomic_load_explicit(&journal->trouble, memory_order_relaxed) & JOURNAL_REMOVED;
    uint32_t missing = 0;
    int err;

    if (journal->spec.dir_fd < 0)
        return;
    err = journal_dir_look(&journal->dir);
    if (err == 0)
        missing = journal_watch_missing(journal);
    if (err == 0 && missing == 0) {
        atomic_fetch_and_explicit(&journal->trouble, ~(unsigned)JOURNAL_REMOVED,
                                  memory_order_relaxed);
        if (before)
            log_info("the journal's files are there again, or nothing in them is pending");
        return;
    }
    atomic_fetch_or_explicit(&journal->trouble, JOURNAL_REMOVED, memory_order_relaxed);
    if (!before && err != 0)
        log_error("the journal's folder was removed or replaced, no more events are taken "
                  "folder=\"%s\" action=put_it_back",
                  journal->dir.path);
    else if (!before)
        log_error("a segment was removed from the journal's folder, no more events are taken "
                  "folder=\"%s\" segment=%u action=restart_once_nothing_in_it_is_pending",
                  journal->dir.path, missing);
}
