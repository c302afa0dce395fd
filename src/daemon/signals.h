/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals.h - takes TERM, INT, HUP and USR2 in every phase of the process, whatever main is doing.
 */
#ifndef ALLOY_SIGNALS_H
#define ALLOY_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"

enum signals_wish { SIGNALS_NONE, SIGNALS_RELOAD, SIGNALS_RESTART, SIGNALS_STOP };

/* Blocks the signals in the caller, and so in all threads that it starts later, and starts a thread
 * that waits for them. The second TERM or INT ends the process at once, with status 1. Returns 0 or
 * -errno. Main thread, once, before any other thread. */
MUST_CHECK int signals_start(void);
/* Returns what the operator wants, after at most timeout_ms; a request to stop stays. Main
 * thread. */
enum signals_wish signals_wait(uint64_t timeout_ms);
/* True after the first TERM or INT. Any thread. */
bool signals_stop_wanted(void);

#endif
