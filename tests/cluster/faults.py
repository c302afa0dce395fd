# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a run (cluster.py), one or two at a time, and how it is made good again.

A kind of fault is a function that breaks something, yields what it did, and then mends it."""

import collections
import contextlib
import json
import signal
import subprocess
import time

from ledger import harness

QUIET_S = 5  # the longest wait for a whole cluster between two faults
MEND_S = 120  # and at the end


class Nothing(Exception):
    """There is nobody left whom this fault could befall."""


class Faults:
    def __init__(self, run):
        self.run, self.network, self.random = run, run.network, run.random
        self.done, self.away, self.kinds_done = [], {}, collections.Counter()

    def say(self, text):
        answered = sum(len(client.answered) for client in self.run.clients)
        print(f"{time.time() - self.run.began:7.1f} s  {len(self.done):3d} faults  {answered:7d} ids answered  {text}", flush=True)

    # -- whom it befalls

    def pick(self, some):
        if not some:
            raise Nothing
        return self.random.choice(some)

    def alloyd(self):
        """One that runs, and is not the last one."""
        living = [a for a in self.run.alloyds if a.alive()]
        if len(living) < 2:
            raise Nothing
        return self.random.choice(living)

    def nodes(self, role):
        found = []
        for node in self.run.redis.nodes:
            with contextlib.suppress(OSError):
                if node.alive() and node.command("ROLE")[0] == role:
                    found.append(node)
        return found

    def master(self):
        return self.pick(self.nodes(b"master"))

    def replica(self):
        return self.pick(self.nodes(b"slave"))

    def shard(self):
        return self.pick(self.run.shards)

    def way(self):
        return self.random.choice(("both", "both", "there", "back"))

    @staticmethod
    def places(processes):
        return [process.place for process in processes]

    def clients(self):
        return [host for name, host in self.network.hosts.items() if name.startswith("clients-")]

    # -- partitions

    def cut(self, some, others, way="both"):
        with self.network.cut(some, others, way):
            yield f"no way between {some} and {others}" + ("" if way == "both" else f", {way}")

    def cut_alloyd_from_node(self):
        yield from self.cut([self.pick(self.run.alloyds).place], [self.master().place], self.way())

    def cut_alloyd_from_redis(self):
        yield from self.cut([self.pick(self.run.alloyds).place], self.places(self.run.redis.nodes), self.way())

    def cut_master_off(self):
        """From the other nodes, while all alloyd still reach it: it goes on as a master until it notices."""
        node = self.master()
        yield from self.cut([node.place], [place for place in self.places(self.run.redis.nodes) if place is not node.place])

    def cut_master_off_with_alloyd(self):
        """Both are on the minority's side."""
        node, alloyd = self.master(), self.pick(self.run.alloyds)
        yield from self.cut([node.place, alloyd.place],
                            [place for place in self.places(self.run.redis.nodes) if place is not node.place])

    def cut_redis_in_two(self):
        places = self.places(self.run.redis.nodes)
        half = self.random.sample(places, self.random.choice((2, 3)))
        yield from self.cut(half, [place for place in places if place not in half])

    def cut_replica_off(self):
        """WAIT is short until it is back."""
        node = self.replica()
        yield from self.cut([node.place], [place for place in self.places(self.run.redis.nodes) if place is not node.place])

    def cut_alloyd_from_shard(self):
        yield from self.cut([self.pick(self.run.alloyds).place], [self.shard().place], self.way())

    def cut_all_from_shard(self):
        yield from self.cut(self.places(self.run.alloyds), [self.shard().place], self.way())

    def cut_client_from_alloyd(self):
        yield from self.cut([self.pick(self.clients())], [self.pick(self.run.alloyds).place], self.way())

    def cut_client_from_balancer(self):
        yield from self.cut([self.pick(self.clients())], [self.run.balancer.place], self.way())

    def cut_balancer_from_alloyd(self):
        yield from self.cut([self.run.balancer.place], [self.pick(self.run.alloyds).place], self.way())

    # -- delay and loss

    def slow(self, some, others, slowest, worst):
        delay, loss = self.random.uniform(0, slowest), self.random.uniform(0, worst)
        with self.network.slow(some, others, round(delay, 3), round(loss, 3)):
            yield f"between {some} and {others} {delay * 1000:.0f} ms more, {loss * 100:.1f} % lost"

    def slow_redis(self):
        yield from self.slow([self.pick(self.run.alloyds).place], self.places(self.run.redis.nodes), 0.1, 0.05)

    def slow_replication(self):
        node = self.master()
        yield from self.slow([node.place], [place for place in self.places(self.run.redis.nodes) if place is not node.place], 0.2, 0.1)

    def slow_clickhouse(self):
        yield from self.slow(self.places(self.run.alloyds), [self.shard().place], 0.3, 0.1)

    def slow_clients(self):
        yield from self.slow([self.pick(self.clients())], [*self.places(self.run.alloyds), self.run.balancer.place], 0.2, 0.1)

    # -- processes

    def kill(self, process, what=""):
        process.signal(signal.SIGKILL)
        process.popen.wait()
        yield f"kill -9 of {process.name}{what}"
        self.start_again([process])

    def freeze(self, process, what=""):
        process.signal(signal.SIGSTOP)
        try:
            yield f"{process.name}{what} hangs"
        finally:
            if process.alive():
                process.signal(signal.SIGCONT)

    def kill_master(self):
        yield from self.kill(self.master(), ", a master")

    def kill_replica(self):
        yield from self.kill(self.replica(), ", a replica")

    def kill_alloyd(self):
        yield from self.kill(self.alloyd())

    def kill_shard(self):
        yield from self.kill(self.pick([shard for shard in self.run.shards if shard.alive()]))

    def kill_balancer(self):
        yield from self.kill(self.pick([self.run.balancer] * self.run.balancer.alive()))

    def freeze_master(self):
        yield from self.freeze(self.master(), ", a master,")

    def freeze_replica(self):
        yield from self.freeze(self.replica(), ", a replica,")

    def freeze_alloyd(self):
        yield from self.freeze(self.alloyd())

    def freeze_shard(self):
        yield from self.freeze(self.pick([shard for shard in self.run.shards if shard.alive()]))

    def restart_alloyd(self):
        alloyd = self.alloyd()
        alloyd.signal(signal.SIGTERM)
        yield f"{alloyd.name} is told to end"
        with contextlib.suppress(subprocess.TimeoutExpired):
            alloyd.wait(10)
        alloyd.kill()
        self.start_again([alloyd])

    def start_again(self, processes):
        for process in processes:
            if process.alive():
                continue
            if process in self.run.alloyds:
                process.start(ready=False)
            elif process is self.run.balancer:
                process.launch()
            else:
                process.start(*getattr(process, "options", ()))

    # -- Redis' own

    def failover(self):
        replica, how = self.replica(), self.random.choice(((), (), ("FORCE",), ("FORCE",), ("TAKEOVER",)))
        with contextlib.suppress(OSError):
            replica.command("CLUSTER", "FAILOVER", *how)
        yield f"failover to {replica.name} {' '.join(how)}"

    def reshard(self):
        masters = self.nodes(b"master")
        sizes = {}
        for node in masters:
            own = node.slots()
            sizes[node] = next((size for port, _, size in own.values() if port == node.port), 0)
        source = max(masters, key=sizes.get, default=None)
        target = self.pick([node for node in masters if node is not source and sizes[node]])
        count = self.random.randint(20, 60)
        try:
            self.run.redis.cli("--cluster", "reshard", self.run.redis.place(source), "--cluster-from",
                               source.command("CLUSTER", "MYID").decode(), "--cluster-to",
                               target.command("CLUSTER", "MYID").decode(), "--cluster-slots", count, "--cluster-yes")
            yield f"{count} slots of {source.name} moved to {target.name}"
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            yield f"{count} slots of {source.name} not all moved to {target.name}: {str(error).strip()[-80:]!r}"
            self.fix()

    def fix(self):
        """Ends what was begun with slots; what cannot be done yet is done at the end."""
        with contextlib.suppress(AssertionError, OSError, subprocess.TimeoutExpired, Nothing):
            self.run.redis.cli("--cluster", "fix", self.run.redis.place(self.master()))

    # -- machines

    def stay_away(self):
        """One that comes back when the tables have forgotten its tokens, slots and masters are elsewhere, and what
        clients sent to it has come through others."""
        alloyd = self.alloyd()
        alloyd.kill()
        self.away[alloyd] = len(self.done) + self.random.randint(5, 10)
        yield f"{alloyd.name} is gone for some time"

    def come_back(self):
        for alloyd, when in list(self.away.items()):
            if len(self.done) >= when:
                del self.away[alloyd]
                self.start_again([alloyd])
                self.say(f"{alloyd.name} is back")

    def lose_disk(self):
        alloyd = self.alloyd()
        alloyd.kill()
        gone = alloyd.lose_journal()
        events = subprocess.run([harness.BUILD / "alloyctl", "journal", "export", gone], capture_output=True, text=True, check=True)
        ids = {json.loads(line)["event_id"] for line in events.stdout.splitlines()}
        self.run.gone |= ids
        yield f"{alloyd.name} is lost with its disk and {len(ids)} pending events"
        self.start_again([alloyd])

    def adopt(self):
        """The machine is lost, its journal not: another one adopts it, and is killed meanwhile now and then."""
        alloyd = self.alloyd()
        other = self.pick([a for a in self.run.alloyds if a is not alloyd and a.alive()])
        alloyd.kill()
        adopter = self.run.adopt(alloyd.lose_journal(), other)
        yield f"{alloyd.name} is lost, and {other.name} adopts its journal"
        if self.random.random() < 0.3:
            adopter.kill()
        self.start_again([alloyd])

    # -- the order of things

    @contextlib.contextmanager
    def on(self, kind):
        fault = contextlib.contextmanager(getattr(self, kind))()
        with fault as text:
            record = [time.time(), None, text]
            self.done.append(record)
            self.kinds_done[kind] += 1
            self.say(text)
            yield
        record[1] = time.time()

    def one(self, kinds):
        """Faults that are on together, for as long as the last one's kind takes."""
        with contextlib.ExitStack() as stack, contextlib.suppress(Nothing):
            for kind in kinds:
                stack.enter_context(self.on(kind))
            self.run.pause(*KINDS[kinds[-1]][1:])

    def any(self):
        """A fault, by weight, and at times another one beside it: without an end."""
        kinds = self.run.kinds or list(KINDS)
        while True:
            beside = self.random.choice(BESIDE)
            both = self.random.random() < 0.4 and beside in kinds
            yield ([beside] if both else []) + self.random.choices(kinds, [KINDS[kind][0] for kind in kinds])

    def each(self):
        """Each fault once, alone."""
        kinds = self.run.kinds or list(KINDS)
        yield from ([kind] for kind in self.random.sample(kinds, len(kinds)))

    def schedule(self):
        run = self.run
        end = time.time() + (run.seconds or float("inf"))
        run.pause(1, 2)
        for kinds in self.each() if run.each else self.any():
            if time.time() > end or len(self.done) >= (run.count or float("inf")):
                break
            self.come_back()
            self.one(kinds)
            if self.random.random() < 0.5:
                self.wait_quiet(QUIET_S)
            else:
                run.pause(0, 1)
        self.away.clear()

    def whole(self):
        """All nodes are there and agree, and no slot is on its way."""
        try:
            redis = self.run.redis
            return redis.whole() and redis.agrees() and not any(b"[" in n.command("CLUSTER", "NODES") for n in redis.nodes)
        except OSError:
            return False

    def wait_quiet(self, seconds):
        end = time.monotonic() + seconds
        while not (whole := self.whole()) and time.monotonic() < end:
            time.sleep(0.1)
        return whole

    def mend(self):
        end = time.monotonic() + MEND_S
        while not self.wait_quiet(QUIET_S):
            assert time.monotonic() < end, [n.command("CLUSTER", "NODES").decode() for n in self.run.redis.nodes]
            self.fix()


# Each kind's weight, and how long it takes: seconds, from and to. Redis' nodes notice after 1.5 s.
KINDS = {
    "cut_alloyd_from_node": (3, 0.3, 3), "cut_alloyd_from_redis": (2, 0.3, 3), "cut_master_off": (3, 0.5, 5),
    "cut_master_off_with_alloyd": (3, 0.5, 5), "cut_redis_in_two": (2, 0.5, 5), "cut_replica_off": (2, 0.5, 3),
    "cut_alloyd_from_shard": (3, 0.3, 4), "cut_all_from_shard": (3, 0.3, 4), "cut_client_from_alloyd": (2, 0.3, 3),
    "cut_client_from_balancer": (2, 0.3, 3), "cut_balancer_from_alloyd": (2, 0.3, 4),
    "slow_redis": (2, 0.5, 3), "slow_replication": (2, 0.5, 3), "slow_clickhouse": (2, 0.5, 3), "slow_clients": (2, 0.5, 3),
    "kill_master": (5, 0, 5), "kill_replica": (2, 0, 2), "kill_alloyd": (5, 0, 2), "kill_shard": (4, 0, 2),
    "kill_balancer": (1, 0, 1), "freeze_master": (3, 0.2, 5), "freeze_replica": (2, 0.2, 2), "freeze_alloyd": (3, 0.2, 3),
    "freeze_shard": (2, 0.2, 4), "restart_alloyd": (2, 0, 1),
    "failover": (5, 0, 1), "reshard": (4, 0, 0), "stay_away": (2, 0, 0), "lose_disk": (2, 0, 1), "adopt": (3, 0, 2),
}
# Those that begin and end without an action of ours in between, and so may be on beside another.
BESIDE = [kind for kind in KINDS if kind.startswith(("cut_", "slow_", "freeze_"))]
