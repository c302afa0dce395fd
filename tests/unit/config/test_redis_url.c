/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_redis_url.c - URLs that redis.url accepts, and URLs that it refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloy/redis_url.h"

#define TEN "aaaaaaaaaa"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const char *shown(const char *text)
{
    return text != NULL ? text : "(none)";
}

static void good_urls_are_taken_apart(void **state)
{
    static const struct {
        const char *text;
        const char *parts; /* host or path, port, user, password, database */
    } good[] = {
        {"redis://h", "h 6379 (none) (none) "},
        {"redis://h/", "h 6379 (none) (none) "},
        {"redis://h:1/15", "h 1 (none) (none) 15"},
        {"redis://h:65535", "h 65535 (none) (none) "},
        {"redis://h/999999999", "h 6379 (none) (none) 999999999"},
        {"redis://127.0.0.1:6379/0", "127.0.0.1 6379 (none) (none) 0"},
        {"redis://[::1]", "::1 6379 (none) (none) "},
        {"redis://[::1]:7/2", "::1 7 (none) (none) 2"},
        {"redis://a-b_c.d:7", "a-b_c.d 7 (none) (none) "},
        {"redis://:p@h", "h 6379 (none) p "},
        {"redis://u:p@h:1", "h 1 u p "},
        {"redis://u:@h", "h 6379 u  "},
        {"redis://u%3a:p%40%2f%25:q@h", "h 6379 u: p@/%:q "},
        {"redis://u:p@x@h", "h 6379 u p@x "},
        {"redis://u:p,x@h", "h 6379 u p,x "},
        {"redis://u:%41@[::1]", "::1 6379 u A "},
        {"unix:///s", "/s 0 (none) (none) "},
        {"unix:///a/b.sock?db=3", "/a/b.sock 0 (none) (none) 3"},
        {"unix:///a@b:c", "/a@b:c 0 (none) (none) "},
        {"unix://:p@/s", "/s 0 (none) p "},
        {"unix://u:p%40@/s?db=12", "/s 0 u p@ 12"},
        {"unix:///" HUNDRED "bbbbb", "/" HUNDRED "bbbbb 0 (none) (none) "},
        {"unix:///" HUNDRED "bbbbb?db=3", "/" HUNDRED "bbbbb 0 (none) (none) 3"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct redis_url url;
        const char *problem = redis_url_parse(&url, good[i].text);
        char parts[256];

        if (problem != NULL)
            fail_msg("%s was refused: %s", good[i].text, problem);
        assert_true((url.host_count == 0) != (url.path == NULL));
        assert_true(url.master == NULL && !url.tls && url.ca_file == NULL);
        snprintf(parts, sizeof(parts), "%s %d %s %s %s",
                 url.path == NULL ? url.hosts[0].name : url.path, url.hosts[0].port,
                 shown(url.user), shown(url.password), url.database);
        assert_string_equal(parts, good[i].parts);
        redis_url_fini(&url);
    }
}

static void urls_of_sentinels_and_of_tls_are_taken_apart(void **state)
{
    static const struct {
        const char *text;
        const char *parts; /* hosts, master, user, password, database, TLS and its files */
    } good[] = {
        {"rediss://h", "h:6379 (none) (none) (none)  tls (none) (none) (none)"},
        {"rediss://u:p@h:1/3?ssl_ca_certs=/a.pem", "h:1 (none) u p 3 tls /a.pem (none) (none)"},
        {"rediss://h?ssl_keyfile=/k%26&ssl_certfile=c&ssl_ca_certs=/a",
         "h:6379 (none) (none) (none)  tls /a c /k&"},
        {"rediss://h/0?", "h:6379 (none) (none) (none) 0 tls (none) (none) (none)"},
        {"redis-sentinel://a/mymaster",
         "a:26379 mymaster (none) (none)  plain (none) (none) (none)"},
        {"redis-sentinel://:p@a:1,[::1]:2,c/m%2f1/4",
         "a:1 ::1:2 c:26379 m/1 (none) p 4 plain (none) (none) (none)"},
        {"redis-cluster://a", "a:6379 (none) (none) (none)  plain (none) (none) (none)"},
        {"redis-cluster://u:p@a:1,[::1]:2,c/0",
         "a:1 ::1:2 c:6379 (none) u p  plain (none) (none) (none)"},
        {"redis-cluster://a:1, b:2 ,\tc", "a:1 b:2 c:6379 (none) (none) (none)  plain (none) "
                                          "(none) (none)"},
        {"redis-cluster://u:p%2cq@a, b", "a:6379 b:6379 (none) u p,q  plain (none) (none) (none)"},
        {"redis-sentinel://a , b:1/m", "a:26379 b:1 m (none) (none)  plain (none) (none) (none)"},
        {"rediss-cluster://a,b/?ssl_ca_certs=/a",
         "a:6379 b:6379 (none) (none) (none)  tls /a (none) (none)"},
        {"rediss-sentinel://a,b/m?ssl_ca_certs=/a",
         "a:26379 b:26379 m (none) (none)  tls /a (none) (none)"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct redis_url url;
        const char *problem = redis_url_parse(&url, good[i].text);
        char parts[256] = "";
        size_t len = 0;

        if (problem != NULL)
            fail_msg("%s was refused: %s", good[i].text, problem);
        for (size_t host = 0; host < url.host_count; host++)
            len += (size_t)snprintf(parts + len, sizeof(parts) - len, "%s:%d ",
                                    url.hosts[host].name, url.hosts[host].port);
        snprintf(parts + len, sizeof(parts) - len, "%s %s %s %s %s %s %s %s", shown(url.master),
                 shown(url.user), shown(url.password), url.database, url.tls ? "tls" : "plain",
                 shown(url.ca_file), shown(url.cert_file), shown(url.key_file));
        assert_string_equal(parts, good[i].parts);
        assert_int_equal(url.cluster, strstr(good[i].text, "-cluster:") != NULL);
        redis_url_fini(&url);
    }
}

static const struct {
    const char *text;
    const char *problem;
} wrong[] = {
    {"", "must begin with redis://"},
    {"redis", "must begin with redis://"},
    {"redis:/h", "must begin with redis://"},
    {"http://127.0.0.1", "must begin with redis://"},
    {"REDIS://h", "must begin with redis://"},
    {"rediss://", "host is missing"},
    {"rediss://h?x=1", "ssl_ca_certs"},
    {"rediss://h?ssl_ca_certs=", "ssl_ca_certs"},
    {"rediss://h?ssl_ca_certs=a&ssl_ca_certs=b", "ssl_ca_certs"},
    {"rediss://h?ssl_certfile=a", "go together"},
    {"rediss://h/0#1", "only /number"},
    {"redis://h?ssl_ca_certs=/a", "only /number"},
    {"rediss://h?ssl_ca_certs=%zz", "%XX"},
    {"redis-sentinel://h", "name by which"},
    {"redis-sentinel://h/", "name by which"},
    {"redis-sentinel:///m", "host is missing"},
    {"redis-sentinel://a,,b/m", "host is missing"},
    {"redis-sentinel://a,/m", "host is missing"},
    {"redis-sentinel://a:0/m", "1 to 65535"},
    {"redis-sentinel://h/m/x", "only /number"},
    {"redis-sentinel://h/m?ssl_ca_certs=/a/b", "rediss-sentinel"},
    {"redis-sentinel://h/m#", "%XX"},
    {"redis-sentinel://"
     "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a/m",
     "more than 16"},
    {"redis-cluster://", "host is missing"},
    {"redis-cluster://a,", "host is missing"},
    {"redis-cluster://a/1", "no other database"},
    {"redis-cluster://a/name", "no other database"},
    {"redis-cluster://a/0/", "no other database"},
    {"redis-cluster://a?ssl_ca_certs=/a", "no other database"},
    {"redis-cluster://a#", "no other database"},
    {"redis-cluster://a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", "more than 16"},
    {"redis-cluster://a:1,u:p@b:2", "before the first host"},
    {"redis-cluster://u:p@a:1,u:p@b:2", "before the first host"},
    {"redis-cluster://u:p,q@b:2", "written as %2C"},
    {"redis-cluster://u:p ,q@b:2", "white space"},
    {"redis-cluster://a b,c", "white space"},
    {"redis-cluster:// a,c", "white space"},
    {"redis-cluster://a, ", "host is missing"},
    {"redis-cluster://a, ,b", "host is missing"},
    {"redis-cluster://a:1,redis-cluster://b:2", "without a scheme"},
    {"redis-sentinel://a:1,u:p@b:2/m", "before the first host"},
    {"redis-sentinel://u:p@a:1,u:p@b:2/m", "before the first host"},
    {"redis-sentinel://a:1/m ,x", "white space"},
    {"redis://a:1,b:2", "redis-cluster://host:port"},
    {"redis://a:1, b:2", "redis-cluster://host:port"},
    {"redis://a,b/0", "redis-sentinel://host:port"},
    {"rediss://a,b?ssl_ca_certs=/a", "rediss-cluster://host:port"},
    {"redis://u:p@a:1,u:p@b:2", "before the first host"},
    {"redis://u:p@a:1, u:p@b:2", "before the first host"},
    {"redis://a:1,redis://b:2", "without a scheme"},
    {"redis://u:p ,x@h", "white space"},
    {"redis://u:p@q ,x@h", "before the first host"},
    {"redis://a b", "white space"},
    {"redis://h\t", "white space"},
    {"redis://\xc3\xa4", "white space or control"},
    {"redis://", "host is missing"},
    {"redis:///0", "host is missing"},
    {"redis://:6379", "host is missing"},
    {"redis://u:p@", "host is missing"},
    {"redis://h:0", "1 to 65535"},
    {"redis://h:65536", "1 to 65535"},
    {"redis://h:99999999999999999999", "1 to 65535"},
    {"redis://h:", "1 to 65535"},
    {"redis://h:6x", "1 to 65535"},
    {"redis://h:-1", "1 to 65535"},
    {"redis://h!", "neither a name"},
    {"redis://a:b:1", "brackets"},
    {"redis://::1", "brackets"},
    {"redis://[::1", "closing ]"},
    {"redis://[::1]x", "only :port"},
    {"redis://[]:1", "no IPv6"},
    {"redis://[h]:1", "no IPv6"},
    {"redis://h/x", "only /number"},
    {"redis://h/-1", "only /number"},
    {"redis://h/0/1", "only /number"},
    {"redis://h/0?x", "only /number"},
    {"redis://h?db=1", "only /number"},
    {"redis://h#1", "only /number"},
    {"redis://h/9999999999", "only /number"},
    {"redis://user@h", "credentials must be"},
    {"redis://@h", "credentials must be"},
    {"redis://u:%zz@h", "%XX"},
    {"redis://u:a%4@h", "%XX"},
    {"redis://u:%@h", "%XX"},
    {"redis://u:%4g@h", "%XX"},
    {"redis://u:%00@h", "%XX"},
    {"redis://%g0:p@h", "%XX"},
    {"unix://", "must begin with /"},
    {"unix://relative", "must begin with /"},
    {"unix://u:p@relative/s", "must begin with /"},
    {"unix:///", "missing"},
    {"unix:///?db=1", "missing"},
    {"unix:///s?db=", "only ?db=number"},
    {"unix:///s?db=x", "only ?db=number"},
    {"unix:///s?db=1&x", "only ?db=number"},
    {"unix:///s?x=1", "only ?db=number"},
    {"unix:///s?", "only ?db=number"},
    {"unix:///" HUNDRED "bbbbbb", "longer than 106"},
    {"unix:///" HUNDRED HUNDRED "?db=1", "longer than 106"},
};

static void bad_urls_are_refused_with_the_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct redis_url url;
        const char *problem = redis_url_parse(&url, wrong[i].text);

        if (problem == NULL)
            fail_msg("%s was taken", wrong[i].text);
        if (strstr(problem, wrong[i].problem) == NULL)
            fail_msg("%s: %s", wrong[i].text, problem);
    }
}

static void no_reason_quotes_a_password(void **state)
{
    static const char *const bad[] = {
        "redis://u:geheim@h:x", "redis://u:geheim%@h",        "redis://u:geheim@h/x",
        "redis://:geheim@",     "unix://u:geheim@relative/s", "http://u:geheim@h",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct redis_url url;
        const char *problem = redis_url_parse(&url, bad[i]);

        assert_non_null(problem);
        assert_null(strstr(problem, "geheim"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_urls_are_taken_apart),
        cmocka_unit_test(urls_of_sentinels_and_of_tls_are_taken_apart),
        cmocka_unit_test(bad_urls_are_refused_with_the_reason),
        cmocka_unit_test(no_reason_quotes_a_password),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
