# SPDX-License-Identifier: Apache-2.0
"""Starts the real thing for system tests: Redis, the ClickHouse engine and alloyd.

Every process lives in the test's temporary folder on free ports, is awaited with a deadline and never
with a bare sleep, and is ended by its own pid. A test fails on a sanitizer report, a failed assertion
or an unclean exit of alloyd even if all its own assertions held.
"""

import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("ALLOY_BUILD_DIR", ROOT / "build" / "release"))
# Sanitizer builds and busy machines are slow: deadlines are generous, since nobody waits for them in vain.
DEADLINE = float(os.environ.get("ALLOY_TEST_DEADLINE", "60"))


# For an alloyd that will be told to exit at once, which joins no thread.
EXIT_AT_ONCE = {"TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + " report_thread_leaks=0"}


# Gives descriptors to the program that it becomes: systemd's protocol, in which LISTEN_PID is the child's.
GIVE_SOCKETS = """
import fcntl, os, sys
given = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1].split(",") if fd]
for i, fd in enumerate(given):
    os.dup2(fd, 3 + i)
for fd in given + [int(fd) for fd in sys.argv[1].split(",") if fd and int(fd) >= 3 + len(given)]:
    os.close(fd)
os.environ.update(LISTEN_FDS=str(len(given)), LISTEN_PID=sys.argv[3] or str(os.getpid()))
if sys.argv[2]:
    os.environ["LISTEN_FDNAMES"] = sys.argv[2]
os.execv(sys.argv[4], sys.argv[4:])
"""


def listen_on(host="127.0.0.1", port=0, **options):
    """A listening TCP socket, or for host "unix:PATH" a unix one."""
    if host.startswith("unix:"):
        s = socket.socket(socket.AF_UNIX)
        s.bind(host[len("unix:"):])
    else:
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.get("reuse_port"):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind((host, port))
    s.listen(4096)
    return s


PORTS = {}  # that this process has given away: their claims


def free_port():
    """A port that nobody listens on, below those that the kernel gives to outgoing connections: one of these would be
    taken between here and the start of the server now and then. Claimed among all test runs of the machine while this
    process lives, by a name that needs no file: its server may be away for a moment, and come back."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(10000, lowest // 2), lowest)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0alloy-test-port-{port}")
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        PORTS[port] = claim
        return port


def wait_until(condition, what, deadline=None, interval=0.02):
    """Returns the first true value of condition(); fails after the deadline and says what was awaited."""
    end = time.monotonic() + (deadline or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline or DEADLINE} s: {what() if callable(what) else what}")
        time.sleep(interval)


class Process:
    """A child with its output in a file."""

    def __init__(self, name, folder):
        self.name = name
        self.log_path = pathlib.Path(folder) / f"{name}.log"
        self.popen = None
        self.inside = ()  # a command that becomes the program somewhere else: nsenter, say

    def spawn(self, argv, env=None, pass_fds=()):
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen([str(a) for a in (*self.inside, *argv)], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                          env=dict(os.environ, **(env or {})), pass_fds=pass_fds)

    @property
    def pid(self):
        return self.popen.pid

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def alive(self):
        return self.popen is not None and self.popen.poll() is None

    def wait_ready(self, ready, deadline=None):
        def check():
            assert self.alive(), f"{self.name} ended with {self.popen.returncode}:\n{self.log()[-3000:]}"
            return ready()

        wait_until(check, lambda: f"{self.name} ready:\n{self.log()[-3000:]}", deadline)

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        if self.alive():
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        if self.popen is not None:
            self.popen.wait()

    def wait(self, deadline=None):
        return self.popen.wait(deadline or DEADLINE)


class Redis(Process):
    """A real redis-server."""

    patience = 10  # seconds, for an answer

    def __init__(self, folder, port=None, host="127.0.0.1"):
        super().__init__("redis", folder)
        self.folder = folder
        self.host, self.port = host, port or free_port()
        self.url = f"redis://{self.host}:{self.port}/0"

    def start(self, *options):
        self.spawn(["redis-server", "--port", self.port, "--bind", self.host, "--save", "", "--appendonly", "no",
                    "--dir", self.folder, *options])
        self.wait_ready(lambda: self.answers())
        return self

    def answers(self):
        try:
            return self.command("PING") == b"PONG"
        except OSError:
            return False

    def command(self, *words):
        with socket.create_connection((self.host, self.port), timeout=self.patience) as s:
            words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
            s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
            return self._read(s.makefile("rb"))

    def _read(self, f):
        line = f.readline().rstrip(b"\r\n")
        if not line:
            raise OSError("Redis closed the connection")
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else f.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._read(f) for _ in range(int(rest))]
        if kind == b"-":
            raise OSError(rest.decode())
        return int(rest) if kind == b":" else rest


class ClickHouse(Process):
    """The real engine, served by alloy-clickhouse. Can be killed and started again on its data."""

    def __init__(self, folder, port=None, host="127.0.0.1"):
        super().__init__("clickhouse", folder)
        self.path = pathlib.Path(folder) / "clickhouse"
        self.host, self.port = host, port or free_port()
        self.url = f"http://{self.host}:{self.port}"

    def start(self):
        self.spawn([BUILD / "alloy-clickhouse", "--listen", self.host, "--port", self.port, "--path", self.path])
        self.wait_ready(lambda: self.answers())
        return self

    def answers(self):
        try:
            return self.query("SELECT 1") == "1\n"
        except OSError:
            return False

    def query(self, sql):
        request = urllib.request.Request(self.url + "/", data=sql.encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{sql[:200]}: {error.read().decode()[:500]}") from None

    def rows(self, sql):
        return [json.loads(line) for line in self.query(sql + " FORMAT JSONCompactEachRow").splitlines()]

    def count(self, table, what="count()"):
        return self.rows(f"SELECT {what} FROM {table}")[0][0]

    def create_events(self, table):
        """The shipped schema under another name: tests share an engine and not a table."""
        sql = (ROOT / "config" / "schema.sql").read_text()
        self.query(re.sub(r"default\.events", table, sql))
        return table


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


@contextlib.contextmanager
def strace(process, trace, *expressions):
    """Has strace(1) look at all threads of a process, and do what the expressions say; lines go to the file trace."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-s", "40", "-o", trace, "-p", str(process.pid)]
                              + [word for expression in expressions for word in ("-e", expression)])
    try:
        tasks = pathlib.Path(f"/proc/{process.pid}/task")
        wait_until(lambda: all("TracerPid:\t0" not in (task / "status").read_text() for task in tasks.iterdir()), "strace")
        yield
    finally:
        tracer.terminate()
        tracer.wait()


class Alloyd(Process):
    """A real alloyd with an ini file made from a dict of sections."""

    number = 0

    def __init__(self, folder, sections, options=(), host="127.0.0.1"):
        Alloyd.number += 1
        super().__init__(f"alloyd-{Alloyd.number}", folder)
        self.folder = pathlib.Path(folder)
        self.host = host
        self.port = free_port()
        self.admin_port = free_port()
        self.options = list(options)
        self.sections = {
            "server": {"listen": f"{host}:{self.port}", "threads": 2},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
            "journal": {"dir": self.folder / f"{self.name}-journal"},
            "dead_letter": {"dir": self.folder / f"{self.name}-dead-letter"},
            "log": {"level": "debug"},
        }
        for section, keys in sections.items():
            self.sections.setdefault(section, {}).update(keys)
        self.ini = self.folder / f"{self.name}.ini"
        self.allow_exit = {0}
        self.build = BUILD

    def write_ini(self):
        with open(self.ini, "w") as f:
            for section, keys in self.sections.items():
                f.write(f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()))

    def spawn_only(self, env=None):
        self.write_ini()
        self.spawn([self.build / "alloyd", "--config", self.ini, *self.options], env)

    def spawn_with(self, sockets, names=None, env=None, listen_pid=None):
        """As systemd does: gives sockets, from descriptor 3 on, and says so in the environment."""
        self.write_ini()
        self.spawn([sys.executable, "-c", GIVE_SOCKETS, ",".join(str(s.fileno()) for s in sockets),
                    "" if names is None else ":".join(names), listen_pid or "",
                    self.build / "alloyd", "--config", self.ini, *self.options], env, [s.fileno() for s in sockets])

    def start_with(self, sockets, names=None, env=None):
        self.spawn_with(sockets, names, env)
        self.wait_ready(self.readyz)
        return self

    def start(self, ready=True, env=None):
        self.spawn_only(env)
        self.wait_ready(lambda: self.readyz() if ready else self.listens() and self.health() is not None)
        return self

    def start_and_read(self):
        """start(), and it knows all of the journal again: until then a retry of what waits gets 202."""
        before = self.log().count('msg="journal read"')
        self.start()
        wait_until(lambda: self.log().count('msg="journal read"') > before, lambda: self.log()[-3000:])
        return self

    # -- the event port

    def connect(self):
        s = socket.create_connection((self.host, self.port), timeout=DEADLINE)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def listens(self):
        try:
            self.connect().close()
            return True
        except OSError:
            return False

    def client(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=DEADLINE)

    def post(self, body, path="/v1/events", headers=None, method="POST"):
        client = self.client()
        try:
            return request(client, body, path, headers, method)
        finally:
            client.close()

    def raw(self, data):
        """Sends bytes, closes the sending side, returns everything that comes back."""
        with self.connect() as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            return read_all(s)

    # -- the admin port

    def admin(self, path, method="GET"):
        client = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=DEADLINE)
        try:
            client.request(method, path)
            answer = client.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            client.close()

    def health(self):
        try:
            return self.admin("/healthz")
        except OSError:
            return None

    def readyz(self):
        try:
            return self.admin("/readyz").status == 200
        except OSError:
            return False

    def reasons(self):
        """{key: reason} of /readyz, whether they block or not."""
        return {reason["key"]: reason for reason in self.admin("/readyz").json["reasons"]}

    def reason_text(self, key):
        """The text of a reason, "" while there is none."""
        return self.reasons().get(key, {"text": ""})["text"]

    def told(self, key, deadline=None):
        """Waits for a reason: a status of 503 may have another one first, each comes in its own time."""
        return wait_until(lambda: self.reasons().get(key), lambda: f"the reason {key}: {self.reasons()}", deadline)

    def metrics(self):
        """{'name{labels}': value} of /metrics."""
        values = {}
        for line in self.admin("/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def books(self, stream="events"):
        m = self.metrics()
        s = f'stream="{stream}"'

        def total(name):
            return int(sum(v for k, v in m.items() if k.startswith(name + "{") and s in k))

        books = {name: total(f"alloy_events_{name}_total")
                 for name in ("received", "accepted", "inserted", "dead_lettered", "rejected")}
        books["duplicate_l1"] = int(m[f'alloy_events_duplicate_total{{{s},level="l1"}}'])
        books["duplicate_l2"] = int(m[f'alloy_events_duplicate_total{{{s},level="l2"}}'])
        books["pending"] = int(m[f"alloy_events_pending{{{s}}}"])
        return books

    def settled(self, stream="events", deadline=None):
        """Waits until nothing is pending, then returns the books, which must balance to the event."""
        wait_until(lambda: self.books(stream)["pending"] == 0,
                   lambda: f"nothing pending: {self.books(stream)}\n{self.log()[-3000:]}", deadline)
        books = self.books(stream)
        assert_balanced(books)
        return books

    # -- the end

    def drain(self, deadline=None):
        """TERM, then the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def finish(self):
        """Ends it and checks how it ended; called for every alloyd at the end of a test."""
        if self.popen is None:
            return
        if self.alive():
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} did not drain:\n{self.log()[-5000:]}") from None
        log = self.log()
        for word in ("assertion failed", "AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:"):
            assert word not in log, f"{self.name}: {word}:\n{log[-8000:]}"
        code = self.popen.returncode
        assert code in self.allow_exit or code == -signal.SIGKILL, f"{self.name} ended with {code}:\n{log[-5000:]}"


def assert_balanced(books):
    assert books["received"] == books["accepted"] + books["duplicate_l1"] + books["rejected"], books
    assert books["accepted"] == (books["inserted"] + books["duplicate_l2"] + books["dead_lettered"]
                                 + books["pending"]), books


def request(client, body, path="/v1/events", headers=None, method="POST"):
    client.request(method, path, body=body.encode() if isinstance(body, str) else body, headers=headers or {})
    answer = client.getresponse()
    return Answer(answer.status, answer.headers, answer.read())


def read_all(s):
    data = b""
    while True:
        try:
            part = s.recv(65536)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part


def read_answer(s):
    """Reads one answer with a Content-Length from a socket; what follows it stays unread."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = s.recv(1)
        assert byte, f"connection closed after {head!r}"
        head += byte
    lines = head.decode().split("\r\n")
    headers = http.client.parse_headers(_Lines(head.split(b"\r\n", 1)[1]))
    status = int(lines[0].split()[1])
    body = b""
    length = 0 if status == 100 else int(headers.get("Content-Length", 0))
    while len(body) < length:
        part = s.recv(length - len(body))
        assert part, "connection closed in the body"
        body += part
    return Answer(status, headers, body)


class _Lines:
    def __init__(self, data):
        self.lines = data.splitlines(keepends=True)

    def readline(self, limit=-1):
        return self.lines.pop(0) if self.lines else b""


def event(event_id, **fields):
    return json.dumps({"event_id": event_id, "event_type": "test", "user_id": "u1", "ts": "2026-01-31T12:00:00.000Z",
                       "properties": {"a": 1, "b": ["x", "é"]}, **fields}, ensure_ascii=False)


def in_threads(n, work):
    """Runs work(i) in n threads; the first exception is raised here."""
    failures = []

    def run(i):
        try:
            work(i)
        except BaseException as error:  # noqa: B902 - it is raised again below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
