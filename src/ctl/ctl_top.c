/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_top.c - alloyctl top: a running alloyd in a terminal, refreshed each second.
 *
 * Two documents of /stats a second apart give the rates. The screen is made anew each time, as wide
 * and as high as the terminal is now; what does not fit is left out, the least important first.
 *
 * Runs on: main thread. alloyctl's home of ncurses.
 * Owns: the screen, and the last two documents.
 */
#include "ctl_commands.h"

#include <locale.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <curses.h>

#include "alloy/clock.h"
#include "ctl_admin.h"
#include "ctl_stats.h"

#define REFRESH_MS 1000
#define ASK_TIMEOUT_MS 2000L /* a daemon that hangs is told soon, and q works */
#define LINE_ROOM 512
#define NAME_MIN 10 /* columns of a stream's name */
#define COLUMN 9    /* of a figure, with its space */
#define REASON_ROWS 3

struct top {
    struct ctl_admin admin;
    struct ctl_stats now, before;
    bool has_now, has_before;
    char error[CTL_STATS_ERROR_MAX]; /* "": it answers */
    uint64_t gone_ms;                /* real time; since when it does not */
    uint64_t back_ms;                /* when it came back last; 0: never away */
    int row;
};

/* Columns of the streams' table, the most important first. */
static const char *const top_columns[] = {"IN/s",  "ROWS/s", "PENDING", "OLDEST",
                                          "DUP/s", "DEAD/s", "REFUSE/s"};

/* Writes a line and goes to the next row; what is below the screen is left out. */
static void ctl_top_put(struct top *top, attr_t how, const char *text, size_t len)
{
    if (top->row >= LINES - (LINES > 2)) /* the last row is for the keys */
        return;
    attrset((int)how);
    mvaddnstr(top->row++, 0, text, (int)len < COLS ? (int)len : COLS);
    attrset(A_NORMAL);
}

/* The same with a format. A line that does not fit goes on in the next row at the last two spaces
 * that do: they part what belongs together. */
static PRINTF_LIKE(3, 4) void ctl_top_line(struct top *top, attr_t how, const char *format, ...)
{
    char text[LINE_ROOM], *at = text;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    while (COLS > 0 && strlen(at) > (size_t)COLS) {
        size_t len = (size_t)COLS;

        while (len > 0 && !(at[len] == ' ' && at[len - 1] == ' '))
            len--;
        if (len == 0)
            break;
        ctl_top_put(top, how, at, len - 1);
        at += len + 1;
    }
    ctl_top_put(top, how, at, strlen(at));
}

/* ---- figures ---- */

/* How much a counter has grown in a second; a restart counts from 0. */
static double ctl_top_rate(const struct top *top, uint64_t now, uint64_t before)
{
    const double seconds = (double)(top->now.taken_ms - top->before.taken_ms) / 1000;

    if (!top->has_before || seconds <= 0 || now < before)
        return 0;
    return (double)(now - before) / seconds;
}

/* The mean of what was observed between the two documents, in seconds; below 0: nothing was. */
static double ctl_top_mean(double sum_now, double sum_before, uint64_t now, uint64_t before)
{
    return now > before ? (sum_now - sum_before) / (double)(now - before) : -1;
}

static const char *ctl_top_span(double seconds, char text[CTL_STATS_TEXT_MAX])
{
    if (seconds < 0)
        snprintf(text, CTL_STATS_TEXT_MAX, "-");
    else if (seconds < 0.1)
        snprintf(text, CTL_STATS_TEXT_MAX, "%.1f ms", seconds * 1000);
    else
        ctl_stats_span(seconds, text);
    return text;
}

/* What the stream was in the document before; NULL: it was not there. */
static const struct ctl_stats_stream *ctl_top_stream_before(const struct top *top, const char *name)
{
    for (size_t i = 0; top->has_before && i < top->before.count; i++)
        if (strcmp(top->before.streams[i].name, name) == 0)
            return &top->before.streams[i];
    return NULL;
}

/* ---- the screen ---- */

static void ctl_top_draw_head(struct top *top)
{
    char up[CTL_STATS_TEXT_MAX], when[32] = "";
    const time_t gone_s = (time_t)(top->gone_ms / 1000);
    struct tm tm;

    if (top->error[0] != '\0') {
        if (localtime_r(&gone_s, &tm) != NULL)
            strftime(when, sizeof(when), "%H:%M:%S", &tm);
        ctl_top_line(top, A_REVERSE | A_BOLD, " GONE since %s ", when);
        ctl_top_line(top, A_BOLD, "%s", top->error);
        if (top->has_now)
            ctl_top_line(top, A_DIM,
                         "What follows is what it said last. Waiting for it to come back.");
        return;
    }
    ctl_top_line(top, top->now.ready ? A_BOLD : A_REVERSE | A_BOLD, "%s  alloyd %s  up %s  %s%s",
                 top->now.ready ? "READY" : "NOT READY", top->now.version,
                 ctl_stats_span(top->now.uptime_s, up), top->admin.url,
                 top->back_ms != 0 && top->now.taken_ms - top->back_ms < 10000 ? "  it is back"
                                                                               : "");
}

static void ctl_top_draw_parts(struct top *top)
{
    const struct ctl_stats *now = &top->now, *before = &top->before;
    char a[CTL_STATS_TEXT_MAX], b[CTL_STATS_TEXT_MAX], c[CTL_STATS_TEXT_MAX];

    ctl_top_line(top, A_NORMAL, "requests %s/s  latency %s  connections %s  waiting %llu",
                 ctl_stats_count(ctl_top_rate(top, now->requests, before->requests), a),
                 ctl_top_span(top->has_before ? ctl_top_mean(now->request_s, before->request_s,
                                                             now->requests, before->requests)
                                              : -1,
                              b),
                 ctl_stats_count((double)now->connections, c), (unsigned long long)now->waiting);
    ctl_top_line(top, A_NORMAL, "inserts  %s/s  took %s  under way %llu  last %s ago",
                 ctl_stats_count(ctl_top_rate(top, now->inserts, before->inserts), a),
                 ctl_top_span(top->has_before ? ctl_top_mean(now->insert_s, before->insert_s,
                                                             now->inserts, before->inserts)
                                              : -1,
                              b),
                 (unsigned long long)now->inflight, ctl_top_span(now->insert_age_s, c));
    ctl_top_line(top, now->clickhouse_up && (now->redis_up || !now->redis_used) ? A_NORMAL : A_BOLD,
                 "ClickHouse %s  Redis %s  dead letters %s", now->clickhouse_up ? "up" : "AWAY",
                 !now->redis_used ? "not used"
                 : now->redis_up  ? "up"
                                  : "AWAY",
                 ctl_stats_bytes(now->letter_bytes, a));
    ctl_top_line(top, A_NORMAL, "queue %s of %s  journal %s of %s",
                 ctl_stats_count((double)now->ring_depth, a),
                 ctl_stats_count((double)now->ring_capacity, b),
                 ctl_stats_bytes(now->journal_bytes, c),
                 ctl_stats_bytes(now->journal_bytes_max, (char[CTL_STATS_TEXT_MAX]){0}));
}

/* A figure of a stream as text. */
static const char *ctl_top_figure(const struct top *top, const struct ctl_stats_stream *stream,
                                  size_t column, char text[CTL_STATS_TEXT_MAX])
{
    const struct ctl_stats_stream *before = ctl_top_stream_before(top, stream->name);
    const struct ctl_stats_stream none = *stream;

    if (before == NULL)
        before = &none;
    switch (column) {
    case 0:
        return ctl_stats_count(ctl_top_rate(top, stream->received, before->received), text);
    case 1:
        return ctl_stats_count(ctl_top_rate(top, stream->inserted, before->inserted), text);
    case 2:
        return ctl_stats_count((double)stream->pending, text);
    case 3:
        return ctl_top_span(stream->pending > 0 ? (double)stream->oldest_ms / 1000 : -1, text);
    case 4:
        return ctl_stats_count(ctl_top_rate(top, stream->duplicates, before->duplicates), text);
    case 5:
        return ctl_stats_count(ctl_top_rate(top, stream->dead_lettered, before->dead_lettered),
                               text);
    default:
        return ctl_stats_count(ctl_top_rate(top, stream->rejected, before->rejected), text);
    }
}

static void ctl_top_draw_streams(struct top *top)
{
    const size_t fit = COLS > NAME_MIN ? (size_t)(COLS - NAME_MIN) / COLUMN : 0;
    const size_t columns = fit < ARRAY_LEN(top_columns) ? fit : ARRAY_LEN(top_columns);
    const int name = COLS - (int)columns * COLUMN;
    char line[LINE_ROOM], text[CTL_STATS_TEXT_MAX];
    size_t len;

    top->row++;
    len = (size_t)snprintf(line, sizeof(line), "%-*.*s", name, name, "STREAM");
    for (size_t k = 0; k < columns && len < sizeof(line) - COLUMN - 1; k++)
        len += (size_t)snprintf(line + len, sizeof(line) - len, " %*s", COLUMN - 1, top_columns[k]);
    ctl_top_put(top, A_REVERSE, line, len);
    for (size_t i = 0; i < top->now.count; i++) {
        const struct ctl_stats_stream *stream = &top->now.streams[i];

        len = (size_t)snprintf(line, sizeof(line), "%-*.*s", name, name, stream->name);
        for (size_t k = 0; k < columns && len < sizeof(line) - COLUMN - 1; k++)
            len += (size_t)snprintf(line + len, sizeof(line) - len, " %*.*s", COLUMN - 1,
                                    COLUMN - 1, ctl_top_figure(top, stream, k, text));
        ctl_top_put(top, A_NORMAL, line, len);
    }
}

/* A reason over some lines. */
static void ctl_top_draw_reason(struct top *top, const json_t *reason)
{
    const char *key = json_string_value(json_object_get(reason, "key"));
    const char *text = json_string_value(json_object_get(reason, "text"));
    const bool blocking = json_is_true(json_object_get(reason, "blocking"));
    char line[2 * LINE_ROOM], *at;

    snprintf(line, sizeof(line), "%s %s: %s", blocking ? "!" : "-", key != NULL ? key : "?",
             text != NULL ? text : "");
    at = line;
    for (int row = 0; *at != '\0' && COLS > 4 && row < REASON_ROWS; row++) {
        size_t len = strlen(at), wide = (size_t)COLS - (at == line ? 0 : 2);

        if (len > wide) {
            for (len = wide; len > wide / 2 && at[len] != ' ';)
                len--;
        }
        ctl_top_line(top, blocking ? A_BOLD : A_NORMAL, "%s%.*s", at == line ? "" : "  ", (int)len,
                     at);
        at += len;
        while (*at == ' ')
            at++;
    }
}

static void ctl_top_draw(struct top *top)
{
    erase();
    top->row = 0;
    ctl_top_draw_head(top);
    if (top->has_now) {
        for (size_t i = 0; i < json_array_size(top->now.reasons) && top->row < LINES / 2; i++)
            ctl_top_draw_reason(top, json_array_get(top->now.reasons, i));
        ctl_top_draw_parts(top);
        ctl_top_draw_streams(top);
    }
    attrset(A_DIM);
    if (LINES > 1)
        mvaddnstr(LINES - 1, 0, "q quits", COLS);
    attrset(A_NORMAL);
    refresh();
}

/* ---- the loop ---- */

static void ctl_top_ask(struct top *top)
{
    struct ctl_stats next;
    char error[CTL_STATS_ERROR_MAX] = "";

    if (ctl_stats_get(&top->admin, &next, error) != 0) {
        ctl_stats_free(&next);
        if (top->error[0] == '\0')
            top->gone_ms = clock_real_ms();
        snprintf(top->error, sizeof(top->error), "%s", ctl_one_line(error));
        return;
    }
    if (top->error[0] != '\0' && top->has_now)
        top->back_ms = next.taken_ms;
    top->error[0] = '\0';
    if (top->has_before)
        ctl_stats_free(&top->before);
    top->before = top->now;
    top->has_before = top->has_now;
    top->now = next;
    top->has_now = true;
}

static void ctl_top_loop(struct top *top)
{
    uint64_t due_ms = clock_mono_ms();
    bool going = true;

    while (going) {
        const uint64_t now_ms = clock_mono_ms();

        if (now_ms >= due_ms) {
            ctl_top_ask(top);
            ctl_top_draw(top);
            due_ms = now_ms + REFRESH_MS;
        }
        timeout(due_ms > clock_mono_ms() ? (int)(due_ms - clock_mono_ms()) : 0);
        switch (getch()) {
        case 'q':
        case 'Q':
        case 3: /* ^C */
            going = false;
            break;
        case KEY_RESIZE:
            clearok(curscr, TRUE); /* nobody knows what the terminal has kept */
            ctl_top_draw(top);
            break;
        case ERR:
            going = isatty(STDIN_FILENO);
            break;
        default:
            break;
        }
    }
}

static int ctl_top_run(const struct ctl_given *given)
{
    struct top top = {.has_now = false};
    SCREEN *screen;

    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        fputs("alloyctl: top needs a terminal; for programs there is 'alloyctl status --json'\n",
              stderr);
        return EXIT_FAILURE;
    }
    if (!ctl_admin_open(&top.admin, given))
        return EXIT_FAILURE;
    top.admin.timeout_ms = ASK_TIMEOUT_MS;
    setlocale(LC_ALL, "");
    screen = newterm(NULL, stdout, stdin);
    if (screen == NULL) {
        fputs("alloyctl: this terminal is unknown: set TERM, to xterm for example\n", stderr);
        ctl_admin_close(&top.admin);
        return EXIT_FAILURE;
    }
    raw();
    noecho();
    keypad(stdscr, TRUE);
    (void)curs_set(0);
    ctl_top_loop(&top);
    endwin();
    delscreen(screen);
    if (top.has_now)
        ctl_stats_free(&top.now);
    if (top.has_before)
        ctl_stats_free(&top.before);
    ctl_admin_close(&top.admin);
    return EXIT_SUCCESS;
}

static const struct ctl_option ctl_top_options[] = {
    CTL_OPTION_ADMIN, CTL_OPTION_ADMIN_KEY_FILE, {.name = NULL}};

const struct ctl_command ctl_top_command = {
    .name = "top",
    .summary = "a running alloyd in the terminal, refreshed each second",
    .no_json = true,
    .help = "Shows a running alloyd in the terminal, refreshed each second: events and rows a "
            "second of each stream, what waits and how long, latency, inserts, queue and journal, "
            "and what is wrong. It says when alloyd goes away and when it comes back. q quits.\n\n"
            "For programs there is 'alloyctl status --json'.",
    .options = ctl_top_options,
    .run = ctl_top_run,
};
