/* SPDX-License-Identifier: Apache-2.0 */
/*
 * successor.c - the next life of this process: the same program, or a newer one in its place, with
 * the same listening sockets and process id.
 *
 * We replace ourselves by execve() rather than start a second process: whoever has started us
 * (systemd, a container, a terminal) goes on watching the same process, and there is no moment at
 * which two of us want the journal.
 *
 * Runs on: the main thread.
 * Owns: nothing.
 */
#include "successor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alloy/clock.h"

#define CHECK_MS 10000
#define FIRST_FD 3 /* where sd_listen_fds(3) looks for the sockets */

extern char **environ;

static char program[PATH_MAX];

void successor_init(void)
{
    const ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);

    program[len > 0 ? len : 0] = '\0';
}

/* Reads what the child writes, until it ends or the time has passed. */
static void successor_read(int fd, char output[SUCCESSOR_OUTPUT_MAX])
{
    const uint64_t deadline_ms = clock_mono_ms() + CHECK_MS;
    size_t len = 0;
    char rest[512]; /* of what is longer; the child shall not wait for us */
    ssize_t n = 1;

    while (n > 0 && clock_mono_ms() < deadline_ms) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};

        if (poll(&readable, 1, (int)(deadline_ms - clock_mono_ms())) <= 0)
            continue;
        if (len == SUCCESSOR_OUTPUT_MAX - 1) {
            n = read(fd, rest, sizeof(rest));
            continue;
        }
        n = read(fd, output + len, SUCCESSOR_OUTPUT_MAX - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    output[len] = '\0';
}

/* Starts the program with its own arguments and --check. Returns 0 or -errno. */
static int successor_spawn(char *const *argv, int output_fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    size_t count = 0;
    char **words;
    int err;

    while (argv[count] != NULL)
        count++;
    words = calloc(count + 2, sizeof(*words));
    if (words == NULL)
        return -ENOMEM;
    memcpy(words, argv, count * sizeof(*words));
    words[count] = (char *)"--check";
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output_fd, STDERR_FILENO);
    err = posix_spawn(pid, program, &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    free(words);
    return -err;
}

int successor_check(char *const *argv, char output[SUCCESSOR_OUTPUT_MAX])
{
    int pipe_fds[2], status = 0, err;
    pid_t pid;

    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        err = -errno;
        snprintf(output, SUCCESSOR_OUTPUT_MAX, "cannot check it: %s", strerror(-err));
        return err;
    }
    err = successor_spawn(argv, pipe_fds[1], &pid);
    close(pipe_fds[1]);
    if (err != 0) {
        snprintf(output, SUCCESSOR_OUTPUT_MAX, "cannot run %s: %s", program, strerror(-err));
        close(pipe_fds[0]);
        return err;
    }
    successor_read(pipe_fds[0], output);
    close(pipe_fds[0]);
    /* It has ended, or has had its time. */
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EINVAL;
}

/* Puts the sockets where the successor looks for them, and their names, joined by colons, into
 * names. Returns how many, or -errno. */
static int successor_place(const struct inherited *sockets, FILE *names)
{
    int fds[INHERITED_MAX];
    int count = 0;

    /* First out of the way, so that none is in another's place; not far, the limit may be low. */
    for (size_t i = 0; i < sockets->count; i++) {
        if (sockets->sockets[i].fd < 0)
            continue;
        fds[count] = fcntl(sockets->sockets[i].fd, F_DUPFD_CLOEXEC, FIRST_FD + (int)sockets->count);
        if (fds[count] < 0)
            return -errno;
        fprintf(names, "%s%s", count > 0 ? ":" : "", sockets->sockets[i].name);
        count++;
    }
    for (int i = 0; i < count; i++)
        if (dup2(fds[i], FIRST_FD + i) < 0)
            return -errno;
    return count;
}

int successor_become(char *const *argv, const struct inherited *sockets)
{
    char *names = NULL, number[16];
    size_t len;
    FILE *stream = open_memstream(&names, &len);
    int count;

    if (stream == NULL)
        return -errno;
    count = successor_place(sockets, stream);
    if (fclose(stream) != 0 || count < 0) {
        free(names);
        return count < 0 ? count : -ENOMEM;
    }
    snprintf(number, sizeof(number), "%d", count);
    setenv("LISTEN_FDS", number, 1);
    setenv("LISTEN_FDNAMES", names, 1);
    snprintf(number, sizeof(number), "%d", (int)getpid());
    setenv("LISTEN_PID", number, 1);
    free(names);
    execv(program, argv);
    return -errno;
}
