# SPDX-License-Identifier: Apache-2.0
"""alloyd --check --connect: what is wrong with Redis and ClickHouse is told at the key's line, soon, and nothing is left."""

import signal
import socket
import subprocess
import time

import pytest

import harness
from test_endpoints import Replica, servers  # noqa: F401 (a fixture)
from test_redis_cluster import cluster  # noqa: F401 (a fixture)

INI = """[stream.events]
table = {table}
id = event_id
[redis]
url = {redis}
[clickhouse]
url = {clickhouse}
"""
TABLE, REDIS, CLICKHOUSE = 2, 5, 7  # their lines


def check(tmp_path, redis, clickhouse, *options, table="default.events", more="", redis_url=None):
    """(exit status, what was said) of a check; it takes seconds at most, whatever the peers do."""
    ini = tmp_path / "connect.ini"
    ini.write_text(INI.format(table=table, redis=redis_url or (redis.url if redis else ""),
                              clickhouse=clickhouse.url if clickhouse else "discard:") + more)
    begin = time.monotonic()
    run = subprocess.run([harness.BUILD / "alloyd", "--check", "--connect", "-c", ini, *options], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, timeout=harness.DEADLINE, check=False)
    assert time.monotonic() - begin < 15
    return run.returncode, run.stdout.decode().replace(str(ini), "FILE")


def problems(text):
    return [line for line in text.splitlines() if "warning: " not in line]


@pytest.fixture
def events(clickhouse):
    clickhouse.query("DROP TABLE IF EXISTS default.connect SYNC")
    return clickhouse.create_events("default.connect")


def test_what_is_as_it_should_be_is_ok_and_nothing_stays(tmp_path, redis, clickhouse, events):
    redis.command("CONFIG", "SET", "appendonly", "yes")
    try:
        assert check(tmp_path, redis, clickhouse, table=events) == (0, "FILE: ok\n")
    finally:
        redis.command("CONFIG", "SET", "appendonly", "no")
    status, text = check(tmp_path, redis, clickhouse, table=events)
    assert status == 0
    assert f"FILE:{REDIS}: warning: redis.url: appendonly is off" in text
    assert problems(text) == ["FILE: ok"]
    assert redis.command("DBSIZE") == 0
    assert clickhouse.count(events) == 0
    assert check(tmp_path, None, None) == (0, "FILE: ok\n")


def test_connect_goes_with_check(tmp_path):
    run = subprocess.run([harness.BUILD / "alloyd", "--connect"], stderr=subprocess.PIPE, check=False)
    assert run.returncode == 2 and b"--check" in run.stderr


@pytest.mark.parametrize("stopped", [False, True])
def test_peers_that_do_not_answer_are_told_in_time(tmp_path, own_redis, own_clickhouse, stopped):
    for peer in (own_redis, own_clickhouse):
        if stopped:
            peer.signal(signal.SIGSTOP)
        else:
            peer.kill()
    status, text = check(tmp_path, own_redis, own_clickhouse)
    assert status == 2
    first, second = problems(text)
    assert first.startswith(f"FILE:{REDIS}: redis.url: ") and str(own_redis.port) in first
    assert second.startswith(f"FILE:{CLICKHOUSE}: clickhouse.url: it cannot be reached: ")


def test_a_peer_that_is_something_else_is_told(tmp_path, redis, clickhouse):
    """Redis where ClickHouse should be, and the other way round."""
    status, text = check(tmp_path, redis, clickhouse, "-o", f"redis.url=redis://127.0.0.1:{clickhouse.port}",
                         "-o", f"clickhouse.url=http://127.0.0.1:{redis.port}")
    assert status == 2
    assert [line.split(": ")[:2] for line in problems(text)] == [["--set redis.url=********", "redis.url"],
                                                                 ["--set clickhouse.url=********", "clickhouse.url"]]


@pytest.mark.parametrize("commands, words", [
    ([("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")], "maxmemory-policy is allkeys-lru, as soon as maxmemory is set: it forgets"),
    ([("CONFIG", "SET", "maxmemory-policy", "volatile-ttl"), ("CONFIG", "SET", "maxmemory", "100mb")],
     "maxmemory-policy is volatile-ttl: it forgets"),
    ([("CONFIG", "SET", "maxmemory", "1")], "(OOM"),
    ([("CONFIG", "SET", "requirepass", "geheim")], "(NOAUTH"),
    ([("ACL", "SETUSER", "default", "-set")], "(NOPERM"),
    ([("ACL", "SETUSER", "default", "-mget")], "(NOPERM"),
    ([("ACL", "SETUSER", "default", "resetkeys", "~other:*")], "(NOPERM"),
    ([("ACL", "SETUSER", "default", "-eval", "-del")], "(NOPERM"),
    ([("REPLICAOF", "127.0.0.1", "1")], "(READONLY"),
])
def test_a_redis_that_cannot_keep_claims_is_told(tmp_path, own_redis, commands, words):
    for command in commands:
        own_redis.command(*command)
    status, text = check(tmp_path, own_redis, None)
    assert status == 2
    assert f"FILE:{REDIS}: redis.url: " in text
    assert words in text and (words[0] != "(" or f" is refused by 127.0.0.1:{own_redis.port} (" in text)
    assert len(problems(text)) == 1


@pytest.mark.parametrize("name, number, least", [("entries", 127, 128), ("value", 10, 11)])
def test_a_redis_that_packs_no_claims_is_told(tmp_path, own_redis, name, number, least):
    own_redis.command("CONFIG", "SET", "appendonly", "yes")
    packed = ("-o", "redis.layout=packed")
    own_redis.command("CONFIG", "SET", f"hash-max-listpack-{name}", least)
    assert check(tmp_path, own_redis, None, *packed) == (0, "FILE: ok\n")
    own_redis.command("CONFIG", "SET", f"hash-max-listpack-{name}", number)
    assert check(tmp_path, own_redis, None) == (0, "FILE: ok\n")
    status, text = check(tmp_path, own_redis, None, *packed)
    assert status == 0 and problems(text) == ["FILE: ok"]
    assert (f"warning: redis.layout: its hash-max-listpack-{name} is {number}: packed claims take three to five times the memory. "
            f"CONFIG SET hash-max-listpack-{name} {least}, and in its redis.conf") in text
    own_redis.command("ACL", "SETUSER", "default", "-config|get")
    text = check(tmp_path, own_redis, None, *packed)[1]
    assert "its hash-max-listpack-entries cannot be read (" in text and "it must be at least 128" in text


def test_a_wrong_password_is_told_and_not_shown(tmp_path, own_redis):
    own_redis.command("CONFIG", "SET", "requirepass", "richtig")
    status, text = check(tmp_path, own_redis, None, redis_url=own_redis.url.replace("redis://", "redis://:geheim@"))
    assert status == 2
    assert "WRONGPASS" in text and "geheim" not in text
    assert check(tmp_path, own_redis, None, redis_url=own_redis.url.replace("redis://", "redis://:richtig@"))[0] == 0


def test_tables_are_looked_at(tmp_path, clickhouse):
    clickhouse.query("DROP TABLE IF EXISTS default.connect_bare SYNC")
    clickhouse.query("CREATE TABLE default.connect_bare (id String, seen ALIAS id) ENGINE = MergeTree ORDER BY id")
    status, text = check(tmp_path, None, clickhouse, table="default.nowhere")
    assert (status, problems(text)) == (2, [f"FILE:{TABLE}: stream.events.table: table default.nowhere does not exist, or its "
                                            "user may not see it"])
    status, text = check(tmp_path, None, clickhouse, "-o", "stream.events.column.seen=received_at",
                         "-o", "stream.events.column.other=path", table="default.connect_bare")
    assert status == 2
    assert f"FILE:{TABLE}: stream.events.table: table default.connect_bare: no non_replicated_deduplication_window" in text
    assert "MODIFY SETTING non_replicated_deduplication_window" in text
    assert "no column seen, which" in text and "no column other, which" in text
    assert f"FILE:{TABLE}: warning: stream.events.table: table default.connect_bare has no column for the id field event_id" in text
    assert len(problems(text)) == 3


def test_what_inserts_meet_is_told(tmp_path, redis, clickhouse, events):
    status, text = check(tmp_path, redis, clickhouse, table=events, more="setting.no_such_setting = 1\n")
    assert status == 2
    assert "is refused" in text and "no_such_setting" in text


def test_a_port_that_speaks_no_http_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, text = check(tmp_path, None, None, "-o", f"clickhouse.url=http://127.0.0.1:{port}")
    assert status == 2
    assert "--set clickhouse.url=********: clickhouse.url: it cannot be reached" in text


def test_a_column_that_is_to_prove_and_does_not_is_told(tmp_path, redis, clickhouse, events):
    # The section of the stream is the first; an override names the key.
    status, text = check(tmp_path, redis, clickhouse, "-o", "stream.events.proof=ins", table=events)
    alter = f"ALTER TABLE {events} ADD COLUMN ins String DEFAULT getSetting('insert_deduplication_token')"
    assert status == 2 and "stream.events.proof" in text and alter in text, text
    clickhouse.query(alter)
    status, text = check(tmp_path, redis, clickhouse, "-o", "stream.events.proof=ins", table=events)
    assert (status, problems(text)) == (0, ["FILE: ok"]), text


@pytest.fixture
def replicas(tmp_path):
    """Makes fakes of replicated tables, not started where they are to be away."""
    made = []

    def make(path="/clickhouse/tables/01/events", start=True):
        store = tmp_path / "store"
        store.mkdir(exist_ok=True)
        made.append(Replica(tmp_path, f"replica-{len(made)}", store, path))
        return made[-1].start() if start else made[-1]

    yield make
    for one in made:
        one.kill()


def listed(*shards):
    return "clickhouse.url=" + "|".join(",".join(server.url for server in shard) for shard in shards)


def test_every_endpoint_is_asked_and_named(tmp_path, replicas):
    a, b, c = replicas(), replicas(), replicas("/clickhouse/tables/02/events")
    gone, hangs = replicas(start=False), replicas()
    assert check(tmp_path, None, None, "-o", listed([a, b], [c]))[0] == 0
    hangs.signal(signal.SIGSTOP)
    status, text = check(tmp_path, None, None, "-o", listed([a, gone], [c, hangs]))
    assert status == 2
    told = problems(text)
    assert len(told) == 2, text
    for line, server in zip(told, (gone, hangs)):
        assert f"clickhouse.url: {server.name_in_alloyd}: it cannot be reached: " in line, line


def test_tables_are_looked_at_at_every_endpoint(tmp_path, servers):  # noqa: F811
    shards = [servers(), servers(), servers()]
    assert check(tmp_path, None, None, "-o", listed(*([s] for s in shards)))[0] == 0
    shards[1].query("DROP TABLE default.events SYNC")
    shards[2].query("ALTER TABLE default.events MODIFY SETTING non_replicated_deduplication_window = 0")
    status, text = check(tmp_path, None, None, "-o", listed(*([s] for s in shards)))
    assert status == 2
    missing, window = problems(text)
    assert f"FILE:{TABLE}: stream.events.table: 127.0.0.1:{shards[1].port}: table default.events does not exist" in missing
    assert f"stream.events.table: 127.0.0.1:{shards[2].port}: table default.events: no non_replicated" in window
    # Plain tables share no tokens.
    status, text = check(tmp_path, None, None, "-o", listed(shards[:2]))
    assert status == 2
    assert f"127.0.0.1:{shards[0].port}: table default.events is not replicated" in text


def test_paths_in_keeper_tell_which_shard_it_is(tmp_path, replicas):
    a, b, c = replicas(), replicas("/clickhouse/tables/02/events"), replicas()
    status, text = check(tmp_path, None, None, "-o", listed([a, b]))
    assert status == 2 and "different paths in Keeper at the endpoints of shard 1" in text
    status, text = check(tmp_path, None, None, "-o", listed([a], [c]))
    assert status == 0 and "warning: stream.events.table: table default.events has one path in Keeper in shards 1 and 2" in text


def test_one_server_under_two_names_is_told(tmp_path, replicas):
    one = replicas()
    status, text = check(tmp_path, None, None, "-o", f"{listed([one])},{one.url.replace('127.0.0.1', 'localhost')}")
    assert status == 2 and f"clickhouse.url: localhost:{one.port}: this is the same server as 127.0.0.1:{one.port}" in text


def test_a_port_that_is_left_out_is_told(tmp_path):
    status, text = check(tmp_path, None, None, "-o", "clickhouse.url=http://127.0.0.1")
    assert status == 2 and "without a port this is 80; ClickHouse's own is 8123" in text


def test_proof_with_async_inserts_is_warned_of(tmp_path):
    run = subprocess.run([harness.BUILD / "alloyd", "--check", "-o", "stream.events.table=d.t", "-o", "stream.events.proof=ins",
                          "-o", "clickhouse.async_insert=on", "-c", "/dev/null"], capture_output=True, check=False)
    said = (run.stdout + run.stderr).decode()
    assert run.returncode == 0 and "warning: stream.events.proof tells nothing with clickhouse.async_insert = on" in said


def test_every_node_of_a_cluster_is_asked_and_named(tmp_path, cluster):  # noqa: F811
    nodes = cluster("--appendonly", "yes")
    url = nodes.url(count=6)
    assert check(tmp_path, None, None, redis_url=url) == (0, "FILE: ok\n")
    a, b, c = nodes.masters()
    b.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    c.command("ACL", "SETUSER", "default", "-eval")
    a.command("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    status, text = check(tmp_path, None, None, redis_url=url)
    assert status == 2
    assert len(problems(text)) == 2, text
    assert f"redis.url: 127.0.0.1:{b.port}: its maxmemory-policy is allkeys-lru" in text
    assert f"redis.url: EVAL is refused by 127.0.0.1:{c.port} (" in text
    assert f"warning: redis.url: 127.0.0.1:{a.port}: cluster-require-full-coverage is yes" in text
    replica = nodes.replica_of(a)
    replica.kill()
    status, text = check(tmp_path, None, None, redis_url=url)
    assert f"redis.url: 127.0.0.1:{replica.port} of the list cannot be reached (" in text
    a.signal(signal.SIGSTOP)
    status, text = check(tmp_path, None, None, redis_url=url)
    assert f"redis.url: 127.0.0.1:{a.port} of the list cannot be reached (" in text
    assert f"SET is not answered by 127.0.0.1:{a.port} (" in text
