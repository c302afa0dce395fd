/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_doctor_trial.c - the doctor's scratch table: is an insert there once, whatever happens to it?
 *
 * A plain MergeTree is copied with its settings, and loses its TTL, so that the trial's rows, which
 * are all defaults, stay for as long as they are counted. A replicated table is never copied with
 * its engine: a path in Keeper would be the same. Its trial is a MergeTree of the same columns.
 *
 * The name carries the time and the process, so that another run knows what a killed one has left.
 *
 * Runs on: main thread. Owns: the scratch table, until it is dropped.
 */
#include "ctl_doctor.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "alloy/ask_table.h"
#include "alloy/clock.h"

#define LEFT_OVER_S 600 /* a run takes less */
#define ROW "{}\n"
#define CUT_ROWS 20000
#define WINDOW "100"

struct trial {
    struct ctl_doctor *doctor;
    struct ask_clickhouse *ask;
    struct config_stream table; /* the scratch table */
    const struct config_stream *stream;
    bool async;
    char scratch[CONFIG_NAME_MAX + 1];
    char name[CTL_DOCTOR_KEY_MAX];
};

static void ctl_doctor_put_name(FILE *out, const char *name)
{
    fputc('`', out);
    for (; *name != '\0'; name++)
        fprintf(out, "%s%c", *name == '`' || *name == '\\' ? "\\" : "", *name);
    fputc('`', out);
}

/* Asks "BEFORE `database`.`table` AFTER". */
static bool ctl_doctor_trial_ask(struct trial *trial, const char *before, const char *table,
                                 const char *after)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    bool right = false;

    if (out == NULL)
        return false;
    fprintf(out, "%s ", before);
    ctl_doctor_put_name(out, trial->table.database);
    fputc('.', out);
    ctl_doctor_put_name(out, table);
    fprintf(out, " %s", after);
    if (fclose(out) == 0)
        right = ask_clickhouse(trial->ask, text, NULL, 0);
    free(text);
    return right;
}

static void ctl_doctor_trial_drop(struct trial *trial, const char *table)
{
    if (!ctl_doctor_trial_ask(trial, "DROP TABLE IF EXISTS", table, "SYNC")) {
        ctl_doctor_note(trial->doctor, CTL_DOCTOR_FAILS, trial->name,
                        "the scratch table %s could not be dropped (%s)", table,
                        trial->ask->answer.why);
        ctl_doctor_todo(trial->doctor, "drop it by hand; it holds nothing");
    }
}

/* Drops what killed runs have left in this database. */
static void ctl_doctor_trial_sweep(struct trial *trial)
{
    const uint64_t now_s = clock_real_ms() / 1000;
    char *copy, *line, *rest;

    if (!ask_clickhouse(
            trial->ask,
            "SELECT database, name FROM system.tables WHERE startsWith(name, '" CTL_DOCTOR_SCRATCH
            "') LIMIT 100 FORMAT TSVRaw",
            NULL, 0))
        return;
    copy = rest = strdup(trial->ask->body);
    while (rest != NULL && (line = strsep(&rest, "\n")) != NULL) {
        char *name = strchr(line, '\t');

        if (name == NULL)
            continue;
        *name++ = '\0';
        if (strcmp(line, trial->table.database) == 0 &&
            strtoull(name + strlen(CTL_DOCTOR_SCRATCH), NULL, 10) + LEFT_OVER_S < now_s)
            ctl_doctor_trial_drop(trial, name);
    }
    free(copy);
}

/* The rows of the scratch table; -1: not known. */
static int64_t ctl_doctor_trial_count(struct trial *trial)
{
    if (!ctl_doctor_trial_ask(trial, "SELECT count() FROM", trial->scratch, ""))
        return -1;
    return strtoll(trial->ask->body, NULL, 10);
}

static bool ctl_doctor_trial_create(struct trial *trial, const struct ask_table *facts)
{
    char *after = NULL;
    size_t size = 0;
    const bool plain = strcmp(facts->engine, "MergeTree") == 0;
    FILE *out = open_memstream(&after, &size);
    bool right;

    if (out == NULL)
        return false;
    fputs("AS ", out);
    ctl_doctor_put_name(out, trial->stream->database);
    fputc('.', out);
    ctl_doctor_put_name(out, trial->stream->table);
    if (!plain)
        fputs(" ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window "
              "= " WINDOW,
              out);
    right = fclose(out) == 0 && ctl_doctor_trial_ask(trial, "CREATE TABLE", trial->scratch, after);
    free(after);
    /* Most tables have none, and then this is refused. */
    if (right)
        (void)ctl_doctor_trial_ask(trial, "ALTER TABLE", trial->scratch, "REMOVE TTL");
    return right;
}

static bool ctl_doctor_trial_insert(struct trial *trial, uint64_t id, const char *rows)
{
    return ask_table_insert(trial->ask, &trial->table,
                            &(struct ask_table_insert){id, trial->async, rows});
}

static void ctl_doctor_trial_name(struct trial *trial, const char *what)
{
    snprintf(trial->name, sizeof(trial->name), "stream.%s.%s", trial->stream->name, what);
}

/* A token sent twice is one insert, and another token another. */
static bool ctl_doctor_trial_token(struct trial *trial)
{
    int64_t once, twice, other;

    ctl_doctor_trial_name(trial, "token");
    if (!ctl_doctor_trial_insert(trial, 1, ROW ROW ROW)) {
        ctl_doctor_note(trial->doctor, CTL_DOCTOR_UNKNOWN, trial->name,
                        "rows of defaults are refused by a copy of the table: %s",
                        trial->ask->answer.why);
        return false;
    }
    once = ctl_doctor_trial_count(trial);
    (void)ctl_doctor_trial_insert(trial, 1, ROW ROW ROW);
    twice = ctl_doctor_trial_count(trial);
    (void)ctl_doctor_trial_insert(trial, 2, ROW ROW ROW);
    other = ctl_doctor_trial_count(trial);
    if (once == 3 && twice == 3 && other == 6) {
        ctl_doctor_note(trial->doctor, CTL_DOCTOR_HOLDS, trial->name,
                        "an insert sent twice gave its rows once, and another insert its own");
    } else if (once == 3 && twice == 6) {
        ctl_doctor_note(trial->doctor, CTL_DOCTOR_FAILS, trial->name,
                        "an insert sent twice gave its rows twice: after each lost answer rows "
                        "are doubled");
        ctl_doctor_todo(trial->doctor,
                        "ALTER TABLE %.120s MODIFY SETTING non_replicated_deduplication_window = "
                        "10000",
                        trial->stream->table_text);
    } else {
        ctl_doctor_note(trial->doctor, CTL_DOCTOR_FAILS, trial->name,
                        "3 rows, the same insert again and 3 others gave %lld, %lld and %lld rows "
                        "in place of 3, 3 and 6",
                        (long long)once, (long long)twice, (long long)other);
        ctl_doctor_todo(trial->doctor, "set clickhouse.async_insert = off, and try again");
    }
    return true;
}

/* An insert whose connection breaks is there whole or not at all, and once after its retry. */
static void ctl_doctor_trial_cut(struct trial *trial)
{
    char *rows = malloc(CUT_ROWS * strlen(ROW) + 1);
    const int64_t before = ctl_doctor_trial_count(trial);
    const struct ask_table_insert insert = {3, trial->async, rows};
    int64_t after, retried;

    if (rows == NULL)
        return;
    for (size_t i = 0; i < CUT_ROWS; i++)
        memcpy(rows + i * strlen(ROW), ROW, sizeof(ROW));
    ctl_doctor_trial_name(trial, "cut");
    ask_table_cut(trial->ask, &trial->table, &insert);
    after = ctl_doctor_trial_count(trial);
    (void)ask_table_insert(trial->ask, &trial->table, &insert);
    retried = ctl_doctor_trial_count(trial);
    free(rows);
    if (after == before && retried == before + CUT_ROWS) {
        ctl_doctor_note(
            trial->doctor, CTL_DOCTOR_HOLDS, trial->name,
            "an insert cut in the middle left nothing, and its retry gave its rows once");
        return;
    }
    ctl_doctor_note(trial->doctor, CTL_DOCTOR_FAILS, trial->name,
                    "an insert of %d rows, cut in the middle, left %lld, and with its retry there "
                    "are %lld",
                    CUT_ROWS, (long long)(after - before), (long long)(retried - before));
    ctl_doctor_todo(trial->doctor,
                    "look for a proxy before ClickHouse that passes half a body on as a whole one");
}

/* A bad row is told, and none of its insert is there. */
static void ctl_doctor_trial_bad(struct trial *trial)
{
    const int64_t before = ctl_doctor_trial_count(trial);
    const bool taken = ctl_doctor_trial_insert(trial, 4, ROW ROW "{\"\n" ROW);
    const bool told = taken || trial->ask->answer.code != 0; /* by ClickHouse itself */
    const int64_t after = ctl_doctor_trial_count(trial);

    ctl_doctor_trial_name(trial, "bad_row");
    if (!told || before < 0 || after < 0) {
        ctl_doctor_note(trial->doctor, CTL_DOCTOR_UNKNOWN, trial->name,
                        "what became of an insert with a bad row could not be asked");
        ctl_doctor_todo(trial->doctor, "run this again once ClickHouse answers");
        return;
    }
    if (!taken && after == before) {
        ctl_doctor_note(trial->doctor, CTL_DOCTOR_HOLDS, trial->name,
                        "an insert with a bad row was refused, and left nothing");
        return;
    }
    ctl_doctor_note(trial->doctor, CTL_DOCTOR_FAILS, trial->name,
                    "an insert with a bad row was %s, and left %lld rows",
                    taken ? "answered as a success" : "refused", (long long)(after - before));
    ctl_doctor_todo(trial->doctor,
                    "look for input_format_allow_errors_* in the profile of ClickHouse's user");
}

void ctl_doctor_trial(struct ctl_doctor *doctor, struct ask_clickhouse *ask,
                      const struct config_stream *stream)
{
    struct trial trial = {.doctor = doctor, .ask = ask, .table = *stream, .stream = stream};
    struct ask_table facts;

    snprintf(trial.scratch, sizeof(trial.scratch), CTL_DOCTOR_SCRATCH "%llu_%x",
             (unsigned long long)clock_real_ms() / 1000, (unsigned)getpid());
    trial.table.table = trial.scratch;
    ctl_doctor_trial_name(&trial, "trial");
    if (!ask_table(ask, stream, &facts))
        return;
    trial.async = facts.async_unsafe == NULL
                      ? doctor->config->clickhouse_async_insert != CONFIG_ASYNC_OFF
                      : doctor->config->clickhouse_async_insert == CONFIG_ASYNC_ON;
    ctl_doctor_trial_sweep(&trial);
    if (!ctl_doctor_trial_create(&trial, &facts)) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, trial.name,
                        "no scratch table can be made beside %.100s (%s)", stream->table_text,
                        ask->answer.why);
        ctl_doctor_todo(doctor, "run this once with a user who may create and drop tables there");
        /* The answer may be lost, and the table there. */
        if (!ask->answer.reached)
            ctl_doctor_trial_drop(&trial, trial.scratch);
        return;
    }
    if (!ctl_doctor_stopped() && ctl_doctor_trial_token(&trial)) {
        if (!ctl_doctor_stopped())
            ctl_doctor_trial_cut(&trial);
        if (!ctl_doctor_stopped())
            ctl_doctor_trial_bad(&trial);
    }
    ctl_doctor_trial_name(&trial, "trial");
    ctl_doctor_trial_drop(&trial, trial.scratch);
}
