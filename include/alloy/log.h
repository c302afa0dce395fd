/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - leveled log lines on stderr, logfmt or JSON.
 *
 * Each file says `#define LOG_MODULE "flusher"` before it includes this header and writes
 * `log_warn("insert rejected code=%d action=dead_letter", code)`: constant text, then key=value
 * pairs (a value with spaces is written as key="%s"). In JSON a value is a number where the format
 * has a conversion for numbers, and true or false where it is yes or no; a name stays a string,
 * whatever it looks like.
 *
 * Between log_start() and log_stop() a line goes into a buffer, and a thread of its own writes it,
 * so that a slow reader of standard error cannot hold up the threads that log. Before and after
 * that, one line is one write(2).
 */
#ifndef ALLOY_LOG_H
#define ALLOY_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

/* Sets what is written from now on, and how. Any thread, any time. */
void log_configure(enum log_level level, enum log_format format);

/* True when a line of this level would be written. Any thread. */
int log_enabled(enum log_level level);

/* True when standard error goes to systemd's journal, which takes the priority from the beginning
 * of a line: "<3>" is an error, "<4>" a warning, and one without counts as a notice of no weight.
 * For what is written before there is a log. Main thread. */
bool log_goes_to_journal(void);
/* From now on logging never blocks. Lines begin with their priority in the form of sd-daemon(3)
 * when standard error goes to systemd's journal. Returns 0 or -errno. Main thread. */
MUST_CHECK int log_start(void);
/* Ends what log_start() began, after waiting at most wait_ms for unwritten lines. Main thread. */
void log_stop(unsigned wait_ms);
/* Waits at most wait_ms until what was logged is written. Any thread. */
void log_flush(unsigned wait_ms);
/* Lines that were lost because standard error did not take them. Any thread. */
uint64_t log_dropped(void);

/* Writes one line. Any thread. Never blocks; a line that does not fit is counted and lost. */
void log_write(enum log_level level, const char *module, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(...) log_write(LOG_LEVEL_ERROR, LOG_MODULE, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, LOG_MODULE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, LOG_MODULE, __VA_ARGS__)
#define log_debug(...)                                           \
    do {                                                         \
        if (log_enabled(LOG_LEVEL_DEBUG))                        \
            log_write(LOG_LEVEL_DEBUG, LOG_MODULE, __VA_ARGS__); \
    } while (0)

/* Lines of which many may come: at most so many a second. Zero-initialise; one per place in the
 * code. */
struct log_burst {
    _Atomic uint64_t window; /* the second << 32 | lines in it */
    _Atomic uint64_t held;   /* lines held back since the last one written */
};
/* True when the caller may write its line now; *suppressed then tells how many lines were held back
 * before it. Any thread, lock-free. now_ms is clock_mono_ms(). */
int log_burst_pass(struct log_burst *burst, uint64_t now_ms, uint32_t per_s, uint64_t *suppressed);

/* A line that may repeat: at most one in interval_ms. Zero-initialise; one per place in the code.
 */
struct log_limit {
    _Atomic uint64_t next_ms; /* monotonic time before which the line is held back */
    _Atomic uint64_t held;    /* lines held back since the last one written */
};

/*
 * True when the caller may write its line now; *suppressed then tells how many lines it stands
 * for beside itself. Any thread, lock-free. now_ms is clock_mono_ms().
 */
int log_limit_pass(struct log_limit *limit, uint64_t now_ms, uint64_t interval_ms,
                   uint64_t *suppressed);

#endif
