/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_journal.c - alloyctl journal inspect and verify.
 *
 * Reads the folder of a running or dead alloyd: takes no lock, maps segments read-only, and accepts
 * that a segment may go away or grow meanwhile.
 *
 * Runs on: main thread. Owns: the sums.
 */
#include "ctl_commands.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "alloy/clock.h"
#include "alloy/journal_dir.h"
#include "alloy/segment.h"
#include "alloy/files.h"
#include "ctl_json.h"
#include "ctl_walk.h"

#define ISO_MAX 25
#define STREAMS_MAX 1024 /* names in all segments together: streams come and go */

/* The columns of the table. */
static const enum record_state states[] = {RECORD_LIVE, RECORD_INSERTED, RECORD_DUPLICATE,
                                           RECORD_DEAD, RECORD_REFUSED,  RECORD_MOVED};

/* Records of a segment or a stream. */
struct sum {
    char name[SEGMENT_STREAM_NAME];
    uint64_t counts[ARRAY_LEN(states)]; /* by state */
    uint64_t live;
    uint64_t live_bytes;
    uint64_t oldest_live_ms; /* 0: none */
};

struct walk {
    const char *dir;
    struct journal_dir folder;
    FILE *out;
    json_t *segment_list; /* for --json; NULL: text is printed */
    json_t *problem_list; /* the same */
    bool verify;          /* print problems, not sums; else problems are only counted */
    uint64_t segments;
    uint64_t records;
    uint64_t problems;
    struct sum segment;
    struct sum *streams;
    size_t stream_count;
};

/* NULL: there is no such state. */
static const char *ctl_journal_state_name(uint16_t state)
{
    switch (state) {
    case RECORD_LIVE:
        return "LIVE";
    case RECORD_INSERTED:
        return "INSERTED";
    case RECORD_DUPLICATE:
        return "DUPLICATE";
    case RECORD_DEAD:
        return "DEAD";
    case RECORD_REFUSED:
        return "REFUSED";
    case RECORD_MOVED:
        return "MOVED";
    default:
        return NULL;
    }
}

static PRINTF_LIKE(4, 5) void ctl_journal_tell_problem(struct walk *walk, uint32_t number,
                                                       size_t offset, const char *format, ...)
{
    char name[SEGMENT_NAME_MAX], text[256];
    va_list args;

    walk->problems++;
    if (!walk->verify && walk->problem_list == NULL)
        return;
    segment_name(name, number, "alj");
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (walk->problem_list != NULL)
        json_array_append_new(walk->problem_list,
                              json_pack("{s:s, s:o, s:s}", "segment", name, "offset",
                                        ctl_json_number(offset), "problem", text));
    else
        fprintf(walk->out, "%s: offset %zu: %s\n", name, offset, text);
}

/* The sum of a stream by its name; NULL: too many. */
static struct sum *ctl_journal_stream_sum(struct walk *walk, const char *name)
{
    struct sum *grown;

    for (size_t i = 0; i < walk->stream_count; i++)
        if (strcmp(walk->streams[i].name, name) == 0)
            return &walk->streams[i];
    if (walk->stream_count == STREAMS_MAX)
        return NULL;
    grown = reallocarray(walk->streams, walk->stream_count + 1, sizeof(*grown));
    if (grown == NULL)
        return NULL;
    walk->streams = grown;
    grown[walk->stream_count] = (struct sum){0};
    snprintf(grown[walk->stream_count].name, sizeof(grown->name), "%s", name);
    return &grown[walk->stream_count++];
}

static void ctl_journal_on_problem(void *arg, const struct segment *segment, size_t offset,
                                   const char *text)
{
    ctl_journal_tell_problem(arg, segment->number, offset, "%s", text);
}

static void ctl_journal_add_to_sum(struct sum *sum, const struct record *record, uint16_t state)
{
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        sum->counts[i] += states[i] == state;
    if (state != RECORD_LIVE)
        return;
    sum->live++;
    sum->live_bytes += record->length;
    if (sum->oldest_live_ms == 0 || record->received_ms < sum->oldest_live_ms)
        sum->oldest_live_ms = record->received_ms;
}

static void ctl_journal_take_record(void *arg, const struct segment *segment,
                                    const struct record *record)
{
    struct walk *walk = arg;
    const struct segment_header *header = (const struct segment_header *)segment->base;
    const uint16_t word = record_state(record);
    /* As alloyd's recovery takes it. */
    const uint16_t state =
        (uint16_t)(record_state_of(word) == 0 ? RECORD_LIVE : record_state_of(word));
    struct sum *sum = ctl_journal_stream_sum(walk, header->streams[record->stream_entry]);

    walk->records++;
    if (ctl_journal_state_name(word) == NULL)
        ctl_journal_tell_problem(walk, segment->number, segment_offset(segment, record),
                                 "record has the state %#x", word);
    if (state == RECORD_LIVE && !record_insert_id_valid(record))
        ctl_journal_tell_problem(walk, segment->number, segment_offset(segment, record),
                                 "record does not match the check of its insert id");
    ctl_journal_add_to_sum(&walk->segment, record, state);
    if (sum != NULL)
        ctl_journal_add_to_sum(sum, record, state);
}

static const char *ctl_journal_when(uint64_t ms, char text[ISO_MAX])
{
    if (ms == 0)
        return "-";
    clock_format_iso(ms, text);
    return text;
}

static void ctl_journal_print_sum(FILE *out, const struct sum *sum)
{
    char text[ISO_MAX];

    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        fprintf(out, " %10" PRIu64, sum->counts[i]);
    fprintf(out, " %12" PRIu64 "  %s\n", sum->live_bytes,
            ctl_journal_when(sum->oldest_live_ms, text));
}

static void ctl_journal_print_head(FILE *out, const char *first)
{
    fputs(first, out);
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        fprintf(out, " %10s", ctl_journal_state_name((uint16_t)states[i]));
    fprintf(out, " %12s  %s\n", "LIVE BYTES", "OLDEST LIVE");
}

/* The owned counts of a sum by state, with the bytes and the age of what is LIVE. */
static json_t *ctl_journal_json_sum(const struct sum *sum)
{
    json_t *object = json_object();

    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        char name[16];
        const char *state = ctl_journal_state_name((uint16_t)states[i]);
        size_t len = 0;

        for (; state[len] != '\0' && len + 1 < sizeof(name); len++)
            name[len] = (char)tolower((unsigned char)state[len]);
        name[len] = '\0';
        json_object_set_new(object, name, ctl_json_number(sum->counts[i]));
    }
    json_object_set_new(object, "live_bytes", ctl_json_number(sum->live_bytes));
    json_object_set_new(object, "oldest_live", ctl_json_time(sum->oldest_live_ms));
    return object;
}

static void ctl_journal_json_segment(struct walk *walk, const struct segment *segment, size_t used,
                                     uint64_t size)
{
    json_t *object = ctl_journal_json_sum(&walk->segment);

    json_object_set_new(object, "number", ctl_json_number(segment->number));
    json_object_set_new(object, "used", ctl_json_number(used));
    json_object_set_new(object, "size", ctl_json_number(size));
    json_array_append_new(walk->segment_list, object);
}

static void ctl_journal_read_segment(struct walk *walk, const struct journal_dir_file *file)
{
    const struct segment_spec spec = {.dir_fd = walk->folder.fd,
                                      .instance_id = walk->folder.instance_id};
    struct segment *segment;
    uint64_t size;
    size_t end;
    int err = segment_peek(&segment, &spec, file->number);

    if (err == -ENOENT)
        return; /* finished and removed meanwhile */
    walk->segments++;
    if (err != 0) {
        const char *why = err == -EBADMSG  ? "the header is broken, or of another journal"
                          : err == -EPROTO ? "the segment is of another version of alloyd"
                                           : strerror(-err);

        ctl_journal_tell_problem(walk, file->number, 0, "%s", why);
        if (!walk->verify && walk->segment_list == NULL)
            fprintf(walk->out, "%10u  %s\n", file->number, why);
        return;
    }
    walk->segment = (struct sum){0};
    size = ((const struct segment_header *)segment->base)->size;
    if (segment->limit < size)
        ctl_journal_tell_problem(walk, file->number, segment->limit,
                                 "the file ends here, not at %" PRIu64, size);
    end = ctl_walk_segment(&(struct ctl_walk){.record = ctl_journal_take_record,
                                              .problem = ctl_journal_on_problem,
                                              .arg = walk},
                           segment);
    if (walk->segment_list != NULL) {
        ctl_journal_json_segment(walk, segment, end, size);
    } else if (!walk->verify) {
        fprintf(walk->out, "%10u %12zu %12" PRIu64, file->number, end, size);
        ctl_journal_print_sum(walk->out, &walk->segment);
    }
    segment_close(segment);
}

/* Reports segments that a start has set aside, for the operator to examine. */
static int ctl_journal_tell_set_aside(void *arg, const char *found)
{
    struct walk *walk = arg;
    char name[SEGMENT_NAME_MAX];
    unsigned number;

    if (sscanf(found, "segment-%10u", &number) != 1)
        return 0;
    segment_name(name, number, "alj.corrupt");
    if (strcmp(name, found) == 0)
        ctl_journal_tell_problem(walk, number, 0,
                                 "set aside as %s: something in it cannot be trusted", name);
    return 0;
}

/* The process that used the folder last; 0: unknown. */
static long ctl_journal_last_user(const struct walk *walk)
{
    int fd = openat(walk->folder.fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char text[32] = "";

    if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
        text[0] = '\0';
    if (fd >= 0)
        close(fd);
    return strtol(text, NULL, 10);
}

static bool ctl_journal_is_there(long pid)
{
    return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

static void ctl_journal_print_owner(const struct walk *walk)
{
    const long pid = ctl_journal_last_user(walk);

    fprintf(walk->out, "journal     %s\ninstance    %016" PRIx64 "\n", walk->dir,
            walk->folder.instance_id);
    if (pid > 0)
        fprintf(walk->out, "last user   pid %ld%s\n", pid,
                ctl_journal_is_there(pid) ? " (there is such a process)" : " (has ended)");
}

static int ctl_journal_begin(struct walk *walk, const char *dir, struct ctl_out out)
{
    char error[JOURNAL_DIR_ERROR_MAX];

    *walk = (struct walk){.dir = dir, .out = out.file};
    if (journal_dir_peek(&walk->folder, dir, error) == 0) {
        if (out.json) {
            walk->segment_list = json_array();
            walk->problem_list = json_array();
        }
        return 0;
    }
    fprintf(stderr, "alloyctl: %s\n", error);
    return -1;
}

static void ctl_journal_end(struct walk *walk)
{
    free(walk->streams);
    json_decref(walk->segment_list);
    json_decref(walk->problem_list);
    journal_dir_peek_end(&walk->folder);
}

/* Reads all segments. */
static void ctl_journal_read_all(struct walk *walk)
{
    for (size_t i = 0; i < walk->folder.file_count; i++)
        ctl_journal_read_segment(walk, &walk->folder.files[i]);
    if (walk->verify || walk->problem_list != NULL)
        (void)!files_list(walk->folder.fd, ctl_journal_tell_set_aside, walk);
}

static void ctl_journal_print_streams(const struct walk *walk, struct sum *total)
{
    if (walk->stream_count > 0) {
        fputc('\n', walk->out);
        ctl_journal_print_head(walk->out, "STREAM                              ");
    }
    for (size_t i = 0; i < walk->stream_count; i++) {
        const struct sum *sum = &walk->streams[i];

        fprintf(walk->out, "%-36s", sum->name);
        ctl_journal_print_sum(walk->out, sum);
        total->live_bytes += sum->live_bytes;
        total->live += sum->live;
    }
}

static int ctl_journal_print_document(const struct walk *walk)
{
    const long pid = ctl_journal_last_user(walk);
    json_t *streams = json_array();
    char instance[17];
    struct sum total = {0};

    for (size_t i = 0; i < walk->stream_count; i++) {
        json_t *object = ctl_journal_json_sum(&walk->streams[i]);

        json_object_set_new(object, "stream", ctl_json_text(walk->streams[i].name));
        json_array_append_new(streams, object);
        total.live += walk->streams[i].live;
        total.live_bytes += walk->streams[i].live_bytes;
    }
    snprintf(instance, sizeof(instance), "%016" PRIx64, walk->folder.instance_id);
    return ctl_print_json(
        json_pack("{s:o, s:s, s:{s:o, s:b}, s:o, s:o, s:o, s:O, s:o, s:O}", "dir",
                  ctl_json_text(walk->dir), "instance", instance, "last_user", "pid",
                  pid > 0 ? json_integer(pid) : json_null(), "running", ctl_journal_is_there(pid),
                  "records", ctl_json_number(walk->records), "live", ctl_json_number(total.live),
                  "live_bytes", ctl_json_number(total.live_bytes), "segments", walk->segment_list,
                  "streams", streams, "problems", walk->problem_list),
        walk->out);
}

int ctl_journal_inspect(const char *dir, struct ctl_out out)
{
    struct walk walk;
    struct sum total = {0};
    int status;

    if (ctl_journal_begin(&walk, dir, out) != 0)
        return EXIT_FAILURE;
    if (out.json) {
        ctl_journal_read_all(&walk);
        status = ctl_journal_print_document(&walk);
        if (walk.problems > 0)
            status = EXIT_FAILURE;
        ctl_journal_end(&walk);
        return status;
    }
    ctl_journal_print_owner(&walk);
    fprintf(out.file, "segments    %zu\n", walk.folder.file_count);
    if (walk.folder.file_count > 0) {
        fputc('\n', out.file);
        ctl_journal_print_head(out.file, "   SEGMENT         USED         SIZE");
    }
    ctl_journal_read_all(&walk);
    ctl_journal_print_streams(&walk, &total);
    (void)!files_list(walk.folder.fd, ctl_journal_tell_set_aside, &walk);
    fprintf(out.file, "\n%" PRIu64 " record%s, %" PRIu64 " of them LIVE, %" PRIu64 " byte%s\n",
            walk.records, ctl_plural(walk.records), total.live, total.live_bytes,
            ctl_plural(total.live_bytes));
    if (walk.problems > 0)
        fprintf(out.file, "%" PRIu64 " problem%s: see alloyctl journal verify %s\n", walk.problems,
                ctl_plural(walk.problems), dir);
    status = walk.problems > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    ctl_journal_end(&walk);
    return status;
}

int ctl_journal_verify(const char *dir, struct ctl_out out)
{
    struct walk walk;
    int status = EXIT_SUCCESS;

    if (ctl_journal_begin(&walk, dir, out) != 0)
        return EXIT_FAILURE;
    walk.verify = true;
    ctl_journal_read_all(&walk);
    if (out.json)
        status =
            ctl_print_json(json_pack("{s:o, s:o, s:o, s:O}", "dir", ctl_json_text(dir), "segments",
                                     ctl_json_number(walk.segments), "records",
                                     ctl_json_number(walk.records), "problems", walk.problem_list),
                           out.file);
    else
        fprintf(out.file, "%" PRIu64 " segment%s, %" PRIu64 " record%s, %" PRIu64 " problem%s\n",
                walk.segments, ctl_plural(walk.segments), walk.records, ctl_plural(walk.records),
                walk.problems, ctl_plural(walk.problems));
    if (walk.problems > 0)
        status = EXIT_FAILURE;
    ctl_journal_end(&walk);
    return status;
}

/* ---- command line ---- */

static int ctl_journal_run_inspect(const struct ctl_given *given)
{
    return ctl_journal_inspect(ctl_word(given, 0), given->out);
}

static int ctl_journal_run_verify(const struct ctl_given *given)
{
    return ctl_journal_verify(ctl_word(given, 0), given->out);
}

const struct ctl_command ctl_journal_group = {
    .name = "journal",
    .summary = "accepted events that are not yet in ClickHouse",
    .help = "Accepted events that are not yet in ClickHouse, in DIR (journal.dir).",
};

const struct ctl_command ctl_journal_inspect_command = {
    .name = "journal inspect",
    .summary = "what waits in a journal, by segment and stream",
    .words = "DIR",
    .which = "which folder?",
    .words_min = 1,
    .words_max = 1,
    .help = "Prints segments and streams of the journal in DIR: records by state, bytes, and the "
            "oldest that waits. Only reads, takes no lock, and works whether alloyd runs or not. "
            "Exit status 1 when there are problems, which verify lists.",
    .run = ctl_journal_run_inspect,
};

const struct ctl_command ctl_journal_verify_command = {
    .name = "journal verify",
    .summary = "check every checksum of a journal",
    .words = "DIR",
    .which = "which folder?",
    .words_min = 1,
    .words_max = 1,
    .help = "Checks every checksum of the journal in DIR, and prints segment and offset of each "
            "problem. Only reads, takes no lock, and works whether alloyd runs or not. Exit status "
            "1 when there are problems.",
    .run = ctl_journal_run_verify,
};
