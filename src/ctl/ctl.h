/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h - the work of alloyctl's commands. Each prints to out, prints problems to standard error,
 * and returns the exit status of the process. ctl_commands.h has the commands themselves.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_H
#define ALLOY_CTL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "alloy/base.h"
#include "alloy/letters.h"

#define CTL_USAGE 2 /* exit status for a wrong command line */
#define CTL_LINE_MAX 200

#define CTL_URL "http://127.0.0.1:8080"
#define CTL_ADMIN_URL "http://127.0.0.1:8081"
#define CTL_CONFIG "/etc/alloy/alloy.ini"
#define CTL_LETTERS_DIR "/var/lib/alloy/dead-letter"

/* Where a command prints, and how. */
struct ctl_out {
    FILE *file;
    bool json; /* one JSON document in place of text for people */
};

/* Selects letters for a command. */
struct ctl_filter {
    const char *stream; /* NULL: all */
    int code;           /* 0: all */
    uint64_t since_ms;  /* real time; 0: all */
};

/* "2026-01-31", "2026-01-31T12:00", "2026-01-31T12:00:00Z" (UTC), or a duration back from now_ms:
 * "90s", "15min", "2h", "7d". False: neither. */
bool ctl_parse_since(const char *text, uint64_t now_ms, uint64_t *since_ms);
bool ctl_matches(const struct ctl_filter *filter, const struct letter *letter);
/* True for http:// or https:// and a host, followed by nothing but slashes. */
bool ctl_is_base_url(const char *url);
/* Makes text, the answer of an unknown server, safe to print: its first line that is not empty, cut
 * to CTL_LINE_MAX bytes, without control characters. Returns where in text that line begins. */
char *ctl_one_line(char *text);
/* Reads the first line of a file, a key. False: it cannot be read (reported). */
#define CTL_KEY_ROOM 1026
bool ctl_read_key(const char *path, char key[CTL_KEY_ROOM]);
/* The ending of a counted noun: "" for one, else "s". */
const char *ctl_plural(uint64_t count);
/* Writes JSON with line breaks and indent. Text that is not JSON is safe, but may look odd. */
void ctl_pretty(FILE *out, struct slice text, int indent);

struct ctl_show {
    struct ctl_filter filter;
    bool raw; /* lines as they are */
    bool all; /* also those that were posted again */
};

/* Says that a folder has no dead-letter files. Returns the exit status, which is an error for a
 * journal's folder. */
int ctl_letters_none(const char *dir, FILE *out);
/* Tells of files that letters_open() has passed over. Returns the exit status: they may hold
 * letters. */
int ctl_letters_passed_over(const char *dir, const struct letters *letters);
/* dead-letter list, show. */
int ctl_letters_list(const char *dir, struct ctl_out out);
int ctl_letters_show(const char *dir, const struct ctl_show *show, struct ctl_out out);

struct ctl_replay {
    const char *dir;
    const char *url;       /* of alloyd, without a path */
    const char *path;      /* where to post one stream's events; NULL: /v1/ and the stream's name */
    const char *stream;    /* NULL: all */
    const char *key_file;  /* whose first line is a client's key; NULL: alloyd asks for none */
    const char *corrected; /* a corrected copy of letters of dir; NULL: post dir's own */
    const char *replay_key; /* file of the key of alloyd's replays; NULL: the one in dir */
    bool plain;             /* post letters as a client would: with new ids and columns */
    unsigned wait_s;        /* for verdicts that do not come, in all */
    bool keep;              /* leave the files as they are */
};
/* dead-letter replay. */
int ctl_replay(const struct ctl_replay *replay, struct ctl_out out);

/* Which key, in which file. */
struct ctl_key {
    const char *name;
    const char *file;
    const char *streams; /* "*", or names with commas between them */
    uint64_t rate;       /* events a second; 0: any number */
};
/* The owned path that auth.keys_file has in a configuration; NULL: none, told. */
char *ctl_keys_file(const char *config);
/* key add, list, remove. add prints the key, and nothing else, to out. */
int ctl_key_add(const struct ctl_key *key, struct ctl_out out);
int ctl_key_list(const char *path, struct ctl_out out);
int ctl_key_remove(const struct ctl_key *key, struct ctl_out out);

/* journal inspect, verify. */
int ctl_journal_inspect(const char *dir, struct ctl_out out);
int ctl_journal_verify(const char *dir, struct ctl_out out);
/* journal export, drop. letters: lines like those of dead letters. yes: not only count. */
int ctl_export(const char *dir, const char *stream, bool letters, FILE *out);
int ctl_drop(const char *dir, const char *stream, bool yes, struct ctl_out out);

/* ---- pure parts, for tests ---- */

/* What an answer of alloyd means for a request of letters. */
enum ctl_answer { CTL_ANSWER_TAKEN, CTL_ANSWER_LATER, CTL_ANSWER_REFUSED };
enum ctl_answer ctl_judge(long status);

/* Reads {"asked":true,"events":N}. */
bool ctl_read_buried(const char *body, uint64_t *events);

#endif
