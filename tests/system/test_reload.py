# SPDX-License-Identifier: Apache-2.0
"""HUP: what changes while alloyd runs, and what becomes of the events that it holds."""

import http.server
import signal
import socket
import threading
import urllib.error
import urllib.request

import pytest

import harness
from conftest import sections_for
from test_keys import Keys
from test_lifecycle import log_lines, reload


class Guarded(http.server.ThreadingHTTPServer):
    """The real engine behind a user and a password, as ClickHouse's own users.xml would have it."""

    daemon_threads = True

    def __init__(self, clickhouse, user, password):
        super().__init__(("127.0.0.1", 0), GuardedHandler)
        self.clickhouse, self.user, self.password = clickhouse, user, password
        self.refused = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class GuardedHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        guard = self.server
        if (self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")) != (guard.user, guard.password):
            guard.refused += 1
            self.answer(403, b"Code: 516. DB::Exception: " + guard.user.encode()
                        + b": Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)\n",
                        {"X-ClickHouse-Exception-Code": "516"})
            return
        request = urllib.request.Request(guard.clickhouse.url + self.path, data=body)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self.answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read(), error.headers)

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower().startswith("x-clickhouse"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def guarded(clickhouse):
    guard = Guarded(clickhouse, "alloy", "one")
    yield guard
    guard.shutdown()
    guard.server_close()


def changed(alloyd, key, when="now"):
    return log_lines(alloyd, f"key={key} ", f"takes_effect={when}")


# ---- passwords, users, servers


@pytest.mark.parametrize("how", ["password", "password_file", "contents", "user"])
def test_a_new_password_of_clickhouse(make_alloyd, redis, clickhouse, guarded, table, tmp_path, how):
    (tmp_path / "p1").write_text("one\n")
    (tmp_path / "p2").write_text("two\n")
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, clickhouse={
        "url": guarded.url, "user": "alloy", "retry_max": "1h", "retry_min": "1h",
        **({"password": "one"} if how in ("password", "user") else {"password_file": tmp_path / "p1"})}))
    alloyd.start()
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.settled()
    if how == "user":
        guarded.user = "other"
    else:
        guarded.password = "two"
    assert alloyd.post(harness.event("b")).status == 202
    harness.wait_until(lambda: guarded.refused > 0, "a refusal")
    if how == "password":
        alloyd.sections["clickhouse"]["password"] = "two"
    elif how == "password_file":
        alloyd.sections["clickhouse"]["password_file"] = tmp_path / "p2"
    elif how == "contents":
        (tmp_path / "p1").write_text("two\n")
    else:
        alloyd.sections["clickhouse"]["user"] = "other"
    reload(alloyd)
    # At once: the next retry by itself would come in an hour.
    assert alloyd.settled()["inserted"] == 2
    assert changed(alloyd, "clickhouse.password_file" if how == "contents" else f"clickhouse.{how}")
    assert clickhouse.count(table) == 2
    assert "two" not in [word.split("=")[-1] for line in alloyd.log().splitlines() for word in line.split()]


def test_another_url_of_clickhouse(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, clickhouse={
        "url": f"http://127.0.0.1:{harness.free_port()}", "retry_max": "1h", "retry_min": "1h"})).start(ready=False)
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: alloyd.metrics()["alloy_clickhouse_up"] == 0, "a lost ClickHouse")
    alloyd.sections["clickhouse"]["url"] = clickhouse.url
    reload(alloyd)
    assert changed(alloyd, "clickhouse.url")
    assert alloyd.settled()["inserted"] == 1 and alloyd.readyz()


@pytest.mark.parametrize("before, after", [("discard:", None), (None, "discard:")])
def test_discard_begins_and_ends_with_a_restart(make_alloyd, redis, clickhouse, table, before, after):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table))
    alloyd.sections["clickhouse"]["url"] = before or clickhouse.url
    alloyd.start()
    alloyd.sections["clickhouse"]["url"] = after or clickhouse.url
    reload(alloyd)
    assert changed(alloyd, "clickhouse.url", "after_restart")
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.settled()
    assert clickhouse.count(table) == (before is None)
    reload(alloyd)
    assert len(changed(alloyd, "clickhouse.url", "after_restart")) == 2, "it is told each time"


def test_a_new_password_of_redis(make_alloyd, own_redis, clickhouse, table):
    own_redis.command("CONFIG", "SET", "requirepass", "one")
    alloyd = make_alloyd(sections_for(own_redis, clickhouse, table, redis={
        "url": f"redis://:one@127.0.0.1:{own_redis.port}/0", "on_failure": "hold"})).start()
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.settled()
    redis = RedisWith(own_redis, "one")
    redis.command("CONFIG", "SET", "requirepass", "two")
    RedisWith(own_redis, "two").command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert alloyd.post(harness.event("a1")).status == 202
    harness.wait_until(lambda: alloyd.metrics()["alloy_redis_up"] == 0, "a refused password")
    alloyd.sections["redis"]["url"] = f"redis://:two@127.0.0.1:{own_redis.port}/0"
    reload(alloyd)
    assert changed(alloyd, "redis.url")
    assert alloyd.settled()["inserted"] == 2
    harness.wait_until(lambda: alloyd.metrics()["alloy_redis_up"] == 1, "Redis is back")
    assert RedisWith(own_redis, "two").command("EXISTS", "alloy:events:a", "alloy:events:a1") == 2


def test_another_redis(make_alloyd, redis, own_redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.settled()
    alloyd.sections["redis"]["url"] = own_redis.url
    reload(alloyd)
    assert alloyd.post(harness.event("b")).status == 202
    alloyd.settled()
    assert own_redis.command("EXISTS", "alloy:events:a", "alloy:events:b") == 1
    assert redis.command("EXISTS", "alloy:events:a", "alloy:events:b") == 1
    harness.wait_until(lambda: own_redis.command("EXISTS", "alloy:#table:events") == 1, "the mark")


def test_redis_begins_and_ends_with_a_restart(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    alloyd.sections["redis"]["url"] = ""
    reload(alloyd)
    assert changed(alloyd, "redis.url", "after_restart")
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.settled()
    assert redis.command("EXISTS", "alloy:events:a") == 1


# ---- streams


def test_a_stream_moves_to_another_path_and_table(make_alloyd, redis, clickhouse, table):
    other = clickhouse.create_events(table + "_other")
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.settled()
    alloyd.sections["stream.events"].update(path="/v2/*, /again", table=other)
    reload(alloyd)
    assert changed(alloyd, "stream.events.path") and changed(alloyd, "stream.events.table")
    assert alloyd.post(harness.event("b")).status == 404
    assert alloyd.post(harness.event("b"), "/v2/x").status == alloyd.post(harness.event("c"), "/again").status == 202
    assert alloyd.post(harness.event("a"), "/again").json == {"accepted": 0, "duplicates": 1}, "it is the same stream"
    assert alloyd.settled()["inserted"] == 3
    assert clickhouse.count(table) == 1 and clickhouse.count(other) == 2
    assert redis.command("EXISTS", "alloy:events:b", "alloy:events:c") == 2


def test_other_keys_of_a_stream_count_at_once(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    assert alloyd.post('{"other_id":"a"}').json["error"] == "missing_id"
    alloyd.sections["stream.events"].update(id="other_id, event_id", answer='200 {"ok":1}')
    alloyd.sections["stream.events"]["column.path"] = "path"
    clickhouse.query(f"ALTER TABLE {table} ADD COLUMN path String")
    reload(alloyd)
    answer = alloyd.post(harness.event("a", other_id="o"))
    assert answer.status == 200 and answer.json == {"ok": 1}
    alloyd.settled()
    assert clickhouse.rows(f"SELECT path FROM {table}") == [["/v1/events"]]


def test_a_request_under_way_is_finished_as_it_began(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    body = harness.event("a").encode()
    with alloyd.connect() as s:
        s.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body[:20]))
        harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 1, "its head")
        alloyd.sections["stream.events"].update(path="/elsewhere", id="nothing_has_this")
        reload(alloyd)
        s.sendall(body[20:])
        assert harness.read_answer(s).status == 202
    alloyd.settled()
    assert clickhouse.count(table) == 1


def test_waiting_events_go_to_the_table_that_is_right(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, "default.misspelt", clickhouse={"retry_min": "1h", "retry_max": "1h"}))
    alloyd.start(ready=False)
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: not alloyd.readyz(), "a missing table")
    alloyd.sections["stream.events"]["table"] = table
    reload(alloyd)
    assert alloyd.settled()["inserted"] == 1
    harness.wait_until(alloyd.readyz, lambda: alloyd.admin("/readyz").body)
    assert clickhouse.count(table) == 1


def test_a_removed_stream_is_gone_for_clients_and_its_events_go_on(make_alloyd, redis, clickhouse, table, own_clickhouse):
    own_clickhouse.create_events("default.old")
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", drain={"timeout": "300ms"}))
    alloyd.sections["stream.old"] = {"table": "default.old"}
    alloyd.start()
    own_clickhouse.signal(signal.SIGSTOP)
    assert alloyd.post("\n".join(harness.event(f"o{n}") for n in range(7)), "/v1/old").status == 202
    section = alloyd.sections.pop("stream.old")
    reload(alloyd)
    assert changed(alloyd, "stream.old")
    assert alloyd.post(harness.event("x"), "/v1/old").status == 404
    assert alloyd.post(harness.event("a")).status == 202

    def told():
        return [reason for reason in alloyd.admin("/readyz").json["reasons"] if reason["key"] == "stream.old.removed"]

    reason = harness.wait_until(told, "the removed stream")[0]
    assert reason["blocking"] is False and "7 of its events wait for default.old" in reason["text"]
    assert alloyd.books("old")["pending"] == 7
    assert alloyd.drain() == 0
    assert log_lines(alloyd, "drain timed out", 'removed_streams="old: 7 events, the oldest for ')
    own_clickhouse.signal(signal.SIGCONT)
    alloyd.sections["stream.old"] = section
    alloyd.start()
    alloyd.settled("old")
    assert own_clickhouse.count("default.old") == 7
    del alloyd.sections["stream.old"]
    reload(alloyd)
    alloyd.sections["stream.old"] = dict(section, path="/v3/old")  # and back
    reload(alloyd)
    assert alloyd.post(harness.event("o8"), "/v3/old").status == 202
    alloyd.settled("old")
    assert own_clickhouse.count("default.old") == 8 and told() == []


def test_keys_follow_the_streams(make_alloyd, redis, clickhouse, table, tmp_path):
    keys = Keys(tmp_path)
    key = keys.add("shop", "--streams", "events")
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, auth={"keys_file": keys.path}))
    alloyd.sections["stream.first"] = {"table": table}
    alloyd.start()
    headers = {"X-Api-Key": key}
    assert alloyd.post(harness.event("a"), headers=headers).status == 202
    assert alloyd.post(harness.event("a"), "/v1/first", headers=headers).status == 403
    del alloyd.sections["stream.first"]
    alloyd.sections["stream.events"]["path"] = "/v1/first"
    reload(alloyd)
    assert alloyd.post(harness.event("b"), "/v1/first", headers=headers).status == 202


@pytest.mark.parametrize("mode", ["file", "memory"])
def test_new_streams(make_alloyd, redis, clickhouse, table, mode):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, journal={"mode": mode})).start()
    assert alloyd.post(harness.event("a")).status == 202
    tables = []
    for n in range(3):
        assert alloyd.post(harness.event("b"), f"/v1/new{n}").status == 404
        tables.append(clickhouse.create_events(f"{table}_{n}"))
        alloyd.sections[f"stream.new{n}"] = {"table": tables[n]}
        reload(alloyd)
        assert changed(alloyd, f"stream.new{n}")
        for m in range(n + 1):
            body = "\n".join(harness.event(f"{n}-{m}-{i}") for i in range(100))
            assert alloyd.post(body, f"/v1/new{m}?ack=clickhouse").status == 200
            assert alloyd.post(harness.event(f"{n}-{m}-5"), f"/v1/new{m}").json["duplicates"] == 1
        assert alloyd.post(harness.event(f"a{n}")).status == 202
    for n in range(3):
        assert alloyd.settled(f"new{n}")["inserted"] == 100 * (3 - n)
        assert clickhouse.count(tables[n]) == clickhouse.count(tables[n], "uniqExact(event_id)") == 100 * (3 - n)
    alloyd.settled()
    assert clickhouse.count(table) == 4 and alloyd.readyz()
    harness.wait_until(lambda: redis.command("EXISTS", "alloy:#table:new0", "alloy:#table:new2") == 2, "their marks")


def test_a_kill_after_a_hup_keeps_each_events_stream(make_alloyd, redis, own_clickhouse, tmp_path):
    """New streams in another order than in the file, events of old and new ones in turn, and the process killed."""
    names = ["events", "zeta", "alpha", "mid"]
    for name in names[1:]:
        own_clickhouse.create_events(f"default.{name}")
    alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.events", journal={"segment": "64KiB"})).start()
    own_clickhouse.signal(signal.SIGSTOP)
    sent = {name: 0 for name in names}
    for count, new in enumerate(names, 1):
        if new != "events":
            events = alloyd.sections.pop("stream.events")
            alloyd.sections[f"stream.{new}"] = {"table": f"default.{new}"}
            alloyd.sections["stream.events"] = events  # always last in the file
            reload(alloyd)
        for n in range(30):
            name = names[n % count]
            body = "\n".join(harness.event(f"{name}-{new}-{n}-{i}", filler="x" * 300) for i in range(10))
            assert alloyd.post(body, f"/v1/{name}").json["accepted"] == 10
            sent[name] += 10
    alloyd.kill()
    own_clickhouse.signal(signal.SIGCONT)
    del alloyd.sections["stream.mid"]  # it comes back by a HUP: its events wait for the next start
    alloyd.start()
    for name in names[:3]:
        alloyd.settled(name)
        rows = own_clickhouse.rows(f"SELECT event_id FROM default.{name}")
        assert len(rows) == len({row[0] for row in rows}) == sent[name]
        assert all(row[0].startswith(f"{name}-") for row in rows)
    assert any(reason["key"] == "journal.unknown_stream" for reason in alloyd.admin("/readyz").json["reasons"])
    alloyd.sections["stream.mid"] = {"table": "default.mid"}
    reload(alloyd)
    assert alloyd.post(harness.event("mid-late"), "/v1/mid").status == 202
    alloyd.settled("mid")
    assert alloyd.drain() == 0
    alloyd.start()
    alloyd.settled("mid")
    assert own_clickhouse.count("default.mid") == sent["mid"] + 1


def test_more_names_than_numbers_need_a_restart(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events"))
    for n in range(61):
        alloyd.sections[f"stream.s{n}"] = {"table": "default.events"}
    alloyd.start()
    for n in range(3):
        del alloyd.sections[f"stream.s{n}"]
        alloyd.sections[f"stream.new{n}"] = {"table": "default.events"}
    reload(alloyd)
    assert changed(alloyd, "stream.new1") and changed(alloyd, "stream.new2", "after_restart")
    assert alloyd.post(harness.event("a"), "/v1/new1").status == 202
    assert alloyd.post(harness.event("a"), "/v1/new2").status == 404
    reload(alloyd)
    assert len(changed(alloyd, "stream.new2", "after_restart")) == 2
    assert alloyd.drain() == 0
    alloyd.start()
    assert alloyd.post(harness.event("b"), "/v1/new2").status == 202


def test_streams_change_under_load(make_alloyd, redis, clickhouse, table):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table)).start()
    answered, over, lock = set(), threading.Event(), threading.Lock()

    def load(c):
        client, n = alloyd.client(), 0
        while not over.is_set():
            ids = [f"{c}-{n}-{i}" for i in range(20)]
            answer = harness.request(client, "\n".join(map(harness.event, ids)))
            assert answer.status == 202, answer
            with lock:
                answered.update(ids)
            n += 1

    def change():
        try:
            for n in range(12):
                alloyd.sections[f"stream.n{n}"] = {"table": clickhouse.create_events(f"{table}_n{n}")}
                if n % 3 == 2:
                    del alloyd.sections[f"stream.n{n - 1}"]
                reload(alloyd)
                assert alloyd.post("\n".join(harness.event(f"{n}-{i}") for i in range(50)), f"/v1/n{n}").status == 202
        finally:
            over.set()

    harness.in_threads(4, lambda i: change() if i == 3 else load(i))
    alloyd.settled()
    for n in range(12):
        assert alloyd.settled(f"n{n}")["inserted"] == clickhouse.count(f"{table}_n{n}") == 50
    rows = {row[0] for row in clickhouse.rows(f"SELECT event_id FROM {table}")}
    assert rows == answered and clickhouse.count(table) == len(rows)


class RedisWith:
    """Commands to a Redis that asks for a password."""

    def __init__(self, redis, password):
        self.redis, self.password = redis, password

    def command(self, *words):
        with socket.create_connection(("127.0.0.1", self.redis.port), timeout=10) as s:
            for each in (("AUTH", self.password), words):
                s.sendall(b"*%d\r\n" % len(each) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in each))
            f = s.makefile("rb")
            assert self.redis._read(f) == b"OK"
            return self.redis._read(f)
