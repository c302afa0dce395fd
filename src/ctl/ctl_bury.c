/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_bury.c - alloyctl bury: tells a running alloyd to write a stream's refused events to the
 * dead-letter folder. When ClickHouse refuses every row of a stream, alloyd keeps them until then.
 *
 * Runs on: main thread.
 * Owns: nothing.
 */
#include "ctl_commands.h"

#include <inttypes.h>
#include <string.h>

#include "ctl_admin.h"
#include "ctl_json.h"

bool ctl_read_buried(const char *body, uint64_t *events)
{
    return sscanf(body, " { \"asked\" : true , \"events\" : %" SCNu64, events) == 1;
}

static int ctl_bury_tell_done(const char *stream, uint64_t events, struct ctl_out out)
{
    if (out.json)
        return ctl_print_json(json_pack("{s:o, s:o}", "stream", ctl_json_text(stream), "events",
                                        ctl_json_number(events)),
                              out.file);
    if (events == 0)
        fprintf(out.file, "stream %s: no refused events are kept\n", stream);
    else
        fprintf(out.file, "stream %s: %" PRIu64 " event%s will go to the dead letters\n", stream,
                events, ctl_plural(events));
    return EXIT_SUCCESS;
}

/* Prints what an answer means; returns the exit status. */
static int ctl_bury_tell(const char *admin, const char *stream,
                         const struct ctl_http_answer *answer, struct ctl_out out)
{
    uint64_t events;

    if (answer->status == 0) {
        fprintf(stderr, "alloyctl: %s does not answer: %s\n", admin, answer->error);
        return EXIT_FAILURE;
    }
    if (answer->status == 200 && ctl_read_buried(answer->body, &events))
        return ctl_bury_tell_done(stream, events, out);
    if (answer->status == 404)
        fprintf(stderr, "alloyctl: the alloyd at %s has no stream %s: %s\n", admin, stream,
                ctl_one_line(answer->body));
    else
        fprintf(stderr, "alloyctl: %s did not bury events of stream %s (HTTP status %ld): %s\n",
                admin, stream, answer->status, ctl_one_line(answer->body));
    return EXIT_FAILURE;
}

static int ctl_bury_run(const struct ctl_given *given)
{
    const char *stream = ctl_word(given, 0);
    char *name = ctl_http_escape(stream);
    char *path = NULL;
    struct ctl_admin admin;
    struct ctl_http_answer answer;
    int status = EXIT_FAILURE;

    if (name == NULL || asprintf(&path, "streams/%s/bury", name) < 0) {
        fputs("alloyctl: out of memory\n", stderr);
        path = NULL;
    } else if (ctl_admin_open(&admin, given)) {
        ctl_admin_post(&admin, path, &answer);
        status = ctl_bury_tell(admin.url, stream, &answer, given->out);
        ctl_admin_close(&admin);
    }
    free(path);
    free(name);
    return status;
}

static const struct ctl_option ctl_bury_options[] = {
    CTL_OPTION_ADMIN, CTL_OPTION_ADMIN_KEY_FILE, {.name = NULL}};

const struct ctl_command ctl_bury_command = {
    .name = "bury",
    .summary = "make dead letters of what ClickHouse refuses of a whole stream",
    .words = "STREAM",
    .which = "which stream?",
    .words_min = 1,
    .words_max = 1,
    .help = "Tells a running alloyd to move the events of STREAM that ClickHouse refuses to the "
            "dead letters, from where they can be replayed. alloyd keeps them while ClickHouse "
            "refuses every event of the stream, which /readyz reports as "
            "clickhouse.STREAM.refuses.\n\n"
            "Returns at once and prints how many events are to be buried; "
            "alloy_events_dead_lettered_total shows the progress.",
    .options = ctl_bury_options,
    .run = ctl_bury_run,
};
