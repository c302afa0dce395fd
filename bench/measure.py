# SPDX-License-Identifier: Apache-2.0
"""What bench/run measures with: processes by pid from /proc, load and wrk, and the judgement of the books."""

import json
import os
import pathlib
import platform
import re
import subprocess

BENCH = pathlib.Path(__file__).resolve().parent
ROOT = BENCH.parent
TICKS = os.sysconf("SC_CLK_TCK")
EVENT_BYTES = 300


class Failure(Exception):
    """A run that cannot go on, in one sentence."""


class Cpu:
    """Seconds of CPU time."""

    def __init__(self, user, system):
        self.user = user
        self.system = system

    @property
    def total(self):
        return self.user + self.system

    def __sub__(self, other):
        return Cpu(self.user - other.user, self.system - other.system)


def cpu_of(pid):
    """User and system time of all threads so far. Its unit is a clock tick, mostly 10 ms."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2:].split()
    return Cpu(int(fields[11]) / TICKS, int(fields[12]) / TICKS)


def memory_of(pid):
    """MiB: rss now and at its peak; and what rss is made of: anonymous, mapped files, shared."""
    status = dict(re.findall(r"^(\w+):\s+(\d+) kB$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M))
    names = {"rss": "VmRSS", "peak": "VmHWM", "anon": "RssAnon", "file": "RssFile", "shmem": "RssShmem"}
    return {name: int(status[field]) / 1024 for name, field in names.items()}


def machine():
    """One line: results of two machines, or of a busy one, are not to be compared."""
    model = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return (f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} CPUs, "
            f"Linux {platform.release()}, load {os.getloadavg()[0]:.2f}")


def run_wrk(url, script, options, arguments=()):
    """Runs wrk to its end; returns what event.lua reports. options: threads, connections, seconds."""
    argv = ["wrk", f"-t{options.wrk_threads}", f"-c{options.connections}", f"-d{options.seconds}s", "--timeout", "10s",
            "-s", str(BENCH / "wrk" / script), url, "--", *map(str, arguments)]
    pause = dict(os.environ, ALLOY_BENCH_PAUSE_MS=str(getattr(options, "pause", 0)))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=pause)
    found = re.search(r"^RESULT (\{.*\})$", done.stdout, re.M)
    if done.returncode != 0 or not found:
        raise Failure(f"wrk failed with {done.returncode}: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    result = json.loads(found.group(1))
    if result["requests"] == 0:
        raise Failure(f"wrk had no answer: {result['errors']}")
    return result


def build_load(folder):
    """Compiles bench/load.c into folder; returns the program."""
    program = pathlib.Path(folder) / "load"
    done = subprocess.run(["cc", "-O2", "-I", ROOT / "include", "-o", program, BENCH / "load.c", ROOT / "src" / "base" / "timeslice.c",
                           "-lssl", "-lcrypto", "-lm", "-lpthread"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"bench/load.c cannot be built: {done.stderr[-2000:]}")
    return program


def run_load(program, url, options, *arguments, connected=None):
    """Runs load to its end; returns what it prints. options: threads, connections, seconds.

    connected is called when all connections are there and nothing has been sent."""
    argv = [program, "--threads", options.load_threads, "--connections", options.connections, "--seconds", options.seconds,
            *(["--wait"] if connected else []), *arguments, url]
    with subprocess.Popen(list(map(str, argv)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as load:
        if connected and load.stdout.readline():
            connected()
        output, errors = load.communicate("\n" if connected else None)
    found = re.search(r"^RESULT (\{.*\})$", output, re.M)
    if load.returncode != 0 or not found:
        raise Failure(f"load failed with {load.returncode}: {output[-1000:]} {errors[-1000:]}")
    return json.loads(found.group(1))


def answers_by_code(metrics):
    """{'202': n, ...} of /metrics."""
    pattern = re.compile(r'alloy_http_requests_total\{code="(\d+)"\}')
    found = ((pattern.fullmatch(name), value) for name, value in metrics.items())
    return {match.group(1): int(value) for match, value in found if match and value}


def judge(books, unique, rows=None):
    """What is wrong with the books after a run, in sentences; nothing, if they are right.

    books: as harness.Alloyd.books() gives them. unique: the load had no duplicates. rows: count and
    number of different ids in the table, which was empty before; None without ClickHouse.
    """
    wrong = []
    if books["pending"] != 0:
        wrong.append(f"{books['pending']} events are still pending")
    if books["received"] != books["accepted"] + books["duplicate_l1"] + books["rejected"]:
        wrong.append("received is not accepted + duplicates l1 + rejected")
    if books["accepted"] != books["inserted"] + books["duplicate_l2"] + books["dead_lettered"] + books["pending"]:
        wrong.append("accepted is not inserted + duplicates l2 + dead-lettered + pending")
    if books["dead_lettered"] != 0:
        wrong.append(f"{books['dead_lettered']} events are dead-lettered")
    if unique and books["duplicate_l1"] + books["duplicate_l2"] != 0:
        wrong.append("there are duplicates among unique events")
    if rows is not None:
        count, different = rows
        if count != books["inserted"]:
            wrong.append(f"{books['inserted']} events are inserted and {count} rows are in the table")
        if count != different:
            wrong.append(f"{count} rows have {different} different ids")
    return wrong


def judge_answers(load, codes, books, events_a_request):
    """What is wrong with the answers, likewise: 503 is backpressure, anything else but 202 is wrong.

    load: as run_load() or run_wrk() gives it. codes: as answers_by_code() gives them.
    """
    wrong = [f"{count} answers {code}" for code, count in codes.items() if code not in ("202", "503")]
    wrong += [f"{count} {what} errors of the load" for what, count in load["errors"].items() if count and what != "status"]
    answered = codes.get("202", 0) * events_a_request
    booked = books["accepted"] + books["duplicate_l1"]
    if answered != booked:
        wrong.append(f"{answered} events are answered 202 and {booked} are in the books")
    return wrong


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
