# SPDX-License-Identifier: Apache-2.0
"""Nobody hears that all is well of what was not read, not asked, or not known."""

import http.server
import json
import signal
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

import harness
from conftest import sections_for
from test_dead_letter import alloyctl, folder
from test_journal_tools import dead, journal

OTHER = {"path": "/v1/other", "table": "default.nothing", "id": "event_id"}


def letter(event_id):
    return json.dumps({"stream": "events", "code": 27, "message": "m", "event": json.loads(harness.event(event_id))}) + "\n"


@pytest.fixture
def relay(own_clickhouse):
    """Passes requests on to ClickHouse; refuses a question that has relay.refuse in it, or hangs up at relay.cut."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            announced = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(announced)
            self.close_connection = len(body) < announced or any(word in body + self.path.encode() for word in server.cut)
            if self.close_connection:
                return
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            try:
                if server.refuse and server.refuse in body:
                    status, told, text = 500, {}, b"Code: 241. DB::Exception: Memory limit exceeded"
                else:
                    asked = urllib.request.Request(own_clickhouse.url + self.path, data=body, headers=headers)
                    with urllib.request.urlopen(asked, timeout=60) as answer:
                        status, told, text = answer.status, answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                status, told, text = error.code, error.headers, error.read()
            self.send_response(status)
            for name, value in told.items():
                if name.lower().startswith("x-clickhouse"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.cut, server.refuse = (), b""
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_drain_that_leaves_events_of_no_stream_is_not_clean(make_alloyd, redis, clickhouse, table):
    first = dead(make_alloyd, redis, table, [("/v1/events", harness.event("a")), ("/v1/other", harness.event("b"))], stream__other=OTHER)
    first.kill()
    second = make_alloyd(sections_for(redis, clickhouse, table, journal={"dir": journal(first)})).start()
    second.settled()
    assert second.drain() == 0
    assert "clean=yes" not in second.log() and "unknown_stream=1" in second.log()


def test_export_and_drop_tell_that_there_may_be_more(make_alloyd, redis):
    alloyd = dead(make_alloyd, redis, "default.t", [("/v1/events", harness.event("a"))], server={"threads": 1})
    alloyd.kill()
    where = journal(alloyd)
    segment, = (path for path in where.glob("*.alj") if b'"a"' in path.read_bytes())
    with open(segment, "r+b") as f:
        f.write(b"no segment")
    for aside in (False, True):
        if aside:
            segment.rename(segment.with_name(segment.name + ".corrupt"))
        assert "there may be more" in alloyctl("journal", "export", where, status=1).stderr
        done = alloyctl("journal", "drop", where, "--stream", "events", "--json", status=1)
        assert json.loads(done.stdout)["read"] is False and "there may be more" in done.stderr


def test_a_last_letter_without_its_line_break_is_no_less_a_letter(alloyd, clickhouse, table):
    where = folder(alloyd)
    fixed = where.parent / "fixed"
    fixed.write_text((letter("a") + letter("b")).rstrip("\n"))
    url = ("--url", f"http://127.0.0.1:{alloyd.port}")
    done = alloyctl("dead-letter", "replay", "--corrected", fixed, *url, where)
    assert "2 events posted" in done.stderr and clickhouse.count(table) == 2
    mine = where / "mine.ndjson"
    mine.write_text((letter("c") + letter("d")).rstrip("\n"))
    assert "2 events in 1 file" in alloyctl("dead-letter", "list", where).stdout
    alloyctl("dead-letter", "replay", *url, where)
    assert clickhouse.count(table) == 4
    # What follows it in a file of several fates begins a line of its own.
    mine.write_text(letter("e") + letter("f").replace("2026", "never", 1).replace('"event_id"', '"no_id"'))
    alloyctl("dead-letter", "replay", *url, where, status=1)
    done = (where / "mine.ndjson.replayed").read_text().splitlines()
    assert [json.loads(line)["event"]["event_id"] for line in done] == ["c", "d", "e"]
    # Part of a line is no letter, and whoever gave the file hears of it.
    fixed.write_text(letter("g") + letter("h")[:40])
    done = alloyctl("dead-letter", "replay", "--corrected", fixed, *url, where, status=1)
    assert "fixed:2: not a dead letter" in done.stderr


def test_files_that_are_not_read_and_folders_of_something_else_are_told(tmp_path, make_alloyd, redis):
    where = tmp_path / "letters"
    where.mkdir()
    (tmp_path / "far.ndjson").write_text(letter("a"))
    (where / "near.ndjson").symlink_to(tmp_path / "far.ndjson")
    for words in (("list",), ("list", "--json"), ("show",), ("replay",), ("replay", "--json")):
        assert "1 file was not read" in alloyctl("dead-letter", *words, where, status=1).stderr
    (where / "near.ndjson").unlink()
    alloyctl("dead-letter", "list", "--json", where)
    alloyd = dead(make_alloyd, redis, "default.t", [("/v1/events", harness.event("a"))])
    for words in (("list",), ("list", "--json"), ("replay",), ("replay", "--json")):
        done = alloyctl("dead-letter", *words, journal(alloyd), status=1)
        assert "looks like the folder of a journal" in done.stdout + done.stderr
    (where / "mine.ndjson").write_text(letter("a"))
    done = alloyctl("dead-letter", "replay", "--stream", "evnts", where)
    assert "name of stream evnts" in done.stderr


def test_prove_tells_what_it_could_not_ask(make_alloyd, redis, own_clickhouse, relay):
    own_clickhouse.query("CREATE TABLE default.p (event_id String, ins String DEFAULT getSetting('insert_deduplication_token')) "
                         "ENGINE = MergeTree ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100")
    sections = sections_for(redis, own_clickhouse, "default.p", clickhouse={"url": relay.url}, stream__events={"proof": "ins"},
                            stream__other=dict(OTHER, table="default.events"))
    alloyd = make_alloyd(sections).start()
    assert alloyd.post('{"event_id":"a"}').status == 202
    alloyd.settled()
    done = alloyctl("prove", "--config", alloyd.ini)
    assert "stream other: it has no proof, so nothing is compared" in done.stdout
    assert json.loads(alloyctl("prove", "--config", alloyd.ini, "--json").stdout)["without_proof"] == ["other"]
    relay.refuse = b" IN (SELECT "
    done = alloyctl("prove", "--config", alloyd.ini, status=1)
    assert "cannot be asked for doubled rows: Code: 241" in done.stderr and " ? " in done.stdout


def doctor(tmp_path, redis, url):
    ini = tmp_path / "doctor.ini"
    ini.write_text(f"[stream.events]\ntable = default.events\n[redis]\nurl = {redis.url}\n[clickhouse]\nurl = {url}\n"
                   f"[journal]\ndir = {tmp_path}/journal\n[dead_letter]\ndir = {tmp_path}/dead-letter\n")
    return [harness.BUILD / "alloyctl", "doctor", "--json", "--config", ini]


def test_a_doctor_who_was_stopped_or_had_no_answer_does_not_say_that_all_holds(tmp_path, own_redis, relay):
    command = doctor(tmp_path, own_redis, relay.url)
    relay.cut = (b'{"\n',)
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    verdicts = {a["assumption"]: a["verdict"] for a in told["assumptions"]}
    assert verdicts["stream.events.bad_row"] == "unknown" and verdicts["stream.events.cut"] == "holds"
    own_redis.signal(signal.SIGSTOP)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    harness.wait_until(lambda: int([line for line in open(f"/proc/{child.pid}/status") if line.startswith("SigCgt")][0].split()[1], 16)
                       & 1 << signal.SIGTERM - 1, "a handler of TERM")
    child.send_signal(signal.SIGTERM)
    own_redis.signal(signal.SIGCONT)
    told = json.loads(child.communicate(timeout=harness.DEADLINE)[0])
    assert (child.returncode, told["stopped"], told["all_hold"]) == (1, True, False)


def test_a_check_that_gets_no_answer_about_a_table_is_not_ok(tmp_path, own_redis, relay):
    relay.cut = (b"system.",)
    doctor(tmp_path, own_redis, relay.url)
    asked = subprocess.run([harness.BUILD / "alloyd", "--check", "--connect", "-c", tmp_path / "doctor.ini"], capture_output=True,
                           text=True, check=False)
    assert asked.returncode == 2 and "nothing is known of table" in asked.stderr and "ok" not in asked.stdout
