# SPDX-License-Identifier: Apache-2.0
"""What happens when something else breaks: full ring, Redis and ClickHouse away, crashes, wrong folders."""

import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

import harness
from conftest import sections_for


def test_ring_full_is_503_keeps_nothing_and_the_retry_is_new(make_alloyd, own_redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table, ring={"capacity": 100}, worker={"threads": 1},
                                      redis={"on_failure": "hold", "timeout": "100ms"})).start()
    own_redis.signal(signal.SIGSTOP)
    refused = []

    def fill():
        n = len(refused) + fill.accepted
        answer = alloyd.post("\n".join(harness.event(f"id-{n}-{i}") for i in range(50)))
        if answer.status == 202:
            fill.accepted += 1
            return False
        assert answer.status == 503 and answer.json["error"] == "overloaded", answer
        assert int(answer.headers["Retry-After"]) >= 1
        refused.append(n)
        return True

    fill.accepted = 0
    harness.wait_until(fill, "a 503")
    harness.wait_until(lambda: not alloyd.readyz(), "not ready")
    rejected = alloyd.books()["rejected"]
    assert rejected == 50
    own_redis.signal(signal.SIGCONT)
    harness.wait_until(alloyd.readyz, "ready again")
    again = "\n".join(harness.event(f"id-{refused[0]}-{i}") for i in range(50))
    answer = harness.wait_until(lambda: (a := alloyd.post(again)).status == 202 and a, "202")
    assert answer.json == {"accepted": 50, "duplicates": 0}
    alloyd.settled()
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") == 50 * (fill.accepted + 1)


def load(alloyd, stop, statuses, prefix):
    """Posts small NDJSON requests until told to stop; counts what was answered."""
    connection = alloyd.client()
    n = 0
    while not stop.is_set():
        body = "\n".join(harness.event(f"{prefix}-{n}-{i}") for i in range(20))
        status = harness.request(connection, body).status
        statuses[status] = statuses.get(status, 0) + 1
        n += status == 202
        # A few thousand events a second: what is tried here is an outage, not speed.
        stop.wait(0.005)
    return n


@pytest.mark.parametrize("policy", ["pass", "hold"])
def test_redis_killed_and_back(make_alloyd, own_redis, clickhouse, table, policy):
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table, ring={"capacity": 2000},
                                      redis={"on_failure": policy, "timeout": "200ms"})).start()
    stop, statuses = threading.Event(), {}
    loader = threading.Thread(target=load, args=(alloyd, stop, statuses, "x"))
    loader.start()
    try:
        harness.wait_until(lambda: alloyd.books()["inserted"] > 100, "events before")
        own_redis.kill()
        harness.wait_until(lambda: alloyd.metrics()["alloy_redis_up"] == 0, "Redis seen as down")
        if policy == "pass":
            unclaimed = alloyd.metrics()["alloy_events_unclaimed_total"]
            harness.wait_until(lambda: alloyd.metrics()["alloy_events_unclaimed_total"] > unclaimed + 500, "passed on")
            assert alloyd.readyz()
        else:
            harness.wait_until(lambda: statuses.get(503, 0) > 0, "503 once the ring is full")
            assert not alloyd.readyz()
        assert b"redis" in alloyd.admin("/readyz").body
        own_redis.start()
        harness.wait_until(lambda: alloyd.metrics()["alloy_redis_up"] == 1, "Redis seen as up")
        harness.wait_until(alloyd.readyz, "ready again")
        inserted = alloyd.books()["inserted"]
        harness.wait_until(lambda: alloyd.books()["inserted"] > inserted + 500, "events after")
    finally:
        stop.set()
        loader.join()
    alloyd.settled()
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") == statuses[202] * 20
    assert set(statuses) <= ({202} if policy == "pass" else {202, 503})
    if policy == "hold":
        assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0


def test_clickhouse_stopped_for_20_s_under_load_loses_nothing(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", clickhouse={"timeout": "5s"})).start()
    stop, statuses = threading.Event(), {}
    loader = threading.Thread(target=load, args=(alloyd, stop, statuses, "x"))
    loader.start()
    try:
        harness.wait_until(lambda: alloyd.books()["inserted"] > 100, "events before")
        own_clickhouse.kill()
        end = time.monotonic() + 20
        harness.wait_until(lambda: time.monotonic() > end, "20 s of outage", 30, interval=0.5)
        assert alloyd.metrics()["alloy_clickhouse_up"] == 0
        assert alloyd.readyz() and b"clickhouse" in alloyd.admin("/readyz").body
        own_clickhouse.start()
        inserted = alloyd.books()["inserted"]
        harness.wait_until(lambda: alloyd.books()["inserted"] > inserted, "events after")
    finally:
        stop.set()
        loader.join()
    alloyd.settled()
    assert set(statuses) == {202}
    assert own_clickhouse.count("default.events") == statuses[202] * 20
    assert own_clickhouse.count("default.events", "uniqExact(event_id)") == statuses[202] * 20


def test_starts_without_redis_and_clickhouse_and_keeps_events(make_alloyd, tmp_path):
    redis, clickhouse = harness.Redis(tmp_path), harness.ClickHouse(tmp_path)
    alloyd = make_alloyd(sections_for(redis, clickhouse, "default.events",
                                      clickhouse={"retry_max": "500ms"})).start(ready=False)
    try:
        for i in range(50):
            assert alloyd.post(harness.event(f"id-{i}")).status == 202
        body = harness.wait_until(lambda: (b := alloyd.admin("/readyz").body) and b"clickhouse" in b and b"redis" in b
                                  and b, "both named by /readyz")
        assert b'"ready"' in body
        redis.start()
        clickhouse.start()
        clickhouse.create_events("default.events")
        alloyd.settled()
        assert clickhouse.count("default.events") == 50
        alloyd.finish()
    finally:
        redis.kill()
        clickhouse.kill()


def test_kill_9_under_load_loses_nothing_and_doubles_nothing(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    answered = set()
    for round_number in range(3):
        stop = threading.Event()

        def client(c, r=round_number, stop=stop):
            connection = alloyd.client()
            n = 0
            while not stop.is_set():
                ids = [f"r{r}-c{c}-{n}-{i}" for i in range(50)]
                try:
                    if harness.request(connection, "\n".join(map(harness.event, ids))).status == 202:
                        answered.update(ids)
                except (OSError, harness.http.client.HTTPException):
                    return
                n += 1

        threads = [threading.Thread(target=client, args=(c,)) for c in range(4)]
        for thread in threads:
            thread.start()
        harness.wait_until(lambda: len(answered) > 5000 * (round_number + 1), "load")
        alloyd.kill()
        stop.set()
        for thread in threads:
            thread.join()
        alloyd.start()
    alloyd.settled()
    rows = {row[0] for row in clickhouse.rows(f"SELECT event_id FROM {table}")}
    assert clickhouse.count(table) == len(rows), "doubled"
    assert not answered - rows, "lost"


def test_what_a_drain_leaves_behind_is_replayed(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", drain={"timeout": "300ms"})).start()
    own_clickhouse.kill()
    for i in range(20):
        assert alloyd.post("\n".join(harness.event(f"id-{i}-{j}") for j in range(50))).status == 202
    assert alloyd.drain() == 0
    assert "events_left=1000" in alloyd.log()
    own_clickhouse.start()
    alloyd.start()
    books = alloyd.settled()
    assert books["received"] == books["inserted"] == 1000
    assert own_clickhouse.count("default.events", "uniqExact(event_id)") == 1000 == own_clickhouse.count("default.events")


def test_memory_mode_says_how_much_a_drain_loses(make_alloyd, tmp_path):
    clickhouse = harness.ClickHouse(tmp_path)  # never started
    alloyd = make_alloyd(sections_for(None, clickhouse, "default.events", journal={"mode": "memory"},
                                      drain={"timeout": "200ms"})).start(ready=False)
    assert alloyd.post(harness.event("a") + "\n" + harness.event("b")).status == 202
    assert alloyd.post(harness.event("c")).status == 202
    assert alloyd.drain() == 1
    assert "events_lost=3" in alloyd.log()
    alloyd.allow_exit = {1}


def test_a_bad_row_is_dead_lettered_and_its_neighbours_arrive(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    good = [harness.event(f"id-{i}") for i in range(500)]
    bad = harness.event("bad", ts="yesterday, more or less")
    assert alloyd.post("\n".join(good[:250] + [bad] + good[250:])).json == {"accepted": 501, "duplicates": 0}
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (500, 1)
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") == 500
    lines = [line for f in (alloyd.sections["dead_letter"]["dir"]).glob("*.ndjson") for line in f.read_text().splitlines()]
    assert len(lines) == 1
    letter = harness.json.loads(lines[0])
    assert letter["stream"] == "events" and letter["code"] > 0 and letter["message"] and letter["time"]
    assert letter["event"] == harness.json.loads(bad) and bad in lines[0]


def test_a_missing_table_keeps_events_and_holds_up_no_other_stream(make_alloyd, redis, clickhouse, table):
    sections = sections_for(redis, clickhouse, table, clickhouse={"retry_max": "300ms"},
                            stream__lost={"path": "/v1/lost", "table": "default.not_there_yet", "id": "event_id"})
    alloyd = make_alloyd(sections).start(ready=False)
    assert alloyd.post(harness.event("a"), "/v1/lost").status == 202
    assert alloyd.post(harness.event("b")).status == 202
    alloyd.settled("events")
    harness.wait_until(lambda: b"not_there_yet" in alloyd.admin("/readyz").body, "the table named by /readyz")
    assert alloyd.books("lost")["pending"] == 1
    clickhouse.create_events("default.not_there_yet")
    alloyd.settled("lost")
    assert clickhouse.count("default.not_there_yet") == 1
    harness.wait_until(alloyd.readyz, "ready")


def test_journal_full_is_503_and_recovers(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", clickhouse={"retry_max": "300ms"},
                                      journal={"segment": "64KiB", "max_bytes": "512KiB"})).start()
    own_clickhouse.kill()
    posted = 0

    def fill():
        nonlocal posted
        answer = alloyd.post("\n".join(harness.event(f"id-{posted}-{i}") for i in range(20)))
        if answer.status == 503:
            assert answer.json["error"] == "overloaded"
            return True
        assert answer.status == 202
        posted += 1
        return False

    harness.wait_until(fill, "a full journal")
    assert not alloyd.readyz()
    own_clickhouse.start()
    harness.wait_until(alloyd.readyz, "room again")
    assert alloyd.post("\n".join(harness.event(f"id-{posted}-{i}") for i in range(20))).json["accepted"] == 20
    alloyd.settled()
    assert own_clickhouse.count("default.events") == (posted + 1) * 20


@pytest.mark.parametrize("sync", ["interval", "always"])
def test_a_stuck_stream_with_little_pending_does_not_fill_the_journal(make_alloyd, redis, clickhouse, table, sync):
    """A record of a stream without table in each segment: they move together, through a kill -9 too."""
    late = f"{table}_late"
    sections = sections_for(redis, clickhouse, table, stream__late={"path": "/v1/late", "table": late, "id": "event_id"},
                            clickhouse={"retry_max": "300ms"},
                            journal={"segment": "64KiB", "max_bytes": "2MiB", "sync": sync})
    alloyd = make_alloyd(sections).start()
    stop, statuses, late_ids = threading.Event(), {}, []
    sent = []

    def trickle(life):
        connection = alloyd.client()
        n = 0
        while not stop.is_set():
            late_ids.append(f"late-{life}-{n}")
            assert harness.request(connection, harness.event(late_ids[-1]), "/v1/late").status == 202
            n += 1
            stop.wait(0.02)

    def live(life):
        stop.clear()
        until = statuses.get(202, 0) + 400
        threads = [threading.Thread(target=lambda: sent.append(load(alloyd, stop, statuses, f"busy-{life}"))),
                   threading.Thread(target=trickle, args=(life,))]
        for thread in threads:
            thread.start()
        harness.wait_until(lambda: statuses.get(202, 0) >= until or set(statuses) - {202}, "400 requests", 60)
        stop.set()
        for thread in threads:
            thread.join()

    live(1)
    alloyd.settled()
    alloyd.kill()
    alloyd.start(ready=False)
    harness.wait_until(lambda: alloyd.post(harness.event("again")).status == 202, "202 after the kill")
    live(2)
    assert set(statuses) == {202}, statuses
    alloyd.settled()
    assert alloyd.books("late")["pending"] == len(late_ids)
    # What has been written would have filled it.
    assert sum(sent) * 20 * 200 > 3 << 20
    assert alloyd.metrics()["alloy_journal_bytes"] <= 1536 << 10
    clickhouse.create_events(late)
    alloyd.settled("late")
    assert clickhouse.count(late) == clickhouse.count(late, "uniqExact(event_id)") == len(late_ids)
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") == sum(sent) * 20 + 1


def cpu_seconds(pid):
    """Of a process, so far, in user and kernel mode."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("away", ["redis", "clickhouse", "both"])
@pytest.mark.parametrize("policy", ["pass", "hold"])
def test_who_is_away_costs_no_processor(make_alloyd, own_redis, own_clickhouse, away, policy):
    alloyd = make_alloyd(sections_for(own_redis, own_clickhouse, "default.events", redis={"on_failure": policy, "timeout": "300ms"})).start()
    assert alloyd.post(harness.event("before")).status == 202
    alloyd.settled()
    for server in ([own_redis] if away != "clickhouse" else []) + ([own_clickhouse] if away != "redis" else []):
        server.kill()
    assert alloyd.post(harness.event("meanwhile")).status == 202
    harness.wait_until(alloyd.reasons, "told")

    def quiet():
        before, began = cpu_seconds(alloyd.pid), time.monotonic()
        time.sleep(1.5)
        return cpu_seconds(alloyd.pid) - before < 0.2 * (time.monotonic() - began)

    harness.wait_until(quiet, lambda: f"a second of rest:\n{alloyd.log()[-2000:]}", 30, interval=0)
    alloyd.kill()  # a drain would wait for them



@pytest.mark.parametrize("waits", ["for a mark", "for the dead-letter folder", "for its release"])
def test_what_waits_for_long_does_not_fill_the_journal(make_alloyd, own_redis, clickhouse, table, waits):
    """Whoever holds a record moves it: the worker, the burial, the release queue."""
    sections = sections_for(own_redis, clickhouse, table, stream__late={"path": "/v1/late", "table": table, "id": "event_id"},
                            clickhouse={"retry_max": "300ms"}, journal={"segment": "64KiB", "max_bytes": "2MiB"},
                            server={"threads": 1})  # so that both streams write into the same segments
    if waits == "for a mark":
        own_redis.command("SET", "alloy:#table:late", "somebody-elses-table 1")
    if waits == "for the dead-letter folder":
        sections["dead_letter"] = {"max_bytes": "4KiB"}
    alloyd = make_alloyd(sections).start(ready=waits != "for a mark")
    harness.wait_until(lambda: alloyd.post(harness.event("first")).status == 202 and alloyd.books()["inserted"] == 1, "it goes")
    if waits == "for its release":
        own_redis.kill()
    stop, statuses, late_ids, sent = threading.Event(), {}, [], []
    fields = {} if waits == "for a mark" else {"ts": "no time"}

    def trickle():
        connection = alloyd.client()
        while not stop.is_set():
            late_ids.append(f"late-{len(late_ids)}")
            assert harness.request(connection, harness.event(late_ids[-1], **fields), "/v1/late").status == 202
            stop.wait(0.02)

    threads = [threading.Thread(target=lambda: sent.append(load(alloyd, stop, statuses, "busy"))),
               threading.Thread(target=trickle)]
    for thread in threads:
        thread.start()
    harness.wait_until(lambda: statuses.get(202, 0) >= 1000 or set(statuses) - {202}, "1000 requests", 60)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {202}, statuses
    alloyd.settled()
    waiting = alloyd.books("late")["pending"]
    assert waiting > len(late_ids) - 40  # the folder has room for a few
    assert sum(sent) * 20 * 200 > 3 << 20
    harness.wait_until(lambda: alloyd.metrics()["alloy_journal_bytes"] <= 1536 << 10, "a small journal")

    if waits == "for a mark":
        own_redis.command("DEL", "alloy:#table:late")
    elif waits == "for its release":
        own_redis.start()
    else:
        alloyd.sections["dead_letter"]["max_bytes"] = "1MiB"
        alloyd.write_ini()
        alloyd.signal(signal.SIGHUP)
    books = alloyd.settled("late")
    assert (books["inserted"], books["dead_lettered"]) == ((0, len(late_ids)) if fields else (len(late_ids), 0))
    kept = clickhouse.count(table, "uniqExact(event_id)")
    assert clickhouse.count(table) == kept == sum(sent) * 20 + 1 + books["inserted"]


@pytest.mark.parametrize("sync", ["interval", "always"])
def test_a_journal_folder_that_is_removed_refuses(make_alloyd, redis, clickhouse, table, sync):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, journal={"sync": sync})).start()
    folder = pathlib.Path(alloyd.sections["journal"]["dir"])
    assert alloyd.post(harness.event("before")).status == 202
    folder.rename(folder.with_name("away"))
    harness.wait_until(lambda: b"journal.removed" in alloyd.admin("/readyz").body, "journal.removed in /readyz")
    assert not alloyd.readyz()
    answer = alloyd.post(harness.event("during"))
    assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
    folder.with_name("away").rename(folder)
    harness.wait_until(alloyd.readyz, "ready again")
    assert alloyd.post(harness.event("during")).json == {"accepted": 1, "duplicates": 0}
    for segment in folder.glob("*.alj"):
        segment.unlink()
    harness.wait_until(lambda: not alloyd.readyz(), "not ready without the segments")
    assert alloyd.post(harness.event("after")).status == 503
    alloyd.settled()
    assert clickhouse.count(table) == 2


def test_a_full_disk_is_503_and_recovers(make_alloyd, redis, clickhouse, table, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    try:
        alloyd = make_alloyd(sections_for(redis, clickhouse, table,
                                          journal={"dir": disk / "journal", "segment": "256KiB"},
                                          server={"threads": 1}, worker={"threads": 1})).start()
        filler = disk / "filler"
        fd = os.open(filler, os.O_CREAT | os.O_WRONLY)
        with pytest.raises(OSError):
            while True:
                os.write(fd, b"\0" * 4096)
        os.close(fd)
        statuses = []

        def post():
            statuses.append(alloyd.post("\n".join(harness.event(f"id-{len(statuses)}-{i}") for i in range(100))).status)
            return statuses[-1] == 503

        harness.wait_until(post, "503")
        os.unlink(filler)
        harness.wait_until(lambda: post() or statuses[-1] == 202, "202 again")
        harness.wait_until(lambda: not post(), "202 again")
        alloyd.settled()
        assert clickhouse.count(table) == statuses.count(202) * 100
        assert set(statuses) == {202, 503}
        alloyd.finish()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("sync", ["always", "interval"])
def test_after_a_failed_sync_nothing_is_acknowledged_until_a_restart(make_alloyd, redis, clickhouse, table, tmp_path, sync):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, journal={"sync": sync, "sync_interval": "50ms"})).start()
    assert alloyd.post(harness.event("before")).status == 202
    alloyd.settled()
    answered = {"before"}
    with harness.strace(alloyd, tmp_path / "trace", "trace=msync", "inject=msync:error=EIO"):
        answer = alloyd.post(harness.event("during"))
        assert answer.status == {"always": 503, "interval": 202}[sync]
        if answer.status == 202:
            answered.add("during")
        harness.wait_until(lambda: b"journal.failed" in alloyd.admin("/readyz").body, "the failure in /readyz")
    assert not alloyd.readyz()
    # The disk is well again, but what it holds is not known any more.
    answer = alloyd.post(harness.event("after"))
    assert answer.status == 503 and answer.json["error"] == "overloaded" and int(answer.headers["Retry-After"]) >= 1
    assert [line for line in alloyd.log().splitlines() if "level=error module=journal" in line and "sync" in line]
    alloyd.kill()
    alloyd.start()
    for event_id in ("before", "during", "after"):
        accepted = int(event_id not in answered)
        assert alloyd.post(harness.event(event_id)).json == {"accepted": accepted, "duplicates": 1 - accepted}, event_id
    alloyd.settled()
    assert sorted(row[0] for row in clickhouse.rows(f"SELECT event_id FROM {table}")) == ["after", "before", "during"]


def test_catching_up_takes_few_large_inserts_and_new_events_keep_flowing(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", clickhouse={"retry_max": "300ms"})).start()
    assert alloyd.post(harness.event("first")).status == 202
    alloyd.settled()
    own_clickhouse.kill()
    for n in range(150):
        assert alloyd.post("\n".join(harness.event(f"id-{n}-{i}") for i in range(1000))).status == 202
    inserts = alloyd.metrics()["alloy_clickhouse_inserts_total"]
    stop, statuses = threading.Event(), {}
    loader = threading.Thread(target=load, args=(alloyd, stop, statuses, "new"))
    loader.start()
    try:
        own_clickhouse.start()
        harness.wait_until(lambda: alloyd.books()["inserted"] > 150_000, "the backlog inserted")
        inserts = alloyd.metrics()["alloy_clickhouse_inserts_total"] - inserts
    finally:
        stop.set()
        loader.join()
    alloyd.settled()
    assert set(statuses) == {202}
    rows = 150_001 + statuses[202] * 20
    assert own_clickhouse.count("default.events") == own_clickhouse.count("default.events", "uniqExact(event_id)") == rows
    # 60 batches of 2500 had gathered. Up to four inserts were on their way when ClickHouse died.
    assert inserts < 30, inserts


def test_what_a_table_lacks_is_a_log_line_and_a_reason(make_alloyd, redis, own_clickhouse):
    own_clickhouse.query("CREATE TABLE default.plain (event_id String) ENGINE = MergeTree ORDER BY event_id")
    own_clickhouse.query("CREATE TABLE default.months (event_id String, ts DateTime) ENGINE = MergeTree ORDER BY event_id "
                         "PARTITION BY toYYYYMM(ts) SETTINGS non_replicated_deduplication_window = 500")
    streams = {f"stream__{name}": {"path": f"/v1/{name}", "table": f"default.{name}", "id": "event_id"}
               for name in ("plain", "months", "missing")}
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", drain={"timeout": "1s"},
                                      clickhouse={"retry_max": "300ms"}, **streams)).start(ready=False)
    harness.wait_until(lambda: set(alloyd.reasons()) == {"clickhouse.plain.window", "clickhouse.missing"}, alloyd.reasons)
    assert alloyd.readyz()  # the other streams want their traffic

    def logged(level, *words):
        words = (f"level={level} module=flusher", *words)
        return [line for line in alloyd.log().splitlines() if all(word in line for word in words)]

    harness.wait_until(lambda: len(logged("info", "table looked at")) == 3, "three tables that are there")
    assert logged("warn", "stream=plain", "non_replicated_deduplication_window")
    assert logged("error", "stream=missing", "table does not exist")
    assert logged("info", "stream=months", "engine=MergeTree partitioned=yes window=500")
    assert logged("info", "stream=events", "partitioned=no window=10000")
    # A reconnect looks again: the table is there now.
    own_clickhouse.kill()
    harness.wait_until(lambda: "clickhouse" in alloyd.reasons() or alloyd.post(harness.event("a")).status != 202, "seen as down")
    own_clickhouse.start()
    own_clickhouse.query("CREATE TABLE default.missing (event_id String) ENGINE = MergeTree ORDER BY event_id "
                         "SETTINGS non_replicated_deduplication_window = 500")
    harness.wait_until(lambda: set(alloyd.reasons()) == {"clickhouse.plain.window"}, alloyd.reasons)
    assert alloyd.readyz()


def test_too_many_parts_slow_inserts_down_and_lose_nothing(make_alloyd, redis, clickhouse, table):
    clickhouse.query(f"ALTER TABLE {table} MODIFY SETTING parts_to_delay_insert = 0, parts_to_throw_insert = 3")
    clickhouse.query(f"SYSTEM STOP MERGES {table}")
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, worker={"linger": "1ms"},
                                      clickhouse={"retry_min": "50ms", "retry_max": "400ms"})).start()
    sent = 0

    def refused():
        nonlocal sent
        assert alloyd.post(harness.event(f"id-{sent}")).status == 202
        sent += 1
        return alloyd.metrics()['alloy_clickhouse_errors_total{class="retry"}']

    harness.wait_until(refused, "too many parts")
    inserts = alloyd.metrics()["alloy_clickhouse_inserts_total"]
    stop, statuses = threading.Event(), {}
    loader = threading.Thread(target=load, args=(alloyd, stop, statuses, "new"))
    loader.start()
    end = time.monotonic() + 2
    try:
        harness.wait_until(lambda: time.monotonic() > end, "2 s without merges", interval=0.1)
        # At 50, 100, 200, 400, 400... ms, less jitter, and no insert beside.
        assert alloyd.metrics()['alloy_clickhouse_errors_total{class="retry"}'] < 20
        assert alloyd.readyz()
        clickhouse.query(f"ALTER TABLE {table} MODIFY SETTING parts_to_throw_insert = 3000")
        clickhouse.query(f"SYSTEM START MERGES {table}")
        harness.wait_until(lambda: alloyd.metrics()["alloy_clickhouse_inserts_total"] > inserts + 3, "inserts again")
    finally:
        stop.set()
        loader.join()
    alloyd.settled()
    assert set(statuses) == {202}
    assert clickhouse.count(table) == clickhouse.count(table, "uniqExact(event_id)") == sent + statuses[202] * 20


def expect_refusal(alloyd, sentence):
    alloyd.spawn_only()
    assert alloyd.wait() == 1, alloyd.log()
    errors = [line for line in alloyd.log().splitlines() if "level=error" in line]
    assert len(errors) == 1 and sentence in errors[0], alloyd.log()
    alloyd.popen = None


def test_a_journal_folder_in_use_is_one_sentence_and_exit_1(make_alloyd, tmp_path):
    sections = sections_for(None, None, "default.events", journal={"dir": tmp_path / "shared"})
    first = make_alloyd(sections).start()
    expect_refusal(make_alloyd(sections), f"in use by another alloyd (pid {first.pid})")


def test_a_port_in_use_is_one_sentence_and_exit_1(make_alloyd):
    first = make_alloyd(sections_for(None, None, "default.events")).start()
    second = make_alloyd(sections_for(None, None, "default.events", server={"listen": f"127.0.0.1:{first.port}"}))
    expect_refusal(second, f"127.0.0.1:{first.port}")
    third = make_alloyd(sections_for(None, None, "default.events", admin={"listen": f"127.0.0.1:{first.admin_port}"}))
    expect_refusal(third, f"127.0.0.1:{first.admin_port}")


@pytest.mark.parametrize("section", ["journal", "dead_letter"])
def test_a_folder_that_cannot_be_made_is_one_sentence_and_exit_1(make_alloyd, clickhouse, section):
    # Nobody makes a folder there, whatever his rights.
    expect_refusal(make_alloyd(sections_for(None, clickhouse, "default.events", **{section: {"dir": "/proc/alloy"}})), "/proc/alloy")


@pytest.mark.parametrize("section", ["journal", "dead_letter"])
def test_a_folder_in_a_file_is_a_wrong_configuration(make_alloyd, clickhouse, tmp_path, section):
    (tmp_path / "file").write_text("not a folder")
    alloyd = make_alloyd(sections_for(None, clickhouse, "default.events", **{section: {"dir": tmp_path / "file" / "x"}}))
    alloyd.spawn_only()
    assert alloyd.wait() == 2 and f"{section}.dir" in alloyd.log() and str(tmp_path / "file") in alloyd.log(), alloyd.log()
    alloyd.popen = None
