# SPDX-License-Identifier: Apache-2.0
"""A short fixed set of faults over a whole deployment in network namespaces; tests/cluster/run makes more."""

import re
import subprocess
import sys

import harness

FOLDER = harness.ROOT / "tests" / "cluster"
sys.path.insert(0, str(FOLDER))
import witness  # noqa: E402

KINDS = ("kill_master", "cut_master_off_with_alloyd", "cut_alloyd_from_shard", "reshard", "failover", "slow_redis", "adopt")
SEED = 1


def test_through_faults_of_a_whole_deployment_every_id_answered_is_there_once():
    """Fails, rather than skips, where namespaces are refused: the program says what it needs."""
    done = subprocess.run([sys.executable, FOLDER / "run", "--seed", str(SEED), "--each", "--only", ",".join(KINDS)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    figures = re.search(r'"answered": (\d+), "rows": (\d+), "lost": 0', done.stdout)
    assert figures and int(figures[1]) == int(figures[2]) > 1000


def claim(at, node, value, command="SET"):
    return (at, node, "10.77.0.2:1", command, value)


def test_a_claim_that_redis_has_forgotten_is_told_from_one_that_nobody_asked_for():
    a, b = b"one", b"other"
    assert witness.forgotten([claim(1, "redis-1", a), claim(2, "redis-2", b)])
    # The same where it was, or came by replication or with its slot, and where one alloyd sets its own again.
    assert not witness.forgotten([claim(1, "redis-1", a), claim(2, "redis-1", b)])
    assert not witness.forgotten([claim(1, "redis-1", a), claim(1, "redis-2", a), claim(2, "redis-2", b)])
    assert not witness.forgotten([claim(1, "redis-1", a), claim(1, "redis-2", b"", "RESTORE-ASKING"), claim(2, "redis-2", b)])
    assert not witness.forgotten([claim(1, "redis-1", a), claim(2, "redis-2", a)])
    assert not witness.forgotten([])
