# SPDX-License-Identifier: Apache-2.0
"""Claims with redis.layout = packed: memory, the turn of tables, kills, two alloyd, from one layout to the other."""

import concurrent.futures
import copy
import time

import pytest

import harness
from conftest import sections_for
from test_lifecycle import reload
from test_redis_cluster import Cluster


def packed(redis, clickhouse, table, /, ttl="60s", **more):
    sections = sections_for(redis, clickhouse, table, **more)
    # A busy machine must not let events pass without a claim.
    sections["redis"].update(layout="packed", timeout="10s", on_failure="hold")
    sections["stream.events"]["ttl"] = ttl
    sections["l1"] = {"capacity": 1}  # the claims are to decide
    return sections


def post_all(alloyd, ids):
    answer = alloyd.post("\n".join(harness.event(i) for i in ids))
    assert answer.status == 202, answer
    return answer.json


def twice(clickhouse, table):
    return clickhouse.rows(f"SELECT event_id, count() FROM {table} GROUP BY event_id HAVING count() > 1 ORDER BY event_id")


def count(clickhouse, table):
    return int(clickhouse.query(f"SELECT uniqExact(event_id) FROM {table}").strip())


def names(redis, pattern):
    return redis.command("KEYS", pattern)


def test_an_id_takes_at_most_40_bytes(make_alloyd, own_redis):
    n = 150_000
    alloyd = make_alloyd(packed(own_redis, None, "default.x", ttl="24h")).start()
    post_all(alloyd, ["first"])
    alloyd.settled()

    def used():
        return int(dict(line.split(":", 1) for line in own_redis.command("INFO", "memory").decode().split("\r\n")
                        if ":" in line)["used_memory"])

    before = used()
    for at in range(0, n, 5000):
        post_all(alloyd, [f"3f2504e0-4f89-41d3-9a0c-{i:012x}" for i in range(at, at + 5000)])
        harness.wait_until(lambda: alloyd.books()["pending"] < 20000, alloyd.books, 60)
    alloyd.settled()
    harness.wait_until(lambda: (used() - before) / n <= 40, lambda: (used() - before) / n, 10)
    assert not names(own_redis, "alloy:events:?*")


@pytest.mark.parametrize("layout", ["packed", "keys"])
def test_two_alloyd_insert_each_id_once_while_tables_turn(make_alloyd, own_redis, clickhouse, table, layout):
    """One of the two may still have layout = keys."""
    sections = packed(own_redis, clickhouse, table, ttl="4s", worker={"linger": "2ms"})
    first = make_alloyd(sections).start()
    post_all(first, ["before"])
    first.settled()
    sections["redis"] = dict(sections["redis"], layout=layout)
    second = make_alloyd(sections).start()
    end, sent = time.monotonic() + 9, 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # Both get the same ids at the same time.
        while time.monotonic() < end:
            ids = [f"t{sent + i}" for i in range(20)]
            list(pool.map(lambda alloyd, ids=ids: post_all(alloyd, ids), (first, second)))
            sent += 20
    for alloyd in (first, second):
        alloyd.settled()
    tables = {name.split(b":")[3] for name in names(own_redis, "alloy:#ids:events:*")}
    assert len(tables) >= 2
    assert count(clickhouse, table) == sent + 1
    assert twice(clickhouse, table) == []


def test_an_id_is_new_again_after_twice_its_ttl_and_known_before(make_alloyd, own_redis, clickhouse, table):
    alloyd = make_alloyd(packed(own_redis, clickhouse, table, ttl="2s", worker={"linger": "2ms"})).start()
    post_all(alloyd, ["a"])
    alloyd.settled()
    began = time.monotonic()
    known = 0
    while True:
        sent = time.monotonic()
        post_all(alloyd, ["a"])
        alloyd.settled()
        if alloyd.books()["inserted"] > 1:
            break
        known = sent - began
        time.sleep(0.05)
    assert 1.9 <= known <= 4.3


def test_kills_in_the_middle_of_batches(make_alloyd, own_redis, clickhouse, table):
    alloyd = make_alloyd(packed(own_redis, clickhouse, table, worker={"linger": "1ms"})).start()
    for i in range(5):
        post_all(alloyd, [f"k{i}-{n}" for n in range(3000)])
        alloyd.kill()
        alloyd.start()
    alloyd.settled()
    assert count(clickhouse, table) == 15000
    assert twice(clickhouse, table) == []


def test_from_keys_to_packed_and_nothing_twice(make_alloyd, own_redis, clickhouse, table):
    sections = packed(own_redis, clickhouse, table)
    sections["redis"]["layout"] = "keys"
    first, second = (make_alloyd(copy.deepcopy(sections)).start() for _ in range(2))
    ids = [f"m{i}" for i in range(300)]
    post_all(first, ids)
    first.settled()
    first.sections["redis"]["layout"] = "packed"
    reload(first)
    # The other has still layout = keys.
    post_all(first, [f"n{i}" for i in range(300)])
    first.settled()
    post_all(second, ids + [f"n{i}" for i in range(300)] + ["of-second"])
    second.settled()
    post_all(first, [*ids, "of-second"])
    first.settled()
    harness.wait_until(lambda: post_all(second, ids) and "redis.layout" in second.admin("/readyz").body.decode(),
                       lambda: second.admin("/readyz").body, 20)
    second.settled()
    second.sections["redis"]["layout"] = "packed"
    reload(second)
    post_all(second, ids)
    second.settled()
    assert count(clickhouse, table) == 601
    assert twice(clickhouse, table) == []
    assert names(own_redis, "alloy:#packed:events")


def test_a_key_that_holds_something_else_makes_no_duplicate(make_alloyd, own_redis, clickhouse, table):
    alloyd = make_alloyd(packed(own_redis, clickhouse, table)).start()
    post_all(alloyd, ["a"])
    alloyd.settled()
    (name,) = names(own_redis, "alloy:#ids:events:*")
    (field,) = own_redis.command("HKEYS", name)
    own_redis.command("HSET", name, field, "strange")
    other = make_alloyd(packed(own_redis, clickhouse, table)).start()
    post_all(other, ["a"])
    assert other.settled()["inserted"] == 1
    assert other.metrics()["alloy_redis_strange_keys_total"] == 1


def test_the_tables_are_told(make_alloyd, own_redis):
    alloyd = make_alloyd(packed(own_redis, None, "default.x")).start()
    assert not any(name.startswith("alloy_redis_packed") for name in alloyd.metrics())
    assert "packed" not in alloyd.admin("/stats").json["streams"]["events"]
    post_all(alloyd, [f"a{i}" for i in range(500)])
    alloyd.settled()
    metrics = alloyd.metrics()
    told = {name: metrics[f'alloy_redis_packed_{name}{{stream="events"}}'] for name in ("tables", "hashes", "ids", "age_seconds")}
    # One of the two sent claims to both layouts until Redis was seen to be empty.
    assert told["tables"] == 2 and told["hashes"] == 4096 and 0 < told["ids"] <= 500 and 0 <= told["age_seconds"] < 60
    stats = alloyd.admin("/stats").json["streams"]["events"]["packed"]
    assert (stats["tables"], stats["hashes"], stats["ids"]) == (2, 4096, told["ids"])
    assert stats["fill"] == pytest.approx(stats["ids"] / 4096) and stats["age_s"] >= told["age_seconds"]


def tables(redis):
    """(ttl in ms, bits) of each table in the log, by number."""
    words = redis.command("HGETALL", "alloy:#packed:events")
    log = {words[i]: words[i + 1].split() for i in range(0, len(words), 2) if words[i] != b"w"}
    return [(int(log[n][1]), int(log[n][2])) for n in sorted(log, key=int)]


def test_a_ttl_that_changes_by_a_reload_doubles_nothing(make_alloyd, own_redis, clickhouse, table):
    sections = packed(own_redis, clickhouse, table)
    one, other = (make_alloyd(copy.deepcopy(sections)).start() for _ in range(2))
    sent = []

    def send(prefix):
        sent.extend(f"{prefix}{i}" for i in range(300))
        for alloyd in (one, other):
            post_all(alloyd, sent)
        for alloyd in (one, other):
            alloyd.settled()

    send("before")
    assert tables(own_redis)[-1] == (60000, 12)
    one.sections["stream.events"]["ttl"] = "90s"
    reload(one)
    send("longer")  # the other still has the shorter one
    assert tables(own_redis)[-1] == (90000, 12)
    assert len(tables(own_redis)) == 3
    other.sections["stream.events"]["ttl"] = "20s"
    reload(other)
    send("shorter")  # a table that remembers for longer serves it too
    assert len(tables(own_redis)) == 3
    assert count(clickhouse, table) == len(sent)
    assert twice(clickhouse, table) == []


def test_in_a_cluster(make_alloyd, tmp_path, clickhouse, table):
    cluster = Cluster(tmp_path)
    try:
        sections = packed(None, clickhouse, table)
        sections["redis"]["url"] = f"redis-cluster://127.0.0.1:{cluster.nodes[0].port}"
        sections["redis"]["timeout"] = "5s"
        first, second = make_alloyd(sections).start(), make_alloyd(sections).start()
        ids = [f"c{i}" for i in range(3000)]
        post_all(first, ids)
        first.settled()
        post_all(second, [*ids, "more"])
        second.settled()
        assert count(clickhouse, table) == 3001
        assert twice(clickhouse, table) == []
    finally:
        for node in cluster.nodes:
            node.kill()
