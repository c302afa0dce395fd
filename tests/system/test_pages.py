# SPDX-License-Identifier: Apache-2.0
"""Web pages of other origins, and balancers that ask whether alloyd is well, on the port for events."""

import itertools
import signal

import pytest

import harness
from conftest import sections_for

ORIGIN = "https://shop.example"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "content-type,authorization"}
_numbers = itertools.count()


def start(make_alloyd, **server):
    return make_alloyd(sections_for(None, None, "default.events", server={"threads": 1, **server})).start()


@pytest.fixture
def alloyd(make_alloyd):
    return start(make_alloyd, cors_origins=f"http://localhost:3000, {ORIGIN}")


def expect_told(answer, origin=ORIGIN):
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Vary"] == "Origin"


def body():
    return f'{{"event_id":"page-{next(_numbers)}"}}'


def test_a_preflight_is_answered_with_what_was_asked(alloyd):
    connection = alloyd.client()
    for _ in range(2):  # the connection goes on
        answer = harness.request(connection, None, headers=PREFLIGHT, method="OPTIONS")
        assert (answer.status, answer.body) == (204, b"")
        expect_told(answer)
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Headers"] == "content-type,authorization"
        assert int(answer.headers["Access-Control-Max-Age"]) > 0
        answer = harness.request(connection, body(), headers={"Origin": ORIGIN})
        assert answer.status == 202
        expect_told(answer)
        assert answer.headers["Access-Control-Allow-Methods"] is None


def test_a_preflight_may_ask_for_as_much_as_a_head_holds(alloyd):
    connection = alloyd.client()
    for length in (700, 701, 2000, 8000, 15800):
        asked = ",".join(f"x-{i:05}" for i in range(length // 8))
        answer = harness.request(connection, None, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST",
                                                            "Access-Control-Request-Headers": asked}, method="OPTIONS")
        assert answer.status == 204, length
        expect_told(answer)
        assert answer.headers["Access-Control-Allow-Headers"] == asked
    assert harness.request(connection, body(), headers={"Origin": ORIGIN}).status == 202
    # Many at once, behind each other and behind events; with a body, and as much as is not copied for its sake.
    one = f"OPTIONS /v1/events HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\nAccess-Control-Request-Headers: {asked}\r\n"
    text = body()
    post = f"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    answers = alloyd.raw((one + "\r\n" + post).encode() * 30)
    assert answers.count(b"HTTP/1.1 204") == answers.count(b"HTTP/1.1 202") == 30
    assert answers.count(asked.encode()) == 30
    assert alloyd.raw((one + "Content-Length: 1\r\n\r\nx").encode()).startswith(b"HTTP/1.1 405")
    assert alloyd.raw((one.replace(asked, asked[:700]) + "Content-Length: 1\r\n\r\nx").encode()).startswith(b"HTTP/1.1 204")


def test_every_answer_names_the_origin(alloyd):
    for path, sent, status in (("/v1/events", "[", 400), ("/nowhere", "{}", 404), ("/v1/events", "{}" * 2, 400),
                               ("/v1/events?ack=no", body(), 400), ("/v1/events?ack=clickhouse", body(), 200)):
        answer = alloyd.post(sent, path, headers={"Origin": ORIGIN})
        assert answer.status == status
        expect_told(answer)
    lenient = alloyd.post(body() + "{}", headers={"Origin": ORIGIN, "Prefer": "handling=lenient"})
    assert lenient.json["invalid"] == 1
    expect_told(lenient)
    large = alloyd.post("[" + ",".join(body()[:-1] + ',"x":"' + "y" * 5000 + '"}' for _ in range(100)) + "]",
                        headers={"Origin": ORIGIN})
    assert large.json["accepted"] == 100
    expect_told(large)


def test_refusals_of_a_head_name_the_origin_too(make_alloyd):
    alloyd = start(make_alloyd, cors_origins=ORIGIN, max_head="1KiB", head_timeout="200ms")
    head = f"POST /v1/events HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\n"
    for more, status in (("X: " + "y" * 2000, 431), ("X : y", 400), ("Content-Length: 1\r\nContent-Length: 2", 400),
                         ("Transfer-Encoding: gzip", 501), ("Expect: x", 400), ("Y: z", 411)):
        answer = alloyd.raw(f"{head}{more}\r\n\r\n".encode()).decode()
        assert answer.startswith(f"HTTP/1.1 {status} "), answer
        assert f"\r\nAccess-Control-Allow-Origin: {ORIGIN}\r\n" in answer and "\r\nVary: Origin\r\n" in answer, answer
    with alloyd.connect() as s:
        s.sendall(head.encode())
        answer = harness.read_answer(s)
    assert answer.status == 408
    expect_told(answer)


def test_another_origin_is_told_nothing_and_its_events_are_taken(alloyd):
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": ORIGIN + ".evil.example"}, {"Origin": "null"}):
        answer = alloyd.post(body(), headers=headers)
        assert answer.status == 202  # it is for the browser to keep a page from reading it
        assert answer.headers["Access-Control-Allow-Origin"] is None
        answer = alloyd.post(None, headers={**PREFLIGHT, **headers, "Origin": headers.get("Origin", "x")}, method="OPTIONS")
        assert answer.headers["Access-Control-Allow-Origin"] is None


def test_pipelined_requests_of_different_origins_get_their_own(alloyd):
    def one(origin):
        text = body().encode()
        return (b"POST /v1/events HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\nContent-Length: %d\r\n\r\n%s"
                % (origin.encode(), len(text), text))
    answers = alloyd.raw(one(ORIGIN) + one("http://localhost:3000") + one("https://evil.example") + one(ORIGIN))
    told = [line.split(b": ")[1].decode() for line in answers.split(b"\r\n") if line.startswith(b"Access-Control-Allow-Origin")]
    assert answers.count(b"HTTP/1.1 202") == 4
    assert told == [ORIGIN, "http://localhost:3000", ORIGIN]


def test_any_origin_and_a_reload(make_alloyd):
    alloyd = start(make_alloyd)
    assert alloyd.post(body(), headers={"Origin": ORIGIN}).headers["Vary"] is None
    alloyd.sections["server"]["cors_origins"] = "*"
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: alloyd.post(body(), headers={"Origin": ORIGIN}).headers["Vary"], "the reload")
    expect_told(alloyd.post(body(), headers={"Origin": "http://other:1"}), "http://other:1")
    expect_told(alloyd.post(body(), headers={"Origin": "null"}), "null")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_balancers_ask_on_the_port_for_events(make_alloyd, method):
    alloyd = start(make_alloyd)
    connection = alloyd.client()
    for path in ("/healthz", "/readyz", "/healthz/", "/readyz/"):
        answer = harness.request(connection, None, path, method=method)
        assert answer.status == (204 if method == "OPTIONS" else 200)
        assert (answer.body == b"") == (method != "GET")
    if method == "OPTIONS":
        for path in ("/", "*"):
            answer = harness.request(connection, None, path, method=method)
            assert (answer.status, answer.headers["Allow"]) == (204, "POST, OPTIONS")
        assert harness.request(connection, None, "/nowhere", method=method).status == 404
        assert harness.request(connection, None, "/v1/events", method=method).status == 405
    else:
        assert harness.request(connection, None, "/v1/events", method=method).status == 405
        assert harness.request(connection, None, "/", method=method).status == 404
    assert harness.request(connection, body()).status == 202


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "post"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/healthz/", "/readyz?x=1"])
def test_health_takes_no_other_method(make_alloyd, method, path):
    alloyd = start(make_alloyd)
    connection = alloyd.client()
    for sent in (None, body(), body()):  # the connection goes on
        answer = harness.request(connection, sent, path, method=method)
        assert (answer.status, answer.json["error"], answer.headers["Allow"]) == (405, "method_not_allowed", "GET, HEAD, OPTIONS")
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    assert b"\r\nAllow: GET, HEAD, OPTIONS\r\n" in alloyd.raw(head.encode())
    assert harness.request(connection, body(), method="PUT").headers["Allow"] == "POST"
    assert harness.request(connection, body()).status == 202


def test_readyz_on_the_port_for_events_says_when_it_is_not(make_alloyd, redis, clickhouse):
    alloyd = make_alloyd(sections_for(redis, clickhouse, "default.there_is_no_such_table")).start(ready=False)
    answer = harness.wait_until(lambda: (a := alloyd.post(None, "/readyz", method="GET")).status == 503 and a, "not ready")
    assert answer.json == {"ready": False} and int(answer.headers["Retry-After"]) >= 1
    assert alloyd.post(None, "/healthz", method="GET").status == 200
