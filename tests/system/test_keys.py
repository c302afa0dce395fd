# SPDX-License-Identifier: Apache-2.0
"""Keys of clients, limits by key and address, and the guard of the admin port."""

import base64
import collections
import http.client
import json
import os
import signal
import subprocess
import threading
import time

import pytest

import harness
from harness import event

ALLOYCTL = harness.BUILD / "alloyctl"


class Keys:
    """A keys file and the alloyctl that keeps it."""

    def __init__(self, folder):
        self.path = folder / "keys"
        self.path.touch()

    def ctl(self, *words):
        return subprocess.run([ALLOYCTL, "key", *words, "--file", self.path], check=True, text=True,
                              stdout=subprocess.PIPE, timeout=60).stdout

    def add(self, name, *options):
        return self.ctl("add", name, *options).strip()

    def remove(self, name):
        self.ctl("remove", name)


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path)


def sections(keys=None, **more):
    """No Redis, and events go nowhere: this is about the door."""
    found = {"redis": {"url": ""}, "clickhouse": {"url": "discard:"},
             "stream.events": {"table": "default.events"}, "stream.logs": {"table": "default.logs"}}
    if keys:
        found["auth"] = {"keys_file": keys.path}
    for section, values in more.items():
        found.setdefault(section.replace("__", "."), {}).update(values)
    return found


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def events(*ids):
    return "".join(event(i) for i in ids)


def reload(alloyd):
    before = alloyd.log().count("configuration reloaded")
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: alloyd.log().count("configuration reloaded") > before, "the reload")


def code(answer):
    return answer.status, answer.json.get("error")


def ways(key):
    """(headers, query) of every way that a key comes."""
    user = base64.b64encode(f"{key}:".encode()).decode()
    escaped = "".join(f"%{byte:02X}" for byte in key.encode())
    return [
        (bearer(key), ""), ({"authorization": f"bearer {key}"}, ""), ({"Authorization": f"Basic {user}"}, ""),
        ({"X-Api-Key": key}, ""), ({"x-write-key": key}, ""), ({}, f"?key={key}"), ({}, f"?write_key={key}"),
        ({}, f"?a=b&api_key={key}"), ({}, f"?key={escaped}"), ({"Authorization": "Bearer other"}, f"?key={key}"),
    ]


def test_every_way_a_key_comes(make_alloyd, keys):
    key = keys.add("web", "--streams", "events")
    alloyd = make_alloyd(sections(keys)).start()
    for number, (headers, query) in enumerate(ways(key)):
        answer = alloyd.post(event(f"e{number}"), f"/v1/events{query}", headers)
        assert answer.status == 202 and answer.json == {"accepted": 1, "duplicates": 0}, (headers, query)
    books = alloyd.settled()
    assert books["accepted"] == len(ways(key)) and books["rejected"] == 0
    assert alloyd.metrics()['alloy_key_events_total{key="web"}'] == len(ways(key))
    assert json.loads(alloyd.admin("/stats").body)["keys"] == {"web": {"events": len(ways(key)), "limited": 0}}


def test_no_key_a_wrong_one_and_one_of_another_stream(make_alloyd, keys):
    key = keys.add("web", "--streams", "events")
    alloyd = make_alloyd(sections(keys)).start()
    for headers, query in [({}, ""), ({}, "?ack=disk"), ({"Authorization": "Digest x"}, "")]:
        answer = alloyd.post(event("a"), f"/v1/events{query}", headers)
        assert code(answer) == (401, "unauthorized") and answer.headers["WWW-Authenticate"] == "Bearer"
        assert "has no key" in answer.json["message"]
    for headers, query in ways("ak_wrong") + ways(key + "x") + ways(key[:-1]):
        answer = alloyd.post(event("a"), f"/v1/events{query}", headers)
        assert code(answer) == (401, "unauthorized") and "not known" in answer.json["message"]
    for headers, query in ways(key):
        assert code(alloyd.post(event("a"), f"/v1/logs{query}", headers)) == (403, "forbidden")
    # What is no stream is still no stream, and nothing was kept of what was refused.
    assert code(alloyd.post(event("a"), "/v1/none")) == (404, "not_found")
    assert code(alloyd.post("", method="GET")) == (405, "method_not_allowed")
    for stream in ("events", "logs"):
        books = alloyd.settled(stream)
        assert books["received"] == 0 and books["rejected"] == 0
    assert alloyd.post(event("a"), headers=bearer(key)).json == {"accepted": 1, "duplicates": 0}


def test_a_refused_request_leaves_its_connection_usable(make_alloyd, keys):
    key = keys.add("web")
    alloyd = make_alloyd(sections(keys)).start()
    client = alloyd.client()
    for number in range(3):
        assert harness.request(client, event("a") * 1000).status == 401
        assert harness.request(client, event(f"b{number}"), headers=bearer(key)).status == 202
    chunks = (event(f"c{i}").encode() for i in range(10))
    client.request("POST", "/v1/events", body=chunks, encode_chunked=True)
    answer = client.getresponse()
    assert answer.status == 401 and answer.read()
    assert harness.request(client, event("d"), headers=bearer(key)).status == 202
    client.close()
    # Who asks before sending the body is told before sending it.
    with alloyd.connect() as s:
        s.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
        assert harness.read_answer(s).status == 401


def test_a_reload_adds_and_removes_keys(make_alloyd, keys):
    old = keys.add("old")
    alloyd = make_alloyd(sections(keys)).start()
    client = alloyd.client()
    new = keys.add("new")
    assert harness.request(client, event("a"), headers=bearer(new)).status == 401
    reload(alloyd)
    assert '"configuration changed" key=auth.keys_file takes_effect=now' in alloyd.log()
    assert harness.request(client, event("a"), headers=bearer(new)).status == 202
    assert harness.request(client, event("b"), headers=bearer(old)).status == 202
    keys.remove("old")
    assert harness.request(client, event("c"), headers=bearer(old)).status == 202
    reload(alloyd)
    assert harness.request(client, event("d"), headers=bearer(old)).status == 401
    assert harness.request(client, event("d"), headers=bearer(new)).status == 202
    metrics = alloyd.metrics()
    assert metrics['alloy_key_events_total{key="new"}'] == 2
    assert 'alloy_key_events_total{key="old"}' not in metrics
    # A file with a mistake changes nothing, and is told by its line.
    keys.path.write_text(keys.path.read_text() + "broken\n")
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: "not reloaded" in alloyd.log(), "the refusal")
    assert f"{keys.path}:2: a line is" in alloyd.log()
    assert harness.request(client, event("e"), headers=bearer(new)).status == 202
    # No keys file any more: everybody may send.
    alloyd.sections["auth"]["keys_file"] = ""
    alloyd.write_ini()
    reload(alloyd)
    assert harness.request(client, event("f")).status == 202
    client.close()


def test_check_names_file_and_line(make_alloyd, keys, tmp_path):
    keys.path.write_text("# keys\nweb b2:00 *\nweb\n")
    alloyd = make_alloyd(sections(keys))
    alloyd.write_ini()
    run = subprocess.run([harness.BUILD / "alloyd", "--check", "--config", alloyd.ini], text=True,
                         stderr=subprocess.PIPE, check=False, timeout=60)
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        f"{keys.path}:2: the hash must be b2: and 64 hexadecimal digits (alloyctl key add writes it)",
        f"{keys.path}:3: a line is: name hash streams [events a second]"]


def test_a_stream_that_a_key_names_need_not_be_there(make_alloyd, keys):
    key = keys.add("web", "--streams", "later,events")
    alloyd = make_alloyd(sections(keys)).start()
    assert 'names streams that are not configured" key=web streams=later,events' in alloyd.log()
    assert alloyd.post(event("a"), headers=bearer(key)).status == 202


def test_a_key_has_a_rate_and_a_refused_request_is_new_later(make_alloyd, keys):
    slow, fast = keys.add("slow", "--rate", "10"), keys.add("fast")
    alloyd = make_alloyd(sections(keys)).start()
    assert alloyd.post(events(*range(10)), headers=bearer(slow)).status == 202
    answer = alloyd.post(events("x", "y", "z", "u", "v"), headers=bearer(slow))
    assert code(answer) == (429, "rate_limited") and "with this key" in answer.json["message"]
    assert answer.headers["Retry-After"] == "1"
    # All or nothing, and others are not concerned.
    assert alloyd.post(events(*range(100, 200)), headers=bearer(fast)).json == {"accepted": 100, "duplicates": 0}
    time.sleep(1)
    assert alloyd.post(events("x", "y", "z", "u", "v"), headers=bearer(slow)).json == {"accepted": 5, "duplicates": 0}
    books = alloyd.settled()
    assert (books["received"], books["accepted"], books["rejected"]) == (120, 115, 5)
    metrics = alloyd.metrics()
    assert metrics['alloy_events_rejected_total{stream="events",reason="rate_limited"}'] == 5
    assert metrics['alloy_key_events_total{key="slow"}'] == 20
    assert metrics['alloy_key_events_limited_total{key="slow"}'] == 5
    assert metrics['alloy_key_events_total{key="fast"}'] == 100
    assert metrics['alloy_key_events_limited_total{key="fast"}'] == 0


def test_a_debt_is_told_and_survives_a_reload(make_alloyd, keys):
    key = keys.add("slow", "--rate", "10")
    alloyd = make_alloyd(sections(keys)).start()
    assert alloyd.post(events(*range(300)), headers=bearer(key)).status == 202
    for _ in range(2):
        answer = alloyd.post(event("x"), headers=bearer(key))
        assert answer.status == 429 and 27 <= int(answer.headers["Retry-After"]) <= 30
        keys.add("another")
        reload(alloyd)
        keys.remove("another")
        reload(alloyd)
    # Another rate begins anew.
    keys.path.write_text(keys.path.read_text().replace(" 10\n", " 20\n"))
    reload(alloyd)
    assert alloyd.post(event("x"), headers=bearer(key)).status == 202


def test_what_admission_refuses_costs_nothing(make_alloyd, keys):
    key = keys.add("slow", "--rate", "100")
    alloyd = make_alloyd(sections(keys, ring={"capacity": 50}, limits={"address_events": 100})).start()
    for _ in range(5):
        assert alloyd.post(events(*range(90)), headers=bearer(key)).status == 413
    for _ in range(5):
        assert alloyd.post(events(*range(90)) + "{", headers=bearer(key)).status == 400
    assert alloyd.post(events(*range(45)), headers=bearer(key)).status == 202
    assert alloyd.settled()["rejected"] == 450


def test_a_large_body_is_limited_like_others(make_alloyd, keys):
    key = keys.add("slow", "--rate", "1000")
    alloyd = make_alloyd(sections(keys)).start()
    body = events(*range(4000))
    assert len(body) > 512 * 1024
    assert alloyd.post(body, headers=bearer(key)).json == {"accepted": 4000, "duplicates": 0}
    answer = alloyd.post(events(*range(4000, 8000)), headers=bearer(key))
    assert code(answer) == (429, "rate_limited") and int(answer.headers["Retry-After"]) in (3, 4)
    books = alloyd.settled()
    assert (books["received"], books["accepted"], books["rejected"]) == (8000, 4000, 4000)


def test_lenient_requests_pay_for_what_is_taken(make_alloyd, keys):
    key = keys.add("slow", "--rate", "10")
    alloyd = make_alloyd(sections(keys)).start()
    headers = {"Prefer": "handling=lenient", **bearer(key)}
    bad = '{"no":"id"}\n'
    assert alloyd.post(bad * 50 + events(*range(9)), headers=headers).status == 202
    assert alloyd.post(bad * 50, headers=headers).status == 400
    assert alloyd.post(bad + events("a", "b", "c"), headers=headers).status == 429
    assert alloyd.post(bad + events("a"), headers=headers).status == 202
    books = alloyd.settled()
    assert (books["accepted"], books["rejected"]) == (10, 3)


def test_an_address_has_a_limit_of_events(make_alloyd):
    alloyd = make_alloyd(sections(limits={"address_events": 20})).start()
    assert alloyd.post(events(*range(20))).status == 202
    answer = alloyd.post(events(*range(30, 45)))
    assert code(answer) == (429, "rate_limited") and answer.headers["Retry-After"] == "1"
    assert "from this address" in answer.json["message"]
    # Another address of loopback is another client.
    client = http.client.HTTPConnection("127.0.0.1", alloyd.port, source_address=("127.0.0.2", 0),
                                        timeout=harness.DEADLINE)
    assert harness.request(client, events(*range(30, 45))).status == 202
    client.close()
    books = alloyd.settled()
    assert (books["received"], books["accepted"], books["rejected"]) == (50, 35, 15)


def test_an_address_has_a_limit_of_requests(make_alloyd, keys):
    keys.add("web")
    alloyd = make_alloyd(sections(keys, limits={"address_requests": 5})).start()
    statuses = [alloyd.post(event("a")).status for _ in range(12)]
    assert statuses[:5] == [401] * 5 and 429 in statuses
    answer = alloyd.post(event("a"))
    assert code(answer) == (429, "rate_limited") and answer.headers["Retry-After"] == "1"
    # Zero again: no limit.
    alloyd.sections["limits"]["address_requests"] = 0
    alloyd.write_ini()
    reload(alloyd)
    assert {alloyd.post(event("a")).status for _ in range(20)} == {401}


def test_unix_sockets_have_no_address(make_alloyd, tmp_path):
    path = tmp_path / "s"
    alloyd = make_alloyd(sections(limits={"address_events": 1, "address_requests": 1}))
    alloyd.sections["server"]["listen"] = f"127.0.0.1:{alloyd.port}, unix:{path}"
    alloyd.start()
    for number in range(5):
        run = subprocess.run(["curl", "-sS", "--unix-socket", path, "-d", events(f"{number}a", f"{number}b"),
                              "http://localhost/v1/events"], check=True, stdout=subprocess.PIPE, timeout=60)
        assert json.loads(run.stdout) == {"accepted": 2, "duplicates": 0}


def test_curl_sends_a_key_as_user(make_alloyd, keys):
    key = keys.add("web")
    alloyd = make_alloyd(sections(keys)).start()
    run = subprocess.run(["curl", "-sS", "-u", f"{key}:", "-d", event("a"), f"http://127.0.0.1:{alloyd.port}/v1/events"],
                         check=True, stdout=subprocess.PIPE, timeout=60)
    assert json.loads(run.stdout) == {"accepted": 1, "duplicates": 0}


def test_a_flood_with_one_key_takes_nothing_from_another(make_alloyd, keys):
    noisy, quiet = keys.add("noisy", "--rate", "100"), keys.add("quiet", "--rate", "1000")
    alloyd = make_alloyd(sections(keys)).start()
    end = time.monotonic() + 3
    counts = {"noisy": collections.Counter(), "quiet": collections.Counter()}
    lock = threading.Lock()

    def flood(number):
        client = alloyd.client()
        sent = 0
        while time.monotonic() < end:
            key, name = (quiet, "quiet") if number == 0 else (noisy, "noisy")
            answer = harness.request(client, events(*[f"{number}-{sent}-{i}" for i in range(20)]), headers=bearer(key))
            with lock:
                counts[name][answer.status] += 1
            sent += 1
            if number == 0:
                time.sleep(0.025)
        client.close()

    harness.in_threads(4, flood)
    assert set(counts["quiet"]) == {202}
    assert counts["noisy"][429] > 20
    # One second's worth at once, and then a hundred a second.
    assert 15 <= counts["noisy"][202] <= 22
    books = alloyd.settled()
    assert books["accepted"] == 20 * (counts["quiet"][202] + counts["noisy"][202])
    assert books["rejected"] == 20 * counts["noisy"][429]


# ---- the admin port ----

def admin(alloyd, path, headers=None, method="GET"):
    client = http.client.HTTPConnection("127.0.0.1", alloyd.admin_port, timeout=harness.DEADLINE)
    try:
        return harness.request(client, None, path, headers, method)
    finally:
        client.close()


def test_no_web_page_of_somebody_else_reads_the_admin_port(make_alloyd):
    alloyd = make_alloyd(sections()).start()
    port = alloyd.admin_port
    for path in ("/stats", "/metrics", "/readyz", "/", "/app.js", "/nothing"):
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
            assert admin(alloyd, path, {"Host": host}).status == 403
        assert admin(alloyd, path, {"Origin": "http://evil.example"}).status == 403
        assert admin(alloyd, path, {"Origin": "null"}).status == 403
    for host in ("127.0.0.1", f"localhost:{port}", f"[::1]:{port}", "192.0.2.1:80"):
        assert admin(alloyd, "/stats", {"Host": host}).status == 200
    assert admin(alloyd, "/stats", {"Origin": f"http://127.0.0.1:{port}"}).status == 200
    assert admin(alloyd, "/healthz", {"Host": "evil.example"}).status == 200


def test_beyond_loopback_the_admin_port_needs_a_key(make_alloyd, tmp_path):
    key_file = tmp_path / "admin.key"
    key_file.write_text("a secret; of mine\n")
    alloyd = make_alloyd(sections())
    alloyd.sections["admin"]["listen"] = f"0.0.0.0:{alloyd.admin_port}"
    alloyd.write_ini()
    check = [harness.BUILD / "alloyd", "--check", "--config", alloyd.ini]
    run = subprocess.run(check, text=True, stderr=subprocess.PIPE, check=False, timeout=60)
    line = alloyd.ini.read_text().splitlines().index(f"listen = 0.0.0.0:{alloyd.admin_port}") + 1
    assert run.returncode == 2 and run.stderr.startswith(f"{alloyd.ini}:{line}: admin.listen = 0.0.0.0:")
    assert "admin.key_file" in run.stderr

    alloyd.sections["admin"]["key_file"] = key_file
    alloyd.start(ready=False)
    for path in ("/stats", "/metrics", "/readyz", "/", "/app.js", "/nothing"):
        answer = admin(alloyd, path)
        assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        assert admin(alloyd, path, bearer("another")).status == 401
    assert admin(alloyd, "/streams/events/bury", {"Alloy-Control": "1"}, "POST").status == 401
    assert admin(alloyd, "/healthz").status == 200
    assert admin(alloyd, "/stats", bearer("a secret; of mine")).status == 200
    assert admin(alloyd, "/metrics?key=a%20secret%3B%20of%20mine").status == 200
    # The dashboard passes its key on to what it loads.
    page = admin(alloyd, "/?key=a%20secret%3B%20of%20mine", {"Host": "alloy.internal"})
    cookie = page.headers["Set-Cookie"].split("; ")[0]
    assert page.status == 200 and "HttpOnly" in page.headers["Set-Cookie"]
    for path in ("/app.js", "/style.css", "/stats"):
        assert admin(alloyd, path, {"Cookie": cookie, "Host": "alloy.internal"}).status == 200
    bury = [ALLOYCTL, "bury", "events", "--admin", f"http://127.0.0.1:{alloyd.admin_port}"]
    assert subprocess.run(bury, check=False, stderr=subprocess.PIPE, timeout=60).returncode == 1
    subprocess.run([*bury, "--admin-key-file", key_file], check=True, stdout=subprocess.PIPE, timeout=60)
    # What the file holds counts after a reload.
    key_file.write_text("another\n")
    reload(alloyd)
    assert admin(alloyd, "/stats", bearer("a secret; of mine")).status == 401
    assert admin(alloyd, "/stats", bearer("another")).status == 200


def test_keys_files_are_private(keys):
    os.unlink(keys.path)
    key = keys.add("web")
    assert os.stat(keys.path).st_mode & 0o777 == 0o600
    assert key not in keys.path.read_text()
