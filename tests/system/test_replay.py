# SPDX-License-Identifier: Apache-2.0
"""What a later life does with the journal that an earlier one left: kills, restarts without Redis, broken records."""

import json
import pathlib
import random
import re
import signal
import struct
import threading
import time

import pytest

import harness
from conftest import sections_for


class Load:
    """Clients that post NDJSON, one in five events a repetition, until the server dies; keeps what was answered."""

    def __init__(self, clients=4, rows=40):
        self.clients, self.rows = clients, rows
        self.answered = set()
        self.unanswered = []
        self.round = 0

    def run(self, alloyd, until):
        """Loads until until(self) holds, then kills -9."""
        stop = threading.Event()
        self.round += 1

        def client(c):
            rng = random.Random(self.round * 100 + c)
            connection, n, mine = alloyd.client(), 0, []
            while not stop.is_set():
                ids = [f"r{self.round}-c{c}-{n}-{i}" for i in range(self.rows)]
                ids += rng.sample(mine, min(len(mine), self.rows // 4))
                body = "\n".join(map(harness.event, ids))
                try:
                    status = harness.request(connection, body).status
                except (OSError, harness.http.client.HTTPException):
                    self.unanswered.append(ids)
                    return
                n += 1
                if status == 202:
                    self.answered.update(ids)
                    mine = mine[-1000:] + ids
                else:
                    assert status == 503, status
                    stop.wait(0.01)

        threads = [threading.Thread(target=client, args=(c,)) for c in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            harness.wait_until(lambda: until(self), "load", interval=0.005)
            alloyd.kill()
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def retry(self, alloyd):
        """What real clients do with requests that were cut off."""
        for ids in self.unanswered:
            harness.wait_until(lambda ids=ids: alloyd.post("\n".join(map(harness.event, ids))).status == 202, "202")
            self.answered.update(ids)
        self.unanswered = []


def assert_exactly_once(clickhouse, table, answered):
    rows = {row[0] for row in clickhouse.rows(f"SELECT event_id FROM {table}")}
    assert not answered - rows, f"lost {len(answered - rows)}: {sorted(answered - rows)[:5]}"
    assert clickhouse.count(table) == len(rows), "doubled"


def assert_rows(clickhouse, n):
    """In its one table, and of as many ids."""
    assert clickhouse.count("default.events") == n == clickhouse.count("default.events", "uniqExact(event_id)")


@pytest.mark.parametrize("level", ["with_redis", "without_redis"])
@pytest.mark.parametrize("sync", ["interval", "always"])
def test_kill_9_at_random_moments_and_retries(make_alloyd, redis, clickhouse, table, level, sync):
    rng = random.Random(f"{level} {sync}")
    alloyd = make_alloyd(sections_for(redis if level == "with_redis" else None, clickhouse, table,
                                      journal={"sync": sync, "segment": "1MiB"})).start()
    load = Load()
    for _ in range(6):
        end = time.monotonic() + rng.uniform(0.05, 0.6)
        known = len(load.answered)
        load.run(alloyd, lambda load, end=end, known=known: time.monotonic() > end and len(load.answered) > known)
        alloyd.start()
        load.retry(alloyd)
    alloyd.settled()
    assert_exactly_once(clickhouse, table, load.answered)


def test_a_restart_with_no_redis_knows_the_ids(make_alloyd, clickhouse, table):
    alloyd = make_alloyd(sections_for(None, clickhouse, table)).start()
    bodies = ["\n".join(harness.event(f"id-{i}-{j}") for j in range(100)) for i in range(20)]
    for body in bodies:
        assert alloyd.post(body).json == {"accepted": 100, "duplicates": 0}
    alloyd.settled()
    alloyd.kill()
    alloyd.start()
    for body in bodies:
        assert alloyd.post(body).json == {"accepted": 0, "duplicates": 100}
    assert alloyd.drain() == 0
    alloyd.start()
    for body in bodies:
        assert alloyd.post(body).json == {"accepted": 0, "duplicates": 100}
    books = alloyd.settled()
    assert books["accepted"] == 0 and books["duplicate_l1"] == 2000
    assert clickhouse.count(table) == 2000
    assert re.search(r"known ids loaded.* ids=2000 .*complete=yes", alloyd.log())


def test_pending_events_are_known_again_and_not_doubled_without_redis(make_alloyd, own_clickhouse):
    sections = sections_for(None, own_clickhouse, "default.events", clickhouse={"retry_max": "300ms"})
    alloyd = make_alloyd(sections).start()
    own_clickhouse.kill()
    bodies = ["\n".join(harness.event(f"id-{i}-{j}") for j in range(100)) for i in range(50)]
    for body in bodies:
        assert alloyd.post(body).status == 202
    alloyd.kill()
    alloyd.start(ready=False)
    for body in bodies:
        assert alloyd.post(body).json == {"accepted": 0, "duplicates": 100}
    alloyd.kill()
    alloyd.start(ready=False)
    own_clickhouse.start()
    books = alloyd.settled()
    assert books["inserted"] == 5000
    assert_rows(own_clickhouse, 5000)


def test_without_its_files_l1_is_filled_from_the_journal_before_the_first_request(make_alloyd, own_clickhouse):
    sections = sections_for(None, own_clickhouse, "default.events", clickhouse={"retry_max": "300ms"})
    alloyd = make_alloyd(sections).start()
    journal = pathlib.Path(alloyd.sections["journal"]["dir"])
    own_clickhouse.kill()
    body = "\n".join(harness.event(f"id-{i}") for i in range(500))
    assert alloyd.post(body).status == 202
    alloyd.kill()
    assert [f.unlink() for f in journal.glob("l1-*")]
    alloyd.start(ready=False)
    harness.wait_until(lambda: b"starting" not in alloyd.admin("/readyz").body, "taking events")
    assert alloyd.post(body).json == {"accepted": 0, "duplicates": 500}
    assert "complete=no" in alloyd.log()
    own_clickhouse.start()
    alloyd.settled()
    assert own_clickhouse.count("default.events") == 500


def test_an_id_is_forgotten_when_its_ttl_ends_in_the_next_life(make_alloyd, clickhouse, table):
    alloyd = make_alloyd(sections_for(None, clickhouse, table, l1={"ttl": "2s"})).start()
    began = time.monotonic()
    assert alloyd.post(harness.event("a")).json["accepted"] == 1
    alloyd.settled()
    alloyd.kill()
    alloyd.start()
    harness.wait_until(lambda: alloyd.metrics()["alloy_l1_entries"] == 0, "forgotten")
    assert 1.9 < time.monotonic() - began
    assert alloyd.post(harness.event("a")).json["accepted"] == 1
    assert alloyd.post(harness.event("a")).json["duplicates"] == 1
    alloyd.settled()


def find_records(data):
    """Offsets of records with their lengths, body offsets and bodies, as docs/JOURNAL_FORMAT.md tells."""
    at, = struct.unpack_from("<I", data, 12)
    while data[at:at + 4] == b"ALR2":
        length, = struct.unpack_from("<I", data, at + 4)
        body, = struct.unpack_from("<I", data, at + 56)
        yield at, data[at + 72:at + 72 + body]
        at += length


def test_a_corrupt_record_costs_only_itself_and_is_told(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", server={"threads": 1},
                                      clickhouse={"retry_max": "300ms"})).start()
    own_clickhouse.kill()
    for i in range(10):
        assert alloyd.post("\n".join(harness.event(f"id-{i}-{j}") for j in range(50))).status == 202
    alloyd.kill()
    folder = pathlib.Path(alloyd.sections["journal"]["dir"])
    segment, offset = next((path, at) for path in sorted(folder.glob("segment-*.alj"))
                           for at, body in find_records(path.read_bytes()) if b'"id-4-20"' in body)
    with open(segment, "r+b") as f:
        f.seek(offset + 100)
        byte = f.read(1)
        f.seek(offset + 100)
        f.write(bytes([byte[0] ^ 8]))
    own_clickhouse.start()
    alloyd.start()
    number = int(segment.name[8:18])
    harness.wait_until(lambda: f"segment={number} offset={offset} " in alloyd.log(), alloyd.log)
    books = alloyd.settled()
    assert books["inserted"] == 499
    assert_rows(own_clickhouse, 499)
    assert own_clickhouse.count("default.events WHERE event_id = 'id-4-20'") == 0
    assert alloyd.metrics()["alloy_journal_corrupt_total"] == 1
    # Its bytes stay, somebody is told for as long as they do, and nobody says that the event is in ClickHouse.
    aside = segment.with_name(segment.name + ".corrupt")
    harness.wait_until(aside.exists, "set aside")
    for life in range(3):
        reason, = alloyd.admin("/readyz").json["reasons"]
        assert reason["key"] == "journal.corrupt" and not reason["blocking"]
        assert alloyd.post(harness.event("id-4-20"), "/v1/events?ack=clickhouse").status == 202
        assert alloyd.post(harness.event(f"new-{life}"), "/v1/events?ack=clickhouse").status == 200
        alloyd.drain()
        alloyd.start()
    alloyd.drain()
    aside.unlink()
    alloyd.start()
    assert alloyd.admin("/readyz").json["reasons"] == []


def test_a_segment_that_cannot_be_read_holds_its_inserts_back(make_alloyd, redis, own_clickhouse):
    """An insert that went out without some of its rows would take the token that these rows need later."""
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", server={"threads": 1},
                                      journal={"segment": "64KiB"}, clickhouse={"retry_max": "300ms"},
                                      drain={"timeout": "1s"})).start()
    harness.wait_until(lambda: "table looked at" in alloyd.log(), "the first look at the table")
    own_clickhouse.kill()
    # One insert, whose rows lie in several segments.
    assert alloyd.post("\n".join(harness.event(f"id-{i}") for i in range(2000))).status == 202
    folder = pathlib.Path(alloyd.sections["journal"]["dir"])
    harness.wait_until(lambda: alloyd.metrics()['alloy_clickhouse_errors_total{class="retry"}'] > 2, "tried")
    alloyd.kill()
    segment = sorted(folder.glob("segment-*.alj"))[1]
    hidden = segment.rename(folder / "hidden")
    segment.mkdir()
    own_clickhouse.start()
    alloyd.start()
    harness.wait_until(lambda: b"could not be read" in alloyd.admin("/readyz").body, "told")
    assert alloyd.post(harness.event("new")).status == 202
    alloyd.drain()
    segment.rmdir()
    hidden.rename(segment)
    alloyd.start()
    alloyd.settled()
    assert_rows(own_clickhouse, 2001)


def test_replay_serves_at_once_tells_progress_and_lets_new_traffic_through(make_alloyd, own_redis, own_clickhouse):
    sections = sections_for(own_redis, own_clickhouse, "default.events", ring={"capacity": 2000},
                            worker={"threads": 1, "batch": 500}, redis={"on_failure": "hold", "timeout": "300ms"},
                            clickhouse={"retry_max": "300ms"}, journal={"segment": "1MiB"})
    alloyd = make_alloyd(sections).start()
    own_clickhouse.kill()
    pending = 20000
    for i in range(pending // 500):
        body = "\n".join(harness.event(f"old-{i}-{j}") for j in range(500))
        harness.wait_until(lambda body=body: alloyd.post(body).status == 202, "202")
    alloyd.kill()
    # Held up by Redis, replay stands still: half of the ring has to be left to new events.
    own_redis.signal(signal.SIGSTOP)
    alloyd.start(ready=False)
    reasons = harness.wait_until(lambda: [r for r in json.loads(alloyd.admin("/readyz").body)["reasons"]
                                          if r["key"] == "replay" and "handed over" in r["text"]], "progress")
    assert reasons[0]["blocking"] is False
    handed, total = map(int, re.search(r"(\d+) of (\d+) events", reasons[0]["text"]).groups())
    # What the flusher had in inserts when it was killed goes to it at once; the rest has to wait.
    assert total == pending and handed < pending
    assert alloyd.books()["pending"] >= pending
    assert alloyd.post("\n".join(harness.event(f"new-{j}") for j in range(500))).status == 202
    harness.wait_until(lambda: 'msg="replaying" events=' in alloyd.log(), "progress in the log")
    own_redis.signal(signal.SIGCONT)
    own_clickhouse.start()
    harness.wait_until(lambda: b'"replay"' not in alloyd.admin("/readyz").body, "replay no longer named")
    assert "replay handed over" in alloyd.log()
    books = alloyd.settled()
    assert books["inserted"] == pending + 500
    assert_rows(own_clickhouse, pending + 500)


def test_a_drain_during_replay_keeps_the_rest(make_alloyd, own_redis, own_clickhouse):
    sections = sections_for(own_redis, own_clickhouse, "default.events", ring={"capacity": 1000},
                            worker={"threads": 1, "batch": 100}, redis={"on_failure": "hold", "timeout": "300ms"},
                            clickhouse={"retry_max": "300ms"}, drain={"timeout": "500ms"})
    alloyd = make_alloyd(sections).start()
    own_clickhouse.kill()
    for i in range(20):
        body = "\n".join(harness.event(f"id-{i}-{j}") for j in range(200))
        harness.wait_until(lambda body=body: alloyd.post(body).status == 202, "202")
    alloyd.kill()
    own_redis.signal(signal.SIGSTOP)
    alloyd.start(ready=False)
    assert alloyd.drain() == 0
    own_redis.signal(signal.SIGCONT)
    own_clickhouse.start()
    alloyd.start()
    alloyd.settled()
    assert_rows(own_clickhouse, 4000)


def test_a_full_disk_leaves_new_ids_in_memory_and_is_told(make_alloyd, clickhouse, table, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    harness.subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    try:
        alloyd = make_alloyd(sections_for(None, clickhouse, table, journal={"dir": disk / "journal", "segment": "1MiB"},
                                          l1={"capacity": 1600, "ttl": "1h"}, server={"threads": 1})).start()
        assert alloyd.post(harness.event("first")).status == 202
        filler = disk / "filler"
        with pytest.raises(OSError), open(filler, "wb", buffering=0) as f:
            while True:
                f.write(b"\0" * 4096)
        for i in range(8):
            assert alloyd.post("\n".join(harness.event(f"id-{i}-{j}") for j in range(100))).json["accepted"] == 100
        harness.wait_until(lambda: "file of known ids cannot be created" in alloyd.log(), "told")
        assert alloyd.post(harness.event("id-7-99")).json["duplicates"] == 1
        filler.unlink()
        alloyd.settled()
        alloyd.kill()
        alloyd.start()
        assert "complete=no" in alloyd.log()
        alloyd.finish()
    finally:
        harness.subprocess.run(["umount", "-l", disk], check=True)
