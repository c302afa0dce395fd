/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apart.h - takes refused inserts apart beside their lane, so that the lane goes on.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_APART_H
#define ALLOY_APART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "traits.h"
#include "insert.h"

#define APART_SHAPES 8
/* Rows refused alone without a success in between. From APART_TRUSTED on, a row is buried only when
 * others go in after its refusal. From APART_GIVEN_UP on, we take nothing more apart. */
#define APART_TRUSTED 16
#define APART_GIVEN_UP 1000

struct apart {
    struct insert_list likely;     /* these will mostly go in: first come, first sent */
    struct insert_list suspects;   /* where the bad rows are: the smallest first */
    struct insert_list again;      /* answered, and to be sent again as they are */
    struct insert_list kept;       /* rows refused alone: KEPT */
    struct insert_list burying;    /* BURYING, until the burial takes them */
    size_t out;                    /* sent and not yet answered */
    uint64_t shapes[APART_SHAPES]; /* the latest shapes of rows that were refused alone */
    size_t shape_count;
    size_t shape_next;
    uint32_t refused_alone; /* rows refused alone since the last success of the stream */
    uint32_t alike_refused; /* rows refused alone, fewer when those of a bad shape go in */
    /* which rows of bad shapes differ from those that were refused */
    struct traits *traits;  /* NULL: nothing was refused alone yet */
    uint32_t round;         /* of scoring rows of bad shapes; 0: we have not learned enough */
    uint32_t refused;       /* rows refused alone since one of a bad shape went in */
    uint32_t round_refused; /* as many begin a round */
    uint32_t taken;         /* inserts of a bad shape that went in since refusals began a round */
    uint32_t round_taken;   /* as many begin a round */
    size_t rows_taken;      /* of bad shapes that went in lately, about */
    size_t rows_refused;    /* alone, lately */
    uint32_t picks_refused; /* alone since one went in */
    bool others_turn;       /* the last suspect was none of the picked ones */
    size_t pick_rows;       /* how many picked rows go in one insert */
};

void apart_init(struct apart *apart);
void apart_clear(struct apart *apart); /* what it holds stays LIVE */

/*
 * Takes an insert in which some row is at fault, and cuts it in two: by the known bad shapes, else
 * at the row that the message names (-1: none), else in halves. Returns 0, or -ENOMEM and the
 * caller still has it.
 */
MUST_CHECK int apart_cut(struct apart *apart, struct insert *insert, int64_t row);
/*
 * Takes a new insert that nobody has refused, and returns what to send of it: the rows whose shape
 * was not refused lately. The others become suspects. given_up: suspects are not tried; when all
 * rows are suspects returns a few that differ from refused ones, NULL: none does.
 */
struct insert *apart_sift(struct apart *apart, struct insert *insert, bool given_up);
/* Takes an insert that goes before all others: a part of one that was too large, or one whose next
 * answer decides. */
void apart_add_likely(struct apart *apart, struct insert *insert);
/* Takes an insert that goes again as it is, when it is due. */
void apart_put_off(struct apart *apart, struct insert *insert);
/* Notes that a row was refused alone. */
void apart_note_refused(struct apart *apart, const struct insert *insert);
/* Notes that rows of the stream went in. */
void apart_note_success(struct apart *apart, const struct insert *insert);

/* Takes out the insert to send next; NULL: none is due. again: only inserts that are to be
 * repeated. */
struct insert *apart_next(struct apart *apart, uint64_t now_ms, bool again);
/* Takes out the row that was kept for the longest, or a few rows that were not tried yet; NULL:
 * there are none. */
struct insert *apart_take_kept(struct apart *apart);
struct insert *apart_take_few(struct apart *apart, size_t rows);
/* Whether apart_next() may have something. */
bool apart_due(const struct apart *apart, uint64_t now_ms, bool again);
/* When the next put-off insert is due; UINT64_MAX: there is none. */
uint64_t apart_next_due(const struct apart *apart);
/* Events here, without those in inserts that are out. */
uint64_t apart_rows(const struct apart *apart);

/* What is known when the rows that are kept are looked at again. */
struct apart_proof {
    uint64_t taken_ns;       /* when what the stream took last was sent */
    uint64_t checked_ns;     /* the table is known to have been the same from before that success to
                              * this time; 0: it is not */
    uint64_t takes_since_ns; /* since when the table takes rows, as it is now; 0: it does not */
    bool all_tried;          /* the stream has no row that might go in */
};
/*
 * Looks at the rows that are kept again. What is proven to be at fault is moved to burying; what
 * has not been tried since the last success goes again, at once: a fickle table has no time to
 * break in between, and only that proves anything of a fickle insert.
 */
void apart_review(struct apart *apart, const struct apart_proof *proof);
/* Moves the kept rows to burying; untried: also all that waits to be taken apart. Never touches an
 * insert that may be in ClickHouse. */
void apart_bury(struct apart *apart, bool untried);

/* Calls visit for each insert here. */
typedef void (*apart_visit_fn)(void *arg, struct insert *insert);
void apart_visit(struct apart *apart, apart_visit_fn visit, void *arg);

#endif
