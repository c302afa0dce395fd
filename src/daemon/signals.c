/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals.c - takes TERM, INT, HUP and USR2 in every phase of the process, whatever main is doing.
 *
 * A pending signal cannot become pending twice: a main thread that reads a journal for a minute
 * would see one TERM when the operator has sent two. So a thread of its own takes each signal at
 * once, counts, and exits at the second TERM or INT whatever the others do.
 *
 * Runs on: its own thread, which lives as long as the process; signals_start() and signals_wait()
 * on main. Owns: the descriptor that wakes main.
 */
#define LOG_MODULE "signals"
#include "signals.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "alloy/log.h"

#define LAST_LINE_MS 100 /* how long an immediate exit waits for its own line to be written */

static struct {
    sigset_t taken; /* constant after signals_start(), like the next */
    int wake_fd;
    _Atomic bool stop;    /* release in the thread, acquire in main */
    _Atomic bool reload;  /* the same */
    _Atomic bool restart; /* the same */
} signals;

static void signals_wake_main(_Atomic bool *wish)
{
    const uint64_t one = 1;

    atomic_store_explicit(wish, true, memory_order_release);
    (void)!write(signals.wake_fd, &one, sizeof(one));
}

static void *signals_main(void *arg)
{
    (void)arg;
    for (;;) {
        const int number = sigwaitinfo(&signals.taken, NULL);

        if (number == SIGHUP) {
            signals_wake_main(&signals.reload);
        } else if (number == SIGUSR2) {
            signals_wake_main(&signals.restart);
        } else if (number > 0 && !signals_stop_wanted()) {
            signals_wake_main(&signals.stop);
        } else if (number > 0) {
            log_warn("second signal signal=%d action=exit_at_once", number);
            log_flush(LAST_LINE_MS);
            _exit(1);
        }
    }
    return NULL;
}

int signals_start(void)
{
    sigset_t all, taken_too;
    pthread_t thread;
    int err;

    sigemptyset(&signals.taken);
    sigaddset(&signals.taken, SIGTERM);
    sigaddset(&signals.taken, SIGINT);
    sigaddset(&signals.taken, SIGHUP);
    sigaddset(&signals.taken, SIGUSR2);
    signals.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (signals.wake_fd < 0)
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &taken_too);
    err = -pthread_create(&thread, NULL, signals_main, NULL);
    sigaddset(&taken_too, SIGTERM);
    sigaddset(&taken_too, SIGINT);
    sigaddset(&taken_too, SIGHUP);
    sigaddset(&taken_too, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &taken_too, NULL);
    if (err != 0)
        return err;
    pthread_setname_np(thread, "alloy-signals");
    pthread_detach(thread);
    return 0;
}

enum signals_wish signals_wait(uint64_t timeout_ms)
{
    struct pollfd woken = {.fd = signals.wake_fd, .events = POLLIN};
    uint64_t count;

    (void)poll(&woken, 1, timeout_ms < INT32_MAX ? (int)timeout_ms : INT32_MAX);
    (void)!read(signals.wake_fd, &count, sizeof(count));
    if (signals_stop_wanted())
        return SIGNALS_STOP;
    if (atomic_exchange_explicit(&signals.restart, false, memory_order_acquire))
        return SIGNALS_RESTART;
    return atomic_exchange_explicit(&signals.reload, false, memory_order_acquire) ? SIGNALS_RELOAD
                                                                                  : SIGNALS_NONE;
}

bool signals_stop_wanted(void)
{
    return atomic_load_explicit(&signals.stop, memory_order_acquire);
}
