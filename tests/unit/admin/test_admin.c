/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_admin.c - the answers of the admin port, over a unix socket, without a daemon behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "alloy/admin.h"
#include "alloy/clock.h"

static char path[64];
static struct config config;
static struct config_ref config_ref;
static struct admin_parts parts;
static struct admin *admin;
static char asked[128];

static int64_t fake_bury(void *arg, const char *stream)
{
    assert_ptr_equal(arg, asked);
    strcpy(asked, stream);
    return strcmp(stream, "events") == 0 ? 12 : -ENOENT;
}

static void start_admin(int64_t (*bury)(void *, const char *))
{
    char error[FRONT_ERROR_MAX];

    parts.bury = bury;
    parts.bury_arg = asked;
    asked[0] = '\0';
    assert_int_equal(admin_start(&admin, &parts, error), 0);
}

static int start(void **state)
{
    (void)state;
    strcpy(path, "/tmp/alloy-admin-XXXXXX");
    assert_non_null(mkdtemp(path));
    strcat(path, "/s");
    config = (struct config){.admin_addresses = {{.kind = CONFIG_ADDRESS_UNIX, .host = path}},
                             .admin_address_count = 1};
    atomic_store(&config_ref.current, &config);
    parts = (struct admin_parts){.front = {.config = &config_ref, .health = health_create()}};
    start_admin(fake_bury);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    admin_stop(admin);
    health_destroy(parts.front.health);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    return 0;
}

static const char *ask(const char *request)
{
    static char answer[65536];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = 0;
    ssize_t n;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(address.sun_path, path);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    shutdown(fd, SHUT_WR);
    while ((n = read(fd, answer + len, sizeof(answer) - 1 - len)) > 0)
        len += (size_t)n;
    answer[len] = '\0';
    close(fd);
    return answer;
}

#define HOST " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
#define CONTROL HOST "Alloy-Control: 1\r\nContent-Length: 0\r\n\r\n"
#define EXPECT(answer, text) assert_non_null(strstr((answer), (text)))

static void a_stream_is_buried_by_who_may(void **state)
{
    (void)state;
    EXPECT(ask("POST /streams/events/bury" CONTROL), "HTTP/1.1 200");
    assert_string_equal(asked, "events");
    EXPECT(ask("POST /streams/events/bury" CONTROL), "{\"asked\":true,\"events\":12}");
    EXPECT(ask("POST /streams/other/bury" CONTROL), "HTTP/1.1 404");
    assert_string_equal(asked, "other");
}

static void without_the_header_nothing_is_asked(void **state)
{
    (void)state;
    EXPECT(ask("POST /streams/events/bury" HOST "Content-Length: 0\r\n\r\n"), "HTTP/1.1 403");
    EXPECT(ask("POST /streams/events/bury" HOST "Alloy-Control: 0\r\nContent-Length: 0\r\n\r\n"),
           "HTTP/1.1 403");
    EXPECT(ask("GET /streams/events/bury" CONTROL), "HTTP/1.1 405");
    EXPECT(ask("GET /streams/events/bury" CONTROL), "Allow: POST, OPTIONS");
    EXPECT(ask("OPTIONS /streams/events/bury" CONTROL), "HTTP/1.1 204");
    assert_string_equal(asked, "");
}

static void a_path_that_names_no_stream_is_404(void **state)
{
    char longest[256];
    (void)state;
    EXPECT(ask("POST /streams//bury" CONTROL), "HTTP/1.1 404");
    EXPECT(ask("POST /streams/bury" CONTROL), "HTTP/1.1 404");
    EXPECT(ask("POST /streams/events" CONTROL), "HTTP/1.1 404");
    EXPECT(ask("POST /streams/events/burying" CONTROL), "HTTP/1.1 404");
    assert_string_equal(asked, "");
    snprintf(longest, sizeof(longest), "POST /streams/%0100d/bury" CONTROL, 1);
    EXPECT(ask(longest), "HTTP/1.1 404");
    assert_string_equal(asked, "");
}

static void who_cannot_bury_says_so(void **state)
{
    (void)state;
    admin_stop(admin);
    start_admin(NULL);
    EXPECT(ask("POST /streams/events/bury" CONTROL), "HTTP/1.1 501");
}

static void more_connections_than_places_are_all_answered(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int idle[4 * FRONT_ADMIN_CONNECTIONS_MAX];
    uint64_t begun_ms;

    (void)state;
    strcpy(address.sun_path, path);
    for (size_t i = 0; i < ARRAY_LEN(idle); i++) {
        idle[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(idle[i], (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    }
    begun_ms = clock_mono_ms();
    EXPECT(ask("GET /healthz" HOST "\r\n"), "HTTP/1.1 200");
    /* Idle ones make room at once, and not when their time is up. */
    assert_in_range(clock_mono_ms() - begun_ms, 0, 8000);
    for (size_t i = 0; i < ARRAY_LEN(idle); i++)
        close(idle[i]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(a_stream_is_buried_by_who_may),
        TEST(without_the_header_nothing_is_asked),
        TEST(a_path_that_names_no_stream_is_404),
        TEST(who_cannot_bury_says_so),
        TEST(more_connections_than_places_are_all_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
