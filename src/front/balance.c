/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balance.c - on how few front-end threads the connections can be.
 *
 * Only the last thread that has anything to do gives its connections up, so that two of them never
 * fill a third at the same time. What two need together is more than what one of them will need, so
 * the two limits below lie close together and yet nothing swings.
 *
 * One connection can fill a thread alone. It goes from full thread to full thread, each time with
 * half of the others; so a thread that was often full again soon gives none away for a while.
 *
 * Time that a thread waits for a CPU counts only after a second of it: then other programs are in
 * its way, and a second thread gets more of the machine. It also costs more a request, so a shorter
 * wait, such as for our own workers, is no reason for one.
 *
 * Runs on: each front-end thread for its own number.
 * Owns: nothing.
 */
#include "balance.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "alloy/clock.h"

#define FULL 900       /* a thread that runs so much gives some connections away */
#define TOGETHER 850   /* two threads that run no more than this together can be one */
#define BUSY 20        /* below it there is nothing to win */
#define DIFFERENCE 200 /* least by which the other thread is less awake */
#define STARVED 980    /* awake: it always has something to do */
#define STARVED_WINDOWS 10
#define SEPARATE_MS 2000
#define SEPARATE_STARVED_MS 10000
#define SPREADS_MAX 20 /* one after another, enough to fill 64 threads from one */
#define SPREAD_AGAIN_MS 10000

void balance_meter_open(struct balance_meter *meter)
{
    *meter = (struct balance_meter){.schedstat =
                                        open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)};
}

void balance_meter_close(struct balance_meter *meter)
{
    if (meter->schedstat >= 0)
        close(meter->schedstat);
    meter->schedstat = -1;
}

static uint64_t balance_run_ns(void)
{
    struct timespec spent;

    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent) != 0)
        return 0;
    return (uint64_t)spent.tv_sec * CLOCK_NS_PER_S + (uint64_t)spent.tv_nsec;
}

/* How long the thread has waited for a CPU, ever: the second number. 0: nobody says. */
static uint64_t balance_wait_ns(const struct balance_meter *meter)
{
    char text[64];
    unsigned long long run, wait = 0;
    const ssize_t n = meter->schedstat < 0 ? 0 : pread(meter->schedstat, text, sizeof(text) - 1, 0);

    if (n <= 0)
        return 0;
    text[n] = '\0';
    return sscanf(text, "%llu %llu", &run, &wait) == 2 ? wait : 0;
}

static unsigned balance_part(uint64_t ns, uint64_t of_ns)
{
    return ns >= of_ns ? BALANCE_WHOLE : (unsigned)(ns * BALANCE_WHOLE / of_ns);
}

bool balance_measure(struct balance *balance, unsigned self, struct balance_meter *meter,
                     uint64_t now_ns)
{
    struct balance_load *load = &balance->loads[self];
    const uint64_t window_ns = now_ns - meter->wall_ns;
    struct balance_meter now = {.schedstat = meter->schedstat, .wall_ns = now_ns};
    const bool first = meter->wall_ns == 0;
    unsigned run, awake;

    if (!first && window_ns < BALANCE_WINDOW_MS * CLOCK_NS_PER_MS)
        return false;
    now.run_ns = balance_run_ns();
    now.wait_ns = balance_wait_ns(meter);
    run = balance_part(now.run_ns - meter->run_ns, window_ns);
    awake = balance_part(now.run_ns - meter->run_ns + now.wait_ns - meter->wait_ns, window_ns);
    *meter = now;
    if (first)
        return false;
    atomic_store_explicit(&load->run, run, memory_order_relaxed);
    atomic_store_explicit(&load->awake, awake, memory_order_relaxed);
    load->starved = awake >= STARVED ? load->starved + 1 : 0;
    return true;
}

static unsigned balance_run(const struct balance *balance, unsigned thread)
{
    return atomic_load_explicit(&balance->loads[thread].run, memory_order_relaxed);
}

static unsigned balance_awake(const struct balance *balance, unsigned thread)
{
    return atomic_load_explicit(&balance->loads[thread].awake, memory_order_relaxed);
}

static bool balance_large(const struct balance *balance, unsigned thread)
{
    return atomic_load_explicit(&balance->loads[thread].large, memory_order_relaxed);
}

/* To the thread that is asleep most, so many that both will have equally much to do. */
static struct balance_wish balance_spread(const struct balance *balance, unsigned self,
                                          size_t active)
{
    const unsigned awake = balance_awake(balance, self);
    unsigned to = self, least = awake;

    for (unsigned i = 0; i < balance->count; i++)
        if (balance_awake(balance, i) < least)
            least = balance_awake(balance, to = i);
    if (active < 2 || awake - least < DIFFERENCE)
        return (struct balance_wish){.to = self};
    active = active * (awake - least) / (2 * awake);
    return (struct balance_wish){.to = to, .count = active > 0 ? active : 1};
}

/* To the first thread that can do this one's work as well. */
static struct balance_wish balance_gather(const struct balance *balance, unsigned self)
{
    const unsigned run = balance_run(balance, self);
    const struct balance_wish none = {.to = self};

    if (run < BUSY || balance_large(balance, self))
        return none;
    for (unsigned i = self + 1; i < balance->count; i++)
        if (balance_run(balance, i) >= BUSY)
            return none;
    for (unsigned i = 0; i < self; i++)
        if (balance_run(balance, i) >= BUSY && !balance_large(balance, i) &&
            run + balance_run(balance, i) <= TOGETHER)
            return (struct balance_wish){.to = i, .count = SIZE_MAX};
    return none;
}

struct balance_wish balance_decide(struct balance *balance, unsigned self,
                                   const struct balance_window *window)
{
    const uint64_t now_ms = window->now_ms;
    struct balance_load *load = &balance->loads[self];
    const bool full = balance_run(balance, self) >= FULL && !window->shed;
    struct balance_wish wish;

    atomic_store_explicit(&load->large, window->large, memory_order_relaxed);
    /* With a full ring it is not the front that is too slow. */
    if (window->shed)
        load->starved = 0;
    if (!full && load->starved < STARVED_WINDOWS) {
        if (now_ms - load->spread_ms >= SEPARATE_MS)
            load->spreads = 0;
        if (now_ms < atomic_load_explicit(&balance->separate_ms, memory_order_relaxed))
            return (struct balance_wish){.to = self};
        return balance_gather(balance, self);
    }
    load->starved = 0;
    if (load->spreads >= SPREADS_MAX && now_ms - load->spread_ms < SPREAD_AGAIN_MS)
        return (struct balance_wish){.to = self};
    wish = balance_spread(balance, self, window->active);
    if (wish.count == 0)
        return wish;
    load->spreads++;
    load->spread_ms = now_ms;
    atomic_store_explicit(&balance->separate_ms,
                          now_ms + (full ? SEPARATE_MS : SEPARATE_STARVED_MS),
                          memory_order_relaxed);
    return wish;
}
