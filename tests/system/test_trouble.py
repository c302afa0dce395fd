# SPDX-License-Identifier: Apache-2.0
"""Trouble is told in time, in its own words, and once: in /readyz, in /metrics and in the log."""

import itertools
import json
import re
import signal
import time

import pytest

import harness
from conftest import sections_for
from test_admin import full_journal, nowhere


def lines(alloyd, *words):
    return [line for line in alloyd.log().splitlines() if all(word in line for word in words)]


def test_a_clickhouse_that_hangs_is_told_within_five_seconds(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", drain={"timeout": "1s"})).start()
    assert alloyd.post(harness.event("first")).status == 202
    alloyd.settled()
    own_clickhouse.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    assert alloyd.post(harness.event("second")).status == 202
    reason = alloyd.told("clickhouse.events.hangs", deadline=5)
    assert not reason["blocking"] and "no answer for" in reason["text"] and "answered nothing" in reason["text"], reason
    assert alloyd.admin("/readyz").status == 200
    age = alloyd.metrics()['alloy_clickhouse_stream_inflight_age_seconds{stream="events"}']
    assert 2 < age <= time.monotonic() - stopped + 0.1
    harness.wait_until(lambda: alloyd.reason_text("clickhouse.events.hangs") != reason["text"], "it grows older")
    own_clickhouse.signal(signal.SIGCONT)
    harness.wait_until(lambda: alloyd.reasons() == {}, alloyd.reasons)
    alloyd.settled()
    assert len(lines(alloyd, "level=warn", "insert has no answer", "stream=events age_ms=")) == 1
    assert len(lines(alloyd, "level=info", "inserts are answered again", "stream=events")) == 1
    assert alloyd.metrics()['alloy_clickhouse_stream_inflight_age_seconds{stream="events"}'] == 0


def test_a_hang_is_one_however_often_its_inserts_run_out_of_time(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", drain={"timeout": "1s"},
                                      clickhouse={"timeout": "3s", "retry_max": "200ms"})).start()
    own_clickhouse.signal(signal.SIGSTOP)
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.told("clickhouse.events.hangs")
    texts = set()
    while len(texts) < 6:  # longer than the insert has time
        reason = alloyd.reasons().get("clickhouse.events.hangs")
        assert reason, alloyd.reasons()
        texts.add(reason["text"])
        time.sleep(0.05)
    alloyd.told("clickhouse")
    own_clickhouse.signal(signal.SIGCONT)
    harness.wait_until(lambda: alloyd.reasons() == {}, alloyd.reasons)
    harness.wait_until(lambda: lines(alloyd, "inserts are answered again"), "a line")
    assert len(lines(alloyd, "insert has no answer")) == len(lines(alloyd, "inserts are answered again")) == 1
    assert len(lines(alloyd, "clickhouse is down")) == 1


@pytest.mark.parametrize("mode", ["file", "memory"])
def test_a_full_journal_is_two_lines(make_alloyd, own_clickhouse, mode):
    own_clickhouse.kill()
    sections = nowhere(journal={"mode": mode, "segment": "1MiB", "max_bytes": "4MiB"})
    sections["clickhouse"].update(url=own_clickhouse.url, retry_max="200ms")
    alloyd = make_alloyd(sections).start()
    full_journal(alloyd)
    harness.wait_until(lambda: lines(alloyd, "journal is full"), "a line")
    for i in range(100):
        alloyd.post("\n".join(harness.event(f"more-{i}-{k}") for k in range(20)))
    assert len(lines(alloyd, "level=error module=journal", "journal is full", "bytes_max=4194304")) == 1
    assert not lines(alloyd, "journal has room again")
    own_clickhouse.start()
    harness.wait_until(lambda: lines(alloyd, "level=info module=journal", "journal has room again"), "room")
    assert len(lines(alloyd, "journal is full")) == len(lines(alloyd, "journal has room again")) == 1


def test_a_full_ring_is_two_lines(make_alloyd, own_redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table, ring={"capacity": 100},
                                      redis={"on_failure": "hold"})).start()
    assert alloyd.post(harness.event("first")).status == 202
    alloyd.settled()
    assert not lines(alloyd, "ring is full")
    own_redis.kill()
    numbers = itertools.count()

    def refused():
        return alloyd.post(harness.event(f"more-{next(numbers)}")).status == 503

    harness.wait_until(refused, "503", interval=0)
    harness.wait_until(lambda: lines(alloyd, "level=warn module=daemon", "ring is full", "capacity=100"), alloyd.log)
    until = time.monotonic() + 3
    while time.monotonic() < until:  # many are refused, at last without a look at them
        refused()
    time.sleep(3)  # nobody asks
    assert len(lines(alloyd, "ring is full")) == 1 and not lines(alloyd, "ring has room again")
    own_redis.start()
    alloyd.settled()
    harness.wait_until(lambda: lines(alloyd, "level=info module=daemon", "ring has room again", "capacity=100"), alloyd.log)
    lasted = int(re.search(r"lasted_ms=(\d+)", lines(alloyd, "ring has room again")[0])[1])
    assert 5000 < lasted and len(lines(alloyd, "ring is full")) == len(lines(alloyd, "ring has room again")) == 1


def test_a_wrong_password_is_told_in_redis_words(make_alloyd, own_redis, clickhouse, table):
    own_redis.command("CONFIG", "SET", "requirepass", "right-one")
    sections = sections_for(own_redis, clickhouse, table)
    for url, words in ((f"redis://:wrong-one@127.0.0.1:{own_redis.port}",
                        "WRONGPASS invalid username-password pair or user is disabled"),
                       (f"redis://somebody:wrong-one@127.0.0.1:{own_redis.port}", "WRONGPASS invalid username-password"),
                       (own_redis.url, "NOAUTH Authentication required"),
                       (f"redis://:right-one@127.0.0.1:{own_redis.port}/99", "ERR DB index is out of range")):
        sections["redis"]["url"] = url
        alloyd = make_alloyd(sections).start()
        assert alloyd.post(harness.event("an-id")).status == 202
        text = alloyd.told("redis")["text"]
        assert words in text and "redis.url" in text, text
        alloyd.settled()
        harness.wait_until(lambda: lines(alloyd, "level=warn", "redis lost", words), alloyd.log)
        time.sleep(0.3)  # some retries
        assert len(lines(alloyd, "redis lost")) == 1
        for secret in ("wrong-one", "right-one", "an-id"):
            assert secret not in text and secret not in alloyd.log()
        alloyd.finish()


def test_each_change_of_state_is_one_line(make_alloyd, own_redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(own_redis, own_clickhouse, "default.events", worker={"threads": 3},
                                      clickhouse={"retry_max": "200ms"})).start()
    for i in range(30):
        assert alloyd.post(harness.event(f"up-{i}")).status == 202
    alloyd.settled()
    assert len(lines(alloyd, "redis is up")) == len(lines(alloyd, "clickhouse is up")) == 1
    own_redis.kill()
    own_clickhouse.kill()
    for i in range(60):
        assert alloyd.post(harness.event(f"down-{i}")).status == 202
        time.sleep(0.02)
    harness.wait_until(lambda: {"redis", "clickhouse"} <= set(alloyd.reasons()), alloyd.reasons)
    own_redis.start()
    own_clickhouse.start()
    harness.wait_until(lambda: alloyd.reasons() == {}, alloyd.reasons)
    alloyd.settled()
    for words in (("level=warn", "redis lost"), ("level=info", "redis back"), ("level=warn", "clickhouse is down")):
        assert len(lines(alloyd, *words)) == 1, (words, alloyd.log())
    assert len(lines(alloyd, "level=info", "clickhouse is up")) == 2
    own_clickhouse.query("RENAME TABLE default.events TO default.away")
    assert alloyd.post(harness.event("stuck")).status == 202
    alloyd.told("clickhouse.events")
    time.sleep(1)  # some retries
    assert len(lines(alloyd, "level=error", "stream=events", "default.events")) == 1, alloyd.log()
    own_clickhouse.query("RENAME TABLE default.away TO default.events")
    alloyd.settled()
    assert len(lines(alloyd, "level=info", "stream is well again", "stream=events")) == 1


def test_debug_tells_what_happens_at_each_station_in_json(make_alloyd, redis, clickhouse, table):
    sections = sections_for(redis, clickhouse, table, log={"level": "debug", "format": "json"})
    alloyd = make_alloyd(sections).start()
    assert alloyd.post(harness.event("a-secret-id") + harness.event("another-id")).status == 202
    assert alloyd.post("{").status == 400
    alloyd.settled()

    def said(message):
        return [line for line in map(json.loads, alloyd.log().splitlines()) if line["msg"] == message]

    taken, refused = said("answer sent")
    assert (taken["level"], taken["status"], taken["accepted"], taken["stream"]) == ("debug", 202, 2, "events")
    assert isinstance(taken["ms"], float) and isinstance(taken["bytes"], int)
    assert (refused["status"], refused["error"], refused["offset"]) == (400, "invalid_json", 1)
    (batch,) = said("batch claimed")
    assert (batch["events"], batch["unique"], batch["duplicates"], batch["unclaimed"]) == (2, 2, 0, 0)
    (sent,), (answered,) = said("insert sent"), said("insert answered")
    assert sent["rows"] == answered["rows"] == 2 and sent["insert"] == answered["insert"]
    assert sent["aside"] is False and isinstance(sent["async"], bool) and isinstance(answered["took_ms"], float)
    assert answered["class"] == "done" and answered["status"] == 200
    assert said("segment made")[0]["bytes"] == 64 * 2**20
    assert "a-secret-id" not in alloyd.log()

    answers = len(said("answer sent"))
    with alloyd.connect() as s:  # a flood is told at most 500 times a second
        s.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 3000 + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        harness.read_all(s)
    harness.wait_until(lambda: alloyd.metrics()['alloy_http_requests_total{code="404"}'] == 3000, "all answered")
    assert 100 < len(said("answer sent")) - answers < 2500
    time.sleep(1)
    alloyd.post("{")
    harness.wait_until(lambda: any("suppressed" in line for line in said("answer sent")), "what was held back")
    assert alloyd.metrics()["alloy_log_dropped_total"] == 0


def test_info_is_quiet_under_load(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, log={"level": "info"})).start()
    before = len(alloyd.log().splitlines())
    for i in range(200):
        assert alloyd.post(harness.event(f"id-{i}")).status == 202
    alloyd.settled()
    after = alloyd.log().splitlines()[before:]
    assert all(("redis is up" in line or "clickhouse is up" in line or "table looked at" in line) for line in after), after
