# SPDX-License-Identifier: Apache-2.0
"""alloyd behind nginx, HAProxy and Caddy, as docs/examples/ configures them: requests come through as they are, and each client is
known by its own address."""

import contextlib
import gzip
import itertools
import json
import re
import signal
import socket
import threading
import time

import pytest

import harness
from conftest import sections_for
from harness import event
from proxies import Caddy, HAProxy, Nginx, lasting_ports, send_until_taken
from test_http import BAD_HTTP, SECOND
from test_tls import Authority, Door

MIB = 1 << 20
_numbers = itertools.count(1)

WAYS = {
    "nginx": (Nginx, {}, {"trusted_proxies": "127.0.0.1"}),
    "nginx-unbuffered": (Nginx, {"buffered": False}, {"trusted_proxies": "127.0.0.1/32, ::1"}),
    "nginx-stream": (Nginx, {"stream": True}, {"proxy_protocol": "on"}),
    "haproxy-v1": (HAProxy, {"sends": "send-proxy"}, {"proxy_protocol": "on"}),
    "haproxy-v2": (HAProxy, {}, {"proxy_protocol": "on"}),
    "haproxy-tcp": (HAProxy, {"mode": "tcp"}, {"proxy_protocol": "on"}),
    "caddy": (Caddy, {}, {"trusted_proxies": "127.0.0.1"}),
}


def new_event(**fields):
    return event(f"p-{next(_numbers)}", **fields)


@pytest.fixture
def made(tmp_path):
    """made(WAY, sections) gives an alloyd and the proxy before it, both started."""
    running = []

    def make(way, alloyd, **options):
        kind, more, server = WAYS[way]
        alloyd.sections["server"].update(server)
        proxy = kind(tmp_path, alloyd, **more, **options)
        running.append(proxy)
        return proxy

    yield make
    for proxy in running:
        proxy.kill()


def front(make_alloyd, **more):
    return make_alloyd(sections_for(None, None, "default.events", **more))


# ---- requests


def chunks(body, size=1000):
    for at in range(0, len(body), size):
        yield body[at:at + size]


@pytest.fixture(scope="module", params=WAYS)
def behind(request, tmp_path_factory):
    """(alloyd, proxy): one of each way for all tests that leave them as they were."""
    folder = tmp_path_factory.mktemp("behind")
    kind, more, server = WAYS[request.param]
    alloyd = harness.Alloyd(folder, sections_for(None, None, "default.events", server=server)).start()
    proxy = kind(folder, alloyd, **more)
    try:
        proxy.start()
        yield alloyd, proxy
    finally:
        proxy.kill()
        alloyd.finish()


def test_one_connection_carries_many_requests(behind):
    alloyd, proxy = behind
    client = proxy.client()
    for _ in range(50):
        answer = harness.request(client, new_event())
        assert answer.status == 202 and answer.json == {"accepted": 1, "duplicates": 0}
    # And so does the proxy's own, where it has one for itself.
    assert 1 <= alloyd.metrics()["alloy_http_connections"] <= 4
    client.close()


def test_chunked_and_gzip_bodies(behind):
    _, proxy = behind
    body = "\n".join(new_event() for _ in range(100)).encode()
    packed = gzip.compress(body)
    client = proxy.client()
    client.request("POST", "/v1/events", body=chunks(body), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())) == (202, {"accepted": 100, "duplicates": 0})
    for data, headers in [(packed, {"Content-Encoding": "gzip"}), (packed, {})]:
        answer = harness.request(client, data, headers=headers)
        assert (answer.status, answer.json) == (202, {"accepted": 0, "duplicates": 100})
    client.request("POST", "/v1/events", body=chunks(packed), encode_chunked=True,
                   headers={"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"})
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())) == (202, {"accepted": 0, "duplicates": 100})
    client.close()


def test_who_expects_to_be_told_to_continue_is_told(behind):
    _, proxy = behind
    body = new_event().encode()
    with proxy.connect() as s:
        s.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert harness.read_answer(s).status == 100
        s.sendall(body)
        # Caddy says so itself, and passes on alloyd's word too.
        while (answer := harness.read_answer(s)).status == 100:
            pass
    assert (answer.status, answer.json) == (202, {"accepted": 1, "duplicates": 0})


def test_a_body_of_8_mib_is_taken_and_one_more_byte_is_413(behind):
    _, proxy = behind
    one = new_event(pad="x" * 1000)
    body = "\n".join(new_event(pad="x" * 1000) for _ in range(8 * MIB // (len(one) + 10)))
    body += " " * (8 * MIB - len(body.encode()))
    answer = proxy.post(body)
    assert answer.status == 202 and answer.json["accepted"] > 5000, answer
    try:
        answer = proxy.post(body + " ")
    except ConnectionError:
        # Caddy breaks off as soon as alloyd has refused, and may do so before its client has sent all.
        assert isinstance(proxy, Caddy)
        return
    assert answer.status == 413 and answer.json["error"] == "too_large", answer
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path, body, status, code", [
    ("/v1/events", "{", 400, "invalid_json"), ("/v1/events", "{}", 400, "missing_id"), ("/v1/nothing", "{}", 404, "not_found"),
])
def test_refusals_come_through_as_they_are(behind, path, body, status, code):
    _, proxy = behind
    answer = proxy.post(body, path)
    assert (answer.status, answer.json["error"]) == (status, code)


@pytest.mark.parametrize("way", ["nginx", "haproxy-v2", "caddy"])
def test_a_503_comes_through_with_its_retry_after(make_alloyd, made, way):
    # The workers wait for a Redis that is not there, and the ring is full.
    alloyd = front(make_alloyd, ring={"capacity": 100}, worker={"threads": 1, "batch": 10}, drain={"timeout": "100ms"},
                   redis={"on_failure": "hold", "url": f"redis://127.0.0.1:{harness.free_port()}"})
    proxy = made(way, alloyd)
    alloyd.start(ready=False, env=harness.EXIT_AT_ONCE)
    proxy.start()

    def refused():
        answer = proxy.post("\n".join(new_event() for _ in range(30)))
        return answer.status != 202 and answer

    answer = harness.wait_until(refused, "a full ring")
    # HAProxy may have seen it at /readyz before, and then says so itself.
    assert (answer.status, answer.json["error"]) == (503, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1


# ---- smuggled requests


def read_all_answers(s):
    """What comes back until the connection ends, or nothing has come for a while."""
    s.settimeout(0.5)
    data = b""
    with contextlib.suppress(socket.timeout, ConnectionResetError):
        while part := s.recv(65536):
            data += part
    return data


def requests_of(alloyd):
    """Those that alloyd has answered, without the health checks."""
    return sum(v for k, v in alloyd.metrics().items()
               if k.startswith("alloy_http_requests_total") and 'code="200"' not in k)


def test_nobody_smuggles_a_request_past_a_proxy(behind):
    alloyd, proxy = behind
    victim = proxy.client()
    for data in BAD_HTTP:
        before = requests_of(alloyd)
        with proxy.connect() as s:
            with contextlib.suppress(OSError):
                s.sendall(data + SECOND + b"POST /v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                          b"Content-Length: 2\r\n\r\n{}")
            answers = len(re.findall(rb"HTTP/1\.[01] \d{3} ", read_all_answers(s)))
        # Each request that alloyd has seen was answered to whom it came from: none is left for a stranger.
        assert requests_of(alloyd) - before <= answers, (data, answers)
        for _ in range(3):
            answer = harness.request(victim, new_event())
            assert (answer.status, answer.json) == (202, {"accepted": 1, "duplicates": 0}), data
    victim.close()


# ---- whose requests they are


@pytest.fixture
def table_of_clients(clickhouse):
    table = f"default.clients_{next(_numbers)}"
    clickhouse.query(f"CREATE TABLE {table} (event_id String, ip String) ENGINE = MergeTree ORDER BY event_id "
                     "SETTINGS non_replicated_deduplication_window = 1000")
    return table


def clients_of(clickhouse, alloyd, table):
    """{event id: the address that alloyd took for its client's}"""
    alloyd.settled()
    return dict(clickhouse.rows(f"SELECT event_id, ip FROM {table}"))


def with_clients(make_alloyd, clickhouse, table, **more):
    return make_alloyd(sections_for(None, clickhouse, table, stream__events={"column.ip": "client_address"}, **more))


@pytest.mark.parametrize("way", WAYS)
def test_each_client_is_known_by_its_own_address(make_alloyd, made, clickhouse, table_of_clients, way):
    alloyd = with_clients(make_alloyd, clickhouse, table_of_clients)
    proxy = made(way, alloyd)
    alloyd.start()
    proxy.start()
    sent = {}
    kept = {source: proxy.client(source) for source in ("127.0.0.5", "127.0.0.6", "127.0.0.7")}
    for number in range(30):
        source = list(kept)[number % 3]
        event_id = f"{way}-{number}"
        # What the client says itself is believed by nobody.
        spoofed = {"X-Forwarded-For": "192.0.2.66"} if number % 2 else {}
        assert harness.request(kept[source], event(event_id), headers=spoofed).status == 202
        sent[event_id] = source
    for client in kept.values():
        client.close()
    assert clients_of(clickhouse, alloyd, table_of_clients) == sent


def test_a_header_comes_before_tls_whoever_speaks_it(make_alloyd, made, clickhouse, table_of_clients, tmp_path):
    """HAProxy speaks TLS to alloyd, or only passes on what its client speaks; both after a PROXY header."""
    alloyd = with_clients(make_alloyd, clickhouse, table_of_clients)
    ca = Authority(tmp_path / "tls")
    door = Door(alloyd, ca, ca.sign("localhost"))
    speaks = made("haproxy-v2", alloyd, to=door.port, sends=f"send-proxy-v2 ssl verify required ca-file {ca.cert}")
    passes = made("haproxy-tcp", alloyd, to=door.port, sends="send-proxy check-ssl verify none")
    alloyd.start()
    speaks.start()
    passes.start(answers=lambda: True)
    client = speaks.client("127.0.0.5")
    assert harness.request(client, event("a")).status == 202
    client.close()
    with ca.context().wrap_socket(passes.connect("127.0.0.6"), server_hostname="localhost") as s:
        body = event("b").encode()
        s.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert harness.read_answer(s).status == 202
    assert clients_of(clickhouse, alloyd, table_of_clients) == {"a": "127.0.0.5", "b": "127.0.0.6"}


def test_a_reload_begins_and_ends_to_trust_a_proxy(make_alloyd, made, clickhouse, table_of_clients):
    alloyd = with_clients(make_alloyd, clickhouse, table_of_clients)
    proxy = made("nginx", alloyd)
    alloyd.sections["server"]["trusted_proxies"] = ""
    alloyd.start()
    proxy.start()
    client = proxy.client("127.0.0.5")
    for number, trusted in enumerate(["", "10.0.0.0/8, 127.0.0.1", "10.0.0.0/8", "127.0.0.1/32"]):
        if number:
            alloyd.sections["server"]["trusted_proxies"] = trusted
            alloyd.write_ini()
            alloyd.signal(signal.SIGHUP)
            harness.wait_until(lambda: alloyd.log().count("configuration reloaded") == number, "the reload")
        assert harness.request(client, event(f"e{number}")).status == 202
    client.close()
    assert clients_of(clickhouse, alloyd, table_of_clients) == {
        "e0": "127.0.0.1", "e1": "127.0.0.5", "e2": "127.0.0.1", "e3": "127.0.0.5"}


def test_a_proxy_may_come_over_a_unix_socket(make_alloyd, made, clickhouse, table_of_clients, tmp_path):
    path = tmp_path / "alloy.sock"
    alloyd = with_clients(make_alloyd, clickhouse, table_of_clients, limits={"address_requests": 3})
    proxy = made("nginx", alloyd, upstream=f"unix:{path}")
    alloyd.sections["server"].update({"listen": f"127.0.0.1:{alloyd.port}, unix:{path}", "trusted_proxies": "unix:"})
    alloyd.start()
    proxy.start()
    assert proxy.post(event("a"), source="127.0.0.5").status == 202
    assert proxy.post(event("b"), source="127.0.0.6").status == 202
    # Over TCP nobody is believed here.
    assert alloyd.post(event("c"), headers={"X-Forwarded-For": "192.0.2.1"}).status == 202
    assert clients_of(clickhouse, alloyd, table_of_clients) == {"a": "127.0.0.5", "b": "127.0.0.6", "c": "127.0.0.1"}


@pytest.mark.parametrize("way", ["nginx", "haproxy-v2", "caddy"])
def test_who_floods_is_limited_and_nobody_else_behind_the_same_proxy(make_alloyd, made, way):
    alloyd = front(make_alloyd, limits={"address_requests": 20})
    proxy = made(way, alloyd)
    alloyd.start()
    proxy.start()
    ends = time.monotonic() + 2
    statuses = {"127.0.0.5": [], "127.0.0.6": []}

    def send(i):
        source = list(statuses)[i]
        client = proxy.client(source)
        while time.monotonic() < ends:
            answer = harness.request(client, new_event())
            assert answer.status == 202 or (answer.json["error"] == "rate_limited" and "Retry-After" in answer.headers)
            statuses[source].append(answer.status)
            if i:
                time.sleep(0.15)
        client.close()

    harness.in_threads(2, send)
    assert statuses["127.0.0.5"].count(429) > 0
    assert set(statuses["127.0.0.6"]) == {202} and len(statuses["127.0.0.6"]) > 3


# ---- health, and an alloyd that dies


def test_haproxy_takes_an_alloyd_that_drains_out_and_one_that_is_back_in(make_alloyd, made):
    alloyd = front(make_alloyd, ring={"capacity": 1000}, worker={"threads": 1, "batch": 10},
                   redis={"on_failure": "hold", "url": f"redis://127.0.0.1:{harness.free_port()}"})
    alloyd.allow_exit = {0, 1}
    proxy = made("haproxy-v2", alloyd)
    alloyd.start(env=harness.EXIT_AT_ONCE)
    proxy.start()
    assert proxy.post(new_event()).status == 202
    # It drains for as long as Redis is away.
    alloyd.signal(signal.SIGTERM)
    harness.wait_until(lambda: proxy.state() == "DOWN", lambda: f"DOWN, not {proxy.state()}")
    assert alloyd.alive()
    answer = proxy.post(new_event())
    assert answer.status == 503 and answer.json["error"] == "overloaded" and answer.headers["Retry-After"] in "123"
    alloyd.signal(signal.SIGTERM)
    alloyd.wait()
    alloyd.sections["redis"]["url"] = ""
    alloyd.start()
    harness.wait_until(lambda: proxy.state() == "UP", lambda: f"UP, not {proxy.state()}")
    assert proxy.post(new_event()).status == 202
    # Its checks are requests too, and none of them was refused.
    assert 'alloy_http_requests_total{code="400"}' not in {k for k, v in alloyd.metrics().items() if v}


def test_caddy_leaves_an_alloyd_that_drains_alone(make_alloyd, tmp_path):
    first, second = (front(make_alloyd, drain={"linger": "1min"}, server={"trusted_proxies": "127.0.0.1"}) for _ in range(2))
    first.start()
    second.start()
    proxy = Caddy(tmp_path, first, other=second)
    try:
        proxy.start()
        first.signal(signal.SIGTERM)  # it still takes events, and says 503 at /readyz
        harness.wait_until(lambda: first.admin("/readyz").status == 503, "the drain")

        def left_alone():
            before = first.books()["accepted"]
            for _ in range(10):
                assert proxy.post(new_event()).status == 202
            return first.books()["accepted"] == before

        harness.wait_until(left_alone, "all events at the second")
        first.signal(signal.SIGTERM)
        first.allow_exit = {0, 1}
        first.wait()
        second.kill()
        answer = harness.wait_until(lambda: (a := proxy.post(new_event())).status == 503 and a, "a refusal")
        assert (answer.headers["Retry-After"], answer.json["error"]) == ("1", "overloaded")
    finally:
        proxy.kill()


def test_of_two_alloyd_one_is_killed_and_nothing_is_lost_or_doubled(make_alloyd, made, redis, clickhouse, table):
    first, second = (make_alloyd(sections_for(redis, clickhouse, table)) for _ in range(2))
    for alloyd in (first, second):
        lasting_ports(alloyd)
        alloyd.sections["server"]["proxy_protocol"] = "on"
    proxy = made("haproxy-v2", first, other=second)
    first.start()
    second.start()
    proxy.start()
    harness.wait_until(lambda: proxy.state("b") == "UP", "both up")
    ends = time.monotonic() + harness.DEADLINE
    counts = [0] * 8
    stop = threading.Event()

    def send(i):
        while not stop.is_set():
            send_until_taken(proxy, f"k-{i}-{counts[i]}", ends)
            counts[i] += 1

    def kill():
        for victim in (first, second, first):
            goal = sum(counts) + 400
            harness.wait_until(lambda: sum(counts) > goal, "load")
            victim.signal(signal.SIGKILL)
            victim.wait()
            goal = sum(counts) + 200
            harness.wait_until(lambda: sum(counts) > goal, "load without it")
            victim.start()
            harness.wait_until(lambda: (proxy.state("a"), proxy.state("b")) == ("UP", "UP"), "both up")
        stop.set()

    def run(i):
        if i == 8:
            try:
                kill()
            finally:
                stop.set()
        else:
            send(i)

    harness.in_threads(9, run)
    first.settled()
    second.settled()
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") == sum(counts)
