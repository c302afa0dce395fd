/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_redis_link.c - any bytes that Redis may send, while we log in and after.
 *
 * The calls that connect, send and receive are ours and play Redis: its bytes are there at once, or
 * come in pieces, and then it has gone. The first byte chooses. Bits 0 and 1: 0, no password, the
 * bytes are replies; 1, the bytes answer AUTH and SELECT; else they are made an array of strings,
 * which has to be told as it is. The others: bytes in a piece; 0, all at once.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "redis_link.h"

#define TIMEOUT_NS 2000000000ull
#define STRINGS_MAX 256
#define INPUT_MAX 8192
#define CODE_MAX 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct redis_link *plain, *secret;
static char say[4 * INPUT_MAX];
static size_t say_len, said, piece;
static volatile size_t touched;

/* All that a refusal may say besides the server's code; the words are redis_link.c's. */
static const char *const sentences[] = {
    "it refuses a command",
    "it refuses the log-in",
    "it is a replica, or set to read-only, and takes no claims",
    "its memory is used up (maxmemory), and it takes no claims",
    "it cannot save to its disk and takes no claims",
    "it has too few replicas and takes no claims",
    "it has no password, and redis.url has one",
    "it does not have the database of redis.url",
    "it takes no more connections (maxclients)",
    "it is in protected mode, and lets in only its own machine",
    "its ACL refuses a command or a key that Alloy needs",
    "it wants a password: redis.url has none",
    "it does not take the user or the password of redis.url",
    "it is still reading its data",
    "it is a replica without its master",
    "its cluster is down",
    "it is one node of a cluster, which redis.url calls redis-cluster://",
    "its cluster is moving keys",
    "it is no cluster: redis.url should begin with redis://",
    "it runs a script that does not end",
    "a key of Alloy holds something else",
    "it does not know, or does not accept, a command that Alloy needs",
};

/* What it may say in the server's own words. */
static const char *const own_words[] = {
    "WRONGPASS invalid username-password pair or user is disabled",
    "NOAUTH Authentication required",
    "ERR invalid password",
    "ERR Client sent AUTH, but no password is set",
    "ERR AUTH <password> called without any password configured for the default user",
    "ERR DB index is out of range",
    "ERR invalid DB index",
    "ERR max number of clients reached",
    "DENIED Redis is running in protected mode",
    "DENIED Valkey is running in protected mode",
    "LOADING Redis is loading the dataset in memory",
    "LOADING Valkey is loading the dataset in memory",
    "READONLY You can't write against a read only replica",
    "OOM command not allowed when used memory > 'maxmemory'",
    "NOREPLICAS Not enough good replicas to write",
    "MASTERDOWN Link with MASTER is down",
    "CLUSTERDOWN The cluster is down",
    "ERR This instance has cluster support disabled",
    "CLUSTERDOWN Hash slot not served",
};

/* What has been told of one reply. */
static struct {
    struct slice strings[STRINGS_MAX];
    size_t string_count; /* of these, that the reply must have */
    bool exact;
    size_t told;
} expected;

/* ---- in place of the C library's ---- */

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
    (void)fd;
    ALLOY_ASSERT(address->sa_family == AF_UNIX && len > 0);
    return 0;
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    (void)fd;
    (void)data;
    ALLOY_ASSERT(flags & MSG_NOSIGNAL);
    return (ssize_t)len;
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
    (void)fd;
    (void)flags;
    if (len > say_len - said)
        len = say_len - said;
    if (piece > 0 && len > piece)
        len = piece;
    memcpy(data, say + said, len);
    said += len;
    return (ssize_t)len;
}

/* ---- the target ---- */

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

static void start(void)
{
    plain = redis_link_create("unix:///none", 4096, take_element, NULL);
    secret =
        redis_link_create("unix://user:kein%26Wort%23davon@/none?db=3", 4096, take_element, NULL);
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

/* One quoted value in the log. */
static void check_reason(const struct redis_link *link)
{
    for (const char *at = redis_link_reason(link); *at != '\0'; at++)
        ALLOY_ASSERT(*at != '"' && *at != '\\' && (unsigned char)*at >= ' ' && *at != 0x7f);
}

/* Of the server's words, which can quote what AUTH was sent, nothing but a code of capitals, or
 * what is always the same. */
static void check_refusal(const struct redis_link *link)
{
    const char *sentence = redis_link_reason(link);
    size_t code = strspn(sentence, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    bool ours = false;

    for (size_t i = 0; i < ARRAY_LEN(own_words); i++)
        if (strncmp(sentence, own_words[i], strlen(own_words[i])) == 0) {
            sentence += strlen(own_words[i]);
            ALLOY_ASSERT(strncmp(sentence, ": ", 2) == 0);
            sentence += 2;
            code = 0;
        }
    if (code > 0) {
        ALLOY_ASSERT(code <= CODE_MAX && strncmp(sentence + code, ": ", 2) == 0);
        sentence += code + 2;
    }
    for (size_t i = 0; i < ARRAY_LEN(sentences); i++)
        ours = ours || strcmp(sentence, sentences[i]) == 0;
    ALLOY_ASSERT(ours);
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
            check_refusal(link);
    }
    (void)redis_link_refused(link); /* by a reply that broke off */
    ALLOY_ASSERT(err == -ECONNRESET || err == -EPROTO);
    ALLOY_ASSERT(redis_link_reason(link)[0] != '\0');
    check_reason(link);
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
    link = (data[0] & 3) == 1 ? secret : plain;
    piece = data[0] >> 2;
    say_len = said = expected.told = 0;
    expected.exact = false;
    if ((data[0] & 3) > 1)
        put_strings(data + 1, size - 1);
    else
        put_text(data + 1, size - 1);
    err = redis_link_open(link, TIMEOUT_NS);
    if (err == 0) {
        const size_t replies = read_all(link, UINT64_MAX / 2);

        ALLOY_ASSERT(!expected.exact || (replies == 1 && expected.told == expected.string_count));
    } else {
        ALLOY_ASSERT(link == secret);
        check_reason(link);
        if (err == -EACCES)
            check_refusal(link);
    }
    redis_link_close(link);
    return 0;
}
