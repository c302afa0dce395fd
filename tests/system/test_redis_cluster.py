# SPDX-License-Identifier: Apache-2.0
"""Redis Cluster: three masters with a replica each; kills, resharding, nodes that hang."""

import contextlib
import re
import signal
import subprocess
import threading
import time

import pytest

import harness
from conftest import sections_for
from redis_cluster import Cluster
from test_lifecycle import reload
from test_redis_ha import make_certificates


@pytest.fixture
def cluster(tmp_path):
    started = []

    def start(*options, **more):
        folder = tmp_path / f"cluster-{len(started)}"
        folder.mkdir()
        started.append(Cluster(folder, *options, **more))
        return started[-1]
    yield start
    for one in started:
        one.end()


class Sender:
    """Posts new ids to several alloyd by turns, and remembers which were accepted; each event of `twice` goes to all."""

    def __init__(self, *alloyds, size=20):
        self.alloyds, self.size = alloyds, size
        self.sent, self.stop = [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        i = 0
        while not self.stop.is_set():
            names = [f"e{i}-{k}" for k in range(self.size)]
            body = "\n".join(harness.event(n) for n in names)
            i += 1
            with contextlib.suppress(OSError):
                if self.alloyds[i % len(self.alloyds)].post(body).status == 202:
                    self.sent += names

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def settled(*alloyds, seconds=60):
    for alloyd in alloyds:
        harness.wait_until(lambda a=alloyd: a.books()["pending"] == 0, lambda a=alloyd: a.books(), seconds)


def once_each(clickhouse, table, names):
    count, different = clickhouse.rows(f"SELECT count(), uniqExact(event_id) FROM {table}")[0]
    assert (int(count), int(different)) == (len(names), len(set(names)))


def test_ids_are_claimed_once_over_all_nodes(make_alloyd, cluster, clickhouse, table):
    servers = cluster()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url()})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    names = [f"id-{i}" for i in range(6000)]
    body = "\n".join(harness.event(n) for n in names)
    assert one.post(body).json["accepted"] == 6000
    assert other.post(body).status == 202
    settled(one, other)
    once_each(clickhouse, table, names)
    assert one.books()["duplicate_l2"] + other.books()["duplicate_l2"] == 6000
    for alloyd in (one, other):
        metrics = alloyd.metrics()
        assert metrics["alloy_redis_up"] == 1 and metrics["alloy_events_unclaimed_total"] == 0
        assert metrics["alloy_redis_nodes"] == 3 and metrics["alloy_redis_nodes_away"] == 0
        assert alloyd.admin("/stats").json["redis"]["nodes"] == 3
        assert alloyd.readyz() and "redis" not in alloyd.reasons()
    # A tag before the id, and each node has its part.
    keys = servers.keys("alloy:events:*")
    assert len(keys) == 6000 and all(re.fullmatch(rb"alloy:events:\{[0-3][0-9a-f]{2}\}id-\d+", key) for key in keys)
    assert all(len(master.command("KEYS", "alloy:events:*")) > 1000 for master in servers.masters())
    assert servers.keys("alloy:#table:*") == [b"alloy:#table:{events}"]
    # After a kill it finds its own claims to be its own.
    one.kill()
    one.start()
    assert one.post(body).status == 202
    settled(one)
    once_each(clickhouse, table, names)


def test_a_bad_row_is_forgotten_and_its_id_can_come_again(make_alloyd, cluster, clickhouse):
    clickhouse.query("CREATE TABLE IF NOT EXISTS default.strict_cluster (event_id String, n UInt8) ENGINE = MergeTree "
                     "ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100")
    servers = cluster()
    alloyd = make_alloyd(sections_for(None, clickhouse, "default.strict_cluster", redis={"url": servers.url()})).start()
    ids = [f"x{i}" for i in range(20)]
    assert alloyd.post("\n".join('{"event_id":"%s","n":"%s"}' % (i, "bad" if i < "x15" else 1) for i in ids)).status == 202
    settled(alloyd)
    bad = [i for i in ids if i < "x15"]
    assert alloyd.books()["dead_lettered"] == len(bad)
    assert alloyd.post("\n".join('{"event_id":"%s","n":2}' % i for i in ids)).json == {
        "accepted": len(bad), "duplicates": len(ids) - len(bad)}
    settled(alloyd)
    assert clickhouse.count("default.strict_cluster") == 20


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_master_that_fails_is_replaced_and_nothing_is_lost_or_doubled(make_alloyd, cluster, clickhouse, table, how):
    servers = cluster()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url(), "on_failure": "hold", "timeout": "200ms"})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    victim = servers.masters()[0]
    replica = servers.replica_of(victim)
    with Sender(one, other) as sender:
        harness.wait_until(lambda: one.books()["inserted"] > 500, "claims at all masters")
        # Claims that the replica has not got when its master dies are lost: Redis answers before it replicates. These
        # are older than that.
        old = list(sender.sent)
        settled_once = one.books()["inserted"] + other.books()["inserted"]
        harness.wait_until(lambda: one.books()["inserted"] + other.books()["inserted"] >= settled_once + 200, "more")
        if how == "kill":
            victim.kill()
        else:
            victim.signal(signal.SIGSTOP)
        harness.wait_until(lambda: b"role:master" in replica.command("INFO", "replication"), "a failover", 60)
        promoted = time.monotonic()
        # Both claim at the new master: every batch of 20 has ids of each node.
        before = [a.books()["inserted"] for a in (one, other)]
        harness.wait_until(lambda: all(a.books()["inserted"] > b + 100 for a, b in zip((one, other), before)),
                           lambda: [a.admin("/readyz").body for a in (one, other)], 60)
        print(f"claims again {time.monotonic() - promoted:.2f} s after the failover")
    settled(one, other)
    for alloyd in (one, other):
        # What the other one has claimed is a duplicate here, though its first master is gone.
        assert alloyd.post("\n".join(harness.event(n) for n in old)).status == 202
    settled(one, other)
    once_each(clickhouse, table, sender.sent)
    for alloyd in (one, other):
        assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0
        harness.wait_until(lambda a=alloyd: "redis" not in a.reasons(), lambda a=alloyd: a.reasons())
    if how == "stop":
        victim.signal(signal.SIGCONT)  # it comes back as a replica
        harness.wait_until(servers.whole, "a whole cluster", 60)


def send_while_slots_move(servers, one, other):
    """1,400 slots move under way; returns the Sender, of whom nothing is pending any more."""
    masters = servers.masters()
    ids = {n.port: n.command("CLUSTER", "MYID").decode() for n in masters}
    with Sender(one, other) as sender:
        harness.wait_until(lambda: one.books()["inserted"] > 500, "claims")
        for source, target in ((masters[0], masters[1]), (masters[1], masters[2])):
            harness.wait_until(servers.agrees, "nodes that agree", 60)
            servers.cli("--cluster", "reshard", f"127.0.0.1:{masters[0].port}", "--cluster-from", ids[source.port],
                        "--cluster-to", ids[target.port], "--cluster-slots", 700, "--cluster-yes")
    settled(one, other)
    return sender


def test_slots_move_while_ids_are_claimed(make_alloyd, cluster, clickhouse, table):
    servers = cluster()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url()})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    sender = send_while_slots_move(servers, one, other)
    for alloyd in (one, other):
        for at in range(0, len(sender.sent), 5000):
            assert alloyd.post("\n".join(harness.event(n) for n in sender.sent[at:at + 5000])).status == 202
    settled(one, other)
    once_each(clickhouse, table, sender.sent)
    for alloyd in (one, other):
        assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0
        # Slots of masters that live bring all claims along.
        assert alloyd.metrics()["alloy_redis_distrusts_total"] == 0, alloyd.log()


def test_a_slot_that_is_half_moved_is_asked_for_at_both_nodes(make_alloyd, cluster, clickhouse, table):
    """Between MIGRATE and SETSLOT NODE: ASK and TRYAGAIN, for as long as somebody leaves it so."""
    servers = cluster()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url()})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    names = [f"id-{i}" for i in range(3000)]
    assert one.post("\n".join(harness.event(n) for n in names[:1500])).status == 202
    settled(one)
    source, target = servers.masters()[:2]
    key = next(k for k in source.command("KEYS", "alloy:events:*"))
    slot = source.command("CLUSTER", "KEYSLOT", key)
    here = source.command("CLUSTER", "GETKEYSINSLOT", slot, 100)
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.command("CLUSTER", "MYID"))
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.command("CLUSTER", "MYID"))
    source.command("MIGRATE", "127.0.0.1", target.port, here[0], 0, 5000)
    # Some of the slot's ids are here, some there, and some are new.
    body = "\n".join(harness.event(n) for n in names)
    for alloyd in (one, other, one):
        assert alloyd.post(body).status == 202
        settled(alloyd)
    once_each(clickhouse, table, names)
    assert one.metrics()["alloy_events_unclaimed_total"] + other.metrics()["alloy_events_unclaimed_total"] == 0
    assert one.metrics()["alloy_redis_errors_total"] + other.metrics()["alloy_redis_errors_total"] == 0


def test_a_node_that_is_away_costs_its_own_slots_alone(make_alloyd, cluster, clickhouse, table):
    """pass, and nobody to take over."""
    servers = cluster()
    for node in servers.nodes:
        node.command("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis={"url": servers.url(), "timeout": "200ms"})).start()
    assert alloyd.post("\n".join(harness.event(f"a{i}") for i in range(300))).status == 202
    settled(alloyd)
    victim = servers.masters()[1]
    victim.signal(signal.SIGSTOP)
    names = [f"b{i}" for i in range(3000)]
    assert alloyd.post("\n".join(harness.event(n) for n in names)).status == 202
    settled(alloyd)
    unclaimed = alloyd.metrics()["alloy_events_unclaimed_total"]
    assert 500 < unclaimed < 1500
    assert clickhouse.count(table) == 3300
    text = alloyd.told("redis")["text"]
    assert f"127.0.0.1:{victim.port}" in text and "(1 of 3 nodes away)" in text and "pass" in text
    metrics = alloyd.metrics()
    assert metrics["alloy_redis_nodes_away"] == 1 and metrics["alloy_redis_up"] == 0
    assert alloyd.admin("/stats").json["redis"]["nodes_away"] == 1 and alloyd.admin("/readyz").status == 200
    victim.signal(signal.SIGCONT)
    harness.wait_until(lambda: "redis" not in alloyd.reasons(), lambda: alloyd.reasons(), 60)
    assert alloyd.metrics()["alloy_redis_nodes_away"] == 0
    before = alloyd.metrics()["alloy_events_unclaimed_total"]
    assert alloyd.post("\n".join(harness.event(f"c{i}") for i in range(300))).status == 202
    settled(alloyd)
    assert alloyd.metrics()["alloy_events_unclaimed_total"] == before


def test_with_hold_the_ids_of_a_node_that_is_away_wait_and_the_others_go_on(make_alloyd, cluster, clickhouse, table):
    servers = cluster()
    for node in servers.nodes:
        node.command("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url(), "timeout": "200ms", "on_failure": "hold"},
                            ring={"capacity": 6000}, worker={"threads": 1})
    alloyd = make_alloyd(sections).start()
    assert alloyd.post("\n".join(harness.event(f"a{i}") for i in range(300))).status == 202
    settled(alloyd)
    victim = servers.masters()[1]
    victim.signal(signal.SIGSTOP)
    names = [f"b{i}" for i in range(9000)]
    for at in range(0, 9000, 1000):  # a third of them waits, and the ring has room for all
        harness.wait_until(lambda at=at: alloyd.post("\n".join(harness.event(n) for n in names[at:at + 1000])).status == 202,
                           lambda: alloyd.books())
    harness.wait_until(lambda: alloyd.books()["inserted"] > 300 + 5500, lambda: alloyd.books(), 60)
    waiting = alloyd.books()["pending"]
    assert 2500 < waiting < 3500 and "hold" in alloyd.told("redis")["text"]
    assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0
    # More than there is room for: all wait, as with a Redis that is away, and nothing is refused that was accepted.
    more = [f"c{i}" for i in range(30000)]
    accepted = []
    for at in range(0, len(more), 1000):
        answer = alloyd.post("\n".join(harness.event(n) for n in more[at:at + 1000]))
        assert answer.status in (202, 503), answer
        if answer.status == 202:
            accepted += more[at:at + 1000]
    victim.signal(signal.SIGCONT)
    settled(alloyd)
    once_each(clickhouse, table, [f"a{i}" for i in range(300)] + names + accepted)
    assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0
    harness.wait_until(lambda: "redis" not in alloyd.reasons(), alloyd.reasons)


def test_hosts_that_are_away_are_passed_over_and_the_login_goes_to_every_node(make_alloyd, cluster, clickhouse, table):
    servers = cluster()
    for node in servers.nodes:
        node.command("ACL", "SETUSER", "alloy", "on", ">pw", "~alloy:*", "+mget", "+set", "+eval", "+get", "+del",
                     "+cluster|slots", "+asking")
    url = servers.url("alloy:pw@").replace("@", f"@127.0.0.1:{harness.free_port()},")
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis={"url": url})).start()
    assert alloyd.post("\n".join(harness.event(f"a{i}") for i in range(300))).status == 202
    settled(alloyd)
    metrics = alloyd.metrics()
    assert metrics["alloy_events_unclaimed_total"] == 0 and metrics["alloy_redis_up"] == 1
    assert len(servers.keys("alloy:events:*")) == 300
    assert "pw@" not in alloyd.log()


def test_every_node_is_spoken_to_over_tls_by_the_name_that_it_announces(make_alloyd, cluster, clickhouse, table, tmp_path):
    """The certificate is for the name alone, so an address would be refused."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    make_certificates(folder)
    servers = cluster("--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname",
                      tls=folder)
    url = f"rediss-cluster://localhost:{servers.nodes[0].tls_port}?ssl_ca_certs={folder}/ca.pem"
    sections = sections_for(None, clickhouse, table, redis={"url": url})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    names = [f"id-{i:05d}-{'x' * 200}" for i in range(3000)]
    body = "\n".join(harness.event(n) for n in names)
    assert one.post(body).json["accepted"] == 3000 and other.post(body).status == 202
    settled(one, other)
    once_each(clickhouse, table, names)
    # and MOVED names the port of TLS
    source, target = servers.masters()[:2]
    servers.cli("--cluster", "reshard", servers.place(source), "--cluster-from", source.command("CLUSTER", "MYID").decode(),
                "--cluster-to", target.command("CLUSTER", "MYID").decode(), "--cluster-slots", 500, "--cluster-yes")
    more = [f"more-{i}" for i in range(3000)]
    assert one.post("\n".join(harness.event(n) for n in more)).status == 202
    settled(one)
    once_each(clickhouse, table, names + more)
    for alloyd in (one, other):
        assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0 and alloyd.metrics()["alloy_redis_errors_total"] == 0


def run(program, *words):
    return subprocess.run([harness.BUILD / program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, check=False)


def test_the_replica_of_one_master_that_stops_is_told_by_that_master(make_alloyd, cluster, clickhouse, table):
    servers = cluster()
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis={"url": servers.url(), "wait_replicas": 1,
                                                                      "wait_timeout": "10s"})).start()
    posted = []

    def post():
        posted.append(f"batch-{len(posted)}")
        name, before = posted[-1], alloyd.books()["inserted"]
        assert alloyd.post("\n".join(harness.event(f"{name}-{i}") for i in range(300))).status == 202
        harness.wait_until(lambda: alloyd.books()["inserted"] == before + 300, f"the rows of {name}")

    def told():
        post()
        return alloyd.reason_text("redis.replicas")

    post()
    assert len([key for node in servers.nodes for key in node.command("KEYS", "alloy:events:*")]) == 600
    assert "redis.replicas" not in alloyd.reasons()
    master = servers.masters()[0]
    replica = servers.replica_of(master)
    alloyd.sections["redis"]["wait_timeout"] = "300ms"
    reload(alloyd)
    replica.signal(signal.SIGSTOP)
    harness.wait_until(lambda: f"127.0.0.1:{master.port} (1 of 3 nodes): 0 of " in told(), alloyd.reasons)
    assert alloyd.metrics()["alloy_redis_wait_short_total"] >= 1 and alloyd.readyz()
    replica.signal(signal.SIGCONT)
    harness.wait_until(lambda: not told(), lambda: alloyd.reasons(), 60)
    assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0


def test_doctor_and_check_ask_a_cluster(make_alloyd, cluster, clickhouse, table):
    servers = cluster("--appendonly", "yes")
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis={"url": servers.url()})).start()
    checked = run("alloyd", "--check", "--connect", "-c", alloyd.ini)
    assert checked.returncode == 0, checked.stdout
    told = run("alloyctl", "doctor", "--config", alloyd.ini).stdout
    assert "a claim was set, refused to a second, read and released" in told
    assert "the claims in Redis are this table's" in told
    servers.masters()[1].command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    told = run("alloyctl", "doctor", "--config", alloyd.ini).stdout
    assert f"127.0.0.1:{servers.masters()[1].port}: maxmemory-policy is allkeys-lru" in told
    assert "allkeys-lru" in run("alloyd", "--check", "--connect", "-c", alloyd.ini).stdout


def test_a_prefix_with_a_brace_is_refused_with_a_cluster(tmp_path):
    ini = tmp_path / "a.ini"
    ini.write_text("[stream.events]\ntable = default.events\n[redis]\nurl = redis-cluster://127.0.0.1:1\nkey_prefix = a{b:\n")
    checked = run("alloyd", "--check", "-c", ini)
    assert checked.returncode == 2 and "key_prefix must not contain {" in checked.stdout


def test_a_master_that_dies_while_nothing_comes_is_noticed(make_alloyd, cluster, clickhouse, table):
    nodes = cluster()
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis={"url": nodes.url()})).start()
    harness.wait_until(lambda: alloyd.metrics()["alloy_redis_up"] == 1, "the cluster is up")
    master = nodes.masters()[0]
    nodes.replica_of(master).kill()
    master.kill()
    harness.wait_until(lambda: f"127.0.0.1:{master.port}" in alloyd.reason_text("redis"), "it is named")
    assert alloyd.metrics()["alloy_redis_up"] == 0
