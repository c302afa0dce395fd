/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_verdict.c - what an answer of alloyd says about the events of a request. Pure.
 *
 * Runs on: main thread. Owns: the refusals until ctl_verdict_free().
 */
#include "ctl_verdict.h"

#include <inttypes.h>
#include <string.h>

#include "ctl_json.h"

/* False: the member is missing, or not a number that counts something. */
static bool ctl_verdict_number(const json_t *object, const char *name, uint64_t *number)
{
    const json_t *value = json_object_get(object, name);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

/* Adds the entries of a list that name an event. */
static void ctl_verdict_add(struct ctl_verdict *verdict, const json_t *list)
{
    const size_t count = json_array_size(list);
    struct ctl_refusal *grown =
        count > 0 ? reallocarray(verdict->refusals, verdict->count + count, sizeof(*grown)) : NULL;

    if (grown == NULL)
        return;
    verdict->refusals = grown;
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        const char *message = json_string_value(json_object_get(entry, "message"));
        const char *error = json_string_value(json_object_get(entry, "error"));
        struct ctl_refusal *refusal = &verdict->refusals[verdict->count];

        *refusal =
            (struct ctl_refusal){.duplicate = json_is_true(json_object_get(entry, "duplicate")),
                                 .code = (int)json_integer_value(json_object_get(entry, "code"))};
        if (!ctl_verdict_number(entry, "event", &refusal->event))
            continue;
        snprintf(refusal->message, sizeof(refusal->message), "%s%s%s", error != NULL ? error : "",
                 error != NULL ? ": " : "", message != NULL ? message : "");
        (void)ctl_one_line(refusal->message);
        verdict->count++;
    }
}

static void ctl_verdict_rejected(struct ctl_verdict *verdict, const json_t *body)
{
    const char *sentence = json_string_value(json_object_get(body, "message"));

    verdict->kind = CTL_VERDICT_REJECTED;
    ctl_verdict_add(verdict, json_object_get(body, "rejected"));
    if (sentence == NULL ||
        sscanf(sentence, "ClickHouse rejected %" SCNu64 " of", &verdict->rejected) != 1 ||
        verdict->rejected < verdict->count)
        verdict->rejected = verdict->count;
}

void ctl_verdict_read(struct ctl_verdict *verdict, long status, struct slice body)
{
    json_t *object = json_loadb(body.data, body.len, JSON_ALLOW_NUL, NULL);
    const char *error = json_string_value(json_object_get(object, "error"));
    const json_t *errors = json_object_get(object, "errors");

    *verdict = (struct ctl_verdict){.kind = CTL_VERDICT_NONE};
    verdict->has_counts = ctl_verdict_number(object, "accepted", &verdict->accepted) &&
                          ctl_verdict_number(object, "duplicates", &verdict->duplicates);
    if (status == 422 && error != NULL && strcmp(error, "rejected") == 0)
        ctl_verdict_rejected(verdict, object);
    else if (status == 200 && verdict->has_counts)
        verdict->kind = CTL_VERDICT_IN;
    else if (status == 202 && verdict->has_counts)
        verdict->kind = CTL_VERDICT_PENDING;
    else if (status >= 400 && status < 500 && verdict->has_counts && json_array_size(errors) > 0)
        verdict->kind = CTL_VERDICT_IN; /* every event is listed, or counted, as invalid */
    if (verdict->kind != CTL_VERDICT_NONE) {
        (void)ctl_verdict_number(object, "invalid", &verdict->invalid);
        ctl_verdict_add(verdict, errors);
    }
    json_decref(object);
}

void ctl_verdict_free(struct ctl_verdict *verdict)
{
    free(verdict->refusals);
    verdict->refusals = NULL;
}
