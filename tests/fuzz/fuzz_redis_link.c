/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_redis_link.c - any bytes that Redis may send, during the log-in and after it.
 *
 * A thread plays Redis on a unix socket and sends the bytes to whoever connects. The first byte
 * chooses. 0: no password, the bytes are replies. 1: the bytes answer AUTH and SELECT. Else they
 * become an array of strings, which must be passed on unchanged.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "redis_link.h"

#define TIMEOUT_NS 2000000000ull
#define STRINGS_MAX 256
#define INPUT_MAX 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct redis_link *plain, *secret;
static struct sockaddr_un address;
static int listen_fd;
static sem_t wanted, served;
static char say[4 * INPUT_MAX];
static size_t say_len;
static volatile size_t touched;

/* What has been told of one reply. */
static struct {
    struct slice strings[STRINGS_MAX];
    size_t string_count; /* of these, that the reply must have */
    bool exact;
    size_t told;
} expected;

static void *serve(void *arg)
{
    char byte[256];

    for (;;) {
        int fd;

        sem_wait(&wanted);
        fd = accept(listen_fd, NULL, NULL);
        ALLOY_ASSERT(fd >= 0);
        /* He may have gone: then it fails. */
        (void)!send(fd, say, say_len, MSG_NOSIGNAL);
        shutdown(fd, SHUT_WR);
        while (recv(fd, byte, sizeof(byte), 0) > 0)
            ;
        close(fd);
        sem_post(&served);
    }
    return arg;
}

static bool take_element(void *arg, const struct redis_link_element *element)
{
    (void)arg;
    if (element->type == REDIS_LINK_STATUS || element->type == REDIS_LINK_STRING)
        for (size_t i = 0; i < element->text.len; i++)
            touched += (size_t)element->text.data[i];
    ALLOY_ASSERT(element->count <= INT32_MAX && (!element->root || element->index == 0));
    if (!expected.exact)
        return true;
    if (element->root) {
        ALLOY_ASSERT(element->type == REDIS_LINK_ARRAY && element->count == expected.string_count);
        return true;
    }
    ALLOY_ASSERT(element->type == REDIS_LINK_STRING && element->index == expected.told);
    ALLOY_ASSERT(element->text.len == expected.strings[expected.told].len);
    ALLOY_ASSERT(
        memcmp(element->text.data, expected.strings[expected.told].data, element->text.len) == 0);
    expected.told++;
    return true;
}

static void remove_socket(void)
{
    unlink(address.sun_path);
}

static void start(void)
{
    char url[160];
    pthread_t thread;

    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof(address.sun_path), "/dev/shm/alloy-fuzz-%d.sock", getpid());
    unlink(address.sun_path);
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ALLOY_ASSERT(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    ALLOY_ASSERT(listen(listen_fd, 8) == 0);
    atexit(remove_socket);
    sem_init(&wanted, 0, 0);
    sem_init(&served, 0, 0);
    ALLOY_ASSERT(pthread_create(&thread, NULL, serve, NULL) == 0);
    snprintf(url, sizeof(url), "unix://%s", address.sun_path);
    plain = redis_link_create(url, 4096, take_element, NULL);
    snprintf(url, sizeof(url), "unix://user:%s@%s?db=3", "kein%26Wort%23davon", address.sun_path);
    secret = redis_link_create(url, 4096, take_element, NULL);
    ALLOY_ASSERT(plain != NULL && secret != NULL);
}

static void put_text(const void *text, size_t len)
{
    ALLOY_ASSERT(len <= sizeof(say) - say_len);
    memcpy(say + say_len, text, len);
    say_len += len;
}

/* Cuts data into strings: each has its length before it, in one byte. */
static void put_strings(const uint8_t *data, size_t size)
{
    char head[32];
    size_t count = 0;

    for (size_t at = 0; at < size && count < STRINGS_MAX; count++) {
        const size_t len = data[at] < size - at - 1 ? data[at] : size - at - 1;

        expected.strings[count] = (struct slice){(const char *)data + at + 1, len};
        at += 1 + len;
    }
    expected.string_count = count;
    expected.exact = true;
    put_text(head, (size_t)snprintf(head, sizeof(head), "*%zu\r\n", count));
    for (size_t i = 0; i < count; i++) {
        const struct slice text = expected.strings[i];

        put_text(head, (size_t)snprintf(head, sizeof(head), "$%zu\r\n", text.len));
        put_text(text.data, text.len);
        put_text("\r\n", 2);
    }
}

/* One quoted value in the log, and nothing that AUTH was sent. */
static void check_reason(const struct redis_link *link, bool refused_login)
{
    const char *reason = redis_link_reason(link);

    for (const char *at = reason; *at != '\0'; at++)
        ALLOY_ASSERT(*at != '"' && *at != '\\' && (unsigned char)*at >= ' ' && *at != 0x7f);
    ALLOY_ASSERT(!refused_login || strchr(reason, ' ') == NULL);
}

/* Every reply has a byte at least, so the bytes come to an end. */
static size_t read_all(struct redis_link *link, uint64_t deadline_ns)
{
    size_t replies = 0;
    int err;

    for (;;) {
        err = redis_link_read(link, deadline_ns);
        if (err != 0)
            break;
        replies++;
        ALLOY_ASSERT(replies <= say_len);
        if (redis_link_refused(link))
            check_reason(link, false);
    }
    ALLOY_ASSERT(err == -ECONNRESET || err == -EPROTO);
    ALLOY_ASSERT(redis_link_reason(link)[0] != '\0');
    check_reason(link, false);
    return replies;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_link *link;
    int err;

    if (size < 2 || size > INPUT_MAX)
        return 0;
    if (plain == NULL)
        start();
    link = data[0] == 1 ? secret : plain;
    say_len = expected.told = 0;
    expected.exact = false;
    if (data[0] > 1)
        put_strings(data + 1, size - 1);
    else
        put_text(data + 1, size - 1);
    sem_post(&wanted);
    err = redis_link_open(link, TIMEOUT_NS);
    if (err == 0) {
        const size_t replies = read_all(link, UINT64_MAX / 2);

        ALLOY_ASSERT(!expected.exact || (replies == 1 && expected.told == expected.string_count));
    } else {
        ALLOY_ASSERT(link == secret);
        check_reason(link, err == -EACCES && strncmp(say, "-", 1) == 0);
    }
    redis_link_close(link);
    sem_wait(&served);
    return 0;
}
