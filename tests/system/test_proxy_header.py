# SPDX-License-Identifier: Apache-2.0
"""PROXY headers on the event port: missing, broken, in pieces, and where nobody asked for one. test_http.py sends its bad
requests behind them too, and test_proxies.py has those of real proxies."""

import re
import socket
import time

import pytest

import harness
from conftest import sections_for
from test_http import (GREETINGS, SECOND, ask, event, expect_accepted, expect_closed, expect_error, expect_usable, message,
                       proxied, server)

__all__ = ["proxied", "server"]  # fixtures


@pytest.mark.parametrize("first", [b"POST /v1/events HTTP/1.1\r\n", b"\x16\x03\x01", b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
                                   b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"])
def test_a_connection_without_a_proxy_header_is_400_where_it_is_asked_for(proxied, first):
    with proxied.connect() as s:
        answer = ask(s, first + SECOND)
        expect_error(answer, 400, "bad_request")
        assert answer.json["message"] == ("The connection does not begin with a PROXY header, which server.proxy_protocol"
                                          " asks for.")
        expect_closed(s)


@pytest.mark.parametrize("greeting", ["proxy-v1", "proxy-v2"])
def test_a_proxy_header_that_is_not_asked_for_is_named(server, proxied, greeting):
    for alloyd, data, words in ((server, GREETINGS[greeting], "This is a PROXY header, but server.proxy_protocol is off."),
                                  (proxied, GREETINGS["proxy-v1"] + GREETINGS[greeting],
                                   "This is a second PROXY header, where a request should begin.")):
        with alloyd.connect() as s:
            answer = ask(s, data + SECOND)
            expect_error(answer, 400, "bad_request")
            assert answer.json["message"] == words
            expect_closed(s)


@pytest.mark.parametrize("greeting", ["proxy-v1", "proxy-v2"])
def test_a_proxy_header_may_come_in_pieces_and_glued_to_requests(proxied, greeting):
    data = GREETINGS[greeting]
    with proxied.connect() as s:
        s.sendall(data + message(event()) + message(event()))
        for _ in range(2):
            expect_accepted(harness.read_answer(s))
        expect_usable(s)
    with proxied.connect() as s:
        for byte in data + message(event()):
            s.sendall(bytes([byte]))
        expect_accepted(harness.read_answer(s))
        expect_usable(s)


@pytest.mark.parametrize("sent", [b"", GREETINGS["proxy-v1"][:9], GREETINGS["proxy-v1"]])
def test_a_connection_without_a_request_holds_up_no_drain(make_alloyd, sent):
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"proxy_protocol": "on"})).start()
    with alloyd.connect() as s:
        s.sendall(sent)
        harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 1, "the connection")
        begun = time.monotonic()
        assert alloyd.drain() == 0
        assert time.monotonic() - begun < 5


def test_what_the_header_names_has_the_limits(make_alloyd, tmp_path):
    path = tmp_path / "s"
    alloyd = make_alloyd(sections_for(None, None, "default.events", limits={"address_requests": 5},
                                      server={"proxy_protocol": "on"}))
    alloyd.sections["server"]["listen"] += f", unix:{path}"
    alloyd.start()

    def statuses(header, over_unix=False):
        with socket.socket(socket.AF_UNIX if over_unix else socket.AF_INET) as s:
            s.settimeout(harness.DEADLINE)
            s.connect(str(path) if over_unix else ("127.0.0.1", alloyd.port))
            s.sendall(header)
            return {ask(s, message(event())).status for _ in range(50)}

    one = GREETINGS["proxy-v1"]
    assert statuses(one) == {202, 429}
    # The same client, by whatever way; others have their own.
    assert 429 in statuses(one, over_unix=True)
    assert 429 in statuses(GREETINGS["proxy-v2"], over_unix=True)
    assert statuses(one.replace(b"192.0.2.1", b"192.0.2.9"), over_unix=True) == {202, 429}
    # The proxy's own requests are the socket's.
    assert statuses(b"PROXY UNKNOWN\r\n", over_unix=True) == {202}
    assert statuses(b"PROXY UNKNOWN\r\n") == {202, 429}
    assert statuses(GREETINGS["proxy-v2"].replace(b"\x21\x11", b"\x20\x11"), over_unix=True) == {202}


def test_a_client_that_has_reset_its_connection_has_an_address_all_the_same(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events", limits={"address_requests": 5},
                                      server={"trusted_proxies": "unix:"})).start()
    linger = b"\1\0\0\0\0\0\0\0"
    for _ in range(50):
        with alloyd.connect() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            s.sendall(message(event(), b"X-Forwarded-For: 192.0.2.7"))
    harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 0, "all gone")
    assert alloyd.books()["received"] <= 20


def test_the_log_names_each_requests_own_client(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events", server={"trusted_proxies": "127.0.0.1", "threads": 1},
                                      log={"requests": "all"})).start()
    with alloyd.connect() as s:
        s.sendall(b"".join(message(event(), b"X-Forwarded-For: 192.0.2.%d" % n) for n in range(1, 4))
                  + message(b"{", b"X-Forwarded-For: 192.0.2.4") + message(event()))
        statuses = [harness.read_answer(s).status for _ in range(5)]
    assert statuses == [202, 202, 202, 400, 202]
    harness.wait_until(lambda: alloyd.log().count("request answered") == 5, "five lines")
    lines = [line for line in alloyd.log().splitlines() if "request answered" in line]
    assert [re.search(r"address=(\S+)", line)[1] for line in lines] == [
        "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "127.0.0.1"]
