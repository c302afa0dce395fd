# SPDX-License-Identifier: Apache-2.0
"""A short fixed set of chaotic runs; tests/chaos/run --minutes N makes more with random seeds."""

import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT / "tests" / "chaos"))
import chaos  # noqa: E402


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_nothing_is_lost_and_nothing_doubled(tmp_path, seed):
    run = chaos.Run(seed, 7, tmp_path)
    assert run.execute() == []
    assert sum(run.kills.values()) > 0
