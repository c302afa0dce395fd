/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proof.c - whether a table's column tells of each row by which insert it came.
 *
 * The column's default has to be the insert's token, and nothing else may fill it. Of async inserts
 * ClickHouse joins several, computes defaults once for all of them, and so gives the rows of all
 * the token of one.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "proof.h"

#include <stdio.h>
#include <string.h>

#include "alloy/config_name.h"

#define TOKEN_SETTING "'insert_deduplication_token'"
#define DEFAULT_TOLD "String DEFAULT getSetting(" TOKEN_SETTING ")"

bool proof_engine(const char *engine)
{
    return strcmp(engine, "MergeTree") == 0 || strcmp(engine, "ReplicatedMergeTree") == 0 ||
           strcmp(engine, "SharedMergeTree") == 0;
}

/* Whether a column's default is the token: what ClickHouse makes of the ways to write that. */
static bool proof_is_token(const struct table_column *column)
{
    static const char *const begins[] = {"getSetting(" TOKEN_SETTING,
                                         "getSettingOrDefault(" TOKEN_SETTING,
                                         "toString(getSetting(" TOKEN_SETTING};
    static const char *const types[] = {"String", "Nullable(String)", "LowCardinality(String)",
                                        "LowCardinality(Nullable(String))", "FixedString(32)"};
    bool begun = false, held = false;

    for (size_t i = 0; i < ARRAY_LEN(begins); i++)
        begun = begun || strncmp(column->expression, begins[i], strlen(begins[i])) == 0;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        held = held || strcmp(column->type, types[i]) == 0;
    return begun && held &&
           (strcmp(column->default_kind, "DEFAULT") == 0 ||
            strcmp(column->default_kind, "MATERIALIZED") == 0);
}

bool proof_tells(const struct config_stream *stream, const struct table_facts *facts,
                 const struct table_columns *columns, bool async, char out[PROOF_TEXT_MAX])
{
    char name[CONFIG_NAME_TEXT_MAX + 1] = "";
    const struct table_column *found = NULL;

    config_name_append(name, stream->proof);
    for (size_t i = 0; columns != NULL && i < columns->count; i++)
        if (strcmp(columns->columns[i].name, stream->proof) == 0)
            found = &columns->columns[i];
    out[0] = '\0';
    if (async)
        snprintf(out, PROOF_TEXT_MAX,
                 "inserts in doubt are not looked for by column %s: ClickHouse joins async inserts "
                 "and gives their rows the token of one. Set clickhouse.async_insert to auto or "
                 "off",
                 name);
    else if (!proof_engine(facts->engine))
        snprintf(out, PROOF_TEXT_MAX,
                 "inserts in doubt are not looked for by column %s: in a table of engine %s a row "
                 "that is missing tells nothing. Take a MergeTree, or leave proof empty",
                 name, facts->engine);
    else if (columns == NULL || (found == NULL && columns->partial))
        snprintf(out, PROOF_TEXT_MAX,
                 "inserts in doubt are not looked for by column %s, which cannot be seen: allow "
                 "SELECT on system.columns and on the table",
                 name);
    else if (found == NULL || !proof_is_token(found))
        snprintf(
            out, PROOF_TEXT_MAX,
            "inserts in doubt are not looked for: %s %s. ALTER TABLE %s %s COLUMN %s " DEFAULT_TOLD,
            found == NULL ? "it has no column" : "the insert's token is not the default of", name,
            stream->table_text, found == NULL ? "ADD" : "MODIFY", name);
    return out[0] == '\0';
}
