/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_sink.h - writes finished log lines to standard error without ever blocking the threads that
 * log.
 */
#ifndef ALLOY_LOG_SINK_H
#define ALLOY_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

#define LOG_SINK_LINE_MAX 4096 /* PIPE_BUF: lines of two processes in one pipe do not mix */
#define LOG_SINK_BYTES (1u << 20)

/* Writes the line that says that count lines were dropped, with its newline, and returns its
 * length. Called under the sink's lock: it must not log. */
typedef size_t (*log_sink_gap_fn)(uint64_t count, char out[LOG_SINK_LINE_MAX]);

/* Before this, and after log_sink_stop(), the thread that logs writes its lines itself. Returns 0
 * or -errno. Main thread. */
MUST_CHECK int log_sink_start(log_sink_gap_fn gap);
/* Takes one line of at most LOG_SINK_LINE_MAX bytes, its newline included. Any thread. Between
 * start and stop it never blocks: a line that does not fit is dropped and counted. */
void log_sink_put(const char *line, size_t len);
/* Waits until all is written, at most wait_ms. Any thread; async-signal-safe. */
void log_sink_flush(unsigned wait_ms);
/* Flushes for at most wait_ms and ends the writer. Lines that a stalled reader has not taken by
 * then are lost, and so are later ones. Main thread. */
void log_sink_stop(unsigned wait_ms);
/* Lines lost since the start of the process. Any thread. */
uint64_t log_sink_dropped(void);

#endif
