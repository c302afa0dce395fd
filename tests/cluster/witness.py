# SPDX-License-Identifier: Apache-2.0
"""Watches what each node of Redis does (MONITOR), and tells of an id that came twice what became of its claim."""

import re
import socket
import threading
import time

CLAIM = re.compile(rb'^\+?(\d+\.\d+) \[\d+ ([^\]]*)\] "([A-Za-z-]+)"(.*)$')


class Watch(threading.Thread):
    """A node's commands in a file, over all its lives."""

    def __init__(self, node, path):
        super().__init__(daemon=True)
        self.node, self.path, self.over = node, path, threading.Event()

    def run(self):
        with open(self.path, "ab", buffering=0) as file:
            while not self.over.is_set():
                try:
                    with socket.create_connection((self.node.host, self.node.port), timeout=1) as s:
                        s.sendall(b"MONITOR\r\n")
                        self.copy(s, file)
                except OSError:
                    time.sleep(0.02)

    def copy(self, s, file):
        while not self.over.is_set():
            try:
                data = s.recv(1 << 18)
            except TimeoutError:
                continue
            if not data:
                return
            file.write(data)


class Witness:
    def __init__(self, nodes, folder):
        self.watches = {name: Watch(node, folder / f"monitor-{name}") for name, node in nodes.items()}
        for watch in self.watches.values():
            watch.start()

    def end(self):
        for watch in self.watches.values():
            watch.over.set()
        for watch in self.watches.values():
            watch.join()

    def writes(self, ids):
        """{id: [(time, node, client, command, value)]} of what set, moved or deleted the claims of these ids."""
        found = {i: [] for i in ids}
        key = re.compile(rb'"[^" ]*\}(%s)"' % b"|".join(re.escape(i.encode()) for i in ids)) if ids else None
        for name, watch in self.watches.items():
            with open(watch.path, "rb") as file:
                for line in file if ids else ():
                    if b'"MGET"' in line or not (keys := key.findall(line)):
                        continue
                    if match := CLAIM.match(line.rstrip(b"\r\n")):
                        moment, client, command, rest = match.groups()
                        value = rest.split(b'" "')[1] if command == b"SET" else b""
                        for i in set(keys):
                            found[i.decode()].append((float(moment), name, client.decode(), command.decode(), value))
        return {i: sorted(writes) for i, writes in found.items()}


def forgotten(writes):
    """How many seconds after a claim somebody else set it at a node where it was missing: then Redis has forgotten it, in
    a failover or while its slot was moved. None where that did not happen: of two that are set at one node the second
    loses, unless the key was gone by then."""
    for at, (moment, node, _, command, value) in enumerate(writes):
        if command != "SET":
            continue
        before = writes[:at]
        others = [w for w in before if w[3] == "SET" and w[4] != value]
        if others and not any(w[1] == node and (w[3].startswith("RESTORE") or w in others) for w in before):
            return moment - others[-1][0]
    return None
