/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_letters.c - alloyctl dead-letter list and show.
 *
 * Runs on: main thread. Owns: the sums.
 */
#include "ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"

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
    bool waiting; /* the file's events have not been posted again */
};

struct showing {
    const struct ctl_show *show;
    const char *name;
    FILE *out;
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

static int ctl_letters_list_file(const struct letters *letters, const struct letters_file *file,
                                 struct listing *listing, FILE *out)
{
    static const char *const states[] = {[LETTERS_WAITING] = "waiting",
                                         [LETTERS_REPLAYING] = "replaying",
                                         [LETTERS_REPLAYED] = "replayed"};
    const struct sum *sum = &listing->file;
    char first[ISO_MAX], last[ISO_MAX];
    int err;

    listing->file = (struct sum){0};
    listing->waiting = file->state != LETTERS_REPLAYED;
    err = letters_visit(letters, file->name, ctl_letters_list_line, listing);
    if (err != 0)
        return err;
    fprintf(out, "%-9s %10" PRIu64 " %12" PRIu64 "  %-24s %-24s %s", states[file->state],
            sum->events, file->bytes, ctl_letters_when(sum->first_ms, first),
            ctl_letters_when(sum->last_ms, last), file->name);
    if (sum->unreadable > 0)
        fprintf(out, "  (%" PRIu64 " unreadable line%s)", sum->unreadable,
                ctl_plural(sum->unreadable));
    fputc('\n', out);
    return 0;
}

int ctl_letters_list(const char *dir, FILE *out)
{
    struct listing listing = {0};
    struct letters letters;
    uint64_t events = 0, bytes = 0;
    int status = EXIT_SUCCESS;
    int err = letters_open(&letters, dir);

    if (err != 0)
        return ctl_letters_fail(dir, "", err);
    if (letters.count == 0) {
        letters_close(&letters);
        return ctl_letters_none(dir, out);
    }
    fprintf(out, "%-9s %10s %12s  %-24s %-24s %s\n", "STATE", "EVENTS", "BYTES", "FIRST", "LAST",
            "FILE");
    for (size_t i = 0; i < letters.count; i++) {
        err = ctl_letters_list_file(&letters, &letters.files[i], &listing, out);
        if (err == -ENOENT)
            continue; /* removed or renamed meanwhile */
        if (err != 0)
            status = ctl_letters_fail(dir, letters.files[i].name, err);
        if (listing.file.unreadable > 0)
            status = EXIT_FAILURE;
        events += listing.file.events;
        bytes += letters.files[i].bytes;
    }
    ctl_letters_print_sums(&listing, out);
    fprintf(out, "\n%" PRIu64 " event%s in %zu file%s, %" PRIu64 " byte%s\n", events,
            ctl_plural(events), letters.count, ctl_plural(letters.count), bytes, ctl_plural(bytes));
    for (size_t i = 0; i < listing.count; i++)
        free(listing.sums[i].stream);
    free(listing.sums);
    letters_close(&letters);
    return status;
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
    if (showing->show->raw)
        fwrite(line.data, 1, line.len, showing->out);
    else
        ctl_pretty(showing->out, line, 0);
    fputc('\n', showing->out);
    return ferror(showing->out) != 0 ? -EIO : 0;
}

int ctl_letters_show(const char *dir, const struct ctl_show *show, FILE *out)
{
    struct showing showing = {.show = show, .out = out};
    struct letters letters;
    int status = EXIT_SUCCESS;
    int err = letters_open(&letters, dir);

    if (err != 0)
        return ctl_letters_fail(dir, "", err);
    if (letters.count == 0)
        status = ctl_letters_none(dir, stderr);
    for (size_t i = 0; i < letters.count && ferror(out) == 0; i++) {
        if (letters.files[i].state == LETTERS_REPLAYED && !show->all)
            continue;
        showing.name = letters.files[i].name;
        err = letters_visit(&letters, showing.name, ctl_letters_show_line, &showing);
        if (err != 0 && err != -ENOENT)
            status = ctl_letters_fail(dir, showing.name, err);
    }
    letters_close(&letters);
    return showing.unreadable > 0 ? EXIT_FAILURE : status;
}
