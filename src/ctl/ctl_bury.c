/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_bury.c - alloyctl bury: tells a running alloyd to write a stream's refused events to the
 * dead-letter folder. When ClickHouse refuses every row of a stream, alloyd keeps them until then.
 *
 * Runs on: main thread. Uses libcurl.
 * Owns: the request.
 */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <curl/curl.h>

#define ANSWER_MAX 1024
#define TIMEOUT_S 30L

struct answer {
    char text[ANSWER_MAX]; /* the beginning of the answer */
    size_t len;
};

bool ctl_read_buried(const char *body, uint64_t *events)
{
    return sscanf(body, " { \"asked\" : true , \"events\" : %" SCNu64, events) == 1;
}

static size_t ctl_bury_on_answer(char *data, size_t size, size_t n, void *arg)
{
    struct answer *answer = arg;
    const size_t room = ANSWER_MAX - 1 - answer->len;
    const size_t take = size * n < room ? size * n : room;

    memcpy(answer->text + answer->len, data, take);
    answer->len += take;
    return size * n;
}

/* The owned URL to post to; NULL: out of memory. */
static char *ctl_bury_url(CURL *easy, const char *admin, const char *stream)
{
    char *name = curl_easy_escape(easy, stream, 0);
    char *url = NULL;
    size_t len = strlen(admin);

    while (len > 0 && admin[len - 1] == '/')
        len--;
    if (name != NULL && asprintf(&url, "%.*s/streams/%s/bury", (int)len, admin, name) < 0)
        url = NULL;
    curl_free(name);
    return url;
}

/* Prints what an answer means; returns the exit status. */
static int ctl_bury_tell(const char *admin, const char *stream, long status, struct answer *answer,
                         FILE *out)
{
    const char *line = ctl_one_line(answer->text);
    uint64_t events;

    if (status == 200 && ctl_read_buried(answer->text, &events)) {
        if (events == 0)
            fprintf(out, "stream %s: no refused events are kept\n", stream);
        else
            fprintf(out, "stream %s: %" PRIu64 " event%s will go to the dead letters\n", stream,
                    events, ctl_plural(events));
        return EXIT_SUCCESS;
    }
    if (status == 404)
        fprintf(stderr, "alloyctl: the alloyd at %s has no stream %s: %s\n", admin, stream, line);
    else
        fprintf(stderr, "alloyctl: %s did not bury events of stream %s (HTTP status %ld): %s\n",
                admin, stream, status, line);
    return EXIT_FAILURE;
}

/* Posts, and prints the result. Returns the exit status. */
static int ctl_bury_post(CURL *easy, const struct ctl_admin *admin, const char *stream, FILE *out)
{
    /* alloyd wants this header, which a web page in a browser cannot set. */
    struct curl_slist *headers = curl_slist_append(NULL, "Alloy-Control: 1");
    char *url = ctl_bury_url(easy, admin->url, stream);
    char key[CTL_KEY_ROOM] = "";
    char error[CURL_ERROR_SIZE] = "";
    struct answer answer = {.len = 0};
    CURLcode result = CURLE_OUT_OF_MEMORY;
    long status = 0;

    if (admin->key_file != NULL && !ctl_read_key(admin->key_file, key)) {
        curl_slist_free_all(headers);
        free(url);
        return EXIT_FAILURE;
    }
    if (headers != NULL && url != NULL) {
        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        if (key[0] != '\0') {
            curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
            curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, key);
        }
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ctl_bury_on_answer);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT, TIMEOUT_S);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "alloyctl/" ALLOY_VERSION);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        result = curl_easy_perform(easy);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        /* The buffer is on this function's stack. */
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
    }
    curl_slist_free_all(headers);
    free(url);
    if (result == CURLE_OK)
        return ctl_bury_tell(admin->url, stream, status, &answer, out);
    fprintf(stderr, "alloyctl: %s does not answer: %s\n", admin->url,
            error[0] != '\0' ? error : curl_easy_strerror(result));
    return EXIT_FAILURE;
}

int ctl_bury(const struct ctl_admin *admin, const char *stream, FILE *out)
{
    int status = EXIT_FAILURE;
    CURL *easy;

    curl_global_init(CURL_GLOBAL_DEFAULT);
    easy = curl_easy_init();
    if (easy == NULL)
        fputs("alloyctl: out of memory\n", stderr);
    else
        status = ctl_bury_post(easy, admin, stream, out);
    curl_easy_cleanup(easy);
    curl_global_cleanup();
    return status;
}
