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
    figures = re.search(r'"answered": (\d+), .*"lost": 0,.*"doubled": 0,', done.stdout)
    assert figures and int(figures[1]) > 1000


def test_what_redis_did_with_a_claim_is_read_from_what_monitor_says(tmp_path):
    one = witness.Witness({}, tmp_path)
    one.watches = {name: witness.Watch(None, tmp_path / name) for name in ("redis-1", "redis-2")}
    (tmp_path / "redis-1").write_bytes(
        b'+OK\r\n+17.5 [0 10.77.0.3:4] "MGET" "alloy:events:{161}id-0-6"\r\n'
        b'+17.6 [0 10.77.0.3:4] "SET" "alloy:events:{161}id-0-6" "\\x9b\\xc5" "EX" "86400" "NX"\r\n'
        b'+17.7 [0 10.77.0.3:4] "SET" "alloy:events:{162}id-0-66" "a" "EX" "86400" "NX"\r\n')
    (tmp_path / "redis-2").write_bytes(b'+19.1 [0 10.77.0.2:4] "SET" "alloy:events:{161}id-0-6" "b" "EX" "86400" "NX"\r\n')
    found = one.writes(["id-0-6", "id-0-7"])
    assert found == {"id-0-6": [(17.6, "redis-1", "10.77.0.3:4", "SET", b"\\x9b\\xc5"), (19.1, "redis-2", "10.77.0.2:4", "SET", b"b")],
                     "id-0-7": []}
    assert witness.forgotten(found["id-0-6"]) and not witness.forgotten(found["id-0-7"])


def claim(at, node, value, command="SET"):
    return (at, node, "10.77.0.2:1", command, value)


def test_a_claim_that_redis_has_forgotten_is_told_from_one_that_nobody_asked_for():
    a, b = b"one", b"other"
    assert witness.forgotten([claim(1, "redis-1", a), claim(3, "redis-2", b)]) == 2
    # By the last that was known of it.
    assert witness.forgotten([claim(1, "redis-1", a), claim(70, "redis-1", a), claim(80, "redis-2", b)]) == 10
    # The same where it was, or came by replication or with its slot, and where one alloyd sets its own again.
    assert not witness.forgotten([claim(1, "redis-1", a), claim(2, "redis-1", b)])
    assert not witness.forgotten([claim(1, "redis-1", a), claim(1, "redis-2", a), claim(2, "redis-2", b)])
    assert not witness.forgotten([claim(1, "redis-1", a), claim(1, "redis-2", b"", "RESTORE-ASKING"), claim(2, "redis-2", b)])
    assert not witness.forgotten([claim(1, "redis-1", a), claim(2, "redis-2", a)])
    assert not witness.forgotten([])
