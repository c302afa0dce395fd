# SPDX-License-Identifier: Apache-2.0
"""Several endpoints in clickhouse.url: replicas that die, hang and come back; and tables that are none.

Replicas are fakes (fake_replica.py says what they do and why); plain tables are the real engine's.
"""

import collections
import json
import pathlib
import signal
import sys
import threading

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
        self.thread = threading.Thread(target=self.run)
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


def inserts_at(alloyd, replica):
    return endpoints(alloyd)[replica.name_in_alloyd]["inserts"]


def reasons(alloyd):
    return {r["key"]: r for r in alloyd.admin("/readyz").json["reasons"]}


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
        wait_until(lambda: key in reasons(alloyd), "the dead one is told")
        assert alloyd.readyz(), "the other takes the inserts"
        before = inserts_at(alloyd, b)
        wait_until(lambda: inserts_at(alloyd, b) > before + 3, "the other takes the inserts")
        a.start()
        wait_until(lambda: key not in reasons(alloyd), "it is back")
        before = inserts_at(alloyd, a)
        wait_until(lambda: inserts_at(alloyd, a) > before + 2, "it takes inserts again")

        b.signal(signal.SIGSTOP)
        key = f"clickhouse@{b.name_in_alloyd}"
        wait_until(lambda: key in reasons(alloyd), "the one that hangs is told, long before its inserts time out")
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
        wait_until(lambda: "clickhouse" in reasons(alloyd), "ClickHouse is down")
        replicas[1].start()
        alloyd.settled()
        assert "clickhouse" not in reasons(alloyd)
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
        reason = reasons(alloyd)["clickhouse.events.replicas"]
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
        reason = wait_until(lambda: reasons(alloyd).get("clickhouse.events.replicas"), "it is told")
        assert "different shards" in reason["text"]
        assert alloyd.post(event("1")).status == 202
        wait_until(lambda: not alloyd.readyz(), "not ready")
        assert not ids_of(tmp_path / "a") and not ids_of(tmp_path / "b")
    finally:
        alloyd.kill()
        for replica in replicas:
            replica.kill()
