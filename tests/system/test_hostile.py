# SPDX-License-Identifier: Apache-2.0
"""Names of members are whatever a client sends. Wherever they are told (metrics, /stats, the log, a 422) they are text, short, and few."""

import http.server
import json
import re
import subprocess
import threading

import pytest

from conftest import sections_for
from test_schema import mismatches, start, table  # noqa: F401 - table is a fixture

import harness

# As they stand between the quotes of a JSON body.
NAMES = [
    r"a\" problem=forged level=error x=\"", " forged=1", r"a\\\" forged=1 b=\"", r"tail\\", r"\\", r"\"",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'); DROP TABLE events; --", "n" * 1024, "é" * 600, "😀" * 17,
    r"a\nalloy_forged_total 1", r"\u0000", r"\u001b[31m", '{le=\\"1\\"} 5', "\u0085next", "\u009b31mred", "\u202egnp.exe", "\u2028line",
    "\x7f", "${jndi:ldap://x}", "%s%n%d", "../../etc/passwd", "a,b;c|d", "constructor", "__proto__",
]
INVALID = [b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"a\nb", b"a\x00b", b"\xf4\x90\x80\x80"]
FIELDS_MAX, NAME_MAX = 64 + 10, 64  # series of a stream; bytes of a name
LINE = re.compile(r'(?:# (?:HELP|TYPE) [a-z\d_]+ .*|[a-z\d_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+\})? [-+.e\dNaIinf]+)')
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffd]")


def event(event_id, name, value="1"):
    return b'{"event_id":"%s","tags":[],"%s":%s}' % (event_id.encode(), name if isinstance(name, bytes) else name.encode(), value.encode())


def fields_of(log):
    """The pairs of each line of a logfmt log, which must consist of nothing else."""
    pair = r'([a-z_.]+)=("(?:[^"\\]|\\.)*"|[^" ]*)'
    for line in log.splitlines():
        assert re.fullmatch(f"{pair}(?: {pair})*", line), line
        yield dict(re.findall(pair, line))


def log_of(alloyd, log_format):
    lines = alloyd.log()
    assert not UNSEEN.search(lines.replace("\n", "")), UNSEEN.search(lines.replace("\n", ""))
    return list(fields_of(lines)) if log_format == "logfmt" else [json.loads(line) for line in lines.splitlines()]


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_names_that_fit_no_column_are_text(make_alloyd, clickhouse, table, log_format):  # noqa: F811
    alloyd = start(make_alloyd, clickhouse, table, {"log": {"format": log_format}}, schema="warn")
    harness.wait_until(lambda: alloyd.post(event("first", "known")).status == 202 and mismatches(alloyd), "the columns are known")
    for i, name in enumerate(NAMES):
        assert alloyd.post(event(f"e{i}", name)).status == 202, name
    for name in INVALID:
        answer = alloyd.post(event("bad", name))
        assert answer.status == 400, name
        answer.body.decode()
    text = alloyd.admin("/metrics").body.decode()
    for line in text.splitlines():
        assert LINE.fullmatch(line), line
        assert not UNSEEN.search(line), line
    assert "alloy_forged_total" not in [line.split(" ")[0].split("{")[0] for line in text.splitlines()]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert "error" not in done.stderr.lower() or done.returncode == 3, done.stderr  # 3: its advice about names
    told = alloyd.admin("/stats").json["schema_mismatches"]
    assert len(told) > len(NAMES) and all(len(row["field"].encode()) <= NAME_MAX for row in told)
    assert not UNSEEN.search(json.dumps(told, ensure_ascii=False))
    assert {"n" * 64, "é" * 32, "😀" * 16, "<script>alert(1)</script>", r"\u0000", "?"} <= {row["field"] for row in told}
    assert alloyd.admin("/readyz").json["ready"]
    lines = [line for line in log_of(alloyd, log_format) if "do not fit" in str(line["msg"])]
    assert len(lines) == len(told)  # each its own, once
    for line in lines:
        assert set(line) == {"time", "level", "module", "msg", "stream", "field", "problem", "text"}, line
        assert (line["level"], line["problem"]) == ("warn", "unknown"), line


@pytest.mark.parametrize("first", range(0, len(NAMES), 7))
def test_readyz_tells_of_them_as_text(make_alloyd, clickhouse, table, first):  # noqa: F811
    alloyd = start(make_alloyd, clickhouse, table, schema="off")

    def reason():
        return alloyd.reason_text("clickhouse.events.columns")

    assert alloyd.post('{"event_id":"e","tags":[],%s}' % ",".join(f'"{name}":1' for name in NAMES[first:first + 7])).status == 202
    harness.wait_until(lambda: reason() and "not as it should be" in alloyd.log(), alloyd.log)
    assert not UNSEEN.search(reason()) and len(reason().encode()) < 512, reason()
    lines = [line for line in log_of(alloyd, "logfmt") if "not as it should be" in line["msg"]]
    assert lines and all(set(line) == {"time", "level", "module", "msg", "stream", "table", "reason"} for line in lines), lines


def test_there_are_never_more_than_so_many(make_alloyd, clickhouse, table):  # noqa: F811
    alloyd = start(make_alloyd, clickhouse, table, schema="warn")
    harness.wait_until(lambda: alloyd.post(event("first", "known")).status == 202 and mismatches(alloyd), "the columns are known")
    for i in range(20):
        members = ",".join(f'"flood-{i}-{n}":1' for n in range(200))
        assert alloyd.post(f'{{"event_id":"{i}","tags":[],{members}}}').status == 202
    found = mismatches(alloyd)
    assert len(found) <= FIELDS_MAX and found["", "unknown"] > 1000
    assert len(alloyd.admin("/stats").json["schema_mismatches"]) == len(found)
    assert alloyd.log().count("do not fit their table") <= FIELDS_MAX
    # There is room for what matters more.
    assert alloyd.post('{"event_id":"x","tags":[],"n":5000000000}').status == 202
    assert mismatches(alloyd)["n", "range"] == 1


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_a_refused_name_is_told_as_text(make_alloyd, clickhouse, table, log_format):  # noqa: F811
    alloyd = start(make_alloyd, clickhouse, table, {"log": {"format": log_format, "requests": "refused"}},
                   schema="refuse", on_unknown="refuse")
    harness.wait_until(lambda: alloyd.post(event("first", "known")).status == 422, "the columns are known")
    for name in NAMES:
        answer = alloyd.post(event("e", name, value='"%s"' % ("v" * 50)))
        assert answer.status == 422, name
        assert set(answer.json) == {"error", "message", "column", "got", "event", "offset"}, answer
        assert not UNSEEN.search(answer.body.decode()) and len(answer.json["column"].encode()) <= NAME_MAX
    notes = alloyd.admin("/stats").json["refusals"]
    assert len(notes) >= 10 and all(note["error"] == "schema_mismatch" and note["message"] for note in notes)
    for line in log_of(alloyd, log_format):
        if line["msg"].strip('"') == "request refused":
            assert {"status", "error", "stream", "address", "method", "path", "event", "offset", "message", "suppressed"} == \
                set(line) - {"time", "level", "module", "msg"}, line


def test_a_long_name_and_a_long_type_are_cut_between_characters(make_alloyd, clickhouse, table):  # noqa: F811
    """Cut within one, the whole entry would be missing in /stats: JSON takes no half characters."""
    column, values = "ü" * 40, ", ".join(f"'{'ö' * 12}{n}' = {n}" for n in range(20))
    clickhouse.query(f"DROP TABLE {table}")
    clickhouse.query(f"CREATE TABLE {table} (event_id String, tags Array(UInt8), `{column}` Enum8({values})) ENGINE = MergeTree "
                     "ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100")
    alloyd = start(make_alloyd, clickhouse, table, schema="refuse")
    harness.wait_until(lambda: alloyd.post(event("a", column, '"wrong"')).status == 422, "the columns are known")
    for shift in range(6):
        answer = alloyd.post(event("a", column, '"%s"' % ("x" * shift + "ä" * 30)))
        assert answer.status == 422 and "\ufffd" not in answer.body.decode() and "\\ufffd" not in answer.body.decode()
    assert [note["message"][:12] for note in alloyd.admin("/stats").json["refusals"]][:2] == ['Column "üüüü'] * 2
    told = alloyd.admin("/stats").json["schema_mismatches"]
    assert ("ü" * 32, "Enum8('öööö") in [(row["field"], row["type"][:11]) for row in told]


@pytest.mark.parametrize("line", [b"\xff\xfe\xc2\x9b /v1/events HTTP/1.1", b"POST /v1/\xff\x1b[31m\"x=y HTTP/1.1", b"PO\"ST /v1/a\"b HTTP/1.1",
                                  b"POST /v1/nothing\xe2\x80\xae HTTP/1.1", b"FORGED=1 /v1/events HTTP/1.1"])
def test_request_lines_are_text_too(make_alloyd, line):
    alloyd = make_alloyd(sections_for(None, None, "default.events", log={"requests": "refused"})).start()
    assert b" 40" in alloyd.raw(line + b"\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    notes = alloyd.admin("/stats").json["refusals"]
    assert len(notes) == 1 and not UNSEEN.search(json.dumps(notes, ensure_ascii=False)), notes
    assert not [pairs for pairs in log_of(alloyd, "logfmt") if "forged" in str(pairs.keys()).lower()]


class Babbling(http.server.BaseHTTPRequestHandler):
    """A ClickHouse that refuses everything, in words that are no text."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"Code: 497. DB::Exception: x: Not enough \xff\xfe\x00\x9b\"\xe2\x80\xae" + "ä".encode() * 500 + b" x=1 forged=2"
        self.send_response(403)
        self.send_header("X-ClickHouse-Exception-Code", "497")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *arguments):
        pass


def test_what_a_server_says_is_text_too(make_alloyd):
    """A reason that is no UTF-8 was missing in /readyz, which then said why not."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Babbling) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        alloyd = make_alloyd(sections_for(None, None, "default.events",
                                          clickhouse={"url": f"http://127.0.0.1:{server.server_address[1]}"})).start(ready=False)
        assert alloyd.post(harness.event("a")).status == 202
        try:
            harness.wait_until(lambda: any("497" in r["text"] for r in alloyd.admin("/readyz").json["reasons"]), alloyd.log)
            for path in ("/readyz", "/stats"):
                assert not UNSEEN.search(json.dumps(alloyd.admin(path).json, ensure_ascii=False))
            harness.wait_until(lambda: alloyd.admin("/stats").json["refused_inserts"], lambda: str(alloyd.admin("/stats").json))
            assert not [line for line in log_of(alloyd, "logfmt") if "forged" in line]
        finally:
            alloyd.kill()
            server.shutdown()
            thread.join()
