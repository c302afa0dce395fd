/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attribute.h - decodes header values that are percent-encoded, as those of CloudEvents' binary
 * mode are (HTTP protocol binding 1.0.2, section 3.1.3.2).
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_ATTRIBUTE_H
#define ALLOY_ATTRIBUTE_H

#include "alloy/base.h"

/*
 * Decodes a value once: a quoted string first, then percent-encoding. A percent sign without two
 * hexadecimal digits stands for itself. Where that gives no UTF-8 the value counts as it came: its
 * sender does not encode so. Returns a slice of value, or of out, which gets up to size bytes; the
 * rest of a longer value is cut off.
 */
struct slice attribute_decode(struct slice value, char *out, size_t size);

#endif
