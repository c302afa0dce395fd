# SPDX-License-Identifier: Apache-2.0
"""alloyd --check --connect: what is wrong with Redis and ClickHouse is told at the key's line, soon, and nothing is left."""

import signal
import socket
import subprocess
import time

import pytest

import harness

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
    ini.write_text(INI.format(table=table, redis=redis_url or redis.url if redis else "",
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
