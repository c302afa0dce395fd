/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timeslice.h - how soon the kernel lets a thread run that somebody waits for.
 *
 * Runs on: any thread, for itself.
 */
#ifndef ALLOY_TIMESLICE_H
#define ALLOY_TIMESLICE_H

#include <stdint.h>

/*
 * Asks the kernel for shorter turns of the calling thread. It gets no more of the processor by
 * that, but gets it sooner: of threads that are ready the one with the shorter slice goes first,
 * and interrupts one with a longer slice when it wakes up (EEVDF, Linux 6.12). Needs no right.
 * Returns 0, or -errno where that is forbidden; older kernels take it and change nothing.
 */
int timeslice_set(uint64_t ns);

#endif
