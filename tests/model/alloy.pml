/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloy.pml - admission, claims, frozen inserts, crash and replay, for spin.
 *
 * Every step of an instance is one guarded command, and its place in the code is a variable, so
 * that a crash can fall between any two steps and takes all volatile state at once. A step is no
 * larger than what one instruction, one Redis command or one ClickHouse block makes atomic; each
 * names it in brackets. Steps without shared effect are merged with a neighbor.
 *
 * A record is numbered by client, try and event; its number + 1 is its LSN, hence the value of its
 * claim. Event 0 of a request has id 0, event 1 has id 1. Sets of records are bit masks.
 *
 * Each guard of the code can be taken out, and each assumption broken, by a -D of its name; `run`
 * checks that every one of them is missed.
 *
 * Configuration, by -D:
 *   INSTANCES    1: two fronts and two workers in it; 2: one of each in each
 *   CRASHES      of instance 0, at any step
 *   POWER        sync = always, and a crash may be a loss of power
 *   REDIS        0: no second level (redis.url empty)
 *   SEGMENTS_STAY   finished records are still there at the restart
 *   FAULTS       Redis and ClickHouse may answer late or not at all
 *   REFUSALS     the journal may be full, and a sync may fail
 *   EVICTIONS    L1 may forget an id at any time
 *   TRIES        requests that client 0 sends for one event at most; TRIES_1: client 1
 *   EVENTS_0, EVENTS_1   what the two clients send: a mask of events
 *   CAPACITY     of each ring
 *   MOVES        the flusher of instance 0 may move records that it holds (journal_move())
 *   FAILOVERS    how often Redis may lose any of its claims (redis.distrust; its window never ends)
 */
#ifndef INSTANCES
#define INSTANCES 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef POWER
#define POWER 0
#endif
#ifndef REDIS
#define REDIS 1
#endif
#ifndef FAULTS
#define FAULTS 0
#endif
#ifndef REFUSALS
#define REFUSALS 0
#endif
#ifndef EVICTIONS
#define EVICTIONS 0
#endif
#ifndef TRIES
#define TRIES 2
#endif
#ifndef TRIES_1
#define TRIES_1 TRIES
#endif
#ifndef EVENTS_0
#define EVENTS_0 1
#endif
#ifndef EVENTS_1
#define EVENTS_1 3
#endif
#ifndef MOVES
#define MOVES 0
#endif
#ifndef FAILOVERS
#define FAILOVERS 0
#endif
#ifndef CAPACITY
#define CAPACITY 2
#endif

#define RECORDS (2 * TRIES * 2)
#if RECORDS > 8
#error "a set of records is a byte"
#endif
#define BIT(n) (1 << (n))
#define HAS(set, n) (((set) >> (n)) & 1)
#define ID(record) ((record) & 1)
#define RECORD(client, event) (((client) * TRIES + tries[client]) * 2 + (event))
#define EVENTS(client) (EVENTS_0 + (client) * (EVENTS_1 - EVENTS_0))
#define TRIES_OF(client) (TRIES + (client) * (TRIES_1 - TRIES))
#define HOME(n) ((n) * (INSTANCES - 1)) /* instance of front n, of worker n */
#if defined(CLAIM_BY_PLACE) && MOVES
#define LSN(r) ((r) + 1 + HAS(moved, r) * RECORDS)
#else
#define LSN(r) ((r) + 1)
#endif
#define COUNT(events) (((events) & 1) + ((events) >> 1))

/* ---- what must never be: one flag each, so that spin's message names it ---- */
bool doubled_row, lost_event, leaked_slot, trace_of_503, stuck;

/* ---- clients: each sends its events until it is content, has no try left, or gives up ---- */
mtype = { WANTS, WAITS, DONE };
mtype client_at[2] = WANTS;
byte tries[2];
byte answered;   /* ids that some 202 covered */
byte possible;   /* ids that some request without a 503 has carried */

/* ---- the journals: they outlive a crash ---- */
byte live, inserted, duplicate, refused; /* records by state; in none: not there */
byte home;                               /* 1: in the journal of instance 1 */
byte synced;
byte insert_of[RECORDS]; /* 0: not part of an insert yet */
byte stamp_synced;
byte next_insert = 1; /* drawn by either instance: no two tokens are ever the same */
bool journal_failed[INSTANCES];
#if MOVES
/* A record that was moved is the same event: its state and its insert are those of the copy, and
 * these tell what a crash makes of the original. */
byte copied;        /* its copy is written */
byte moved;         /* its original is marked */
byte copy_synced, mark_synced;
byte stale;         /* both are LIVE: left by a crash */
byte twins;         /* a mutant's: the other one, yet to be handed out */
byte moving;        /* the record under way */
byte insert_before[RECORDS]; /* of the original */
#endif

/* ---- volatile state of an instance ---- */
mtype = { IDLE, JUDGE, RESERVE, RESERVE_JOURNAL, APPEND, SYNC, GIVE_UP, CANCEL, ENTER, LOSE,
          CANCEL_LOST, PUBLISH, ANSWER, REFUSE };
bool up[INSTANCES] = true;
byte l1[INSTANCES]; /* ids */
byte credits[INSTANCES];
byte ring[INSTANCES]; /* records; the order is left open */
byte feed[INSTANCES]; /* records that replay has yet to bring to the ring */

mtype front_at[2] = IDLE;
bit front_client[2];
byte front_event[2]; /* the next event of the loop that it is in */
byte front_fresh[2]; /* events that were not in L1 */
byte front_won[2];   /* events whose id it entered */

mtype = { LOOKUP, CHECK, SET, VERIFY, SORT_OUT };
mtype worker_at[2] = IDLE;
byte worker_batch[2];
byte worker_todo[2];  /* records for this round */
byte worker_again[2]; /* records for the next round */
byte worker_lost[2];  /* records whose id another record has claimed */

mtype = { STAMP, SYNC_STAMP, POST, FINISH, MOVE_SYNC, MOVE_MARK, MOVE_SYNC_MARK, MOVE_COPY };
mtype flusher_at[INSTANCES] = IDLE;
byte inbox[INSTANCES];   /* records that workers have handed over */
byte frozen[INSTANCES];  /* records that replay has handed over in their inserts */
byte sending[INSTANCES]; /* records of the insert under way */
byte stamping[INSTANCES];
byte token[INSTANCES];

/* ---- Redis and ClickHouse: they keep what they have acknowledged ---- */
byte claim[2];     /* of each id: LSN, or 0 */
byte late_set;     /* a SET that its sender has given up and that may still arrive: LSN, or 0 */
byte rows;         /* ids */
short tokens;      /* the deduplication window */
byte late_token;   /* likewise an insert */
byte late_rows;
bit redis_failed;  /* one failure of Redis a run */

#if FAILOVERS
byte life;                /* of Redis: how often it has failed over */
byte saw[INSTANCES];      /* the last one that an instance knows of */
byte old[INSTANCES];      /* records that it holds under claims of an earlier life */
byte reclaim[INSTANCES];  /* records of its inserts that it has yet to claim again */
/* Of a claim that Redis did not know, but another life may have. */
#define WITHIN(i) (saw[i] == life)
#ifdef NO_HOLD
#define READY true
#elif INSTANCES == 2
#define READY (WITHIN(0) && reclaim[0] == 0 && WITHIN(1) && reclaim[1] == 0)
#else
#define READY (WITHIN(0) && reclaim[0] == 0)
#endif
#ifdef NO_CHECK
#define AFTER_LOOKUP SET
#else
#define AFTER_LOOKUP (life != 0 -> CHECK : SET)
#endif
#define OLD(i) old[i]
#else
#define WITHIN(i) true
#define AFTER_LOOKUP SET
#define OLD(i) 0
#endif

byte crashes_left = CRASHES;

inline apply(the_token, the_records)
{
    if
#ifndef NO_TOKEN
    :: HAS(tokens, the_token) -> skip
    :: else ->
#else
    :: true ->
#endif
        tokens = tokens | BIT(the_token);
        applied = 0;
        do
        :: applied == RECORDS -> break
        :: applied < RECORDS && HAS(the_records, applied) ->
            doubled_row = HAS(rows, ID(applied));
            assert(!doubled_row);
            rows = rows | BIT(ID(applied));
            applied++
        :: applied < RECORDS && !HAS(the_records, applied) -> applied++
        od
    fi;
    applied = 0
}

inline set_nx(lsn)
{
    if
    :: claim[ID(lsn - 1)] == 0 -> claim[ID(lsn - 1)] = lsn
    :: else -> skip
    fi
}

inline lowest(set, n)
{
    n = 0;
    do
    :: HAS(set, n) -> break
    :: else -> n++
    od
}

/* The client's part of an answer: content, once more, or no more. */
inline content_or_again(client)
{
    if
    :: client_at[client] = DONE
    :: tries[client] + 1 < TRIES_OF(client) -> tries[client]++; client_at[client] = WANTS
    fi
}

/* ---- admission.c ---- */

inline next_event(f, events, after)
{
    /* moves front_event[f] to the next event of a set, or on to the next step */
    do
    :: front_event[f] < 2 && !HAS(events, front_event[f]) -> front_event[f]++
    :: front_event[f] < 2 && HAS(events, front_event[f]) -> break
    :: front_event[f] == 2 -> front_event[f] = 0; front_at[f] = after; break
    od
}

#define FRONT(place) front_at[f] == place
#define I HOME(f)
#define R RECORD(front_client[f], front_event[f])

/* Where a step of admission leads to, so that a guard taken out can turn it elsewhere. */
#ifdef NO_RESERVE_FIRST
#define AFTER_JUDGE APPEND
#define AFTER_ENTER RESERVE
#define AFTER_RESERVE PUBLISH
#else
#define AFTER_JUDGE RESERVE
#define AFTER_ENTER PUBLISH
#define AFTER_RESERVE RESERVE_JOURNAL
#endif
#ifdef L1_BEFORE_JOURNAL
#define AFTER_RESERVE_JOURNAL ENTER
#define AFTER_SYNC PUBLISH
#else
#define AFTER_RESERVE_JOURNAL APPEND
#define AFTER_SYNC ENTER
#endif

proctype Front(bit f)
{
    bit c;

end:
    do
    :: atomic { FRONT(IDLE) && up[I] && client_at[0] == WANTS ->
        front_client[f] = 0; client_at[0] = WAITS;
        front_at[f] = JUDGE; next_event(f, EVENTS_0, ANSWER) }
    :: atomic { FRONT(IDLE) && up[I] && client_at[1] == WANTS ->
        front_client[f] = 1; client_at[1] = WAITS;
        front_at[f] = JUDGE; next_event(f, EVENTS_1, ANSWER) }

    /* judge() [cds_lfht_lookup] */
    :: atomic { FRONT(JUDGE) ->
        if
        :: HAS(l1[I], front_event[f]) -> skip
        :: !HAS(l1[I], front_event[f]) -> front_fresh[f] = front_fresh[f] | BIT(front_event[f])
#if EVICTIONS
        :: HAS(l1[I], front_event[f]) -> l1[I] = l1[I] & ~BIT(front_event[f]);
            front_fresh[f] = front_fresh[f] | BIT(front_event[f])
#endif
        fi;
        front_event[f]++;
        next_event(f, EVENTS(front_client[f]), AFTER_JUDGE);
        if
        :: front_at[f] == AFTER_JUDGE -> next_event(f, front_fresh[f], ANSWER)
        :: else -> skip
        fi }

    /* ring_reserve() [compare and exchange] */
    :: atomic { FRONT(RESERVE) ->
        if
        :: credits[I] + COUNT(front_fresh[f]) <= CAPACITY ->
            credits[I] = credits[I] + COUNT(front_fresh[f]);
            front_at[f] = AFTER_RESERVE; next_event(f, front_fresh[f], ANSWER)
        :: else -> front_at[f] = REFUSE
        fi }

    /* journal_writer_reserve() [the writer's lock] */
    :: atomic { FRONT(RESERVE_JOURNAL) ->
        if
        :: !journal_failed[I] ->
            front_at[f] = AFTER_RESERVE_JOURNAL; next_event(f, front_fresh[f], ANSWER)
#if REFUSALS
        :: true -> front_at[f] = CANCEL
#endif
        fi }

    /* journal_writer_append() [the store of the record's state, its last] */
    :: atomic { FRONT(APPEND) ->
        live = live | BIT(R);
        home = home | (I << R);
        front_event[f]++;
        next_event(f, front_fresh[f], SYNC) }

    /* journal_writer_sync() [all or nothing as far as the answer is concerned] */
    :: atomic { FRONT(SYNC) ->
        if
        :: !journal_failed[I] ->
#if POWER && !defined(NO_SYNC)
            synced = synced | (front_fresh[f] << RECORD(front_client[f], 0));
#endif
            front_at[f] = AFTER_SYNC; next_event(f, front_fresh[f], ANSWER)
#if REFUSALS
        :: true -> journal_failed[I] = true;
            front_at[f] = GIVE_UP; next_event(f, front_fresh[f], ANSWER)
#endif
        fi }
#if REFUSALS
    /* give_up(): journal_finish() [store of the state] */
    :: atomic { FRONT(GIVE_UP) ->
        live = live & ~BIT(R);
        refused = refused | BIT(R);
        front_event[f]++;
        next_event(f, front_fresh[f], CANCEL) }
#endif
    /* ring_cancel() [fetch and subtract] */
    :: atomic { FRONT(CANCEL) ->
        credits[I] = credits[I] - COUNT(front_fresh[f]);
        front_at[f] = REFUSE }

    /* enter(): l1_add() [cds_lfht_add_unique] */
    :: atomic { FRONT(ENTER) ->
        if
#ifndef NO_ADD_UNIQUE
        :: HAS(l1[I], front_event[f]) -> front_at[f] = LOSE
        :: else ->
#else
        :: true ->
#endif
            l1[I] = l1[I] | BIT(front_event[f]);
            front_won[f] = front_won[f] | BIT(front_event[f]);
            front_event[f]++;
            next_event(f, front_fresh[f], CANCEL_LOST)
        fi }
    /* journal_finish() of the loser [store of the state] */
    :: atomic { FRONT(LOSE) ->
        live = live & ~BIT(R);
        duplicate = duplicate | BIT(R);
        front_at[f] = ENTER;
        front_event[f]++;
        next_event(f, front_fresh[f], CANCEL_LOST) }
    /* ring_cancel() for the losers [fetch and subtract] */
    :: atomic { FRONT(CANCEL_LOST) ->
#if !defined(CANCEL_FORGOTTEN) && !defined(NO_RESERVE_FIRST)
        credits[I] = credits[I] - COUNT(front_fresh[f] & ~front_won[f]);
#endif
#ifdef L1_BEFORE_JOURNAL
        front_fresh[f] = front_won[f];
        front_at[f] = APPEND; next_event(f, front_won[f], ANSWER)
#else
#ifdef NO_RESERVE_FIRST
        front_fresh[f] = front_won[f];
#endif
        front_at[f] = AFTER_ENTER; next_event(f, front_won[f], ANSWER)
#endif
        }

    /* ring_publish() [the release store of the slot's turn] */
    :: atomic { FRONT(PUBLISH) ->
        ring[I] = ring[I] | BIT(R);
        front_event[f]++;
        next_event(f, front_won[f], ANSWER) }

    /* The client hears of it, or not. */
    :: atomic { FRONT(ANSWER) ->
        c = front_client[f];
        possible = possible | EVENTS(c);
        if
        :: answered = answered | EVENTS(c)
        :: true -> skip
        fi;
        content_or_again(c);
        front_at[f] = IDLE; front_client[f] = 0; front_event[f] = 0; front_fresh[f] = 0;
        front_won[f] = 0; c = 0 }
    :: atomic { FRONT(REFUSE) ->
        c = front_client[f];
        if
        :: true -> skip
        :: possible = possible | EVENTS(c) /* the 503 is lost: the client cannot know */
        fi;
        content_or_again(c);
        front_at[f] = IDLE; front_client[f] = 0; front_event[f] = 0; front_fresh[f] = 0;
        front_won[f] = 0; c = 0 }
    od
}
#undef I
#undef R

/* ---- worker.c and claims.c ---- */
#define WORKER(place) worker_at[w] == place
#define I HOME(w)

proctype Worker(bit w)
{
    byte r;

end:
    do
    /* ring_take() [compare and exchange of head; the credits go back at once] */
    :: atomic { WORKER(IDLE) && ring[I] != 0 ->
        if
        :: worker_batch[w] = ring[I]
        :: lowest(ring[I], r); worker_batch[w] = BIT(r)
        fi;
        ring[I] = ring[I] & ~worker_batch[w];
        r = 0;
        do
        :: r < RECORDS && HAS(worker_batch[w], r) -> credits[I]--; r++
        :: r < RECORDS && !HAS(worker_batch[w], r) -> r++
        :: r == RECORDS -> r = 0; break
        od;
        worker_at[w] = (REDIS -> LOOKUP : SORT_OUT) }

    /* the first MGET [one command] */
    :: atomic { WORKER(LOOKUP) && WITHIN(I) ->
        r = 0;
        do
        :: r == RECORDS -> r = 0; break
        :: r < RECORDS ->
            if
            :: HAS(worker_batch[w], r) && claim[ID(r)] == 0 ->
                worker_todo[w] = worker_todo[w] | BIT(r)
#ifdef CLAIM_NOT_OWN_LSN
            :: HAS(worker_batch[w], r) && claim[ID(r)] != 0 ->
#else
            :: HAS(worker_batch[w], r) && claim[ID(r)] != 0 && claim[ID(r)] != LSN(r) ->
#endif
                worker_lost[w] = worker_lost[w] | BIT(r)
            :: else -> skip
            fi;
            r++
        od;
        worker_at[w] = (worker_todo[w] != 0 -> AFTER_LOOKUP : SORT_OUT) }
#if FAILOVERS
    /* doubted.c: asks ClickHouse [one SELECT], once all have claimed again what they have in hand */
#ifdef CHECK_BEFORE_HOLD
    :: atomic { WORKER(CHECK) && WITHIN(I) ->
#else
    :: atomic { WORKER(CHECK) && WITHIN(I) && READY ->
#endif
        r = 0;
        do
        :: r == RECORDS -> r = 0; break
        :: r < RECORDS ->
            if
            :: HAS(worker_todo[w], r) && HAS(rows, ID(r)) ->
                worker_todo[w] = worker_todo[w] & ~BIT(r);
                worker_lost[w] = worker_lost[w] | BIT(r)
            :: else -> skip
            fi;
            r++
        od;
        worker_at[w] = (worker_todo[w] != 0 -> SET : SORT_OUT) }
#endif

    /* SET NX [one command]; replies are read later, but what they say is settled here */
    #ifdef CHECK_BEFORE_HOLD
    :: atomic { WORKER(SET) && WITHIN(I) && READY ->
#else
    :: atomic { WORKER(SET) && WITHIN(I) ->
#endif
        lowest(worker_todo[w], r);
        if
        :: true ->
            if
#ifndef NO_NX
            :: claim[ID(r)] != 0 -> worker_again[w] = worker_again[w] | BIT(r)
            :: else -> claim[ID(r)] = r + 1
#else
            :: claim[ID(r)] = r + 1
#endif
            fi;
            worker_todo[w] = worker_todo[w] & ~BIT(r);
            if
            :: worker_todo[w] == 0 && worker_again[w] == 0 -> worker_at[w] = SORT_OUT
            :: worker_todo[w] == 0 && worker_again[w] != 0 -> worker_at[w] = VERIFY
            :: else -> skip
            fi
#if FAULTS
        /* No answer in time: the connection is dropped and all of the batch is claimed again. The
         * SET was run, or is run later, or never. */
        :: !redis_failed ->
            redis_failed = 1;
            if
            :: true -> set_nx(r + 1)
            :: late_set = r + 1
            :: true -> skip
            fi;
#ifdef PASS
            /* what has no verdict goes on unclaimed */
            worker_todo[w] = 0; worker_again[w] = 0;
            worker_at[w] = SORT_OUT
#else
            worker_todo[w] = 0; worker_again[w] = 0; worker_lost[w] = 0;
            worker_at[w] = LOOKUP
#endif
#endif
        fi;
        r = 0 }

    /* the second MGET [one command] */
    :: atomic { WORKER(VERIFY) && WITHIN(I) ->
        r = 0;
        do
        :: r == RECORDS -> r = 0; break
        :: r < RECORDS ->
            if
#ifdef NO_VERIFY
            :: HAS(worker_again[w], r) ->
#else
            :: HAS(worker_again[w], r) && claim[ID(r)] != r + 1 ->
#endif
                worker_lost[w] = worker_lost[w] | BIT(r)
            :: else -> skip
            fi;
            r++
        od;
        worker_again[w] = 0;
        worker_at[w] = SORT_OUT }

    /* sort_out(): journal_finish() [store of the state], one by one; then flusher_submit()
     * [compare and exchange of the inbox] */
    :: atomic { WORKER(SORT_OUT) && worker_lost[w] != 0 ->
        lowest(worker_lost[w], r);
        live = live & ~BIT(r);
        duplicate = duplicate | BIT(r);
        worker_batch[w] = worker_batch[w] & ~BIT(r);
        worker_lost[w] = worker_lost[w] & ~BIT(r);
        r = 0 }
    :: atomic { WORKER(SORT_OUT) && worker_lost[w] == 0 ->
        inbox[I] = inbox[I] | worker_batch[w];
        worker_batch[w] = 0;
        worker_at[w] = IDLE }
    od
}
#undef I

/* ---- flusher.c: one insert in flight ---- */
#define FLUSHER(place) flusher_at[i] == place

#ifdef STAMP_AFTER_POST
#define AFTER_DRAW POST
#define AFTER_STAMP FINISH
#define AFTER_POST (stamping[i] == 0 -> FINISH : STAMP)
#else
#define AFTER_DRAW STAMP
#define AFTER_STAMP POST
#define AFTER_POST FINISH
#endif

proctype Flusher(bit i)
{
    byte r, applied;

end:
    do
    /* an insert that replay has found again */
    :: atomic { FLUSHER(IDLE) && frozen[i] != 0 ->
        lowest(frozen[i], r);
        token[i] = insert_of[r];
        r = 0;
        do
        :: r == RECORDS -> r = 0; break
        :: r < RECORDS ->
            if
            :: HAS(frozen[i], r) && insert_of[r] == token[i] -> sending[i] = sending[i] | BIT(r)
            :: else -> skip
            fi;
            r++
        od;
        frozen[i] = frozen[i] & ~sending[i];
        flusher_at[i] = POST }
#if MOVES
    /* journal_move() of a record that is held and not in flight */
    :: atomic { FLUSHER(IDLE) && i == 0 && ((inbox[0] | frozen[0]) & ~moved) != 0 ->
        lowest((inbox[0] | frozen[0]) & ~moved, r);
        moving = BIT(r);
        insert_before[r] = insert_of[r];
#ifdef MARK_BEFORE_COPY
        flusher_at[0] = MOVE_MARK;
#else
        copied = copied | moving; /* [the store of the copy's state] */
        flusher_at[0] = MOVE_SYNC;
#endif
        r = 0 }
    :: atomic { FLUSHER(MOVE_SYNC) ->
#if POWER && !defined(NO_SYNC_OF_COPY)
        copy_synced = copy_synced | moving;
#endif
        flusher_at[0] = MOVE_MARK }
    /* [the store of the original's state] */
    :: atomic { FLUSHER(MOVE_MARK) ->
        moved = moved | moving;
#ifdef MARK_BEFORE_COPY
        flusher_at[0] = MOVE_COPY }
    :: atomic { FLUSHER(MOVE_COPY) ->
        copied = copied | moving;
#endif
        flusher_at[0] = MOVE_SYNC_MARK }
    :: atomic { FLUSHER(MOVE_SYNC_MARK) ->
#if POWER && !defined(NO_SYNC_OF_MARK)
        mark_synced = mark_synced | moving;
#endif
        moving = 0;
        flusher_at[0] = IDLE }
#endif
    /* build() and journal_next_insert_id() */
    :: atomic { FLUSHER(IDLE) && (inbox[i] & ~OLD(i)) != 0 ->
        sending[i] = inbox[i] & ~OLD(i);
        stamping[i] = sending[i];
        inbox[i] = inbox[i] & OLD(i);
        token[i] = next_insert;
        next_insert++;
        flusher_at[i] = AFTER_DRAW }

#if FAILOVERS
    /* What was claimed in an earlier life goes back to a worker. */
    :: atomic { FLUSHER(IDLE) && (inbox[i] & old[i]) != 0 ->
        lowest(inbox[i] & old[i], r);
        inbox[i] = inbox[i] & ~BIT(r);
        old[i] = old[i] & ~BIT(r);
        ring[i] = ring[i] | BIT(r);
        credits[i]++;
        r = 0 }
#endif

    /* journal_stamp() [store of the insert id], one by one */
    :: atomic { FLUSHER(STAMP) ->
        lowest(stamping[i], r);
        insert_of[r] = token[i];
        stamping[i] = stamping[i] & ~BIT(r);
        r = 0;
        if
        :: stamping[i] == 0 -> flusher_at[i] = (POWER -> SYNC_STAMP : AFTER_STAMP)
        :: else -> skip
        fi }
#if POWER
    :: atomic { FLUSHER(SYNC_STAMP) ->
#ifndef NO_SYNC_STAMP
        stamp_synced = stamp_synced | sending[i];
#endif
        flusher_at[i] = AFTER_STAMP }
#endif

    /* post [a block goes in whole, with its token] */
    :: atomic { FLUSHER(POST) ->
#ifdef FINISH_BEFORE_ANSWER
        live = live & ~sending[i];
        inserted = inserted | sending[i];
#endif
        if
        :: true -> apply(token[i], sending[i]);
            flusher_at[i] = AFTER_POST
#if FAULTS
        :: true -> apply(token[i], sending[i]) /* the answer is lost: again */
#ifdef RETRY_NEW_TOKEN
            ; token[i] = next_insert; next_insert++
#endif
#ifdef NOT_FROZEN
            ; sending[i] = sending[i] | inbox[i]; inbox[i] = 0
#endif
        :: late_token == 0 -> late_token = token[i]; late_rows = sending[i]
#endif
        fi }
    /* journal_finish() [store of the state], one by one */
    :: atomic { FLUSHER(FINISH) ->
        lowest(sending[i], r);
        live = live & ~BIT(r);
        inserted = inserted | BIT(r);
        sending[i] = sending[i] & ~BIT(r);
        r = 0;
        if
        :: sending[i] == 0 -> token[i] = 0; flusher_at[i] = IDLE
        :: else -> skip
        fi }
    od
}

/* replay.c: feed_ring() */
proctype Replay(bit i)
{
    byte r;

end:
    do
    :: atomic { feed[i] != 0 && up[i] && credits[i] < CAPACITY ->
        credits[i]++;
        lowest(feed[i], r);
        feed[i] = feed[i] & ~BIT(r);
        ring[i] = ring[i] | BIT(r);
        r = 0 }
#if MOVES
    :: atomic { i == 0 && up[0] && (twins & ~live) != 0 ->
        lowest(twins & ~live, r);
        twins = twins & ~BIT(r);
        live = live | BIT(r); inserted = inserted & ~BIT(r); insert_of[r] = 0;
        feed[0] = feed[0] | BIT(r);
        r = 0 }
#endif
    od
}

#if FAILOVERS
/* distrust.c: an instance learns of another life of Redis, since its connections break, or it looks.
 * What its workers are about is claimed again from the start. */
inline notice(i, w)
{
    saw[i] = life;
    w = 0;
    do
    :: w == 2 -> break
    :: w < 2 && HOME(w) != i -> w++
    :: w < 2 && HOME(w) == i ->
        if
        :: worker_at[w] == SORT_OUT -> old[i] = old[i] | worker_batch[w]
        :: worker_at[w] == CHECK || worker_at[w] == SET || worker_at[w] == VERIFY ->
            worker_todo[w] = 0; worker_again[w] = 0; worker_lost[w] = 0; worker_at[w] = LOOKUP
        :: else -> skip
        fi;
        w++
    od;
    w = 0;
#ifndef NO_RECALL
    old[i] = old[i] | inbox[i];
#else
    old[i] = 0;
#endif
#ifndef NO_RECLAIM
    reclaim[i] = sending[i] | frozen[i];
#endif
}

proctype Watch(bit i)
{
    byte r;

end:
    do
    :: atomic { up[i] && saw[i] != life -> notice(i, r) }
    /* SET NX [one command] */
    :: atomic { up[i] && saw[i] == life && reclaim[i] != 0 ->
        lowest(reclaim[i], r);
        set_nx(r + 1);
        reclaim[i] = reclaim[i] & ~BIT(r);
        r = 0 }
    od
}
#endif

/* What was given up by its sender arrives after all, or does not. */
proctype Late()
{
    byte applied;
#if defined(REDIS_FORGETS) || defined(WINDOW_FORGETS)
    bit forgotten;
#endif
#if FAILOVERS
    byte failovers_left = FAILOVERS;
#endif

end:
    do
    :: atomic { late_set != 0 -> set_nx(late_set); late_set = 0 }
    :: atomic { late_set != 0 -> late_set = 0 }
    :: atomic { late_token != 0 -> apply(late_token, late_rows); late_token = 0; late_rows = 0 }
    :: atomic { late_token != 0 -> late_token = 0; late_rows = 0 }
#if FAILOVERS
    /* A replica takes over that lacks the last writes: with an id each, any of the claims. What was
     * on its way to the old master does not reach it. */
    :: atomic { failovers_left > 0 ->
        failovers_left--;
        life++;
        late_set = 0;
        if
        :: claim[0] = 0
        :: claim[1] = 0
        :: claim[0] = 0; claim[1] = 0
        fi }
#endif
#ifdef REDIS_FORGETS
    :: atomic { claim[0] != 0 && !forgotten -> claim[0] = 0; forgotten = 1 }
#endif
#ifdef WINDOW_FORGETS
    :: atomic { tokens != 0 && !forgotten -> tokens = 0; forgotten = 1 }
#endif
    od
}

/* ---- crash, recover.c and replay.c ---- */

#define IN_0(n) (INSTANCES == 1 || (n) == 0) /* front n, worker n: of instance 0 */
#define OF_0 (~home & (live | inserted | duplicate | refused))

/* The requests under way get no answer. */
inline lose_fronts(f)
{
    f = 0;
    do
    :: f == 2 -> break
    :: f < 2 && (!IN_0(f) || front_at[f] == IDLE) -> f++
    :: f < 2 && IN_0(f) && front_at[f] != IDLE ->
        possible = possible | EVENTS(front_client[f]);
        content_or_again(front_client[f]);
        front_at[f] = IDLE; front_client[f] = 0; front_event[f] = 0;
        front_fresh[f] = 0; front_won[f] = 0;
        f++
    od;
    f = 0
}

/* A command that is on its way may arrive all the same. */
inline lose_workers(w, r)
{
    w = 0;
    do
    :: w == 2 -> break
    :: w < 2 && IN_0(w) ->
        if
        :: worker_at[w] == SET && late_set == 0 -> lowest(worker_todo[w], r); late_set = r + 1
        :: true -> skip
        fi;
        worker_at[w] = IDLE; worker_batch[w] = 0; worker_todo[w] = 0; worker_again[w] = 0;
        worker_lost[w] = 0;
        w++
    :: w < 2 && !IN_0(w) -> w++
    od;
    w = 0; r = 0
}

inline lose_flusher()
{
    if
    :: flusher_at[0] == POST && late_token == 0 -> late_token = token[0]; late_rows = sending[0]
    :: true -> skip
    fi;
    flusher_at[0] = IDLE; inbox[0] = 0; frozen[0] = 0; sending[0] = 0; stamping[0] = 0; token[0] = 0
}

#if MOVES
/* The marks and copies that were not synced, before the states of what is left. A copy that is
 * finished may have gone with its segment as well. */
inline lose_moves(r)
{
    r = 0;
    do
    :: r == RECORDS -> break
    :: r < RECORDS && !HAS(copied | moved, r) -> r++
    :: r < RECORDS && HAS(copied | moved, r) ->
        if
        :: true -> skip
        :: HAS(moved, r) && !HAS(mark_synced, r) -> stale = stale | BIT(r)
        fi;
        if
        :: true -> skip
        :: !HAS(copy_synced, r) || HAS(inserted, r) ->
            /* without its copy: the original, if that is LIVE */
            if
            :: HAS(inserted, r) && !HAS(stale, r) -> skip
            :: HAS(moved, r) && !HAS(stale, r) && !HAS(inserted, r) -> live = live & ~BIT(r)
            :: !HAS(moved, r) || HAS(stale, r) ->
                live = live | BIT(r); inserted = inserted & ~BIT(r);
                duplicate = duplicate & ~BIT(r);
                insert_of[r] = insert_before[r];
                copied = copied & ~BIT(r); moved = moved & ~BIT(r); stale = stale & ~BIT(r);
                copy_synced = copy_synced & ~BIT(r)
            fi
        fi;
        r++
    od;
    r = 0
}

/* recover_settle_moves(): one of two is believed, the other marked, on disk. */
inline settle_moves(r)
{
    stale = stale | (copied & ~moved & live);
    r = 0;
    do
    :: r == RECORDS -> break
    :: r < RECORDS ->
        if
        :: HAS(moved & ~copied, r) -> live = live & ~BIT(r)
#ifdef RECOVERY_TAKES_BOTH
        :: HAS(stale & copied, r) -> twins = twins | BIT(r)
#endif
        :: else -> skip
        fi;
        r++
    od;
    moved = moved | copied;
#if POWER && !defined(NO_SYNC_AT_START)
    copy_synced = copy_synced | copied;
#endif
#if POWER && !defined(NO_SYNC_OF_SETTLED)
    mark_synced = mark_synced | moved;
#endif
    stale = 0; moving = 0; r = 0
}
#endif

/* What was not synced may be gone or old, in any combination of pages. */
inline lose_pages(r)
{
    r = 0;
    do
    :: r == RECORDS -> break
    :: r < RECORDS && !HAS(OF_0, r) -> r++
    :: r < RECORDS && HAS(OF_0, r) ->
        if
        :: true -> skip
        :: !HAS(synced, r) || !HAS(live, r) ->
            inserted = inserted & ~BIT(r); duplicate = duplicate & ~BIT(r);
            if
            :: HAS(synced, r) -> live = live | BIT(r)
            :: !HAS(synced, r) -> live = live & ~BIT(r); insert_of[r] = 0
            fi
        fi;
        if
        :: true -> skip
        :: !HAS(stamp_synced, r) && insert_of[r] != 0 -> insert_of[r] = 0
        fi;
        r++
    od;
    r = 0
}

#if !REDIS
/* Claims alone could tell the LIVE records of one id from each other: without them one is kept, the
 * one in an insert if there is one, and none where another record of the id is INSERTED. */
inline drop_doubles(r)
{
    byte kept; /* ids */

    r = 0;
    do
    :: r == RECORDS -> break
    :: r < RECORDS ->
        if
        :: HAS(~home & live, r) && insert_of[r] != 0 -> kept = kept | BIT(ID(r))
#ifndef DOUBLES_OF_INSERTED
        :: HAS(~home & inserted, r) && all -> kept = kept | BIT(ID(r))
#endif
        :: else -> skip
        fi;
        r++
    od;
    r = 0;
    do
    :: r == RECORDS -> break
    :: r < RECORDS ->
        if
        :: HAS(~home & live, r) && insert_of[r] == 0 && HAS(kept, ID(r)) ->
            live = live & ~BIT(r); duplicate = duplicate | BIT(r)
        :: HAS(~home & live, r) && insert_of[r] == 0 && !HAS(kept, ID(r)) ->
            kept = kept | BIT(ID(r))
        :: else -> skip
        fi;
        r++
    od;
    r = 0; kept = 0
}
#endif

/* recover_run(), before the first connection; finished records may have gone with their segment. */
inline recover(r)
{
    bit all;

    if
#ifndef SEGMENTS_STAY
    :: all = 0
#endif
    :: all = 1
    fi;
#if !REDIS
    drop_doubles(r);
#endif
#if MOVES
    settle_moves(r);
#endif
    r = 0;
    do
    :: r == RECORDS -> break
    :: r < RECORDS && !HAS(OF_0, r) -> r++
    :: r < RECORDS && HAS(OF_0, r) ->
        if
        :: HAS(live, r) && insert_of[r] == 0 -> feed[0] = feed[0] | BIT(r)
#ifdef REPLAY_THAWED
        :: HAS(live, r) && insert_of[r] != 0 -> feed[0] = feed[0] | BIT(r)
#else
        :: HAS(live, r) && insert_of[r] != 0 -> frozen[0] = frozen[0] | BIT(r)
#endif
        :: else -> skip
        fi;
        if
#ifdef REPLAY_REFUSED_TO_L1
        :: HAS(live, r) || all -> l1[0] = l1[0] | BIT(ID(r))
#else
        :: HAS(live, r) || (all && HAS(inserted, r)) -> l1[0] = l1[0] | BIT(ID(r))
#endif
        :: else -> skip
        fi;
        r++
    od;
#if POWER && !defined(NO_SYNC_AT_START)
    synced = synced | (~home & live);
    stamp_synced = stamp_synced | (~home & live);
#endif
    r = 0; all = 0
}

proctype Crash()
{
    byte n, r;

end:
    do
    :: atomic { up[0] && crashes_left > 0 ->
        crashes_left--;
        up[0] = false;
        l1[0] = 0; credits[0] = 0; ring[0] = 0; feed[0] = 0; journal_failed[0] = false;
#if FAILOVERS
        old[0] = 0; reclaim[0] = 0; saw[0] = life; /* the others do not wait for it */
#endif
        lose_fronts(n);
        lose_workers(n, r);
        lose_flusher();
#if POWER
        if
#if MOVES
        :: lose_moves(r); lose_pages(r)
#else
        :: lose_pages(r)
#endif
        :: true -> skip
        fi
#endif
        }
    :: atomic { !up[0] -> recover(r); up[0] = true }
    od
}

#define BUSY(n) (front_at[n] != IDLE || worker_at[n] != IDLE || client_at[n] != DONE)
#define WORKING(i) \
    (ring[i] != 0 || feed[i] != 0 || inbox[i] != 0 || frozen[i] != 0 || flusher_at[i] != IDLE)
#if INSTANCES == 2
#define WORKING_ANY (WORKING(0) || WORKING(1))
#define CREDITS (credits[0] + credits[1])
#define L1S (l1[0] | l1[1])
#else
#define WORKING_ANY WORKING(0)
#define CREDITS credits[0]
#define L1S l1[0]
#endif

init
{
    atomic {
        /* How often this run crashes: one that is still to come keeps it from counting as quiet. */
        if
        :: skip
#if CRASHES > 0
        :: crashes_left = 0
#endif
#if CRASHES > 1
        :: crashes_left = 1
#endif
        fi;
        run Front(0); run Front(1);
        run Worker(0); run Worker(1);
        run Flusher(0);
        run Replay(0);
#if INSTANCES == 2
        run Flusher(1);
#endif
#if FAILOVERS
        run Watch(0);
#if INSTANCES == 2
        run Watch(1);
#endif
#endif
        run Late();
        run Crash()
    }
    /* Quiet: nobody can take another step. */
    atomic { timeout ->
        lost_event = (answered & ~rows) != 0;
        assert(!lost_event);
        trace_of_503 = (~possible & (rows | L1S)) != 0;
        assert(!trace_of_503);
        leaked_slot = CREDITS != 0;
        assert(!leaked_slot);
        stuck = live != 0 || BUSY(0) || BUSY(1) || WORKING_ANY;
        assert(!stuck)
    }
}
