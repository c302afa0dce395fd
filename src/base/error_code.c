/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error_code.c - the errors of the ingest port, for answers, metrics and the log alike.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/error_code.h"

static const struct {
    const char *name;
    uint16_t status;
} error_codes[ERROR_COUNT] = {
    [ERROR_NONE] = {"", 0},
#define ERROR_CODE(id, status) [ERROR_##id] = {#id, status},
#include "alloy/error_code.def"
};

const char *error_code_name(enum error_code error)
{
    ALLOY_ASSERT(error < ERROR_COUNT);
    return error_codes[error].name;
}

uint16_t error_code_status(enum error_code error)
{
    ALLOY_ASSERT(error < ERROR_COUNT);
    return error_codes[error].status;
}
