/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_successor.c - the next life: what is asked before, and what it gets.
 *
 * The program that follows is this one. Its first argument says which part it plays.
 */
#include "successor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PART_FAILED 77
#define LIMIT 64 /* of descriptors */
#define LOUD_BYTES (4 * SUCCESSOR_OUTPUT_MAX)

static char output[SUCCESSOR_OUTPUT_MAX];

static int check_as(const char *part)
{
    char *argv[] = {(char *)"alloyd", (char *)part, (char *)"-c", (char *)"a file", NULL};

    memset(output, 'x', sizeof(output));
    return successor_check(argv, output);
}

static void a_program_that_finds_nothing_wrong_may_follow(void **state)
{
    (void)state;
    assert_int_equal(check_as("good"), 0);
    assert_string_equal(output, "5 alloyd good -c a file --check\n");
}

static void what_it_complains_of_is_told(void **state)
{
    (void)state;
    assert_int_equal(check_as("bad"), -EINVAL);
    assert_string_equal(output, "on standard output\non standard error\n");
}

static void a_program_that_dies_may_not_follow(void **state)
{
    (void)state;
    assert_int_equal(check_as("dies"), -EINVAL);
    assert_string_equal(output, "");
}

static void a_program_that_stays_is_ended(void **state)
{
    (void)state;
    assert_int_equal(check_as("stays"), -EINVAL);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void more_output_than_fits_is_cut_and_no_failure(void **state)
{
    (void)state;
    assert_int_equal(check_as("loud"), 0);
    assert_int_equal(strlen(output), SUCCESSOR_OUTPUT_MAX - 1);
    assert_int_equal(strspn(output, "w"), SUCCESSOR_OUTPUT_MAX - 1);
}

static void a_check_leaves_no_descriptor_behind(void **state)
{
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC), after;

    (void)state;
    assert_int_equal(check_as("good"), 0);
    assert_int_equal(check_as("bad"), -EINVAL);
    after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(after, before + 1);
    close(before);
    close(after);
}

/* ---- lives of their own ---- */

static int part_status(pid_t pid)
{
    int status;

    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static int listen_anywhere(in_port_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)(void *)&address, len) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)(void *)&address, &len) != 0)
        return -1;
    *port = ntohs(address.sin_port);
    return fd;
}

/* In a child: becomes "heir" with two sockets, one of which lies in the other's place, and one that
 * is taken, within a low limit. */
static int part_testator(void)
{
    static struct inherited sockets;
    char ports[2][8];
    in_port_t port[2];
    int fds[2];
    char *argv[] = {(char *)"alloyd", (char *)"heir", ports[0], ports[1], NULL};

    closefrom(3);
    if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){LIMIT, LIMIT}) != 0 ||
        open("/dev/null", O_RDONLY) != 3)
        return PART_FAILED;
    for (int i = 0; i < 2; i++)
        fds[i] = listen_anywhere(&port[i]);
    close(3);
    for (int i = 0; i < 2; i++)
        snprintf(ports[i], sizeof(ports[i]), "%u", (unsigned)port[1 - i]);
    if (fds[0] != 4 || fds[1] != 5)
        return PART_FAILED;
    sockets.count = 3;
    sockets.sockets[0] = (struct inherited_socket){.fd = 5, .name = "kept-event"};
    sockets.sockets[1] = (struct inherited_socket){.fd = -1, .name = "taken"};
    sockets.sockets[2] = (struct inherited_socket){.fd = 4, .name = "event-v6", .given = true};
    setenv("LISTEN_PID", "1", 1);
    (void)successor_become(argv, &sockets);
    return PART_FAILED;
}

static bool listens_on(int fd, const char *port)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    int listening = 0;
    socklen_t int_len = sizeof(listening);

    return getsockname(fd, (struct sockaddr *)(void *)&address, &len) == 0 &&
           strtoul(port, NULL, 10) == ntohs(address.sin_port) &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &int_len) == 0 && listening;
}

static bool is_set(const char *name, const char *value)
{
    const char *set = getenv(name);

    return set != NULL && strcmp(set, value) == 0;
}

static int part_heir(char **argv)
{
    char pid[16];

    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    if (!is_set("LISTEN_FDS", "2") || !is_set("LISTEN_FDNAMES", "kept-event:event-v6") ||
        !is_set("LISTEN_PID", pid))
        return PART_FAILED;
    /* What lies above the two was not meant for it. */
    for (int fd = 5; fd < LIMIT; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return PART_FAILED;
    return listens_on(3, argv[2]) && listens_on(4, argv[3]) ? 0 : PART_FAILED;
}

static void the_next_life_gets_the_sockets_with_their_names(void **state)
{
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(part_testator());
    assert_int_equal(part_status(pid), 0);
}

/* Runs from a file of its own, which it removes. */
static int part_gone(const char *path)
{
    static const struct inherited none;
    char *argv[] = {(char *)"alloyd", (char *)"good", NULL};

    successor_init();
    if (unlink(path) != 0 || check_as("good") != -ENOENT)
        return PART_FAILED;
    if (strstr(output, "cannot run ") == NULL || strstr(output, path) == NULL)
        return PART_FAILED;
    return successor_become(argv, &none) == -ENOENT ? 0 : PART_FAILED;
}

static void copy_file(const char *from, int to)
{
    char bytes[65536];
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    assert_true(fd >= 0);
    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(to, bytes, (size_t)n), n);
    close(fd);
}

static void a_program_that_is_gone_is_an_error_that_names_it(void **state)
{
    char path[] = "/tmp/alloy-successor-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    pid_t pid;

    (void)state;
    assert_true(fd >= 0);
    copy_file("/proc/self/exe", fd);
    assert_int_equal(fchmod(fd, 0700), 0);
    close(fd);
    pid = fork();
    if (pid == 0) {
        execl(path, "alloyd", "gone", path, NULL);
        _exit(PART_FAILED);
    }
    assert_int_equal(part_status(pid), 0);
    assert_int_equal(access(path, F_OK), -1);
}

/* What the program that is asked to check says. */
static int part_checked(int argc, char **argv)
{
    if (strcmp(argv[1], "good") == 0) {
        printf("%d", argc);
        for (int i = 0; i < argc; i++)
            printf(" %s", argv[i]);
        puts("");
        return 0;
    }
    if (strcmp(argv[1], "bad") == 0) {
        puts("on standard output");
        fflush(stdout);
        fputs("on standard error\n", stderr);
        return 2;
    }
    if (strcmp(argv[1], "loud") == 0) {
        for (int i = 0; i < LOUD_BYTES; i++)
            putchar('w');
        return fflush(stdout) == 0 ? 0 : 1;
    }
    if (strcmp(argv[1], "dies") == 0)
        raise(SIGKILL);
    /* Its output ends, and it does not. */
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    pause();
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_that_finds_nothing_wrong_may_follow),
        cmocka_unit_test(what_it_complains_of_is_told),
        cmocka_unit_test(a_program_that_dies_may_not_follow),
        cmocka_unit_test(a_program_that_stays_is_ended),
        cmocka_unit_test(more_output_than_fits_is_cut_and_no_failure),
        cmocka_unit_test(a_check_leaves_no_descriptor_behind),
        cmocka_unit_test(the_next_life_gets_the_sockets_with_their_names),
        cmocka_unit_test(a_program_that_is_gone_is_an_error_that_names_it),
    };

    if (argc > 1 && strcmp(argv[argc - 1], "--check") == 0)
        return part_checked(argc, argv);
    if (argc == 4 && strcmp(argv[1], "heir") == 0)
        return part_heir(argv);
    if (argc == 3 && strcmp(argv[1], "gone") == 0)
        return part_gone(argv[2]);
    /* Never all tests in a part's place: each would start the others again. */
    if (argc > 1)
        return PART_FAILED;
    successor_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
