# SPDX-License-Identifier: Apache-2.0
"""What all random runs share: clients that retry as docs/CLIENTS.md says and remember what they were told, how a run
settles, and what must then be in ClickHouse."""

import collections
import http.client
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import harness  # noqa: E402

STANDS_STILL = 90  # seconds without progress at the end of a run that are too many


class Client(threading.Thread):
    """Sends events of its own, sends some of them again, and retries until answered, as real clients do. What
    fails is tried again on whichever alloyd the next connection comes to."""

    path = "/v1/events"
    sizes = (1, 1, 5, 50)  # events in a request
    rest = 0.002  # seconds between two requests

    def __init__(self, run, number):
        super().__init__(daemon=True)
        self.run_ = run
        self.number = number
        self.random = random.Random(run.seed * 1000 + number)
        self.sent = 0
        self.answered = []
        self.statuses = collections.Counter()
        self.connection = None

    def new_id(self):
        self.sent += 1
        return f"id-{self.number}-{self.sent}"

    def again(self):
        """Events that are known."""
        return self.random.sample(self.answered, min(len(self.answered), 5))

    def body(self, ids):
        return "\n".join(map(harness.event, ids))

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.random.choice(self.run_.alloyds).port, timeout=5)

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def post(self, body):
        """The answer, or None where there is none."""
        try:
            if self.connection is None:
                self.connection = self.connect()
            return harness.request(self.connection, body, self.path)
        except (OSError, http.client.HTTPException):
            self.disconnect()
            return None

    def told(self, ids, answer):
        """Takes note of an answer."""
        status = answer.status if answer else 0
        self.statuses[status] += 1
        if status == 202:
            self.answered.extend(ids)

    def wait(self, answer):
        """Before the next try; answer is what the last one had."""
        del answer
        time.sleep(0.02 + self.random.random() * 0.1)

    def send(self, ids):
        """Never gives up: what was sent once may be half way, and only a 202 settles it."""
        body = self.body(ids)
        while not self.run_.give_up.is_set():
            answer = self.post(body)
            self.told(ids, answer)
            if answer and answer.status == 202:
                return
            self.wait(answer)

    def run(self):
        while not self.run_.stop.is_set():
            ids = [self.new_id() for _ in range(self.random.choice(self.sizes))]
            if self.answered and self.random.random() < 0.3:
                ids += self.again()
            self.send(ids)
            time.sleep(self.rest)
            if self.random.random() < 0.05:
                self.disconnect()


class Run:
    """One run: start() what there is, break it until schedule() is over, then heal, settle and check."""

    def __init__(self, seed, folder):
        self.seed, self.folder = seed, pathlib.Path(folder)
        self.random = random.Random(seed)
        self.stop, self.give_up = threading.Event(), threading.Event()
        self.alloyds, self.clients, self.neighbors = [], [], set()

    def pause(self, low, high):
        time.sleep(low + self.random.random() * (high - low))

    def start_clients(self, clients):
        self.clients = clients
        for client in clients:
            client.start()

    def stop_clients(self):
        """Problems, if any."""
        self.stop.set()
        for client in self.clients:
            client.join(60)
        self.give_up.set()
        stuck = [c.number for c in self.clients if c.is_alive()]
        return [f"clients never answered: {stuck}"] if stuck else []

    def statuses(self):
        return dict(sum((client.statuses for client in self.clients), collections.Counter()))

    def settle(self, alloyd, stream="events"):
        """The books when nothing is pending. A row whose refusal may be the table's waits until another row goes in,
        and a kill can leave it alone: so the stream goes on meanwhile, slowly. How long that takes depends on the
        backlog; what may not be is that it stands still."""
        least, stands_since = float("inf"), time.monotonic()
        while pending := alloyd.books(stream)["pending"]:
            if pending < least:
                least, stands_since = pending, time.monotonic()
            assert time.monotonic() < stands_since + STANDS_STILL, \
                f"{alloyd.name}, {stream}: {pending} pending for {STANDS_STILL} s, {alloyd.admin('/readyz').body.decode()}"
            event_id = f"id-neighbor-{len(self.neighbors)}"
            if alloyd.post(harness.event(event_id), f"/v1/{stream}").status == 202:
                self.neighbors.add(event_id)
            time.sleep(1)
        return alloyd.settled(stream, deadline=90)


def doubled(ids):
    return {i for i, n in collections.Counter(ids).items() if n > 1}


def problem(what, ids):
    """A list of one problem, or of none."""
    return [f"{what}: {len(ids)}, such as {sorted(ids)[:5]}"] if ids else []


def attempt(make, name, keep=False):
    """Makes a run in a folder of its own and executes it; returns it, and whether all held. The folder stays where not."""
    folder = tempfile.mkdtemp(prefix=f"alloy-{name}-")
    run = make(folder)
    try:
        problems = run.execute()
    except Exception as error:  # a run that cannot finish is a failure too, and others go on
        problems = [f"{type(error).__name__}: {error}"]
    if problems:
        print(f"seed {run.seed} FAILED: " + "; ".join(problems) + f"\nlogs: {folder}", flush=True)
    elif keep:
        print(f"logs: {folder}", flush=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return run, not problems
