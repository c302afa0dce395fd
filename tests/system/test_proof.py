# SPDX-License-Identifier: Apache-2.0
"""stream.proof: of an insert in doubt alloyd asks the table whether it is there, whatever ClickHouse has forgotten.

The deduplication window is one insert here, and others pass it while an insert is in doubt."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

import harness
from conftest import sections_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))
from proxy import Proxy  # noqa: E402

PROVEN = "alloy_clickhouse_proven_inserts_total"
LOST = "alloy_clickhouse_lost_inserts_total"
COLUMN = "ins String DEFAULT getSetting('insert_deduplication_token')"
WINDOW = 1


@pytest.fixture
def proxy(own_clickhouse):
    proxy = Proxy(own_clickhouse.port)
    yield proxy
    proxy.close()


def create(clickhouse, table="default.p", columns=COLUMN, by="", window=WINDOW, engine="MergeTree"):
    columns = f", {columns}" if columns else ""
    clickhouse.query(f"CREATE TABLE {table} (event_id String, v UInt16{columns}) ENGINE = {engine} {by} "
                     f"ORDER BY event_id SETTINGS non_replicated_deduplication_window = {window}")


def make(make_alloyd, redis, clickhouse, url, table="default.p", event_id="event_id", proof="ins", **keys):
    sections = sections_for(redis, clickhouse, table, clickhouse={"url": url, "retry_max": "300ms", **keys})
    sections["stream.events"]["id"] = event_id
    sections["stream.events"]["proof"] = proof
    return make_alloyd(sections)


def events(prefix, n, partitions=1, **fields):
    return "\n".join(json.dumps({"event_id": f"{prefix}{i}", "v": i % partitions, **fields}) for i in range(n))


def swallow(proxy, alloyd, body):
    """Has an insert go in without a word of it coming back, and none of anything else from then on."""
    proxy.falls, proxy.weights = True, {"cut": 1}
    before = proxy.done["cut"]
    assert alloyd.post(body).status == 202
    harness.wait_until(lambda: proxy.done["cut"] > before, "an answer swallowed")


def pass_window(clickhouse, table="default.p", partitions=(0,)):
    """Makes the table forget the tokens that it knows."""
    for i in range(2 * WINDOW + 1):
        for v in partitions:
            clickhouse.query(f"INSERT INTO {table} (event_id, v) SETTINGS async_insert = 0 VALUES ('other-{v}-{i}', {v})")


def once(clickhouse, table="default.p"):
    """How many events of ours there are; each of them is there once."""
    rows, ids = clickhouse.rows(f"SELECT count(), uniqExact(event_id) FROM {table} WHERE event_id NOT LIKE 'other-%'")[0]
    assert rows == ids
    return rows


def readyz(alloyd):
    return alloyd.admin("/readyz").body.decode()


def metric(alloyd, name):
    return alloyd.metrics()[name]


@pytest.mark.parametrize("proof", ["ins", ""])
@pytest.mark.parametrize("engine", ["killed", "alive"])
@pytest.mark.parametrize("life", ["same", "next"])
def test_what_is_there_is_not_sent_again_when_the_window_has_passed(make_alloyd, redis, own_clickhouse, proxy, life, engine,
                                                                    proof):
    create(own_clickhouse, by="PARTITION BY v")
    alloyd = make(make_alloyd, redis, own_clickhouse, proxy.url, proof=proof).start()
    swallow(proxy, alloyd, events("a", 50))
    harness.wait_until(lambda: once(own_clickhouse) == 50, "50 rows")
    if life == "next":
        alloyd.kill()
    pass_window(own_clickhouse)
    if engine == "killed":
        own_clickhouse.kill()
        own_clickhouse.start()
    proxy.heal()
    if life == "next":
        alloyd.start()
    assert alloyd.settled()["inserted"] == 50
    if proof:
        assert once(own_clickhouse) == 50
        assert metric(alloyd, PROVEN) == 1
    else:
        assert own_clickhouse.count("default.p WHERE event_id LIKE 'a%'") == 100, "the window still holds the token"
    assert alloyd.post(events("b", 10)).json == {"accepted": 10, "duplicates": 0}
    alloyd.settled()
    assert own_clickhouse.count("default.p WHERE event_id LIKE 'b%'") == 10


@pytest.mark.parametrize("life", ["same", "next"])
@pytest.mark.parametrize("window", ["passed", "holds"])
def test_of_what_is_there_in_part_the_rest_goes_again(make_alloyd, redis, own_clickhouse, proxy, window, life):
    create(own_clickhouse, by="PARTITION BY v", window=1 if window == "passed" else 1000)
    alloyd = make(make_alloyd, redis, own_clickhouse, proxy.url).start()
    swallow(proxy, alloyd, events("a", 90, 3))
    harness.wait_until(lambda: once(own_clickhouse) == 90, "90 rows")
    if life == "next":
        alloyd.kill()
    path = own_clickhouse.rows("SELECT path FROM system.parts WHERE table = 'p' AND active AND partition = '1'")[0][0]
    if window == "passed":
        pass_window(own_clickhouse, partitions=(0, 1, 2))
    own_clickhouse.kill()
    shutil.rmtree(path)
    own_clickhouse.start()
    assert once(own_clickhouse) == 60
    proxy.heal()
    if life == "next":
        alloyd.start()
    assert alloyd.settled()["inserted"] == 90
    assert once(own_clickhouse) == 90
    # Where the token is known the rest is acknowledged for it alone.
    assert metric(alloyd, LOST) == (window == "holds")


@pytest.mark.parametrize("life", ["same", "next"])
def test_what_never_came_is_sent(make_alloyd, redis, own_clickhouse, proxy, life):
    create(own_clickhouse)
    alloyd = make(make_alloyd, redis, own_clickhouse, proxy.url).start()
    proxy.falls, proxy.weights = True, {"refuse": 1}
    assert alloyd.post(events("a", 300)).status == 202
    harness.wait_until(lambda: proxy.down, "an insert refused")
    if life == "next":
        alloyd.kill()
    proxy.heal()
    if life == "next":
        alloyd.start()
    assert alloyd.settled()["inserted"] == 300
    assert once(own_clickhouse) == 300


def test_events_cannot_fill_the_column(make_alloyd, redis, clickhouse):
    table = "default.proof_forged"
    create(clickhouse, table, columns=f"{COLUMN}, e String EPHEMERAL, d String DEFAULT upper(e)")
    alloyd = make(make_alloyd, redis, clickhouse, clickhouse.url, table).start()
    assert alloyd.post(events("a", 5, ins="liar", INS="liar", e="x")).status == 202
    alloyd.settled()
    token, rows, upper = clickhouse.rows(f"SELECT any(ins), count(), any(d) FROM {table}")[0]
    assert (len(token), rows, upper) == (32, 5, "X")
    clickhouse.query(f"CREATE TABLE {table}_2 (event_id String, v UInt16, {COLUMN}) ENGINE = MergeTree ORDER BY v "
                     "SETTINGS non_replicated_deduplication_window = 100")
    alloyd.drain()
    alloyd = make(make_alloyd, None, clickhouse, clickhouse.url, f"{table}_2").start()
    assert alloyd.post(events("b", 5, ins="liar", INS="liar")).status == 202
    alloyd.settled()
    assert clickhouse.rows(f"SELECT uniqExact(ins), any(length(ins)) FROM {table}_2") == [[1, 32]]


def test_a_column_that_is_not_there_is_a_reason_with_what_to_do(make_alloyd, redis, clickhouse):
    table = "default.proof_none"
    create(clickhouse, table, columns="")
    alloyd = make(make_alloyd, redis, clickhouse, clickhouse.url, table).start()
    alter = f"ALTER TABLE {table} ADD COLUMN ins String DEFAULT getSetting('insert_deduplication_token')"
    harness.wait_until(lambda: alter in readyz(alloyd), lambda: readyz(alloyd))
    assert alloyd.post(events("a", 5)).status == 202
    alloyd.settled()
    clickhouse.query(alter)
    alloyd.drain()
    alloyd.start()
    harness.wait_until(lambda: "events.proof" not in readyz(alloyd), "no reason any more")
    assert alloyd.post(events("b", 5)).status == 202
    alloyd.settled()
    assert clickhouse.rows(f"SELECT ins = '', count() FROM {table} GROUP BY 1 ORDER BY 1") == [[0, 5], [1, 5]]


@pytest.mark.parametrize("mode, engine", [("on", "MergeTree"), ("off", "ReplacingMergeTree")])
def test_where_the_column_cannot_be_trusted_readyz_says_so(make_alloyd, redis, clickhouse, mode, engine):
    table = f"default.proof_{mode}"
    create(clickhouse, table, engine=engine, window=100)
    alloyd = make(make_alloyd, redis, clickhouse, clickhouse.url, table, async_insert=mode).start()
    harness.wait_until(lambda: "clickhouse.events.proof" in readyz(alloyd), "a reason")


def test_a_column_that_goes_and_comes_holds_up_nothing(make_alloyd, redis, clickhouse):
    table = "default.proof_gone"
    create(clickhouse, table)
    alloyd = make(make_alloyd, redis, clickhouse, clickhouse.url, table).start()
    assert alloyd.post(events("a", 5)).status == 202
    alloyd.settled()
    clickhouse.query(f"ALTER TABLE {table} DROP COLUMN ins")
    assert alloyd.post(events("b", 5)).status == 202
    assert alloyd.settled()["inserted"] == 10
    assert once(clickhouse, table) == 10


def prove(alloyd, *options):
    """Exit status, and the document or the text."""
    run = subprocess.run([harness.BUILD / "alloyctl", "prove", "--config", alloyd.ini, *options], capture_output=True, text=True)
    return run.returncode, json.loads(run.stdout) if "--json" in options and run.stdout else run.stdout + run.stderr


def test_prove_compares_the_table_with_the_journal(make_alloyd, redis, clickhouse):
    table = "default.proof_told"
    create(clickhouse, table, window=1000, by="PARTITION BY v")
    alloyd = make(make_alloyd, redis, clickhouse, clickhouse.url, table).start()
    for n in range(3):
        assert alloyd.post(events(f"e{n}-", 20, 2)).status == 202
        alloyd.settled()
    status, told = prove(alloyd, "--json")
    stream = told["streams"][0]
    assert (status, told["differences"]) == (0, [])
    assert {k: stream[k] for k in ("stream", "table", "inserted", "rows", "missing", "doubled", "pending")} == {
        "stream": "events", "table": table, "inserted": 60, "rows": 60, "missing": 0, "doubled": 0, "pending": 0}
    assert stream["inserts"] == 3
    status, text = prove(alloyd)
    assert (status, text.splitlines()[1].split()) == (0, ["events", "3", "60", "60", "0", "0", "0"])

    clickhouse.query(f"ALTER TABLE {table} DELETE WHERE event_id IN ('e1-3', 'e1-4') SETTINGS mutations_sync = 2")
    clickhouse.query(f"INSERT INTO {table} (event_id, v) SETTINGS async_insert = 0 VALUES ('e0-0', 7)")
    status, told = prove(alloyd, "--json", "--stream", "events")
    assert status == 1
    assert (told["streams"][0]["missing"], told["streams"][0]["doubled"]) == (2, 1)
    token = clickhouse.rows(f"SELECT any(ins) FROM {table} WHERE event_id LIKE 'e1-%'")[0][0]
    assert told["differences"] == [{"stream": "events", "token": token, "inserted": 20, "rows": 18}]
    status, text = prove(alloyd)
    assert status == 1 and f"token {token}: 20 events are inserted, 18 are there, in 18 rows" in text
    # A row too many hides none that is missing.
    row = "SELECT event_id, v, ins FROM {0} WHERE event_id = 'e2-0'"
    clickhouse.query(f"ALTER TABLE {table} DELETE WHERE event_id = 'e2-3' SETTINGS mutations_sync = 2")
    clickhouse.query(f"INSERT INTO {table} (event_id, v, ins) SETTINGS async_insert = 0 {row.format(table)}")
    status, told = prove(alloyd, "--json")
    assert status == 1 and (told["streams"][0]["missing"], told["streams"][0]["doubled"]) == (3, 2)

    assert prove(alloyd, "--stream", "other")[0] == 2
    clickhouse.query(f"DROP TABLE {table}")
    status, text = prove(alloyd)
    assert status == 1 and "cannot be asked" in text


def test_prove_needs_a_stream_with_proof(make_alloyd, redis, clickhouse):
    table = "default.proof_unset"
    create(clickhouse, table)
    alloyd = make(make_alloyd, redis, clickhouse, clickhouse.url, table, proof="").start()
    assert prove(alloyd) == (2, "alloyctl: no stream of the configuration has proof\n")


def test_prove_says_what_another_default_hides(make_alloyd, redis, clickhouse):
    table = "default.prove_default"
    create(clickhouse, table, window=1000)
    alloyd = make(make_alloyd, redis, clickhouse, clickhouse.url, table).start()
    assert alloyd.post(events("a", 5)).status == 202
    alloyd.settled()
    clickhouse.query(f"ALTER TABLE {table} MODIFY COLUMN ins String DEFAULT 'other'")
    assert alloyd.post(events("b", 7)).status == 202
    alloyd.settled()
    clickhouse.query(f"ALTER TABLE {table} MODIFY COLUMN {COLUMN}")
    status, told = prove(alloyd, "--json")
    stream = told["streams"][0]
    assert (status, stream["missing"], stream["untold"]) == (0, 0, 7), told
    status, text = prove(alloyd)
    assert status == 0 and "7 events are in the table by their ids, but column ins has not their insert's token" in text, text
    clickhouse.query(f"ALTER TABLE {table} DELETE WHERE event_id = 'b3' SETTINGS mutations_sync = 1")
    status, told = prove(alloyd, "--json")
    stream = told["streams"][0]
    assert (status, stream["missing"], stream["untold"]) == (1, 1, 6), told


def test_an_alter_of_the_default_is_noticed_soon(make_alloyd, redis, clickhouse):
    table = "default.proof_altered"
    create(clickhouse, table, window=1000)
    alloyd = make(make_alloyd, redis, clickhouse, clickhouse.url, table).start()
    assert alloyd.post(events("a", 1)).status == 202
    alloyd.settled()
    clickhouse.query(f"ALTER TABLE {table} MODIFY COLUMN ins String DEFAULT ''")
    harness.wait_until(lambda: "clickhouse.events.proof" in readyz(alloyd), "a reason", 20)


def test_prove_asks_each_insert_s_shard(make_alloyd, redis, tmp_path):
    shards = []
    for i in range(2):
        folder = tmp_path / f"shard-{i}"
        folder.mkdir()
        shards.append(harness.ClickHouse(folder).start())
        create(shards[-1], window=1000)
    try:
        url = "|".join(server.url for server in shards)
        alloyd = make(make_alloyd, redis, shards[0], url).start()
        assert alloyd.post(events("a", 50)).status == 202
        alloyd.settled()
        status, told = prove(alloyd, "--json")
        stream = told["streams"][0]
        assert (status, stream["rows"], stream["missing"], stream["inserts"]) == (0, 50, 0, 2), told
        # As prove reads it: the second shard's first endpoint is away.
        alloyd.sections["clickhouse"]["url"] = f"{shards[0].url}|http://127.0.0.1:{harness.free_port()},{shards[1].url}"
        alloyd.write_ini()
        assert prove(alloyd)[0] == 0
        shards[1].kill()
        status, text = prove(alloyd)
        assert status == 1 and "cannot be asked in shard 2" in text
    finally:
        for server in shards:
            server.kill()
