# SPDX-License-Identifier: Apache-2.0
"""clickhouse.insert_rows and insert_linger: few large inserts, and who does not wait for them. "For ever" is a linger that is longer
than the test's deadlines."""

import signal
import time

import pytest

import harness
from conftest import sections_for

WAIT = "/v1/events?ack=clickhouse"
FOR_EVER = "1min"


@pytest.fixture
def lingering(make_alloyd, redis, clickhouse, table):
    def make(linger=FOR_EVER, **more):
        return make_alloyd(sections_for(redis, clickhouse, table, clickhouse={"insert_linger": linger, **more})).start()
    return make


def inserts(alloyd):
    return alloyd.metrics()["alloy_clickhouse_inserts_total"]


def waits(alloyd, n):
    """n events have come to the flusher's lanes, as far as can be seen from outside, and stay there."""
    harness.wait_until(lambda: alloyd.books()["pending"] == n and alloyd.metrics()["alloy_ring_depth"] == 0, f"{n} pending")
    before = inserts(alloyd)
    time.sleep(0.3)  # worker.linger, and more
    assert alloyd.books()["pending"] == n and inserts(alloyd) == before


def reload(alloyd, linger):
    before = alloyd.log().count("configuration reloaded")
    alloyd.sections["clickhouse"]["insert_linger"] = linger
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: alloyd.log().count("configuration reloaded") > before, "the reload")


def test_an_event_waits_for_the_linger_and_no_longer(lingering, clickhouse, table):
    alloyd = lingering("1s")
    started = time.monotonic()
    assert alloyd.post(harness.event("a")).status == 202
    assert alloyd.settled()["inserted"] == 1
    assert time.monotonic() - started >= 1 and clickhouse.count(table) == 1


def test_events_of_one_linger_are_one_insert(lingering, clickhouse, table):
    alloyd = lingering()
    for i in range(10):
        for k in range(3):
            assert alloyd.post(harness.event(f"id-{i}-{k}")).status == 202
        time.sleep(0.06)  # a batch each: worker.linger is 50 ms
    waits(alloyd, 30)
    reload(alloyd, "1ms")
    assert alloyd.settled()["inserted"] == 30
    assert clickhouse.count(table) == 30
    assert inserts(alloyd) == 1


def test_a_full_insert_goes_at_once_and_has_no_more_rows(lingering, clickhouse, table):
    alloyd = lingering(insert_rows="1000")
    body = "\n".join(harness.event(f"id-{i}") for i in range(2600))
    assert alloyd.post(body).status == 202
    harness.wait_until(lambda: alloyd.books()["pending"] < 1000, "all full inserts")
    assert inserts(alloyd) == 2 and clickhouse.count(table) == 2000
    alloyd.drain()
    assert clickhouse.count(table) == 2600


def test_who_waits_for_clickhouse_waits_for_nothing_else(lingering, clickhouse, table):
    alloyd = lingering()
    assert alloyd.post(harness.event("before")).status == 202
    waits(alloyd, 1)
    answer = alloyd.post(harness.event("a"), WAIT, {"Prefer": "wait=30"})
    assert answer.status == 200 and clickhouse.count(table) == 2  # what had gathered went too
    assert inserts(alloyd) == 1
    answer = alloyd.post(harness.event("b") + harness.event("c"), headers={"Prefer": "wait=30"})
    assert answer.status == 200 and clickhouse.count(table) == 4
    assert alloyd.post(harness.event("after")).status == 202
    waits(alloyd, 1)


def test_a_duplicate_calls_what_waits(lingering, clickhouse, table):
    alloyd = lingering()
    for name in ("a", "b"):
        assert alloyd.post(harness.event(name)).status == 202
    waits(alloyd, 2)
    answer = alloyd.post(harness.event("a"), WAIT, {"Prefer": "wait=30"})
    assert (answer.status, answer.json) == (200, {"accepted": 0, "duplicates": 1})
    assert clickhouse.count(table) == 2 and alloyd.settled()["inserted"] == 2


def test_only_the_stream_that_is_waited_for_hurries(make_alloyd, redis, clickhouse, table):
    other = clickhouse.create_events(f"{table}_other")
    sections = sections_for(redis, clickhouse, table, clickhouse={"insert_linger": FOR_EVER})
    sections["stream.other"] = {"table": other}
    alloyd = make_alloyd(sections).start()
    assert alloyd.post(harness.event("a"), "/v1/other").status == 202
    assert alloyd.post(harness.event("a"), WAIT, {"Prefer": "wait=30"}).status == 200
    assert clickhouse.count(other) == 0
    assert alloyd.post(harness.event("a"), "/v1/other?ack=clickhouse", {"Prefer": "wait=30"}).status == 200
    assert clickhouse.count(other) == 1


def test_a_stop_waits_for_nothing(lingering, clickhouse, table):
    alloyd = lingering()
    assert alloyd.post(harness.event("a")).status == 202
    waits(alloyd, 1)
    started = time.monotonic()
    alloyd.drain()
    assert time.monotonic() - started < 30
    assert clickhouse.count(table) == 1


def test_a_kill_while_rows_wait_loses_and_doubles_nothing(lingering, clickhouse, table):
    alloyd = lingering()
    for i in range(50):
        assert alloyd.post(harness.event(f"id-{i}")).status == 202
    waits(alloyd, 50)
    alloyd.kill()
    alloyd.start_and_read()
    assert alloyd.post(harness.event("id-7"), WAIT, {"Prefer": "wait=30"}).status == 200
    alloyd.drain()
    assert clickhouse.count(table) == 50 and clickhouse.count(table, "uniqExact(event_id)") == 50


def test_a_reload_changes_how_long_rows_wait(lingering, clickhouse, table):
    alloyd = lingering()
    assert alloyd.post(harness.event("a")).status == 202
    waits(alloyd, 1)
    reload(alloyd, "0ms")
    assert alloyd.settled()["inserted"] == 1
    reload(alloyd, FOR_EVER)
    assert alloyd.post(harness.event("b")).status == 202
    waits(alloyd, 1)


def test_a_bad_row_waits_only_for_its_insert(lingering, clickhouse, table):
    alloyd = lingering("1s")
    body = "\n".join([harness.event("a"), harness.event("b", ts="no time"), harness.event("c")])
    assert alloyd.post(body).status == 202
    books = alloyd.settled()
    assert books["inserted"] == 2 and books["dead_lettered"] == 1


def test_a_small_journal_does_not_fill_with_what_waits(make_alloyd, redis, clickhouse, table):
    sections = sections_for(redis, clickhouse, table, clickhouse={"insert_linger": FOR_EVER})
    sections["journal"] = {"max_bytes": "2MiB", "segment": "256KiB"}
    alloyd = make_alloyd(sections).start()
    sent = 0
    deadline = time.monotonic() + 60
    while sent < 30_000:
        body = "\n".join(harness.event(f"id-{sent + i}", pad="x" * 200) for i in range(100))
        if alloyd.post(body).status == 202:
            sent += 100
        assert time.monotonic() < deadline, f"only {sent} events were taken"
    alloyd.drain()
    assert clickhouse.count(table) == sent
