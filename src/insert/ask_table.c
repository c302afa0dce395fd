/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask_table.c - asks ClickHouse about a stream's table, and inserts into one as alloyd would.
 *
 * Runs on: the thread that owns the connection. Owns: nothing.
 */
#include "alloy/ask_table.h"

#include "insert_request.h"
#include "table_facts.h"

/* Of no alloyd: an instance's id is random. */
#define INSTANCE_ID UINT64_C(0xd0c70d0c70d0c70d)

bool ask_table(struct ask_clickhouse *ask, const struct config_stream *stream,
               struct ask_table *table)
{
    struct table_facts facts;

    if (!ask_clickhouse_url(ask, insert_request_table_url(stream), NULL))
        return false;
    if (!table_facts_read((struct slice){ask->body, ask->len}, &facts)) {
        snprintf(ask->answer.why, sizeof(ask->answer.why), "its answer cannot be read");
        return false;
    }
    *table = (struct ask_table){.exists = facts.table_exists,
                                .partitioned = facts.partitioned,
                                .forgets_rows = facts.forgets_rows,
                                .doubles = facts.doubles,
                                .async_unsafe = facts.async_unsafe};
    snprintf(table->version, sizeof(table->version), "%s", facts.version);
    snprintf(table->engine, sizeof(table->engine), "%s", facts.engine);
    snprintf(table->window, sizeof(table->window), "%s", facts.window);
    snprintf(table->identity, sizeof(table->identity), "%s", facts.identity);
    return true;
}

static char *ask_table_url(const struct ask_clickhouse *ask, const struct config_stream *stream,
                           const struct ask_table_insert *insert)
{
    return insert_request_url(ask->config, stream,
                              &(struct insert_request){.instance_id = INSTANCE_ID,
                                                       .insert_id = insert->id,
                                                       .async = insert->async});
}

bool ask_table_insert(struct ask_clickhouse *ask, const struct config_stream *stream,
                      const struct ask_table_insert *insert)
{
    return ask_clickhouse_url(ask, ask_table_url(ask, stream, insert), insert->rows);
}

void ask_table_cut(struct ask_clickhouse *ask, const struct config_stream *stream,
                   const struct ask_table_insert *insert)
{
    ask_clickhouse_cut(ask, ask_table_url(ask, stream, insert), insert->rows);
}
