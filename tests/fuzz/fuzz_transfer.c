/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_transfer.c - any bytes that ClickHouse may send back, through libcurl.
 *
 * curl connects to a unix socket of ours, and gets the whole answer and its end at once. The first
 * byte chooses. 0: the bytes are the answer. 1: they are headers and body of a 200. Else they are
 * the body, repeated as often as the second byte says, of an answer with known headers.
 */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "transfer.h"

#define TIMEOUT_MS 3600000 /* no answer of ours is late, however busy the machine is */
#define REPEAT_MAX 8
#define INPUT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct transfer *transfer;
static struct curl_slist *headers;
static CURLM *multi;
static struct sockaddr_un address;
static int listen_fd;
static char answer[INPUT_MAX * REPEAT_MAX + 512];
static size_t answer_len;

static void remove_socket(void)
{
    unlink(address.sun_path);
}

static void start(void)
{
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof(address.sun_path), "/dev/shm/alloy-fuzz-%d.http", getpid());
    unlink(address.sun_path);
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ALLOY_ASSERT(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    ALLOY_ASSERT(listen(listen_fd, 8) == 0);
    atexit(remove_socket);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    headers = curl_slist_append(NULL, "Expect:");
    ALLOY_ASSERT(multi != NULL && headers != NULL);
}

static void make_transfer(void)
{
    char *url = strdup("http://127.0.0.1:8123/?query=x");

    ALLOY_ASSERT(url != NULL);
    transfer = transfer_create(headers, url, NULL, TIMEOUT_MS, TRANSFER_BODY_MAX);
    ALLOY_ASSERT(transfer != NULL);
    curl_easy_setopt(transfer->easy, CURLOPT_UNIX_SOCKET_PATH, address.sun_path);
    curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)TIMEOUT_MS);
}

static void say(const void *text, size_t len)
{
    ALLOY_ASSERT(len <= sizeof(answer) - answer_len);
    memcpy(answer + answer_len, text, len);
    answer_len += len;
}

/* The body's first and last half that is kept, made as simply as can be. */
static void check_body(const uint8_t *data, size_t size, size_t times)
{
    const size_t half = TRANSFER_BODY_MAX / 2;
    const size_t total = size * times;
    const size_t kept = total < TRANSFER_BODY_MAX ? total : TRANSFER_BODY_MAX;

    ALLOY_ASSERT(transfer->answer.body.len == kept);
    for (size_t i = 0; i < kept; i++) {
        const size_t at = total > TRANSFER_BODY_MAX && i >= half ? total - kept + i : i;

        ALLOY_ASSERT((uint8_t)transfer->body[i] == data[at % size]);
    }
}

/* Lets curl connect, and answers it. */
static CURLcode perform(void)
{
    int fd = -1, running = 1, left;
    const CURLMsg *message;

    ALLOY_ASSERT(curl_multi_add_handle(multi, transfer->easy) == CURLM_OK);
    while (running > 0) {
        ALLOY_ASSERT(curl_multi_perform(multi, &running) == CURLM_OK);
        if (fd < 0 && (fd = accept(listen_fd, NULL, NULL)) >= 0) {
            ALLOY_ASSERT(send(fd, answer, answer_len, MSG_NOSIGNAL) == (ssize_t)answer_len);
            shutdown(fd, SHUT_WR);
        } else if (running > 0) {
            curl_multi_wait(multi, NULL, 0, 10, NULL);
        }
    }
    message = curl_multi_info_read(multi, &left);
    ALLOY_ASSERT(fd >= 0 && message != NULL && message->msg == CURLMSG_DONE);
    const CURLcode result = message->data.result;
    curl_multi_remove_handle(multi, transfer->easy);
    close(fd);
    return result;
}

static void exchange(void)
{
    const CURLcode result = perform();

    transfer_end(transfer, result);
    ALLOY_ASSERT(transfer->answer.transport_failed == (result != CURLE_OK));
    ALLOY_ASSERT(transfer->answer.body.data == transfer->body);
    ALLOY_ASSERT(transfer->body_len <= TRANSFER_BODY_MAX);
    ALLOY_ASSERT(transfer->answer.exception_code >= -1 &&
                 transfer->answer.exception_code < 1000000);
    ALLOY_ASSERT(result == CURLE_OK || transfer->error[0] != '\0');
    (void)insert_answer_read(&transfer->answer, 1);
}

static void exchange_known(const uint8_t *data, size_t size, size_t times)
{
    char head[256];
    const int code = (int)(size * 7 % 999) + 1;
    const int len = snprintf(head, sizeof(head),
                             "HTTP/1.1 500 Word\r\nContent-Length: %zu\r\n"
                             "x-clickhouse-exception-code: %d\r\n"
                             "X-ClickHouse-Summary: {\"written_rows\":\"%zu\"}\r\n\r\n",
                             size * times, code, size);

    say(head, (size_t)len);
    for (size_t i = 0; i < times; i++)
        say(data, size);
    exchange();
    ALLOY_ASSERT(!transfer->answer.transport_failed && transfer->answer.status == 500);
    ALLOY_ASSERT(transfer->answer.exception_code == code);
    ALLOY_ASSERT(transfer->answer.has_summary && transfer->answer.written_rows == size);
    check_body(data, size, times);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char status[] = "HTTP/1.1 200 OK\r\n";

    if (size < 3 || size > INPUT_MAX)
        return 0;
    if (multi == NULL)
        start();
    make_transfer();
    answer_len = 0;
    if (data[0] > 1) {
        exchange_known(data + 2, size - 2, 1 + data[1] % REPEAT_MAX);
    } else {
        if (data[0] == 1)
            say(status, sizeof(status) - 1);
        say(data + 2, size - 2);
        exchange();
    }
    transfer_destroy(transfer);
    return 0;
}
