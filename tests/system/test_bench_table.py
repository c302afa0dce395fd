# SPDX-License-Identifier: Apache-2.0
"""bench/run all and bench/run curves, short: what they measure is kept, and becomes the documents."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree

import pytest

import harness

BENCH = harness.ROOT / "bench"
sys.path.insert(0, str(BENCH))
import benches  # noqa: E402 - its place is known only now
import curves  # noqa: E402
import measure  # noqa: E402
import svg  # noqa: E402


def run(tmp_path, *arguments, status=0):
    done = subprocess.run([BENCH / "run", *map(str, arguments), "--into", tmp_path / "out"],
                          env=dict(os.environ, ALLOY_BUILD_DIR=str(harness.BUILD), TMPDIR=str(tmp_path)),
                          capture_output=True, text=True, timeout=6 * harness.DEADLINE, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert not list(tmp_path.glob("alloy-bench-*")), "the temporary folder stays behind"
    return done.stdout


SHORT = ["--rounds", "1", "--seconds", "1"]


def test_rivals_take_turns_and_their_ratios_become_the_table(tmp_path):
    out = run(tmp_path, "all", "front", *SHORT)
    kept = json.loads((tmp_path / "out" / "kept" / "front.json").read_text())
    figures, = kept["rounds"]
    assert figures["memory / epoll loop"] == figures["alloyd, memory us"] / figures["epoll loop us"]
    assert {"evhttp us", "nginx return 202 us", "alloyd, file us"} <= set(figures) and min(figures.values()) > 0
    table = (tmp_path / "out" / "RESULTS.md").read_text()
    for goal in benches.GOALS:
        line, = [line for line in table.splitlines() if line.startswith(f"| {goal.what} |")]
        assert ("not measured" in line) == (goal.bench != "front") and goal.text() in line
    assert kept["commit"] in table and "not measured yet" in out


def test_a_bench_that_fails_is_told_and_does_not_stop_the_others(tmp_path):
    out = run(tmp_path, "all", "before", "ndjson_front", *SHORT, status=1)
    assert "FAILED: it needs --before" in out
    assert [file.name for file in (tmp_path / "out" / "kept").iterdir()] == ["ndjson_front.json"]


def test_the_seed_stack_comes_by_option_and_what_it_loses_is_told(tmp_path):
    """Here it is the bare epoll loop, which stores nothing."""
    program = tmp_path / "rival"
    subprocess.run(["cc", "-O2", "-o", tmp_path / "floor", BENCH / "floor.c"], check=True)
    program.write_text(f'#!/bin/sh\nexec {tmp_path}/floor "$1"\n')
    program.chmod(0o755)
    run(tmp_path, "all", "end_to_end", "--seed-stack", program, *SHORT)
    figures, = json.loads((tmp_path / "out" / "kept" / "end_to_end.json").read_text())["rounds"]
    assert figures["alloyd / seed's stack"] > 1 and figures["seed's stack loses, share"] == 1


def test_rounds_can_join_those_of_an_earlier_run_and_words_stay(tmp_path):
    out = tmp_path / "out"
    for more in [], ["--add"]:
        run(tmp_path, "all", "l1", "--rounds", 1, *more)
        table = (out / "RESULTS.md").read_text()
        (out / "RESULTS.md").write_text(table.replace("<!-- words -->\n", "<!-- words -->\nSaid once.\n"))
    assert len(json.loads((out / "kept" / "l1.json").read_text())["rounds"]) == 2
    run(tmp_path, "results")
    table = (out / "RESULTS.md").read_text()
    assert "Said once." in table and "2 rounds" in table


@pytest.mark.parametrize("name, points", [("duplicates", "0,50"), ("streams", "1,3"), ("backlog", "0,2000")])
def test_a_curve_is_measured_and_drawn(name, points, tmp_path):
    run(tmp_path, "curves", name, "--points", points, *SHORT)
    rows = (tmp_path / "out" / "curves" / f"{name}.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == points.split(",")
    drawn = xml.etree.ElementTree.parse(tmp_path / "out" / "curves" / f"{name}.svg")
    assert len(drawn.findall(".//{*}circle")) == 4
    document = tmp_path / "out" / "CURVES.md"
    document.write_text(document.read_text() + "\nThe reason.\n")
    run(tmp_path, "curves", name, "--draw")
    assert document.read_text().count(f"curves/{name}.svg") == 1 and "The reason." in document.read_text()


@pytest.mark.parametrize("values, factor, low, high", [
    ([5, 4, 3], 1, 1, 1),  # what falls is no bend
    ([1, 2, 3], 3, 1, 3),
    ([4, 2, 3], 1.5, 2, 3),
    ([2, 3, 1, 1.2], 1.5, 1, 2),
])
def test_a_bend_is_what_exceeds_the_least_before(values, factor, low, high):
    assert curves.bend([1, 2, 3, 4][:len(values)], values) == (factor, low, high)


def test_a_cost_that_grows_with_the_bytes_is_no_bend():
    (cost, *_), _ = curves.bends(curves.CURVES["body_size"], [(100, 10, 1), (1000, 50, 1), (10000, 450, 1)])
    assert cost == 1


def test_a_goal_is_a_bound():
    least, most = benches.Goal("l1", "x", "x", least=2), benches.Goal("l1", "x", "x", most=2)
    assert least.reached(2) and not least.reached(1.9) and most.reached(2) and not most.reached(2.1)
    assert all(goal.bench in benches.BENCHES for goal in benches.GOALS)


@pytest.mark.parametrize("values", [[0.003], [7, 12], [250, 1e6], [0]])
def test_an_axis_ends_above_all_values(values):
    most, step = svg.top_of(values)
    assert most >= max(values) and 1 <= round(most / step) <= 6


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return measure.build_load(tmp_path_factory.mktemp("load"))


def test_load_repeats_the_share_of_events_that_it_is_told(make_alloyd, load):
    alloyd = make_alloyd({"stream.events": {"table": "default.events", "id": "event_id"}, "redis": {"url": ""},
                          "clickhouse": {"url": "discard:"}}).start()
    connected = []
    options = type("Options", (), {"load_threads": 1, "connections": 3, "seconds": 1})
    measure.run_load(load, f"http://127.0.0.1:{alloyd.port}/v1/events", options, "--duplicates", 30, "--events", 10,
                     connected=lambda: connected.append(alloyd.books()["received"]))
    books = alloyd.books()
    assert connected == [0] and books["duplicate_l1"] / books["received"] == pytest.approx(0.3, abs=0.02)


def test_load_sends_to_streams_by_turns(make_alloyd, load):
    streams = {f"stream.s{n}": {"path": f"/v1/s{n:02}", "table": "default.events", "id": "event_id"} for n in range(3)}
    alloyd = make_alloyd({**streams, "redis": {"url": ""}, "clickhouse": {"url": "discard:"}}).start()
    options = type("Options", (), {"load_threads": 1, "connections": 2, "seconds": 1})
    result = measure.run_load(load, f"http://127.0.0.1:{alloyd.port}/v1/s", options, "--streams", 3)
    counts = [alloyd.books(f"s{n}")["accepted"] for n in range(3)]
    assert sum(counts) == result["codes"]["202"] and max(counts) - min(counts) <= 1
