# SPDX-License-Identifier: Apache-2.0
"""Refused events: dead-lettered once, their ids forgotten, the folder's cap, and alloyctl."""

import hashlib
import fcntl
import http.server
import json
import pathlib
import re
import shutil
import signal
import subprocess
import threading

import pytest

import harness
from conftest import sections_for

BAD_TS = "yesterday, more or less"


def bad(event_id):
    return harness.event(event_id, ts=BAD_TS)


def folder(alloyd):
    return alloyd.sections["dead_letter"]["dir"]


def letters(alloyd, pattern="*.ndjson*"):
    """All lines of the folder, parsed; a torn last line is left out."""
    lines = []
    for path in sorted(folder(alloyd).glob(pattern)):
        text = path.read_text()
        lines += [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
    return lines


def letter_ids(alloyd):
    return sorted(letter["event"]["event_id"] for letter in letters(alloyd))


def alloyctl(*words, status=0):
    done = subprocess.run([harness.BUILD / "alloyctl", *map(str, words)], capture_output=True, text=True, timeout=120)
    assert status in (None, done.returncode), f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("with_redis", [True, False])
def test_a_corrected_event_is_new(make_alloyd, redis, clickhouse, table, with_redis):
    alloyd = make_alloyd(sections_for(redis if with_redis else None, clickhouse, table)).start()
    assert alloyd.post("\n".join([harness.event("good"), bad("x"), bad("y"), bad("z")])).json["accepted"] == 4
    books = alloyd.settled()
    assert (books["inserted"], books["dead_lettered"]) == (1, 3)
    if with_redis:
        assert redis.command("KEYS", "alloy:events:?*") == [b"alloy:events:good"]
    assert alloyd.post(harness.event("x")).json == {"accepted": 1, "duplicates": 0}
    assert alloyd.settled()["inserted"] == 2
    # The good one is still known, and the corrected one by now.
    assert alloyd.post(harness.event("good") + "\n" + harness.event("x")).json == {"accepted": 0, "duplicates": 2}
    # What was dead-lettered does not come back with a restart, of either kind.
    alloyd.kill()
    alloyd.start()
    assert alloyd.post(harness.event("y")).json == {"accepted": 1, "duplicates": 0}
    alloyd.settled()
    assert alloyd.drain() == 0
    alloyd.start()
    assert alloyd.post(harness.event("z")).json == {"accepted": 1, "duplicates": 0}
    alloyd.settled()
    assert sorted(r[0] for r in clickhouse.rows(f"SELECT event_id FROM {table}")) == ["good", "x", "y", "z"]
    assert letter_ids(alloyd) == ["x", "y", "z"]


def bury_without_redis(alloyd, redis, clickhouse, event_id):
    """Leaves a record LIVE whose line is written and whose claim Redis holds: Redis is stopped."""
    clickhouse.kill()
    assert alloyd.post(bad(event_id)).json["accepted"] == 1
    harness.wait_until(lambda: redis.command("KEYS", "alloy:events:?*") == [b"alloy:events:" + event_id.encode()], "the claim")
    redis.signal(signal.SIGSTOP)
    clickhouse.start()
    harness.wait_until(lambda: letter_ids(alloyd) == [event_id], "the line")
    assert alloyd.metrics()["alloy_dead_letter_releasing"] == 1


def test_redis_away_keeps_the_record_until_its_claim_is_released(make_alloyd, own_redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(own_redis, own_clickhouse, "default.events", redis={"timeout": "100ms"},
                                      clickhouse={"retry_max": "300ms"})).start()
    bury_without_redis(alloyd, own_redis, own_clickhouse, "x")
    books = alloyd.books()
    assert (books["pending"], books["dead_lettered"]) == (1, 0)
    harness.assert_balanced(books)
    # Not forgotten yet, and so not taken for new, where it would be lost as a duplicate of itself.
    assert alloyd.post(harness.event("x")).json == {"accepted": 0, "duplicates": 1}
    own_redis.signal(signal.SIGCONT)
    books = alloyd.settled()
    assert books["dead_lettered"] == 1
    assert own_redis.command("KEYS", "alloy:events:?*") == []
    assert alloyd.post(harness.event("x")).json == {"accepted": 1, "duplicates": 0}
    alloyd.settled()
    assert own_clickhouse.count("default.events") == 1


def test_a_claim_that_runs_out_needs_no_redis(make_alloyd, own_redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(own_redis, own_clickhouse, "default.events",
                                      redis={"timeout": "100ms", "ttl": "5s"},
                                      clickhouse={"retry_max": "300ms"})).start()
    bury_without_redis(alloyd, own_redis, own_clickhouse, "x")
    assert alloyd.settled()["dead_lettered"] == 1
    own_redis.signal(signal.SIGCONT)


@pytest.mark.parametrize("end", ["kill", "drain"])
def test_an_end_between_line_and_mark_gives_one_line_and_a_free_id(make_alloyd, own_redis, own_clickhouse, end):
    alloyd = make_alloyd(sections_for(own_redis, own_clickhouse, "default.events",
                                      redis={"timeout": "100ms"}, drain={"timeout": "300ms"},
                                      clickhouse={"retry_max": "300ms"})).start()
    bury_without_redis(alloyd, own_redis, own_clickhouse, "x")
    if end == "kill":
        alloyd.kill()
    else:
        assert alloyd.drain() == 0
        assert "events_left=1" in alloyd.log()
    # While its id is held it is not sent again and not lettered again.
    alloyd.start()
    harness.wait_until(lambda: "dead_lettered=1" in alloyd.log(), "the record recognized")
    assert alloyd.books()["pending"] == 1 == alloyd.metrics()["alloy_dead_letter_releasing"]
    assert alloyd.post(harness.event("x")).json == {"accepted": 0, "duplicates": 1}
    own_redis.signal(signal.SIGCONT)
    books = alloyd.settled()
    assert (books["accepted"], books["dead_lettered"]) == (1, 1)
    assert letter_ids(alloyd) == ["x"]
    assert alloyd.post(harness.event("x")).json == {"accepted": 1, "duplicates": 0}
    alloyd.settled()
    assert own_clickhouse.count("default.events") == 1


@pytest.mark.parametrize("with_redis", [True, False])
@pytest.mark.parametrize("point", ["dead_letter_written", "release_claim_gone", "release_id_gone"])
def test_a_death_at_each_step_of_a_release_gives_one_line_and_a_free_id(make_alloyd, redis, clickhouse, table, point,
                                                                       with_redis):
    alloyd = make_alloyd(sections_for(redis if with_redis else None, clickhouse, table))
    alloyd.build = harness.ROOT / "build" / "kill-points"
    alloyd.start(env={"ALLOY_KILL_POINT": f"{point}:1"})
    assert alloyd.post("\n".join([harness.event("a"), bad("x"), harness.event("b")])).json["accepted"] == 3
    harness.wait_until(lambda: not alloyd.alive(), "its death")
    alloyd.start()
    books = alloyd.settled()
    assert books["dead_lettered"] == 1 and letter_ids(alloyd) == ["x"]
    assert alloyd.post(harness.event("x")).json == {"accepted": 1, "duplicates": 0}
    alloyd.settled()
    assert sorted(r[0] for r in clickhouse.rows(f"SELECT event_id FROM {table}")) == ["a", "b", "x"]


def test_kill_9_under_a_load_of_bad_rows_letters_each_once(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    answered = {}
    for round_number in range(4):
        stop = threading.Event()

        def client(c, r=round_number, stop=stop):
            connection = alloyd.client()
            n = 0
            while not stop.is_set():
                ids = [f"r{r}-c{c}-{n}-{i}" for i in range(20)]
                body = "\n".join(bad(e) if i == 7 else harness.event(e) for i, e in enumerate(ids))
                try:
                    if harness.request(connection, body).status == 202:
                        answered.update((e, i == 7) for i, e in enumerate(ids))
                except (OSError, harness.http.client.HTTPException):
                    return
                n += 1
                stop.wait(0.01)

        threads = [threading.Thread(target=client, args=(c,)) for c in range(2)]
        for thread in threads:
            thread.start()
        before = len(letters(alloyd))
        harness.wait_until(lambda: len(letters(alloyd)) > before + 10, "bad rows in the folder")
        alloyd.kill()
        stop.set()
        for thread in threads:
            thread.join()
        alloyd.start(ready=False)
    alloyd.settled()
    ids = letter_ids(alloyd)
    assert len(ids) == len(set(ids)), "dead-lettered twice"
    rows = [r[0] for r in clickhouse.rows(f"SELECT event_id FROM {table}")]
    assert len(rows) == len(set(rows)), "doubled"
    assert not {e for e, is_bad in answered.items() if is_bad} - set(ids), "a bad one lost"
    assert not {e for e, is_bad in answered.items() if not is_bad} - set(rows), "a good one lost"
    assert not set(ids) & set(rows)
    # Every id is free again.
    body = "\n".join(map(harness.event, ids))
    assert alloyd.post(body).json == {"accepted": len(ids), "duplicates": 0}
    alloyd.settled()


@pytest.mark.parametrize("lift", ["reload", "removal"])
def test_a_full_folder_stops_loudly_and_goes_on_by_itself(make_alloyd, redis, clickhouse, table, lift):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, clickhouse={"retry_max": "200ms"},
                                      dead_letter={"max_bytes": "4KiB"})).start()
    for i in range(12):
        assert alloyd.post(bad(f"x{i}")).status == 202
    harness.wait_until(lambda: b"dead_letter" in alloyd.admin("/readyz").body, "the condition")
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] + alloyd.metrics()["alloy_dead_letter_parked"] == 12,
                       "all refused")
    assert alloyd.readyz(), "the good ones still go on"
    assert alloyd.post(harness.event("good")).status == 202
    harness.wait_until(lambda: clickhouse.count(table) == 1, "the good one")
    sizes = {path.name: path.stat().st_size for path in folder(alloyd).glob("*.ndjson")}
    assert 0 < sum(sizes.values()) <= 4096 and len(sizes) > 1, "rotated at an eighth of the cap"
    assert alloyd.metrics()["alloy_dead_letter_bytes"] == sum(sizes.values())
    assert "refused events stay in the journal" in alloyd.log()
    harness.assert_balanced(alloyd.books())
    kept = letters(alloyd)
    if lift == "reload":
        alloyd.sections["dead_letter"]["max_bytes"] = "1MiB"
        alloyd.write_ini()
        alloyd.signal(signal.SIGHUP)
    else:
        moved = []

        def all_moved():
            for path in folder(alloyd).glob("*.ndjson"):
                with open(path) as f:  # under the lock, so that no line comes after we have read
                    fcntl.flock(f, fcntl.LOCK_EX)
                    path.unlink()
                    moved.extend(map(json.loads, f))
            return alloyd.books()["pending"] == 0

        harness.wait_until(all_moved, "all taken")
        kept = moved
    assert alloyd.settled()["dead_lettered"] == 12
    harness.wait_until(lambda: b"dead_letter" not in alloyd.admin("/readyz").body, "no condition")
    assert alloyd.metrics()["alloy_dead_letter_parked"] == 0
    found = letters(alloyd) + (kept if lift == "removal" else [])
    assert sorted(x["event"]["event_id"] for x in found) == sorted(f"x{i}" for i in range(12))


def test_list_show_and_replay_on_a_folder_in_use(make_alloyd, redis, clickhouse, table):
    other = clickhouse.create_events(table + "_other")
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, stream__other={
        "path": "/v1/other", "table": other, "id": "event_id"})).start()
    odd = '{"event_id" : "odd" ,"ts":"' + BAD_TS + '", "n": 1.50, "s": "\\u00e9\\n"}'
    assert alloyd.post("\n".join([bad("x"), odd, bad("y")])).status == 202
    assert alloyd.post(bad("z"), "/v1/other").status == 202
    alloyd.settled("events")
    alloyd.settled("other")

    listed = alloyctl("dead-letter", "list", folder(alloyd)).stdout
    assert "4 events in 2 files" in listed
    assert re.search(r"^events +\d+ +3 ", listed, re.M) and re.search(r"^other +\d+ +1 ", listed, re.M)
    shown = alloyctl("dead-letter", "show", "--stream", "other", "--since", "1h", folder(alloyd)).stdout
    assert json.loads(shown)["event"] == json.loads(bad("z")) and "\n  \"event\": {\n" in shown
    code = json.loads(shown)["code"]
    raw = alloyctl("dead-letter", "show", "--raw", f"--code={code}", folder(alloyd)).stdout
    assert [json.loads(line) for line in raw.splitlines()] == letters(alloyd)
    assert odd in raw
    assert alloyctl("dead-letter", "show", "--code=1", folder(alloyd)).stdout == ""
    assert alloyctl("dead-letter", "show", "--since=2099-01-01", folder(alloyd)).stdout == ""

    # What is still refused comes back as new dead letters, in a new file, with ClickHouse's words.
    url = f"http://127.0.0.1:{alloyd.port}"
    done = alloyctl("dead-letter", "replay", "--url", url, "--stream", "other", folder(alloyd), status=1)
    assert "1 event posted, 1 accepted, 0 duplicates: 0 inserted, 1 refused again\n" in done.stderr
    assert "alloyctl: 1 file: " in done.stderr
    assert re.search(r"other-\S+\.ndjson:1: refused again: Code: \d+\. DB::Exception: ", done.stderr)
    assert alloyd.settled("other")["dead_lettered"] == 2
    assert len(list(folder(alloyd).glob("other-*.ndjson.renewed"))) == 1
    assert len(list(folder(alloyd).glob("other-*.ndjson.replayed"))) == 0
    assert len(list(folder(alloyd).glob("other-*.ndjson"))) == 1
    assert len(alloyctl("dead-letter", "show", "--raw", "--stream", "other", folder(alloyd)).stdout.splitlines()) == 1

    for name in (table, other):
        clickhouse.query(f"DROP TABLE {name} SYNC")
        clickhouse.query(f"CREATE TABLE {name} (event_id String, ts String, n Float64, s String) ENGINE = MergeTree "
                         "ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100")
    alloyctl("dead-letter", "replay", "--url", url, "--keep", folder(alloyd))
    alloyd.settled("events")
    alloyd.settled("other")
    assert len(list(folder(alloyd).glob("*.ndjson"))) == 2, "--keep leaves them"
    assert sorted(clickhouse.rows(f"SELECT event_id, n, s FROM {table}")) == [
        ["odd", 1.5, "é\n"], ["x", 0, ""], ["y", 0, ""]]
    assert clickhouse.rows(f"SELECT event_id FROM {other}") == [["z"]]
    done = alloyctl("dead-letter", "replay", "--url", url, folder(alloyd))
    assert "4 events posted, 0 accepted, 4 duplicates: 0 inserted\n" in done.stderr
    assert "duplicates are" in done.stderr
    assert list(folder(alloyd).glob("*.ndjson")) == []
    alloyd.settled("events")
    assert clickhouse.count(table) == 3
    assert "0 files" in alloyctl("dead-letter", "replay", "--url", url, folder(alloyd)).stderr


class Door(http.server.ThreadingHTTPServer):
    """An alloyd that answers as told; keeps what it was sent. page: what it says instead of JSON."""

    def __init__(self, answers, page=None):
        self.entered = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.answers = list(answers)
        self.bodies = []
        door = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                door.entered.set()
                assert door.may_answer.wait(harness.DEADLINE)
                status = door.answers.pop(0) if door.answers else 200
                n = body.count(b"\n")
                if status == 200:
                    assert "wait=" in self.headers["Prefer"]
                    door.bodies.append((self.path, body))
                text = json.dumps({"accepted": n, "duplicates": 0} if status in (200, 202) else
                                  {"error": "overloaded", "message": "no room"}).encode()
                text = text if page is None else page.encode()
                self.send_response(status)
                if status == 503:
                    self.send_header("Retry-After", "1")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *args):
        self.shutdown()
        self.thread.join()
        self.server_close()


def write_letters(path, n, stream="events", size=0):
    events = [harness.event(f"{stream}-{i}", pad="x" * size) for i in range(n)]
    path.write_text("".join('{"time":"2026-01-31T12:00:00.000Z","stream":"%s","code":6,"message":"m","event":%s}\n'
                            % (stream, event) for event in events))
    return "".join(event + "\n" for event in events).encode()


def test_replay_sends_requests_of_limited_size_and_waits_for_room(tmp_path):
    small = write_letters(tmp_path / "events-20260131T120000Z-1.ndjson", 2500)
    large = write_letters(tmp_path / "big-20260131T120000Z-1.ndjson", 5, "big", size=600_000)
    with Door([200, 503, 503]) as door:
        done = alloyctl("dead-letter", "replay", "--url", door.url, tmp_path)
    assert "answers 503, trying again in 1 s" in done.stderr
    assert b"".join(body for path, body in door.bodies if path == "/v1/events") == small
    assert b"".join(body for path, body in door.bodies if path == "/v1/big") == large
    assert len(door.bodies) == 3 + 5
    assert "2505 events posted, 2505 accepted, 0 duplicates: 2505 inserted\n" in done.stderr
    assert {path.suffix for path in tmp_path.iterdir()} == {".replayed"}


def test_replay_gives_a_file_its_name_back_when_it_is_refused(tmp_path):
    first, second = tmp_path / "a-20260131T120000Z-1.ndjson", tmp_path / "b-20260131T120000Z-1.ndjson"
    write_letters(first, 3, "a")
    write_letters(second, 3, "b")
    broken = tmp_path / "c-20260131T120000Z-1.ndjson"
    broken.write_text("what is this?\n")
    with Door([400]) as door:
        done = alloyctl("dead-letter", "replay", "--url", door.url, tmp_path, status=1)
    assert f"{first.name}:1-3: {door.url}v1/a answers 400" in done.stderr
    assert f"{broken.name}:1: not a dead letter" in done.stderr
    assert first.exists() and broken.exists() and not second.exists()
    assert [path for path, _ in door.bodies] == ["/v1/b"]
    # Nobody there: told soon, and nothing has changed. One that was interrupted is taken up again.
    broken.unlink()
    alloyctl("dead-letter", "replay", "--url", f"http://127.0.0.1:{harness.free_port()}", tmp_path, status=1)
    first.rename(tmp_path / (first.name + ".replaying"))
    with Door([]) as door:
        alloyctl("dead-letter", "replay", "--url", door.url, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {first.name + ".replayed", second.name + ".replayed"}


def test_replay_has_a_key_and_understands_an_answer_for_clients(make_alloyd, redis, clickhouse, table, tmp_path):
    (tmp_path / "keys").write_text("web b2:" + hashlib.blake2b(b"sesame", digest_size=32).hexdigest() + " *\n")
    (tmp_path / "key").write_text("sesame\n")
    sections = sections_for(redis, clickhouse, table, auth={"keys_file": tmp_path / "keys"})
    sections["stream.events"]["answer"] = '200 {"fine":true}'
    alloyd = make_alloyd(sections).start()
    key = {"X-Api-Key": "sesame"}
    assert alloyd.post(bad("x") + "\n" + bad("y"), headers=key).status == 200
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] == 2, "dead-lettered")
    url = f"http://127.0.0.1:{alloyd.port}"
    done = alloyctl("dead-letter", "replay", "--url", url, folder(alloyd), status=1)
    assert "answers 401" in done.stderr and "give --key-file FILE" in done.stderr
    done = alloyctl("dead-letter", "replay", "--url", url, "--key-file", tmp_path / "key", folder(alloyd), status=1)
    assert "2 events posted, 2 accepted, 0 duplicates: 0 inserted, 2 refused again" in done.stderr
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] == 4, "refused again")


def test_replay_keeps_a_file_with_an_event_that_alloyd_does_not_take(make_alloyd, redis, clickhouse, table, tmp_path):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    name = "events-20260131T120000Z-1.ndjson"
    write_letters(tmp_path / name, 3)
    text = (tmp_path / name).read_text().splitlines()
    (tmp_path / name).write_text("\n".join([text[0], text[1].replace("event_id", "no_id"), text[2]]) + "\n")
    done = alloyctl("dead-letter", "replay", "--url", f"http://127.0.0.1:{alloyd.port}", tmp_path, status=1)
    assert f"{name}:2: alloyd does not take it: missing_id: " in done.stderr
    assert (tmp_path / name).read_text() == text[1].replace("event_id", "no_id") + "\n"
    assert (tmp_path / (name + ".replayed")).read_text().splitlines() == [text[0], text[2]]


def test_replay_posts_to_a_path_the_events_of_one_stream_only(tmp_path):
    write_letters(tmp_path / "a-20260131T120000Z-1.ndjson", 3, "a")
    write_letters(tmp_path / "b-20260131T120000Z-1.ndjson", 2, "b")
    before = {path.name for path in tmp_path.iterdir()}
    with Door([404]) as door:
        done = alloyctl("dead-letter", "replay", "--url", door.url, "--path", "/in", tmp_path, status=2)
        assert "several streams" in done.stderr and "--stream NAME" in done.stderr
        assert door.bodies == [] and {path.name for path in tmp_path.iterdir()} == before
        done = alloyctl("dead-letter", "replay", "--url", door.url, "--stream", "b", tmp_path, status=1)
        assert "answers 404" in done.stderr and "give --stream NAME --path PATH" in done.stderr
        done = alloyctl("dead-letter", "replay", "--url", door.url, "--path", "/in", "--stream", "b", tmp_path)
        assert "1 file: 2 events posted" in done.stderr
        assert [path for path, _ in door.bodies] == ["/in"]
        # Those of b were replayed, but a file says what its lines say, whatever its name.
        write_letters(tmp_path / "a-20260131T120000Z-2.ndjson", 1, "c")
        done = alloyctl("dead-letter", "replay", "--url", door.url, "--path", "/in", "--stream", "a", tmp_path, status=2)
        assert "files of stream a" in done.stderr
        alloyctl("dead-letter", "replay", "--url", door.url, tmp_path)
    assert [path for path, _ in door.bodies[1:]] == ["/v1/a", "/v1/c"]


def test_a_second_replay_says_that_there_is_a_first(tmp_path):
    path = tmp_path / "a-20260131T120000Z-1.ndjson"
    write_letters(path, 3, "a")
    with Door([]) as door:
        door.may_answer.clear()
        first = subprocess.Popen([harness.BUILD / "alloyctl", "dead-letter", "replay", "--url", door.url, tmp_path])
        try:
            assert door.entered.wait(harness.DEADLINE)
            for keep in ([], ["--keep"]):
                done = alloyctl("dead-letter", "replay", "--url", door.url, *keep, tmp_path, status=1)
                assert "another replay has its files" in done.stderr
            assert [p.name for p in tmp_path.iterdir()] == [path.name + ".replaying"]
            door.may_answer.set()
            assert first.wait(harness.DEADLINE) == 0
        finally:
            first.kill()
            first.wait()
    assert [p.name for p in tmp_path.iterdir()] == [path.name + ".replayed"]


@pytest.mark.parametrize("status", [200, 400])
def test_replay_believes_no_other_server_and_quotes_one_line_of_it(tmp_path, status):
    path = tmp_path / "a-20260131T120000Z-1.ndjson"
    write_letters(path, 3, "a")
    with Door([status], page="\n<html>" + "x" * 500 + "\n<body>\n\x1b[2J" * 50) as door:
        done = alloyctl("dead-letter", "replay", "--url", door.url, tmp_path, status=1)
    told = done.stderr.splitlines()[0]
    assert told.endswith(f"/v1/a answers {status}: <html>" + "x" * 194)
    assert "<body>" not in done.stderr and ("not an answer of alloyd" in done.stderr) == (status == 200)
    assert path.exists()


def test_inspect_and_verify_a_journal_in_use_and_a_dead_one(make_alloyd, redis, own_clickhouse):
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", journal={"segment": "64KiB"})).start()
    journal = alloyd.sections["journal"]["dir"]
    own_clickhouse.kill()
    for part in range(30):
        assert alloyd.post("\n".join(harness.event(f"{part}-{i}") for i in range(50))).status == 202
    inspected = alloyctl("journal", "inspect", journal).stdout
    assert "1500 records, 1500 of them LIVE" in inspected and f"pid {alloyd.pid} (there is such" in inspected
    assert re.search(r"^events +1500 +0 +0 +0 +0 ", inspected, re.M)
    assert " 1500 records, 0 problems" in alloyctl("journal", "verify", journal).stdout

    # It holds up under writes, and the daemon under it.
    stop = threading.Event()
    posted = []

    def load():
        while not stop.wait(0.005):  # at full speed the journal grows faster than it can be read
            posted.append(alloyd.post("\n".join(harness.event(f"l{len(posted)}-{i}") for i in range(20))).status)

    loader = threading.Thread(target=load)
    loader.start()
    try:
        for _ in range(50):
            assert " 0 problems" in alloyctl("journal", "verify", journal).stdout
            alloyctl("journal", "inspect", journal)
    finally:
        stop.set()
        loader.join()
    assert set(posted) == {202}
    alloyd.kill()
    assert "(has ended)" in alloyctl("journal", "inspect", journal).stdout
    before = {path.name: path.read_bytes() for path in journal.iterdir()}
    assert " 0 problems" in alloyctl("journal", "verify", journal).stdout
    assert {path.name: path.read_bytes() for path in journal.iterdir()} == before, "something was written"

    segment = sorted(path for path in journal.glob("*.alj") if b"ALR2" in path.read_bytes())[0]
    places = [m.start() for m in re.finditer(b"ALR2", segment.read_bytes())]
    for place in (places[0], places[len(places) // 2], places[-1]):
        with open(segment, "r+b") as f:
            f.seek(place + 100)
            byte = f.read(1)
            f.seek(place + 100)
            f.write(bytes([byte[0] ^ 1]))
        found = alloyctl("journal", "verify", journal, status=1).stdout
        assert f"{segment.name}: offset {place}: record does not match its checksum" in found
        assert " 1 problem\n" in found
        assert "\n1 problem: see alloyctl journal verify" in alloyctl("journal", "inspect", journal, status=1).stdout
        with open(segment, "r+b") as f:
            f.seek(place + 100)
            f.write(byte)
    assert " 0 problems" in alloyctl("journal", "verify", journal).stdout


def test_alloyctl_tells_a_wrong_command_line():
    assert "alloyctl" in alloyctl("--version").stdout
    assert "dead-letter replay" in alloyctl("--help").stdout
    for words in ([], ["journal"], ["journal", "inspect"], ["journal", "verify", "/a", "/b"], ["journal", "list", "/a"],
                  ["dead-letter", "show", "--code", "x"], ["dead-letter", "show", "--since", "soon"],
                  ["dead-letter", "list", "--raw"], ["dead-letter", "replay", "--url", "ftp://x"], ["--nothing"],
                  ["dead-letter", "replay", "--path", "x"]):
        done = alloyctl(*words, status=2)
        assert "Try 'alloyctl --help'" in done.stderr and done.stdout == "", words
    for words, told in ((["bogus"], "there is no command 'bogus'"), (["bogus", "list"], "there is no command 'bogus'"),
                        (["dead-letter", "bogus"], "there is no command 'dead-letter bogus'"),
                        (["journal", "bogus"], "there is no command 'journal bogus'"),
                        (["journal"], "journal: a command is missing"), ([], "a command is missing"),
                        (["dead-letter", "show", "--since", "xyz"], "--since: 'xyz' is not a time such as 2026-01-31"),
                        (["dead-letter", "show", "--code", "x"], "--code: 'x' is not an exception code"),
                        (["dead-letter", "replay", "--url", "http://h:1/v1/x"], "without a path: that goes into --path")):
        assert told in alloyctl(*words, status=2).stderr, words
    for words, told in ((["bury"], "bury: which stream?"), (["bury", "a", "b"], "unexpected argument 'b'"),
                        (["bury", "a", "--admin", "http://h/x"], "--admin: 'http://h/x' is not a URL"),
                        (["bury", "a", "--url", "http://h"], "bury does not take --url"),
                        (["journal", "inspect", "d", "--admin", "http://h"], "journal inspect does not take --admin")):
        assert told in alloyctl(*words, status=2).stderr, words
    assert "/nowhere" in alloyctl("journal", "verify", "/nowhere", status=1).stderr
    assert "/nowhere" in alloyctl("dead-letter", "list", "/nowhere", status=1).stderr


@pytest.mark.parametrize("way", ["moved", "removed"])
def test_the_folder_may_be_moved_or_removed_while_alloyd_runs(make_alloyd, redis, clickhouse, table, way):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, clickhouse={"retry_max": "300ms"})).start()
    folder = pathlib.Path(alloyd.sections["dead_letter"]["dir"])

    def refuse(event_id, dead):
        assert alloyd.post(harness.event(event_id, ts="no time")).status == 202
        harness.wait_until(lambda: alloyd.books()["dead_lettered"] == dead, "dead-lettered")

    refuse("first", 1)
    if way == "moved":
        folder.rename(folder.with_name("old"))
    else:
        shutil.rmtree(folder)
    refuse("second", 2)
    lines = [json.loads(line) for path in folder.glob("*.ndjson") for line in path.read_text().splitlines()]
    assert [line["event"]["event_id"] for line in lines] == ["second"]


class FakeAdmin(http.server.BaseHTTPRequestHandler):
    ANSWERS = {"/streams/a/bury": (200, b'{"asked":true,"events":0}\n'), "/streams/b/bury": (200, b'{"asked":true,"events":12}\n'),
               "/streams/odd/bury": (200, b"hello\n"), "/streams/c/bury": (403, b'{"error":"forbidden"}\n')}

    def do_POST(self):
        self.server.seen.append((self.path, self.headers["Alloy-Control"], self.headers["Content-Length"]))
        status, body = self.ANSWERS.get(self.path, (404, b'{"error":"not_found"}\n'))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_alloyctl_bury_asks_the_admin_port_and_tells_the_answer():
    server = http.server.HTTPServer(("127.0.0.1", 0), FakeAdmin)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert alloyctl("bury", "a", "--admin", url).stdout == "stream a: no refused events are kept\n"
        assert alloyctl("bury", "b", "--admin", f"{url}/").stdout == "stream b: 12 events will go to the dead letters\n"
        assert "(HTTP status 200): hello" in alloyctl("bury", "odd", "--admin", url, status=1).stderr
        assert '(HTTP status 403): {"error":"forbidden"}' in alloyctl("bury", "c", "--admin", url, status=1).stderr
        assert f"the alloyd at {url} has no stream x/ y: " in alloyctl("bury", "x/ y", "--admin", url, status=1).stderr
    finally:
        server.shutdown()
        server.server_close()
    assert server.seen[0] == ("/streams/a/bury", "1", "0")
    assert server.seen[-1][0] == "/streams/x%2F%20y/bury"
    assert f"{url} does not answer: " in alloyctl("bury", "a", "--admin", url, status=1).stderr
