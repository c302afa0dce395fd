# SPDX-License-Identifier: Apache-2.0
"""From start to exit: signals, drain, reload, systemd, and the quick start."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
from conftest import sections_for

SERVICE = harness.ROOT / "config" / "alloyd.service"


def post_many(alloyd, prefix, requests=20, events=50):
    for n in range(requests):
        answer = alloyd.post("\n".join(harness.event(f"{prefix}-{n}-{i}") for i in range(events)))
        assert answer.json == {"accepted": events, "duplicates": 0}, answer
    return requests * events


def segments(alloyd):
    folder = alloyd.folder / f"{alloyd.name}-journal"
    return sorted(path.name for path in folder.rglob("*") if re.search(r"\d{4,}|segment|\.seg", path.name))


def log_lines(alloyd, *words):
    return [line for line in alloyd.log().splitlines() if all(word in line for word in words)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_0_with_everything_inserted(make_alloyd, redis, clickhouse, table, number):
    # A batch would wait for a minute: the drain must not.
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, worker={"linger": "1min"})).start()
    sent = post_many(alloyd, "x")
    alloyd.signal(number)
    assert alloyd.wait(20) == 0
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") == sent
    assert len(log_lines(alloyd, "draining")) >= 1 and len(log_lines(alloyd, "drained", "clean=yes")) == 1
    assert not log_lines(alloyd, "level=error") and not log_lines(alloyd, "level=warn")


def test_term_under_load_loses_nothing_that_was_answered(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    answered, lock = set(), threading.Lock()

    def load(c):
        client, n = alloyd.client(), 0
        while True:
            ids = [f"{c}-{n}-{i}" for i in range(20)]
            try:
                status = harness.request(client, "\n".join(map(harness.event, ids))).status
            except (OSError, harness.http.client.HTTPException):
                return
            if status == 202:
                with lock:
                    answered.update(ids)
            else:
                assert status == 503
                return
            n += 1

    def stop():
        harness.wait_until(lambda: len(answered) > 2000, "load")
        alloyd.signal(signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    harness.in_threads(4, load)
    stopper.join()
    assert alloyd.wait() == 0
    rows = {row[0] for row in clickhouse.rows(f"SELECT event_id FROM {table}")}
    assert not answered - rows and clickhouse.count(table) == len(rows)


def test_two_lives_on_one_journal_folder_leave_no_segment_behind(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    total = 0
    for life in range(3):
        if life > 0:
            alloyd.start()
        total += post_many(alloyd, f"life-{life}", 5)
        assert segments(alloyd)
        assert alloyd.drain() == 0
        assert segments(alloyd) == [], "left by a clean drain"
        assert clickhouse.count(table) == total
    assert not log_lines(alloyd, "level=warn") and not log_lines(alloyd, "level=error")


def test_a_drain_of_nothing_is_quick(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    with alloyd.connect(), alloyd.connect():  # idle clients hold nobody up
        assert alloyd.drain(5) == 0


@pytest.fixture
def held_up(make_alloyd, tmp_path):
    """An alloyd with an event that it cannot get rid of, since ClickHouse is away."""
    clickhouse = harness.ClickHouse(tmp_path)  # never started
    alloyd = make_alloyd(sections_for(None, clickhouse, "default.events", drain={"timeout": "60s"}))
    alloyd.start(ready=False, env=harness.EXIT_AT_ONCE)
    assert alloyd.post(harness.event("a")).status == 202
    return alloyd


def begin_drain(alloyd):
    alloyd.signal(signal.SIGTERM)
    harness.wait_until(lambda: b"draining" in alloyd.admin("/readyz").body, "draining")


def test_the_admin_port_stays_up_during_a_drain(held_up):
    held_up.allow_exit = {1}
    begin_drain(held_up)
    ready = held_up.admin("/readyz")
    assert ready.status == 503 and ready.json["ready"] is False
    assert any(reason["key"] == "draining" and reason["blocking"] for reason in ready.json["reasons"])
    assert held_up.admin("/healthz").status == held_up.admin("/metrics").status == held_up.admin("/").status == 200
    assert held_up.admin("/stats").json["ready"] is False
    assert held_up.books()["pending"] == 1
    harness.assert_balanced(held_up.books())
    harness.wait_until(lambda: not held_up.listens(), "closed listeners")
    held_up.signal(signal.SIGTERM)
    assert held_up.wait(10) == 1


@pytest.mark.parametrize("first, second", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM),
                                           (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_exits_at_once_and_keeps_the_journal(held_up, first, second):
    held_up.signal(first)
    harness.wait_until(lambda: log_lines(held_up, "draining"), held_up.log)
    held_up.signal(signal.SIGHUP)  # is no second signal
    held_up.signal(second)
    assert held_up.wait(5) == 1
    held_up.start(ready=False)
    assert held_up.books()["pending"] == 1
    held_up.sections["drain"]["timeout"] = "50ms"
    held_up.write_ini()
    held_up.signal(signal.SIGHUP)
    harness.wait_until(lambda: log_lines(held_up, "drain.timeout", "now"), held_up.log)
    assert held_up.drain() == 0
    assert log_lines(held_up, "events_left=1")
    assert segments(held_up)


# ---- linger


@pytest.fixture
def lingering(make_alloyd):
    """An alloyd that lingers, and an idle connection that was there before."""
    alloyd = make_alloyd(sections_for(None, None, "default.events", drain={"linger": "1min"})).start(env=harness.EXIT_AT_ONCE)
    with alloyd.connect() as idle:
        alloyd.readyz()
        begin_drain(alloyd)
        yield alloyd, idle
        if alloyd.alive():
            alloyd.allow_exit = {1}
            alloyd.signal(signal.SIGTERM)
            assert alloyd.wait(5) == 1, "a second signal exits at once"


def http_request(path, body=b"", method="POST"):
    return b"%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (method.encode(), path.encode(), len(body), body)


def test_while_it_lingers_events_are_taken_and_readyz_says_503(lingering):
    alloyd, idle = lingering
    ready = alloyd.admin("/readyz")
    assert ready.status == 503 and [reason["key"] for reason in ready.json["reasons"]] == ["draining"]
    answer = alloyd.post("", "/readyz", method="GET")
    assert answer.status == 503 and answer.json == {"ready": False, "reasons": [{"key": "draining"}]}
    assert alloyd.admin("/healthz").status == alloyd.post("", "/healthz", method="GET").status == 200
    idle.sendall(http_request("/v1/events", harness.event("a").encode()))
    answer = harness.read_answer(idle)
    assert answer.status == 202 and answer.headers["Connection"] == "close"
    assert idle.recv(1) == b""
    with alloyd.connect() as new:
        new.sendall(http_request("/v1/events", harness.event("b").encode()) + http_request("/v1/events", harness.event("c").encode()))
        first, last = harness.read_answer(new), harness.read_answer(new)
        assert first.status == last.status == 202 and last.headers["Connection"] == "close"
        assert new.recv(1) == b""
    assert alloyd.books()["accepted"] == 3


def test_a_refused_request_during_linger_closes_too(lingering):
    _, idle = lingering
    idle.sendall(http_request("/v1/nothing", b"{}"))
    answer = harness.read_answer(idle)
    assert answer.status == 404 and answer.headers["Connection"] == "close" and idle.recv(1) == b""


def test_after_linger_idle_connections_are_closed_and_the_drain_goes_on(make_alloyd, tmp_path):
    clickhouse = harness.ClickHouse(tmp_path)  # never started
    alloyd = make_alloyd(sections_for(None, clickhouse, "default.events", drain={"linger": "1500ms", "timeout": "60s"}))
    alloyd.start(ready=False, env=harness.EXIT_AT_ONCE)
    with alloyd.connect() as idle:
        assert alloyd.post(harness.event("a")).status == 202
        begin_drain(alloyd)
        assert alloyd.listens()
        assert idle.recv(1) == b""
        harness.wait_until(lambda: not alloyd.listens(), "closed listeners")
        assert alloyd.books()["pending"] == 1
    alloyd.allow_exit = {1}
    alloyd.signal(signal.SIGTERM)
    assert alloyd.wait(5) == 1


def test_linger_and_the_drain_take_their_time_one_after_the_other(make_alloyd, systemd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, drain={"linger": "700ms", "timeout": "20s"}))
    alloyd.spawn_only(systemd.env)
    assert systemd.next()["READY"] == "1"
    begun = time.monotonic()
    begin_drain(alloyd)
    assert alloyd.post(harness.event("late")).status == 202
    assert alloyd.wait(20) == 0 and time.monotonic() - begun >= 0.7
    assert int(systemd.next()["EXTEND_TIMEOUT_USEC"]) == 35_700_000
    assert clickhouse.count(table) == 1


def test_ready_means_that_an_event_is_taken(make_alloyd):
    # Many threads and addresses make the start long enough to look into it.
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"threads": 64}))
    others = ", ".join(f"127.0.0.1:{harness.free_port()}" for _ in range(8))
    alloyd.sections["server"]["listen"] = f"{others}, 127.0.0.1:{alloyd.port}"
    seen = set()

    def status():
        try:
            seen.add(alloyd.admin("/readyz").status)
        except OSError:
            seen.add(None)
        return 200 in seen

    alloyd.spawn_only()
    harness.wait_until(status, alloyd.log, interval=0.0001)
    assert alloyd.post(harness.event("a")).status == 202
    assert None in seen


def test_a_signal_during_the_start_is_not_lost(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.spawn_only()
    harness.wait_until(lambda: "starting" in alloyd.log(), alloyd.log, interval=0.001)
    alloyd.signal(signal.SIGTERM)
    assert alloyd.wait(10) == 0


# ---- reload


def reload(alloyd):
    done = len(log_lines(alloyd, "configuration reloaded"))
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: len(log_lines(alloyd, "configuration reloaded")) > done, alloyd.log)


def test_hup_takes_over_what_it_can_and_names_what_needs_a_restart(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, worker={"linger": "1min"},
                                      log={"level": "warn"})).start()
    assert not log_lines(alloyd, "level=info")
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: alloyd.books()["pending"] == 1, "waits for its batch")
    alloyd.sections["log"]["level"] = "info"
    alloyd.sections["worker"]["linger"] = "5ms"
    alloyd.sections["ring"] = {"capacity": 77}
    alloyd.sections["server"]["max_body"] = "1MiB"
    alloyd.sections["stream.other"] = {"table": "default.other"}
    reload(alloyd)
    alloyd.settled(deadline=20)  # the shorter linger counts for the batch that waits already
    for key in ("ring.capacity", "server.max_body"):
        assert len(log_lines(alloyd, f"key={key} ", "restart")) == 1, (key, alloyd.log())
    for key in ("worker.linger", "log.level", "stream.other"):
        lines = log_lines(alloyd, f"key={key} ")
        assert not any("restart" in line for line in lines), lines
    assert alloyd.metrics()["alloy_ring_capacity"] == 100000
    assert alloyd.post("", "/v1/other").json["error"] == "empty"  # it is there
    alloyd.sections["log"].update(level="debug", format="json")
    reload_at = len(alloyd.log().splitlines())
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    line = harness.wait_until(lambda: [line for line in alloyd.log().splitlines()[reload_at:]
                                       if "configuration reloaded" in line], alloyd.log)
    assert harness.json.loads(line[0])["level"] == "info"
    assert alloyd.drain() == 0
    assert clickhouse.count(table) == 1


def test_hup_changes_timeouts_of_connections(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    with alloyd.connect() as s:
        alloyd.sections["server"]["idle_timeout"] = "50ms"
        reload(alloyd)
        assert harness.read_all(s) == b""


def test_hup_with_a_broken_file_changes_nothing_and_logs_each_problem(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"idle_timeout": "1h"})).start()
    good = alloyd.ini.read_text()
    broken = (good.replace("idle_timeout = 1h", "idle_timeout = 1ms")
              + "[ring]\ncapacity = x\n[nonsense]\n[worker]\nbatch = 0\n")
    alloyd.ini.write_text(broken)
    with alloyd.connect() as s:
        alloyd.signal(signal.SIGHUP)
        harness.wait_until(lambda: len(log_lines(alloyd, "level=error")) >= 3, alloyd.log)
        errors = log_lines(alloyd, "level=error")
        at = {broken.splitlines().index(text) + 1 for text in ("capacity = x", "[nonsense]", "batch = 0")}
        assert {int(re.search(re.escape(str(alloyd.ini)) + r":(\d+): ", line)[1]) for line in errors} == at
        assert not log_lines(alloyd, "configuration reloaded")
        os.unlink(alloyd.ini)
        alloyd.signal(signal.SIGHUP)
        harness.wait_until(lambda: len(log_lines(alloyd, "level=error")) == 4, alloyd.log)
        alloyd.ini.write_text(good)
        alloyd.signal(signal.SIGHUP)
        harness.wait_until(lambda: log_lines(alloyd, "configuration reloaded"), alloyd.log)
        assert not log_lines(alloyd, "configuration changed")
        body = harness.event("a").encode()
        s.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert harness.read_answer(s).status == 202


def test_set_wins_over_the_file_after_a_reload_too(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events"), "--set", "log.level=info").start()
    reload(alloyd)
    alloyd.sections["log"]["level"] = "error"
    reload(alloyd)
    assert not log_lines(alloyd, "key=log.level")


# ---- systemd


class Systemd:
    """The socket that sd_notify(3) sends to."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(harness.DEADLINE)
        self.env = {"NOTIFY_SOCKET": str(path)}

    def next(self):
        """The next message as a dict."""
        return dict(line.split("=", 1) for line in self.socket.recv(65536).decode().splitlines())

    def rest(self):
        """What else has come, as text."""
        self.socket.setblocking(False)
        text = b""
        while True:
            try:
                text += self.socket.recv(65536)
            except BlockingIOError:
                return text.decode()


@pytest.fixture
def systemd(tmp_path):
    systemd = Systemd(tmp_path / "notify")
    yield systemd
    systemd.socket.close()


def test_systemd_is_told_ready_reloading_and_stopping(make_alloyd, systemd):
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.spawn_only(systemd.env)
    assert systemd.next()["READY"] == "1"
    assert alloyd.post(harness.event("a")).status == 202 and alloyd.readyz()  # ready means ready
    alloyd.signal(signal.SIGHUP)
    message = systemd.next()
    assert message["RELOADING"] == "1" and int(message["MONOTONIC_USEC"]) > 0
    assert systemd.next()["READY"] == "1"
    alloyd.ini.write_text("[nonsense]\n")
    alloyd.signal(signal.SIGHUP)
    assert systemd.next()["RELOADING"] == "1"
    assert systemd.next()["READY"] == "1"  # it goes on with what it had
    assert alloyd.drain() == 0
    message = systemd.next()
    # drain.timeout is 30 s, whatever TimeoutStopSec is.
    assert message["STOPPING"] == "1" and int(message["EXTEND_TIMEOUT_USEC"]) == 45_000_000


def test_systemd_waits_while_a_journal_is_read_before_serving(make_alloyd, systemd, tmp_path):
    nowhere = f"http://127.0.0.1:{harness.free_port()}"
    alloyd = make_alloyd(sections_for(None, None, "default.events", clickhouse={"url": nowhere}, drain={"timeout": "1s"}))
    alloyd.start(ready=False)
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.kill()
    for path in pathlib.Path(alloyd.sections["journal"]["dir"]).glob("l1-*"):
        path.unlink()
    alloyd.spawn_only(systemd.env)
    message = systemd.next()
    assert int(message["EXTEND_TIMEOUT_USEC"]) > 0 and "segment 1 of " in message["STATUS"]
    while (message := systemd.next()).get("READY") != "1":
        assert "EXTEND_TIMEOUT_USEC" in message
    assert alloyd.metrics()['alloy_events_pending{stream="events"}'] == 1


def test_the_watchdog_is_fed_while_serving(make_alloyd, systemd):
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.spawn_only(dict(systemd.env, WATCHDOG_USEC="200000"))
    assert systemd.next()["READY"] == "1"
    for _ in range(5):
        assert systemd.next()["WATCHDOG"] == "1"


def test_systemd_is_not_told_ready_when_the_start_fails(make_alloyd, systemd):
    first = make_alloyd(sections_for(None, None, "default.events")).start()
    second = make_alloyd(sections_for(None, None, "default.events", server={"listen": f"127.0.0.1:{first.port}"}))
    second.spawn_only(systemd.env)
    assert second.wait() == 1
    assert "READY" not in systemd.rest()
    second.popen = None


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, SYSTEMD_COLORS="0", SYSTEMD_PAGER=""))


def test_the_unit_file_is_valid(tmp_path):
    unit = shutil.copy(SERVICE, tmp_path)
    result = analyze("verify", "--man=no", unit)
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if "alloyd.service" in line]
    installed = re.compile(r"alloyd\.service: Command /usr/bin/alloyd is not executable: No such file or directory")
    assert [line for line in complaints if not installed.search(line)] == []
    assert result.returncode == 0 or complaints, result


def test_the_unit_is_well_confined():
    result = analyze("security", "--offline=true", "--no-pager", SERVICE)
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert match, result
    assert float(match[1]) < 3.0, result.stdout


def test_the_unit_runs_what_alloyd_offers():
    unit = SERVICE.read_text()
    line = re.search(r"^ExecStart=/usr/bin/alloyd (.*)$", unit, re.M)[1].split()
    assert line == ["--config", "/etc/alloy/alloy.ini"]
    assert "Type=notify\n" in unit and "ExecReload=/bin/kill -HUP $MAINPID\n" in unit and "WatchdogSec=" in unit


def test_systemd_does_not_give_up_a_service_that_waits_for_something():
    """With a pause between them, starts never come to the limit that ends those of the socket unit, which has none."""
    unit = dict(re.findall(r"^(RestartSec|StartLimitIntervalSec|StartLimitBurst)=(\d+)s?$", SERVICE.read_text(), re.M))
    assert int(unit["StartLimitBurst"]) > int(unit["StartLimitIntervalSec"]) / int(unit["RestartSec"])


# ---- quick start


def test_quickstart_help():
    for option in ("--help", "-h"):
        result = subprocess.run([harness.ROOT / "scripts" / "quickstart", option], capture_output=True, text=True)
        assert result.returncode == 0 and "--once" in result.stdout and result.stderr == ""
    result = subprocess.run([harness.ROOT / "scripts" / "quickstart", "--nonsense"], capture_output=True, text=True)
    assert result.returncode == 2


def test_quickstart_shows_the_rows_and_ends(tmp_path):
    env = dict(os.environ, TMPDIR=str(tmp_path))
    result = subprocess.run([harness.ROOT / "scripts" / "quickstart", "--once"], capture_output=True, text=True,
                            timeout=300, env=env, stdin=subprocess.DEVNULL, cwd=tmp_path)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "books: received 14, duplicates 4, inserted 10" in result.stdout
    assert list(tmp_path.iterdir()) == []  # nothing is left
