/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_settle.h - keeps the files of the dead-letter folder true: what is in ClickHouse goes to
 * *.replayed, what was refused again and has a newer letter to *.renewed, and the rest waits.
 *
 * Runs on: main thread, with the folder locked against other replays.
 */
#ifndef ALLOY_CTL_SETTLE_H
#define ALLOY_CTL_SETTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "ctl.h"

/* What becomes of a line. */
enum ctl_fate { CTL_FATE_WAITS, CTL_FATE_REPLAYED, CTL_FATE_RENEWED };

/* Sets what becomes of line number (from 1) of a list with room for *room lines, which grows; owned
 * by the caller. Returns 0 or -ENOMEM. */
MUST_CHECK int ctl_settle_set_fate(uint8_t **fates, size_t *room, uint64_t number,
                                   enum ctl_fate fate);
/* The file's name without the suffix of a replay. */
void ctl_settle_plain_name(const struct letters_file *file, char out[NAME_MAX + 1]);
/* The name of a file that a replay has taken. */
void ctl_settle_taken_name(const char *plain, char out[NAME_MAX + 32]);
/* Takes a waiting file under the lock that alloyd takes to write, so that alloyd adds no more lines
 * to it. Returns 0 or -errno. */
MUST_CHECK int ctl_settle_take(int dir_fd, const char *plain);
/*
 * Gives a taken file back: each of its first count lines goes where its fate says, later ones wait.
 * A line is in one file at least at any instant, and after an error in the taken one or in plain.
 * Returns 0 or -errno.
 */
MUST_CHECK int ctl_settle_give_back(int dir_fd, const char *plain, const uint8_t *fates,
                                    size_t count);

/* An event that was refused again, for which a newer letter is looked for. */
struct ctl_newer {
    struct slice id;    /* as in struct letter: its letter has the same; empty: any */
    struct slice event; /* borrowed */
    bool found;
    int code;
    char message[CTL_LINE_MAX + 1]; /* of the newer letter */
};
/* Looks for waiting letters of the same bytes that were written since since_ms, in files other than
 * plain's. Returns how many were found. */
size_t ctl_settle_find_newer(const char *dir, const char *plain, uint64_t since_ms,
                             struct ctl_newer *newer, size_t count);

/* Letters by the record that they were written for. Zero-initialise. */
struct ctl_marks {
    struct ctl_mark {
        uint64_t instance_id;
        uint64_t lsn;
    } * list; /* owned */
    size_t count, room;
};
/* Notes a letter; one without an LSN is passed over. False: out of memory. */
bool ctl_marks_add(struct ctl_marks *marks, const struct letter *letter);
bool ctl_marks_has(const struct ctl_marks *marks, const struct letter *letter);
void ctl_marks_free(struct ctl_marks *marks);
/* Moves the waiting letters of a folder that marks names to *.replayed, and adds how many they are
 * to *moved. Returns 0 or -errno (reported). */
MUST_CHECK int ctl_settle_marked(const char *dir, const struct ctl_marks *marks, uint64_t *moved);

#endif
