/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balance.h - on how few front-end threads the connections can be.
 *
 * A thread with more to do costs less a request: it sleeps less often, and its turns are larger. So
 * threads that are half busy give their connections to one, and a thread that is full gives half of
 * them to one that is not.
 *
 * Runs on: each front-end thread for its own number; it reads what the others have published.
 */
#ifndef ALLOY_BALANCE_H
#define ALLOY_BALANCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BALANCE_WINDOW_MS 100
#define BALANCE_WHOLE 1000u /* a CPU for all of a window */

/* What one thread has done in its last window. */
struct balance_load {
    _Atomic unsigned run;   /* parts of BALANCE_WHOLE: it ran; relaxed, as all here */
    _Atomic unsigned awake; /* it ran, or waited for a CPU */
    _Atomic bool large; /* it judged large bodies, which small requests had better not wait for */
    /* its own thread only */
    unsigned starved;   /* windows in a row in which it was hardly ever asleep */
    unsigned spreads;   /* how often it has given connections away and was soon full again */
    uint64_t spread_ms; /* when it did so last */
};

struct balance {
    unsigned count;               /* threads; constant */
    _Atomic uint64_t separate_ms; /* until then none gives its connections up; relaxed */
    struct balance_load *loads;   /* count */
};

/* What a thread uses of the processor; its own. */
struct balance_meter {
    int schedstat; /* -1: the kernel does not say how long it waited */
    uint64_t wall_ns, run_ns, wait_ns;
};

/* What a thread had to do in a window. */
struct balance_window {
    size_t active; /* connections that it answered */
    bool large;    /* it judged large bodies */
    bool shed;     /* it refused events that the ring had no room for */
    uint64_t now_ms;
};

/* How many connections to pass on, and to which thread; count 0: none. */
struct balance_wish {
    unsigned to;
    size_t count;
};

/* Of the calling thread. balance_meter_close() when it ends. */
void balance_meter_open(struct balance_meter *meter);
void balance_meter_close(struct balance_meter *meter);

/* Publishes the calling thread's load once its window has passed. False: it has not. */
bool balance_measure(struct balance *balance, unsigned self, struct balance_meter *meter,
                     uint64_t now_ns);

/* Decides after a window of the calling thread. */
struct balance_wish balance_decide(struct balance *balance, unsigned self,
                                   const struct balance_window *window);

#endif
