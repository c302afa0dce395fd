/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pulse.c - threads report in, so that we can name one that hangs.
 *
 * Runs on: pulse_look() on the main thread; the rest on any thread. Owns: the slots.
 */
#include "alloy/pulse.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "alloy/base.h"
#include "alloy/clock.h"

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_BEATING };

static struct slot {
    _Atomic int state;        /* release when it becomes BEATING or FREE, acquire in pulse_look() */
    _Atomic uint64_t beat_ms; /* last beat plus slack; relaxed: orders nothing else */
    /* written by the joining thread, while FILLING */
    char name[PULSE_NAME_MAX];
    /* pulse_look() only */
    bool hangs;
    char hung_name[PULSE_NAME_MAX];
} CACHE_ALIGNED slots[PULSE_THREADS_MAX];

/* pulse_look() only. */
static uint64_t looked_ms;
static uint64_t floor_ms; /* silence before this does not count */

static _Thread_local struct slot *own_slot;

void pulse_join(const char *name)
{
    for (size_t i = 0; own_slot == NULL && i < PULSE_THREADS_MAX; i++) {
        struct slot *slot = &slots[i];
        int state = SLOT_FREE;

        if (!atomic_compare_exchange_strong_explicit(&slot->state, &state, SLOT_FILLING,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        snprintf(slot->name, sizeof(slot->name), "%s", name);
        atomic_store_explicit(&slot->beat_ms, clock_coarse_ms(), memory_order_relaxed);
        atomic_store_explicit(&slot->state, SLOT_BEATING, memory_order_release);
        own_slot = slot;
    }
}

void pulse_beat(uint64_t slack_ms)
{
    if (own_slot != NULL)
        atomic_store_explicit(&own_slot->beat_ms, clock_coarse_ms() + slack_ms,
                              memory_order_relaxed);
}

void pulse_leave(void)
{
    if (own_slot != NULL)
        atomic_store_explicit(&own_slot->state, SLOT_FREE, memory_order_release);
    own_slot = NULL;
}

/* How long the slot's thread has been silent, if for too long; 0: it beats, or the slot is free. */
static uint64_t pulse_silent_ms(struct slot *slot, uint64_t now_ms, uint64_t bound_ms)
{
    uint64_t since_ms;

    if (atomic_load_explicit(&slot->state, memory_order_acquire) != SLOT_BEATING)
        return 0;
    since_ms = atomic_load_explicit(&slot->beat_ms, memory_order_relaxed);
    if (since_ms < floor_ms)
        since_ms = floor_ms;
    return since_ms + bound_ms < now_ms ? now_ms - since_ms : 0;
}

size_t pulse_look(uint64_t now_ms, uint64_t bound_ms, pulse_told_fn told, void *arg)
{
    size_t hanging = 0;

    /* The whole process was stopped, or the machine too busy: give the threads time to beat. */
    if (now_ms - looked_ms > bound_ms / 2)
        floor_ms = now_ms;
    looked_ms = now_ms;
    for (size_t i = 0; i < PULSE_THREADS_MAX; i++) {
        struct slot *slot = &slots[i];
        const uint64_t silent_ms = pulse_silent_ms(slot, now_ms, bound_ms);

        hanging += silent_ms > 0;
        if (silent_ms > 0 && !slot->hangs) {
            slot->hangs = true;
            memcpy(slot->hung_name, slot->name, sizeof(slot->name));
            told(arg, slot->hung_name, silent_ms);
        } else if (silent_ms == 0 && slot->hangs) {
            slot->hangs = false;
            told(arg, slot->hung_name, 0);
        }
    }
    return hanging;
}
