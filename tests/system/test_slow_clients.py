# SPDX-License-Identifier: Apache-2.0
"""Slow clients (slowhttptest), straight and behind a PROXY header: their connections end at the time-outs, and meanwhile
others are served."""

import contextlib
import re
import subprocess
import threading
import time

import pytest

import harness
from conftest import sections_for
from harness import event
from proxies import HAProxy

CONNECTIONS = 150
TIMEOUTS = {"head_timeout": "1s", "body_timeout": "1s", "idle_timeout": "2s"}
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"


@pytest.fixture(scope="module", params=["straight", "proxied"])
def target(request, tmp_path_factory):
    """(alloyd, what has the port to attack)"""
    folder = tmp_path_factory.mktemp("slow")
    alloyd = harness.Alloyd(folder, sections_for(None, None, "default.events", server=dict(TIMEOUTS, threads=1)))
    proxy = None
    if request.param == "proxied":
        alloyd.sections["server"]["proxy_protocol"] = "on"
        proxy = HAProxy(folder, alloyd, mode="tcp")
    alloyd.start()
    try:
        if proxy:
            proxy.start()
        yield alloyd, proxy or alloyd
    finally:
        if proxy:
            proxy.kill()
        alloyd.finish()


@contextlib.contextmanager
def attack(target_port, *options):
    """Runs slowhttptest with CONNECTIONS connections, all in the first second."""
    tool = subprocess.Popen(["slowhttptest", "-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", "20", "-p", "2",
                             "-u", f"http://127.0.0.1:{target_port}/v1/events", *options],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield tool
    finally:
        if tool.poll() is None:
            tool.kill()
        tool.communicate()


class Others:
    """A client that sends all the while, and how long it waited for each answer."""

    def __init__(self, port):
        self.port = port
        self.times = []
        self.failures = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            client = harness.http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.DEADLINE)
            while not self.stop.is_set():
                begun = time.monotonic()
                answer = harness.request(client, event(f"o-{self.port}-{begun}"))
                self.times.append(time.monotonic() - begun)
                assert answer.status == 202, answer
                time.sleep(0.01)
            client.close()
        except BaseException as error:  # noqa: B902 - it fails the test below
            self.failures.append(error)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()

    def were_served(self):
        assert self.failures == []
        assert len(self.times) > 20 and max(self.times) < 3, (len(self.times), max(self.times))


def opened(alloyd):
    return alloyd.metrics()["alloy_http_connections"]


@pytest.mark.parametrize("options", [("-H", "-i", "1"), ("-B", "-i", "1"), ("-B", "-i", "1", "-s", "8388608")],
                         ids=["head", "body", "large-body"])
def test_a_slow_head_or_body_ends_at_its_timeout(target, options):
    alloyd, front = target
    with Others(front.port) as others, attack(front.port, *options) as tool:
        harness.wait_until(lambda: opened(alloyd) > CONNECTIONS // 2, "the attack")
        begun = time.monotonic()
        output = re.sub(r"\x1b\[[0-9;]*m", "", tool.communicate(timeout=harness.DEADLINE)[0])
        # They came within a second, and had one more; the tool looks once a second.
        assert time.monotonic() - begun < 10, output
        assert "No open connections left" in output, output
        harness.wait_until(lambda: opened(alloyd) <= 2, "the attack's connections closed")
    others.were_served()
    assert alloyd.metrics()['alloy_http_requests_total{code="408"}'] >= CONNECTIONS // 2


def test_a_slow_reader_ends_as_an_idle_connection(target):
    alloyd, front = target
    with Others(front.port) as others, attack(front.port, "-X", "-k", "3", "-n", "1", "-z", "1", "-w", "1", "-y", "16"):
        harness.wait_until(lambda: opened(alloyd) > CONNECTIONS // 2, "the attack")
        begun = time.monotonic()
        harness.wait_until(lambda: opened(alloyd) <= 2, lambda: f"{opened(alloyd)} connections closed", 15)
        assert time.monotonic() - begun > 0.5
    others.were_served()


def test_a_slow_proxy_header_ends_at_head_timeout(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events", server=dict(
        TIMEOUTS, threads=1, proxy_protocol="on", head_timeout="500ms"))).start()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(alloyd.connect()) for _ in range(100)]
        silent = [stack.enter_context(alloyd.connect()) for _ in range(100)]
        begun = time.monotonic()
        for byte in V1[:10]:
            for s in slow:
                s.sendall(bytes([byte]))
            with alloyd.connect() as good:
                good.sendall(V1 + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                assert harness.read_answer(good).status == 200
            time.sleep(0.03)
        for s in slow:
            answer = harness.read_answer(s)
            assert (answer.status, answer.json["message"]) == (408, "The PROXY header did not arrive in time.")
        for s in silent:
            assert harness.read_all(s) == b""
        assert 0.4 < time.monotonic() - begun < 5
    harness.wait_until(lambda: opened(alloyd) == 0, "all closed")
