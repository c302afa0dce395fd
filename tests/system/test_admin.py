# SPDX-License-Identifier: Apache-2.0
"""The admin port: health, readiness, statistics, metrics, dashboard; and the books."""

import html.parser
import json
import re
import shutil
import socket
import threading

import pytest

import harness
from conftest import sections_for

COUNTERS = """alloy_events_received_total{stream} alloy_events_accepted_total{stream}
alloy_events_duplicate_total{stream,level} alloy_events_inserted_total{stream} alloy_events_dead_lettered_total{stream}
alloy_events_rejected_total{stream,reason} alloy_events_unclaimed_total{} alloy_http_requests_total{code}
alloy_l1_evicted_total{} alloy_redis_errors_total{} alloy_clickhouse_errors_total{class}"""
GAUGES = """alloy_events_pending{stream} alloy_http_connections{} alloy_ring_depth{} alloy_ring_capacity{}
alloy_l1_entries{} alloy_redis_up{} alloy_clickhouse_up{} alloy_clickhouse_inflight{}
alloy_clickhouse_last_insert_age_seconds{} alloy_journal_bytes{} alloy_build_info{version}"""
STREAM_GAUGES = """alloy_oldest_pending_seconds alloy_clickhouse_stream_up alloy_clickhouse_stream_inflight
alloy_clickhouse_stream_inflight_age_seconds alloy_clickhouse_stream_last_insert_age_seconds"""
STREAM_HISTOGRAMS = "alloy_clickhouse_stream_insert_seconds alloy_clickhouse_insert_rows alloy_clickhouse_insert_bytes"
HISTOGRAMS = "alloy_http_request_seconds alloy_redis_seconds alloy_clickhouse_insert_seconds"

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,{LABEL})*)\}})? (-?[0-9.]+(?:e[+-]?[0-9]+)?|NaN|[+-]Inf)")


def parse(text):
    """Prometheus text, strictly: {family: (type, {(sample name, labels): value})}."""
    assert text.endswith("\n") and "\r" not in text
    families, current, helped = {}, None, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped, words = line.split(" ", 3)[2:4]
            assert re.fullmatch(NAME, helped) and helped not in families, f"HELP twice: {line}"
            assert len(words) > 10
        elif line.startswith("# TYPE "):
            current, kind = line.split(" ")[2:]
            assert current == helped and current not in families and kind in ("counter", "gauge", "histogram"), line
            families[current] = (kind, {})
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            name, kind = match[1], families[current][0]
            suffix = name[len(current):] if name.startswith(current) else None
            assert suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",)), f"not of {current}: {line}"
            labels = tuple(sorted(re.findall(LABEL, match[2] or "")))
            assert len({key for key, _ in labels}) == len(labels), line
            assert (name, labels) not in families[current][1], f"series twice: {line}"
            families[current][1][name, labels] = float(match[match.lastindex])
    return families


def scrape(alloyd):
    answer = alloyd.admin("/metrics")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return parse(answer.body.decode())


def check_histogram(family, name):
    kind, samples = family
    assert kind == "histogram"
    buckets = [(float(dict(labels)["le"]), value) for (sample, labels), value in samples.items()
               if sample == name + "_bucket"]
    assert len(buckets) >= 5 and [b for b, _ in buckets] == sorted(b for b, _ in buckets)
    assert buckets[-1][0] == float("inf")
    assert [v for _, v in buckets] == sorted(v for _, v in buckets)
    assert buckets[-1][1] == samples[name + "_count", ()]
    assert (samples[name + "_sum", ()] > 0) == (buckets[-1][1] > 0)
    return buckets[-1][1]


def test_health_and_readiness(alloyd):
    for path in ("/healthz", "/readyz"):
        assert alloyd.admin(path).status == 200
        assert alloyd.admin(path + "?verbose=1").status == 200
    assert alloyd.admin("/readyz").json == {"ready": True, "reasons": []}


def test_every_metric_of_the_contract_is_there_from_the_start(alloyd):
    families = scrape(alloyd)
    for kind, names in (("counter", COUNTERS), ("gauge", GAUGES)):
        for item in names.split():
            name, wanted = re.fullmatch(r"(\w+)\{(.*)\}", item).groups()
            assert name in families, name
            assert families[name][0] == kind, name
            assert families[name][1], f"{name} has no series"
            for _, labels in families[name][1]:
                assert sorted(key for key, _ in labels) == sorted(filter(None, wanted.split(","))), (name, labels)
    for name in HISTOGRAMS.split():
        check_histogram(families[name], name)
    for name in families:
        assert name.startswith(("alloy_", "process_")), name
        assert name.endswith("_total") == (families[name][0] == "counter"), name
    levels = {dict(labels)["level"] for _, labels in families["alloy_events_duplicate_total"][1]}
    assert levels == {"l1", "l2"}
    version = harness.subprocess.run([harness.BUILD / "alloyd", "-V"], capture_output=True, text=True).stdout.split()[1]
    assert families["alloy_build_info"][1] == {("alloy_build_info", (("version", version),)): 1.0}
    assert families["alloy_ring_capacity"][1]["alloy_ring_capacity", ()] == 100000


def test_promtool_has_nothing_to_say(make_alloyd, redis, clickhouse, table):
    sections = sections_for(redis, clickhouse, table, stream__clicks={"path": "/v1/c", "table": "default.none"}, drain={"timeout": "1s"})
    alloyd = make_alloyd(sections).start()
    assert alloyd.post(harness.event("bad", ts="never")).status == alloyd.post(harness.event("a"), "/v1/c").status == 202
    harness.wait_until(lambda: any("alloy_condition{" in name for name in alloyd.metrics()), "a condition")
    checked = harness.subprocess.run(["promtool", "check", "metrics"], input=alloyd.admin("/metrics").body,
                                     capture_output=True)
    assert checked.returncode == 0 and not checked.stdout + checked.stderr, checked


def labelled(families, name):
    """{labels but for le: value} of a family's samples."""
    return {labels: value for (sample, labels), value in families[name][1].items() if sample == name}


def test_each_stream_has_its_figures_of_clickhouse(make_alloyd, redis, clickhouse, table):
    sections = sections_for(redis, clickhouse, table, drain={"timeout": "1s"},
                            stream__clicks={"path": "/v1/clicks", "table": "default.no_such_table", "id": "event_id"})
    alloyd = make_alloyd(sections).start()
    events, clicks = (("stream", "events"),), (("stream", "clicks"),)
    start = scrape(alloyd)
    for name in STREAM_GAUGES.split():
        assert start[name][0] == "gauge" and set(labelled(start, name)) == {events, clicks}, name
    for name in STREAM_HISTOGRAMS.split():
        assert start[name][0] == "histogram" and start[name][1][name + "_count", events] == 0

    assert alloyd.post("\n".join(harness.event(f"{i}") for i in range(30))).status == 202
    assert alloyd.post(harness.event("bad", ts="never")).status == 202
    assert alloyd.post(harness.event("lost"), "/v1/clicks").status == 202
    alloyd.settled("events")
    harness.wait_until(lambda: labelled(scrape(alloyd), "alloy_clickhouse_stream_up")[clicks] == 0, "clicks is down")
    harness.wait_until(lambda: (("code", "60"), ("stream", "clicks")) in
                       labelled(scrape(alloyd), "alloy_clickhouse_inserts_refused_total"), "code 60")
    families = scrape(alloyd)
    assert labelled(families, "alloy_clickhouse_stream_up")[events] == 1
    assert families["alloy_clickhouse_insert_rows"][1]["alloy_clickhouse_insert_rows_sum", events] == 30
    assert families["alloy_clickhouse_insert_bytes"][1]["alloy_clickhouse_insert_bytes_sum", events] > 30 * 100
    assert families["alloy_clickhouse_insert_rows"][1]["alloy_clickhouse_insert_rows_count", clicks] == 0
    errors = labelled(families, "alloy_clickhouse_stream_errors_total")
    for error in ("retry", "bad_rows", "split", "misconfigured", "unknown"):
        total = labelled(families, "alloy_clickhouse_errors_total")[(("class", error),)]
        assert sum(errors[("class", error), stream] for (stream,) in (events, clicks)) == total, error
    refused = labelled(families, "alloy_clickhouse_inserts_refused_total")
    assert sum(refused.values()) == sum(errors.values())
    assert {dict(labels)["stream"] for labels in refused} == {"events", "clicks"}


def test_a_condition_is_a_series_while_it_holds(make_alloyd, redis, clickhouse, table):
    sections = sections_for(redis, clickhouse, table,
                            stream__clicks={"path": "/v1/clicks", "table": f"{table}_later", "id": "event_id"})
    alloyd = make_alloyd(sections).start()

    def both():
        """The reasons of /readyz, and those of /metrics."""
        reasons = {(r["key"], r["blocking"]) for r in alloyd.admin("/readyz").json["reasons"]}
        series = [dict(labels) for labels in labelled(scrape(alloyd), "alloy_condition")]
        for labels in series:
            assert sorted(labels) == ["blocking", "key", "stream"]
            assert labels["stream"] == ("clicks" if labels["key"].startswith("clickhouse.clicks") else ""), labels
        return reasons, {(labels["key"], labels["blocking"] == "true") for labels in series}

    assert alloyd.post(harness.event("a"), "/v1/clicks").status == 202
    harness.wait_until(lambda: ("clickhouse.clicks", False) in both()[0], "no table")
    reasons, series = both()
    assert reasons == series
    clickhouse.create_events(f"{table}_later")
    harness.wait_until(lambda: both() == (set(), set()), both)


def test_the_process_is_measured(alloyd):
    metrics = alloyd.metrics()
    assert 0 < metrics["process_cpu_seconds_total"] < 60
    assert 2**20 < metrics["process_resident_memory_bytes"] < 2**31
    assert abs(metrics["process_start_time_seconds"] - harness.time.time()) < 60
    files = len(list(harness.pathlib.Path(f"/proc/{alloyd.pid}/fd").iterdir()))
    assert abs(metrics["process_open_fds"] - files) <= 3 and metrics["process_max_fds"] >= files
    with_one = alloyd.client()
    with_one.connect()
    harness.wait_until(lambda: alloyd.metrics()["process_open_fds"] > metrics["process_open_fds"], "one more")
    with_one.close()
    free = shutil.disk_usage(alloyd.folder).free
    for folder in ("journal", "dead_letter"):
        harness.wait_until(lambda: abs(alloyd.metrics().get(f"alloy_{folder}_free_bytes", 0) - free) < free / 10, folder)


def test_what_happens_is_counted_once(alloyd, redis):
    redis.command("SET", "alloy:events:claimed", "x" * 15 + "\0")  # another alloyd was first
    assert alloyd.post(harness.event("claimed") + "\n" + harness.event("a") + "\n" + harness.event("b")).status == 202
    assert alloyd.post(harness.event("a")).json == {"accepted": 0, "duplicates": 1}
    assert alloyd.post(harness.event("bad", ts="never")).status == 202
    for status, body in ((400, "{"), (400, ""), (400, harness.event("c") + "{}")):
        assert alloyd.post(body).status == status
    assert alloyd.post(harness.event("d"), "/nowhere").status == 404
    books = alloyd.settled()
    assert books == {"received": 5, "accepted": 4, "duplicate_l1": 1, "duplicate_l2": 1, "inserted": 2,
                     "dead_lettered": 1, "rejected": 0, "pending": 0}
    families = scrape(alloyd)

    def code(number):
        return families["alloy_http_requests_total"][1]["alloy_http_requests_total", (("code", str(number)),)]

    assert (code(202), code(400), code(404)) == (3, 3, 1)
    assert check_histogram(families["alloy_http_request_seconds"], "alloy_http_request_seconds") == 7
    assert check_histogram(families["alloy_redis_seconds"], "alloy_redis_seconds") > 0
    assert check_histogram(families["alloy_clickhouse_insert_seconds"], "alloy_clickhouse_insert_seconds") > 0
    m = alloyd.metrics()
    assert m["alloy_redis_up"] == m["alloy_clickhouse_up"] == 1
    assert m['alloy_clickhouse_errors_total{class="bad_rows"}'] >= 1
    assert m["alloy_l1_entries"] >= 2 and m["alloy_ring_depth"] == 0 and m["alloy_clickhouse_inflight"] == 0
    assert m["alloy_clickhouse_last_insert_age_seconds"] < harness.DEADLINE
    assert m["alloy_events_unclaimed_total"] == m["alloy_redis_errors_total"] == m["alloy_l1_evicted_total"] == 0


def test_stats_agree_with_metrics(alloyd):
    assert alloyd.post("\n".join(harness.event(f"id-{i % 90}") for i in range(100))).status == 202
    books = alloyd.settled()
    answer = alloyd.admin("/stats")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("application/json")
    stats, m = answer.json, alloyd.metrics()

    found = stats["streams"]["events"]["books"]
    assert found == {"received": 100, "accepted": 90, "duplicates": {"l1": 10, "l2": 0}, "rejected": 0, "inserted": 90,
                     "dead_lettered": 0, "pending": 0}
    assert books["received"] == 100 and books["inserted"] == 90
    assert stats["ready"] is True and stats["reasons"] == []
    assert stats["version"] in answer.body.decode() and f'version="{stats["version"]}"' in "".join(m)
    for path, name in ((("ring", "capacity"), "alloy_ring_capacity"), (("ring", "depth"), "alloy_ring_depth"),
                       (("l1", "entries"), "alloy_l1_entries"), (("l1", "evicted"), "alloy_l1_evicted_total"),
                       (("journal", "bytes"), "alloy_journal_bytes"), (("redis", "up"), "alloy_redis_up"),
                       (("redis", "errors"), "alloy_redis_errors_total"), (("clickhouse", "up"), "alloy_clickhouse_up"),
                       (("redis", "unclaimed"), "alloy_events_unclaimed_total"),
                       (("http", "waiting"), "alloy_http_waiting_requests"),
                       (("journal", "bytes_max"), "alloy_journal_bytes_max"),
                       (("dead_letter", "bytes"), "alloy_dead_letter_bytes"),
                       (("dead_letter", "parked"), "alloy_dead_letter_parked"),
                       (("dead_letter", "releasing"), "alloy_dead_letter_releasing"),
                       (("http", "seconds", "count"), "alloy_http_request_seconds_count"),
                       (("redis", "seconds", "count"), "alloy_redis_seconds_count"),
                       (("clickhouse", "seconds", "count"), "alloy_clickhouse_insert_seconds_count")):
        value = stats
        for key in path:
            value = value[key]
        assert value == m[name], (path, value, m[name])
    for code, value in stats["http"]["codes"].items():
        assert m[f'alloy_http_requests_total{{code="{code}"}}'] == value
    for kind, value in stats["clickhouse"]["errors"].items():
        assert m[f'alloy_clickhouse_errors_total{{class="{kind}"}}'] == value


def test_stats_tell_what_is_refused_parked_and_waiting(make_alloyd, redis, clickhouse, table):
    """Rejections sum up to the books', whatever their reason."""
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, server={"max_waiting": 1}, ring={"capacity": 1000},
                                      worker={"linger": "60s"}, drain={"timeout": "100ms"},
                                      dead_letter={"max_bytes": "64KiB"})).start()
    waiting = alloyd.connect()
    body = harness.event("a").encode()
    waiting.sendall(b"POST /v1/events?ack=clickhouse HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    harness.wait_until(lambda: alloyd.admin("/stats").json["http"]["waiting"] == 1, "it waits")
    assert alloyd.post(harness.event("b"), "/v1/events?ack=clickhouse").status == 503
    assert alloyd.post("\n".join(harness.event(f"many-{i}") for i in range(1001))).status == 413
    stream = alloyd.admin("/stats").json["streams"]["events"]
    assert stream["rejected"] == {"ring_full": 0, "journal_full": 0, "journal_error": 0, "too_large": 1001,
                                  "draining": 0, "waiting_full": 1, "rate_limited": 0}
    assert stream["books"]["rejected"] == 1002
    books = stream["books"]
    assert books["received"] == books["accepted"] + books["duplicates"]["l1"] + books["rejected"]
    m = alloyd.metrics()
    for reason, value in stream["rejected"].items():
        assert m[f'alloy_events_rejected_total{{stream="events",reason="{reason}"}}'] == value
    waiting.close()


def test_numbers_in_stats_have_the_digits_that_they_need(alloyd):
    """0.101 is not 0.10100000000000001; and a counter is an integer."""
    reals = []

    def note(text):
        reals.append(text)
        return float(text)

    def counters(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in ("uptime", "sum", "last_insert_age"):
                    counters(inner)
        else:
            assert isinstance(value, (int, str, list)), value

    for i in range(50):
        assert alloyd.post(harness.event(f"id-{i}")).status == 202
        counters(json.loads(alloyd.admin("/stats").body, parse_float=note))
    assert len(reals) >= 250
    for text in reals:
        assert re.fullmatch(r"\d+\.\d{1,9}|\d(\.\d+)?e-\d", text), text


FULL_TODO = "Bring ClickHouse back, or make room: it recovers by itself."  # src/admin/advice.c


def full_journal(alloyd):
    """Posts until there is no room, then gives the reason's text."""
    count = 0

    def refused():
        nonlocal count
        count += 1
        return alloyd.post("\n".join(harness.event(f"id-{count}-{i}") for i in range(20))).status == 503

    harness.wait_until(refused, "a full journal")
    answer = alloyd.admin("/readyz")
    assert answer.status == 503
    return {reason["key"]: reason["text"] for reason in answer.json["reasons"]}["journal.full"]


def nowhere(**more):
    """Sections for an alloyd whose journal fills: there is no ClickHouse."""
    sections = sections_for(None, None, "default.events", server={"threads": 1}, worker={"threads": 1},
                            drain={"timeout": "50ms"}, **more)
    sections["clickhouse"]["url"] = f"http://127.0.0.1:{harness.free_port()}"
    return sections


@pytest.mark.parametrize("mode", ["file", "memory"])
def test_ready_tells_that_the_journal_has_reached_its_limit(make_alloyd, mode):
    alloyd = make_alloyd(nowhere(journal={"mode": mode, "segment": "64KiB", "max_bytes": "512KiB"})).start(ready=False)
    alloyd.allow_exit = {0, 1}  # what is in memory is lost
    assert full_journal(alloyd) == f"The journal is full: journal.max_bytes (512KiB) is used up. {FULL_TODO}"


def test_ready_tells_that_the_disk_is_full(make_alloyd, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    harness.subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    alloyd = make_alloyd(nowhere(journal={"dir": disk / "journal", "segment": "64KiB"}))
    try:
        alloyd.start(ready=False)
        assert full_journal(alloyd) == f"The journal is full: no room on the disk of {disk / 'journal'}. {FULL_TODO}"
    finally:
        alloyd.kill()
        harness.subprocess.run(["umount", disk], check=True)


def test_the_books_of_two_streams_are_apart(make_alloyd):
    sections = sections_for(None, None, "default.events",
                            stream__clicks={"path": "/v1/clicks", "table": "default.clicks", "id": "click"})
    alloyd = make_alloyd(sections).start()
    assert alloyd.post(harness.event("a")).status == 202
    assert alloyd.post('{"click":1}{"click":2}'.replace("}{", "} {"), "/v1/clicks").json["accepted"] == 2
    assert alloyd.settled("events")["received"] == 1 and alloyd.settled("clicks")["received"] == 2
    scrape(alloyd)


def test_books_balance_at_every_scrape_and_at_rest(alloyd):
    stop, threads, events, moving = threading.Event(), 3, 40, 40 * 3

    def load(c):
        client, n = alloyd.client(), 0
        while not stop.is_set():
            body = "\n".join(harness.event(f"{c}-{n}-{i % 30}") for i in range(events))
            assert harness.request(client, body).status == 202
            n += 1

    failures = []

    def scrapes():
        try:
            while len(seen) < 100:
                scrape(alloyd)
                seen.append(alloyd.books())
        except BaseException as error:  # noqa: B902 - it is raised again below
            failures.append(error)
        stop.set()

    seen = []
    scraper = threading.Thread(target=scrapes)
    scraper.start()
    harness.in_threads(threads, load)
    scraper.join()
    if failures:
        raise failures[0]
    for before, now in zip(seen, seen[1:]):
        for name in now:
            assert name == "pending" or now[name] >= before[name], (name, before, now)
        front = now["received"] - now["accepted"] - now["duplicate_l1"] - now["rejected"]
        back = now["accepted"] - now["inserted"] - now["duplicate_l2"] - now["dead_lettered"] - now["pending"]
        # What moves between two counters: a turn's requests at the front, an insert's rows at the back.
        assert abs(front) <= moving, now
        assert abs(back) <= 4 * 2500, now
    assert seen[-1]["received"] > seen[0]["received"]
    books = alloyd.settled()
    assert books["received"] * 3 == books["accepted"] * 4 and books["duplicate_l2"] == 0


def test_the_age_of_the_oldest_pending_event_outlives_a_restart(make_alloyd):
    oldest = 'alloy_oldest_pending_seconds{stream="%s"}'
    sections = nowhere(stream__clicks={"path": "/v1/clicks", "table": "default.clicks", "id": "click"})
    alloyd = make_alloyd(sections).start()
    assert alloyd.metrics()[oldest % "events"] == alloyd.metrics()[oldest % "clicks"] == 0
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: alloyd.metrics()[oldest % "events"] > 1.5, "an old event")
    assert alloyd.post(harness.event("b")).status == alloyd.post('{"click":1}', "/v1/clicks").status == 202
    metrics = alloyd.metrics()
    assert metrics[oldest % "clicks"] < 1 < metrics[oldest % "events"]
    assert alloyd.admin("/stats").json["streams"]["events"]["oldest_pending_ms"] > 1500
    before = metrics[oldest % "events"]
    alloyd.kill()
    alloyd.start()
    harness.wait_until(lambda: alloyd.metrics()['alloy_events_pending{stream="events"}'] == 2, "the journal is read")
    assert alloyd.metrics()[oldest % "events"] >= before


def test_up_gauges_fall_and_ready_tells_why(make_alloyd):
    sections = sections_for(None, None, "default.events")
    sections["redis"]["url"] = f"redis://127.0.0.1:{harness.free_port()}"
    sections["clickhouse"]["url"] = f"http://127.0.0.1:{harness.free_port()}"
    sections["drain"] = {"timeout": "50ms"}
    alloyd = make_alloyd(sections).start(ready=False)
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: (m := alloyd.metrics())["alloy_redis_up"] == m["alloy_clickhouse_up"] == 0
                       and m["alloy_redis_errors_total"] > 0
                       and m["alloy_events_unclaimed_total"] == 1, alloyd.metrics)
    answer = alloyd.admin("/readyz")
    assert answer.status == 200 and answer.json["ready"] is True  # one more event would be accepted
    keys = [reason["key"] for reason in answer.json["reasons"]]
    assert any("redis" in key for key in keys) and any("clickhouse" in key for key in keys), keys
    assert not any(reason["blocking"] for reason in answer.json["reasons"])
    assert alloyd.books()["pending"] == 1
    harness.assert_balanced(alloyd.books())


def history(alloyd, query=""):
    answer = alloyd.admin("/history" + query)
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    figures = {key: value for key, value in answer.json.items() if isinstance(value, list)}
    assert {len(value) for value in figures.values()} == {answer.json["steps"]}
    return answer.json


def test_history_tells_when_what_happened(make_alloyd):
    """What the books have is in some step, once, of its stream and of all."""
    sections = sections_for(None, None, "default.events",
                            stream__clicks={"path": "/v1/clicks", "table": "default.clicks", "id": "click"})
    alloyd = make_alloyd(sections).start()
    harness.wait_until(lambda: history(alloyd)["last"] > 0, "the first step")
    assert alloyd.post("\n".join(harness.event(f"id-{i % 90}") for i in range(100))).status == 202
    assert alloyd.post('{"click":1}', "/v1/clicks").status == 202
    assert alloyd.post("[", "/v1/clicks").status == 400
    assert alloyd.post("{}", "/nowhere").status == 404
    alloyd.settled()

    def sums(query=""):
        told = history(alloyd, query)
        return {name: round(sum(rate * span for rate, span in zip(told[name], told["span"]) if span))
                for name in ("received", "accepted", "duplicates", "inserted", "refused")}

    want = {"received": 101, "accepted": 91, "duplicates": 10, "inserted": 91, "refused": 2}
    harness.wait_until(lambda: sums() == want, sums)
    assert sums("?step=1s&stream=events") == {"received": 100, "accepted": 90, "duplicates": 10, "inserted": 90, "refused": 0}
    assert sums("?stream=clicks") == {"received": 1, "accepted": 1, "duplicates": 0, "inserted": 1, "refused": 1}
    told = history(alloyd)
    assert told["step"] == 1 and told["stream"] is None and told["pending"][-1] == 0 and told["journal_bytes"][-1] > 0
    assert any(told["http_p50"])
    assert all(p50 is None or p50 <= p99 for p50, p99 in zip(told["http_p50"], told["http_p99"]))
    assert any(rows and 1 <= rows <= 90 for rows in told["insert_rows"]), told["insert_rows"]
    assert abs(told["time"] / 1000 - harness.time.time()) < harness.DEADLINE
    assert any(history(alloyd, "?stream=clicks")["http_p99"]) and told["lag"][-1] == 0
    coarse = history(alloyd, "?step=10s")
    assert coarse["step"] == 10 and coarse["steps"] <= told["steps"] // 10 + 1
    new = history(alloyd, f"?after={told['last']}")
    assert new["steps"] == new["last"] - told["last"] < 30
    assert history(alloyd, "?after=18446744073709551615")["steps"] == 0


@pytest.mark.parametrize("query, status", [
    ("step=2s", 400), ("step=", 400), ("step=10", 400), ("after=x", 400), ("after=-1", 400), ("after=1x", 400),
    ("after=99999999999999999999", 400), ("stream=nobody", 404), ("stream=EVENTS", 404),
    ("step=10s&step=1s&stream=events&x=y", 200), ("stream=", 200), ("", 200)])
def test_history_refuses_what_it_does_not_know(alloyd, query, status):
    assert alloyd.admin("/history?" + query).status == status


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for key, value in attributes if key in ("src", "href", "action", "srcset", "data")]


def test_the_dashboard_loads_its_own_files_and_nothing_else(alloyd):
    answer = alloyd.admin("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    text = answer.body.decode()
    page = Page()
    page.feed(text)
    assert {"html", "head", "title", "body"} <= page.tags and text.lower().startswith("<!doctype html>")
    for link in page.links:
        assert not re.match(r"(?i)(https?:)?//", link or ""), link
        assert alloyd.admin("/" + link).status == 200, link
    for link, kind in (("/style.css", "text/css"), ("/app.js", "text/javascript")):
        part = alloyd.admin(link)
        assert part.headers["Content-Type"].startswith(kind) and link[1:] in page.links
        text += part.body.decode()
    outside = [url for url in re.findall(r"(?i)(?:https?:)?//[a-z0-9][\w.-]*\.[a-z]{2,}", text) if "www.w3.org" not in url]
    assert outside == [] and "@import" not in text
    assert "stats" in text or "metrics" in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/stats", "/metrics", "/history", "/", "/style.css", "/app.js"])
def test_only_get_and_head(alloyd, path):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = alloyd.admin(path, method)
        assert answer.status == (204 if method == "OPTIONS" else 405), (method, answer)
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS", (method, answer)
    head, get = alloyd.admin(path, "HEAD"), alloyd.admin(path)
    assert head.status == get.status == 200 and head.body == b"" and get.body
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.parametrize("path, status", [("/healthz", 200), ("/stats", 200), ("/", 200), ("/nothing", 404)])
def test_no_byte_follows_the_head_of_an_answer_to_head(alloyd, path, status):
    with socket.create_connection(("127.0.0.1", alloyd.admin_port), harness.DEADLINE) as s:
        for _ in range(2):
            s.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += s.recv(65536)
            assert head.startswith(b"HTTP/1.1 %d " % status) and head.endswith(b"\r\n\r\n")
            assert re.search(rb"\r\nContent-Length: [1-9]", head)


@pytest.mark.parametrize("path", ["/nothing", "/healthz/", "/v1/events", "/metrics2", "//", "/../etc/passwd", "/%2e%2e/x"])
def test_another_path_is_404(alloyd, path):
    assert alloyd.admin(path).status == 404
    assert alloyd.admin(path, "POST").status == 404


def test_the_admin_port_survives_nonsense(alloyd):
    for data in (b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 100000, b"GET / HTTP/1.1\r\nX: " + b"y" * 100000,
                 b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"GET /stats HTTP/1.1\r\n" * 1000):
        with socket.create_connection(("127.0.0.1", alloyd.admin_port), harness.DEADLINE) as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                harness.read_all(s)
            except OSError:
                pass  # it need not listen to the end
    assert alloyd.health().status == 200


def test_several_scrapes_on_one_connection_and_no_admin_port_at_all(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    client = harness.http.client.HTTPConnection("127.0.0.1", alloyd.admin_port, timeout=harness.DEADLINE)
    for _ in range(5):
        client.request("GET", "/stats")
        assert json.loads(client.getresponse().read())["ready"] is True
    client.close()
    none = make_alloyd(sections_for(None, None, "default.events", admin={"listen": ""}))
    none.spawn_only()
    harness.wait_until(lambda: "serving" in none.log(), none.log)
    assert none.post(harness.event("a")).status == 202
    assert none.health() is None
