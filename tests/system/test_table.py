# SPDX-License-Identifier: Apache-2.0
"""alloyctl table: the table that it makes of sample events takes each of them, through alloyd, and gives it back as it was."""

import datetime
import decimal
import itertools
import json
import pathlib
import random
import re
import subprocess

import pytest

import harness
from conftest import sections_for
from test_pipeline import WEBHOOKS

_names = itertools.count(1)
LATEST = "26.7"


def ctl(*arguments, stdin=None, status=0):
    run = subprocess.run([harness.BUILD / "alloyctl", "table", *map(str, arguments)], input=stdin, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, timeout=harness.DEADLINE, check=False)
    assert run.returncode == status, run.stderr.decode()[-2000:]
    return run.stdout.decode(), run.stderr.decode()


def infer(events, *options):
    """{column: type} for a list of events."""
    body = "\n".join(e if isinstance(e, str) else json.dumps(e, ensure_ascii=False) for e in events)
    out, _ = ctl("-", "--json", *options, stdin=body.encode())
    return {c["name"]: c["type"] for c in json.loads(out)["columns"]}


def instant(text, column_type):
    """A text as a moment, to the precision of the column."""
    text = re.sub(r"Z$", "+00:00", text.replace(" ", "T"))
    head, fraction, zone = re.fullmatch(r"([^.+]*?)(?:\.(\d+))?([+-]\d\d:?\d\d)?", text).groups()
    moment = datetime.datetime.fromisoformat(head)
    if zone:
        sign = -1 if zone[0] == "+" else 1
        moment += sign * datetime.timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return moment, (fraction or "").ljust(9, "0")


def same(sent, back, column_type):
    """Whether a value came back as it went in, to the eye of who reads the column."""
    bare = re.sub(r"^(?:Nullable|LowCardinality)\((.*)\)$", r"\1", re.sub(r"^LowCardinality\((.*)\)$", r"\1", column_type))
    if sent is None or back is None:
        return sent is None and back is None
    if bare == "String" and not isinstance(sent, str):
        return json.loads(back, parse_float=decimal.Decimal) == json.loads(json.dumps(sent), parse_float=decimal.Decimal)
    if bare.startswith("DateTime64"):
        return instant(sent, bare) == instant(back, bare)
    if bare.startswith("Array("):
        return len(sent) == len(back) and all(same(s, b, bare[6:-1]) for s, b in zip(sent, back))
    return sent == back and isinstance(sent, bool) == isinstance(back, bool)


def default(column_type):
    if column_type.startswith(("Nullable", "LowCardinality(Nullable")):
        return {None}
    if re.search(r"^(U?Int|Float|Bool)", column_type):
        return {0}
    if column_type.startswith(("Map", "JSON")):
        return {"{}"}
    return {"", "[]", "1970-01-01", "0.0.0.0", "::", "00000000-0000-0000-0000-000000000000", "1900-01-01",
            "1970-01-01 00:00:00.000", "1970-01-01 00:00:00.000000", "1970-01-01 00:00:00.000000000"}


def through(make_alloyd, redis, clickhouse, events, *options, event_id="n"):
    """Makes a table of events, sends each of them, and compares what comes back."""
    path = pathlib.Path(make_alloyd.folder) / "sample.ndjson"
    path.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in events))
    name = f"default.inferred_{next(_names)}"
    out, _ = ctl(path, "--name", name, "--url", clickhouse.url, "--apply", "--json", "--id", event_id, *options)
    table = json.loads(out)
    types = {c["name"]: c["type"] for c in table["columns"]}
    alloyd = make_alloyd(sections_for(redis, clickhouse, name, stream__events={"id": event_id},
                                      redis={"key_prefix": f"{name}:"}))
    alloyd.start()
    for event in events:
        answer = alloyd.post(json.dumps(event, ensure_ascii=False))
        assert answer.status == 202, (answer, event)
    books = alloyd.settled()
    assert books["inserted"] == len(events) and books["dead_lettered"] == 0, books
    rows = {row[event_id]: row for row in map(json.loads, clickhouse.query(
        f"SELECT * FROM {name} FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0").splitlines())}
    assert len(rows) == len(events)
    for event in events:
        row = rows[event[event_id]]
        for column, column_type in types.items():
            if column in event:
                assert same(event[column], row[column], column_type), (column, column_type, event[column], row[column])
            else:
                back = row[column]
                back = json.dumps(back) if isinstance(back, (dict, list)) else back
                assert back in default(column_type), (column, column_type, back)
    assert clickhouse.rows(f"SELECT extract(engine_full, 'non_replicated_deduplication_window = (\\\\d+)') FROM system.tables "
                           f"WHERE database || '.' || name = '{name}'") == [["10000"]]
    reasons = [r["text"] for r in alloyd.admin("/readyz").json["reasons"]]
    assert not reasons, reasons
    return table, types


@pytest.fixture
def make(make_alloyd, tmp_path):
    def make_one(*arguments):
        return make_alloyd(*arguments)
    make_one.folder = tmp_path
    return make_one


VALUES = {
    "flag": [True, False], "small": [0, 7, 200], "below": [-3, 100], "user_id": [1, 99], "big": [2**63, 5], "huge": [10**30, -1],
    "wide": [-1, 2**63 + 1], "max": [2**64 - 1, 0], "real": [0.5, 2, -1e300, 1e-7], "precise": [2**60 + 1, 0.5],
    "text": ["", "é\n\"'`\\\u0001 😀"], "mixed": [1, "1", True, {"a": [1, None]}, [1, "x"], 1.5], "uuid": ["550e8400-e29b-41d4-a716-446655440000"],
    "UUID": ["550E8400-E29B-41D4-A716-446655440000"], "v4": ["10.0.0.1", "255.255.255.255"], "v6": ["::1", "2001:db8::2"],
    "ips": ["10.0.0.1", "::1"], "v6long": ["2001:0db8::0001"], "v4zero": ["010.0.0.1"], "mapped": ["::ffff:1.2.3.4"],
    "day": ["1999-12-31", "2024-02-29"], "noday": ["2023-02-29"], "olden": ["0001-01-01"],
    "at": ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123+02:00", "2026-01-31 12:00:00", "1950-01-01T00:00:00-0800"],
    "micro": ["2026-01-31T12:00:00.123456Z"], "nano": ["2026-01-31T12:00:00.123456789Z", "1969-12-31T23:59:59Z"],
    "leapsecond": ["2016-12-31T23:59:60Z"], "either": ["2026-01-31", "2026-01-31T00:00:00Z"], "clock": ["12:00:00"],
    "null_text": ["x", None], "null_int": [1, None], "null_bool": [None, True], "null_time": ["2026-01-31T12:00:00Z", None],
    "null": [None], "null_list": [[1], None], "null_object": [{"a": 1}, None],
    "list": [[], [1, 2], [-5]], "texts": [["a", ""], []], "nulls": [[1, None]], "empties": [[]], "stamps": [["2026-01-31T12:00:00.5Z"], []],
    "lists": [[[1], [2]]], "objects": [[{"a": 1}]], "list_mixed": [[1, "a"]], "only_null": [[None]],
    "labels": [{}, {"a": "b", "c.d": "2026-01-31T12:00:00Z"}], "label_null": [{"a": None, "b": "x"}], "sums": [{"a": 1, "b": 2}],
    "props": [{"plan": "pro", "seats": 5, "tags": ["a"], "deep": {"x": {"y": 1.5}}}, {}], "prop_null": [{"a": None, "b": 1}],
    "prop_time": [{"at": "2026-01-31T12:00:00Z", "n": 1}], "prop_empty": [{"a": {}, "b": 1}], "prop_dot": [{"a.b": 1, "c": "x"}],
    "prop_big": [{"a": 10**25, "b": "x"}], "prop_lists": [{"a": [[1], [2]], "b": [{"c": 1}, {"d": "x"}]}],
    "n.a": [[1, 2], []], "n.b": [[1], [1, 2, 3]], "we`ird \\ \"name\"": ["x"], "select": [1], "größe": [2], "index": ["a"], "a b": [1],
    "epoch": [1769860800], "epoch_ms": [1769860800123], "Case": [1], "case": ["x"],
}


@pytest.mark.parametrize("version", [None, "24.3", LATEST])
def test_values_of_every_kind_come_back(make, redis, clickhouse, version):
    events = []
    for i in range(max(map(len, VALUES.values())) + 1):
        events.append({"n": i, **{k: v[i] for k, v in VALUES.items() if i < len(v)}})
    table, types = through(make, redis, clickhouse, events, *(["--server-version", version] if version else []))
    expected = {
        "flag": "Bool", "small": "UInt32", "below": "Int32", "user_id": "Int64", "big": "UInt64", "huge": "Int256", "wide": "Int128",
        "real": "Float64", "precise": "String", "mixed": "String", "uuid": "UUID", "UUID": "String", "v4": "IPv4", "v6": "IPv6",
        "ips": "String", "v6long": "String", "v4zero": "String", "mapped": "String", "day": "Date32", "noday": "String",
        "olden": "String", "at": "DateTime64(3, 'UTC')", "micro": "DateTime64(6, 'UTC')", "nano": "DateTime64(9, 'UTC')",
        "leapsecond": "String", "either": "String", "clock": "String", "null_text": "Nullable(String)", "null_bool": "Nullable(Bool)",
        "null_time": "Nullable(DateTime64(3, 'UTC'))", "null": "Nullable(String)", "null_list": "Nullable(String)",
        "null_object": "Nullable(String)", "texts": "Array(String)", "empties": "Array(String)", "stamps": "Array(DateTime64(3, 'UTC'))",
        "nulls": "Array(Nullable(UInt32))", "lists": "String", "objects": "String", "list_mixed": "String", "only_null": "Array(Nullable(String))",
        "labels": "Map(String, String)", "label_null": "Map(String, Nullable(String))", "prop_null": "Map(String, Nullable(UInt32))", "prop_time": "String",
        "prop_empty": "String", "prop_dot": "String", "prop_big": "String", "n.a": "String",
        "props": "String" if version == "24.3" else "JSON", "sums": "Map(String, UInt32)" if version == "24.3" else "JSON",
    }
    assert {k: types[k] for k in expected} == expected
    assert table["id"] == "n"


@pytest.mark.parametrize("seed", range(4))
def test_random_events_come_back(make, redis, clickhouse, seed):
    """Events put together from the same values and from nested ones, in any mixture."""
    r = random.Random(seed)
    pool = [v for values in VALUES.values() for v in values]

    def value(depth):
        if depth == 0 or r.random() < 0.6:
            return r.choice(pool)
        if r.random() < 0.5:
            return [value(depth - 1) for _ in range(r.randrange(4))]
        return {r.choice(["a", "b", "c d", "e"]): value(depth - 1) for _ in range(r.randrange(4))}

    columns = {f"c{i}": r.choice([[value(3) for _ in range(r.randrange(1, 4))], r.choice(list(VALUES.values()))])
               for i in range(60)}
    events = [{"n": i, **{k: r.choice(v) for k, v in columns.items() if r.random() < 0.9}} for i in range(40)]
    through(make, redis, clickhouse, events)


def test_webhooks_of_github_come_back(make, redis, clickhouse):
    hooks = json.loads((WEBHOOKS / "api.github.com" / "index.json").read_text())
    bodies = [(hook["name"], example) for hook in hooks for example in hook["examples"]]
    assert len(bodies) >= 329
    table, types = through(make, redis, clickhouse, [{"delivery": f"d{i}", "event": name, **body} for i, (name, body) in enumerate(bodies)],
                           event_id="delivery")
    assert types["event"] == "LowCardinality(String)"
    assert types["sender"] in ("JSON", "String", "Nullable(String)")
    assert table["order_by"] == ["event", "delivery"]
    # Each kind of hook for itself, as somebody with a stream for each would.
    for hook in hooks[3:6]:
        if hook["examples"]:
            through(make, redis, clickhouse, [{"n": i, **body} for i, body in enumerate(hook["examples"])])


def test_order_partition_and_reasons_are_told(tmp_path):
    path = tmp_path / "s.ndjson"
    path.write_text("".join(json.dumps({"event_id": f"e{i}", "type": ["view", "click"][i % 2], "ts": f"2026-01-31T12:00:{i % 60:02}Z",
                                        "status": 200 + i % 3, "seen": i}) + "\n" for i in range(200)))
    sql, _ = ctl(path, "--name", "`my.db`.`it's`", "--server-version", "25.3")
    assert "CREATE TABLE `my.db`.`it's`\n(" in sql
    assert "`type` LowCardinality(String), -- 2 different texts so far" in sql
    assert "`status` UInt16, -- integers up to 202" in sql
    assert "ORDER BY (`type`, `ts`, `event_id`)" in sql
    assert "\nPARTITION BY toYYYYMM(`ts`)\n" in sql
    assert "\n-- TTL toDateTime(`ts`) + INTERVAL 90 DAY\n" in sql
    assert "SETTINGS non_replicated_deduplication_window = 10000" in sql
    assert "ReplicatedMergeTree(" in sql and "async_insert = auto inserts synchronously" in sql
    assert "id = event_id" in sql


def test_bad_lines_are_named_and_skipped(tmp_path):
    path = tmp_path / "s.ndjson"
    path.write_bytes(b'\xef\xbb\xbf{"a":1}\r\n\n{"a":\n[{"a":2},{"a":3}]\n[1]\n"x"\n{"a":1,"a":2}\n{"a":"\xff"}\n' + b"{" * 30 + b"\n"
                     + b"nonsense\n" * 20 + b'{"a":4}')
    out, err = ctl(path, "--json")
    assert json.loads(out)["events"] == 4
    for line in (3, 5, 6, 7, 8, 9):
        assert f"{path}:{line}: skipped: " in err
    assert "26 lines were skipped" in err
    assert len(err.splitlines()) < 15
    for text in (b"", b"{}\n", b"nothing\n"):
        assert "no event with a member" in ctl("-", stdin=text, status=1)[1]
    assert "No such file" in ctl(tmp_path / "none", status=1)[1]
    assert "no event has the field x" in ctl("-", "--id", "x", stdin=b'{"a":1}', status=1)[1]
    for wrong in (["--name", "t"], ["--server-version", "new"], ["--url", "clickhouse:8123"], []):
        subject = [] if not wrong else ["-"]
        ctl(*subject, *wrong, stdin=b'{"a":1}', status=2)


def test_a_long_sample_takes_little_memory(tmp_path):
    path = tmp_path / "s.ndjson"
    with open(path, "w") as f:
        for i in range(15000):
            f.write(json.dumps({"event_id": f"event-{i}", "payload": "x" * 500, f"k{i % 1200}": i}) + "\n")
        f.write('{"long":"' + "x" * (17 << 20) + '"}\n')
    command = ["/usr/bin/python3", "-c", "import resource,subprocess,sys;resource.setrlimit(resource.RLIMIT_DATA,(96<<20,96<<20));"
               "sys.exit(subprocess.call(sys.argv[1:]))", harness.BUILD / "alloyctl", "table", path]
    if "sanitize" in str(harness.BUILD) or "asan" in str(harness.BUILD) or "tsan" in str(harness.BUILD):
        command = command[3:]
    run = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=harness.DEADLINE, check=False)
    assert run.returncode == 0, run.stderr
    assert b"longer than 16 MiB" in run.stderr
    assert b"members have names that no column can have, or are beyond the first 1000" in run.stdout


def test_a_table_that_exists_is_left_alone(tmp_path, clickhouse):
    name = f"default.inferred_{next(_names)}"
    sample = b'{"event_id":"a","v":1}\n'
    ctl("-", "--name", name, "--url", clickhouse.url, "--apply", stdin=sample)
    before = clickhouse.query(f"SHOW CREATE TABLE {name}")
    err = ctl("-", "--name", name, "--url", clickhouse.url, "--apply", stdin=sample, status=1)[1]
    assert "exists already" in err
    assert clickhouse.query(f"SHOW CREATE TABLE {name}") == before
    # The configuration's ClickHouse; and none that answers.
    ini = tmp_path / "a.ini"
    ini.write_text(f"[stream.a]\ntable = d.t\n[redis]\nurl =\n[clickhouse]\nurl = {clickhouse.url}\n")
    assert "For ClickHouse 2" in ctl("-", "--config", ini, stdin=sample)[0]
    assert "exists already" in ctl("-", "--config", ini, "--name", name, "--apply", stdin=sample, status=1)[1]
    assert "ClickHouse: " in ctl("-", "--url", f"http://127.0.0.1:{harness.free_port()}", stdin=sample, status=1)[1]
    assert "ClickHouse: " in ctl("-", "--url", clickhouse.url, "--name", "nowhere.t", "--apply", stdin=sample, status=1)[1]


def test_ranges_and_names_widen_integers():
    many = [{"age": i % 90, "count": 1, "orderId": 3, "paid": i % 2, "score": -(i % 5)} for i in range(150)]
    types = infer(many)
    assert types == {"age": "UInt16", "count": "Int64", "orderId": "Int64", "paid": "UInt8", "score": "Int16"}
    assert infer(['{"a":18446744073709551616}']) == {"a": "Int256"}
    assert infer(['{"a":' + "9" * 80 + "}"]) == {"a": "String"}


SECTIONS = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", (harness.ROOT / "docs" / "TABLES.md").read_text(), re.M | re.S)
EXAMPLES = {title: dict(zip(("ini", "json", "sql"), (re.findall(rf"```{k}\n(.*?)```", text, re.S) for k in ("ini", "json", "sql"))))
            for title, text in SECTIONS if "```sql" in text}


def test_the_documents_tables_take_their_events(make_alloyd, redis, clickhouse):
    """docs/TABLES.md: each table is created, filled with its events, and answers its queries."""
    assert list(EXAMPLES) == ["Web analytics", "Webhooks", "Service logs"]
    sections = {"redis": {"url": redis.url}, "clickhouse": {"url": clickhouse.url}}
    for title, blocks in EXAMPLES.items():
        head, *lines = blocks["ini"][0].splitlines()
        sections[head.strip("[]")] = dict(line.split(" = ", 1) for line in lines)
        sql = re.sub(r"TTL .*\n", "", blocks["sql"][0])  # its events are of a day that is over one day
        database = re.search(r"CREATE TABLE (\w+)", sql)[1]
        clickhouse.query(f"CREATE DATABASE IF NOT EXISTS {database}")
        clickhouse.query(sql)
    alloyd = make_alloyd(sections).start()
    for title, blocks in EXAMPLES.items():
        stream = re.search(r"stream\.(\w+)", blocks["ini"][0])[1]
        events = blocks["json"][0].splitlines()
        for i, event in enumerate(events):
            answer = alloyd.post(event, f"/v1/{stream}", {"X-Delivery-Id": f"d{i}", "X-Event": "hook"})
            assert answer.json == {"accepted": 1, "duplicates": 0}
        assert alloyd.settled(stream)["inserted"] == len(events) == 3
        for query in blocks["sql"][1:]:
            assert clickhouse.query(query).strip(), query
        table = sections[f"stream.{stream}"]["table"]
        assert clickhouse.count(table) == 3
        # With its TTL too.
        clickhouse.query(f"DROP TABLE {table} SYNC")
        clickhouse.query(blocks["sql"][0])
        # And what the command makes of these events takes them as well.
        types = infer([json.loads(event) for event in events], "--server-version", LATEST)
        assert set(types) == {key for event in events for key in json.loads(event)}
    assert [r["text"] for r in alloyd.admin("/readyz").json["reasons"]] == []
