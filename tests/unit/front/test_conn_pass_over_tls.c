/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_pass_over_tls.c - passed connections: everything that test_conn_pass.c says, of TLS.
 */
#define OVER_TLS
#include "test_conn_pass.c"
