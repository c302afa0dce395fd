# SPDX-License-Identifier: Apache-2.0
"""A process that cannot be held up: by who reads its log, by a hanging thread, by a long start."""

import fcntl
import os
import signal
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
