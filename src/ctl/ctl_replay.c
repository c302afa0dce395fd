/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_replay.c - alloyctl dead-letter replay: posts the events of dead letters to alloyd again.
 *
 * We first rename a file to *.replaying, under the lock that alloyd takes to write: so alloyd adds
 * no more lines to it and begins another file. When all its events are answered 202 we rename it to
 * *.replayed; if not, it gets its old name back. If we are killed, the next replay continues with
 * it; a lock on the folder keeps a second replay from doing that while we run. Posting an event
 * twice does no harm: alloyd knows its id.
 *
 * Runs on: main thread.
 * Owns: the request that is being filled.
 */
#include "ctl_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "ctl_http.h"
#include "ctl_json.h"

#define REQUEST_BYTES ((size_t)1 << 20) /* then we send it; one event may be larger */
#define REQUEST_EVENTS 1000
#define TRIES_MAX 60 /* tries of one request that alloyd has no room for, or does not answer */
#define RETRY_AFTER_MAX_S 30
#define TIMEOUT_MS 60000L
#define PROGRESS_EVENTS 10000

struct posting {
    const struct ctl_replay *replay;
    const struct letters *letters;
    struct ctl_http *http;
    char *url;        /* of the request that is being filled; owned */
    char *body;       /* owned */
    size_t len, room; /* of body */
    size_t events;    /* in body */
    uint64_t first_line, last_line;
    const char *name;
    const char *key;
    struct ctl_http_answer answer;
    /* of the present file, and of all files */
    uint64_t posted, accepted, duplicates;
    uint64_t all_posted, all_accepted, all_duplicates;
};

enum ctl_answer ctl_judge(long status)
{
    if (status == 200 || status == 202)
        return CTL_ANSWER_TAKEN;
    return status == 503 || status == 429 || status == 0 ? CTL_ANSWER_LATER : CTL_ANSWER_REFUSED;
}

bool ctl_read_counts(const char *body, uint64_t *accepted, uint64_t *duplicates)
{
    return sscanf(body, " { \"accepted\" : %" SCNu64 " , \"duplicates\" : %" SCNu64, accepted,
                  duplicates) == 2;
}

uint64_t ctl_read_invalid(const char *body)
{
    uint64_t invalid;

    return sscanf(body,
                  " { \"accepted\" : %*[0-9] , \"duplicates\" : %*[0-9] , \"invalid\" : %" SCNu64,
                  &invalid) == 1
               ? invalid
               : 0;
}

static void ctl_replay_pause_s(unsigned seconds)
{
    struct timespec wait = {.tv_sec = seconds};

    nanosleep(&wait, NULL);
}

/* How many seconds a 503 asks us to wait. */
static unsigned ctl_replay_retry_after(const struct ctl_http_answer *answer)
{
    if (answer->retry_after_s < 1)
        return 1;
    return answer->retry_after_s < RETRY_AFTER_MAX_S ? answer->retry_after_s : RETRY_AFTER_MAX_S;
}

/* Sends the request once. Lenient, so that each stream answers with the counts, whatever its
 * clients are answered. Returns the status, or 0 when there was no answer. */
static long ctl_replay_send_once(struct posting *posting)
{
    static const char *const headers[] = {"Content-Type: application/x-ndjson",
                                          "Prefer: handling=lenient", NULL};
    const struct ctl_http_request request = {.url = posting->url,
                                             .body = posting->body,
                                             .body_len = posting->len,
                                             .headers = headers,
                                             .bearer = posting->key,
                                             .timeout_ms = TIMEOUT_MS};

    ctl_http_send(posting->http, &request, &posting->answer);
    return posting->answer.status;
}

static void ctl_replay_count_taken(struct posting *posting)
{
    const uint64_t before = posting->posted;
    uint64_t accepted, duplicates;

    if (ctl_read_counts(posting->answer.body, &accepted, &duplicates)) {
        posting->accepted += accepted;
        posting->duplicates += duplicates;
    }
    posting->posted += posting->events;
    if (before / PROGRESS_EVENTS != posting->posted / PROGRESS_EVENTS)
        fprintf(stderr, "alloyctl: %s: %" PRIu64 " event%s posted\n", posting->name,
                posting->posted, ctl_plural(posting->posted));
    posting->events = 0;
    posting->len = 0;
}

/* True when the answer says that alloyd has taken the events. */
static bool ctl_replay_is_taken(const struct posting *posting, long status)
{
    uint64_t accepted, duplicates;

    return ctl_judge(status) == CTL_ANSWER_TAKEN &&
           ctl_read_counts(posting->answer.body, &accepted, &duplicates);
}

static void ctl_replay_tell_refusal(struct posting *posting, long status)
{
    const char *answer = ctl_one_line(posting->answer.body);

    fprintf(stderr, "alloyctl: %s:%" PRIu64 "-%" PRIu64 ": %s answers %ld%s%s\n", posting->name,
            posting->first_line, posting->last_line, posting->url, status,
            *answer != '\0' ? ": " : "", answer);
    if (status == 404 && posting->replay->path == NULL)
        fputs("alloyctl: if the stream has a path of its own, give --stream NAME --path PATH\n",
              stderr);
    else if (status == 401 && posting->replay->key_file == NULL)
        fputs("alloyctl: this alloyd asks for a key: give --key-file FILE\n", stderr);
    else if (ctl_judge(status) == CTL_ANSWER_TAKEN && !ctl_replay_is_taken(posting, status))
        fputs("alloyctl: this is not an answer of alloyd\n", stderr);
}

/* Sends the request until alloyd has taken it. Returns 0 or -EIO (reported). */
static int ctl_replay_send_request(struct posting *posting)
{
    long status = 0;

    if (posting->events == 0)
        return 0;
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        unsigned wait_s;

        status = ctl_replay_send_once(posting);
        if (ctl_replay_is_taken(posting, status) && ctl_read_invalid(posting->answer.body) == 0) {
            ctl_replay_count_taken(posting);
            return 0;
        }
        if (ctl_judge(status) != CTL_ANSWER_LATER) {
            ctl_replay_tell_refusal(posting, status);
            return -EIO;
        }
        /* Nobody has answered at all: probably the address is wrong, so do not try for minutes. */
        if (status == 0 && posting->all_posted + posting->posted == 0 && tries > 0)
            break;
        wait_s = status == 0 ? 1 : ctl_replay_retry_after(&posting->answer);
        if (status != 0)
            fprintf(stderr, "alloyctl: %s: alloyd answers %ld, trying again in %u s\n",
                    posting->name, status, wait_s);
        ctl_replay_pause_s(wait_s);
    }
    fprintf(stderr, "alloyctl: %s: %s: %s\n", posting->name, posting->url,
            status == 0 ? posting->answer.error : "has no room");
    return -EIO;
}

static int ctl_replay_add_event(struct posting *posting, struct slice event)
{
    if (posting->len + event.len + 1 > posting->room) {
        size_t room = posting->len + event.len + 1;
        char *grown;

        if (room < REQUEST_BYTES + REQUEST_BYTES / 4)
            room = REQUEST_BYTES + REQUEST_BYTES / 4;
        grown = realloc(posting->body, room);
        if (grown == NULL)
            return -ENOMEM;
        posting->body = grown;
        posting->room = room;
    }
    memcpy(posting->body + posting->len, event.data, event.len);
    posting->body[posting->len + event.len] = '\n';
    posting->len += event.len + 1;
    posting->events++;
    return 0;
}

/* The URL of a letter's stream, owned; NULL: out of memory. */
static char *ctl_replay_make_url(const struct ctl_replay *replay, const struct letter *letter)
{
    size_t base = strlen(replay->url);
    char *url = NULL;
    int n;

    while (base > 0 && replay->url[base - 1] == '/')
        base--;
    if (replay->path != NULL)
        n = asprintf(&url, "%.*s%s%s", (int)base, replay->url, replay->path[0] == '/' ? "" : "/",
                     replay->path);
    else
        n = asprintf(&url, "%.*s/v1/%.*s", (int)base, replay->url, (int)letter->stream.len,
                     letter->stream.data);
    return n < 0 ? NULL : url;
}

/* Sends the request if the next letter does not fit. Returns 0 or -errno. */
static int ctl_replay_make_room(struct posting *posting, const struct letter *letter)
{
    char *url = ctl_replay_make_url(posting->replay, letter);
    int err = 0;

    if (url == NULL)
        return -ENOMEM;
    if (posting->events > 0 &&
        (posting->events == REQUEST_EVENTS || posting->len + letter->event.len > REQUEST_BYTES ||
         strcmp(posting->url, url) != 0))
        err = ctl_replay_send_request(posting);
    free(posting->url);
    posting->url = url;
    return err;
}

static int ctl_replay_post_line(void *arg, const struct letter *letter, struct slice line,
                                uint64_t number)
{
    struct posting *posting = arg;
    int err;

    (void)line;
    if (letter == NULL) {
        fprintf(stderr, "alloyctl: %s:%" PRIu64 ": not a dead letter\n", posting->name, number);
        return -EIO;
    }
    err = ctl_replay_make_room(posting, letter);
    if (err != 0)
        return err;
    if (posting->events == 0)
        posting->first_line = number;
    posting->last_line = number;
    return ctl_replay_add_event(posting, letter->event);
}

/* True when a file is of the wanted stream: its name is stream, time and number. */
static bool ctl_replay_is_wanted(const struct ctl_replay *replay, const struct letters_file *file)
{
    const char *last, *time;
    size_t len;

    if (file->state == LETTERS_REPLAYED)
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

/* The file's name without the suffix of a replay. */
static void ctl_replay_plain_name(const struct letters_file *file, char out[NAME_MAX + 1])
{
    size_t len = strlen(file->name);

    if (file->state == LETTERS_REPLAYING)
        len -= strlen(LETTERS_SUFFIX_REPLAYING) - strlen(LETTERS_SUFFIX);
    snprintf(out, NAME_MAX + 1, "%.*s", (int)len, file->name);
}

/* Renames under the lock that alloyd takes to write. Returns 0 or -errno. */
static int ctl_replay_rename_locked(int dir_fd, const char *from, const char *to)
{
    int fd = openat(dir_fd, from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int err = fd < 0 || flock(fd, LOCK_EX) != 0 ? -errno : 0;

    if (err == 0 && renameat2(dir_fd, from, dir_fd, to, RENAME_NOREPLACE) != 0)
        err = -errno;
    if (fd >= 0)
        close(fd);
    return err;
}

/* Posts one file. Returns 0 or -errno (reported). */
static int ctl_replay_post_file(struct posting *posting, const struct letters_file *file)
{
    const int dir_fd = posting->letters->dir_fd;
    const bool keep = posting->replay->keep;
    char plain[NAME_MAX + 1];
    char taken[NAME_MAX + 32];
    char done[NAME_MAX + 32];
    int err = 0;

    ctl_replay_plain_name(file, plain);
    snprintf(taken, sizeof(taken), "%s%s", plain,
             &LETTERS_SUFFIX_REPLAYING[strlen(LETTERS_SUFFIX)]);
    snprintf(done, sizeof(done), "%s%s", plain, &LETTERS_SUFFIX_REPLAYED[strlen(LETTERS_SUFFIX)]);
    posting->name = plain;
    posting->posted = posting->accepted = posting->duplicates = 0;
    posting->events = 0;
    posting->len = 0;
    if (!keep && file->state == LETTERS_WAITING)
        err = ctl_replay_rename_locked(dir_fd, plain, taken);
    if (err == 0)
        err = letters_visit(posting->letters, keep ? file->name : taken, ctl_replay_post_line,
                            posting);
    if (err == 0)
        err = ctl_replay_send_request(posting);
    if (err == 0 && !keep)
        err = renameat2(dir_fd, taken, dir_fd, done, RENAME_NOREPLACE) == 0 ? 0 : -errno;
    else if (err != 0 && !keep)
        (void)renameat2(dir_fd, taken, dir_fd, plain, RENAME_NOREPLACE);
    if (err != 0 && err != -EIO)
        fprintf(stderr, "alloyctl: %s: %s\n", plain, strerror(-err));
    if (err == 0)
        fprintf(stderr,
                "alloyctl: %s: %" PRIu64 " event%s posted, %" PRIu64 " accepted, %" PRIu64
                " duplicate%s\n",
                plain, posting->posted, ctl_plural(posting->posted), posting->accepted,
                posting->duplicates, ctl_plural(posting->duplicates));
    posting->all_posted += posting->posted;
    posting->all_accepted += posting->accepted;
    posting->all_duplicates += posting->duplicates;
    return err;
}

/* Posts every wanted file; a problem with one does not stop the others. */
static int ctl_replay_post_files(struct posting *posting, struct ctl_out out)
{
    int status = EXIT_SUCCESS;
    size_t files = 0;

    for (size_t i = 0; i < posting->letters->count; i++) {
        if (!ctl_replay_is_wanted(posting->replay, &posting->letters->files[i]))
            continue;
        files++;
        if (ctl_replay_post_file(posting, &posting->letters->files[i]) != 0)
            status = EXIT_FAILURE;
    }
    fprintf(stderr,
            "alloyctl: %zu file%s: %" PRIu64 " event%s posted, %" PRIu64 " accepted, %" PRIu64
            " duplicate%s\n",
            files, ctl_plural(files), posting->all_posted, ctl_plural(posting->all_posted),
            posting->all_accepted, posting->all_duplicates, ctl_plural(posting->all_duplicates));
    if (posting->all_duplicates > 0)
        fputs("alloyctl: duplicates are events whose id alloyd knows: posted before, corrected "
              "meanwhile, or not yet forgotten (alloy_dead_letter_releasing)\n",
              stderr);
    if (out.json &&
        ctl_print_json(json_pack("{s:o, s:o, s:o, s:o, s:b}", "files", ctl_json_number(files),
                                 "posted", ctl_json_number(posting->all_posted), "accepted",
                                 ctl_json_number(posting->all_accepted), "duplicates",
                                 ctl_json_number(posting->all_duplicates), "ok",
                                 status == EXIT_SUCCESS),
                       out.file) != EXIT_SUCCESS)
        status = EXIT_FAILURE;
    return status;
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
    struct posting posting = {.replay = replay, .letters = letters, .key = key};
    int status = EXIT_FAILURE;

    if (replay->key_file != NULL && !ctl_read_key(replay->key_file, key))
        return EXIT_FAILURE;
    posting.http = ctl_http_create();
    if (posting.http != NULL)
        status = ctl_replay_post_files(&posting, out);
    else
        fputs("alloyctl: out of memory\n", stderr);
    ctl_http_destroy(posting.http);
    free(posting.url);
    free(posting.body);
    return status;
}

int ctl_replay(const struct ctl_replay *replay, struct ctl_out out)
{
    struct letters letters;
    int lock_fd = ctl_replay_lock_folder(replay);
    int err = lock_fd < 0 ? lock_fd : letters_open(&letters, replay->dir);
    int status;

    if (err != 0) {
        fprintf(stderr, "alloyctl: %s: %s\n", replay->dir,
                err == -EBUSY ? "another replay has its files; wait for its end" : strerror(-err));
        if (lock_fd >= 0)
            close(lock_fd);
        return EXIT_FAILURE;
    }
    if (letters.count == 0 && !out.json) {
        status = ctl_letters_none(replay->dir, stderr);
    } else {
        status = ctl_replay_check_streams(replay, &letters);
        if (status == 0)
            status = ctl_replay_post_folder(replay, &letters, out);
    }
    letters_close(&letters);
    close(lock_fd);
    return status;
}

/* ---- command line ---- */

static bool ctl_replay_good_path(const char *value)
{
    return value[0] == '/';
}

static int ctl_replay_run(const struct ctl_given *given)
{
    const struct ctl_replay replay = {.dir = given->word_count > 0 ? ctl_word(given, 0)
                                                                   : CTL_LETTERS_DIR,
                                      .url = ctl_value_or(given, "url", CTL_URL),
                                      .path = ctl_value(given, "path"),
                                      .stream = ctl_value(given, "stream"),
                                      .key_file = ctl_value(given, "key-file"),
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
    {.name = "keep", .help = "leave the files as they are"},
    {.name = "key-file",
     .value = "FILE",
     .help = "file whose first line is a key of auth.keys_file for these streams",
     .takes = "the name of a file"},
    {.name = NULL}};

const struct ctl_command ctl_replay_command = {
    .name = "dead-letter replay",
    .summary = "post refused events again",
    .words = "[DIR]",
    .which = "which folder?",
    .words_max = 1,
    .help = "Posts the original events of DIR (default " CTL_LETTERS_DIR ") to an alloyd, which "
            "may run on this folder. A file whose events were all answered 202 is renamed to "
            "*.replayed.",
    .options = ctl_replay_options,
    .run = ctl_replay_run,
};
