/* SPDX-License-Identifier: Apache-2.0 */
/*
 * successor.h - the next life of this process: the same program, or a newer one in its place, with
 * the same listening sockets and process id.
 *
 * Runs on: the main thread.
 */
#ifndef ALLOY_SUCCESSOR_H
#define ALLOY_SUCCESSOR_H

#include "alloy/base.h"
#include "alloy/inherited.h"

#define SUCCESSOR_OUTPUT_MAX 8192

/* Notes which file the process runs. At start, before that file can be replaced. */
void successor_init(void);

/* Lets the program that would follow check the configuration, for at most 10 s. Returns 0; or
 * -errno with what it wrote, or a sentence, in output. */
MUST_CHECK int successor_check(char *const *argv, char output[SUCCESSOR_OUTPUT_MAX]);

/* Becomes the successor, with these sockets. Returns only when that fails, -errno. All other
 * threads must have ended, but for the one that waits for signals. */
int successor_become(char *const *argv, const struct inherited *sockets);

#endif
