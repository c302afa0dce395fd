# SPDX-License-Identifier: Apache-2.0
"""Hosts that are network namespaces on one bridge, and what can be wrong between two of them.

Each host has an address and no other way to the others. A host that shall not reach another gets a wrong hardware
address for it: its frames go where nobody takes them, as with a pulled cable, and nobody is told. Delay and loss are
made the same way: the frames go to a relay (relay.py), which passes them on late, or not. Both work one way or
both ways, need nothing but namespaces and a bridge, and touch no other pair. (netem and nft are not in every kernel.)

The process that makes a Network has to be alone in its network and mount namespace (alone()); it sits on the bridge
itself and is never cut off.
"""

import contextlib
import ctypes
import os
import pathlib
import socket
import struct
import subprocess
import sys

NET = "10.77.0."
HERE, NOBODY, RELAY = 1, 250, 251
CLONE_NEWNET = 0x40000000
# Netlink: replace a neighbor's entry, and say whether that worked.
NEWNEIGH, FLAGS, PERMANENT, DST, LLADDR, ERROR = 28, 0x1 | 0x4 | 0x100 | 0x400, 0x80, 1, 2, 2


def alone():
    """Starts the program again in namespaces of its own, which end with it and all that it has started. Whoever is
    not root becomes it inside a user namespace."""
    if os.environ.get("ALLOY_CLUSTER_ALONE"):
        return
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        words[1:1] = ["--user", "--map-root-user"]
    tried = subprocess.run([*words, "ip", "link", "add", "bridge", "type", "bridge"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        sys.exit(f"This needs network namespaces and bridges, and the system refuses them ({tried.stderr.strip()}). "
                 "Run it as root, in a container with --privileged, or where user namespaces are allowed.")
    os.execvpe("unshare", [*words, sys.executable, *sys.argv], dict(os.environ, ALLOY_CLUSTER_ALONE="1"))


def hardware(number):
    return f"02:00:00:00:00:{number:02x}"


def neighbor(interface, address, number):
    """The message that says what hardware address an address has."""
    body = struct.pack("=BxxxiHBB", socket.AF_INET, interface, PERMANENT, 0, 0)
    body += struct.pack("=HH4s", 8, DST, socket.inet_aton(address))
    body += struct.pack("=HH6sxx", 10, LLADDR, bytes.fromhex(hardware(number).replace(":", "")))
    return struct.pack("=IHHII", 16 + len(body), NEWNEIGH, FLAGS, 0, 0) + body


def ip(*words, given=None):
    subprocess.run(["ip", *map(str, words)], check=True, input=given, text=True)


def setns(file):
    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Host:
    def __init__(self, name, number):
        self.name, self.number, self.address = name, number, f"{NET}{number}"
        self.inside = ("nsenter", f"--net=/run/netns/{name}")
        ip("netns", "add", name)
        ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"v{number}", "master", "bridge", "up")
        ip("-n", name, "-batch", "-", given=f"link set eth0 address {hardware(number)}\naddr add {self.address}/24 dev eth0\n"
           "link set eth0 up\nlink set lo up\n")
        with self.visit():
            self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self.interface = socket.if_nametoindex("eth0")

    def enter(self):
        """The calling thread is on this host from now on, for the sockets that it opens."""
        with open(f"/run/netns/{self.name}", "rb") as file:
            setns(file)

    @contextlib.contextmanager
    def visit(self):
        """The calling thread is on this host meanwhile."""
        with open("/proc/thread-self/ns/net", "rb") as back:
            self.enter()
            try:
                yield
            finally:
                setns(back)

    def point(self, others, number=None):
        """Where its frames for these hosts go: to them, or to somebody else."""
        for other in others:
            self.netlink.send(neighbor(self.interface, other.address, number or other.number))
            _, kind, _, _, _, error = struct.unpack_from("=IHHIIi", self.netlink.recv(4096))
            if kind != ERROR or error != 0:
                raise OSError(-error, f"no neighbor {other} for {self}")

    def __repr__(self):
        return self.name


class Network:
    def __init__(self, names):
        # /run of everybody else is not ours; this one is gone with the namespace.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        pathlib.Path("/run/netns").mkdir()
        ip("-batch", "-", given=f"link set lo up\nlink add bridge type bridge\nlink set bridge address {hardware(HERE)}\n"
           f"addr add {NET}{HERE}/24 dev bridge\nlink set bridge up\nlink add v{RELAY} type veth peer name relay\n"
           f"link set relay address {hardware(RELAY)} up\nlink set v{RELAY} master bridge up\n")
        self.hosts = {name: Host(name, number) for number, name in enumerate(names, HERE + 1)}
        for host in self.hosts.values():
            host.point(self.others(host))
        self.relay = subprocess.Popen([sys.executable, pathlib.Path(__file__).with_name("relay.py"), "relay"],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __getitem__(self, name):
        return self.hosts[name]

    def others(self, host):
        return [other for other in self.hosts.values() if other is not host]

    @staticmethod
    def ways(some, others, way):
        """Who no longer reaches whom: both, there, or back."""
        return [(a, [b for b in to if b is not a]) for side, to, name in ((some, others, "there"), (others, some, "back"))
                if way in ("both", name) for a in side]

    @contextlib.contextmanager
    def cut(self, some, others, way="both"):
        """These hosts do not reach those others, nor they these."""
        yield from self.apart(some, others, way, NOBODY)

    @contextlib.contextmanager
    def slow(self, some, others, delay, loss, way="both"):
        """What is sent between them comes so many seconds late, more or less, and a part of it never."""
        self.tell(f"{delay} {loss}")
        yield from self.apart(some, others, way, RELAY)

    def apart(self, some, others, way, where):
        ways = self.ways(some, others, way)
        try:
            for host, to in ways:
                host.point(to, where)
            yield
        finally:
            for host, to in ways:
                host.point(to)

    def tell(self, line):
        """Returns once the relay does so."""
        self.relay.stdin.write(line + "\n")
        self.relay.stdin.flush()
        self.relay.stdout.readline()

    def heal(self):
        for host in self.hosts.values():
            host.point(self.others(host))

    def end(self):
        self.relay.kill()
        self.relay.wait()
