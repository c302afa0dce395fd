/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_doctor.c - alloyctl doctor: tries the guarantees where they are to hold.
 *
 * Harmless beside a running alloyd: what it makes has names of its own, which carry the time, so
 * that a later run removes what a killed one has left. INT and TERM end it after the question at
 * hand, and what it made goes first; a second signal kills it.
 *
 * Runs on: main thread. Owns: the findings.
 */
#include "ctl_doctor.h"

#include "ctl_commands.h"
#include "ctl_json.h"

static const struct {
    const char *key;
    const char *text;
    const char *todo;
} untried[] = {
    {"redis.keys", "keys with Redis' prefix hold what an alloyd has written",
     "watch alloy_redis_strange_keys_total, and let nothing else write under redis.key_prefix"},
    {"alloyd.back", "an alloyd that ends is back within redis.ttl",
     "let a supervisor restart it; choose redis.ttl longer than any outage"},
    {"tables.rows", "rows that went in stay in the table while their insert is in doubt",
     "delete no rows between a kill of ClickHouse and alloyd's retry"},
    {"tables.same", "tables and settings of inserts stay the same until a lost answer was retried",
     "change PARTITION BY, or the table under a name, only while alloyd has nothing in flight"},
    {"disk.bytes", "the journal's bytes stay as they were written",
     "watch alloyd's log for *.alj.corrupt"},
    {"disk.power", "the disk keeps through a loss of power what it has said to have synced",
     "only a cut of the power tells; take disks with power-loss protection for sync = always"},
};

static const char *ctl_doctor_word(enum ctl_doctor_verdict verdict)
{
    switch (verdict) {
    case CTL_DOCTOR_HOLDS:
        return "holds";
    case CTL_DOCTOR_FAILS:
        return "does not hold";
    case CTL_DOCTOR_UNKNOWN:
        return "unknown";
    }
    ALLOY_UNREACHABLE("a verdict of no word");
    return "";
}

static size_t ctl_doctor_count(const struct ctl_doctor *doctor, enum ctl_doctor_verdict verdict)
{
    size_t count = 0;

    for (size_t i = 0; i < doctor->count; i++)
        count += doctor->findings[i].verdict == verdict;
    return count;
}

static json_t *ctl_doctor_json(const struct ctl_doctor *doctor)
{
    const size_t fails = ctl_doctor_count(doctor, CTL_DOCTOR_FAILS);
    json_t *list = json_array();

    for (size_t i = 0; i < doctor->count; i++) {
        const struct ctl_doctor_finding *finding = &doctor->findings[i];

        json_array_append_new(
            list, json_pack("{s:o, s:s, s:o, s:o}", "assumption", ctl_json_text(finding->key),
                            "verdict", ctl_doctor_word(finding->verdict), "text",
                            ctl_json_text(finding->text), "todo",
                            finding->todo[0] == '\0' ? json_null() : ctl_json_text(finding->todo)));
    }
    return json_pack("{s:b, s:b, s:o, s:o, s:o, s:o}", "all_hold",
                     fails == 0 && !ctl_doctor_stopped(), "stopped", ctl_doctor_stopped(), "holds",
                     ctl_json_number(ctl_doctor_count(doctor, CTL_DOCTOR_HOLDS)), "does_not_hold",
                     ctl_json_number(fails), "unknown",
                     ctl_json_number(ctl_doctor_count(doctor, CTL_DOCTOR_UNKNOWN)), "assumptions",
                     list);
}

/* What does not hold comes last, where the eye is when the command ends. */
static void ctl_doctor_text(const struct ctl_doctor *doctor, FILE *out)
{
    static const enum ctl_doctor_verdict order[] = {CTL_DOCTOR_HOLDS, CTL_DOCTOR_UNKNOWN,
                                                    CTL_DOCTOR_FAILS};

    for (size_t k = 0; k < ARRAY_LEN(order); k++) {
        for (size_t i = 0; i < doctor->count; i++) {
            const struct ctl_doctor_finding *finding = &doctor->findings[i];

            if (finding->verdict != order[k])
                continue;
            fprintf(out, "%-14s %s: %s\n", ctl_doctor_word(order[k]), finding->key, finding->text);
            if (finding->todo[0] != '\0')
                fprintf(out, "%-14s -> %s\n", "", finding->todo);
        }
    }
    fprintf(out, "\n%zu hold, %zu do not, %zu are not known\n",
            ctl_doctor_count(doctor, CTL_DOCTOR_HOLDS), ctl_doctor_count(doctor, CTL_DOCTOR_FAILS),
            ctl_doctor_count(doctor, CTL_DOCTOR_UNKNOWN));
}

static void ctl_doctor_examine(struct ctl_doctor *doctor)
{
    ctl_doctor_clock_begin();
    ctl_doctor_redis(doctor);
    ctl_doctor_clickhouse(doctor);
    if (!ctl_doctor_stopped())
        ctl_doctor_machine(doctor);
    if (!ctl_doctor_stopped())
        ctl_doctor_clock_end(doctor);
    for (size_t i = 0; i < ARRAY_LEN(untried); i++) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, untried[i].key, "%s", untried[i].text);
        ctl_doctor_todo(doctor, "%s", untried[i].todo);
    }
}

static int ctl_doctor_tell(const struct ctl_doctor *doctor, struct ctl_out out)
{
    int status = EXIT_SUCCESS;

    if (doctor->out_of_memory) {
        fputs("alloyctl: out of memory\n", stderr);
        return EXIT_FAILURE;
    }
    if (out.json)
        status = ctl_print_json(ctl_doctor_json(doctor), out.file);
    else
        ctl_doctor_text(doctor, out.file);
    if (ctl_doctor_stopped()) {
        fputs("alloyctl: stopped; what it had made is removed\n", stderr);
        return EXIT_FAILURE;
    }
    return ctl_doctor_count(doctor, CTL_DOCTOR_FAILS) > 0 ? EXIT_FAILURE : status;
}

static int ctl_doctor_run(const struct ctl_given *given)
{
    struct ctl_doctor doctor = {.findings = NULL};
    struct config *config =
        config_load(ctl_value_or(given, "config", CTL_CONFIG), NULL, 0, 1, stderr);
    int status;

    if (config == NULL)
        return CTL_USAGE;
    doctor.config = config;
    doctor.findings = calloc(CTL_DOCTOR_FINDINGS_MAX, sizeof(doctor.findings[0]));
    ctl_doctor_stop_on_signals();
    ctl_doctor_examine(&doctor);
    status = ctl_doctor_tell(&doctor, given->out);
    free(doctor.findings);
    config_destroy(config);
    return status;
}

static const struct ctl_option ctl_doctor_options[] = {
    CTL_OPTION_CONFIG("the configuration to try (default " CTL_CONFIG ")"), {.name = NULL}};

const struct ctl_command ctl_doctor_command = {
    .name = "doctor",
    .summary = "try the guarantees where they are to hold",
    .help = "Tries each assumption of docs/GUARANTEES.md with the Redis, the ClickHouse and the "
            "disk of the configuration, and prints whether it holds, does not, or is unknown, and "
            "what to do. In Redis it sets and releases a claim; in ClickHouse it makes a table "
            "like each stream's, sends an insert twice, cuts one in the middle, sends a bad row, "
            "and drops the table; on the disk it times syncs.\n\n"
            "It is harmless beside a running alloyd, and removes what it made, also after Ctrl-C. "
            "Run it as alloyd's user: rights and limits are that user's.\n\n"
            "Exit status: 0 when nothing was found that does not hold, 1 when something does not, "
            "2 for a wrong command line or configuration.",
    .options = ctl_doctor_options,
    .run = ctl_doctor_run,
};
