# SPDX-License-Identifier: Apache-2.0
"""What many, large and impatient clients may cost the others (memory, descriptors, time), and the answers that they get."""

import contextlib
import http.client
import json
import os
import socket
import threading
import time

import pytest

import harness
from conftest import sections_for

MIB = 1 << 20


def front(make_alloyd, **more):
    """An alloyd whose front is all that matters: no Redis, and ClickHouse takes everything."""
    return make_alloyd(sections_for(None, None, "default.events", **more))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    alloyd = harness.Alloyd(tmp_path_factory.mktemp("limits"), sections_for(None, None, "default.events"))
    alloyd.start()
    yield alloyd
    alloyd.finish()


def sends_all_and_then_reads(alloyd, head, size):
    """The status that a client reads which sends all it has before it looks."""
    piece = b" " * 65536
    with alloyd.connect() as s:
        s.sendall(head)
        for _ in range(size // len(piece)):
            s.sendall(piece)
        return harness.read_answer(s).status


POST = b"POST /v1/events HTTP/1.1\r\nHost: a\r\n"
LONG = b"Content-Length: %d\r\n\r\n" % (60 * MIB)


@pytest.mark.parametrize("head, status", [
    (POST + LONG, 413),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n3c00000\r\n", 413),
    (POST + b"Content-Encoding: br\r\n" + LONG, 415),
    (POST + b"Expect: nothing\r\n" + LONG, 400),
    (POST + b"Host: b\r\n" + LONG, 400),
    (POST + b"X: " + b"y" * 20000 + b"\r\n" + LONG, 431),
    (b"POST /nothing HTTP/1.1\r\nHost: a\r\n" + LONG, 404),
    (b"PUT /v1/events HTTP/1.1\r\nHost: a\r\n" + LONG, 405),
    (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
], ids=["length", "chunked", "encoding", "expect", "hosts", "head", "path", "method", "coding"])
def test_who_sends_everything_before_it_reads_gets_to_read_the_refusal(server, head, status):
    for _ in range(4):
        assert sends_all_and_then_reads(server, head, 60 * MIB) == status


def test_a_client_of_the_ordinary_kind_reads_413(server):
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=harness.DEADLINE)
    client.request("POST", "/v1/events", body=b"x" * (60 * MIB))
    answer = client.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["error"] == "too_large"
    client.close()


def test_a_refused_client_that_only_waits_is_closed(make_alloyd):
    alloyd = front(make_alloyd).start()
    with alloyd.connect() as s:
        s.sendall(POST + LONG)
        assert harness.read_answer(s).status == 413
        begun = time.monotonic()
        assert s.recv(1) == b""
        harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 0, "closed", 20)
        assert 3 < time.monotonic() - begun < 15


def test_announced_bodies_that_do_not_come_refuse_nobody(make_alloyd):
    alloyd = front(make_alloyd, server={"max_buffers": "16MiB", "max_body": "8MiB"}).start()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(alloyd.connect()) for _ in range(137)]
        for data in (POST + b"Content-Length: 120000\r\n\r\n", b"["):
            for s in connections:
                s.sendall(data)
            time.sleep(0.3)  # so that the bytes are there; nothing tells
        for i in range(5):
            body = "\n".join(harness.event(f"{i}-{k}") for k in range(5000))
            assert alloyd.post(body).status == 202


def test_what_has_arrived_is_still_bounded(make_alloyd):
    alloyd = front(make_alloyd, server={"max_buffers": "4MiB", "max_body": "2MiB"}).start()
    refused = 0
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            s = stack.enter_context(alloyd.connect())
            s.sendall(POST + b"Content-Length: 2000000\r\n\r\n" + b" " * 1500000)
            s.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                refused += harness.read_answer(s).status == 503
    assert refused >= 4
    assert alloyd.post(harness.event("a")).status == 202


def cpu_seconds(alloyd):
    fields = open(f"/proc/{alloyd.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(alloyd):
    return len(os.listdir(f"/proc/{alloyd.pid}/fd"))


def start_with_descriptors(alloyd, limit):
    alloyd.write_ini()
    alloyd.spawn(["prlimit", f"--nofile={limit}:{limit}", alloyd.build / "alloyd", "--config", alloyd.ini])
    alloyd.wait_ready(alloyd.readyz)


@pytest.mark.parametrize("port", ["port", "admin_port"])
def test_the_last_descriptors_are_not_taken_by_clients(make_alloyd, port):
    alloyd = front(make_alloyd, journal={"segment": "64KiB"})
    start_with_descriptors(alloyd, 256)
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            s = stack.enter_context(socket.socket())
            s.settimeout(harness.DEADLINE)
            with contextlib.suppress(OSError):
                s.connect(("127.0.0.1", getattr(alloyd, port)))
        # Everything else still has what it needs: the admin port, the journal's next segments.
        harness.wait_until(lambda: descriptors(alloyd) < 236, lambda: f"{descriptors(alloyd)} descriptors")
        assert alloyd.readyz()
        begun, cpu = time.monotonic(), cpu_seconds(alloyd)
        time.sleep(2)  # a loop that spins shows in the time that it takes
        assert cpu_seconds(alloyd) - cpu < 0.5 * (time.monotonic() - begun)
        assert descriptors(alloyd) < 236 and alloyd.readyz()
        if port == "admin_port":
            for i in range(200):
                assert alloyd.post(harness.event(f"{i}", pad="x" * 2000)).status == 202
    assert len(alloyd.log()) < 200_000
    harness.wait_until(lambda: alloyd.health() and alloyd.post(harness.event("last")).status == 202, "room again")


def test_one_large_body_after_another_does_not_hold_up_the_others(make_alloyd):
    alloyd = front(make_alloyd, server={"threads": 1}, l1={"capacity": 100000}).start()
    ends = threading.Event()
    failures = []

    def large():
        n = 0
        while not ends.is_set():
            n += 1
            body = "\n".join(harness.event(f"{n}-{k}", pad="x" * 200) for k in range(20000))
            answer = alloyd.post(body[:body.rindex("\n", 0, 8 * MIB)])
            if answer.status not in (202, 503):
                failures.append(answer)

    thread = threading.Thread(target=large)
    thread.start()
    try:
        client = alloyd.client()
        for i in range(300):
            assert harness.request(client, harness.event(f"small-{i}")).status in (202, 503)
    finally:
        ends.set()
        thread.join()
    assert failures == []
    alloyd.settled()
