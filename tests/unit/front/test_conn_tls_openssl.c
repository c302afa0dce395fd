/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_tls_openssl.c - what only TLS connections have: everything that test_conn_tls.c says,
 * of those whose records OpenSSL makes.
 */
#define CLIENT_CIPHERSUITES "TLS_AES_128_GCM_SHA256"
#include "test_conn_tls.c"
