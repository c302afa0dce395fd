/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark_text.h - the words that a mark is made of.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_MARK_TEXT_H
#define ALLOY_MARK_TEXT_H

#include <stdint.h>

#include "alloy/base.h"
#include "alloy/mark.h"

/* Copies text from outside so that it is safe between quotes in a log line. */
void mark_text_copy(char to[MARK_IDENTITY_MAX + 1], struct slice from);
/* A number for a key prefix to suggest: the same for all alloyd of this table, and another for
 * other tables. */
uint32_t mark_text_number(const char *identity);
/* Takes the last word off a value; empty when there is only one. */
struct slice mark_text_cut_word(struct slice *value);

#endif
