# SPDX-License-Identifier: Apache-2.0
"""Acknowledgement on demand: ?ack=clickhouse, Prefer: wait=N, ?ack=disk."""

import json
import os
import socket
import struct
import threading
import time

import pytest

import harness
from conftest import sections_for

WAIT = "/v1/events?ack=clickhouse"


def waiting(alloyd):
    return alloyd.metrics()["alloy_http_waiting_requests"]


def away(redis, clickhouse, **more):
    """Sections for an alloyd whose ClickHouse goes away and comes back."""
    return sections_for(redis, clickhouse, "default.events", clickhouse={"retry_max": "300ms"}, **more)


def raw_post(event_id, query="?ack=clickhouse", headers=""):
    body = harness.event(event_id)
    head = f"POST /v1/events{query} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {len(body.encode())}\r\n\r\n"
    return (head + body).encode()


def reset(s):
    """Closes a socket with a reset."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def test_200_says_that_the_rows_can_be_counted(alloyd, clickhouse, table):
    seen = 0
    connection = alloyd.client()
    for i, size in enumerate([1, 1, 7, 300, 1, 4000]):
        body = "\n".join(harness.event(f"id-{i}-{j}") for j in range(size))
        answer = harness.request(connection, body, WAIT)
        seen += size
        assert clickhouse.count(table) == seen
        assert (answer.status, answer.json) == (200, {"accepted": size, "duplicates": 0})
    assert alloyd.metrics()['alloy_http_requests_total{code="200"}'] == 6
    assert alloyd.settled()["inserted"] == seen


def test_without_ack_nothing_waits(alloyd):
    assert alloyd.post(harness.event("a")).status == 202
    assert alloyd.post(harness.event("b"), "/v1/events?ack=none").status == 202
    assert alloyd.post(harness.event("c"), "/v1/events?ack=none", {"Prefer": "wait=9"}).status == 202


def test_prefer_wait_alone_waits_for_clickhouse(alloyd, clickhouse, table):
    answer = alloyd.post(harness.event("a"), headers={"Prefer": "respond-async, wait=20"})
    assert answer.status == 200 and clickhouse.count(table) == 1
    # One that cannot be read is ignored (RFC 7240).
    assert alloyd.post(harness.event("b"), headers={"Prefer": "wait=soon"}).status == 202


@pytest.mark.parametrize("value", ["", "all", "ClickHouse", "disk&ack=disk", "1"])
def test_any_other_ack_is_400_and_keeps_nothing(alloyd, value):
    answer = alloyd.post(harness.event("a"), f"/v1/events?ack={value}")
    assert answer.status == 400 and answer.json["error"] == "bad_request" and "ack" in answer.json["message"]
    assert alloyd.books()["received"] == 0


def test_202_when_the_time_is_up_and_200_for_the_retry_later(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(away(redis, own_clickhouse)).start()
    own_clickhouse.kill()
    for seconds, prefer in ((1, "wait=1"), (1, "wait=0"), (3, "wait=3")):
        started = time.monotonic()
        answer = alloyd.post(harness.event(prefer), WAIT, {"Prefer": prefer})
        assert answer.status == 202 and answer.json == {"accepted": 1, "duplicates": 0}
        assert seconds - 0.2 <= time.monotonic() - started < seconds + 5
    # The same again while its original is still pending: it waits for that one.
    answers = []
    again = (harness.event("wait=1"), WAIT, {"Prefer": "wait=60"})
    retry = threading.Thread(target=lambda: answers.append(alloyd.post(*again)))
    retry.start()
    harness.wait_until(lambda: waiting(alloyd) == 1, "the retry waits")
    own_clickhouse.start()
    retry.join()
    assert (answers[0].status, answers[0].json) == (200, {"accepted": 0, "duplicates": 1})
    alloyd.settled()
    assert own_clickhouse.count("default.events") == 3


def test_a_retry_after_a_lost_answer_learns_that_the_event_is_there(alloyd, clickhouse, table):
    s = alloyd.connect()
    s.sendall(raw_post("a"))
    reset(s)
    harness.wait_until(lambda: clickhouse.count(table) == 1, "inserted")
    alloyd.settled()
    answer = alloyd.post(harness.event("a"), WAIT)
    assert (answer.status, answer.json) == (200, {"accepted": 0, "duplicates": 1})


def test_a_duplicate_of_an_event_that_was_sent_without_ack_is_waited_for(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(away(redis, own_clickhouse)).start()
    assert alloyd.post(harness.event("there")).status == 202
    alloyd.settled()
    assert alloyd.post(harness.event("there"), WAIT).json == {"accepted": 0, "duplicates": 1}
    own_clickhouse.kill()
    assert alloyd.post(harness.event("a")).status == 202
    with alloyd.connect() as s:
        s.sendall(raw_post("a", headers="Prefer: wait=60\r\n"))
        harness.wait_until(lambda: waiting(alloyd) == 1, "it waits")
        own_clickhouse.start()
        assert harness.read_answer(s).status == 200
    assert own_clickhouse.count("default.events") == 2


@pytest.mark.parametrize("with_redis", [True, False])
def test_after_a_crash_the_retry_waits_for_the_original(make_alloyd, redis, own_clickhouse, with_redis):
    alloyd = make_alloyd(away(redis if with_redis else None, own_clickhouse)).start()
    assert alloyd.post(harness.event("finished"), WAIT).status == 200
    own_clickhouse.kill()
    with alloyd.connect() as s:
        s.sendall(raw_post("a"))
        harness.wait_until(lambda: waiting(alloyd) == 1, "it waits")
        alloyd.kill()
        assert s.recv(100) == b""
    alloyd.start_and_read()
    with alloyd.connect() as s:
        s.sendall(raw_post("a", headers="Prefer: wait=60\r\n"))
        harness.wait_until(lambda: waiting(alloyd) == 1, "it waits again")
        own_clickhouse.start()
        assert harness.read_answer(s).status == 200
    # Its segment may have gone with the last life; its id has not.
    assert alloyd.post(harness.event("finished"), WAIT).status == 200
    alloyd.settled()
    assert own_clickhouse.count("default.events") == 2


def test_a_duplicate_of_another_alloyds_event_is_202_at_once(make_alloyd, redis, clickhouse, table):
    first, second = [make_alloyd(sections_for(redis, clickhouse, table)).start() for _ in range(2)]
    assert first.post(harness.event("a"), WAIT).status == 200
    for _ in range(2):  # it is asked for each time: the first may have let go of it
        started = time.monotonic()
        answer = second.post(harness.event("a"), WAIT)
        assert (answer.status, answer.json["accepted"]) == (202, 1)
        assert time.monotonic() - started < 5


def test_a_bad_row_is_422_with_its_reason_and_its_neighbours_are_inserted(alloyd, clickhouse, table):
    events = [harness.event(f"id-{i}") for i in range(50)]
    events[17] = harness.event("bad-17", ts='no "date"')
    events[40] = harness.event("bad-40", ts="neither\u00e9")
    answer = alloyd.post("\n".join(events), WAIT)
    assert clickhouse.count(table) == 48
    assert answer.status == 422 and answer.json["error"] == "rejected" and "2" in answer.json["message"], answer
    rejected = answer.json["rejected"]
    assert [r["event"] for r in rejected] == [17, 40]
    for r in rejected:
        assert r["code"] > 0 and 0 < len(r["message"]) <= 200
    assert alloyd.settled()["dead_lettered"] == 2
    # A request with nothing wrong behind it, on the same connection.
    connection = alloyd.client()
    assert harness.request(connection, harness.event("bad-1", ts="no"), WAIT).status == 422
    assert harness.request(connection, harness.event("good-1"), WAIT).status == 200


def test_a_rejected_event_can_be_corrected_at_once(make_alloyd, clickhouse, table):
    connection = make_alloyd(sections_for(None, clickhouse, table)).start().client()
    for i in range(5):
        assert harness.request(connection, harness.event(f"id-{i}", ts="no date"), WAIT).status == 422
        answer = harness.request(connection, harness.event(f"id-{i}"), WAIT)
        assert (answer.status, answer.json) == (200, {"accepted": 1, "duplicates": 0})
    assert clickhouse.count(table) == 5


def test_a_duplicate_of_a_rejected_event_is_told_apart(make_alloyd, redis, own_clickhouse):
    """Within one request, and of an event that another request has sent."""
    alloyd = make_alloyd(away(redis, own_clickhouse)).start()
    own_clickhouse.kill()
    assert alloyd.post(harness.event("other", ts="never")).status == 202
    body = "\n".join([harness.event("dup", ts="no date"), harness.event("dup"), harness.event("good"), harness.event("other")])
    with alloyd.connect() as s:
        head = f"POST {WAIT} HTTP/1.1\r\nHost: a\r\nPrefer: wait=60\r\nContent-Length: {len(body.encode())}\r\n\r\n"
        s.sendall((head + body).encode())
        harness.wait_until(lambda: waiting(alloyd) == 1, "it waits")
        own_clickhouse.start()
        answer = harness.read_answer(s)
    assert answer.status == 422, answer
    assert answer.json["message"] == ("ClickHouse rejected 3 of the request's events (2 of them duplicates of rejected events). "
                                      "What was rejected is in the dead-letter folder; the others are not affected.")
    rejected = answer.json["rejected"]
    assert [(r["event"], r.get("duplicate")) for r in rejected] == [(0, None), (1, True), (3, True)]
    assert rejected[1]["code"] == rejected[0]["code"] > 0
    assert alloyd.settled()["dead_lettered"] == 2
    folder = alloyd.sections["dead_letter"]["dir"]
    letters = [json.loads(line)["event"] for path in folder.glob("*.ndjson") for line in path.read_text().splitlines()]
    assert sorted((e["event_id"], e["ts"]) for e in letters) == [("dup", "no date"), ("other", "never")]
    # What was not tried is new when it is sent again.
    assert alloyd.post(harness.event("dup"), WAIT).json == {"accepted": 1, "duplicates": 0}


def test_a_duplicate_of_the_corrected_event_is_no_longer_rejected(alloyd, clickhouse, table):
    assert alloyd.post(harness.event("a", ts="no time"), WAIT).status == 422
    assert alloyd.post(harness.event("a")).json == {"accepted": 1, "duplicates": 0}
    answer = alloyd.post(harness.event("a"), WAIT)
    assert (answer.status, answer.json) == (200, {"accepted": 0, "duplicates": 1})
    assert clickhouse.count(table) == 1


def test_many_bad_rows_are_counted_and_the_first_are_listed(alloyd, clickhouse, table):
    events = [harness.event(f"id-{i}", ts="no date") for i in range(80)]
    events += [harness.event(f"id-{i}") for i in range(80, 100)]
    answer = alloyd.post("\n".join(events), WAIT, {"Prefer": "wait=60"})
    assert answer.status == 422 and "80" in answer.json["message"]
    assert len(answer.json["rejected"]) == 64
    assert len(answer.body) < 32 * 1024
    assert clickhouse.count(table) == 20


def test_answers_keep_the_order_of_pipelined_requests(alloyd, clickhouse, table):
    requests = [("a", ""), ("b", "?ack=clickhouse"), ("c", ""), ("d", "?ack=disk"), ("a", "?ack=none"),
                ("e", "?ack=clickhouse"), ("f", "?ack=clickhouse"), ("bad", "?ack=all"), ("g", "")]
    with alloyd.connect() as s:
        s.sendall(b"".join(raw_post(i, q) for i, q in requests))
        answers = [harness.read_answer(s) for _ in requests]
    assert [a.status for a in answers] == [202, 200, 202, 202, 202, 200, 200, 400, 202]
    assert [a.json.get("duplicates") for a in answers] == [0, 0, 0, 0, 1, 0, 0, None, 0]
    alloyd.settled()
    assert clickhouse.count(table) == 7


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("half_close", [False, True])
def test_a_client_that_sends_ahead_does_not_keep_the_server_busy(make_alloyd, redis, own_clickhouse, half_close):
    alloyd = make_alloyd(away(redis, own_clickhouse)).start()
    own_clickhouse.kill()
    with alloyd.connect() as s:
        s.sendall(raw_post("a", headers="Prefer: wait=3\r\n"))
        harness.wait_until(lambda: waiting(alloyd) == 1, "it waits")
        s.sendall(raw_post("b", "") if not half_close else b"")
        if half_close:
            s.shutdown(socket.SHUT_WR)
        before = cpu_seconds(alloyd.pid)
        assert harness.read_answer(s).status == 202
        assert cpu_seconds(alloyd.pid) - before < 1
        if not half_close:
            assert harness.read_answer(s).status == 202
    own_clickhouse.start()
    alloyd.settled()


def test_a_half_closed_client_gets_its_answer(alloyd):
    answers = alloyd.raw(raw_post("a") + raw_post("b", "") + raw_post("c"))
    assert answers.count(b"HTTP/1.1 200 ") == 2 and answers.count(b"HTTP/1.1 202 ") == 1


def test_an_old_client_that_wants_to_be_closed_is_closed_after_its_answer(alloyd):
    body = harness.event("a").encode()
    with alloyd.connect() as s:
        s.sendall(b"POST /v1/events?ack=clickhouse HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = harness.read_all(s)
    assert answer.startswith(b"HTTP/1.1 200 ") and b"Connection: close" in answer


def test_1000_connections_wait_at_once_and_all_are_answered(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(away(redis, own_clickhouse)).start()
    own_clickhouse.kill()
    threads = len(os.listdir(f"/proc/{alloyd.pid}/task"))
    sockets = [alloyd.connect() for _ in range(1000)]
    try:
        for i, s in enumerate(sockets):
            s.sendall(raw_post(f"id-{i}", headers="Prefer: wait=60\r\n"))
        harness.wait_until(lambda: waiting(alloyd) == 1000, "all wait")
        # libcurl resolves names in threads that come and go.
        assert len(os.listdir(f"/proc/{alloyd.pid}/task")) < threads + 10
        assert alloyd.post(harness.event("other")).status == 202
        own_clickhouse.start()
        answers = [harness.read_answer(s) for s in sockets]
    finally:
        for s in sockets:
            s.close()
    assert {a.status for a in answers} == {200}
    assert waiting(alloyd) == 0
    alloyd.settled()
    assert own_clickhouse.count("default.events") == 1001


def test_one_waiting_request_too_many_is_503_and_keeps_nothing(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(away(redis, own_clickhouse, server={"max_waiting": 3})).start()
    own_clickhouse.kill()
    sockets = [alloyd.connect() for _ in range(3)]
    for i, s in enumerate(sockets):
        s.sendall(raw_post(f"id-{i}", headers="Prefer: wait=60\r\n"))
    harness.wait_until(lambda: waiting(alloyd) == 3, "all wait")
    answer = alloyd.post(harness.event("more"), WAIT)
    assert answer.status == 503 and answer.json["error"] == "overloaded" and answer.headers["Retry-After"]
    books = alloyd.books()
    assert (books["received"], books["accepted"], books["rejected"]) == (4, 3, 1)
    # Who resets its connection makes room.
    reset(sockets[0])
    harness.wait_until(lambda: waiting(alloyd) == 2, "room again")
    own_clickhouse.start()
    answer = alloyd.post(harness.event("more"), WAIT, {"Prefer": "wait=60"})
    assert (answer.status, answer.json) == (200, {"accepted": 1, "duplicates": 0})
    assert [harness.read_answer(s).status for s in sockets[1:]] == [200, 200]
    for s in sockets[1:]:
        s.close()
    alloyd.settled()
    assert own_clickhouse.count("default.events") == 4


def test_a_drain_answers_who_waits(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(away(redis, own_clickhouse, drain={"timeout": "1s"}, worker={"linger": "300ms"})).start()
    with alloyd.connect() as s:
        s.sendall(raw_post("a"))
        harness.wait_until(lambda: waiting(alloyd) == 1, "it waits")
        assert alloyd.drain() == 0
        answer = harness.read_answer(s)
        assert answer.status == 200 and answer.headers["Connection"] == "close" and s.recv(1) == b""
    assert own_clickhouse.count("default.events") == 1
    alloyd.start()
    own_clickhouse.kill()
    with alloyd.connect() as s:
        s.sendall(raw_post("b", headers="Prefer: wait=60\r\n"))
        harness.wait_until(lambda: waiting(alloyd) == 1, "it waits")
        started = time.monotonic()
        assert alloyd.drain() == 0
        assert time.monotonic() - started < 20
        answer = harness.read_answer(s)
        assert answer.status == 202 and s.recv(1) == b""
    assert "events_left=1" in alloyd.log()


def test_under_load_every_200_is_true(alloyd, clickhouse, table):
    """Clients with and without ack; each 200 is held against the table at once."""
    stop = threading.Event()

    def plain(c):
        connection = alloyd.client()
        n = 0
        while not stop.is_set():
            harness.request(connection, "\n".join(harness.event(f"plain-{c}-{n}-{i}") for i in range(100)))
            n += 1

    def careful(c):
        connection = alloyd.client()
        for n in range(15):
            ids = [f"careful-{c}-{n}-{i}" for i in range(20)]
            answer = harness.request(connection, "\n".join(map(harness.event, ids)), WAIT, {"Prefer": "wait=60"})
            assert answer.status == 200, answer
            assert clickhouse.count(f"{table} WHERE startsWith(event_id, 'careful-{c}-{n}-')") == 20

    load = [threading.Thread(target=plain, args=(c,)) for c in range(2)]
    for thread in load:
        thread.start()
    try:
        harness.in_threads(8, careful)
    finally:
        stop.set()
        for thread in load:
            thread.join()
    alloyd.settled()
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)")


# -- ack=disk


def test_ack_disk_in_memory_mode_is_400(make_alloyd, clickhouse, table):
    alloyd = make_alloyd(sections_for(None, clickhouse, table, journal={"mode": "memory"})).start()
    answer = alloyd.post(harness.event("a"), "/v1/events?ack=disk")
    assert answer.status == 400 and answer.json["error"] == "bad_request" and "journal.mode" in answer.json["message"]
    assert alloyd.post(harness.event("a"), WAIT).json == {"accepted": 1, "duplicates": 0}


@pytest.mark.parametrize("sync", ["never", "interval"])
def test_ack_disk_syncs_before_it_answers(make_alloyd, clickhouse, table, sync, tmp_path):
    alloyd = make_alloyd(sections_for(None, clickhouse, table, journal={"sync": sync, "sync_interval": "60s"})).start()
    trace = tmp_path / "trace"
    with harness.strace(alloyd, trace, "trace=msync,sendto"):
        assert alloyd.post(harness.event("a")).status == 202
        assert alloyd.post(harness.event("b"), "/v1/events?ack=disk").status == 202
        assert alloyd.post(harness.event("b"), "/v1/events?ack=disk").json == {"accepted": 0, "duplicates": 1}
    calls = ["msync" if "msync(" in line else "202" for line in trace.read_text().splitlines()
             if "msync(" in line or "HTTP/1.1 202" in line]
    # What was synced for the second event need not be synced for its duplicate.
    assert calls[:2] == ["202", "msync"] and calls.count("202") == 3 and calls[-2:] == ["202", "202"], calls


def test_ack_disk_is_an_ordinary_answer(alloyd, clickhouse, table):
    connection = alloyd.client()
    for i in range(20):
        answer = harness.request(connection, harness.event(f"id-{i}"), "/v1/events?ack=disk")
        assert (answer.status, answer.json) == (202, {"accepted": 1, "duplicates": 0})
    alloyd.kill()
    alloyd.start()
    alloyd.settled()
    assert clickhouse.count(table) == 20
    assert json.loads(alloyd.admin("/stats").body)
