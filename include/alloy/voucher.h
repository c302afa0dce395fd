/* SPDX-License-Identifier: Apache-2.0 */
/*
 * voucher.h - by which alloyd believes what alloyctl says about events that it replays: their ids,
 * and what their first requests told.
 *
 * A voucher is a header's value, `<real time, ms> <BLAKE2b-256 of the body> <MAC of both>`, with
 * digests in hexadecimal. Who does not have the key, which lies beside the dead letters, cannot
 * make one; and one that somebody has seen is good for its own body alone, for five minutes.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_VOUCHER_H
#define ALLOY_VOUCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"

#define VOUCHER_HEADER "Alloy-Replay"
#define VOUCHER_KEY_BYTES 32
#define VOUCHER_TEXT 152 /* room for one, NUL included */
#define VOUCHER_TIME_MS 300000

struct voucher_key {
    unsigned char bytes[VOUCHER_KEY_BYTES];
};

void voucher_write(const struct voucher_key *key, uint64_t real_ms, struct slice body,
                   char out[VOUCHER_TEXT]);
/* Judges a voucher without its body, at a cost that does not depend on the client. Returns NULL, or
 * one constant sentence about what is wrong with it. */
const char *voucher_problem(const struct voucher_key *key, uint64_t real_ms, struct slice text);
/* Whether a voucher with which nothing is wrong is about this body. */
bool voucher_is_for(struct slice text, struct slice body);

#endif
