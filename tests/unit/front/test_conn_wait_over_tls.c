/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_wait_over_tls.c - requests that wait for ClickHouse: everything that test_conn_wait.c
 * says, of TLS.
 */
#define OVER_TLS
#include "test_conn_wait.c"
