/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packed.pml - claims with redis.layout = packed, the turn of tables, and the way from keys, for spin.
 *
 * Two alloyd have a record each with one id. Table 0 stands for the key of layout = keys; while it is the
 * newest claims go there, while table 1 is they go to both, and to a later one alone. Anybody may
 * open the next at any time. A step is one Redis command. A crash, or an exchange that is given
 * up, takes what an alloyd knows at any step; the journal then has the record claimed again, until
 * it is settled: inserted, or dropped as a duplicate. Each guard can be taken out by a -D of its
 * name; `run` checks that it is missed.
 *
 * With FORGETS Redis loses any of the claims at any step, and with LOG_FORGOTTEN tables of the log too: a
 * failover. That breaks all connections, so each alloyd learns of it before its next command (the window of
 * distrust, docs/decisions/033-distrust.md). What no table knows then is asked of ClickHouse, once each alloyd has
 * claimed again what it has in hand: here inserts under way, whose rows come at any later step.
 *
 * Configuration, by -D:
 *   TABLES    how many there are at the end, the keys among them
 *   FIRST     the newest table at the beginning
 *   PLAIN     how many of the two have layout = keys, and look at the log only before a batch
 *   CRASHES   of all together
 *   FORGETS   how often Redis does
 */
#ifndef TABLES
#define TABLES 4
#endif
#ifndef FIRST
#define FIRST 2
#endif
#ifndef PLAIN
#define PLAIN 0
#endif
#ifndef CRASHES
#define CRASHES 2
#endif

#ifndef FORGETS
#define FORGETS 0
#endif

bool doubled_row, lost_event;

byte owner[TABLES]; /* of the id's claim: 0, or the alloyd's number + 1 */
byte newest = FIRST;
byte plain_under_way; /* batches of alloyd that have seen no log */
byte crashes;
byte inserted, dropped; /* sets of records */

#if FORGETS
byte life;      /* of Redis' data; counts what it has forgotten */
byte seen[2];   /* by each alloyd */
bool has[2];    /* an insert is under way with the record */
bool owes[2];   /* and Redis may have forgotten its claim */
bool over[2];   /* the record is settled, or its claims are set again: nothing more is claimed */
#define INSERTED(q) ((inserted & (1 << (q))) != 0)
#define READY(q) (over[q] || INSERTED(q) || (seen[q] == life && !owes[q]))
#define FRESH && seen[p] == life
/* Its connection is gone. */
#define BROKEN :: seen[p] != life -> atomic { if :: plain -> plain_under_way-- :: else fi; goto begin }
/* From the answer that ends its claim on, the record is among those that are claimed again. */
#define IN_HAND has[p] = true; owes[p] = false
#else
#define FRESH
#define BROKEN
#define IN_HAND skip
#endif

#define ME (p + 1)
#define OTHERS(t) (owner[t] != 0 && owner[t] != ME)

/* Whatever a step leads to, a crash may come first. */
#define CRASH \
    :: crashes < CRASHES -> atomic { crashes++; if :: plain -> plain_under_way-- :: else fi; goto begin }

proctype Alloyd(byte p)
{
    byte n;      /* the table that we take for the newest */
    byte t;
    bool taken;  /* an older table has the id for the other record */
    bool plain;  /* we have seen no log */
#if FORGETS
    bool asked;  /* ClickHouse does not have the id */
#endif

begin:
    /* [HGETALL, or GET] The log. */
    atomic {
#if FORGETS
        seen[p] = life; asked = false;
#endif
        t = 0; taken = false; plain = false;
        if
        :: newest == 0 && p < PLAIN -> n = 0; plain = true; plain_under_way++
        :: newest > 0 -> n = newest
        fi
    }
    t = n;
#if FORGETS && !defined(RECLAIM_LOOKS_BACK)
    /* What is in hand is claimed whatever an older table has: the newer claim was its own, and is what is lost. */
    if
    :: has[p] -> goto claim_now
    :: else
    fi;
#endif
find:
    /* [HGET] In the older tables, the newer ones first. */
    do
    :: t == 0 -> break
    CRASH
    BROKEN
    :: t > 0 FRESH -> atomic {
            t--;
            if
            :: owner[t] == ME -> break
            :: OTHERS(t) -> taken = true; break
            :: else
            fi
        }
    od;
#ifdef OLD_OWN_IS_ENOUGH
    if
    :: n > 0 && t < n && owner[t] == ME && !taken -> goto own
    :: else
    fi;
#endif
claim:
    if
    :: taken -> goto who
    :: else
    fi;
#if FORGETS
    /* [HGET] Within a window: does the newest one know it? What is in hand is claimed whatever is distrusted. */
    if
    :: life > 0 && !has[p] && !asked -> if
        CRASH
        BROKEN
        :: owner[n] != 0 FRESH -> goto who
        :: owner[n] == 0 FRESH -> goto doubted
        fi
    :: else
    fi;
claim_now:
#endif
#ifndef NO_GATE
    /* [SET NX] While claims go to both, to the key first. */
    if
    :: n == 1 -> if
        CRASH
        BROKEN
        :: atomic { owner[0] == 0 FRESH -> owner[0] = ME }
        :: owner[0] == ME FRESH
        :: OTHERS(0) FRESH -> taken = true; goto who
        fi
    :: else
    fi;
#endif
    if
    CRASH
    BROKEN
    /* [HSETNX or SET NX] */
    :: atomic { owner[n] == 0 FRESH -> owner[n] = ME; goto check }
    :: owner[n] != 0 FRESH
    fi;
who:
    /* [HGET] Who has it in the newest one. */
    if
    CRASH
#ifdef OLD_OTHER_IS_ENOUGH
    :: taken -> goto duplicate
    :: !taken && owner[n] == ME -> goto check
#else
    BROKEN
    :: owner[n] == ME FRESH -> goto check
#endif
    :: (OTHERS(n) || (taken && owner[n] == 0)) FRESH -> goto duplicate
    fi;
check:
    /* [HGETALL] Is it still the newest? */
    if
    CRASH
    BROKEN
    :: atomic { plain FRESH -> plain_under_way--; plain = false; IN_HAND }; goto settled
#ifdef NO_SECOND_LOOK
    :: !plain -> goto own
#else
    :: atomic { !plain && n == newest FRESH -> IN_HAND }; goto own
    :: atomic { !plain && n != newest FRESH -> n = newest; taken = false; t = n }
#ifdef NO_SECOND_FIND
        goto claim
#else
#if FORGETS && !defined(RECLAIM_LOOKS_BACK)
        if
        :: has[p] -> goto claim_now
        :: else
        fi;
#endif
        goto find
#endif
#endif
    fi;
settled:
own:
#if FORGETS
hand:
    /* Its insert goes; its claims are set again when they may be lost. */
    do
    :: atomic { owes[p] && !INSERTED(p) -> goto begin }
    :: INSERTED(p) || life == FORGETS && !owes[p] -> over[p] = true; goto end
    od;
doubted:
    if
    CRASH
    BROKEN
#ifndef NO_HOLD
    :: READY(1 - p) FRESH
#else
    :: seen[p] == life
#endif
    fi;
    /* [ClickHouse] Does it have the id? */
    if
    CRASH
    BROKEN
#ifdef NO_CHECK
    :: seen[p] == life -> asked = true; goto claim_now
#else
    :: INSERTED(1 - p) FRESH -> goto duplicate
    :: !INSERTED(1 - p) FRESH -> asked = true; goto claim_now
#endif
    fi;
#else
    atomic {
        inserted = inserted | (1 << p);
        doubled_row = inserted == 3;
        assert(!doubled_row);
        goto end
    }
#endif
duplicate:
#if FORGETS
    /* Another has claimed what is in our insert: it may be there twice. */
    if
    :: atomic { has[p] -> owes[p] = false; goto hand }
    :: !has[p] -> t = 0
    fi;
    /* [EVAL] Claims of its own in older tables go before it is dropped: else they, and not the newer ones, may be what is left. */
    do
    :: t == TABLES -> break
    :: atomic { t < TABLES && (t == n || owner[t] != ME) -> t++ }
    :: atomic { t < TABLES && t != n && owner[t] == ME FRESH -> owner[t] = 0; t++ }
#ifdef NO_CLEAN_UP
    :: t < TABLES -> break
#else
    :: seen[p] != life && t < TABLES && t != n && owner[t] == ME -> goto begin
#endif
    od;
    over[p] = true;
#endif
    atomic {
        if :: plain -> plain_under_way-- :: else fi;
        dropped = dropped | (1 << p);
        lost_event = dropped == 3;
        assert(!lost_event)
    }
end:
    skip
}

#if FORGETS
/* The rows of an insert that is under way come at any time. */
proctype Insert(byte p)
{
end_none:
    atomic {
        has[p] -> inserted = inserted | (1 << p);
        doubled_row = inserted == 3;
        assert(!doubled_row)
    }
}

/* A failover to a replica that lacks some of the claims, and tables at the end of the log. */
proctype Failover()
{
    byte t;

    do
    :: life == FORGETS -> break
    :: atomic {
            life < FORGETS -> life++;
#ifdef LOG_FORGOTTEN
            do
            :: newest > FIRST -> owner[newest] = 0; newest--
            :: break
            od;
#endif
            t = 0;
            do
            :: t == TABLES -> break
            :: t < TABLES -> owner[t] = 0; t++
            :: t < TABLES -> t++
            od;
#ifndef NO_RECLAIM
            owes[0] = has[0]; owes[1] = has[1]
#endif
        }
    od
}
#endif

proctype Turn()
{
    do
    :: newest == TABLES - 1 -> break
#ifdef NO_MINUTE
    :: newest < TABLES - 1 -> newest++
#else
    /* For a minute claims go to both: no batch that has seen no log takes so long without looking again. */
    :: atomic { newest < TABLES - 1 && (newest != 1 || plain_under_way == 0) -> newest++ }
#endif
    :: newest > 0 -> break
    od
}

init
{
    atomic {
        run Alloyd(0); run Alloyd(1); run Turn()
#if FORGETS
        ; run Failover(); run Insert(0); run Insert(1)
#endif
    }
}
