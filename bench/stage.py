# SPDX-License-Identifier: Apache-2.0
"""Where bench/run measures: alloyd, its Redis and ClickHouse, its rivals and the load, in a temporary folder.

Runs on: Python 3 alone; the processes are those of tests/system/harness.py.
"""

import argparse
import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile
import time

import harness
import measure

ROOT = pathlib.Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
LOADABLE = {"single.lua": 1, "ndjson.lua": 100}  # what bench/load can do too: events a request
NGINX = """daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 202 "{{}}"; }} }}
}}
"""


def build(*more):
    """The release build, and more of its targets; an ALLOY_BUILD_DIR of the caller's is taken as it is."""
    if "ALLOY_BUILD_DIR" in os.environ:
        return
    for argv in (["cmake", "--preset", "release"],
                 ["cmake", "--build", "--preset", "release", "--target", "alloyd", "alloy-clickhouse", *more]):
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise measure.Failure(f"{' '.join(argv)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


class Stage:
    """The temporary folder and the processes in it; leaving it ends them by pid, the last one first."""

    def __init__(self, options):
        self.options = options
        self.exits = contextlib.ExitStack()
        self.folder = self.exits.enter_context(tempfile.TemporaryDirectory(prefix="alloy-bench-", dir=options.dir))

    def __enter__(self):
        self.load_program = measure.build_load(self.folder)
        return self

    def __exit__(self, *exception):
        self.exits.close()

    def start_redis(self):
        redis = harness.Redis(self.folder)
        self.exits.callback(redis.kill)
        return redis.start()

    def start_clickhouse(self):
        clickhouse = harness.ClickHouse(self.folder)
        self.exits.callback(clickhouse.kill)
        clickhouse.start()
        clickhouse.create_events("default.events")
        return clickhouse

    def load_options(self, seconds=None, connections=64):
        """For measure.run_load()."""
        return argparse.Namespace(load_threads=1, connections=connections, seconds=seconds or self.options.seconds or 4)

    def start_alloyd(self, redis_url, clickhouse_url, ready=True, build_dir=None, env=None, **more):
        """build_dir: of another build, an older one say. more: sections of the configuration."""
        sections = {
            "stream.events": {"path": "/v1/events", "table": "default.events", "id": "event_id"},
            "server": {"threads": "auto"},
            "redis": {"url": redis_url},
            "clickhouse": {"url": clickhouse_url},
            "journal": {"mode": "memory" if self.options.memory else "file", "sync": self.options.sync},
            "log": {"level": "info"},
        }
        for section, keys in more.items():
            sections.setdefault(section, {}).update(keys)
        settings = [word for setting in self.options.set for word in ("--set", setting)]
        alloyd = harness.Alloyd(self.folder, sections, settings)
        alloyd.build = pathlib.Path(build_dir or alloyd.build)
        self.exits.callback(alloyd.kill)
        return alloyd.start(ready, env)

    def start_rival(self, name, *libraries):
        """A server of one C file in bench/ that takes its port."""
        program = pathlib.Path(self.folder) / name
        if not program.exists():
            compiled(program, BENCH / f"{name}.c", *libraries)
        return self.start_server(name, lambda port: [program, port])

    def start_floor(self):
        return self.start_rival("floor")

    def start_nginx(self):
        """One worker that answers 202 without a look at the body."""
        file = pathlib.Path(self.folder) / "nginx.conf"

        def argv(port):
            file.write_text(NGINX.format(folder=self.folder, port=port))
            return ["nginx", "-p", self.folder, "-c", file]
        return self.start_server("nginx", argv)

    def start_server(self, name, argv, deadline=None):
        """argv: of a free port, the program's command line."""
        server = harness.Process(name, self.folder)
        server.port = harness.free_port()
        self.exits.callback(server.kill)
        server.spawn(argv(server.port))
        server.wait_ready(lambda: answers(server.port), deadline)
        return server


def compiled(program, source, *more):
    """Makes a program of a C file of bench/."""
    done = subprocess.run(list(map(str, ["cc", "-O2", "-o", program, source, *more])), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise measure.Failure(f"{source} cannot be built: {done.stderr[-2000:]}")
    return program


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def make_load(stage, url, script="single.lua", key="", arguments=None, options=None, generator=None):
    """Runs the load that options ask for, with new ids; returns its result."""
    options = options or stage.options
    if (generator or options.generator) == "wrk" or script not in LOADABLE or options.pause > 0:
        return measure.run_wrk(url, script, options, arguments or [new_run(), *([key] if key else [])])
    header = ["--header", f"Authorization: Bearer {key}"] if key else []
    return measure.run_load(stage.load_program, url, options, "--run", new_run(), "--events", LOADABLE[script], *header)


def events_url(process):
    return f"http://127.0.0.1:{process.port}/v1/events"


def self_signed(stage):
    """Sections of server for TLS on a port of its own, and that port."""
    cert, key = (pathlib.Path(stage.folder) / name for name in ("cert.pem", "key.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    port = harness.free_port()
    return {"tls_listen": f"127.0.0.1:{port}", "tls_cert": cert, "tls_key": key}, port


def new_run():
    """The first part of all ids of one run."""
    return f"r{time.time_ns():x}"


def settled_memory(alloyd):
    """Memory once it no longer changes: segments are prepared in the background after the start."""
    readings = []

    def steady():
        readings.append(measure.memory_of(alloyd.pid))
        return len(readings) > 10 and readings[-1]["rss"] == readings[-10]["rss"] and readings[-1]

    return harness.wait_until(steady, "memory that no longer changes", 30, interval=0.05)


def table_rows(clickhouse):
    count, different = clickhouse.rows("SELECT count(), uniqExact(event_id) FROM default.events")[0]
    return int(count), int(different)


def cpu_per_request(stage, process, key="", script="single.lua", arguments=None):
    before = measure.cpu_of(process.pid)
    load = make_load(stage, events_url(process), script, key, arguments)
    return (measure.cpu_of(process.pid) - before).total / load["requests"] * 1e6


def sized_event(number, filler):
    return (f'{{"event_id":"memory-{number:010d}","event_type":"page_view","user_id":"u1",'
            f'"ts":"2026-01-31T12:00:00.000Z","properties":{{"filler":"{filler}"}}}}')
