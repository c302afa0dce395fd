# SPDX-License-Identifier: Apache-2.0
"""alloyctl status and top: how a running alloyd is, for a person and for a program."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import termios
import time

import pytest

import harness
from conftest import sections_for
from test_dead_letter import alloyctl


def admin_url(alloyd):
    return f"http://127.0.0.1:{alloyd.admin_port}"


def status(alloyd, *words, status=0):
    return alloyctl("status", "--admin", admin_url(alloyd), *words, status=status)


def test_status_of_an_alloyd_that_is_ready(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    assert alloyd.post(harness.event("a") + harness.event("b") + harness.event("a")).status == 202
    alloyd.settled()
    text = status(alloyd).stdout
    assert re.match(rf"alloyd \S+ at {admin_url(alloyd)}: ready, up .* \(since 20\d\d-", text)
    assert re.search(r"^events +3 +2 +1 +2 +0 +0  -$", text, re.M)
    assert "What to do" not in text and "ClickHouse    up, " in text and "Redis         up" in text
    told = json.loads(status(alloyd, "--json").stdout)
    assert told["ready"] and told["reachable"] and told["reasons"] == []
    stream = told["streams"][0]
    assert (stream["stream"], stream["received"], stream["inserted"], stream["pending"]) == ("events", 3, 2, 0)
    assert stream["table"] == table and stream["oldest_pending_ms"] is None


def test_status_tells_what_is_wrong_and_that_nobody_answers(make_alloyd, redis):
    sections = sections_for(redis, None, "default.events")
    sections["clickhouse"] = {"url": f"http://127.0.0.1:{harness.free_port()}"}
    alloyd = make_alloyd(sections).start(ready=False)
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: json.loads(status(alloyd, "--json", status=None).stdout)["reasons"], "a reason")
    told = json.loads(status(alloyd, "--json", status=None).stdout)
    assert told["streams"][0]["pending"] == 1 and told["streams"][0]["oldest_pending_ms"] >= 0
    text = status(alloyd, status=0 if told["ready"] else 1).stdout
    assert f" {told['reasons'][0]['key']}: " in text and "ClickHouse    AWAY" in text
    assert re.search(rf"^  What to do: OPERATIONS.md, .* or {admin_url(alloyd)}/ in a browser$", text, re.M)
    alloyd.kill()
    done = status(alloyd, "--json", status=1)
    assert f"{admin_url(alloyd)} does not answer" in done.stderr
    assert json.loads(done.stdout)["reachable"] is False and json.loads(done.stdout)["ready"] is False


def test_status_needs_the_key_of_the_admin_port(make_alloyd, redis, clickhouse, table, tmp_path):
    (tmp_path / "key").write_text("sesame-sesame-sesame\n")
    os.chmod(tmp_path / "key", 0o600)
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, admin={"key_file": tmp_path / "key"}))
    alloyd.spawn_only()
    harness.wait_until(lambda: "give --admin-key-file" in status(alloyd, status=None).stderr, "a demand for the key")
    harness.wait_until(lambda: ": ready, up " in status(alloyd, "--admin-key-file", tmp_path / "key", status=None).stdout,
                       "ready with the key")


class Terminal:
    """alloyctl top in a terminal of a size; screen() is what it shows, cell by cell."""

    def __init__(self, url, rows=24, columns=80):
        self.size = rows, columns
        self.bytes = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="vt100", LC_ALL="C.UTF-8")
            # The size comes before the program looks at it.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execv(harness.BUILD / "alloyctl", ["alloyctl", "top", "--admin", url])
        self.status = None

    def read(self, seconds=0.05):
        while select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.bytes += data

    def resize(self, rows, columns):
        self.read(0)
        self.size, self.bytes = (rows, columns), b""  # the program paints all of it anew
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def screen(self):
        """Plays what a vt100 was sent."""
        rows, columns = self.size
        cells = [[" "] * columns for _ in range(rows)]
        y = x = 0
        upper, lower = 0, rows - 1  # the region that scrolls
        text = self.bytes.decode("utf-8", "replace")
        token = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78MDE]|[\x0e\x0f]|(.)", re.S)
        for match in token.finditer(text):
            numbers = [int(n) if n.isdigit() else 0 for n in (match[1] or "").split(";")]
            first = numbers[0] or 1
            if match[2] == "H":
                y, x = first - 1, (numbers[1] or 1) - 1 if len(numbers) > 1 else 0
            elif match[2] == "J":
                for row in range(y if not numbers[0] else 0, rows):
                    for column in range(x if row == y and not numbers[0] else 0, columns):
                        if row < rows:
                            cells[row][column] = " "
            elif match[2] == "K" and y < rows:
                span = range(0, min(x + 1, columns)) if numbers[0] == 1 else range(x, columns)
                for column in span:
                    cells[y][column] = " "
            elif match[2] in "ABCD" if match[2] else False:
                y += {"A": -first, "B": first}.get(match[2], 0)
                x += {"C": first, "D": -first}.get(match[2], 0)
            elif match[3] == "\r":
                x = 0
            elif match[2] == "r":
                upper, lower = first - 1, (numbers[1] or rows) - 1 if len(numbers) > 1 else rows - 1
                y = x = 0
            elif match[3] == "\n" or match[0] in ("\x1bD", "\x1bM"):
                back = match[0] == "\x1bM"
                if y == (upper if back else lower):
                    cells.insert(lower if not back else upper, cells.pop(upper if not back else lower) and [" "] * columns)
                else:
                    y += -1 if back else 1
            elif match[3] == "\t":
                x = (x // 8 + 1) * 8
            elif match[3] == "\b":
                x -= 1
            elif match[3] and match[3] >= " ":
                if x >= columns:
                    y, x = y + 1, 0  # the margin wraps with the character behind it
                if 0 <= y < rows and 0 <= x < columns:
                    cells[y][x] = match[3]
                x += 1
        return ["".join(row).rstrip() for row in cells]

    def wait(self, condition, what):
        def check():
            self.read()
            return condition("\n".join(self.screen()))
        harness.wait_until(check, lambda: what + ":\n" + "\n".join(self.screen()))

    def end(self):
        def ended():
            self.read()
            pid, self.status = os.waitpid(self.pid, os.WNOHANG)
            return pid
        harness.wait_until(ended, "the end of alloyctl top", 20)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(self.status)


@pytest.fixture
def terminal():
    made = []

    def make(*words, **sizes):
        made.append(Terminal(*words, **sizes))
        return made[-1]
    yield make
    for one in made:
        if one.status is None:
            try:
                os.kill(one.pid, 9)
                os.waitpid(one.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def test_top_shows_rates_and_quits(make_alloyd, redis, clickhouse, table, terminal):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    top = terminal(admin_url(alloyd))
    top.wait(lambda text: text.startswith("READY  alloyd ") and "events" in text and "q quits" in text, "the first screen")
    screen = top.screen()
    assert len(screen) == 24 and "STREAM" in screen[6] and "IN/s" in screen[6] and "DEAD/s" in screen[6]
    assert any(line.startswith("ClickHouse up  Redis up") for line in screen)
    stop = time.monotonic() + harness.DEADLINE
    number = 0

    def rates(text):
        nonlocal number
        number += 1
        assert time.monotonic() < stop and alloyd.post(harness.event(f"e{number}")).status == 202
        found = re.search(r"^events +(\S+) +(\S+) ", text, re.M)
        return found and float(found[1].rstrip("k")) > 0 and float(found[2].rstrip("k")) > 0
    top.wait(rates, "rates")
    os.write(top.fd, b"q")
    assert top.end() == 0


def test_top_tells_when_alloyd_goes_away_and_comes_back(make_alloyd, redis, clickhouse, table, terminal):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    top = terminal(admin_url(alloyd))
    top.wait(lambda text: text.startswith("READY"), "ready")
    alloyd.kill()
    top.wait(lambda text: " GONE since " in text and "does not answer" in text and "events" in text, "gone")
    alloyd.start()
    top.wait(lambda text: text.startswith("READY") and "it is back" in text, "back")
    os.write(top.fd, b"\x03")
    assert top.end() == 0


@pytest.mark.parametrize("rows, columns", [(24, 40), (10, 30), (3, 12), (60, 200)])
def test_top_fits_any_terminal(make_alloyd, redis, clickhouse, table, terminal, rows, columns):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    top = terminal(admin_url(alloyd), rows=rows, columns=columns)
    top.wait(lambda text: text.startswith("READY"), "ready")
    if rows > 20:
        top.wait(lambda text: re.search(r"^events ", text, re.M) and "Redis up" in text and "journal " in text, "all of it")
    # Larger, while it runs.
    top.resize(24, 80)
    top.wait(lambda text: "REFUSE/s" in text and text.startswith("READY"), "the new size")
    os.write(top.fd, b"q")
    assert top.end() == 0


def test_top_wants_a_terminal():
    assert "top needs a terminal" in alloyctl("top", status=1).stderr
