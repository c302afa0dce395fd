/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_watch.c - notices that somebody has removed the journal's folder, or files in it, while
 * they are in use.
 *
 * A mapping outlives the name of its file: everything goes on, and at the next start all of it is
 * gone. So no event is taken until the files are back or nothing pending is in those that are not.
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

/* Whether the segment's file is still the one that is mapped. */
static bool journal_watch_has_file(const struct journal *journal, const struct segment *segment)
{
    char name[SEGMENT_NAME_MAX];
    struct stat st;

    segment_name(name, segment->number, "alj");
    if (fstatat(journal->spec.dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno != ENOENT;
    return st.st_ino == segment->inode;
}

/* The number of a segment without its file; 0: there is none. */
static uint32_t journal_watch_missing(struct journal *journal)
{
    uint32_t missing = 0;

    for (struct segment *segment = journal_first_in_use(journal); segment != NULL && missing == 0;
         segment = segment->next)
        if (atomic_load_explicit(&segment->refs, memory_order_relaxed) > 0 &&
            !journal_watch_has_file(journal, segment))
            missing = segment->number;
    /* There are few, and a writer that waits here would have taken the one that is missing. */
    pthread_mutex_lock(&journal->lock);
    for (struct segment *segment = journal->spares; segment != NULL && missing == 0;
         segment = segment->next)
        if (!journal_watch_has_file(journal, segment))
            missing = segment->number;
    pthread_mutex_unlock(&journal->lock);
    return missing;
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
                  "folder=\"%s\" segment=%u action=let_pending_events_go_and_restart",
                  journal->dir.path, missing);
}
