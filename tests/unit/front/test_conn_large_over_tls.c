/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_large_over_tls.c - bodies that are judged over several turns: everything that
 * test_conn_large.c says, of TLS.
 */
#define OVER_TLS
#include "test_conn_large.c"
