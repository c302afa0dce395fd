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
 * Configuration, by -D:
 *   TABLES    how many there are at the end, the keys among them
 *   FIRST     the newest table at the beginning
 *   PLAIN     how many of the two have layout = keys, and look at the log only before a batch
 *   CRASHES   of all together
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

bool doubled_row, lost_event;

byte owner[TABLES]; /* of the id's claim: 0, or the alloyd's number + 1 */
byte newest = FIRST;
byte plain_under_way; /* batches of alloyd that have seen no log */
byte crashes;
byte inserted, dropped; /* sets of records */

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

begin:
    /* [HGETALL, or GET] The log. */
    atomic {
        t = 0; taken = false; plain = false;
        if
        :: newest == 0 && p < PLAIN -> n = 0; plain = true; plain_under_way++
        :: newest > 0 -> n = newest
        fi
    }
    t = n;
find:
    /* [HGET] In the older tables, the newer ones first. */
    do
    :: t == 0 -> break
    CRASH
    :: t > 0 -> atomic {
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
#ifndef NO_GATE
    /* [SET NX] While claims go to both, to the key first. */
    if
    :: n == 1 -> if
        CRASH
        :: atomic { owner[0] == 0 -> owner[0] = ME }
        :: owner[0] == ME
        :: OTHERS(0) -> taken = true; goto who
        fi
    :: else
    fi;
#endif
    if
    CRASH
    /* [HSETNX or SET NX] */
    :: atomic { owner[n] == 0 -> owner[n] = ME; goto check }
    :: owner[n] != 0
    fi;
who:
    /* [HGET] Who has it in the newest one. */
    if
    CRASH
#ifdef OLD_OTHER_IS_ENOUGH
    :: taken -> goto duplicate
    :: !taken && owner[n] == ME -> goto check
#else
    :: owner[n] == ME -> goto check
#endif
    :: OTHERS(n) || (taken && owner[n] == 0) -> goto duplicate
    fi;
check:
    /* [HGETALL] Is it still the newest? */
    if
    CRASH
    :: plain -> atomic { plain_under_way--; plain = false }; goto settled
#ifdef NO_SECOND_LOOK
    :: !plain -> goto own
#else
    :: !plain && n == newest -> goto own
    :: atomic { !plain && n != newest -> n = newest; taken = false; t = n }
#ifdef NO_SECOND_FIND
        goto claim
#else
        goto find
#endif
#endif
    fi;
settled:
own:
    atomic {
        inserted = inserted | (1 << p);
        doubled_row = inserted == 3;
        assert(!doubled_row);
        goto end
    }
duplicate:
    atomic {
        if :: plain -> plain_under_way-- :: else fi;
        dropped = dropped | (1 << p);
        lost_event = dropped == 3;
        assert(!lost_event)
    }
end:
    skip
}

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
    atomic { run Alloyd(0); run Alloyd(1); run Turn() }
}
