# SPDX-License-Identifier: Apache-2.0
"""What a new life does with what an earlier one has left."""

import signal

import pytest

import harness
from conftest import sections_for
from test_kill_points import KILL_BUILD


def test_a_drain_waits_until_everything_is_replayed(make_alloyd, redis, own_clickhouse):
    n = 5000
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", ring={"capacity": 200},
                                      worker={"linger": "20ms", "batch": 100})).start()
    own_clickhouse.kill()
    for first in range(0, n, 100):
        body = "\n".join(harness.event(f"id-{i}") for i in range(first, first + 100))
        harness.wait_until(lambda: alloyd.post(body).status == 202, "202")
    alloyd.kill()
    own_clickhouse.start()
    redis.command("FLUSHALL")  # whoever was claimed has to be claimed again
    alloyd.start(ready=False)
    assert alloyd.drain() == 0
    assert "events_left" not in alloyd.log(), alloyd.log()[-2000:]
    assert own_clickhouse.count("default.events") == own_clickhouse.count("default.events", "uniqExact(event_id)") == n


def test_without_redis_an_id_twice_in_a_turn_that_is_cut_short_gives_one_row(make_alloyd, clickhouse, table):
    alloyd = make_alloyd(sections_for(None, clickhouse, table))
    alloyd.build = KILL_BUILD
    alloyd.start(env={"ALLOY_KILL_POINT": "admission_synced:1"})
    body = "\n".join(harness.event(i) for i in ("a", "b", "a"))
    with pytest.raises((OSError, harness.http.client.HTTPException)):
        alloyd.post(body)
    harness.wait_until(lambda: not alloyd.alive(), "death")
    assert alloyd.popen.returncode == -signal.SIGKILL
    alloyd.start()
    # Which of the records is the event depends on whether replay or this request came first.
    assert sum(alloyd.post(body).json.values()) == 3
    assert alloyd.settled()["inserted"] == 2
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") == 2
