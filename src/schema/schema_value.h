/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_value.h - whether ClickHouse would store a JSON value in a column as it is. Pure.
 *
 * Runs on: any thread. No allocation.
 */
#ifndef ALLOY_SCHEMA_VALUE_H
#define ALLOY_SCHEMA_VALUE_H

#include "alloy/base.h"
#include "alloy/schema.h"
#include "schema_type.h"

/* What a value is put beside. */
struct schema_judge {
    const struct schema_types *types;
    unsigned unchecked; /* SCHEMA_SKIP_* */
};

/* What is wrong with a value, or with one inside it. */
struct schema_fault {
    enum schema_problem problem;
    uint32_t type;      /* a number in the types */
    struct slice value; /* the text at fault, in value */
};

/* Fills fault; SCHEMA_FITS: nothing is known against the value. value is the text of one JSON
 * value, without white space around it; any bytes are safe. */
void schema_value_check(const struct schema_judge *judge, uint32_t type, struct slice value,
                        struct schema_fault *fault);

#endif
