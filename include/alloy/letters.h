/* SPDX-License-Identifier: Apache-2.0 */
/*
 * letters.h - reads what dead_letter.h writes: the files of the dead-letter folder and their lines.
 * docs/DEAD_LETTER.md describes the format.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_LETTERS_H
#define ALLOY_LETTERS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

#define LETTERS_SUFFIX ".ndjson"
#define LETTERS_SUFFIX_REPLAYING ".ndjson.replaying"
#define LETTERS_SUFFIX_REPLAYED ".ndjson.replayed"
#define LETTERS_SUFFIX_RENEWED ".ndjson.renewed"

enum letters_state {
    LETTERS_WAITING,   /* events that nobody has posted again */
    LETTERS_REPLAYING, /* alloyctl has taken them, and posts them or was interrupted */
    LETTERS_REPLAYED,  /* in ClickHouse */
    LETTERS_RENEWED,   /* refused again: newer letters have the events */
};

struct letters_file {
    char name[NAME_MAX + 1];
    enum letters_state state;
    uint64_t bytes;
    uint64_t modified_ms; /* real time */
};

/* When a last line without its newline counts. */
enum letters_tail {
    LETTERS_TAIL_IF_WHOLE, /* whoever edits a file may leave the newline out */
    LETTERS_TAIL_ALWAYS,   /* and alloyd writes no such file, so part of a line is an error */
    LETTERS_TAIL_NEVER     /* alloyd has not finished it, and its record goes on */
};

struct letters {
    int dir_fd;
    struct letters_file *files; /* by name, so a stream's are in order of time */
    size_t count;
    size_t passed_over;     /* names of letters that are no plain files: links, say */
    enum letters_tail tail; /* for the caller to set */
};

/* One line, as slices of it. */
struct letter {
    uint64_t time_ms;     /* 0: not in the form that we write */
    bool has_lsn;         /* lines of early versions have none */
    uint64_t instance_id; /* of the journal that held the event */
    uint64_t lsn;         /* of its record there */
    struct slice stream;  /* still escaped, as in the JSON string; so is message */
    struct slice message;
    int code;
    struct slice event;   /* the original bytes */
    struct slice id;      /* beside the event, as "id":"..." or "id_hex":"..."; empty: none is */
    struct slice columns; /* the object of the columns of its request; empty: it had none */
};

/* Lists a folder. Returns 0, or -errno and nothing to close. */
MUST_CHECK int letters_open(struct letters *letters, const char *dir);
void letters_close(struct letters *letters);
/* True, and sets *state, when a file of letters has this name. */
bool letters_name(const char *name, enum letters_state *state);

/* Reads a line, without its newline. False: it is not one of ours. The order of the members does
 * not matter, and white space may stand between them: people edit these files. */
bool letter_parse(struct slice line, struct letter *letter);

/*
 * Called for each whole line; letter is NULL when the line cannot be parsed. number counts from 1.
 * line is lent until return. Returns 0 to go on; anything else ends letters_visit() with it.
 */
typedef int (*letters_line_fn)(void *arg, const struct letter *letter, struct slice line,
                               uint64_t number);
/* Reads a file to its end. Returns 0, -errno, or what visit returned. */
MUST_CHECK int letters_visit(const struct letters *letters, const char *name, letters_line_fn visit,
                             void *arg);

#endif
