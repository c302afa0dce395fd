/* SPDX-License-Identifier: Apache-2.0 */
/*
 * advice.c - what to do about each reason of /readyz.
 *
 * The one table of it: /readyz puts it behind a reason's text, and so do alloyctl status and top,
 * which read that; the page shows it below the text. docs/OPERATIONS.md has more.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "advice.h"

#include <stdio.h>
#include <string.h>

struct advice_row {
    const char *key;   /* * stands for a name: of a stream, an endpoint, a thread */
    const char *title; /* $ is that name, here and in the next */
    const char *todo;  /* a sentence that may stand behind any text */
};

/* The first that fits counts. */
static const struct advice_row advice_rows[] = {
    {"starting", "Starting", "Wait: the text of replay tells how far alloyd is."},
    {"draining", "Stopping",
     "Nothing to do: what is not inserted in time stays in the journal for the next start."},
    {"ring.closed", "Stopping", "Nothing to do: alloyd is stopping."},
    {"ring.full", "The ring is full",
     "If Redis is away, bring it back, else raise worker.threads."},
    {"journal.full", "The journal is full",
     "Bring ClickHouse back, or make room: it recovers by itself."},
    {"journal.removed", "The journal was moved away",
     "Put the folder back; where its files are gone leave alloyd running until nothing waits, then "
     "restart it."},
    {"journal.failed", "The journal cannot be written",
     "Look at the disk (dmesg), then restart alloyd: it replays what waits."},
    {"journal.corrupt", "Something in the journal is broken",
     "See the log, move the *.alj.corrupt files away, then restart."},
    {"journal.unknown_stream", "Events wait for streams that are not configured",
     "Configure these streams again, even for a moment."},
    {"clickhouse", "ClickHouse does not answer",
     "Bring it back before the journal is full: events wait there meanwhile."},
    {"clickhouse.*.retry", "ClickHouse puts inserts of $ off",
     "Look up the code in its system.errors: memory, too many queries or parts, a read-only "
     "replica."},
    {"clickhouse.*.slow", "Inserts of $ run out of time",
     "Look at ClickHouse's load and the link to it, or raise clickhouse.timeout."},
    {"clickhouse.*.hangs", "Inserts of $ get no answer",
     "Look at ClickHouse: is it stopped, swapping, waiting for a disk, or locked?"},
    {"clickhouse.*.refuses", "The table of $ refuses row after row",
     "Correct the table or the client: kept rows go in by themselves when one does; or let them go "
     "with alloyctl bury $."},
    {"clickhouse.*.view", "A materialized view of $ refuses rows",
     "Correct the view, and fill what it lacks from the table."},
    {"clickhouse.*.columns", "Fields of $ do not match its table",
     "Run ALTER TABLE ... ADD COLUMN, or send other fields."},
    {"clickhouse.*.window", "The table of $ does not deduplicate",
     "Run ALTER TABLE ... MODIFY SETTING non_replicated_deduplication_window = 10000."},
    {"clickhouse.*.async", "Async inserts of $ are not known to be safe",
     "Nothing to do, but an upgrade of ClickHouse makes inserts cheaper."},
    {"clickhouse.*.replicas", "Endpoints of $ have no replicas of one table",
     "Look at the endpoint that is named: inserts do not go there."},
    {"clickhouse.*.distributed", "The table of $ is a Distributed one",
     "List the shards in clickhouse.url, with | between them, and name the local table."},
    {"clickhouse.*.proof", "The column of proof of $ does not tell",
     "Run the ALTER TABLE that is named, or leave proof empty."},
    {"clickhouse.shards", "Events wait for a shard that is not configured",
     "List it again in clickhouse.url, at its place, and restart."},
    {"clickhouse@*", "ClickHouse at $ is left out",
     "Look at that server, which is asked every 10 s at least."},
    {"clickhouse.*", "ClickHouse refuses inserts of $",
     "Correct it there: inserts then go on by themselves, and until then the journal keeps the "
     "events."},
    {"schema.*", "The columns of $ are not known yet", "Wait: it ends in 2 s at most."},
    {"stream.*.removed", "Events wait for $, which was removed",
     "Nothing to do, if its table takes them; else configure it again."},
    {"redis.release", "Redis keeps claims of dead letters",
     "Let the user of redis.url run DELEX, DELIFEQ or EVAL, with GET and DEL, on keys of "
     "redis.key_prefix."},
    {"redis.foreign", "Two deployments share one Redis and key prefix",
     "Give each deployment its own redis.key_prefix, then restart."},
    {"redis.layout",
     "Others of this deployment pack their claims, this alloyd is to claim with keys",
     "Set the same redis.layout everywhere: until then it claims as they do, and nothing is "
     "counted twice."},
    {"redis.replicas", "Too few replicas have the last claims",
     "Look at Redis' replicas: a failover now may forget claims."},
    {"redis", "Redis is away",
     "Bring it back: until then duplicates can come through, or, with on_failure = hold, clients "
     "get 503."},
    {"replay", "Replaying the journal of an earlier life",
     "Wait, or see the log where a part could not be read."},
    {"thread.*", "A thread hangs",
     "Look at the disk (dmesg), and restart alloyd where systemd does not: the journal has what "
     "was accepted."},
    {"tls.certificate", "The certificate",
     "Put a new one into the files of server.tls_cert and server.tls_key, then reload."},
    {"dead_letter", "Refused events cannot be written away",
     "Make room in the dead-letter folder, or raise dead_letter.max_bytes and reload."},
    {"more", "More is wrong than fits here", "See the log."},
};

/* Whether the key fits; then *name is what * stands for, if there is one. */
static bool advice_fits(const char *pattern, const char *key, struct slice *name)
{
    const char *star = strchr(pattern, '*');
    const size_t before = star != NULL ? (size_t)(star - pattern) : strlen(pattern);
    const size_t after = star != NULL ? strlen(star + 1) : 0;
    const size_t len = strlen(key);

    *name = (struct slice){"", 0};
    if (star == NULL)
        return strcmp(pattern, key) == 0;
    if (len <= before + after || strncmp(key, pattern, before) != 0 ||
        strcmp(key + len - after, star + 1) != 0)
        return false;
    *name = (struct slice){key + before, len - before - after};
    return true;
}

static void advice_fill(const char *text, struct slice name, char out[ADVICE_MAX])
{
    const char *mark = strchr(text, '$');

    if (mark == NULL)
        snprintf(out, ADVICE_MAX, "%s", text);
    else
        snprintf(out, ADVICE_MAX, "%.*s%.*s%s", (int)(mark - text), text, (int)name.len, name.data,
                 mark + 1);
}

bool advice_find(const char *key, struct advice *advice)
{
    struct slice name;

    for (size_t i = 0; i < ARRAY_LEN(advice_rows); i++) {
        if (!advice_fits(advice_rows[i].key, key, &name))
            continue;
        advice_fill(advice_rows[i].title, name, advice->title);
        advice_fill(advice_rows[i].todo, name, advice->todo);
        return true;
    }
    snprintf(advice->title, sizeof(advice->title), "%s", key);
    snprintf(advice->todo, sizeof(advice->todo), "See the log.");
    return false;
}

void advice_append(const char *text, const struct advice *advice, char out[ADVICE_TEXT_MAX])
{
    const size_t len = strlen(text);
    const char *gap = len == 0 ? "" : strchr(".!?", text[len - 1]) != NULL ? " " : ". ";

    snprintf(out, ADVICE_TEXT_MAX, "%s%s%s", text, gap, advice->todo);
}
