/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_over_tls.c - connections: everything that test_conn.c says, of TLS.
 */
#define OVER_TLS
#include "test_conn.c"
