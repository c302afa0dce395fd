/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error_code.h - the errors of the ingest port, for answers, metrics and the log alike. The rows
 * are in error_code.def.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_ERROR_CODE_H
#define ALLOY_ERROR_CODE_H

#include <stdint.h>

#include "alloy/base.h"

enum error_code {
    ERROR_NONE, /* a success */
#define ERROR_CODE(id, status) ERROR_##id,
#include "alloy/error_code.def"
    ERROR_COUNT
};

/* Constant text; "" for ERROR_NONE. */
const char *error_code_name(enum error_code error);
/* 0 for ERROR_NONE. */
uint16_t error_code_status(enum error_code error);

#endif
