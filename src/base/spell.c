/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spell.c - when to tell of a state that comes and goes.
 *
 * Runs on: any thread; a spell belongs to one.
 * Owns: nothing.
 */
#include "alloy/spell.h"

static bool spell_may_begin(const struct spell *spell, uint64_t now_ms)
{
    return !spell->ever_told || now_ms - spell->told_ms >= SPELL_QUIET_MS ||
           now_ms - spell->since_ms >= SPELL_SHORT_MS;
}

static enum spell_news spell_go_on(struct spell *spell, uint64_t now_ms)
{
    if (!spell->on)
        spell->since_ms = now_ms;
    spell->on = true;
    spell->seen_ms = now_ms;
    if (spell->told || !spell_may_begin(spell, now_ms))
        return SPELL_NOTHING;
    spell->told = spell->ever_told = true;
    spell->told_ms = now_ms;
    return SPELL_BEGINS;
}

enum spell_news spell_look(struct spell *spell, bool there, uint64_t now_ms)
{
    const bool told = spell->told;

    if (there)
        return spell_go_on(spell, now_ms);
    if (!spell->on || now_ms - spell->seen_ms < SPELL_END_MS)
        return SPELL_NOTHING;
    spell->on = spell->told = false;
    spell->suppressed += !told;
    return told ? SPELL_ENDS : SPELL_NOTHING;
}
