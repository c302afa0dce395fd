/* SPDX-License-Identifier: Apache-2.0 */
/*
 * form.h - the member data of a form or a query, which holds JSON or base64 of JSON. Mixpanel's
 * SDKs send events so, and posthog-js when a page goes away.
 *
 * Core: no memory of its own.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_FORM_H
#define ALLOY_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/coding.h"
#include "alloy/http_parse.h"

/* Zero, but for skip, before the first byte. */
struct form {
    size_t skip;        /* bytes of CODING_FORM_PREFIX to come */
    unsigned escape;    /* digits that an escape still lacks */
    unsigned byte;      /* what it says so far */
    bool base64, plain; /* neither: nothing has come yet */
    bool padded, ended; /* by =, and by the next member of the form */
    uint32_t bits;      /* of base64, not yet a byte */
    unsigned bit_count;
};

/* Decodes until raw is used or out is full, with at most one byte of out for each of raw. Returns
 * NULL, or one constant sentence that says what is wrong. */
const char *form_decode(struct form *form, struct slice *raw, struct coding_out *out);
/* No more bytes come. Returns NULL, or what is wrong. */
const char *form_end(const struct form *form);

/* What a GET without a body has in the parameter data of its query, as a form would have it; lent
 * as long as the head. Empty: it is no such request. */
struct slice form_of_request(const struct http_request *request);

#endif
