# SPDX-License-Identifier: Apache-2.0
"""alloyctl dead-letter replay waits for ClickHouse's verdict, and keeps the folder true."""

import json

import pytest

import harness
from conftest import sections_for
from test_dead_letter import Door, alloyctl, folder, letter_ids, letters, write_letters


def make_strict(clickhouse, table):
    """A table that takes no n below 10."""
    clickhouse.query(f"DROP TABLE IF EXISTS {table} SYNC")
    clickhouse.query(f"CREATE TABLE {table} (event_id String, n Int64, CONSTRAINT big CHECK n >= 10) ENGINE = MergeTree "
                     "ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100")
    return table


@pytest.fixture
def strict(clickhouse, table):
    return make_strict(clickhouse, table)


def event(event_id, n):
    return json.dumps({"event_id": event_id, "n": n})


def refused(alloyd, events):
    """Posts events, which are all refused, and waits until they are dead letters whose ids are free."""
    before = alloyd.books()["dead_lettered"]
    assert alloyd.post("\n".join(events)).status == 202
    assert alloyd.settled()["dead_lettered"] == before + len(events)


def replay(alloyd, *words, status=0, dir=None):
    done = alloyctl("dead-letter", "replay", "--url", f"http://127.0.0.1:{alloyd.port}", "--json", *words,
                    dir or folder(alloyd), status=status)
    return json.loads(done.stdout), done.stderr


def names(alloyd):
    return sorted(path.name.partition(".")[2] for path in folder(alloyd).iterdir() if ".ndjson" in path.name)


def test_each_letter_goes_where_its_verdict_says(make_alloyd, redis, clickhouse, strict):
    alloyd = make_alloyd(sections_for(redis, clickhouse, strict)).start()
    refused(alloyd, [event("a", 1), event("b", 5), event("c", 2), event("d", 6)])
    clickhouse.query(f"ALTER TABLE {strict} DROP CONSTRAINT big")
    clickhouse.query(f"ALTER TABLE {strict} ADD CONSTRAINT big CHECK n >= 5")
    told, text = replay(alloyd, status=1)
    assert (told["posted"], told["accepted"], told["duplicates"]) == (4, 4, 0)
    assert (told["inserted"], told["refused"], told["unknown"], told["ok"]) == (2, 2, 0, False)
    assert [(r["line"], r["by"]) for r in told["refusals"]] == [(1, "clickhouse"), (3, "clickhouse")]
    assert all(r["code"] == 469 and "Constraint" in r["message"] for r in told["refusals"])
    assert "4 events posted, 4 accepted, 0 duplicates: 2 inserted, 2 refused again" in text
    assert sorted(clickhouse.rows(f"SELECT event_id FROM {strict}")) == [["b"], ["d"]]
    assert names(alloyd) == ["ndjson", "ndjson.renewed", "ndjson.replayed"]
    assert [x["event"]["event_id"] for x in letters(alloyd, "*.replayed")] == ["b", "d"]
    assert [x["event"]["event_id"] for x in letters(alloyd, "*.renewed")] == ["a", "c"]
    shown = json.loads(alloyctl("dead-letter", "show", "--json", folder(alloyd)).stdout)["letters"]
    assert sorted(x["event"]["event_id"] for x in shown) == ["a", "c"]
    listed = json.loads(alloyctl("dead-letter", "list", "--json", folder(alloyd)).stdout)
    assert sorted(f["state"] for f in listed["files"]) == ["renewed", "replayed", "waiting"]
    assert sum(s["events"] for s in listed["not_replayed"]) == 2
    # Again, with a table that takes the rest: only that is posted.
    clickhouse.query(f"ALTER TABLE {strict} DROP CONSTRAINT big")
    told, _ = replay(alloyd)
    assert (told["posted"], told["inserted"], told["ok"]) == (2, 2, True)
    assert clickhouse.count(strict) == 4


@pytest.mark.parametrize("elsewhere", [False, True])
def test_more_refusals_than_an_answer_lists(make_alloyd, redis, clickhouse, strict, elsewhere, tmp_path):
    alloyd = make_alloyd(sections_for(redis, clickhouse, strict)).start()
    count = 150
    # A table that takes nothing at all would be blamed itself.
    assert alloyd.post(event("good", 10)).status == 202
    alloyd.settled()
    refused(alloyd, [event(f"e{i}", i % 3) for i in range(count)])
    clickhouse.query(f"ALTER TABLE {strict} DROP CONSTRAINT big")
    clickhouse.query(f"ALTER TABLE {strict} ADD CONSTRAINT big CHECK n >= 2")
    where = tmp_path / "moved" if elsewhere else folder(alloyd)
    if elsewhere:
        folder(alloyd).rename(where)
        folder(alloyd).mkdir()
    told, _ = replay(alloyd, status=1, dir=where)
    assert alloyd.settled()["inserted"] == 51 and clickhouse.count(strict) == 51
    assert told["posted"] == count
    # No event was refused more than once, however often we had to ask.
    assert len(letters(alloyd, "*.ndjson")) == 100
    if elsewhere:
        # Beyond those listed nobody can tell here: the next replay learns it.
        assert told["refused"] == 64 and told["unknown"] == count - 64
        clickhouse.query(f"ALTER TABLE {strict} DROP CONSTRAINT big")
        replay(alloyd, dir=where)
        assert clickhouse.count(strict) == count + 1
        return
    assert (told["refused"], told["inserted"], told["unknown"]) == (100, 50, 0)
    assert names(alloyd) == ["ndjson", "ndjson.renewed", "ndjson.replayed"]


def test_without_a_verdict_a_letter_waits_and_the_next_replay_learns_it(make_alloyd, redis, own_clickhouse):
    strict = make_strict(own_clickhouse, "default.strict")
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, strict, clickhouse={"retry_max": "300ms"})).start()
    refused(alloyd, [event("x", 1), event("y", 2)])
    own_clickhouse.query(f"ALTER TABLE {strict} DROP CONSTRAINT big")
    own_clickhouse.kill()
    told, text = replay(alloyd, "--wait", "1", status=1)
    assert (told["accepted"], told["inserted"], told["unknown"]) == (2, 0, 2)
    assert "2 without a verdict yet" in text and "Replay again later" in text
    assert names(alloyd) == ["ndjson"]
    own_clickhouse.start()
    told, _ = replay(alloyd)
    assert (told["accepted"], told["duplicates"], told["unknown"]) == (0, 2, 0)
    assert names(alloyd) == ["ndjson.replayed"]
    assert own_clickhouse.count(strict) == 2


def test_a_corrected_copy_makes_its_originals_done(make_alloyd, redis, clickhouse, strict, tmp_path):
    alloyd = make_alloyd(sections_for(redis, clickhouse, strict)).start()
    refused(alloyd, [event("a", 1), event("b", 2), event("c", 3), event("d", 4)])
    lines = alloyctl("dead-letter", "show", "--raw", folder(alloyd)).stdout.splitlines()
    copy = tmp_path / "fixed.ndjson"
    # The first is right now, and has lost its id; the second is still wrong; the others are left alone.
    copy.write_text(lines[0].replace('"n": 1', '"n": 10').replace('"event_id": "a"', '"event_id": "other"') + "\n"
                    + lines[1].replace('"n": 2', '"n": 3') + "\n")
    told, text = replay(alloyd, "--corrected", copy, status=1)
    assert (told["posted"], told["inserted"], told["refused"], told["corrected"]) == (2, 1, 1, 1)
    assert "1 original letter is done" in text and copy.exists()
    assert clickhouse.rows(f"SELECT event_id, n FROM {strict}") == [["other", 10]]
    assert [x["event"]["event_id"] for x in letters(alloyd, "*.replayed")] == ["a"]
    # The corrected event that was refused is a letter too.
    assert sorted((x["event"]["event_id"], x["event"]["n"]) for x in letters(alloyd, "*.ndjson")) == [
        ("b", 2), ("b", 3), ("c", 3), ("d", 4)]
    # To post the same copy again does no harm.
    told, _ = replay(alloyd, "--corrected", copy, status=1)
    assert (told["duplicates"], told["inserted"], told["corrected"]) == (1, 0, 0)
    assert clickhouse.count(strict) == 1


def test_a_copy_in_the_folder_itself_comes_before_its_original(make_alloyd, redis, clickhouse, strict):
    alloyd = make_alloyd(sections_for(redis, clickhouse, strict)).start()
    refused(alloyd, [event("a", 1), event("b", 2)])
    lines = alloyctl("dead-letter", "show", "--raw", folder(alloyd)).stdout.splitlines()
    (folder(alloyd) / "zz-fixed.ndjson").write_text("\n".join(lines).replace('"n": ', '"n": 1') + "\n")
    told, _ = replay(alloyd)
    assert (told["posted"], told["inserted"], told["corrected"], told["ok"]) == (2, 2, 2, True)
    assert names(alloyd) == ["ndjson.replayed"] * 2
    assert letter_ids(alloyd) == ["a", "a", "b", "b"]
    assert sorted(clickhouse.rows(f"SELECT event_id, n FROM {strict}")) == [["a", 11], ["b", 12]]


def test_a_letter_whose_id_was_inserted_meanwhile_is_done(make_alloyd, redis, clickhouse, strict):
    alloyd = make_alloyd(sections_for(redis, clickhouse, strict)).start()
    refused(alloyd, [event("a", 1)])
    assert alloyd.post(event("a", 100)).json["accepted"] == 1
    alloyd.settled()
    told, _ = replay(alloyd)
    assert (told["duplicates"], told["inserted"]) == (1, 0)
    assert names(alloyd) == ["ndjson.replayed"] and clickhouse.count(strict) == 1


def test_of_two_letters_with_one_id_the_good_one_gets_in(make_alloyd, redis, clickhouse, strict):
    alloyd = make_alloyd(sections_for(redis, clickhouse, strict)).start()
    refused(alloyd, [event("a", 1)])
    refused(alloyd, [event("a", 5)])
    clickhouse.query(f"ALTER TABLE {strict} DROP CONSTRAINT big")
    clickhouse.query(f"ALTER TABLE {strict} ADD CONSTRAINT big CHECK n >= 5")
    told, _ = replay(alloyd, status=1)
    assert (told["posted"], told["inserted"], told["refused"]) == (2, 1, 1)
    assert clickhouse.rows(f"SELECT event_id, n FROM {strict}") == [["a", 5]]
    assert [x["event"]["n"] for x in letters(alloyd, "*.replayed")] == [5]


def test_a_door_that_never_knows_is_not_asked_for_ever(tmp_path):
    name = tmp_path / "events-20260131T120000Z-1.ndjson"
    write_letters(name, 200)
    before = name.read_text()
    with Door([202] * 5000) as door:
        done = alloyctl("dead-letter", "replay", "--url", door.url, "--json", tmp_path, status=1)
        assert len(door.answers) > 4900
    assert json.loads(done.stdout)["unknown"] == 200
    assert [p.name for p in tmp_path.iterdir()] == [name.name] and name.read_text() == before
