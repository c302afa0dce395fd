# SPDX-License-Identifier: Apache-2.0
"""A plain MergeTree that is killed between token and part knows an insert and lacks its rows: alloyd finds out.

The kill is made exact here: the insert goes in, its answer is swallowed, ClickHouse is killed, and the part is taken
from its disk, while the log of tokens keeps the token."""

import json
import pathlib
import shutil
import signal
import sys

import pytest

import harness
from conftest import sections_for
from test_kill_points import KILL_BUILD

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))
from proxy import Proxy  # noqa: E402

LOST = "alloy_clickhouse_lost_inserts_total"
WINDOW = "SETTINGS non_replicated_deduplication_window = 1000"


@pytest.fixture
def proxy(own_clickhouse):
    proxy = Proxy(own_clickhouse.port)
    yield proxy
    proxy.close()


def make(make_alloyd, redis, clickhouse, proxy, table="default.events", event_id="event_id", **keys):
    sections = sections_for(redis, clickhouse, table, clickhouse={"url": proxy.url, "retry_max": "300ms", **keys})
    sections["stream.events"]["id"] = event_id
    return make_alloyd(sections)


def start(*arguments, **keys):
    return make(*arguments, **keys).start()


def swallow(proxy, alloyd, body):
    """Has an insert go in without a word of it coming back."""
    proxy.weights = {"cut": 1}
    before = proxy.done["cut"]
    assert alloyd.post(body).status == 202
    harness.wait_until(lambda: proxy.done["cut"] > before, "an answer swallowed")


def parts(clickhouse, table="events"):
    """The folder and the rows of each part, the newest last."""
    return clickhouse.rows("SELECT path, rows FROM system.parts WHERE database = 'default' AND active "
                           f"AND table = '{table}' ORDER BY max_block_number")


def restart(clickhouse, paths):
    clickhouse.kill()
    for path in paths:
        shutil.rmtree(path)
    clickhouse.start()


def events(prefix, n, **fields):
    return "\n".join(harness.event(f"{prefix}{i}", **fields) for i in range(n))


def once(clickhouse, table="default.events", ids="event_id"):
    assert clickhouse.count(table) == clickhouse.count(table, f"uniqExact({ids})")
    return clickhouse.count(table)


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("life", ["same", "next"])
def test_rows_that_a_kill_took_go_again_and_no_others(make_alloyd, redis, own_clickhouse, proxy, gone, mode, life):
    alloyd = start(make_alloyd, redis, own_clickhouse, proxy, async_insert=mode)
    assert alloyd.post(events("before", 30)).status == 202
    alloyd.settled()
    swallow(proxy, alloyd, events("a'\\\\é", 50))
    harness.wait_until(lambda: own_clickhouse.count("default.events") == 80, "80 rows")
    path, rows = parts(own_clickhouse)[-1]
    assert rows == 50
    if life == "next":
        alloyd.kill()
    restart(own_clickhouse, [path] if gone else [])
    assert own_clickhouse.count("default.events") == (30 if gone else 80)
    proxy.heal()
    if life == "next":
        alloyd.start()
    alloyd.settled()
    assert once(own_clickhouse) == 80
    assert alloyd.metrics()[LOST] == gone
    # And the stream goes on.
    assert alloyd.post(events("after", 10)).json == {"accepted": 10, "duplicates": 0}
    alloyd.settled()
    assert once(own_clickhouse) == 90


def test_a_partition_that_a_kill_took_goes_again_without_the_others(make_alloyd, redis, own_clickhouse, proxy):
    own_clickhouse.query("CREATE TABLE default.p (event_id String, v UInt8) ENGINE = MergeTree "
                         f"PARTITION BY v ORDER BY event_id {WINDOW}")
    alloyd = start(make_alloyd, redis, own_clickhouse, proxy, "default.p")
    swallow(proxy, alloyd, "\n".join(json.dumps({"event_id": f"e{i}", "v": i % 3}) for i in range(100)))
    harness.wait_until(lambda: own_clickhouse.count("default.p") == 100, "100 rows")
    restart(own_clickhouse, [path for path, _ in parts(own_clickhouse, "p")[1:2]])
    assert 66 <= own_clickhouse.count("default.p") < 100
    proxy.heal()
    assert alloyd.settled()["inserted"] == 100
    assert once(own_clickhouse, "default.p") == 100
    assert alloyd.metrics()[LOST] == 1


@pytest.mark.parametrize("columns, event_id, values", [
    ("event_id UInt64", "event_id", lambda i: {"event_id": i}),
    ("event_id LowCardinality(String)", "event_id", lambda i: {"event_id": i}),
    ("event_id UUID", "event_id", lambda i: {"event_id": f"ABCDEF00-0000-0000-0000-{i:012}"}),
    ("a Nullable(String), `b'\"` Int32", "a, b'\"", lambda i: {"a": f"x{i % 5}\n", "b'\"": i}),
])
def test_ids_of_any_type_are_told(make_alloyd, redis, own_clickhouse, proxy, columns, event_id, values):
    own_clickhouse.query(f"CREATE TABLE default.t ({columns}, v Int64) ENGINE = MergeTree ORDER BY v {WINDOW}")
    alloyd = start(make_alloyd, redis, own_clickhouse, proxy, "default.t", event_id)
    swallow(proxy, alloyd, "\n".join(json.dumps({**values(i), "v": i, "other": {"x": [1]}}) for i in range(20)))
    harness.wait_until(lambda: own_clickhouse.count("default.t") == 20, "20 rows")
    # What is there is found, and what is not is missed.
    restart(own_clickhouse, [])
    proxy.heal()
    alloyd.settled()
    assert (own_clickhouse.count("default.t"), alloyd.metrics()[LOST]) == (20, 0)
    swallow(proxy, alloyd, "\n".join(json.dumps({**values(i), "v": i}) for i in range(20, 40)))
    harness.wait_until(lambda: own_clickhouse.count("default.t") == 40, "40 rows")
    path, rows = parts(own_clickhouse, "t")[-1]
    assert rows == 20
    restart(own_clickhouse, [path])
    proxy.heal()
    alloyd.settled()
    assert own_clickhouse.count("default.t", "uniqExact(v)") == own_clickhouse.count("default.t") == 40
    assert alloyd.metrics()[LOST] == 1


def test_where_rows_are_hidden_nothing_is_sent_again(make_alloyd, redis, own_clickhouse, proxy):
    alloyd = start(make_alloyd, redis, own_clickhouse, proxy)
    swallow(proxy, alloyd, events("a", 50))
    harness.wait_until(lambda: own_clickhouse.count("default.events") == 50, "50 rows")
    own_clickhouse.query("DELETE FROM default.events WHERE event_id IN ('a3', 'a4')")
    restart(own_clickhouse, [])
    proxy.heal()
    alloyd.settled()
    assert once(own_clickhouse) == 48
    assert alloyd.metrics()[LOST] == 0
    assert "cannot tell whether a restart of ClickHouse lost an insert" in alloyd.log()


def test_who_waits_is_told_when_the_rows_are_there(make_alloyd, redis, own_clickhouse, proxy):
    alloyd = start(make_alloyd, redis, own_clickhouse, proxy)
    answers = []

    def wait(_):
        answers.append(alloyd.post(events("w", 20), "/v1/events?ack=clickhouse", {"Prefer": "wait=60"}))
        answers.append(once(own_clickhouse))

    def break_it(_):
        harness.wait_until(lambda: own_clickhouse.count("default.events") == 20, "20 rows")
        path, _ = parts(own_clickhouse)[-1]
        restart(own_clickhouse, [path])
        assert not answers
        proxy.heal()

    proxy.weights = {"cut": 1}
    harness.in_threads(2, lambda i: (wait, break_it)[i](i))
    assert answers[0].status == 200, answers
    assert answers[1] == 20


@pytest.mark.parametrize("sync", ["interval", "always"])
@pytest.mark.parametrize("point", ["insert_drawn:2", "stamp_half:75", "insert_stamped:2", "insert_answered:1", "finish_half:25"])
def test_alloyd_dies_while_rows_go_again(make_alloyd, redis, own_clickhouse, proxy, point, sync):
    alloyd = make(make_alloyd, redis, own_clickhouse, proxy)
    alloyd.build = KILL_BUILD
    alloyd.sections["journal"]["sync"] = sync
    alloyd.start(env={"ALLOY_KILL_POINT": point})
    swallow(proxy, alloyd, events("a", 50))
    harness.wait_until(lambda: own_clickhouse.count("default.events") == 50, "50 rows")
    restart(own_clickhouse, [parts(own_clickhouse)[-1][0]])
    proxy.heal()
    harness.wait_until(lambda: not alloyd.alive(), lambda: f"death at {point}\n{alloyd.log()[-2000:]}")
    assert alloyd.popen.returncode == -signal.SIGKILL, alloyd.log()[-3000:]
    alloyd.start()
    alloyd.settled()
    assert once(own_clickhouse) == 50
    assert alloyd.post(events("a", 50)).json == {"accepted": 0, "duplicates": 50}


def test_an_engine_that_aborts_starts_again(make_alloyd, redis, own_clickhouse):
    """libchdb does when clients reset connections at a bad moment."""
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events")).start()
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.settled()
    for life in (1, 2):
        own_clickhouse.signal(signal.SIGABRT)
        harness.wait_until(lambda: own_clickhouse.log().count("serving http") > life, "the next life")
        assert own_clickhouse.alive()
        assert alloyd.post(harness.event(f"b{life}")).status == 202
        alloyd.settled()
    assert own_clickhouse.count("default.events") == 3
