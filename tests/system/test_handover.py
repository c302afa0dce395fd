# SPDX-License-Identifier: Apache-2.0
"""Restarts under load that refuse nobody: in place (USR2), with sockets that systemd holds, and by its descriptor store.

ALLOY_RESTARTS=100 makes the loops as long as a release wants them; figures go to standard output (pytest -s).
"""

import array
import os
import re
import signal
import socket
import threading
import time

import pytest

import harness
from conftest import sections_for
from load import Load
from test_lifecycle import Systemd, log_lines

RESTARTS = int(os.environ.get("ALLOY_RESTARTS", "5"))


def sections(redis, clickhouse, table, **more):
    return sections_for(redis, clickhouse, table, server={"threads": 2}, **more)


def serving(alloyd):
    return len(log_lines(alloyd, 'msg="serving"'))


def usr2(alloyd):
    lives = serving(alloyd)
    alloyd.signal(signal.SIGUSR2)
    harness.wait_until(lambda: serving(alloyd) > lives or not alloyd.alive(), alloyd.log)
    assert alloyd.alive(), alloyd.log()[-3000:]


def test_restarts_in_place_under_load(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections(redis, clickhouse, table)).start()
    pid = alloyd.pid
    with Load(alloyd) as load:
        for _ in range(RESTARTS):
            before = load.requests
            usr2(alloyd)
            harness.wait_until(lambda: load.requests > before + 20 or load.troubles, "requests after a restart")
    load.tell(RESTARTS, "in place")
    assert alloyd.popen.pid == pid and serving(alloyd) == RESTARTS + 1
    assert alloyd.drain() == 0
    load.check(clickhouse, table)
    assert not log_lines(alloyd, "level=error")


def test_restarts_with_sockets_that_somebody_holds(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections(redis, clickhouse, table))
    with harness.listen_on() as event, harness.listen_on() as admin:
        alloyd.port, alloyd.admin_port = event.getsockname()[1], admin.getsockname()[1]
        alloyd.start_with([event, admin], ["event", "admin"])
        with Load(alloyd) as load:
            for _ in range(RESTARTS):
                assert alloyd.drain() == 0
                alloyd.start_with([event, admin], ["event", "admin"])
        load.tell(RESTARTS, "sockets of systemd")
        assert alloyd.drain() == 0
    load.check(clickhouse, table)


class Store(Systemd):
    """systemd with FileDescriptorStoreMax: keeps what it is sent, until it is told to remove it."""

    def __init__(self, path):
        super().__init__(path)
        self.env["FDSTORE"] = "64"
        self.kept, self.over = [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        self.socket.settimeout(0.05)
        while not self.over:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
            except TimeoutError:
                continue
            words = dict(line.split("=", 1) for line in data.decode().splitlines())
            for _, _, fds in ancillary:
                for fd in array.array("i", fds):
                    assert words["FDSTORE"] == "1"
                    self.kept.append((words["FDNAME"], socket.socket(fileno=fd)))
            if words.get("FDSTOREREMOVE") == "1":
                for name, s in self.kept:
                    if name == words["FDNAME"]:
                        s.close()
                self.kept = [(name, s) for name, s in self.kept if name != words["FDNAME"]]

    def close(self):
        self.over = True
        self.thread.join()
        for _, s in self.kept:
            s.close()
        self.socket.close()


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "notify")
    yield store
    store.close()


def restart_by_store(alloyd, store):
    assert alloyd.drain() == 0
    kept = list(store.kept)
    alloyd.start_with([s for _, s in kept], [name for name, _ in kept], store.env)


def test_restarts_by_the_descriptor_store(make_alloyd, redis, clickhouse, table, store):
    alloyd = make_alloyd(sections(redis, clickhouse, table))
    alloyd.spawn_only(store.env)
    alloyd.wait_ready(alloyd.readyz)
    with Load(alloyd) as load:
        for _ in range(RESTARTS):
            restart_by_store(alloyd, store)
    load.tell(RESTARTS, "descriptor store")
    assert alloyd.drain() == 0
    assert sorted(name for name, _ in store.kept) == ["kept-admin", "kept-event", "kept-event"]  # one a thread
    load.check(clickhouse, table)


def test_the_store_holds_nothing_while_alloyd_serves_and_follows_the_configuration(make_alloyd, store):
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.spawn_only(store.env)
    alloyd.wait_ready(alloyd.readyz)
    old, alloyd.port = alloyd.port, harness.free_port()
    alloyd.sections["server"]["listen"] = f"127.0.0.1:{alloyd.port}"
    restart_by_store(alloyd, store)
    harness.wait_until(lambda: store.kept == [], "an empty store")
    assert log_lines(alloyd, "no longer listening", f"address=127.0.0.1:{old}")
    assert alloyd.post(harness.event("a")).status == 202
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old))


def test_a_unix_socket_whose_file_has_gone_is_made_again(make_alloyd, store, tmp_path):
    folder = tmp_path / "run"  # as RuntimeDirectory= goes and comes between two lives
    folder.mkdir()
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"listen": f"unix:{folder}/s"}))
    alloyd.spawn_only(store.env)
    alloyd.wait_ready(alloyd.readyz)
    for gone in (False, True):
        assert alloyd.drain() == 0
        assert "kept-event" in [name for name, _ in store.kept]
        if gone:
            (folder / "s").unlink()
        kept = list(store.kept)
        alloyd.start_with([s for _, s in kept], [name for name, _ in kept], store.env)
        assert log_lines(alloyd, "listening", f"unix:{folder}/s")[-1].endswith("socket=kept") is not gone
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{folder}/s")
            s.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert harness.read_answer(s).status == 200


def test_without_a_store_the_listeners_are_closed(make_alloyd, tmp_path):
    clickhouse = harness.ClickHouse(tmp_path)  # never started
    alloyd = make_alloyd(sections_for(None, clickhouse, "default.events", drain={"timeout": "60s"}))
    alloyd.start(ready=False, env=harness.EXIT_AT_ONCE)
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.signal(signal.SIGTERM)
    harness.wait_until(lambda: not alloyd.listens(), "closed listeners")
    alloyd.allow_exit = {1}
    alloyd.signal(signal.SIGTERM)
    alloyd.wait(5)


# ---- what a restart in place does besides


def test_a_restart_reads_the_configuration_again(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"threads": 1})).start()
    for threads in (4, 2, 3):
        alloyd.sections["server"].update(threads=threads, listen=f"127.0.0.1:{alloyd.port}, unix:{alloyd.folder}/s")
        alloyd.sections["ring"] = {"capacity": 1000 + threads}
        alloyd.write_ini()
        usr2(alloyd)
        assert alloyd.metrics()["alloy_ring_capacity"] == 1000 + threads
        for n in range(30):  # on whichever socket of the port it lands
            assert alloyd.post(harness.event(f"{threads}-{n}")).status == 202
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{alloyd.folder}/s")
            s.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert harness.read_answer(s).status == 200
    assert alloyd.drain() == 0
    assert not os.path.exists(f"{alloyd.folder}/s")


def test_a_broken_configuration_stops_no_daemon(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    good = alloyd.ini.read_text()
    alloyd.ini.write_text(good + "[nonsense]\n")
    alloyd.signal(signal.SIGUSR2)
    harness.wait_until(lambda: log_lines(alloyd, "not restarted", "nonsense"), alloyd.log)
    assert alloyd.post(harness.event("a")).status == 202 and serving(alloyd) == 1
    alloyd.ini.write_text(good)
    usr2(alloyd)


def test_a_program_that_is_gone_or_broken_stops_no_daemon(make_alloyd, tmp_path):
    build = tmp_path / "build"
    build.mkdir()
    program = build / "alloyd"
    program.write_bytes((harness.BUILD / "alloyd").read_bytes())
    program.chmod(0o755)
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.build = build
    alloyd.start()
    program.unlink()
    alloyd.signal(signal.SIGUSR2)
    harness.wait_until(lambda: log_lines(alloyd, "not restarted", "cannot run"), alloyd.log)
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    program.chmod(0o755)
    alloyd.signal(signal.SIGUSR2)
    harness.wait_until(lambda: log_lines(alloyd, "not restarted", "broken"), alloyd.log)
    assert alloyd.post(harness.event("a")).status == 202
    program.unlink()
    program.write_bytes((harness.BUILD / "alloyd").read_bytes())  # the new version
    program.chmod(0o755)
    usr2(alloyd)
    assert alloyd.post(harness.event("b")).status == 202


def test_what_clickhouse_does_not_take_goes_to_the_next_life(make_alloyd, own_clickhouse):
    alloyd = make_alloyd(sections_for(None, own_clickhouse, "default.events")).start()
    own_clickhouse.signal(signal.SIGSTOP)
    assert alloyd.post("\n".join(harness.event(f"a{n}") for n in range(50))).status == 202
    begun = time.monotonic()
    usr2(alloyd)
    assert time.monotonic() - begun < 20
    assert alloyd.books()["pending"] == 50
    own_clickhouse.signal(signal.SIGCONT)
    alloyd.settled()
    assert own_clickhouse.count("default.events") == own_clickhouse.count("default.events", "uniqExact(event_id)") == 50


def test_a_slow_request_is_finished_and_idle_connections_are_let_go(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    body = harness.event("slow").encode()
    with alloyd.connect() as slow, alloyd.connect() as idle:
        slow.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body[:5]))
        harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 2, "both connections")
        alloyd.signal(signal.SIGUSR2)
        assert idle.recv(1) == b"", "closed after a second"
        assert alloyd.post(harness.event("meanwhile")).status == 202
        assert serving(alloyd) == 1
        slow.sendall(body[5:])
        answer = harness.read_answer(slow)
        assert answer.status == 202 and answer.headers["Connection"] == "close"
    harness.wait_until(lambda: serving(alloyd) == 2, alloyd.log)


def test_term_during_a_restart_is_a_stop(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    with alloyd.connect() as slow:
        slow.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 1, "its request")
        alloyd.signal(signal.SIGUSR2)
        harness.wait_until(lambda: log_lines(alloyd, "draining", "then=restart"), alloyd.log)
        alloyd.signal(signal.SIGTERM)
        slow.close()
        assert alloyd.wait() == 0
    assert serving(alloyd) == 1


def test_systemd_sees_a_reload(make_alloyd, tmp_path):
    systemd = Systemd(tmp_path / "notify")
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.spawn_only(dict(systemd.env, WATCHDOG_USEC="600000000"))
    assert systemd.next()["READY"] == "1"
    alloyd.signal(signal.SIGUSR2)
    message = systemd.next()
    assert message["RELOADING"] == "1" and int(message["MONOTONIC_USEC"]) > 0 and int(message["EXTEND_TIMEOUT_USEC"]) > 0
    while (message := systemd.next()).get("READY") != "1":
        assert message == {"WATCHDOG": "1"}
    assert re.search(r"READY|WATCHDOG", systemd.rest()) is None
    systemd.socket.close()
