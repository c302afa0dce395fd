/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proof.h - whether a table's column tells of each row by which insert it came: stream.proof. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_PROOF_H
#define ALLOY_PROOF_H

#include <stdbool.h>

#include "alloy/config.h"
#include "table_facts.h"

#define PROOF_TEXT_MAX 448

/* Whether a table of this engine keeps the rows of an insert as they came, and can show them. */
bool proof_engine(const char *engine);
/*
 * Whether the column stream.proof tells, with inserts as they are sent; else out says why not, and
 * what to do, for people. columns NULL: they could not be read. There must be a stream.proof, and
 * the table must exist.
 */
bool proof_tells(const struct config_stream *stream, const struct table_facts *facts,
                 const struct table_columns *columns, bool async, char out[PROOF_TEXT_MAX]);

#endif
