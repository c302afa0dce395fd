# SPDX-License-Identifier: Apache-2.0
"""Nothing holds the process up: no slow reader of its log, no hanging thread, no long start."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest

import harness
from conftest import sections_for


class Pipe:
    """Standard error of an alloyd, read only when the test says so."""

    def __init__(self, alloyd):
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.read_end, fcntl.F_SETPIPE_SZ, 4096)
        alloyd.spawn = lambda argv, env=None: self._spawn(alloyd, argv, env)

    def _spawn(self, alloyd, argv, env):
        alloyd.popen = subprocess.Popen([str(word) for word in argv], stdout=self.write_end, stderr=self.write_end,
                                        stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))

    def fill(self):
        """Leaves no room, through a description of its own: alloyd's stays blocking."""
        own = os.open(f"/proc/self/fd/{self.write_end}", os.O_WRONLY | os.O_NONBLOCK)
        for size in (4096, 1):
            try:
                while True:
                    os.write(own, b"x" * (size - 1) + b"\n")
            except BlockingIOError:
                pass
        os.close(own)

    def read(self, until, deadline=20):
        """Everything up to the bytes that are awaited."""
        os.set_blocking(self.read_end, False)
        text = b""
        end = time.monotonic() + deadline
        while until not in text and time.monotonic() < end:
            try:
                text += os.read(self.read_end, 65536)
            except BlockingIOError:
                time.sleep(0.01)
        return text

    def close(self):
        os.close(self.read_end)
        os.close(self.write_end)


@pytest.fixture
def stalled(make_alloyd, redis, clickhouse, table):
    """An alloyd that serves, and whose log nobody reads any more."""
    alloyd = make_alloyd(sections_for(redis, clickhouse, table))
    alloyd.pipe = Pipe(alloyd)
    alloyd.pipe.fill()  # not even the first line goes out
    alloyd.start()
    yield alloyd
    alloyd.kill()
    alloyd.pipe.close()


def test_a_stalled_reader_of_the_log_holds_up_nothing(stalled, clickhouse, table):
    # Far more lines than the buffer takes: each HUP that finds a broken file logs what is wrong with it.
    good = stalled.ini.read_text()
    stalled.ini.write_text(good + "".join(f"[nonsense{'x' * 1500}{i}]\n" for i in range(900)))
    harness.wait_until(lambda: stalled.signal(signal.SIGHUP) or stalled.metrics()["alloy_log_dropped_total"] > 100,
                       "dropped lines", interval=0.1)
    for i in range(20):
        assert stalled.post(harness.event(f"e{i}")).status == 202
    stalled.settled(deadline=20)
    assert clickhouse.count(table) == 20
    stalled.ini.write_text(good)
    stalled.signal(signal.SIGHUP)
    # Once somebody reads again one line tells what is missing, and lines go on.
    text = stalled.pipe.read(b"log lines dropped")
    assert b"log lines dropped" in text
    assert b"msg=starting" in text or b'msg="starting"' in text
    stalled.signal(signal.SIGHUP)
    assert b"configuration reloaded" in stalled.pipe.read(b"configuration reloaded")


def test_a_signal_is_heard_though_the_log_is_stalled(stalled):
    assert stalled.post(harness.event("a")).status == 202
    stalled.settled(deadline=20)
    stalled.signal(signal.SIGTERM)
    assert stalled.wait(10) == 0


def test_a_second_signal_is_heard_though_the_log_is_stalled(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events", clickhouse={"url": "http://127.0.0.1:1"}))
    pipe = Pipe(alloyd)
    pipe.fill()
    alloyd.start(ready=False)
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.signal(signal.SIGTERM)
    harness.wait_until(lambda: not alloyd.listens(), "a drain")
    alloyd.signal(signal.SIGTERM)
    assert alloyd.wait(5) == 1
    alloyd.popen = None
    pipe.close()


def test_lines_of_a_whole_life_are_written_in_order(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    assert alloyd.drain() == 0
    lines = alloyd.log().splitlines()
    assert 'msg="starting"' in lines[0] and 'msg="stopped"' in lines[-1]
    times = [line.split()[0] for line in lines]
    assert times == sorted(times)


def test_lines_have_their_priority_where_they_go_to_the_journal(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.log_path.touch()
    status = alloyd.log_path.stat()
    alloyd.start(env={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    alloyd.ini.write_text("[nonsense]\n")
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: "not reloaded" in alloyd.log(), alloyd.log)
    assert alloyd.drain() == 0
    words = {"error": "<3>", "warn": "<4>", "info": "<6>", "debug": "<7>"}
    lines = alloyd.log().splitlines()
    assert any("level=error" in line for line in lines)
    for line in lines:
        assert line.startswith(words[line.split()[1].removeprefix("level=")] + "time="), line
    alloyd.start(env={"JOURNAL_STREAM": "1:2"})
    assert alloyd.log().splitlines()[-1].startswith("time=")


@pytest.mark.parametrize("journal", [True, False])
def test_why_it_does_not_start_has_a_priority_too(make_alloyd, journal):
    alloyd = make_alloyd({"stream.events": {"table": "default.events", "nonsense": 1}, "server": {"nonsense": 2}})
    alloyd.allow_exit = {2}
    alloyd.log_path.touch()
    status = alloyd.log_path.stat()
    alloyd.spawn_only({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journal else {})
    assert alloyd.wait() == 2
    lines = alloyd.log().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"{'<3>' if journal else ''}{alloyd.ini}:"), line


# ---- a start that takes long


class FullSocket:
    """A socket of systemd that takes no message: main hangs in the first one that it sends."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.env = {"NOTIFY_SOCKET": str(path)}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sender.sendto(b"x", str(path))

    def take_all(self, while_true):
        """Reads until the condition no longer holds; the messages that are not ours."""
        self.socket.settimeout(0.05)
        messages = []
        while while_true():
            with contextlib.suppress(TimeoutError):
                messages.append(self.socket.recv(65536))
        return [message for message in messages if message != b"x"]


@pytest.fixture
def starting(make_alloyd, tmp_path):
    """An alloyd that hangs in its start, as it reads the first of many segments of an earlier life."""
    nowhere = f"http://127.0.0.1:{harness.free_port()}"
    alloyd = make_alloyd(sections_for(None, None, "default.events", clickhouse={"url": nowhere}, drain={"timeout": "0s"},
                                      journal={"segment": "64KiB", "max_bytes": "64MiB"}))
    alloyd.start(ready=False)
    for n in range(20):
        assert alloyd.post("\n".join(harness.event(f"{n}-{i}") for i in range(200))).status == 202
    alloyd.pending = alloyd.books()["pending"]
    alloyd.kill()
    for path in pathlib.Path(alloyd.sections["journal"]["dir"]).glob("l1-*"):
        path.unlink()
    alloyd.systemd = FullSocket(tmp_path / "full")
    alloyd.spawn_only(alloyd.systemd.env)
    harness.wait_until(lambda: alloyd.health(), alloyd.log)
    yield alloyd
    alloyd.systemd.socket.close()


def signals_pending(alloyd):
    status = pathlib.Path(f"/proc/{alloyd.pid}/status").read_text()
    return int(re.search(r"^ShdPnd:\s*(\w+)", status, re.M).group(1), 16)


@pytest.mark.parametrize("first, second", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM),
                                           (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_during_the_start_exits_at_once(starting, first, second):
    starting.allow_exit = {0, 1}
    starting.signal(first)
    time.sleep(0.2)  # two that are sent in one moment are one to the kernel
    starting.signal(second)
    assert starting.wait(5) == 1
    assert "second signal" in starting.log()


def test_one_signal_during_the_start_ends_it_after_the_segment(starting):
    starting.signal(signal.SIGHUP)  # is none
    starting.signal(signal.SIGTERM)
    harness.wait_until(lambda: not signals_pending(starting), "the thread that counts signals has taken them")
    messages = starting.systemd.take_all(starting.alive)
    assert starting.wait(5) == 0
    # What it has taken it may count a moment later, when the second one has begun.
    assert 1 <= len(messages) <= 2 and b"segment 1 of " in messages[0]
    assert "stopped before serving" in starting.log()
    starting.start(ready=False)
    assert starting.books()["pending"] == starting.pending


# ---- open files


def open_files(alloyd):
    """Soft and hard limit."""
    line = re.search(r"^Max open files +(\d+) +(\d+)", pathlib.Path(f"/proc/{alloyd.pid}/limits").read_text(), re.M)
    return int(line[1]), int(line[2])


def spawn_limited(alloyd, soft, hard):
    """Has alloyd start with these limits of open files."""
    def spawn(argv, env=None):
        with open(alloyd.log_path, "ab") as log:
            alloyd.popen = subprocess.Popen(["prlimit", f"--nofile={soft}:{hard}", *map(str, argv)], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))
    alloyd.spawn = spawn


def test_the_soft_limit_of_open_files_is_raised_as_far_as_needed(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"max_connections": 400}))
    spawn_limited(alloyd, 256, 4096)
    alloyd.start()
    soft, hard = open_files(alloyd)
    assert 400 < soft < 600 and hard == 4096
    assert re.search(r"level=info .*limit of open files raised\" from=256 to=%d$" % soft, alloyd.log(), re.M)


@pytest.mark.parametrize("wanted, hard, level", [(400, 300, "warn"), (65536, 300, "warn"), (65536, 10000, "info"),
                                                 (65535, 10000, "warn")])
def test_too_few_open_files_are_told_with_the_figure(make_alloyd, wanted, hard, level):
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"max_connections": wanted}))
    spawn_limited(alloyd, 256, hard)
    alloyd.start()
    assert open_files(alloyd) == (hard, hard)
    line = re.search(r"level=%s .*too few open files allowed\" limit=%d needed=(\d+) connections_fit=(\d+)"
                     r" max_connections=%d " % (level, hard, wanted), alloyd.log())
    assert line and hard - 200 < int(line[2]) == hard - (int(line[1]) - wanted) < hard


def test_no_start_without_room_for_one_client(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.allow_exit = {1}
    spawn_limited(alloyd, 64, 100)
    alloyd.spawn_only()
    assert alloyd.wait() == 1
    assert re.search(r"level=error .*too few open files allowed\" limit=100 needed_without_clients=\d+ action=\"raise Limit",
                     alloyd.log())


# ---- threads that hang

PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000


@contextlib.contextmanager
def hanging(alloyd, name):
    """One thread of alloyd stands still; all others go on. strace(1) could do no more than slow it down."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    tid, = (int(task.name) for task in pathlib.Path(f"/proc/{alloyd.pid}/task").iterdir()
            if (task / "comm").read_text().strip() == name)
    assert libc.ptrace(PTRACE_ATTACH, tid, None, None) == 0, "ptrace(2), which strace needs too, is not allowed here"
    os.waitpid(tid, WALL)
    try:
        yield
    finally:
        libc.ptrace(PTRACE_DETACH, tid, None, None)


@pytest.mark.parametrize("thread, reason", [("front-1", "front-1"), ("worker-0", "worker-0"), ("alloy-flusher", "flusher"),
                                            ("alloy-janitor", "janitor")])
def test_a_thread_that_hangs_is_named_and_systemd_is_not_pinged(make_alloyd, redis, clickhouse, table, tmp_path, thread,
                                                                reason):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)

        def pings():
            count = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    count += b"WATCHDOG=1" in systemd.recv(4096)
            return count

        # A worker may take several times this before it counts as hung.
        alloyd = make_alloyd(sections_for(redis, clickhouse, table, redis={"timeout": "500ms"}))
        alloyd.start(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"})
        assert alloyd.post(harness.event("a")).status == 202
        alloyd.settled()
        with hanging(alloyd, thread):
            ready = harness.wait_until(lambda: pings() >= 0 and (r := alloyd.admin("/readyz")).status == 503 and r,
                                       alloyd.log, 30)
            assert f"thread.{reason}" in [r["key"] for r in ready.json["reasons"] if r["blocking"]]
            # The log has a thread of its own, and comes a moment later.
            harness.wait_until(lambda: re.search(rf'level=error .*msg="thread hangs" thread={reason} silent_ms=\d+$', alloyd.log(),
                                                 re.M), alloyd.log)
            pings()
            time.sleep(2.5)  # more than an interval
            assert pings() == 0
        harness.wait_until(alloyd.readyz, alloyd.log)
        harness.wait_until(pings, alloyd.log)
        harness.wait_until(lambda: f'msg="thread no longer hangs" thread={reason}' in alloyd.log(), alloyd.log)


def test_the_admin_thread_is_looked_at_too(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.start(env={"NOTIFY_SOCKET": "/nonexistent", "WATCHDOG_USEC": "2000000"})
    with hanging(alloyd, "admin"):
        harness.wait_until(lambda: 'msg="thread hangs" thread=admin' in alloyd.log(), alloyd.log, 30)
    harness.wait_until(alloyd.readyz, alloyd.log)


def test_no_thread_hangs_that_only_has_nothing_to_do(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table))
    alloyd.start(env={"NOTIFY_SOCKET": "/nonexistent", "WATCHDOG_USEC": "2000000"})
    time.sleep(6)  # twice the bound
    alloyd.signal(signal.SIGSTOP)  # nor does one whose whole process was stopped
    time.sleep(4)
    alloyd.signal(signal.SIGCONT)
    time.sleep(1)
    assert alloyd.readyz() and "thread hangs" not in alloyd.log()
