# SPDX-License-Identifier: Apache-2.0
"""Events in, unique rows out: the purpose of Alloy."""

import json
import os
import pathlib
import random

import harness
from conftest import sections_for

WEBHOOKS = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "alloy" / "webhooks-examples"


def test_200000_events_with_duplicates_from_32_connections_give_each_id_once(alloyd, clickhouse, table):
    connections, total, unique = 32, 200_000, 140_000
    rng = random.Random(20260131)
    ids = list(range(unique)) + [rng.randrange(unique) for _ in range(total - unique)]
    rng.shuffle(ids)
    per = total // connections
    answered = [None] * connections

    def client(c):
        mine = [harness.event(f"id-{n}", n=n) for n in ids[c * per:(c + 1) * per]]
        accepted = duplicates = i = 0
        form = itertools_cycle(c)
        connection = alloyd.client()
        while i < len(mine):
            kind = next(form)
            size = 1 if kind == 0 else 200
            part = mine[i:i + size]
            body = part[0] if kind == 0 else "\n".join(part) + "\n" if kind == 1 else "[" + ",".join(part) + "]"
            answer = harness.request(connection, body)
            if answer.status == 503:
                continue  # a real client tries again
            assert answer.status == 202, answer
            assert answer.json["accepted"] + answer.json["duplicates"] == len(part)
            accepted += answer.json["accepted"]
            duplicates += answer.json["duplicates"]
            i += len(part)
        answered[c] = (accepted, duplicates)

    harness.in_threads(connections, client)
    books = alloyd.settled()
    assert clickhouse.count(table) == unique
    assert clickhouse.count(table, "uniqExact(event_id)") == unique
    assert sum(a for a, _ in answered) == books["accepted"] == unique
    assert sum(d for _, d in answered) == books["duplicate_l1"] == total - unique
    assert books["inserted"] == unique and books["duplicate_l2"] == 0 and books["dead_lettered"] == 0


def itertools_cycle(start):
    kind = start
    while True:
        yield kind % 3
        kind += 1


def test_two_alloyd_on_one_redis_give_each_row_once(make_alloyd, redis, clickhouse, table):
    n = 20_000
    daemons = [make_alloyd(sections_for(redis, clickhouse, table)).start() for _ in range(2)]

    def client(c):
        alloyd = daemons[c % 2]
        connection = alloyd.client()
        order = list(range(0, n, 100))
        random.Random(c).shuffle(order)
        for first in order:
            body = "\n".join(harness.event(f"id-{i}") for i in range(first, first + 100))
            harness.wait_until(lambda: harness.request(connection, body).status == 202, "202")

    harness.in_threads(4, client)
    books = [d.settled() for d in daemons]
    assert clickhouse.count(table) == n
    assert clickhouse.count(table, "uniqExact(event_id)") == n
    assert sum(b["inserted"] for b in books) == n
    assert sum(b["duplicate_l2"] for b in books) == sum(b["accepted"] for b in books) - n
    assert sum(b["duplicate_l2"] for b in books) > 0, "the second level was never asked"


def test_real_webhook_bodies_arrive_byte_for_byte(make_alloyd, redis, clickhouse):
    """GitHub's webhook bodies, deep and with Unicode, as an object in a String column."""
    bodies = []
    for path in sorted((WEBHOOKS / "api.github.com").rglob("*.json")):
        found = json.loads(path.read_text())
        for example in (e for hook in found for e in hook["examples"]) if isinstance(found, list) else [found]:
            bodies.append(json.dumps(example, ensure_ascii=False))
    assert len(bodies) >= 329, f"{len(bodies)} examples in {WEBHOOKS}"
    clickhouse.query("CREATE TABLE default.webhooks (event_id String, body String) ENGINE = MergeTree ORDER BY event_id "
                     "SETTINGS non_replicated_deduplication_window = 1000")
    alloyd = make_alloyd(sections_for(redis, clickhouse, "default.webhooks")).start()
    for i, body in enumerate(bodies):
        answer = alloyd.post(f'{{"event_id": "hook-{i}", "body": {body}}}')
        assert answer.status == 202, answer
    alloyd.settled()
    rows = dict(clickhouse.rows("SELECT event_id, body FROM default.webhooks"))
    assert rows == {f"hook-{i}": body for i, body in enumerate(bodies)}


def test_each_stream_has_its_own_path_table_and_id(make_alloyd, redis, clickhouse):
    clickhouse.query("CREATE TABLE default.clicks (tenant String, n Int64) ENGINE = MergeTree ORDER BY n "
                     "SETTINGS non_replicated_deduplication_window = 100")
    clickhouse.query("CREATE TABLE default.orders (`order` String, event_id String) ENGINE = MergeTree ORDER BY event_id "
                     "SETTINGS non_replicated_deduplication_window = 100")
    sections = sections_for(redis, clickhouse, "default.orders",
                            stream__clicks={"path": "/in/clicks", "table": "default.clicks", "id": "tenant, n"})
    sections["stream.events"]["id"] = "order"
    alloyd = make_alloyd(sections).start()
    clicks = [("a", 1), ("a", 2), ("b", 1), ("a:1", 2), ("a", 1)]
    for tenant, n in clicks:
        assert alloyd.post(json.dumps({"tenant": tenant, "n": n}), "/in/clicks").status == 202
    # The same ids in another stream are other events; an escaped key and id are the same event.
    assert alloyd.post('{"order":"x1"}').json == {"accepted": 1, "duplicates": 0}
    assert alloyd.post('{"\\u006frder":"\\u00781"}').json == {"accepted": 0, "duplicates": 1}
    alloyd.settled("clicks")
    alloyd.settled("events")
    assert sorted(map(tuple, clickhouse.rows("SELECT tenant, n FROM default.clicks"))) == \
        sorted(set(clicks))
    assert clickhouse.count("default.orders") == 1


def test_claims_stand_in_redis_with_their_ttl(make_alloyd, redis, clickhouse, table):
    sections = sections_for(redis, clickhouse, table, redis={"key_prefix": "pre:"})
    sections["stream.events"]["ttl"] = "90s"
    alloyd = make_alloyd(sections).start()
    assert alloyd.post(harness.event("abc")).status == 202
    alloyd.settled()
    assert redis.command("KEYS", "pre:events:?*") == [b"pre:events:abc"]
    assert len(redis.command("GET", "pre:events:abc")) == 16
    assert 60 < redis.command("TTL", "pre:events:abc") <= 90


def test_an_id_that_l1_has_forgotten_is_known_to_redis(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, l1={"capacity": 100})).start()
    for part in range(20):
        body = "\n".join(harness.event(f"id-{part}-{i}") for i in range(100))
        assert alloyd.post(body).json == {"accepted": 100, "duplicates": 0}
    alloyd.settled()
    assert alloyd.post(harness.event("id-0-0")).json == {"accepted": 1, "duplicates": 0}
    books = alloyd.settled()
    assert books["duplicate_l2"] == 1
    assert clickhouse.count(table) == 2000
    assert alloyd.metrics()["alloy_l1_evicted_total"] > 0
