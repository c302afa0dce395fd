# SPDX-License-Identifier: Apache-2.0
"""One run: three alloyd behind HAProxy, a Redis Cluster of six and two shards of ClickHouse, each on a host of its own
(network.py), with deploy/systemd's configuration; clients that retry; and faults from a seed (faults.py).

After it every id that was answered 202 is in ClickHouse exactly once, over both shards. Not counted as lost is what was
LIVE in a journal that was lost with its machine: by definition that is gone, with its duplicates (docs/GUARANTEES.md).
"""

import configparser
import http.client
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))
import ledger  # noqa: E402
from faults import Faults  # noqa: E402
from ledger import doubled, harness, problem  # noqa: E402
from machines import FILES, NAMES, Balancer  # noqa: E402
from network import Network  # noqa: E402
from redis_cluster import Cluster  # noqa: E402
from witness import Witness, forgotten  # noqa: E402

CLIENTS = 6
CLIENT_HOSTS = 2
REDIS = [f"redis-{n}" for n in range(1, 7)]
SHARDS = ["shard-1", "shard-2"]
# always: with everysec Redis may answer before it has written, and forget claims when it is killed. The factor of 10
# is Redis' own: a replica that has not heard of its master for so long does not take over.
REDIS_OPTIONS = ("--protected-mode", "no", "--appendonly", "yes", "--appendfsync", "always",
                 "--cluster-replica-validity-factor", 10)
WINDOW = 100  # inserts that a table remembers: an alloyd that was away comes back when they are forgotten
DISTRUST_S = 60  # redis.distrust: no claim that is forgotten is believed to be new for so long
HISTORIES = 20  # ids whose history is told


class Greeting(http.client.HTTPConnection):
    """As HAProxy does, it says first for whom it speaks."""

    def connect(self):
        super().connect()
        self.sock.sendall(b"PROXY UNKNOWN\r\n")


def shipped():
    """deploy/systemd/alloy.ini but for what is this place's own."""
    ini = configparser.RawConfigParser()
    ini.read(FILES / "alloy.ini")
    sections = {section: dict(ini[section]) for section in ini.sections()}
    for section, key in (("server", "listen"), ("journal", "dir"), ("dead_letter", "dir"), ("clickhouse", "user"),
                         ("clickhouse", "password_file")):
        del sections[section][key]
    return sections


class Machine(harness.Alloyd):
    """An alloyd on a host of its own."""

    def __init__(self, run, name, host):
        sections = shipped()
        for section, keys in self.own(run).items():
            sections.setdefault(section, {}).update(keys)
        super().__init__(run.folder, sections, host=host.address)
        self.name, self.place, self.inside = name, host, host.inside
        self.log_path = self.folder / f"{name}.log"
        self.journals = 0

    @staticmethod
    def own(run):
        return {
            "stream.events": {"proof": "ins"},
            "redis": {"url": run.redis.url(count=3), "wait_replicas": 1, "timeout": "300ms", "distrust": f"{DISTRUST_S}s"},
            "clickhouse": {"url": " | ".join(shard.url for shard in run.shards), "timeout": "3s",
                           "retry_max": "500ms"},
            "worker": {"linger": "10ms"},
            "l1": {"capacity": 2000},  # most ids that come again are known to Redis alone
            "journal": {"segment": "512KiB", "max_bytes": "24MiB", "sync": run.random.choice(["interval", "always", "never"])},
            "drain": {"linger": "500ms", "timeout": "3s"},
            "log": {"level": "info"},
        }

    def client(self):
        return Greeting(self.host, self.port, timeout=5)

    def admin(self, path, method="GET"):
        with self.place.visit():  # it listens on the loopback
            return super().admin(path, method)

    @property
    def journal(self):
        return pathlib.Path(self.sections["journal"]["dir"])

    def lose_journal(self):
        """Moves the journal of one that is dead away, and returns where it is."""
        self.journals += 1
        return self.journal.rename(self.folder / f"{self.name}-gone-{self.journals}")


class Adopter(harness.Process):
    """Brings the events of a dead machine's journal to ClickHouse, beside another machine's alloyd."""

    def __init__(self, folder, machine, journal):
        super().__init__(f"adopt-{journal.name}", folder)
        self.machine, self.journal, self.inside = machine, journal, machine.inside

    def start(self):
        self.spawn([harness.BUILD / "alloyctl", "journal", "adopt", "--config", self.machine.ini, self.journal])
        return self

    def finish(self):
        """Until nothing is left; what was killed is started again."""
        for _ in range(3):
            try:
                if self.wait(2 * harness.DEADLINE) == 0:
                    return
            except subprocess.TimeoutExpired:
                break
            self.start()
        raise AssertionError(f"{self.name}: events are left: {self.log()[-3000:]}")


class Client(ledger.Client):
    sizes = (1, 1, 5, 20)
    rest = 0.01

    def __init__(self, run, number):
        super().__init__(run, number)
        self.place = run.network[f"clients-{number % CLIENT_HOSTS + 1}"]
        self.target, self.tries = None, []

    def run(self):
        self.place.enter()
        super().run()

    def connect(self):
        """Most come through the balancer, others to an alloyd that they choose."""
        if self.random.random() < 0.6:
            self.target = self.run_.balancer
            return http.client.HTTPConnection(self.target.host, self.target.port, timeout=2)
        self.target = self.random.choice(self.run_.alloyds)
        return Greeting(self.target.host, self.target.port, timeout=2)

    def again(self):
        """Some that were just answered, since their claims are what a failover loses, and some of all."""
        return self.random.sample(self.answered[-200:], min(len(self.answered), 200, 4)) + [self.random.choice(self.answered)]

    def told(self, ids, answer):
        super().told(ids, answer)
        self.tries.append((time.time(), self.target.name, answer.status if answer else 0, ids))

    def wait(self, answer):
        self.disconnect()
        time.sleep(float(answer.headers.get("Retry-After", 0)) if answer else 0.02)
        super().wait(answer)


class Run(ledger.Run):
    def __init__(self, folder, options):
        super().__init__(options.seed, folder)
        self.seconds, self.count, self.kinds, self.each = options.seconds, options.faults, options.only, options.each
        self.network = self.redis = self.balancer = self.witness = None
        self.faults, self.began, self.late = None, time.time(), set()
        self.shards, self.adopters, self.gone = [], [], set()

    # -- the parts

    def start(self):
        names = [*NAMES, "balancer", *REDIS, *SHARDS, *(f"clients-{n + 1}" for n in range(CLIENT_HOSTS))]
        self.network = network = Network(names)
        for name in SHARDS:
            folder = self.folder / name
            folder.mkdir()
            shard = harness.ClickHouse(folder, host=network[name].address)
            shard.name, shard.place, shard.inside = name, network[name], network[name].inside
            self.shards.append(shard)
        harness.in_threads(len(SHARDS), lambda n: self.start_shard(self.shards[n]))
        nodes = self.folder / "redis"  # in memory: on a disk each write would wait for it
        nodes.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", nodes], check=True)
        self.redis = Cluster(nodes, *REDIS_OPTIONS, places=[(network[n].address, network[n].inside) for n in REDIS])
        for name, node in zip(REDIS, self.redis.nodes):
            node.name, node.place, node.patience = name, network[name], 1
        self.try_network(self.redis.nodes[0], network["clients-1"], network[REDIS[0]])
        self.witness = Witness(dict(zip(REDIS, self.redis.nodes)), self.folder)
        for name in NAMES:
            self.alloyds.append(Machine(self, name, network[name]))
        for alloyd in self.alloyds:
            alloyd.start()
        self.balancer = Balancer(self.folder, dict(zip(NAMES, self.alloyds)), network["balancer"].address)
        self.balancer.name, self.balancer.place = "balancer", network["balancer"]
        self.balancer.inside = network["balancer"].inside
        self.balancer.start()

    def try_network(self, server, place, other):
        """That what is broken is broken, and whole again afterwards: else a run would prove nothing."""
        def reach():
            with place.visit():
                begun = time.monotonic()
                try:
                    socket.create_connection((server.host, server.port), timeout=0.4).close()
                    return time.monotonic() - begun
                except TimeoutError:
                    return None

        harness.wait_until(reach, "a network")
        for way in ("both", "there", "back"):
            with self.network.cut([place], [other], way):
                assert reach() is None, f"cut {way}: it is reached"
        with self.network.slow([place], [other], 0.1, 0):
            assert reach() >= 0.1, "slow: it is not"
        with self.network.slow([place], [other], 0, 1):
            assert reach() is None, "all lost: it is reached"
        harness.wait_until(lambda: (reach() or 1) < 0.1, "a network that is whole again")

    @staticmethod
    def start_shard(shard):
        shard.start()
        shard.create_events("default.events")
        shard.query("ALTER TABLE default.events ADD COLUMN ins String DEFAULT getSetting('insert_deduplication_token')")
        shard.query(f"ALTER TABLE default.events MODIFY SETTING non_replicated_deduplication_window = {WINDOW}")

    def processes(self):
        return [*self.alloyds, *(self.redis.nodes if self.redis else ()), *self.shards,
                *([self.balancer] if self.balancer else ())]

    def adopt(self, journal, machine):
        self.adopters.append(Adopter(self.folder, machine, journal).start())
        return self.adopters[-1]

    # -- the end

    def heal(self):
        self.network.heal()
        for process in self.processes():
            if process.alive():
                process.signal(signal.SIGCONT)
        self.faults.start_again(self.processes())
        self.faults.mend()

    def settle_all(self):
        books = [self.settle(alloyd) for alloyd in self.alloyds]
        for adopter in self.adopters:
            adopter.finish()
        return [self.settle(alloyd) for alloyd in self.alloyds] if self.adopters else books

    def rows(self):
        return [(event_id, at, shard.name, token) for shard in self.shards for event_id, at, token in shard.rows(
            "SELECT event_id, toFloat64(received_at), ins FROM default.events")]

    def check(self):
        """Problems; ids that came twice since Redis forgot their claims, and came again later than docs/GUARANTEES.md
        speaks of; and figures."""
        rows = self.rows()
        there = {row[0] for row in rows}
        answered = {i for client in self.clients for i in client.answered} | self.neighbors
        lost, twice = answered - there, doubled(row[0] for row in rows)
        gone = lost & self.gone
        writes = self.witness.writes(twice)
        late = {i for i in twice if (forgotten(writes[i]) or 0) > DISTRUST_S}
        for i in sorted(lost - gone)[:HISTORIES] + sorted(twice)[:HISTORIES]:
            self.tell_history(i, rows, writes.get(i) or self.witness.writes([i])[i])
        problems = (problem("lost", lost - gone) + problem("doubled", twice - late)
                    + problem("rows that no answer told of", there - answered))
        return problems, late, {"answered": len(answered), "rows": len(rows), "lost": len(lost - gone),
                                  "gone with a disk": len(gone), "doubled": len(twice), "of these later than redis.distrust": len(late)}

    def tell_history(self, i, rows, writes):
        """All that is known of an id, by time."""
        lines = [(at, f"row in {shard}, insert {token}") for event_id, at, shard, token in rows if event_id == i]
        lines += [(at, f"{target} answered {status or 'nothing'} to client {client.number}")
                  for client in self.clients for at, target, status, ids in client.tries if i in ids]
        lines += [(at, f"{node}: {command} {value.decode()} by {self.who(client)}") for at, node, client, command, value in writes]
        first, last = min(line[0] for line in lines) - 5, max(line[0] for line in lines) + 1
        lines += [(begin, f"fault: {text}, until {self.clock(end)}") for begin, end, text in self.faults.done
                  if begin < last and end > first]
        print(f"{i}:", *(f"  {self.clock(at)}  {text}" for at, text in sorted(lines)), sep="\n", flush=True)

    def clock(self, at):
        return f"{at - self.began:.3f}"

    def who(self, client):
        return next((host.name for host in self.network.hosts.values() if client.startswith(host.address + ":")), client)

    def metric(self, name):
        return int(sum(alloyd.metrics().get(name, 0) for alloyd in self.alloyds))

    def execute(self):
        try:
            self.start()
            self.faults = Faults(self)
            self.start_clients([Client(self, n) for n in range(CLIENTS)])
            self.faults.schedule()
            self.faults.say("heal")
            self.heal()
            problems = self.stop_clients()
            self.faults.say("settle")
            self.settle_all()
            self.witness.end()
            broken, self.late, figures = self.check()
            figures.update(unclaimed=self.metric("alloy_events_unclaimed_total"),
                           waits_short=self.metric("alloy_redis_wait_short_total"),
                           proven=self.metric("alloy_clickhouse_proven_inserts_total"),
                           seconds=int(time.time() - self.began))
            print(f"seed {self.seed}: {len(self.faults.done)} faults {json.dumps(self.faults.kinds_done)}; "
                  f"{json.dumps(figures)}; answers {self.statuses()}", flush=True)
            for alloyd in self.alloyds:
                alloyd.finish()
            return problems + broken
        finally:
            self.give_up.set()
            self.stop.set()
            for process in (*self.processes(), *self.adopters):
                process.kill()
            for node in self.redis.nodes if self.redis else ():
                shutil.copy(node.log_path, self.folder / f"{node.name}.log")
            if self.network is not None:
                self.network.end()
