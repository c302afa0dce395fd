/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_fixture.h - a real redis-server for one test program, on a free port and a unix socket in a
 * temporary folder; ended by its pid.
 */
#ifndef REDIS_FIXTURE_H
#define REDIS_FIXTURE_H

#include <hiredis/hiredis.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct redis_fixture {
    char dir[64];
    char socket[96];
    char url[128]; /* unix:// */
    int port;
    pid_t pid; /* 0: not running */
};

static inline void fixture_pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* A listening socket on a free port of the loopback. */
static inline int fixture_listen(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fd, 16) != 0 || getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        abort();
    *port = ntohs(address.sin_port);
    return fd;
}

/* Starts the server, again if need be, and waits until it answers. */
static inline void redis_fixture_start(struct redis_fixture *redis)
{
    char port[16];

    if (redis->dir[0] == '\0') {
        strcpy(redis->dir, "/tmp/alloy-test-XXXXXX");
        if (mkdtemp(redis->dir) == NULL)
            abort();
        snprintf(redis->socket, sizeof(redis->socket), "%s/redis", redis->dir);
        snprintf(redis->url, sizeof(redis->url), "unix://%s", redis->socket);
        close(fixture_listen(&redis->port));
    }
    snprintf(port, sizeof(port), "%d", redis->port);
    redis->pid = fork();
    if (redis->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
        execl("/usr/bin/redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1",
              "--unixsocket", redis->socket, "--dir", redis->dir, "--save", "", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 500; i++) {
        redisContext *context = redisConnectUnix(redis->socket);
        redisReply *reply = context->err == 0 ? redisCommand(context, "PING") : NULL;
        int up = reply != NULL && reply->type == REDIS_REPLY_STATUS;

        freeReplyObject(reply);
        redisFree(context);
        if (up)
            return;
        fixture_pause_ms(20);
    }
    abort();
}

static inline void redis_fixture_stop(struct redis_fixture *redis)
{
    if (redis->pid == 0)
        return;
    kill(redis->pid, SIGKILL);
    kill(redis->pid, SIGCONT);
    waitpid(redis->pid, NULL, 0);
    redis->pid = 0;
}

static inline void redis_fixture_remove(struct redis_fixture *redis)
{
    redis_fixture_stop(redis);
    unlink(redis->socket);
    rmdir(redis->dir);
}

#endif
