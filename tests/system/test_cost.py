# SPDX-License-Identifier: Apache-2.0
"""What a request costs in the front: instructions, which are the same on every machine."""

import json
import os
import subprocess
import sys

import pytest

import harness

COST = harness.ROOT / "bench" / "cost"
NOT_COMPARABLE = 2


def cost(*arguments, figures=None):
    env = dict(os.environ, **({"ALLOY_COST_FIGURES": str(figures)} if figures else {}))
    return subprocess.run([sys.executable, COST, *arguments], env=env, capture_output=True, text=True,
                          timeout=4 * harness.DEADLINE, check=False)


def test_no_path_costs_more_or_less_than_is_written_down():
    done = cost("--check")
    if done.returncode == NOT_COMPARABLE:  # another compiler, libc or processor: it says so, and has counted all the same
        assert "Not comparable" in done.stdout and "ndjson" in done.stdout, done.stdout + done.stderr
        return
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_change_that_is_not_written_down_is_told(factor, tmp_path):
    known = tmp_path / "cost.json"
    assert cost("--renew", "single", figures=known).returncode == 0
    figures = json.loads(known.read_text())
    figures["instructions"]["single"] = round(figures["instructions"]["single"] * factor)
    known.write_text(json.dumps(figures))
    done = cost("--check", "single", figures=known)
    assert done.returncode == 1 and "single" in done.stdout.splitlines()[-2] and "--renew" in done.stdout, done.stdout + done.stderr


def test_it_tells_where_the_instructions_are():
    done = cost("--where", "single")
    assert done.returncode == 0 and "json_scan_next" in done.stdout and "l1_enter" in done.stdout, done.stdout + done.stderr


def test_it_tells_cache_misses_and_times():
    done = cost("--cache", "single", "ndjson_duplicate")
    assert done.returncode == 0 and done.stdout.count(" LL ") == 3, done.stdout + done.stderr
    done = cost("--time", "single", "ndjson")
    assert done.returncode == 0 and done.stdout.count("ns a request") == 2 and "ns an event" in done.stdout, done.stdout
