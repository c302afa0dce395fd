# SPDX-License-Identifier: Apache-2.0
"""Clients that see what a restart does to them."""

import http.client
import threading
import time

import harness

EVENTS = 5  # in a request


class Load:
    """Clients that send without a pause and take note of everything that should not be."""

    def __init__(self, alloyd, kept_alive=4, single=2, ack=1, prefix=""):
        self.alloyd, self.prefix = alloyd, prefix
        self.lock = threading.Lock()
        self.answered, self.troubles, self.full, self.requests, self.slowest = set(), [], 0, 0, 0.0
        self.over = threading.Event()
        kinds = ["kept"] * kept_alive + ["single"] * single + ["ack"] * ack
        self.threads = [threading.Thread(target=self.run, args=(kind, n)) for n, kind in enumerate(kinds)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        harness.wait_until(lambda: self.requests > 50 or self.troubles, "load")
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, kind, number):
        client, sent = self.alloyd.client(), 0
        while not self.over.is_set():
            ids = [f"{self.prefix}{kind}-{number}-{sent}-{i}" for i in range(EVENTS)]
            sent += 1
            begun = time.monotonic()
            try:
                answer = harness.request(client, "\n".join(map(harness.event, ids)),
                                         "/v1/events?ack=clickhouse" if kind == "ack" else "/v1/events",
                                         {"Connection": "close"} if kind == "single" else {})
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.troubles.append(f"{kind} client, request {sent}: {error!r}")
                client.close()
                continue
            if kind == "single" or answer.headers.get("Connection") == "close":
                client.close()
            self.note(kind, ids, answer, time.monotonic() - begun)

    def note(self, kind, ids, answer, took):
        with self.lock:
            self.requests += 1
            self.slowest = max(self.slowest, took)
            if answer.status in (200, 202):
                self.answered.update(ids)
            elif answer.status == 503 and answer.json["error"] == "overloaded":
                self.full += 1
            else:
                self.troubles.append(f"{kind} client: {answer!r}")

    def check(self, clickhouse, table):
        """After the last life: every answered event is there, once, and nothing else."""
        assert self.troubles == [], f"{len(self.troubles)} of {self.requests}: {self.troubles[:5]}"
        rows = [row[0] for row in clickhouse.rows(f"SELECT event_id FROM {table}")]
        assert len(rows) == len(set(rows)), "doubled"
        assert self.answered - set(rows) == set(), "lost"
        assert len(set(rows) - self.answered) == 0, "rows that no answer told of"

    def tell(self, restarts, what):
        print(f"\n{what}: restarts={restarts} requests={self.requests} events={len(self.answered)} full={self.full} "
              f"slowest_ms={self.slowest * 1000:.0f} troubles={len(self.troubles)}")
