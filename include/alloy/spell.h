/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spell.h - when to tell of a state that may come and go many times a second: one line when it
 * begins and one when it ends.
 *
 * Runs on: whoever owns the spell; now_ms is clock_mono_ms().
 */
#ifndef ALLOY_SPELL_H
#define ALLOY_SPELL_H

#include <stdbool.h>
#include <stdint.h>

#define SPELL_END_MS 2000    /* so long it must have been away to be over: shorter gaps are none */
#define SPELL_SHORT_MS 2000  /* what lasts longer is told always, */
#define SPELL_QUIET_MS 60000 /* what does not only when so long nothing was told */

/* Zero-initialise. */
struct spell {
    bool on, told, ever_told;
    uint64_t since_ms;   /* when it began */
    uint64_t seen_ms;    /* when it was seen last */
    uint64_t told_ms;    /* when a beginning was told last */
    uint64_t suppressed; /* spells that were not told since then, for the line of the next */
};

enum spell_news {
    SPELL_NOTHING,
    SPELL_BEGINS, /* since since_ms; the caller sets suppressed to 0 once it has told it */
    SPELL_ENDS,   /* it lasted from since_ms to seen_ms; its beginning was told */
};

/* Call a few times a second. there: the state was seen since the last call. */
enum spell_news spell_look(struct spell *spell, bool there, uint64_t now_ms);

#endif
