/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_facts.c - may inserts be async on this server and table, and does the table deduplicate.
 *
 * An async insert is safe where three things hold. The answer says how many rows were written:
 * before 26.4.1 it says 0, whatever happened (ClickHouse #57768, #99879), so done cannot be told
 * from lost. Its token is honored: on plain MergeTree that too is young. And no token reaches a
 * partition that its rows do not: ClickHouse #111031 (rows silently lost) and #110604 (the insert
 * fails) hit partitioned tables until the versions below. A version that is not known to be good
 * is taken for a bad one: synchronous inserts work everywhere.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "table_facts.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define VERSION_PARTS 4
#define PROBE_FIELDS 6

/* First releases, branch by branch, in which async inserts into partitioned tables are sound. The
 * last branch stands for all later ones. */
static const unsigned partitions_fixed[][VERSION_PARTS] = {
    {26, 4, 5, 151},
    {26, 5, 6, 63},
    {26, 6, 2, 98},
    {26, 7, 0, 0},
};
static const unsigned async_counted[VERSION_PARTS] = {26, 4, 1, 0};

static int table_facts_version_compare(const unsigned *a, const unsigned *b, size_t parts)
{
    for (size_t i = 0; i < parts; i++) {
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    }
    return 0;
}

static bool table_facts_version_read(const char *text, unsigned version[VERSION_PARTS])
{
    return sscanf(text, "%5u.%5u.%5u.%5u", &version[0], &version[1], &version[2], &version[3]) ==
           VERSION_PARTS;
}

static bool table_facts_version_partitions_fixed(const unsigned version[VERSION_PARTS])
{
    const size_t last = ARRAY_LEN(partitions_fixed) - 1;

    for (size_t i = 0; i < last; i++) {
        if (table_facts_version_compare(version, partitions_fixed[i], 2) == 0)
            return table_facts_version_compare(version, partitions_fixed[i], VERSION_PARTS) >= 0;
    }
    return table_facts_version_compare(version, partitions_fixed[last], VERSION_PARTS) >= 0;
}

static bool table_facts_begins(struct slice text, const char *prefix)
{
    return text.len >= strlen(prefix) && memcmp(text.data, prefix, strlen(prefix)) == 0;
}

static bool table_facts_ends(struct slice text, const char *suffix)
{
    size_t len = strlen(suffix);

    return text.len >= len && memcmp(text.data + text.len - len, suffix, len) == 0;
}

static bool table_facts_equals(struct slice text, const char *word)
{
    return text.len == strlen(word) && table_facts_begins(text, word);
}

/* Cuts one row at its tabs. False: not PROBE_FIELDS fields and a newline. */
static bool table_facts_split_row(struct slice body, struct slice fields[PROBE_FIELDS])
{
    const char *at = body.data;
    const char *end = body.len == 0 ? NULL : memchr(body.data, '\n', body.len);

    if (end == NULL)
        return false;
    for (size_t i = 0; i < PROBE_FIELDS; i++) {
        const char *stop = memchr(at, '\t', (size_t)(end - at));
        if ((stop == NULL) != (i == PROBE_FIELDS - 1))
            return false;
        if (stop == NULL)
            stop = end;
        fields[i] = (struct slice){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    return true;
}

static bool table_facts_copy_field(char out[TABLE_FACTS_FIELD_MAX], struct slice field)
{
    if (field.len >= TABLE_FACTS_FIELD_MAX)
        return false;
    snprintf(out, TABLE_FACTS_FIELD_MAX, "%.*s", field.len == 0 ? 1 : (int)field.len,
             field.len == 0 ? "-" : field.data);
    return true;
}

static const char *table_facts_async_unsafe(const struct table_facts *probe, bool merge_tree)
{
    unsigned version[VERSION_PARTS];

    if (!table_facts_version_read(probe->version, version))
        return "this version of ClickHouse is not known";
    if (!probe->counts_async)
        return "this version of ClickHouse does not tell how many rows an async insert has written";
    /* What stands behind a Distributed table or a view cannot be seen from here. */
    if ((probe->partitioned || !merge_tree) && !table_facts_version_partitions_fixed(version))
        return "this version of ClickHouse can lose async inserts into partitioned tables";
    return NULL;
}

bool table_facts_read(struct slice body, struct table_facts *probe)
{
    struct slice fields[PROBE_FIELDS];
    unsigned version[VERSION_PARTS];
    bool merge_tree;

    *probe = (struct table_facts){.table_exists = false};
    if (!table_facts_split_row(body, fields) || fields[0].len == 0 ||
        !table_facts_copy_field(probe->version, fields[0]) ||
        !table_facts_copy_field(probe->engine, fields[2]) ||
        !table_facts_copy_field(probe->window, fields[4]))
        return false;
    probe->stores_rows = !table_facts_equals(fields[2], "Null");
    snprintf(probe->modified, sizeof(probe->modified), "%.*s", 20, "m");
    probe->table_exists = !table_facts_equals(fields[1], "0");
    probe->partitioned = !table_facts_equals(fields[3], "0");
    probe->counts_async = table_facts_version_read(probe->version, version) &&
                          table_facts_version_compare(version, async_counted, VERSION_PARTS) >= 0;
    merge_tree = table_facts_ends(fields[2], "MergeTree");
    /* What stands behind any other engine cannot be seen from here. */
    probe->has_views = !merge_tree || !table_facts_equals(fields[5], "0");
    probe->async_unsafe = table_facts_async_unsafe(probe, merge_tree);
    probe->window_unset = merge_tree && !table_facts_begins(fields[2], "Replicated") &&
                          !table_facts_begins(fields[2], "Shared") &&
                          (fields[4].len == 0 || table_facts_equals(fields[4], "0"));
    return true;
}
