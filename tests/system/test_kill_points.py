# SPDX-License-Identifier: Apache-2.0
"""Kills alloyd at each step of an event's way in turn, not at random, and proves that nothing is lost
and nothing doubled. Needs the build with kill points (preset kill-points)."""

import pathlib
import re
import signal

import pytest

import harness
from conftest import sections_for

KILL_BUILD = harness.ROOT / "build" / "kill-points"
SOURCES = sorted((harness.ROOT / "src").rglob("*.c"))
POINTS = sorted({name for path in SOURCES for name in re.findall(r'KILL_POINT\("(\w+)"\)', path.read_text())})
# What it takes to come by: a duplicate that only Redis knows, a row that ClickHouse refuses, full segments.
NEEDS_FOREIGN_DUPLICATES = {"worker_duplicates"}
MOVES = [point for point in POINTS if point.startswith("move_")]


def test_every_step_of_the_pipeline_has_a_point():
    steps = ("admission_reserved", "admission_appended", "admission_synced", "admission_published", "answered",
             "claims_set", "insert_stamped", "insert_answered", "finish_half", "dead_letter_written", "segment_removed",
             "move_copied", "move_synced", "move_half", "move_marked", "move_done")
    assert not set(steps) - set(POINTS)


class Clients:
    """Posts requests of 20 events until the daemon dies; afterwards each one that was not answered is sent again."""

    def __init__(self, alloyd):
        self.alloyd = alloyd
        self.answered = set()
        self.unsure = []

    def body(self, ids):
        return "\n".join(harness.event(i, **({"ts": "no time"} if i.startswith("bad") else {})) for i in ids)

    def post_until_death(self, requests):
        for n in range(requests):
            ids = [f"id-{n}-{i}" for i in range(20)] + ([f"bad-{n}"] if n % 10 == 5 else [])
            self.unsure.append(ids)
            try:
                if self.alloyd.post(self.body(ids)).status == 202:
                    self.answered.update(ids)
                    self.unsure.pop()
            except (OSError, harness.http.client.HTTPException):
                if not self.alloyd.alive():
                    return

    def retry(self):
        for ids in filter(None, self.unsure + [sorted(self.answered)]):
            body = self.body(ids)
            harness.wait_until(lambda body=body: self.alloyd.post(body).status == 202, "202 on the retry")
            self.answered.update(ids)


@pytest.mark.parametrize("sync", ["interval", "always"])
@pytest.mark.parametrize("point", sorted(set(POINTS) - set(MOVES)))
def test_dies_at(make_alloyd, redis, clickhouse, table, point, sync):
    sections = sections_for(redis, clickhouse, table, worker={"linger": "5ms"}, clickhouse={"insert_linger": "5ms"},
                            journal={"sync": sync, "segment": "64KiB", "max_bytes": "16MiB"})
    alloyd = make_alloyd(sections)
    clients = Clients(alloyd)
    alloyd.build = KILL_BUILD
    if point in NEEDS_FOREIGN_DUPLICATES:
        for i in range(20):
            redis.command("SET", f"alloy:events:id-3-{i}", "x" * 15 + "\0")
    # The third time: the first one is also met by a daemon that has done nothing yet.
    times = 1 if point in NEEDS_FOREIGN_DUPLICATES else 3
    alloyd.start(env={"ALLOY_KILL_POINT": f"{point}:{times}"})
    clients.post_until_death(200)
    harness.wait_until(lambda: not alloyd.alive(), lambda: f"death at {point}\n{alloyd.log()[-2000:]}")
    assert alloyd.popen.returncode == -signal.SIGKILL, alloyd.log()[-3000:]
    if point in NEEDS_FOREIGN_DUPLICATES:
        for i in range(20):
            redis.command("DEL", f"alloy:events:id-3-{i}")

    alloyd.start()
    clients.retry()
    alloyd.settled()
    rows = [row[0] for row in clickhouse.rows(f"SELECT event_id FROM {table}")]
    good = {i for i in clients.answered if not i.startswith("bad")}
    lost_to_others = {f"id-3-{i}" for i in range(20)} if point in NEEDS_FOREIGN_DUPLICATES else set()
    assert len(rows) == len(set(rows)), "doubled"
    assert not good - set(rows) - lost_to_others, "lost"
    letters = [harness.json.loads(line) for path in pathlib.Path(alloyd.sections["dead_letter"]["dir"]).glob("*.ndjson")
               for line in path.read_text().splitlines()]
    assert {line["event"]["event_id"] for line in letters} == {i for i in clients.answered if i.startswith("bad")}
    # By record: the id of a refused event is free, and the retry of all requests has it refused again.
    assert len({line["lsn"] for line in letters}) == len(letters), "dead-lettered twice"


@pytest.mark.parametrize("sync", ["never", "always"])
@pytest.mark.parametrize("point", MOVES)
def test_dies_while_records_move(make_alloyd, redis, clickhouse, table, point, sync):
    """Events of a stream without table keep segments until they are moved; its table comes in the second life."""
    late = f"{table}_late"
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, worker={"linger": "5ms"}, clickhouse={"retry_max": "300ms"},
                                      stream__late={"path": "/v1/late", "table": late, "id": "event_id"},
                                      journal={"sync": sync, "segment": "64KiB", "max_bytes": "1MiB"}))
    alloyd.build = KILL_BUILD
    alloyd.start(env={"ALLOY_KILL_POINT": f"{point}:3"})
    posted, unsure = set(), []

    def post(event_id, path, n):
        ids = [f"{event_id}-{i}" for i in range(n)]
        unsure.append((path, ids))
        if alloyd.post("\n".join(map(harness.event, ids)), path).status == 202:
            posted.update((path, i) for i in ids)
            unsure.pop()

    try:
        for n in range(3000):
            post(f"busy-{n}", "/v1/events", 20)
            post(f"late-{n}", "/v1/late", 1)
    except (OSError, harness.http.client.HTTPException):
        pass
    harness.wait_until(lambda: not alloyd.alive(), lambda: f"death at {point}\n{alloyd.log()[-2000:]}")
    assert alloyd.popen.returncode == -signal.SIGKILL, alloyd.log()[-3000:]

    clickhouse.create_events(late)
    alloyd.start()
    for path, ids in unsure:
        body = "\n".join(map(harness.event, ids))
        harness.wait_until(lambda path=path, body=body: alloyd.post(body, path).status == 202, "202 on the retry")
        posted.update((path, i) for i in ids)
    for stream, path, name in (("events", "/v1/events", table), ("late", "/v1/late", late)):
        alloyd.settled(stream)
        rows = [row[0] for row in clickhouse.rows(f"SELECT event_id FROM {name}")]
        assert len(rows) == len(set(rows)), "doubled"
        assert set(rows) == {i for p, i in posted if p == path}, "lost"
