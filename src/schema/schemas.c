/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schemas.c - the schema of each stream as it is now, and what was found.
 *
 * Checks keep a schema for as long as its version stays the same, so a change costs each of them
 * one lock, and an event none. An old schema goes when its last holder has seen the new one.
 *
 * Names of fields are what clients send: of each stream so many are told apart, and the others are
 * counted together.
 *
 * Runs on: any thread.
 * Owns: the schemas' one holder each, and the counts.
 */
#include "alloy/schemas.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/base.h"
#include "alloy/text.h"

/* Of SCHEMAS_FIELDS_MAX. */
#define MISSING_MAX 8
#define UNKNOWN_MAX 32

struct field {
    char name[SCHEMAS_FIELD_MAX + 1];
    char type[SCHEMAS_TYPE_MAX + 1];
    enum schema_problem problem;
    _Atomic uint64_t events; /* relaxed: a count */
};

struct stream {
    struct schema *schema;    /* under the lock */
    _Atomic uint64_t version; /* release in schemas_publish(), acquire in schemas_version() */
    _Atomic bool doubted;     /* relaxed: a hint */
    struct field fields[SCHEMAS_FIELDS_MAX];
    _Atomic size_t field_count; /* release: the field before it is whole */
    _Atomic uint64_t others[SCHEMA_PROBLEMS];
};

struct schemas {
    pthread_mutex_t lock;
    size_t count;
    struct stream streams[];
};

struct schemas *schemas_create(size_t streams)
{
    struct schemas *schemas = calloc(1, sizeof(*schemas) + streams * sizeof(schemas->streams[0]));

    if (schemas == NULL)
        return NULL;
    pthread_mutex_init(&schemas->lock, NULL);
    schemas->count = streams;
    for (size_t i = 0; i < streams; i++)
        schemas->streams[i].version = 1;
    return schemas;
}

void schemas_destroy(struct schemas *schemas)
{
    if (schemas == NULL)
        return;
    for (size_t i = 0; i < schemas->count; i++)
        schema_put(schemas->streams[i].schema);
    pthread_mutex_destroy(&schemas->lock);
    free(schemas);
}

void schemas_publish(struct schemas *schemas, size_t stream, struct schema *schema)
{
    struct stream *of = &schemas->streams[stream];
    struct schema *old;

    pthread_mutex_lock(&schemas->lock);
    old = of->schema;
    of->schema = schema;
    /* release: pairs with the acquire in schemas_version() */
    if (old != NULL || schema != NULL)
        atomic_fetch_add_explicit(&of->version, 1, memory_order_release);
    pthread_mutex_unlock(&schemas->lock);
    schema_put(old);
}

uint64_t schemas_version(const struct schemas *schemas, size_t stream)
{
    /* acquire: pairs with the release in schemas_publish() */
    return atomic_load_explicit(&schemas->streams[stream].version, memory_order_acquire);
}

struct schema *schemas_hold(struct schemas *schemas, size_t stream, uint64_t *version)
{
    struct stream *of = &schemas->streams[stream];
    struct schema *schema;

    pthread_mutex_lock(&schemas->lock);
    schema = of->schema != NULL ? schema_get(of->schema) : NULL;
    *version = atomic_load_explicit(&of->version, memory_order_relaxed);
    pthread_mutex_unlock(&schemas->lock);
    return schema;
}

void schemas_doubt(struct schemas *schemas, size_t stream)
{
    atomic_store_explicit(&schemas->streams[stream].doubted, true, memory_order_relaxed);
}

bool schemas_doubted(struct schemas *schemas, size_t stream)
{
    _Atomic bool *doubted = &schemas->streams[stream].doubted;

    return atomic_load_explicit(doubted, memory_order_relaxed) &&
           atomic_exchange_explicit(doubted, false, memory_order_relaxed);
}

void schemas_field(const struct schema *schema, const struct schema_finding *finding,
                   char out[SCHEMAS_FIELD_MAX + 1])
{
    struct slice name = finding->name;

    if (finding->column != SCHEMA_COLUMN_NONE) {
        name.data = schema_column_name(schema, finding->column);
        name.len = strlen(name.data);
    }
    text_copy_shown(out, SCHEMAS_FIELD_MAX, name, "");
}

static bool schemas_is_field(const struct field *field, const char *name,
                             enum schema_problem problem)
{
    return field->problem == problem && strcmp(field->name, name) == 0;
}

/* The place of a field and problem among the first count; NULL: there is none. */
static struct field *schemas_find(struct stream *of, size_t count, const char *name,
                                  enum schema_problem problem)
{
    for (size_t i = 0; i < count; i++)
        if (schemas_is_field(&of->fields[i], name, problem))
            return &of->fields[i];
    return NULL;
}

/* Whether a new field and problem has a place behind the first count. Members that are missing, and
 * such as no column has, may be many, also of one event: they leave room for values at fault. */
static bool schemas_has_place(const struct stream *of, size_t count, enum schema_problem problem)
{
    size_t most = SCHEMAS_FIELDS_MAX, same = 0;

    if (problem == SCHEMA_MISSING)
        most = MISSING_MAX;
    else if (problem == SCHEMA_UNKNOWN)
        most = UNKNOWN_MAX;
    for (size_t i = 0; i < count; i++)
        same += of->fields[i].problem == problem;
    return count < SCHEMAS_FIELDS_MAX && same < most;
}

bool schemas_count(struct schemas *schemas, size_t stream, const struct schema *schema,
                   const struct schema_finding *finding)
{
    struct stream *of = &schemas->streams[stream];
    /* acquire: pairs with the release below */
    size_t count = atomic_load_explicit(&of->field_count, memory_order_acquire);
    char name[SCHEMAS_FIELD_MAX + 1];
    struct field *field;
    bool fresh = false;

    schemas_field(schema, finding, name);
    field = schemas_find(of, count, name, finding->problem);
    if (field == NULL && name[0] != '\0' && schemas_has_place(of, count, finding->problem)) {
        pthread_mutex_lock(&schemas->lock);
        count = atomic_load_explicit(&of->field_count, memory_order_relaxed);
        field = schemas_find(of, count, name, finding->problem);
        if (field == NULL && schemas_has_place(of, count, finding->problem)) {
            field = &of->fields[count];
            memcpy(field->name, name, sizeof(name));
            field->problem = finding->problem;
            if (finding->column != SCHEMA_COLUMN_NONE) {
                const char *type = schema_column_type(schema, finding->column);

                text_copy_shown(field->type, SCHEMAS_TYPE_MAX, (struct slice){type, strlen(type)},
                                "");
            }
            /* release: pairs with the acquires of whoever reads the fields */
            atomic_store_explicit(&of->field_count, count + 1, memory_order_release);
            fresh = true;
        }
        pthread_mutex_unlock(&schemas->lock);
    }
    atomic_fetch_add_explicit(field != NULL ? &field->events : &of->others[finding->problem], 1,
                              memory_order_relaxed);
    return fresh;
}

size_t schemas_read(const struct schemas *schemas, size_t stream,
                    struct schemas_counted out[SCHEMAS_COUNTED_MAX])
{
    const struct stream *of = &schemas->streams[stream];
    /* acquire: pairs with the release in schemas_count() */
    const size_t count = atomic_load_explicit(&of->field_count, memory_order_acquire);
    size_t n = 0;

    for (size_t i = 0; i < count; i++, n++) {
        memcpy(out[n].field, of->fields[i].name, sizeof(out[n].field));
        memcpy(out[n].type, of->fields[i].type, sizeof(out[n].type));
        out[n].problem = of->fields[i].problem;
        out[n].events = atomic_load_explicit(&of->fields[i].events, memory_order_relaxed);
    }
    for (int problem = 0; problem < SCHEMA_PROBLEMS; problem++) {
        const uint64_t events = atomic_load_explicit(&of->others[problem], memory_order_relaxed);

        if (events > 0)
            out[n++] =
                (struct schemas_counted){.problem = (enum schema_problem)problem, .events = events};
    }
    return n;
}
