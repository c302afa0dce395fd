/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_replay.c - alloyctl dead-letter replay: posts the events of dead letters to alloyd again, and
 * waits until ClickHouse has taken or refused them.
 *
 * We first rename a file to *.replaying, under the lock that alloyd takes to write: so alloyd adds
 * no more lines to it and begins another file. Then ctl_settle.c gives it back: what is in
 * ClickHouse goes to *.replayed, what was refused again and has a newer letter to *.renewed, and
 * the rest waits. If we are killed, the next replay continues with it; a lock on the folder keeps a
 * second replay from doing that while we run. Posting an event twice does no harm: alloyd knows its
 * id.
 *
 * Runs on: main thread.
 * Owns: the account of the files.
 */
#include "ctl_commands.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "alloy/clock.h"
#include "alloy/letters_key.h"
#include "ctl_http.h"
#include "ctl_json.h"
#include "ctl_post.h"
#include "ctl_settle.h"

#define SHOWN_MAX 20 /* refusals told one by one, of a file */
#define PROGRESS_EVENTS 10000

/* Events of a file, or of all files. */
struct sums {
    uint64_t posted, accepted, duplicates, inserted, refused, invalid, unknown, by_copy;
};

struct posting {
    const struct ctl_replay *replay;
    const struct letters *letters;
    struct ctl_post post;
    /* the present file */
    uint8_t *fates; /* by line; owned */
    size_t lines, fates_room;
    bool trouble; /* not all its events are in ClickHouse */
    size_t shown; /* refusals that were told */
    struct sums sums;
    /* all files */
    struct sums all;
    struct ctl_marks done; /* letters that are in ClickHouse */
    json_t *refusals;      /* for --json; NULL: text */
};

/* ---- telling ---- */

static void ctl_replay_tell_refusal(struct posting *posting, const struct ctl_item *item)
{
    const char *what = item->state == ITEM_INVALID ? "alloyd does not take it" : "refused again";

    if (posting->refusals != NULL)
        json_array_append_new(
            posting->refusals,
            json_pack("{s:o, s:o, s:s, s:o, s:o}", "file", ctl_json_text(posting->post.name),
                      "line", ctl_json_number(item->line), "by",
                      item->state == ITEM_INVALID ? "alloyd" : "clickhouse", "code",
                      item->state == ITEM_INVALID ? json_null() : json_integer(item->code),
                      "message", ctl_json_text(item->message)));
    if (posting->shown++ < SHOWN_MAX)
        fprintf(stderr, "alloyctl: %s:%" PRIu64 ": %s: %s\n", posting->post.name, item->line, what,
                item->message);
}

/* Notes what became of a letter. Returns 0 or -ENOMEM. */
static int ctl_replay_close_item(struct posting *posting, const struct ctl_item *item)
{
    const struct letter letter = {
        .has_lsn = item->has_lsn, .instance_id = item->instance_id, .lsn = item->lsn};
    enum ctl_fate fate = CTL_FATE_WAITS;

    switch (item->state) {
    case ITEM_IN:
        fate = CTL_FATE_REPLAYED;
        if (!ctl_marks_add(&posting->done, &letter))
            return -ENOMEM;
        break;
    case ITEM_RENEWED:
        fate = CTL_FATE_RENEWED;
        posting->sums.refused++;
        ctl_replay_tell_refusal(posting, item);
        break;
    case ITEM_REFUSED:
        posting->sums.refused++;
        ctl_replay_tell_refusal(posting, item);
        break;
    case ITEM_INVALID:
        posting->sums.invalid++;
        ctl_replay_tell_refusal(posting, item);
        break;
    case ITEM_OPEN:
        break;
    case ITEM_UNKNOWN:
        posting->sums.unknown++;
        break;
    }
    if (fate != CTL_FATE_REPLAYED)
        posting->trouble = true;
    posting->fates[item->line - 1] = (uint8_t)fate;
    return 0;
}

/* Adds up what became of the request's letters. Returns 0 or -ENOMEM. */
static int ctl_replay_close_request(struct posting *posting)
{
    struct ctl_post *post = &posting->post;
    struct sums *sums = &posting->sums;
    const struct sums before = *sums;
    uint64_t in = 0, lost, rows;
    int err = 0;

    for (size_t i = 0; i < post->count && err == 0; i++) {
        in += post->items[i].state == ITEM_IN;
        sums->posted += post->items[i].state != ITEM_OPEN;
        err = ctl_replay_close_item(posting, &post->items[i]);
    }
    /* Of what alloyd has accepted now, the rows are what was neither refused nor is unknown. */
    lost = sums->refused - before.refused + sums->unknown - before.unknown;
    rows = post->accepted > lost ? post->accepted - lost : 0;
    sums->inserted += rows < in ? rows : in;
    sums->accepted += post->accepted;
    if (before.posted / PROGRESS_EVENTS != sums->posted / PROGRESS_EVENTS)
        fprintf(stderr, "alloyctl: %s: %" PRIu64 " event%s posted\n", post->name, sums->posted,
                ctl_plural(sums->posted));
    ctl_post_clear(post);
    return err;
}

/* Posts the request and learns what became of it. Returns 0 or -errno (reported, or -ENOMEM). */
static int ctl_replay_send_request(struct posting *posting)
{
    int err = ctl_post_send(&posting->post);

    return ctl_replay_close_request(posting) != 0 ? -ENOMEM : err;
}

/* ---- filling requests ---- */

/* The URL of a letter's stream, owned; NULL: out of memory. */
static char *ctl_replay_make_url(const struct ctl_replay *replay, const struct letter *letter)
{
    char *path = NULL;
    char *url;

    if (replay->path != NULL)
        return ctl_http_url(replay->url, replay->path + 1);
    if (asprintf(&path, "v1/%.*s", (int)letter->stream.len, letter->stream.data) < 0)
        return NULL;
    url = ctl_http_url(replay->url, path);
    free(path);
    return url;
}

/* Sends the request if the next letter does not fit. Returns 0 or -errno. */
static int ctl_replay_make_room(struct posting *posting, const struct letter *letter)
{
    struct ctl_post *post = &posting->post;
    char *url = ctl_replay_make_url(posting->replay, letter);
    int err = 0;

    if (url == NULL)
        return -ENOMEM;
    if (post->count > 0 && (!ctl_post_fits(post, letter) || strcmp(post->url, url) != 0))
        err = ctl_replay_send_request(posting);
    free(post->url);
    post->url = url;
    return err;
}

/* A line more, which waits. Returns 0 or -ENOMEM. */
static int ctl_replay_add_line(struct posting *posting, uint64_t number)
{
    const int err =
        ctl_settle_set_fate(&posting->fates, &posting->fates_room, number, CTL_FATE_WAITS);

    if (err == 0)
        posting->lines = number;
    return err;
}

/* Says that there is no key for a letter. Returns -EIO. */
static int ctl_replay_tell_no_key(const struct posting *posting, uint64_t number)
{
    const struct ctl_replay *replay = posting->replay;
    const int err = posting->post.replay_key_err;

    fprintf(stderr,
            "alloyctl: %s:%" PRIu64 ": this event's id or columns came with its request, and to "
            "give them back takes the key of alloyd's replays: %s%s: %s\n",
            posting->post.name, number, replay->replay_key != NULL ? "" : replay->dir,
            replay->replay_key != NULL ? replay->replay_key : "/" LETTERS_KEY_NAME,
            err == -EINVAL ? "it holds no key" : strerror(-err));
    fputs("alloyctl: give --replay-key FILE, the " LETTERS_KEY_NAME
          " of its dead-letter folder; or --plain, and the event gets a new id and new columns\n",
          stderr);
    return -EIO;
}

static int ctl_replay_post_line(void *arg, const struct letter *letter, struct slice line,
                                uint64_t number)
{
    struct posting *posting = arg;
    int err = ctl_replay_add_line(posting, number);

    (void)line;
    if (err != 0)
        return err;
    if (letter == NULL) {
        fprintf(stderr, "alloyctl: %s:%" PRIu64 ": not a dead letter\n", posting->post.name,
                number);
        posting->trouble = true;
        return 0;
    }
    /* A corrected copy of it is in ClickHouse. */
    if (ctl_marks_has(&posting->done, letter)) {
        posting->fates[number - 1] = CTL_FATE_REPLAYED;
        posting->sums.by_copy++;
        return 0;
    }
    if (posting->post.replay_key_err != 0 && ctl_post_is_whole(&posting->post, letter))
        return ctl_replay_tell_no_key(posting, number);
    err = ctl_replay_make_room(posting, letter);
    return err != 0 ? err : ctl_post_add(&posting->post, letter, number);
}

/* ---- files ---- */

/* The length of the stream's name if a file is named as alloyd does, by stream, time and number; 0:
 * it is not. */
static size_t ctl_replay_stream_len(const char *name)
{
    static const char form[] = "-00000000T000000Z-";
    const char *last = strrchr(name, '-');
    const char *at = last;

    if (last == NULL || last - name < (ptrdiff_t)sizeof(form) - 2)
        return 0;
    at -= sizeof(form) - 2;
    for (size_t i = 0; form[i] != '\0'; i++)
        if (form[i] == '0' ? !isdigit((unsigned char)at[i]) : at[i] != form[i])
            return 0;
    last++;
    if (!isdigit((unsigned char)*last) || last[strspn(last, "0123456789")] != '.')
        return 0;
    return (size_t)(at - name);
}

/* True when a file is of the wanted stream. */
static bool ctl_replay_is_wanted(const struct ctl_replay *replay, const struct letters_file *file)
{
    const char *last, *time;
    size_t len;

    if (file->state != LETTERS_WAITING && file->state != LETTERS_REPLAYING)
        return false;
    if (replay->stream == NULL)
        return true;
    len = strlen(replay->stream);
    last = strrchr(file->name, '-');
    if (last == NULL)
        return false;
    time = memrchr(file->name, '-', (size_t)(last - file->name));
    return time != NULL && (size_t)(time - file->name) == len &&
           memcmp(file->name, replay->stream, len) == 0;
}

static void ctl_replay_tell_sums(const char *what, const struct sums *sums)
{
    const struct {
        uint64_t count;
        const char *words;
    } more[] = {{sums->refused, "refused again"},
                {sums->unknown, "without a verdict yet"},
                {sums->invalid, "not taken by alloyd"},
                {sums->by_copy, "done by a corrected copy"}};

    fprintf(stderr,
            "alloyctl: %s: %" PRIu64 " event%s posted, %" PRIu64 " accepted, %" PRIu64
            " duplicate%s: %" PRIu64 " inserted",
            what, sums->posted, ctl_plural(sums->posted), sums->accepted, sums->duplicates,
            ctl_plural(sums->duplicates), sums->inserted);
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        if (more[i].count > 0)
            fprintf(stderr, ", %" PRIu64 " %s", more[i].count, more[i].words);
    fputc('\n', stderr);
}

/* Ends the account of one file. */
static void ctl_replay_end_file(struct posting *posting)
{
    struct sums *sums = &posting->sums, *all = &posting->all;
    const uint64_t taken = sums->accepted + sums->invalid;

    sums->duplicates = sums->posted > taken ? sums->posted - taken : 0;
    if (posting->shown > SHOWN_MAX)
        fprintf(stderr, "alloyctl: %s: %zu more were refused\n", posting->post.name,
                posting->shown - SHOWN_MAX);
    ctl_replay_tell_sums(posting->post.name, sums);
    all->posted += sums->posted;
    all->accepted += sums->accepted;
    all->duplicates += sums->duplicates;
    all->inserted += sums->inserted;
    all->refused += sums->refused;
    all->invalid += sums->invalid;
    all->unknown += sums->unknown;
    all->by_copy += sums->by_copy;
}

/* Posts the lines of a file that is called name in letters. Returns 0 or -errno (reported, except
 * -ENOMEM and what the file itself says). */
static int ctl_replay_post_lines(struct posting *posting, const struct letters *letters,
                                 const char *name)
{
    int err;

    posting->sums = (struct sums){0};
    posting->lines = posting->shown = 0;
    posting->trouble = false;
    err = letters_visit(letters, name, ctl_replay_post_line, posting);
    if (err == 0)
        err = ctl_replay_send_request(posting);
    return err;
}

/* Posts one file. Returns 0 when all its events are in ClickHouse, or -errno (reported). */
static int ctl_replay_post_file(struct posting *posting, const struct letters_file *file)
{
    const int dir_fd = posting->letters->dir_fd;
    /* alloyd leaves part of a line when it is killed, and its event is still in the journal; in a
     * file of somebody else's it is an event that would be forgotten. */
    const struct letters here = {.dir_fd = dir_fd,
                                 .tail = ctl_replay_stream_len(file->name) == 0
                                             ? LETTERS_TAIL_ALWAYS
                                             : LETTERS_TAIL_IF_WHOLE};
    const bool keep = posting->replay->keep;
    char plain[NAME_MAX + 1];
    char taken[NAME_MAX + 32];
    int err = 0, back = 0;

    ctl_settle_plain_name(file, plain);
    ctl_settle_taken_name(plain, taken);
    posting->post.name = plain;
    if (!keep && file->state == LETTERS_WAITING)
        err = ctl_settle_take(dir_fd, plain);
    if (err == 0) {
        err = ctl_replay_post_lines(posting, &here, keep ? file->name : taken);
        if (!keep)
            back = ctl_settle_give_back(dir_fd, plain, posting->fates, posting->lines);
        if (err == 0 || posting->sums.posted > 0)
            ctl_replay_end_file(posting);
    }
    if (err == 0)
        err = back;
    if (err != 0 && err != -EIO)
        fprintf(stderr, "alloyctl: %s: %s\n", plain, strerror(-err));
    return err == 0 && posting->trouble ? -EIO : err;
}

static int ctl_replay_print(const struct posting *posting, size_t files, int status, FILE *out)
{
    const struct sums *all = &posting->all;

    return ctl_print_json(
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:b}", "files",
                  ctl_json_number(files), "posted", ctl_json_number(all->posted), "accepted",
                  ctl_json_number(all->accepted), "duplicates", ctl_json_number(all->duplicates),
                  "inserted", ctl_json_number(all->inserted), "refused",
                  ctl_json_number(all->refused), "invalid", ctl_json_number(all->invalid),
                  "unknown", ctl_json_number(all->unknown), "corrected",
                  ctl_json_number(all->by_copy), "refusals", posting->refusals, "ok",
                  status == EXIT_SUCCESS),
        out);
}

/* Ends the account of all files. Returns the exit status. */
static int ctl_replay_end(const struct posting *posting, size_t files, int status,
                          struct ctl_out out)
{
    const struct sums *all = &posting->all;
    char what[32];

    snprintf(what, sizeof(what), "%zu file%s", files, ctl_plural(files));
    ctl_replay_tell_sums(what, all);
    if (all->duplicates > 0)
        fputs("alloyctl: duplicates are events whose id alloyd knows: posted before, corrected "
              "meanwhile, or not yet forgotten (alloy_dead_letter_releasing)\n",
              stderr);
    if (all->unknown > 0)
        fputs("alloyctl: events without a verdict still wait: alloyd has taken them, or another "
              "alloyd knows their ids. Replay again later, or there, to learn it\n",
              stderr);
    if (out.json && ctl_replay_print(posting, files, status, out.file) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    return status;
}

/* Posts every wanted file; a problem with one does not stop the others. Files that alloyd has not
 * named come first: they are corrected copies of letters, and may make their originals done. */
static int ctl_replay_post_files(struct posting *posting, struct ctl_out out)
{
    int status = posting->letters->passed_over > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    size_t files = 0;

    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < posting->letters->count; i++) {
            const struct letters_file *file = &posting->letters->files[i];

            if (!ctl_replay_is_wanted(posting->replay, file) ||
                (ctl_replay_stream_len(file->name) > 0) != (pass == 1))
                continue;
            files++;
            if (ctl_replay_post_file(posting, file) != 0)
                status = EXIT_FAILURE;
        }
    if (files == 0 && posting->replay->stream != NULL && posting->letters->count > 0)
        fprintf(stderr, "alloyctl: no file in %s that waits has a name of stream %s\n",
                posting->replay->dir, posting->replay->stream);
    return ctl_replay_end(posting, files, status, out);
}

/* Posts a corrected copy of letters, and marks their originals in the folder as done. */
static int ctl_replay_post_corrected(struct posting *posting, struct ctl_out out)
{
    const struct letters here = {.dir_fd = AT_FDCWD, .tail = LETTERS_TAIL_ALWAYS};
    const struct ctl_replay *replay = posting->replay;
    uint64_t moved = 0;
    int err;

    posting->post.name = replay->corrected;
    err = ctl_replay_post_lines(posting, &here, replay->corrected);
    if (err == 0 || posting->sums.posted > 0)
        ctl_replay_end_file(posting);
    if (err != 0 && err != -EIO)
        fprintf(stderr, "alloyctl: %s: %s\n", replay->corrected, strerror(-err));
    if (err == 0 && posting->trouble)
        err = -EIO;
    if (!replay->keep && ctl_settle_marked(replay->dir, &posting->done, &moved) != 0)
        err = -EIO;
    posting->all.by_copy += moved;
    fprintf(stderr, "alloyctl: %s: %" PRIu64 " original letter%s done\n", replay->dir, moved,
            moved == 1 ? " is" : "s are");
    return ctl_replay_end(posting, 1, err == 0 ? EXIT_SUCCESS : EXIT_FAILURE, out);
}

/* Ends the visit at an event of a stream other than the one before. */
static int ctl_replay_compare_stream(void *arg, const struct letter *letter, struct slice line,
                                     uint64_t number)
{
    char **stream = arg;
    const struct ctl_filter same = {.stream = *stream};

    (void)line;
    (void)number;
    if (letter == NULL)
        return 0;
    if (*stream == NULL) {
        *stream = strndup(letter->stream.data, letter->stream.len);
        return *stream != NULL ? 0 : -ENOMEM;
    }
    return ctl_matches(&same, letter) ? 0 : -EXDEV;
}

/* --path is for the events of one stream. Returns 0 when the wanted files hold no others, or an
 * exit status (reported). */
static int ctl_replay_check_streams(const struct ctl_replay *replay, const struct letters *letters)
{
    char *stream = NULL;
    int err = 0;

    if (replay->path == NULL)
        return 0;
    for (size_t i = 0; err == 0 && i < letters->count; i++)
        if (ctl_replay_is_wanted(replay, &letters->files[i]))
            err =
                letters_visit(letters, letters->files[i].name, ctl_replay_compare_stream, &stream);
    free(stream);
    if (err == -EXDEV && replay->stream == NULL)
        fprintf(stderr,
                "alloyctl: %s holds events of several streams, and --path is for one: give "
                "--stream NAME too\n",
                replay->dir);
    else if (err == -EXDEV)
        fprintf(stderr, "alloyctl: files of stream %s in %s hold events of another one\n",
                replay->stream, replay->dir);
    else if (err != 0)
        fprintf(stderr, "alloyctl: %s: %s\n", replay->dir, strerror(-err));
    return err == 0 ? 0 : err == -EXDEV ? CTL_USAGE : EXIT_FAILURE;
}

/* Locks a folder against other replays until the descriptor is closed. Returns that, or -errno. */
static int ctl_replay_lock_folder(const struct ctl_replay *replay)
{
    const int fd = open(replay->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    /* Some network file systems cannot lock folders: there we go on without a lock. */
    if (flock(fd, (replay->keep ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(fd);
        return -EBUSY;
    }
    return fd;
}

static int ctl_replay_post_folder(const struct ctl_replay *replay, const struct letters *letters,
                                  struct ctl_out out)
{
    char key[CTL_KEY_ROOM] = "";
    struct posting posting = {.replay = replay,
                              .letters = letters,
                              .post = {.dir = replay->dir,
                                       .key = key,
                                       .has_path = replay->path != NULL,
                                       .has_key = replay->key_file != NULL,
                                       .plain = replay->plain,
                                       .started_ms = clock_real_ms(),
                                       .patience_s = replay->wait_s}};
    int status = EXIT_FAILURE;

    if (replay->key_file != NULL && !ctl_read_key(replay->key_file, key))
        return EXIT_FAILURE;
    posting.post.replay_key_err =
        replay->replay_key != NULL
            ? letters_key_read(AT_FDCWD, replay->replay_key, &posting.post.replay_key)
            : letters_key_read(letters->dir_fd, LETTERS_KEY_NAME, &posting.post.replay_key);
    posting.refusals = out.json ? json_array() : NULL;
    if (!ctl_post_init(&posting.post))
        fputs("alloyctl: out of memory\n", stderr);
    else if (replay->corrected != NULL)
        status = ctl_replay_post_corrected(&posting, out);
    else
        status = ctl_replay_post_files(&posting, out);
    ctl_post_fini(&posting.post);
    ctl_marks_free(&posting.done);
    json_decref(posting.refusals);
    free(posting.fates);
    return status;
}

int ctl_replay(const struct ctl_replay *replay, struct ctl_out out)
{
    struct letters letters;
    int lock_fd = ctl_replay_lock_folder(replay);
    int err = lock_fd < 0 ? lock_fd : letters_open(&letters, replay->dir);
    int status, none, passed;

    if (err != 0) {
        fprintf(stderr, "alloyctl: %s: %s\n", replay->dir,
                err == -EBUSY ? "another replay has its files; wait for its end" : strerror(-err));
        if (lock_fd >= 0)
            close(lock_fd);
        return EXIT_FAILURE;
    }
    none = letters.count == 0 && replay->corrected == NULL ? ctl_letters_none(replay->dir, stderr)
                                                           : EXIT_SUCCESS;
    passed = replay->corrected == NULL ? ctl_letters_passed_over(replay->dir, &letters) : 0;
    if (letters.count == 0 && replay->corrected == NULL && (!out.json || none != EXIT_SUCCESS)) {
        status = none;
    } else {
        status = replay->corrected == NULL ? ctl_replay_check_streams(replay, &letters) : 0;
        if (status == 0)
            status = ctl_replay_post_folder(replay, &letters, out);
    }
    if (status == EXIT_SUCCESS)
        status = passed;
    letters_close(&letters);
    close(lock_fd);
    return status;
}

/* ---- command line ---- */

static bool ctl_replay_good_path(const char *value)
{
    return value[0] == '/';
}

static bool ctl_replay_good_wait(const char *value)
{
    char *end;
    unsigned long seconds = strtoul(value, &end, 10);

    return isdigit((unsigned char)*value) && *end == '\0' && seconds <= 86400;
}

static int ctl_replay_run(const struct ctl_given *given)
{
    const struct ctl_replay replay = {.dir = given->word_count > 0 ? ctl_word(given, 0)
                                                                   : CTL_LETTERS_DIR,
                                      .url = ctl_value_or(given, "url", CTL_URL),
                                      .path = ctl_value(given, "path"),
                                      .stream = ctl_value(given, "stream"),
                                      .key_file = ctl_value(given, "key-file"),
                                      .corrected = ctl_value(given, "corrected"),
                                      .replay_key = ctl_value(given, "replay-key"),
                                      .plain = ctl_value(given, "plain") != NULL,
                                      .wait_s = (unsigned)atoi(ctl_value_or(given, "wait", "60")),
                                      .keep = ctl_value(given, "keep") != NULL};

    return ctl_replay(&replay, given->out);
}

static const struct ctl_option ctl_replay_options[] = {
    CTL_OPTION_STREAM("only events of this stream"),
    {.name = "url",
     .value = "URL",
     .help = "where alloyd takes events (default " CTL_URL ")",
     .takes = "a URL such as " CTL_URL ", without a path: that goes into --path",
     .good = ctl_is_base_url},
    {.name = "path",
     .value = "PATH",
     .help = "path to post to, for one stream (default /v1/ and the stream's name)",
     .takes = "a path that begins with '/'",
     .good = ctl_replay_good_path},
    {.name = "corrected",
     .value = "FILE",
     .help = "post this file, lines of 'show --raw' with their events corrected, and mark the "
             "letters in DIR that its lines name as done when the rows are in",
     .takes = "the name of a file"},
    {.name = "wait",
     .value = "SECONDS",
     .help = "how long to wait in all for verdicts that do not come (default 60)",
     .takes = "a number of seconds, from 0 to 86400",
     .good = ctl_replay_good_wait},
    {.name = "keep", .help = "leave the files as they are"},
    {.name = "key-file",
     .value = "FILE",
     .help = "file whose first line is a key of auth.keys_file for these streams",
     .takes = "the name of a file"},
    {.name = "replay-key",
     .value = "FILE",
     .help =
         "the file replay.key of that alloyd's dead-letter folder (default the one in DIR), for "
         "events whose id or columns came with their request",
     .takes = "the name of a file"},
    {.name = "plain",
     .help = "post such events too as a client would: they get new ids and new columns"},
    {.name = NULL}};

const struct ctl_command ctl_replay_command = {
    .name = "dead-letter replay",
    .summary = "post refused events again",
    .words = "[DIR]",
    .which = "which folder?",
    .words_max = 1,
    .help = "Posts the original events of DIR (default " CTL_LETTERS_DIR ") to an alloyd, which "
            "may run on this folder, and waits until ClickHouse has taken or refused them. Prints "
            "how many rows were inserted, and of the others why not, in ClickHouse's words.\n\n"
            "What is in ClickHouse goes to *.replayed. What was refused again and has a newer "
            "letter in DIR goes to *.renewed. The rest waits as before. Exit status 0 when all is "
            "in ClickHouse. Repeating it is safe while alloyd knows the ids (redis.ttl).",
    .options = ctl_replay_options,
    .run = ctl_replay_run,
};
