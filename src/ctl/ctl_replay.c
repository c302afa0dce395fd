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
 * Runs on: main thread. With ctl_bury.c and the flusher, a home of libcurl.
 * Owns: the request that is being filled.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#define REQUEST_BYTES ((size_t)1 << 20) /* then we send it; one event may be larger */
#define REQUEST_EVENTS 1000
#define TRIES_MAX 60 /* tries of one request that alloyd has no room for, or does not answer */
#define RETRY_AFTER_MAX_S 30
#define ANSWER_MAX 1024
#define TIMEOUT_S 60L
#define PROGRESS_EVENTS 10000

struct posting {
    const struct ctl_replay *replay;
    const struct letters *letters;
    CURL *easy;
    char *url;        /* of the request that is being filled; owned */
    char *body;       /* owned */
    size_t len, room; /* of body */
    size_t events;    /* in body */
    uint64_t first_line, last_line;
    const char *name;
    char answer[ANSWER_MAX];
    size_t answer_len;
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

static size_t ctl_replay_on_answer(char *data, size_t size, size_t n, void *arg)
{
    struct posting *posting = arg;
    size_t room = ANSWER_MAX - 1 - posting->answer_len;
    size_t take = size * n < room ? size * n : room;

    memcpy(posting->answer + posting->answer_len, data, take);
    posting->answer_len += take;
    posting->answer[posting->answer_len] = '\0';
    return size * n;
}

static void ctl_replay_pause_s(unsigned seconds)
{
    struct timespec wait = {.tv_sec = seconds};

    nanosleep(&wait, NULL);
}

/* How many seconds a 503 asks us to wait. */
static unsigned ctl_replay_retry_after(CURL *easy)
{
    curl_off_t seconds = 0;

    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds);
    if (seconds < 1)
        return 1;
    return seconds < RETRY_AFTER_MAX_S ? (unsigned)seconds : RETRY_AFTER_MAX_S;
}

/* Sends the request once. Returns the status, or 0 when there was no answer, with the reason in
 * error. */
static long ctl_replay_send_once(struct posting *posting, char error[CURL_ERROR_SIZE])
{
    long status = 0;
    CURLcode result;

    posting->answer_len = 0;
    posting->answer[0] = '\0';
    error[0] = '\0';
    curl_easy_setopt(posting->easy, CURLOPT_URL, posting->url);
    curl_easy_setopt(posting->easy, CURLOPT_POSTFIELDS, posting->body);
    curl_easy_setopt(posting->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)posting->len);
    curl_easy_setopt(posting->easy, CURLOPT_ERRORBUFFER, error);
    result = curl_easy_perform(posting->easy);
    curl_easy_setopt(posting->easy, CURLOPT_ERRORBUFFER, NULL);
    if (result == CURLE_OK)
        curl_easy_getinfo(posting->easy, CURLINFO_RESPONSE_CODE, &status);
    else if (error[0] == '\0')
        snprintf(error, CURL_ERROR_SIZE, "%s", curl_easy_strerror(result));
    return status;
}

static void ctl_replay_count_taken(struct posting *posting)
{
    const uint64_t before = posting->posted;
    uint64_t accepted, duplicates;

    if (ctl_read_counts(posting->answer, &accepted, &duplicates)) {
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
           ctl_read_counts(posting->answer, &accepted, &duplicates);
}

static void ctl_replay_tell_refusal(struct posting *posting, long status)
{
    const char *answer = ctl_one_line(posting->answer);

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
    char error[CURL_ERROR_SIZE];
    long status = 0;

    if (posting->events == 0)
        return 0;
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        unsigned wait_s;

        status = ctl_replay_send_once(posting, error);
        if (ctl_replay_is_taken(posting, status) && ctl_read_invalid(posting->answer) == 0) {
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
        wait_s = status == 0 ? 1 : ctl_replay_retry_after(posting->easy);
        if (status != 0)
            fprintf(stderr, "alloyctl: %s: alloyd answers %ld, trying again in %u s\n",
                    posting->name, status, wait_s);
        ctl_replay_pause_s(wait_s);
    }
    fprintf(stderr, "alloyctl: %s: %s: %s\n", posting->name, posting->url,
            status == 0 ? error : "has no room");
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

static bool ctl_replay_add_header(struct curl_slist **headers, const char *header)
{
    struct curl_slist *longer = curl_slist_append(*headers, header);

    if (longer != NULL)
        *headers = longer;
    return longer != NULL;
}

/* Lenient, so that each stream answers with the counts, whatever its clients are answered. */
static bool ctl_replay_start_curl(struct posting *posting, const char *key,
                                  struct curl_slist **headers)
{
    char authorization[CTL_KEY_ROOM + 32];

    curl_global_init(CURL_GLOBAL_DEFAULT);
    snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s", key);
    if (!ctl_replay_add_header(headers, "Content-Type: application/x-ndjson") ||
        !ctl_replay_add_header(headers, "Expect:") ||
        !ctl_replay_add_header(headers, "Prefer: handling=lenient") ||
        (*key != '\0' && !ctl_replay_add_header(headers, authorization)))
        return false;
    posting->easy = curl_easy_init();
    if (posting->easy == NULL)
        return false;
    curl_easy_setopt(posting->easy, CURLOPT_HTTPHEADER, *headers);
    curl_easy_setopt(posting->easy, CURLOPT_WRITEFUNCTION, ctl_replay_on_answer);
    curl_easy_setopt(posting->easy, CURLOPT_WRITEDATA, posting);
    curl_easy_setopt(posting->easy, CURLOPT_TIMEOUT, TIMEOUT_S);
    curl_easy_setopt(posting->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(posting->easy, CURLOPT_USERAGENT, "alloyctl/" ALLOY_VERSION);
    curl_easy_setopt(posting->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    return true;
}

/* Posts every wanted file; a problem with one does not stop the others. */
static int ctl_replay_post_files(struct posting *posting)
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

static int ctl_replay_post_folder(const struct ctl_replay *replay, const struct letters *letters)
{
    struct posting posting = {.replay = replay, .letters = letters};
    struct curl_slist *headers = NULL;
    char key[CTL_KEY_ROOM] = "";
    int status = EXIT_FAILURE;

    if (replay->key_file != NULL && !ctl_read_key(replay->key_file, key))
        return EXIT_FAILURE;
    if (ctl_replay_start_curl(&posting, key, &headers))
        status = ctl_replay_post_files(&posting);
    else
        fputs("alloyctl: out of memory\n", stderr);
    curl_easy_cleanup(posting.easy);
    curl_slist_free_all(headers);
    curl_global_cleanup();
    free(posting.url);
    free(posting.body);
    return status;
}

int ctl_replay(const struct ctl_replay *replay)
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
    if (letters.count == 0) {
        status = ctl_letters_none(replay->dir, stderr);
    } else {
        status = ctl_replay_check_streams(replay, &letters);
        if (status == 0)
            status = ctl_replay_post_folder(replay, &letters);
    }
    letters_close(&letters);
    close(lock_fd);
    return status;
}
