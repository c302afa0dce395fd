# SPDX-License-Identifier: Apache-2.0
"""Who is refused and why: counted by stream and error, told in /stats and in the log."""

import datetime
import gzip
import html.parser
import re
import signal
import ssl
import time
import zlib

import pytest

import harness
from conftest import sections_for

POST = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n%s"


def start(make_alloyd, /, **more):
    return make_alloyd(sections_for(None, None, "default.events", **more)).start()


@pytest.fixture
def alloyd(make_alloyd):
    return start(make_alloyd, stream__clicks={"path": "/v1/clicks", "table": "default.clicks", "id": "click"})


def http(body, path=b"/v1/events", more=b""):
    return POST % (path, len(body), more, body)


def refused(alloyd):
    """{(stream, code, error): requests}, after a look at whether they add up to the answers by status."""
    found, answers = {}, {}
    for name, value in alloyd.metrics().items():
        row = re.fullmatch(r'alloy_http_refused_total\{stream="(.*)",code="(\d+)",error="(\w+)"\}', name)
        if row:
            assert value > 0, name
            found[row[1], int(row[2]), row[3]] = int(value)
        row = re.fullmatch(r'alloy_http_requests_total\{code="(\d+)"\}', name)
        if row and int(row[1]) >= 400 and value:
            answers[int(row[1])] = int(value)
    sums = {}
    for (_, code, _), value in found.items():
        sums[code] = sums.get(code, 0) + value
    assert sums == answers
    # What is not refused is taken, but for what is no stream's.
    taken = sum(value for name, value in alloyd.metrics().items() if name.startswith("alloy_http_taken_total{"))
    assert taken <= sum(value for name, value in alloyd.metrics().items()
                        if re.fullmatch(r'alloy_http_requests_total\{code="2\d\d"\}', name))
    return found


# What is sent, and the row that counts it.
REFUSED = [
    (b"\0\1\2", ("", 400, "bad_request")),
    (b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", ("", 400, "bad_request")),
    (http(b"{}", b"/v1/events?ack=all"), ("events", 400, "bad_request")),
    (http(b"[1"), ("events", 400, "invalid_json")),
    (http(b"[1", b"/v1/clicks"), ("clicks", 400, "invalid_json")),
    (http(b"{}"), ("events", 400, "missing_id")),
    (http(b'{"event_id":""}'), ("events", 400, "invalid_id")),
    (http(b"[]"), ("events", 400, "empty")),
    (http(b"{} {}", more=b"Prefer: handling=lenient\r\n"), ("events", 400, "missing_id")),
    (http(b"{}", b"/nowhere"), ("", 404, "not_found")),
    (b"PUT /v1/clicks HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", ("clicks", 405, "method_not_allowed")),
    (b"POST /v1/events HTTP/1.1\r\nHost: a\r\n\r\n", ("events", 411, "length_required")),
    (b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", ("events", 413, "too_large")),
    (http(b"x" * 10, more=b"Content-Encoding: br\r\n"), ("events", 415, "unsupported_encoding")),
    (http(b"x" * 10, more=b"Content-Encoding: gzip\r\n"), ("events", 400, "bad_request")),
    (b"GET / HTTP/1.1\r\nX: " + b"y" * 20000, ("", 431, "head_too_large")),
    (b"POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", ("", 501, "not_implemented")),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ("", 505, "unsupported_version")),
]


def last(alloyd):
    return alloyd.admin("/stats").json["refusals"]


@pytest.mark.parametrize("sent, row", REFUSED)
def test_a_refusal_is_counted_by_stream_and_error(alloyd, sent, row):
    assert alloyd.post(harness.event("a")).status == 202
    answer = alloyd.raw(sent)
    assert answer.startswith(b"HTTP/1.1 %d " % row[1])
    assert refused(alloyd) == {row: 1}
    told, = last(alloyd)
    assert (told["stream"], told["status"], told["error"]) == row and told["address"] == "127.0.0.1"
    assert told["message"] and (b'"error":"%s"' % row[2].encode() in answer)
    stats = alloyd.admin("/stats").json
    counts = stats["streams"][row[0]]["refused"] if row[0] else stats["http"]["refused"]
    assert counts == {row[2]: 1}
    assert stats["streams"]["events"]["last_minute"] == {"refused": int(row[0] == "events"), "taken": 1}
    assert stats["streams"]["clicks"]["last_minute"] == {"refused": int(row[0] == "clicks"), "taken": 0}


def test_pipelined_requests_count_for_their_own_streams(alloyd):
    good = [http(harness.event(f"p-{i}").encode()) for i in range(3)]
    bad = [http(b"{}", b"/v1/clicks"), http(b"{}"), http(b"{}", b"/nowhere"), http(b"[", b"/v1/clicks")]
    for _ in range(3):
        answers = alloyd.raw(good[0] + bad[0] + bad[1] + good[1] + bad[2] + bad[3] + good[2] + bad[0] + b"NONSENSE\r\n\r\n")
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"202", b"400", b"400", b"202", b"404", b"400", b"202", b"400", b"400"]
    assert alloyd.metrics()['alloy_http_taken_total{stream="events"}'] == 9
    assert alloyd.metrics()['alloy_http_taken_total{stream="clicks"}'] == 0
    assert refused(alloyd) == {("clicks", 400, "missing_id"): 6, ("events", 400, "missing_id"): 3,
                               ("", 404, "not_found"): 3, ("clicks", 400, "invalid_json"): 3,
                               ("", 400, "bad_request"): 3}


def test_what_is_taken_is_not_refused(alloyd):
    assert alloyd.post(harness.event("a")).status == 202
    assert alloyd.post(harness.event("a")).status == 202
    lenient = alloyd.post(harness.event("b") + "{}", headers={"Prefer": "handling=lenient"})
    assert (lenient.status, lenient.json["invalid"]) == (202, 1)
    assert alloyd.post(None, "/healthz", method="GET").status == 200
    assert alloyd.post(None, "/", method="OPTIONS").status == 204
    assert refused(alloyd) == {}


def test_slow_requests_and_connections_without_a_place(make_alloyd):
    alloyd = start(make_alloyd, server={"head_timeout": "200ms", "body_timeout": "200ms", "max_connections": 2, "threads": 1})
    with alloyd.connect() as head, alloyd.connect() as body:
        head.sendall(b"POST /v1/events HTTP/1.1\r\n")
        body.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
        assert alloyd.raw(b"").startswith(b"HTTP/1.1 503 ")
        assert harness.read_answer(head).status == harness.read_answer(body).status == 408
    assert refused(alloyd) == {("", 408, "timeout"): 1, ("events", 408, "timeout"): 1, ("", 503, "overloaded"): 1}


def test_keys_and_limits(make_alloyd, tmp_path):
    keys = tmp_path / "keys"
    text = harness.subprocess.run([harness.BUILD / "alloyctl", "key", "add", "web", "--streams", "clicks", "--file", keys],
                                  capture_output=True, text=True, check=True).stdout
    key = re.search(r"\S{20,}", text)[0]
    alloyd = start(make_alloyd, auth={"keys_file": keys}, limits={"address_requests": 4},
                   stream__clicks={"path": "/v1/clicks", "table": "default.clicks", "id": "click"})
    statuses = [alloyd.post("{}", headers=headers).status for headers in ({}, {"X-Api-Key": "no"}, {"X-Api-Key": key})]
    assert statuses == [401, 401, 403]
    harness.wait_until(lambda: alloyd.post("{}").status == 429, "too many requests", interval=0)
    found = refused(alloyd)
    assert found["events", 403, "forbidden"] == 1 and found["events", 429, "rate_limited"] >= 1
    assert found["events", 401, "unauthorized"] >= 2 and len(found) == 3
    told = {note["error"]: note for note in last(alloyd)}
    assert told["forbidden"]["key"] == "web" and told["unauthorized"]["key"] is None
    assert key not in alloyd.admin("/stats").body.decode()


def test_a_full_ring_and_what_clickhouse_rejects(make_alloyd, clickhouse, table):
    alloyd = make_alloyd(sections_for(None, clickhouse, table, ring={"capacity": 5})).start()
    assert alloyd.post("\n".join(harness.event(f"r-{i}") for i in range(6))).status == 413
    assert alloyd.post(harness.event("bad", ts="never"), "/v1/events?ack=clickhouse").status == 422
    assert refused(alloyd) == {("events", 413, "too_large"): 1, ("events", 422, "rejected"): 1}
    told = last(alloyd)[0]
    assert (told["error"], told["event"], told["offset"]) == ("rejected", 0, None)
    assert "never" not in alloyd.admin("/stats").body.decode()
    alloyd.settled()


def test_the_answer_to_a_balancer_is_no_refusal_of_an_event(make_alloyd, redis, clickhouse):
    alloyd = make_alloyd(sections_for(redis, clickhouse, "default.there_is_no_such_table")).start(ready=False)
    harness.wait_until(lambda: alloyd.post(None, "/readyz", method="GET").status == 503, "not ready")
    assert refused(alloyd) == {("", 503, "not_ready"): 1} and last(alloyd) == []


def test_the_last_refusals_tell_all_but_what_is_secret(alloyd):
    before = time.time()
    alloyd.post("{}", "/v1/clicks")
    body = harness.event("good") + '\n{"event_id":true,"secret":1}'
    answer = alloyd.post(body, "/v1/events?key=secret", headers={"Authorization": "Bearer secret", "X-Secret": "secret"})
    first, second = last(alloyd)
    when = datetime.datetime.fromisoformat(first.pop("time").replace("Z", "+00:00")).timestamp()
    assert before - 1 <= when <= time.time() + 1
    assert first == {"address": "127.0.0.1", "stream": "events", "status": 400, "error": "invalid_id", "key": None,
                     "method": "POST", "path": "/v1/events", **{k: answer.json[k] for k in ("message", "event", "offset")}}
    assert second["stream"] == "clicks" and second["message"].startswith('No id: the event has no field "click"')
    assert "secret" not in alloyd.admin("/stats").body.decode()


def test_a_hostile_path_is_told_as_text(alloyd):
    assert alloyd.raw(b'GET /<script>"\\=x HTTP/1.1\r\nHost: a\r\n\r\n').startswith(b"HTTP/1.1 404")
    alloyd.post("{}", "/" + "x" * 5000)
    long, short = last(alloyd)
    assert short["path"] == '/<script>"\\=x'
    assert long["path"] == "/" + "x" * 99


def test_a_flood_hides_nothing_and_is_counted_whole(alloyd):
    alloyd.post("{}")
    for _ in range(20):
        answers = alloyd.raw(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        assert answers.count(b"HTTP/1.1 404") == 100
    assert refused(alloyd)["", 404, "not_found"] == 2000
    told = last(alloyd)
    assert len(told) <= 100 and told[-1]["error"] == "missing_id"
    assert [note["time"] for note in told] == sorted((note["time"] for note in told), reverse=True)


def test_many_are_refused_while_others_look(make_alloyd):
    alloyd = start(make_alloyd, log={"requests": "refused"}, stream__clicks={"path": "/v1/clicks", "table": "default.clicks"})

    def work(i):
        client = alloyd.client()
        for n in range(150):
            if i == 0:
                assert all(note["message"] for note in last(alloyd))
            else:
                path, body, status = [("/v1/events", "{}", 400), ("/v1/clicks", "[", 400), ("/nowhere", "{}", 404),
                                      ("/v1/events", harness.event(f"{i}-{n}"), 202)][n % 4]
                assert harness.request(client, body, path).status == status

    harness.in_threads(5, work)
    assert refused(alloyd) == {("events", 400, "missing_id"): 4 * 38, ("clicks", 400, "invalid_json"): 4 * 38,
                               ("", 404, "not_found"): 4 * 37}
    assert alloyd.metrics()['alloy_http_taken_total{stream="events"}'] == 4 * 37


def lines(alloyd, what="request"):
    return [line for line in alloyd.log().splitlines() if f'msg="{what} ' in line]


def test_refused_requests_are_logged_at_a_limited_rate_once_that_is_asked_for(alloyd):
    alloyd.post("{}")
    alloyd.sections["log"]["requests"] = "refused"
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: alloyd.post("[") and lines(alloyd), "a line")
    assert not any("missing_id" in line for line in lines(alloyd))
    assert alloyd.post(harness.event("a")).status == 202
    seconds = time.monotonic()
    for _ in range(300):
        assert alloyd.post("{}").status == 400
    seconds = time.monotonic() - seconds
    alloyd.post("{}", "/nowhere")  # another reason has its own ten
    harness.wait_until(lambda: any("error=not_found" in line and "path=/nowhere" in line for line in lines(alloyd)), "a line")
    found = [line for line in lines(alloyd) if "error=missing_id" in line]
    assert 10 <= len(found) <= 10 * (seconds + 2)
    harness.wait_until(lambda: alloyd.post("{}") and re.search(r"error=missing_id .* suppressed=[1-9]", alloyd.log()), "a sum")
    for part in ("level=info", "status=400", "stream=events", "address=127.0.0.1", "event=0", "offset=0", "path=/v1/events"):
        assert part in found[0]


def test_every_request_is_logged_once_that_is_asked_for(make_alloyd):
    alloyd = start(make_alloyd, log={"requests": "all"})
    for i in range(50):
        assert alloyd.post(harness.event("a") + harness.event(f"b-{i}")).status == 202
        assert alloyd.post("{}").status == 400
    harness.wait_until(lambda: len(lines(alloyd)) >= 100, lambda: len(lines(alloyd)))
    good = [line for line in lines(alloyd) if "status=202" in line]
    assert len(good) == 50 and len(lines(alloyd)) == 100
    assert re.search(r"stream=events address=127.0.0.1 method=POST path=/v1/events accepted=1 duplicates=1 invalid=0 "
                     r"bytes=\d+ ms=\d+\.\d{3}$", good[-1])


def utf16(text, order):
    return b"\xff\xfe" * (order == "bom") + text.encode("utf-16-be" if order == "be" else "utf-16-le")


# Body, headers, and the words that the message must have.
MISFITS = [
    (zlib.compress(b"{}" * 50), {}, "Content-Encoding: deflate"),
    (b"\x28\xb5\x2f\xfd\x04\x00\x11\x00\x00{}", {}, "Content-Encoding: zstd"),
    (gzip.compress(gzip.compress(b"{}")), {"Content-Encoding": "gzip"}, "compressed twice"),
    (b'<?xml version="1.0"?><a/>', {"Content-Type": "text/xml"}, "XML"),
    (b"a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"}, "form"),
    (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n{}\r\n--x--\r\n',
     {"Content-Type": "multipart/form-data; boundary=x"}, "multipart form"),
    (b"\x0a\x90\x01\x0a", {"Content-Type": "application/x-protobuf"}, "http/json"),
    *((utf16('{"event_id":"1"}', order), {}, "UTF-16") for order in ("le", "be", "bom")),
    (b'"{\\"event_id\\":1}"', {}, "encoded twice"),
    (b'"hello"', {}, "JSON string"),
    (b"42", {}, "no object"),
    (b"[object Object]", {}, "JSON.stringify"),
]


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("body, headers, words", MISFITS)
def test_what_comes_in_place_of_json_is_named(alloyd, body, headers, words, lenient):
    if lenient:
        headers = {**headers, "Prefer": "handling=lenient"}
    answer = alloyd.post(body, headers=headers)
    # A lenient answer lists what is wrong, but for a fault in an array.
    error = answer.json["errors"][0] if lenient and "errors" in answer.json else answer.json
    assert (answer.status, error["error"]) == (400, "invalid_json")
    assert words in error["message"] and words in last(alloyd)[0]["message"]


def test_a_large_body_that_is_no_json_is_named(alloyd):
    assert "XML" in alloyd.post(b"<a>" + b"x" * 400000 + b"</a>").json["message"]
    assert "XML" in alloyd.post(gzip.compress(b"<a>" + b"x" * 400000 + b"</a>")).json["message"]


def test_broken_json_is_told_as_such(alloyd):
    for body in ('{"event_id":1', '{"event_id":x}', "[1]", '{"a":1}<', "hello"):
        message = alloyd.post(body, headers={"Content-Type": "text/xml" if body[0] in "{[" else "text/plain"}).json["message"]
        assert not re.search("XML|form|twice|UTF", message), body


def test_other_protocols_on_the_port_are_named(alloyd):
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100
    assert b"TLS" in alloyd.raw(hello) and "TLS" in last(alloyd)[0]["message"]
    with pytest.raises(ssl.SSLError), alloyd.connect() as s:
        ssl._create_unverified_context().wrap_socket(s)
    answer = alloyd.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
    assert answer.startswith(b"HTTP/1.1 505 ") and b"HTTP/2" in answer
    assert refused(alloyd) == {("", 400, "bad_request"): 2, ("", 505, "unsupported_version"): 1}


def test_an_offer_of_http2_is_ignored(alloyd):
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    assert alloyd.post(harness.event("a"), headers=offer).status == 202
    assert alloyd.post(None, '/v1/events?data={"event_id":"b"}', method="GET").status == 202


class Page(html.parser.HTMLParser):
    """The rows of each table body by its id, and those that are bad."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.table, self.bad, self.tags, self.hidden = {}, None, [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        if "hidden" in attributes:
            self.hidden.add(attributes.get("id"))
        if tag == "tbody":
            self.table = self.rows.setdefault(attributes["id"], [])
        elif tag == "tr" and self.table is not None:
            self.table.append([])
            if attributes.get("class") == "bad":
                self.bad.append(self.table[-1])
        elif tag == "td":
            self.table[-1].append("")

    def handle_endtag(self, tag):
        if tag == "tbody":
            self.table = None

    def handle_data(self, data):
        if self.table and self.table[-1]:
            self.table[-1][-1] += data


def page(alloyd, tmp_path):
    """The page of the admin port as a browser has it after some seconds."""
    run = harness.subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/chromium",
                                  "--virtual-time-budget=2500", "--dump-dom", f"http://127.0.0.1:{alloyd.admin_port}/"],
                                 capture_output=True, text=True, timeout=harness.DEADLINE, check=True)
    return Page(run.stdout)


def test_the_page_shows_who_is_refused_and_takes_nothing_for_html(alloyd, tmp_path):
    assert "refused" in page(alloyd, tmp_path).hidden
    assert alloyd.post(harness.event("a")).status == 202
    assert alloyd.raw(b"GET /<img><b>x</b> HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 404")
    for _ in range(3):
        assert alloyd.post('{"event_id":"x","click":[]}', "/v1/clicks").status == 400
    alloyd.post("[")
    shown = page(alloyd, tmp_path)
    assert "refused" not in shown.hidden and "img" not in shown.tags
    assert [row[2:7] for row in shown.rows["refusals"]][:2] == [
        ["events", "400 invalid_json", "event 0, offset 1", "POST /v1/events", ""],
        ["clicks", "400 invalid_id", "event 0, offset 24", "POST /v1/clicks", ""]]
    assert shown.rows["refusals"][-1][5] == "GET /<img><b>x</b>" and shown.rows["refusals"][-1][1] == "127.0.0.1"
    books = {row[0]: row for row in shown.rows["books"]}
    assert books["events"][-1] == "1" and books["no stream"][-1] == "1"
    assert books["clicks"][-1] == "3 (all of the last minute)" and [row[0] for row in shown.bad] == ["clicks"]


def test_what_only_asks_is_not_taken(make_alloyd):
    """A stream that refuses every event, and answers browsers that ask first, refuses everything."""
    alloyd = start(make_alloyd, server={"cors_origins": "*"})
    assert alloyd.post(None, method="OPTIONS", headers={"Origin": "https://a.example"}).status == 204
    assert alloyd.post("{}", headers={"Origin": "https://a.example"}).status == 400
    assert alloyd.admin("/stats").json["streams"]["events"]["last_minute"] == {"refused": 1, "taken": 0}


def test_alerts_know_what_is_there(alloyd):
    """The rules use labels and errors that exist."""
    text = (harness.ROOT / "config" / "alloy.rules.yml").read_text()
    rules = dict(re.findall(r"- alert: (\w+)\n(.*?)        labels: ", text, re.S))
    assert alloyd.post("{}").status == 400
    rows = [name for name in alloyd.metrics() if name.startswith(("alloy_http_refused_total", "alloy_http_taken_total"))]
    labels = {name.split("{")[0]: set(re.findall(r'(\w+)="', name)) for name in rows}
    for alert in ("AlloyStreamRefuses", "AlloyKeysRefused"):
        assert rules[alert].count("(") == rules[alert].count(")")
        assert "alloy_http_refused_total" in rules[alert]
        for metric, matchers in re.findall(r"(alloy_http_(?:refused|taken)_total)(?:\{(.*?)\})?\[", rules[alert]):
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= labels[metric], (alert, metric)
