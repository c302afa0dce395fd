# SPDX-License-Identifier: Apache-2.0
"""What Alloy or ClickHouse has refused leaves its id free: the corrected event is new."""

import signal

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
