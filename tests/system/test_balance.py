# SPDX-License-Identifier: Apache-2.0
"""Front-end threads that pass connections on to each other."""

import itertools

import harness
from conftest import sections_for
from test_bench import load  # noqa: F401 (a fixture)

PASSED = "alloy_http_connections_passed_total"


def test_connections_gather_on_few_threads_and_every_event_is_there_once(make_alloyd, redis, clickhouse, table, load):  # noqa: F811
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, server={"threads": 4})).start()
    accepted = 0
    # How much keeps four threads half busy depends on the machine.
    for rate in itertools.islice(itertools.cycle([20_000, 10_000, 40_000, 5_000, 2_000]), 30):
        result = load(alloyd, "--seconds", 1, "--connections", 32, "--rate", rate)
        assert result["errors"]["read"] == result["errors"]["write"] == result["reconnects"] == 0
        assert set(result["codes"]) <= {"202", "503"}
        accepted += result["codes"]["202"]
        if alloyd.metrics()[PASSED] > 0:
            break
    assert alloyd.metrics()[PASSED] > 0
    # All of them are idle; and who connects now is served wherever it lands.
    harness.wait_until(lambda: alloyd.metrics()["alloy_http_connections"] == 0, "no connection")
    assert alloyd.post(harness.event("last")).status == 202
    books = alloyd.settled()
    assert books["inserted"] == accepted + 1
    assert clickhouse.query(f"SELECT count(), uniqExact(event_id) FROM {table}").split() == [str(accepted + 1)] * 2
