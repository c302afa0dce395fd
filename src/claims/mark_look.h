/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark_look.h - what one look at a stream's mark finds (mark.c).
 *
 * Runs on: the marks' thread.
 */
#ifndef ALLOY_MARK_LOOK_H
#define ALLOY_MARK_LOOK_H

#include "alloy/mark.h"
#include "mark_shards.h"
#include "redis_link.h"

#define MARK_STAMP_MAX 40

/* What one look finds for a stream. */
struct mark_look {
    bool asked;                           /* we have an identity to ask with */
    bool own;                             /* ... which is our own, as we do not know the table */
    bool answered;                        /* ... and have an answer */
    bool away;                            /* ... and none, but other nodes of the cluster work */
    bool writing;                         /* we are sending a SET of the mark */
    bool refused;                         /* Redis refuses: no rights */
    bool lost;                            /* SET NX found that another was first */
    bool believed;                        /* identity is the mark's, as in an earlier life */
    char identity[MARK_IDENTITY_MAX + 1]; /* when the look began */
    char mark[MARK_IDENTITY_MAX + 1];     /* "": none */
    char name[MARK_IDENTITY_MAX + 1];     /* readable name of the mark's table, after a space */
    char stamp[MARK_STAMP_MAX + 1];       /* the mark's stamp, which each renewal changes */
    char member[MARK_IDENTITY_MAX + 1];
    struct mark_shards before, now; /* tables as member has them, and as they have been told */
};

/* Takes an element of the answer: the mark, and what this instance has held. False: it is none. */
bool mark_look_on_element(struct mark_look *look, const struct redis_link_element *element);
/* For an alloyd that does not know its table, as the first shard is away: whether the mark is the
 * one that this instance has held, with the same list of shards, and one of the others has the
 * table that it had. */
bool mark_look_is_as_before(const struct mark_look *look);

#endif
