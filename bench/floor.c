/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor.c - the least that a daemon can do for a request: one epoll loop that reads once and
 * answers 202 without looking. bench/run compares alloyd's CPU a request with it. It takes each
 * read for one request, which holds for small requests without pipelining.
 *
 * Usage: floor PORT     (127.0.0.1; ends on TERM)
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 256

static const char answer[] = "HTTP/1.1 202 Accepted\r\n"
                             "Content-Type: application/json\r\nContent-Length: 29\r\n\r\n"
                             "{\"accepted\":1,\"duplicates\":0}";

static void check(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    check(fd, "socket");
    check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), "setsockopt");
    check(bind(fd, (struct sockaddr *)&address, sizeof(address)), "bind");
    check(listen(fd, SOMAXCONN), "listen");
    return fd;
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];
    static char request[65536];
    int listener = listen_on(argc == 2 ? atoi(argv[1]) : 0);
    int epoll = epoll_create1(0);

    check(epoll, "epoll_create1");
    watch(epoll, listener);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS_MAX, -1);

        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;

            if (fd == listener) {
                fd = accept(listener, NULL, NULL);
                check(fd, "accept");
                check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), "nodelay");
                watch(epoll, fd);
            } else if (read(fd, request, sizeof(request)) <= 0 ||
                       write(fd, answer, sizeof(answer) - 1) < 0) {
                close(fd);
            }
        }
    }
}
