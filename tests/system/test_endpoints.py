# SPDX-License-Identifier: Apache-2.0
"""Several endpoints in clickhouse.url: replicas that die, hang and come back; tables that are none; and shards.

Replicas are fakes (fake_replica.py says what they do and why); plain tables, and so shards, are the real engine's.
"""

import collections
import json
import pathlib
import signal
import sys
import threading

import pytest

import harness
from harness import event, wait_until

HERE = pathlib.Path(__file__).parent


class Replica(harness.Process):
    def __init__(self, folder, name, store, path="/clickhouse/tables/01/events", lose=0):
        super().__init__(name, folder)
        self.store, self.path, self.lose = store, path, lose
        self.port = harness.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.name_in_alloyd = f"127.0.0.1:{self.port}"

    def start(self):
        self.spawn([sys.executable, HERE / "fake_replica.py", self.port, self.store, self.path, self.lose])
        self.wait_ready(self.listens)
        return self

    def listens(self):
        try:
            harness.socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return True
        except OSError:
            return False


def ids_of(store):
    """How often each id is in a shard."""
    return collections.Counter(json.loads(line)["event_id"] for part in pathlib.Path(store).iterdir()
                               if not part.name.startswith(".") for line in part.read_text().splitlines())


class Load:
    """Posts events one after the other until it is stopped; knows what was answered 202."""

    def __init__(self, alloyd, prefix):
        self.alloyd, self.prefix, self.sent, self.stopped = alloyd, prefix, set(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        number = 0
        while not self.stopped.wait(0.002):
            number += 1
            event_id = f"{self.prefix}-{number}"
            try:
                if self.alloyd.post(event(event_id)).status == 202:
                    self.sent.add(event_id)
            except OSError:
                pass  # killed in between: no answer, no promise

    def stop(self):
        self.stopped.set()
        self.thread.join()
        return self.sent


def endpoints(alloyd):
    return {e["endpoint"]: e for e in alloyd.admin("/stats").json["clickhouse"]["endpoints"]}


def inserts_at(alloyd, server):
    return endpoints(alloyd)[f"127.0.0.1:{server.port}"]["inserts"]


def make(make_alloyd, *urls, **more):
    alloyd = make_alloyd({"redis": {"url": ""}, "stream.events": {"table": "default.events"},
                          "clickhouse": {"url": ", ".join(urls), "retry_max": "300ms", **more}})
    return alloyd


def test_replicas_that_die_hang_and_come_back(tmp_path, make_alloyd):
    store = tmp_path / "shard"
    store.mkdir()
    a = Replica(tmp_path, "replica-a", store, lose=7).start()
    b = Replica(tmp_path, "replica-b", store).start()
    alloyd = make(make_alloyd, a.url, b.url, timeout="60s").start()
    try:
        load = Load(alloyd, "x")
        wait_until(lambda: inserts_at(alloyd, a) > 3 and inserts_at(alloyd, b) > 3, "inserts at both")

        a.kill()
        key = f"clickhouse@{a.name_in_alloyd}"
        wait_until(lambda: key in alloyd.reasons(), "the dead one is told")
        assert alloyd.readyz(), "the other takes the inserts"
        before = inserts_at(alloyd, b)
        wait_until(lambda: inserts_at(alloyd, b) > before + 3, "the other takes the inserts")
        a.start()
        wait_until(lambda: key not in alloyd.reasons(), "it is back")
        before = inserts_at(alloyd, a)
        wait_until(lambda: inserts_at(alloyd, a) > before + 2, "it takes inserts again")

        b.signal(signal.SIGSTOP)
        key = f"clickhouse@{b.name_in_alloyd}"
        wait_until(lambda: key in alloyd.reasons(), "the one that hangs is told, long before its inserts time out")
        before = inserts_at(alloyd, a)
        wait_until(lambda: inserts_at(alloyd, a) > before + 3, "the other takes the inserts")
        alloyd.kill()
        sent = load.stop()
        b.signal(signal.SIGCONT)

        alloyd.start()
        load = Load(alloyd, "y")
        wait_until(lambda: inserts_at(alloyd, a) > 2 and inserts_at(alloyd, b) > 2, "inserts at both")
        sent |= load.stop()
        alloyd.settled()
        ids = ids_of(store)
        assert not sent - set(ids), "lost"
        assert set(ids.values()) == {1}, "doubled"
    finally:
        b.signal(signal.SIGCONT)
        a.kill()
        b.kill()


def test_all_away_and_back(tmp_path, make_alloyd):
    store = tmp_path / "shard"
    store.mkdir()
    replicas = [Replica(tmp_path, f"replica-{n}", store).start() for n in "ab"]
    alloyd = make(make_alloyd, *(r.url for r in replicas)).start()
    try:
        assert alloyd.post(event("1")).status == 202
        alloyd.settled()
        for replica in replicas:
            replica.kill()
        assert alloyd.post(event("2")).status == 202
        alloyd.told("clickhouse")
        names = [f"clickhouse@{r.name_in_alloyd}" for r in replicas]
        wait_until(lambda: all("all endpoints of its shard are away" in alloyd.reason_text(name) for name in names), "both say so")
        replicas[1].start()
        wait_until(lambda: "the others of its shard take its inserts" in alloyd.reason_text(names[0]), "one is back")
        alloyd.settled()
        assert "clickhouse" not in alloyd.reasons()
        assert ids_of(store) == {"1": 1, "2": 1}
    finally:
        for replica in replicas:
            replica.kill()


def test_plain_tables_of_two_servers_get_nothing(tmp_path, make_alloyd, own_clickhouse):
    (tmp_path / "second").mkdir()
    second = harness.ClickHouse(tmp_path / "second").start()
    alloyd = make(make_alloyd, own_clickhouse.url, second.url)
    try:
        second.create_events("default.events")
        alloyd.start(ready=False)
        assert alloyd.post(event("1")).status == 202
        wait_until(lambda: not alloyd.readyz(), "not ready")
        reason = alloyd.told("clickhouse.events.replicas")
        assert reason["blocking"] and "(MergeTree) is not replicated" in reason["text"], reason
        assert alloyd.books()["pending"] == 1
        # One of them alone is right for such a table.
        alloyd.sections["clickhouse"]["url"] = second.url
        alloyd.write_ini()
        alloyd.signal(signal.SIGHUP)
        alloyd.settled()
        assert alloyd.readyz()
        assert own_clickhouse.count("default.events") == 0
        assert second.count("default.events") == 1
        assert list(endpoints(alloyd)) == [f"127.0.0.1:{second.port}"]
    finally:
        second.kill()


def test_replicas_of_different_shards_get_nothing(tmp_path, make_alloyd):
    for name in "ab":
        (tmp_path / name).mkdir()
    replicas = [Replica(tmp_path, f"replica-{n}", tmp_path / n, f"/clickhouse/tables/{n}/events").start() for n in "ab"]
    alloyd = make(make_alloyd, *(r.url for r in replicas)).start(ready=False)
    try:
        reason = alloyd.told("clickhouse.events.replicas")
        assert "different shards" in reason["text"]
        assert alloyd.post(event("1")).status == 202
        wait_until(lambda: not alloyd.readyz(), "not ready")
        assert not ids_of(tmp_path / "a") and not ids_of(tmp_path / "b")
    finally:
        alloyd.kill()
        for replica in replicas:
            replica.kill()


# -- shards

MASK = (1 << 64) - 1


def shard_of(event_id, shards):
    """As decision 026 has it, written again: FNV-1a, the end of MurmurHash3, the jump hash."""
    key = 0xcbf29ce484222325
    for byte in event_id.encode():
        key = (key ^ byte) * 0x100000001b3 & MASK
    key = (key ^ key >> 33) * 0xff51afd7ed558ccd & MASK
    key = (key ^ key >> 33) * 0xc4ceb9fe1a85ec53 & MASK
    key ^= key >> 33
    shard, following = -1, 0
    while following < shards:
        shard = following
        key = (key * 2862933555777941757 + 1) & MASK
        following = int((shard + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return shard


@pytest.fixture
def servers(tmp_path):
    made = []

    def make_server():
        folder = tmp_path / f"server-{len(made)}"
        folder.mkdir()
        server = harness.ClickHouse(folder).start()
        made.append(server)
        server.create_events("default.events")
        return server

    yield make_server
    for server in made:
        server.kill()


def rows(server):
    return collections.Counter(row[0] for row in server.rows("SELECT event_id FROM default.events"))


def make_sharded(make_alloyd, servers, **more):
    alloyd = make(make_alloyd, **more)
    alloyd.sections["clickhouse"]["url"] = " | ".join(server.url for server in servers)
    return alloyd


def test_each_id_is_on_its_shard_once(make_alloyd, servers):
    shards = [servers(), servers()]
    alloyd = make_sharded(make_alloyd, shards).start()
    ids = [f"id-{n}" for n in range(2000)]
    for at in range(0, len(ids), 100):
        assert alloyd.post("\n".join(event(i) for i in ids[at:at + 100])).status == 202
    assert alloyd.post("\n".join(event(i) for i in ids[:100])).json == {"accepted": 0, "duplicates": 100}
    alloyd.settled()
    for number, server in enumerate(shards):
        assert rows(server) == {i: 1 for i in ids if shard_of(i, 2) == number}
    assert [(e["shard"], e["up"]) for e in endpoints(alloyd).values()] == [(1, True), (2, True)]
    assert alloyd.readyz()


def test_a_shard_that_dies_under_load_and_alloyd_killed(make_alloyd, servers):
    shards = [servers(), servers()]
    alloyd = make_sharded(make_alloyd, shards).start()
    load = Load(alloyd, "x")
    wait_until(lambda: all(e["inserts"] > 2 for e in endpoints(alloyd).values()), "inserts at both")
    shards[1].kill()
    wait_until(lambda: f"clickhouse@127.0.0.1:{shards[1].port}" in alloyd.reasons(), "the dead shard is told")
    before = inserts_at(alloyd, shards[0])
    wait_until(lambda: inserts_at(alloyd, shards[0]) > before + 2, "the other shard goes on")
    assert alloyd.readyz()
    alloyd.kill()
    sent = load.stop()
    alloyd.start()
    load = Load(alloyd, "y")
    wait_until(lambda: len(load.sent) > 20, "events in the second life")
    shards[1].start()
    sent |= load.stop()
    alloyd.settled()
    there = [rows(server) for server in shards]
    for event_id in sent:
        number = shard_of(event_id, 2)
        assert there[number][event_id] == 1 and there[1 - number][event_id] == 0, event_id
    assert all(set(ids.values()) == {1} for ids in there)


@pytest.mark.parametrize("who", ["who was there before", "who is new"])
def test_a_start_while_the_first_shard_is_away(make_alloyd, servers, own_redis, who):
    """Who has seen the tables of both goes on with the other one; who has not cannot know whose keys they are."""
    shards = [servers(), servers()]
    alloyd, new = (make_sharded(make_alloyd, shards) for _ in range(2))
    for each in (alloyd, new):
        each.sections["redis"] = {"url": own_redis.url, "on_failure": "hold"}
    alloyd.start()
    old, fresh = [f"old-{n}" for n in range(200)], [f"fresh-{n}" for n in range(200)]
    assert alloyd.post("\n".join(map(event, old))).status == 202
    alloyd.settled()
    member, = own_redis.command("KEYS", "alloy:#member:events:*")
    wait_until(lambda: b"," in own_redis.command("GET", member), lambda: own_redis.command("GET", member))
    assert alloyd.drain() == 0
    shards[0].kill()
    again = (alloyd if who == "who was there before" else new).start(ready=False)
    wait_until(lambda: again.post("\n".join(map(event, old + fresh))).status == 202, "events are taken")
    second = {i: 1 for i in old + fresh if shard_of(i, 2) == 1}
    if who == "who was there before":
        wait_until(lambda: rows(shards[1]) == second, lambda: (len(rows(shards[1])), again.reasons()), 30)
        first = [i for i in fresh if shard_of(i, 2) == 0]
        wait_until(lambda: again.books()["pending"] == len(first), again.books)
    else:
        wait_until(lambda: f"clickhouse@127.0.0.1:{shards[0].port}" in again.reasons(), "the first shard is away")
        assert len(rows(shards[1])) == sum(shard_of(i, 2) == 1 for i in old) and again.books()["pending"] == 400
    shards[0].start()
    again.settled()
    assert rows(shards[1]) == second and rows(shards[0]) == {i: 1 for i in old + fresh if shard_of(i, 2) == 0}


def test_the_list_grows_between_two_lives(make_alloyd, servers):
    shards = [servers(), servers(), servers()]
    alloyd = make_sharded(make_alloyd, shards[:2], timeout="60s").start()
    first = [f"first-{n}" for n in range(200)]
    frozen = [f"frozen-{n}" for n in range(200)]
    later = [f"later-{n}" for n in range(200)]
    assert alloyd.post("\n".join(map(event, first))).status == 202
    alloyd.settled()
    shards[1].signal(signal.SIGSTOP)
    assert alloyd.post("\n".join(map(event, frozen))).status == 202
    mine = [i for i in frozen if shard_of(i, 2) == 1]
    wait_until(lambda: alloyd.books()["pending"] == len(mine)
               and endpoints(alloyd)[f"127.0.0.1:{shards[1].port}"]["inflight"] > 0, "only the second shard's wait, frozen")
    alloyd.kill()
    alloyd.sections["clickhouse"]["url"] = " | ".join(server.url for server in shards)
    alloyd.start(ready=False)
    shards[1].signal(signal.SIGCONT)
    assert alloyd.post("\n".join(map(event, later))).status == 202
    alloyd.settled()
    expected = [{i: 1 for i in first + frozen if shard_of(i, 2) == n} | {i: 1 for i in later if shard_of(i, 3) == n}
                for n in range(3)]
    assert [dict(rows(server)) for server in shards] == expected
    assert any(shard_of(i, 3) == 2 for i in frozen), "some of the frozen ones would go elsewhere now"

    # A reload does not change how many there are.
    alloyd.sections["clickhouse"]["url"] = shards[0].url
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    wait_until(lambda: "takes_effect=after_restart" in alloyd.log(), "it is told")
    assert len(endpoints(alloyd)) == 3


def test_shards_stay_in_their_order(make_alloyd, servers):
    """Exchanged on HUP, USR2 or at a start, ids and inserts in doubt would go to servers that do not know them."""
    shards = [servers(), servers()]
    alloyd = make_sharded(make_alloyd, shards).start()
    right = alloyd.sections["clickhouse"]["url"]
    told = "add new ones at the end"
    for wrong in (" | ".join(server.url for server in reversed(shards)), shards[1].url):
        alloyd.sections["clickhouse"]["url"] = wrong
        alloyd.write_ini()
        for name, words in ((signal.SIGHUP, "configuration not reloaded"), (signal.SIGUSR2, "not restarted")):
            before = len(alloyd.log())
            alloyd.signal(name)
            wait_until(lambda: any(words in line and told in line for line in alloyd.log()[before:].splitlines()), words)
    ids = [f"id-{n}" for n in range(100)]
    assert alloyd.post("\n".join(map(event, ids))).status == 202
    alloyd.settled()
    for number, server in enumerate(shards):
        assert rows(server) == {i: 1 for i in ids if shard_of(i, 2) == number}
    alloyd.drain()
    alloyd.spawn_only()
    assert alloyd.wait() == 1
    assert "cannot start" in alloyd.log() and told in alloyd.log()
    alloyd.sections["clickhouse"]["url"] = right
    alloyd.start()
    alloyd.drain()
    (alloyd.sections["journal"]["dir"] / "shards").unlink()  # who means it, with an empty journal
    alloyd.sections["clickhouse"]["url"] = wrong
    alloyd.start(ready=False)
