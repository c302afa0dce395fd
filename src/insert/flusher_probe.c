/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_probe.c - may inserts be async on this server and table, and does the table deduplicate.
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
#include "flusher_probe.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define VERSION_PARTS 4
#define PROBE_FIELDS 7

/* First releases, branch by branch, in which async inserts into partitioned tables are sound. The
 * last branch stands for all later ones. */
static const unsigned partitions_fixed[][VERSION_PARTS] = {
    {26, 4, 5, 151},
    {26, 5, 6, 63},
    {26, 6, 2, 98},
    {26, 7, 0, 0},
};
static const unsigned async_counted[VERSION_PARTS] = {26, 4, 1, 0};

static int flusher_probe_version_compare(const unsigned *a, const unsigned *b, size_t parts)
{
    for (size_t i = 0; i < parts; i++) {
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    }
    return 0;
}

static bool flusher_probe_version_read(const char *text, unsigned version[VERSION_PARTS])
{
    return sscanf(text, "%5u.%5u.%5u.%5u", &version[0], &version[1], &version[2], &version[3]) ==
           VERSION_PARTS;
}

static bool flusher_probe_version_partitions_fixed(const unsigned version[VERSION_PARTS])
{
    const size_t last = ARRAY_LEN(partitions_fixed) - 1;

    for (size_t i = 0; i < last; i++) {
        if (flusher_probe_version_compare(version, partitions_fixed[i], 2) == 0)
            return flusher_probe_version_compare(version, partitions_fixed[i], VERSION_PARTS) >= 0;
    }
    return flusher_probe_version_compare(version, partitions_fixed[last], VERSION_PARTS) >= 0;
}

static bool flusher_probe_begins(struct slice text, const char *prefix)
{
    return text.len >= strlen(prefix) && memcmp(text.data, prefix, strlen(prefix)) == 0;
}

static bool flusher_probe_ends(struct slice text, const char *suffix)
{
    size_t len = strlen(suffix);

    return text.len >= len && memcmp(text.data + text.len - len, suffix, len) == 0;
}

static bool flusher_probe_equals(struct slice text, const char *word)
{
    return text.len == strlen(word) && flusher_probe_begins(text, word);
}

/* Cuts one row at its tabs. False: not PROBE_FIELDS fields and a newline. */
static bool flusher_probe_split_row(struct slice body, struct slice fields[PROBE_FIELDS])
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

static bool flusher_probe_copy_field(char out[FLUSHER_PROBE_FIELD_MAX], struct slice field)
{
    if (field.len >= FLUSHER_PROBE_FIELD_MAX || memchr(field.data, '\0', field.len) != NULL)
        return false;
    snprintf(out, FLUSHER_PROBE_FIELD_MAX, "%.*s", field.len == 0 ? 1 : (int)field.len,
             field.len == 0 ? "-" : field.data);
    return true;
}

static const char *flusher_probe_async_unsafe(const struct flusher_probe *probe, bool merge_tree)
{
    unsigned version[VERSION_PARTS];

    if (!flusher_probe_version_read(probe->version, version))
        return "this version of ClickHouse is not known";
    if (!probe->counts_async)
        return "this version of ClickHouse does not tell how many rows an async insert has written";
    /* What stands behind a Distributed table or a view cannot be seen from here. */
    if ((probe->partitioned || !merge_tree) && !flusher_probe_version_partitions_fixed(version))
        return "this version of ClickHouse can lose async inserts into partitioned tables";
    return NULL;
}

bool flusher_probe_read(struct slice body, struct flusher_probe *probe)
{
    struct slice fields[PROBE_FIELDS];
    unsigned version[VERSION_PARTS];
    bool merge_tree;

    *probe = (struct flusher_probe){.table_exists = false};
    if (!flusher_probe_split_row(body, fields) || fields[0].len == 0 ||
        !flusher_probe_copy_field(probe->version, fields[0]) ||
        !flusher_probe_copy_field(probe->engine, fields[2]) ||
        !flusher_probe_copy_field(probe->window, fields[4]) ||
        !flusher_probe_copy_field(probe->uuid, fields[6]))
        return false;
    probe->table_exists = !flusher_probe_equals(fields[1], "0");
    probe->partitioned = !flusher_probe_equals(fields[3], "0");
    probe->counts_async = flusher_probe_version_read(probe->version, version) &&
                          flusher_probe_version_compare(version, async_counted, VERSION_PARTS) >= 0;
    merge_tree = flusher_probe_ends(fields[2], "MergeTree");
    /* What stands behind any other engine cannot be seen from here. */
    probe->has_views = !merge_tree || !flusher_probe_equals(fields[5], "0");
    probe->async_unsafe = flusher_probe_async_unsafe(probe, merge_tree);
    probe->window_unset = merge_tree && !flusher_probe_begins(fields[2], "Replicated") &&
                          !flusher_probe_begins(fields[2], "Shared") &&
                          (fields[4].len == 0 || flusher_probe_equals(fields[4], "0"));
    return true;
}
