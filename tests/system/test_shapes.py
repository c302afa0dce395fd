# SPDX-License-Identifier: Apache-2.0
"""The shapes of bodies that clients send: envelopes, ids by pointer and header, no ids, bad events among good ones."""

import base64
import gzip
import json
import pathlib
import time
import urllib.parse

import pytest

import harness
from conftest import sections_for

LENIENT = {"Prefer": "handling=lenient"}


@pytest.fixture
def door(make_alloyd, redis, clickhouse, table):
    """Starts alloyd with one stream, of the keys given, and a table without columns of its own but a String `id`."""
    def start(*more, **keys):
        clickhouse.query(f"CREATE TABLE {table}_s (id String, x String, messageId String) ENGINE = MergeTree ORDER BY id "
                         "SETTINGS non_replicated_deduplication_window = 10000")
        sections = sections_for(redis, clickhouse, f"{table}_s", stream__events=keys)
        alloyd = make_alloyd(sections).start()
        alloyd.rows_of = lambda column="id": [row[0] for row in clickhouse.rows(
            f"SELECT {column} FROM {table}_s ORDER BY {column}")]
        return alloyd
    return start


def accepted(answer):
    assert answer.status == 202, answer
    return answer.json["accepted"], answer.json["duplicates"]


def test_an_envelope_and_a_single_event_on_several_paths(door):
    alloyd = door(path="/v1/batch, /v1/track/, /api/s/*", events="batch", id="messageId")
    body = {"batch": [{"messageId": f"m{i}", "id": f"m{i}"} for i in range(50)], "sentAt": "now", "writeKey": "k"}
    assert accepted(alloyd.post(json.dumps(body), "/v1/batch")) == (50, 0)
    body = {"sentAt": "later", **body}  # what comes with a retry is another time
    assert accepted(alloyd.post(json.dumps(body, indent=2), "/v1/batch/")) == (0, 50)
    alloyd.kill()
    alloyd.start()
    assert accepted(alloyd.post(json.dumps(body), "/api/s/a/b?x=1")) == (0, 50)
    assert accepted(alloyd.post('{"messageId":"single","id":"single"}', "/v1/track")) == (1, 0)
    assert alloyd.post("{}", "/api/s").status == 404
    answer = alloyd.post('{"batch":[{"messageId":"a"},{"id":1}]}', "/v1/batch")
    assert (answer.status, answer.json["error"], answer.json["event"], answer.json["offset"]) == (400, "missing_id", 1, 28)
    assert answer.json["message"] == 'No id: the event has no field "messageId" (stream events).'
    assert alloyd.post('{"batch":[]}', "/v1/batch").json["error"] == "empty"
    assert alloyd.settled()["inserted"] == 51
    assert alloyd.rows_of() == sorted([f"m{i}" for i in range(50)] + ["single"])


def test_events_without_white_space_and_a_byte_order_mark(door):
    alloyd = door(id="id")
    assert accepted(alloyd.post('\ufeff{"id":"a"}{"id":"b"}{"id":"a"}')) == (2, 1)
    assert accepted(alloyd.post('\ufeff[{"id":"a"},{"id":"c"}]')) == (1, 1)
    alloyd.settled()
    assert alloyd.rows_of() == ["a", "b", "c"]


def test_ids_by_pointer_header_and_alternative(door):
    alloyd = door(id="/x/0/~1id|header:X-Delivery")
    assert accepted(alloyd.post('{"id":"a","x":[{"/id":"p"}]}')) == (1, 0)
    assert accepted(alloyd.post('{"id":"b","x":[{"/id":"p"}]}', headers={"X-Delivery": "d"})) == (0, 1)
    assert accepted(alloyd.post('{"id":"c"}', headers={"x-delivery": "d"})) == (1, 0)
    assert accepted(alloyd.post('{"id":"d"}', headers={"X-DELIVERY": "d"})) == (0, 1)
    assert accepted(alloyd.post('[{"id":"e"},{"id":"f"}]', headers={"X-Delivery": "e"})) == (2, 0)
    assert accepted(alloyd.post('[{"id":"e"},{"id":"f"}]', headers={"X-Delivery": "e"})) == (0, 2)
    answer = alloyd.post('{"id":"g"}')
    assert answer.json["message"] == 'No id: the event has no field "/x/0/~1id" or header "x-delivery" (stream events).'
    # A body that is judged over turns, and one in chunks, find their header too.
    large = json.dumps([{"id": f"large-{i}", "x": "y" * 1000} for i in range(400)])
    assert accepted(alloyd.post(large, headers={"X-Delivery": "large"})) == (400, 0)
    assert accepted(alloyd.post(large, headers={"X-Delivery": "large"})) == (0, 400)
    raw = alloyd.raw(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nX-Delivery: chunks\r\nTransfer-Encoding: chunked\r\n\r\n"
                     b"5\r\n{\"id\"\r\n5\r\n:\"h\"}\r\n0\r\n\r\n")
    assert b'{"accepted":1,"duplicates":0}' in raw
    alloyd.settled()
    assert [i for i in alloyd.rows_of() if not i.startswith("large")] == ["a", "c", "e", "f", "h"]


@pytest.mark.parametrize("missing, again", [("hash", (0, 2)), ("generate", (2, 0))])
def test_events_without_an_id(door, missing, again):
    alloyd = door(id="nothing", missing_id=missing)
    body = '{"id":"a"}\n{"id":"b"}'
    assert accepted(alloyd.post(body)) == (2, 0)
    alloyd.kill()  # what is in the journal keeps its id
    alloyd.start()
    assert accepted(alloyd.post(body)) == again
    assert accepted(alloyd.post('{"nothing":"x","id":"c"}{"nothing":"x","id":"d"}')) == (1, 1)
    alloyd.settled()
    assert alloyd.rows_of() == ["a", "a", "b", "b", "c"] if again[0] else ["a", "b", "c"]


def test_lenient_requests_take_what_is_good_and_tell_of_the_rest(door):
    alloyd = door(id="id")
    body = '{"id":"a"}\n{"x":"no id"}\n{"id":"b"}\nnonsense\n{"id":[]}\n{"id":"a"}\n'
    strict = alloyd.post(body)
    assert (strict.status, strict.json["error"], strict.json["event"]) == (400, "missing_id", 1)
    answer = alloyd.post(body, headers=LENIENT)
    assert answer.status == 202
    assert [(e["event"], e["offset"], e["error"]) for e in answer.json["errors"]] == [
        (1, 11, "missing_id"), (3, 36, "invalid_json"), (4, 51, "invalid_id")]
    assert (answer.json["accepted"], answer.json["duplicates"], answer.json["invalid"]) == (2, 1, 3)
    good = alloyd.post('{"id":"c"}', headers=LENIENT)
    assert (good.status, good.json) == (202, {"accepted": 1, "duplicates": 0, "invalid": 0, "errors": []})
    bad = alloyd.post("[{},{}]", headers=LENIENT)
    assert (bad.status, bad.json["accepted"], bad.json["invalid"]) == (400, 0, 2)
    many = alloyd.post("[" + ",".join(['{"id":"d"}'] + ["{}"] * 5000) + "]", headers=LENIENT)
    assert (many.status, many.json["invalid"], many.json["accepted"]) == (202, 5000, 1)
    assert 50 <= len(many.json["errors"]) <= 100
    glued = alloyd.post('{"id":"g1"}{"id":tru}{"id":"g2"}[]', headers=LENIENT)
    assert (glued.status, glued.json["error"]) == (400, "invalid_json")
    glued = alloyd.post('{"id":"g1"}{"id":tru}{"id":"g2"}', headers=LENIENT)
    assert (glued.status, glued.json["accepted"], glued.json["invalid"]) == (202, 2, 1)
    array = alloyd.post('[{"id":"h1"},{"id":},null,{"id":"h2"}]', headers=LENIENT)
    assert (array.status, array.json["accepted"], array.json["invalid"]) == (202, 2, 2)
    # Where nobody can tell the next event's begin the request is refused whole.
    broken = alloyd.post('[{"id":"e"},{"id":"}]', headers=LENIENT)
    assert (broken.status, broken.json["error"]) == (400, "invalid_json")
    large = "\n".join('{"id":"l%d","x":"%s"}' % (i, "y" * 1000) if i % 2 else "{}" for i in range(800))
    answer = alloyd.post(large, headers=LENIENT)
    assert (answer.status, answer.json["accepted"], answer.json["invalid"]) == (202, 400, 400)
    waited = alloyd.post('{"id":"w"}{}', "/v1/events?ack=clickhouse", headers=LENIENT)
    assert (waited.status, waited.json["accepted"], waited.json["invalid"]) == (200, 1, 1)
    # Requests behind it on the connection are answered in order.
    one = b'POST /v1/events HTTP/1.1\r\nHost: a\r\nPrefer: handling=lenient\r\nContent-Length: 12\r\n\r\n{"id":"p"}{}'
    answers = alloyd.raw(one * 3)
    assert answers.count(b"HTTP/1.1 202") == 3 and answers.count(b'"invalid":1') == 3
    books = alloyd.settled()
    assert books["inserted"] == 3 + 1 + 400 + 1 + 1 + 4
    assert alloyd.metrics()['alloy_events_invalid_total{stream="events"}'] == 3 + 2 + 5000 + 400 + 1 + 3 + 1 + 2
    harness.assert_balanced(books)


@pytest.mark.parametrize("answer, status, body", [('200 {"status": 1}', 200, b'{"status": 1}'), ("204", 204, b""),
                                                  ("201 1", 201, b"1"), ("200", 200, b"")])
def test_success_is_answered_as_the_client_wants_it(door, answer, status, body):
    alloyd = door(id="id", answer=answer, partial="on")
    connection = alloyd.client()
    for i in range(3):
        got = harness.request(connection, '{"id":"%d"}' % i)
        assert (got.status, got.body) == (status, body)
    # What is no whole success is told.
    told = harness.request(connection, '{"id":"4"}{"x":1}')
    assert (told.status, told.json["accepted"], told.json["invalid"]) == (202, 1, 1)
    assert harness.request(connection, "{}").status == 400
    told = harness.request(connection, '{"id":"5"}{}', headers=LENIENT)
    assert (told.status, told.json["invalid"]) == (202, 1)
    assert harness.request(connection, "[", "/v1/events").status == 400
    assert alloyd.post('{"id":"6"}', "/v1/events?ack=clickhouse").status == status
    assert alloyd.settled()["inserted"] == 6


COLUMNS = {"column.at": "received_at", "column.ip": "client_address", "column.agent": "user_agent", "column.path": "path",
           "column.tenant": "header:X-Tenant", "column.src": "query:src"}


@pytest.fixture
def columns(make_alloyd, redis, own_clickhouse):
    def start(**keys):
        own_clickhouse.query("CREATE TABLE default.c (id String, at DateTime64(3, 'UTC'), ip String DEFAULT '-', agent String DEFAULT '-', "
                             "path String, tenant String DEFAULT '-', src String DEFAULT '-', x String, bad UInt8, "
                             "m UInt8 MATERIALIZED throwIf(bad = 1)) ENGINE = MergeTree "
                             "ORDER BY id SETTINGS non_replicated_deduplication_window = 10000")
        alloyd = make_alloyd(sections_for(redis, own_clickhouse, "default.c", stream__events={
            "id": "id", "path": "/v1/events, /x/*", **COLUMNS, **keys}, clickhouse={"retry_max": "300ms"})).start()
        alloyd.get = lambda what: own_clickhouse.rows(f"SELECT {what} FROM default.c ORDER BY id")
        return alloyd
    return start


def test_columns_come_from_the_request_and_survive_a_replay(columns, own_clickhouse):
    alloyd = columns()
    before = time.time()
    own_clickhouse.kill()
    headers = {"User-Agent": 'odd "agent"\\ \xe9', "X-Tenant": "t1"}
    assert accepted(alloyd.post('{"id":"a"}\n{"id":"b","x":"y"}', "/x/y/?src=a%20b+c%zz&src=d", headers)) == (2, 0)
    large = "[" + ",".join('{"id":"l%03d","x":"%s"}' % (i, "y" * 1000) for i in range(400)) + "]"
    assert accepted(alloyd.post(large, headers={"X-Tenant": "t2", "User-Agent": ""})) == (400, 0)
    after = time.time()
    alloyd.kill()
    alloyd.start(ready=False)
    own_clickhouse.start()
    assert alloyd.settled(deadline=60)["inserted"] == 402
    rows = alloyd.get("id, ip, agent, path, tenant, src, toUnixTimestamp64Milli(at), x")
    assert rows[0][:6] == ["a", "127.0.0.1", 'odd "agent"\\ \ufffd', "/x/y/", "t1", "a b c%zz"]
    assert rows[1][0] == "b" and rows[1][7] == "y" and rows[2][:6] == ["l000", "127.0.0.1", "-", "/v1/events", "t2", "-"]
    assert len(rows) == 402
    for row in rows:
        assert before - 1 <= int(row[6]) / 1000 <= after + 1


def test_an_event_that_has_such_a_member_is_refused_or_keeps_its_own(columns):
    alloyd = columns()
    answer = alloyd.post('{"id":"a"}{"id":"b","tenant":"mine"}')
    assert (answer.status, answer.json["error"], answer.json["event"], answer.json["offset"]) == (400, "invalid_event", 1, 29)
    assert alloyd.post('{"id":"c"}{"tenant":"mine","id":"b"}', headers=LENIENT).json["invalid"] == 1
    alloyd.finish()
    alloyd.sections["stream.events"]["column_conflict"] = "event"
    alloyd.start()
    assert accepted(alloyd.post('{"tenant":"mine","id":"d","src":null}{"id":"e"}', "/v1/events?src=s", {"X-Tenant": "t"})) == (2, 0)
    alloyd.settled()
    assert alloyd.get("id, tenant, src, path") == [["c", "-", "-", "/v1/events"], ["d", "mine", "-", "/v1/events"],
                                                   ["e", "t", "s", "/v1/events"]]


def test_what_stands_around_the_events_fills_columns(columns, own_clickhouse):
    alloyd = columns(events="batch", **{"column.tenant": "envelope:/context/app", "column.src": "envelope:sentAt"})
    before = '{"sentAt":"t\\u00e9","context":{"app":7},"batch":[{"id":"a"},{"id":"b"}]}'
    behind = '{"batch":[{"id":"c"}],"context":{"app":[1,{"x":2}]},"sentAt":null}'
    assert accepted(alloyd.post(before)) == (2, 0)
    assert accepted(alloyd.post(behind + before.replace('"a"', '"d"').replace('"b"', '"e"') + '{"id":"f","context":{"app":"no"}}')) == (4, 0)
    large = ",".join('{"id":"l%03d","x":"%s"}' % (i, "y" * 1000) for i in range(400))
    assert accepted(alloyd.post(gzip.compress(('{"batch":[%s],"sentAt":"late"}' % large).encode()), headers={"Content-Encoding": "gzip"})) == (400, 0)
    alloyd.settled()
    rows = alloyd.get("id, tenant, src")
    assert rows[:6] == [["a", "7", "té"], ["b", "7", "té"], ["c", '[1,{"x":2}]', "-"], ["d", "7", "té"], ["e", "7", "té"], ["f", "-", "-"]]
    assert rows[6:] == [["l%03d" % i, "-", "late"] for i in range(400)]
    # An element that has the column itself, and a value that does not fit.
    assert alloyd.post('{"sentAt":1,"batch":[{"id":"g","src":2}]}').json["error"] == "invalid_event"
    answer = alloyd.post('{"batch":[{"id":"h"}],"sentAt":"%s"}' % ("x" * 3071))
    assert (answer.status, answer.json["error"]) == (413, "too_large") and "envelope:NAME" in answer.json["message"]
    assert accepted(alloyd.post('{"batch":[{"id":"h"}],"sentAt":"%s"}' % ("x" * 3070))) == (1, 0)
    # Each envelope costs a copy of its columns: so many in one request and no more.
    many = "".join('{"sentAt":%d,"batch":[{"id":"m%d"}]}' % (i, i) for i in range(33))
    assert alloyd.post(many).status == 413
    assert accepted(alloyd.post(many[:many.index('{"sentAt":32')])) == (32, 0)
    alloyd.settled()


def anonymous_bytes(alloyd):
    status = pathlib.Path(f"/proc/{alloyd.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) << 10


def test_members_of_their_own_cost_no_copy_of_the_columns_for_each_event(columns):
    alloyd = columns(column_conflict="event")
    names = [key.split(".")[1] for key in COLUMNS if key != "column.at"]
    headers = {"X-Tenant": "t" * 500, "User-Agent": "u" * 500}
    before = anonymous_bytes(alloyd)
    body = "".join('{"id":"i%d","%s":"own"}' % (i, names[i % len(names)]) for i in range(50000))
    assert accepted(alloyd.post(body, headers=headers)) == (50000, 0)
    # A copy for each would be 100 MiB and more.
    assert anonymous_bytes(alloyd) - before < 64 << 20
    kinds = "".join('{"id":"k%d"%s}' % (mask, "".join(',"%s":"own"' % name for i, name in enumerate(names) if mask >> i & 1))
                    for mask in range(1 << len(names)))
    assert accepted(alloyd.post(kinds, headers=headers)) == (1 << len(names), 0)  # 32
    assert alloyd.settled(deadline=60)["inserted"] == 50000 + (1 << len(names))


def test_an_event_without_members_and_a_dead_letter(columns, tmp_path):
    alloyd = columns(id="header:X-Id", missing_id="hash")
    assert accepted(alloyd.post("{ }", headers={"X-Id": "1"})) == (1, 0)
    alloyd.settled()
    assert alloyd.get("ip, path") == [["127.0.0.1", "/v1/events"]]
    # What ClickHouse refuses is kept as it came: whoever sends it again gives it new columns.
    assert accepted(alloyd.post('{"id":"bad","bad":1}', headers={"X-Id": "2"})) == (1, 0)
    harness.wait_until(lambda: "row refused" in alloyd.log(), "the refusal")
    assert accepted(alloyd.post('{"id":"good"}', headers={"X-Id": "3"})) == (1, 0)
    books = alloyd.settled()
    assert books["dead_lettered"] == 1
    line, = (json.loads(line) for path in pathlib.Path(alloyd.sections["dead_letter"]["dir"]).glob("*.ndjson")
             for line in path.read_text().splitlines())
    assert line["event"] == {"id": "bad", "bad": 1}


def test_forms_and_queries_hold_events(door):
    alloyd = door(preset="mixpanel", path="/track", id="id", missing_id="refuse")
    plain, verbose = b"1", b'{"status":1}'

    def form(text, coded=True):
        return "data=" + (base64.b64encode(text.encode()).decode() if coded else urllib.parse.quote_plus(text))

    def told(answer, body):
        assert (answer.status, answer.body) == (200, body), answer

    told(alloyd.post(form('[{"id":"a"},{"id":"b"}]'), "/track"), plain)
    told(alloyd.post(form('{"id":"c","x":"+ &%"}', False) + "&ip=1", "/track?verbose=1"), verbose)
    told(alloyd.post(None, "/track/?ip=0&verbose=0&" + form('{"id":"d"}'), method="GET"), plain)
    told(alloyd.post(None, "/track?verbose=1&" + form('{"id":"e","x":"?>"}', False) + "&x=1", method="GET"), verbose)
    told(alloyd.post('{"id":"a"}{"id":"d"}', "/track"), plain)
    many = json.dumps([{"id": f"large-{i}", "x": "y" * 1000} for i in range(1000)])
    told(alloyd.post(form(many), "/track"), plain)
    told(alloyd.post(form(many, False), "/track"), plain)
    query = f"GET /track?{form('[' + ','.join(json.dumps(dict(id=f'q{i}')) for i in range(9)) + ']')} HTTP/1.1\r\nHost: a\r\n\r\n"
    assert alloyd.raw(query.encode() * 3).count(b"\r\n\r\n1") == 3
    assert alloyd.post(None, "/track", method="GET").status == 405
    answer = alloyd.post(form('{"id":"f"}{"x":1}'), "/track")
    assert (answer.status, answer.json["error"], answer.json["event"], answer.json["offset"]) == (400, "missing_id", 1, 10)
    bad = alloyd.post("data=eyJ.", "/track")
    assert (bad.status, bad.json["message"]) == (400, "The form's data is neither JSON nor base64.")
    alloyd.settled()
    rows = [row for row in alloyd.rows_of() if not row.startswith("large")]
    assert rows == ["a", "b", "c", "d", "e"] + [f"q{i}" for i in range(9)]
    assert sorted(alloyd.rows_of("x"))[-1000:] == ["y" * 1000] * 1000
    assert {"+ &%", "?>"} < set(alloyd.rows_of("x"))


def test_an_event_of_cloudevents_is_the_same_in_every_mode(door, clickhouse, table):
    # The id is the preset's.
    alloyd = door(preset="cloudevents", id="percent:ce-source|source, percent:ce-id|id", **{"column.x": "header:X-Raw"})
    name, source = "Euro € 😀%2F\"", "/söurce?a=b c"

    def binary(event_id, event_source, more={}):
        return alloyd.post("{}", headers={"ce-id": event_id, "ce-source": event_source, "ce-specversion": "1.0", "ce-type": "t",
                                          "Content-Type": "application/json", **more})

    structured = json.dumps({"specversion": "1.0", "type": "t", "id": name, "source": source})
    assert accepted(alloyd.post(structured, headers={"Content-Type": "application/cloudevents+json"})) == (1, 0)
    coded = "Euro%20%E2%82%AC%20%f0%9f%98%80%252F%22"
    assert accepted(binary(coded, "/s%C3%B6urce?a=b%20c", {"X-Raw": "%41"})) == (0, 1)
    assert accepted(binary('"' + coded.replace("%20", " ").replace("%22", '\\"') + '"', '"/s%C3%B6urce?a=b c"')) == (0, 1)
    # The other way round, and what is not encoded so.
    assert accepted(binary("%C3%A9", "s", {"X-Raw": "%41"})) == (1, 0)
    assert accepted(alloyd.post('{"id":"é","source":"s"}')) == (0, 1)
    for raw in ("50%", "%zz", "%ff"):
        assert accepted(binary(raw, "s")) == (1, 0)
        assert accepted(alloyd.post(json.dumps({"id": raw, "source": "s"}))) == (0, 1)
    assert binary("%C3%A9" * 129, "s").json["error"] == "invalid_id"
    assert accepted(binary("%C3%A9" * 128, "s")) == (1, 0)
    alloyd.settled()
    rows = clickhouse.rows(f"SELECT id, x FROM {table}_s ORDER BY id")
    assert sorted(rows) == sorted([[name, ""], ["é", "%41"], ["50%", ""], ["%zz", ""], ["%ff", ""], ["é" * 128, ""]])
