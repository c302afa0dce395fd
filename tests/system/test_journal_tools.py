# SPDX-License-Identifier: Apache-2.0
"""alloyctl journal export, drop and adopt: what becomes of events that no alloyd will send by itself."""

import json
import shutil
import signal
import subprocess

import pytest

import harness
from conftest import sections_for
from test_dead_letter import alloyctl


def journal(alloyd):
    return alloyd.sections["journal"]["dir"]


def live(folder):
    return json.loads(alloyctl("journal", "inspect", folder, "--json").stdout)["live"]


def exported(folder, *words):
    return [json.loads(line) for line in alloyctl("journal", "export", folder, *words).stdout.splitlines()]


def dead(make_alloyd, redis, table, events, **more):
    """The journal of an alloyd that took events, could not reach ClickHouse, and was killed."""
    sections = sections_for(redis, None, table, drain={"timeout": "1s"}, **more)
    sections["clickhouse"] = {"url": f"http://127.0.0.1:{harness.free_port()}"}
    alloyd = make_alloyd(sections).start(ready=False)
    for path, body in events:
        assert alloyd.post(body, path).status == 202
    return alloyd


def test_export_prints_each_pending_event_once_beside_a_running_alloyd(make_alloyd, redis):
    alloyd = dead(make_alloyd, redis, "default.t", [
        ("/v1/events", '{"event_id":"a",\n "n": 1.50}\n{"event_id":"b","big":123456789012345678901234567890}'),
        ("/v1/other", '{"event_id":"c"}')], stream__other={"path": "/v1/other", "table": "default.t", "id": "event_id"})
    done = alloyctl("journal", "export", journal(alloyd))
    assert done.stdout.splitlines() == ['{"event_id":"a",  "n": 1.50}', '{"event_id":"b","big":123456789012345678901234567890}',
                                        '{"event_id":"c"}'] or len(done.stdout.splitlines()) == 3
    assert '"n": 1.50' in done.stdout and "123456789012345678901234567890" in done.stdout
    assert "3 events exported" in done.stderr
    assert [e["event_id"] for e in exported(journal(alloyd), "--stream", "other")] == ["c"]
    assert exported(journal(alloyd), "--stream", "nobody") == []
    letters = exported(journal(alloyd), "--letters")
    assert {(x["stream"], x["event"]["event_id"]) for x in letters} == {("events", "a"), ("events", "b"), ("other", "c")}
    assert len({x["lsn"] for x in letters}) == 3
    alloyd.kill()
    assert len(exported(journal(alloyd))) == 3, "and beside a dead one"


def test_columns_of_the_request_are_not_exported(make_alloyd, redis):
    alloyd = dead(make_alloyd, redis, "default.t", [("/v1/events", '{"event_id":"a"}')],
                  stream__events={"column.at": "received_at", "column.ip": "client_address"})
    assert alloyctl("journal", "export", journal(alloyd)).stdout == '{"event_id":"a"}\n'


def test_moved_records_are_exported_once(make_alloyd, redis):
    """Copies of records stand beside their originals; the records that are pending are what counts."""
    alloyd = dead(make_alloyd, redis, "default.t", [], journal={"segment": "64KiB", "max_bytes": "1MiB"})
    posted = 0
    while alloyd.post("\n".join(harness.event(f"e{posted}-{i}", pad="x" * 300) for i in range(20))).status == 202:
        posted += 1
    ids = {f"e{p}-{i}" for p in range(posted) for i in range(20)}
    found = [e["event_id"] for e in exported(journal(alloyd))]
    assert set(found) == ids and len(found) == len(ids)


def test_drop_counts_first_and_needs_yes_and_the_lock(make_alloyd, redis):
    other = {"path": "/v1/other", "table": "default.t", "id": "event_id"}
    alloyd = dead(make_alloyd, redis, "default.t", [("/v1/events", '{"event_id":"a"}'),
                  ("/v1/other", '{"event_id":"b"}{"event_id":"c"}')], stream__other=other)
    folder = journal(alloyd)
    done = alloyctl("journal", "drop", folder, "--stream", "other", "--yes", status=1)
    assert f"in use by another alloyd (pid {alloyd.pid})" in done.stderr and "nothing was dropped" in done.stderr
    assert live(folder) == 3
    alloyd.kill()
    done = alloyctl("journal", "drop", folder, "--stream", "other", status=2)
    assert "stream other: 2 events (" in done.stdout and "the oldest since 20" in done.stdout
    assert "--yes" in done.stderr and live(folder) == 3
    assert "which stream?" in alloyctl("journal", "drop", folder, status=2).stderr
    done = alloyctl("journal", "drop", folder, "--stream", "othr", "--yes")
    assert "stream othr: no events wait" in done.stdout and "other" in done.stdout and "events" in done.stdout
    done = alloyctl("journal", "drop", folder, "--stream", "other", "--yes", "--json")
    assert json.loads(done.stdout)["dropped"] == 2
    assert [e["event_id"] for e in exported(folder)] == ["a"]
    assert "no events wait" in alloyctl("journal", "drop", folder, "--stream", "other", "--yes").stdout
    assert "/nowhere" in alloyctl("journal", "drop", "/nowhere", "--stream", "a", "--yes", status=1).stderr


def test_what_was_dropped_does_not_come_back_and_the_rest_goes_in(make_alloyd, redis, clickhouse, table):
    other = {"path": "/v1/other", "table": "default.nothing", "id": "event_id"}
    first = dead(make_alloyd, redis, table, [("/v1/events", harness.event("a")), ("/v1/other", harness.event("b"))],
                 stream__other=other)
    first.kill()
    alloyctl("journal", "drop", journal(first), "--stream", "other", "--yes")
    second = make_alloyd(sections_for(redis, clickhouse, table, journal={"dir": journal(first)})).start()
    second.settled()
    assert clickhouse.rows(f"SELECT event_id FROM {table}") == [["a"]]
    assert "unknown_stream" not in second.admin("/readyz").body.decode()


def adopt(alloyd, folder, *words, status=0):
    done = alloyctl("journal", "adopt", folder, "--config", alloyd.ini, "--json", *words, status=status)
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("with_redis", [True, False])
def test_adopt_brings_each_event_in_once_beside_a_running_alloyd(make_alloyd, redis, clickhouse, table, with_redis):
    redis = redis if with_redis else None
    orphan = dead(make_alloyd, redis, table, [("/v1/events", "\n".join(harness.event(f"o{i}") for i in range(500)))])
    orphan.kill()
    alive = make_alloyd(sections_for(redis, clickhouse, table)).start()
    assert alive.post("\n".join(harness.event(f"n{i}") for i in range(50))).status == 202
    if with_redis:
        # The dead one's ids are its own: the living one must leave them alone, and now they come again.
        assert alive.post(harness.event("o7")).status == 202
    told, text = adopt(alive, journal(orphan))
    alive.settled()
    assert told["ok"] and told["left"] == 0 and 'msg="adopting" folder=' in text
    assert [(s["events"], s["inserted"] + s["duplicates"]) for s in told["streams"]] == [(500, 500)]
    assert clickhouse.count(table) == 550 == clickhouse.count(table, "uniqExact(event_id)")
    assert live(journal(orphan)) == 0 and exported(journal(orphan)) == []
    # Again: nothing is there, and that is no failure.
    told, _ = adopt(alive, journal(orphan))
    assert told["ok"] and sum(s["events"] for s in told["streams"]) == 0
    assert clickhouse.count(table) == 550
    assert alive.alive()


def test_claims_of_the_dead_one_are_the_adopted_ones(make_alloyd, redis, own_clickhouse, table):
    """Killed in the middle of inserts: claims are in Redis and tokens may be in ClickHouse."""
    name = "default.events"
    sections = sections_for(redis, own_clickhouse, name, worker={"batch": "50"})
    orphan = make_alloyd(sections).start()
    ids = 0
    for _ in range(40):
        assert orphan.post("\n".join(harness.event(f"o{ids + i}") for i in range(100))).status == 202
        ids += 100
    orphan.kill()
    assert live(journal(orphan)) > 0
    assert len(redis.command("KEYS", "alloy:events:?*")) > 0
    alive = make_alloyd(sections_for(redis, own_clickhouse, name)).start()
    told, _ = adopt(alive, journal(orphan))
    assert told["ok"] and sum(s["duplicates"] for s in told["streams"]) == 0
    assert own_clickhouse.count(name) == ids == own_clickhouse.count(name, "uniqExact(event_id)")


def test_adopt_refuses_a_folder_in_use_and_what_is_no_journal(make_alloyd, redis, clickhouse, table, tmp_path):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    done = alloyctl("journal", "adopt", journal(alloyd), "--config", alloyd.ini, status=1)
    assert "in use by another alloyd" in done.stderr
    done = alloyctl("journal", "adopt", tmp_path / "nothing", "--config", alloyd.ini, status=1)
    assert "is not the folder of a journal" in done.stderr and not (tmp_path / "nothing").exists()
    done = alloyctl("journal", "adopt", tmp_path, "--config", tmp_path / "none.ini", status=1)
    assert alloyd.alive() and alloyd.readyz()


def test_adopt_can_be_stopped_and_repeated_and_leaves_streams_that_are_not_configured(make_alloyd, redis, own_clickhouse):
    name = "default.events"
    orphan = dead(make_alloyd, redis, name, [("/v1/events", "\n".join(harness.event(f"o{i}") for i in range(100))),
                  ("/v1/gone", harness.event("g"))], stream__gone={"path": "/v1/gone", "table": name, "id": "event_id"})
    orphan.kill()
    alive = make_alloyd(sections_for(redis, own_clickhouse, name, clickhouse={"retry_max": "300ms"})).start()
    own_clickhouse.kill()
    child = subprocess.Popen([harness.BUILD / "alloyctl", "journal", "adopt", journal(orphan), "--config", alive.ini, "--json"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert any('msg="adopting" folder=' in line for line in iter(child.stderr.readline, ""))
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=harness.DEADLINE)
    told = json.loads(out)
    assert child.returncode == 1 and (told["left"] == 101 or not told["read"])
    own_clickhouse.start()
    told, _ = adopt(alive, journal(orphan), status=1)
    assert (told["left"], told["unknown_stream"], told["ok"]) == (1, 1, False)
    assert own_clickhouse.count(name) == 100
    done = alloyctl("journal", "adopt", journal(orphan), "--config", alive.ini, status=1)
    assert "1 event wait" in done.stdout and "1 event is left" in done.stdout
    assert [e["event_id"] for e in exported(journal(orphan))] == ["g"]


def test_adopt_that_has_not_read_all_does_not_say_that_nothing_is_left(make_alloyd, redis, clickhouse, table, tmp_path):
    """Whoever believes it removes the folder."""
    orphan = dead(make_alloyd, redis, table, [("/v1/events", harness.event("o1"))], server={"threads": 1})
    orphan.kill()
    alive = make_alloyd(sections_for(redis, clickhouse, table)).start()
    segment, = (path for path in journal(orphan).glob("*.alj") if b"ALR2" in path.read_bytes())
    # Stopped while it reads: each thread's first look at the segment takes three seconds.
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\nexec strace -D -f -qq -o {tmp_path}/trace -P {segment.name} -e trace=openat "
                    f'-e inject=openat:delay_enter=3s:when=1 {harness.BUILD}/alloyd "$@"\n')
    slow.chmod(0o755)
    child = subprocess.Popen([harness.BUILD / "alloyctl", "journal", "adopt", journal(orphan), "--config", alive.ini, "--alloyd", slow],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert any('msg="adopting" folder=' in line for line in iter(child.stderr.readline, ""))
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=harness.DEADLINE)
    assert child.returncode == 1 and "there may be more events" in out and "nothing is left" not in out, out
    # One that cannot be read, this time.
    segment.rename(tmp_path / "segment")
    segment.mkdir()
    told, text = adopt(alive, journal(orphan), status=1)
    assert (told["ok"], told["read"], told["left"]) == (False, False, 0) and "segment cannot be read" in text
    orphan.start(ready=False)  # an alloyd that drains says as little that all is done
    assert orphan.drain() == 0 and "not all of the journal" in orphan.log() and "clean=yes" not in orphan.log()
    segment.rmdir()
    (tmp_path / "segment").rename(segment)
    # One that is damaged: it is set aside, and told each time.
    header = segment.read_bytes()[:10]
    with open(segment, "r+b") as f:
        f.write(b"no segment")
    for _ in range(2):
        told, _ = adopt(alive, journal(orphan), status=1)
        assert (told["ok"], told["read"], told["damaged"], told["left"]) == (False, True, 1, 0)
    out = alloyctl("journal", "adopt", journal(orphan), "--config", alive.ini, status=1).stdout
    assert "1 damaged segment" in out and "nothing is left" not in out
    aside = segment.with_name(segment.name + ".corrupt")
    aside.rename(segment)
    with open(segment, "r+b") as f:
        f.write(header)
    told, _ = adopt(alive, journal(orphan))
    assert told["ok"] and clickhouse.count(table) == 1


def test_adopt_killed_at_any_time_doubles_and_loses_nothing(make_alloyd, redis, own_clickhouse):
    name = "default.events"
    count = 30000
    orphan = dead(make_alloyd, redis, name, [
        ("/v1/events", "\n".join(harness.event(f"o{part}-{i}") for i in range(5000))) for part in range(count // 5000)])
    orphan.kill()
    alive = make_alloyd(sections_for(redis, own_clickhouse, name, worker={"batch": "500"})).start()
    for wanted in (1, count // 3, 2 * count // 3):
        child = subprocess.Popen([harness.BUILD / "alloyd", "--config", alive.ini, "--adopt", journal(orphan)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_until(lambda: own_clickhouse.count(name) >= wanted or child.poll() is not None, "rows", interval=0.001)
        child.kill()
        child.wait()
    told, _ = adopt(alive, journal(orphan))
    assert told["ok"]
    assert own_clickhouse.count(name) == count == own_clickhouse.count(name, "uniqExact(event_id)")


def test_adopt_takes_letters_of_the_dead_machine_into_account(make_alloyd, redis, clickhouse, table):
    """A refused event whose letter was written before its record was finished must not be sent again."""
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    assert alloyd.post(harness.event("bad", ts="no time") + harness.event("good")).status == 202
    books = alloyd.settled()
    assert books["dead_lettered"] == 1
    alloyd.kill()
    other = make_alloyd(sections_for(redis, clickhouse, table)).start()
    moved = journal(other).parent / "orphan"
    shutil.move(journal(alloyd), moved)
    told, _ = adopt(other, moved)
    assert told["ok"] and clickhouse.count(table) == 1
