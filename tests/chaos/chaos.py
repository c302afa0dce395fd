# SPDX-License-Identifier: Apache-2.0
"""One chaotic run: load from clients that retry, on two alloyd that share Redis and ClickHouse, while a seeded
schedule breaks everything.

After a run every id that was answered 202 is in ClickHouse exactly once or in a dead-letter folder
exactly once, and the books balance. The same seed gives the same schedule of faults (not the same
interleaving: that is the kernel's).
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import ledger  # noqa: E402
from ledger import doubled, harness, problem  # noqa: E402
from proxy import Proxy  # noqa: E402

CLIENTS = 6
ALLOYDS = 2
REDIS_OPTIONS = ("--appendonly", "yes", "--appendfsync", "always")
BAD_EVERY = 400  # one event in so many is refused by ClickHouse
# What a refused event says: a time that is none, and a value that makes a column's expression throw.
BAD = {"bad": {"ts": "no time"}, "throw": {"v": -1}}
MEMORY = "&max_memory_usage=20000000"  # an insert of 2,500 rows fits, a backlog's does not


class PipedAlloyd(harness.Alloyd):
    """Its stderr is a pipe, whose reader stalls when told to; the log file has what was read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.reading = threading.Event()
        self.reading.set()

    def spawn(self, argv, env=None):
        read_fd, write_fd = os.pipe()
        self.popen = subprocess.Popen([str(a) for a in argv], stdout=write_fd, stderr=write_fd,
                                      stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))
        os.close(write_fd)
        threading.Thread(target=self.copy, args=(read_fd,), daemon=True).start()

    def copy(self, fd):
        with open(self.log_path, "ab", buffering=0) as log, os.fdopen(fd, "rb", buffering=0) as pipe:
            while self.reading.wait() and (data := pipe.read(65536)):
                log.write(data)


class Client(ledger.Client):
    def __init__(self, run, number):
        super().__init__(run, number)
        # One client's stream is stuck now and then, and must not hold up the others'.
        if number == 0:
            self.path, self.sizes, self.rest = "/v1/stuck", (1,), 0.05

    def new_id(self):
        self.sent += 1
        if self.path == "/v1/stuck":
            return f"stuck-{self.number}-{self.sent}"
        kind = self.random.choice(sorted(BAD)) if self.random.randrange(BAD_EVERY) == 0 else "id"
        return f"{kind}-{self.number}-{self.sent}"

    def body(self, ids):
        return "\n".join(harness.event(i, **BAD.get(i.split("-")[0], {})) for i in ids)


class Run(ledger.Run):
    def __init__(self, seed, seconds, folder, options=()):
        super().__init__(seed, folder)
        self.seconds, self.options = seconds, options
        self.kills = {"alloyd": 0, "redis": 0, "clickhouse": 0}
        self.disk = self.redis = self.clickhouse = None
        self.stuck = False

    # -- the parts

    def start(self):
        # always: with everysec Redis may answer before it has written, and forget claims when it is killed.
        self.redis = harness.Redis(self.folder).start(*REDIS_OPTIONS)
        self.clickhouse = harness.ClickHouse(self.folder).start()
        for table in ("events", "stuck"):
            self.clickhouse.create_events(f"default.{table}")
            self.clickhouse.query(f"ALTER TABLE default.{table} ADD COLUMN v Int64 DEFAULT 0, "
                                  "ADD COLUMN m UInt8 MATERIALIZED bitTest(5, v)")
        self.proxy = Proxy(self.clickhouse.port, self.seed)
        self.mount_disk()
        self.alloyds = [self.make_alloyd(n) for n in range(ALLOYDS)]

    def make_alloyd(self, n):
        return PipedAlloyd(self.folder, {
            "stream.events": {"path": "/v1/events", "table": "default.events", "id": "event_id"},
            "stream.stuck": {"path": "/v1/stuck", "table": "default.stuck", "id": "event_id"},
            "redis": {"url": self.redis.url, "on_failure": "hold", "timeout": "200ms"},
            "clickhouse": {"url": self.proxy.url, "timeout": "3s", "retry_max": "500ms"},
            "worker": {"linger": "10ms"},
            "l1": {"capacity": 50000},  # most ids that come again are known to Redis alone
            "journal": {"dir": self.disk / f"journal-{n}", "segment": "512KiB", "max_bytes": "24MiB",
                        "sync": self.random.choice(["interval", "always", "never"])},
            "dead_letter": {"dir": self.disk / f"dead-letter-{n}"},
            "log": {"level": "info"},
        }, self.options).start()

    def mount_disk(self):
        """The journal's disk is a small one of its own, so that it can be filled."""
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", self.disk], check=True)

    # -- what breaks

    def process(self, name):
        return self.random.choice(self.alloyds) if name == "alloyd" else getattr(self, name)

    def kill(self, name):
        process = self.process(name)
        process.kill()
        self.kills[name] += 1
        self.pause(0, 0.5)
        if name == "redis":
            process.start(*REDIS_OPTIONS)
        elif name == "alloyd":
            process.start(ready=False)
        else:
            process.start()

    def freeze(self, name):
        process = self.process(name)
        process.signal(signal.SIGSTOP)
        self.pause(0.1, 1.0)
        process.signal(signal.SIGCONT)

    def bad_answers(self):
        faults = self.random.sample(["cut", "reset", "truncate", "delay", "exception", "error500", "error503",
                                     "refuse", "late", "error429"], 3)
        self.proxy.weights = {"pass": 1, **dict.fromkeys(faults, 1)}
        self.pause(0.3, 1.5)
        self.proxy.heal()

    def fill_disk(self):
        filler = self.disk / "filler"
        fd = os.open(filler, os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(fd, b"\0" * 65536)
        except OSError:
            pass
        os.close(fd)
        self.pause(0.3, 1.0)
        os.unlink(filler)

    def limit_memory(self):
        self.proxy.settings = MEMORY
        self.pause(0.5, 2.0)
        self.proxy.heal()

    def refuse_writes(self):
        """Redis answers reads, and refuses to write, as after a failover."""
        self.redis.command("REPLICAOF", "127.0.0.1", "1")
        self.pause(0.3, 1.0)
        self.redis.command("REPLICAOF", "NO", "ONE")

    def stall_log(self):
        alloyd = self.random.choice(self.alloyds)
        alloyd.reading.clear()
        self.pause(0.5, 2.0)
        alloyd.reading.set()

    def stick(self):
        """The stream that may be stuck loses its table, or has it again."""
        self.stuck = not self.stuck
        self.clickhouse.query("RENAME TABLE default.stuck TO default.away" if self.stuck
                              else "RENAME TABLE default.away TO default.stuck")

    def schedule(self):
        actions = ([lambda: self.kill("alloyd")] * 5 + [lambda: self.kill("redis")] * 2
                   + [lambda: self.kill("clickhouse")] * 2 + [lambda: self.freeze("alloyd")]
                   + [lambda: self.freeze("redis")] + [lambda: self.freeze("clickhouse")]
                   + [self.bad_answers] * 4 + [self.fill_disk] + [self.limit_memory] * 2
                   + [self.refuse_writes] + [self.stall_log] + [self.stick] * 2)
        end = time.monotonic() + self.seconds
        self.pause(0.5, 1.5)
        self.kill("alloyd")  # at least one, however short the run is
        while time.monotonic() < end:
            self.pause(0.1, 0.8)
            self.random.choice(actions)()
        if self.stuck:
            self.stick()

    # -- the proof

    def check(self):
        rows = [row[0] for row in self.clickhouse.rows(
            "SELECT event_id FROM default.events UNION ALL SELECT event_id FROM default.stuck")]
        lines = [json.loads(line) for path in sorted(self.disk.glob("dead-letter-*/*.ndjson"))
                 for line in path.read_text().splitlines()]
        letters = [line["event"]["event_id"] for line in lines]
        records = [line["lsn"] for line in lines]
        answered = {i for c in self.clients for i in c.answered}
        bad = {i for i in answered if i.split("-")[0] in BAD}
        good = answered - bad | self.neighbors
        problems = (
            problem("lost", good - set(rows)) + problem("doubled", doubled(rows))
            + problem("refused rows lost", bad - set(letters))
            # By record, not by id: an id that was refused is free, and a client that sends it again has it refused again.
            + problem("dead-lettered twice", doubled(records))
            + problem("good events dead-lettered", {i for i in letters if i.split("-")[0] not in BAD})
            + problem("refused rows in ClickHouse", {i for i in rows if i.split("-")[0] in BAD}))
        return problems, len(good), len(bad), len(rows), len(letters)

    def execute(self):
        try:
            self.start()
            self.start_clients([Client(self, n) for n in range(CLIENTS)])
            self.schedule()
            self.proxy.heal()
            stuck = self.stop_clients()
            for alloyd in self.alloyds:
                alloyd.reading.set()
            books = [self.settle(alloyd, stream) for alloyd in self.alloyds for stream in ("events", "stuck")]
            again = sum(alloyd.log().count("ClickHouse has lost an insert") for alloyd in self.alloyds)
            problems, good, bad, rows, letters = self.check()
            problems += stuck
            print(f"seed {self.seed}: {good} events and {bad} bad ones answered 202, {rows} rows, {letters} dead "
                  f"letters; kills {self.kills}; answers {self.statuses()}; faults "
                  f"{ {k: v for k, v in self.proxy.done.items() if v} }; told as lost by ClickHouse {again}; "
                  f"books {books}", flush=True)
            for alloyd in self.alloyds:
                alloyd.finish()
            return problems
        finally:
            self.give_up.set()
            self.stop.set()
            for process in (*self.alloyds, self.redis, self.clickhouse):
                if process is not None:
                    process.kill()
            if hasattr(self, "proxy"):
                self.proxy.close()
            if self.disk is not None:
                subprocess.run(["umount", "-l", self.disk], check=False)
