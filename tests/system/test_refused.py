# SPDX-License-Identifier: Apache-2.0
"""An event that Alloy or ClickHouse has refused leaves its id free: the corrected event is new."""

import json
import random
import signal
import subprocess

import pytest

import harness
from conftest import sections_for
from test_kill_points import KILL_BUILD

BAD_TIME = "yesterday, more or less"


def refuse(alloyd, event_id, dead=1):
    """Sends an event that ClickHouse refuses and waits until it is dead-lettered."""
    assert alloyd.post(harness.event(event_id, ts=BAD_TIME)).json == {"accepted": 1, "duplicates": 0}
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] == dead, "dead-lettered")


def test_a_corrected_event_is_new(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    refuse(alloyd, "a")
    assert alloyd.post(harness.event("a")).json == {"accepted": 1, "duplicates": 0}
    books = alloyd.settled()
    assert (books["inserted"], books["duplicate_l2"], books["dead_lettered"]) == (1, 0, 1)
    assert clickhouse.count(table) == 1
    assert alloyd.post(harness.event("a")).json == {"accepted": 0, "duplicates": 1}


def test_a_corrected_event_is_new_to_another_alloyd(make_alloyd, redis, clickhouse, table):
    first, second = [make_alloyd(sections_for(redis, clickhouse, table)).start() for _ in range(2)]
    refuse(first, "a")
    assert second.post(harness.event("a")).json == {"accepted": 1, "duplicates": 0}
    books = second.settled()
    assert (books["inserted"], books["duplicate_l2"]) == (1, 0)
    assert clickhouse.count(table) == 1


def test_a_corrected_event_is_new_after_a_kill(make_alloyd, redis, clickhouse, table):
    sections = sections_for(redis, clickhouse, table,
                            stream__lost={"path": "/v1/lost", "table": "default.never_there", "id": "event_id"})
    sections["server"] = {"threads": 1}
    sections["drain"] = {"timeout": "1s"}
    alloyd = make_alloyd(sections).start(ready=False)
    assert alloyd.post(harness.event("keeps the segment"), "/v1/lost").status == 202
    assert alloyd.post(harness.event("known")).status == 202
    refuse(alloyd, "a")
    alloyd.kill()
    alloyd.start(ready=False)
    assert alloyd.post(harness.event("a")).json == {"accepted": 1, "duplicates": 0}
    assert alloyd.post(harness.event("known")).json == {"accepted": 0, "duplicates": 1}
    assert alloyd.settled()["inserted"] >= 1
    assert clickhouse.count(table) == 2


def test_a_kill_right_after_the_letter_is_written_does_not_double_it(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table))
    alloyd.build = KILL_BUILD
    alloyd.start(env={"ALLOY_KILL_POINT": "dead_letter_written:1"})
    assert alloyd.post(harness.event("a", ts=BAD_TIME)).status == 202
    harness.wait_until(lambda: not alloyd.alive(), "death")
    assert alloyd.popen.returncode == -signal.SIGKILL
    alloyd.start()
    assert alloyd.settled()["dead_lettered"] == 1
    letters = [f.read_text() for f in alloyd.sections["dead_letter"]["dir"].glob("*.ndjson")]
    assert [text.count("\n") for text in letters] == [1]


WINDOW = "SETTINGS non_replicated_deduplication_window = 10000"


def into(make_alloyd, redis, clickhouse, table):
    return make_alloyd(sections_for(redis, clickhouse, table, server={"threads": 1}, clickhouse={"retry_max": "500ms"})).start()


def values(good, bad=None, n=20):
    return "\n".join(json.dumps({"event_id": f"e{i}", "v": bad if i == 7 and bad is not None else good}) for i in range(n))


@pytest.mark.parametrize("column, good, bad", [
    ("v UUID", "550e8400-e29b-41d4-a716-446655440000", "nope"),
    ("v IPv4", "1.2.3.4", "nope"),
    ("v IPv6", "::1", "nope"),
    ("v Enum8('a' = 1)", "a", "zz"),
    ("v Decimal(9, 2)", "1.5", "99999999999"),
    ("v Array(UInt8)", [1], ["x"]),
    ("v Map(String, UInt8)", {"a": 1}, {"a": "x"}),
    ("v UInt8, m UInt8 MATERIALIZED intDiv(10, v)", 1, 0),
    ("v UInt8, m UInt8 MATERIALIZED throwIf(v = 1)", 0, 1),
    ("v String, m String MATERIALIZED formatDateTime(now(), '%Y', v)", "UTC", "No/Zone"),
    ("v String, m UInt8 MATERIALIZED match('a', v)", "a", "("),
    ("v UInt8, CONSTRAINT small CHECK v < 5", 1, 9),
])
def test_a_value_that_a_column_does_not_take_costs_its_row_alone(make_alloyd, redis, own_clickhouse, column, good, bad):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, {column}) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values(good, bad)).status == 202
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (19, 1)
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 19
    # Not one of the inserts that were tried did anything but what it was for.
    assert alloyd.post(values(good)).json == {"accepted": 1, "duplicates": 19}
    alloyd.settled()
    assert own_clickhouse.count("default.t") == 20


def test_a_row_refused_in_one_partition_leaves_nothing_in_the_others(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query("CREATE TABLE default.t (event_id String, v String, INDEX i toUInt8(v) TYPE minmax) ENGINE = MergeTree "
                         f"PARTITION BY cityHash64(event_id) % 4 ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values("1", "x", 100)).status == 202
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (99, 1)
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 99


def test_a_row_that_a_view_refuses_is_in_the_table_once(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, v String) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    own_clickhouse.query(f"CREATE TABLE default.sums (n UInt8) ENGINE = MergeTree ORDER BY n {WINDOW}")
    own_clickhouse.query("CREATE MATERIALIZED VIEW default.adder TO default.sums AS SELECT toUInt8(v) AS n FROM default.t")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values("1", "x")).status == 202
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (20, 0)
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 20
    assert alloyd.metrics()["alloy_clickhouse_view_errors_total"] == 1
    reason, = alloyd.admin("/readyz").json["reasons"]
    assert reason["key"] == "clickhouse.events.view" and "default.t" in reason["text"] and not reason["blocking"]
    assert alloyd.post('{"event_id":"later","v":"1"}').status == 202
    alloyd.settled()
    assert own_clickhouse.count("default.sums") == 1


LONG = "x" * 20000


@pytest.mark.parametrize("target, good, bad", [
    ("n UInt8", "1", LONG),  # the message quotes it, and only then says that a view was at work
    ("n UInt8", "1", "x while pushing to view y"),
])
def test_what_an_event_says_is_not_taken_for_what_clickhouse_says(make_alloyd, redis, own_clickhouse, target, good, bad):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, v String) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    own_clickhouse.query(f"CREATE TABLE default.sums ({target}) ENGINE = MergeTree ORDER BY n {WINDOW}")
    own_clickhouse.query("CREATE MATERIALIZED VIEW default.adder TO default.sums AS SELECT toUInt8(v) AS n FROM default.t")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values(good, bad)).status == 202
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (20, 0)
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 20


@pytest.mark.parametrize("column, good, bad", [
    ("v UInt8", 1, "x while pushing to view y"),
    ("v UInt8", 1, LONG),
    ("v String, m String MATERIALIZED formatDateTime(now(), '%Y', v)", "UTC", LONG),
    ("v String, CONSTRAINT short CHECK length(v) < 5", "1", "1 while pushing to view y"),
])
@pytest.mark.parametrize("view", [False, True])
def test_a_bad_row_is_found_whatever_it_says(make_alloyd, redis, own_clickhouse, column, good, bad, view):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, {column}) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    own_clickhouse.query(f"CREATE TABLE default.ids (event_id String) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    if view:
        own_clickhouse.query("CREATE MATERIALIZED VIEW default.lister TO default.ids AS SELECT event_id FROM default.t")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values(good, bad)).status == 202
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (19, 1)
    for name in ["default.t"] + ["default.ids"] * view:
        assert own_clickhouse.count(name) == own_clickhouse.count(name, "uniqExact(event_id)") == 19, name
    assert alloyd.admin("/readyz").json["reasons"] == []


def test_a_view_with_too_many_partitions_does_not_double_the_table(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, v UInt32) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    own_clickhouse.query(f"CREATE TABLE default.parts (event_id String, v UInt32) ENGINE = MergeTree ORDER BY event_id PARTITION BY v {WINDOW}")
    own_clickhouse.query("CREATE MATERIALIZED VIEW default.cutter TO default.parts AS SELECT event_id, v FROM default.t")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post("\n".join(json.dumps({"event_id": f"e{i}", "v": i}) for i in range(250))).status == 202
    assert alloyd.settled()["inserted"] == 250
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 250


def mixed(good, bad, good_count, bad_count):
    rows = [(f"good{i}", good) for i in range(good_count)] + [(f"bad{i}", bad) for i in range(bad_count)]
    random.Random(1).shuffle(rows)
    return [json.dumps({"event_id": event_id, "v": v}) for event_id, v in rows]


def post_all(alloyd, rows, at_once=1000):
    for at in range(0, len(rows), at_once):
        assert alloyd.post("\n".join(rows[at:at + at_once])).status == 202


def test_a_code_that_is_not_known_costs_its_row_alone(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query("CREATE TABLE default.t (event_id String, v Int32, m UInt8 MATERIALIZED bitTest(5, v)) "
                         f"ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values(1, -1)).status == 202
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (19, 1)
    assert own_clickhouse.count("default.t") == 19
    harness.wait_until(lambda: alloyd.reasons() == {}, alloyd.reasons)


def test_an_insert_is_made_as_small_as_the_memory_limit_wants(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query("CREATE TABLE default.t (event_id String, v UInt64, m String MATERIALIZED repeat('x', v * 1000)) "
                         f"ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.t", clickhouse={
        "retry_max": "500ms", "setting.max_memory_usage": "50000000"})).start()
    post_all(alloyd, mixed(10, 100000, 2000, 1))  # 20 MB altogether, and one row of 100 MB
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (2000, 1)
    assert own_clickhouse.count("default.t") == 2000


def test_a_view_of_a_table_that_stores_nothing_refuses_its_row_alone(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query("CREATE TABLE default.t (event_id String, v String) ENGINE = Null")
    own_clickhouse.query(f"CREATE TABLE default.kept (event_id String, n UInt8) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    own_clickhouse.query("CREATE MATERIALIZED VIEW default.keeper TO default.kept AS SELECT event_id, toUInt8(v) AS n FROM default.t")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    post_all(alloyd, mixed("1", "x", 2000, 1))
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (2000, 1)
    assert own_clickhouse.count("default.kept") == 2000


def test_what_every_row_is_refused_for_costs_none(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query("CREATE TABLE default.t (event_id String, v UInt8, m UInt8 MATERIALIZED throwIf(1)) "
                         f"ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values(1, n=50)).status == 202
    reason = alloyd.told("clickhouse.events.refuses")
    assert "alloyctl bury events" in reason["text"]
    own_clickhouse.query("ALTER TABLE default.t DROP COLUMN m")
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (50, 0)
    assert own_clickhouse.count("default.t") == 50
    harness.wait_until(lambda: alloyd.reasons() == {}, alloyd.reasons)


@pytest.mark.parametrize("definition", [
    "m UInt8 MATERIALIZED intDiv(1, length(v) * 0)",
    "m UInt8 MATERIALIZED toUInt8(concat('x', v))",
    "m Date MATERIALIZED toDate(substring(v, 100))",
    "CONSTRAINT long CHECK length(v) > 1000",
])
def test_a_column_that_can_never_be_filled_costs_no_row(make_alloyd, redis, own_clickhouse, definition):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, v String, {definition}) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values("good", n=50)).status == 202
    alloyd.told("clickhouse.events.refuses")
    assert alloyd.books()["dead_lettered"] == 0
    own_clickhouse.query("ALTER TABLE default.t DROP " + ("CONSTRAINT long" if "CONSTRAINT" in definition else "COLUMN m"))
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (50, 0)
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 50


def test_a_few_bad_values_are_letters_though_the_table_has_no_row_yet(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, v UInt8, m UInt8 MATERIALIZED intDiv(10, v)) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values(0, n=5)).status == 202
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] == 5, "dead-lettered")
    assert alloyd.settled()["pending"] == 0


@pytest.mark.parametrize("engine", ["Memory", "Log", "MergeTree ORDER BY event_id"])
def test_a_view_doubles_no_row_of_a_table_that_knows_no_tokens(make_alloyd, redis, own_clickhouse, engine):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, v String) ENGINE = {engine}")
    own_clickhouse.query("CREATE TABLE default.kept (event_id String, n UInt8) ENGINE = MergeTree ORDER BY event_id")
    own_clickhouse.query("CREATE MATERIALIZED VIEW default.mv TO default.kept AS SELECT event_id, toUInt8(v) AS n FROM default.t")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    alloyd.told("clickhouse.events.window")
    assert alloyd.post(values("1", "x")).status == 202
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (20, 0)
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 20
    assert "clickhouse.events.view" in alloyd.reasons()


def test_a_backlog_of_an_outage_is_halved_where_it_is_too_large(make_alloyd, redis, own_clickhouse):
    """Nothing was sent while nobody listened, so that the inserts are not in doubt."""
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, v UInt32) ENGINE = MergeTree ORDER BY event_id PARTITION BY v % 100 {WINDOW}")
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.t", server={"threads": 1}, clickhouse={
        "retry_max": "300ms", "setting.max_partitions_per_insert_block": "20"})).start()
    own_clickhouse.kill()
    rows = "\n".join(json.dumps({"event_id": f"e{i}", "v": i}) for i in range(100))
    assert alloyd.post(rows).status == 202
    harness.wait_until(lambda: alloyd.metrics()['alloy_clickhouse_errors_total{class="retry"}'] > 2, "tries in vain")
    own_clickhouse.start()
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (100, 0)
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 100


def test_a_stream_whose_events_were_let_go_takes_traffic_again(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query("CREATE TABLE default.t (event_id String, v UInt8, m UInt8 MATERIALIZED throwIf(1)) "
                         f"ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values(1, n=50)).status == 202
    harness.wait_until(lambda: alloyd.admin("/readyz").status == 503, "the only stream is stuck")
    subprocess.run([harness.BUILD / "alloyctl", "bury", "events", "--admin", f"http://127.0.0.1:{alloyd.admin_port}"], check=True)
    assert alloyd.settled()["dead_lettered"] == 50
    # A balancer that went by 503 would never send the event that shows the table to be well.
    harness.wait_until(alloyd.readyz, "ready")
    assert "are dead letters now" in alloyd.told("clickhouse.events.refuses")["text"]
    own_clickhouse.query("ALTER TABLE default.t DROP COLUMN m")
    assert alloyd.post('{"event_id":"later","v":1}').status == 202
    assert alloyd.settled()["inserted"] == 1
    harness.wait_until(lambda: alloyd.reasons() == {}, alloyd.reasons)


def test_good_rows_do_not_wait_for_bad_ones(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, v DateTime64(3)) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    post_all(alloyd, mixed("2026-01-01T00:00:00Z", "yesterday", 100, 20000))
    harness.wait_until(lambda: own_clickhouse.count("default.t") == 100, "good rows", 15)
    # The table takes rows, so a stream of bad ones is no reason to send traffic elsewhere.
    # The reason says so, and names the client, not the table.
    harness.wait_until(lambda: "Correct the client" in alloyd.reason_text("clickhouse.events.refuses"), "told", 30)
    assert alloyd.admin("/readyz").status == 200
    assert alloyd.post('{"event_id":"later","v":"2026-01-01T00:00:00Z"}').status == 202
    harness.wait_until(lambda: own_clickhouse.count("default.t") == 101, "a later good row", 15)
    alloyd.kill()


DRAW = random.Random(3)


@pytest.mark.parametrize("column, good, bad", [
    ("v DateTime64(3)", lambda: "2026-01-01T00:00:00Z", lambda: "2026-99-99T00:00:00Z"),
    ("v UInt32, CONSTRAINT small CHECK v < 5000", lambda: DRAW.randrange(1000, 5000), lambda: DRAW.randrange(5000, 10000)),
    ("v Enum8('red' = 1, 'green' = 2, 'blue' = 3)", lambda: DRAW.choice(["red", "green", "blue"]), lambda: "rad"),
])
def test_good_rows_that_look_like_bad_ones_do_not_wait_for_them(make_alloyd, redis, own_clickhouse, column, good, bad):
    own_clickhouse.query(f"CREATE TABLE default.t (event_id String, {column}) ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    rows = [("good", good()) for _ in range(100)] + [("bad", bad()) for _ in range(10000)]
    DRAW.shuffle(rows)
    post_all(alloyd, [json.dumps({"event_id": f"{kind}{i}", "v": v}) for i, (kind, v) in enumerate(rows)])
    harness.wait_until(lambda: own_clickhouse.count("default.t") == 100, "good rows", 30)
    # Without learning by what they differ, half of the bad ones would have been tried by now.
    assert alloyd.books()["dead_lettered"] < 1500
    alloyd.kill()


@pytest.mark.parametrize("limit", [{"timeout": "1s"}, {"setting.max_execution_time": "1"}])
def test_an_insert_that_takes_too_long_goes_in(make_alloyd, redis, own_clickhouse, limit):
    own_clickhouse.query("CREATE TABLE default.t (event_id String, v UInt8, m UInt8 MATERIALIZED sleepEachRow(0.002)) "
                         f"ENGINE = MergeTree ORDER BY event_id {WINDOW}")
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.t", clickhouse={
        "setting.function_sleep_max_microseconds_per_block": "100000000", **limit})).start()
    post_all(alloyd, mixed(1, 1, 2000, 0))
    assert alloyd.settled()["inserted"] == 2000
    assert own_clickhouse.count("default.t") == own_clickhouse.count("default.t", "uniqExact(event_id)") == 2000
    # That an insert had no answer for some seconds is taken back a moment after its answer.
    harness.wait_until(lambda: alloyd.reasons() == {}, alloyd.reasons)


def test_a_table_without_the_events_columns_is_told(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query(f"CREATE TABLE default.t (x UInt8) ENGINE = MergeTree ORDER BY x {WINDOW}")
    alloyd = into(make_alloyd, redis, own_clickhouse, "default.t")
    assert alloyd.post(values("v")).status == 202
    assert alloyd.settled()["inserted"] == 20
    reason = alloyd.told("clickhouse.events.columns")
    assert alloyd.admin("/readyz").status == 200 and not reason["blocking"]
    assert "event_id, v" in reason["text"] and ": x. Run ALTER TABLE" in reason["text"]
    assert alloyd.log().count("table is not as it should be") == 1
    own_clickhouse.query("ALTER TABLE default.t ADD COLUMN event_id String, ADD COLUMN v String, MODIFY COLUMN x DEFAULT 1")
    harness.wait_until(lambda: alloyd.reasons() == {}, "the reason to go")
