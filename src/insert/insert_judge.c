/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert_judge.c - decides what becomes of an insert: whatever ClickHouse says, it goes in, gets
 * smaller, or waits.
 *
 * A definite refusal that comes again for the same rows is evidence about the rows, if the table
 * takes others meanwhile; how often it must come depends on what its code is known for. That the
 * table itself is not there is none, however often it comes.
 *
 * Rows may go under other tokens only when none of them is in the table; otherwise they would be
 * doubled. So a refusal counts only if the table itself has refused: the server joins async inserts
 * and refuses all of them for one row of another's; and when a materialized view refuses a row, a
 * table that stores rows has all of them. Such an insert goes again under its own token, alone or
 * without views, so that the next answer is the table's own. And an insert that may be in from an
 * earlier try stays as it is until a refusal shows that its rows never could go in.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "insert_judge.h"

bool insert_judge_alone(const struct insert_evidence *evidence)
{
    return evidence->async && !evidence->alone && (evidence->doubt || evidence->count == 1);
}

bool insert_judge_ignore_views(const struct insert_evidence *evidence, bool blames_view)
{
    return evidence->stores && !evidence->doubles && !evidence->ignore_views &&
           (evidence->views || blames_view);
}

bool insert_judge_is_fickle(const struct insert_reading *reading)
{
    /* One row alone that needs too much is the row. */
    return reading->class == INSERT_MISCONFIGURED ||
           (reading->class == INSERT_RETRY && !reading->too_large);
}

/* Whether the same rows have been refused often enough to be suspected. */
static bool insert_judge_suspects(const struct insert_reading *reading,
                                  const struct insert_evidence *evidence)
{
    switch (reading->class) {
    case INSERT_DONE:
        return false;
    case INSERT_BAD_ROWS:
    case INSERT_SPLIT:
        return true;
    case INSERT_UNKNOWN:
        return evidence->expected || evidence->refusals >= INSERT_REFUSALS_UNKNOWN;
    case INSERT_MISCONFIGURED:
        return (evidence->expected || evidence->refusals >= INSERT_REFUSALS_TABLE) &&
               evidence->others_went;
    case INSERT_RETRY:
        return evidence->refusals >= INSERT_REFUSALS_RETRY && evidence->others_went;
    }
    ALLOY_UNREACHABLE("an insert_class of no name");
    return false;
}

/* Whether the refusal shows that no earlier try can have put the insert into the table, because the
 * same rows would have been refused then too. A lack of memory or time shows nothing: an earlier
 * try may have had enough. */
static bool insert_judge_never_in(const struct insert_reading *reading,
                                  const struct insert_evidence *evidence)
{
    if (!evidence->doubt || reading->class == INSERT_BAD_ROWS)
        return true;
    return (reading->class == INSERT_UNKNOWN || reading->class == INSERT_MISCONFIGURED) &&
           evidence->refusals >= INSERT_REFUSALS_UNKNOWN && evidence->others_went;
}

enum insert_verdict insert_judge(const struct insert_reading *reading,
                                 const struct insert_evidence *evidence, bool blames_view)
{
    const bool halve = reading->too_large && evidence->count > 1;

    if (reading->class == INSERT_DONE)
        return INSERT_VERDICT_DONE;
    if (!reading->definite || evidence->no_table)
        return INSERT_VERDICT_AGAIN;
    /* A table has an insert before its views see it. Of one without tokens there is no other way to
     * learn that: it would take the rows once more. */
    if (blames_view && evidence->stores && evidence->doubles && !evidence->facts_missing)
        return INSERT_VERDICT_STORED;
    if (!halve && !insert_judge_suspects(reading, evidence))
        return reading->class == INSERT_UNKNOWN ? INSERT_VERDICT_ASIDE : INSERT_VERDICT_AGAIN;
    if (evidence->facts_missing)
        return INSERT_VERDICT_ASK;
    /* What a proxy refuses (code 0) has not reached the table. */
    if (reading->code != 0 &&
        (insert_judge_alone(evidence) || insert_judge_ignore_views(evidence, blames_view)))
        return INSERT_VERDICT_PROVE;
    if (!insert_judge_never_in(reading, evidence))
        return reading->class == INSERT_UNKNOWN ? INSERT_VERDICT_ASIDE : INSERT_VERDICT_AGAIN;
    if (halve)
        return INSERT_VERDICT_HALVE;
    if (evidence->count > 1)
        return INSERT_VERDICT_CUT;
    /* What a table refuses that has taken no row yet may be the table's fault, whatever the code.
     */
    if (reading->sure && (reading->unread || evidence->takes_rows || evidence->others_went))
        return INSERT_VERDICT_BURY;
    return INSERT_VERDICT_KEEP;
}
