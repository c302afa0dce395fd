# SPDX-License-Identifier: Apache-2.0
"""Restarts under the load of wrk and bench/load: every connection is taken, every request answered, every event one row.

ALLOY_RESTARTS=100 pytest -s makes the loops as long as a release wants them, as in test_handover.py, and prints the figures.
wrk tells of each connection that is refused, reset or closed before its answer; it forgets what it has under way at its end, and
so its events are counted only once it is quiet. bench/load answers for each event, also of many requests in one write.
"""

import json
import re
import signal
import subprocess
import sys

import pytest

import harness
from test_handover import RESTARTS, restart_by_store, sections, store, usr2  # noqa: F401 - store is a fixture

sys.path.insert(0, str(harness.ROOT / "bench"))
import measure  # noqa: E402 - its place is known only now

KEPT, CLOSING = 8, 4  # connections of wrk
WRK = ["wrk", "-t1", "-d86400s", "--timeout", "60s", "-s", harness.ROOT / "bench" / "wrk" / "restart.lua"]
LOAD = ["--seconds", "86400"]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return measure.build_load(tmp_path_factory.mktemp("load"))


class Generators:
    """Four of them at once: connections that are kept, one for each request, at fixed times, and with many requests in one write."""

    def __init__(self, alloyd, load, folder):
        self.alloyd, self.folder, self.stop_file, self.results, self.processes = alloyd, folder, folder / "stop", {}, {}
        url = f"http://127.0.0.1:{alloyd.port}/v1/events"
        self.commands = {
            "kept": [*WRK, f"-c{KEPT}", url, "--", "kept", self.stop_file],
            "closing": [*WRK, f"-c{CLOSING}", "-H", "Connection: close", url, "--", "closing", self.stop_file],
            "timed": [load, *LOAD, "--connections", "16", "--rate", "50", "--run", "timed", url],
            "piped": [load, *LOAD, "--connections", "2", "--rate", "100", "--pipeline", "16", "--run", "piped", url],
        }

    def __enter__(self):
        for name, argv in self.commands.items():
            with open(self.output(name), "wb") as output:
                self.processes[name] = subprocess.Popen(list(map(str, argv)), stdout=output, stderr=subprocess.STDOUT)
        self.wait_for_requests()
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def output(self, name):
        return self.folder / f"{name}.out"

    def wait_for_requests(self, count=300):
        """Since this life began; as many as come due in a restart, or load would fall behind."""
        harness.wait_until(lambda: self.answers() >= count or self.ended(), "requests")
        assert not self.ended(), self.ended()

    def answers(self):
        return sum(measure.answers_by_code(self.alloyd.metrics()).values())

    def ended(self):
        """What those say that did not wait for their end."""
        return [(name, self.output(name).read_text()) for name, process in self.processes.items() if process.poll() is not None]

    def stop(self):
        """Ends the load once nothing of it is under way."""
        for name in ("timed", "piped"):
            self.end(name)
        self.stop_file.touch()
        seen = [0, 1, 2]

        def quiet():
            seen[:] = seen[1:] + [self.answers()]
            return len(set(seen)) == 1

        harness.wait_until(quiet, "quiet", interval=0.2)
        for name in ("kept", "closing"):
            self.end(name)

    def end(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGINT)
        process.wait(harness.DEADLINE)
        text = self.output(name).read_text()
        words = dict(re.findall(r"^(RESULT|ANSWERS) (\{.*\})$", text, re.M))
        assert "RESULT" in words, f"{name}: {text}"
        self.results[name] = json.loads(words["RESULT"])
        answers = json.loads(words.get("ANSWERS", "{}"))
        codes = self.results[name].get("codes", {})
        self.results[name].update(accepted=answers.get("accepted", codes.get("202", 0)), full=answers.get("full", codes.get("503", 0)),
                                  others=answers.get("others", sum(codes.values()) - codes.get("202", 0) - codes.get("503", 0)),
                                  example=answers.get("example", codes))

    def tell(self, what):
        print(f"\n{what}: restarts={RESTARTS}")
        for name, result in self.results.items():
            errors = {kind: count for kind, count in result["errors"].items() if kind != "status"}
            print(f"  {name}: requests={result['requests']} accepted={result['accepted']} full={result['full']} "
                  f"others={result['others']} errors={errors} slowest_ms={result['latency_us']['max'] / 1000:.0f}")

    def check(self, clickhouse, table):
        rows = {run: (int(count), int(different)) for run, count, different in clickhouse.rows(
            f"SELECT splitByChar('-', event_id)[1] AS run, count(), uniqExact(event_id) FROM {table} GROUP BY run")}
        for name, result in self.results.items():
            errors = {kind: count for kind, count in result["errors"].items() if count and kind != "status"}
            assert errors == {}, f"{name}: {result}"
            assert result["others"] == 0, f"{name}: {result}"
            count, different = rows[name]
            assert count == different, f"{name}: doubled"
            assert count >= result["accepted"] > 0, f"{name}: {result['accepted'] - count} lost"
            # wrk has at most one request under way on each connection when it is ended.
            unanswered = {"kept": KEPT, "closing": CLOSING}.get(name, 0)
            assert count <= result["accepted"] + unanswered, f"{name}: {count} rows for {result['accepted']} answers"


def run(what, generators, restart, clickhouse, table):
    with generators:
        for _ in range(RESTARTS):
            restart()
            generators.wait_for_requests()
        generators.stop()
    generators.tell(what)
    assert generators.alloyd.drain() == 0
    generators.check(clickhouse, table)


def test_restarts_in_place_under_wrk(make_alloyd, redis, clickhouse, table, load, tmp_path):
    alloyd = make_alloyd(sections(redis, clickhouse, table)).start()
    run("in place", Generators(alloyd, load, tmp_path), lambda: usr2(alloyd), clickhouse, table)


def test_restarts_with_held_sockets_under_wrk(make_alloyd, redis, clickhouse, table, load, tmp_path):
    alloyd = make_alloyd(sections(redis, clickhouse, table))
    with harness.listen_on() as event, harness.listen_on() as admin:
        alloyd.port, alloyd.admin_port = event.getsockname()[1], admin.getsockname()[1]
        alloyd.start_with([event, admin], ["event", "admin"])

        def restart():
            assert alloyd.drain() == 0
            alloyd.start_with([event, admin], ["event", "admin"])

        run("sockets of systemd", Generators(alloyd, load, tmp_path), restart, clickhouse, table)


def test_restarts_by_the_descriptor_store_under_wrk(make_alloyd, redis, clickhouse, table, load, tmp_path, store):  # noqa: F811
    alloyd = make_alloyd(sections(redis, clickhouse, table))
    alloyd.spawn_only(store.env)
    alloyd.wait_ready(alloyd.readyz)
    run("descriptor store", Generators(alloyd, load, tmp_path), lambda: restart_by_store(alloyd, store), clickhouse, table)


def test_a_restart_that_refuses_is_told_by_each(make_alloyd, load, tmp_path):
    """The listening sockets are closed in between: what cannot fail would show nothing."""
    alloyd = make_alloyd(sections(None, None, "default.events")).start()
    with Generators(alloyd, load, tmp_path) as generators:
        assert alloyd.drain() == 0
        harness.wait_until(lambda: len(generators.ended()) == 2, "the end of load, which gives up")
        assert all("refused" in text or "reset" in text for _, text in generators.ended())
        alloyd.start()
        for name in ("kept", "closing"):
            generators.end(name)
            errors = generators.results[name]["errors"]
            assert errors["connect"] + errors["read"] + errors["write"] > 0, generators.results
