# SPDX-License-Identifier: Apache-2.0
"""The measuring tools: a load test that cannot fail measures nothing."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

import harness
from conftest import sections_for

BENCH = harness.ROOT / "bench"
SCRIPTS = ["smoke", "steady", "ramp", "storm", "ndjson"]
FAILED_CHECKS, FAILED_SCRIPT = 99, 107

sys.path.insert(0, str(BENCH))
import measure  # noqa: E402 - its place is known only now


def standin(script, port, admin_port, **env):
    """3 iterations of each of 2 virtual users."""
    env = dict(os.environ, BASE_URL=f"http://127.0.0.1:{port}", ADMIN_URL=f"http://127.0.0.1:{admin_port}", **env)
    path = script if os.sep in str(script) else BENCH / "k6" / f"{script}.js"
    return subprocess.run(["node", BENCH / "k6" / "standin.mjs", "--vus", "2", "--iterations", "3", path],
                          env=env, capture_output=True, text=True, timeout=harness.DEADLINE, check=False)


class FakeAlloyd(http.server.BaseHTTPRequestHandler):
    """Answers as its server's fields say: what a real alloyd must never do, or does rarely."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        books = {"received": 0, "rejected": 0, "duplicates": {"l1": 0, "l2": 0}, "dead_lettered": 0, "pending": 0}
        count = self.server.accepted
        books.update(received=count, accepted=count, inserted=count - self.server.lost_silently)
        self.answer(200, {"streams": {"events": {"books": books}}})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        if self.server.status == 202:
            self.server.accepted += 1 - self.server.forgets
        self.answer(self.server.status, {"accepted": 1, "duplicates": 0}, self.server.headers)

    def answer(self, status, value, headers=()):
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in dict(headers, **{"Content-Length": len(data)}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def fake_alloyd(status=202, headers=(), forgets=0, lost_silently=0):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeAlloyd)
    server.status, server.headers, server.forgets, server.lost_silently = status, headers, forgets, lost_silently
    server.accepted, server.bodies, server.port = 0, [], server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def typecheck(folder):
    return subprocess.run([BENCH / "typecheck", folder], capture_output=True, text=True, timeout=harness.DEADLINE,
                          check=False)


def test_k6_scripts_pass_the_type_check():
    done = typecheck(BENCH / "k6")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_type_check_refuses_what_k6_does_not_have(tmp_path):
    folder = tmp_path / "k6"
    shutil.copytree(BENCH / "k6", folder)
    with open(folder / "smoke.js", "a") as f:
        f.write("http.postt(ENDPOINT);\n")
    done = typecheck(folder)
    assert done.returncode != 0 and "postt" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_k6_script_passes_against_alloyd(script, alloyd, clickhouse, table, tmp_path):
    summary = tmp_path / "summary.json"
    done = standin(script, alloyd.port, alloyd.admin_port, SUMMARY=str(summary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accepted" in done.stdout and "FAIL" not in done.stdout.replace("FAIL  http_req_duration", "")
    metrics = json.loads(summary.read_text())["metrics"]
    assert metrics["checks"]["values"]["rate"] == 1 and metrics["alloy_books"]["values"]["rate"] == 1
    books = alloyd.settled()
    count = metrics["alloy_accepted"]["values"]["count"]
    assert count == books["accepted"] == clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") > 0
    assert metrics["alloy_duplicates"]["values"]["count"] == books["duplicate_l1"]


def test_a_storm_is_mostly_duplicates(alloyd):
    done = standin("storm", alloyd.port, alloyd.admin_port)
    assert done.returncode == 0, done.stdout + done.stderr
    books = alloyd.settled()
    assert books["received"] == 2 * 3 * 200 and books["accepted"] < books["duplicate_l1"]


def test_a_script_fails_when_alloyd_answers_503(make_alloyd, own_redis):
    alloyd = make_alloyd(sections_for(own_redis, None, "default.events", ring={"capacity": 150},
                                      worker={"threads": 1, "batch": 100}, redis={"timeout": "30s"})).start()
    # The worker waits for Redis with one request's events, the ring has room for one more.
    own_redis.signal(signal.SIGSTOP)
    done = []
    thread = threading.Thread(target=lambda: done.append(standin("ndjson", alloyd.port, alloyd.admin_port)))
    thread.start()
    codes = harness.wait_until(lambda: (codes := answers(alloyd)) and sum(codes.values()) == 6 and codes, "6 answers")
    own_redis.signal(signal.SIGCONT)
    thread.join()
    output = done[0].stdout + done[0].stderr
    assert done[0].returncode == FAILED_CHECKS and codes["503"] > 0, output
    assert f"answers 503 {codes['503']}" in output and "FAIL  http_req_failed rate<0.001" in output
    assert "pass  alloy_ledger count==0" in output, "a refused event is not to be in the books"
    assert alloyd.settled()["rejected"] == 100 * codes["503"]


def answers(alloyd):
    return measure.answers_by_code(alloyd.metrics())


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_fails_when_alloyd_answers_404(script, make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    done = standin(script, alloyd.port, alloyd.admin_port, STREAM_PATH="/v1/nowhere")
    assert done.returncode == FAILED_CHECKS, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_fails_when_every_answer_is_400(script):
    with fake_alloyd(status=400) as fake:
        assert standin(script, fake.port, fake.port).returncode == FAILED_CHECKS


def test_a_ramp_takes_503_for_backpressure_only_with_retry_after():
    with fake_alloyd(status=503, headers={"Retry-After": "1"}) as fake:
        done = standin("ramp", fake.port, fake.port)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "answers 503 6" in done.stdout
    with fake_alloyd(status=503) as fake:
        assert standin("ramp", fake.port, fake.port).returncode == FAILED_CHECKS


def test_a_steady_load_passes_against_right_books_and_sends_events_of_300_bytes():
    with fake_alloyd() as fake:
        done = standin("steady", fake.port, fake.port)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [len(body) for body in fake.bodies] == [measure.EVENT_BYTES] * 6
        assert len({json.loads(body)["event_id"] for body in fake.bodies}) == 6


def test_a_steady_load_fails_when_an_answered_event_is_not_in_the_books():
    with fake_alloyd(forgets=1) as fake:
        done = standin("steady", fake.port, fake.port)
        assert done.returncode == FAILED_CHECKS, done.stdout + done.stderr
        assert "FAIL  alloy_ledger count==0" in done.stdout


def test_a_steady_load_fails_when_the_books_do_not_balance():
    with fake_alloyd(lost_silently=1) as fake:
        done = standin("steady", fake.port, fake.port)
        assert done.returncode == FAILED_CHECKS, done.stdout + done.stderr
        assert "FAIL  alloy_books rate==1" in done.stdout


def test_a_script_does_not_start_without_alloyd():
    port = harness.free_port()
    done = standin("smoke", port, port)
    assert done.returncode == FAILED_SCRIPT and "not ready" in done.stderr


@pytest.mark.parametrize("line", ["import { Trend } from 'k6/metrics';", "import ws from 'k6/ws';",
                                  "import http from 'k6/http'; http.patch;",
                                  "import http from 'k6/http'; http.get('http://127.0.0.1:1/');"])
def test_the_standin_refuses_what_it_does_not_stand_in_for(line, tmp_path):
    script = tmp_path / "script.js"
    script.write_text(line + "\nexport default function () {}\n")
    done = standin(script, 1, 1)
    assert done.returncode == FAILED_SCRIPT, done.stdout + done.stderr


def bench(tmp_path, *arguments):
    """Runs bench/run; returns its figures."""
    figures = tmp_path / "figures.json"
    done = subprocess.run([BENCH / "run", *arguments, "--json", figures, "--dir", tmp_path],
                          env=dict(os.environ, ALLOY_BUILD_DIR=str(harness.BUILD)),
                          capture_output=True, text=True, timeout=4 * harness.DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.glob("alloy-bench-*")), "the temporary folder stays behind"
    return json.loads(figures.read_text())


SHORT = ["--seconds", "1", "--connections", "8"]


@pytest.mark.parametrize("arguments", [["single", "--discard"], ["ndjson", "--discard", "--memory"], ["duplicates"],
                                       ["single", "--discard", "--sync", "always"]])
def test_a_scenario_balances(arguments, tmp_path):
    figures = bench(tmp_path, *arguments, *SHORT)
    books = figures["books"]
    assert figures["wrong"] == [] and books["pending"] == 0 and books["accepted"] > 0
    assert (books["duplicate_l1"] > 0) == (arguments[0] == "duplicates")
    assert figures["cpu"]["alloyd"]["user"] + figures["cpu"]["alloyd"]["system"] > 0
    if "--discard" not in arguments:
        assert figures["rows"] == [books["inserted"], books["inserted"]]


def test_the_floor_is_a_ratio(tmp_path):
    figures = bench(tmp_path, "floor", "--rounds", "1", *SHORT)
    assert figures["ratio"] > 0 and len(figures["rounds"]) == 1


def test_gzip_is_a_ratio_to_zlib(tmp_path):
    figures = bench(tmp_path, "gzip", "--rounds", "1", *SHORT)
    assert len(figures["rounds"]) == 1 and all(us > 0 for us in figures["rounds"][0])


def test_an_envelope_is_a_ratio_to_a_plain_event(tmp_path):
    figures = bench(tmp_path, "envelope", "--rounds", "1", *SHORT)
    assert figures["wrong"] == [] and figures["ratio"] > 0


def test_a_flood_is_a_ratio_to_p99_alone(tmp_path):
    figures = bench(tmp_path, "flood", "--rounds", "1", *SHORT)
    assert figures["ratio"] > 0 and figures["codes"]["429"] > 0


def test_each_sync_is_a_ratio_to_memory(tmp_path):
    figures = bench(tmp_path, "sync", "--rounds", "1", *SHORT)
    assert figures["wrong"] == [] and figures["ratios"]["memory"] == 1
    assert set(figures["ratios"]) == {"memory", "never", "interval", "always"} and min(figures["ratios"].values()) > 0


def test_keys_and_limits_are_ratios_to_none(tmp_path):
    figures = bench(tmp_path, "keys", "--rounds", "1", *SHORT)
    assert figures["wrong"] == [] and figures["ratios"]["none"] == 1
    assert set(figures["ratios"]) == {"none", "keys", "limits"} and min(figures["ratios"].values()) > 0


def test_memory_holds_all_events_while_redis_is_away(tmp_path):
    figures = bench(tmp_path, "memory", "--events", "5000")
    assert figures["books"]["pending"] == 5000 and figures["over"]["rss"] > 0


RIGHT = {"received": 13, "accepted": 10, "duplicate_l1": 2, "rejected": 1, "inserted": 9, "duplicate_l2": 1,
         "dead_lettered": 0, "pending": 0}


def test_right_books_are_judged_right():
    assert measure.judge(RIGHT, unique=False, rows=(9, 9)) == []


@pytest.mark.parametrize("change, unique, rows, sentence", [
    ({"pending": 1, "inserted": 8}, False, None, "1 events are still pending"),
    ({"received": 14}, False, None, "received is not"),
    ({"inserted": 8}, False, None, "accepted is not"),
    ({"dead_lettered": 1, "inserted": 8}, False, None, "1 events are dead-lettered"),
    ({}, True, None, "duplicates among unique events"),
    ({}, False, (8, 8), "9 events are inserted and 8 rows"),
    ({}, False, (9, 8), "9 rows have 8 different ids"),
])
def test_wrong_books_are_judged_wrong(change, unique, rows, sentence):
    found = measure.judge({**RIGHT, **change}, unique, rows)
    assert len(found) == 1 and sentence in found[0], found


@pytest.mark.parametrize("codes, errors, sentence", [
    ({"202": 12, "400": 1}, {}, "1 answers 400"),
    ({"202": 12}, {"read": 2, "status": 3}, "2 read errors"),
    ({"202": 13, "503": 7}, {}, "13 events are answered 202 and 12"),
])
def test_wrong_answers_are_judged_wrong(codes, errors, sentence):
    found = measure.judge_answers({"errors": errors}, codes, RIGHT, 1)
    assert len(found) == 1 and sentence in found[0], found
    assert measure.judge_answers({"errors": {"status": 7}}, {"202": 12, "503": 7}, RIGHT, 1) == []


# ---- bench/load


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Runs bench/load against an alloyd; returns what it printed."""
    program = measure.build_load(tmp_path_factory.mktemp("load"))

    def run(alloyd, *arguments, url=None):
        done = subprocess.run([program, *map(str, arguments), url or f"http://127.0.0.1:{alloyd.port}/v1/events"],
                              capture_output=True, text=True, timeout=harness.DEADLINE, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.removeprefix("RESULT "))
    return run


@pytest.mark.parametrize("arguments, events", [((), 1), (("--pipeline", 16, "--threads", 2), 1), (("--events", 50), 50),
                                               (("--rate", 2000, "--bytes", 4000), 1)])
def test_load_counts_what_alloyd_counts(make_alloyd, load, arguments, events):
    alloyd = make_alloyd(sections_for(None, None, "default.events", clickhouse={"url": "discard:"})).start()
    result = load(alloyd, "--seconds", 1, "--connections", 8, *arguments)
    answers = measure.answers_by_code(alloyd.metrics())
    assert answers == result["codes"]
    assert sum(result["codes"].values()) == result["requests"] > 0 and result["errors"]["read"] == 0
    books = alloyd.books()
    assert books["duplicate_l1"] == 0 and books["accepted"] == answers["202"] * events


def test_load_in_an_open_loop_counts_the_time_in_which_nobody_answered(make_alloyd, load):
    alloyd = make_alloyd(sections_for(None, None, "default.events", clickhouse={"url": "discard:"})).start()
    stop = threading.Timer(0.5, alloyd.signal, [signal.SIGSTOP])
    go_on = threading.Timer(1.5, alloyd.signal, [signal.SIGCONT])
    for timer in stop, go_on:
        timer.start()
    result = load(alloyd, "--seconds", 2, "--connections", 4, "--rate", 1000)
    # Half of 2000 requests were due while it stood still, and waited for half a second on average.
    # A closed loop would have sent 4.
    assert result["latency_us"]["max"] > 900_000 and result["latency_us"]["p90"] > 500_000
    for timer in stop, go_on:
        timer.join()
