/* SPDX-License-Identifier: Apache-2.0 */
/*
 * evhttp.c - libevent's own HTTP server, one thread, which answers 202 without looking at the body:
 * what alloyd's front would be built on if it had no parser of its own. A rival for bench/run.
 *
 * Usage: evhttp PORT     (127.0.0.1; ends on TERM)
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>

static const char answer[] = "{\"accepted\":1,\"duplicates\":0}";

static void evhttp_answer(struct evhttp_request *request, void *arg)
{
    struct evbuffer *body = arg;

    evbuffer_add_reference(body, answer, sizeof(answer) - 1, NULL, NULL);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "application/json");
    evhttp_send_reply(request, 202, "Accepted", body);
}

int main(int argc, char **argv)
{
    struct event_base *base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    struct evbuffer *body = evbuffer_new();

    evhttp_set_gencb(http, evhttp_answer, body);
    if (evhttp_bind_socket(http, "127.0.0.1", (ev_uint16_t)(argc == 2 ? atoi(argv[1]) : 0)) != 0) {
        perror("evhttp: bind");
        return 1;
    }
    event_base_dispatch(base);
    return 0;
}
