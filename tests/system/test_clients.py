# SPDX-License-Identifier: Apache-2.0
"""Clients that teams already run, as they come from npm, against a stream with one line: preset = NAME.

Each client sends half of its events. From then on it talks to alloyd over a wire that holds back the first answer to a
POST; when the answers of all clients are held, alloyd is killed, so that each client has events that are accepted and
does not know it. Then alloyd starts again, the clients try again, and each event is in ClickHouse once.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import threading

import pytest

import harness
from conftest import sections_for

CLIENTS = harness.ROOT / "tests" / "clients"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "alloy"
LOCK = hashlib.sha256((CLIENTS / "package-lock.json").read_bytes()).hexdigest()[:12]
COUNT = 12

# The keys as the SDKs have them: each sends its own in its own way.
KEYS = ["key", "phc_key", "token", "id:secret"]

# client: (preset, the column with the name of the event, or what has it, and further columns)
SDKS = {
    "segment": ("segment", "event", "messageId String, userId String"),
    "rudderstack": ("rudderstack", "event", "messageId String, userId String"),
    "posthog": ("posthog", "event", "uuid UUID, distinct_id String, properties String"),
    "snowplow": ("snowplow", "se_ac", "eid UUID, e String"),
    "amplitude": ("amplitude", "event_type", "insert_id UUID, user_id String"),
    "mixpanel": ("mixpanel", "event", "properties String"),
    "jitsu": ("jitsu", "event", "messageId String"),
    "cloudevents": ("cloudevents", "subject", "id String, name String, source String, time String"),
    "stripe": ("stripe", "type", "id String, data String"),
    "github": ("github", "github_delivery", "github_event String, action String, repository String"),
    "shopify": ("shopify", "note", "shopify_webhook_id String, shopify_topic String, id String"),
    "svix": ("svix", "JSONExtractString(data, 'name')", "svix_id String, type String, data String"),
    "segment_browser": ("segment", "event", "messageId String, anonymousId UUID"),
    "posthog_browser": ("posthog", "event", "uuid UUID, properties String"),
    "snowplow_browser": ("snowplow", "se_ac", "eid UUID, e String"),
}
# Clients whose presets take different paths share an alloyd.
GROUPS = [["segment", "posthog", "snowplow", "jitsu", "github", "shopify"], ["rudderstack", "amplitude", "mixpanel", "cloudevents", "stripe", "svix"],
          ["segment_browser", "posthog_browser", "snowplow_browser"]]


class Wire:
    """Between one client and alloyd; can hold back the answers to POST, and cut all connections."""

    def __init__(self, port):
        self.port_behind = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.hold = False
        self.held = threading.Event()
        self.released = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client):
        method = b""
        with client:
            try:
                behind = socket.create_connection(("127.0.0.1", self.port_behind))
            except OSError:
                return  # alloyd is away
            with behind:
                while True:
                    for s in select.select([client, behind], [], [])[0]:
                        try:
                            data = s.recv(65536)
                            if not data:
                                return
                            if s is client:
                                if data.startswith((b"POST ", b"GET ", b"OPTIONS ")):
                                    method = data.split(b" ", 1)[0]
                                behind.sendall(data)
                            elif self.hold and method == b"POST":
                                self.held.set()
                                self.released.wait()
                                return
                            else:
                                client.sendall(data)
                        except OSError:
                            return

    def close(self):
        self.hold = False
        self.released.set()
        self.listener.close()


class Client:
    """A client of tests/clients that runs; see tests/clients/lib.mjs. Or another command."""

    def __init__(self, folder, name, wire, argv=None):
        self.name = name
        self.wire = wire
        self.delivered = []
        self.half = threading.Event()
        self.errors = []
        self.process = subprocess.Popen(
            argv or ["node", folder / f"{name}.mjs", wire.url, str(COUNT), name], cwd=folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env=dict(os.environ, WEBHOOKS_EXAMPLES=str(CACHE / "webhooks-examples")))
        self.threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self.threads:
            thread.start()

    def _read(self):
        for line in self.process.stdout:
            said = json.loads(line) if line.startswith('{"') else {}
            if "delivered" in said:
                self.delivered.append(said["delivered"])
            elif "half" in said:
                self.half.set()

    def _read_errors(self):
        self.errors.extend(self.process.stderr)

    def is_running(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}: {self.errors}"
        return True

    def is_half_way(self):
        return self.is_running() and self.half.is_set()

    def go_on(self):
        self.wire.hold = True
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait(self):
        code = self.process.wait(harness.DEADLINE)
        for thread in self.threads:
            thread.join()
        assert code == 0, f"{self.name} ended with {code}: {self.errors}"

    def close(self):
        # The whole group: go run starts what it has built as a process of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.wire.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The clients beside the SDKs that scripts/install --test has fetched."""
    sdks = CACHE / f"clients-{LOCK}" / "node_modules"
    assert sdks.is_dir(), "scripts/install --test fetches the SDKs"
    folder = tmp_path_factory.mktemp("clients")
    for client in CLIENTS.glob("*.mjs"):
        shutil.copy(client, folder)
    (folder / "node_modules").symlink_to(sdks)
    return folder


@pytest.fixture
def door(make_alloyd, redis, clickhouse, table, tmp_path):
    """Starts alloyd with a stream for each client, which is its preset and a table and no more."""
    def start(names, keys=(), **server):
        tables = {}
        sections = sections_for(redis, clickhouse, table, server=server)
        if keys:
            hashes = [hashlib.blake2b(key.encode(), digest_size=32).hexdigest() for key in keys]
            (tmp_path / "keys").write_text("".join(f"k{i} b2:{hash} *\n" for i, hash in enumerate(hashes)))
            sections["auth"] = {"keys_file": tmp_path / "keys"}
        for name in names:
            preset, column, more = SDKS[name]
            tables[name] = f"{table}_{name}"
            own = "" if "(" in column else f"{column} String, "
            clickhouse.query(f"CREATE TABLE {tables[name]} ({own}{more}) ENGINE = MergeTree ORDER BY tuple() "
                             "SETTINGS non_replicated_deduplication_window = 10000")
            sections[f"stream.{name}"] = {"preset": preset, "table": tables[name]}
        return make_alloyd(sections).start(), tables
    return start


def cut(alloyd, clients):
    """Kills alloyd when it has accepted events of each client whose answer has not arrived; starts it again."""
    harness.wait_until(lambda: all([client.wire.held.is_set() or not client.is_running() for client in clients]),
                       lambda: f"an answer to each client: {[c.name for c in clients if not c.wire.held.is_set()]}")
    alloyd.kill()
    for client in clients:
        client.wire.hold = False
        client.wire.released.set()
    alloyd.start()
    for client in clients:
        client.wait()


@pytest.mark.parametrize("names", GROUPS, ids=" ".join)
def test_each_event_is_there_once(door, folder, clickhouse, names):
    alloyd, tables = door(names, KEYS, cors_origins="*")
    clients = []
    try:
        for name in names:
            clients.append(Client(folder, name, Wire(alloyd.port)))
        harness.wait_until(lambda: all([client.is_half_way() for client in clients]), "all clients half way")
        for client in clients:
            client.go_on()
        cut(alloyd, clients)
    finally:
        for client in clients:
            client.close()
    for client in clients:
        books = alloyd.settled(client.name)
        assert books["duplicate_l1"] + books["duplicate_l2"] > 0, f"{client.name} has sent nothing again"
        sent = [f"{client.name}-{i}" for i in range(COUNT)]
        assert client.delivered == sent
        rows = clickhouse.rows(f"SELECT {SDKS[client.name][1]} AS e FROM {tables[client.name]} WHERE e NOT LIKE '$%'")
        assert sorted(row[0] for row in rows) == sorted(sent)


# Examples of docs/CLIENTS.md: the file they go into, what stands around them, and the command.
EXAMPLES = {
    "curl": ("example.sh", "printf '%s' '{{\"event_id\":\"curl\"}}' >events.ndjson\n{}", ["sh"]),
    "Browser": ("example.js", "let unsent = []\n{}", ["node", "page.mjs"]),
    "Node": ("example.mjs", "{}", ["node"]),
    "Python": ("example.py", "{}", ["python3"]),
    "Go": ("example.go", """package main
import ("bytes"; "errors"; "io"; "math"; "math/rand"; "net/http"; "strconv"; "time")
{}
func main() {{ if err := send("http://127.0.0.1:8080/v1/events", []byte(`{{"event_id":"go"}}`)); err != nil {{ panic(err) }} }}
""", ["go", "run"]),
    "PHP": ("example.php", "<?php\n{}\nsend('{{\"event_id\":\"php\"}}');\n", ["php"]),
    "Java": ("Example.java", """import java.io.IOException; import java.net.URI; import java.net.http.*; import java.time.Duration;
import java.net.http.HttpRequest.BodyPublishers; import java.net.http.HttpResponse.BodyHandlers;
class Example {{
    {}
    public static void main(String[] a) throws Exception {{
        send(HttpClient.newHttpClient(), URI.create("http://127.0.0.1:8080/v1/events"), "{{\\"event_id\\":\\"java\\"}}");
    }}
}}
""", ["java"]),
}


def example(name):
    """The code below a heading of docs/CLIENTS.md."""
    text = (harness.ROOT / "docs" / "CLIENTS.md").read_text().split(f"\n### {name}\n", 1)[1].split("\n### ", 1)[0]
    return "\n".join(line[4:] for line in text.splitlines() if line.startswith("    ") or not line)


def test_the_examples_send_until_they_have_an_answer(door, folder, clickhouse, table):
    alloyd, _ = door([], cors_origins="*")
    clients = []
    try:
        for name, (file, around, argv) in EXAMPLES.items():
            wire = Wire(alloyd.port)
            wire.hold = True
            code = around.format(example(name)).replace("http://127.0.0.1:8080", wire.url)
            (folder / file).write_text(code)
            clients.append(Client(folder, name, wire, [*argv, file]))
        cut(alloyd, clients)
    finally:
        for client in clients:
            client.close()
    alloyd.settled()
    assert clickhouse.count(table) == len(clients)
    assert alloyd.books()["duplicate_l1"] >= len(clients)
