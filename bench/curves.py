# SPDX-License-Identifier: Apache-2.0
"""How CPU an event and p99 grow with one thing at a time: `bench/run curves`.

A curve's points take turns, round after round. Each is an open loop at a fixed rate unless it says otherwise, so that
two points differ in one thing only. A curve bends where a unit costs more than 1.5 times the least that it costs at any
smaller value: a cost that falls, because something fixed is shared by more, is no bend.

Runs on: Python 3 alone.
"""

import contextlib
import csv
import itertools
import pathlib
import re
import resource

import benches
import harness
import measure
import svg
from results import Place
from stage import Stage, settled_memory

BEND = 1.5
FIRST_FREE = 300  # descriptors that alloyd and load need beside their connections
FEW_MS = 5  # below it p99 is the scheduler's, and no bend


class Curve:
    """name, title, name of x, its values; measure(stage, x) gives (us of CPU an event, p99 in ms)."""

    def __init__(self, title, x_name, points, measure_it, cost_name="us of CPU an event", logarithmic=True, unit=None):
        self.title, self.x_name, self.points, self.measure = title, x_name, points, measure_it
        self.cost_name, self.logarithmic = cost_name, logarithmic
        self.unit = unit or (lambda x, cost: cost)  # what is to stay the same


@contextlib.contextmanager
def end_to_end(stage, tables=("default.events",), **more):
    """An alloyd with Redis and ClickHouse, which stay for the next point, empty."""
    if not hasattr(stage, "redis"):
        stage.redis, stage.clickhouse = stage.start_redis(), stage.start_clickhouse()
        for table in set(tables) - {"default.events"}:
            stage.clickhouse.create_events(table)
    alloyd = stage.start_alloyd(stage.redis.url, stage.clickhouse.url, **more)
    settled_memory(alloyd)
    yield alloyd
    alloyd.finish()
    benches.empty(stage.redis, stage.clickhouse, *tables)


def cost(stage, alloyd, *arguments, events=1, streams=("events",), **more):
    """us of CPU an answered event until nothing is pending, and p99; 503 must be rare."""
    before = []
    load = benches.post(stage, alloyd, *arguments, **more, connected=lambda: before.append(measure.cpu_of(alloyd.pid).total))
    for stream in streams:
        harness.assert_balanced(alloyd.settled(stream))
    taken = load["codes"].get("202", 0)
    if taken < 0.9 * load["requests"] or load["errors"]["read"] + load["errors"]["write"] > 0:
        raise measure.Failure(f"answers {load['codes']}, errors {load['errors']}")
    return (measure.cpu_of(alloyd.pid).total - before[0]) / taken / events * 1e6, load["latency_us"]["p99"] / 1000


def rate(stage, x):
    with end_to_end(stage) as alloyd:
        return cost(stage, alloyd, "--rate", x)


def connections(stage, x):
    # So many take longer to connect than a client may be silent.
    # A connection's first request costs more than the next, so each sends at least two.
    seconds = max(stage.options.seconds or 4, 2 * x // 5000)
    with end_to_end(stage, server={"head_timeout": "10min", "idle_timeout": "10min"}) as alloyd:
        return cost(stage, alloyd, "--rate", 5000, connections=x, seconds=seconds)


def body_size(stage, x):
    alloyd = benches.front_alone(stage)
    # About 60 MB a second at most, and at least some hundred requests.
    found = cost(stage, alloyd, "--bytes", x, "--rate", max(100, min(5000, 60_000_000 // x)))
    alloyd.finish()
    return found


def events_a_request(stage, x):
    with end_to_end(stage) as alloyd:
        return cost(stage, alloyd, "--events", x, "--rate", max(2, 20_000 // x), events=x, connections=16)


def duplicates(stage, x):
    with end_to_end(stage) as alloyd:
        return cost(stage, alloyd, "--duplicates", x, "--rate", 10_000)


def l1_entries(stage, x):
    """L1 is full in each, so that each new id makes another leave."""
    alloyd = benches.front_alone(stage, "memory", l1={"capacity": x})
    fill(stage, alloyd, x)
    found = cost(stage, alloyd, "--events", 100, "--rate", 300, events=100, connections=16)
    alloyd.finish()
    return found


def fill(stage, alloyd, count):
    """At least that many events, as fast as they are taken."""
    while alloyd.books()["accepted"] < count:
        benches.post(stage, alloyd, "--events", 1000 if count >= 100_000 else 100, seconds=1 if count <= 1_000_000 else 4,
                     connections=4)
        if count < 10 * stage_ring(alloyd):
            alloyd.settled()


def stage_ring(alloyd):
    return int(alloyd.sections.get("ring", {}).get("capacity", 100_000))


def backlog(stage, x):
    """Events that wait in the journal, since ClickHouse is away; then new ones at a fixed rate."""
    away = f"http://127.0.0.1:{harness.free_port()}"
    alloyd = stage.start_alloyd("", away, ready=False, journal={"max_bytes": "16GiB"}, l1={"capacity": 10_000})
    settled_memory(alloyd)
    while alloyd.books()["pending"] < x:
        missing = x - alloyd.books()["pending"]
        # A rate at which none of the points overshoots much; a request has at most 1000 events.
        events = min(1000, max(1, missing // 100))
        benches.post(stage, alloyd, "--events", events, "--rate", max(1, min(80_000, missing) // events),
                     seconds=max(1, min(30, missing // 80_000)), connections=4)
    before = measure.cpu_of(alloyd.pid).total
    load = benches.post(stage, alloyd, "--rate", 5000)
    used = measure.cpu_of(alloyd.pid).total - before
    alloyd.kill()
    for file in pathlib.Path(alloyd.sections["journal"]["dir"]).iterdir():
        file.unlink()
    return used / load["codes"]["202"] * 1e6, load["latency_us"]["p99"] / 1000


def streams(stage, x):
    names = ["events", *(f"s{n:02}" for n in range(1, x))]
    tables = tuple(f"default.{name}" for name in ["events", *(f"s{n:02}" for n in range(1, max(CURVES["streams"].points)))])
    sections = {f"stream.{name}": {"path": f"/v1/s{n:02}", "table": f"default.{name}", "id": "event_id"} for n, name in enumerate(names)}
    with end_to_end(stage, tables, **sections) as alloyd:
        return cost(stage, alloyd, "--streams", x, "--rate", 10_000, streams=names, path="/v1/s")


def threads(stage, x):
    with end_to_end(stage, server={"threads": x}) as alloyd:
        return cost(stage, alloyd, "--rate", 20_000)


def most_connections():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    del soft
    return min(20_000, hard - FIRST_FREE)


CURVES = {
    "rate": Curve("Rate", "single events a second", [500, 1000, 2000, 5000, 10_000, 20_000, 40_000], rate),
    "connections": Curve("Connections", "connections, 5,000 single events a second", [1, 10, 100, 1000, 5000, most_connections()],
                         connections),
    "body_size": Curve("Body size", "bytes of an event, one a request, discarded", [250, 1000, 4000, 16_000, 64_000, 250_000, 1_000_000],
                       body_size, unit=lambda x, cost: cost / x),
    "events_a_request": Curve("Events a request", "events a request, 20,000 events a second", [1, 3, 10, 30, 100, 300, 1000],
                              events_a_request),
    "duplicates": Curve("Share of duplicates", "duplicates of 100 events, 10,000 events a second", [0, 25, 50, 75, 90, 99], duplicates,
                        logarithmic=False),
    "l1_entries": Curve("Ids in L1", "ids in L1, which is full; NDJSON of 100, 30,000 events a second, discarded",
                        [10_000, 100_000, 1_000_000, 10_000_000], l1_entries),
    "backlog": Curve("Backlog", "events that wait for ClickHouse; then 5,000 a second", [0, 1000, 10_000, 100_000, 1_000_000, 10_000_000],
                     backlog),
    "streams": Curve("Streams", "streams, 10,000 single events a second over all", [1, 2, 4, 8, 16, 32, 64], streams),
    "threads": Curve("Front-end threads", "front-end threads, 20,000 single events a second; two CPUs", [1, 2], threads,
                     logarithmic=False),
}


def bend(xs, values):
    """The largest factor by which a value exceeds the least one before it, and where: (factor, from x, to x)."""
    worst, least = (1.0, xs[0], xs[0]), 0
    for i, value in enumerate(values):
        if value / values[least] > worst[0]:
            worst = (value / values[least], xs[least], xs[i])
        if value < values[least]:
            least = i
    return worst


def bends(curve, points):
    """(of the cost of a unit, of p99 or None)."""
    xs = [x for x, _, _ in points]
    # p99 below a few ms is the scheduler's: it counts from there.
    return bend(xs, [curve.unit(x, cost) for x, cost, _ in points]), bend(xs, [max(p99, FEW_MS) for _, _, p99 in points])


def read_points(name):
    with open(Place.curves / f"{name}.csv", newline="") as file:
        return [(float(row[0]), float(row[1]), float(row[2])) for row in list(csv.reader(file))[1:]]


def write_points(name, points, spreads):
    Place.curves.mkdir(parents=True, exist_ok=True)
    with open(Place.curves / f"{name}.csv", "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["x", "cpu_us_an_event", "p99_ms", "cpu_least", "cpu_most", "p99_least", "p99_most"])
        for (x, cpu, p99), more in zip(points, spreads):
            out.writerow([f"{x:g}" if x < 1e6 else int(x), *(f"{value:.4g}" for value in (cpu, p99, *more))])


def sentence(curve, points):
    words = []
    for what, (factor, low, high) in zip(("CPU", "p99"), bends(curve, points)):
        text = f"{what} {factor:.2f}" + (f" (from {svg.short(low)} to {svg.short(high)})" if factor > 1.005 else "")
        words.append(f"**{text}**" if factor > BEND else text)
    return f"Most that a unit costs over the least before it: {', '.join(words)}."


def draw(name):
    """The SVG, and what docs/CURVES.md says of the bend; the words below that are people's."""
    curve, points = CURVES[name], read_points(name)
    (Place.curves / f"{name}.svg").write_text("\n".join(svg.draw(curve.title, curve.x_name, curve.cost_name, points, curve.logarithmic)) + "\n")
    text = Place.curves_document.read_text() if Place.curves_document.exists() else "# Curves\n"
    begin, end = f"<!-- curve {name} -->", f"<!-- /curve {name} -->"
    block = (f"{begin}\n![{curve.title}: {curve.cost_name} and p99](curves/{name}.svg)\n\n{sentence(curve, points)} "
             f"[Figures](curves/{name}.csv)\n{end}")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if pattern.search(text):
        text = pattern.sub(lambda _: block, text)
    else:
        text += f"\n## {curve.title}\n\n{block}\n"
    Place.curves_document.write_text(text)
    print(f"{name:<18}{sentence(curve, points)}")


def measured(name, options):
    curve = CURVES[name]
    xs = [int(x) for x in options.points.split(",")] if options.points else curve.points
    found = {x: [] for x in xs}
    with Stage(options) as stage:
        for number, x in itertools.product(range(1, options.rounds + 1), xs):
            found[x].append(curve.measure(stage, x))
            print(f"{name:<18}round {number}: {x:>10,} {found[x][-1][0]:9.2f} us  p99 {found[x][-1][1]:8.2f} ms", flush=True)
    costs, p99s = ({x: [one[i] for one in found[x]] for x in xs} for i in (0, 1))
    points = [(x, measure.median(costs[x]), measure.median(p99s[x])) for x in xs]
    return points, [(min(costs[x]), max(costs[x]), min(p99s[x]), max(p99s[x])) for x in xs]


def run(options):
    """Of bench/run: measures and draws."""
    failed = []
    for name in options.curve or CURVES:
        try:
            if not options.draw:
                write_points(name, *measured(name, options))
            draw(name)
        except (measure.Failure, AssertionError, OSError) as failure:
            failed.append(f"{name}: {failure}")
            print(f"{name:<18}FAILED: {failure}", flush=True)
    return {}, failed
