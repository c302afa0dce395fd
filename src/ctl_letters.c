/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_letters.c - alloyctl dead-letter list and show.
 *
 * Runs on: main thread. Owns: the sums.
 */
#include "alloy/ctl.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "alloy/clock.h"

#define ISO_MAX 25
#define CODE_ANY 0

/* Letters of one stream and code, or of one file. */
struct sum {
    char *stream; /* owned; NULL: of a file */
    int code;
    uint64_t events;
    uint64_t unreadable;
    uint64_t first_ms;
    uint64_t last_ms;
};

struct listing {
    struct sum file; /* the one that is being read */
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

static int fail(const char *dir, const char *name, int err)
{
    fprintf(stderr, "alloyctl: %s%s%s: %s\n", dir, name[0] != '\0' ? "/" : "", name,
            strerror(-err));
    return EXIT_FAILURE;
}

bool ctl_parse_since(const char *text, uint64_t now_ms, uint64_t *since_ms)
{
    static const char *const forms[] = {"%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S",
                                        "%Y-%m-%dT%H:%M:%SZ"};
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    uint64_t number;
    char *end;

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct tm tm = {0};
        const char *rest = strptime(text, forms[i], &tm);

        if (rest != NULL && *rest == '\0' && tm.tm_year >= 70) {
            *since_ms = (uint64_t)timegm(&tm) * 1000;
            return true;
        }
    }
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    number = strtoull(text, &end, 10);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (errno != 0 || strcmp(end, units[i].unit) != 0)
            continue;
        *since_ms = number < now_ms / units[i].ms ? now_ms - number * units[i].ms : 0;
        return true;
    }
    return false;
}

bool ctl_matches(const struct ctl_filter *filter, const struct letter *letter)
{
    if (filter->stream != NULL && (letter->stream.len != strlen(filter->stream) ||
                                   memcmp(letter->stream.data, filter->stream, letter->stream.len)))
        return false;
    if (filter->code != CODE_ANY && letter->code != filter->code)
        return false;
    return letter->time_ms >= filter->since_ms;
}

static void new_line(FILE *out, int indent)
{
    fprintf(out, "\n%*s", indent, "");
}

/* Writes a string with its quotes; returns where it ends. */
static const char *put_string(FILE *out, const char *at, const char *end)
{
    const char *from = at++;

    while (at < end && *at != '"')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    if (at < end)
        at++;
    fwrite(from, 1, (size_t)(at - from), out);
    return at;
}

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    return at;
}

void ctl_pretty(FILE *out, struct slice text, int indent)
{
    const char *at = text.data;
    const char *end = text.data + text.len;

    while ((at = skip_space(at, end)) < end) {
        char byte = *at;

        if (byte == '"') {
            at = put_string(out, at, end);
            continue;
        }
        at++;
        if (byte == '{' || byte == '[') {
            const char *next = skip_space(at, end);

            fputc(byte, out);
            if (next < end && (*next == '}' || *next == ']')) {
                fputc(*next, out);
                at = next + 1;
                continue;
            }
            indent += 2;
            new_line(out, indent);
        } else if (byte == '}' || byte == ']') {
            indent = indent < 2 ? 0 : indent - 2;
            new_line(out, indent);
            fputc(byte, out);
        } else if (byte == ',') {
            fputc(byte, out);
            new_line(out, indent);
        } else if (byte == ':') {
            fputs(": ", out);
        } else {
            fputc(byte, out);
        }
    }
}

static void add_to_sum(struct sum *sum, uint64_t time_ms)
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
static struct sum *find_sum(struct listing *listing, const struct letter *letter)
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

static int list_line(void *arg, const struct letter *letter, struct slice line, uint64_t number)
{
    struct listing *listing = arg;
    struct sum *sum;

    (void)line;
    (void)number;
    if (letter == NULL) {
        listing->file.unreadable++;
        return 0;
    }
    add_to_sum(&listing->file, letter->time_ms);
    if (!listing->waiting)
        return 0;
    sum = find_sum(listing, letter);
    if (sum == NULL)
        return -ENOMEM;
    add_to_sum(sum, letter->time_ms);
    return 0;
}

static const char *when(uint64_t ms, char text[ISO_MAX])
{
    if (ms == 0)
        return "-";
    clock_format_iso(ms, text);
    return text;
}

static int by_stream(const void *left, const void *right)
{
    const struct sum *a = left, *b = right;
    int order = strcmp(a->stream, b->stream);

    return order != 0 ? order : (a->code > b->code) - (a->code < b->code);
}

static void print_sums(struct listing *listing, FILE *out)
{
    char first[ISO_MAX], last[ISO_MAX];

    if (listing->count == 0)
        return;
    qsort(listing->sums, listing->count, sizeof(*listing->sums), by_stream);
    fprintf(out, "\n%-24s %6s %10s  %-24s %-24s\n", "NOT REPLAYED: STREAM", "CODE", "EVENTS",
            "FIRST", "LAST");
    for (size_t i = 0; i < listing->count; i++) {
        const struct sum *sum = &listing->sums[i];

        fprintf(out, "%-24s %6d %10" PRIu64 "  %-24s %-24s\n", sum->stream, sum->code, sum->events,
                when(sum->first_ms, first), when(sum->last_ms, last));
    }
}

static int list_file(const struct letters *letters, const struct letters_file *file,
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
    err = letters_visit(letters, file->name, list_line, listing);
    if (err != 0)
        return err;
    fprintf(out, "%-9s %10" PRIu64 " %12" PRIu64 "  %-24s %-24s %s", states[file->state],
            sum->events, file->bytes, when(sum->first_ms, first), when(sum->last_ms, last),
            file->name);
    if (sum->unreadable > 0)
        fprintf(out, "  (%" PRIu64 " unreadable lines)", sum->unreadable);
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
        return fail(dir, "", err);
    if (letters.count > 0)
        fprintf(out, "%-9s %10s %12s  %-24s %-24s %s\n", "STATE", "EVENTS", "BYTES", "FIRST",
                "LAST", "FILE");
    for (size_t i = 0; i < letters.count; i++) {
        err = list_file(&letters, &letters.files[i], &listing, out);
        if (err == -ENOENT)
            continue; /* taken away or renamed meanwhile */
        if (err != 0)
            status = fail(dir, letters.files[i].name, err);
        events += listing.file.events;
        bytes += letters.files[i].bytes;
    }
    print_sums(&listing, out);
    fprintf(out, "%s%" PRIu64 " events in %zu files, %" PRIu64 " bytes\n",
            letters.count > 0 ? "\n" : "", events, letters.count, bytes);
    for (size_t i = 0; i < listing.count; i++)
        free(listing.sums[i].stream);
    free(listing.sums);
    letters_close(&letters);
    return status;
}

static int show_line(void *arg, const struct letter *letter, struct slice line, uint64_t number)
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
        return fail(dir, "", err);
    for (size_t i = 0; i < letters.count && ferror(out) == 0; i++) {
        if (letters.files[i].state == LETTERS_REPLAYED && !show->all)
            continue;
        showing.name = letters.files[i].name;
        err = letters_visit(&letters, showing.name, show_line, &showing);
        if (err != 0 && err != -ENOENT)
            status = fail(dir, showing.name, err);
    }
    letters_close(&letters);
    return showing.unreadable > 0 ? EXIT_FAILURE : status;
}
