# SPDX-License-Identifier: Apache-2.0
"""Claims in a real Redis: one that answers but takes none, foreign keys, two deployments, two alloyd."""

import signal
import time

import pytest

import harness
from conftest import sections_for


def up(alloyd):
    return alloyd.metrics()["alloy_redis_up"]


def post_all(alloyd, ids, **fields):
    answer = alloyd.post("\n".join(harness.event(i, **fields) for i in ids))
    assert answer.status == 202, answer
    return answer.json


def rows(clickhouse, table, prefix):
    return clickhouse.rows(f"SELECT event_id, count() FROM {table} WHERE startsWith(event_id, '{prefix}') "
                           "GROUP BY event_id ORDER BY event_id")


# Redis answers PING and MGET and refuses SET; with the code that the reason then names.
DEAF = {
    "READONLY": (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
    "OOM": (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
    "NOPERM": (["ACL", "SETUSER", "default", "-set"], ["ACL", "SETUSER", "default", "+set"]),
    "NOREPLICAS": (["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"]),
}


@pytest.mark.parametrize("code", DEAF)
def test_a_redis_that_takes_no_claim_is_not_up(make_alloyd, own_redis, clickhouse, table, code):
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table)).start()
    post_all(alloyd, ["a"])
    alloyd.settled()
    assert up(alloyd) == 1
    own_redis.command(*DEAF[code][0])
    assert own_redis.answers() or code == "READONLY"
    post_all(alloyd, ["b"])
    alloyd.settled()  # on_failure = pass
    for _ in range(20):
        assert up(alloyd) == 0
        assert code in alloyd.told("redis")["text"]
        time.sleep(0.05)
    own_redis.command(*DEAF[code][1])
    harness.wait_until(lambda: up(alloyd) == 1 and "redis" not in alloyd.reasons(), "up again")
    post_all(alloyd, ["c"])
    alloyd.settled()
    assert rows(clickhouse, table, "") == [["a", 1], ["b", 1], ["c", 1]]
    assert alloyd.metrics()["alloy_events_unclaimed_total"] == 1


def test_a_redis_whose_commands_are_renamed_is_not_up_and_quotes_no_id(make_alloyd, tmp_path, clickhouse, table):
    redis = harness.Redis(tmp_path).start("--rename-command", "SET", "")
    try:
        alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
        post_all(alloyd, ["secret-id"])
        alloyd.settled()
        assert up(alloyd) == 0
        assert "ERR" in alloyd.told("redis")["text"]
        assert "secret-id" not in alloyd.admin("/readyz").body.decode() + alloyd.log()
        assert rows(clickhouse, table, "") == [["secret-id", 1]]
        # and the books know that no claim was there
        assert alloyd.metrics()["alloy_events_unclaimed_total"] == 1
        alloyd.finish()
    finally:
        redis.kill()


def test_a_key_that_holds_no_claim_makes_no_duplicate(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    redis.command("LPUSH", "alloy:events:list", "x")
    redis.command("HSET", "alloy:events:hash", "f", "x")
    redis.command("SET", "alloy:events:text", "x")
    redis.command("SET", "alloy:events:empty", "")
    redis.command("SET", "alloy:events:sixteen", "0123456789abcdef")
    post_all(alloyd, ["list", "hash", "text", "empty", "sixteen", "good"])
    assert alloyd.settled()["inserted"] == 6
    assert alloyd.metrics()["alloy_redis_strange_keys_total"] == 5
    assert alloyd.log().count("hold values that no alloyd has written") == 1
    assert redis.command("LLEN", "alloy:events:list") == 1


def test_one_claim_that_cannot_be_released_holds_up_no_other(make_alloyd, own_redis, clickhouse):
    clickhouse.query("CREATE TABLE IF NOT EXISTS default.strict (event_id String, n UInt8) ENGINE = MergeTree "
                     "ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100")
    sections = sections_for(own_redis, clickhouse, "default.strict")
    sections["redis"]["url"] = f"redis://alloy:pw@127.0.0.1:{own_redis.port}/0"
    own_redis.command("ACL", "SETUSER", "alloy", "on", ">pw", "+@all", "~alloy:*")
    alloyd = make_alloyd(sections).start()
    bad = [f"bad-{i}" for i in range(5)]
    assert alloyd.post('{"event_id":"good","n":1}').status == 202
    alloyd.settled()
    # bad-0 is claimed, and from then on its key cannot be written.
    own_redis.command("ACL", "SETUSER", "alloy", "-eval")
    assert alloyd.post('{"event_id":"bad-0","n":"x"}').status == 202
    harness.wait_until(lambda: alloyd.metrics()["alloy_dead_letter_releasing"] == 1, alloyd.books)
    alloyd.told("redis.release")
    own_redis.command("ACL", "SETUSER", "alloy", "+eval", "resetkeys", "~alloy:#*", "~alloy:events:",
                      *(f"~alloy:events:bad-{i}" for i in range(1, 5)))
    assert alloyd.post("\n".join('{"event_id":"%s","n":"x"}' % i for i in bad[1:])).status == 202
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] == 4, alloyd.books)
    assert up(alloyd) == 1 and alloyd.books()["pending"] == 1
    own_redis.command("ACL", "SETUSER", "alloy", "allkeys")
    assert alloyd.settled()["dead_lettered"] == 5
    harness.wait_until(lambda: "redis.release" not in alloyd.reasons(), alloyd.reasons)


def test_a_corrected_event_goes_in_through_another_alloyd(make_alloyd, redis, clickhouse):
    """The second alloyd knows the id from its claim alone; that is gone with the dead-lettered event."""
    clickhouse.query("CREATE TABLE IF NOT EXISTS default.corrected (event_id String, n UInt8) ENGINE = MergeTree "
                     "ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100")
    first, second = (make_alloyd(sections_for(redis, clickhouse, "default.corrected")) for _ in range(2))
    ids = [f"c{i}" for i in range(4)]
    for alloyd in (first, second):
        alloyd.start()
    redis_is_held = redis.command("ACL", "SETUSER", "default", "-eval", "-del")
    assert redis_is_held == b"OK"
    try:
        assert first.post("\n".join('{"event_id":"%s","n":"x"}' % i for i in ids)).status == 202
        harness.wait_until(lambda: first.metrics()["alloy_dead_letter_releasing"] == 4, first.books)
        # The claims are still there: the second takes them for duplicates, and remembers.
        assert second.post("\n".join('{"event_id":"%s","n":1}' % i for i in ids)).json["accepted"] == 4
        harness.wait_until(lambda: second.books()["duplicate_l2"] == 4, second.books)
    finally:
        redis.command("ACL", "SETUSER", "default", "+eval", "+del")
    first.settled()
    assert second.post("\n".join('{"event_id":"%s","n":2}' % i for i in ids)).json == {"accepted": 4, "duplicates": 0}
    assert second.settled()["inserted"] == 4
    assert clickhouse.rows("SELECT event_id, n FROM default.corrected ORDER BY event_id") == [[i, 2] for i in ids]
    # What the second now owns is known at its door.
    assert second.post('{"event_id":"c0","n":3}').json == {"accepted": 0, "duplicates": 1}


@pytest.mark.parametrize("with_redis", [True, False])
def test_an_id_is_new_again_after_its_streams_ttl_over_restarts_too(make_alloyd, redis, clickhouse, table, with_redis):
    sections = sections_for(redis if with_redis else None, clickhouse, table)
    sections["stream.events"]["ttl"] = "2s"
    alloyd = make_alloyd(sections).start()
    began = time.monotonic()
    assert post_all(alloyd, ["a", "b"]) == {"accepted": 2, "duplicates": 0}
    if time.monotonic() - began < 1:
        assert post_all(alloyd, ["a", "b"])["duplicates"] == 2
    alloyd.settled()
    time.sleep(4)  # Redis rounds up
    assert post_all(alloyd, ["a"]) == {"accepted": 1, "duplicates": 0}
    alloyd.settled()
    assert alloyd.drain() == 0
    alloyd.start()
    assert post_all(alloyd, ["b"]) == {"accepted": 1, "duplicates": 0}
    alloyd.settled()
    assert rows(clickhouse, table, "") == [["a", 2], ["b", 2]]


# ---- two deployments


def test_a_second_deployment_is_not_ready_and_drops_nothing(make_alloyd, own_redis, clickhouse, table, own_clickhouse):
    first = make_alloyd(sections_for(own_redis, clickhouse, table)).start()
    ids = [f"id-{i}" for i in range(50)]
    post_all(first, ids)
    first.settled()

    sections = sections_for(own_redis, own_clickhouse, "default.events")
    sections["drain"] = {"timeout": "2s"}
    second = make_alloyd(sections).start(ready=False)
    reason = second.told("redis.foreign")
    assert reason["blocking"] and second.admin("/readyz").status == 503
    uuids = [c.rows("SELECT extract(data_paths[1], '/store/.../([^/]*)/') FROM system.tables "
                    f"WHERE database = 'default' AND name = '{t}'")[0][0]
             for c, t in ((clickhouse, table.split(".")[1]), (own_clickhouse, "events"))]
    for part in (*uuids, "stream events", table, "default.events "):
        assert part in reason["text"]
    prefix = reason["text"].split("redis.key_prefix = ")[1].split()[0].rstrip(":,;") + ":"
    assert prefix != "alloy:"

    # It goes on to accept, beyond its ring, and keeps what it accepts.
    for i in range(5):
        post_all(second, ids[i * 10:i * 10 + 10])
    time.sleep(1)
    assert second.books()["pending"] == 50
    assert own_clickhouse.count("default.events") == 0
    assert first.readyz()
    assert second.drain(120) == 0

    # With the prefix set all of it goes in.
    second.sections["redis"]["key_prefix"] = prefix
    second.start()
    second.settled()
    assert own_clickhouse.count("default.events", "count(), uniqExact(event_id)") == 50
    assert first.readyz() and clickhouse.count(table) == 50


def test_kept_events_go_on_when_the_keys_are_free(make_alloyd, own_redis, clickhouse, table):
    own_redis.command("SET", "alloy:#table:events", "somebody-elses-table 1")
    sections = sections_for(own_redis, clickhouse, table)
    sections["ring"] = {"capacity": 100}
    alloyd = make_alloyd(sections).start(ready=False)
    alloyd.told("redis.foreign")
    for i in range(10):  # more than the ring holds
        harness.wait_until(lambda i=i: alloyd.post("\n".join(harness.event(f"{i}-{k}") for k in range(90))).status == 202,
                           "room in the ring")
    assert alloyd.books()["pending"] == 900
    assert own_redis.command("KEYS", "alloy:events:?*") == []
    own_redis.command("DEL", "alloy:#table:events")
    assert alloyd.settled()["inserted"] == 900
    assert alloyd.readyz()


def test_with_clickhouse_away_at_start_events_are_taken_and_nothing_is_claimed(make_alloyd, own_redis, own_clickhouse):
    """There is a mark, and who knows whether it is ours."""
    identity = own_clickhouse.rows("SELECT extract(data_paths[1], '/store/.../([^/]*)/') FROM system.tables "
                                   "WHERE database = 'default' AND name = 'events'")[0][0]
    own_redis.command("SET", "alloy:#table:events", identity)
    own_clickhouse.kill()
    sections = sections_for(own_redis, own_clickhouse, "default.events")
    sections["ring"] = {"capacity": 100}
    alloyd = make_alloyd(sections).start()
    for i in range(10):
        harness.wait_until(lambda i=i: alloyd.post("\n".join(harness.event(f"{i}-{k}") for k in range(90))).status == 202,
                           "room in the ring")
    assert own_redis.command("KEYS", "alloy:events:?*") == []
    alloyd.kill()  # and after a kill
    alloyd.start()
    own_clickhouse.start()
    alloyd.settled()
    assert own_clickhouse.count("default.events") == 900


def test_a_table_that_is_made_again_is_the_same_deployments(make_alloyd, own_redis, clickhouse):
    table = clickhouse.create_events("default.made_again")
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table)).start()
    post_all(alloyd, ["a"])
    alloyd.settled()
    clickhouse.query(f"DROP TABLE {table}")
    clickhouse.create_events(table)
    post_all(alloyd, ["b"])
    alloyd.settled()
    harness.wait_until(lambda: alloyd.readyz(), lambda: alloyd.admin("/readyz").body)
    assert alloyd.drain() == 0
    # The same while it is down: nobody uses the old table any more.
    clickhouse.query(f"DROP TABLE {table}")
    clickhouse.create_events(table)
    alloyd.start(ready=False)
    post_all(alloyd, ["c"])
    alloyd.settled()
    harness.wait_until(lambda: alloyd.readyz(), lambda: alloyd.admin("/readyz").body)
    assert clickhouse.rows(f"SELECT event_id FROM {table}") == [["c"]]


def test_two_alloyd_of_one_deployment_share_the_mark(make_alloyd, own_redis, clickhouse, table):
    both = [make_alloyd(sections_for(own_redis, clickhouse, table)).start() for _ in range(2)]
    for alloyd in both:
        post_all(alloyd, ["a", "b"])
    for alloyd in both:
        alloyd.settled()
        assert alloyd.readyz()
    assert rows(clickhouse, table, "") == [["a", 1], ["b", 1]]
    assert 0 < own_redis.command("TTL", "alloy:#table:events") <= 24 * 3600 + 120


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_redis_that_goes_while_nothing_comes_is_noticed(make_alloyd, own_redis, clickhouse, table, how):
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table)).start()
    harness.wait_until(lambda: up(alloyd) == 1, "redis is up")
    if how == "dies":
        own_redis.kill()
    else:
        own_redis.signal(signal.SIGSTOP)
    harness.wait_until(lambda: up(alloyd) == 0 and "redis" in alloyd.reasons(), "redis is lost")
    assert alloyd.metrics()["alloy_redis_errors_total"] >= 1
    if how == "dies":
        own_redis.start()
    else:
        own_redis.signal(signal.SIGCONT)
    harness.wait_until(lambda: up(alloyd) == 1 and "redis" not in alloyd.reasons(), "redis is back")
