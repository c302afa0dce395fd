# SPDX-License-Identifier: Apache-2.0
"""What `bench/run all` measures: each bench is a generator that yields the figures of one round after another.

In a round a bench and its rivals take turns, so that all see the same moods of the machine, and ratios are taken
within it. A round whose books do not balance ends the bench: it has measured nothing.

Runs on: Python 3 alone.
"""

import contextlib
import functools
import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import harness
import measure
import redis_cluster
from stage import BENCH, ROOT, compiled, new_run, settled_memory, table_rows

LARGE_BODY_EVENTS = 8 * 2**20 // (measure.EVENT_BYTES + 1)
NDJSON_RATE = 90_000
PACKED = ", redis.layout = packed"
OVERLOAD = 3
CLAIMS = 400_000  # of each claimer, in a round


def post(stage, process, *arguments, seconds=None, connections=64, path="/v1/events", connected=None):
    """Loads a server with new events; returns what bench/load says. connected: called once all connections are there."""
    options = stage.load_options(seconds=seconds, connections=connections)
    return measure.run_load(stage.load_program, f"http://127.0.0.1:{process.port}{path}", options, "--run", new_run(), *arguments,
                            connected=connected)


def finish(alloyd, clickhouse=None, unique=True):
    """Ends it once nothing is pending; its books must be right, and the table with them."""
    books = alloyd.settled()
    wrong = measure.judge(books, unique, table_rows(clickhouse) if clickhouse else None)
    if wrong:
        raise measure.Failure("; ".join(wrong))
    alloyd.finish()


def rate_of(load, events=1):
    """Events a second that were answered 202."""
    return load["codes"].get("202", 0) * events / load["duration_us"] * 1e6


def used_cpu(stage, processes, *arguments, events=1, **more):
    """Loads the first of the processes; CPU of each in us an event answered 202, and what the load says.

    An alloyd's ends when nothing is pending, another's when it no longer works."""
    before = []
    load = post(stage, processes[0], *arguments, **more,
                connected=lambda: before.extend(measure.cpu_of(p.pid).total for p in processes))
    if isinstance(processes[0], harness.Alloyd):
        processes[0].settled()
    else:
        at_rest(processes)
    taken = load["codes"].get("202", 0) * events
    if taken == 0:
        raise measure.Failure(f"{processes[0].name} answered {load['codes']}")
    return [(measure.cpu_of(p.pid).total - b) / taken * 1e6 for p, b in zip(processes, before)], load


def at_rest(processes):
    """Waits until nobody works any more: less than two ticks in 0.3 s."""
    def quiet():
        before = sum(measure.cpu_of(p.pid).total for p in processes)
        time.sleep(0.3)
        return sum(measure.cpu_of(p.pid).total for p in processes) - before < 2.5 / measure.TICKS

    with contextlib.suppress(AssertionError):
        harness.wait_until(quiet, "rest", 20, interval=0)


def front_alone(stage, mode="file", **more):
    alloyd = stage.start_alloyd("", "discard:", server={"threads": 1}, journal={"mode": mode}, **more)
    settled_memory(alloyd)
    return alloyd


def whole(stage, redis, clickhouse, /, **more):
    alloyd = stage.start_alloyd(redis.url, clickhouse.url, **more)
    settled_memory(alloyd)
    return alloyd


def empty(redis, clickhouse, *tables):
    redis.command("FLUSHALL")
    for table in tables or ("default.events",):
        clickhouse.query(f"TRUNCATE TABLE {table}")


# ---- the front


def front(stage):
    """Single events. All threads count: alloyd's worker too."""
    rivals = {"epoll loop": stage.start_floor, "evhttp": functools.partial(stage.start_rival, "evhttp", "-levent"),
              "nginx return 202": stage.start_nginx}
    while True:
        found = {}
        for mode in "memory", "file":
            alloyd = front_alone(stage, mode)
            (found[f"alloyd, {mode} us"],), load = used_cpu(stage, [alloyd])
            found[f"alloyd, {mode} events/s"] = rate_of(load)
            finish(alloyd)
        for name, start in rivals.items():
            server = start()
            (found[f"{name} us"],), load = used_cpu(stage, [server])
            found[f"{name} requests/s"] = rate_of(load)
            server.kill()
        for rival in rivals:
            found[f"memory / {rival}"] = found["alloyd, memory us"] / found[f"{rival} us"]
        found["file / memory"] = found["alloyd, file us"] / found["alloyd, memory us"]
        yield found


def ndjson_front(stage):
    """100 events a request, beside one request of the epoll loop."""
    while True:
        found = {}
        for mode in "memory", "file":
            alloyd = front_alone(stage, mode)
            (found[f"alloyd, {mode} us an event"],), load = used_cpu(stage, [alloyd], "--events", 100, events=100, connections=16)
            found[f"alloyd, {mode} events/s"] = rate_of(load, 100)
            finish(alloyd)
        floor = stage.start_floor()
        (found["epoll loop us a request"],), _ = used_cpu(stage, [floor])
        floor.kill()
        for mode in "memory", "file":
            found[f"{mode} event / epoll request"] = found[f"alloyd, {mode} us an event"] / found["epoll loop us a request"]
        yield found


def calls(stage):
    """One front-end thread; its system calls by perf, the whole process' allocations by a library before libc."""
    library = compiled(pathlib.Path(stage.folder) / "count_malloc.so", BENCH / "count_malloc.c", "-shared", "-fPIC")
    counter = pathlib.Path(stage.folder) / "count"
    while True:
        found = {}
        for depth, name in (1, "a request"), (16, "a request, 16 deep"):
            counter.write_bytes(bytes(8))
            alloyd = stage.start_alloyd("", "discard:", server={"threads": 1},
                                        env={"LD_PRELOAD": str(library), "ALLOY_COUNT_FILE": str(counter)})
            settled_memory(alloyd)
            post(stage, alloyd, "--pipeline", depth, seconds=1)
            load, made, allocations = counted(stage, alloyd, counter, "--pipeline", depth)
            found[f"system calls {name}"] = made / load["requests"]
            found[f"allocations {name}"] = allocations / load["requests"]
            finish(alloyd)
        yield found


def counted(stage, alloyd, counter, *arguments):
    """Loads it; the load, the system calls of the front-end thread, the allocations of all."""
    threads = [t.name for t in pathlib.Path(f"/proc/{alloyd.pid}/task").iterdir() if "front" in (t / "comm").read_text()]
    begun = {}

    def begin():
        begun["allocations"] = int.from_bytes(counter.read_bytes(), sys.byteorder)
        begun["perf"] = subprocess.Popen(["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-t", ",".join(threads)],
                                         stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)  # perf says nothing when it has begun

    load = post(stage, alloyd, *arguments, connected=begin)
    allocations = int.from_bytes(counter.read_bytes(), sys.byteorder) - begun["allocations"]
    begun["perf"].send_signal(signal.SIGINT)
    told = begun["perf"].communicate()[1]
    found = re.search(r"^(\d+),.*sys_enter", told, re.M)
    if not found:
        raise measure.Failure(f"perf counts no system calls here: {told.strip()[-200:]}")
    return load, int(found[1]), allocations


# ---- end to end


def end_to_end(stage):
    """Single events, Redis and ClickHouse, closed loop; the seed's stack with --seed-stack."""
    redis, clickhouse = stage.start_redis(), stage.start_clickhouse()
    clickhouse.query("CREATE DATABASE IF NOT EXISTS alloy")
    clickhouse.create_events("alloy.events")
    while True:
        found = {}
        alloyd = whole(stage, redis, clickhouse)
        (found["alloyd us"], found["Redis us"], found["ClickHouse us"]), load = used_cpu(stage, [alloyd, redis, clickhouse])
        found["alloyd events/s"] = rate_of(load)
        found["alloyd p99 ms"] = load["latency_us"]["p99"] / 1000
        finish(alloyd, clickhouse)
        empty(redis, clickhouse)
        if stage.options.seed_stack:
            program = pathlib.Path(stage.options.seed_stack).resolve()
            seed = stage.start_server("seed", lambda port: [program, port, redis.port, clickhouse.port])
            (found["seed's stack us"], *_), load = used_cpu(stage, [seed, redis, clickhouse])
            found["seed's stack events/s"] = rate_of(load)
            found["seed's stack loses, share"] = 1 - clickhouse.count("alloy.events") / load["codes"]["202"]
            found["alloyd / seed's stack"] = found["alloyd us"] / found["seed's stack us"]
            seed.kill()
            empty(redis, clickhouse, "alloy.events")
        yield found


def before(stage):
    """Single events, Redis and ClickHouse, closed loop: this build and an older one (--before)."""
    if not stage.options.before:
        raise measure.Failure("it needs --before BUILD_DIR")
    redis, clickhouse = stage.start_redis(), stage.start_clickhouse()
    while True:
        found = {}
        for name, build in ("this build", None), ("older build", stage.options.before):
            alloyd = whole(stage, redis, clickhouse, build_dir=build)
            (found[f"{name} us"], *_), load = used_cpu(stage, [alloyd])
            found[f"{name} requests/s"] = rate_of(load)
            finish(alloyd, clickhouse)
            empty(redis, clickhouse)
        found["requests/s / older build"] = found["this build requests/s"] / found["older build requests/s"]
        found["CPU / older build"] = found["this build us"] / found["older build us"]
        yield found


@functools.cache
def knows(build, section, key):
    """Whether that build has a key in its configuration."""
    done = subprocess.run([pathlib.Path(build) / "alloyd", "--config", ROOT / "config" / "alloy.ini", "--dump-config"],
                          capture_output=True, text=True, check=False)
    part = re.search(rf"^\[{section}\]$(.*?)(^\[|\Z)", done.stdout, re.M | re.S)
    return bool(part and re.search(rf"^[; ]*{key} *=", part[1], re.M))


def ndjson(stage):
    """100 events a request, 90,000 events a second in an open loop, Redis and ClickHouse."""
    redis, clickhouse = stage.start_redis(), stage.start_clickhouse()
    kinds = {"": {}}
    if knows(harness.BUILD, "redis", "layout"):
        kinds[PACKED] = {"redis": {"layout": "packed"}}
    while True:
        found = {}
        for kind, more in kinds.items():
            alloyd = whole(stage, redis, clickhouse, **more)
            used, load = used_cpu(stage, [alloyd, redis, clickhouse], "--events", 100, "--rate", NDJSON_RATE // 100, events=100,
                                  connections=16)
            for name, us in zip(("alloyd", "Redis", "ClickHouse"), used):
                found[f"{name} us{kind}"] = us
            found[f"events/s{kind}"] = rate_of(load, 100)
            found[f"p99 ms{kind}"] = load["latency_us"]["p99"] / 1000
            found[f"inserts a second{kind}"] = alloyd.metrics()["alloy_clickhouse_inserts_total"] / load["duration_us"] * 1e6
            finish(alloyd, clickhouse)
            empty(redis, clickhouse)
        yield found


def overload(stage):
    """100 events a request, Redis and ClickHouse: first a closed loop, then an open one at three times that rate."""
    redis, clickhouse = stage.start_redis(), stage.start_clickhouse()
    while True:
        found = {}
        alloyd = whole(stage, redis, clickhouse)
        load = post(stage, alloyd, "--events", 100, connections=16)
        peak = rate_of(load, 100)
        alloyd.settled()
        load = post(stage, alloyd, "--events", 100, "--rate", int(OVERLOAD * peak / 100), connections=64)
        found["peak events/s"] = peak
        found["events/s at 3 x"] = rate_of(load, 100)
        found["refused, share"] = 1 - load["codes"].get("202", 0) / load["requests"]
        found["load of the generator, requests/s"] = load["requests"] / load["duration_us"] * 1e6
        found["accepted / peak"] = found["events/s at 3 x"] / peak
        finish(alloyd, clickhouse)
        empty(redis, clickhouse)
        yield found


def latency(stage):
    """Single events, Redis and ClickHouse: an open loop at half of what the closed loop reaches."""
    redis, clickhouse = stage.start_redis(), stage.start_clickhouse()
    while True:
        alloyd = whole(stage, redis, clickhouse)
        most = rate_of(post(stage, alloyd))
        alloyd.settled()
        load = post(stage, alloyd, "--rate", int(most / 2))
        finish(alloyd, clickhouse)
        empty(redis, clickhouse)
        yield {"saturation requests/s": most, "p50 ms": load["latency_us"]["p50"] / 1000, "p99 ms": load["latency_us"]["p99"] / 1000,
               "p99.9 ms": load["latency_us"]["p99.9"] / 1000, "max ms": load["latency_us"]["max"] / 1000}


# ---- side by side


def fairness(stage):
    """16 connections that send 2,000 events a second, alone and beside one client that sends bodies of 8 MiB."""
    others = {"connections": 16}
    while True:
        alloyd = stage.start_alloyd("", "discard:", l1={"capacity": 4_000_000})
        settled_memory(alloyd)
        alone = post(stage, alloyd, "--rate", 2000, **others)
        large = threading.Thread(target=post, args=(stage, alloyd, "--events", LARGE_BODY_EVENTS),
                                 kwargs={"connections": 1, "seconds": (stage.options.seconds or 5) + 1})
        large.start()
        time.sleep(0.5)
        beside = post(stage, alloyd, "--rate", 2000, **others)
        large.join()
        finish(alloyd)
        found = {f"p99 {name} ms": load["latency_us"]["p99"] / 1000 for name, load in (("alone", alone), ("beside", beside))}
        yield {**found, "p99 beside / alone": found["p99 beside ms"] / found["p99 alone ms"]}


def idle(stage):
    """`bench/run idle`: what alloyd grows by while 10,000 connections, which have sent one request each, wait."""
    file = pathlib.Path(stage.folder) / "figures"
    while True:
        part(sys.executable, BENCH / "run", "idle", "--json", file, "--dir", stage.folder)
        yield {f"{kind} MB over none": max(0, over["rss"]) * 2**20 / 1e6 for kind, over in json.loads(file.read_text())["found"].items()}


# ---- parts


def part(*argv):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise measure.Failure(f"{argv[0]}: {done.stdout[-500:]}{done.stderr[-1000:]}")
    return done.stdout


def scanner(stage):
    """bench/json: bytes a second of the scanner, simdjson's DOM and jansson."""
    file = pathlib.Path(stage.folder) / "json"
    while True:
        part(sys.executable, BENCH / "json", "--rounds", 1, "--json", file)
        found = {}
        for kind, speeds in json.loads(file.read_text()).items():
            for rival, speed in speeds.items():
                found[f"{kind}: {rival} GB/s"] = speed / 1e9
                if rival != "alloy":
                    found[f"{kind}: alloy / {rival}"] = speeds["alloy"] / speed
        yield found


def l1(stage):
    """4,000,000 ids, 2 threads, batches of 100."""
    del stage
    while True:
        told = part(harness.BUILD / "tests" / "l1_speed")
        new, known, size = re.search(r"new (\d+) ns, known (\d+) ns, ([\d.]+) bytes", told).groups()
        yield {"new ns": float(new), "known ns": float(known), "bytes an id": float(size)}


def ring(stage):
    """One event handed on, both sides together, in batches of 1 and 32; ck_ring gives no credits and wakes nobody."""
    libraries = [harness.BUILD / f"liballoy_{name}.a" for name in ("admit", "base")]
    program = compiled(pathlib.Path(stage.folder) / "ring_speed", BENCH / "ring_speed.c", "-std=gnu17", "-D_GNU_SOURCE",
                       f"-I{ROOT / 'include'}", *libraries, "-lck", "-lpthread")
    while True:
        found = {}
        for batch in 1, 32:
            for side in "alloy", "ck":
                alone, across = map(float, part(program, side, batch).split())
                found[f"{side} ns, batches of {batch}"] = alone
                found[f"{side} ns between threads, batches of {batch}"] = across
            found[f"alloy / ck_ring, batches of {batch}"] = (found[f"alloy ns, batches of {batch}"]
                                                            / found[f"ck ns, batches of {batch}"])
        yield found


def claims(stage):
    """New ids, claimed by two claimers at once: at one Redis, and at a cluster of three masters."""
    folder = pathlib.Path(stage.folder) / "cluster"
    folder.mkdir()
    one = stage.start_redis()
    cluster = redis_cluster.Cluster(folder, places=(("127.0.0.1", ()),) * 3)
    stage.exits.callback(cluster.end)
    while True:
        found = {}
        for name, url, servers in ("one Redis", f"redis://127.0.0.1:{one.port}", [one]), ("cluster", cluster.url(), cluster.nodes):
            found.update({f"{name}: {figure}": value for figure, value in claimed(url, servers).items()})
        found["cluster / one Redis"] = found["cluster: claims/s"] / found["one Redis: claims/s"]
        yield found


def claimed(url, servers):
    for server in servers:
        server.command("FLUSHALL")
    before, began = sum(measure.cpu_of(server.pid).total for server in servers), time.monotonic()
    claimers = [subprocess.Popen([harness.BUILD / "tests" / "claims_rate", url, str(number), str(CLAIMS)], stdout=subprocess.PIPE,
                                 text=True) for number in range(2)]
    own = [float(claimer.communicate()[0]) for claimer in claimers]
    seconds = time.monotonic() - began
    used = sum(measure.cpu_of(server.pid).total for server in servers) - before
    return {"claims/s": 2 * CLAIMS / seconds, "us of Redis": used * 1e6 / (2 * CLAIMS), "us of a claimer": sum(own) / 2,
            "Redis' CPUs": used / seconds}


def instructions(stage):
    """bench/cost: one count, which is the same in each round."""
    del stage
    told = part(sys.executable, BENCH / "cost")
    found = {f"{name} instructions": float(count) for name, count in re.findall(r"^(\w+) +(\d+)", told, re.M)}
    while True:
        yield found


def by_command(name, pick):
    """A bench that bench/run has by itself, a round of it at a time."""
    def bench(stage):
        file = pathlib.Path(stage.folder) / "figures"
        words = ["--seconds", max(stage.options.seconds, 2)] if stage.options.seconds else []
        while True:
            part(sys.executable, BENCH / "run", name, "--rounds", 1, *words, "--json", file, "--dir", stage.folder)
            yield pick(json.loads(file.read_text()))

    bench.__doc__ = f"`bench/run {name}`"
    return bench



COMMANDS = {
    "sync": lambda found: {f"{kind} / memory": value for kind, value in found["ratios"].items() if kind != "memory"},
    "keys": lambda found: {f"{kind} / none": value for kind, value in found["ratios"].items() if kind != "none"},
    "envelope": lambda found: {"envelope / plain": found["ratio"]},
    "tls": lambda found: {"TLS / plain": found["ratio"]},
    "gzip": lambda found: {"more than plain / zlib alone": found["ratio"]},
    "flood": lambda found: {"p99 beside / alone": found["ratio"]},
    "generator": lambda found: {"load / wrk": found["ratio"], "load us": found["cpu"]["load"][0], "wrk us": found["cpu"]["wrk"][0]},
}

BENCHES = {function.__name__: function for function in (
    end_to_end, front, ndjson_front, ndjson, before, scanner, l1, ring, claims, overload, fairness, latency, idle, calls, instructions)}
BENCHES.update({name: by_command(name, pick) for name, pick in COMMANDS.items()})


class Goal:
    """A row of the table: a figure of a bench, and what it is to reach."""

    def __init__(self, bench, figure, what, least=None, most=None, today=""):
        self.bench, self.figure, self.what, self.least, self.most, self.today = bench, figure, what, least, most, today

    def text(self):
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"

    def reached(self, value):
        return value <= self.most if self.most is not None else value >= self.least


GOALS = [
    Goal("end_to_end", "alloyd / seed's stack", "end to end, single events: CPU of alloyd / the seed's stack", most=0.60, today="1.00"),
    Goal("front", "memory / epoll loop", "front, journal in memory: CPU a request / bare epoll loop", most=1.20, today="1.66"),
    Goal("front", "file / memory", "front: CPU with the journal in files / in memory", most=1.05, today="1.21"),
    Goal("ndjson_front", "file event / epoll request", "front, NDJSON of 100: CPU of an event / of the epoll loop's request", most=0.08,
         today="0.29"),
    Goal("ndjson", "alloyd us", "end to end, NDJSON of 100 at 90,000 events/s: us of alloyd's CPU an event", most=1.5, today="4.6"),
    Goal("ndjson", "Redis us", "the same, of Redis", most=5, today="6.6"),
    Goal("ndjson", f"Redis us{PACKED}", "the same, of Redis with redis.layout = packed", most=5, today="6.6"),
    Goal("ndjson", "ClickHouse us", "the same, of ClickHouse", most=5, today="8.9"),
    Goal("before", "requests/s / older build", "end to end with bench/load: requests/s / build 6a7cf5b", least=2, today="1"),
    Goal("scanner", "events: alloy / simdjson", "scanner, events: bytes a second / simdjson's DOM", least=1.0),
    Goal("scanner", "events: alloy / jansson", "scanner, events: / jansson", least=10),
    Goal("scanner", "webhooks: alloy / simdjson", "scanner, GitHub's webhooks: / simdjson's DOM", least=1.0),
    Goal("scanner", "webhooks: alloy / jansson", "scanner, GitHub's webhooks: / jansson", least=10),
    Goal("l1", "new ns", "L1 at 4,000,000 ids, 2 threads: ns of a new id", most=400),
    Goal("l1", "known ns", "the same, of a known id", most=150),
    Goal("l1", "bytes an id", "the same, bytes an id", most=80),
    Goal("ndjson", "inserts a second", "inserts a second at 90,000 events/s", most=8, today="33"),
    Goal("claims", "cluster / one Redis", "two claimers, three masters: claims/s / at one Redis", least=2),
    Goal("overload", "accepted / peak", "3 x overload: accepted events/s / peak", least=0.95, today="0.62 to 0.83"),
    Goal("fairness", "p99 beside / alone", "one client with bodies of 8 MiB: others' p99 / alone", most=2, today="45"),
    Goal("latency", "p99 ms", "open loop at half of saturation: p99, ms", most=3),
    Goal("latency", "p99.9 ms", "the same, p99.9", most=10),
    Goal("idle", "plain MB over none", "10,000 idle connections, MB", most=6, today="24 to 65"),
    Goal("calls", "allocations a request", "allocations a request, steady", most=0.001, today="0"),
    Goal("calls", "system calls a request", "system calls a request, steady", most=2.04, today="2.04"),
    Goal("calls", "system calls a request, 16 deep", "the same, 16 deep", most=0.2),
]

# Rows of README's table: words with places, the bench, and its figures for them.
README = [
    ("single events, end to end: answered 202 a second, and CPU of a request | {} requests/s, {} us", "end_to_end",
     ["alloyd events/s", "alloyd us"]),
    ("the same, CPU of a plain Rust service (hyper, tokio, DashMap) without journal, which loses what it holds | {} us; alloyd needs {} of it",
     "end_to_end", ["seed's stack us", "alloyd / seed's stack"]),
    ("the front alone, journal in memory: CPU of a request, of a bare epoll loop's and of nginx' `return 202` | {} and {}", "front",
     ["memory / epoll loop", "memory / nginx return 202"]),
    ("what a journal in files costs, of one in memory, with `sync` = `never`, `interval`, `always` | {}, {}, {}", "sync",
     ["never / memory", "interval / memory", "always / memory"]),
    ("NDJSON of 100, 90,000 events a second: CPU of an event of alloyd, Redis and ClickHouse | {}, {} and {} us", "ndjson",
     ["alloyd us", "Redis us", "ClickHouse us"]),
    ("the same: inserts a second | {}", "ndjson", ["inserts a second"]),
    ("3 x overload: accepted, of the peak | {}", "overload", ["accepted / peak"]),
    ("latency at half of saturation: p50, p99, p99.9 | {}, {}, {} ms", "latency", ["p50 ms", "p99 ms", "p99.9 ms"]),
    ("CPU of a request, of a plain one's: over TLS | {}", "tls", ["TLS / plain"]),
    ("with keys, and with keys and limits | {}, {}", "keys", ["keys / none", "limits / none"]),
    ("in an envelope, with a pointer as id and three columns | {}", "envelope", ["envelope / plain"]),
    ("p99 of a quiet client beside a flood of another key, of p99 alone | {}", "flood", ["p99 beside / alone"]),
    ("10,000 idle connections | {} MB", "idle", ["plain MB over none"]),
]
