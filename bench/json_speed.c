/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_speed.c - how fast the scanner reads bodies, and jansson.
 *
 *     json_speed alloy|jansson ROUNDS FILE
 *
 * FILE has a body in each line. Prints the bytes a second of the best round, of about 16 MiB each.
 * bench/json is the way to run it; json_speed_rival.cpp does the same for simdjson.
 */
#include "alloy/json_scan.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#define ROUND_BYTES (16u << 20)
#define BODIES_MAX 4096

static const struct json_scan_fields fields = {.names = {{"event_id", 8}}, .count = 1};
static const struct json_scan_fields header_fields = {.sources = {{.kind = JSON_SCAN_OF_HEADER}},
                                                      .source_count = 1};
static const struct json_scan_fields *used = &fields;
static const struct slice delivery = {"72d3162e-cc78-11e3-81ab-4c9367dc0958", 36};

static bool speed_alloy(struct slice body)
{
    enum json_scan_result result;
    struct json_scan_event event;
    struct json_scan scan;

    json_scan_init(&scan, used, body.data, body.len);
    scan.headers = &delivery;
    while ((result = json_scan_next(&scan, &event)) == JSON_SCAN_EVENT)
        ;
    return result == JSON_SCAN_END;
}

static bool speed_jansson(struct slice body)
{
    json_t *value = json_loadb(body.data, body.len, 0, NULL);

    json_decref(value);
    return value != NULL;
}

static double speed_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Finds the bodies, one in each line, before the clock starts. */
static size_t speed_split(struct slice text, struct slice *bodies)
{
    size_t count = 0;

    for (const char *at = text.data; at < text.data + text.len && count < BODIES_MAX; count++) {
        const char *end = memchr(at, '\n', (size_t)(text.data + text.len - at));

        bodies[count] = (struct slice){at, (size_t)(end - at)};
        at = end + 1;
    }
    return count;
}

static double speed_round(bool (*read)(struct slice), const struct slice *bodies, size_t count)
{
    const double before = speed_seconds();
    size_t bytes = 0;

    while (bytes < ROUND_BYTES) {
        for (size_t i = 0; i < count; i++) {
            if (!read(bodies[i])) {
                fprintf(stderr, "json_speed: not valid: %.60s\n", bodies[i].data);
                exit(1);
            }
            bytes += bodies[i].len + 1;
        }
    }
    return (double)bytes / (speed_seconds() - before);
}

int main(int argc, char **argv)
{
    static char text[64 << 20];
    FILE *file = argc == 4 ? fopen(argv[3], "r") : NULL;
    static struct slice bodies[BODIES_MAX];
    size_t len, count;
    double best = 0;

    if (file == NULL)
        return 2;
    len = fread(text, 1, sizeof(text), file);
    fclose(file);
    count = speed_split((struct slice){text, len}, bodies);
    /* As a stream would be configured: a webhook's id is in a header. */
    if (memmem(text, 100, "\"event_id\"", 10) == NULL)
        used = &header_fields;
    for (int i = 0; i < atoi(argv[2]); i++) {
        const double speed =
            speed_round(strcmp(argv[1], "alloy") == 0 ? speed_alloy : speed_jansson, bodies, count);

        best = speed > best ? speed : best;
    }
    printf("%.0f\n", best);
    return 0;
}
