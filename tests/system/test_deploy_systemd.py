# SPDX-License-Identifier: Apache-2.0
"""deploy/systemd: three alloyd behind HAProxy, with the files as they are but for addresses, under load."""

import configparser
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

import harness
from machines import FILES, NAMES, Balancer, Machine
from proxies import lasting_ports, send_until_taken
from redis_cluster import Cluster


class Load:
    """Clients that send each event until it is taken, and note whatever else they were told."""

    def __init__(self, balancer, count=6):
        self.balancer, self.count = balancer, count
        self.ends = time.monotonic() + 4 * harness.DEADLINE
        self.sent, self.troubles = [0] * count, []
        self.over = threading.Event()

    def run(self, number):
        try:
            while not self.over.is_set():
                prefix = f"d-{number}-{self.sent[number]}"
                # Some bodies are too large for HAProxy to send them again.
                ids = [f"{prefix}-{i}" for i in range(200)] if number == 0 else [prefix]
                send_until_taken(self.balancer, ids, self.ends, self.troubles)
                self.sent[number] += 1
        finally:
            self.over.set()

    def events(self):
        return sum(self.sent[1:]) + 200 * self.sent[0]

    def go_on(self, requests):
        """Waits for so many more requests."""
        goal = sum(self.sent) + requests
        harness.wait_until(lambda: sum(self.sent) > goal or self.over.is_set(), "load")


@pytest.fixture
def behind(request, tmp_path):
    """What stands behind the machines: the URL of Redis, and one ClickHouse for each shard, all of which have the table.

    One of each; or with the parameter "clusters" three masters with a replica each, and two shards."""
    many = getattr(request, "param", "one") == "clusters"
    shards = []
    for number in range(2 if many else 1):
        folder = tmp_path / f"shard-{number}"
        folder.mkdir()
        shards.append(harness.ClickHouse(folder))
    redis = None
    try:
        for shard in shards:
            shard.start()
            shard.create_events("default.events")
        redis = Cluster(tmp_path) if many else harness.Redis(tmp_path).start()
        yield (redis.url() if many else redis.url), shards
    finally:
        for shard in shards:
            shard.kill()
        if redis:
            (redis.end if many else redis.kill)()


@pytest.fixture
def machines(request, tmp_path, behind):
    redis_url, shards = behind
    made = {}
    for name in NAMES:
        machine = made[name] = Machine(tmp_path, {
            "redis": {"url": redis_url},
            "clickhouse": {"url": " | ".join(shard.url for shard in shards), "user": "", "password_file": ""}})
        lasting_ports(machine)
    request.node.alloy_processes = list(made.values())
    yield made
    for machine in made.values():  # together: each drain lingers
        if machine.alive():
            machine.signal(signal.SIGTERM)
    for machine in made.values():
        if machine.alive():
            machine.wait()
        machine.finish()


def everybody_up(balancer):
    harness.wait_until(lambda: set(balancer.states().values()) == {"UP"}, lambda: f"all up: {balancer.states()}")


def break_them(machines, balancer, load):
    """One machine after the other: a restart, a kill, one that hangs."""
    load.go_on(200)
    assert load.troubles == []
    machines["two"].signal(signal.SIGTERM)
    harness.wait_until(lambda: balancer.state("two") == "DOWN", "the drain noticed")
    assert machines["two"].alive(), "it still takes events when HAProxy has noticed"
    machines["two"].wait()
    machines["two"].start()
    everybody_up(balancer)
    assert load.troubles == [], "a restart with drain.linger is nothing that a client sees"

    load.go_on(200)
    machines["one"].signal(signal.SIGKILL)
    machines["one"].wait()
    harness.wait_until(lambda: balancer.state("one") == "DOWN", "the kill noticed")
    load.go_on(200)
    machines["one"].start()
    everybody_up(balancer)

    load.go_on(200)
    machines["three"].signal(signal.SIGSTOP)
    harness.wait_until(lambda: balancer.state("three") == "DOWN", "the hang noticed")
    load.go_on(200)
    machines["three"].signal(signal.SIGCONT)
    everybody_up(balancer)
    load.go_on(200)


@pytest.mark.parametrize("behind", ["one", "clusters"], indirect=True)
def test_one_restarts_one_is_killed_one_hangs_and_every_event_is_there_once(machines, behind, tmp_path):
    balancer = Balancer(tmp_path, machines)
    for machine in machines.values():
        machine.start()
    try:
        balancer.start()
        everybody_up(balancer)
        load = Load(balancer)

        def run(number):
            if number < load.count:
                load.run(number)
                return
            try:
                break_them(machines, balancer, load)
            finally:
                load.over.set()

        harness.in_threads(load.count + 1, run)
    finally:
        balancer.kill()
    for machine in machines.values():
        machine.settled()
    counts = [(shard.count("default.events"), shard.count("default.events", "uniqExact(event_id)")) for shard in behind[1]]
    assert all(rows == ids > 0 for rows, ids in counts) and sum(rows for rows, _ in counts) == load.events(), counts
    print(f"requests={sum(load.sent)} events={load.events()} troubles={len(load.troubles)}: {load.troubles[:10]}")


def test_haproxy_shows_its_figures_and_nothing_else(machines, tmp_path):
    balancer = Balancer(tmp_path, machines)
    machines["one"].start()
    try:
        balancer.start()
        client = harness.http.client.HTTPConnection("127.0.0.1", balancer.figures, timeout=harness.DEADLINE)
        client.request("GET", "/metrics")
        answer = client.getresponse()
        assert answer.status == 200 and b'haproxy_server_status{proxy="alloy",server="one"' in answer.read()
        client.request("GET", "/v1/events")
        assert client.getresponse().status == 403
        client.close()
    finally:
        balancer.kill()


def test_a_drain_lingers_longer_than_haproxy_needs_to_notice():
    ini = configparser.ConfigParser()
    ini.read(FILES / "alloy.ini")
    text = (FILES / "haproxy.cfg").read_text()
    inter, fall = re.search(r"default-server check inter (\d+)s fall (\d+)", text).groups()
    check = re.search(r"timeout check (\d+)s", text)[1]
    assert int(inter) * int(fall) + int(check) < int(ini["drain"]["linger"].rstrip("s"))


def test_systemd_takes_the_drop_in(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd is not installed: run scripts/install --test")
    unit = (harness.ROOT / "config" / "alloyd.service").read_text().replace("/usr/bin/alloyd", str(harness.BUILD / "alloyd"))
    (tmp_path / "alloyd.service").write_text(unit)
    (tmp_path / "alloyd.service.d").mkdir()
    shutil.copy(FILES / "network.conf", tmp_path / "alloyd.service.d")
    run = subprocess.run(["systemd-analyze", "verify", tmp_path / "alloyd.service"], capture_output=True, text=True, check=False)
    assert "network.conf" not in run.stdout + run.stderr
    # It does tell of what it does not take.
    with open(tmp_path / "alloyd.service.d" / "network.conf", "a", encoding="ascii") as file:
        file.write("IPAddressAllow=nobody.there\n")
    run = subprocess.run(["systemd-analyze", "verify", tmp_path / "alloyd.service"], capture_output=True, text=True, check=False)
    assert "network.conf" in run.stdout + run.stderr
