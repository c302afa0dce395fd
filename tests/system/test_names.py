# SPDX-License-Identifier: Apache-2.0
"""Any name that ClickHouse takes for a database, a table or a column works here, and none of them is a way into SQL."""

import json
import shutil
import subprocess
import sys

import pytest

import harness
from conftest import sections_for
from test_verify import LOST, WINDOW, proxy, start, swallow  # noqa: F401

# As somebody writes it, and the database and the table that it names.
NAMES = [
    ("my-db.events", "my-db", "events"),
    ("größe.событие", "größe", "событие"),
    ("`my.db`.`t.u`", "my.db", "t.u"),
    ("2024.1st", "2024", "1st"),
    ("my db.my events", "my db", "my events"),
    (r"`a\`b`.`it's \\ \"so\"`", "a`b", "it's \\ \"so\""),
    (r"d.`x\x3b DROP TABLE d.keep --`", "d", "x; DROP TABLE d.keep --"),
    ("d.`x`` FORMAT Null`", "d", "x` FORMAT Null"),
    (r"d.`tab\tnew\nline`", "d", "tab\tnew\nline"),
    ("d.`%41&query=x?#/+`", "d", "%41&query=x?#/+"),
    ("d.`{uuid} %s %n $1`", "d", "{uuid} %s %n $1"),
    ("select.from", "select", "from"),
    ("d.' OR 1=1".replace("d.", "d.`") + "`", "d", "' OR 1=1"),
]
COLUMNS = {"`select`": "select", "my-col": "my-col", "größe": "größe", r"`it's \"a\" \\ \`b\``": "it's \"a\" \\ `b`",
           "`a=b: ;c`": "a=b: ;c", "n.dot": "n.dot", r"`tab\t`": "tab\t", "/pointer": "/pointer"}


def quoted(name):
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`").replace("\n", "\\n").replace("\t", "\\t") + "`"


def create(clickhouse, database, table, columns="event_id String, `the id` UInt64"):
    clickhouse.query(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
    clickhouse.query(f"CREATE TABLE {quoted(database)}.{quoted(table)} ({columns}) ENGINE = MergeTree ORDER BY event_id "
                     f"{WINDOW}")


def test_each_name_is_missed_then_found_and_filled(make_alloyd, own_redis, own_clickhouse):
    sections = {"redis": {"url": own_redis.url}, "clickhouse": {"url": own_clickhouse.url, "retry_max": "300ms"}}
    for i, (text, _, _) in enumerate(NAMES):
        sections[f"stream.s{i}"] = {"table": text, "id": "the id", **{f"column.{c}": "path" for c in COLUMNS}}
    own_clickhouse.query("CREATE DATABASE d")
    own_clickhouse.query("CREATE TABLE d.keep (x Int8) ENGINE = MergeTree ORDER BY x")
    alloyd = make_alloyd(sections)
    alloyd.start(ready=False)
    for i, _ in enumerate(NAMES):
        assert alloyd.post(json.dumps({"event_id": "e", "the id": i}), f"/v1/s{i}").status == 202
    harness.wait_until(lambda: all(f"clickhouse.s{i}" in alloyd.reasons() for i in range(len(NAMES))),
                       lambda: f"all are missed: {alloyd.reasons()}")
    columns = "".join(f", {quoted(c)} String" for c in COLUMNS.values())
    for _, database, table in NAMES:
        create(own_clickhouse, database, table, "event_id String, `the id` UInt64" + columns)
    for i, (_, database, table) in enumerate(NAMES):
        alloyd.settled(f"s{i}")
        row = own_clickhouse.rows(f"SELECT * FROM {quoted(database)}.{quoted(table)}")
        assert row == [["e", i] + [f"/v1/s{i}"] * len(COLUMNS)] or row == [["e", str(i)] + [f"/v1/s{i}"] * len(COLUMNS)]
    # Nothing is wrong with them then: their window was read, their columns were compared, their marks are theirs.
    harness.wait_until(lambda: not alloyd.reasons(), lambda: f"no reasons: {alloyd.reasons()}")
    assert own_clickhouse.count("d.keep") == 0
    assert "mark" not in alloyd.log() or "foreign" not in alloyd.log()
    for i, _ in enumerate(NAMES):
        # identity, name, stamp: three words, whatever the name is.
        assert len(own_redis.command("GET", f"alloy:#table:s{i}").split(b" ")) == 3
    # A table that goes is named in ClickHouse's words, and known for this one's.
    for _, database, table in NAMES:
        own_clickhouse.query(f"DROP TABLE {quoted(database)}.{quoted(table)} SYNC")
    for i, _ in enumerate(NAMES):
        assert alloyd.post(json.dumps({"event_id": "f", "the id": 100 + i}), f"/v1/s{i}").status == 202
    harness.wait_until(lambda: all(f"clickhouse.s{i}" in alloyd.reasons() for i in range(len(NAMES))),
                       lambda: f"all are missed again: {alloyd.reasons()}")
    for _, database, table in NAMES:
        create(own_clickhouse, database, table)
    for i, _ in enumerate(NAMES):
        alloyd.settled(f"s{i}")


def test_an_event_with_a_member_of_a_columns_name_is_refused_or_wins(make_alloyd, redis, own_clickhouse):
    create(own_clickhouse, "d-b", "t", "event_id String" + "".join(f", {quoted(c)} String" for c in COLUMNS.values()))
    for conflict in ("refuse", "event"):
        alloyd = make_alloyd(sections_for(redis, own_clickhouse, "d-b.t", stream__events={
            "column_conflict": conflict, **{f"column.{c}": "path" for c in COLUMNS}})).start()
        for i, column in enumerate(COLUMNS.values()):
            answer = alloyd.post(json.dumps({"event_id": f"e{i}", column: "own"}))
            assert answer.status == (400 if conflict == "refuse" else 202), answer
            if conflict == "refuse":
                assert answer.json["error"] == "invalid_event"
        alloyd.settled()
    for i, column in enumerate(COLUMNS.values()):
        assert own_clickhouse.rows(f"SELECT {quoted(column)} FROM `d-b`.t WHERE event_id = 'e{i}'") == [["own"]]
    assert own_clickhouse.count("`d-b`.t") == len(COLUMNS)


@pytest.mark.parametrize("text, database, table", [NAMES[0], NAMES[5], NAMES[8]])
def test_rows_that_a_kill_took_are_missed_under_any_name(make_alloyd, redis, own_clickhouse, proxy, text, database,  # noqa: F811
                                                         table):
    create(own_clickhouse, database, table, "event_id String, `the\\`id` UInt64")
    name = f"{quoted(database)}.{quoted(table)}"
    alloyd = start(make_alloyd, redis, own_clickhouse, proxy, text, "event_id, the`id")
    swallow(proxy, alloyd, "\n".join(json.dumps({"event_id": f"e{i}", "the`id": i}) for i in range(20)))
    harness.wait_until(lambda: own_clickhouse.count(name) == 20, "20 rows")
    path = own_clickhouse.rows(f"SELECT path FROM system.parts WHERE active AND rows = 20 AND database = '{database}'"
                               .replace("`", "\\`"))[0][0]
    own_clickhouse.kill()
    shutil.rmtree(path)
    own_clickhouse.start()
    assert own_clickhouse.count(name) == 0
    proxy.heal()
    alloyd.settled()
    assert own_clickhouse.count(name) == own_clickhouse.count(name, "uniqExact(event_id)") == 20
    assert alloyd.metrics()[LOST] == 1


def test_a_dump_of_any_name_reads_back(tmp_path):
    text = "".join(f"[stream.s{i}]\ntable = {text}\n" + "".join(f"column.{c} = path\n" for c in COLUMNS)
                   for i, (text, _, _) in enumerate(NAMES))
    dumps = []
    for i in range(3):
        (tmp_path / f"{i}.ini").write_text(text)
        run = subprocess.run([harness.BUILD / "alloyd", "-D", "-c", tmp_path / f"{i}.ini"], stdout=subprocess.PIPE,
                             stderr=sys.stderr, check=True)
        text = run.stdout.decode()
        dumps.append(text)
    assert dumps[0] == dumps[1] == dumps[2]
