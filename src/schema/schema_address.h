/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_address.h - whether ClickHouse would take a text for a UUID or an IP address. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_SCHEMA_ADDRESS_H
#define ALLOY_SCHEMA_ADDRESS_H

#include "alloy/base.h"
#include "alloy/schema.h"

/* The inside of a string without escapes: SCHEMA_FITS or SCHEMA_FORMAT. */
enum schema_problem schema_address_check_uuid(struct slice text);
enum schema_problem schema_address_check_ipv4(struct slice text);
enum schema_problem schema_address_check_ipv6(struct slice text);

#endif
