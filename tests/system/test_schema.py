# SPDX-License-Identifier: Apache-2.0
"""Events beside the columns of the live table: told, or refused, with the real engine."""

import json
import re

import pytest

import harness
from conftest import sections_for

TABLE = """CREATE TABLE {} (event_id String, n Int32 DEFAULT 0, at DateTime64(3) DEFAULT now64(3), kind Enum8('a' = 1, 'b' = 2) DEFAULT 'a',
    tags Array(UInt8), maybe Nullable(UInt8), address Nullable(IPv6), twice Int64 MATERIALIZED n * 2, raw String EPHEMERAL,
    shout String DEFAULT upper(raw)) ENGINE = MergeTree ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100"""
LENIENT = {"Prefer": "handling=lenient"}


@pytest.fixture
def table(clickhouse, request):
    name = "default.schema_" + re.sub(r"\W", "_", request.node.name)
    clickhouse.query(f"DROP TABLE IF EXISTS {name}")
    clickhouse.query(TABLE.format(name))
    return name


def start(make_alloyd, clickhouse, table, sections=None, **stream):
    made = sections_for(None, clickhouse, table)
    made["stream.events"] |= stream
    for section, keys in (sections or {}).items():
        made.setdefault(section, {}).update(keys)
    return make_alloyd(made).start()


def event(event_id, **fields):
    return json.dumps({"event_id": event_id, "tags": [], **fields})


def mismatches(alloyd, stream="events"):
    """{(field, problem): events}"""
    found = {}
    for name, value in alloyd.metrics().items():
        row = re.fullmatch(r'alloy_schema_mismatches_total\{stream="(.*?)",field="(.*)",problem="(\w+)"\}', name)
        if row and row[1] == stream:
            found[row[2], row[3]] = int(value)
    return found


def test_what_does_not_fit_is_counted_and_told_once(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, schema="warn")

    def known():
        alloyd.post(event("first", eventType="x"))
        return mismatches(alloyd)
    harness.wait_until(known, "the columns are known")
    before = mismatches(alloyd)["eventType", "unknown"]
    for i in range(3):
        answer = alloyd.post(event(f"e{i}", n=2 ** 31, at=1769860800, eventType="secret-value", twice=1, maybe=None))
        assert answer.status == 202
    assert alloyd.post('{"event_id":"lacks"}').status == 202
    assert mismatches(alloyd) == {("eventType", "unknown"): before + 3, ("n", "range"): 3, ("at", "unit"): 3,
                                  ("twice", "not_stored"): 3, ("tags", "missing"): 1}
    listed = alloyd.admin("/stats").json["schema_mismatches"]
    assert {"stream": "events", "field": "n", "type": "Int32", "problem": "range", "events": 3} in listed
    assert {"stream": "events", "field": "eventType", "type": "", "problem": "unknown", "events": before + 3} in listed
    log = alloyd.log()
    assert len(re.findall('do not fit their table.*field="?eventType"? problem=unknown', log)) == 1
    assert len(re.findall('do not fit their table.*field="?n"? problem=range', log)) == 1
    assert "secret-value" not in log and "2147483648" not in log
    assert alloyd.settled()["inserted"] == 5


def test_warn_is_what_happens_unless_told_otherwise(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table)
    harness.wait_until(lambda: alloyd.post(event("a", x=1)).status == 202 and mismatches(alloyd), "the columns are known")


def test_off_does_nothing(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, schema="off")
    for i in range(20):
        assert alloyd.post(event(f"e{i}", n=1.5 if i == 0 else 1, x=1)).status == 202
    harness.wait_until(lambda: alloyd.books()["inserted"] == 19, "the good ones are in")
    assert mismatches(alloyd) == {}


BAD = [
    ({"n": 5000000000}, "n", "Int32", "the number 5000000000"),
    ({"n": -2 ** 31 - 1}, "n", "Int32", "the number -2147483649"),
    ({"n": 1.5}, "n", "Int32", "the number 1.5"),
    ({"n": "twelve"}, "n", "Int32", 'the string "twelve"'),
    ({"n": [1]}, "n", "Int32", "an array"),
    ({"n": {"a": 1}}, "n", "Int32", "an object"),
    ({"at": 1769860800}, "at", "DateTime64(3)", "the number 1769860800"),
    ({"at": "yesterday"}, "at", "DateTime64(3)", 'the string "yesterday"'),
    ({"kind": "c"}, "kind", "Enum8('a' = 1, 'b' = 2)", 'the string "c"'),
    ({"kind": 9}, "kind", "Enum8('a' = 1, 'b' = 2)", "the number 9"),
    ({"tags": "a"}, "tags", "Array(UInt8)", 'the string "a"'),
    ({"tags": [1, 256]}, "tags", "Array(UInt8)", "the number 256"),
    ({"tags": None}, "tags", "Array(UInt8)", "null"),
    ({"maybe": 256}, "maybe", "Nullable(UInt8)", "the number 256"),
    ({"address": "1.2.3.4.5"}, "address", "Nullable(IPv6)", 'the string "1.2.3.4.5"'),
]


def test_refuse_says_which_event_and_why(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, schema="refuse")
    for i, (fields, column, kind, got) in enumerate(BAD):
        body = event(f"good{i}") + "\n" + event(f"bad{i}", **fields)
        answer = alloyd.post(body)
        assert answer.status == 422, (fields, answer)
        said = answer.json
        assert {k: said[k] for k in ("error", "event", "column", "type", "got")} == {
            "error": "schema_mismatch", "event": 1, "column": column, "type": kind, "got": got}, said
        assert f'"{column}"' in said["message"] and kind in said["message"] and said["message"].endswith(".")
        assert body.encode()[said["offset"]:said["offset"] + 1] in b'"-[{n0123456789'
    # Nothing of these requests is kept.
    assert alloyd.books()["accepted"] == 0
    metrics = alloyd.metrics()
    assert metrics['alloy_http_refused_total{stream="events",code="422",error="schema_mismatch"}'] == len(BAD)
    notes = alloyd.admin("/stats").json["refusals"]
    assert "twelve" not in json.dumps(notes) and "schema_mismatch" in json.dumps(notes)
    assert alloyd.post(event("good", n=1, at="2026-01-31T10:00:00Z", kind="b", maybe=None, x=1)).status == 202
    assert alloyd.settled()["inserted"] == 1


def test_lenient_refuses_the_bad_ones_alone(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, schema="refuse")
    body = "\n".join([event("a"), event("b", n=1.5), event("c"), event("d", n=None), event("e", n="x")])
    said = alloyd.post(body, headers=LENIENT)
    assert said.status == 202
    said = said.json
    assert (said["accepted"], said["invalid"]) == (3, 2)
    assert [(e["event"], e["error"], e["column"], e["type"], e["got"]) for e in said["errors"]] == [
        (1, "schema_mismatch", "n", "Int32", "the number 1.5"), (4, "schema_mismatch", "n", "Int32", 'the string "x"')]
    assert [body[e["offset"]:][:3] for e in said["errors"]] == ["1.5", '"x"']
    all_bad = alloyd.post("[" + event("f", n=1.5) + "," + event("g", kind="z") + "]", headers=LENIENT)
    assert all_bad.status == 400 and all_bad.json["invalid"] == 2
    assert all_bad.json["errors"][1]["column"] == "kind"
    assert alloyd.settled()["inserted"] == 3


def test_unknown_and_missing_are_refused_where_that_is_wanted(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, schema="refuse", on_unknown="refuse", on_missing="refuse")
    said = alloyd.post(event("a", eventType="x"))
    assert said.status == 422
    assert said.json["column"] == "eventType" and "type" not in said.json and "eventType" in said.json["message"]
    assert alloyd.post(event("b", twice=1)).json["column"] == "twice"
    said = alloyd.post('{"event_id":"c"}').json
    assert (said["column"], said["got"]) == ("tags", "nothing")
    assert alloyd.post(event("d")).status == 202


def test_large_bodies_are_checked_too(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, schema="refuse")
    good = [event(f"e{i}", maybe=1) for i in range(30000)]
    said = alloyd.post("\n".join(good[:29990] + [event("bad", n=1.5)] + good[29990:]))
    assert said.status == 422 and said.json["event"] == 29990
    said = alloyd.post("\n".join(good[:29990] + [event("bad", n=1.5)] + good[29990:]), headers=LENIENT).json
    assert (said["accepted"], said["invalid"]) == (30000, 1)
    assert alloyd.settled()["inserted"] == 30000


def test_a_column_that_is_added_or_widened_is_known_soon(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, schema="refuse", on_unknown="refuse")
    assert alloyd.post(event("a", extra=1)).status == 422
    assert alloyd.post(event("b", maybe=256)).status == 422
    clickhouse.query(f"ALTER TABLE {table} ADD COLUMN extra UInt8")
    harness.wait_until(lambda: alloyd.post(event("a", extra=1)).status == 202, "the new column is known", 10)
    clickhouse.query(f"ALTER TABLE {table} MODIFY COLUMN maybe Nullable(UInt16)")
    harness.wait_until(lambda: alloyd.post(event("b", maybe=256, extra=1)).status == 202, "the new type is known", 10)
    assert alloyd.settled()["inserted"] == 2


def test_an_ephemeral_column_feeds_the_default_that_needs_it(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table)
    alloyd.post(event("a", raw="loud") + event("b", shout="own") + event("c"))
    assert alloyd.settled()["inserted"] == 3
    assert clickhouse.rows(f"SELECT event_id, shout FROM {table} ORDER BY event_id") == [["a", "LOUD"], ["b", "own"], ["c", ""]]
    clickhouse.query(f"ALTER TABLE {table} DROP COLUMN address")
    alloyd.post(event("d", raw="on"))
    assert alloyd.settled()["inserted"] == 4
    assert clickhouse.rows(f"SELECT shout FROM {table} WHERE event_id = 'd'") == [["ON"]]


def test_while_clickhouse_is_away_events_pass(make_alloyd, own_clickhouse, request):
    own_clickhouse.query(TABLE.format("default.away"))
    alloyd = start(make_alloyd, own_clickhouse, "default.away", {"drain": {"timeout": "1s"}}, schema="refuse")
    assert alloyd.post(event("a", n=1.5)).status == 422
    own_clickhouse.kill()
    alloyd.post(event("b"))
    harness.wait_until(lambda: alloyd.post(event("c", n="x")).status == 202, "it is noticed")
    alloyd.allow_exit = {0, 1}
    own_clickhouse.start()
    harness.wait_until(lambda: alloyd.post(event("d", n=1.5)).status == 422, "the columns are known again")


def test_a_table_that_is_not_there_checks_nothing(make_alloyd, clickhouse):
    made = sections_for(None, clickhouse, "default.nowhere")
    made["stream.events"]["schema"] = "refuse"
    made["drain"] = {"timeout": "1s"}
    alloyd = make_alloyd(made).start(ready=False)
    assert alloyd.post(event("a", n=1.5)).status == 202
    clickhouse.query(TABLE.format("default.nowhere"))
    harness.wait_until(lambda: alloyd.post(event("b", n=1.5)).status == 422, "the columns are known")
    clickhouse.query("DROP TABLE default.nowhere")
    alloyd.allow_exit = {0, 1}


def test_envelopes_pointers_and_added_columns(make_alloyd, clickhouse):
    name = "default.schema_envelope"
    clickhouse.query(f"DROP TABLE IF EXISTS {name}")
    clickhouse.query(f"CREATE TABLE {name} (a String, sent String, by String, context Map(String, String), v UInt8) ENGINE = MergeTree "
                     "ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
    alloyd = start(make_alloyd, clickhouse, name, schema="refuse", on_missing="refuse", events="batch", id="a,/context/id",
                   **{"column.by": "path", "column.sent": "envelope:sentAt"})
    batch = {"sentAt": "now", "batch": [{"a": "1", "context": {"id": "x"}, "v": 1}, {"a": "2", "context": {"id": "y"}, "v": 256}]}
    said = alloyd.post(json.dumps(batch))
    assert said.status == 422 and (said.json["event"], said.json["column"]) == (1, "v")
    batch["batch"][1]["v"] = 2
    assert alloyd.post(json.dumps(batch)).json["accepted"] == 2
    del batch["batch"][0]["v"]
    batch["batch"][0]["a"] = "3"
    assert alloyd.post(json.dumps(batch)).json["column"] == "v"
    assert alloyd.settled()["inserted"] == 2
    assert clickhouse.rows(f"SELECT a, sent, v FROM {name} ORDER BY a") == [["1", "now", 1], ["2", "now", 2]]


def test_of_many_fields_some_are_told_apart(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, schema="refuse")
    body = json.dumps({"event_id": "a", "tags": [], **{f"field {i} \" \\ \n é": i for i in range(50)}})
    assert alloyd.post(body).status == 202
    found = mismatches(alloyd)
    assert sum(found.values()) == 50 and found["", "unknown"] == 18 and len(found) == 33
    assert len(re.findall("do not fit their table", alloyd.log())) == 32


def test_members_that_are_missing_leave_room_for_values_at_fault(make_alloyd, clickhouse, table):
    clickhouse.query(f"DROP TABLE {table}")
    clickhouse.query(f"CREATE TABLE {table} (event_id String, {', '.join(f'm{i} Array(UInt8)' for i in range(40))}, n Int8 DEFAULT 0) "
                     "ENGINE = MergeTree ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100")
    alloyd = start(make_alloyd, clickhouse, table)

    def known():
        alloyd.post(json.dumps({"event_id": "first", **{f"u{i}": 1 for i in range(40)}}))
        return mismatches(alloyd)
    harness.wait_until(known, "the columns are known")
    assert alloyd.post('{"event_id":"b","n":1000}').status == 202
    found = mismatches(alloyd)
    assert found["n", "range"] == 1
    named = [problem for field, problem in found if field]
    assert named.count("missing") == 8 and named.count("unknown") == 32
    assert found["", "missing"] > 0 and found["", "unknown"] > 0


def test_a_setting_that_changes_what_values_mean_is_heeded(make_alloyd, clickhouse, table):
    alloyd = start(make_alloyd, clickhouse, table, {"clickhouse": {"setting.date_time_input_format": "basic"}}, schema="refuse")
    assert alloyd.post(event("a", at="yesterday")).status == 202  # who knows what that is
    assert alloyd.post(event("b", n=1.5)).status == 422
