# SPDX-License-Identifier: Apache-2.0
"""Dead letters whose id or columns came with their request: a replay gives them back, and nobody else can."""

import collections
import hashlib
import json
import time

import pytest

import harness
from conftest import sections_for
from test_dead_letter import alloyctl, folder, letters

COLUMNS = {"column.at": "received_at", "column.ip": "client_address", "column.agent": "user_agent", "column.who": "key",
           "column.tenant": "header:X-Tenant", "column.größe": "header:X-Size"}
FIRST = {"User-Agent": 'first "client"', "X-Tenant": "t\xe9", "X-Size": "L"}
PROXY = {"X-Forwarded-For": "192.0.2.7"}


@pytest.fixture
def door(make_alloyd, redis, own_clickhouse, tmp_path):
    """alloyd with a table whose column n takes numbers only, until accept_all()."""
    def start(columns=COLUMNS, **keys):
        own_clickhouse.query("CREATE TABLE default.c (id String DEFAULT '-', at DateTime64(3, 'UTC'), ip String DEFAULT '-', "
                             "agent String DEFAULT '-', who String DEFAULT '-', tenant String DEFAULT '-', `größe` String DEFAULT '-', n UInt8, x String) "
                             "ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 10000")
        alloyd = make_alloyd(sections_for(
            redis, own_clickhouse, "default.c", stream__events={**columns, **keys}, server={"trusted_proxies": "127.0.0.1"},
            clickhouse={"retry_max": "300ms"})).start()
        alloyd.url = f"http://127.0.0.1:{alloyd.port}"
        alloyd.get = lambda what: own_clickhouse.rows(f"SELECT {what} FROM default.c ORDER BY n, id")
        alloyd.claims = lambda: sorted(redis.command("KEYS", "alloy:events:?*"))
        return alloyd

    def accept_all():
        own_clickhouse.query("ALTER TABLE default.c MODIFY COLUMN n String")
    start.accept_all = accept_all
    return start


def dead(alloyd, n):
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] == n and alloyd.metrics()["alloy_dead_letter_releasing"] == 0,
                       "dead letters")


def replay(alloyd, *words, status=0):
    return alloyctl("dead-letter", "replay", "--url", alloyd.url, *words, folder(alloyd), status=status).stderr


def again(alloyd):
    for path in folder(alloyd).glob("*.replayed"):
        path.rename(path.with_suffix(""))


KINDS = {
    "header": ({"id": "header:X-Id"}, {"X-Id": "h1"}, '{"n":"bad"}', [b"h1"]),
    "bytes": ({"id": "header:X-Id"}, {"X-Id": "h\xff\xfe"}, '{"n":"bad"}', [b"h\xff\xfe"]),
    "joined": ({"id": "header:X-Id, id"}, {"X-Id": "a:b"}, '{"n":"bad","id":7}', [b"a\\:b:7"]),
    "numbered": ({"id": "header:X-Id"}, {"X-Id": "m"}, '{"n":"bad"}{"n":"worse"}', [b"m", b"m:1"]),
    "generated": ({"id": "id", "missing_id": "generate"}, {}, '{"n":"bad"}', None),
    "hashed": ({"id": "id", "missing_id": "hash"}, {}, '{\n"n":"bad"}', None),
    "member": ({"id": "id"}, {}, '{"id":"m","n":"bad"}', [b"m"]),
    "empty": ({"id": "header:X-Id"}, {"X-Id": "e"}, '{"n":"bad","x":"%s"}' % ("y" * 400000), [b"e"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_gives_an_event_its_id_and_columns_back(door, kind):
    keys, headers, body, ids = KINDS[kind]
    alloyd = door(**keys)
    before = time.time()
    count = 2 if kind == "numbered" else 1
    assert alloyd.post(body, headers={**FIRST, **PROXY, **headers}).json == {"accepted": count, "duplicates": 0}
    dead(alloyd, count)
    after = time.time()
    # Still refused: the letters that come of it are as complete as the first.
    for i in (2, 3):
        assert f"{count} accepted, 0 duplicates: 0 inserted, {count} refused again" in replay(alloyd, status=1)
        dead(alloyd, i * count)
    assert list(collections.Counter(letter.get("id", letter.get("id_hex")) for letter in letters(alloyd)).values()) == [3] * count
    assert len(list(folder(alloyd).glob("*.renewed"))) == 2
    door.accept_all()
    assert f"{count} accepted, 0 duplicates" in replay(alloyd)
    assert alloyd.settled()["inserted"] == count
    for row in alloyd.get("ip, agent, tenant, toUnixTimestamp64Milli(at)"):
        assert row[:3] == ["192.0.2.7", 'first "client"', "t\ufffd"]
        assert before - 1 <= int(row[3]) / 1000 <= after + 1
    if ids is not None:
        assert alloyd.claims() == [b"alloy:events:" + text for text in ids]
    again(alloyd)
    assert "0 accepted" in replay(alloyd)
    # The client itself tries again, after all: it is known.
    if kind != "generated":
        assert alloyd.post(body, headers=headers).json == {"accepted": 0, "duplicates": count}
    assert alloyd.settled()["inserted"] == count


def test_an_event_that_another_alloyd_holds_is_found_by_its_id(door, make_alloyd, redis, own_clickhouse):
    alloyd = door(id="header:X-Id")
    assert alloyd.post('{"n":"bad"}', headers={"X-Id": "shared"}).json["accepted"] == 1
    dead(alloyd, 1)
    other = make_alloyd(sections_for(redis, own_clickhouse, "default.c", stream__events={"id": "header:X-Id"})).start()
    assert other.post('{"n":1}', headers={"X-Id": "shared"}).json["accepted"] == 1
    other.settled()
    door.accept_all()
    replay(alloyd, "--wait", "3", status=1)
    assert alloyd.settled()["inserted"] == 0
    assert len(alloyd.get("n")) == 1


def test_ordinary_letters_have_nothing_more_and_need_no_key(door):
    alloyd = door(columns={}, id="id")
    assert alloyd.post('{"id":"a\\u0031","n":"bad"}').json["accepted"] == 1
    dead(alloyd, 1)
    letter, = letters(alloyd)
    assert list(letter) == ["time", "lsn", "stream", "code", "message", "event"]
    assert not (folder(alloyd) / "replay.key").exists()
    assert "1 accepted" in replay(alloyd, status=1)


def test_without_the_key_letters_are_posted_as_a_client_would_or_not_at_all(door, tmp_path):
    alloyd = door(id="id", missing_id="generate")
    assert alloyd.post('{"n":"bad"}', headers=FIRST).json["accepted"] == 1
    dead(alloyd, 1)
    key = folder(alloyd) / "replay.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.rename(tmp_path / "elsewhere")
    told = replay(alloyd, status=1)
    assert "replay.key" in told and "--plain" in told and "--replay-key" in told
    assert len(list(folder(alloyd).glob("*.ndjson"))) == 1
    (tmp_path / "wrong").write_text("0" * 64 + "\n")
    told = replay(alloyd, "--replay-key", tmp_path / "wrong", status=1)
    assert "401" in told and "not signed" in told
    door.accept_all()
    assert "1 accepted" in replay(alloyd, "--replay-key", tmp_path / "elsewhere", "--keep")
    assert "1 accepted" in replay(alloyd, "--plain")
    alloyd.settled()
    assert sorted(row[0] for row in alloyd.get("agent"))[1] == 'first "client"'
    assert len(alloyd.get("agent")) == 2
    # The file comes back with the next letter, the same.
    assert alloyd.post('{"n":"good","at":1}', headers=FIRST).status == 400


def test_the_key_outlives_a_restart_and_serves_where_clients_need_keys(door, tmp_path):
    (tmp_path / "keys").write_text("web b2:" + hashlib.blake2b(b"sesame", digest_size=32).hexdigest() + " *\n")
    alloyd = door(id="header:X-Id", answer='200 {"fine":1}')
    alloyd.sections["auth"] = {"keys_file": tmp_path / "keys"}
    alloyd.finish()
    alloyd.start()
    assert alloyd.post('{"n":"bad"}', headers={"X-Id": "1", "X-Api-Key": "sesame"}).status == 200
    dead(alloyd, 1)
    alloyd.finish()
    alloyd.start()
    door.accept_all()
    assert "1 accepted" in replay(alloyd)
    alloyd.settled()
    assert alloyd.get("who, ip") == [["web", "127.0.0.1"]]


def test_an_edited_event_keeps_what_was_around_it_and_has_its_own_new_id(door, tmp_path):
    alloyd = door(id="id, header:X-Kind|kind", column_conflict="event")
    assert alloyd.post('{"id":"a","kind":"k","n":"bad"}\n{"id":"b","kind":"k","n":"bad","tenant":"own"}', headers=FIRST).json["accepted"] == 2
    dead(alloyd, 2)
    path, = folder(alloyd).glob("*.ndjson")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["columns"].get("tenant") for line in lines] == ["t\ufffd", None]
    lines[0]["event"].update(n=1, tenant="mine", größe="XL")
    lines[0]["id"] = "new"
    lines[1]["event"]["n"] = 2
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "2 accepted" in replay(alloyd)
    alloyd.settled()
    assert alloyd.get("tenant, `größe`, agent, n") == [["mine", "XL", 'first "client"', 1], ["own", "L", 'first "client"', 2]]
    assert alloyd.claims() == [b"alloy:events:b:k", b"alloy:events:new"]


def test_nobody_else_can_say_what_a_request_told(door):
    alloyd = door(id="header:X-Id")
    assert alloyd.post('{"n":"bad"}', headers={"X-Id": "1"}).json["accepted"] == 1
    dead(alloyd, 1)
    key = bytes.fromhex((folder(alloyd) / "replay.key").read_text())
    body = '{"id":"f","columns":{"ip":"192.0.2.1"},"event":[{"n":1}]}\n'

    def voucher(body, key=key, at=0):
        text = f"{int((time.time() + at) * 1000)} {hashlib.blake2b(body.encode(), digest_size=32).hexdigest()}"
        return f"{text} {hashlib.blake2b(text.encode(), key=key, digest_size=32).hexdigest()}"

    good = voucher(body)
    for bad in ("1", "x" * 143, voucher(body, b"k" * 32), voucher(body + " "), voucher(body, at=-400), voucher(body, at=400),
                good[:-1], good + "0", good[:-1] + ("0" if good[-1] != "0" else "1"), "9" + good):
        answer = alloyd.post(body, headers={"Alloy-Replay": bad, "X-Id": "f"})
        assert (answer.status, answer.json["error"]) == (401, "unauthorized"), bad
    # Without a voucher it is an event with members of these names, and it has the request's columns.
    assert alloyd.post(body, headers={"X-Id": "plain"}).json["accepted"] == 1
    alloyd.settled()
    assert alloyd.get("ip") == [["127.0.0.1"]]
    assert alloyd.claims() == [b"alloy:events:plain"]
    for what, error in (('{"columns":{},"event":[{"n":1}]}', "missing_id"), ('{"id":"","event":[{"n":1}]}', "invalid_id"),
                        ('{"id":7,"event":[{"n":1}]}', "invalid_id"), ('{"id_hex":"6","event":[{"n":1}]}', "invalid_id"),
                        ('{"id_hex":"6x","event":[{"n":1}]}', "invalid_id"), ('{"n":1}', "missing_id"),
                        ('{"id":"%s","event":[{"n":1}]}' % ("i" * 5000), "invalid_id"), ('{"id":"a","event":[{"n":1]}', "invalid_json"),
                        ('{"id":"a","columns":{"x":"%s"},"event":[{"n":1}]}' % ("i" * 61440), "too_large"),
                        ('{"id":"a","event":[{"ip":1}]}', "invalid_event"), ('{"id":"a","event":[]}', "empty")):
        answer = alloyd.post(what, headers={"Alloy-Replay": voucher(what)})
        assert answer.json["error"] == error, (what[:80], answer.body)
    assert alloyd.post(body, headers={"Alloy-Replay": good}).json == {"accepted": 1, "duplicates": 0}
    alloyd.settled()
    assert sorted(alloyd.get("ip")) == [["127.0.0.1"], ["192.0.2.1"]]
