# SPDX-License-Identifier: Apache-2.0
"""A Redis that forgets claims that it had acknowledged, and what redis.distrust makes of it."""

import contextlib
import re
import signal
import socket
import threading
import time

import pytest

import harness
from conftest import sections_for
from test_redis_cluster import cluster  # noqa: F401 (a fixture)
from test_redis_ha import Replicated, replicated  # noqa: F401 (a fixture)

COUNT = 20000


class Relay:
    """Passes connections on to a port; while it holds, nothing goes to the server."""

    def __init__(self, port):
        self.port = port
        self.open = threading.Event()
        self.open.set()
        self.ended = False
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self):
        self.open.clear()

    def release(self):
        self.open.set()

    def close(self):
        self.ended = True
        self.open.set()
        for s in (self.listener, *self.sockets):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while not self.ended:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                self.sockets += [client, server]
                for source, target, held in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=(source, target, held), daemon=True).start()

    def _pump(self, source, target, held):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if held:
                    self.open.wait()
                target.sendall(data)
        for s in (source, target):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)


def post(alloyd, names):
    for at in range(0, len(names), 1000):
        assert alloyd.post("\n".join(map(harness.event, names[at:at + 1000]))).status == 202


def settled(*alloyds, deadline=60):
    for alloyd in alloyds:
        harness.wait_until(lambda a=alloyd: a.books()["pending"] == 0, lambda a=alloyd: (a.books(), a.reasons()), deadline)


def distrust(alloyd):
    return alloyd.admin("/stats").json["redis"]["distrust"]


LAYOUTS = ["keys", "packed"]


def claims_of(redis, layout, names):
    """How many claims there are, of ids that begin so."""
    if layout == "keys":
        return len(redis.command("KEYS", f"alloy:events:{names}*"))
    return sum(redis.command("HLEN", name) for name in redis.command("KEYS", "alloy:#ids:events:*"))


def offset(redis):
    """How far replication has come."""
    return re.search(rb"master_repl_offset:(\d+)", redis.command("INFO", "replication")).group(1)


def counts(clickhouse, table):
    count, different = clickhouse.rows(f"SELECT count(), uniqExact(event_id) FROM {table}")[0]
    return int(count), int(different)


@pytest.mark.parametrize("layout, length", [("keys", "60s"), ("packed", "60s"), ("keys", "0")])
def test_a_failover_that_loses_claims_doubles_nothing(make_alloyd, replicated, clickhouse, table, layout, length):  # noqa: F811
    servers = replicated()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url(), "on_failure": "hold", "distrust": length,
                                                            "layout": layout, "timeout": "5s"})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    kept, lost = [f"kept-{i}" for i in range(200)], [f"lost-{i}" for i in range(COUNT)]
    post(one, kept)
    settled(one)
    # The replica gets nothing any more.
    servers.replica.command("REPLICAOF", "127.0.0.1", harness.free_port())
    post(one, lost)
    settled(one)
    servers.master.kill()
    harness.wait_until(lambda: servers.sentinels[0].master_port() == servers.replica.port, "a failover", 60)
    promoted = time.monotonic()
    assert servers.replica.command("EXISTS", "alloy:events:lost-0") == 0
    # All that came before comes again through the other one, with something new.
    post(other, lost + kept + ["new"])
    settled(other)
    print(f"all decided {time.monotonic() - promoted:.2f} s after the failover")
    if length == "0":
        assert counts(clickhouse, table) == (2 * COUNT + 201, COUNT + 201)
        assert distrust(other)["windows"] == 0 and distrust(other)["servers"] == 0
        return
    assert counts(clickhouse, table) == (COUNT + 201, COUNT + 201)
    told = distrust(other)
    assert told["present"] == COUNT and told["absent"] == 1 and told["unchecked"] == 0, told
    assert told["servers"] == 1 and "may have forgotten claims" in other.log()
    assert distrust(one)["windows"] + told["windows"] >= 1
    # What was found is known again: nobody asks for it once more, and it stays a duplicate after the window.
    for alloyd in (one, other):
        assert alloyd.drain() == 0
        alloyd.start()
    post(one, lost)
    settled(one)
    assert distrust(one)["present"] == 0 and counts(clickhouse, table) == (COUNT + 201, COUNT + 201)


@pytest.mark.parametrize("how, length", [("killed", "60s"), ("taken over", "60s"), ("killed", "0")])
def test_a_failover_in_a_cluster_that_loses_claims_doubles_nothing(
        make_alloyd, cluster, clickhouse, table, how, length):  # noqa: F811
    """Of one master: what is claimed at the others is not doubted."""
    servers = cluster()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url(), "on_failure": "hold", "timeout": "200ms",
                                                            "distrust": length})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    kept, late = [f"kept-{i}" for i in range(300)], [f"late-{i}" for i in range(3000)]
    post(one, kept)
    settled(one)
    victim = servers.masters()[0]
    replica = servers.replica_of(victim)
    harness.wait_until(lambda: len(replica.command("KEYS", "alloy:*kept-*")) == len(victim.command("KEYS", "alloy:*kept-*")),
                       "what comes before is replicated")
    # The replica gets nothing any more: its master knows no password, and refuses it.
    replica.command("CONFIG", "SET", "masterauth", "wrong")
    replica.command("CLIENT", "KILL", "TYPE", "master")
    harness.wait_until(lambda: b"connected_slaves:0" in victim.command("INFO", "replication"), "a master alone")
    post(one, late)
    settled(one)
    lost = len(victim.command("KEYS", "alloy:*late-*"))
    assert 500 < lost < 1500
    if how == "killed":
        victim.kill()
    else:
        replica.command("CLUSTER", "FAILOVER", "TAKEOVER")
    harness.wait_until(lambda: b"role:master" in replica.command("INFO", "replication"), "a failover", 60)
    if how == "taken over":
        harness.wait_until(lambda: b"role:slave" in victim.command("INFO", "replication"), "a master that gives in", 60)
    assert replica.command("KEYS", "alloy:*late-*") == []
    post(other, late + kept + ["new"])
    settled(other)
    if length == "0":
        assert counts(clickhouse, table) == (3301 + lost, 3301)
        return
    assert counts(clickhouse, table) == (3301, 3301)
    told = distrust(other)
    assert told["present"] == lost and told["absent"] <= 1 and told["unchecked"] == 0, (told, lost)
    assert told["servers"] == 1
    for alloyd in (one, other):
        assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0


def move_slots(servers, source, target, count):
    """Its lowest ones, with redis-cli, as an operator does it."""
    ids = {n.port: n.command("CLUSTER", "MYID").decode() for n in (source, target)}
    harness.wait_until(servers.agrees, "nodes that agree", 60)
    servers.cli("--cluster", "reshard", servers.place(target), "--cluster-from", ids[source.port],
                "--cluster-to", ids[target.port], "--cluster-slots", count, "--cluster-yes")


@pytest.mark.parametrize("layout, when", [("keys", "noticed"), ("packed", "noticed"), ("keys", "before anybody notices"),
                                          ("keys", "while nobody is there"), ("keys", "after all who noticed have gone")])
def test_a_slot_that_moves_on_after_a_failover_that_loses_claims_doubles_nothing(
        make_alloyd, cluster, clickhouse, table, layout, when):  # noqa: F811
    servers = cluster()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url(count=6), "on_failure": "hold", "timeout": "200ms",
                                                            "layout": layout, "distrust": "120s"})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    kept, late = [f"kept-{i}" for i in range(300)], [f"late-{i}" for i in range(3000)]
    post(one, kept)
    post(other, ["first"])
    settled(one, other)
    victim, target = servers.masters()[:2]
    replica = servers.replica_of(victim)
    harness.wait_until(lambda: offset(replica) == offset(victim), "what comes before is replicated")
    replica.command("CONFIG", "SET", "masterauth", "wrong")
    replica.command("CLIENT", "KILL", "TYPE", "master")
    harness.wait_until(lambda: b"connected_slaves:0" in victim.command("INFO", "replication"), "a master alone")
    post(one, late)
    settled(one)
    if when == "before anybody notices":
        one.signal(signal.SIGSTOP)
        other.signal(signal.SIGSTOP)
    elif when == "while nobody is there":
        assert one.drain() == 0 and other.drain() == 0
    victim.kill()
    servers.nodes.remove(victim)
    harness.wait_until(lambda: b"role:master" in replica.command("INFO", "replication"), "a failover", 60)
    if when in ("noticed", "after all who noticed have gone"):
        harness.wait_until(lambda: distrust(other)["servers"] == 1, lambda: distrust(other), 30)
    if when == "after all who noticed have gone":
        assert one.drain() == 0 and other.drain() == 0
    move_slots(servers, replica, target, 700)
    if when == "before anybody notices":
        one.signal(signal.SIGCONT)
        other.signal(signal.SIGCONT)
    elif when != "noticed":
        other.start()
    post(other, late + kept + ["new"])
    settled(other)
    assert counts(clickhouse, table) == (3302, 3302)
    told = distrust(other)
    assert told["servers"] == 2 and told["present"] > 300 and told["unchecked"] == 0, told
    assert other.metrics()["alloy_events_unclaimed_total"] == 0


LOSSES = ["older", "empty", "flushed"]


def lose(redis, how):
    """Makes a Redis forget all claims but those that keep() was told of."""
    if how == "flushed":
        redis.command("FLUSHALL")
        return
    redis.kill()
    if how == "empty":
        (redis.folder / "dump.rdb").unlink(missing_ok=True)
    redis.start()


# An alloyd that starts at an empty Redis takes it for a new one.
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how, again", [(how, "through the other") for how in LOSSES] + [("older", "after a restart")])
def test_a_redis_that_comes_back_without_claims_doubles_nothing(make_alloyd, own_redis, clickhouse, table, how, again, layout):
    sections = sections_for(own_redis, clickhouse, table, redis={"on_failure": "hold", "layout": layout})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    names = [f"e{i}" for i in range(3000)]
    post(one, ["before"])
    settled(one)
    own_redis.command("SAVE")
    post(one, names)
    settled(one)
    if again == "after a restart":
        assert other.drain() == 0
    lose(own_redis, how)
    if how == "flushed":  # which breaks no connection: it is noticed by the next look
        harness.wait_until(lambda: distrust(other)["servers"] == 1, lambda: distrust(other))
    if again == "after a restart":
        # The other one was not there, and the one is gone: only the key in Redis can tell.
        assert one.drain() == 0
        other.start()
    post(other, names + ["new"])
    settled(other)
    assert counts(clickhouse, table) == (3002, 3002)
    assert distrust(other)["present"] == 3000


def test_a_log_of_tables_that_is_lost_alone_doubles_nothing(make_alloyd, own_redis, clickhouse, table):
    """No connection breaks, and the server's life is the same: who knew the log notices."""
    sections = sections_for(own_redis, clickhouse, table, redis={"on_failure": "hold", "layout": "packed"}, l1={"capacity": 1})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    names = [f"e{i}" for i in range(3000)]
    post(one, names)
    post(other, ["before"])
    settled(one, other)
    own_redis.command("DEL", "alloy:#packed:events")
    post(other, names + ["new"])
    settled(other)
    assert "has lost a table" in other.log()
    assert counts(clickhouse, table) == (3002, 3002)
    post(one, names)
    settled(one)
    assert counts(clickhouse, table) == (3002, 3002)
    # A window is enough for one loss: what was found is known again.
    assert one.log().count("action=look_in_clickhouse") + other.log().count("action=look_in_clickhouse") == 1


def test_while_clickhouse_is_away_what_is_doubted_waits(make_alloyd, own_redis, own_clickhouse):
    sections = sections_for(own_redis, own_clickhouse, "default.events", redis={"on_failure": "hold"})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    names = [f"e{i}" for i in range(500)]
    post(one, names)
    post(other, ["first"])
    settled(one, other)
    own_clickhouse.kill()
    lose(own_redis, "empty")
    post(other, names + ["new"])
    harness.wait_until(lambda: "wait for ClickHouse" in other.log(), "a line in the log", 30)
    assert other.books()["pending"] == 501 and distrust(other)["servers"] == 1
    own_clickhouse.start()
    settled(other)
    assert counts(own_clickhouse, "default.events") == (502, 502)
    harness.wait_until(lambda: distrust(other)["present"] == 500, lambda: distrust(other))


def test_a_window_ends_and_redis_is_believed_again(make_alloyd, own_redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table, redis={"distrust": "1500ms"})).start()
    post(alloyd, ["a"])
    settled(alloyd)
    assert distrust(alloyd)["servers"] == 0
    lose(own_redis, "empty")
    # Without an event.
    harness.wait_until(lambda: distrust(alloyd)["servers"] == 1, lambda: distrust(alloyd))
    assert alloyd.reasons() == {} and alloyd.metrics()["alloy_redis_distrust"] == 1
    harness.wait_until(lambda: distrust(alloyd)["servers"] == 0, lambda: distrust(alloyd))
    assert alloyd.metrics()["alloy_redis_distrusts_total"] == 1 and alloyd.metrics()["alloy_redis_distrust"] == 0
    post(alloyd, ["b"])
    settled(alloyd)
    assert distrust(alloyd) == {"servers": 0, "windows": 1, "absent": 0, "present": 0, "unchecked": 0}


def test_a_table_that_cannot_tell_is_told(make_alloyd, own_redis, clickhouse, table):
    clickhouse.query(f"CREATE TABLE {table}_bare (n UInt64) ENGINE = MergeTree ORDER BY n "
                     "SETTINGS non_replicated_deduplication_window = 100")
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, f"{table}_bare")).start()
    post(alloyd, ["a"])
    settled(alloyd)
    lose(own_redis, "empty")
    harness.wait_until(lambda: distrust(alloyd)["servers"] == 1, lambda: distrust(alloyd))
    post(alloyd, ["b"])
    settled(alloyd)
    assert distrust(alloyd)["unchecked"] == 1 and "cannot be looked for in ClickHouse" in alloyd.log()


def test_ids_of_several_members_are_looked_for_as_they_were_inserted(make_alloyd, own_redis, clickhouse, table):
    name = f"{table}_pairs"
    clickhouse.query(f"CREATE TABLE {name} (tenant UInt32, id String, n UInt8) ENGINE = MergeTree ORDER BY tuple() "
                     "SETTINGS non_replicated_deduplication_window = 100")
    sections = sections_for(own_redis, clickhouse, name, stream__events={"id": "tenant,id"}, l1={"capacity": 1})
    alloyd = make_alloyd(sections).start()
    odd = ["a", "b'\\\\\\\"c", "\\u00e9\\u4e2d", "x:y", " "]
    body = "\n".join('{"tenant":%d,"id":"%s","n":1}' % (tenant, name) for tenant in (1, 2) for name in odd)
    assert alloyd.post(body).status == 202
    settled(alloyd)
    lose(own_redis, "empty")
    harness.wait_until(lambda: distrust(alloyd)["servers"] == 1, lambda: distrust(alloyd))
    other = make_alloyd(sections).start()
    assert other.post(body + '\n{"tenant":3,"id":"a","n":1}').status == 202
    settled(other)
    assert clickhouse.count(name) == 11 and distrust(other)["present"] == 10


def test_without_the_right_to_ask_redis_is_believed_and_that_is_told(make_alloyd, own_redis, clickhouse, table):
    own_redis.command("ACL", "SETUSER", "alloy", "on", ">pw", "~alloy:*", "+mget", "+set", "+eval", "+get", "+del")
    url = own_redis.url.replace("//", "//alloy:pw@")
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table, redis={"url": url})).start()
    post(alloyd, ["a"])
    settled(alloyd)
    assert alloyd.metrics()["alloy_redis_up"] == 1 and "does not say who it is" in alloyd.log()
    assert alloyd.metrics()["alloy_redis_errors_total"] == 0 and alloyd.metrics()["alloy_events_unclaimed_total"] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_another_alloyd_has_in_hand_is_claimed_again_before_anybody_believes(make_alloyd, own_redis, own_clickhouse, layout):
    """Its claims are lost while its rows are not in ClickHouse yet: some in inserts, some not."""
    relay = Relay(own_clickhouse.port)
    try:
        slow = sections_for(own_redis, own_clickhouse, "default.events", redis={"on_failure": "hold", "layout": layout},
                            clickhouse={"url": relay.url, "timeout": "60s", "max_inflight": 2})
        one = make_alloyd(slow).start()
        other = make_alloyd(sections_for(own_redis, own_clickhouse, "default.events",
                                         redis={"on_failure": "hold", "layout": layout})).start()
        post(one, ["first of one"])
        post(other, ["first of other"])
        settled(one, other)
        relay.hold()
        names = [f"e{i}" for i in range(6000)]
        for at in range(0, 6000, 1000):
            post(one, names[at:at + 1000])
            harness.wait_until(lambda n=at: claims_of(own_redis, layout, "e") >= n + 1000, "claims")
        lose(own_redis, "empty")
        post(other, names)
        # What is in an insert of the one is claimed again before the other one gets an answer; all else goes to who asks first.
        harness.wait_until(lambda: claims_of(own_redis, layout, "e") == 6000, "claims again", 30)
        relay.release()
        settled(one, other)
    finally:
        relay.close()
    assert counts(own_clickhouse, "default.events") == (6002, 6002)
    for alloyd in (one, other):
        assert alloyd.metrics()["alloy_redis_reclaims_lost_total"] == 0
    assert one.books()["inserted"] + other.books()["inserted"] == 6002
    # Some went by the one, in inserts that had begun.
    assert one.books()["inserted"] > 1


def test_recovery_takes_no_longer_than_the_others_need(make_alloyd, own_redis, clickhouse, table):
    sections = sections_for(own_redis, clickhouse, table, redis={"on_failure": "hold"})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    post(one, ["a"])
    post(other, ["b"])
    settled(one, other)
    lose(own_redis, "empty")
    back = time.monotonic()
    post(one, ["c"])
    settled(one)
    print(f"a new event is inserted {time.monotonic() - back:.2f} s after redis is back")
    assert counts(clickhouse, table) == (3, 3)
