/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_sink.c - writes finished log lines to standard error without ever blocking the threads that
 * log.
 *
 * A reader of standard error that stalls (a stopped pager, a hanging log shipper) must stop only
 * the log. So lines go into a bounded buffer, and a thread of its own writes them. When the buffer
 * is full, a line is dropped and counted; when there is room again, one line says how many are
 * missing there.
 *
 *     DIRECT --start--> BUFFERED --stop--> DIRECT      (all was written)
 *                                `-stop--> DISCARDING  (the reader stalls, and would stall us too)
 *
 * Runs on: log_sink_start() and log_sink_stop() on the main thread; the rest on any thread.
 * Owns: the buffer and its thread; standard error belongs to the process.
 */
#include "log_sink.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RETRY_MS 100                      /* when standard error is non-blocking and not ready */
#define RESUME_BYTES (LOG_SINK_BYTES / 4) /* that must be free after a gap to take lines again */
#define CRASH_FLUSH_MS 1000               /* how long a crash waits for its log */
#define FLUSH_STEP_NS 1000000

enum sink_state { SINK_DIRECT, SINK_BUFFERED, SINK_DISCARDING };

static struct {
    pthread_mutex_t mutex; /* never held during a system call that can block */
    pthread_cond_t filled;
    pthread_t writer;
    log_sink_gap_fn render_gap; /* constant while BUFFERED */
    /* under the mutex */
    enum sink_state state;
    size_t head;  /* of the first unwritten byte */
    uint64_t gap; /* lines dropped since the last one taken */
    char data[LOG_SINK_BYTES];
    /* written under the mutex, read by log_sink_flush() in a signal handler too */
    _Atomic size_t held; /* unwritten bytes from head on, wrapping around */
    /* any thread, lock-free */
    _Atomic uint64_t dropped;
    /* writer only */
    bool torn; /* the last write ended inside a line */
} sink = {.mutex = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

static size_t log_sink_held(void)
{
    return atomic_load_explicit(&sink.held, memory_order_relaxed);
}

/* Under the mutex. There must be room. */
static void log_sink_append(const char *data, size_t len)
{
    const size_t held = log_sink_held();
    const size_t at = (sink.head + held) % LOG_SINK_BYTES;
    const size_t first = len < LOG_SINK_BYTES - at ? len : LOG_SINK_BYTES - at;

    memcpy(sink.data + at, data, first);
    memcpy(sink.data, data + first, len - first);
    atomic_store_explicit(&sink.held, held + len, memory_order_relaxed);
}

/* Under the mutex. Appends the line about a gap, if there is one. */
static void log_sink_close_gap(void)
{
    char line[LOG_SINK_LINE_MAX];

    if (sink.gap == 0)
        return;
    log_sink_append(line, sink.render_gap(sink.gap, line));
    sink.gap = 0;
}

/* Copies whole lines, as many as fit into out. Under the mutex; the buffer is not empty. */
static size_t log_sink_peek(char out[LOG_SINK_LINE_MAX])
{
    const size_t held = log_sink_held();
    const size_t len = held < LOG_SINK_LINE_MAX ? held : LOG_SINK_LINE_MAX;
    const size_t first = len < LOG_SINK_BYTES - sink.head ? len : LOG_SINK_BYTES - sink.head;

    memcpy(out, sink.data + sink.head, first);
    memcpy(out + first, sink.data, len - first);
    /* No line is longer than out, so at least one ends in it. */
    return (size_t)((char *)memrchr(out, '\n', len) - out) + 1;
}

/* Returns how much was written; less than len when standard error takes no more. */
static size_t log_sink_write(const char *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        const ssize_t n = write(STDERR_FILENO, data + done, len - done);

        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};

            (void)poll(&ready, 1, RETRY_MS);
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    return done;
}

static void log_sink_count_dropped(uint64_t lines)
{
    atomic_fetch_add_explicit(&sink.dropped, lines, memory_order_relaxed);
}

/* Writes whole lines and counts those that standard error refuses: closed, or its disk is full. */
static void log_sink_write_lines(const char *data, size_t len)
{
    size_t done;

    if (sink.torn && log_sink_write("\n", 1) == 1)
        sink.torn = false; /* the next line must not follow half a line */
    done = log_sink_write(data, len);
    if (done == len)
        return;
    if (done > 0)
        sink.torn = data[done - 1] != '\n';
    for (; done < len; done++)
        log_sink_count_dropped(data[done] == '\n');
}

static void *log_sink_main(void *arg)
{
    char lines[LOG_SINK_LINE_MAX];

    (void)arg;
    pthread_mutex_lock(&sink.mutex);
    while (sink.state == SINK_BUFFERED) {
        size_t len;

        if (log_sink_held() == 0) {
            pthread_cond_wait(&sink.filled, &sink.mutex);
            continue;
        }
        len = log_sink_peek(lines);
        pthread_mutex_unlock(&sink.mutex);
        log_sink_write_lines(lines, len);
        pthread_mutex_lock(&sink.mutex);
        /* Before the buffer is empty, so that a flush waits for this line too. */
        if (log_sink_held() == len)
            log_sink_close_gap();
        sink.head = (sink.head + len) % LOG_SINK_BYTES;
        atomic_store_explicit(&sink.held, log_sink_held() - len, memory_order_relaxed);
        if (log_sink_held() == 0)
            sink.head = 0; /* so that few lines touch few pages */
    }
    pthread_mutex_unlock(&sink.mutex);
    return NULL;
}

/* Writes what was logged before a crash, then lets the crash go on. */
static void log_sink_on_crash(int number)
{
    log_sink_flush(CRASH_FLUSH_MS);
    /* After we return, a fault happens again and abort() raises again, now with the default action
     * (SA_RESETHAND). But a signal sent by kill(2) would not come again, so raise it. */
    raise(number);
}

static void log_sink_guard_crashes(void)
{
    static const int crashes[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction action = {.sa_handler = log_sink_on_crash, .sa_flags = (int)SA_RESETHAND};
    struct sigaction before;

    for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
        if (sigaction(crashes[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(crashes[i], &action, NULL);
}

int log_sink_start(log_sink_gap_fn gap)
{
    sigset_t all, before;
    int err;

    pthread_mutex_lock(&sink.mutex);
    sink.render_gap = gap;
    sink.state = SINK_BUFFERED;
    pthread_mutex_unlock(&sink.mutex);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&sink.writer, NULL, log_sink_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0) {
        pthread_mutex_lock(&sink.mutex);
        sink.state = SINK_DIRECT;
        pthread_mutex_unlock(&sink.mutex);
        return -err;
    }
    pthread_setname_np(sink.writer, "alloy-log");
    log_sink_guard_crashes();
    return 0;
}

void log_sink_put(const char *line, size_t len)
{
    enum sink_state state;
    size_t room;

    pthread_mutex_lock(&sink.mutex);
    state = sink.state;
    room = LOG_SINK_BYTES - log_sink_held();
    if (state == SINK_BUFFERED && room >= (sink.gap > 0 ? RESUME_BYTES : len)) {
        log_sink_close_gap();
        log_sink_append(line, len);
        pthread_cond_signal(&sink.filled);
    } else if (state == SINK_BUFFERED) {
        sink.gap++;
        log_sink_count_dropped(1);
    }
    pthread_mutex_unlock(&sink.mutex);
    if (state == SINK_DIRECT) {
        /* One write, so that lines of two threads never mix. If it fails we cannot report it. */
        (void)!write(STDERR_FILENO, line, len);
    } else if (state == SINK_DISCARDING) {
        log_sink_count_dropped(1);
    }
}

void log_sink_flush(unsigned wait_ms)
{
    const struct timespec step = {.tv_nsec = FLUSH_STEP_NS};

    for (; wait_ms > 0 && log_sink_held() > 0; wait_ms--)
        (void)nanosleep(&step, NULL);
}

void log_sink_stop(unsigned wait_ms)
{
    bool written;

    log_sink_flush(wait_ms);
    pthread_mutex_lock(&sink.mutex);
    if (sink.state != SINK_BUFFERED) {
        pthread_mutex_unlock(&sink.mutex);
        return;
    }
    written = log_sink_held() == 0;
    sink.state = written ? SINK_DIRECT : SINK_DISCARDING;
    pthread_cond_signal(&sink.filled);
    pthread_mutex_unlock(&sink.mutex);
    if (written)
        pthread_join(sink.writer, NULL);
    else
        pthread_detach(sink.writer); /* it is blocked in a write(2) that only the reader can end */
}

uint64_t log_sink_dropped(void)
{
    return atomic_load_explicit(&sink.dropped, memory_order_relaxed);
}
