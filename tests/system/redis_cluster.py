# SPDX-License-Identifier: Apache-2.0
"""A Redis Cluster of three masters, with a replica each or none."""

import contextlib
import re
import signal
import subprocess

import harness

NODE_TIMEOUT_MS = 1500


class Node(harness.Redis):
    def slots(self):
        """Its own id, and what it thinks of all nodes: id -> (port, flags, number of slots)."""
        nodes = {}
        for line in self.command("CLUSTER", "NODES").decode().splitlines():
            words = line.split()
            ranges = [r.split("-") for r in words[8:] if not r.startswith("[")]
            nodes[words[0]] = (int(words[1].split("@")[0].split(":")[-1]), words[2],
                               sum(int(r[-1]) - int(r[0]) + 1 for r in ranges))
        return nodes


class Cluster:
    """Three masters and, of six places, three replicas: on the loopback, or each at a host with its own way to start there."""

    def __init__(self, folder, *options, tls=None, places=(("127.0.0.1", ()),) * 6):
        self.nodes, self.tls = [], tls
        replicas = len(places) // 3 - 1
        for host, inside in places:
            # The bus takes the port plus 10,000 by itself, which can be too high or taken.
            port, bus = harness.free_port(), harness.free_port()
            sub = folder / f"node-{port}"
            sub.mkdir()
            node = Node(sub, port, host)
            node.inside = inside
            node.tls_port = harness.free_port()
            self.nodes.append(node)
            node.options = ("--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", NODE_TIMEOUT_MS,
                            "--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", 0,
                            "--repl-ping-replica-period", 1, *(self.tls_options(node) if tls else ()), *options)
            node.start(*node.options)
        self.cli("--cluster", "create", *map(self.place, self.nodes), "--cluster-replicas", replicas, "--cluster-yes")
        harness.wait_until(lambda: self.whole(replicas), lambda: self.nodes[0].command("CLUSTER", "INFO"), 60)

    def tls_options(self, node):
        """Redis 7.0 tells the ports of TLS only where the nodes speak it to each other, too."""
        return ("--tls-port", node.tls_port, "--tls-cluster", "yes", "--tls-replication", "yes", "--tls-cert-file",
                self.tls / "localhost.pem", "--tls-key-file", self.tls / "localhost.key", "--tls-ca-cert-file",
                self.tls / "ca.pem", "--tls-auth-clients", "no")

    def place(self, node):
        return f"{node.host}:{node.tls_port if self.tls else node.port}"

    def cli(self, *words):
        tls = ["--tls", "--cacert", self.tls / "ca.pem"] if self.tls else []
        done = subprocess.run(["redis-cli", *map(str, tls), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def whole(self, replicas=1):
        """Every node knows three masters with all slots, and every replica follows."""
        for node in self.nodes:
            if b"cluster_state:ok" not in node.command("CLUSTER", "INFO"):
                return False
            masters = [n for n in node.slots().values() if "master" in n[1] and n[2] > 0]
            if len(masters) != 3 or sum(n[2] for n in masters) != 16384:
                return False
        return replicas == 0 or all(b"state=online" in m.command("INFO", "replication") for m in self.masters())

    def agrees(self):
        """All nodes tell the same of all slots, which redis-cli asks for before it moves some."""
        return len({tuple(sorted((r[0], r[1], r[2][1]) for r in node.command("CLUSTER", "SLOTS"))) for node in self.nodes}) == 1

    def masters(self):
        return [n for n in self.nodes if n.alive() and b"role:master" in n.command("INFO", "replication")]

    def replica_of(self, master):
        port = re.search(rb"slave0:ip=[^,]*,port=(\d+)", master.command("INFO", "replication")).group(1)
        return next(n for n in self.nodes if n.port == int(port))

    def url(self, login="", count=2, scheme="redis-cluster"):
        return f"{scheme}://{login}" + ",".join(f"{n.host}:{n.port}" for n in self.nodes[:count])

    def keys(self, pattern):
        return [key for master in self.masters() for key in master.command("KEYS", pattern)]

    def end(self):
        for node in self.nodes:
            with contextlib.suppress(ProcessLookupError):
                node.signal(signal.SIGCONT)
            node.kill()
