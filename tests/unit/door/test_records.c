/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_records.c - TLS 1.3 records beside OpenSSL's: its cipher and its HKDF are the oracle here,
 * and its client in the tests of connections. A mirrored pair plays both sides.
 */
#include "alloy/records.h"

#include "tls_fixture.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#define TAG 16

static struct records_secrets secrets;
static struct records *server, *client;
static char raw[2 * (RECORDS_PLAIN_MAX + 1000)];
static struct records_opened opened;

/* The label of RFC 8446 section 7.1, by OpenSSL's HKDF. */
static void derive(const unsigned char *secret, const char *label, unsigned char *out, size_t len)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    char info[64];
    size_t info_len = (size_t)snprintf(info, sizeof(info), "%c%c%ctls13 %s%c", 0, (int)len,
                                       (int)(6 + strlen(label)), label, 0);
    OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA384", 6),
        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, RECORDS_SECRET),
        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_INFO, info, info_len),
        OSSL_PARAM_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_END,
    };

    assert_int_equal(EVP_KDF_derive(context, out, len, params), 1);
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
}

static EVP_CIPHER_CTX *cipher(const unsigned char *secret, uint64_t number, bool encrypts)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    unsigned char key[32], iv[12];

    derive(secret, "key", key, sizeof(key));
    derive(secret, "iv", iv, sizeof(iv));
    for (int i = 11; number > 0; number >>= 8)
        iv[i--] ^= (unsigned char)number;
    assert_int_equal(EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key, iv, encrypts), 1);
    return context;
}

/* Writes to out the record of this number that holds inner, whatever that is. Returns its length.
 */
static size_t make(uint64_t number, const void *inner, size_t len, char *out)
{
    EVP_CIPHER_CTX *context = cipher(secrets.client, number, true);
    unsigned char *bytes = (unsigned char *)out;
    int n;

    memcpy(bytes, "\x17\x03\x03", 3);
    bytes[3] = (unsigned char)((len + TAG) >> 8);
    bytes[4] = (unsigned char)(len + TAG);
    assert_int_equal(EVP_CipherUpdate(context, NULL, &n, bytes, 5), 1);
    if (len > 0)
        assert_int_equal(EVP_CipherUpdate(context, bytes + 5, &n, inner, (int)len), 1);
    assert_int_equal(EVP_CipherFinal_ex(context, bytes + 5 + len, &n), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, bytes + 5 + len), 1);
    EVP_CIPHER_CTX_free(context);
    return 5 + len + TAG;
}

/* Opens the server's record of this number with OpenSSL; returns the length of what is in it. */
static size_t look_into(const unsigned char *secret, uint64_t number, const char *record, void *out)
{
    EVP_CIPHER_CTX *context = cipher(secret, number, false);
    const unsigned char *bytes = (const unsigned char *)record;
    const int len = (bytes[3] << 8 | bytes[4]) - TAG;
    int n;

    assert_memory_equal(bytes, "\x17\x03\x03", 3);
    assert_int_equal(EVP_CipherUpdate(context, NULL, &n, bytes, 5), 1);
    assert_int_equal(EVP_CipherUpdate(context, out, &n, bytes + 5, len), 1);
    assert_int_equal(
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(bytes + 5 + len)), 1);
    assert_int_equal(EVP_CipherFinal_ex(context, (unsigned char *)out + len, &n), 1);
    EVP_CIPHER_CTX_free(context);
    return (size_t)len;
}

static int setup(void **state)
{
    struct records_secrets mirrored;

    (void)state;
    secrets = (struct records_secrets){.has_client = true, .has_server = true};
    memset(secrets.client, 'c', RECORDS_SECRET);
    memset(secrets.server, 's', RECORDS_SECRET);
    mirrored = secrets;
    memcpy(mirrored.client, secrets.server, RECORDS_SECRET);
    memcpy(mirrored.server, secrets.client, RECORDS_SECRET);
    server = records_create(&secrets);
    client = records_create(&mirrored);
    assert_non_null(server);
    assert_non_null(client);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    records_destroy(server);
    records_destroy(client);
    server = client = NULL;
    return 0;
}

/* A new server, whose client has sent nothing yet. */
static void restart(void)
{
    teardown(NULL);
    setup(NULL);
}

static void what_is_sealed_is_what_openssl_opens(void **state)
{
    static const size_t lens[] = {
        1, 15, 16, 17, 300, 4096, RECORDS_PLAIN_MAX - 1, RECORDS_PLAIN_MAX};
    static char data[RECORDS_PLAIN_MAX], inside[RECORDS_PLAIN_MAX + 1 + TAG];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7);
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        const size_t len = records_seal(server, data, lens[i], raw);

        assert_int_equal(len, lens[i] + 22);
        assert_int_equal(look_into(secrets.server, i, raw, inside), lens[i] + 1);
        assert_memory_equal(inside, data, lens[i]);
        assert_int_equal(inside[lens[i]], 23);
        assert_int_equal(records_open(client, raw, len, &opened), RECORDS_DATA);
        assert_int_equal(opened.raw, len);
        assert_int_equal(opened.len, lens[i]);
        assert_memory_equal(opened.data, data, lens[i]);
    }
}

static void padding_is_no_data(void **state)
{
    static char inner[RECORDS_PLAIN_MAX + 1];
    size_t len;

    (void)state;
    memcpy(inner, "abc\x17", 4);
    for (uint64_t n = 0; n < 4; n++) {
        static const size_t padded[] = {4, 5, 300, RECORDS_PLAIN_MAX + 1};

        len = make(n, inner, padded[n], raw);
        assert_int_equal(records_open(server, raw, len, &opened), RECORDS_DATA);
        assert_int_equal(opened.raw, len);
        assert_int_equal(opened.len, 3);
        assert_memory_equal(opened.data, "abc", 3);
    }
    /* No data is data too; and the type of one may look like the content of another. */
    len = make(4, "\x17\0\0", 3, raw);
    assert_int_equal(records_open(server, raw, len, &opened), RECORDS_DATA);
    assert_int_equal(opened.len, 0);
}

static void a_part_of_a_record_is_not_opened(void **state)
{
    size_t len;

    (void)state;
    len = make(0, "abc\x17", 4, raw);
    for (size_t i = 0; i < len; i++) {
        assert_false(records_is_whole(raw, i));
        assert_int_equal(records_open(server, raw, i, &opened), RECORDS_MORE);
    }
    assert_true(records_is_whole(raw, len));
    assert_int_equal(records_open(server, raw, len + 100, &opened), RECORDS_DATA);
    assert_int_equal(opened.raw, len);
}

/* The alert that the client would get. */
static int alert(uint64_t number)
{
    unsigned char inside[64];

    (void)records_alert(server, raw);
    assert_int_equal(look_into(secrets.server, number, raw, inside), 3);
    assert_int_equal(inside[2], 21);
    assert_int_equal(inside[0], inside[1] == 0 ? 1 : 2);
    return inside[1];
}

/* Only the version of the head is not looked at by itself, but the tag covers it. */
static void a_changed_byte_is_noticed(void **state)
{
    size_t len;

    (void)state;
    len = make(0, "abc\x17", 4, raw);
    for (size_t i = 0; i < len; i++) {
        restart();
        make(0, "abc\x17", 4, raw);
        raw[i] ^= 1;
        if (i == 3 || i == 4) {
            /* Another length: more is needed, or the tag is wrong. */
            assert_true(records_open(server, raw, len, &opened) != RECORDS_DATA);
            continue;
        }
        assert_int_equal(records_open(server, raw, len, &opened), RECORDS_WRONG);
        assert_int_equal(alert(0), i == 0 ? 10 : 20);
    }
}

/* Long ones are opened by another way, with the same keys and the same care. */
static void long_records_are_records(void **state)
{
    static char inner[RECORDS_PLAIN_MAX + 1];
    unsigned char next[RECORDS_SECRET];
    size_t len;

    (void)state;
    memset(inner, 'x', sizeof(inner));
    for (uint64_t n = 0; n < 8; n++) {
        const size_t size = n % 2 == 0 ? sizeof(inner) - n : 4096 - 6 + n;

        if (n == 4) { /* new keys count for them */
            len = make(n, "\x18\0\0\1\0\x16", 6, raw);
            assert_int_equal(records_open(server, raw, len, &opened), RECORDS_NEWS);
            derive(secrets.client, "traffic upd", next, sizeof(next));
            memcpy(secrets.client, next, sizeof(next));
        }
        inner[size - 1] = 23;
        len = make(n < 4 ? n : n - 4, inner, size, raw);
        inner[size - 1] = 'x';
        assert_int_equal(records_open(server, raw, len, &opened), RECORDS_DATA);
        assert_int_equal(opened.len, size - 1);
        assert_memory_equal(opened.data, inner, size - 1);
    }
    for (size_t at = 0; at < 3; at++) {
        static const size_t places[] = {5, 9000, 5 + sizeof(inner) + TAG - 1};

        restart();
        inner[sizeof(inner) - 1] = 23;
        len = make(0, inner, sizeof(inner), raw);
        raw[places[at]] ^= 1;
        assert_int_equal(records_open(server, raw, len, &opened), RECORDS_WRONG);
        assert_int_equal(alert(0), 20);
    }
}

static void records_come_in_order_and_once(void **state)
{
    size_t len;

    (void)state;
    len = make(1, "abc\x17", 4, raw);
    assert_int_equal(records_open(server, raw, len, &opened), RECORDS_WRONG);
    restart();
    len = make(0, "abc\x17", 4, raw);
    assert_int_equal(records_open(server, raw, len, &opened), RECORDS_DATA);
    len = make(0, "abc\x17", 4, raw);
    assert_int_equal(records_open(server, raw, len, &opened), RECORDS_WRONG);
    assert_int_equal(alert(0), 20);
}

static void heads_that_are_wrong_are_not_waited_for(void **state)
{
    static const struct {
        const char *head;
        int alert;
    } heads[] = {
        {"\x14\x03\x03\x00\x01", 10}, {"\x15\x03\x03\x00\x02", 10},
        {"\x16\x03\x03\x01\x00", 10}, {"GET /", 10},
        {"\x17\x03\x03\x00\x00", 50}, {"\x17\x03\x03\x00\x10", 50},
        {"\x17\x03\x03\x41\x01", 22}, {"\x17\x03\x03\xff\xff", 22},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        restart();
        memcpy(raw, heads[i].head, 5);
        assert_true(records_is_whole(raw, 5));
        assert_int_equal(records_open(server, raw, 5, &opened), RECORDS_WRONG);
        assert_int_equal(alert(0), heads[i].alert);
    }
}

static void what_is_in_a_record_must_make_sense(void **state)
{
    static char large[RECORDS_PLAIN_MAX + 2];
    static const struct {
        const char *inner;
        size_t len;
        enum records_result result;
        int alert;
    } inners[] = {
        {"\0\0\0", 3, RECORDS_WRONG, 10},         /* nothing but padding */
        {"a\x14", 2, RECORDS_WRONG, 10},          /* a type that is none after the handshake */
        {"a\x18", 2, RECORDS_WRONG, 10},          /* heartbeat */
        {"\x16", 1, RECORDS_WRONG, 10},           /* an empty message */
        {"\x18\0\0\1\x16", 5, RECORDS_WRONG, 10}, /* new keys, cut off */
        {"\x18\0\0\1\2\x16", 6, RECORDS_WRONG, 47},
        {"\x18\0\0\1\0\x18\0\0\1\0\x16", 11, RECORDS_WRONG, 10}, /* what follows has new keys */
        {"\1\0\0\0\x16", 5, RECORDS_WRONG, 10},                  /* a new handshake */
        {"\x15", 1, RECORDS_WRONG, 50},
        {"\1\x15", 2, RECORDS_WRONG, 50},
        {"\1\0\0\x15", 4, RECORDS_WRONG, 50},
        {"\1\0\x15", 3, RECORDS_END, 0},
        {"\2\0\x15", 3, RECORDS_END, 0},
        {"\1\x5a\x15", 3, RECORDS_NEWS, 0},
        {"\2\x28\x15", 3, RECORDS_GONE, 0},
        {"\1\x28\x15", 3, RECORDS_GONE, 0},
    };
    size_t len;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(inners); i++) {
        restart();
        len = make(0, inners[i].inner, inners[i].len, raw);
        assert_int_equal(records_open(server, raw, len, &opened), inners[i].result);
        if (inners[i].result == RECORDS_WRONG)
            assert_int_equal(alert(0), inners[i].alert);
    }
    restart();
    large[sizeof(large) - 1] = 23;
    len = make(0, large, sizeof(large), raw);
    assert_int_equal(records_open(server, raw, len, &opened), RECORDS_WRONG);
    assert_int_equal(alert(0), 22);
}

static void the_end_is_told(void **state)
{
    size_t len;

    (void)state;
    len = records_seal(server, "abc", 3, raw);
    assert_int_equal(records_open(client, raw, len, &opened), RECORDS_DATA);
    len = records_alert(server, raw);
    assert_int_equal(records_open(client, raw, len, &opened), RECORDS_END);
    assert_int_equal(opened.raw, len);
}

static void a_client_may_take_new_keys(void **state)
{
    unsigned char next[RECORDS_SECRET];

    (void)state;
    for (int i = 0; i < 3; i++) {
        size_t len = make(0, "\x18\0\0\1\0\x16", 6, raw);

        assert_int_equal(records_open(server, raw, len, &opened), RECORDS_NEWS);
        derive(secrets.client, "traffic upd", next, sizeof(next));
        memcpy(secrets.client, next, sizeof(next));
        /* Ours are as before. */
        assert_int_equal(records_seal(server, "abc", 3, raw), 3 + 22);
    }
    assert_int_equal(records_open(server, raw, make(0, "abc\x17", 4, raw), &opened), RECORDS_DATA);
}

static void asked_for_new_keys_we_take_them_with_the_next_record(void **state)
{
    size_t len = 0, first;

    (void)state;
    /* Asked twice in between: one answer is enough. */
    for (int i = 0; i < 2; i++) {
        unsigned char next[RECORDS_SECRET];

        len = make(0, "\x18\0\0\1\1\x16", 6, raw);
        assert_int_equal(records_open(server, raw, len, &opened), RECORDS_NEWS);
        derive(secrets.client, "traffic upd", next, sizeof(next));
        memcpy(secrets.client, next, sizeof(next));
    }
    len = records_seal(server, "abc", 3, raw);
    assert_int_equal(len, 27 + 3 + 22);
    assert_int_equal(records_open(client, raw, len, &opened), RECORDS_NEWS);
    first = opened.raw;
    assert_int_equal(records_open(client, raw + first, len - first, &opened), RECORDS_DATA);
    assert_int_equal(opened.len, 3);
    assert_int_equal(first + opened.raw, len);
    len = records_seal(server, "def", 3, raw);
    assert_int_equal(len, 3 + 22);
    assert_int_equal(records_open(client, raw, len, &opened), RECORDS_DATA);
}

static void no_key_makes_too_many_records(void **state)
{
    struct records_secrets late;
    size_t len;

    (void)state;
    late = secrets;
    late.sent = (UINT64_C(1) << 23) - 1;
    records_destroy(server);
    server = records_create(&late);
    assert_non_null(server);
    assert_int_equal(records_seal(server, "abc", 3, raw), 3 + 22);
    len = records_seal(server, "abc", 3, raw);
    assert_int_equal(len, 27 + 3 + 22);
    assert_int_equal(records_seal(server, "abc", 3, raw), 3 + 22);
}

static void without_aes_in_the_processor_openssl_keeps_its_records(void **state)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL *ssl = SSL_new(context);

    (void)state;
    assert_non_null(ssl);
    assert_false(records_expect(ssl, &secrets));
    SSL_free(ssl);
    SSL_CTX_free(context);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_sealed_is_what_openssl_opens),
        TEST(padding_is_no_data),
        TEST(a_part_of_a_record_is_not_opened),
        TEST(a_changed_byte_is_noticed),
        TEST(long_records_are_records),
        TEST(records_come_in_order_and_once),
        TEST(heads_that_are_wrong_are_not_waited_for),
        TEST(what_is_in_a_record_must_make_sense),
        TEST(the_end_is_told),
        TEST(a_client_may_take_new_keys),
        TEST(asked_for_new_keys_we_take_them_with_the_next_record),
        TEST(no_key_makes_too_many_records),
    };
    const struct CMUnitTest without[] = {
        cmocka_unit_test(without_aes_in_the_processor_openssl_keeps_its_records),
    };
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    records_attach(context);
    SSL_CTX_free(context);
    return records_available() ? cmocka_run_group_tests(tests, NULL, NULL)
                               : cmocka_run_group_tests(without, NULL, NULL);
}
