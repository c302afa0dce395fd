# SPDX-License-Identifier: Apache-2.0
"""The event port, request by request: every status, every error code, and HTTP at its edges."""

import itertools
import os
import re
import select
import signal
import socket
import time

import pytest

import harness
from conftest import sections_for

BODY_MAX = 256 * 1024
HEAD_MAX = 16 * 1024
RING = 1000
POST = b"POST /v1/events HTTP/1.1\r\nHost: a\r\n"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One alloyd for all tests that leave it as it was: no Redis, batches are dropped."""
    folder = tmp_path_factory.mktemp("http")
    alloyd = harness.Alloyd(folder, sections_for(
        None, None, "default.events", ring={"capacity": RING}, journal={"segment": "64KiB", "max_bytes": "64MiB"},
        server={"threads": 1, "max_body": "256KiB", "max_head": "16KiB"}, log={"level": "info"})).start()
    yield alloyd
    alloyd.finish()


@pytest.fixture
def s(server):
    with server.connect() as connection:
        yield connection


def wait_for_room(alloyd):
    """Before and after what nearly fills the ring: a busy machine's worker may be late."""
    harness.wait_until(lambda: alloyd.metrics()["alloy_ring_depth"] == 0, "an empty ring")


def new_id():
    return f"id-{next(_numbers)}"


def event():
    return b'{"event_id":"%s"}' % new_id().encode()


def large_event(size):
    return b'{"event_id":"%s","x":"%s"}' % (new_id().encode(), b"y" * size)


def message(body, *headers, start=POST):
    """A POST with a Content-Length."""
    return b"".join([start, *(h + b"\r\n" for h in headers), b"Content-Length: %d\r\n\r\n" % len(body), body])


def chunked(*chunks, extension=b"", trailer=b""):
    return b"".join([POST, b"Transfer-Encoding: chunked\r\n\r\n",
                     *(b"%x%s\r\n%s\r\n" % (len(c), extension, c) for c in chunks),
                     b"0%s\r\n%s\r\n" % (extension, trailer)])


def ask(connection, data):
    connection.sendall(data)
    return harness.read_answer(connection)


def expect_accepted(answer, accepted=1, duplicates=0):
    assert answer.status == 202, answer
    assert answer.body == b'{"accepted":%d,"duplicates":%d}' % (accepted, duplicates)
    assert answer.headers["Content-Type"] == "application/json"


def expect_error(answer, status, code, event=None, offset=None):
    assert (answer.status, answer.json["error"]) == (status, code), answer
    assert answer.headers["Content-Type"] == "application/json"
    keys = ["error", "message"] if event is None else ["error", "message", "event", "offset"]
    assert list(answer.json) == keys, answer
    assert re.fullmatch(r"\S+ .*\.", answer.json["message"]), answer
    if event is not None:
        assert answer.json["event"] == event, answer
        places = offset if isinstance(offset, range) else [offset]
        assert answer.json["offset"] in places, (answer, offset)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert ("Allow" in answer.headers) == (status == 405)


def expect_closed(connection, rest=b""):
    assert harness.read_all(connection) == rest


def expect_usable(connection):
    expect_accepted(ask(connection, message(event())))


# ---- what is accepted


@pytest.mark.parametrize("form, accepted, duplicates", [
    ('{"event_id":"A"}', 1, 0),
    ('{"event_id":"A"}\n', 1, 0),
    (' \r\n\t{"event_id":"A"} ', 1, 0),
    ('{"event_id":"A"}\n{"event_id":"B"}\n{"event_id":"C"}\n', 3, 0),
    ('{"event_id":"A"}\r\n{"event_id":"B"}', 2, 0),
    ('{"event_id":"A"} {"event_id":"B"}\t{"event_id":"C"}', 3, 0),
    ('[{"event_id":"A"}]', 1, 0),
    (' [ {"event_id":"A"} , {"event_id":"B"} ] \n', 2, 0),
    ('{\n  "event_id": "A",\n  "x": {\n    "y": [1, 2]\n  }\n}\n{\n  "event_id": "B"\n}\n', 2, 0),
    ('[\n  {\n    "event_id": "A"\n  },\n  {\n    "event_id": "A"\n  }\n]', 1, 1),
    ('{"event_id":"A"}\n{"event_id":"B"}\n{"event_id":"A"}\n{"event_id":"A","x":1}', 2, 2),
])
@pytest.mark.parametrize("content_type", [b"application/json", b"application/x-ndjson", b"text/plain", b""])
def test_objects_ndjson_and_arrays_are_accepted_whatever_the_type(s, form, accepted, duplicates, content_type):
    body = form
    for letter in "ABC":
        body = body.replace(f'"{letter}"', f'"{new_id()}"')
    body = body.encode()
    request = message(body, *([b"Content-Type: " + content_type] if content_type else []))
    expect_accepted(ask(s, request), accepted, duplicates)
    expect_accepted(ask(s, request), 0, accepted + duplicates)


@pytest.mark.parametrize("value", ["1", "0", "-17", "9223372036854775807", "123456789012345678901234567890"])
def test_an_integer_is_an_id(s, value):
    body = b'{"event_id":%s}' % value.encode()
    expect_accepted(ask(s, message(body)))
    expect_accepted(ask(s, message(body)), 0, 1)


def test_escapes_are_decoded_before_ids_and_keys_are_compared(s):
    mine = new_id()
    escaped = "".join(f"\\u{ord(c):04x}" for c in mine)
    for body in (f'{{"event_id":"{mine}"}}', f'{{"event_id":"{escaped}"}}', f'{{"event\\u005fid":"{mine}"}}',
                 f'{{"\\u0065vent_id":"{escaped.upper().replace("U", "u")}"}}'):
        answer = ask(s, message(body.encode()))
        expect_accepted(answer, *((1, 0) if body == f'{{"event_id":"{mine}"}}' else (0, 1)))
    pair = new_id()
    expect_accepted(ask(s, message(f'{{"event_id":"{pair}\\ud83d\\ude00\\/\\n"}}'.encode())))
    expect_accepted(ask(s, message(f'{{"event_id":"{pair}\U0001f600/\\u000a"}}'.encode())), 0, 1)


def test_an_id_field_further_down_or_another_field_is_no_id(s):
    mine = new_id()
    body = f'{{"a":{{"event_id":"other"}},"event_id":"{mine}","b":[{{"event_id":"other"}}],"event_id2":"other"}}'
    expect_accepted(ask(s, message(body.encode())))
    expect_accepted(ask(s, message(b'{"event_id":"%s"}' % mine.encode())), 0, 1)
    expect_error(ask(s, message(b'{"a":{"event_id":"x"}}')), 400, "missing_id", 0, range(23))


def test_an_id_has_at_most_256_bytes_once_decoded(s):
    mine = new_id()
    pad = 256 - len(mine)
    expect_accepted(ask(s, message(f'{{"event_id":"{mine}{"a" * pad}"}}'.encode())))
    expect_accepted(ask(s, message(f'{{"event_id":"{mine}{chr(92) + "u0061"}{"a" * (pad - 1)}"}}'.encode())), 0, 1)
    expect_accepted(ask(s, message(f'{{"event_id":"{mine}{"é" * (pad // 2)}"}}'.encode())))
    for tail in ("a" * (pad + 1), "\\u0061" * (pad + 1), "é" * (pad // 2 + 1)):
        body = f'{{"event_id":"{mine}{tail}"}}'.encode()
        expect_error(ask(s, message(body)), 400, "invalid_id", 0, range(len(body)))
    expect_usable(s)


@pytest.mark.parametrize("value", ['""', "null", "true", "1.0", "1.5", "1e3", "1E2", "-0.5", "{}", "[]", '["a"]'])
def test_what_is_no_string_and_no_integer_is_no_id(s, value):
    first = event()
    body = first + b'\n{"event_id":%s,"x":1}' % value.encode()
    expect_error(ask(s, message(body)), 400, "invalid_id", 1, range(len(first) + 1, len(body)))
    expect_accepted(ask(s, message(first)))  # nothing of the refused request was kept


@pytest.mark.parametrize("wrap", ["%s", "[%s]", "[ {\"event_id\":\"B\"}, %s ]"])
def test_an_event_is_at_most_64_deep(s, wrap):
    def nested(depth):
        text = '{"event_id":"A","x":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
        return (wrap % text).replace('"A"', f'"{new_id()}"').replace('"B"', f'"{new_id()}"').encode()

    assert ask(s, message(nested(64))).status == 202
    answer = ask(s, message(nested(65)))
    expect_error(answer, 400, "invalid_json", 1 if "B" in wrap else 0, range(1000))
    text = b'{"event_id":"x","x":' + b'{"a":' * 100000
    expect_error(ask(s, message(text[:BODY_MAX])), 400, "invalid_json", 0, 20 + 5 * 63)


# ---- bodies that are refused


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t \n", b"[]", b" [ \n ] "])
def test_a_body_without_an_event_is_empty(s, body):
    expect_error(ask(s, message(body)), 400, "empty")
    expect_usable(s)


# ^ stands before the byte at fault.
@pytest.mark.parametrize("number, body", [
    (0, b"^x"), (0, b"^1"), (0, b'^"a"'), (0, b"^null"),
    (0, b'{"event_id":"x",^}'), (0, b'{"event_id":^}'), (0, b"{^event_id:1}"), (0, b'{"event_id":1^;}'),
    (0, b'{"event_id" ^1}'), (0, b'{"event_id":"x","a":^+1}'), (0, b'{"event_id":"x","a":0^1}'),
    (0, b'{"event_id":"x","a":"^\\q"}'), (0, b'{"event_id":"x","a":"^\n"}'), (0, b'{"event_id":"x","a":^NaN}'),
    (0, b'{"event_id":"x","a":"^\xff"}'), (0, b'{"event_id":"x","a":"^\xc0\x80"}'),
    (0, b'{"event_id":"x","a":"\xed^\xa0\x80"}'), (0, b'{"event_id":"x","a":"\xf4^\x90\x80\x80"}'),
    (0, b'{"event_id":"x","a":"\xe2\x82^"}'), (0, b'{"event_id":"x"^'), (0, b'{"event_id":"x^'), (0, b"{^"),
    (1, b'{"event_id":"x"}\n^]'), (1, b'{"event_id":"x"}\n{"event_id":"y",^1}'), (1, b'{"event_id":"x"}^,'),
    (1, b'[{"event_id":"x"},^]'), (1, b'[{"event_id":"x"} ^{"event_id":"y"}]'), (1, b'[{"event_id":"x"}^'),
    (1, b'[{"event_id":"x"},^1]'), (1, b'[{"event_id":"x"}]^{"event_id":"y"}'), (0, b"[^[]]"),
    (1, b'{"event_id":"x"}^,{"event_id":"y"}'),
    (2, b'{"event_id":"x"}\n{"event_id":"y"}\n{"event_id":"z",^x}\n{"event_id":"w"}'),
])
def test_bad_json_names_the_event_and_the_byte(s, number, body):
    at = body.index(b"^")
    body = body.replace(b"^", b"", 1)
    answer = ask(s, message(body))
    expect_error(answer, 400, "invalid_json", number, at)
    assert ask(s, message(b'{"event_id":"%s"}' % new_id().encode())).status == 202


def test_a_missing_id_names_the_event(s):
    first, second = event(), event()
    body = b"[%s,%s,{\"x\":1}]" % (first, second)
    expect_error(ask(s, message(body)), 400, "missing_id", 2, range(body.index(b'{"x'), len(body)))
    expect_error(ask(s, message(b"{}")), 400, "missing_id", 0, range(2))
    expect_accepted(ask(s, message(first + b" " + second)), 2)


def test_an_id_field_given_twice_is_refused(s):
    answer = ask(s, message(b'{"event_id":"%s","event_id":"b"}' % new_id().encode()))
    assert answer.status == 400 and answer.json["error"] in ("invalid_id", "invalid_json"), answer
    assert answer.json["event"] == 0
    answer = ask(s, message(b'{"event_id":"a","event\\u005fid":"a"}'))
    assert answer.status == 400 and answer.json["event"] == 0, answer


def test_more_events_than_the_ring_holds_is_413(server, s):
    events = [event() for _ in range(RING + 1)]
    expect_error(ask(s, message(b"\n".join(events))), 413, "too_large")
    wait_for_room(server)
    with server.connect() as other:
        expect_accepted(ask(other, message(b"\n".join(events[:RING]))), RING)
    wait_for_room(server)


def test_an_event_larger_than_a_segment_is_413_and_its_neighbours_are_new(server, s):
    neighbour = event()
    large = large_event(70000)
    expect_error(ask(s, message(neighbour + b"\n" + large)), 413, "too_large")
    with server.connect() as other:
        expect_accepted(ask(other, message(neighbour)))
        expect_accepted(ask(other, message(large_event(50000))))


# ---- refusals before the body


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "post", "TRACE"])
def test_another_method_is_405_with_allow(s, method):
    start = b"%s /v1/events HTTP/1.1\r\nHost: a\r\n" % method.encode()
    s.sendall(start + b"\r\n" + message(event()))
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(1)
    assert head.startswith(b"HTTP/1.1 405 ") and b"\r\nAllow: POST\r\n" in head
    if method != "HEAD":
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        body = b""
        while len(body) < length:
            body += s.recv(length - len(body))
        assert harness.json.loads(body)["error"] == "method_not_allowed"
    expect_accepted(harness.read_answer(s))  # HEAD: no body came between
    if method != "HEAD":
        expect_error(ask(s, message(b"x" * 10, start=start)), 405, "method_not_allowed")
        expect_usable(s)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/events//", "/v1/events/x", "/v1/event", "/v1/Events", "/healthz/x", "/metrics",
                                  "/v1/events%20", "//v1/events", "/v1/../v1/events"])
def test_another_path_is_404_and_the_connection_goes_on(s, path):
    start = b"POST %s HTTP/1.1\r\nHost: a\r\n" % path.encode()
    expect_error(ask(s, message(event(), start=start)), 404, "not_found")
    s.sendall(chunked(event()).replace(b"/v1/events", path.encode()))
    expect_error(harness.read_answer(s), 404, "not_found")
    expect_usable(s)


def test_a_query_and_the_absolute_form_lead_to_the_same_path(s):
    expect_accepted(ask(s, message(event(), start=POST.replace(b"events", b"events?source=a&b"))))
    expect_accepted(ask(s, message(event(), start=POST.replace(b"/v1", b"http://a/v1"))))


def test_ack_is_refused(s):
    expect_error(ask(s, message(event(), start=POST.replace(b"events", b"events?ack=insert"))), 400, "bad_request")


def test_no_length_is_411(server):
    for version in (b"1.0", b"1.1"):
        with server.connect() as s:
            expect_error(ask(s, POST.replace(b"1.1", version) + b"\r\n"), 411, "length_required")
            expect_closed(s)


def test_a_declared_body_that_is_too_large_is_413_at_once(server):
    for length in (BODY_MAX + 1, 10**12, 2**63 - 1):
        with server.connect() as s:
            expect_error(ask(s, POST + b"Content-Length: %d\r\n\r\n" % length), 413, "too_large")
            expect_closed(s)


def test_a_chunked_body_that_is_too_large_is_413(server):
    with server.connect() as s:
        s.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % (BODY_MAX + 1))
        expect_error(harness.read_answer(s), 413, "too_large")
        expect_closed(s)
    with server.connect() as s:
        part = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        s.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + part * 9)
        expect_error(harness.read_answer(s), 413, "too_large")


def test_a_body_as_large_as_allowed_is_taken(s):
    body = event()
    body += b" " * (BODY_MAX - len(body))
    expect_accepted(ask(s, message(body)))
    expect_accepted(ask(s, chunked(body)), 0, 1)


@pytest.mark.parametrize("encoding, status", [("compress", 415), ("br", 415), ("zstd, gzip", 415), ("identity", 202),
                                              ("Identity", 202)])
def test_an_unknown_encoding_is_415(s, encoding, status):
    answer = ask(s, message(event(), b"Content-Encoding: " + encoding.encode()))
    if status == 415:
        expect_error(answer, 415, "unsupported_encoding")
    else:
        expect_accepted(answer)
    expect_usable(s)


def test_a_head_that_is_too_large_is_431(server):
    fits = b"X: " + b"a" * (HEAD_MAX - len(message(b"12", b"X: ")) + 2) + b"\r\n"
    with server.connect() as s:
        assert len(POST + fits + b"Content-Length: 2\r\n\r\n") == HEAD_MAX
        assert ask(s, POST + fits + b"Content-Length: 2\r\n\r\n{}").json["error"] == "missing_id"
    for head in (POST + b"a" + fits + b"Content-Length: 2\r\n\r\n{}", POST + b"X: " + b"a" * 3 * HEAD_MAX,
                 b"POST /" + b"a" * 2 * HEAD_MAX, POST + b"X: y\r\n" * HEAD_MAX):
        with server.connect() as s:
            expect_error(ask(s, head), 431, "head_too_large")
            expect_closed(s)


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b"chunkedx"])
def test_an_unknown_transfer_coding_is_501(server, coding):
    with server.connect() as s:
        expect_error(ask(s, POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n"), 501, "not_implemented")
        expect_closed(s)


@pytest.mark.parametrize("start", [b"POST /v1/events HTTP/2.0\r\n\r\n", b"POST /v1/events HTTP/0.9\r\n\r\n",
                                   b"POST /v1/events HTTP/3.0\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_not_http_1_is_505(server, start):
    with server.connect() as s:
        expect_error(ask(s, start), 505, "unsupported_version")
        expect_closed(s)


SECOND = b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n{\"event_id\":\"smug\"}\r\n"


# What two readers could read in two ways, and what is no HTTP at all; test_proxies.py sends it through proxies.
BAD_HTTP = [
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 5, 6\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: -5\r\n\r\n",
    POST + b"Content-Length: +5\r\n\r\n",
    POST + b"Content-Length: 0x5\r\n\r\n",
    POST + b"Content-Length: 5 5\r\n\r\n",
    POST + b"Content-Length: \r\n\r\n",
    POST + b"Content-Length: 18446744073709551617\r\n\r\n",
    POST + b"Content-Length : 5\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length\t: 5\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\n",
    POST + b"X: a\r\n\tContent-Length: 5\r\n\r\n",
    POST + b"X: a\rContent-Length: 5\r\n\r\n",
    POST + b"X: a\r\rContent-Length: 5\r\n\r\n",
    POST + b"X: a\0b\r\n\r\n",
    POST + b"no colon\r\n\r\n",
    POST + b": empty\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/events HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    POST + b"Host: b\r\nContent-Length: 5\r\n\r\n",
    b"POST  /v1/events HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/events\r\n\r\n",
    b"POST /v1/ev ents HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/events HTTP/1.1 \r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"{\"event_id\":\"x\"}\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2 \r\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2;a=\rb\r\n{}\r\n0\r\n\r\n",
    POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\n",
]

# What the connection begins with.
GREETINGS = {
    "plain": b"",
    "proxy-v1": b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
    "proxy-v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\1\1\2\1\xbb",
}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    """The same, where each connection begins with a PROXY header."""
    alloyd = harness.Alloyd(tmp_path_factory.mktemp("proxied"), sections_for(
        None, None, "default.events", server={"threads": 1, "proxy_protocol": "on"}, log={"level": "info"})).start()
    yield alloyd
    alloyd.finish()


@pytest.mark.parametrize("greeting", GREETINGS)
@pytest.mark.parametrize("data", BAD_HTTP)
def test_bad_http_is_400_and_close_and_nothing_behind_it_is_read(server, proxied, data, greeting):
    alloyd = proxied if GREETINGS[greeting] else server
    before = alloyd.books()["received"]
    with alloyd.connect() as s:
        expect_error(ask(s, GREETINGS[greeting] + data + SECOND), 400, "bad_request")
        expect_closed(s)
    assert alloyd.books()["received"] == before


# ---- connections


def test_the_connection_goes_on_after_bad_json(s):
    for body in (b"{", b"", b"[{}]", b'{"event_id":null}'):
        answer = ask(s, message(body))
        assert answer.status == 400 and answer.headers.get("Connection") != "close", answer
        expect_usable(s)


def test_fifty_requests_in_one_send_are_answered_in_order(s):
    known = event()
    kinds = [
        (lambda: message(event()), lambda a: expect_accepted(a)),
        (lambda: message(known), lambda a: expect_accepted(a, 0, 1)),
        (lambda: message(b"{}"), lambda a: expect_error(a, 400, "missing_id", 0, range(2))),
        (lambda: chunked(event(), b"\n", event()), lambda a: expect_accepted(a, 2)),
        (lambda: message(b"{}", start=b"POST /x HTTP/1.1\r\nHost: a\r\n"), lambda a: expect_error(a, 404, "not_found")),
    ]
    expect_accepted(ask(s, message(known)))
    s.sendall(b"".join(kinds[i % 5][0]() for i in range(50)))
    for i in range(50):
        kinds[i % 5][1](harness.read_answer(s))
    expect_usable(s)


def test_many_pipelined_requests_each_get_an_answer(server):
    data = b"".join(message(event()) for _ in range(RING - 1)) + message(event(), b"Connection: close")
    wait_for_room(server)
    answers = server.raw(data)
    assert answers.count(b"HTTP/1.1 202 Accepted\r\n") == answers.count(b'{"accepted":1,"duplicates":0}') == RING
    wait_for_room(server)


def test_duplicates_are_found_across_pipelined_requests(s):
    body = event()
    s.sendall(message(body) * 10)
    answers = [harness.read_answer(s) for _ in range(10)]
    expect_accepted(answers[0])
    for answer in answers[1:]:
        expect_accepted(answer, 0, 1)


def test_chunks_with_extensions_and_trailers(s):
    first, second = event(), event()
    body = first + b"\n" + second
    expect_accepted(ask(s, chunked(body)), 2)
    expect_accepted(ask(s, chunked(*(body[i:i + 1] for i in range(len(body))))), 0, 2)
    expect_accepted(ask(s, chunked(first, b"\n", second, extension=b';name="a;b"; c=d')), 0, 2)
    expect_accepted(ask(s, chunked(body, trailer=b"Checksum: abc\r\nX: y\r\n")), 0, 2)
    expect_accepted(ask(s, chunked(event()).replace(b"chunked", b"Chunked")))
    zeros = b"Transfer-Encoding: chunked\r\n\r\n000%X\r\n%s\r\n000\r\n\r\n" % (len(first), first)
    expect_accepted(ask(s, POST + zeros), 0, 1)
    expect_error(ask(s, chunked()), 400, "empty")
    expect_usable(s)


def test_expect_is_answered_100_and_then_the_request(s):
    body = event()
    for data in (POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body),
                 POST + b"Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n"):
        s.sendall(data)
        assert harness.read_answer(s).status == 100
        s.sendall(body if b"Length" in data else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert harness.read_answer(s).status == 202
    expect_usable(s)


def test_expect_of_a_refused_request_gets_the_final_status_at_once(server):
    expect = b"Expect: 100-continue\r\nContent-Length: %d\r\n"
    for head, status, code in (
            (POST + expect % (BODY_MAX + 1), 413, "too_large"),
            (b"POST /x HTTP/1.1\r\nHost: a\r\n" + expect % 10, 404, "not_found"),
            (b"PUT /v1/events HTTP/1.1\r\nHost: a\r\n" + expect % 10, 405, "method_not_allowed"),
            (POST + b"Content-Encoding: br\r\n" + expect % 10, 415, "unsupported_encoding")):
        with server.connect() as s:
            expect_error(ask(s, head + b"\r\n"), status, code)


def test_http_1_0_closes_unless_it_asks_to_be_kept(server):
    old = POST.replace(b"1.1", b"1.0").replace(b"Host: a\r\n", b"")
    with server.connect() as s:
        answer = ask(s, message(event(), start=old))
        expect_accepted(answer)
        assert answer.headers["Connection"] == "close"
        expect_closed(s)
    with server.connect() as s:
        for _ in range(3):
            answer = ask(s, message(event(), b"Connection: Keep-Alive", start=old))
            expect_accepted(answer)
            assert answer.headers["Connection"].lower() == "keep-alive"
        expect_accepted(ask(s, message(event(), start=old)))
        expect_closed(s)


def test_connection_close_is_honoured(server):
    for value in (b"close", b"Close", b"foo, close"):
        with server.connect() as s:
            answer = ask(s, message(event(), b"Connection: " + value))
            expect_accepted(answer)
            assert answer.headers["Connection"] == "close"
            expect_closed(s)


def test_a_client_that_has_closed_its_side_still_gets_its_answer(server):
    assert server.raw(message(event())).startswith(b"HTTP/1.1 202 ")
    assert server.raw(message(event())[:-1]) == b""


def test_head_and_body_may_arrive_byte_by_byte(s):
    for request in (message(event(), b"Content-Type: application/json"), chunked(event(), b"\n", event(), extension=b";x")):
        for byte in request:
            s.sendall(bytes([byte]))
        assert harness.read_answer(s).status == 202


def test_an_empty_line_before_a_request_is_nothing(s):
    expect_accepted(ask(s, b"\r\n" + message(event())))
    expect_accepted(ask(s, b"\r\n\r\n" + message(event())))


@pytest.mark.parametrize("misbehave", [
    lambda s: s.sendall(b"\x00\xff garbage\r\n\r\n"),
    lambda s: s.sendall(POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    lambda s: s.sendall(message(b"{" * 1000)),
    lambda s: s.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    lambda s: s.sendall(message(b"x" * 1000)[:-10]),
    lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"),
    lambda s: s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5000),
])
def test_a_client_that_misbehaves_disturbs_no_other(server, misbehave):
    request = message(event())
    with server.connect() as good, server.connect() as waiting:
        waiting.sendall(request[:40])
        with server.connect() as bad:
            bad.sendall(POST[:20])
            expect_usable(good)
        with server.connect() as bad:
            misbehave(bad)
            expect_usable(good)
        expect_usable(good)
        waiting.sendall(request[40:])
        expect_accepted(harness.read_answer(waiting))


def test_every_answer_has_a_date_and_a_length(s):
    for data in (message(event()), message(b"{}"), message(b"", start=b"GET / HTTP/1.1\r\nHost: a\r\n")):
        answer = ask(s, data)
        assert answer.headers["Date"].endswith(" GMT") and int(answer.headers["Content-Length"]) == len(answer.body)


# ---- time-outs, limits, drain


@pytest.fixture
def impatient(make_alloyd):
    return make_alloyd(sections_for(None, None, "default.events", server={
        "threads": 1, "head_timeout": "300ms", "body_timeout": "300ms", "idle_timeout": "400ms"})).start()


def drip(connection, data):
    """Sends a byte each 20 ms until something comes back."""
    for byte in data:
        if select.select([connection], [], [], 0.02)[0]:
            return
        connection.sendall(bytes([byte]))
    raise AssertionError("nothing came back")


@pytest.mark.parametrize("dripping", [False, True])
@pytest.mark.parametrize("start", [b"POST /v1", message(b" " * 1000)[:-999],
                                   POST + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"])
def test_slow_heads_and_bodies_are_408_and_closed(impatient, start, dripping):
    with impatient.connect() as s:
        begun = time.monotonic()
        s.sendall(start)
        if dripping:
            drip(s, b"a" * 500)
        answer = harness.read_answer(s)
        assert 0.25 < time.monotonic() - begun < 5
        expect_error(answer, 408, "timeout")
        assert answer.headers["Connection"] == "close"
        expect_closed(s)


def test_idle_connections_are_closed_silently(impatient):
    with impatient.connect() as unused, impatient.connect() as used:
        begun = time.monotonic()
        expect_usable(used)
        expect_closed(unused)
        expect_closed(used)
        assert 0.35 < time.monotonic() - begun < 5


def test_a_busy_connection_outlives_every_timeout(impatient):
    end = time.monotonic() + 1
    with impatient.connect() as s:
        while time.monotonic() < end:
            expect_usable(s)


def test_one_connection_too_many_is_503_and_there_is_room_again(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"max_connections": 2})).start()
    with alloyd.connect() as first, alloyd.connect() as second:
        expect_usable(first)
        expect_usable(second)
        with alloyd.connect() as third:
            expect_error(harness.read_answer(third), 503, "overloaded")
            expect_closed(third)
        expect_usable(first)
        assert alloyd.metrics()["alloy_http_connections"] == 2
    harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 0, "both gone")
    with alloyd.connect() as s:
        expect_usable(s)


def held_up(make_alloyd, **more):
    """An alloyd whose workers wait for a Redis that is not there. One front thread: a drain reaches all
    of its connections and listeners in one turn."""
    more.setdefault("server", {})["threads"] = 1
    sections = sections_for(None, None, "default.events", ring={"capacity": 100}, worker={"threads": 1, "batch": 10},
                            redis={"on_failure": "hold", "url": f"redis://127.0.0.1:{harness.free_port()}"}, **more)
    return make_alloyd(sections).start(ready=False, env=harness.EXIT_AT_ONCE)


def test_a_full_ring_is_503_and_keeps_nothing_of_the_request(make_alloyd):
    alloyd = held_up(make_alloyd, drain={"timeout": "100ms"})
    with alloyd.connect() as s:

        def refused():
            answer = ask(s, message(b"\n".join(event() for _ in range(30))))
            return answer.status != 202 and answer

        answer = harness.wait_until(refused, "a full ring")
        expect_error(answer, 503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers.get("Connection") != "close"
        books = alloyd.books()
        assert books["rejected"] == 30
        harness.assert_balanced(books)
        before = alloyd.metrics()["alloy_http_requests_total{code=\"400\"}"]
        assert ask(s, message(b"{")).status == 400
        assert alloyd.books() == books and alloyd.metrics()["alloy_http_requests_total{code=\"400\"}"] == before + 1


def test_during_a_drain_what_has_begun_is_finished_and_what_begins_is_503(make_alloyd):
    alloyd = held_up(make_alloyd)
    alloyd.allow_exit = {1}
    request = message(event())
    with alloyd.connect() as idle, alloyd.connect() as begun, alloyd.connect() as halfway:
        expect_usable(idle)
        expect_usable(begun)
        halfway.sendall(request[:20])
        begun.sendall(request[:-5])
        harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 3, "all there")
        alloyd.signal(signal.SIGTERM)
        harness.wait_until(lambda: not alloyd.listens(), "closed listeners")
        # Its own thread may learn of it a moment later.
        answer = harness.wait_until(lambda: (a := ask(idle, message(event()))).status != 202 and a, "a refusal")
        expect_error(answer, 503, "draining")
        assert int(answer.headers["Retry-After"]) >= 1 and answer.headers["Connection"] == "close"
        expect_closed(idle)
        begun.sendall(request[-5:] + message(event()))
        answer = harness.read_answer(begun)
        assert answer.status == 202, answer
        answer = harness.read_answer(begun)  # what came along with it may still have been taken, or not
        assert answer.status == 202 or answer.json["error"] == "draining", answer
        expect_closed(begun)
        halfway.sendall(request[20:])
        answer = harness.read_answer(halfway)
        assert answer.status == 202 and answer.headers["Connection"] == "close", answer
        assert alloyd.alive() and alloyd.health().status == 200
    alloyd.signal(signal.SIGTERM)
    assert alloyd.wait(10) == 1


# ---- listeners


def test_a_unix_socket_and_several_addresses_serve_the_same(make_alloyd, tmp_path):
    path = tmp_path / "events.sock"
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    other = harness.free_port()
    alloyd.sections["server"]["listen"] += f", unix:{path}, 127.0.0.1:{other}"
    alloyd.start()
    with socket.socket(socket.AF_UNIX) as s, socket.create_connection(("127.0.0.1", other), harness.DEADLINE) as tcp:
        s.settimeout(harness.DEADLINE)
        s.connect(str(path))
        body = event()
        expect_accepted(ask(s, message(body)))
        expect_accepted(ask(tcp, message(body)), 0, 1)
        expect_error(ask(s, message(b"{")), 400, "invalid_json", 0, range(2))
    assert alloyd.drain() == 0
    assert not os.path.exists(path)
    path.touch()  # what a crash leaves is a socket; a file of someone else's is not ours to remove
    alloyd.spawn_only()
    assert alloyd.wait() == 1 and path.is_file()
    alloyd.popen = None


def test_a_socket_that_a_crash_left_is_taken_over(make_alloyd, tmp_path):
    path = tmp_path / "events.sock"
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    alloyd.sections["server"]["listen"] += f", unix:{path}"
    alloyd.start()
    alloyd.kill()
    assert path.is_socket()
    alloyd.start()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(harness.DEADLINE)
        s.connect(str(path))
        expect_accepted(ask(s, message(event())))
