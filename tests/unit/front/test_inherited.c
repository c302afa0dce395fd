/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_inherited.c - what a given or kept socket is for, what is refused, and who closes what.
 */
#include "alloy/inherited.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static struct inherited list;
static struct config config;
static char error[INHERITED_ERROR_MAX];

static int set_up(void **state)
{
    (void)state;
    memset(&list, 0, sizeof(list));
    memset(&config, 0, sizeof(config));
    error[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    inherited_close_all(&list);
    return 0;
}

static int listen_on(const void *address, socklen_t len)
{
    const struct sockaddr *any = address;
    int fd = socket(any->sa_family, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, any, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static int listen_v4(uint32_t host)
{
    const struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host)};

    return listen_on(&address, sizeof(address));
}

static int listen_v6(const struct in6_addr *host)
{
    const struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = *host};

    return listen_on(&address, sizeof(address));
}

static unsigned port_of(int fd)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);

    assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&address, &len), 0);
    return ntohs(address.sin_port);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Adds a socket on 127.0.0.1, and returns what it is taken for. */
static const struct inherited_socket *add(const char *name)
{
    if (inherited_add(&list, listen_v4(INADDR_LOOPBACK), name, &config, error) != 0)
        fail_msg("%s", error);
    return &list.sockets[list.count - 1];
}

static void assert_kind(const char *name, enum inherited_kind kind)
{
    const struct inherited_socket *one = add(name);

    assert_int_equal(one->kind, kind);
    assert_true(one->given);
    assert_string_equal(one->name, name);
}

static void a_name_says_what_a_socket_is_for(void **state)
{
    (void)state;
    config.tls = (struct tls *)(void *)&config; /* that there is one is all that counts */
    assert_kind("event", INHERITED_EVENT);
    assert_kind("event2", INHERITED_EVENT);
    assert_kind("tls", INHERITED_TLS);
    assert_kind("tls-v6", INHERITED_TLS);
    assert_kind("admin", INHERITED_ADMIN);
    assert_kind("admin.socket", INHERITED_ADMIN);
    assert_kind("administrators", INHERITED_EVENT);
    assert_kind("tlsa", INHERITED_EVENT);
    assert_kind("my-admin", INHERITED_EVENT);
    assert_kind("", INHERITED_EVENT);
}

static void a_configured_port_says_it_where_the_name_does_not(void **state)
{
    char ports[3][8];
    int fds[3];

    (void)state;
    config.tls = (struct tls *)(void *)&config;
    for (size_t i = 0; i < 3; i++) {
        fds[i] = listen_v4(INADDR_LOOPBACK);
        snprintf(ports[i], sizeof(ports[i]), "%u", port_of(fds[i]));
    }
    config.server_addresses[0] = (struct config_address){.host = (char *)"::1", .port = ports[0]};
    config.server_addresses[1] =
        (struct config_address){.host = (char *)"::1", .port = ports[1], .tls = true};
    config.server_address_count = 2;
    config.admin_addresses[0] = (struct config_address){.host = (char *)"::1", .port = ports[2]};
    config.admin_address_count = 1;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(inherited_add(&list, fds[i], "unknown", &config, error), 0);
    assert_int_equal(list.sockets[0].kind, INHERITED_EVENT);
    assert_int_equal(list.sockets[1].kind, INHERITED_TLS);
    assert_int_equal(list.sockets[2].kind, INHERITED_ADMIN);
    /* The name goes before the port. */
    config.admin_addresses[0].port = ports[0];
    assert_int_equal(inherited_add(&list, dup(fds[0]), "event", &config, error), 0);
    assert_int_equal(list.sockets[3].kind, INHERITED_EVENT);
}

static void a_configured_path_says_it_too(void **state)
{
    char folder[] = "/tmp/alloy-inherited-XXXXXX", path[64];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    strcpy(address.sun_path, path);
    fd = listen_on(&address, sizeof(address));
    config.server_addresses[0] =
        (struct config_address){.kind = CONFIG_ADDRESS_UNIX, .host = folder};
    config.server_address_count = 1;
    config.admin_addresses[0] = (struct config_address){.kind = CONFIG_ADDRESS_UNIX, .host = path};
    config.admin_address_count = 1;
    assert_int_equal(inherited_add(&list, fd, "unknown", &config, error), 0);
    assert_int_equal(list.sockets[0].kind, INHERITED_ADMIN);
    unlink(path);
    rmdir(folder);
}

static void a_socket_for_tls_needs_a_certificate(void **state)
{
    int fd = listen_v4(INADDR_LOOPBACK);

    (void)state;
    assert_int_equal(inherited_add(&list, fd, "tls", &config, error), -EINVAL);
    assert_non_null(strstr(error, "server.tls_listen"));
    assert_int_equal(list.count, 0);
    assert_false(is_open(fd));
}

static void the_admin_port_is_for_this_machine_or_who_has_a_key(void **state)
{
    static const struct in6_addr v4_mapped = {
        {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1}}};
    const int near[] = {listen_v4(INADDR_LOOPBACK), listen_v4(INADDR_LOOPBACK + 1),
                        listen_v6(&in6addr_loopback), listen_v6(&v4_mapped)};

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(inherited_add(&list, near[i], "admin", &config, error), 0);
    assert_int_equal(inherited_add(&list, listen_v4(INADDR_ANY), "admin", &config, error), -EINVAL);
    assert_non_null(strstr(error, "admin.key_file"));
    assert_int_equal(inherited_add(&list, listen_v6(&in6addr_any), "admin", &config, error),
                     -EINVAL);
    config.has_admin_key = true;
    assert_int_equal(inherited_add(&list, listen_v4(INADDR_ANY), "admin", &config, error), 0);
    assert_int_equal(list.count, 5);
}

static void assert_refused(int fd, int err)
{
    assert_int_equal(inherited_add(&list, fd, "event", &config, error), err);
    assert_non_null(strstr(error, "(\"event\")"));
    assert_int_equal(list.count, 0);
    assert_false(is_open(fd));
}

static void what_is_no_listening_stream_socket_is_refused_and_closed(void **state)
{
    (void)state;
    assert_refused(socket(AF_INET, SOCK_STREAM, 0), -EINVAL);
    assert_refused(socket(AF_INET, SOCK_DGRAM, 0), -EINVAL);
    assert_refused(open("/dev/null", O_RDONLY), -ENOTSOCK);
    assert_refused(999999, -EBADF);
}

static void more_than_fit_are_refused(void **state)
{
    int fd = listen_v4(INADDR_LOOPBACK);

    (void)state;
    list.count = INHERITED_MAX;
    for (size_t i = 0; i < INHERITED_MAX; i++)
        list.sockets[i].fd = -1;
    assert_int_equal(inherited_keep(&list, fd, INHERITED_EVENT), -E2BIG);
    assert_int_equal(inherited_add(&list, fd, "event", &config, error), -E2BIG);
    assert_false(is_open(fd));
}

static void a_socket_is_made_as_ours_are(void **state)
{
    const struct inherited_socket *one = add("event");
    int on = 0;
    socklen_t len = sizeof(on);

    (void)state;
    assert_true(fcntl(one->fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(one->fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(getsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    assert_int_not_equal(on, 0);
}

static void what_is_kept_is_known_by_its_name_in_the_next_life(void **state)
{
    int fd = listen_v4(INADDR_ANY);

    (void)state;
    for (int kind = 0; kind < INHERITED_KINDS; kind++) {
        struct inherited_socket *one = &list.sockets[kind];

        assert_int_equal(inherited_keep(&list, fd, (enum inherited_kind)kind), 0);
        assert_int_not_equal(one->fd, fd);
        assert_true(fcntl(one->fd, F_GETFD) & FD_CLOEXEC);
        assert_string_equal(one->name, inherited_kept_name((enum inherited_kind)kind));
    }
    for (int kind = 0; kind < INHERITED_KINDS; kind++) {
        const struct inherited_socket *one = &list.sockets[INHERITED_KINDS + kind];
        const char *name = list.sockets[kind].name;

        /* The configuration may have changed: it is not served then, and no reason not to start. */
        assert_int_equal(inherited_add(&list, dup(fd), name, &config, error), 0);
        assert_int_equal(one->kind, kind);
        assert_false(one->given);
        assert_int_equal(one->bound.ss_family, AF_INET);
    }
    close(fd);
    assert_int_equal(inherited_keep(&list, fd, INHERITED_EVENT), -EBADF);
}

static void given_sockets_replace_those_of_their_kind(void **state)
{
    (void)state;
    assert_false(inherited_replaces(NULL, INHERITED_EVENT));
    assert_false(inherited_has_given(&list));
    assert_false(inherited_has_kept(&list));
    add("kept-event");
    assert_false(inherited_replaces(&list, INHERITED_EVENT));
    assert_false(inherited_has_given(&list));
    assert_true(inherited_has_kept(&list));
    add("admin");
    assert_true(inherited_replaces(&list, INHERITED_ADMIN));
    assert_false(inherited_replaces(&list, INHERITED_EVENT));
    assert_true(inherited_has_given(&list));
}

static void only_kept_sockets_are_let_go_of(void **state)
{
    int fds[4];

    (void)state;
    add("event");
    add("kept-event");
    add("admin");
    add("kept-admin");
    for (size_t i = 0; i < 4; i++)
        fds[i] = list.sockets[i].fd;
    close(fds[3]);
    list.sockets[3].fd = -1; /* taken by a listener */
    inherited_close_rest(&list);
    assert_true(is_open(fds[0]));
    assert_false(is_open(fds[1]));
    assert_int_equal(list.sockets[1].fd, -1);
    assert_int_equal(list.count, 4);
    inherited_forget_kept(&list);
    assert_int_equal(list.count, 2);
    assert_int_equal(list.sockets[0].fd, fds[0]);
    assert_int_equal(list.sockets[1].fd, fds[2]);
    add("kept-tls");
    fds[1] = list.sockets[2].fd;
    inherited_forget_kept(&list);
    assert_false(is_open(fds[1]));
    assert_true(is_open(fds[2]));
    inherited_close_all(&list);
    assert_int_equal(list.count, 0);
    assert_false(is_open(fds[0]));
    assert_false(is_open(fds[2]));
}

static void assert_address(const void *address, size_t len, const char *wanted)
{
    char name[INHERITED_ADDRESS_MAX];

    inherited_format_address(address, (socklen_t)len, name);
    assert_string_equal(name, wanted);
}

static void addresses_are_written_as_they_are_configured(void **state)
{
    const struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_addr = in6addr_loopback};
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/run/alloy/s"};
    char full[sizeof("unix:") + sizeof(path.sun_path)];

    (void)state;
    assert_address(&v4, sizeof(v4), "127.0.0.1:8080");
    assert_address(&v6, sizeof(v6), "[::1]:80");
    assert_address(&path, sizeof(path), "unix:/run/alloy/s");
    assert_address(&path, offsetof(struct sockaddr_un, sun_path), "unix:");
    memset(path.sun_path, 'p', sizeof(path.sun_path));
    snprintf(full, sizeof(full), "unix:%.*s", (int)sizeof(path.sun_path), path.sun_path);
    assert_address(&path, sizeof(path), full);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_name_says_what_a_socket_is_for),
        TEST(a_configured_port_says_it_where_the_name_does_not),
        TEST(a_configured_path_says_it_too),
        TEST(a_socket_for_tls_needs_a_certificate),
        TEST(the_admin_port_is_for_this_machine_or_who_has_a_key),
        TEST(what_is_no_listening_stream_socket_is_refused_and_closed),
        TEST(more_than_fit_are_refused),
        TEST(a_socket_is_made_as_ours_are),
        TEST(what_is_kept_is_known_by_its_name_in_the_next_life),
        TEST(given_sockets_replace_those_of_their_kind),
        TEST(only_kept_sockets_are_let_go_of),
        TEST(addresses_are_written_as_they_are_configured),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
