/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_export.c - alloyctl journal export and drop: what waits in a journal, as NDJSON; and lets the
 * pending events of a stream go.
 *
 * export only reads, beside whoever uses the folder. drop takes the folder's lock, opens the
 * journal as alloyd does, and marks the records DEAD, as if they had been dead-lettered.
 *
 * Runs on: main thread. Owns: nothing between two calls.
 */
#include "ctl_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"
#include "alloy/dead_letter.h"
#include "alloy/journal.h"
#include "alloy/log.h"
#include "alloy/nearest.h"
#include "alloy/recover.h"
#include "ctl_json.h"
#include "ctl_pending.h"

#define ISO_MAX 25
#define FINISH_MAX 1024 /* records finished at once */
#define NAMES_MAX 512

/* ---- export ---- */

struct exporting {
    const char *stream; /* NULL: all */
    bool letters;
    FILE *out;
    uint64_t events;
};

static void ctl_export_event(void *arg, const char *stream, uint64_t instance_id,
                             const struct record *record)
{
    struct exporting *exporting = arg;
    char when[ISO_MAX];

    if (exporting->stream != NULL && strcmp(exporting->stream, stream) != 0)
        return;
    exporting->events++;
    if (exporting->letters) {
        clock_format_iso(record->received_ms, when);
        fprintf(exporting->out,
                "{\"time\":\"%s\",\"lsn\":\"%016" PRIx64 "%016" PRIx64
                "\",\"stream\":\"%s\",\"event\":",
                when, instance_id, record->lsn, stream);
    }
    dead_letter_put_event(exporting->out, record);
    fputs(exporting->letters ? "}\n" : "\n", exporting->out);
}

/* Says that there may be more than was found. Returns the exit status. */
static int ctl_export_tell_unread(void)
{
    fputs("alloyctl: not all of the journal could be read: there may be more events\n", stderr);
    return EXIT_FAILURE;
}

int ctl_export(const char *dir, const char *stream, bool letters, FILE *out)
{
    struct exporting exporting = {.stream = stream, .letters = letters, .out = out};
    const int err = ctl_pending_visit(dir, ctl_export_event, &exporting);

    if (err < 0)
        return EXIT_FAILURE;
    fprintf(stderr, "alloyctl: %" PRIu64 " event%s exported\n", exporting.events,
            ctl_plural(exporting.events));
    return err == 0 ? EXIT_SUCCESS : ctl_export_tell_unread();
}

/* ---- drop ---- */

/* What waits of a stream, and which streams have anything that waits. */
struct counting {
    const char *stream;
    struct nearest nearest;
    uint64_t events, bytes, oldest_ms;
    char names[NAMES_MAX]; /* of other streams, with commas */
    char last[SEGMENT_STREAM_NAME];
};

/* Adds a name to a list that is only for people: one that does not fit is left out. */
static void ctl_drop_add_name(struct counting *counting, const char *stream)
{
    const size_t len = strlen(counting->names);
    char quoted[SEGMENT_STREAM_NAME + 4];

    if (strcmp(counting->last, stream) == 0)
        return;
    snprintf(counting->last, sizeof(counting->last), "%s", stream);
    snprintf(quoted, sizeof(quoted), ", %s,", stream);
    /* The list begins and ends with a comma while it grows. */
    if (strstr(counting->names, &quoted[1]) != NULL ||
        len + strlen(quoted) >= sizeof(counting->names))
        return;
    snprintf(counting->names + len, sizeof(counting->names) - len, "%s",
             len == 0 ? quoted : &quoted[1]);
}

static void ctl_drop_count(void *arg, const char *stream, uint64_t instance_id,
                           const struct record *record)
{
    struct counting *counting = arg;

    (void)instance_id;
    if (strcmp(counting->stream, stream) != 0) {
        ctl_drop_add_name(counting, stream);
        return;
    }
    counting->events++;
    counting->bytes += record->length;
    if (counting->oldest_ms == 0 || record->received_ms < counting->oldest_ms)
        counting->oldest_ms = record->received_ms;
}

/* "3 d 4 h", for people. */
static void ctl_drop_age(uint64_t ms, char text[32])
{
    const uint64_t s = ms / 1000;

    if (s >= 86400)
        snprintf(text, 32, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        snprintf(text, 32, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        snprintf(text, 32, "%" PRIu64 " min", s / 60);
    else
        snprintf(text, 32, "%" PRIu64 " s", s);
}

static void ctl_drop_tell(const struct counting *counting, const char *dir, FILE *out)
{
    const uint64_t now_ms = clock_real_ms();
    char when[ISO_MAX], age[32];

    if (counting->events == 0) {
        fprintf(out, "stream %s: no events wait in %s\n", counting->stream, dir);
        if (counting->names[0] != '\0')
            fprintf(out, "there are events of:%.*s\n", (int)strlen(&counting->names[1]) - 1,
                    &counting->names[1]);
        return;
    }
    clock_format_iso(counting->oldest_ms, when);
    ctl_drop_age(now_ms > counting->oldest_ms ? now_ms - counting->oldest_ms : 0, age);
    fprintf(out,
            "stream %s: %" PRIu64 " event%s (%" PRIu64
            " bytes) wait in %s, the oldest since %s (%s)\n",
            counting->stream, counting->events, ctl_plural(counting->events), counting->bytes, dir,
            when, age);
}

/* Records to be finished. */
struct dropping {
    struct record **records; /* owned */
    size_t count, room;
    bool no_memory;
};

static void ctl_drop_collect(void *arg, struct record *record)
{
    struct dropping *dropping = arg;

    if (record_state(record) != RECORD_LIVE)
        return;
    if (dropping->count == dropping->room) {
        const size_t room = dropping->room > 0 ? 2 * dropping->room : 1024;
        struct record **grown = reallocarray(dropping->records, room, sizeof(*grown));

        if (grown == NULL) {
            dropping->no_memory = true;
            return;
        }
        dropping->records = grown;
        dropping->room = room;
    }
    dropping->records[dropping->count++] = record;
}

/* Drops what waits of the stream, with the folder's lock held. Returns 0 and how many, or -errno
 * (reported). */
static int ctl_drop_events(const char *dir, const char *stream, uint64_t *dropped)
{
    const struct journal_options options = {.dir = dir,
                                            .segment_bytes = SEGMENT_BYTES_MIN,
                                            .max_bytes = UINT64_C(1) << 50,
                                            .sync = JOURNAL_SYNC_INTERVAL,
                                            .writer_count = 1,
                                            .stream_names = &stream,
                                            .stream_count = 1};
    struct dropping dropping = {.count = 0};
    struct recover_stats stats;
    char error[JOURNAL_ERROR_MAX];
    struct journal *journal;
    int err = journal_open(&journal, &options, error);

    if (err == 0) {
        err = recover_run(journal, ctl_drop_collect, &dropping, &stats, error);
        if (err == 0 && dropping.no_memory) {
            err = -ENOMEM;
            snprintf(error, sizeof(error), "out of memory");
        }
        for (size_t i = 0; err == 0 && i < dropping.count; i += FINISH_MAX)
            journal_finish(journal, &dropping.records[i],
                           dropping.count - i < FINISH_MAX ? dropping.count - i : FINISH_MAX,
                           RECORD_DEAD);
        if (err == 0 && !journal_settle(journal)) {
            err = -EIO;
            snprintf(error, sizeof(error),
                     "they are dropped, but that may not be on the disk: look again");
        }
        journal_close(journal);
    }
    if (err != 0)
        fprintf(stderr, "alloyctl: %s\n", error);
    if (err == -EBUSY)
        fputs("alloyctl: nothing was dropped; stop that alloyd first, since it may be sending "
              "these events\n",
              stderr);
    *dropped = dropping.count;
    free(dropping.records);
    return err;
}

static int ctl_drop_print(const struct counting *counting, uint64_t dropped, bool read, FILE *out)
{
    return ctl_print_json(
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "stream", ctl_json_text(counting->stream),
                  "events", ctl_json_number(counting->events), "bytes",
                  ctl_json_number(counting->bytes), "oldest", ctl_json_time(counting->oldest_ms),
                  "dropped", ctl_json_number(dropped), "read", read),
        out);
}

int ctl_drop(const char *dir, const char *stream, bool yes, struct ctl_out out)
{
    struct counting counting = {.stream = stream};
    uint64_t dropped = 0;
    int status = EXIT_SUCCESS;
    const int unread = ctl_pending_visit(dir, ctl_drop_count, &counting);

    if (unread < 0)
        return EXIT_FAILURE;
    if (!out.json)
        ctl_drop_tell(&counting, dir, out.file);
    fflush(out.file);
    if (counting.events > 0 && !yes) {
        fputs("alloyctl: nothing was dropped: give --yes to let them go\n", stderr);
        status = CTL_USAGE;
    } else if (counting.events > 0) {
        log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
        if (ctl_drop_events(dir, stream, &dropped) != 0)
            status = EXIT_FAILURE;
        else if (!out.json)
            fprintf(out.file, "dropped %" PRIu64 " event%s\n", dropped, ctl_plural(dropped));
    }
    if (out.json && ctl_drop_print(&counting, dropped, unread == 0, out.file) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    if (unread > 0)
        (void)ctl_export_tell_unread();
    return status == EXIT_SUCCESS && unread > 0 ? EXIT_FAILURE : status;
}

/* ---- command line ---- */

static int ctl_export_run(const struct ctl_given *given)
{
    return ctl_export(ctl_word(given, 0), ctl_value(given, "stream"),
                      ctl_value(given, "letters") != NULL, given->out.file);
}

static int ctl_drop_run(const struct ctl_given *given)
{
    const char *stream = ctl_value(given, "stream");

    if (stream == NULL) {
        fputs("alloyctl: journal drop: which stream? Give --stream NAME\n", stderr);
        return ctl_refuse(given->command);
    }
    return ctl_drop(ctl_word(given, 0), stream, ctl_value(given, "yes") != NULL, given->out);
}

static const struct ctl_option ctl_export_options[] = {
    CTL_OPTION_STREAM("only events of this stream"),
    {.name = "letters",
     .help = "lines like those of dead letters, with stream, time and record, which 'dead-letter "
             "replay --corrected' can post"},
    {.name = NULL}};

static const struct ctl_option ctl_drop_options[] = {
    CTL_OPTION_STREAM("the stream whose pending events are to go"),
    {.name = "yes", .help = "let them go; without it they are only counted"},
    {.name = NULL}};

const struct ctl_command ctl_export_command = {
    .name = "journal export",
    .summary = "the events that wait, as NDJSON",
    .words = "DIR",
    .which = "which folder?",
    .words_min = 1,
    .words_max = 1,
    .no_json = true,
    .help = "Prints the events that wait in the journal in DIR, one on a line, as their clients "
            "sent them. Only reads, takes no lock, and works whether alloyd runs or not; beside a "
            "running one it prints what waits at this time, and an event that is just being moved "
            "may come twice.\n\n"
            "The events stay in the journal. 'journal drop' lets those of a stream go.",
    .options = ctl_export_options,
    .run = ctl_export_run,
};

const struct ctl_command ctl_drop_command = {
    .name = "journal drop",
    .summary = "let the events go that wait for a removed stream",
    .words = "DIR",
    .which = "which folder?",
    .words_min = 1,
    .words_max = 1,
    .help = "Tells how many events of a stream wait in the journal in DIR and how old they are, "
            "and with --yes lets them go. They are lost unless you have exported them. Needs the "
            "folder for itself: it refuses while an alloyd runs on it.\n\n"
            "Some of them may be in ClickHouse already, if an insert was under way. alloyd "
            "remembers their ids for the stream's ttl all the same.",
    .options = ctl_drop_options,
    .run = ctl_drop_run,
};
