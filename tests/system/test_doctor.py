# SPDX-License-Identifier: Apache-2.0
"""alloyctl doctor: with everything as it should be all assumptions hold; each thing broken on order is found; nothing stays."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

import harness
from test_connect import listed, replicas  # noqa: F401 (a fixture)
from test_endpoints import servers  # noqa: F401 (a fixture)
from test_redis_cluster import cluster  # noqa: F401 (a fixture)

EVENTS = ("CREATE TABLE {} (event_id String, v Int32 DEFAULT 0, received_at DateTime64(3) DEFAULT now64(3)) "
          "ENGINE = MergeTree {} ORDER BY event_id {}")
WINDOW = "SETTINGS non_replicated_deduplication_window = 10000"


@pytest.fixture
def world(tmp_path, own_redis, own_clickhouse):
    own_redis.command("CONFIG", "SET", "appendonly", "yes")
    own_clickhouse.query("DROP TABLE default.events SYNC")
    return World(tmp_path, own_redis, own_clickhouse)


class World:
    def __init__(self, folder, redis, clickhouse):
        self.ini = folder / "doctor.ini"
        self.redis, self.clickhouse = redis, clickhouse
        self.sections = {
            "stream.events": {"table": "default.events"},
            "redis": {"url": redis.url},
            "clickhouse": {"url": clickhouse.url},
            "server": {"max_connections": 1000},
            "journal": {"dir": folder / "journal", "max_bytes": "512MiB"},
            "dead_letter": {"dir": folder / "dead-letter"},
        }

    def create(self, table="default.events", partition="", settings=WINDOW):
        self.clickhouse.query(EVENTS.format(table, partition, settings))

    def command(self):
        with open(self.ini, "w") as f:
            for section, keys in self.sections.items():
                f.write(f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()))
        return [harness.BUILD / "alloyctl", "doctor", "--config", self.ini]

    def run(self, *options):
        return subprocess.run([*self.command(), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=harness.DEADLINE, check=False)

    def ask(self, status):
        """{assumption: [verdict, text, todo]} of a run with --json, which ends with that status."""
        run = self.run("--json")
        answer = json.loads(run.stdout)
        assert run.returncode == status, json.dumps([a for a in answer["assumptions"] if a["verdict"] == "does not hold"], indent=1)
        assert answer["all_hold"] == (status == 0)
        assert self.left() == []
        return {a["assumption"]: (a["verdict"], a["text"], a["todo"]) for a in answer["assumptions"]}

    def fails(self):
        return {k: f"{text} -> {todo}" for k, (verdict, text, todo) in self.ask(1).items() if verdict == "does not hold"}

    def left(self):
        tables = self.clickhouse.rows("SELECT name FROM system.tables WHERE database = 'default' AND name LIKE 'alloy%'")
        keys = self.redis.command("KEYS", "*doctor*") if self.redis.alive() else []
        return [t for [t] in tables] + keys


def test_all_holds_where_all_is_right(world):
    world.create()
    found = world.ask(0)
    for key in ("redis.there", "stream.events.claim", "redis.eviction", "redis.persistence", "redis.failover", "redis.latency",
                "clickhouse.there", "stream.events.there", "stream.events.window", "stream.events.rows", "stream.events.views",
                "stream.events.same", "stream.events.mark", "stream.events.token", "stream.events.cut", "stream.events.bad_row",
                "clock.redis", "clock.clickhouse", "clock.steps", "limits.maps", "disk.journal.sync", "disk.journal.room"):
        assert found[key][0] == "holds", (key, found.get(key))
    for key in ("redis.keys", "alloyd.back", "tables.rows", "tables.same", "disk.bytes", "disk.power"):
        assert found[key][0] == "unknown" and found[key][2]
    # What the kernel does is the machine's.
    device = world.ini.parent.stat().st_dev
    ahead = pathlib.Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    assert ahead.exists() == ("disk.journal.readahead" in found)
    if ahead.exists():
        kib = int(ahead.read_text())
        verdict, told, todo = found["disk.journal.readahead"]
        assert verdict == ("holds" if kib <= 1024 else "unknown") and f"reads {kib} KiB ahead" in told
        assert (f"{ahead} to 128" in (todo or "")) == (kib > 1024)
    assert world.clickhouse.count("default.events") == 0
    assert world.redis.command("DBSIZE") == 0
    assert not (world.ini.parent / "journal").exists()
    text = world.run().stdout.decode()
    assert "holds          stream.events.token: an insert sent twice gave its rows once" in text
    assert ", 0 do not, " in text.splitlines()[-1]


def test_replicas_that_are_waited_for_and_are_not_there_are_told(world):
    world.create()
    world.sections["redis"]["wait_replicas"] = 1
    assert "it has 0 replicas, and redis.wait_replicas is 1" in world.fails()["redis.failover"]


def test_it_is_harmless_beside_a_running_alloyd(world, make_alloyd):
    world.create()
    alloyd = make_alloyd({k: v for k, v in world.sections.items() if k not in ("server",)}).start()
    assert alloyd.post('{"event_id":"a"}').status == 202
    alloyd.settled()
    found = world.ask(0)
    assert "are this table's" in found["stream.events.mark"][1]
    assert alloyd.post('{"event_id":"a"}').json["duplicates"] == 1
    assert alloyd.post('{"event_id":"b"}').status == 202
    alloyd.settled()
    assert world.clickhouse.count("default.events") == 2
    assert alloyd.readyz()


@pytest.mark.parametrize("commands, key, words", [
    ([("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")], "redis.eviction", "allkeys-lru"),
    ([("CONFIG", "SET", "appendonly", "no")], "redis.persistence", "appendonly is off"),
    ([("CONFIG", "SET", "appendfsync", "no")], "redis.persistence", "appendfsync is no"),
    ([("CONFIG", "SET", "maxmemory", "900kb")], "redis.room", "maxmemory"),
    ([("ACL", "SETUSER", "default", "-eval")], "stream.events.claim", "NOPERM"),
    ([("SET", "alloy:#table:events", "another default.other 1.1")], "stream.events.mark", "another table"),
    ([("CONFIG", "SET", "hash-max-listpack-entries", "64")], "redis.packed",
     "hash-max-listpack-entries is 64: packed claims take three to five times the memory -> CONFIG SET hash-max-listpack-entries 128"),
    ([("CONFIG", "SET", "hash-max-listpack-value", "8")], "redis.packed", "CONFIG SET hash-max-listpack-value 11"),
])
def test_what_is_wrong_with_redis_is_found(world, commands, key, words):
    world.create()
    world.sections["redis"]["layout"] = "packed" if key == "redis.packed" else "keys"
    for command in commands:
        world.redis.command(*command)
    fails = world.fails()
    if key == "redis.room":  # where so little memory is left no claim is taken either
        fails.pop("stream.events.claim", None)
    assert list(fails) == [key], fails
    assert words in fails[key]


def test_how_packed_claims_are_kept_is_looked_at_where_there_are_some(world):
    world.create()
    world.redis.command("CONFIG", "SET", "hash-max-listpack-entries", "64")
    assert "redis.packed" not in world.ask(0)
    world.redis.command("CONFIG", "SET", "hash-max-listpack-entries", "128")
    world.sections["redis"]["layout"] = "packed"
    assert world.ask(0)["redis.packed"][0] == "holds"
    world.redis.command("ACL", "SETUSER", "default", "-config|get")
    verdict, text, todo = world.ask(0)["redis.packed"]
    assert verdict == "unknown" and "NOPERM" in text and "hash-max-listpack-entries is at least 128" in todo


def test_peers_that_are_away_are_found_soon(world):
    world.create()
    world.redis.signal(signal.SIGSTOP)
    begin = time.monotonic()
    run = world.run("--json")
    world.redis.signal(signal.SIGCONT)
    assert time.monotonic() - begin < 30
    fails = [a["assumption"] for a in json.loads(run.stdout)["assumptions"] if a["verdict"] == "does not hold"]
    assert run.returncode == 1 and fails == ["stream.events.claim"]
    world.redis.kill()
    assert list(world.fails()) == ["redis.there"]
    world.sections["redis"]["url"] = ""
    assert list(world.fails()) == ["redis.there"]
    world.clickhouse.kill()
    run = world.run("--json")
    fails = [a["assumption"] for a in json.loads(run.stdout)["assumptions"] if a["verdict"] == "does not hold"]
    assert run.returncode == 1 and fails == ["redis.there", "clickhouse.there"]


@pytest.mark.parametrize("how, key, words", [
    ({"settings": ""}, "stream.events.window", "no non_replicated_deduplication_window"),
    ({"settings": "SETTINGS non_replicated_deduplication_window = 50"}, "stream.events.window", "window of 50"),
    ({"partition": "PARTITION BY toYYYYMM(received_at)"}, "stream.events.same", "received_at"),
])
def test_tables_that_double_rows_are_found(world, how, key, words):
    world.create(**how)
    fails = world.fails()
    if not how.get("settings", WINDOW):
        assert "twice" in fails.pop("stream.events.token")
        fails.pop("stream.events.cut", None)
    assert list(fails) == [key], fails
    assert words in fails[key]


def test_a_table_that_is_missing_and_other_engines_are_told(world):
    fails = world.fails()
    assert list(fails) == ["stream.events.there"] and "does not exist" in fails["stream.events.there"]
    world.clickhouse.query("CREATE TABLE default.events (event_id String) ENGINE = Memory")
    assert list(world.fails()) == ["stream.events.window"]


def test_windows_of_views_targets_are_looked_at(world):
    world.create()
    world.create("default.`t.good`", "")
    world.create("default.bad", "", "")
    world.clickhouse.query("CREATE MATERIALIZED VIEW default.v1 TO default.`t.good` AS SELECT * FROM default.events")
    world.ask(0)
    world.clickhouse.query("CREATE MATERIALIZED VIEW default.v2 TO default.bad AS SELECT * FROM default.events")
    fails = world.fails()
    assert list(fails) == ["stream.events.views"] and "default.bad" in fails["stream.events.views"]
    world.clickhouse.query("DROP TABLE default.v2 SYNC")
    world.clickhouse.query("CREATE MATERIALIZED VIEW default.v3 ENGINE = MergeTree ORDER BY event_id AS SELECT * FROM default.events")
    fails = world.fails()
    assert list(fails) == ["stream.events.views"] and ".inner" in fails["stream.events.views"]


def test_constraints_that_change_their_mind_and_ids_without_a_column_are_found(world):
    world.clickhouse.query("CREATE TABLE default.events (id String, ts DateTime DEFAULT 0, CONSTRAINT c CHECK ts < now()) "
                           f"ENGINE = MergeTree ORDER BY id {WINDOW}")
    fails = world.fails()
    assert sorted(fails) == ["stream.events.rows", "stream.events.same"]
    assert "event_id" in fails["stream.events.rows"] and "constraint" in fails["stream.events.same"]


def test_a_ttl_and_names_of_any_kind_do_not_disturb_the_trial(world):
    world.clickhouse.query("CREATE DATABASE `my-d.b`")
    world.clickhouse.query("CREATE TABLE `my-d.b`.`it's` (event_id UUID, ts DateTime, n Nullable(Int8), j JSON) ENGINE = MergeTree "
                           f"ORDER BY event_id TTL ts + INTERVAL 1 DAY {WINDOW}")
    world.sections["stream.events"]["table"] = "`my-d.b`.`it's`"
    found = world.ask(0)
    assert found["stream.events.token"][0] == found["stream.events.cut"][0] == "holds"


def test_a_journal_on_tmpfs_or_without_rights_or_room_is_found(world):
    world.create()
    assert os.path.ismount("/dev/shm"), "the test needs a tmpfs"
    folder = pathlib.Path("/dev/shm") / f"alloy-doctor-{os.getpid()}"
    world.sections["journal"]["dir"] = folder / "a" / "b"
    fails = world.fails()
    assert "tmpfs" in fails.pop("disk.journal.stays")
    fails.pop("disk.journal.room", None)
    assert not fails and not folder.exists()
    world.sections["journal"].update(dir=world.ini.parent / "journal", max_bytes="4096GiB", segment="1GiB")
    assert list(world.fails()) == ["disk.journal.room"]
    world.sections["journal"].update(mode="memory", max_bytes="auto", segment="64MiB")
    assert "kill loses" in world.fails()["disk.journal.stays"]
    world.sections["journal"].update(mode="file", dir=world.ini / "journal", max_bytes="512MiB")
    run = world.run()
    assert run.returncode == 2 and b"journal.dir" in run.stderr


def test_a_wrong_configuration_and_command_line_are_2(world):
    world.sections["redis"]["url"] = "nonsense"
    assert world.run().returncode == 2
    assert subprocess.run([harness.BUILD / "alloyctl", "doctor", "x"], stderr=subprocess.PIPE, check=False).returncode == 2


def test_interrupted_it_removes_what_it_made_and_a_later_run_what_a_killed_one_left(world):
    world.create()
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(world.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        harness.wait_until(lambda p=process: world.left() or p.poll() is not None, "a scratch table", interval=0.001)
        process.send_signal(number)
        _, err = process.communicate(timeout=harness.DEADLINE)
        assert process.returncode in (0, 1), err
        assert world.left() == []
    # What was left long ago goes; what another run makes just now stays, and so does what only looks alike.
    now = int(time.time())
    for name in (f"alloy_doctor_{now - 7200}_abc", f"alloy_doctor_{now}_abc", "alloy_doctors"):
        world.clickhouse.query(f"CREATE TABLE default.{name} (x Int8) ENGINE = Memory")
    assert world.run().returncode == 0
    assert world.left() == [f"alloy_doctor_{now}_abc", "alloy_doctors"]


def run_json(world):
    run = world.run("--json")
    return run.returncode, [(a["assumption"], a["verdict"], a["text"]) for a in json.loads(run.stdout)["assumptions"]]


def test_each_endpoint_is_asked_and_named(world, servers):  # noqa: F811
    first, second = servers(), servers()
    gone = f"127.0.0.1:{harness.free_port()}"
    world.sections["clickhouse"]["url"] = f"{first.url}|{second.url}|http://{gone}"
    second.query("DROP TABLE default.events SYNC")
    status, found = run_json(world)
    names = [f"127.0.0.1:{server.port}: " for server in (first, second)] + [f"{gone}: "]
    assert status == 1
    there = [(verdict, text) for key, verdict, text in found if key == "clickhouse.there"]
    assert [verdict for verdict, _ in there] == ["holds", "holds", "does not hold"]
    assert all(text.startswith(name) for (_, text), name in zip(there, names)), there
    assert [(v, t) for k, v, t in found if k == "stream.events.there" and not t.startswith(names[0])] \
        == [("does not hold", f"{names[1]}table default.events does not exist, or its user may not see it")]
    assert [t.split("an insert")[0] for k, v, t in found if k == "stream.events.token"] == [names[0]]
    assert len([k for k, _, _ in found if k == "stream.events.mark"]) == 1


def test_replicas_that_are_none_are_found(world, servers, replicas):  # noqa: F811
    plain = servers()
    a, b = replicas(), replicas("/clickhouse/tables/02/events")
    world.sections["clickhouse"]["url"] = f"{plain.url},{a.url},{b.url}"
    _, found = run_json(world)
    verdicts = {text.split(": ")[0]: verdict for key, verdict, text in found if key == "stream.events.replicas"}
    assert verdicts[f"127.0.0.1:{plain.port}"] == "does not hold"


def test_each_node_of_a_cluster_is_asked_and_named(world, cluster):  # noqa: F811
    world.create()
    nodes = cluster("--appendonly", "yes")
    world.sections["redis"]["url"] = nodes.url(count=6)
    status, found = run_json(world)
    claims = [text for key, verdict, text in found if key == "stream.events.claim" and verdict == "holds"]
    assert sorted(text.split(": ")[0] for text in claims) == sorted(f"127.0.0.1:{n.port}" for n in nodes.masters())
    assert len([1 for key, verdict, _ in found if key == "redis.coverage" and verdict == "holds"]) == 3
    a, b, c = nodes.masters()
    a.command("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    b.command("ACL", "SETUSER", "default", "-mget")
    dead = nodes.replica_of(c)
    dead.kill()
    status, found = run_json(world)
    fails = {key: text for key, verdict, text in found if verdict == "does not hold"}
    assert status == 1 and set(fails) == {"redis.coverage", "stream.events.claim", "redis.there"}, fails
    assert fails["redis.coverage"].startswith(f"127.0.0.1:{a.port}: ")
    assert fails["stream.events.claim"].startswith(f"127.0.0.1:{b.port}: ")
    assert fails["redis.there"].startswith(f"127.0.0.1:{dead.port}: ")
