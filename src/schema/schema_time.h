/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_time.h - whether ClickHouse would take a text for a date or a time. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_SCHEMA_TIME_H
#define ALLOY_SCHEMA_TIME_H

#include "alloy/base.h"
#include "alloy/schema.h"
#include "schema_type.h"

/* The inside of a string without escapes, for a column of one of the six kinds. */
enum schema_problem schema_time_check_text(const struct schema_type *type, struct slice text);
/* A number without fraction and exponent; digits: without its sign, and without zeros before it. */
enum schema_problem schema_time_check_number(const struct schema_type *type, struct slice digits,
                                             bool minus);

#endif
