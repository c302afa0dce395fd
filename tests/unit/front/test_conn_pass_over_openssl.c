/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_pass_over_openssl.c - a TLS connection whose records OpenSSL makes is not passed on.
 */
#define OVER_TLS
#define CLIENT_CIPHERSUITES "TLS_AES_128_GCM_SHA256"
#include "test_conn_pass.c"
