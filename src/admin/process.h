/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.h - what this process takes of the machine, as Prometheus's client libraries name it.
 */
#ifndef ALLOY_PROCESS_H
#define ALLOY_PROCESS_H

struct evbuffer;

/* Appends process_cpu_seconds_total and the like; leaves out what the system does not tell. Any
 * thread. */
void process_write(struct evbuffer *out);

#endif
