# SPDX-License-Identifier: Apache-2.0
"""Claims with redis.layout = packed where Redis is more than one server: replicas that are waited for, slots that move, two layouts."""

import copy

import harness
from test_lifecycle import reload
from test_packed import packed, post_all
from test_redis_cluster import cluster, once_each, send_while_slots_move, settled  # noqa: F401 (a fixture)
from test_redis_ha import pair, replicated  # noqa: F401 (fixtures)


def packed_at(url, clickhouse, table, /, **redis):
    sections = packed(None, clickhouse, table, ttl="600s")
    sections["redis"].update(url=url, **redis)
    return sections


def post_each(alloyd, names):
    for at in range(0, len(names), 5000):
        post_all(alloyd, names[at:at + 5000])


def unclaimed(*alloyds):
    return sum(alloyd.metrics()["alloy_events_unclaimed_total"] for alloyd in alloyds)


# ---- WAIT


def test_with_wait_a_failover_forgets_no_packed_claim(make_alloyd, replicated, clickhouse, table):  # noqa: F811
    """Neither the claims nor the log of the tables: nothing but WAIT guards them here."""
    servers = replicated()
    sections = packed_at(servers.url(), clickhouse, table, wait_replicas=1, wait_timeout="5s", distrust="0s")
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    names = [f"e{i}" for i in range(20000)]
    post_each(one, names)
    harness.wait_until(lambda: one.books()["inserted"] > 5000, "claims at the first master")
    servers.master.kill()
    assert one.metrics()["alloy_redis_wait_short_total"] == 0
    harness.wait_until(lambda: servers.sentinels[0].master_port() == servers.replica.port, "a failover", 60)
    one.sections["redis"]["wait_timeout"] = "20ms"
    reload(one)
    settled(one)
    post_each(other, names)
    settled(other)
    once_each(clickhouse, table, names)


def test_packed_claims_are_at_the_replica_when_they_go_on(make_alloyd, pair, clickhouse, table):  # noqa: F811
    master, replica = pair
    alloyd = make_alloyd(packed_at(master.url, clickhouse, table, wait_replicas=1, wait_timeout="5s")).start()
    post_all(alloyd, [f"both-{i}" for i in range(100)])
    alloyd.settled()
    assert sum(replica.command("HLEN", name) for name in replica.command("KEYS", "alloy:#ids:events:*")) == 100
    assert replica.command("EXISTS", "alloy:#packed:events") == 1
    assert "redis.replicas" not in alloyd.reasons()
    assert alloyd.metrics()["alloy_redis_wait_short_total"] == 0


# ---- a cluster


def test_slots_move_while_packed_ids_are_claimed(make_alloyd, cluster, clickhouse, table):  # noqa: F811
    servers = cluster()
    sections = packed_at(servers.url(), clickhouse, table)
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    sender = send_while_slots_move(servers, one, other)
    for alloyd in (one, other):
        post_each(alloyd, sender.sent)
    settled(one, other)
    once_each(clickhouse, table, sender.sent)
    assert unclaimed(one, other) == 0


def test_a_hash_in_a_slot_that_is_half_moved_is_asked_for_at_both_nodes(make_alloyd, cluster, clickhouse, table):  # noqa: F811
    """Its log is at the one node, or at the other, and so are its hashes."""
    servers = cluster()
    sections = packed_at(servers.url(), clickhouse, table)
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    names = [f"id-{i}" for i in range(3000)]
    post_all(one, names[:1500])
    settled(one)
    source, target = servers.masters()[:2]
    moved = 0
    for log in source.command("KEYS", "alloy:#packed:events:*")[:8]:
        slot = source.command("CLUSTER", "KEYSLOT", log)
        here = source.command("CLUSTER", "GETKEYSINSLOT", slot, 100)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.command("CLUSTER", "MYID"))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.command("CLUSTER", "MYID"))
        for key in [log] * (moved % 2) + [key for key in here if key != log][::2]:
            source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        moved += 1
    assert moved == 8
    for alloyd in (one, other, one):
        post_all(alloyd, names)
        settled(alloyd)
    once_each(clickhouse, table, names)
    assert unclaimed(one, other) == 0


def test_from_keys_to_packed_in_a_cluster_with_two_alloyd(make_alloyd, cluster, clickhouse, table):  # noqa: F811
    servers = cluster()
    sections = packed_at(servers.url(), clickhouse, table)
    sections["redis"]["layout"] = "keys"
    one, other = (make_alloyd(copy.deepcopy(sections)).start() for _ in range(2))
    old = [f"m{i}" for i in range(1000)]
    post_all(one, old)
    settled(one)
    one.sections["redis"]["layout"] = "packed"
    reload(one)
    # The other claims keys alone, until it has seen the logs.
    new, names = [], list(old)
    for i in range(6):
        new = [f"n{i}-{k}" for k in range(500)]
        names += new
        first, second = (one, other) if i % 2 == 0 else (other, one)
        post_all(first, new)
        post_all(second, new + old)
        settled(one, other)
    assert servers.keys("alloy:#packed:events:*") and servers.keys("alloy:events:*n5-*")
    harness.wait_until(lambda: post_all(other, old) and "redis.layout" in other.reasons(), other.reasons, 30)
    other.sections["redis"]["layout"] = "packed"
    reload(other)
    for alloyd in (one, other):
        post_all(alloyd, names)
    settled(one, other)
    once_each(clickhouse, table, names)
    assert unclaimed(one, other) == 0
