# SPDX-License-Identifier: Apache-2.0
"""bench/simulate, small: it knows its walls, and says what was once measured."""

import importlib.machinery
import importlib.util
import json
import subprocess
import sys

import pytest

import harness

SCRIPT = harness.ROOT / "bench" / "simulate"


def run(*words, status=0):
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def simulate(*costs, seconds=2, **counts):
    words = [word for name, value in counts.items() for word in (f"--{name}", value)]
    return json.loads(run("--json", "--seconds", seconds, *words, *[word for cost in costs for word in ("--set", cost)]))


@pytest.fixture(scope="module")
def script():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("simulate", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("simulate", loader))
    loader.exec_module(module)
    return module


def test_slots_are_shared_out_as_a_cluster_does(script):
    assert script.crc16(b"123456789") == 0x31C3
    for masters, most in ((1, 1.0), (3, 1.01), (10, 1.03), (50, 1.12)):
        shares = script.shares(masters, 1024)
        assert sum(shares) == pytest.approx(1) and max(shares) * masters == pytest.approx(most, abs=0.01)


def test_a_run_is_the_same_each_time():
    assert simulate(rate=100000, masters=3) == simulate(rate=100000, masters=3)


def test_what_goes_in_comes_out_and_merges_keep_parts_few():
    found = simulate("ttl_s=3600", rate=100000, seconds=5)
    assert found["walls"] == [] and found["inserted_share"] == pytest.approx(1, abs=0.03)
    assert found["rows_each_insert"] == pytest.approx(2500) and found["most_parts"] < 100


@pytest.mark.parametrize("wall, costs, counts", [
    ("memory", (), {"rate": 100000}),
    ("redis", ("ttl_s=60",), {"rate": 250000, "alloyd": 3}),
    ("flusher", ("ttl_s=60",), {"rate": 250000, "masters": 4}),
    ("alloyd_cpu", ("ttl_s=60", "request_us=30", "flush_us=0"), {"rate": 100000}),
    ("shard_cpu", ("ttl_s=60", "shard_cores=1"), {"rate": 250000, "alloyd": 3, "masters": 4}),
    ("parts", ("ttl_s=60", "merge_part_ms=500", "parts_delay=100"), {"rate": 100000}),
])
def test_each_wall_is_found_and_nothing_else(wall, costs, counts):
    assert simulate(*costs, seconds=4, **counts)["walls"][0] == wall


def test_it_says_what_was_measured_of_one_small_clickhouse():
    """Four connections, 2,500 rows an insert, two cores, 7 s: 730,000 rows a second, and 340 parts at the end."""
    found = simulate("insert_ms=3.3", "row_us=0.78", "shard_cores=2", "insert_rows=2500", "mget_us=0.1", "set_us=0.1",
                     "alloyd_cores=16", "pause_ms=0", rate=730000, seconds=7)
    assert 0.7 * 730000 < found["inserts_each_shard"] * found["rows_each_insert"] < 1.1 * 730000
    assert 170 < found["most_parts"] < 510


def test_a_batch_takes_as_long_as_the_slowest_master():
    calm, paused = (simulate("ttl_s=60", f"pause_ms={ms}", rate=400000, alloyd=3, masters=40, seconds=4) for ms in (0, 20))
    assert paused["claim_p99_ms"] > calm["claim_p99_ms"] + 10
    assert paused["inserted_share"] > 0.95


def test_shards_do_not_make_inserts_fewer_but_waiting_does():
    counts = {"rate": 400000, "alloyd": 20, "masters": 6}
    one, four = (simulate("ttl_s=60", shards=shards, **counts) for shards in (1, 4))
    waiting = simulate("ttl_s=60", "insert_linger_ms=200", shards=4, **counts)
    assert four["inserts_each_shard"] > 0.9 * one["inserts_each_shard"]
    assert waiting["inserts_each_shard"] < 0.5 * four["inserts_each_shard"]
    assert waiting["shard_cpu"] < 0.6 * four["shard_cpu"]


def test_the_plan_grows_until_nothing_is_full():
    lines = run("--plan", "--rate", 300000, "--seconds", 2, "--set", "ttl_s=3600").splitlines()
    assert len(lines) > 1 and lines[-1].endswith("wall: none") and "wall: none" not in "".join(lines[:-1])


def test_a_cost_that_is_none_is_refused():
    run("--set", "nothing=1", status=2)
    assert "bench/run single" in run("--costs")
