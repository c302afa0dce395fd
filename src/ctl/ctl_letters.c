/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_letters.c - alloyctl dead-letter list and show.
 *
 * Runs on: main thread. Owns: the sums.
 */
#include "ctl_commands.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"
#include "ctl_json.h"

#define ISO_MAX 25

/* Letters of one stream and code, or of one file. */
struct sum {
    char *stream; /* owned; NULL: the sum is a file's */
    int code;
    uint64_t events;
    uint64_t unreadable;
    uint64_t first_ms;
    uint64_t last_ms;
};

struct listing {
    struct sum file; /* of the file that is being read */
    struct sum *sums;
    size_t count;
    uint64_t events, bytes; /* of all files */
    bool waiting;           /* the file's events have not been posted again */
    json_t *files;          /* for --json; NULL: text is printed */
};

struct showing {
    const struct ctl_show *show;
    const char *name;
    FILE *out;
    bool json;
    uint64_t shown;
    uint64_t unreadable;
};

static bool ctl_letters_is_journal(const char *dir)
{
    DIR *stream = opendir(dir);
    const struct dirent *entry;
    bool found = false;

    if (stream == NULL)
        return false;
    while (!found && (entry = readdir(stream)) != NULL)
        found = fnmatch("segment-*.alj", entry->d_name, 0) == 0;
    closedir(stream);
    return found;
}

int ctl_letters_none(const char *dir, FILE *out)
{
    const bool journal = ctl_letters_is_journal(dir);

    fprintf(out, "%sthere are no dead-letter files in %s%s\n", out == stderr ? "alloyctl: " : "",
            dir, journal ? ", which looks like the folder of a journal" : "");
    return journal ? EXIT_FAILURE : EXIT_SUCCESS;
}

int ctl_letters_passed_over(const char *dir, const struct letters *letters)
{
    if (letters->passed_over == 0)
        return EXIT_SUCCESS;
    fprintf(stderr, "alloyctl: %s: %zu file%s not read, since %s no plain file%s\n", dir,
            letters->passed_over, letters->passed_over == 1 ? " was" : "s were",
            letters->passed_over == 1 ? "it is" : "they are", ctl_plural(letters->passed_over));
    return EXIT_FAILURE;
}

static int ctl_letters_fail(const char *dir, const char *name, int err)
{
    fprintf(stderr, "alloyctl: %s%s%s: %s\n", dir, name[0] != '\0' ? "/" : "", name,
            strerror(-err));
    return EXIT_FAILURE;
}

static void ctl_letters_add_to_sum(struct sum *sum, uint64_t time_ms)
{
    sum->events++;
    if (time_ms == 0)
        return;
    if (sum->first_ms == 0 || time_ms < sum->first_ms)
        sum->first_ms = time_ms;
    if (time_ms > sum->last_ms)
        sum->last_ms = time_ms;
}

/* The sum of a letter's stream and code; NULL: out of memory. */
static struct sum *ctl_letters_find_sum(struct listing *listing, const struct letter *letter)
{
    struct sum *grown;

    for (size_t i = 0; i < listing->count; i++) {
        const struct ctl_filter same = {.stream = listing->sums[i].stream};

        if (listing->sums[i].code == letter->code && ctl_matches(&same, letter))
            return &listing->sums[i];
    }
    grown = reallocarray(listing->sums, listing->count + 1, sizeof(*grown));
    if (grown == NULL)
        return NULL;
    listing->sums = grown;
    grown[listing->count] = (struct sum){.stream = strndup(letter->stream.data, letter->stream.len),
                                         .code = letter->code};
    return grown[listing->count].stream != NULL ? &grown[listing->count++] : NULL;
}

static int ctl_letters_list_line(void *arg, const struct letter *letter, struct slice line,
                                 uint64_t number)
{
    struct listing *listing = arg;
    struct sum *sum;

    (void)line;
    (void)number;
    if (letter == NULL) {
        listing->file.unreadable++;
        return 0;
    }
    ctl_letters_add_to_sum(&listing->file, letter->time_ms);
    if (!listing->waiting)
        return 0;
    sum = ctl_letters_find_sum(listing, letter);
    if (sum == NULL)
        return -ENOMEM;
    ctl_letters_add_to_sum(sum, letter->time_ms);
    return 0;
}

static const char *ctl_letters_when(uint64_t ms, char text[ISO_MAX])
{
    if (ms == 0)
        return "-";
    clock_format_iso(ms, text);
    return text;
}

static int ctl_letters_by_stream(const void *left, const void *right)
{
    const struct sum *a = left, *b = right;
    int order = strcmp(a->stream, b->stream);

    return order != 0 ? order : (a->code > b->code) - (a->code < b->code);
}

static void ctl_letters_print_sums(struct listing *listing, FILE *out)
{
    char first[ISO_MAX], last[ISO_MAX];

    if (listing->count == 0)
        return;
    qsort(listing->sums, listing->count, sizeof(*listing->sums), ctl_letters_by_stream);
    fprintf(out, "\n%-24s %6s %10s  %-24s %-24s\n", "NOT REPLAYED: STREAM", "CODE", "EVENTS",
            "FIRST", "LAST");
    for (size_t i = 0; i < listing->count; i++) {
        const struct sum *sum = &listing->sums[i];

        fprintf(out, "%-24s %6d %10" PRIu64 "  %-24s %-24s\n", sum->stream, sum->code, sum->events,
                ctl_letters_when(sum->first_ms, first), ctl_letters_when(sum->last_ms, last));
    }
}

static const char *const states[] = {[LETTERS_WAITING] = "waiting",
                                     [LETTERS_REPLAYING] = "replaying",
                                     [LETTERS_REPLAYED] = "replayed",
                                     [LETTERS_RENEWED] = "renewed"};

static json_t *ctl_letters_json_file(const struct letters_file *file, const struct sum *sum)
{
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "file", ctl_json_text(file->name),
                     "state", states[file->state], "events", ctl_json_number(sum->events), "bytes",
                     ctl_json_number(file->bytes), "first", ctl_json_time(sum->first_ms), "last",
                     ctl_json_time(sum->last_ms), "unreadable", ctl_json_number(sum->unreadable));
}

static json_t *ctl_letters_json_sums(struct listing *listing)
{
    json_t *sums = json_array();

    if (listing->count > 0)
        qsort(listing->sums, listing->count, sizeof(*listing->sums), ctl_letters_by_stream);
    for (size_t i = 0; i < listing->count; i++) {
        const struct sum *sum = &listing->sums[i];
        const struct slice stream = {sum->stream, strlen(sum->stream)};

        json_array_append_new(
            sums, json_pack("{s:o, s:i, s:o, s:o, s:o}", "stream", ctl_json_escaped(stream), "code",
                            sum->code, "events", ctl_json_number(sum->events), "first",
                            ctl_json_time(sum->first_ms), "last", ctl_json_time(sum->last_ms)));
    }
    return sums;
}

static int ctl_letters_list_file(const struct letters *letters, const struct letters_file *file,
                                 struct listing *listing, FILE *out)
{
    const struct sum *sum = &listing->file;
    char first[ISO_MAX], last[ISO_MAX];
    int err;

    listing->file = (struct sum){0};
    listing->waiting = file->state == LETTERS_WAITING || file->state == LETTERS_REPLAYING;
    err = letters_visit(letters, file->name, ctl_letters_list_line, listing);
    if (err != 0)
        return err;
    if (listing->files != NULL) {
        json_array_append_new(listing->files, ctl_letters_json_file(file, sum));
        return 0;
    }
    fprintf(out, "%-9s %10" PRIu64 " %12" PRIu64 "  %-24s %-24s %s", states[file->state],
            sum->events, file->bytes, ctl_letters_when(sum->first_ms, first),
            ctl_letters_when(sum->last_ms, last), file->name);
    if (sum->unreadable > 0)
        fprintf(out, "  (%" PRIu64 " unreadable line%s)", sum->unreadable,
                ctl_plural(sum->unreadable));
    fputc('\n', out);
    return 0;
}

/* Lists the files, and adds up their events and bytes. Returns the exit status. */
static int ctl_letters_list_files(const struct letters *letters, const char *dir,
                                  struct listing *listing, FILE *out)
{
    int status = EXIT_SUCCESS;

    for (size_t i = 0; i < letters->count; i++) {
        int err = ctl_letters_list_file(letters, &letters->files[i], listing, out);

        if (err == -ENOENT)
            continue; /* removed or renamed meanwhile */
        if (err != 0)
            status = ctl_letters_fail(dir, letters->files[i].name, err);
        if (listing->file.unreadable > 0)
            status = EXIT_FAILURE;
        listing->events += listing->file.events;
        listing->bytes += letters->files[i].bytes;
    }
    return status;
}

static int ctl_letters_print_document(struct listing *listing, const char *dir, FILE *out)
{
    return ctl_print_json(json_pack("{s:o, s:o, s:o, s:O, s:o}", "dir", ctl_json_text(dir),
                                    "events", ctl_json_number(listing->events), "bytes",
                                    ctl_json_number(listing->bytes), "files", listing->files,
                                    "not_replayed", ctl_letters_json_sums(listing)),
                          out);
}

int ctl_letters_list(const char *dir, struct ctl_out out)
{
    struct listing listing = {0};
    struct letters letters;
    int status, passed;
    int err = letters_open(&letters, dir);

    if (err != 0)
        return ctl_letters_fail(dir, "", err);
    passed = ctl_letters_passed_over(dir, &letters);
    if (letters.count == 0) {
        const int none = ctl_letters_none(dir, out.json ? stderr : out.file);

        passed = none != EXIT_SUCCESS ? none : passed;
    }
    if (letters.count == 0 && !out.json) {
        letters_close(&letters);
        return passed;
    }
    if (out.json)
        listing.files = json_array();
    else
        fprintf(out.file, "%-9s %10s %12s  %-24s %-24s %s\n", "STATE", "EVENTS", "BYTES", "FIRST",
                "LAST", "FILE");
    status = ctl_letters_list_files(&letters, dir, &listing, out.file);
    if (out.json) {
        if (ctl_letters_print_document(&listing, dir, out.file) != EXIT_SUCCESS)
            status = EXIT_FAILURE;
    } else {
        ctl_letters_print_sums(&listing, out.file);
        fprintf(out.file, "\n%" PRIu64 " event%s in %zu file%s, %" PRIu64 " byte%s\n",
                listing.events, ctl_plural(listing.events), letters.count,
                ctl_plural(letters.count), listing.bytes, ctl_plural(listing.bytes));
    }
    for (size_t i = 0; i < listing.count; i++)
        free(listing.sums[i].stream);
    free(listing.sums);
    json_decref(listing.files);
    letters_close(&letters);
    return status != EXIT_SUCCESS ? status : passed;
}

static int ctl_letters_show_line(void *arg, const struct letter *letter, struct slice line,
                                 uint64_t number)
{
    struct showing *showing = arg;

    if (letter == NULL) {
        fprintf(stderr, "alloyctl: %s:%" PRIu64 ": not a dead letter\n", showing->name, number);
        showing->unreadable++;
        return 0;
    }
    if (!ctl_matches(&showing->show->filter, letter))
        return 0;
    /* The bytes as they are also in a document: a JSON library would round large numbers. */
    if (showing->json && showing->shown > 0)
        fputs(",\n", showing->out);
    if (showing->show->raw || showing->json)
        fwrite(line.data, 1, line.len, showing->out);
    else
        ctl_pretty(showing->out, line, 0);
    if (!showing->json)
        fputc('\n', showing->out);
    showing->shown++;
    return ferror(showing->out) != 0 ? -EIO : 0;
}

int ctl_letters_show(const char *dir, const struct ctl_show *show, struct ctl_out out)
{
    struct showing showing = {.show = show, .out = out.file, .json = out.json};
    struct letters letters;
    int status = EXIT_SUCCESS;
    int err = letters_open(&letters, dir);

    if (err != 0)
        return ctl_letters_fail(dir, "", err);
    status = ctl_letters_passed_over(dir, &letters);
    if (letters.count == 0 && ctl_letters_none(dir, stderr) != EXIT_SUCCESS)
        status = EXIT_FAILURE;
    if (out.json)
        fputs("{\"letters\":[", out.file);
    for (size_t i = 0; i < letters.count && ferror(out.file) == 0; i++) {
        if (letters.files[i].state > LETTERS_REPLAYING && !show->all)
            continue;
        showing.name = letters.files[i].name;
        err = letters_visit(&letters, showing.name, ctl_letters_show_line, &showing);
        if (err != 0 && err != -ENOENT)
            status = ctl_letters_fail(dir, showing.name, err);
    }
    if (out.json)
        fputs("]}\n", out.file);
    letters_close(&letters);
    return showing.unreadable > 0 ? EXIT_FAILURE : status;
}

/* ---- command line ---- */

static bool ctl_letters_good_code(const char *value)
{
    char *end;
    long code = strtol(value, &end, 10);

    return *value != '\0' && *end == '\0' && code > 0 && code < 100000;
}

static bool ctl_letters_good_since(const char *value)
{
    uint64_t since_ms;

    return ctl_parse_since(value, clock_real_ms(), &since_ms);
}

static const char *ctl_letters_dir(const struct ctl_given *given)
{
    return given->word_count > 0 ? ctl_word(given, 0) : CTL_LETTERS_DIR;
}

static int ctl_letters_run_list(const struct ctl_given *given)
{
    return ctl_letters_list(ctl_letters_dir(given), given->out);
}

static int ctl_letters_run_show(const struct ctl_given *given)
{
    const char *since = ctl_value(given, "since");
    struct ctl_show show = {.filter = {.stream = ctl_value(given, "stream"),
                                       .code = atoi(ctl_value_or(given, "code", "0"))},
                            .raw = ctl_value(given, "raw") != NULL,
                            .all = ctl_value(given, "all") != NULL};

    if (since != NULL && !ctl_parse_since(since, clock_real_ms(), &show.filter.since_ms))
        return CTL_USAGE;
    return ctl_letters_show(ctl_letters_dir(given), &show, given->out);
}

static const struct ctl_option ctl_letters_show_options[] = {
    CTL_OPTION_STREAM("only events of this stream"),
    {.name = "code",
     .value = "N",
     .help = "only events refused with this exception code of ClickHouse",
     .takes = "an exception code of ClickHouse, a number from 1 to 99999",
     .good = ctl_letters_good_code},
    {.name = "since",
     .value = "TIME",
     .help = "only events refused since then: 2026-01-31, 2026-01-31T12:00:00Z (UTC), or 90s, "
             "15min, 2h, 7d ago",
     .takes = "a time such as 2026-01-31 or 2026-01-31T12:00:00Z (UTC), or 90s, 15min, 2h or 7d "
              "ago",
     .good = ctl_letters_good_since},
    {.name = "raw", .help = "lines as they are in the files, for jq and the like"},
    {.name = "all", .help = "also events that were replayed"},
    {.name = NULL}};

const struct ctl_command ctl_letters_group = {
    .name = "dead-letter",
    .summary = "events that ClickHouse refused",
    .help = "Events that ClickHouse refused, in DIR (default " CTL_LETTERS_DIR "). All commands "
            "work whether alloyd runs on this folder or not.",
};

const struct ctl_command ctl_letters_list_command = {
    .name = "dead-letter list",
    .summary = "files of refused events, and sums by stream and code",
    .words = "[DIR]",
    .which = "which folder?",
    .words_max = 1,
    .help = "Prints the files of DIR (default " CTL_LETTERS_DIR ") with their events, bytes and "
            "time span, and sums by stream and code of what was not replayed. Exit status 1 when a "
            "line cannot be read.",
    .run = ctl_letters_run_list,
};

const struct ctl_command ctl_letters_show_command = {
    .name = "dead-letter show",
    .summary = "refused events, each with the reason",
    .words = "[DIR]",
    .which = "which folder?",
    .words_max = 1,
    .help = "Prints each event of DIR (default " CTL_LETTERS_DIR ") that was not replayed, with "
            "the reason, over several lines.",
    .options = ctl_letters_show_options,
    .run = ctl_letters_run_show,
};
