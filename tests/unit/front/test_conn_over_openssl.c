/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_over_openssl.c - connections: everything that test_conn.c says, of TLS whose records
 * OpenSSL makes.
 */
#define OVER_TLS
#define CLIENT_CIPHERSUITES "TLS_AES_128_GCM_SHA256"
#include "test_conn.c"
