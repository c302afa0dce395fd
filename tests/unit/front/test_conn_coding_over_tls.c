/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_coding_over_tls.c - compressed bodies: everything that test_conn_coding.c says, of TLS.
 */
#define OVER_TLS
#include "test_conn_coding.c"
